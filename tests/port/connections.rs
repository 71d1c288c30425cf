//! Misbehaving clients: each connection is closed within a deadline, and none keeps others out.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use node_insights::http::tls::Certificate;
use node_insights_harness::eventually;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{interval, timeout};
use tokio_rustls::TlsConnector;

use crate::fakes::World;
use crate::secured::issue;

/// Every deadline of a port is 10 s; the rest is slack for a loaded machine.
const DEADLINE: Duration = Duration::from_secs(20);
const REQUEST: &str = "GET /operations HTTP/1.1\r\nHost: operator\r\n\r\n";

/// A connection from an address of this machine.
async fn connect_from(from: &str, to: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    let from: IpAddr = from.parse().unwrap();
    socket.bind((from, 0).into()).unwrap();
    socket.connect(to).await.unwrap()
}

/// Waits until the other side closes, and ignores what it sends before.
async fn is_closed(what: &str, stream: &mut (impl AsyncRead + Unpin)) {
    let mut bytes = [0; 4096];
    let closed = async { while matches!(stream.read(&mut bytes).await, Ok(1..)) {} };
    let began = Instant::now();
    let closed = timeout(DEADLINE, closed).await;
    println!("{what:?}: {:?}", began.elapsed());
    assert!(closed.is_ok(), "{what}: still open after {DEADLINE:?}");
}

/// Sends a request and reads the response; returns whether there was one.
async fn is_answered(stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> bool {
    let sent = stream.write_all(REQUEST.as_bytes()).await;
    let mut response = Vec::new();
    let reading = async {
        // The response is a list without entries.
        while !response.ends_with(b"[]\n") {
            response.push(stream.read_u8().await?);
        }
        std::io::Result::Ok(())
    };
    let answered = timeout(DEADLINE, reading).await;
    sent.is_ok() && answered.is_ok_and(|read| read.is_ok()) && response.starts_with(b"HTTP/1.1 200")
}

#[tokio::test]
async fn silent_and_slow_clients_are_closed() {
    let world = World::start().await;
    let silent = |beginning: &'static str| {
        let port = world.port;
        async move {
            let mut stream = TcpStream::connect(port).await.unwrap();
            stream.write_all(beginning.as_bytes()).await.unwrap();
            is_closed(beginning, &mut stream).await;
        }
    };
    let slow = async {
        let mut stream = TcpStream::connect(world.port).await.unwrap();
        let (mut reading, mut writing) = stream.split();
        let mut second = interval(Duration::from_secs(1));
        let dripping = async {
            for byte in REQUEST.bytes().cycle().filter(|byte| *byte != b'\r') {
                second.tick().await;
                if writing.write_all(&[byte]).await.is_err() {
                    break;
                }
            }
        };
        tokio::select! {
            () = dripping => {}
            () = is_closed("a byte a second", &mut reading) => {}
        }
    };
    let idle = async {
        let mut stream = TcpStream::connect(world.port).await.unwrap();
        assert!(is_answered(&mut stream).await);
        is_closed("idle after a response", &mut stream).await;
    };
    let began = Instant::now();
    tokio::join!(
        silent(""),
        silent("GET /opera"),
        silent("GET /operations HTTP/1.1\r\nHost: operator\r\n"),
        silent("POST /operations/resync HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n"),
        silent("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
        slow,
        idle,
    );
    assert!(began.elapsed() < DEADLINE);
    let closed = |reason: &str| {
        let series = "node_insights_connections_closed_total{port=\"metrics\",reason=";
        world.metric(&format!("{series}\"{reason}\"}}"))
    };
    eventually("all are counted", DEADLINE, async || {
        Ok((closed("silent") == 4 && closed("idle") == 1).then_some(()))
    })
    .await
    .unwrap();
    world.end().await;
}

#[tokio::test]
async fn clients_that_do_not_finish_a_handshake_or_are_silent_after_it_are_closed() {
    let dir = tempfile::tempdir().unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(issue(dir.path()).into()).unwrap();
    let world = World::secured(Certificate::of_files(dir.path()).unwrap()).await;
    let connector = |protocols: &[&[u8]]| {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots.clone())
            .with_no_client_auth();
        config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
        TlsConnector::from(Arc::new(config))
    };
    let secure = async |protocols: &[&[u8]]| {
        let stream = TcpStream::connect(world.port).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        connector(protocols).connect(name, stream).await
    };
    let silent = async {
        let mut stream = TcpStream::connect(world.port).await.unwrap();
        is_closed("silent", &mut stream).await;
    };
    let half = async {
        let mut stream = TcpStream::connect(world.port).await.unwrap();
        // The beginning of a record of 256 bytes.
        stream.write_all(&[22, 3, 1, 1, 0, 1]).await.unwrap();
        is_closed("half a handshake", &mut stream).await;
    };
    let secured = async {
        let mut stream = secure(&[]).await.unwrap();
        is_closed("silent after the handshake", &mut stream).await;
    };
    let idle = async {
        // As Prometheus offers: HTTP/2 or HTTP/1.1.
        let mut stream = secure(&[b"h2", b"http/1.1"]).await.unwrap();
        let protocol = stream.get_ref().1.alpn_protocol();
        assert_eq!(protocol, Some(b"http/1.1".as_slice()));
        assert!(is_answered(&mut stream).await);
        is_closed("idle after a response", &mut stream).await;
    };
    tokio::join!(silent, half, secured, idle);
    assert!(secure(&[b"h2"]).await.is_err(), "there is no HTTP/2");
    world.end().await;
}

