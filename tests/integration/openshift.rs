//! OpenShift: changes in the cluster reach the insights that they affect, and no others.

use anyhow::Result;
use node_insights::api::pool::Assessment;
use node_insights::api::types::{ConditionStatus, Phase, UpdateKind};
use node_insights_harness::kubernetes::{Pace, Ready};
use node_insights_harness::openshift::rollout::{self, Plan};
use node_insights_harness::openshift::{Cluster, Pool, kubelet_of};
use serde_json::json;

use crate::support::{World, condition};

const OLD: &str = "4.19.14";
const NEW: &str = "4.20.3";

/// 3 masters, 4 workers, 2 infra nodes.
fn cluster() -> Result<Cluster> {
    Cluster::builder(OLD)
        .pool(Pool::new("master", 3))
        .pool(Pool::new("worker", 4))
        .pool(Pool::new("infra", 2))
        .build()
}

#[tokio::test]
async fn each_change_of_the_cluster_evaluates_exactly_the_nodes_that_it_affects() -> Result<()> {
    let cluster = cluster()?;
    let world = World::openshift(&cluster).await?;
    let operator = world.operator(&[]).await?;
    world.all_reported(9).await?;
    assert_eq!(
        operator.evaluations(None).await?,
        9,
        "each node once at the start"
    );
    let worker = cluster.nodes_of("worker")[0].clone();

    // The target: every node.
    world.editor.start_update(NEW).await?;
    world
        .pool_becomes("worker", "Pending", |pool| {
            pool.assessment == Assessment::Pending
        })
        .await?;
    world
        .pool_becomes("master", "Pending", |pool| {
            pool.assessment == Assessment::Pending
        })
        .await?;
    assert_eq!(operator.evaluations(Some("cluster_version")).await?, 9);

    // Pausing: the nodes of that pool.
    world.editor.set_paused("worker", true).await?;
    world
        .pool_becomes("worker", "Excluded", |pool| {
            pool.assessment == Assessment::Excluded
        })
        .await?;
    world.node_reaches(&worker, Phase::Paused).await?;
    assert_eq!(operator.evaluations(Some("machine_config_pool")).await?, 4);
    world.editor.set_paused("worker", false).await?;
    world.node_reaches(&worker, Phase::Pending).await?;
    assert_eq!(operator.evaluations(Some("machine_config_pool")).await?, 8);

    // The pool's configuration: the nodes of that pool.
    let config = world.editor.render("infra", NEW).await?;
    let infra = &cluster.nodes_of("infra")[0];
    world
        .node_becomes(infra, "Pending", |node| node.phase == Phase::Pending)
        .await?;
    world
        .editor
        .annotate(
            infra,
            &[("desiredConfig", Some(&config)), ("state", Some("Working"))],
        )
        .await?;
    world.node_reaches(infra, Phase::Updating).await?;
    assert_eq!(operator.evaluations(Some("machine_config_pool")).await?, 10);

    // A MachineConfig's release: the nodes that run it.
    let running = world.editor.pool_configuration("master").await?;
    world.editor.set_release(&running, Some(NEW)).await?;
    world
        .pool_becomes("master", "Completed", |pool| {
            pool.assessment == Assessment::Completed
        })
        .await?;
    assert_eq!(operator.evaluations(Some("machine_config")).await?, 3);
    world.editor.set_release(&running, None).await?;
    let master = &cluster.nodes_of("master")[0];
    let status = world.node_reaches(master, Phase::Unknown).await?;
    assert_eq!(
        condition(&status.conditions, "Updating").reason,
        "VersionUnknown"
    );
    assert_eq!(
        condition(&status.conditions, "Updating").status,
        ConditionStatus::Unknown
    );
    assert_eq!(operator.evaluations(Some("machine_config")).await?, 6);
    Ok(())
}

