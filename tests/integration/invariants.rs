//! What always holds: evaluations, writes, order, restarts.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Result;
use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, Patch, PatchParams};
use node_insights::api::types::{ConditionStatus, Phase};
use node_insights::api::{NodeProgressInsight, PoolProgressInsight};
use node_insights_harness::eventually;
use node_insights_harness::openshift::{Cluster, Pool, config_name};
use serde_json::json;

use crate::support::{SOON, World, condition, count};

const OLD: &str = "4.19.14";
const NEW: &str = "4.20.3";

async fn world(workers: usize) -> Result<World> {
    let cluster = Cluster::builder(OLD)
        .pool(Pool::new("master", 3))
        .pool(Pool::new("worker", workers))
        .build()?;
    World::openshift(&cluster).await
}

#[tokio::test]
async fn a_hundred_nodes_are_evaluated_once_each_for_two_consumers() -> Result<()> {
    let world = world(97).await?;
    let operator = world.operator(&[]).await?;
    world.all_reported(100).await?;
    world
        .pool_becomes("worker", "97 nodes", |pool| pool.progress == "97/97")
        .await?;
    assert_eq!(operator.evaluations(None).await?, 100);
    for consumer in ["node_insight", "pool_insight"] {
        let notified = operator
            .metric(
                "node_insights_notifications_total",
                &[&format!("consumer=\"{consumer}\"")],
            )
            .await?;
        let least = if consumer == "node_insight" { 100 } else { 1 };
        assert!(
            notified >= least,
            "{consumer} was notified {notified} times"
        );
    }
    Ok(())
}

#[tokio::test]
async fn one_visible_change_of_a_node_is_one_write_and_a_heartbeat_is_none() -> Result<()> {
    let world = world(3).await?;
    let operator = world.operator(&[]).await?;
    world.all_reported(6).await?;
    operator.ready().await?;
    let before = operator.evaluations(None).await?;
    let mark = world.plane.audit().mark()?;

    // A heartbeat: no evaluation, no write.
    let heartbeat = json!({"status": {"conditions": [{
        "type": "Ready", "status": "True", "lastHeartbeatTime": "2026-01-01T00:00:00Z",
    }]}});
    let nodes = world.editor.nodes().api();
    nodes
        .patch_status(
            "worker-0",
            &PatchParams::default(),
            &Patch::Strategic(heartbeat),
        )
        .await?;
    // The cordon follows on the same watch: once it is reported, the heartbeat was seen.
    world.editor.cordon("worker-0", true).await?;
    world
        .node_becomes("worker-0", "unavailable", |node| {
            condition(&node.conditions, "Available").status == ConditionStatus::False
        })
        .await?;
    assert!(
        operator.evaluations(None).await? - before <= 2,
        "cordon and taint, not the heartbeat"
    );
    let writes = world.operator_writes(mark)?;
    assert_eq!(
        count(&writes, "update", "nodeprogressinsights", "status"),
        1,
        "{writes:#?}"
    );
    assert_eq!(count(&writes, "create", "nodeprogressinsights", ""), 0);
    Ok(())
}

#[tokio::test]
async fn a_restart_at_rest_writes_nothing_and_moves_no_time() -> Result<()> {
    let world = world(20).await?;
    let operator = world.operator(&[]).await?;
    world.all_reported(23).await?;
    world.editor.start_update(NEW).await?;
    world.node_reaches("worker-00", Phase::Pending).await?;
    world
        .pool_becomes("worker", "0 done", |pool| pool.progress == "0/20")
        .await?;
    world
        .pool_becomes("master", "0 done", |pool| pool.progress == "0/3")
        .await?;
    assert!(operator.stop().await?.success());
    let (nodes, pools) = (world.node_insights().await?, world.pool_insights().await?);

    let mark = world.plane.audit().mark()?;
    let operator = world.operator(&[]).await?;
    operator.ready().await?;
    // Once every node has a state and nothing is pending, everything was compared.
    eventually("every node was evaluated", SOON, async || {
        Ok((operator.metric("node_insights_node_states", &[]).await? == 23).then_some(()))
    })
    .await?;
    eventually("both consumers have read everything", SOON, async || {
        let read = operator
            .metric("node_insights_notification_duration_seconds_count", &[])
            .await?;
        let pending = operator
            .metric("node_insights_notifications_pending", &[])
            .await?;
        Ok((read >= 25 && pending == 0).then_some(()))
    })
    .await?;
    assert!(operator.stop().await?.success());
    assert_eq!(world.operator_writes(mark)?, [], "a restart writes nothing");
    assert_eq!(world.node_insights().await?, nodes);
    assert_eq!(world.pool_insights().await?, pools);
    Ok(())
}

