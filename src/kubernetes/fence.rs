//! A client that sends nothing unless this replica may write.
//!
//! A process can be stopped at any point, and for longer than its lease lasts; what it had decided to write
//! before it would then be written after somebody else has taken over. So the last thing that is asked
//! before bytes leave the process is whether it still may, below the encryption, where the next step is the
//! system call. Bytes that the kernel has not sent yet when the connection is closed are thrown away.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use http::Uri;
use hyper_util::client::legacy::connect::{Connected, Connection, HttpConnector};
use hyper_util::client::legacy::{Client as HyperClient, connect};
use hyper_util::rt::{TokioExecutor, TokioIo};
use kube::client::{Body, ConfigExt};
use kube::{Client, Config};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tower::{BoxError, Service, ServiceBuilder, service_fn};

use crate::registry::election::Leadership;

/// A client of the API server that `config` names, for whatever only the leader may do. Connecting takes no
/// longer than `connect_timeout`.
///
/// # Errors
/// When the configuration cannot be used.
pub(super) fn client(
    config: &Config,
    leadership: &Leadership,
    connect_timeout: Duration,
) -> kube::Result<Client> {
    let mut plain = HttpConnector::new();
    plain.enforce_http(false);
    plain.set_nodelay(true);
    plain.set_connect_timeout(Some(connect_timeout));
    let leadership = leadership.clone();
    let fenced = service_fn(move |server: Uri| {
        // It is always ready.
        let connecting = plain.clone().call(server);
        let leadership = leadership.clone();
        async move {
            let stream = connecting.await?.into_inner();
            // What is not sent when this process ends is not sent at all.
            stream.set_zero_linger().map_err(BoxError::from)?;
            Ok::<_, BoxError>(TokioIo::new(Fenced { stream, leadership }))
        }
    });
    let connector = config.rustls_https_connector_with_connector(fenced)?;
    let client: HyperClient<_, Body> = HyperClient::builder(TokioExecutor::new()).build(connector);
    let service = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .option_layer(config.auth_layer()?)
        .layer(config.extra_headers_layer()?)
        .map_err(BoxError::from)
        .service(client);
    Ok(Client::new(service, config.default_namespace.clone()))
}

/// A connection on which nothing is sent unless this replica may write.
struct Fenced {
    stream: TcpStream,
    leadership: Leadership,
}

impl Fenced {
    fn check(&self) -> io::Result<()> {
        if self.leadership.holds() {
            Ok(())
        } else {
            Err(io::Error::new(
                io::ErrorKind::PermissionDenied,
                "this replica does not hold the lease",
            ))
        }
    }
}

impl AsyncWrite for Fenced {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.check()?;
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.check()?;
        Pin::new(&mut self.stream).poll_write_vectored(context, bytes)
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

impl AsyncRead for Fenced {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl Connection for Fenced {
    fn connected(&self) -> Connected {
        connect::Connection::connected(&self.stream)
    }
}
