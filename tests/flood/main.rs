//! Thousands of misbehaving clients, while nodes change: writes continue, probes and scrapes are answered, and every
//! such connection is closed.
//!
//! 2,000 clients of each kind, or 10,000 with `NODE_INSIGHTS_SOAK=1` in the environment, which `make soak` sets and
//! which also checks latencies. They come from 200 addresses, since clients from a single address only displace each
//! other. The operator is limited to 1,024 open files, the default of many systems.
//!
//! A separate test binary that runs only on request: it measures times, and other programs on the same CPUs distort
//! them.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a failed expectation is the result of a test"
)]
#![allow(
    clippy::similar_names,
    clippy::too_many_lines,
    reason = "waiting and writing, scraper and scraped; one flood is one scenario"
)]
#![allow(unreachable_pub, reason = "modules of one test program")]

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use futures::stream::{self, StreamExt as _};
use kube::client::Body;
use kube::{Client, Config};
use node_insights_harness::eventually;
use node_insights_harness::openshift::{Cluster, Pool};
use rcgen::{CertificateParams, KeyPair};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_rustls::TlsConnector;

use crate::support::{Operator, SOON, World};

/// The operator in a cluster, shared with the integration tests.
#[allow(dead_code, reason = "the integration tests use all of it")]
#[path = "../integration/support.rs"]
mod support;

mod prober;

use crate::prober::Prober;

/// The longest a connection may live: a client may be silent for 10 s in a handshake and 10 s after it, plus slack
/// until it notices the close on a busy machine.
const LONGEST: Duration = Duration::from_secs(20 + 10);
/// The interval between new clients. Nearly half connect to the metrics port, which has room for 64 and closes, for
/// each new one, the one silent for longest: a scrape has to be answered before 64 more have connected, in about 0.2 s.
const PACE: Duration = Duration::from_micros(1500);
/// How long connecting may take: the kernel would retry for minutes.
const CONNECT_DEADLINE: Duration = Duration::from_secs(5);
/// The timeout of a kubelet's probe, on an otherwise idle machine.
const PROBE_DEADLINE: Duration = Duration::from_secs(1);
/// The same on a busy one.
const PROBE_GIVEN_UP: Duration = Duration::from_secs(10);
/// The histogram bucket, in seconds, above which a write counts as late.
const LATE: &str = "0.1";

/// How a client misbehaves.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Silent,
    SilentAfterHandshake,
    HalfHead,
    ByteASecond,
    NeverReads,
    Http2,
    Idle,
}

const KINDS: [Kind; 7] = [
    Kind::Silent,
    Kind::SilentAfterHandshake,
    Kind::HalfHead,
    Kind::ByteASecond,
    Kind::NeverReads,
    Kind::Http2,
    Kind::Idle,
];

/// The ports that the clients flood.
struct Target {
    health: SocketAddr,
    metrics: SocketAddr,
    connector: TlsConnector,
}

impl Target {
    /// Runs a client of this kind until it is closed; returns how long it was connected, if it was.
    async fn attack(&self, kind: Kind, number: usize) -> Result<Option<Duration>> {
        let port = if number.is_multiple_of(2) {
            self.health
        } else {
            self.metrics
        };
        let host = u8::try_from(number % 200)? + 1;
        let socket = TcpSocket::new_v4()?;
        socket.bind((Ipv4Addr::new(127, 0, 1, host), 0).into())?;
        if matches!(kind, Kind::NeverReads) {
            socket.set_recv_buffer_size(4096)?;
        }
        let to = match kind {
            Kind::Silent | Kind::HalfHead | Kind::ByteASecond | Kind::Http2 => port,
            Kind::SilentAfterHandshake => self.metrics,
            Kind::NeverReads | Kind::Idle => self.health,
        };
        let connected = timeout(CONNECT_DEADLINE, socket.connect(to)).await;
        let Ok(Ok(stream)) = connected else {
            return Ok(None);
        };
        let began = Instant::now();
        if matches!(kind, Kind::Silent) {
            let is_accepted = silent(stream).await?;
            return Ok(is_accepted.then(|| began.elapsed()));
        }
        // Being cut off before it has sent everything is fine too.
        let closed = timeout(2 * LONGEST, self.misbehave(kind, stream)).await;
        ensure!(closed.is_ok(), "{kind:?} is never closed");
        Ok(Some(began.elapsed()))
    }

