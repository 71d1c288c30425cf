//! A real control plane: etcd, kube-apiserver and, when asked for, kube-controller-manager.
//!
//! ```text
//!   temporary folder: certificates, kubeconfigs, audit log, logs, etcd's data
//!        │
//!   etcd ◄─unix socket─ kube-apiserver ◄─https://127.0.0.1:PORT─ tests, operator, kubectl
//!                              ▲
//!                              └──────────────────────────────── kube-controller-manager
//! ```
//!
//! Each [`ControlPlane`] has its own folder, CA and port: any number run side by side, in one process
//! or in several. Everything listens on 127.0.0.1 only. The drop removes all of it, and the programs
//! end even when the test's process is killed (see [`crate::process`]; the logs and certificates are
//! then left behind, etcd's data is not).
//!
//! As in a cluster: RBAC, priority and fairness, the default admission plugins, the owner check of
//! `OpenShift`. Deliberately absent: kubelets, a scheduler, the node lifecycle controller; nodes are
//! what a test writes. [`ControlPlaneBuilder::nodes`] is for tests whose nodes really run.

mod backup;
mod flags;
mod folder;
mod kubeconfig;
mod layout;
pub(crate) mod port;
mod programs;
mod second;
mod start;
mod token;

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::api::PostParams;
use kube::{Api, Client};
use tokio::process::Command;

pub use self::backup::Backup;
pub use self::programs::find as find_programs;
pub use self::second::ApiServer;
pub use self::start::{ControlPlaneBuilder, NODE_PORT};
pub use crate::certificates::Identity;

use self::folder::Folder;
use self::kubeconfig::Credentials;
use self::layout::Layout;
use self::start::{ApiServerCommand, start_controller_manager, wait_for_api_server};
use crate::apply;
use crate::audit::AuditLog;
use crate::certificates::Certificates;
use crate::process::Process;

/// How long a token of [`ControlPlane::service_account_kubeconfig`] is valid, in seconds: longer than
/// any test or demo, as nothing renews it.
const TOKEN_SECONDS: i64 = 7 * 24 * 60 * 60;

/// How long a killed API server may take to exit.
const KILL_DEADLINE: Duration = Duration::from_secs(10);

/// A running control plane; its drop ends it.
///
/// The folder with the logs is removed, unless the thread is panicking or `NODE_INSIGHTS_KEEP_LOGS=1`
/// is set: then a line on stderr says where it is.
pub struct ControlPlane {
    client: Client,
    url: String,
    kubeconfig: PathBuf,
    layout: Layout,
    etcd_program: PathBuf,
    api_server_command: ApiServerCommand,
    // Dropped in this order: clients before servers, the folder when nothing writes to it any more.
    scheduler: Option<Process>,
    controller_manager: Option<Process>,
    api_server: Option<Process>,
    etcd: Process,
    folder: Folder,
}

/// A control plane that outlives the process that started it: see [`ControlPlane::keep`].
#[derive(Clone, Debug)]
pub struct DetachedControlPlane {
    /// The folder with everything, to be removed by hand.
    pub dir: PathBuf,
    /// The admin's kubeconfig, in that folder.
    pub kubeconfig: PathBuf,
    /// `https://127.0.0.1:PORT`.
    pub url: String,
    /// The process ids of the programs; `kill -9` on all of them ends the control plane. SIGTERM
    /// works too, but the API server takes a minute to shut down when etcd is gone first.
    pub pids: Vec<u32>,
}

impl ControlPlane {
    /// A control plane with options.
    #[must_use]
    pub fn builder() -> ControlPlaneBuilder {
        ControlPlaneBuilder::default()
    }

    /// Starts etcd and kube-apiserver.
    ///
    /// # Errors
    ///
    /// As [`ControlPlaneBuilder::start`].
    pub async fn start() -> Result<Self> {
        Self::builder().start().await
    }

