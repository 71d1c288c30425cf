//! Node pools whose updater is outside the cluster: EKS, AKS and GKE, and a cluster with several updaters at once.

use anyhow::Result;
use node_insights::api::NodeProgressInsightStatus;
use node_insights::api::pool::Assessment;
use node_insights::api::types::{ConditionStatus, DesiredVersionSource, Phase, UpdateKind};
use node_insights_harness::karpenter::{self, Karpenter};
use node_insights_harness::kubernetes::node::NodeTemplate;
use node_insights_harness::kubernetes::{Nodes, Pace, Ready};
use node_insights_harness::managed::{Cloud, Machine, Managed};
use serde_json::json;

use crate::support::{World, condition};

/// The version of the control plane under test is `v1.36.3`.
const API_SERVER: &str = "v1.36.3";

fn reason(node: &NodeProgressInsightStatus) -> &str {
    &condition(&node.conditions, "Updating").reason
}

/// Waits until a node is in this phase for this reason.
async fn reaches(
    world: &World,
    node: &str,
    phase: Phase,
    why: &str,
) -> Result<NodeProgressInsightStatus> {
    let what = format!("{phase} because of {why}");
    world
        .node_becomes(node, &what, |status| {
            status.phase == phase && reason(status) == why
        })
        .await
}

async fn progress(world: &World, pool: &str, progress: &str, assessment: Assessment) -> Result<()> {
    world
        .pool_becomes(pool, progress, |pool| {
            pool.progress == progress && pool.assessment == assessment
        })
        .await?;
    Ok(())
}

const EKS_OLD: &str = "v1.35.4-eks-94953ac";
const EKS_NEW: &str = "v1.36.2-eks-1552ad0";

fn of_eks(name: &str, version: &str, ami: &str) -> Machine {
    Machine::new(name, "blue", version, ami)
}

#[tokio::test]
async fn a_node_group_of_eks_is_replaced_with_a_surge_and_the_insights_show_each_step() -> Result<()>
{
    let world = World::empty().await?;
    let eks = Managed::new(&world.client, Cloud::Eks);
    for name in ["old-0", "old-1"] {
        eks.machine(&of_eks(name, EKS_OLD, "ami-0aaa")).await?;
    }
    let operator = world.operator(&[]).await?;
    operator.ready().await?;
    let pending = reaches(&world, "old-0", Phase::Pending, "Pending").await?;
    assert_eq!(pending.provider.as_str(), "EKS");
    let source = pending.desired_version_source;
    assert_eq!(source, Some(DesiredVersionSource::ApiServer));
    progress(&world, "blue.nodegroup", "0/2", Assessment::Pending).await?;

    let new = of_eks("new-0", EKS_NEW, "ami-0bbb");
    eks.join(&new).await?;
    reaches(&world, "new-0", Phase::Unknown, "Joining").await?;
    eks.nodes().become_ready("new-0").await?;
    world.node_reaches("new-0", Phase::Completed).await?;
    let shown = world
        .node_becomes("old-0", "the version of the new node", |node| {
            node.desired_version.as_deref() == Some(EKS_NEW)
        })
        .await?;
    let source = shown.desired_version_source;
    assert_eq!(source, Some(DesiredVersionSource::NewestInPool));
    progress(&world, "blue.nodegroup", "0/2", Assessment::Progressing).await?;

    eks.cordon(&["old-0", "old-1"]).await?;
    for name in ["old-0", "old-1"] {
        let waiting = reaches(&world, name, Phase::Pending, "Cordoned").await?;
        assert!(!waiting.cordoned_by.unwrap().foreign, "{name}");
    }
    eks.exclude("old-0").await?;
    reaches(&world, "old-0", Phase::Updating, "Terminating").await?;
    eks.terminate("old-0").await?;
    world
        .node_becomes("old-0", "unavailable", |node| {
            node.phase == Phase::Updating
                && condition(&node.conditions, "Available").reason == "NotReady"
        })
        .await?;
    eks.gone("old-0").await?;
    progress(&world, "blue.nodegroup", "1/2", Assessment::Progressing).await?;
    reaches(&world, "old-1", Phase::Pending, "Cordoned").await?;
    eks.exclude("old-1").await?;
    reaches(&world, "old-1", Phase::Updating, "Terminating").await?;
    eks.gone("old-1").await?;
    progress(&world, "blue.nodegroup", "1/1", Assessment::Completed).await?;

    // The group shrinks again: a new node is cordoned.
    eks.cordon(&["new-0"]).await?;
    let leaving = world
        .node_becomes("new-0", "cordoned", |node| node.cordoned_by.is_some())
        .await?;
    assert_eq!(
        (leaving.phase, leaving.update_kind),
        (Phase::Completed, None)
    );
    assert!(leaving.cordoned_by.unwrap().foreign);
    Ok(())
}

