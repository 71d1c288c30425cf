//! The clients, with the deadlines that kube does not set by itself.

use std::time::Duration;

use kube::{Client, Config};

use super::fence;
use crate::registry::election::Leadership;

/// A read that is silent for so long is on a dead connection. Longer than [`super::watch::TIMEOUT`],
/// after which the API server ends a silent watch by itself.
const READ_TIMEOUT: Duration = Duration::from_secs(75);
/// Connecting takes milliseconds; an address that does not answer must not hold up a retry.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Neither a kubeconfig nor a service account.
    #[error(
        "Cannot find out how to reach the API server: set KUBECONFIG to a kubeconfig file, or run in a pod with a service account"
    )]
    NoConfig(#[source] Box<kube::config::InferConfigError>),
    /// The configuration cannot be used.
    #[error(
        "Cannot use the configuration of the API server: check the certificates and the address in the kubeconfig"
    )]
    BadConfig(#[source] Box<kube::Error>),
}

/// A client, whom it talks to, and how to get others.
pub struct Connection {
    /// The client.
    pub client: Client,
    /// Host and port of the API server.
    pub server: String,
    config: Config,
}

impl Connection {
    /// A client with connections of its own.
    ///
    /// # Errors
    /// When the configuration cannot be used.
    pub fn another(&self) -> Result<Client, ClientError> {
        Client::try_from(self.config.clone()).map_err(bad_config)
    }

    /// A client that sends nothing unless this replica may write.
    ///
    /// # Errors
    /// When the configuration cannot be used.
    pub fn writer(&self, leadership: &Leadership) -> Result<Client, ClientError> {
        fence::client(&self.config, leadership, CONNECT_TIMEOUT).map_err(bad_config)
    }
}

fn bad_config(error: kube::Error) -> ClientError {
    ClientError::BadConfig(Box::new(error))
}

/// A client from the kubeconfig, else from the pod's service account.
///
/// # Errors
/// When there is neither, or when they cannot be used. Does not connect, so an API server that is
/// away is no error.
pub async fn connect() -> Result<Connection, ClientError> {
    let mut config = Config::infer()
        .await
        .map_err(|error| ClientError::NoConfig(Box::new(error)))?;
    config.connect_timeout = Some(CONNECT_TIMEOUT);
    config.read_timeout = Some(READ_TIMEOUT);
    // Else the time that a pooled connection was idle counts against the next answer on it.
    config.reset_reader_on_write = true;
    // Every caller here has a backoff of its own, which also says what it is waiting for.
    config.default_retry = false;
    let server = config.cluster_url.authority().map(ToString::to_string);
    Ok(Connection {
        client: Client::try_from(config.clone()).map_err(bad_config)?,
        server: server.unwrap_or_default(),
        config,
    })
}
