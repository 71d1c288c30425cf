//! The HTTP ports: one with `/metrics` and `/operations`, by HTTPS in a pod; one with `/livez` and `/readyz`;
//! and one with `/debug`.
//!
//! Owns nothing but connections, whose number and time are limited (see `connections`). All answer before there is a
//! centre to ask, and say that it is not there yet. Who may do what is decided by [`Access`]; which routes ask it,
//! `operations` says.

mod answer;
mod connections;
mod debug;
pub mod engine;
mod operations;
mod request;
pub mod tls;
mod unread;

#[cfg(any(test, fuzzing))]
pub(crate) use request::read as read_request;

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::http::{Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use self::answer::{Refusal, no_such_method, no_such_path};
use self::engine::{CurrentEngine, Engine};
use self::request::Scraper;
use self::tls::Certificate;
use crate::kubernetes::access::Access;
use crate::registry::operations::Operations;
use crate::telemetry::health::Health;
use crate::telemetry::metrics::{Metrics, PortName};

/// What the port shows and asks.
#[derive(Clone)]
pub struct Port {
    /// Shown at `/metrics`.
    pub metrics: Arc<Metrics>,
    /// Shown and cancelled at `/operations`.
    pub operations: Operations,
    /// Starts operations.
    pub engine: CurrentEngine,
    /// Says who may do what; without it, nobody may.
    pub access: watch::Receiver<Option<Arc<Access>>>,
}

/// What every handler has at hand.
#[derive(Clone)]
struct Shared {
    port: Port,
    /// It speaks HTTPS, and asks who reads the metrics.
    is_secured: bool,
    /// The port closes.
    stop: CancellationToken,
}

/// What the kernel keeps of an answer that is not read, in bytes; it takes twice as much. Without a limit it is
/// up to 4 MiB a connection, which counts as memory of the pod.
const SEND_BUFFER: u32 = 32 << 10;
/// What the kernel keeps of what is sent and not read.
const RECEIVE_BUFFER: u32 = 16 << 10;
/// How many connections the kernel makes before they are accepted, when there is a rush. One that it does
/// not make tries again a second later, which is too late for a probe.
const BACKLOG: u32 = 1024;

/// A port that is open, and may be connected to.
pub struct Listener {
    socket: TcpListener,
    /// What it is called in metrics and logs.
    name: PortName,
    /// How many connections it has at most.
    cap: usize,
    metrics: Arc<Metrics>,
}

impl Listener {
    /// Opens a port, inside of a runtime; port 0 is a free one. `cap` is how many connections it has at most,
    /// one at least.
    ///
    /// # Errors
    /// When the address is not of this machine, or taken.
    pub fn bind(
        address: SocketAddr,
        name: PortName,
        cap: usize,
        metrics: Arc<Metrics>,
    ) -> std::io::Result<Self> {
        let socket = match address {
            SocketAddr::V4(_) => TcpSocket::new_v4(),
            SocketAddr::V6(_) => TcpSocket::new_v6(),
        }?;
        // Else a port that was just closed could not be opened for a minute.
        socket.set_reuseaddr(true)?;
        // Each connection has the same.
        socket.set_send_buffer_size(SEND_BUFFER)?;
        socket.set_recv_buffer_size(RECEIVE_BUFFER)?;
        socket.bind(address)?;
        Ok(Self {
            socket: socket.listen(BACKLOG)?,
            name,
            cap: cap.max(1),
            metrics,
        })
    }

    /// The address that was taken.
    ///
    /// # Errors
    /// When the kernel does not say.
    pub fn address(&self) -> std::io::Result<SocketAddr> {
        self.socket.local_addr()
    }
}

/// Answers `/metrics` and `/operations` until `shutdown`, and within a second from then on no more; by HTTPS
/// where there is a certificate, and then `/metrics` only to whoever may.
pub async fn serve(
    listener: Listener,
    certificate: Option<Certificate>,
    port: Port,
    shutdown: CancellationToken,
) {
    let router = Router::new()
        .route("/metrics", get(show_metrics))
        .merge(operations::routes())
        .fallback(async |uri: Uri| no_such_path(&uri, "/metrics and /operations"))
        .method_not_allowed_fallback(async |method: Method, uri: Uri| no_such_method(&method, &uri))
        .with_state(Shared {
            port,
            is_secured: certificate.is_some(),
            stop: shutdown.clone(),
        });
    connections::serve(listener, certificate, router, shutdown).await;
}

/// Answers `/livez` and `/readyz` until `shutdown`, and within a second from then on no more.
pub async fn serve_health(listener: Listener, health: Arc<Health>, shutdown: CancellationToken) {
    let router = Router::new()
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(show_readiness))
        .fallback(async |uri: Uri| no_such_path(&uri, "/livez and /readyz"))
        .method_not_allowed_fallback(async |method: Method, uri: Uri| no_such_method(&method, &uri))
        .with_state(health);
    connections::serve(listener, None, router, shutdown).await;
}

/// Answers `/debug` until `shutdown`, and within a second from then on no more.
pub async fn serve_debug(listener: Listener, engine: CurrentEngine, shutdown: CancellationToken) {
    let router = debug::router(engine, shutdown.clone());
    connections::serve(listener, None, router, shutdown).await;
}

/// The engine there is now.
fn engine(current: &CurrentEngine) -> Result<Arc<dyn Engine>, Refusal> {
    current.borrow().clone().ok_or_else(|| {
        Refusal::not_ready("Not yet: the operator is starting; /readyz says what it waits for")
    })
}

async fn show_metrics(_: Scraper, State(shared): State<Shared>) -> Response {
    match shared.port.metrics.render() {
        Ok(text) => ([(CONTENT_TYPE, prometheus::TEXT_FORMAT)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

async fn show_readiness(State(health): State<Arc<Health>>) -> Response {
    let (ready, report) = health.report();
    let status = if ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (status, report).into_response()
}
