//! A proxy between an operator and its API server that injects faults.
//!
//! ```text
//!   operator ──TLS──► door ──► rules ──► gate ──TLS──► kube-apiserver, or another one: `move_to`
//!                              ▲                              │
//!                              └─────── responses, events ◄───┘
//! ```
//!
//! | Module | For |
//! |---|---|
//! | [`request_info`] | verb, resource and name of a request |
//! | [`rule`] | which fault hits which requests, how often and for how long |
//! | `rules` | the active rules; decides by the seed |
//! | `gate` | how many writes may pass |
//! | `connection` | one connection of the operator, and its own to the API server |
//! | `respond` | one request and its response |
//! | `events` | the events of one watch |
//! | `response` | responses that the proxy generates or changes |
//!
//! The proxy presents the API server's own certificate, which the operator trusts. Bearer tokens pass through, so
//! RBAC and the audit log are real; client certificates cannot pass.
//!
//! Whether a rule hits depends on the seed, on the rule, on the verb and resource of the request and on how many of
//! the same came before: not on the order of unrelated requests. So a seed reproduces a run as closely as two
//! processes and a network can be reproduced.
//!
//! Not supported: HTTP/2, which the operator does not speak; faults below TLS other than those of the [`Door`].

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

mod connection;
mod events;
mod gate;
pub mod request_info;
mod respond;
mod response;
pub mod rule;
mod rules;

pub use self::request_info::RequestInfo;
pub use self::rule::{Fault, Rule};
pub use self::rules::RuleId;

/// How many cuts a watch may lag behind; one that lags further is cut as well.
const CUTS: usize = 64;

/// Pause before the port is bound again: another process may have taken it while it was closed.
const REBIND: Duration = Duration::from_millis(20);

/// How connections are treated as a whole. Every change closes those that are open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    /// They are served.
    Open,
    /// They are refused: nothing listens.
    Refusing,
    /// They are accepted and never answered.
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
    reason = "a rule is added or removed whether or not its result is used"
)]
impl FaultProxy {
    /// Starts a proxy in front of the API server of `plane` that only forwards, until a rule is added.
    ///
    /// # Errors
    ///
    /// When the certificates cannot be read or no port is free.
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

    /// Writes a copy of `kubeconfig`, beside it, that points to this proxy instead of the API server.
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

    /// Adds a rule. If several match, the first one that hits applies.
    pub fn add(&self, rule: Rule) -> RuleId {
        self.shared.rules.add(rule)
    }

    /// Removes a rule; returns how often it has hit.
    pub fn remove(&self, id: RuleId) -> u64 {
        self.shared.rules.remove(id)
    }

    /// How often a rule has hit; 0 once it is removed.
    #[must_use]
    pub fn hits(&self, id: RuleId) -> u64 {
        self.shared.rules.hits(id)
    }

    /// Ends every fault: removes all rules, opens the door and the gate. Requests that a fault already holds up stay
    /// held up.
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
        // Without a watch there is no receiver.
        let _ = self.shared.cuts.send(resource.to_owned());
    }

    /// Forwards to another API server, as in `https://127.0.0.1:20001`, and closes every connection.
    pub fn move_to(&self, url: &str) {
        let server = url.trim_start_matches("https://").to_owned();
        self.shared.upstream.send_replace(server);
        self.cut_connections();
    }

    /// Lets this many writes of these resources pass (of all, if none is named), and holds up the rest. The response
    /// to the last one is held up as well.
    pub fn allow_writes(&self, count: u64, resources: &[&str]) {
        self.shared.gate.allow(count, resources);
    }

    /// Lets all writes pass, also those that are held up.
    pub fn allow_all_writes(&self) {
        self.shared.gate.open();
    }

    /// Waits until all the allowed writes have succeeded.
    pub async fn writes_spent(&self) {
        self.shared.gate.spent().await;
    }

    /// How many writes the API server has accepted, of all resources.
    #[must_use]
    pub fn writes(&self) -> u64 {
        self.shared.gate.accepted()
    }

    /// Records the next list of a resource that fits one page, for [`Fault::Replay`]; replaces an earlier recording.
    pub fn record(&self, resource: &str) {
        self.shared.recorded.request(resource);
    }

    /// Whether a list of the resource was recorded.
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
    // They stay silent even when the door is open again, like connections to a machine that is gone.
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
