//! `node-insights preflight` on a real API server: what would hold up the drain of each node. No operator runs.

use std::path::Path;

use anyhow::{Context, Result};
use node_insights_harness::Exit;
use node_insights_harness::karpenter::{self, Karpenter, Machine};
use node_insights_harness::kubernetes::Ready;
use node_insights_harness::openshift;
use node_insights_harness::plans::{self, Plan, Plans};
use serde_json::{Value, json};

use crate::support::{SOON, World, spawn};

mod access;
mod planted;

use planted::{Budget, Planted, Pod};

/// The version of the API server.
const VERSION: &str = "v1.36.3";
const K3S: &str = "v1.35.4+k3s1";

/// What a run printed.
struct Run {
    exit: Exit,
    stdout: String,
    stderr: String,
}

impl Run {
    /// Runs the program with a kubeconfig.
    async fn of(world: &World, kubeconfig: &Path, args: &[&str]) -> Result<Self> {
        let args = [&["preflight"], args].concat();
        let envs = [("KUBECONFIG", &*kubeconfig.to_string_lossy())];
        let process = spawn(&args, &envs, world.plane.dir())?;
        Ok(Self {
            exit: process.wait_timeout(SOON).await?,
            stdout: process.read_stdout(),
            stderr: process.read_stderr(),
        })
    }

    /// The same as the admin of the cluster.
    async fn admin(world: &World, args: &[&str]) -> Result<Self> {
        Self::of(world, world.plane.kubeconfig(), args).await
    }

    fn json(&self) -> Result<Value> {
        serde_json::from_str(&self.stdout).with_context(|| self.stdout.clone() + &self.stderr)
    }
}

/// Severity, reason, object and number of nodes of each finding, in their order.
fn lines(report: &Value) -> Vec<String> {
    let findings = report["findings"].as_array().unwrap();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let line = |finding: &Value| {
        let fields = ["severity", "reason", "kind", "name"].map(|field| text(&finding[field]));
        format!("{} {}", fields.join(" "), finding["nodeCount"])
    };
    findings.iter().map(line).collect()
}

/// What a run as the admin finds, and its exit code.
async fn found(world: &World, args: &[&str]) -> Result<(Exit, Vec<String>)> {
    let run = Run::admin(world, &[&["-o", "json"], args].concat()).await?;
    Ok((run.exit, lines(&run.json()?)))
}

/// A cluster of plain Kubernetes with these pools of two nodes.
async fn cluster(pools: &[&str]) -> Result<Planted> {
    let world = World::bare().await?;
    Planted::new(world, VERSION, pools).await
}

#[tokio::test]
async fn nothing_is_found_in_a_cluster_without_obstacles_and_nothing_is_written() -> Result<()> {
    let cluster = cluster(&["blue", "fargate"]).await?;
    let world = &cluster.world;
    // A node without a machine is never updated.
    for node in ["fargate-0", "fargate-1"] {
        let (label, value) = ("eks.amazonaws.com/compute-type", "fargate");
        cluster.nodes.label(node, label, Some(value)).await?;
        cluster.nodes.set_ready(node, Ready::No).await?;
    }
    for (name, node) in [("web-0", "blue-0"), ("web-1", "blue-1")] {
        cluster.pod(&Pod::new("web", name, node)).await?;
    }
    for node in ["blue-0", "blue-1"] {
        let agent = Pod::new("agent", &format!("agent-{node}"), node).of("DaemonSet");
        let agent = agent.spec("volumes", json!([{"name": "run", "emptyDir": {}}]));
        cluster.pod(&agent).await?;
    }
    cluster.budget(&Budget::new("web", 2, 1, 2)).await?;
    let mark = world.plane.audit().mark()?;
    let run = Run::admin(world, &[]).await?;
    assert_eq!(run.exit, Exit::Code(0), "{}{}", run.stdout, run.stderr);
    assert_eq!(
        run.stdout,
        "0 of 2 nodes could not be drained: nothing was found that would hold up a drain\n"
    );
    assert_eq!(run.stderr, "");
    let entries = world.plane.audit().since(mark)?;
    let own = entries
        .iter()
        .filter(|entry| !entry.user.starts_with("system:apiserver"));
    let verbs: Vec<&str> = own.map(|entry| entry.verb.as_str()).collect();
    assert!(!verbs.is_empty());
    assert!(
        verbs.iter().all(|verb| ["get", "list"].contains(verb)),
        "{verbs:?}"
    );

    let report = Run::admin(world, &["-o", "json"]).await?.json()?;
    assert_eq!(
        report,
        json!({
            "apiVersion": "preflight.nodeinsights.dev/v1alpha1", "kind": "PreflightReport",
            "summary": {"nodes": 2, "blockedNodes": 0, "blockers": 0, "warnings": 0},
            "findings": [], "gaps": [],
        })
    );
    Ok(())
}

