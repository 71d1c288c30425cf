//! Opens the ports and answers on them.

use std::fs;
use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context;

use super::config::{RunConfig, TlsChoice};
use super::descriptors;
use super::supervisor::Stage;
use crate::http::tls::{Certificate, TlsError};
use crate::http::{self, Listener, Port};
use crate::kubernetes::pod;
use crate::telemetry::health::Health;
use crate::telemetry::metrics::{Metrics, PortName};

/// Opens the configured ports. They outlive everything else, so that clients can see the state of the shutdown.
///
/// # Errors
/// When an address is taken, or a certificate cannot be used.
pub(super) fn open(
    config: &RunConfig,
    ports: &mut Stage,
    health: &Arc<Health>,
    shown: Port,
) -> anyhow::Result<()> {
    let caps = descriptors::caps();
    let bind = |address, flag, name| bind(address, flag, name, caps.of(name), &shown.metrics);
    let (listener, address) = bind(config.health_address, "--health-address", PortName::Health)?;
    tracing::info!(%address, "Serving health");
    let health = Arc::clone(health);
    ports.spawn("health", |stop| async move {
        http::serve_health(listener, health, stop).await;
    });

    let certificate =
        certificate(&config.metrics_tls).context("Cannot serve HTTPS: see --metrics-tls")?;
    let (listener, address) = bind(
        config.metrics_address,
        "--metrics-address",
        PortName::Metrics,
    )?;
    let (version, https) = (env!("CARGO_PKG_VERSION"), certificate.is_some());
    tracing::info!(%address, https, version, "Serving metrics and operations");
    if let Some(certificate) = certificate.clone() {
        ports.spawn_until_stopped("certificate", certificate.follow());
    }
    if let Some(address) = config.debug_address {
        let (listener, address) = bind(address, "--debug-address", PortName::Debug)?;
        if address.ip().is_loopback() {
            tracing::info!(%address, "Serving /debug");
        } else {
            tracing::warn!(%address, "Serving /debug without authentication on this address: clients can read every state");
        }
        let engine = shown.engine.clone();
        ports.spawn("debug", |stop| async move {
            http::serve_debug(listener, engine, stop).await;
        });
    }
    ports.spawn("metrics", |stop| async move {
        http::serve(listener, certificate, shown, stop).await;
    });

    Ok(())
}

fn bind(
    address: SocketAddr,
    flag: &str,
    name: PortName,
    cap: usize,
    metrics: &Arc<Metrics>,
) -> anyhow::Result<(Listener, SocketAddr)> {
    Listener::bind(address, name, cap, Arc::clone(metrics))
        .and_then(|listener| {
            let address = listener.address()?;
            Ok((listener, address))
        })
        .with_context(|| format!("Cannot listen on {address}: choose another address with {flag}"))
}

fn certificate(choice: &TlsChoice) -> Result<Option<Certificate>, TlsError> {
    match choice {
        TlsChoice::Auto if pod::namespace().is_none() => Ok(None),
        TlsChoice::Off => Ok(None),
        TlsChoice::Auto | TlsChoice::SelfSigned => Certificate::self_signed(names()).map(Some),
        TlsChoice::Files(dir) => Certificate::of_files(dir).map(Some),
    }
}

/// The host names under which clients reach this process.
fn names() -> Vec<String> {
    let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host = host.trim();
    // A certificate can only have valid DNS names.
    let is_name = !host.is_empty()
        && host
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-.".contains(&byte));
    let mut names = vec![
        "localhost".to_owned(),
        "127.0.0.1".to_owned(),
        "::1".to_owned(),
    ];
    names.extend(is_name.then(|| host.to_owned()));
    names
}
