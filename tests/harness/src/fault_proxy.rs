//! A proxy between an operator and its API server that breaks what passes through it.
//!
//! ```text
//!   operator ──TLS──► door ──► rules ──► gate ──TLS──► kube-apiserver, or another one: `move_to`
//!                              ▲                              │
//!                              └──────── answers, events ◄────┘
//! ```
//!
//! | Module | For |
//! |---|---|
//! | [`asked`] | what a request is about |
//! | [`rule`] | which fault strikes what, how often and for how long |
//! | `rules` | the rules that hold now; decides by the seed |
//! | `gate` | how many writes may pass |
//! | `connection` | one connection of the operator, and its own to the API server |
//! | `respond` | one request, and what becomes of its answer |
//! | `events` | the events of one watch |
//! | `answer` | answers that are made or changed here |
//!
//! The proxy shows the API server's own certificate, which the operator trusts. Bearer tokens pass, so RBAC and
//! the audit log are the real ones; client certificates cannot pass.
//!
//! Whether a rule strikes depends on the seed, on the rule, on what is asked for and on how often that was asked
//! before: not on the order in which requests about different things come in. So a seed repeats a run as closely
//! as two processes and a network can be repeated.
//!
//! Not done: HTTP/2, which the operator does not speak; faults below TLS other than those of the [`Door`].

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::net::TcpListener;
use tokio::sync::{broadcast, watch};
use tokio::task::{JoinHandle, JoinSet};

use self::connection::{Tls, serve};
use self::gate::Gate;
use self::respond::Recorded;
use self::rules::Rules;
use crate::control_plane::{ControlPlane, port};

mod answer;
pub mod asked;
mod connection;
mod events;
mod gate;
mod respond;
pub mod rule;
mod rules;

pub use self::asked::Asked;
pub use self::rule::{Fault, Rule};
pub use self::rules::RuleId;

/// How many cuts a watch may be behind before it is told that it missed some, and then it is cut as well.
const CUTS: usize = 64;

/// How long the port may be somebody else's after it was closed.
const REBIND: Duration = Duration::from_millis(20);

/// What happens to connections as a whole. Whatever it changes to, those that are served are closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    /// They are served.
    Open,
    /// Nobody listens.
    Refusing,
    /// They are accepted, and nobody says a word.
    Silent,
}

/// A running proxy; its drop ends it and closes all connections.
pub struct FaultProxy {
    shared: Arc<Shared>,
    accepting: JoinHandle<()>,
    address: String,
    target: String,
}

/// What all connections share.
pub(crate) struct Shared {
    rules: Arc<Rules>,
    gate: Gate,
    recorded: Recorded,
    /// Host and port of the API server.
    upstream: watch::Sender<String>,
    door: watch::Sender<Door>,
    /// The resource whose watches are cut.
    cuts: broadcast::Sender<String>,
    tls: Tls,
}

#[allow(
    clippy::must_use_candidate,
    reason = "a rule holds, or ends, whether or not somebody asks about it later"
)]
impl FaultProxy {
    /// Starts a proxy in front of the API server of `plane` that does nothing yet but to pass on.
    ///
    /// # Errors
    ///
    /// When the certificates cannot be read or there is no port.
    pub async fn start(plane: &ControlPlane, seed: u64) -> Result<Self> {
        let target = plane.url().trim_start_matches("https://").to_owned();
        let port = port::free_port()?;
        let address = format!("127.0.0.1:{port}");
        let shared = Arc::new(Shared {
            rules: Arc::new(Rules::new(seed)),
            gate: Gate::default(),
            recorded: Recorded::default(),
            upstream: watch::Sender::new(target.clone()),
            door: watch::Sender::new(Door::Open),
            cuts: broadcast::Sender::new(CUTS),
            tls: Tls::of(plane.certificates())?,
        });
        let listener = TcpListener::bind(&address)
            .await
            .with_context(|| format!("listening on {address}"))?;
        let accepting = tokio::spawn(accept(listener, address.clone(), Arc::clone(&shared)));
        Ok(Self {
            shared,
            accepting,
            address,
            target,
        })
    }

