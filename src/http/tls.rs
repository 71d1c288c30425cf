//! The certificate of the HTTP port: read from files, and again when they change, or generated at startup.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rcgen::{CertificateParams, KeyPair};
use rustls::ServerConfig;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem};
use tokio::sync::watch;

/// The file names, as in a Secret of type kubernetes.io/tls.
const FILES: [&str; 2] = ["tls.crt", "tls.key"];
/// How often the files are checked for changes. Certificates are renewed days before they expire, and a kubelet
/// takes up to a minute to update the files.
const LOOK: Duration = Duration::from_secs(10);

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("Cannot read {}: give a folder with tls.crt and tls.key", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file has no certificate or key.
    #[error("{} has no certificate or key in PEM", path.display())]
    NotPem {
        /// The file.
        path: PathBuf,
        /// Why.
        source: pem::Error,
    },
    /// The certificate and the key do not match.
    #[error("The certificate and the key cannot be used")]
    Unusable(#[source] rustls::Error),
    /// No certificate could be generated.
    #[error("Cannot make a certificate")]
    NotMade(#[source] rcgen::Error),
}

/// A certificate that may be replaced while it is used.
#[derive(Clone)]
pub struct Certificate {
    config: Arc<watch::Sender<Arc<ServerConfig>>>,
    files: Option<Files>,
}

/// The files it comes from, with their last contents.
#[derive(Clone, PartialEq)]
struct Files {
    dir: PathBuf,
    contents: [Vec<u8>; 2],
}

impl Certificate {
    /// Generates a self-signed certificate for these names.
    ///
    /// # Errors
    /// When a name is invalid.
    pub fn self_signed(names: Vec<String>) -> Result<Self, TlsError> {
        let key = KeyPair::generate().map_err(TlsError::NotMade)?;
        let certificate = CertificateParams::new(names)
            .and_then(|params| params.self_signed(&key))
            .map_err(TlsError::NotMade)?;
        let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
        Ok(Self {
            config: current(server(vec![certificate.into()], key)?),
            files: None,
        })
    }

    /// Reads the certificate in this folder.
    ///
    /// # Errors
    /// When there is no usable certificate.
    pub fn of_files(dir: &Path) -> Result<Self, TlsError> {
        let files = Files::read(dir)?;
        Ok(Self {
            config: current(files.server()?),
            files: Some(files),
        })
    }

    /// The configuration for new handshakes.
    pub(super) fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.config.borrow())
    }

    /// Reloads the files when they change; never returns. Files that cannot be used are logged, and the previous
    /// certificate stays in use.
    pub async fn follow(mut self) {
        let Some(files) = &mut self.files else {
            return std::future::pending().await;
        };
        loop {
            tokio::time::sleep(LOOK).await;
            // Small, and in memory where a Secret is mounted.
            let read = Files::read(&files.dir);
            if read.as_ref().is_ok_and(|read| read == files) {
                continue;
            }
            match read.and_then(|read| Ok((read.server()?, read))) {
                Ok((server, read)) => {
                    self.config.send_replace(server);
                    *files = read;
                    tracing::info!(dir = %files.dir.display(), "Using the new certificate");
                }
                Err(error) => {
                    let error = anyhow::Error::from(error);
                    tracing::warn!(
                        error = format_args!("{error:#}"),
                        "Keeping the old certificate"
                    );
                }
            }
        }
    }
}

impl Files {
    fn read(dir: &Path) -> Result<Self, TlsError> {
        let read = |name: &str| {
            let path = dir.join(name);
            fs::read(&path).map_err(|source| TlsError::Unreadable { path, source })
        };
        let [certificate, key] = FILES.map(read);
        Ok(Self {
            dir: dir.to_owned(),
            contents: [certificate?, key?],
        })
    }

    fn server(&self) -> Result<Arc<ServerConfig>, TlsError> {
        let not_pem = |name: &str| {
            let path = self.dir.join(name);
            move |source| TlsError::NotPem { path, source }
        };
        let [certificate, key] = &self.contents;
        let chain = CertificateDer::pem_slice_iter(certificate).collect::<Result<Vec<_>, _>>();
        let chain = chain.map_err(not_pem(FILES[0]))?;
        let key = PrivateKeyDer::from_pem_slice(key).map_err(not_pem(FILES[1]))?;
        server(chain, key)
    }
}

fn current(config: Arc<ServerConfig>) -> Arc<watch::Sender<Arc<ServerConfig>>> {
    Arc::new(watch::Sender::new(config))
}

fn server(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<Arc<ServerConfig>, TlsError> {
    let mut config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key))
        .map_err(TlsError::Unusable)?;
    // A client that offers HTTP/2 negotiates HTTP/1.1.
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}