const AKS_OLD: &str = "v1.35.4";
const AKS_NEW: &str = "v1.36.1";

fn of_aks(name: &str, version: &str) -> Machine {
    let image = format!("AKSUbuntu-2204gen2containerd-{version}");
    Machine::new(name, "user", version, &image)
}

#[tokio::test]
async fn a_node_of_aks_is_reimaged_under_its_name_and_one_that_cannot_be_drained_is_degraded()
-> Result<()> {
    let world = World::empty().await?;
    let aks = Managed::new(&world.client, Cloud::Aks);
    for name in ["vmss-0", "vmss-1"] {
        aks.machine(&of_aks(name, AKS_OLD)).await?;
    }
    let operator = world.operator(&[]).await?;
    operator.ready().await?;
    world.node_reaches("vmss-0", Phase::Pending).await?;
    aks.machine(&of_aks("vmss-2", AKS_NEW)).await?;
    world.node_reaches("vmss-2", Phase::Completed).await?;
    progress(&world, "user.agentpool", "0/2", Assessment::Progressing).await?;

    aks.mark("vmss-0", true).await?;
    reaches(&world, "vmss-0", Phase::Pending, "Upgrading").await?;
    aks.cordon(&["vmss-0"]).await?;
    let draining = world.node_reaches("vmss-0", Phase::Draining).await?;
    let cordon = draining.cordoned_by.unwrap();
    assert_eq!(
        (cordon.name.as_deref(), cordon.foreign),
        (Some("aks"), false)
    );
    aks.terminate("vmss-0").await?;
    reaches(&world, "vmss-0", Phase::Rebooting, "Reimaging").await?;
    aks.reimage(&of_aks("vmss-0", AKS_NEW)).await?;
    let joining = reaches(&world, "vmss-0", Phase::Updating, "Reimaged").await?;
    assert_eq!(joining.update_kind, Some(UpdateKind::Version));
    assert_eq!(joining.version.as_deref(), Some(AKS_NEW));
    aks.nodes().become_ready("vmss-0").await?;
    let done = world.node_reaches("vmss-0", Phase::Completed).await?;
    let phases: Vec<Phase> = done.timeline.iter().map(|entry| entry.phase).collect();
    let expected = [
        Phase::Pending,
        Phase::Draining,
        Phase::Rebooting,
        Phase::Updating,
        Phase::Completed,
    ];
    assert_eq!(phases, expected, "its update went on under another UID");
    progress(&world, "user.agentpool", "1/2", Assessment::Progressing).await?;

    aks.mark("vmss-1", true).await?;
    aks.cordon(&["vmss-1"]).await?;
    world.node_reaches("vmss-1", Phase::Draining).await?;
    aks.quarantine("vmss-1").await?;
    let stuck = reaches(&world, "vmss-1", Phase::Pending, "Quarantined").await?;
    let degraded = condition(&stuck.conditions, "Degraded");
    assert_eq!(degraded.status, ConditionStatus::True);
    progress(&world, "user.agentpool", "1/2", Assessment::Degraded).await?;
    Ok(())
}

const GKE_OLD: &str = "v1.35.4-gke.1014001";
const GKE_NEW: &str = "v1.36.1-gke.1146000";

fn of_gke(name: &str, version: &str) -> Machine {
    Machine::new(name, "green", version, "Container-Optimized OS from Google")
}