#[tokio::test]
async fn a_selector_that_changes_moves_its_nodes_and_both_pools_show_it() -> Result<()> {
    let cluster = cluster()?;
    let world = World::openshift(&cluster).await?;
    let operator = world.operator(&[]).await?;
    world.all_reported(9).await?;
    world
        .pool_becomes("infra", "2 nodes", |pool| pool.progress == "2/2")
        .await?;

    world
        .editor
        .set_selector("infra", json!({"matchLabels": {"example.com/none": ""}}))
        .await?;
    world
        .pool_becomes("infra", "empty", |pool| pool.progress == "0/0")
        .await?;
    world
        .pool_becomes("worker", "6 nodes", |pool| pool.progress.ends_with("/6"))
        .await?;
    let moved = world
        .node_becomes(&cluster.nodes_of("infra")[0], "of worker", |node| {
            node.pool_ref
                .as_ref()
                .is_some_and(|pool| pool.name == "worker")
        })
        .await?;
    // It runs another config than its new pool, of the same version.
    assert_eq!(
        (moved.phase, moved.update_kind),
        (Phase::Pending, Some(UpdateKind::Configuration))
    );
    assert_eq!(operator.evaluations(Some("machine_config_pool")).await?, 2);

    let empty = world
        .pool_becomes("infra", "empty", |pool| pool.progress == "0/0")
        .await?;
    assert_eq!(empty.assessment, Assessment::Completed);
    assert_eq!(condition(&empty.conditions, "Updating").reason, "NoNodes");
    Ok(())
}

#[tokio::test]
async fn the_long_reason_of_a_degraded_node_is_reported_in_full_and_as_a_summary() -> Result<()> {
    let world = World::openshift(&cluster()?).await?;
    let _operator = world.operator(&[]).await?;
    world.all_reported(9).await?;
    world.editor.start_update(NEW).await?;
    let config = world.editor.render("worker", NEW).await?;
    let line = "failed to run command nice (6 tries): [timed out waiting for the condition]\n";
    let reason: String = line.repeat(30).chars().take(2000).collect();
    world
        .editor
        .annotate(
            "worker-0",
            &[
                ("desiredConfig", Some(&config)),
                ("state", Some("Degraded")),
                ("reason", Some(&reason)),
            ],
        )
        .await?;

    let status = world
        .node_becomes("worker-0", "Degraded", |node| {
            condition(&node.conditions, "Degraded").status == ConditionStatus::True
        })
        .await?;
    assert_eq!(
        condition(&status.conditions, "Degraded").message,
        reason.trim()
    );
    let summary = status.message.expect("a degraded node has a message");
    assert!(summary.starts_with("failed to run command nice") && summary.chars().count() <= 200);
    assert!(!summary.contains('\n'));
    assert_eq!(
        (status.phase, status.update_kind),
        (Phase::Updating, Some(UpdateKind::Version))
    );
    let pool = world
        .pool_becomes("worker", "Degraded", |pool| {
            pool.assessment == Assessment::Degraded
        })
        .await?;
    assert_eq!(
        condition(&pool.conditions, "Stalled").status,
        ConditionStatus::True
    );
    assert!(
        condition(&pool.conditions, "Healthy")
            .message
            .contains("worker-0")
    );
    Ok(())
}

#[tokio::test]
async fn a_node_reboots_from_its_post_config_action_until_its_daemon_is_back() -> Result<()> {
    let world = World::openshift(&cluster()?).await?;
    let _operator = world.operator(&[]).await?;
    world.all_reported(9).await?;
    world.editor.start_update(NEW).await?;
    let config = world.editor.render("worker", NEW).await?;
    let node = "worker-0";
    world.node_reaches(node, Phase::Pending).await?;
    let target = [
        ("desiredConfig", Some(config.as_str())),
        ("state", Some("Working")),
    ];
    world.editor.annotate(node, &target).await?;
    world.node_reaches(node, Phase::Updating).await?;

    let announced = [("post-config-action", Some("Rebooting"))];
    world.editor.annotate(node, &announced).await?;
    let rebooting = world.node_reaches(node, Phase::Rebooting).await?;
    assert_eq!(rebooting.update_kind, Some(UpdateKind::Version));
    world.editor.set_ready(node, Ready::Unknown).await?;
    let kubelet = kubelet_of(NEW);
    world.editor.nodes().boot(node, &kubelet, "RHCOS").await?;
    world.editor.set_ready(node, Ready::Yes).await?;
    let emptied = [("post-config-action", Some(""))];
    world.editor.annotate(node, &emptied).await?;
    world.node_reaches(node, Phase::Updating).await?;
    let done = [
        ("currentConfig", Some(config.as_str())),
        ("state", Some("Done")),
    ];
    world.editor.annotate(node, &done).await?;
    let done = world.node_reaches(node, Phase::Completed).await?;
    let phases: Vec<Phase> = done.timeline.iter().map(|entry| entry.phase).collect();
    assert!(
        phases.ends_with(&[
            Phase::Updating,
            Phase::Rebooting,
            Phase::Updating,
            Phase::Completed
        ]),
        "{phases:?}"
    );
    Ok(())
}

