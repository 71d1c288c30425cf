//! The certificate of the HTTP port: from files, read anew when they change, or made at the start.

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

/// What the files are called, as in a Secret of the type kubernetes.io/tls.
const FILES: [&str; 2] = ["tls.crt", "tls.key"];
/// How often it is looked whether the files have changed. Certificates are renewed days before they expire,
/// and a kubelet takes up to a minute to show it.
const LOOK: Duration = Duration::from_secs(10);

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("Cannot read {}: give a folder with tls.crt and tls.key", path.display())]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file is none of its kind.
    #[error("{} has no certificate or key in PEM", path.display())]
    NotPem {
        /// Which.
        path: PathBuf,
        /// Why.
        source: pem::Error,
    },
    /// The certificate and the key are of no use together.
    #[error("The certificate and the key cannot be used")]
    Unusable(#[source] rustls::Error),
    /// One could not be made.
    #[error("Cannot make a certificate")]
    NotMade(#[source] rcgen::Error),
}

/// A certificate that may be replaced while it is used.
#[derive(Clone)]
pub struct Certificate {
    config: Arc<watch::Sender<Arc<ServerConfig>>>,
    files: Option<Files>,
}

/// Where it comes from, and what was there when it was last looked at.
#[derive(Clone, PartialEq)]
struct Files {
    dir: PathBuf,
    contents: [Vec<u8>; 2],
}

impl Certificate {
    /// One made now for these names, that nobody has signed.
    ///
    /// # Errors
    /// When the names are none.
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

    /// The one in this folder.
    ///
    /// # Errors
    /// When there is none that can be used.
    pub fn of_files(dir: &Path) -> Result<Self, TlsError> {
        let files = Files::read(dir)?;
        Ok(Self {
            config: current(files.server()?),
            files: Some(files),
        })
    }

    /// What a handshake that begins now goes by.
    pub(super) fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.config.borrow())
    }

    /// Uses what is in the files from now on when they change; for ever. What cannot be used is said, and what
    /// was there before is used.
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
    // Whoever would rather speak HTTP/2 learns that nobody here does.
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}
