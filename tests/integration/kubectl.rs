//! `kubectl get` as users type it, with the real kubectl.

use anyhow::Result;
use jiff::{SignedDuration, Timestamp};
use node_insights::api::pool::Assessment;
use node_insights::api::types::Phase;
use node_insights_harness::openshift::{Cluster, Pool};
use serde_json::{Value, json};

use crate::support::World;

/// The terminal width that tables fit into without `-o wide`.
const TERMINAL: usize = 80;

/// The columns of `kubectl get npi`.
const NODE_COLUMNS: [&str; 7] = [
    "NAME", "POOL", "PHASE", "SINCE", "VERSION", "DESIRED", "ETA",
];

/// The columns of `kubectl get ppi`.
const POOL_COLUMNS: [&str; 7] = [
    "NAME",
    "ASSESSMENT",
    "PROGRESS",
    "PERCENT",
    "VERSION",
    "DESIRED",
    "ETA",
];

/// As long as the names that OpenShift gives to nodes on AWS.
const LONG_NAME: &str = "ip-10-0-4-159-infra.us-east-2.compute.internal";

async fn world() -> Result<World> {
    let cluster = Cluster::builder("4.14.0-rc.3")
        .pool(Pool::new("master", 1))
        .pool(Pool::new("worker", 2))
        .build()?;
    let world = World::openshift(&cluster).await?;
    world
        .editor
        .add_node(LONG_NAME, "worker", "4.14.0-rc.3")
        .await?;
    Ok(world)
}

#[tokio::test]
async fn the_tables_have_their_columns_and_every_name_of_the_kinds_works() -> Result<()> {
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
    world.node_reaches(LONG_NAME, Phase::Pending).await?;

    let table = world.plane.kubectl(&["get", "npi"]).await?;
    println!("{table}");
    assert_eq!(headings(&table), NODE_COLUMNS);
    // Names are not truncated: users copy them.
    assert!(table.contains(LONG_NAME), "{table}");
    let pools = world.plane.kubectl(&["get", "ppi"]).await?;
    println!("{pools}");
    assert_eq!(headings(&pools), POOL_COLUMNS);
    assert!(pools.contains("0/3"), "{pools}");
    let wide = world.plane.kubectl(&["get", "npi", "-o", "wide"]).await?;
    let expected = [
        &NODE_COLUMNS[..],
        &["UPDATE", "AVAILABLE", "DEGRADED", "AGE", "MESSAGE"],
    ];
    assert_eq!(headings(&wide), expected.concat());
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
async fn the_tables_fit_a_terminal_up_to_the_lengths_that_the_columns_allow() -> Result<()> {
    let world = World::empty().await?;
    // Five characters, as `7d12h`: the most that kubectl prints for two years.
    let since = Timestamp::now() - SignedDuration::from_hours(7 * 24 + 12);
    let pool_ref = json!({"group": "a", "resource": "b", "name": "eleven-long"});
    let phases = Phase::ALL.map(|phase| (format!("{:a<24}", phase.as_str().to_lowercase()), phase));
    for (name, phase) in &phases {
        let status = json!({
            "name": name, "poolRef": pool_ref, "provider": "Kubernetes", "scope": "WorkerPool",
            "phase": phase, "phaseStartTime": since, "conditions": [], "timeline": [],
            "version": "v1.36.10", "desiredVersion": "v1.36.11", "desiredVersionSource": "ApiServer",
        });
        report(&world, "NodeProgressInsight", name, &status).await?;
    }
    let assessments = Assessment::ALL.map(|each| (format!("{each:?}").to_lowercase(), each));
    for (name, assessment) in &assessments {
        let name = format!("{name:a<22}");
        let status = json!({
            "name": name, "poolRef": pool_ref, "provider": "Kubernetes", "scope": "WorkerPool",
            "assessment": assessment, "progress": "9998/9999", "completionPercent": 99,
            "observedGeneration": 1, "summaries": [], "conditions": [],
            "version": "v1.36.10", "desiredVersion": "v1.36.11", "desiredVersionSource": "ApiServer",
        });
        report(&world, "PoolProgressInsight", &name, &status).await?;
    }
    for (kind, columns, rows) in [
        ("npi", &NODE_COLUMNS[..], phases.len()),
        ("ppi", &POOL_COLUMNS, assessments.len()),
    ] {
        let table = world.plane.kubectl(&["get", kind]).await?;
        println!("{table}");
        assert_eq!(headings(&table), columns);
        assert_eq!(table.lines().count(), 1 + rows, "{table}");
        // Nothing is estimated, so the last column is empty.
        let rows = table.lines().skip(1);
        let width = rows.map(|line| line.trim_end().chars().count());
        // Equal, not just at most: one more character in any column does not fit, as the comments on them say.
        assert_eq!(width.max(), Some(TERMINAL), "{table}");
    }
    let nodes = world.plane.kubectl(&["get", "npi"]).await?;
    assert!(nodes.contains("7d12h"), "{nodes}");
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
async fn the_api_server_rejects_a_status_that_violates_the_schema() -> Result<()> {
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
        let rejected = patch(&world, wrong).await;
        let error = format!("{:#}", rejected.expect_err("the schema does not allow it"));
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

/// Creates an insight with that status.
async fn report(world: &World, kind: &str, name: &str, status: &Value) -> Result<()> {
    let object = json!({
        "apiVersion": "nodeinsights.dev/v1alpha1", "kind": kind, "metadata": {"name": name},
    });
    // JSON is YAML.
    world.plane.apply_yaml(&object.to_string()).await?;
    let patch = json!({"status": status}).to_string();
    let to = ["patch", kind, name, "--subresource=status", "--type=merge"];
    let args = [&to[..], &["-p", &patch]].concat();
    world.plane.kubectl(&args).await.map(|_| ())
}

/// The headings of a table.
fn headings(table: &str) -> Vec<&str> {
    let first = table.lines().next().unwrap_or_default();
    first.split_whitespace().collect()
}
