//! Simulates an update of a plain cluster: control-plane nodes in place, one by one; then all node pools
//! in parallel, whose nodes are *replaced*.
//!
//! ```text
//! control plane  cordon ─ drain ─ NotReady ─ boots into the new kubelet ─ Ready ─ uncordon
//! node pool      surge node joins ─ Ready ─ old node cordoned ─ drained ─ deleted
//! ```

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Result;
use futures::stream::{self, StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::Node;
use kube::api::ListParams;
use kube::{Client, ResourceExt};

use super::node::{NodeTemplate, fingerprint, os_image};
use super::{CONTROL_PLANE_LABEL, Nodes, POOL_LABEL, Pace, Ready};
use crate::pods::Pods;
use crate::truth::{COMPLETED, DRAINING, REBOOTING, Truth, UNKNOWN, UPDATING};

// Nominal durations at the pace of the demo; a real one is about sixty times as long.
const DRAIN: Duration = Duration::from_secs(3);
const BOOT: Duration = Duration::from_millis(2500);
const SETTLE: Duration = Duration::from_secs(1);

/// An update to simulate.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The kubelet version that every node gets.
    pub version: String,
    /// How fast.
    pub pace: Pace,
    /// How many nodes of a pool are replaced at once.
    pub surge: usize,
    /// The label that names a node's pool.
    pub pool_label: String,
    /// Where the truth is told.
    pub truth: Truth,
}

impl Plan {
    /// To `version`, at the pace of the demo, two nodes of a pool at once.
    #[must_use]
    pub fn to(version: &str) -> Self {
        Self {
            version: version.to_owned(),
            pace: Pace::DEMO,
            surge: 2,
            pool_label: POOL_LABEL.to_owned(),
            truth: Truth::default(),
        }
    }
}

/// Simulates the update; returns when every node runs the version.
///
/// # Errors
/// When the server does not answer, or a node is deleted meanwhile.
pub async fn play(client: &Client, plan: &Plan) -> Result<()> {
    let (nodes, pods) = (Nodes::new(client.clone()), Pods::new(client));
    let mut control_plane = Vec::new();
    let mut pools: BTreeMap<String, Vec<Node>> = BTreeMap::new();
    for node in nodes.api().list(&ListParams::default()).await?.items {
        if kubelet(&node) == plan.version {
            continue;
        }
        match node.labels().get(&plan.pool_label) {
            Some(pool) => pools.entry(pool.clone()).or_default().push(node),
            None if node.labels().contains_key(CONTROL_PLANE_LABEL) => control_plane.push(node),
            None => {}
        }
    }
    for node in &control_plane {
        update_in_place(&nodes, plan, &node.name_any()).await?;
    }
    let replacements = pools.values().map(|old| {
        stream::iter(old)
            .map(|old| replace(&nodes, &pods, plan, old))
            .buffer_unordered(plan.surge.max(1))
            .try_collect::<()>()
    });
    futures::future::try_join_all(replacements).await?;
    Ok(())
}

async fn update_in_place(nodes: &Nodes, plan: &Plan, node: &str) -> Result<()> {
    let truth = &plan.truth;
    let cordoned = nodes.cordon(node, true);
    truth.step(node, &[DRAINING], cordoned).await?;
    plan.pace.pass(DRAIN).await;
    let silent = nodes.set_ready(node, Ready::Unknown);
    truth.step(node, &[REBOOTING], silent).await?;
    plan.pace.pass(BOOT).await;
    let os_image = os_image(&plan.version);
    let booted = nodes.boot(node, &plan.version, &os_image);
    truth.step(node, &[REBOOTING, UPDATING], booted).await?;
    plan.pace.pass(SETTLE).await;
    let ready = nodes.set_ready(node, Ready::Yes);
    truth.step(node, &[UPDATING], ready).await?;
    plan.pace.pass(SETTLE).await;
    let uncordoned = nodes.cordon(node, false);
    truth.step(node, &[COMPLETED], uncordoned).await
}

async fn replace(nodes: &Nodes, pods: &Pods, plan: &Plan, old: &Node) -> Result<()> {
    let truth = &plan.truth;
    let old_name = old.name_any();
    let new = successor(old, plan);
    let object = new.object()?;
    let joined = nodes.join(&object);
    // It is up to date, and joining.
    truth.step(&new.name, &[UNKNOWN, COMPLETED], joined).await?;
    plan.pace.pass(BOOT).await;
    let ready = nodes.become_ready(&new.name);
    truth.step(&new.name, &[COMPLETED], ready).await?;
    plan.pace.pass(SETTLE).await;
    let cordoned = nodes.cordon(&old_name, true);
    truth.step(&old_name, &[DRAINING], cordoned).await?;
    plan.pace.pass(DRAIN).await;
    pods.drain(&old_name).await?;
    truth.gone(&old_name, nodes.delete(&old_name)).await
}

/// The node that replaces `old`: same pool, another name.
fn successor(old: &Node, plan: &Plan) -> NodeTemplate {
    let pool = old
        .labels()
        .get(&plan.pool_label)
        .cloned()
        .unwrap_or_default();
    let name = format!(
        "{pool}-{}",
        &fingerprint(&[&old.name_any(), &plan.version])[..8]
    );
    NodeTemplate {
        name,
        labels: BTreeMap::from([(plan.pool_label.clone(), pool)]),
        annotations: BTreeMap::new(),
        kubelet_version: plan.version.clone(),
        os_image: os_image(&plan.version),
        images: 0,
    }
}

fn kubelet(node: &Node) -> &str {
    let info = node
        .status
        .as_ref()
        .and_then(|status| status.node_info.as_ref());
    info.map_or("", |info| info.kubelet_version.as_str())
}