    /// A client of the cluster admin, to whom RBAC does not apply.
    #[must_use]
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// The kubeconfig of the cluster's admin.
    #[must_use]
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// `https://127.0.0.1:PORT`; the port stays the same over an outage.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The folder of this control plane. Files that a test puts there are removed, or stay, with the logs.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.folder.path()
    }

    /// The API server's audit log.
    #[must_use]
    pub fn audit(&self) -> AuditLog {
        AuditLog::new(self.layout.audit_log())
    }

    pub(crate) fn certificates(&self) -> &Certificates {
        &self.layout.certificates
    }

    /// The running programs, to read their memory and CPU time: clients before servers.
    pub fn processes(&self) -> impl Iterator<Item = &Process> {
        self.scheduler
            .iter()
            .chain(&self.controller_manager)
            .chain(&self.api_server)
            .chain([&self.etcd])
    }

    /// Requests a token for a service account, which must exist, and writes a kubeconfig with it.
    /// Nothing else is created: the account can do what RBAC allows, and no more.
    ///
    /// # Errors
    ///
    /// When there is no such account.
    pub async fn service_account_kubeconfig(&self, namespace: &str, name: &str) -> Result<PathBuf> {
        let accounts: Api<ServiceAccount> = Api::namespaced(self.client(), namespace);
        let request = TokenRequest {
            spec: TokenRequestSpec {
                expiration_seconds: Some(TOKEN_SECONDS),
                ..TokenRequestSpec::default()
            },
            ..TokenRequest::default()
        };
        let token = accounts
            .create_token_request(name, &PostParams::default(), &request)
            .await
            .with_context(|| format!("requesting a token of service account {namespace}/{name}"))?
            .status
            .context("the response has no token")?
            .token;
        let path = self.layout.service_account_kubeconfig(namespace, name);
        let authority = self.layout.certificates.authority();
        kubeconfig::write(
            &path,
            &self.url,
            &authority,
            name,
            &Credentials::Token(&token),
        )?;
        Ok(path)
    }

    /// Writes the kubeconfig of a user in this group who reaches the API server at `url`. RBAC decides what the user
    /// may do.
    ///
    /// # Errors
    ///
    /// When a file cannot be written.
    pub fn user_kubeconfig(&self, url: &str, user: &str, group: Option<&str>) -> Result<PathBuf> {
        kubeconfig::for_user(&self.layout, url, user, group)
    }

    /// A server certificate for these names and addresses, signed by the cluster's CA.
    ///
    /// # Errors
    ///
    /// When a name is invalid, or a file cannot be written.
    pub fn server_certificate(&self, name: &str, names: Vec<String>) -> Result<Identity> {
        self.layout.certificates.issue_server(name, names)
    }

    /// The cluster's CA certificate.
    #[must_use]
    pub fn authority(&self) -> PathBuf {
        self.layout.certificates.authority()
    }

    /// An expired token of a service account, which must exist.
    ///
    /// # Errors
    ///
    /// When there is no such account.
    pub async fn expired_token(&self, namespace: &str, name: &str) -> Result<String> {
        let accounts: Api<ServiceAccount> = Api::namespaced(self.client(), namespace);
        let account = accounts.get(name).await?;
        let uid = account.metadata.uid.unwrap_or_default();
        let key = self.layout.certificates.service_account_key();
        token::expired(&key, namespace, name, &uid)
    }

    /// Applies the documents of `yaml`: see [`apply::apply_yaml`].
    ///
    /// # Errors
    ///
    /// When the text cannot be parsed or the API server rejects an object.
    pub async fn apply_yaml(&self, yaml: &str) -> Result<()> {
        apply::apply_yaml(&self.client, yaml).await
    }

    /// Applies the documents of a file: see [`apply::apply_file`].
    ///
    /// # Errors
    ///
    /// When the file cannot be read or the API server rejects an object.
    pub async fn apply_file(&self, path: impl AsRef<Path>) -> Result<()> {
        apply::apply_file(&self.client, path.as_ref()).await
    }

    /// Applies the `*.yaml` files of a folder, CRDs first: see [`apply::apply_dir`].
    ///
    /// # Errors
    ///
    /// When a file cannot be read or the API server rejects an object.
    pub async fn apply_dir(&self, path: impl AsRef<Path>) -> Result<()> {
        apply::apply_dir(&self.client, path.as_ref()).await
    }

    /// Begins an outage: the API server is killed, its port refuses connections, etcd keeps the data.
    ///
    /// # Errors
    ///
    /// When it is not running.
    pub async fn stop_api_server(&mut self) -> Result<()> {
        let process = self
            .api_server
            .take()
            .context("the API server is not running")?;
        process.kill()?;
        process.wait_timeout(KILL_DEADLINE).await?;
        Ok(())
    }

    /// Ends the outage: starts the API server as before, on the same port; ready when this returns.
    ///
    /// # Errors
    ///
    /// When it is already running, or does not become ready.
    pub async fn start_api_server(&mut self) -> Result<()> {
        ensure!(
            self.api_server.is_none(),
            "the API server is already running"
        );
        let process = self.api_server_command.spawn(&self.layout)?;
        wait_for_api_server(&process, &self.client).await?;
        self.api_server = Some(process);
        Ok(())
    }

    /// Starts the kube-controller-manager: see [`ControlPlaneBuilder::controller_manager`].
    ///
    /// # Errors
    ///
    /// When it is already running, is missing and cannot be built, or does not become ready.
    pub async fn start_controller_manager(&mut self) -> Result<()> {
        ensure!(
            self.controller_manager.is_none(),
            "the controller manager is already running"
        );
        let [program] = programs::find(["kube-controller-manager"]).await?;
        let process =
            start_controller_manager(&program, &self.layout, &self.url, &self.client, false)
                .await?;
        self.controller_manager = Some(process);
        Ok(())
    }

    /// Runs kubectl as the cluster admin and returns its stdout.
    ///
    /// # Errors
    ///
    /// When it cannot be found or fails; the message holds its stderr.
    pub async fn kubectl(&self, args: &[&str]) -> Result<String> {
        let [program] = programs::find(["kubectl"]).await?;
        let output = Command::new(program)
            .args(args)
            .env("KUBECONFIG", &self.kubeconfig)
            .env("KUBECACHEDIR", self.layout.kubectl_cache())
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output()
            .await
            .context("running kubectl")?;
        if !output.status.success() {
            let stderr = String::from_utf8_lossy(&output.stderr);
            bail!(
                "kubectl {} failed with {}: {}",
                args.join(" "),
                output.status,
                stderr.trim()
            );
        }
        Ok(String::from_utf8(output.stdout)?)
    }

    /// Detaches the control plane from this process, and returns how to reach and how to end it.
    ///
    /// # Errors
    ///
    /// When one of its programs has ended; the others are then ended as well.
    pub fn keep(self) -> Result<DetachedControlPlane> {
        let Self {
            url,
            kubeconfig,
            scheduler,
            controller_manager,
            api_server,
            etcd,
            folder,
            ..
        } = self;
        let processes: Vec<Process> = scheduler
            .into_iter()
            .chain(controller_manager)
            .chain(api_server)
            .chain([etcd])
            .collect();
        let pids = processes
            .into_iter()
            .map(Process::keep)
            .collect::<Result<_>>()?;
        Ok(DetachedControlPlane {
            dir: folder.keep(),
            kubeconfig,
            url,
            pids,
        })
    }
}

impl fmt::Debug for ControlPlane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ControlPlane")
            .field("url", &self.url)
            .field("dir", &self.dir())
            .finish_non_exhaustive()
    }
}
