//! A client of a running operator. Each request has a deadline; a response is read up to a limit and validated, as
//! another program may listen there.

use std::path::{Path, PathBuf};
use std::time::Duration;

use axum::body::to_bytes;
use http::header::{AUTHORIZATION, HeaderValue};
use http::{Method, Request, StatusCode, Uri};
use kube::client::Body;
use kube::{Client, Config};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use serde::Deserialize;
use tokio::time::timeout;

use crate::app::config::ResyncConfig;
use crate::kubernetes::diagnosis::root_cause;
use crate::registry::operations::{Operation, OperationId};

/// The operator first sends a review to the API server, for at most 5 s.
const DEADLINE: Duration = Duration::from_secs(15);
/// Connecting takes milliseconds.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// An operation has about 1 KiB, the names of all pools about 100 KiB.
const ANSWER_LIMIT: usize = 1 << 20;
/// How many characters of an unknown response are shown.
const SHOWN: usize = 200;

/// Why a request failed.
#[derive(Debug, thiserror::Error)]
pub enum OperatorError {
    /// The URL is invalid.
    #[error(
        "{server:?} is not a valid URL of an operator: it needs a scheme (http or https), a host and a port, as in http://127.0.0.1:8080"
    )]
    BadServer {
        /// The given URL.
        server: String,
    },
    /// The certificates of the authority cannot be read.
    #[error("Cannot read certificates in PEM from {}, which --certificate-authority names: {why}", path.display())]
    BadAuthority {
        /// The file.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// The token cannot be sent.
    #[error("What was given as a token is none: it has characters that no token has")]
    BadToken,
    /// The operator does not respond.
    #[error(
        "Cannot reach the operator at {server}: {why}; is it running there? From outside of the cluster: \
         kubectl port-forward -n node-insights deployment/node-insights 8443, and --server https://127.0.0.1:8443 \
         --insecure-skip-tls-verify; or set another URL with --server"
    )]
    Unreachable {
        /// The URL.
        server: String,
        /// What happened.
        why: String,
    },
    /// The operator rejected the request.
    #[error("The operator at {server} rejected the request: {error}")]
    Rejected {
        /// The URL.
        server: String,
        /// The operator's message.
        error: String,
    },
    /// The response is not from an operator of this version.
    #[error(
        "What answers at {server} is no operator of this version ({status}): {text:?}; check --server"
    )]
    Unknown {
        /// The URL.
        server: String,
        /// The status of the response.
        status: StatusCode,
        /// The beginning of the response.
        text: String,
    },
}

/// A started operation.
pub(super) struct Started {
    pub(super) operation: Operation,
    /// It was already running.
    pub(super) ran: bool,
}

/// Which certificates are accepted from the operator.
pub(super) enum Trust {
    /// One signed by an authority that this machine trusts.
    Machine,
    /// One of this file, or one signed by one of this file.
    File(PathBuf),
    /// Any.
    Any,
}

impl Trust {
    pub(super) fn of(config: &ResyncConfig) -> Self {
        match &config.certificate_authority {
            Some(path) => Self::File(path.clone()),
            None if config.insecure_skip_tls_verify => Self::Any,
            None => Self::Machine,
        }
    }
}

fn certificates(path: &Path) -> Result<Vec<Vec<u8>>, OperatorError> {
    let bad = |why: String| OperatorError::BadAuthority {
        path: path.to_owned(),
        why,
    };
    let found = CertificateDer::pem_file_iter(path).map_err(|error| bad(error.to_string()))?;
    let found = found.map(|found| found.map(|found| found.to_vec()));
    let found: Vec<_> = found
        .collect::<Result<_, _>>()
        .map_err(|error| bad(error.to_string()))?;
    if found.is_empty() {
        return Err(bad("the file has no certificate".to_owned()));
    }
    Ok(found)
}

pub(super) struct Operator {
    client: Client,
    server: String,
}

/// The operator's response to a rejected request.
#[derive(Deserialize)]
struct Rejection {
    error: String,
}

