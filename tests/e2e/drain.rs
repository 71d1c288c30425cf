//! A real drain: `kubectl drain` evicts pods, and a `PodDisruptionBudget` blocks one eviction.

use anyhow::{Context as _, Result, ensure};
use futures::try_join;
use node_insights::api::types::Phase;
use node_insights_harness::{AuditMark, eventually};

use crate::cluster::{Cluster, FIRST, READY, SECOND};
use crate::helm::NAME;
use crate::support::SOON;
use crate::toolbox;

/// The workload that may not be evicted: its only pod runs on the second node.
fn workload() -> String {
    let spec = toolbox::pod_spec();
    format!(
        "
apiVersion: apps/v1
kind: Deployment
metadata: {{name: web, namespace: default}}
spec:
  selector: {{matchLabels: {{app: web}}}}
  template:
    metadata: {{labels: {{app: web}}}}
    spec: {spec}
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata: {{name: web, namespace: default}}
spec: {{minAvailable: 1, selector: {{matchLabels: {{app: web}}}}}}
"
    )
}

pub async fn a_drain_waits_for_a_disruption_budget(cluster: &Cluster) -> Result<()> {
    // At first it can only run on the second node.
    cluster.kubectl(&["cordon", FIRST]).await?;
    cluster.world.plane.apply_yaml(&workload()).await?;
    let rollout = ["rollout", "status", "deployment/web", READY];
    cluster.kubectl(&rollout).await?;
    cluster.kubectl(&["uncordon", FIRST]).await?;
    let before = pods_on(cluster, SECOND).await?;
    let web = before
        .iter()
        .find_map(|(_, name)| name.starts_with("web-").then_some(name.clone()))
        .with_context(|| format!("it runs on another node: {before:?}"))?;
    ensure!(
        before.iter().any(|(namespace, _)| namespace == NAME),
        "no replica on the node: {before:?}"
    );

    let mark = cluster.world.plane.audit().mark()?;
    let drain = [
        "drain",
        SECOND,
        "--ignore-daemonsets",
        "--force",
        "--timeout=90s",
    ];
    let drain = async { cluster.kubectl(&drain).await };
    let meanwhile = async {
        cluster.world.node_reaches(SECOND, Phase::Draining).await?;
        // kubectl retries every 5 s.
        evicted(cluster, mark, &web, 429, 2).await?;
        let pods = pods_on(cluster, SECOND).await?;
        ensure!(pods.iter().any(|(_, name)| *name == web), "{pods:?}");
        cluster.world.node_reaches(SECOND, Phase::Draining).await?;
        cluster.kubectl(&["delete", "pdb", "web"]).await?;
        Ok(())
    };
    let (output, ()) = try_join!(drain, meanwhile)?;
    ensure!(output.contains("drained"), "{output}");
    evicted(cluster, mark, &web, 201, 1).await?;
    // The operator's replica was evicted too, and is replaced on the other node.
    for (_, name) in before.iter().filter(|(namespace, _)| namespace == NAME) {
        evicted(cluster, mark, name, 201, 1).await?;
    }
    cluster.rolled_out().await?;
    let left = pods_on(cluster, SECOND).await?;
    ensure!(left.is_empty(), "not drained: {left:?}");
    // A drained node is not updated yet.
    cluster.world.node_reaches(SECOND, Phase::Draining).await?;
    Ok(())
}

/// Waits until at least this many evictions of the pod were answered with this code.
async fn evicted(
    cluster: &Cluster,
    mark: AuditMark,
    pod: &str,
    code: u16,
    times: usize,
) -> Result<()> {
    let what = format!("{times} evictions of {pod} are answered with {code}");
    eventually(&what, SOON, async || {
        let entries = cluster.world.plane.audit().since(mark)?;
        let codes: Vec<u16> = entries
            .iter()
            .filter(|entry| entry.subresource == "eviction" && entry.name == pod)
            .map(|entry| entry.code)
            .collect();
        let found = codes.iter().filter(|found| **found == code).count();
        ensure!(found >= times, "{codes:?}");
        Ok(Some(()))
    })
    .await
}

/// Namespaces and names of the pods on a node.
async fn pods_on(cluster: &Cluster, node: &str) -> Result<Vec<(String, String)>> {
    let field = format!("--field-selector=spec.nodeName={node}");
    let pods = cluster.get(&["pods", "-A", &field]).await?;
    Ok(pods["items"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|pod| {
            let metadata = &pod["metadata"];
            let namespace = metadata["namespace"].as_str()?.to_owned();
            Some((namespace, metadata["name"].as_str()?.to_owned()))
        })
        .collect())
}