#[tokio::test]
async fn a_surge_upgrade_of_gke_drains_one_node_after_the_other() -> Result<()> {
    let world = World::empty().await?;
    let gke = Managed::new(&world.client, Cloud::Gke);
    for name in ["old-0", "old-1"] {
        gke.machine(&of_gke(name, GKE_OLD)).await?;
    }
    let operator = world.operator(&[]).await?;
    operator.ready().await?;
    world.node_reaches("old-0", Phase::Pending).await?;
    gke.machine(&of_gke("new-0", GKE_NEW)).await?;
    world.node_reaches("new-0", Phase::Completed).await?;
    progress(&world, "green.gke-nodepool", "0/2", Assessment::Progressing).await?;

    gke.cordon(&["old-0"]).await?;
    let draining = world.node_reaches("old-0", Phase::Draining).await?;
    assert_eq!(draining.provider.as_str(), "GKE");
    reaches(&world, "old-1", Phase::Pending, "Pending").await?;
    gke.terminate("old-0").await?;
    reaches(&world, "old-0", Phase::Updating, "Terminating").await?;
    gke.gone("old-0").await?;
    gke.machine(&of_gke("new-1", GKE_NEW)).await?;
    progress(&world, "green.gke-nodepool", "1/2", Assessment::Progressing).await?;
    // The last old node is drained although all old nodes are cordoned.
    gke.cordon(&["old-1"]).await?;
    world.node_reaches("old-1", Phase::Draining).await?;
    gke.gone("old-1").await?;
    progress(&world, "green.gke-nodepool", "2/2", Assessment::Completed).await
}

#[tokio::test]
async fn blue_nodes_of_gke_wait_while_all_of_them_are_cordoned() -> Result<()> {
    let world = World::empty().await?;
    let gke = Managed::new(&world.client, Cloud::Gke);
    for name in ["blue-0", "blue-1", "blue-2"] {
        gke.machine(&of_gke(name, GKE_OLD)).await?;
    }
    let operator = world.operator(&[]).await?;
    operator.ready().await?;
    world.node_reaches("blue-0", Phase::Pending).await?;
    for name in ["green-0", "green-1", "green-2"] {
        gke.machine(&of_gke(name, GKE_NEW)).await?;
        world.node_reaches(name, Phase::Completed).await?;
    }
    gke.cordon(&["blue-0", "blue-1"]).await?;
    world.node_reaches("blue-0", Phase::Draining).await?;
    world.node_reaches("blue-1", Phase::Draining).await?;
    // The cordon of the last one says what the others are.
    gke.cordon(&["blue-2"]).await?;
    for name in ["blue-0", "blue-1", "blue-2"] {
        let waiting = reaches(&world, name, Phase::Pending, "Cordoned").await?;
        assert!(!waiting.cordoned_by.unwrap().foreign, "{name}");
    }
    // A rollback uncordons them.
    gke.nodes().cordon("blue-0", false).await?;
    reaches(&world, "blue-0", Phase::Pending, "Pending").await?;
    Ok(())
}

#[tokio::test]
async fn every_cloud_ends_with_a_completed_pool() -> Result<()> {
    let world = World::empty().await?;
    let operator = world.operator(&[]).await?;
    operator.ready().await?;
    let pace = Pace::TEST;
    for (cloud, pool) in [
        (Cloud::Eks, "pool.nodegroup"),
        (Cloud::Gke, "pool.gke-nodepool"),
        (Cloud::Aks, "pool.agentpool"),
    ] {
        let prefix = pool.rsplit('.').next().unwrap();
        let machines = |generation: &str, version: &str| {
            ["0", "1"].map(|index| {
                let name = match cloud {
                    // AKS keeps the names.
                    Cloud::Aks => format!("{prefix}-{index}"),
                    Cloud::Eks | Cloud::Gke => format!("{prefix}-{generation}-{index}"),
                };
                Machine::new(&name, "pool", version, generation)
            })
        };
        let managed = Managed::new(&world.client, cloud);
        let old = machines("old", AKS_OLD);
        for machine in &old {
            managed.machine(machine).await?;
        }
        progress(&world, pool, "0/2", Assessment::Pending).await?;
        let mut new = machines("new", AKS_NEW).to_vec();
        if cloud == Cloud::Aks {
            let surge = format!("{prefix}-surge");
            new.insert(0, Machine::new(&surge, "pool", AKS_NEW, "new"));
        }
        managed.update(&old, &new, pace).await?;
        progress(&world, pool, "2/2", Assessment::Completed).await?;
    }
    Ok(())
}

