//! The connections of one port: their number, their deadlines, and HTTP/1.1.
//!
//! ```text
//! accept ─► make room ─► TLS handshake ─► head ─► answer ─► head ─► …
//!           at the cap:   10 s             10 s    taken: see `unread`
//!           one is closed
//! ```
//!
//! Owns one task per connection, which ends with the port. Guarantees: there are never more connections than the
//! cap plus one being accepted; every new connection is accepted, however many there are; a client that neither
//! sends nor reads is disconnected. There is no HTTP/2: every scraper, `kubectl` and kubelet speaks HTTP/1.1, and
//! HTTP/2 would need deadlines of its own.
//!
//! At the cap a new connection is accepted and an open one is closed: of the address with the most connections,
//! the one whose last request is oldest. So a flood from one address closes its own connections, and a flood
//! from many addresses must open as many as the cap while a scraper is answered. Rejecting new connections
//! instead would leave the port to the first clients.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::error::Error as _;
use std::io;
use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use futures::FutureExt as _;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::server::Acceptor;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::task::{AbortHandle, Id, JoinError, JoinSet, yield_now};
use tokio::time::{sleep, timeout};
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tower::Service as _;

use super::Listener;
use super::tls::Certificate;
use super::unread::Unread;
use crate::telemetry::metrics::{Closed, Metrics, PortName};

/// How long connections in use may take when the port closes: a client that reads slowly or not at all must not
/// delay the shutdown.
const CLOSE_DEADLINE: Duration = Duration::from_secs(1);
/// Maximum duration of a handshake, which takes a few round trips.
const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(10);
/// How long a client may take to send the head of a request, after connecting and after each answer.
const HEAD_DEADLINE: Duration = Duration::from_secs(10);
/// Maximum size of a request head in bytes: twice the longest token and its surroundings.
const HEAD_LIMIT: usize = 64 << 10;
/// How many handshakes and requests of a port start before other tasks get their turn: each takes up to 0.2 ms of
/// the one thread that also writes insights, and each connection may start one at the same time.
const IN_A_ROW: usize = 4;
/// Pause after the kernel fails to accept. An immediate retry would only keep the processor busy.
const PAUSE: Duration = Duration::from_millis(100);

/// Serves the port until `stop`, then closes it within a second.
pub(super) async fn serve(
    listener: Listener,
    certificate: Option<Certificate>,
    router: Router,
    stop: CancellationToken,
) {
    let Listener {
        socket,
        name,
        cap,
        metrics,
    } = listener;
    let mut connections = Connections {
        tasks: JoinSet::new(),
        open: HashMap::new(),
        crowds: HashMap::new(),
        cap,
        turns: Arc::default(),
        shared: Arc::new(Shared {
            certificate,
            router,
            stop: stop.clone(),
            turns: Semaphore::new(IN_A_ROW),
            name,
            metrics,
        }),
    };
    let mut failing = false;
    loop {
        let accepted = tokio::select! {
            biased;
            () = stop.cancelled() => break,
            Some(ended) = connections.tasks.join_next_with_id() => {
                connections.forget(&ended);
                continue;
            }
            accepted = socket.accept() => accepted,
        };
        match accepted {
            Ok((stream, from)) => {
                failing = false;
                connections.make_room().await;
                connections.open(stream, from.ip());
            }
            Err(error) if concerns_one_client(&error) => {}
            Err(error) => {
                if !failing {
                    tracing::warn!(port = name.as_str(), %error, "Accepting connections failed, retrying");
                }
                failing = true;
                sleep(PAUSE).await;
            }
        }
    }
    drop(socket);
    let ending = async { while connections.tasks.join_next().await.is_some() {} };
    // Dropping the set aborts the remaining tasks.
    let _ = timeout(CLOSE_DEADLINE, ending).await;
}

/// Whether a connection was closed before it was accepted.
fn concerns_one_client(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::Interrupted
    )
}

/// The connections of the port.
struct Connections {
    /// Includes connections that are being closed.
    tasks: JoinSet<()>,
    /// Excludes connections that are being closed.
    open: HashMap<Id, Open>,
    /// Number of open connections per address.
    crowds: HashMap<IpAddr, Arc<AtomicUsize>>,
    cap: usize,
    /// Counts connections and requests.
    turns: Arc<AtomicU64>,
    shared: Arc<Shared>,
}

/// A connection, as the port sees it.
struct Open {
    from: IpAddr,
    /// Number of open connections from its address.
    crowd: Arc<AtomicUsize>,
    /// Number of its last request, or of the connection, in the count of both.
    turn: Arc<AtomicU64>,
    task: AbortHandle,
}

impl Connections {
    fn open(&mut self, stream: TcpStream, from: IpAddr) {
        // Best effort: without it, several small writes are only slower.
        let _ = stream.set_nodelay(true);
        let next = self.turns.fetch_add(1, Ordering::Relaxed);
        let turn = Arc::new(AtomicU64::new(next));
        let connection = Connection {
            shared: Arc::clone(&self.shared),
            turns: Arc::clone(&self.turns),
            turn: Arc::clone(&turn),
            accepted_at: next,
        };
        let task = self.tasks.spawn(connection.run(stream));
        let crowd = Arc::clone(self.crowds.entry(from).or_default());
        crowd.fetch_add(1, Ordering::Relaxed);
        let open = Open {
            from,
            crowd,
            turn,
            task,
        };
        self.open.insert(open.task.id(), open);
        self.count();
    }

