//! A simulated OpenShift cluster is updated while two replicas of the operator watch it and a real Prometheus
//! scrapes them, as it would in a cluster: over HTTPS, with the token of an account that may read the metrics.
//! Then one fault after the other is introduced, and each alert fires in turn.
//!
//! All of it uses one control plane and one Prometheus, as later faults do not hide earlier ones.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, ensure};
use kube::api::{Api, PostParams};
use node_insights::api::NodeProgressInsight;
use node_insights::api::node::condition;
use node_insights::api::pool::Assessment;
use node_insights::api::types::{Condition, ConditionStatus, Phase};
use node_insights_harness::eventually;
use node_insights_harness::kubernetes::Pace;
use node_insights_harness::openshift::rollout::{self, Plan};
use node_insights_harness::openshift::{Cluster, Pool};
use node_insights_harness::pods::{NAMESPACE, Owner, Pods};

use crate::dashboard;
use crate::prometheus::Prometheus;
use crate::rules::Rules;
use crate::support::{Operator, SERVING, SOON, World};

const OLD: &str = "4.19.14";
const NEW: &str = "4.20.3";
const NODES: usize = 9;
/// As in the Deployment, except for the interval and the lease duration.
const OPERATOR: [&str; 10] = [
    "--lease",
    "node-insights/node-insights",
    "--lease-duration",
    "6s",
    "--metrics-tls",
    "self-signed",
    "--sync-status",
    "configmap:node-insights/node-insights-sync-status",
    // This is also the deadline of a compare: a shorter one is not enough on a busy machine.
    "--sync-interval",
    "5s",
];
/// Thresholds of hours in a cluster, and of seconds here.
const THRESHOLDS: &str = "syncInterval=5s,\
    prometheusRule.alerts.NodeInsightsPoolStalled.threshold=8,\
    prometheusRule.alerts.NodeInsightsWatchStale.threshold=10,\
    prometheusRule.alerts.NodeInsightsSyncFailing.threshold=4";

/// Queries of the dashboard that may be empty here, by panel, each with the reason.
const EMPTY: [(&str, &str); 0] = [];

/// The rules with all durations of hours shortened to seconds.
fn shortened() -> Result<Rules> {
    let mut set = vec![THRESHOLDS.to_owned()];
    let alerts = Rules::rendered(&[])?.alerts()?.into_iter();
    set.extend(alerts.map(|alert| {
        // Longer than the replicas take to start again.
        let hold = if alert.name == "NodeInsightsAbsent" {
            "20s"
        } else {
            "1s"
        };
        format!("prometheusRule.alerts.{}.for={hold}", alert.name)
    }));
    Rules::rendered(&["--set", &set.join(",")])
}

/// The token of an account that may read the metrics, and nothing else.
async fn token(world: &World) -> Result<String> {
    let kubectl = async |args: &[&str]| world.plane.kubectl(args).await;
    kubectl(&["create", "serviceaccount", "prometheus", "-n", "default"]).await?;
    kubectl(&[
        "create",
        "clusterrolebinding",
        "prometheus",
        "--clusterrole=node-insights-metrics-reader",
        "--serviceaccount=default:prometheus",
    ])
    .await?;
    kubectl(&["create", "token", "prometheus", "-n", "default"]).await
}

fn address(operator: &Operator) -> Result<String> {
    let log = operator.log();
    let line = log.iter().find(|line| line["message"] == SERVING);
    let address = line.and_then(|line| line["address"].as_str());
    Ok(address
        .context("the log says where the port is")?
        .to_owned())
}