#[tokio::test]
async fn every_budget_that_holds_up_a_drain_is_found_with_its_nodes() -> Result<()> {
    let cluster = cluster(&["blue"]).await?;
    cluster.two("never").await?;
    cluster.budget(&Budget::new("never", 2, 2, 2)).await?;
    cluster.two("failed").await?;
    let why = "jobs.batch does not implement the scale subresource";
    cluster
        .budget(&Budget::new("failed", 2, 1, 1).failing(why))
        .await?;
    cluster.two("twice").await?;
    cluster.budget(&Budget::new("twice", 2, 1, 2)).await?;
    let second = Budget::new("also-twice", 2, 1, 2).covering("twice");
    cluster.budget(&second).await?;
    cluster.pod(&Pod::new("lone", "lone-0", "blue-0")).await?;
    cluster.budget(&Budget::new("lone", 1, 1, 1)).await?;
    let bare = Pod::new("bare", "bare-0", "blue-1").bare();
    cluster.pod(&bare).await?;
    cluster.budget(&Budget::new("bare", 0, 0, 1)).await?;
    for name in ["sick-0", "sick-1"] {
        let sick = Pod::new("sick", name, "blue-1").unready("-10m");
        cluster.pod(&sick).await?;
    }
    cluster.budget(&Budget::new("sick", 2, 1, 0)).await?;
    // About to become ready, as in a rollout.
    cluster.pod(&Pod::new("new", "new-0", "blue-0")).await?;
    cluster
        .pod(&Pod::new("new", "new-1", "blue-1").unready("-1s"))
        .await?;
    cluster.budget(&Budget::new("new", 3, 2, 1)).await?;
    cluster.two("stale").await?;
    cluster
        .budget(&Budget::new("stale", 2, 1, 2).unseen())
        .await?;

    let (exit, lines) = found(&cluster.world, &[]).await?;
    assert_eq!(
        lines,
        [
            "Blocker BudgetNeverAllows PodDisruptionBudget never 2",
            "Blocker BudgetSyncFailed PodDisruptionBudget failed 2",
            "Blocker MultipleBudgets PodDisruptionBudget also-twice 2",
            "Blocker BudgetNeverAllows PodDisruptionBudget lone 1",
            "Blocker BudgetUnhealthy PodDisruptionBudget sick 1",
            "Blocker BudgetUnmanagedPods PodDisruptionBudget bare 1",
            "Warning BudgetExhausted PodDisruptionBudget new 2",
            "Warning BudgetStale PodDisruptionBudget stale 2",
            "Warning UnmanagedPod Pod bare-0 1",
        ]
    );
    assert_eq!(exit, Exit::Code(3));
    let run = Run::admin(&cluster.world, &[]).await?;
    let first = run.stdout.lines().next().unwrap_or_default();
    assert_eq!(
        first,
        "2 of 2 nodes could not be drained: 6 blockers, 3 warnings"
    );
    assert!(run.stdout.contains(why), "{}", run.stdout);
    assert!(
        run.stdout.contains("Nodes: blue-0, blue-1"),
        "{}",
        run.stdout
    );
    Ok(())
}

#[tokio::test]
async fn pods_that_are_lost_or_interrupted_are_warnings() -> Result<()> {
    let cluster = cluster(&["blue"]).await?;
    let bare = Pod::new("import", "import", "blue-0").bare();
    cluster.pod(&bare).await?;
    for (name, node) in [("cache-0", "blue-0"), ("cache-1", "blue-1")] {
        let volumes = json!([{"name": "cache", "emptyDir": {}}]);
        let cache = Pod::new("cache", name, node).spec("volumes", volumes);
        cluster.pod(&cache).await?;
    }
    let single = Pod::new("db", "db-0", "blue-1").of("StatefulSet");
    cluster.pod(&single).await?;
    let (exit, lines) = found(&cluster.world, &[]).await?;
    assert_eq!(
        lines,
        [
            "Warning LocalStorage ReplicaSet cache 2",
            "Warning SingleReplica StatefulSet db 1",
            "Warning UnmanagedPod Pod import 1",
        ]
    );
    assert_eq!(exit, Exit::Code(2));
    Ok(())
}

#[tokio::test]
async fn pods_that_do_not_end_are_found() -> Result<()> {
    let cluster = cluster(&["blue"]).await?;
    let kept = Pod::new("kept", "kept", "blue-0").finalizer("example.com/upload");
    cluster.pod(&kept).await?;
    cluster
        .status("kept", json!({"phase": "Succeeded"}))
        .await?;
    cluster.delete("kept", 0).await?;
    cluster.pod(&Pod::new("late", "late", "blue-1")).await?;
    cluster.delete("late", 1).await?;
    let expected = [
        "Blocker FinalizerHolds ReplicaSet kept 1",
        "Blocker TerminatingPastGrace ReplicaSet late 1",
    ];
    // A kubelet has 30 s more than the grace.
    node_insights_harness::eventually("both pods", SOON, async || {
        let (exit, lines) = found(&cluster.world, &[]).await?;
        Ok((lines == expected && exit == Exit::Code(3)).then_some(()))
    })
    .await
}

