//! The HTTP ports: `/metrics` and `/operations` (HTTPS in a pod); `/livez` and `/readyz`; `/debug`.
//!
//! Owns nothing but connections, whose number and duration are limited (see `connections`). Until the node-state
//! controller runs, requests get a "not ready" error. [`Access`] authorizes requests; `operations` lists the
//! routes that need authorization.

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

/// What the port serves, and what it depends on.
#[derive(Clone)]
pub struct Port {
    /// Shown at `/metrics`.
    pub metrics: Arc<Metrics>,
    /// Listed and cancelled at `/operations`.
    pub operations: Operations,
    /// Starts operations.
    pub engine: CurrentEngine,
    /// Authorizes requests; while it is `None`, none is authorized.
    pub access: watch::Receiver<Option<Arc<Access>>>,
}

/// State shared by all handlers.
#[derive(Clone)]
struct Shared {
    port: Port,
    /// The port speaks HTTPS and authorizes reads of the metrics.
    is_secured: bool,
    /// Cancelled when the port closes.
    stop: CancellationToken,
}

/// Kernel send buffer per connection, in bytes; the kernel reserves twice as much. Without a limit it grows to
/// 4 MiB per connection, which counts as memory of the pod.
const SEND_BUFFER: u32 = 32 << 10;
/// Kernel receive buffer per connection, in bytes.
const RECEIVE_BUFFER: u32 = 16 << 10;
/// Connections that the kernel completes before they are accepted. A client beyond that retries a second later,
/// too late for a probe.
const BACKLOG: u32 = 1024;

/// An open port.
pub struct Listener {
    socket: TcpListener,
    /// Its name in metrics and logs.
    name: PortName,
    /// Maximum number of connections.
    cap: usize,
    metrics: Arc<Metrics>,
}

impl Listener {
    /// Opens a port; must be called inside a runtime. Port 0 selects a free port. `cap` is the maximum number of
    /// connections, at least one.
    ///
    /// # Errors
    /// When the address is not local or already in use.
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
        // Without it, a port that was just closed could not be opened for a minute.
        socket.set_reuseaddr(true)?;
        // Inherited by each connection.
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

    /// The bound address.
    ///
    /// # Errors
    /// When the kernel does not report it.
    pub fn address(&self) -> std::io::Result<SocketAddr> {
        self.socket.local_addr()
    }
}

/// Serves `/metrics` and `/operations` until `shutdown`, then closes within a second. With a certificate it
/// speaks HTTPS and authorizes reads of `/metrics`.
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

/// Serves `/livez` and `/readyz` until `shutdown`, then closes within a second.
pub async fn serve_health(listener: Listener, health: Arc<Health>, shutdown: CancellationToken) {
    let router = Router::new()
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(show_readiness))
        .fallback(async |uri: Uri| no_such_path(&uri, "/livez and /readyz"))
        .method_not_allowed_fallback(async |method: Method, uri: Uri| no_such_method(&method, &uri))
        .with_state(health);
    connections::serve(listener, None, router, shutdown).await;
}

/// Serves `/debug` until `shutdown`, then closes within a second.
pub async fn serve_debug(listener: Listener, engine: CurrentEngine, shutdown: CancellationToken) {
    let router = debug::router(engine, shutdown.clone());
    connections::serve(listener, None, router, shutdown).await;
}

/// The current engine.
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