#[tokio::test]
async fn clients_that_never_read_a_response_are_closed() {
    // More than fits into any buffer of the kernel.
    let world = World::with_nodes(100_000).await;
    let mut stream = TcpStream::connect(world.debug).await.unwrap();
    let request = "GET /debug/states HTTP/1.1\r\nHost: operator\r\n\r\n";
    stream.write_all(request.as_bytes()).await.unwrap();
    let unread = "node_insights_connections_closed_total{port=\"debug\",reason=\"unread\"}";
    eventually("it is closed", DEADLINE, async || {
        Ok((world.metric(unread) == 1).then_some(()))
    })
    .await
    .unwrap();
    world.end().await;
}

#[tokio::test]
async fn at_the_limit_a_new_client_is_answered_and_the_one_silent_for_longest_is_closed() {
    let world = World::with_cap(4).await;
    let mut old = Vec::new();
    for _ in 0..4 {
        old.push(TcpStream::connect(world.port).await.unwrap());
    }
    // The first one is no longer the one silent for longest.
    assert!(is_answered(&mut old[0]).await);
    let mut new = TcpStream::connect(world.port).await.unwrap();
    let began = Instant::now();
    assert!(is_answered(&mut new).await);
    is_closed("the one silent for longest", &mut old[1]).await;
    assert!(
        began.elapsed() < Duration::from_secs(5),
        "closed by a deadline, not displaced"
    );
    for number in [0, 2, 3] {
        assert!(is_answered(&mut old[number]).await, "{number}");
    }
    world.end().await;
}

#[tokio::test]
async fn a_flood_from_one_address_does_not_close_a_scrapers_connection() {
    let world = World::with_cap(8).await;
    let mut scraper = connect_from("127.0.0.2", world.port).await;
    assert!(is_answered(&mut scraper).await);
    let mut flood = Vec::new();
    for _ in 0..100 {
        flood.push(connect_from("127.0.0.3", world.port).await);
    }
    let series = "node_insights_connections_closed_total{port=\"metrics\",reason=\"displaced\"}";
    eventually("the flood has connected", DEADLINE, async || {
        Ok((world.metric(series) == 93).then_some(()))
    })
    .await
    .unwrap();
    assert!(is_answered(&mut scraper).await, "the same connection");
    let open = world.metric("node_insights_connections{port=\"metrics\"}");
    assert_eq!(open, 8);
    // A new client still gets in.
    let mut another = connect_from("127.0.0.4", world.port).await;
    assert!(is_answered(&mut another).await);
    world.end().await;
}
