//! The maximum throughput of the API server: the baseline for the operator.
//!
//! Writes insights of the same size and in the same way as the operator (a service account, 8 requests in
//! flight, the same client), but with precomputed requests and responses that are hardly read. No operator
//! runs meanwhile, as it would delete them.

use std::time::{Duration, Instant};

use anyhow::Result;
use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use http::Request;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use node_insights::api::insight::API_VERSION;
use node_insights_harness::eventually;
use serde::Deserialize;
use serde_json::{Value, json};

use super::bench::Bench;
use super::observer::{NODES, Observer};
use super::operator::ACCOUNT;
use super::pace::as_f64;
use super::report::{Report, Row, progress, thousands};

/// Requests in flight: as in the operator.
const IN_FLIGHT: usize = 8;
/// Objects: enough for a steady rate, and done in seconds.
const OBJECTS: usize = 2000;
/// Objects written before the measurement: connections are established, permissions are in effect.
const WARM_UP: usize = 100;
/// The service account that writes them.
const LIMITS_ACCOUNT: &str = "limits";

/// Requests per second, at the start of the run.
pub(crate) struct Limits {
    load: Load,
    creates: f64,
    puts: f64,
}

impl Limits {
    /// The least seconds that this many creates, each with a status PUT, take.
    pub(crate) fn creates_and_puts(&self, count: usize) -> f64 {
        as_f64(count) / self.creates + as_f64(count) / self.puts
    }

    /// How many statuses per second can be replaced now: the performance of the machine varies by the minute,
    /// and replacing an existing status costs the API server a comparison. Leaves nothing behind, and deletes
    /// nothing else.
    ///
    /// # Errors
    /// When the API server rejects a write.
    pub(crate) async fn replaced_now(&self, bench: &Bench) -> Result<f64> {
        let load = &self.load;
        let _observer = Observer::start(&bench.client, NODES).await?;
        let (_, created) = in_flight(0..OBJECTS, |index| load.create(index)).await?;
        let (_, versions) = load.put_all(&created, "Pending").await?;
        let (rate, _) = load.put_all(&versions, "Completed").await?;
        in_flight(0..OBJECTS, |index| load.delete(index)).await?;
        Ok(rate)
    }
}

/// Measures the limits, and leaves nothing behind.
///
/// # Errors
/// When the API server rejects a write.
pub(crate) async fn measure(bench: &Bench, report: &mut Report) -> Result<Limits> {
    progress("measuring the API server's own limit");
    let load = Load::new(bench).await?;
    // As in every row that is compared with it: a second watcher has a cost for the API server.
    let _observer = Observer::start(&bench.client, NODES).await?;
    let timeout = Duration::from_secs(30);
    eventually("the load's permissions", timeout, async || {
        load.create(0).await.map(Some)
    })
    .await?;
    let (_, warm) = in_flight(1..WARM_UP, |index| load.create(index)).await?;
    load.put_all(&warm, "Completed").await?;

    let (creates, versions) =
        in_flight(WARM_UP..WARM_UP + OBJECTS, |index| load.create(index)).await?;
    let (puts, _) = load.put_all(&versions, "Completed").await?;
    let (patches, _) = in_flight(WARM_UP..WARM_UP + OBJECTS, |index| load.patch(index)).await?;
    bench.delete_insights().await?;

    let limits = Limits {
        load,
        creates,
        puts,
    };
    let nodes = bench.nodes();
    let measured = format!(
        "{creates:.0} creates/s, {puts:.0} status PUTs/s, {patches:.0} status merge patches/s; {} creates and \
         PUTs: {:.1} s",
        thousands(nodes),
        limits.creates_and_puts(nodes)
    );
    report.add(
        "API server's own limit, 8 in flight",
        Ok(Row::plain(measured)),
    );
    Ok(limits)
}

#[derive(Deserialize)]
struct Written {
    metadata: WrittenMeta,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WrittenMeta {
    resource_version: String,
}

/// A client with a service account's token, and the requests that it sends.
struct Load {
    client: Client,
    request: kube::core::Request,
}

impl Load {
    async fn new(bench: &Bench) -> Result<Self> {
        let namespace = ACCOUNT.0;
        let account = json!({"name": LIMITS_ACCOUNT, "namespace": namespace});
        let name = json!({"name": "node-insights-limits"});
        let group = "rbac.authorization.k8s.io";
        let rules =
            json!([{"apiGroups": ["nodeinsights.dev"], "resources": ["*"], "verbs": ["*"]}]);
        let role = json!({"apiGroup": group, "kind": "ClusterRole", "name": name["name"]});
        let mut subject = account.clone();
        subject["kind"] = "ServiceAccount".into();
        let version = format!("{group}/v1");
        for object in [
            json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": account}),
            json!({"apiVersion": version, "kind": "ClusterRole", "metadata": name, "rules": rules}),
            json!({
                "apiVersion": version, "kind": "ClusterRoleBinding", "metadata": name,
                "roleRef": role, "subjects": [subject],
            }),
        ] {
            // JSON is YAML.
            bench.plane.apply_yaml(&object.to_string()).await?;
        }
        let path = bench
            .plane
            .service_account_kubeconfig(namespace, LIMITS_ACCOUNT)
            .await?;
        let kubeconfig = Kubeconfig::read_from(path)?;
        let options = KubeConfigOptions::default();
        let mut config = Config::from_custom_kubeconfig(kubeconfig, &options).await?;
        // As in the operator: failed requests are not retried implicitly.
        config.default_retry = false;
        Ok(Self {
            client: Client::try_from(config)?,
            request: kube::core::Request::new(format!("/apis/{API_VERSION}/{NODES}")),
        })
    }