    /// A copy of `kubeconfig`, beside it, that leads to this proxy instead of the API server.
    ///
    /// # Errors
    ///
    /// When the file cannot be read or written.
    pub fn kubeconfig(&self, kubeconfig: &Path) -> Result<PathBuf> {
        let port = self.address.rsplit(':').next().unwrap_or_default();
        let path = kubeconfig.with_extension(format!("proxy-{port}.yaml"));
        let text = std::fs::read_to_string(kubeconfig)
            .with_context(|| format!("reading {}", kubeconfig.display()))?;
        crate::certificates::write_private(&path, &text.replace(&self.target, &self.address))?;
        Ok(path)
    }

    /// Lets a rule hold from now on. Of several the first one that strikes counts.
    pub fn add(&self, rule: Rule) -> RuleId {
        self.shared.rules.add(rule)
    }

    /// Ends a rule; how often it has struck.
    pub fn remove(&self, id: RuleId) -> u64 {
        self.shared.rules.remove(id)
    }

    /// How often a rule has struck; 0 once it has ended.
    #[must_use]
    pub fn struck(&self, id: RuleId) -> u64 {
        self.shared.rules.struck(id)
    }

    /// Ends every fault: the rules, the door, the gate. What is held up by a fault already stays so.
    pub fn heal(&self) {
        self.shared.rules.clear();
        self.shared.gate.open();
        self.door(Door::Open);
    }

    /// Opens or closes the door.
    pub fn door(&self, door: Door) {
        self.shared.door.send_if_modified(|now| {
            let is_new = *now != door;
            *now = door;
            is_new
        });
    }

    /// Closes every connection that is open.
    pub fn cut_connections(&self) {
        self.shared.door.send_modify(|_| {});
    }

    /// Closes the connections of all watches of a resource.
    pub fn cut_watches(&self, resource: &str) {
        // Without a watch nobody hears it.
        let _ = self.shared.cuts.send(resource.to_owned());
    }

    /// Leads to another API server, as in `https://127.0.0.1:20001`, and closes every connection.
    pub fn move_to(&self, url: &str) {
        let server = url.trim_start_matches("https://").to_owned();
        self.shared.upstream.send_replace(server);
        self.cut_connections();
    }

    /// Lets that many writes of these resources pass (of all, if none is named), and holds up the others. The
    /// answer to the last one is held up as well.
    pub fn allow_writes(&self, count: u64, resources: &[&str]) {
        self.shared.gate.allow(count, resources);
    }

    /// Lets all writes pass, also those that are held up.
    pub fn allow_all_writes(&self) {
        self.shared.gate.open();
    }

    /// Waits until the writes that were allowed are done and were accepted.
    pub async fn writes_spent(&self) {
        self.shared.gate.spent().await;
    }

    /// How many writes were accepted by the API server, of all resources.
    #[must_use]
    pub fn writes(&self) -> u64 {
        self.shared.gate.accepted()
    }

    /// Keeps the next list of a resource that comes in one page, for [`Fault::Replay`], instead of the one that
    /// was kept before.
    pub fn record(&self, resource: &str) {
        self.shared.recorded.want(resource);
    }

    /// Whether a list of the resource was kept.
    #[must_use]
    pub fn has_recorded(&self, resource: &str) -> bool {
        self.shared.recorded.of(resource).is_some()
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, address: String, shared: Arc<Shared>) {
    let mut listener = Some(listener);
    let mut door = shared.door.subscribe();
    // Ended with this task.
    let mut connections = JoinSet::new();
    // Stay silent also when the door is open again, as those to a machine that is gone.
    let mut silent = Vec::new();
    loop {
        let now = *door.borrow_and_update();
        if now == Door::Refusing {
            listener = None;
            if door.changed().await.is_err() {
                return;
            }
            continue;
        }
        let Some(open) = &listener else {
            listener = TcpListener::bind(&address).await.ok();
            if listener.is_none() {
                tokio::time::sleep(REBIND).await;
            }
            continue;
        };
        tokio::select! {
            changed = door.changed() => {
                if changed.is_err() {
                    return;
                }
            }
            Some(_) = connections.join_next() => {}
            accepted = open.accept() => match accepted {
                Ok((stream, _)) if now == Door::Silent => silent.push(stream),
                Ok((stream, _)) => {
                    connections.spawn(serve(stream, Arc::clone(&shared)));
                }
                Err(_) => tokio::time::sleep(REBIND).await,
            },
        }
    }
}
