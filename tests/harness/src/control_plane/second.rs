//! A second API server on the same etcd, as in a cluster with several control-plane nodes.

use anyhow::{Result, bail};
use kube::Client;

use super::start::{admin_client, wait_for_api_server};
use super::{ControlPlane, port};
use crate::audit::AuditLog;
use crate::process::Process;

/// How many ports are tried: one may be taken between the choice and the start.
const PORT_TRIES: usize = 5;

/// An additional API server; its drop ends it. Certificates, tokens and RBAC are shared; it has its own audit log.
pub struct ApiServer {
    /// `https://127.0.0.1:PORT`.
    pub url: String,
    /// To be stopped and continued by signals.
    pub process: Process,
    client: Client,
    audit: AuditLog,
}

impl ApiServer {
    /// A client of the cluster admin that talks to this API server.
    #[must_use]
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// This API server's audit log.
    #[must_use]
    pub fn audit(&self) -> AuditLog {
        self.audit.clone()
    }
}

impl ControlPlane {
    /// Starts another API server on the same etcd; ready when this returns.
    ///
    /// # Errors
    ///
    /// When it does not become ready.
    pub async fn another_api_server(&self) -> Result<ApiServer> {
        for _ in 0..PORT_TRIES {
            let port = port::free_port()?;
            let url = format!("https://127.0.0.1:{port}");
            let audit = self.layout.of_api_server(port, "audit.log");
            let flags = [
                format!("--secure-port={port}"),
                format!("--audit-log-path={}", audit.display()),
            ];
            let kubeconfig = self.layout.of_api_server(port, "admin.kubeconfig");
            let client = admin_client(&self.layout, &url, &kubeconfig).await?;
            let process = self.api_server_command.spawn_with(&self.layout, &flags)?;
            match wait_for_api_server(&process, &client).await {
                Ok(()) => {
                    return Ok(ApiServer {
                        url,
                        process,
                        client,
                        audit: AuditLog::new(audit),
                    });
                }
                Err(_) if process.read_stderr().contains(super::start::PORT_TAKEN) => {}
                Err(error) => return Err(error),
            }
        }
        bail!("each of {PORT_TRIES} ports was taken before the API server had it")
    }
}
