//! The ports, through the Service and with an enforced `NetworkPolicy`.

use anyhow::{Context as _, Result, ensure};
use node_insights_harness::eventually;

use crate::cluster::Cluster;
use crate::helm::{NAME, chart};
use crate::node::CONTROL_PLANE;
use crate::support::SOON;
use crate::toolbox::{Answer, Toolbox};

/// A server other than the API server: the kubelet of the first node.
const KUBELET: &str = "https://10.90.0.2:10250/healthz";

pub async fn metrics_need_a_token(cluster: &Cluster) -> Result<()> {
    cluster
        .kubectl(&["create", "namespace", "monitoring"])
        .await?;
    let pod = Toolbox::start(cluster, "monitoring", "inside", "{}").await?;
    let url = metrics_url(cluster).await?;
    let prometheus = token(cluster, "monitoring", "prometheus").await?;
    let nobody = token(cluster, "monitoring", "nobody").await?;
    let role = "--clusterrole=node-insights-metrics-reader";
    let account = "--serviceaccount=monitoring:prometheus";
    let bind = ["create", "clusterrolebinding", "prometheus", role, account];
    cluster.kubectl(&bind).await?;
    for (token, answer) in [
        (None, 401),
        (Some("nonsense"), 401),
        (Some(nobody.as_str()), 403),
        (Some(prometheus.as_str()), 200),
    ] {
        let got = pod.ask(cluster, &url, token).await?;
        ensure!(
            got == Answer::Status(answer),
            "{got} instead of {answer} with the token {token:?}"
        );
    }
    Ok(())
}

pub async fn the_network_policy_is_enforced(cluster: &Cluster) -> Result<()> {
    let inside = Toolbox::start(cluster, "monitoring", "inside", "{}").await?;
    let outside = Toolbox::start(cluster, "default", "outside", "{}").await?;
    let labels =
        "{app.kubernetes.io/name: node-insights, app.kubernetes.io/instance: node-insights}";
    let like_the_operator = Toolbox::start(cluster, NAME, "like-the-operator", labels).await?;
    let url = metrics_url(cluster).await?;

    // Both pods run and reach what the policy allows: otherwise the checks below would prove nothing.
    for pod in [&inside, &outside] {
        let got = pod.ask(cluster, &url, None).await?;
        ensure!(got == Answer::Status(401), "{got}");
    }
    cluster.helm.release(
        "upgrade",
        &[
            &chart(),
            "--wait",
            "--timeout",
            "90s",
            "--set-json",
            r#"networkPolicy.metricsFrom=[{"namespaceSelector":{"matchLabels":{"kubernetes.io/metadata.name":"monitoring"}}}]"#,
        ],
    )?;
    eventually("the outside pod is blocked", SOON, async || {
        let got = outside.ask(cluster, &url, None).await?;
        ensure!(matches!(got, Answer::None(_)), "{got}");
        Ok(Some(()))
    })
    .await?;
    let got = inside.ask(cluster, &url, None).await?;
    ensure!(
        got == Answer::Status(401),
        "an allowed client is blocked: {got}"
    );

    // A pod with the operator's labels has its egress: to the API server and nothing else.
    let service = "https://10.96.0.1/livez";
    let address = format!("https://{CONTROL_PLANE}:6443/livez");
    for url in [service, &address] {
        let got = like_the_operator.ask(cluster, url, None).await?;
        ensure!(matches!(got, Answer::Status(_)), "{url}: {got}");
    }
    let got = outside.ask(cluster, KUBELET, None).await?;
    ensure!(
        got == Answer::Status(401),
        "the kubelet does not answer: {got}"
    );
    let got = like_the_operator.ask(cluster, KUBELET, None).await?;
    ensure!(
        matches!(got, Answer::None(_)),
        "it reached a kubelet: {got}"
    );
    let pod = [
        "delete",
        "pod",
        "-n",
        NAME,
        "like-the-operator",
        "--wait=false",
    ];
    cluster.kubectl(&pod).await?;
    Ok(())
}

/// Uses the Service's address, as there is no DNS here.
async fn metrics_url(cluster: &Cluster) -> Result<String> {
    let service = cluster
        .get(&["service", "-n", NAME, "node-insights"])
        .await?;
    let address = service["spec"]["clusterIP"].as_str();
    Ok(format!(
        "https://{}:8443/metrics",
        address.context("no address")?
    ))
}

/// Creates an account; returns a token of it.
async fn token(cluster: &Cluster, namespace: &str, account: &str) -> Result<String> {
    let create = ["create", "serviceaccount", "-n", namespace, account];
    cluster.kubectl(&create).await?;
    let create = ["create", "token", "-n", namespace, account];
    Ok(cluster.kubectl(&create).await?.trim().to_owned())
}
