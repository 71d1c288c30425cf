//! The second watcher: records when a change of an insight is visible to another client.
//!
//! It parses only the needed fields of each event, and records the time as soon as the event arrives, so that
//! it uses little of the CPU that it shares with what is measured.

use std::collections::HashSet;
use std::pin::pin;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail};
use futures::TryStreamExt;
use http::Request;
use kube::Client;
use kube::core::WatchEvent;
use node_insights::api::insight::API_VERSION;
use node_insights::api::types::Phase;
use serde::Deserialize;
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};
use tokio::task::JoinHandle;

/// Insights of nodes, as their URL names them.
pub(crate) const NODES: &str = "nodeprogressinsights";
/// Insights of pools.
pub(crate) const POOLS: &str = "poolprogressinsights";

/// An observed insight.
#[derive(Debug)]
pub(crate) struct Observation {
    /// Its name.
    pub(crate) name: String,
    /// Its status; none right after its creation.
    pub(crate) status: Option<SeenStatus>,
    /// When it arrived.
    pub(crate) at: Instant,
}

/// The parsed fields of a status.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SeenStatus {
    /// Only for a node.
    pub(crate) phase: Option<Phase>,
    /// The desired version.
    pub(crate) desired_version: Option<String>,
    #[serde(default)]
    conditions: Vec<SeenCondition>,
    drain: Option<SeenDrain>,
}

impl SeenStatus {
    /// How many pods have to leave the node, if it is drained.
    pub(crate) fn pods_left(&self) -> Option<usize> {
        self.drain.as_ref()?.pods_left
    }

    /// Whether a condition has this reason.
    pub(crate) fn has_reason(&self, reason: &str) -> bool {
        self.conditions
            .iter()
            .any(|condition| condition.reason == reason)
    }
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct SeenDrain {
    pods_left: Option<usize>,
}

#[derive(Debug, Clone, Deserialize)]
struct SeenCondition {
    // May be missing in a condition of a Node.
    #[serde(default)]
    reason: String,
}

#[derive(Clone, Deserialize)]
struct Seen {
    metadata: SeenMeta,
    status: Option<SeenStatus>,
}

#[derive(Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct SeenMeta {
    // Missing for a list.
    #[serde(default)]
    name: String,
    resource_version: String,
}

/// A running watch of the insights of one kind; its drop ends it.
pub(crate) struct Observer {
    task: JoinHandle<()>,
    observations: UnboundedReceiver<Result<Observation>>,
}

impl Observer {
    /// Observes every change from now on.
    ///
    /// # Errors
    /// When the API server does not answer.
    pub(crate) async fn start(client: &Client, plural: &str) -> Result<Self> {
        Self::watch(client, &format!("/apis/{API_VERSION}/{plural}")).await
    }

    /// Observes every change of a Node from now on.
    ///
    /// # Errors
    /// When the API server does not answer.
    pub(crate) async fn of_nodes(client: &Client) -> Result<Self> {
        Self::watch(client, "/api/v1/nodes").await
    }

    async fn watch(client: &Client, url: &str) -> Result<Self> {
        let list = Request::get(format!("{url}?limit=1")).body(Vec::new())?;
        let now: Seen = client.request(list).await?;
        let version = now.metadata.resource_version;
        // An hour: no measurement takes that long.
        let watch = format!("{url}?watch=1&resourceVersion={version}&timeoutSeconds=3600");
        let request = Request::get(watch).body(Vec::new())?;
        let (sender, observations) = mpsc::unbounded_channel();
        let client = client.clone();
        let task = tokio::spawn(async move {
            let ended = watch_until_the_end(&client, request, &sender).await;
            let error = ended.err().unwrap_or_else(|| anyhow!("it has ended"));
            // The receiver may be gone.
            let _ = sender.send(Err(error.context("the second watcher's watch")));
        });
        Ok(Self { task, observations })
    }

    /// The next observation.
    ///
    /// # Errors
    /// When there is none within `timeout`, or the watch has ended.
    pub(crate) async fn next(&mut self, timeout: Duration) -> Result<Observation> {
        let next = tokio::time::timeout(timeout, self.observations.recv()).await;
        next.with_context(|| format!("no change of an insight was observed for {timeout:?}"))?
            .context("the second watcher is gone")?
    }

    /// The observations that have arrived and were not yet returned.
    ///
    /// # Errors
    /// When the watch has ended.
    pub(crate) fn arrived(&mut self) -> Result<Vec<Observation>> {
        std::iter::from_fn(|| self.observations.try_recv().ok()).collect()
    }

    /// Waits until `count` insights were observed with a status that meets the condition, and returns when the
    /// last one arrived.
    ///
    /// # Errors
    /// When that does not happen within `timeout`.
    pub(crate) async fn until(
        &mut self,
        count: usize,
        timeout: Duration,
        is_expected: impl Fn(&SeenStatus) -> bool,
    ) -> Result<Instant> {
        let deadline = Instant::now() + timeout;
        let mut seen = HashSet::new();
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let observation = self.next(left).await.with_context(|| {
                let so_far = seen.len();
                format!("after {timeout:?} only {so_far} of {count} insights are as expected")
            })?;
            if observation.status.as_ref().is_some_and(&is_expected) {
                seen.insert(observation.name);
            }
            if seen.len() == count {
                return Ok(observation.at);
            }
        }
    }
}

impl Drop for Observer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn watch_until_the_end(
    client: &Client,
    request: Request<Vec<u8>>,
    sender: &UnboundedSender<Result<Observation>>,
) -> Result<()> {
    let mut events = pin!(client.request_events::<Seen>(request).await?);
    while let Some(event) = events.try_next().await? {
        let at = Instant::now();
        match event {
            WatchEvent::Added(seen) | WatchEvent::Modified(seen) => {
                let Seen { metadata, status } = seen;
                let name = metadata.name;
                sender.send(Ok(Observation { name, status, at }))?;
            }
            WatchEvent::Error(status) => bail!("{}", status.message),
            WatchEvent::Deleted(_) | WatchEvent::Bookmark(_) => {}
        }
    }
    Ok(())
}
