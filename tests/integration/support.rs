//! A cluster, the operator in it, and what tests need of both.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use kube::api::{Api, ListParams};
use kube::{Client, ResourceExt};
use node_insights::api::types::{Condition, Phase};
use node_insights::api::{
    Insight, InsightStatus, NodeProgressInsight, NodeProgressInsightStatus, PoolProgressInsight,
    PoolProgressInsightStatus,
};
use node_insights_harness::openshift::{Cluster, Editor};
use node_insights_harness::{
    AuditEntry, AuditMark, ControlPlane, Exit, Process, eventually, writes,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Long enough for a loaded machine; a wait ends as soon as its condition holds.
pub const SOON: Duration = Duration::from_mins(1);

/// The log message with the address of the port for metrics and operations.
pub const SERVING: &str = "Serving metrics and operations";

/// The operator's user name in the API server.
pub const OPERATOR_USER: &str = "system:serviceaccount:node-insights:node-insights";

/// What is watched of an OpenShift cluster.
pub const WATCHED: [&str; 6] = [
    "nodes",
    "machineconfigpools",
    "machineconfigs",
    "clusterversions",
    "nodeprogressinsights",
    "poolprogressinsights",
];

/// The project's folder.
pub fn project() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Published CRDs of another project, a file or a folder; `None`, with a message, when they are not there.
pub fn published_crds(path: &str) -> Option<PathBuf> {
    let place = project().join("../shared/testdata/crds").join(path);
    let exists = place.exists();
    if !exists {
        eprintln!(
            "SKIPPED: there are no published CRDs at {}",
            place.display()
        );
    }
    exists.then_some(place)
}

/// A control plane with our CRDs and permissions.
pub struct World {
    pub plane: ControlPlane,
    pub client: Client,
    pub editor: Editor,
}

impl World {
    /// An empty cluster.
    pub async fn empty() -> Result<Self> {
        let world = Self::bare().await?;
        world.install_crds().await?;
        world.install_rbac().await?;
        Ok(world)
    }

    /// A control plane without our CRDs and RBAC.
    pub async fn bare() -> Result<Self> {
        let plane = ControlPlane::start().await?;
        let client = plane.client();
        Ok(Self {
            editor: Editor::new(&client),
            client,
            plane,
        })
    }

    /// A simulated OpenShift cluster.
    pub async fn openshift(cluster: &Cluster) -> Result<Self> {
        let world = Self::empty().await?;
        cluster.load(&world.client).await?;
        Ok(world)
    }

    pub async fn install_crds(&self) -> Result<()> {
        for file in ["nodeprogressinsights", "poolprogressinsights"] {
            let path = project().join(format!("crds/nodeinsights.dev_{file}.yaml"));
            self.plane.apply_file(path).await?;
        }
        Ok(())
    }

    pub async fn install_rbac(&self) -> Result<()> {
        let folder = project().join("config/rbac");
        self.plane
            .kubectl(&["apply", "-k", &folder.to_string_lossy()])
            .await
            .map(|_| ())
    }

    /// Starts the operator as its service account.
    pub async fn operator(&self, args: &[&str]) -> Result<Operator> {
        let kubeconfig = self
            .plane
            .service_account_kubeconfig("node-insights", "node-insights")
            .await?;
        Operator::start(&kubeconfig, args, self.plane.dir()).await
    }

    /// Creates another service account with the operator's permissions; returns its kubeconfig.
    pub async fn account(&self, name: &str) -> Result<PathBuf> {
        const NAMESPACE: &str = "node-insights";
        let account = json!({"name": name, "namespace": NAMESPACE});
        let group = "rbac.authorization.k8s.io";
        let subject = json!([{"kind": "ServiceAccount", "name": name, "namespace": NAMESPACE}]);
        let binding = |kind: &str, role: &str, metadata: Value| {
            json!({
                "apiVersion": format!("{group}/v1"), "kind": kind, "metadata": metadata,
                "roleRef": {"apiGroup": group, "kind": role, "name": "node-insights"},
                "subjects": subject,
            })
        };
        let objects = [
            json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": account}),
            binding("ClusterRoleBinding", "ClusterRole", json!({"name": name})),
            binding("RoleBinding", "Role", account.clone()),
        ];
        for object in objects {
            // JSON is YAML.
            self.plane.apply_yaml(&object.to_string()).await?;
        }
        self.plane.service_account_kubeconfig(NAMESPACE, name).await
    }

    pub async fn node_insight(&self, name: &str) -> Result<Option<NodeProgressInsight>> {
        Ok(Api::<NodeProgressInsight>::all(self.client.clone())
            .get_opt(name)
            .await?)
    }

    pub async fn pool_insight(&self, name: &str) -> Result<Option<PoolProgressInsight>> {
        Ok(Api::<PoolProgressInsight>::all(self.client.clone())
            .get_opt(name)
            .await?)
    }

    pub async fn node_insights(&self) -> Result<BTreeMap<String, NodeProgressInsight>> {
        self.insights().await
    }

    pub async fn pool_insights(&self) -> Result<BTreeMap<String, PoolProgressInsight>> {
        self.insights().await
    }

    async fn insights<S: InsightStatus + DeserializeOwned>(
        &self,
    ) -> Result<BTreeMap<String, Insight<S>>> {
        let api: Api<Insight<S>> = Api::all(self.client.clone());
        let list = api.list(&ListParams::default()).await?;
        let named = |insight: Insight<S>| (insight.name_any(), insight);
        Ok(list.items.into_iter().map(named).collect())
    }

    /// Waits until the insight of a node meets the condition.
    pub async fn node_becomes(
        &self,
        name: &str,
        what: &str,
        is_so: impl Fn(&NodeProgressInsightStatus) -> bool,
    ) -> Result<NodeProgressInsightStatus> {
        self.becomes(name, what, is_so).await
    }

    pub async fn node_reaches(
        &self,
        name: &str,
        phase: Phase,
    ) -> Result<NodeProgressInsightStatus> {
        self.node_becomes(name, phase.as_str(), |status| status.phase == phase)
            .await
    }

    /// Waits until the insight of a pool meets the condition.
    pub async fn pool_becomes(
        &self,
        name: &str,
        what: &str,
        is_so: impl Fn(&PoolProgressInsightStatus) -> bool,
    ) -> Result<PoolProgressInsightStatus> {
        self.becomes(name, what, is_so).await
    }

    async fn becomes<S: InsightStatus + Serialize + DeserializeOwned>(
        &self,
        name: &str,
        what: &str,
        is_so: impl Fn(&S) -> bool,
    ) -> Result<S> {
        let api: Api<Insight<S>> = Api::all(self.client.clone());
        let last = RefCell::new(None);
        eventually(&format!("{} {name}: {what}", S::KIND), SOON, async || {
            let status = api.get_opt(name).await?.and_then(|insight| insight.status);
            last.replace(status.clone());
            Ok(status.filter(|status| is_so(status)))
        })
        .await
        .with_context(|| format!("Last seen: {:#?}", last.borrow()))
    }

    /// Waits until `count` nodes have an insight with a status.
    pub async fn all_reported(
        &self,
        count: usize,
    ) -> Result<BTreeMap<String, NodeProgressInsight>> {
        eventually(&format!("{count} node insights"), SOON, async || {
            let insights = self.node_insights().await?;
            let written = insights
                .values()
                .filter(|insight| insight.status.is_some())
                .count();
            Ok((written == count && insights.len() == count).then_some(insights))
        })
        .await
    }

    /// What the operator wrote since `mark`. Reviews do not count, though they are created by POST.
    pub fn operator_writes(&self, mark: AuditMark) -> Result<Vec<AuditEntry>> {
        self.writes_by(&[OPERATOR_USER], mark)
    }

    /// How many requests for these resources the operator has sent since `mark`.
    pub fn operator_requests(&self, mark: AuditMark, resources: &[&str]) -> Result<usize> {
        let entries = self.plane.audit().since(mark)?;
        let of_operator = entries.iter().filter(|entry| {
            entry.user == OPERATOR_USER && resources.contains(&entry.resource.as_str())
        });
        Ok(of_operator.count())
    }

    /// The same writes, of other users.
    pub fn writes_by(&self, users: &[&str], mark: AuditMark) -> Result<Vec<AuditEntry>> {
        let entries: Vec<AuditEntry> = self
            .plane
            .audit()
            .since(mark)?
            .into_iter()
            .filter(|entry| users.contains(&entry.user.as_str()))
            .filter(|entry| !entry.api_group.ends_with("authorization.k8s.io"))
            .collect();
        Ok(writes(&entries).into_iter().cloned().collect())
    }
}

/// How many of `entries` have this verb, resource and subresource.
pub fn count(entries: &[AuditEntry], verb: &str, resource: &str, subresource: &str) -> usize {
    entries
        .iter()
        .filter(|entry| {
            entry.verb == verb && entry.resource == resource && entry.subresource == subresource
        })
        .count()
}

/// A condition by its name.
pub fn condition<'a>(conditions: &'a [Condition], name: &str) -> &'a Condition {
    conditions
        .iter()
        .find(|condition| condition.type_ == name)
        .expect("every insight has its conditions")
}

