//! Several replicas, of which never more than one writes. The faults are real: processes are killed and suspended, the
//! network is cut, the lease is deleted and edited. The API server's audit log shows who wrote when: each replica has
//! its own service account.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use k8s_openapi::api::coordination::v1::Lease;
use kube::api::{DeleteParams, Patch, PatchParams};
use kube::{Api, ResourceExt};
use node_insights::api::types::ConditionStatus;
use node_insights_harness::openshift::{Cluster, Pool};
use node_insights_harness::{AuditEntry, AuditMark, Signal, eventually, writes};
use serde_json::{Value, json};

use crate::support::{Operator, SOON, World, condition};

mod replica;

use self::replica::Replica;

const OLD: &str = "4.19.14";
const NAMESPACE: &str = "node-insights";
const LEASE: &str = "node-insights";
const NODES: usize = 8;
/// The shortest lease duration: faults that outlast it take seconds.
const SHORT: &[&str] = &[
    "--lease",
    "node-insights/node-insights",
    "--lease-duration",
    "3s",
];
/// Twice as long: replicas may have different durations.
const LONGER: &[&str] = &[
    "--lease",
    "node-insights/node-insights",
    "--lease-duration",
    "6s",
];
const DEFAULT: &[&str] = &["--lease", "node-insights/node-insights"];
/// Longer than a holder of either lease believes that it holds it: a replica that was suspended this long has lost it.
const PAST_THE_LEASE: Duration = Duration::from_millis(4500);

/// The poll interval for the leader.
const POLL: Duration = Duration::from_millis(50);

async fn world() -> Result<World> {
    let cluster = Cluster::builder(OLD)
        .pool(Pool::new("worker", NODES))
        .build()?;
    World::openshift(&cluster).await
}

/// The resource version of every insight, which changes with every write.
async fn versions(world: &World) -> Result<BTreeMap<String, Option<String>>> {
    let nodes = world.node_insights().await?.into_iter();
    let pools = world.pool_insights().await?.into_iter();
    let nodes = nodes.map(|(name, insight)| (format!("npi/{name}"), insight.resource_version()));
    let pools = pools.map(|(name, insight)| (format!("ppi/{name}"), insight.resource_version()));
    Ok(nodes.chain(pools).collect())
}

/// Writes of insights since `mark`.
fn insight_writes(world: &World, mark: AuditMark) -> Result<Vec<AuditEntry>> {
    let entries = world.plane.audit().since(mark)?;
    let of_insights = |entry: &&AuditEntry| entry.api_group == "nodeinsights.dev";
    Ok(writes(&entries)
        .into_iter()
        .filter(of_insights)
        .cloned()
        .collect())
}

#[tokio::test]
async fn a_replica_that_loses_its_lease_exits_at_once_even_if_the_api_server_does_not_answer()
-> Result<()> {
    let world = world().await?;
    let mut replica = Replica::start(&world, "first", SHORT).await?;
    replica.until_it_leads(&world).await?;
    world.all_reported(NODES).await?;
    replica.link.cut();
    world
        .editor
        .set_state("worker-0", "Degraded", "disk full")
        .await?;
    let log = replica.until_it_ends().await?;
    let time = |message: &str| -> Result<jiff::Timestamp> {
        let mut lines = log
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok());
        let line = lines.find(|line: &Value| line["message"] == message);
        let time = line.context(message.to_owned())?["timestamp"].clone();
        Ok(time.as_str().context("a line without a time")?.parse()?)
    };
    let lost = time("The lease is lost: this replica writes no more")?;
    let ended = time("Ending at once")?;
    ensure!(ended.duration_since(lost).as_secs() < 1, "{ended} {lost}");
    Ok(())
}

#[tokio::test]
async fn a_standby_writes_nothing_and_takes_over_without_moving_a_time_when_the_leader_ends()
-> Result<()> {
    let world = world().await?;
    let mut first = Replica::start(&world, "first", DEFAULT).await?;
    first.until_it_leads(&world).await?;
    world.all_reported(NODES).await?;
    world
        .pool_becomes("worker", "all done", |pool| pool.progress == "8/8")
        .await?;

    let mut second = Replica::start(&world, "second", DEFAULT).await?;
    // The leader writes while the other one stands by, with times that the standby would not choose.
    world
        .editor
        .set_state("worker-0", "Degraded", "disk full")
        .await?;
    world
        .node_becomes("worker-0", "degraded", |status| {
            condition(&status.conditions, "Degraded").status == ConditionStatus::True
        })
        .await?;
    world
        .pool_becomes("worker", "degraded", |pool| {
            condition(&pool.conditions, "Healthy").status == ConditionStatus::False
        })
        .await?;
    let mark = world.plane.audit().mark()?;
    let before = versions(&world).await?;

    let (status, body) = second.operator()?.get("/readyz").await?;
    assert_eq!(status, 200, "a standby is ready: {body}");
    assert!(!second.leads().await, "the standby leads");
    let began = Instant::now();
    let operator = first.operator.take().context("it is running")?;
    assert!(operator.stop().await?.success());
    second.until_it_leads(&world).await?;
    println!(
        "The standby led {:?} after SIGTERM to the leader",
        began.elapsed()
    );
    eventually("the compare of the new leader", SOON, async || {
        let labels = ["reason=\"leadership_gained\"", "result=\"success\""];
        let compared = second
            .operator()?
            .metric("node_insights_sync_attempts_total", &labels)
            .await?;
        Ok((compared == 1).then_some(()))
    })
    .await?;
    assert_eq!(
        versions(&world).await?,
        before,
        "nothing was written, so no time was moved"
    );
    assert_eq!(insight_writes(&world, mark)?, []);

    world.editor.set_state("worker-0", "Done", "").await?;
    world
        .node_becomes("worker-0", "not degraded", |status| {
            condition(&status.conditions, "Degraded").status == ConditionStatus::False
        })
        .await?;
    eventually("the write in the audit log", SOON, async || {
        Ok(insight_writes(&world, mark)?
            .iter()
            .any(|entry| entry.user == second.user)
            .then_some(()))
    })
    .await
}