/// A pod runs on the node, with a budget that never allows to evict it.
async fn a_budget_protects_a_pod_of(world: &World, node: &str) -> Result<()> {
    let pods = Pods::new(&world.client);
    pods.run("orders", node, Owner::ReplicaSet).await?;
    let budget = serde_json::json!({
        "apiVersion": "policy/v1", "kind": "PodDisruptionBudget",
        "metadata": {"name": "orders", "namespace": NAMESPACE},
        "spec": {"maxUnavailable": 0, "selector": {"matchLabels": {"app": "orders"}}},
    });
    world.plane.apply_yaml(&budget.to_string()).await?;
    let status = serde_json::json!({"status": {
        "observedGeneration": 1, "expectedPods": 1, "currentHealthy": 1, "desiredHealthy": 1,
        "disruptionsAllowed": 0,
    }});
    let patch = status.to_string();
    let args = [
        "patch",
        "pdb",
        "orders",
        "-n",
        NAMESPACE,
        "--subresource=status",
        "--type=merge",
        "-p",
        &patch,
    ];
    world.plane.kubectl(&args).await.map(|_| ())
}

/// Starts an update of a pool, and leaves its first node draining.
async fn start_and_stall(world: &World, pool: &str) -> Result<()> {
    let (editor, config) = (&world.editor, format!("rendered-{pool}-held"));
    editor.add_config(&config, pool, Some(NEW)).await?;
    editor.set_pool_configuration(pool, &config).await?;
    let drain = format!("drain-{config}");
    let annotations = [
        ("desiredConfig", Some(&*config)),
        ("state", Some("Working")),
        ("desiredDrain", Some(&*drain)),
    ];
    let node = format!("{pool}-0");
    editor.annotate(&node, &annotations).await?;
    world.node_reaches(&node, Phase::Draining).await.map(|_| ())
}

/// Starts the replicas; the first one leads.
async fn replicas(world: &World) -> Result<[Operator; 2]> {
    let leader = world.operator(&OPERATOR).await?;
    leader.ready().await?;
    let standby = world.operator(&OPERATOR).await?;
    standby.ready().await?;
    Ok([leader, standby])
}

/// The update of a node stalls, which takes longer than a test; but what an insight says stays over a restart of all
/// replicas.
async fn an_update_stalls(world: &World, old: [Operator; 2]) -> Result<[Operator; 2]> {
    const NODE: &str = "worker-0";
    start_and_stall(world, "worker").await?;
    let drained = ("lastAppliedDrain", Some("drain-rendered-worker-held"));
    world.editor.annotate(NODE, &[drained]).await?;
    world.node_reaches(NODE, Phase::Updating).await?;
    let [leader, standby] = old;
    // The standby first: it would lead.
    assert!(standby.stop().await?.success());
    assert!(leader.stop().await?.success());
    let api: Api<NodeProgressInsight> = Api::all(world.client.clone());
    let mut insight = api.get(NODE).await?;
    let status = insight.status.as_mut().context("no status")?;
    let since = status.phase_start_time;
    status.conditions.push(Condition {
        type_: condition::STALLED.to_owned(),
        status: ConditionStatus::True,
        last_transition_time: since,
        reason: "UpdateSlow".to_owned(),
        message: format!("The node has been Updating since {since}"),
    });
    api.replace_status(NODE, &PostParams::default(), &insight)
        .await?;
    replicas(world).await
}