/// A running operator.
pub struct Operator {
    pub process: Process,
    /// The address of `/livez` and `/readyz`.
    pub health: String,
    /// The address of `/metrics`.
    pub metrics: String,
}

impl Operator {
    /// Starts the operator with a kubeconfig, and waits for its port.
    pub async fn start(kubeconfig: &Path, args: &[&str], log_dir: &Path) -> Result<Self> {
        let program = Path::new(env!("CARGO_BIN_EXE_node-insights"));
        Self::start_program(program, kubeconfig, args, log_dir).await
    }

    /// The same with another program that is an operator.
    pub async fn start_program(
        program: &Path,
        kubeconfig: &Path,
        args: &[&str],
        log_dir: &Path,
    ) -> Result<Self> {
        let envs = [("KUBECONFIG", &*kubeconfig.to_string_lossy())];
        let process = spawn_program(program, &operator_args(args), &envs, log_dir)?;
        Self::listening(process).await
    }

    /// Starts the operator from a shell that first runs `before`, as in `ulimit -n 1024`, and waits for its port.
    pub async fn start_after(
        before: &str,
        kubeconfig: &Path,
        args: &[&str],
        log_dir: &Path,
    ) -> Result<Self> {
        let script = format!("{before} && exec \"$0\" \"$@\"");
        let mut all = vec!["-c", &script, env!("CARGO_BIN_EXE_node-insights")];
        all.extend(operator_args(args));
        let process = spawn_program(
            Path::new("/bin/bash"),
            &all,
            &[("KUBECONFIG", &kubeconfig.to_string_lossy())],
            log_dir,
        )?;
        Self::listening(process).await
    }