#[tokio::test]
async fn without_permission_for_the_lease_nothing_is_written_and_the_missing_grant_is_reported()
-> Result<()> {
    let world = world().await?;
    let kubeconfig = world
        .plane
        .service_account_kubeconfig(NAMESPACE, "node-insights")
        .await?;
    let args = ["--lease", "default/node-insights"];
    let mark = world.plane.audit().mark()?;
    let operator = Operator::start(&kubeconfig, &args, world.plane.dir()).await?;
    let why = operator.says_why("[-] lease: ").await?;
    let why = if why.contains("kubectl auth can-i") {
        why
    } else {
        operator
            .says_why("kubectl auth can-i get leases/node-insights -n default")
            .await?
    };
    assert!(why.contains("grant it in the namespace default"), "{why}");
    operator.says_why("[+] first evaluation: ok").await?;
    assert_eq!(insight_writes(&world, mark)?, []);
    Ok(())
}

/// A fault of the leader or of its lease.
#[derive(Debug, Clone, Copy)]
enum Fault {
    /// SIGKILL, like a power failure.
    Kill,
    /// SIGSTOP until the lease has expired; then SIGCONT.
    Stop,
    /// A network partition until the lease has expired.
    Partition,
    /// The lease is deleted.
    DeleteLease,
    /// The holder of the lease is edited.
    EditHolder,
    /// The times of the lease are edited, as by a holder with a wrong clock.
    EditTimes,
}

impl Fault {
    const ALL: [Self; 6] = [
        Self::Kill,
        Self::Stop,
        Self::Partition,
        Self::DeleteLease,
        Self::EditHolder,
        Self::EditTimes,
    ];
}

/// How many faults; every kind twice unless `NODE_INSIGHTS_FAULTS` is set.
fn faults() -> Result<usize> {
    match std::env::var("NODE_INSIGHTS_FAULTS") {
        Ok(number) => number.parse().context("NODE_INSIGHTS_FAULTS is a number"),
        Err(_) => Ok(2 * Fault::ALL.len()),
    }
}

#[tokio::test]
async fn no_replica_writes_without_holding_the_lease_whatever_happens_to_it() -> Result<()> {
    let world = Arc::new(world().await?);
    let mark = world.plane.audit().mark()?;
    let mut replicas = [
        Replica::start(&world, "first", SHORT).await?,
        Replica::start(&world, "second", LONGER).await?,
    ];
    let done = Arc::new(AtomicBool::new(false));
    let load = tokio::spawn(change_nodes(Arc::clone(&world), Arc::clone(&done)));

    for (number, fault) in Fault::ALL.into_iter().cycle().take(faults()?).enumerate() {
        let leader = leader(&world, &mut replicas).await?;
        let [one, other] = &mut replicas;
        let (leader, standby) = if leader == 0 {
            (one, other)
        } else {
            (other, one)
        };
        inject(fault, number, &world, leader, standby)
            .await
            .with_context(|| format!("fault {number}: {fault:?}"))?;
        leader.run(&world).await?;
        standby.run(&world).await?;
        writes_continue(&world)
            .await
            .with_context(|| format!("after fault {number}: {fault:?}"))?;
    }

    done.store(true, Ordering::Relaxed);
    load.await??;
    let (written, stray) = strays(&world, mark, &replicas)?;
    println!(
        "{} faults, {written} writes of insights, {} by a replica that did not hold the lease",
        faults()?,
        stray.len()
    );
    assert!(stray.is_empty(), "{stray:#?}");
    assert!(written > 20 * faults()?, "too few writes: {written}");
    Ok(())
}

