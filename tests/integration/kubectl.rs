//! What people type: `kubectl get`, with the real kubectl.

use anyhow::Result;
use node_insights_harness::openshift::{Cluster, Pool};

use crate::support::World;

async fn world() -> Result<World> {
    let cluster = Cluster::builder("4.14.0-rc.3")
        .pool(Pool::new("master", 1))
        .pool(Pool::new("worker", 2))
        .build()?;
    let world = World::openshift(&cluster).await?;
    // As long as the names that OpenShift gives on AWS.
    world
        .editor
        .add_node(
            "ip-10-0-4-159-infra.us-east-2.compute.internal",
            "worker",
            "4.14.0-rc.3",
        )
        .await?;
    Ok(world)
}

#[tokio::test]
async fn the_tables_fit_a_terminal_and_every_name_people_try_works() -> Result<()> {
    let world = world().await?;
    let _operator = world.operator(&[]).await?;
    world.all_reported(4).await?;
    world.editor.start_update("4.14.1").await?;
    world
        .pool_becomes("worker", "3 outdated", |pool| pool.progress == "0/3")
        .await?;
    world
        .pool_becomes("master", "1 outdated", |pool| pool.progress == "0/1")
        .await?;
    world
        .node_becomes(
            "ip-10-0-4-159-infra.us-east-2.compute.internal",
            "outdated",
            |node| node.phase == node_insights::api::types::Phase::Pending,
        )
        .await?;

    let table = world.plane.kubectl(&["get", "npi"]).await?;
    println!("{table}");
    let header: Vec<&str> = table
        .lines()
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .collect();
    assert_eq!(header, ["NAME", "POOL", "PHASE", "VERSION"]);
    for line in table.lines() {
        assert!(
            line.trim_end().chars().count() <= 80,
            "{line:?} is wider than a terminal"
        );
    }
    let pools = world.plane.kubectl(&["get", "ppi"]).await?;
    println!("{pools}");
    assert!(
        pools
            .lines()
            .all(|line| line.trim_end().chars().count() <= 80)
    );
    assert!(pools.contains("0/3"), "{pools}");
    let wide = world.plane.kubectl(&["get", "npi", "-o", "wide"]).await?;
    for column in [
        "DESIRED",
        "UPDATE",
        "SINCE",
        "AVAILABLE",
        "DEGRADED",
        "AGE",
        "MESSAGE",
    ] {
        assert!(
            wide.lines()
                .next()
                .is_some_and(|header| header.contains(column)),
            "{wide}"
        );
    }
    assert!(!wide.contains("<invalid>"), "{wide}");

    for name in [
        "nodeinsights",
        "nodeinsight",
        "nodeprogressinsights",
        "poolinsights",
        "poolinsight",
    ] {
        assert!(
            !world
                .plane
                .kubectl(&["get", name, "-o", "name"])
                .await?
                .is_empty(),
            "{name}"
        );
    }
    let both = world
        .plane
        .kubectl(&["get", "insights", "-o", "name"])
        .await?;
    assert!(
        both.contains("nodeprogressinsight.") && both.contains("poolprogressinsight."),
        "{both}"
    );
    let selected = world
        .plane
        .kubectl(&[
            "get",
            "npi",
            "-o",
            "name",
            "--field-selector",
            "status.poolRef.name=worker,status.phase=Pending",
        ])
        .await?;
    assert_eq!(selected.lines().count(), 3, "{selected}");
    let explained = world
        .plane
        .kubectl(&["explain", "npi.status.phase"])
        .await?;
    assert!(explained.contains("Draining"), "{explained}");
    Ok(())
}

#[tokio::test]
async fn kubectl_wait_ends_when_a_pool_is_done() -> Result<()> {
    let world = world().await?;
    let _operator = world.operator(&[]).await?;
    world
        .pool_becomes("worker", "3 nodes", |pool| pool.progress == "3/3")
        .await?;
    world
        .plane
        .kubectl(&[
            "wait",
            "ppi/worker",
            "--for=condition=Ready",
            "--timeout=30s",
        ])
        .await?;
    Ok(())
}

#[tokio::test]
async fn the_api_server_refuses_a_status_that_breaks_the_schema() -> Result<()> {
    let world = World::empty().await?;
    let object =
        "{apiVersion: nodeinsights.dev/v1alpha1, kind: NodeProgressInsight, metadata: {name: a}}";
    world.plane.apply_yaml(object).await?;
    let whole = r#"{"status":{
        "name":"a","provider":"Kubernetes","scope":"WorkerPool",
        "phase":"Completed","phaseStartTime":"2026-11-21T10:00:00Z","conditions":[],
        "timeline":[{"phase":"Completed","startTime":"2026-11-21T10:00:00Z"}]
    }}"#;
    patch(&world, whole).await?;
    for (wrong, hint) in [
        (r#"{"status":{"phase":"Dancing"}}"#, "Unsupported value"),
        (r#"{"status":{"conditions":null}}"#, "Required value"),
        (
            r#"{"status":{"phase":"Draining"}}"#,
            "the last phase of timeline must be phase",
        ),
        (
            r#"{"status":{"desiredVersion":"v1.36.3"}}"#,
            "desiredVersion and desiredVersionSource must be there together",
        ),
    ] {
        let refused = patch(&world, wrong).await;
        let error = format!("{:#}", refused.expect_err("the schema does not allow it"));
        assert!(error.contains(hint), "{error}");
    }
    Ok(())
}

/// Changes the status of the insight `a`.
async fn patch(world: &World, patch: &str) -> Result<String> {
    let to = ["patch", "npi", "a", "--subresource=status", "--type=merge"];
    let args = [&to[..], &["-p", patch]].concat();
    world.plane.kubectl(&args).await
}