#[tokio::test]
async fn every_query_is_answered_and_each_alert_fires_in_its_scenario() -> Result<()> {
    let cluster = Cluster::builder(OLD)
        .pool(Pool::new("master", 1))
        .pool(Pool::new("worker", 3).max_unavailable(2))
        .pool(Pool::new("infra", 2))
        .pool(Pool::new("gpu", 2))
        .pool(Pool::new("edge", 1).paused())
        .build()?;
    let world = World::openshift(&cluster).await?;
    let [leader, standby] = replicas(&world).await?;
    world.all_reported(NODES).await?;
    let rules = shortened()?;
    let prometheus = Prometheus::start(world.plane.dir(), &rules, &token(&world).await?).await?;
    let (first, second) = (address(&leader)?, address(&standby)?);
    prometheus.scrape(&[("a", &first), ("b", &second)]).await?;
    let mut fired = Fired::new(&prometheus);

    // The kubelets of this release are too old for the API server of the test.
    fired
        .until("NodeInsightsKubeletSkew", "pool=\"worker\"")
        .await?;
    an_update_is_simulated(&world).await?;
    replicas_are_not_summed(&prometheus).await?;
    fired
        .until("NodeInsightsPoolPausedOutdated", "pool=\"edge\"")
        .await?;
    fired.and_no_other().await?;

    a_budget_protects_a_pod_of(&world, "infra-0").await?;
    start_and_stall(&world, "infra").await?;
    fired
        .until("NodeInsightsPoolStalled", "pool=\"infra\"")
        .await?;
    fired.and_no_other().await?;

    let [leader, standby] = an_update_stalls(&world, [leader, standby]).await?;
    let (first, second) = (address(&leader)?, address(&standby)?);
    prometheus.scrape(&[("a", &first), ("b", &second)]).await?;
    let stalled = "pool=\"worker\", reason=\"UpdateSlow\"";
    fired.until("NodeInsightsUpdateStalled", stalled).await?;
    fired.and_no_other().await?;

    start_and_stall(&world, "gpu").await?;
    let reason = rollout::node::DEGRADED_REASON;
    world.editor.set_state("gpu-0", "Degraded", reason).await?;
    fired
        .until("NodeInsightsNodeDegraded", "pool=\"gpu\"")
        .await?;
    // A drain of a minute or less says nothing.
    let blocked = "pool=\"infra\", reason=\"BudgetNeverAllows\"";
    fired.until("NodeInsightsDrainBlocked", blocked).await?;
    fired.and_no_other().await?;

    world.editor.set_state("gpu-0", "Working", "").await?;
    no_node_is_degraded(&prometheus).await?;

    // The permission is revoked, and a CRD goes back to an older version; the standby is restarted, and cannot
    // become ready.
    remove_permission_on_nodes(&world).await?;
    make_a_crd_outdated(&world).await?;
    assert!(standby.stop().await?.success());
    let standby = world.operator(&OPERATOR).await?;
    standby.says_why("may not list and watch nodes").await?;
    let second = address(&standby)?;
    prometheus.scrape(&[("a", &first), ("b", &second)]).await?;
    fired.until("NodeInsightsNotReady", "pod=\"b\"").await?;
    fired
        .until("NodeInsightsWatchFailing", "kind=\"nodes\"")
        .await?;
    fired
        .until("NodeInsightsCrdOutdated", "severity=\"warning\"")
        .await?;
    fired
        .until("NodeInsightsSyncFailing", "severity=\"warning\"")
        .await?;
    fired
        .until("NodeInsightsWatchStale", "kind=\"nodes\"")
        .await?;
    fired.and_no_other().await?;
    every_query_is_answered(&prometheus, &rules).await?;

    // The permission for the lease is revoked: the leader exits, and there is no new one.
    let delete = [
        "delete",
        "rolebinding",
        "node-insights",
        "-n",
        "node-insights",
    ];
    world.plane.kubectl(&delete).await?;
    assert!(!leader.process.wait_timeout(SOON).await?.success());
    fired
        .until("NodeInsightsNoLeader", "severity=\"critical\"")
        .await?;
    fired.and_no_other().await?;
    assert!(standby.stop().await?.success());
    fired
        .until("NodeInsightsAbsent", "severity=\"critical\"")
        .await?;

    // Every alert had its scenario.
    let all: BTreeSet<String> = rules.alerts()?.into_iter().map(|it| it.name).collect();
    assert_eq!(fired.names, all, "left: those that fired, right: all");
    Ok(())
}

/// The alerts that have fired so far.
struct Fired<'a> {
    prometheus: &'a Prometheus,
    names: BTreeSet<String>,
}

impl<'a> Fired<'a> {
    fn new(prometheus: &'a Prometheus) -> Self {
        Self {
            prometheus,
            names: BTreeSet::new(),
        }
    }

    async fn until(&mut self, alert: &str, labels: &str) -> Result<()> {
        self.prometheus.until_firing(alert, labels).await?;
        self.names.insert(alert.to_owned());
        Ok(())
    }

    /// Checks that no alert fires before its scenario.
    async fn and_no_other(&self) -> Result<()> {
        for alert in self.prometheus.firing().await? {
            assert!(
                self.names.contains(&alert),
                "{alert} fires in another scenario: {:?}",
                self.prometheus.query("ALERTS").await?
            );
        }
        Ok(())
    }
}

