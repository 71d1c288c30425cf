//! The clients, and how they reach the API server.

use kube::{Client, Config};

use super::fence::Fenced;
use super::transport;
use crate::registry::election::Leadership;

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Neither a kubeconfig nor a service account.
    #[error(
        "Cannot find out how to reach the API server: set KUBECONFIG to a kubeconfig file, or run in a pod with a service account"
    )]
    NoConfig(#[source] Box<kube::config::InferConfigError>),
    /// Proxies are not supported.
    #[error(
        "Cannot reach the API server through the proxy '{0}': proxies are not supported; run this where the API server can be reached, without proxy-url in the kubeconfig and HTTPS_PROXY in the environment"
    )]
    Proxy(String),
    /// The configuration cannot be used.
    #[error(
        "Cannot use the configuration of the API server: check the certificates and the address in the kubeconfig"
    )]
    BadConfig(#[source] Box<kube::Error>),
}

/// A client, its server, and the configuration to create more clients.
pub struct Connection {
    /// The client.
    pub client: Client,
    /// Host and port of the API server.
    pub server: String,
    config: Config,
}

impl Connection {
    fn new(config: Config) -> Result<Self, ClientError> {
        if let Some(proxy) = &config.proxy_url {
            // Not the whole address: it may contain a password.
            return Err(ClientError::Proxy(proxy.host().unwrap_or_default().into()));
        }
        let server = config.cluster_url.authority().map(ToString::to_string);
        Ok(Self {
            client: transport::client(&config, Ok).map_err(bad_config)?,
            server: server.unwrap_or_default(),
            config,
        })
    }

    /// A client with connections of its own.
    ///
    /// # Errors
    /// When the configuration cannot be used.
    pub fn another(&self) -> Result<Client, ClientError> {
        transport::client(&self.config, Ok).map_err(bad_config)
    }

    /// A client that sends nothing unless this replica may write.
    ///
    /// # Errors
    /// When the configuration cannot be used.
    pub fn writer(&self, leadership: &Leadership) -> Result<Client, ClientError> {
        let leadership = leadership.clone();
        transport::client(&self.config, move |stream| {
            Fenced::new(stream, leadership.clone())
        })
        .map_err(bad_config)
    }
}

fn bad_config(error: kube::Error) -> ClientError {
    ClientError::BadConfig(Box::new(error))
}

/// A client from the kubeconfig, else from the pod's service account.
///
/// # Errors
/// When there is neither, or the configuration cannot be used. Does not connect, so an unavailable API server
/// is no error.
pub async fn connect() -> Result<Connection, ClientError> {
    Config::infer()
        .await
        .map_err(|error| ClientError::NoConfig(Box::new(error)))
        .and_then(Connection::new)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxy_is_rejected_by_name_and_without_its_password() {
        let proxy = "http://user:secret@proxy.example:3128";
        let mut config = Config::new("https://127.0.0.1:6443".parse().unwrap());
        config.proxy_url = Some(proxy.parse().unwrap());
        let error = Connection::new(config).err().unwrap().to_string();
        assert!(error.contains("'proxy.example'"), "{error}");
        assert!(!error.contains("secret"), "{error}");
    }
}
