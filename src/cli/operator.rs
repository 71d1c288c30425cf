//! A running operator, as seen from outside. Each question has a deadline; an answer is read up to a
//! limit and never trusted to be what was asked for: something else may listen there.

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

/// The operator asks the API server first, for which it takes 5 s at most.
const DEADLINE: Duration = Duration::from_secs(15);
/// Connecting takes milliseconds.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// An operation has about 1 KiB, and the names of all pools some 100.
const ANSWER_LIMIT: usize = 1 << 20;
/// How much of a text that is no answer of ours is shown.
const SHOWN: usize = 200;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum OperatorError {
    /// The URL is none.
    #[error(
        "{server:?} is not the URL of an operator: it has a scheme (http or https), a host and a port, as in http://127.0.0.1:8080"
    )]
    BadServer {
        /// What was given.
        server: String,
    },
    /// There is no certificate to compare with.
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
    /// Nobody answers.
    #[error(
        "Cannot reach the operator at {server}: {why}; does it run there? From outside of the cluster: \
         kubectl port-forward -n node-insights deployment/node-insights 8443, and --server https://127.0.0.1:8443 \
         --insecure-skip-tls-verify; or name another place with --server"
    )]
    Unreachable {
        /// Where.
        server: String,
        /// What happened.
        why: String,
    },
    /// The operator says no.
    #[error("The operator at {server} says: {error}")]
    Refused {
        /// Where.
        server: String,
        /// Its own words.
        error: String,
    },
    /// Somebody else answers.
    #[error(
        "What answers at {server} is no operator of this version ({status}): {text:?}; check --server"
    )]
    Unknown {
        /// Where.
        server: String,
        /// The status of the answer.
        status: StatusCode,
        /// The beginning of the answer.
        text: String,
    },
}

/// What came of a wish to start an operation.
pub(super) struct Started {
    pub(super) operation: Operation,
    /// It ran already.
    pub(super) ran: bool,
}

/// Whose certificate is taken for the operator's.
pub(super) enum Trust {
    /// One that an authority has signed which this machine trusts.
    Machine,
    /// One that a certificate in this file has signed, or one of these.
    File(PathBuf),
    /// Any.
    Anybody,
}

impl Trust {
    pub(super) fn of(config: &ResyncConfig) -> Self {
        match &config.certificate_authority {
            Some(path) => Self::File(path.clone()),
            None if config.insecure_skip_tls_verify => Self::Anybody,
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
        return Err(bad("there is none".to_owned()));
    }
    Ok(found)
}

pub(super) struct Operator {
    client: Client,
    server: String,
}

/// What the operator says when it does not do what it was asked.
#[derive(Deserialize)]
struct Refusal {
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
            // Else the authorities of the machine are read, and it is an error when there are none.
            config.root_cert = Some(Vec::new());
        }
        match trust {
            Trust::Machine => {}
            Trust::File(path) => config.root_cert = Some(certificates(path)?),
            Trust::Anybody => {
                config.root_cert = Some(Vec::new());
                config.accept_invalid_certs = true;
            }
        }
        Ok(Self {
            client: Client::try_from(config).map_err(|_| bad())?,
            server: server.trim_end_matches('/').to_owned(),
        })
    }

    /// Where the port shows an operation.
    pub(super) fn url(&self, id: &OperationId) -> String {
        format!("{}/operations/{id}", self.server)
    }

    /// Has everything compared, or the nodes of one pool evaluated again.
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

    /// The operation once it has got further, or after `wait`, whatever comes first.
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
            Ok(Refusal { error }) if !status.is_success() => Err(OperatorError::Refused {
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

/// The text as a terminal may show it.
pub(super) fn plain(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}
