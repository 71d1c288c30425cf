//! What Jobs say, and what remains where they say nothing.

use super::*;

/// The state of a node while a Job of the Plan has this state.
fn with_job(node: NodeBuilder, job: &Value) -> NodeState {
    Cluster::new(&[applying(&[HOST])], std::slice::from_ref(job)).state_of(node)
}

fn paused() -> Value {
    let mut job = job(AGENT);
    job["spec"]["parallelism"] = 0.into();
    job["status"] = json!({});
    job
}

#[test]
fn a_job_takes_its_node_through_every_step() {
    let complete = ended(job(AGENT), "Complete", "CompletionsReached", "");
    for (node, job, phase, reason) in [
        (agent(), paused(), Phase::Pending, "JobPaused"),
        (agent(), job(AGENT), Phase::Updating, "Updating"),
        (agent().cordoned(), job(AGENT), Phase::Draining, "Draining"),
        // The drain is over once the new version runs, or while the node does not report.
        (
            agent().cordoned().kubelet(NEW),
            job(AGENT),
            Phase::Updating,
            "Updating",
        ),
        (
            agent().cordoned().not_ready(-60),
            job(AGENT),
            Phase::Updating,
            "Updating",
        ),
        (
            agent().kubelet(NEW),
            complete,
            Phase::Updating,
            "PostCompleteDelay",
        ),
    ] {
        assert_eq!(seen(&with_job(node, &job)), (phase, reason));
    }
}

#[test]
fn a_cordon_for_the_update_is_named_after_the_controller() {
    let found = with_job(agent().cordoned(), &job(AGENT));
    let cordon = found.cordoned_by.unwrap();
    assert_eq!(
        (cordon.by.kind, &*cordon.by.name, cordon.is_foreign),
        (CordonerKind::Updater, NAME, false)
    );
    // This Plan cordons no nodes, so the cordon is of another origin, and nothing is drained.
    let mut plan = applying(&[HOST]);
    plan["spec"]["drain"] = Value::Null;
    let cluster = |plan| Cluster::new(&[plan], &[job(AGENT)]).state_of(agent().cordoned());
    let found = cluster(plan.clone());
    assert_eq!(found.phase, Phase::Updating);
    assert_eq!(found.cordoned_by.unwrap().by, Cordoner::UNKNOWN);
    // This one cordons without a drain.
    plan["spec"]["cordon"] = true.into();
    let found = cluster(plan);
    assert_eq!(found.phase, Phase::Updating);
    assert_eq!(&*found.cordoned_by.unwrap().by.name, NAME);
}

#[test]
fn the_kind_of_an_update_stays_when_the_kubelet_has_the_new_version() {
    let cluster = Cluster::new(&[applying(&[HOST])], &[job(AGENT)]);
    let draining = cluster.state_of(agent().cordoned());
    assert_eq!(draining.kind, Some(UpdateKind::Version));
    let updating = cluster.next_state(agent().cordoned().kubelet(NEW), Some(&draining));
    assert_eq!(
        (updating.phase, updating.kind),
        (Phase::Updating, Some(UpdateKind::Version))
    );
    // Without that history it is another configuration of the same version.
    let other = cluster.state_of(agent().kubelet(NEW));
    assert_eq!(other.kind, Some(UpdateKind::Configuration));
}

#[test]
fn a_plan_for_the_operating_system_may_reboot_the_node_and_one_for_k3s_does_not() {
    for (version, phase) in [
        ("bookworm", Phase::Rebooting),
        ("v1.31.4-k3s1", Phase::Updating),
    ] {
        let mut plan = applying(&[HOST]);
        plan["status"]["latestVersion"] = version.into();
        let cluster = Cluster::new(&[plan], &[job(AGENT)]);
        let found = cluster.state_of(agent().cordoned_since(-60).not_ready(-60));
        assert_eq!(found.phase, phase, "{version}");
    }
}

