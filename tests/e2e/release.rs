//! The release is upgraded, rolled back and uninstalled, with running pods.

use anyhow::{Context as _, Result, ensure};
use node_insights_harness::eventually;
use serde_json::Value;

use crate::cluster::Cluster;
use crate::helm::{NAME, chart};
use crate::support::SOON;

const WAIT: [&str; 3] = ["--wait", "--timeout", "90s"];

pub async fn an_upgrade(cluster: &Cluster) -> Result<()> {
    let before = cluster.replicas().await?;
    let set = [&*chart(), "--reuse-values", "--set", "concurrency=4"];
    cluster
        .helm
        .release("upgrade", &[&set[..], &WAIT].concat())?;
    let after = cluster.replicas().await?;
    ensure!(
        !after.iter().any(|replica| before.contains(replica)),
        "not replaced: {before:?} {after:?}"
    );
    has_flag(cluster, "--concurrency=4").await?;
    cluster.is_spread().await?;
    cluster.another_leads("", SOON).await.map(drop)
}

pub async fn a_rollback(cluster: &Cluster) -> Result<()> {
    cluster.helm.release("rollback", &WAIT)?;
    has_flag(cluster, "--concurrency=8").await?;
    cluster.another_leads("", SOON).await.map(drop)
}

pub async fn an_uninstall(cluster: &Cluster) -> Result<()> {
    let insights = uids(cluster).await?;
    ensure!(insights.len() == 4, "two nodes and two pools: {insights:?}");
    cluster.helm.release("uninstall", &WAIT)?;
    let label = "app.kubernetes.io/instance=node-insights";
    let kinds = "deployments,replicasets,pods,services,serviceaccounts,networkpolicies,poddisruptionbudgets,\
                 roles,rolebindings,clusterroles,clusterrolebindings";
    // Helm does not wait for the pods, which terminate after their Deployment.
    eventually("nothing of the release is left", SOON, async || {
        let get = ["get", kinds, "-n", NAME, "-l", label, "-o", "name"];
        let left = cluster.kubectl(&get).await?;
        ensure!(left.is_empty(), "{left}");
        Ok(Some(()))
    })
    .await?;
    ensure!(uids(cluster).await? == insights, "insights have changed");
    Ok(())
}

/// Checks that the operator's pods have this argument.
async fn has_flag(cluster: &Cluster, flag: &str) -> Result<()> {
    let label = "app.kubernetes.io/component=operator";
    let pods = cluster.get(&["pods", "-n", NAME, "-l", label]).await?;
    let pods = pods["items"].as_array().context("no list")?;
    let alive = pods
        .iter()
        .filter(|pod| pod["metadata"]["deletionTimestamp"].is_null());
    for pod in alive {
        let args = &pod["spec"]["containers"][0]["args"];
        let has = args
            .as_array()
            .is_some_and(|args| args.contains(&Value::from(flag)));
        ensure!(has, "no {flag} in {args}");
    }
    Ok(())
}

/// The UIDs of all insights.
async fn uids(cluster: &Cluster) -> Result<Vec<String>> {
    let insights = cluster.get(&["npi,ppi"]).await?;
    let uid = |insight: &Value| insight["metadata"]["uid"].as_str().map(str::to_owned);
    Ok(insights["items"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(uid)
        .collect())
}