    /// Removes and returns an open connection.
    fn take(&mut self, id: Id) -> Option<Open> {
        let open = self.open.remove(&id)?;
        if open.crowd.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.crowds.remove(&open.from);
        }
        Some(open)
    }

    fn forget(&mut self, ended: &Result<(Id, ()), JoinError>) {
        let id = match ended {
            Ok((id, ())) => *id,
            Err(error) => error.id(),
        };
        self.take(id);
        self.count();
    }

    fn count(&self) {
        let Shared { name, metrics, .. } = &*self.shared;
        metrics.connections(*name, self.tasks.len());
    }

    /// Waits until there is room for another connection, at most as long as closing one takes.
    async fn make_room(&mut self) {
        while self.tasks.len() >= self.cap {
            if self.open.len() >= self.cap {
                self.displace_one();
            }
            if let Some(ended) = self.tasks.join_next_with_id().await {
                self.forget(&ended);
            }
        }
    }

    fn displace_one(&mut self) {
        let last = self.open.iter().max_by_key(|(_, open)| {
            let turn = open.turn.load(Ordering::Relaxed);
            (open.crowd.load(Ordering::Relaxed), Reverse(turn))
        });
        let id = last.map(|(id, _)| *id);
        if let Some(open) = id.and_then(|id| self.take(id)) {
            open.task.abort();
            self.shared.closed(Closed::Displaced);
        }
    }
}

/// State shared by all connections of a port.
struct Shared {
    certificate: Option<Certificate>,
    router: Router,
    stop: CancellationToken,
    /// Permits to start work.
    turns: Semaphore,
    name: PortName,
    metrics: Arc<Metrics>,
}

impl Shared {
    fn closed(&self, why: Closed) {
        self.metrics.connection_closed(self.name, why);
    }

    /// Runs the costly first step of `work` when it gets a turn. The turn ends after other tasks have run, not with
    /// the work: a client that stalls must not hold up others.
    async fn in_turn<F: Future>(&self, work: F) -> F::Output {
        let mut work = pin!(work);
        // Never closed.
        let turn = self.turns.acquire().await;
        let done = work.as_mut().now_or_never();
        yield_now().await;
        drop(turn);
        match done {
            Some(done) => done,
            None => work.await,
        }
    }
}

/// A connection, as its task sees it.
struct Connection {
    shared: Arc<Shared>,
    turns: Arc<AtomicU64>,
    turn: Arc<AtomicU64>,
    accepted_at: u64,
}

impl Connection {
    async fn run(self, stream: TcpStream) {
        let stream = Unread::new(stream);
        let Some(certificate) = &self.shared.certificate else {
            return self.answer(stream).await;
        };
        let handshake = self.handshake(certificate, stream);
        match timeout(HANDSHAKE_DEADLINE, handshake).await {
            Ok(Ok(stream)) => self.answer(stream).await,
            Ok(Err(_)) | Err(_) => self.shared.closed(Closed::Handshake),
        }
    }

    async fn handshake<S>(&self, certificate: &Certificate, stream: S) -> io::Result<TlsStream<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let greeting = LazyConfigAcceptor::new(Acceptor::default(), stream).await?;
        let exchange = greeting.into_stream(certificate.config());
        self.shared.in_turn(exchange).await
    }

    async fn answer<S>(&self, stream: S)
    where
        S: AsyncRead + AsyncWrite + Unpin + 'static,
    {
        let service = service_fn(|request: Request<Incoming>| {
            let next = self.turns.fetch_add(1, Ordering::Relaxed);
            self.turn.store(next, Ordering::Relaxed);
            // The router is always ready. Pipelined requests get one answer per turn.
            let answer = self.shared.router.clone().call(request);
            self.shared.in_turn(answer)
        });
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new())
            .header_read_timeout(HEAD_DEADLINE)
            .max_buf_size(HEAD_LIMIT);
        let mut serving = pin!(http.serve_connection(TokioIo::new(stream), service));
        let ended = tokio::select! {
            ended = serving.as_mut() => ended,
            () = self.shared.stop.cancelled() => {
                serving.as_mut().graceful_shutdown();
                serving.await
            }
        };
        if let Some(why) = ended.err().and_then(|error| self.why(&error)) {
            self.shared.closed(why);
        }
    }

    /// Why the connection was closed; `None` when the client closed it.
    fn why(&self, error: &hyper::Error) -> Option<Closed> {
        let below = error.source().and_then(|source| source.downcast_ref());
        let is_unread = |error: &io::Error| error.kind() == io::ErrorKind::TimedOut;
        if below.is_some_and(is_unread) {
            return Some(Closed::Unread);
        }
        let has_asked = self.turn.load(Ordering::Relaxed) != self.accepted_at;
        error.is_timeout().then_some(if has_asked {
            Closed::Idle
        } else {
            Closed::Silent
        })
    }
}