impl Operator {
    /// The operator whose HTTP port is at `server`. Does not connect.
    pub(super) fn at(server: &str, trust: &Trust) -> Result<Self, OperatorError> {
        let bad = || OperatorError::BadServer {
            server: server.to_owned(),
        };
        let uri: Uri = server.parse().map_err(|_| bad())?;
        if uri.host().is_none() || !matches!(uri.scheme_str(), Some("http" | "https")) {
            return Err(bad());
        }
        let is_plain = uri.scheme_str() == Some("http");
        let mut config = Config::new(uri);
        config.connect_timeout = Some(CONNECT_TIMEOUT);
        config.default_retry = false;
        if is_plain {
            // Without this, the machine's authorities are read, and missing ones are an error.
            config.root_cert = Some(Vec::new());
        }
        match trust {
            Trust::Machine => {}
            Trust::File(path) => config.root_cert = Some(certificates(path)?),
            Trust::Any => {
                config.root_cert = Some(Vec::new());
                config.accept_invalid_certs = true;
            }
        }
        Ok(Self {
            client: Client::try_from(config).map_err(|_| bad())?,
            server: server.trim_end_matches('/').to_owned(),
        })
    }

    /// The URL of an operation.
    pub(super) fn url(&self, id: &OperationId) -> String {
        format!("{}/operations/{id}", self.server)
    }

    /// Starts a full compare, or the evaluation of the nodes of one pool.
    pub(super) async fn start(
        &self,
        pool: Option<&str>,
        token: &str,
    ) -> Result<Started, OperatorError> {
        let path = match pool {
            None => "/operations/resync".to_owned(),
            Some(pool) => {
                let pool = form_urlencoded::byte_serialize(pool.as_bytes()).collect::<String>();
                format!("/operations/reevaluate?pool={pool}")
            }
        };
        let mut token = HeaderValue::try_from(format!("Bearer {token}"))
            .map_err(|_| OperatorError::BadToken)?;
        token.set_sensitive(true);
        let (status, operation) = self.ask(Method::POST, &path, Some(token), DEADLINE).await?;
        Ok(Started {
            operation,
            ran: status == StatusCode::OK,
        })
    }

    /// The operation, as soon as it has progressed, or after `wait` at the latest.
    pub(super) async fn further(
        &self,
        id: &OperationId,
        wait: Duration,
    ) -> Result<Operation, OperatorError> {
        let path = format!("/operations/{id}?wait={}", wait.as_secs());
        let answer = self.ask(Method::GET, &path, None, wait + DEADLINE).await?;
        Ok(answer.1)
    }

    async fn ask(
        &self,
        method: Method,
        path: &str,
        token: Option<HeaderValue>,
        deadline: Duration,
    ) -> Result<(StatusCode, Operation), OperatorError> {
        let unreachable = |why: String| OperatorError::Unreachable {
            server: self.server.clone(),
            why,
        };
        let mut request = Request::new(Body::empty());
        *request.method_mut() = method;
        *request.uri_mut() = path.parse().map_err(|_| OperatorError::BadServer {
            server: self.server.clone(),
        })?;
        if let Some(token) = token {
            request.headers_mut().insert(AUTHORIZATION, token);
        }
        let answer = async {
            let answer = self.client.send(request).await;
            let answer = answer.map_err(|error| unreachable(root_cause(&error)))?;
            let status = answer.status();
            let body = axum::body::Body::new(answer.into_body());
            let body = to_bytes(body, ANSWER_LIMIT).await;
            let body = body.map_err(|error| unreachable(root_cause(&error)))?;
            self.read(status, &body)
        };
        timeout(deadline, answer).await.unwrap_or_else(|_| {
            let seconds = deadline.as_secs();
            Err(unreachable(format!("no answer within {seconds} s")))
        })
    }

    fn read(
        &self,
        status: StatusCode,
        body: &[u8],
    ) -> Result<(StatusCode, Operation), OperatorError> {
        let server = || self.server.clone();
        if status.is_success()
            && let Ok(operation) = serde_json::from_slice(body)
        {
            return Ok((status, operation));
        }
        match serde_json::from_slice(body) {
            Ok(Rejection { error }) if !status.is_success() => Err(OperatorError::Rejected {
                server: server(),
                error: plain(&error),
            }),
            _ => Err(OperatorError::Unknown {
                server: server(),
                status,
                text: String::from_utf8_lossy(body).chars().take(SHOWN).collect(),
            }),
        }
    }
}

/// The text without control characters.
pub(super) fn plain(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}
