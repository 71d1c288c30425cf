//! One connection of the operator, and its own to the API server.
//!
//! One to one: what happens to one happens to the other, without a connection pool in between.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio::task::JoinHandle;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::Shared;
use super::respond::respond;
use crate::certificates::Certificates;

/// How long the API server may take to accept a connection; a frozen one does not.
const CONNECT_DEADLINE: Duration = Duration::from_mins(1);

/// TLS on both sides.
pub(super) struct Tls {
    acceptor: TlsAcceptor,
    connector: TlsConnector,
}

impl Tls {
    pub(super) fn of(certificates: &Certificates) -> Result<Self> {
        let provider = Arc::new(default_provider());
        let identity = certificates.api_server();
        let chain = CertificateDer::pem_file_iter(&identity.certificate)?
            .collect::<std::result::Result<Vec<_>, _>>()?;
        let key = PrivateKeyDer::from_pem_file(&identity.key)?;
        let server = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(chain, key)?;
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(certificates.authority())?)?;
        let client = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self {
            acceptor: Arc::new(server).into(),
            connector: Arc::new(client).into(),
        })
    }
}

/// Serves a connection until either side closes it, or the door changes.
pub(super) async fn serve(stream: TcpStream, shared: Arc<Shared>) {
    let mut door = shared.door.subscribe();
    let Ok(stream) = shared.tls.acceptor.accept(stream).await else {
        return;
    };
    let upstream = Arc::new(Upstream::default());
    let service = service_fn(|request| {
        let (shared, upstream) = (Arc::clone(&shared), Arc::clone(&upstream));
        async move { respond(&shared, &upstream, request).await }
    });
    let serving = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    tokio::select! {
        // An error means that either side cut the connection.
        _ = serving => {}
        _ = door.changed() => {}
    }
}

/// The connection to the API server, opened on demand.
#[derive(Default)]
pub(super) struct Upstream {
    connection: Mutex<Option<Connection>>,
}

struct Connection {
    sender: SendRequest<Full<Bytes>>,
    driver: JoinHandle<()>,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Upstream {
    /// Sends a request to the API server.
    ///
    /// # Errors
    ///
    /// When it cannot be reached or closes the connection.
    pub(super) async fn send(
        &self,
        shared: &Shared,
        request: Request<Full<Bytes>>,
    ) -> Result<http::Response<Incoming>> {
        let mut connection = self.connection.lock().await;
        let is_open = match connection.as_mut() {
            Some(open) => open.sender.ready().await.is_ok(),
            None => false,
        };
        if !is_open {
            let connecting = connect(shared);
            let connected = tokio::time::timeout(CONNECT_DEADLINE, connecting).await;
            *connection = Some(connected.context("the API server accepts no connection")??);
        }
        let open = connection.as_mut().context("there is a connection")?;
        Ok(open.sender.send_request(request).await?)
    }
}

async fn connect(shared: &Shared) -> Result<Connection> {
    let server = shared.upstream.borrow().clone();
    let stream = TcpStream::connect(&server).await?;
    stream.set_nodelay(true)?;
    let name = ServerName::try_from("kubernetes")?;
    let stream = shared.tls.connector.connect(name, stream).await?;
    let (sender, driving) = handshake(TokioIo::new(stream)).await?;
    let driver = tokio::spawn(async move {
        // The error reaches the caller that waits for a response.
        let _ = driving.await;
    });
    Ok(Connection { sender, driver })
}
