//! A simulated OpenShift cluster is updated while two replicas of the operator watch it and a real Prometheus
//! scrapes them, as it would in a cluster: over HTTPS, with the token of an account that may read the metrics.
//! Then one thing after the other goes wrong, and each alert fires in turn.
//!
//! One control plane and one Prometheus for all of it: what goes wrong later does not hide what went wrong
//! before.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, ensure};
use node_insights::api::pool::Assessment;
use node_insights::api::types::Phase;
use node_insights_harness::eventually;
use node_insights_harness::kubernetes::Pace;
use node_insights_harness::openshift::rollout::{self, Plan};
use node_insights_harness::openshift::{Cluster, Pool};

use crate::dashboard;
use crate::prometheus::Prometheus;
use crate::rules::Rules;
use crate::support::{Operator, SERVING, SOON, World};

const OLD: &str = "4.19.14";
const NEW: &str = "4.20.3";
const NODES: usize = 9;
/// As the Deployment has it, but for the interval and for how long a lease lasts.
const OPERATOR: [&str; 10] = [
    "--lease",
    "node-insights/node-insights",
    "--lease-duration",
    "6s",
    "--metrics-tls",
    "self-signed",
    "--sync-status",
    "configmap:node-insights/node-insights-sync-status",
    // Also the longest that a compare may take: less is too little on a machine that is busy.
    "--sync-interval",
    "5s",
];
/// What else than `for` is hours in a cluster and seconds here.
const THRESHOLDS: &str = "syncInterval=5s,\
    prometheusRule.alerts.NodeInsightsNodeStuckInPhase.threshold=8,\
    prometheusRule.alerts.NodeInsightsPoolStalled.threshold=8,\
    prometheusRule.alerts.NodeInsightsWatchStale.threshold=10,\
    prometheusRule.alerts.NodeInsightsSyncFailing.threshold=4";

/// Queries of the dashboard that may be empty here, by panel, each with the reason.
const EMPTY: [(&str, &str); 0] = [];

/// The rules with everything that takes hours shortened to seconds.
fn shortened() -> Result<Rules> {
    let mut set = vec![THRESHOLDS.to_owned()];
    let alerts = Rules::rendered(&[])?.alerts()?.into_iter();
    set.extend(alerts.map(|alert| format!("prometheusRule.alerts.{}.for=1s", alert.name)));
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

/// Gives the nodes of a pool something to do, begins with the first one, and leaves it in the middle.
async fn begin_and_hold(world: &World, pool: &str) -> Result<()> {
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
    let leader = world.operator(&OPERATOR).await?;
    world.all_reported(NODES).await?;
    leader.ready().await?;
    let standby = world.operator(&OPERATOR).await?;
    standby.ready().await?;
    let rules = shortened()?;
    let prometheus = Prometheus::start(world.plane.dir(), &rules, &token(&world).await?).await?;
    let (first, second) = (address(&leader)?, address(&standby)?);
    prometheus.scrape(&[("a", &first), ("b", &second)]).await?;
    let mut fired = Fired::new(&prometheus);

    an_update_is_played(&world).await?;
    replicas_are_not_added_up(&prometheus).await?;
    fired
        .until("NodeInsightsPoolPausedOutdated", "pool=\"edge\"")
        .await?;
    fired.and_no_other().await?;

    begin_and_hold(&world, "infra").await?;
    fired
        .until("NodeInsightsNodeStuckInPhase", "phase=\"Draining\"")
        .await?;
    fired
        .until("NodeInsightsPoolStalled", "pool=\"infra\"")
        .await?;
    fired.and_no_other().await?;
    begin_and_hold(&world, "gpu").await?;
    let reason = rollout::node::DEGRADED_REASON;
    world.editor.set_state("gpu-0", "Degraded", reason).await?;
    fired
        .until("NodeInsightsNodeDegraded", "pool=\"gpu\"")
        .await?;
    fired.and_no_other().await?;

    // Repaired, it is not counted any more, by neither replica.
    world.editor.set_state("gpu-0", "Working", "").await?;
    eventually("no node is degraded", SOON, async || {
        let degraded = prometheus
            .number("sum(node_insights_degraded_nodes)")
            .await?;
        Ok((degraded < 0.5).then_some(()))
    })
    .await?;

    // The permission is taken away, and a definition goes back to an older version; the standby is started
    // again, and cannot begin.
    remove_permission_on_nodes(&world).await?;
    make_a_definition_old(&world).await?;
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

    // Nobody may use the lease any more: the leader gives up, and nobody follows.
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

    // Each has had its scenario.
    let all: BTreeSet<String> = rules.alerts()?.into_iter().map(|it| it.name).collect();
    assert_eq!(fired.names, all, "left those that fired, right all");
    Ok(())
}

/// Alerts that have fired: those that do not fire yet are silent.
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

    /// None fires whose scenario has not come yet.
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
async fn an_update_is_played(world: &World) -> Result<()> {
    let plan = Plan {
        pace: Pace::new(0.3),
        ..Plan::to(NEW)
    };
    // It ends when somebody resumes the pool that is paused, which nobody does.
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

/// Eventually: a replica that is scraped a moment later than the other may have a node in another phase.
async fn replicas_are_not_added_up(prometheus: &Prometheus) -> Result<()> {
    eventually("both replicas have every node", SOON, async || {
        let both = prometheus.number("sum(node_insights_nodes)").await?;
        let once = "sum(max by (pool, phase) (node_insights_nodes))";
        let once = prometheus.number(once).await?;
        let nodes = f64::from(u32::try_from(NODES)?);
        let is_so = (both - 2.0 * nodes).abs() < 0.5 && (once - nodes).abs() < 0.5;
        ensure!(is_so, "{both} and {once} of {nodes} nodes");
        Ok(Some(()))
    })
    .await
}

/// Without a field that it once had not.
async fn make_a_definition_old(world: &World) -> Result<()> {
    let field = "/spec/versions/0/schema/openAPIV3Schema/properties/status/properties/bootID";
    let patch = serde_json::json!([{"op": "remove", "path": field}]).to_string();
    let definition = "crd/nodeprogressinsights.nodeinsights.dev";
    let args = ["patch", definition, "--type=json", "-p", &patch];
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

/// No query of the dashboard is wrong, and none is empty without a reason; nor does an alert ask for a
/// metric that there is not.
async fn every_query_is_answered(prometheus: &Prometheus, rules: &Rules) -> Result<()> {
    let mut faults = Vec::new();
    for dashboard::Query { panel, expr } in dashboard::queries()? {
        let is_excused = EMPTY.iter().any(|(name, _)| *name == panel);
        match prometheus.query(&expr).await {
            Err(error) => faults.push(format!("{panel}: {expr}: {error:#}")),
            Ok(result) if result.is_empty() != is_excused => {
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
                faults.push(format!("{}: there is no {metric}", alert.name));
            }
        }
    }
    assert!(faults.is_empty(), "{faults:#?}");
    Ok(())
}

/// Names of metrics in an expression.
fn metrics(expr: &str) -> impl Iterator<Item = &str> {
    expr.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
        .filter(|word| word.starts_with("node_insights_") || word.starts_with("leader_election_"))
}
