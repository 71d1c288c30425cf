//! Starts a control plane within seconds, or fails with the reason.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Result, anyhow};
use http::Request;
use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

use super::folder::Folder;
use super::kubeconfig::{self, MASTERS};
use super::layout::Layout;
use super::{ControlPlane, flags, port, programs};
use crate::process::Process;
use crate::wait::eventually;

/// How long a server may take to become ready: a few seconds on an idle machine, up to a minute when
/// several tests start theirs at once.
const READY_DEADLINE: Duration = Duration::from_mins(1);

/// How many random ports are tried for the API server: one may be taken between the choice and the
/// start.
const PORT_TRIES: usize = 5;

/// The port of an API server that real nodes reach; a `NetworkPolicy` names it.
pub const NODE_PORT: u16 = 6443;

/// To whom RBAC does not apply.
const ADMIN: &str = "admin";

/// The API server's error when its port is taken.
pub(super) const PORT_TAKEN: &str = "address already in use";

/// The options of a control plane; see [`ControlPlane::builder`].
#[derive(Clone, Debug, Default)]
pub struct ControlPlaneBuilder {
    controller_manager: bool,
    node_address: Option<String>,
    api_server_flags: Vec<String>,
}

impl ControlPlaneBuilder {
    /// Whether to run the kube-controller-manager as well: garbage collection by owner, deletion of
    /// namespaces, statuses of PodDisruptionBudgets, aggregated roles, service accounts and their tokens. Off by default.
    ///
    /// The garbage collector looks for new kinds every 30 s: for custom resources, apply the CRDs
    /// first and call [`ControlPlane::start_controller_manager`] afterwards.
    #[must_use]
    pub fn controller_manager(mut self, yes: bool) -> Self {
        self.controller_manager = yes;
        self
    }

    /// For nodes that really run: their kubelets reach the API server at this address, on [`NODE_PORT`]; the
    /// scheduler and every controller run as well, and all admission is on.
    ///
    /// Listens on every address, so use it only in a network namespace of the test's own.
    #[must_use]
    pub fn nodes(mut self, address: impl Into<String>) -> Self {
        self.controller_manager = true;
        self.node_address = Some(address.into());
        self
    }

    /// One more flag for the kube-apiserver, such as `--max-requests-inflight=10`. It wins over the
    /// harness's own.
    #[must_use]
    pub fn api_server_flag(mut self, flag: impl Into<String>) -> Self {
        self.api_server_flags.push(flag.into());
        self
    }

    /// Starts it, and returns when it is ready.
    ///
    /// # Errors
    ///
    /// When a program is missing and cannot be built, ends early, or is not ready after a minute. The
    /// message has the last lines of its log, and the folder with the logs is kept.
    pub async fn start(self) -> Result<ControlPlane> {
        let [etcd, api_server] = programs::find(["etcd", "kube-apiserver"]).await?;
        let controller_manager = if self.controller_manager {
            let [program] = programs::find(["kube-controller-manager"]).await?;
            Some(program)
        } else {
            None
        };
        let scheduler = if self.node_address.is_some() {
            let [program] = programs::find(["kube-scheduler"]).await?;
            Some(program)
        } else {
            None
        };
        let start = Start {
            etcd,
            api_server,
            controller_manager,
            scheduler,
            node_address: self.node_address,
            api_server_flags: self.api_server_flags,
        };
        let folder = Folder::create()?;
        match start.run(&folder).await {
            Ok(running) => Ok(running.with_folder(folder)),
            Err(error) => {
                let logs = folder.keep();
                Err(error.context(format!(
                    "starting a control plane; its logs are in {}",
                    logs.display()
                )))
            }
        }
    }
}

/// The programs and the flags: everything that a start needs except the folder.
struct Start {
    etcd: PathBuf,
    api_server: PathBuf,
    controller_manager: Option<PathBuf>,
    scheduler: Option<PathBuf>,
    node_address: Option<String>,
    api_server_flags: Vec<String>,
}

/// A running control plane that does not own its folder yet.
struct Running {
    client: Client,
    url: String,
    layout: Layout,
    etcd_program: PathBuf,
    api_server_command: ApiServerCommand,
    scheduler: Option<Process>,
    controller_manager: Option<Process>,
    api_server: Process,
    etcd: Process,
}

/// The command line that starts the API server again as it was.
#[derive(Clone, Debug)]
pub(crate) struct ApiServerCommand {
    program: PathBuf,
    flags: Vec<String>,
}

impl Start {
    async fn run(self, folder: &Folder) -> Result<Running> {
        let layout = Layout::create(folder.path(), self.node_address.as_deref())?;
        let etcd = start_etcd(&self.etcd, &layout).await?;
        let (api_server_command, api_server, client, url) = self.start_api_server(&layout).await?;
        let with_nodes = self.node_address.is_some();
        let controller_manager = match &self.controller_manager {
            Some(program) => {
                Some(start_controller_manager(program, &layout, &url, &client, with_nodes).await?)
            }
            None => None,
        };
        let scheduler = match &self.scheduler {
            Some(program) => Some(start_scheduler(program, &layout, &url)?),
            None => None,
        };
        Ok(Running {
            client,
            url,
            layout,
            etcd_program: self.etcd,
            api_server_command,
            scheduler,
            controller_manager,
            api_server,
            etcd,
        })
    }