    async fn misbehave(&self, kind: Kind, mut stream: TcpStream) -> Result<()> {
        match kind {
            Kind::Silent => until_closed(stream).await,
            Kind::SilentAfterHandshake => {
                let name = ServerName::try_from("localhost")?;
                until_closed(self.connector.connect(name, stream).await?).await
            }
            Kind::HalfHead => {
                let beginning = "GET /livez HTTP/1.1\r\nHost: operator\r\n";
                until_closed(send(stream, beginning).await?).await
            }
            Kind::Http2 => {
                let preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
                until_closed(send(stream, preface).await?).await
            }
            Kind::ByteASecond => drip(stream).await,
            Kind::NeverReads => {
                let requests = "GET /readyz HTTP/1.1\r\nHost: operator\r\n\r\n".repeat(50);
                loop {
                    stream.write_all(requests.as_bytes()).await?;
                }
            }
            Kind::Idle => {
                let request = "GET /livez HTTP/1.1\r\nHost: operator\r\n\r\n";
                until_closed(send(stream, request).await?).await
            }
        }
    }
}

async fn send(mut stream: TcpStream, text: &str) -> Result<TcpStream> {
    stream.write_all(text.as_bytes()).await?;
    Ok(stream)
}

async fn until_closed(mut stream: impl AsyncRead + AsyncWrite + Unpin) -> Result<()> {
    let mut bytes = [0; 1024];
    while stream.read(&mut bytes).await? > 0 {}
    Ok(())
}

async fn drip(stream: TcpStream) -> Result<()> {
    let (reading, mut writing) = stream.into_split();
    let dripping = async {
        let mut second = interval(Duration::from_secs(1));
        loop {
            second.tick().await;
            writing.write_all(b"G").await?;
        }
    };
    let mut reading = tokio::io::join(reading, tokio::io::sink());
    tokio::select! {
        ended = dripping => ended,
        ended = until_closed(&mut reading) => ended,
    }
}

/// Sends nothing until it is closed; returns whether the server had accepted it. If the listen queue was full, the
/// kernel dropped the last packet of the TCP handshake: such a client is not connected, and learns that only when it
/// sends something.
async fn silent(mut stream: TcpStream) -> Result<bool> {
    if timeout(LONGEST, until_closed(&mut stream)).await.is_ok() {
        return Ok(true);
    }
    let refused = async {
        stream.write_all(b"G").await?;
        until_closed(&mut stream).await
    };
    ensure!(
        timeout(CONNECT_DEADLINE, refused).await.is_ok(),
        "a silent client is never closed"
    );
    Ok(false)
}

/// Reads the metrics over HTTPS, each time on a new connection.
struct Scraper {
    address: SocketAddr,
    token: String,
}

impl Scraper {
    async fn scrape(&self) -> Result<String> {
        let mut config = Config::new(format!("https://{}", self.address).parse()?);
        config.accept_invalid_certs = true;
        config.default_retry = false;
        let authorization = format!("Bearer {}", self.token);
        let request = ::http::Request::get("/metrics").header("authorization", authorization);
        let client = Client::try_from(config)?;
        // The default scrape timeout of Prometheus.
        let answer = timeout(Duration::from_secs(10), async {
            let answer = client.send(request.body(Body::empty())?).await?;
            let status = answer.status();
            let body = answer.into_body().collect_bytes().await?;
            let text = String::from_utf8(body.to_vec())?;
            ensure!(status == 200, "{status}: {text}");
            Ok(text)
        });
        answer.await.context("no response to a scrape")?
    }
}

/// Counts from a latency histogram.
#[derive(Debug, Clone, Copy, Default)]
struct Delays {
    all: u64,
    in_time: u64,
}

impl Delays {
    /// From a histogram of the metrics; `in_time` counts what took no longer than [`LATE`].
    fn of(metrics: &str, histogram: &str, label: &str) -> Self {
        let bucket = |le: &str| {
            let mut lines = metrics.lines().filter(|line| {
                line.starts_with(&format!("{histogram}_bucket{{"))
                    && line.contains(label)
                    && line.contains(&format!("le=\"{le}\""))
            });
            let value = lines.next().and_then(|line| line.rsplit(' ').next());
            value.and_then(|value| value.parse().ok()).unwrap_or(0)
        };
        Self {
            all: bucket("+Inf"),
            in_time: bucket(LATE),
        }
    }