async fn inject(
    fault: Fault,
    number: usize,
    world: &World,
    leader: &mut Replica,
    standby: &mut Replica,
) -> Result<()> {
    let leases = leases(world);
    match fault {
        Fault::Kill => {
            let operator = leader.operator.take().context("it is running")?;
            operator.kill().await?;
            standby.until_it_leads(world).await
        }
        Fault::Stop => {
            leader.operator()?.process.signal(Signal::STOP)?;
            // The duration of the fault, not a wait for something.
            tokio::time::sleep(PAST_THE_LEASE).await;
            leader.operator()?.process.signal(Signal::CONT)?;
            let log = leader.until_it_ends().await?;
            ensure!(log.contains("The lease is lost"), "{log}");
            standby.until_it_leads(world).await
        }
        Fault::Partition => {
            leader.link.cut();
            let log = leader.until_it_ends().await?;
            ensure!(log.contains("The lease is lost"), "{log}");
            standby.until_it_leads(world).await?;
            leader.link.restore();
            Ok(())
        }
        Fault::DeleteLease => {
            leases.delete(LEASE, &DeleteParams::default()).await?;
            eventually("the lease is recreated", SOON, async || {
                Ok(leases.get_opt(LEASE).await?.map(|_| ()))
            })
            .await?;
            leader.stays().await
        }
        Fault::EditHolder => {
            let holders = [json!(null), json!(""), json!("nobody"), json!(standby.user)];
            let holder = &holders[number / Fault::ALL.len() % holders.len()];
            patch(&leases, json!({"holderIdentity": holder})).await?;
            let log = leader.until_it_ends().await?;
            ensure!(log.contains("The lease is lost"), "{log}");
            standby.until_it_leads(world).await
        }
        Fault::EditTimes => {
            let hour = if number.is_multiple_of(2) {
                "2020-01-01T00:00:00.000000Z"
            } else {
                "2090-01-01T00:00:00.000000Z"
            };
            patch(&leases, json!({"renewTime": hour, "acquireTime": hour})).await?;
            eventually("the lease is renewed", SOON, async || {
                let spec = leases.get(LEASE).await?.spec.unwrap_or_default();
                let renewed = spec.renew_time.context("no time")?;
                Ok((renewed.0.to_string() != hour.replace(".000000", "")).then_some(()))
            })
            .await?;
            leader.stays().await
        }
    }
}

fn leases(world: &World) -> Api<Lease> {
    Api::namespaced(world.client.clone(), NAMESPACE)
}

async fn patch(leases: &Api<Lease>, spec: Value) -> Result<()> {
    let patch = Patch::Merge(json!({"spec": spec}));
    leases.patch(LEASE, &PatchParams::default(), &patch).await?;
    Ok(())
}

/// The index of the leader; fails if both lead.
async fn leader(world: &World, replicas: &mut [Replica; 2]) -> Result<usize> {
    let end = Instant::now() + SOON;
    loop {
        match (replicas[0].leads().await, replicas[1].leads().await) {
            (true, false) => return Ok(0),
            (false, true) => return Ok(1),
            (false, false) => {}
            (true, true) => bail!("both lead"),
        }
        ensure!(Instant::now() < end, "no replica leads");
        for replica in &mut *replicas {
            replica.run(world).await?;
        }
        tokio::time::sleep(POLL).await;
    }
}

/// Changes nodes without a pause, so that something is being written all the time.
async fn change_nodes(world: Arc<World>, done: Arc<AtomicBool>) -> Result<()> {
    for number in 0.. {
        if done.load(Ordering::Relaxed) {
            break;
        }
        let node = format!("worker-{}", number % NODES);
        world
            .editor
            .cordon(&node, (number / NODES).is_multiple_of(2))
            .await?;
    }
    Ok(())
}

/// Waits until another insight is written.
async fn writes_continue(world: &World) -> Result<()> {
    let mark = world.plane.audit().mark()?;
    eventually("an insight is written", SOON, async || {
        Ok((!insight_writes(world, mark)?.is_empty()).then_some(()))
    })
    .await
}

/// The number of writes of insights, and those that arrived when another replica was the last to take or renew the
/// lease.
fn strays(
    world: &World,
    mark: AuditMark,
    replicas: &[Replica; 2],
) -> Result<(usize, Vec<AuditEntry>)> {
    let entries = world.plane.audit().since(mark)?;
    let is_ours = |entry: &&AuditEntry| replicas.iter().any(|replica| replica.user == entry.user);
    let mut terms: Vec<_> = writes(&entries)
        .into_iter()
        .filter(|entry| entry.resource == "leases")
        .filter(is_ours)
        .map(|entry| (entry.reached, entry.user.clone()))
        .collect();
    terms.sort();
    let written = insight_writes(world, mark)?;
    let is_stray = |entry: &AuditEntry| {
        let last = terms.partition_point(|(reached, _)| *reached <= entry.received);
        let holder = last.checked_sub(1).map(|index| &terms[index].1);
        holder != Some(&entry.user)
    };
    let count = written.len();
    Ok((count, written.into_iter().filter(is_stray).collect()))
}