#[tokio::test]
async fn nodes_that_are_not_ready_and_kubelets_that_are_too_old_are_found() -> Result<()> {
    let world = World::bare().await?;
    let cluster = Planted::new(world, "v1.33.4", &["blue", "green"]).await?;
    cluster.nodes.set_ready("green-0", Ready::Unknown).await?;
    cluster.nodes.set_ready("green-1", Ready::No).await?;
    let (exit, lines) = found(&cluster.world, &[]).await?;
    assert_eq!(
        lines,
        [
            "Blocker NodeNotReady Node green-1 1",
            "Blocker NodeUnreachable Node green-0 1",
            "Warning VersionSkew Pool blue.node-pool 2",
            "Warning VersionSkew Pool green.node-pool 2",
        ]
    );
    assert_eq!(exit, Exit::Code(3));
    let (exit, lines) = found(&cluster.world, &["--pool", "blue.node-pool"]).await?;
    assert_eq!(lines, ["Warning VersionSkew Pool blue.node-pool 2"]);
    assert_eq!(exit, Exit::Code(2));
    Ok(())
}

#[tokio::test]
async fn a_mark_for_karpenter_is_found_only_on_its_nodes_and_a_blocked_pool_is_named() -> Result<()>
{
    let cluster = cluster(&["blue"]).await?;
    let client = &cluster.world.client;
    karpenter::install(client).await?;
    let karpenter = Karpenter::new(client);
    karpenter.pool("default", &json!([{"nodes": "0"}])).await?;
    for name in ["k-0", "k-1"] {
        let machine = Machine::new(name, "default", VERSION);
        karpenter.machine(&machine).await?;
    }
    for (name, node) in [("job-0", "blue-0"), ("job-1", "k-0")] {
        let marked = Pod::new("job", name, node).annotation("karpenter.sh/do-not-disrupt", "true");
        cluster.pod(&marked).await?;
    }
    let (exit, lines) = found(&cluster.world, &[]).await?;
    assert_eq!(
        lines,
        [
            "Blocker DoNotDisrupt ReplicaSet job 1",
            "Warning PoolPaused Pool default.nodepool 2",
        ]
    );
    assert_eq!(exit, Exit::Code(3));
    Ok(())
}

#[tokio::test]
async fn a_paused_pool_of_openshift_is_a_warning_for_its_nodes_alone() -> Result<()> {
    // A release with kubelets as new as the API server.
    let openshift = openshift::Cluster::builder("4.23.1")
        .pool(openshift::Pool::new("master", 3))
        .pool(openshift::Pool::new("worker", 2).paused());
    let world = World::bare().await?;
    openshift.build()?.load(&world.client).await?;
    let (exit, lines) = found(&world, &[]).await?;
    assert_eq!(lines, ["Warning PoolPaused Pool worker 2"]);
    assert_eq!(exit, Exit::Code(2));
    let (exit, lines) = found(&world, &["--pool", "master"]).await?;
    assert_eq!((exit, lines), (Exit::Code(0), Vec::new()));
    Ok(())
}

#[tokio::test]
async fn a_plan_that_does_not_force_stops_at_a_pod_without_a_controller() -> Result<()> {
    let cluster = cluster(&[]).await?;
    let client = &cluster.world.client;
    plans::install(client).await?;
    let plans = Plans::new(client);
    plans.agent("agent-0", K3S).await?;
    let plan = Plan::new("agent-plan", "v1.36.3+k3s1");
    plans.create(&plan).await?;
    let bare = Pod::new("import", "import", "agent-0").bare();
    cluster.pod(&bare).await?;
    let (exit, lines) = found(&cluster.world, &[]).await?;
    assert_eq!(lines, ["Warning UnmanagedPod Pod import 1"]);
    assert_eq!(exit, Exit::Code(2));
    plans
        .edit(&plan, json!({"drain": {"force": false}}))
        .await?;
    let (exit, lines) = found(&cluster.world, &[]).await?;
    assert_eq!(lines, ["Blocker UnmanagedPod Pod import 1"]);
    assert_eq!(exit, Exit::Code(3));
    Ok(())
}

#[tokio::test]
async fn pods_beyond_the_first_page_count() -> Result<()> {
    // A page has 500.
    const PODS: usize = 520;
    let cluster = cluster(&["blue"]).await?;
    cluster.many(PODS, "blue-0").await?;
    let report = Run::admin(&cluster.world, &["-o", "json"]).await?.json()?;
    assert_eq!(report["summary"]["warnings"], PODS);
    Ok(())
}
