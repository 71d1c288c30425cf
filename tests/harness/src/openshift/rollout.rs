//! Simulates an update of an `OpenShift` cluster: writes what the Machine Config Operator would write.
//!
//! ```text
//! ClusterVersion  Partial ───────────────────────────► Completed, when the master pool is done
//! each pool       new rendered config ─► its nodes, at most maxUnavailable at once; waits while paused
//! each node       see `node`
//! ```
//!
//! As in reality, all pools are updated in parallel, and only the master pool holds up the completion
//! of the `ClusterVersion`. Works on whatever cluster is in the API server, including a loaded dump.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result};
use futures::future::try_join_all;
use futures::stream::{self, StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::Node;
use kube::api::{DynamicObject, ListParams};
use kube::{Client, ResourceExt};
use serde_json::Value;

use super::{Editor, PREFIX, config_name};
use crate::kubernetes::Pace;
use crate::truth::{PAUSED, PENDING, Phases, Truth};

pub mod node;
mod pool;

use pool::PoolRollout;

/// The controller's delay between rendering a pool's configuration and updating the first node.
const RENDER: Duration = Duration::from_millis(500);

/// An update to simulate.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The target release. The one that the cluster already runs means a configuration change.
    pub version: String,
    /// How fast.
    pub pace: Pace,
    /// A node whose update fails at first, and succeeds later.
    pub degraded: Option<String>,
    /// Where the truth is told.
    pub truth: Truth,
}

impl Plan {
    /// To `version`, at the pace of the demo, without a failure.
    #[must_use]
    pub fn to(version: &str) -> Self {
        Self {
            version: version.to_owned(),
            pace: Pace::DEMO,
            degraded: None,
            truth: Truth::default(),
        }
    }
}

/// Simulates the update. Returns when every node of every pool is updated, so a paused pool has to be
/// unpaused first.
///
/// # Errors
/// When the server does not answer, or an object is deleted meanwhile.
pub async fn play(client: &Client, plan: &Plan) -> Result<()> {
    let editor = Editor::new(client);
    let pools = editor.pools().list(&ListParams::default()).await?.items;
    let nodes = editor
        .nodes()
        .api()
        .list(&ListParams::default())
        .await?
        .items;
    let members = members(&pools, &nodes);
    let is_version = editor.target_version().await? != plan.version;
    if is_version {
        let (held, waiting): (Vec<_>, Vec<_>) = pools.iter().partition(|pool| is_paused(pool));
        let of = |pools: Vec<&DynamicObject>| -> Vec<&str> {
            let members = pools.iter().map(|pool| members.get(&pool.name_any()));
            members.flatten().flatten().map(String::as_str).collect()
        };
        let (held, waiting) = (of(held), of(waiting));
        let started = editor.start_update(&plan.version);
        let started = plan.truth.step_of(&held, &[PAUSED], started);
        plan.truth.step_of(&waiting, &[PENDING], started).await?;
    }
    let none = Vec::new();
    let rollouts = pools.iter().map(|pool| {
        let members = members.get(&pool.name_any()).unwrap_or(&none);
        let editor = &editor;
        async move {
            roll(editor, plan, pool, members).await?;
            if is_version && pool.name_any() == "master" {
                editor.complete_update().await?;
            }
            anyhow::Ok(())
        }
    });
    try_join_all(rollouts).await?;
    Ok(())
}

/// Gives a pool a new rendered configuration and updates its nodes to it.
async fn roll(editor: &Editor, plan: &Plan, pool: &DynamicObject, nodes: &[String]) -> Result<()> {
    let name = pool.name_any();
    let current = pool.data["spec"]["configuration"]["name"]
        .as_str()
        .unwrap_or_default();
    let wanted = config_name(&name, &[&plan.version, current]);
    editor
        .add_config(&wanted, &name, Some(&plan.version))
        .await?;
    let outdated: Phases = if is_paused(pool) {
        &[PAUSED]
    } else {
        &[PENDING]
    };
    let names: Vec<&str> = nodes.iter().map(String::as_str).collect();
    let rendered = editor.set_pool_configuration(&name, &wanted);
    plan.truth.step_of(&names, outdated, rendered).await?;
    let limit = max_unavailable(&pool.data["spec"]["maxUnavailable"], nodes.len());
    let rollout = PoolRollout::new(editor, plan, &name, current, &wanted, nodes.len());
    rollout.report().await?;
    plan.pace.pass(RENDER).await;
    stream::iter(nodes)
        .map(|node| rollout.update(node))
        .buffer_unordered(limit)
        .try_collect::<()>()
        .await
        .with_context(|| format!("Rolling out {wanted}"))
}

fn is_paused(pool: &DynamicObject) -> bool {
    pool.data["spec"]["paused"].as_bool().unwrap_or(false)
}

/// How many nodes may be updated at once: percentages are rounded down, and at least one is.
fn max_unavailable(limit: &Value, nodes: usize) -> usize {
    let percent = limit.as_str().and_then(|text| text.strip_suffix('%'));
    let limit = match percent.and_then(|text| text.parse::<usize>().ok()) {
        Some(percent) => nodes * percent / 100,
        None => limit
            .as_u64()
            .and_then(|limit| usize::try_from(limit).ok())
            .unwrap_or(1),
    };
    limit.max(1)
}

/// The nodes of each pool: master takes precedence over all, a custom pool over worker.
fn members(pools: &[DynamicObject], nodes: &[Node]) -> BTreeMap<String, Vec<String>> {
    let mut members: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for node in nodes {
        // The Machine Config Operator does not update nodes that it does not manage yet.
        if !node
            .annotations()
            .contains_key(&format!("{PREFIX}currentConfig"))
        {
            continue;
        }
        let selecting = pools
            .iter()
            .filter(|pool| selects(pool, node))
            .map(ResourceExt::name_any);
        let rank = |name: &String| match name.as_str() {
            "master" => 0,
            "worker" => 2,
            _ => 1,
        };
        if let Some(pool) = selecting.min_by_key(rank) {
            members.entry(pool).or_default().push(node.name_any());
        }
    }
    members
}

fn selects(pool: &DynamicObject, node: &Node) -> bool {
    let labels = pool.data["spec"]["nodeSelector"]["matchLabels"].as_object();
    let matches = |(key, value): (&String, &Value)| {
        node.labels().get(key).map(String::as_str) == value.as_str()
    };
    labels.is_some_and(|labels| !labels.is_empty() && labels.iter().all(matches))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_percentage_is_rounded_down_to_at_least_one_node() {
        assert_eq!(max_unavailable(&json!("25%"), 15), 3);
        assert_eq!(max_unavailable(&json!("10%"), 3), 1);
        assert_eq!(max_unavailable(&json!(4), 3), 4);
        assert_eq!(max_unavailable(&json!(null), 100), 1);
    }
}