/// A node that no cloud manages.
async fn join(world: &World, name: &str, version: &str, mark: (&str, &str)) -> Result<()> {
    let (key, value) = (mark.0.to_owned(), mark.1.to_owned());
    let is_annotation = key.ends_with("node-args");
    let (labels, annotations) = if is_annotation {
        ([].into(), [(key, value)].into())
    } else {
        ([(key, value)].into(), [].into())
    };
    let template = NodeTemplate {
        name: name.to_owned(),
        labels,
        annotations,
        kubelet_version: version.to_owned(),
        os_image: "Linux".to_owned(),
        images: 0,
    };
    let nodes = Nodes::new(world.client.clone());
    nodes.join(&template.object()?).await?;
    nodes.become_ready(name).await
}

#[tokio::test]
async fn several_updaters_in_one_cluster_each_evaluate_their_own_nodes() -> Result<()> {
    let world = World::empty().await?;
    let eks = Managed::new(&world.client, Cloud::Eks);
    eks.machine(&of_eks("managed-0", EKS_OLD, "ami-0aaa"))
        .await?;
    karpenter::install(&world.client).await?;
    let karpenter = Karpenter::new(&world.client);
    karpenter
        .pool("default", &json!([{"nodes": "10%"}]))
        .await?;
    let machine = karpenter::Machine::new("k-0", "default", EKS_OLD);
    karpenter.machine(&machine).await?;
    join(
        &world,
        "edge-0",
        "v1.35.4+k3s1",
        ("k3s.io/node-args", r#"["agent"]"#),
    )
    .await?;
    let fargate = ("eks.amazonaws.com/compute-type", "fargate");
    join(&world, "fargate-0", EKS_OLD, fargate).await?;

    let operator = world.operator(&[]).await?;
    operator.ready().await?;
    let insights = world.all_reported(4).await?;
    for (name, provider, pool, phase) in [
        ("managed-0", "EKS", Some("blue"), Phase::Pending),
        ("k-0", "Karpenter", Some("default"), Phase::Completed),
        ("edge-0", "k3s", Some("worker"), Phase::Pending),
        ("fargate-0", "Serverless", None, Phase::Completed),
    ] {
        let status = insights[name].status.as_ref().unwrap();
        assert_eq!((status.provider.as_str(), status.phase), (provider, phase));
        let named = status.pool_ref.as_ref().map(|pool| pool.name.as_str());
        assert_eq!(named, pool, "{name}");
    }
    let fargate = insights["fargate-0"].status.as_ref().unwrap();
    assert_eq!(fargate.desired_version, None);
    for pool in ["blue.nodegroup", "default.nodepool", "worker"] {
        world
            .pool_becomes(pool, "one node", |pool| pool.progress.ends_with("/1"))
            .await?;
    }

    // An update of one pool is no business of the others.
    let mark = world.plane.audit().mark()?;
    let nodes = world.editor.nodes();
    nodes.cordon("edge-0", true).await?;
    world.node_reaches("edge-0", Phase::Draining).await?;
    nodes.set_ready("edge-0", Ready::Unknown).await?;
    world.node_reaches("edge-0", Phase::Rebooting).await?;
    nodes.boot("edge-0", API_SERVER, "Linux").await?;
    nodes.set_ready("edge-0", Ready::Yes).await?;
    nodes.cordon("edge-0", false).await?;
    world.node_reaches("edge-0", Phase::Completed).await?;
    let writes = world.operator_writes(mark)?;
    let others = writes.iter().filter(|write| {
        let others = [
            "managed-0",
            "k-0",
            "fargate-0",
            "blue.nodegroup",
            "default.nodepool",
        ];
        others.contains(&write.name.as_str())
    });
    assert_eq!(others.count(), 0, "{writes:#?}");
    Ok(())
}