/// Updates every pool that is not paused, slowly enough that every phase is scraped.
async fn an_update_is_simulated(world: &World) -> Result<()> {
    let plan = Plan {
        pace: Pace::new(0.3),
        ..Plan::to(NEW)
    };
    // The simulation itself does not end, as the paused pool is never resumed.
    tokio::select! {
        played = rollout::play(&world.client, &plan) => played?,
        done = async {
            for pool in ["master", "worker", "infra", "gpu"] {
                world.pool_becomes(pool, "updated", |status| {
                    status.assessment == Assessment::Completed
                        && status.version.as_deref() == Some(NEW)
                }).await?;
            }
            anyhow::Ok(())
        } => done?,
    }
    Ok(())
}

/// Once a node recovers, neither replica counts it any more.
async fn no_node_is_degraded(prometheus: &Prometheus) -> Result<()> {
    eventually("no node is degraded", SOON, async || {
        let degraded = prometheus
            .number("sum(node_insights_degraded_nodes)")
            .await?;
        Ok((degraded < 0.5).then_some(()))
    })
    .await
}

/// Eventually, as a replica that is scraped a moment later may have a node in another phase.
async fn replicas_are_not_summed(prometheus: &Prometheus) -> Result<()> {
    eventually("both replicas have every node", SOON, async || {
        let both = prometheus.number("sum(node_insights_nodes)").await?;
        let once = "sum(max by (pool, phase) (node_insights_nodes))";
        let once = prometheus.number(once).await?;
        let nodes = f64::from(u32::try_from(NODES)?);
        let is_expected = (both - 2.0 * nodes).abs() < 0.5 && (once - nodes).abs() < 0.5;
        ensure!(is_expected, "{both} and {once} of {nodes} nodes");
        Ok(Some(()))
    })
    .await
}

/// Removes a field from a CRD, as in an older version of it.
async fn make_a_crd_outdated(world: &World) -> Result<()> {
    let field = "/spec/versions/0/schema/openAPIV3Schema/properties/status/properties/bootID";
    let patch = serde_json::json!([{"op": "remove", "path": field}]).to_string();
    let crd = "crd/nodeprogressinsights.nodeinsights.dev";
    let args = ["patch", crd, "--type=json", "-p", &patch];
    world.plane.kubectl(&args).await.map(|_| ())
}

async fn remove_permission_on_nodes(world: &World) -> Result<()> {
    let remove = r#"[{"op": "test", "path": "/rules/0/resources/0", "value": "nodes"},
                     {"op": "remove", "path": "/rules/0"}]"#;
    let patch = [
        "patch",
        "clusterrole",
        "node-insights",
        "--type=json",
        "-p",
        remove,
    ];
    world.plane.kubectl(&patch).await.map(|_| ())
}

/// Checks that every query of the dashboard is valid and not empty without a reason, and that every metric of an
/// alert exists.
async fn every_query_is_answered(prometheus: &Prometheus, rules: &Rules) -> Result<()> {
    let mut faults = Vec::new();
    for dashboard::Query { panel, expr } in dashboard::queries()? {
        let may_be_empty = EMPTY.iter().any(|(name, _)| *name == panel);
        match prometheus.query(&expr).await {
            Err(error) => faults.push(format!("{panel}: {expr}: {error:#}")),
            Ok(result) if result.is_empty() != may_be_empty => {
                faults.push(format!("{panel}: {expr}: {} results", result.len()));
            }
            Ok(_) => {}
        }
    }
    for alert in rules.alerts()? {
        prometheus
            .query(&alert.expr)
            .await
            .context(alert.name.clone())?;
        for metric in metrics(&alert.expr) {
            if prometheus.query(metric).await?.is_empty() {
                faults.push(format!("{}: no metric {metric}", alert.name));
            }
        }
    }
    assert!(faults.is_empty(), "{faults:#?}");
    Ok(())
}

/// The names of metrics in an expression.
fn metrics(expr: &str) -> impl Iterator<Item = &str> {
    expr.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
        .filter(|word| word.starts_with("node_insights_") || word.starts_with("leader_election_"))
}