#[test]
fn a_job_for_another_node_plan_namespace_or_hash_says_nothing() {
    let change = |label: &str, value: &str| {
        let mut job = job(AGENT);
        job["metadata"]["labels"][label] = value.into();
        job
    };
    let mut elsewhere = job(AGENT);
    elsewhere["metadata"]["namespace"] = "default".into();
    for other in [
        // Jobs have the name of the Node, and not its host name.
        change("upgrade.cattle.io/node", HOST),
        change("upgrade.cattle.io/plan", "server-plan"),
        change(LABEL, "older"),
        elsewhere,
    ] {
        let cluster = Cluster::new(&[plan()], std::slice::from_ref(&other));
        assert_eq!(cluster.state_of(agent()).phase, Phase::Pending, "{other}");
    }
}

#[test]
fn a_plan_names_its_nodes_by_their_host_names() {
    assert_eq!(
        seen(&state(&applying(&[HOST]))),
        (Phase::Updating, "Applying")
    );
    assert_eq!(state(&applying(&[AGENT])).phase, Phase::Pending);
    assert_eq!(state(&applying(&["other"])).phase, Phase::Pending);
    // The controller finishes what it has begun, whatever holds the Plan back now.
    let mut stopped = applying(&[HOST]);
    stopped["spec"]["concurrency"] = 0.into();
    assert_eq!(state(&stopped).phase, Phase::Updating);
}

#[test]
fn a_failed_job_makes_its_node_degraded_until_it_is_applied_again() {
    let job = ended(
        job(AGENT),
        "Failed",
        "BackoffLimitExceeded",
        "Job has reached the specified backoff limit",
    );
    let found = with_job(agent().cordoned(), &job);
    assert_eq!(seen(&found), (Phase::Updating, "JobFailed"));
    assert_eq!(
        (found.degraded.status, found.degraded.reason),
        (ConditionStatus::True, "JobFailed")
    );
    let message = &found.degraded.message;
    assert!(
        message.contains("BackoffLimitExceeded: Job has reached"),
        "{message}"
    );
    assert_eq!(&*found.cordoned_by.unwrap().by.name, NAME);
}

#[test]
fn the_plan_reports_the_failed_job_after_it_is_deleted() {
    let message =
        format!("Job system-upgrade/apply failed on Node {AGENT}: DeadlineExceeded: late");
    let report = |message: &str| {
        with_condition(applying(&[HOST]), "Complete", "False", "JobFailed", message)
    };
    let found = state(&report(&message));
    assert_eq!(seen(&found), (Phase::Updating, "JobFailed"));
    assert!(found.degraded.message.contains("DeadlineExceeded: late"));
    // Another node waits, and its message says for what.
    let other = node("agent-1")
        .label("kubernetes.io/hostname", "agent-1")
        .kubelet(OLD)
        .evidence(|_: &mut K3sNode| {});
    let cluster = Cluster::new(&[report(&message)], &[]);
    let waiting = cluster.state_of(other.clone());
    assert_eq!(waiting.phase, Phase::Pending);
    assert_eq!(waiting.degraded.status, ConditionStatus::False);
    assert!(waiting.updating.message.contains(AGENT));
    // A new try wins over what the Plan still reports.
    let again = Cluster::new(&[report(&message)], &[job(AGENT)]).state_of(agent());
    assert_eq!(seen(&again), (Phase::Updating, "Updating"));
    assert_eq!(again.degraded.status, ConditionStatus::False);
    // A message of another form is about the nodes to which the Plan is being applied.
    for unclear in ["a Job failed", ""] {
        let cluster = Cluster::new(&[report(unclear)], &[]);
        assert_eq!(cluster.state_of(agent()).updating.reason, "JobFailed");
        assert_eq!(cluster.state_of(other.clone()).phase, Phase::Pending);
    }
}

#[test]
fn without_jobs_the_plan_and_the_cordon_remain_and_the_message_says_what_is_missing() {
    let cluster = Cluster::new(&[applying(&[HOST])], &[job(AGENT)]).reject("jobs");
    for (node, phase) in [
        (agent(), Phase::Updating),
        (agent().cordoned(), Phase::Draining),
        (agent().cordoned().kubelet(NEW), Phase::Updating),
    ] {
        let found = cluster.state_of(node);
        assert_eq!(found.phase, phase);
        let message = &found.updating.message;
        assert!(
            message.contains("jobs cannot be read: forbidden"),
            "{message}"
        );
    }
    // A node that is up to date needs no Jobs.
    let done = cluster.state_of(agent().label(LABEL, HASH));
    assert!(done.updating.message.is_empty());
}