#[tokio::test]
async fn a_simulated_rollout_shows_the_reboot_of_its_nodes() -> Result<()> {
    let world = World::openshift(&cluster()?).await?;
    let _operator = world.operator(&[]).await?;
    world.all_reported(9).await?;
    let plan = Plan {
        pace: Pace::new(0.1),
        ..Plan::to(NEW)
    };
    rollout::play(&world.client, &plan).await?;
    let done = world.node_reaches("infra-0", Phase::Completed).await?;
    let rebooted = done.timeline.iter();
    let mut rebooted = rebooted.filter(|entry| entry.phase == Phase::Rebooting);
    assert!(rebooted.next().is_some(), "{:?}", done.timeline);
    Ok(())
}

#[tokio::test]
async fn the_insight_of_a_deleted_node_is_deleted_and_its_pool_counts_one_less() -> Result<()> {
    let world = World::openshift(&cluster()?).await?;
    let operator = world.operator(&[]).await?;
    world.all_reported(9).await?;
    world
        .pool_becomes("worker", "4 nodes", |pool| pool.progress == "4/4")
        .await?;
    world.editor.delete_node("worker-1").await?;
    world.all_reported(8).await?;
    assert!(world.node_insight("worker-1").await?.is_none());
    world
        .pool_becomes("worker", "3 nodes", |pool| pool.progress == "3/3")
        .await?;
    assert_eq!(operator.metric("node_insights_node_states", &[]).await?, 8);
    Ok(())
}

#[tokio::test]
async fn a_node_in_two_custom_pools_is_reported_and_belongs_to_none() -> Result<()> {
    let world = World::openshift(&cluster()?).await?;
    let _operator = world.operator(&[]).await?;
    world.all_reported(9).await?;
    let config = world.editor.pool_configuration("infra").await?;
    world
        .editor
        .add_pool(&Pool::new("edge", 0), &config)
        .await?;
    world
        .editor
        .nodes()
        .label("infra-0", "node-role.kubernetes.io/edge", Some(""))
        .await?;
    let status = world.node_reaches("infra-0", Phase::Unknown).await?;
    assert_eq!(status.pool_ref, None);
    let updating = condition(&status.conditions, "Updating");
    assert_eq!(updating.reason, "PoolConflict");
    assert!(
        updating.message.ends_with("edge, infra"),
        "{}",
        updating.message
    );
    world
        .pool_becomes("infra", "1 node", |pool| pool.progress == "1/1")
        .await?;
    Ok(())
}

#[tokio::test]
async fn an_unreadable_object_is_counted_and_stops_nothing_else() -> Result<()> {
    let world = World::openshift(&cluster()?).await?;
    let operator = world.operator(&[]).await?;
    world.all_reported(9).await?;
    // Our minimal CRD accepts any value, as a CRD of another version might.
    world
        .editor
        .set_pool("infra", &json!({"paused": "perhaps"}))
        .await?;
    world.editor.set_paused("worker", true).await?;
    world.editor.start_update(NEW).await?;
    world.node_reaches("worker-0", Phase::Paused).await?;
    assert!(
        operator
            .metric(
                "node_insights_unreadable_objects_total",
                &["kind=\"machineconfigpools\""]
            )
            .await?
            > 0
    );
    let is_logged = operator.log().iter().any(|line| {
        line["level"] == "WARN" && line["name"] == "infra" && line["kind"] == "machineconfigpools"
    });
    assert!(is_logged, "the log names the object");
    Ok(())
}