    async fn listening(process: Process) -> Result<Self> {
        let (health, metrics) = eventually("the operator's ports", SOON, async || {
            if let Some(exit) = process.exited()? {
                bail!("the operator ended with {exit}: {}", process.read_stderr());
            }
            let lines = log_lines(&process);
            let of = |what: &str| {
                let mut lines = lines.iter().filter(|line| line["message"] == what);
                lines.find_map(|line| line["address"].as_str().map(str::to_owned))
            };
            Ok(of("Serving health").zip(of(SERVING)))
        })
        .await?;
        Ok(Self {
            process,
            health,
            metrics,
        })
    }

    /// Waits until the operator is ready.
    pub async fn ready(&self) -> Result<()> {
        eventually("the operator is ready", SOON, async || {
            let (status, body) = self.get("/readyz").await?;
            if status == 200 {
                Ok(Some(()))
            } else {
                bail!("{body}")
            }
        })
        .await
    }

    /// Waits until `/readyz` fails with a message that contains `text`.
    pub async fn says_why(&self, text: &str) -> Result<String> {
        eventually(&format!("/readyz says {text:?}"), SOON, async || {
            let (status, body) = self.get("/readyz").await?;
            if status == 503 && body.contains(text) {
                Ok(Some(body))
            } else {
                bail!("{status} {body}")
            }
        })
        .await
    }

