//! The layers below a client: TCP, TLS and HTTP/1.1, with the deadlines that they lack by default.
//!
//! This is kube's own stack, except for the connection. kube's connection sets a timer that fires at once after
//! each read, which wakes the process twice more, and TLS reads only 4 KiB at a time: with only heartbeats to
//! read, these were two of three system calls.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use http::{Request, Uri};
use hyper_util::client::legacy::Client as HyperClient;
use hyper_util::client::legacy::connect::{Connected, Connection, HttpConnector};
use hyper_util::rt::{TokioExecutor, TokioIo};
use kube::client::{Body, ConfigExt};
use kube::{Client, Config};
use tokio::io::{AsyncRead, AsyncWrite, BufReader, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep_until, timeout};
use tower::{BoxError, Service, ServiceBuilder, service_fn};
use tracing::{Instrument, debug_span};

/// Connecting takes milliseconds; an address that does not answer must not hold up a retry.
const CONNECT_DEADLINE: Duration = Duration::from_secs(5);
/// A connection that is silent for this long is dead. Longer than [`super::watch::TIMEOUT`], after which the API
/// server ends a silent watch by itself.
const SILENCE: Duration = Duration::from_secs(75);
/// Bytes per read: a TLS record of 16 KiB with its overhead.
const READ_BUFFER: usize = 17 * 1024;

/// A client of the API server in `config`, with connections of its own. `open` wraps the TCP stream below the
/// encryption.
///
/// # Errors
/// When the configuration cannot be used.
pub(super) fn client<S>(
    config: &Config,
    open: impl Fn(TcpStream) -> io::Result<S> + Clone + Send + Sync + 'static,
) -> kube::Result<Client>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    // Divided among the addresses of a name, so that the others are tried when one does not answer.
    tcp.set_connect_timeout(Some(CONNECT_DEADLINE));
    let opened = service_fn(move |server: Uri| {
        // The connector is always ready.
        let connecting = tcp.clone().call(server);
        let open = open.clone();
        async move {
            let stream = open(connecting.await?.into_inner()).map_err(BoxError::from)?;
            Ok::<_, BoxError>(TokioIo::new(Heard::new(stream)))
        }
    });
    let secured = config.rustls_https_connector_with_connector(opened)?;
    let connector = service_fn(move |server: Uri| {
        let connecting = secured.clone().call(server);
        Box::pin(async move {
            timeout(CONNECT_DEADLINE, connecting)
                .await
                .map_err(|_| too_late("no connection was established", CONNECT_DEADLINE))?
        })
    });
    let client: HyperClient<_, Body> = HyperClient::builder(TokioExecutor::new()).build(connector);
    let requests = service_fn(move |request: Request<Body>| {
        let (method, url) = (request.method(), request.uri());
        // Not a child of a change's span: lists and watches belong to no change.
        let span = debug_span!(target: "http", "HTTP", %method, %url);
        span.in_scope(|| tracing::debug!(target: "http", "Sending"));
        client.request(request).instrument(span)
    });
    let service = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .option_layer(config.auth_layer()?)
        .layer(config.extra_headers_layer()?)
        .map_err(BoxError::from)
        .service(requests);
    Ok(Client::new(service, config.default_namespace.clone()))
}

fn too_late(what: &str, deadline: Duration) -> io::Error {
    let text = format!("{what} within {} s", deadline.as_secs());
    io::Error::new(io::ErrorKind::TimedOut, text)
}

/// A connection that fails when nothing is received for too long.
struct Heard<S> {
    stream: BufReader<S>,
    /// The last read or write: the idle time of a pooled connection does not count against its next answer.
    last: Instant,
    /// Reset only when it fires: a reset at each read would cost more than the read.
    alarm: Pin<Box<Sleep>>,
}

impl<S: AsyncRead> Heard<S> {
    fn new(stream: S) -> Self {
        let last = Instant::now();
        Self {
            stream: BufReader::with_capacity(READ_BUFFER, stream),
            last,
            alarm: Box::pin(sleep_until(last + SILENCE)),
        }
    }

    fn note<T>(&mut self, polled: Poll<T>) -> Poll<T> {
        if polled.is_ready() {
            self.last = Instant::now();
        }
        polled
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Heard<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        if read.is_ready() {
            return self.note(read);
        }
        while self.alarm.as_mut().poll(context).is_ready() {
            let until = self.last + SILENCE;
            if until <= Instant::now() {
                return Poll::Ready(Err(too_late("nothing was received", SILENCE)));
            }
            self.alarm.as_mut().reset(until);
        }
        Poll::Pending
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Heard<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.note(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, bytes);
        self.note(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

impl<S> Connection for Heard<S> {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

#[cfg(test)]
mod tests;
