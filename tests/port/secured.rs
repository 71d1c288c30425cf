//! The HTTPS port: who may read the metrics, and which certificate is served.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use kube::client::Body;
use kube::{Client, Config};
use node_insights::http::tls::Certificate;
use node_insights_harness::eventually;
use rcgen::{CertificateParams, KeyPair};

use crate::fakes::{ADMIN, Response, VIEWER, World, closed_port, request, send_with};

fn self_signed() -> Certificate {
    Certificate::self_signed(vec!["localhost".to_owned()]).unwrap()
}

/// A client that trusts `authority`, or any certificate.
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

async fn scrape(world: &World, token: Option<&str>) -> Response {
    let mut request = request("GET", "/metrics");
    if let Some(token) = token {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    let request = request.body(Body::empty()).unwrap();
    send_with(&client(world.port, None), request).await.unwrap()
}

#[tokio::test]
async fn only_authorized_clients_can_read_the_metrics() {
    let world = World::secured(self_signed()).await;
    let response = scrape(&world, Some(ADMIN)).await;
    assert_eq!(response.status, 200);
    assert!(
        response.text.contains("node_insights_build_info"),
        "{}",
        response.text
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
        scrape(&world, token).await.is_error(status, reason, hint);
    }
    world.end().await;
}

#[tokio::test]
async fn while_permissions_cannot_be_checked_nobody_can_read_the_metrics() {
    let world = World::secured(self_signed()).await;
    world.access_by(closed_port().await);
    let response = scrape(&world, Some(ADMIN)).await;
    response.is_error(503, "AccessUnknown", "cannot be reached");
    world.access.send_replace(None);
    let response = scrape(&world, Some(ADMIN)).await;
    response.is_error(503, "NotReady", "no connection to the API server");
    world.end().await;
}

#[tokio::test]
async fn without_https_everybody_can_read_the_metrics() {
    let world = World::start().await;
    let response = world.ask("GET", "/metrics", None).await;
    assert_eq!(response.status, 200);
    world.end().await;
}

#[tokio::test]
async fn plain_http_gets_no_response_from_the_https_port() {
    let world = World::secured(self_signed()).await;
    let request = request("GET", "/metrics").body(Body::empty()).unwrap();
    let response = send_with(&crate::fakes::client(world.port), request).await;
    assert!(response.is_err(), "{response:?}");
    world.end().await;
}

/// Writes a self-signed certificate for localhost into the folder; returns what a client has to trust.
pub fn issue(dir: &Path) -> Vec<u8> {
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let certificate = certificate.self_signed(&key).unwrap();
    fs::write(dir.join("tls.crt"), certificate.pem()).unwrap();
    fs::write(dir.join("tls.key"), key.serialize_pem()).unwrap();
    certificate.der().to_vec()
}

#[tokio::test]
async fn a_renewed_certificate_is_used_and_a_broken_one_is_not() {
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
    // A mounted Secret changes as a whole.
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
fn files_that_are_not_a_certificate_are_rejected_with_a_remedy() {
    let dir = tempfile::tempdir().unwrap();
    let error = || Certificate::of_files(dir.path()).err().unwrap().to_string();
    assert!(
        error().contains("tls.crt: give a folder with tls.crt and tls.key"),
        "{}",
        error()
    );
    issue(dir.path());
    fs::write(dir.path().join("tls.key"), "no key").unwrap();
    assert!(
        error().contains("tls.key has no certificate or key in PEM"),
        "{}",
        error()
    );
    let certificate = fs::read(dir.path().join("tls.crt")).unwrap();
    issue(dir.path());
    fs::write(dir.path().join("tls.crt"), certificate).unwrap();
    assert!(error().contains("cannot be used"), "{}", error());
}
