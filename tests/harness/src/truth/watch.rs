//! Watches the insights of an API server and lets the verifier compare them with the truth, all the time.

use std::pin::pin;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use futures::TryStreamExt;
use kube::api::{Api, DynamicObject};
use kube::core::{ApiResource, GroupVersionKind};
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Client, ResourceExt};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;

use super::{Truth, Verifier};

/// How often the verifier looks at what is shown: a twentieth of what an insight may be late.
const LOOK: Duration = Duration::from_millis(50);

/// How long the verifier may take to hear from the API server at the start.
const START: Duration = Duration::from_secs(30);

/// A verifier at work. It ends with [`Watch::finish`].
pub struct Watch {
    stop: oneshot::Sender<()>,
    verifier: JoinHandle<Result<Verifier>>,
}

/// What a verifier has seen.
#[derive(Debug)]
pub struct Report {
    verifier: Verifier,
    ended: Instant,
}

impl Watch {
    /// Watches the insights of the server that `client` talks to; returns when it knows all that there are.
    ///
    /// # Errors
    /// When the server does not serve them.
    pub async fn start(client: &Client, truth: &Truth) -> Result<Self> {
        let (stop, stopped) = oneshot::channel();
        let (ready, is_ready) = oneshot::channel();
        let verifier = tokio::spawn(verifier(client.clone(), truth.clone(), ready, stopped));
        let started = tokio::time::timeout(START, is_ready).await;
        if !matches!(started, Ok(Ok(()))) {
            verifier.abort();
            bail!("The verifier cannot watch the insights: are the CRDs there?");
        }
        Ok(Self { stop, verifier })
    }

    /// Ends the watch; returns what was seen.
    ///
    /// # Errors
    /// When the watch had ended before.
    pub async fn finish(self) -> Result<Report> {
        // One that has ended says why below.
        let _ = self.stop.send(());
        let verifier = self.verifier.await.context("The verifier panicked")??;
        let ended = Instant::now();
        Ok(Report { verifier, ended })
    }
}

impl Report {
    /// Everything that was wrong or was not shown, as text.
    #[must_use]
    pub fn complaints(&self) -> Vec<String> {
        let violations = self.verifier.violations().iter().map(ToString::to_string);
        violations.chain(self.verifier.missed(self.ended)).collect()
    }

    /// The phases that the insight of a node showed, in order.
    #[must_use]
    pub fn passed(&self, node: &str) -> Vec<&str> {
        self.verifier.passed(node)
    }
}

async fn verifier(
    client: Client,
    truth: Truth,
    ready: oneshot::Sender<()>,
    mut stopped: oneshot::Receiver<()>,
) -> Result<Verifier> {
    let watch = |kind: &str, plural: &str| {
        let gvk = GroupVersionKind::gvk("nodeinsights.dev", "v1alpha1", kind);
        let resource = ApiResource::from_gvk_with_plural(&gvk, plural);
        let api: Api<DynamicObject> = Api::all_with(client.clone(), &resource);
        watcher(api, watcher::Config::default())
    };
    let mut nodes = pin!(watch("NodeProgressInsight", "nodeprogressinsights"));
    let mut pools = pin!(watch("PoolProgressInsight", "poolprogressinsights"));
    let mut verifier = Verifier::new(&truth, Instant::now());
    let mut ready = Some(ready);
    let mut looks = tokio::time::interval(LOOK);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            // What is shown comes before what is wrong with it.
            biased;
            event = nodes.try_next() => match event.context("Watching the insights of nodes")? {
                Some(Event::Apply(insight) | Event::InitApply(insight)) => {
                    let status = &insight.data["status"];
                    verifier.node_has(&insight.name_any(), status, Instant::now());
                }
                Some(Event::Delete(insight)) => {
                    verifier.node_is_removed(&insight.name_any(), Instant::now());
                }
                Some(Event::InitDone) => {
                    // Whoever started the verifier may have stopped waiting.
                    let _ = ready.take().map(|ready| ready.send(()));
                }
                Some(Event::Init) => {}
                None => bail!("The watch of the insights has ended"),
            },
            event = pools.try_next() => match event.context("Watching the insights of pools")? {
                Some(Event::Apply(insight) | Event::InitApply(insight)) => {
                    let status = &insight.data["status"];
                    verifier.pool_has(&insight.name_any(), status);
                }
                Some(Event::Delete(_) | Event::Init | Event::InitDone) => {}
                None => bail!("The watch of the insights has ended"),
            },
            _ = looks.tick() => verifier.look(Instant::now()),
            _ = &mut stopped => {
                verifier.look(Instant::now());
                return Ok(verifier);
            }
        }
    }
}
