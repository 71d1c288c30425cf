//! A node: a machine in its own namespaces, with `node.sh` as the first process.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use node_insights_harness::control_plane::{NODE_PORT, find_programs};
use node_insights_harness::{ControlPlane, Process, eventually};

use crate::support::project;

/// The control plane's address for nodes: the bridge in `lab.sh`.
pub const CONTROL_PLANE: &str = "10.90.0.1";

/// How long a machine may take to get its namespaces; usually milliseconds.
const NAMESPACES: Duration = Duration::from_secs(10);

/// The kubelet of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kubelet {
    /// Of the API server's version.
    Current,
    /// The same one, which reports an older minor version.
    AsOlder,
}

impl Kubelet {
    fn program(self) -> &'static str {
        match self {
            Self::Current => "kubelet",
            Self::AsOlder => "kubelet-as-older",
        }
    }

    /// The version that it reports: `v1.36.3`.
    pub async fn version(self) -> Result<String> {
        let [program] = find_programs([self.program()]).await?;
        let output = Command::new(program).arg("--version").output()?;
        let stdout = String::from_utf8(output.stdout)?;
        let version = stdout.trim().strip_prefix("Kubernetes ");
        Ok(version.context("a kubelet without a version")?.to_owned())
    }
}

/// A node. It is off until it is booted, and its drop powers it off.
pub struct Node {
    pub name: &'static str,
    /// The last part of its address, and of its pods' network.
    number: u8,
    environment: Vec<(&'static str, String)>,
    log_dir: PathBuf,
    boots: u32,
    machine: Option<Process>,
}

impl Node {
    /// A machine with an empty disk, and certificates.
    pub async fn new(plane: &ControlPlane, name: &'static str, number: u8) -> Result<Self> {
        let data = plane.dir().join("nodes").join(name);
        fs::create_dir_all(&data)?;
        let url = format!("https://{CONTROL_PLANE}:{NODE_PORT}");
        let kubeconfig = |file: &str, user: &str, group| -> Result<()> {
            let path = plane.user_kubeconfig(&url, user, group)?;
            fs::copy(path, data.join(file))?;
            Ok(())
        };
        let user = format!("system:node:{name}");
        kubeconfig("kubelet.kubeconfig", &user, Some("system:nodes"))?;
        kubeconfig("kube-proxy.kubeconfig", "system:kube-proxy", None)?;
        kubeconfig("kube-router.kubeconfig", "kube-router", None)?;
        let address = format!("10.90.0.{number}");
        let serving = plane.server_certificate(name, vec![name.to_owned(), address])?;
        let [kube_proxy] = find_programs(["kube-proxy"]).await?;
        let path = |path: &Path| path.to_string_lossy().into_owned();
        let environment = vec![
            ("NODE", name.to_owned()),
            ("NUMBER", number.to_string()),
            ("DATA", path(&data)),
            ("CGROUP", from_lab("NODE_INSIGHTS_E2E_CGROUP")?),
            ("IMAGES", from_lab("NODE_INSIGHTS_E2E_IMAGES")?),
            ("SANDBOX_IMAGE", crate::toolbox::IMAGE.to_owned()),
            ("AUTHORITY", path(&plane.authority())),
            ("CERTIFICATE", path(&serving.certificate)),
            ("KEY", path(&serving.key)),
            ("KUBE_PROXY", path(&kube_proxy)),
            ("KUBE_ROUTER", from_lab("NODE_INSIGHTS_E2E_KUBE_ROUTER")?),
        ];
        Ok(Self {
            name,
            number,
            environment,
            log_dir: plane.dir().to_owned(),
            boots: 0,
            machine: None,
        })
    }

    /// Boots it, with a new boot ID. It becomes Ready by itself.
    pub async fn boot(&mut self, kubelet: Kubelet) -> Result<()> {
        ensure!(self.machine.is_none(), "{} is already running", self.name);
        self.boots += 1;
        let [program] = find_programs([kubelet.program()]).await?;
        let mut environment = self.environment.clone();
        environment.push(("KUBELET", program.to_string_lossy().into_owned()));
        environment.push(("BOOT_ID", self.boot_id()));
        let environment: Vec<(&str, &str)> = environment
            .iter()
            .map(|(name, value)| (*name, value.as_str()))
            .collect();
        let script = project().join("tests/e2e/node.sh");
        let machine = Process::spawn(
            self.name,
            Path::new("unshare"),
            [
                "--mount",
                "--pid",
                "--net",
                "--ipc",
                "--uts",
                "--fork",
                "--kill-child",
                "--mount-proc",
                &script.to_string_lossy(),
            ],
            &environment,
            &self.log_dir,
        )?;
        self.connect(&machine).await?;
        self.machine = Some(machine);
        Ok(())
    }

    /// The boot ID that its kernel reports.
    pub fn boot_id(&self) -> String {
        format!("{:08}-0000-4000-8000-{:012}", self.number, self.boots)
    }

    /// Kills everything in it at once, like a power failure. Its disk stays.
    pub async fn power_off(&mut self) -> Result<()> {
        let machine = self.machine.take().context("it is already off")?;
        machine.kill()?;
        machine.wait().await?;
        Ok(())
    }

    /// Connects it to the control plane, once it has its own network namespace.
    async fn connect(&self, machine: &Process) -> Result<()> {
        let own = fs::read_link("/proc/self/ns/net")?;
        let theirs = format!("/proc/{}/ns/net", machine.pid());
        eventually("the namespaces of a node", NAMESPACES, async || {
            ensure!(
                machine.exited()?.is_none(),
                "it ended: {}",
                machine.stderr_tail()
            );
            Ok((fs::read_link(&theirs)? != own).then_some(()))
        })
        .await?;
        let (number, pid) = (self.number, machine.pid());
        // A new name each time, as the kernel may still be removing the cable of the previous boot. Always the same
        // MAC address, as others may have the old one cached.
        let cable = format!("node{number}-{}", self.boots);
        let mac = format!("02:00:0a:5a:00:{number:02x}");
        ip(&format!(
            "link add {cable} type veth peer name eth0 address {mac} netns {pid}"
        ))?;
        ip(&format!("link set {cable} master node0 up"))?;
        ip(&format!(
            "route replace 10.244.{number}.0/24 via 10.90.0.{number}"
        ))
    }
}

/// Runs `ip` in the network namespace of the control plane.
fn ip(arguments: &str) -> Result<()> {
    let output = Command::new("ip")
        .args(arguments.split(' '))
        .output()
        .context("running ip")?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "ip {arguments}: {stderr}");
    Ok(())
}

/// A variable that `hack/e2e.sh` passes.
fn from_lab(variable: &str) -> Result<String> {
    std::env::var(variable).with_context(|| {
        format!("{variable} is not set: this runs in namespaces that `make e2e` creates")
    })
}
