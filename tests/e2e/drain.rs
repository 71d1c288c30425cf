//! A real drain: `kubectl drain` asks for evictions, and a `PodDisruptionBudget` refuses one.

use anyhow::{Context as _, Result, ensure};
use futures::try_join;
use node_insights::api::types::Phase;
use node_insights_harness::{AuditMark, eventually};

use crate::cluster::{Cluster, FIRST, READY, SECOND};
use crate::helm::NAME;
use crate::support::SOON;
use crate::toolbox;

/// What is to be moved, and may not be: its pod can run on the second node only, until that is cordoned.
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
    // It has nowhere else to go, at first.
    cluster.kubectl(&["cordon", FIRST]).await?;
    cluster.world.plane.apply_yaml(&workload()).await?;
    let rollout = ["rollout", "status", "deployment/web", READY];
    cluster.kubectl(&rollout).await?;
    cluster.kubectl(&["uncordon", FIRST]).await?;
    let before = pods_on(cluster, SECOND).await?;
    let web = before
        .iter()
        .find_map(|(_, name)| name.starts_with("web-").then_some(name.clone()))
        .with_context(|| format!("it runs elsewhere: {before:?}"))?;
    ensure!(
        before.iter().any(|(namespace, _)| namespace == NAME),
        "no replica is there: {before:?}"
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
        // kubectl asks again every 5 s.
        evicted(cluster, mark, &web, 429, 2).await?;
        let pods = pods_on(cluster, SECOND).await?;
        ensure!(pods.iter().any(|(_, name)| *name == web), "{pods:?}");
        cluster.world.node_reaches(SECOND, Phase::Draining).await?;
        cluster.kubectl(&["delete", "pdb", "web"]).await?;
        Ok(())
    };
    let (said, ()) = try_join!(drain, meanwhile)?;
    ensure!(said.contains("drained"), "{said}");
    evicted(cluster, mark, &web, 201, 1).await?;
    // The operator's replica there was evicted too, and has come up elsewhere.
    for (_, name) in before.iter().filter(|(namespace, _)| namespace == NAME) {
        evicted(cluster, mark, name, 201, 1).await?;
    }
    cluster.rolled_out().await?;
    let left = pods_on(cluster, SECOND).await?;
    ensure!(left.is_empty(), "not drained: {left:?}");
    // Drained is not updated.
    cluster.world.node_reaches(SECOND, Phase::Draining).await?;
    Ok(())
}

/// Waits until evictions of this pod were answered so at least so many times.
async fn evicted(
    cluster: &Cluster,
    mark: AuditMark,
    pod: &str,
    code: u16,
    times: usize,
) -> Result<()> {
    let what = format!("{times} evictions of {pod} are answered {code}");
    eventually(&what, SOON, async || {
        let entries = cluster.world.plane.audit().since(mark)?;
        let answers: Vec<u16> = entries
            .iter()
            .filter(|entry| entry.subresource == "eviction" && entry.name == pod)
            .map(|entry| entry.code)
            .collect();
        let found = answers.iter().filter(|answer| **answer == code).count();
        ensure!(found >= times, "they were {answers:?}");
        Ok(Some(()))
    })
    .await
}

/// Namespace and name of the pods on a node.
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