    /// Creates an object; returns its index and its resource version.
    async fn create(&self, index: usize) -> Result<(usize, String)> {
        let body = serde_json::to_vec(&insight(index))?;
        let request = self.request.create(&PostParams::default(), body)?;
        Ok((index, self.write(request).await?))
    }

    /// Replaces the status of an object; returns its index and its resource version.
    async fn put(&self, index: usize, version: &str, phase: &str) -> Result<(usize, String)> {
        let mut object = insight(index);
        object["metadata"]["resourceVersion"] = version.into();
        object["status"] = status(index, phase);
        let (name, body) = (name(index), serde_json::to_vec(&object)?);
        let params = PostParams::default();
        let request = self
            .request
            .replace_subresource("status", &name, &params, body)?;
        Ok((index, self.write(request).await?))
    }

    /// Replaces the status of each, 8 in flight; returns the rate per second, and the resource versions.
    async fn put_all(
        &self,
        versions: &[(usize, String)],
        phase: &str,
    ) -> Result<(f64, Vec<(usize, String)>)> {
        in_flight(0..versions.len(), |at| {
            let (index, version) = &versions[at];
            self.put(*index, version, phase)
        })
        .await
    }

    async fn delete(&self, index: usize) -> Result<()> {
        let request = self
            .request
            .delete(&name(index), &DeleteParams::default())?;
        self.send(request).await.map(|_| ())
    }

    async fn patch(&self, index: usize) -> Result<()> {
        let patch = Patch::Merge(json!({"status": status(index, "Pending")}));
        let params = PatchParams::default();
        let name = name(index);
        let request = self
            .request
            .patch_subresource("status", &name, &params, &patch)?;
        self.send(request).await.map(|_| ())
    }

    /// Sends it; returns the resource version from the response, of which nothing else is read.
    async fn write(&self, request: Request<Vec<u8>>) -> Result<String> {
        let answer: Written = serde_json::from_str(&self.send(request).await?)?;
        Ok(answer.metadata.resource_version)
    }

    async fn send(&self, request: Request<Vec<u8>>) -> Result<String> {
        Ok(self.client.request_text(request).await?)
    }
}

/// Sends a request for each index, 8 in flight; returns the rate per second, and the responses.
async fn in_flight<T, F>(
    numbers: std::ops::Range<usize>,
    request: impl Fn(usize) -> F,
) -> Result<(f64, Vec<T>)>
where
    F: Future<Output = Result<T>>,
{
    let started = Instant::now();
    let answers: Vec<T> = stream::iter(numbers)
        .map(request)
        .buffer_unordered(IN_FLIGHT)
        .try_collect()
        .await?;
    let rate = as_f64(answers.len()) / started.elapsed().as_secs_f64();
    Ok((rate, answers))
}

fn name(index: usize) -> String {
    format!("worker-limit-{index:05}")
}

/// An insight as the operator creates it: owned by a node, without a status.
fn insight(index: usize) -> Value {
    let owner = json!({
        "apiVersion": "v1", "kind": "Node", "name": name(index),
        "uid": format!("7d3c1a52-0a4e-4c0e-9a51-{index:012}"),
    });
    json!({
        "apiVersion": API_VERSION,
        "kind": "NodeProgressInsight",
        "metadata": {"name": name(index), "ownerReferences": [owner]},
    })
}

/// The status of an outdated node, as large as a real one.
fn status(index: usize, phase: &str) -> Value {
    let now = jiff::Timestamp::now()
        .strftime("%Y-%m-%dT%H:%M:%SZ")
        .to_string();
    let condition = |kind: &str, status: &str, reason: &str, message: &str| json!({"type": kind, "status": status, "reason": reason, "message": message, "lastTransitionTime": now});
    let waits = "The node is outdated and waits for its turn";
    json!({
        "name": name(index),
        "poolRef": {"group": "machineconfiguration.openshift.io", "resource": "machineconfigpools", "name": "worker"},
        "provider": "OpenShift",
        "scope": "WorkerPool",
        "phase": phase,
        "phaseStartTime": now,
        "updateKind": "Version",
        "version": "4.19.14",
        "desiredVersion": "4.20.3",
        "desiredVersionSource": "ClusterVersion",
        "message": waits,
        "bootID": "2f1f6e3a-6f0e-4f43-8a63-0d1f2a3b4c5d",
        "conditions": [
            condition("Updating", "False", phase, waits),
            condition("Available", "True", "AsExpected", ""),
            condition("Degraded", "False", "AsExpected", ""),
        ],
        "timeline": [{"phase": phase, "startTime": now}],
    })
}