#[tokio::test]
async fn a_kill_in_the_middle_ends_in_the_same_objects() -> Result<()> {
    let world = world(60).await?;
    let operator = world.operator(&[]).await?;
    // In the middle of the first writes.
    eventually("some insights", SOON, async || {
        Ok((world.node_insights().await?.len() >= 10).then_some(()))
    })
    .await?;
    operator.kill().await?;
    let survivors = uids(&world.node_insights().await?);
    let operator = world.operator(&[]).await?;
    let all = world.all_reported(63).await?;
    for (name, uid) in &survivors {
        assert_eq!(all[name].uid().as_ref(), Some(uid), "{name} was recreated");
    }

    // In the middle of a sweep over all nodes.
    let (before, pools) = (uids(&all), world.pool_insights().await?.len());
    world.editor.start_update(NEW).await?;
    eventually("some nodes are pending", SOON, async || {
        let insights = world.node_insights().await?;
        let pending = insights
            .values()
            .filter(|insight| phase(insight) == Some(Phase::Pending))
            .count();
        Ok((pending >= 5).then_some(()))
    })
    .await?;
    operator.kill().await?;
    let _operator = world.operator(&[]).await?;
    eventually("every node is pending", SOON, async || {
        let insights = world.node_insights().await?;
        Ok(insights
            .values()
            .all(|insight| phase(insight) == Some(Phase::Pending))
            .then_some(()))
    })
    .await?;
    world
        .pool_becomes("worker", "0 done", |pool| pool.progress == "0/60")
        .await?;
    assert_eq!(
        uids(&world.node_insights().await?),
        before,
        "no insight was deleted or recreated"
    );
    assert_eq!(world.pool_insights().await?.len(), pools);
    Ok(())
}

#[tokio::test]
async fn nothing_is_written_or_deleted_before_every_kind_is_listed() -> Result<()> {
    let world = world(3).await?;
    let operator = world.operator(&[]).await?;
    world.all_reported(6).await?;
    assert!(operator.stop().await?.success());
    let before = world.node_insights().await?;

    // Without MachineConfigs no version is known: an operator that does not wait would report every node as Unknown.
    deny(&world, "machineconfigs").await?;
    world.editor.delete_node("worker-0").await?;
    let mark = world.plane.audit().mark()?;
    let operator = world.operator(&[]).await?;
    let why = operator
        .says_why("[-] machineconfigs: The operator may not list and watch")
        .await?;
    assert!(why.contains("kubectl apply -k config/rbac"), "{why}");
    // Each kind is watched separately, in no particular order.
    operator.says_why("[+] nodes: ok").await?;
    assert_eq!(world.operator_writes(mark)?, []);
    assert_eq!(
        world.node_insights().await?,
        before,
        "not even the deleted node's insight is gone"
    );

    world.install_rbac().await?;
    world.all_reported(5).await?;
    operator.ready().await?;
    let writes = world.operator_writes(mark)?;
    assert_eq!(count(&writes, "delete", "nodeprogressinsights", ""), 1);
    assert_eq!(
        count(&writes, "update", "nodeprogressinsights", "status"),
        0
    );
    Ok(())
}

/// Removes a resource from the operator's role.
async fn deny(world: &World, resource: &str) -> Result<()> {
    use k8s_openapi::api::rbac::v1::ClusterRole;
    let api: Api<ClusterRole> = Api::all(world.client.clone());
    let mut role = api.get("node-insights").await?;
    for rule in role.rules.iter_mut().flatten() {
        if let Some(resources) = &mut rule.resources {
            resources.retain(|each| each != resource);
            if resources.is_empty() {
                rule.verbs = vec!["get".to_owned()];
                *resources = vec!["nothing".to_owned()];
            }
        }
    }
    role.metadata.managed_fields = None;
    api.replace("node-insights", &kube::api::PostParams::default(), &role)
        .await?;
    Ok(())
}

