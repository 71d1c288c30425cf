//! The HTTP ports: one with `/metrics` and `/operations`, by HTTPS in a pod; one with `/livez` and `/readyz`;
//! and one with `/debug`.
//!
//! Owns nothing but connections. All answer before there is a centre to ask, and say that it is not
//! there yet. Who may do what is decided by [`Access`]; which routes ask it, `operations` says.

mod answer;
mod debug;
pub mod engine;
mod operations;
mod request;
pub mod tls;

#[cfg(any(test, fuzzing))]
pub(crate) use request::read as read_request;

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::http::{Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum_server::Handle;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio::sync::watch;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use self::answer::{Refusal, no_such_method, no_such_path};
use self::engine::{CurrentEngine, Engine};
use self::request::Scraper;
use self::tls::Certificate;
use crate::kubernetes::access::Access;
use crate::registry::operations::Operations;
use crate::telemetry::health::Health;
use crate::telemetry::metrics::Metrics;

/// How long connections that are in use when the port closes may take: whoever reads slowly, or not at
/// all, must not hold up the end of the operator.
const CLOSE_DEADLINE: Duration = Duration::from_secs(1);

/// How long a client may take to send the head of its request.
const HEADER_DEADLINE: Duration = Duration::from_secs(10);
/// Bytes that a head may have: twice the longest token and what goes with it.
const HEADER_LIMIT: usize = 64 << 10;

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

/// Opens a port; port 0 is a free one. The address that was taken, too.
///
/// # Errors
/// When the address is not of this machine, or taken.
pub fn bind(address: SocketAddr) -> std::io::Result<(TcpListener, SocketAddr)> {
    let listener = TcpListener::bind(address)?;
    // Else accepting would hold up a thread of the runtime.
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    Ok((listener, address))
}

/// Answers `/metrics` and `/operations` until `shutdown`, and within a second from then on no more; by HTTPS
/// where there is a certificate, and then `/metrics` only to whoever may.
///
/// # Errors
/// When the port breaks; so below.
pub async fn serve(
    listener: TcpListener,
    certificate: Option<Certificate>,
    port: Port,
    shutdown: CancellationToken,
) -> std::io::Result<()> {
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
    answer(listener, certificate.as_ref(), router, shutdown).await
}

/// Answers `/livez` and `/readyz` until `shutdown`, and within a second from then on no more.
///
/// # Errors
/// When the port breaks.
pub async fn serve_health(
    listener: TcpListener,
    health: Arc<Health>,
    shutdown: CancellationToken,
) -> std::io::Result<()> {
    let router = Router::new()
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(show_readiness))
        .fallback(async |uri: Uri| no_such_path(&uri, "/livez and /readyz"))
        .method_not_allowed_fallback(async |method: Method, uri: Uri| no_such_method(&method, &uri))
        .with_state(health);
    answer(listener, None, router, shutdown).await
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
    answer(listener, None, router, shutdown).await
}

async fn answer(
    listener: TcpListener,
    certificate: Option<&Certificate>,
    router: Router,
    shutdown: CancellationToken,
) -> std::io::Result<()> {
    let handle = Handle::new();
    let serving = async {
        let service = router.into_make_service();
        match certificate {
            None => {
                let mut server = axum_server::from_tcp(listener)?.handle(handle.clone());
                limit(server.http_builder());
                server.serve(service).await
            }
            Some(certificate) => {
                let config = certificate.config();
                let server = axum_server::from_tcp_rustls(listener, config)?;
                let mut server = server.handle(handle.clone());
                limit(server.http_builder());
                server.serve(service).await
            }
        }
    };
    let closing = async {
        shutdown.cancelled().await;
        handle.graceful_shutdown(Some(CLOSE_DEADLINE));
        // The server may not have begun to listen to its handle.
        sleep(CLOSE_DEADLINE * 2).await;
    };
    tokio::select! {
        served = serving => served,
        () = closing => Ok(()),
    }
}

/// Whoever connects and says nothing, or too much, is not listened to for long.
fn limit(builder: &mut Builder<TokioExecutor>) {
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_DEADLINE)
        .max_buf_size(HEADER_LIMIT);
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
