//! The HTTP ports: one with `/metrics`, `/livez`, `/readyz` and `/operations`, and one with `/debug`.
//!
//! Owns nothing but connections. Both answer before there is a centre to ask, and say that it is not
//! there yet. Who may do what is decided by [`Access`]; which routes ask it, `operations` says.

mod answer;
mod debug;
pub mod engine;
mod operations;
mod request;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::http::{Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use self::answer::{Refusal, no_such_method, no_such_path};
use self::engine::{CurrentEngine, Engine};
use crate::kubernetes::access::Access;
use crate::registry::operations::Operations;
use crate::telemetry::health::Health;
use crate::telemetry::metrics::Metrics;

/// How long connections that are in use when the port closes may take: whoever reads slowly, or not at
/// all, must not hold up the end of the operator.
const CLOSE_DEADLINE: Duration = Duration::from_secs(1);

/// What the port shows and asks.
#[derive(Clone)]
pub struct Port {
    /// Shown at `/metrics`.
    pub metrics: Arc<Metrics>,
    /// Shown at `/readyz`.
    pub health: Arc<Health>,
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
    /// The port closes.
    stop: CancellationToken,
}

/// Opens a port; port 0 is a free one. The address that was taken, too.
///
/// # Errors
/// When the address is not of this machine, or taken.
pub async fn bind(address: SocketAddr) -> std::io::Result<(TcpListener, SocketAddr)> {
    let listener = TcpListener::bind(address).await?;
    let address = listener.local_addr()?;
    Ok((listener, address))
}

/// Answers everything but `/debug` until `shutdown`, and within a second from then on no more.
///
/// # Errors
/// When the port breaks.
pub async fn serve(
    listener: TcpListener,
    port: Port,
    shutdown: CancellationToken,
) -> std::io::Result<()> {
    let router = Router::new()
        .route("/metrics", get(show_metrics))
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(show_readiness))
        .merge(operations::routes())
        .fallback(async |uri: Uri| no_such_path(&uri, "/metrics, /livez, /readyz and /operations"))
        .method_not_allowed_fallback(async |method: Method, uri: Uri| no_such_method(&method, &uri))
        .with_state(Shared {
            port,
            stop: shutdown.clone(),
        });
    answer(listener, router, shutdown).await
}

/// Answers `/debug` until `shutdown`, and within a second from then on no more.
///
/// # Errors
/// When the port breaks.
pub async fn serve_debug(
    listener: TcpListener,
    engine: CurrentEngine,
    shutdown: CancellationToken,
) -> std::io::Result<()> {
    let router = debug::router(engine, shutdown.clone());
    answer(listener, router, shutdown).await
}

async fn answer(
    listener: TcpListener,
    router: Router,
    shutdown: CancellationToken,
) -> std::io::Result<()> {
    let serving =
        axum::serve(listener, router).with_graceful_shutdown(shutdown.clone().cancelled_owned());
    tokio::select! {
        served = serving => served,
        () = async {
            shutdown.cancelled().await;
            sleep(CLOSE_DEADLINE).await;
        } => Ok(()),
    }
}

/// The engine there is now.
fn engine(current: &CurrentEngine) -> Result<Arc<dyn Engine>, Refusal> {
    current.borrow().clone().ok_or_else(|| {
        Refusal::not_ready("Not yet: the operator is starting; /readyz says what it waits for")
    })
}

async fn show_metrics(State(shared): State<Shared>) -> Response {
    match shared.port.metrics.render() {
        Ok(text) => ([(CONTENT_TYPE, prometheus::TEXT_FORMAT)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

async fn show_readiness(State(shared): State<Shared>) -> Response {
    let (ready, report) = shared.port.health.report();
    let status = if ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (status, report).into_response()
}