    fn since(self, before: Self) -> Self {
        Self {
            all: self.all - before.all,
            in_time: self.in_time - before.in_time,
        }
    }

    fn late(self) -> u64 {
        self.all - self.in_time
    }
}

/// The delays until a consumer handles a notification, which depend on the operator alone, and until the insight is
/// written, which depend on the API server as well.
fn delays(metrics: &str) -> [Delays; 2] {
    let waiting = "node_insights_notification_duration_seconds";
    let writing = "node_insights_event_to_write_seconds";
    [
        Delays::of(metrics, waiting, "consumer=\"node_insight\""),
        Delays::of(metrics, writing, "kind=\"NodeProgressInsight\""),
    ]
}

/// Writes a certificate for localhost into the folder; returns a connector that trusts it.
fn certificate(dir: &Path) -> Result<TlsConnector> {
    let key = KeyPair::generate()?;
    let certificate = CertificateParams::new(vec!["localhost".to_owned()])?.self_signed(&key)?;
    std::fs::write(dir.join("tls.crt"), certificate.pem())?;
    std::fs::write(dir.join("tls.key"), key.serialize_pem())?;
    let mut roots = RootCertStore::empty();
    roots.add(certificate.der().clone())?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

/// Creates an account that may read the metrics; returns its token.
async fn reader(world: &World) -> Result<String> {
    let plane = &world.plane;
    let role = "--clusterrole=node-insights-metrics-reader";
    for command in [
        &["create", "serviceaccount", "reader", "-n", "default"][..],
        &[
            "create",
            "clusterrolebinding",
            "reader",
            role,
            "--serviceaccount=default:reader",
        ],
    ] {
        plane.kubectl(command).await?;
    }
    let create = ["create", "token", "reader", "-n", "default"];
    Ok(plane.kubectl(&create).await?.trim().to_owned())
}

/// How many concurrent clients this process can have, with its limit of open files raised as far as allowed.
fn clients_at_once() -> usize {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let limit = Rlimit {
        current: maximum,
        maximum,
    };
    let limit = match setrlimit(Resource::Nofile, limit) {
        Ok(()) => maximum,
        Err(_) => current,
    };
    // The rest of this process needs some as well.
    let most = limit.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(0));
    most.saturating_sub(1000).clamp(100, 8000)
}

