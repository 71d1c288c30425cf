//! The second watcher: says when a change of an insight is visible to somebody else.
//!
//! It reads of each event only what is asked for here, and notes the time as soon as the event has
//! arrived, so that it takes little of the processor that it shares with what is measured.

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

/// An insight, as it was seen.
#[derive(Debug)]
pub(crate) struct Sighting {
    /// Its name.
    pub(crate) name: String,
    /// Its status; none right after its creation.
    pub(crate) status: Option<SeenStatus>,
    /// When it arrived.
    pub(crate) at: Instant,
}

/// What is read of a status.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SeenStatus {
    /// Of a node only.
    pub(crate) phase: Option<Phase>,
    /// The version that it shall run.
    pub(crate) desired_version: Option<String>,
    #[serde(default)]
    conditions: Vec<SeenCondition>,
}

impl SeenStatus {
    /// Whether a condition has this reason.
    pub(crate) fn has_reason(&self, reason: &str) -> bool {
        self.conditions
            .iter()
            .any(|condition| condition.reason == reason)
    }
}

#[derive(Debug, Clone, Deserialize)]
struct SeenCondition {
    // Of a Node's condition it may be missing.
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
    // A list has none.
    #[serde(default)]
    name: String,
    resource_version: String,
}

/// A running watch of the insights of one kind; ended by its drop.
pub(crate) struct Witness {
    task: JoinHandle<()>,
    sightings: UnboundedReceiver<Result<Sighting>>,
}

impl Witness {
    /// Sees every change from now on.
    ///
    /// # Errors
    /// When the API server does not answer.
    pub(crate) async fn start(client: &Client, plural: &str) -> Result<Self> {
        Self::watch(client, &format!("/apis/{API_VERSION}/{plural}")).await
    }

    /// Sees every change of a Node from now on.
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
        let (sender, sightings) = mpsc::unbounded_channel();
        let client = client.clone();
        let task = tokio::spawn(async move {
            let ended = watch_until_the_end(&client, request, &sender).await;
            let error = ended.err().unwrap_or_else(|| anyhow!("it has ended"));
            // Nobody may be there any more to hear it.
            let _ = sender.send(Err(error.context("the second watcher's watch")));
        });
        Ok(Self { task, sightings })
    }

    /// The next insight that has changed, at the latest after `patience`.
    ///
    /// # Errors
    /// When none comes, or the watch has ended.
    pub(crate) async fn next(&mut self, patience: Duration) -> Result<Sighting> {
        let next = tokio::time::timeout(patience, self.sightings.recv()).await;
        next.with_context(|| format!("no change of an insight was seen for {patience:?}"))?
            .context("the second watcher is gone")?
    }

    /// What has arrived by now and was not yet looked at.
    ///
    /// # Errors
    /// When the watch has ended.
    pub(crate) fn arrived(&mut self) -> Result<Vec<Sighting>> {
        std::iter::from_fn(|| self.sightings.try_recv().ok()).collect()
    }

    /// Waits until `count` insights have been seen with such a status, and returns when the last one
    /// arrived.
    ///
    /// # Errors
    /// When they have not come within `patience`.
    pub(crate) async fn until(
        &mut self,
        count: usize,
        patience: Duration,
        is_so: impl Fn(&SeenStatus) -> bool,
    ) -> Result<Instant> {
        let deadline = Instant::now() + patience;
        let mut seen = HashSet::new();
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let sighting = self.next(left).await.with_context(|| {
                let so_far = seen.len();
                format!(
                    "waited {patience:?}, and {so_far} of {count} insights are as they shall be"
                )
            })?;
            if sighting.status.as_ref().is_some_and(&is_so) {
                seen.insert(sighting.name);
            }
            if seen.len() == count {
                return Ok(sighting.at);
            }
        }
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn watch_until_the_end(
    client: &Client,
    request: Request<Vec<u8>>,
    sender: &UnboundedSender<Result<Sighting>>,
) -> Result<()> {
    let mut events = pin!(client.request_events::<Seen>(request).await?);
    while let Some(event) = events.try_next().await? {
        let at = Instant::now();
        match event {
            WatchEvent::Added(seen) | WatchEvent::Modified(seen) => {
                let Seen { metadata, status } = seen;
                let name = metadata.name;
                sender.send(Ok(Sighting { name, status, at }))?;
            }
            WatchEvent::Error(status) => bail!("{}", status.message),
            WatchEvent::Deleted(_) | WatchEvent::Bookmark(_) => {}
        }
    }
    Ok(())
}
