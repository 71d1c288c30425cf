//! The port with HTTPS: who may read the metrics, and which certificate is shown.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use kube::client::Body;
use kube::{Client, Config};
use node_insights::http::tls::Certificate;
use node_insights_harness::eventually;
use rcgen::{CertificateParams, KeyPair};

use crate::fakes::{ADMIN, Answer, VIEWER, World, nobody, request, send_with};

fn self_signed() -> Certificate {
    Certificate::self_signed(vec!["localhost".to_owned()]).unwrap()
}

/// A client that trusts `authority`, or whoever answers.
fn client(address: SocketAddr, authority: Option<Vec<u8>>) -> Client {
    let mut config = Config::new(
        format!("https://localhost:{}", address.port())
            .parse()
            .unwrap(),
    );
    config.accept_invalid_certs = authority.is_none();
    config.root_cert = Some(authority.into_iter().collect());
    config.default_retry = false;
    Client::try_from(config).unwrap()
}

async fn scrape(world: &World, token: Option<&str>) -> Answer {
    let mut request = request("GET", "/metrics");
    if let Some(token) = token {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    let request = request.body(Body::empty()).unwrap();
    send_with(&client(world.port, None), request).await.unwrap()
}

#[tokio::test]
async fn only_who_may_reads_the_metrics() {
    let world = World::secured(self_signed()).await;
    let answer = scrape(&world, Some(ADMIN)).await;
    assert_eq!(answer.status, 200);
    assert!(
        answer.text.contains("node_insights_build_info"),
        "{}",
        answer.text
    );
    for (token, status, reason, hint) in [
        (
            Some(VIEWER),
            403,
            "Forbidden",
            "node-insights-metrics-reader for /metrics",
        ),
        (Some("expired"), 401, "Unauthorized", "expired"),
        (Some("no token"), 401, "Unauthorized", "no bearer token"),
        (None, 401, "Unauthorized", "needs one token"),
    ] {
        scrape(&world, token).await.refuses(status, reason, hint);
    }
    world.end().await;
}

#[tokio::test]
async fn while_nobody_can_say_who_may_nobody_reads_the_metrics() {
    let world = World::secured(self_signed()).await;
    world.access_by(nobody().await);
    let answer = scrape(&world, Some(ADMIN)).await;
    answer.refuses(503, "AccessUnknown", "cannot be reached");
    world.access.send_replace(None);
    let answer = scrape(&world, Some(ADMIN)).await;
    answer.refuses(503, "NotReady", "no connection to the API server");
    world.end().await;
}

#[tokio::test]
async fn without_https_everybody_reads_the_metrics() {
    let world = World::start().await;
    let answer = world.ask("GET", "/metrics", None).await;
    assert_eq!(answer.status, 200);
    world.end().await;
}

#[tokio::test]
async fn plain_http_gets_no_answer_from_the_port_with_https() {
    let world = World::secured(self_signed()).await;
    let request = request("GET", "/metrics").body(Body::empty()).unwrap();
    let answer = send_with(&crate::fakes::client(world.port), request).await;
    assert!(answer.is_err(), "{answer:?}");
    world.end().await;
}

/// Writes a certificate of its own for localhost into the folder; what a client has to trust.
pub fn issue(dir: &Path) -> Vec<u8> {
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let certificate = certificate.self_signed(&key).unwrap();
    fs::write(dir.join("tls.crt"), certificate.pem()).unwrap();
    fs::write(dir.join("tls.key"), key.serialize_pem()).unwrap();
    certificate.der().to_vec()
}

#[tokio::test]
async fn a_certificate_that_is_renewed_is_used_and_a_broken_one_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let first = issue(dir.path());
    let certificate = Certificate::of_files(dir.path()).unwrap();
    let following = tokio::spawn(certificate.clone().follow());
    let world = World::secured(certificate).await;
    let shows = async |authority: &[u8]| {
        let client = client(world.port, Some(authority.to_vec()));
        let request = request("GET", "/operations").body(Body::empty()).unwrap();
        send_with(&client, request).await.is_ok()
    };
    assert!(shows(&first).await);
    fs::write(dir.path().join("tls.key"), "no key").unwrap();
    let second = issue(&{
        let other = dir.path().join("other");
        fs::create_dir(&other).unwrap();
        other
    });
    assert!(shows(&first).await && !shows(&second).await);
    // A Secret that is mounted changes as a whole.
    for file in ["tls.crt", "tls.key"] {
        fs::rename(dir.path().join("other").join(file), dir.path().join(file)).unwrap();
    }
    eventually("the new certificate", Duration::from_mins(1), async || {
        Ok(shows(&second).await.then_some(()))
    })
    .await
    .unwrap();
    assert!(!shows(&first).await);
    following.abort();
    world.end().await;
}

#[test]
fn files_that_are_no_certificate_are_refused_with_what_is_right() {
    let dir = tempfile::tempdir().unwrap();
    let said = || Certificate::of_files(dir.path()).err().unwrap().to_string();
    assert!(
        said().contains("tls.crt: give a folder with tls.crt and tls.key"),
        "{}",
        said()
    );
    issue(dir.path());
    fs::write(dir.path().join("tls.key"), "no key").unwrap();
    assert!(
        said().contains("tls.key has no certificate or key in PEM"),
        "{}",
        said()
    );
    let certificate = fs::read(dir.path().join("tls.crt")).unwrap();
    issue(dir.path());
    fs::write(dir.path().join("tls.crt"), certificate).unwrap();
    assert!(said().contains("cannot be used"), "{}", said());
}