    async fn start_api_server(
        &self,
        layout: &Layout,
    ) -> Result<(ApiServerCommand, Process, Client, String)> {
        let mut retries = 1..PORT_TRIES;
        loop {
            let port = match self.node_address {
                Some(_) => NODE_PORT,
                None => port::free_port()?,
            };
            let url = format!("https://127.0.0.1:{port}");
            let kubeconfig = layout.user_kubeconfig(ADMIN);
            let client = admin_client(layout, &url, &kubeconfig).await?;
            let flags = flags::api_server(
                layout,
                port,
                self.node_address.as_deref(),
                &self.api_server_flags,
            );
            let command = ApiServerCommand {
                program: self.api_server.clone(),
                flags,
            };
            let process = command.spawn(layout)?;
            match wait_for_api_server(&process, &client).await {
                Ok(()) => return Ok((command, process, client, url)),
                Err(_)
                    if process.read_stderr().contains(PORT_TAKEN) && retries.next().is_some() => {}
                Err(error) => return Err(error),
            }
        }
    }
}

impl Running {
    fn with_folder(self, folder: Folder) -> ControlPlane {
        let Self {
            client,
            url,
            layout,
            etcd_program,
            api_server_command,
            scheduler,
            controller_manager,
            api_server,
            etcd,
        } = self;
        ControlPlane {
            client,
            url,
            kubeconfig: layout.user_kubeconfig(ADMIN),
            layout,
            etcd_program,
            api_server_command,
            scheduler,
            controller_manager,
            api_server: Some(api_server),
            etcd,
            folder,
        }
    }
}

impl ApiServerCommand {
    pub(crate) fn spawn(&self, layout: &Layout) -> Result<Process> {
        self.spawn_with(layout, &[])
    }

    /// With more flags, which override its own.
    pub(crate) fn spawn_with(&self, layout: &Layout, flags: &[String]) -> Result<Process> {
        Process::spawn(
            "kube-apiserver",
            &self.program,
            self.flags.iter().chain(flags),
            &[],
            layout.dir(),
        )
    }
}

/// Waits until the API server is ready and has created the system namespaces.
pub(crate) async fn wait_for_api_server(process: &Process, client: &Client) -> Result<()> {
    until_ready(process, async || {
        client
            .request_text(Request::get("/readyz").body(Vec::new())?)
            .await?;
        let namespaces: Api<Namespace> = Api::all(client.clone());
        let default = namespaces.get_opt("default").await?;
        let system = namespaces.get_opt("kube-system").await?;
        Ok(default.is_some() && system.is_some())
    })
    .await
}

/// Starts etcd on the existing data, if there is any.
pub(crate) async fn start_etcd(program: &Path, layout: &Layout) -> Result<Process> {
    let process = Process::spawn_with_data(
        "etcd",
        program,
        flags::etcd(layout),
        &layout.etcd_data(),
        layout.dir(),
    )?;
    wait_for_etcd(&process, layout).await?;
    Ok(process)
}

async fn wait_for_etcd(process: &Process, layout: &Layout) -> Result<()> {
    until_ready(process, async || {
        let mut socket = UnixStream::connect(layout.etcd_socket()).await?;
        socket
            .write_all(b"GET /health HTTP/1.0\r\nHost: etcd\r\n\r\n")
            .await?;
        let mut answer = String::new();
        socket.read_to_string(&mut answer).await?;
        Ok(answer.contains(r#""health":"true""#))
    })
    .await
}

pub(crate) async fn start_controller_manager(
    program: &Path,
    layout: &Layout,
    url: &str,
    client: &Client,
    with_nodes: bool,
) -> Result<Process> {
    let kubeconfig = kubeconfig::for_user(layout, url, "system:kube-controller-manager", None)?;
    let flags = flags::controller_manager(layout, &kubeconfig, with_nodes);
    let process = Process::spawn("kube-controller-manager", program, flags, &[], layout.dir())?;
    until_ready(&process, async || {
        // It has no port to probe; this is the first object that one of its controllers creates.
        let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), "default");
        Ok(accounts.get_opt("default").await?.is_some())
    })
    .await?;
    Ok(process)
}

/// There is nothing to wait for: it is known to work once a pod is bound to a node.
fn start_scheduler(program: &Path, layout: &Layout, url: &str) -> Result<Process> {
    let kubeconfig = kubeconfig::for_user(layout, url, "system:kube-scheduler", None)?;
    let flags = flags::scheduler(&kubeconfig);
    Process::spawn("kube-scheduler", program, flags, &[], layout.dir())
}

/// A client of the admin; writes its kubeconfig.
pub(crate) async fn admin_client(layout: &Layout, url: &str, path: &Path) -> Result<Client> {
    kubeconfig::for_user_at(path, layout, url, ADMIN, Some(MASTERS))?;
    let kubeconfig = Kubeconfig::read_from(path)?;
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
    Ok(Client::try_from(config)?)
}

/// Polls `probe` until it returns true, and fails at once if the program ends first.
async fn until_ready<Fut>(process: &Process, probe: impl Fn() -> Fut) -> Result<()>
where
    Fut: Future<Output = Result<bool>>,
{
    let name = process.name().to_owned();
    let ready = eventually(&format!("{name} ready"), READY_DEADLINE, async || {
        Ok(match process.exited()? {
            Some(exit) => Some(Err(exit)),
            None => probe().await?.then_some(Ok(())),
        })
    })
    .await;
    match ready {
        Ok(Ok(())) => Ok(()),
        Ok(Err(exit)) => Err(anyhow!(
            "{name} ended with {exit} while starting; its last lines:\n{}",
            process.stderr_tail()
        )),
        Err(error) => Err(error.context(format!(
            "the last lines of {name}:\n{}",
            process.stderr_tail()
        ))),
    }
}