#[tokio::test]
#[ignore = "measures times, on an otherwise idle machine: make soak"]
async fn floods_of_every_kind_delay_no_write_no_probe_and_no_scrape() -> Result<()> {
    let is_soak = std::env::var_os("NODE_INSIGHTS_SOAK").is_some();
    let of_each = if is_soak { 10_000 } else { 2_000 };
    let cluster = Cluster::builder("4.19.14")
        .pool(Pool::new("worker", 20))
        .build()?;
    let world = World::openshift(&cluster).await?;
    let dir = tempfile::tempdir()?;
    let connector = certificate(dir.path())?;
    let kubeconfig = world
        .plane
        .service_account_kubeconfig("node-insights", "node-insights")
        .await?;
    let tls = dir.path().to_string_lossy();
    let args = ["--metrics-tls", &*tls];
    let log_dir = world.plane.dir();
    let operator = Operator::start_after("ulimit -n 1024", &kubeconfig, &args, log_dir).await?;
    operator.ready().await?;
    let scraper = Scraper {
        address: operator.metrics.parse()?,
        token: reader(&world).await?,
    };
    let target = Arc::new(Target {
        health: operator.health.parse()?,
        metrics: scraper.address,
        connector,
    });
    eventually("a scrape", SOON, async || scraper.scrape().await.map(Some)).await?;

    // Nodes change during the whole test.
    let changing = async {
        for round in 0_usize.. {
            let nodes = cluster.nodes_of("worker");
            let yes = (round / nodes.len()).is_multiple_of(2);
            let node = &nodes[round % nodes.len()];
            world.editor.cordon(node, yes).await?;
        }
        anyhow::Ok(())
    };
    let attacking = async {
        let [waiting, writing] = delays(&scraper.scrape().await?);
        let enough = eventually("changes without a flood", SOON, async || {
            let metrics = scraper.scrape().await?;
            let [now, _] = delays(&metrics);
            Ok((now.all - waiting.all >= 200).then_some(metrics))
        });
        let before = enough.await?;
        let rss = operator.process.rss_bytes()?;
        let prober = Prober::start(target.health);

        let (done, scrapes) = (AtomicBool::new(false), AtomicUsize::new(0));
        let flooding = async {
            let clients = (0..of_each).flat_map(|number| KINDS.map(|kind| (kind, number)));
            let mut pace = interval(PACE);
            pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
            let clients = stream::unfold((clients, pace), async |(mut clients, mut pace)| {
                let next = clients.next()?;
                pace.tick().await;
                Some((next, (clients, pace)))
            });
            let clients = clients
                .map(|(kind, number)| {
                    let target = Arc::clone(&target);
                    // A task each: in a single task, some would not be polled for a minute.
                    let client = tokio::spawn(async move { target.attack(kind, number).await });
                    async move { (kind, client.await) }
                })
                .buffer_unordered(clients_at_once());
            let ended: Vec<_> = clients.collect().await;
            done.store(true, Ordering::Relaxed);
            ended
        };
        let scraping = async {
            let mut pace = interval(Duration::from_millis(500));
            pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
            while !done.load(Ordering::Relaxed) {
                pace.tick().await;
                scraper.scrape().await.context("a scrape in the flood")?;
                scrapes.fetch_add(1, Ordering::Relaxed);
                let open = std::fs::read_dir(format!("/proc/{}/fd", operator.process.pid()))?;
                let open = open.count();
                ensure!(open < 512, "{open} files are open");
            }
            anyhow::Ok(())
        };
        let began = Instant::now();
        let (ended, scraped) = tokio::join!(flooding, scraping);
        let took = began.elapsed();
        let probed = prober.end()?;
        scraped?;

        let (mut connected, mut longest) = (0, Duration::ZERO);
        for (kind, lived) in ended {
            let Some(lived) = lived?? else {
                continue;
            };
            connected += 1;
            ensure!(lived <= LONGEST, "{kind:?} was only closed after {lived:?}");
            longest = longest.max(lived);
        }
        let after = scraper.scrape().await?;
        let [quiet_waiting, quiet_writing] = delays(&before);
        let quiet = [quiet_waiting.since(waiting), quiet_writing.since(writing)];
        let [waiting, writing] = delays(&after);
        let flooded = [waiting.since(quiet_waiting), writing.since(quiet_writing)];
        println!(
            "{connected} of {} clients connected in {took:?}, the longest for {longest:?}; /livez within {probed:?}; {} scrapes; peak RSS {} KiB, {} before; quiet {quiet:?}, flooded {flooded:?}",
            of_each * KINDS.len(),
            scrapes.into_inner(),
            operator.process.peak_rss_bytes()? / 1024,
            rss / 1024,
        );
        for line in after
            .lines()
            .filter(|line| line.starts_with("node_insights_connections"))
        {
            println!("{line}");
        }
        ensure!(
            operator.process.peak_rss_bytes()? < rss + (32 << 20),
            "each connection costs a few KiB, and there are few"
        );
        let [waiting, writing] = flooded;
        ensure!(waiting.all >= 100, "too few writes: {waiting:?}");
        if is_soak {
            ensure!(probed <= PROBE_DEADLINE, "/livez took {probed:?}");
            // One in a hundred may be late, as other programs share the CPUs.
            ensure!(
                waiting.late() * 100 <= waiting.all,
                "late by the operator: {waiting:?}"
            );
            ensure!(
                writing.late() * 10 <= writing.all,
                "late on the whole: {writing:?}"
            );
        }
        eventually("all are closed", SOON, async || {
            let metrics = scraper.scrape().await?;
            let open = metrics.lines().filter_map(|line| {
                let count = line.strip_prefix("node_insights_connections{")?;
                count.rsplit(' ').next()?.parse::<u64>().ok()
            });
            // The scrape itself, and idle connections of the last ones.
            Ok((open.sum::<u64>() <= 10).then_some(()))
        })
        .await
    };
    tokio::select! {
        changed = changing => changed,
        attacked = attacking => attacked,
    }
}