#[tokio::test]
async fn an_insight_that_is_edited_or_deleted_by_hand_is_repaired() -> Result<()> {
    let world = world(3).await?;
    let _operator = world.operator(&[]).await?;
    let before = world.all_reported(6).await?;
    world
        .pool_becomes("worker", "3 nodes", |pool| pool.progress == "3/3")
        .await?;
    let nodes: Api<NodeProgressInsight> = Api::all(world.client.clone());
    let pools: Api<PoolProgressInsight> = Api::all(world.client.clone());

    let long_ago = "2026-01-01T00:00:00Z";
    let edit = json!({"status": {
        "phase": "Rebooting", "phaseStartTime": long_ago, "message": "by hand",
        "timeline": [{"phase": "Rebooting", "startTime": long_ago}],
    }});
    nodes
        .patch_status("worker-0", &PatchParams::default(), &Patch::Merge(edit))
        .await?;
    let repaired = world.node_reaches("worker-0", Phase::Completed).await?;
    assert_eq!(Some(&repaired), before["worker-0"].status.as_ref());

    pools.delete("worker", &DeleteParams::default()).await?;
    world
        .pool_becomes("worker", "back again", |pool| pool.progress == "3/3")
        .await?;
    nodes.delete("worker-1", &DeleteParams::default()).await?;
    let back = world.all_reported(6).await?;
    assert_eq!(
        back["worker-1"].status, before["worker-1"].status,
        "its times too"
    );

    // The insight of a node that does not exist is deleted.
    let orphan = json!({"apiVersion": "nodeinsights.dev/v1alpha1", "kind": "NodeProgressInsight", "metadata": {"name": "nobody"}});
    world
        .plane
        .apply_yaml(&serde_json::to_string(&orphan)?)
        .await?;
    eventually("the orphan is gone", SOON, async || {
        Ok(world.node_insight("nobody").await?.is_none().then_some(()))
    })
    .await
}

#[tokio::test]
async fn a_sweep_over_a_pool_writes_its_insight_about_once_a_second_and_ends_correct() -> Result<()>
{
    let world = world(100).await?;
    let operator = world.operator(&[]).await?;
    world.all_reported(103).await?;
    world
        .pool_becomes("worker", "100 nodes", |pool| pool.progress == "100/100")
        .await?;
    operator.ready().await?;
    let config = config_name("worker", &[NEW]);
    world
        .editor
        .add_config(&config, "worker", Some(NEW))
        .await?;
    world.editor.start_update(NEW).await?;
    world
        .editor
        .set_pool_configuration("worker", &config)
        .await?;
    world
        .pool_becomes("worker", "0 done", |pool| pool.progress == "0/100")
        .await?;
    eventually("every node is pending", SOON, async || {
        let insights = world.node_insights().await?;
        let mut all = insights.values();
        Ok(all
            .all(|insight| phase(insight) == Some(Phase::Pending))
            .then_some(()))
    })
    .await?;

    let mark = world.plane.audit().mark()?;
    for index in 0..100 {
        let name = format!("worker-{index:02}");
        world
            .editor
            .annotate(&name, &[("desiredConfig", Some(&config))])
            .await?;
    }
    world
        .pool_becomes("worker", "100 draining", |pool| {
            pool.summaries
                .iter()
                .any(|summary| summary.count == 100 && format!("{:?}", summary.type_) == "Draining")
        })
        .await?;
    let writes = world.operator_writes(mark)?;
    let times: Vec<Timestamp> = writes
        .iter()
        .filter(|write| write.resource == "poolprogressinsights" && write.name == "worker")
        .map(|write| write.received)
        .collect();
    for pair in times.windows(2) {
        let gap = pair[1].duration_since(pair[0]);
        // The interval starts with the response, so the requests are further apart.
        assert!(
            gap >= SignedDuration::from_secs(1),
            "{gap} between two writes"
        );
    }
    assert!(!times.is_empty());
    assert_eq!(
        count(&writes, "update", "nodeprogressinsights", "status"),
        100,
        "one per node"
    );
    Ok(())
}

#[tokio::test]
async fn the_garbage_collector_deletes_the_insight_of_a_node_deleted_while_the_operator_is_down()
-> Result<()> {
    let mut world = world(3).await?;
    let operator = world.operator(&[]).await?;
    world.all_reported(6).await?;
    assert!(operator.stop().await?.success());
    world.plane.start_controller_manager().await?;
    world.editor.delete_node("worker-2").await?;
    tokio::time::timeout(Duration::from_secs(90), world.all_reported(5)).await??;
    assert!(world.node_insight("worker-2").await?.is_none());
    Ok(())
}

fn uids(insights: &BTreeMap<String, NodeProgressInsight>) -> BTreeMap<String, String> {
    insights
        .iter()
        .filter_map(|(name, insight)| Some((name.clone(), insight.uid()?)))
        .collect()
}

fn phase(insight: &NodeProgressInsight) -> Option<Phase> {
    insight.status.as_ref().map(|status| status.phase)
}