    /// Sum of an integer metric over all series that have every one of `labels` (as in `result="changed"`).
    pub async fn metric(&self, name: &str, labels: &[&str]) -> Result<u64> {
        let (_, body) = self.get("/metrics").await?;
        Ok(body
            .lines()
            .filter(|line| line.split(['{', ' ']).next() == Some(name))
            .filter(|line| labels.iter().all(|label| line.contains(label)))
            .filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok())
            .sum())
    }

    /// Evaluations so far, by trigger; all of them if there is none.
    pub async fn evaluations(&self, trigger: Option<&str>) -> Result<u64> {
        let label = trigger.map(|trigger| format!("trigger=\"{trigger}\""));
        self.metric(
            "node_insights_evaluations_total",
            &label.iter().map(String::as_str).collect::<Vec<_>>(),
        )
        .await
    }

    pub async fn get(&self, path: &str) -> Result<(u16, String)> {
        let is_health = ["/livez", "/readyz"].contains(&path);
        let address = if is_health {
            &self.health
        } else {
            &self.metrics
        };
        let mut stream = TcpStream::connect(address).await?;
        stream
            .write_all(format!("GET {path} HTTP/1.0\r\nHost: operator\r\n\r\n").as_bytes())
            .await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        let (head, body) = answer
            .split_once("\r\n\r\n")
            .context("a response without a body")?;
        let status = head
            .split(' ')
            .nth(1)
            .context("a response without a status")?
            .parse()?;
        Ok((status, body.to_owned()))
    }

    /// The lines of its log, as JSON.
    pub fn log(&self) -> Vec<Value> {
        log_lines(&self.process)
    }

    /// Stops it by SIGTERM, as Kubernetes does.
    pub async fn stop(self) -> Result<Exit> {
        self.process.terminate()?;
        self.process.wait_timeout(SOON).await
    }

    /// Kills it, like a power failure.
    pub async fn kill(self) -> Result<Exit> {
        self.process.kill()?;
        self.process.wait_timeout(SOON).await
    }
}

fn operator_args<'a>(args: &[&'a str]) -> Vec<&'a str> {
    let mut all = vec![
        "run",
        "--metrics-address",
        "127.0.0.1:0",
        "--log-format",
        "json",
    ];
    if !args.contains(&"--log-level") {
        all.extend(["--log-level", "debug"]);
    }
    all.extend(args);
    all
}

/// Starts the operator's binary with any arguments.
pub fn spawn(args: &[&str], envs: &[(&str, &str)], log_dir: &Path) -> Result<Process> {
    let program = PathBuf::from(env!("CARGO_BIN_EXE_node-insights"));
    spawn_program(&program, args, envs, log_dir)
}

fn spawn_program(
    program: &Path,
    args: &[&str],
    envs: &[(&str, &str)],
    log_dir: &Path,
) -> Result<Process> {
    // Its state goes beside its log, not into the user's state folder.
    let log_path = log_dir.to_string_lossy();
    let mut all = vec![
        ("XDG_STATE_HOME", &*log_path),
        ("NODE_INSIGHTS_HEALTH_ADDRESS", "127.0.0.1:0"),
    ];
    all.extend(envs);
    Process::spawn("node-insights", program, args, &all, log_dir)
}

fn log_lines(process: &Process) -> Vec<Value> {
    process
        .read_stderr()
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect()
}
