//! One test for each rule of Plans.

use serde_json::{Value, json};

use super::*;
use crate::api::types::{ConditionStatus, CordonerKind};
use crate::domain::fact::{Fact, Meta, Object, Parsed};
use crate::domain::facts::{Availability, Facts};
use crate::domain::fixtures::{NodeBuilder, at, node};
use crate::domain::state::{History, NodeState};
use crate::providers::fixtures::FactTable;
use crate::providers::{Options, Providers};

mod jobs;
mod method;
mod selection;

const OLD: &str = "v1.30.4+k3s1";
const NEW: &str = "v1.31.4+k3s1";
const HASH: &str = "8f2d1c";
const LABEL: &str = "plan.upgrade.cattle.io/agent-plan";

fn meta(object: &Value) -> Meta {
    serde_json::from_value(object["metadata"].clone()).unwrap()
}

/// A fact as it is parsed from an object.
fn parsed<F: Fact>(object: &Value) -> Parsed<F> {
    F::parse(&Object::new(&meta(object), &object.to_string()))
}

/// A Plan that drains its nodes, as it is before the first node is updated.
fn plan() -> Value {
    json!({
        "metadata": {"name": "agent-plan", "namespace": "system-upgrade", "uid": "plan"},
        "spec": {
            "concurrency": 1,
            "drain": {"force": true},
            "nodeSelector": {"matchExpressions": [
                {"key": "node-role.kubernetes.io/control-plane", "operator": "DoesNotExist"},
            ]},
            "serviceAccountName": "system-upgrade",
            "upgrade": {"image": "rancher/k3s-upgrade"},
            "version": NEW,
        },
        "status": {
            "conditions": [
                {"type": "Validated", "status": "True", "reason": "PlanIsValid"},
                {"type": "LatestResolved", "status": "True", "reason": "Version"},
                {"type": "Complete", "status": "False", "reason": "SyncJob", "message": ""},
            ],
            "latestVersion": "v1.31.4-k3s1",
            "latestHash": HASH,
        },
    })
}

/// The same with another name.
fn named(name: &str) -> Value {
    let mut plan = plan();
    plan["metadata"]["name"] = name.into();
    plan
}

/// The same while it is applied to the nodes with these host names.
fn applying(hosts: &[&str]) -> Value {
    let mut plan = plan();
    plan["status"]["applying"] = json!(hosts);
    plan
}

/// Replaces a condition.
fn with_condition(
    mut plan: Value,
    type_: &str,
    status: &str,
    reason: &str,
    message: &str,
) -> Value {
    let conditions = plan["status"]["conditions"].as_array_mut().unwrap();
    conditions.retain(|condition| condition["type"] != type_);
    conditions.push(json!({
        "type": type_, "status": status, "reason": reason, "message": message,
        "lastUpdateTime": "2026-11-20T00:00:00Z",
    }));
    plan
}

/// The Job of [`plan`] for a node.
fn job(node: &str) -> Value {
    json!({
        "metadata": {
            "name": format!("apply-agent-plan-on-{node}-with-{HASH}"),
            "namespace": "system-upgrade",
            "labels": {
                "upgrade.cattle.io/controller": "system-upgrade-controller",
                "upgrade.cattle.io/node": node,
                "upgrade.cattle.io/plan": "agent-plan",
                "upgrade.cattle.io/version": "v1.31.4-k3s1",
                LABEL: HASH,
            },
        },
        "spec": {"parallelism": 1, "completions": 1, "template": {"spec": {"containers": []}}},
        "status": {"active": 1},
    })
}

/// The same, once it has ended.
fn ended(mut job: Value, type_: &str, reason: &str, message: &str) -> Value {
    job["status"] = json!({"conditions": [
        {"type": "SuccessCriteriaMet", "status": "False"},
        {"type": type_, "status": "True", "reason": reason, "message": message},
    ]});
    job
}

/// An agent of k3s, whose host name differs from the name of its Node.
fn agent() -> NodeBuilder {
    node("agent-0.example.com")
        .label("kubernetes.io/hostname", "agent-0")
        .label("kubernetes.io/os", "linux")
        .kubelet(OLD)
        .evidence(|_: &mut K3sNode| {})
}

const AGENT: &str = "agent-0.example.com";
const HOST: &str = "agent-0";

/// A cluster with these Plans and Jobs, in which all kinds can be read. The API server is as old as the nodes, so that
/// k3s by itself has nothing to update.
struct Cluster {
    table: FactTable,
    providers: Providers,
}

impl Cluster {
    fn new(plans: &[Value], jobs: &[Value]) -> Self {
        let providers = Providers::standard(&Options::default()).unwrap();
        let mut table = FactTable::new(providers.kinds());
        // OpenShift is not served.
        for (place, kind) in providers.kinds().iter().enumerate() {
            if kind.spec.group.ends_with("openshift.io") {
                table.facts.set_availability(place, Availability::NotServed);
            }
        }
        table.facts.set_api_server_version(Some(OLD.into()));
        let mut cluster = Self { table, providers };
        for plan in plans {
            cluster.put::<Plan>(plan);
        }
        for job in jobs {
            cluster.put::<PlanJob>(job);
        }
        cluster
    }

    fn put<F: Fact>(&mut self, object: &Value) {
        match parsed::<F>(object) {
            Parsed::Fact(fact) | Parsed::Flawed(fact, _) => {
                self.table.put(&meta(object).key(), fact);
            }
            Parsed::Ignored => {}
            Parsed::Unreadable(error) => panic!("{error}"),
        }
    }

    fn facts(&mut self) -> &mut Facts {
        &mut self.table.facts
    }

    fn place(&self, plural: &str) -> usize {
        let mut kinds = self.providers.kinds().iter();
        kinds.position(|kind| kind.spec.plural == plural).unwrap()
    }

    fn reject(mut self, plural: &str) -> Self {
        let place = self.place(plural);
        let rejected = Availability::Rejected("forbidden".into());
        self.facts().set_availability(place, rejected);
        self
    }

    fn state_of(&self, node: NodeBuilder) -> NodeState {
        self.next_state(node, None)
    }

    fn next_state(&self, node: NodeBuilder, past: Option<&NodeState>) -> NodeState {
        let (node, view) = (node.build(), self.table.facts.view());
        let assignment = self.providers.assign(&node, &view);
        let past = past.map(History::from);
        self.providers
            .evaluate(&node, &assignment, None, &view, past.as_ref(), at(0))
    }
}

/// The state of an agent in a cluster with this Plan.
fn state(plan: &Value) -> NodeState {
    Cluster::new(std::slice::from_ref(plan), &[]).state_of(agent())
}

/// Phase and reason.
fn seen(state: &NodeState) -> (Phase, &'static str) {
    (state.phase, state.updating.reason)
}

#[test]
fn a_node_without_the_hash_of_its_plan_is_pending_and_has_the_version_of_the_plan() {
    let found = state(&plan());
    assert_eq!(seen(&found), (Phase::Pending, "Pending"));
    assert_eq!(found.kind, Some(UpdateKind::Version));
    assert_eq!(found.provider.as_str(), "k3s");
    assert_eq!(found.overlays[..], [ProviderName::new(NAME)]);
    let desired = found.desired.unwrap();
    assert_eq!(&*desired.version, NEW);
    assert_eq!(desired.source, DesiredVersionSource::Provider);
    let message = &found.updating.message;
    assert!(message.contains("system-upgrade/agent-plan"), "{message}");
    assert!(message.contains(NEW), "{message}");
}

#[test]
fn the_label_of_a_node_says_whether_the_plan_is_applied_to_it() {
    let cluster = Cluster::new(&[plan()], &[]);
    for (value, phase) in [
        (HASH, Phase::Completed),
        ("disabled", Phase::Completed),
        ("other", Phase::Pending),
        ("", Phase::Pending),
    ] {
        let found = cluster.state_of(agent().label(LABEL, value));
        assert_eq!(found.phase, phase, "{value}");
        let is_shown = !found.overlays.is_empty();
        assert_eq!(is_shown, phase == Phase::Pending, "{value}");
    }
}

#[test]
fn a_plan_that_no_controller_has_read_says_nothing() {
    let mut new = plan();
    new["status"] = json!({});
    assert_eq!(state(&new).phase, Phase::Completed);
    new.as_object_mut().unwrap().remove("status");
    assert!(state(&new).overlays.is_empty());
}

#[test]
fn the_version_of_the_plan_decides_what_the_update_changes() {
    for (version, own, kind, desired) in [
        ("v1.31.4-k3s1", OLD, UpdateKind::Version, Some(NEW)),
        ("v1.31.4-k3s1", NEW, UpdateKind::Configuration, Some(NEW)),
        // kubelets of Windows do not report their build.
        (
            "v1.31.4-rke2r1",
            "v1.31.4",
            UpdateKind::Configuration,
            Some("v1.31.4+rke2r1"),
        ),
        (
            "v1.31.4-k3s2",
            NEW,
            UpdateKind::Version,
            Some("v1.31.4+k3s2"),
        ),
        (
            "v1.32.0-rc1-k3s1",
            NEW,
            UpdateKind::Version,
            Some("v1.32.0-rc1+k3s1"),
        ),
        // Older, and wanted all the same.
        (
            "v1.30.1-k3s1",
            NEW,
            UpdateKind::Version,
            Some("v1.30.1+k3s1"),
        ),
        ("bookworm", OLD, UpdateKind::Image, None),
        ("v1.31.4", OLD, UpdateKind::Image, None),
        ("k3s1", OLD, UpdateKind::Image, None),
        ("v1.31.4-k3s", OLD, UpdateKind::Image, None),
        ("v2.1.0-amd64", OLD, UpdateKind::Image, None),
        ("", OLD, UpdateKind::Image, None),
    ] {
        let mut plan = plan();
        plan["status"]["latestVersion"] = version.into();
        let cluster = Cluster::new(&[plan], &[]);
        let found = cluster.state_of(agent().kubelet(own));
        assert_eq!(
            (found.phase, found.kind),
            (Phase::Pending, Some(kind)),
            "{version}"
        );
        let by_plan = found
            .desired
            .filter(|desired| desired.source == DesiredVersionSource::Provider);
        let version_of_plan = by_plan.map(|desired| desired.version.to_string());
        assert_eq!(version_of_plan.as_deref(), desired, "{version}");
    }
}

#[test]
fn a_plan_outside_its_window_or_without_concurrency_pauses_its_nodes() {
    let waiting = with_condition(plan(), "Complete", "False", "Waiting", "outside window");
    assert_eq!(seen(&state(&waiting)), (Phase::Paused, "OutsideWindow"));
    let mut stopped = plan();
    for concurrency in [json!(0), Value::Null] {
        stopped["spec"]["concurrency"] = concurrency;
        // The controller selects no node, and so the Plan is complete.
        let stopped = with_condition(stopped.clone(), "Complete", "True", "Complete", "");
        let found = state(&stopped);
        assert_eq!(seen(&found), (Phase::Paused, "ConcurrencyZero"));
        assert_eq!(found.kind, Some(UpdateKind::Version));
    }
    // A window that has begun.
    let complete = with_condition(plan(), "Complete", "True", "Waiting", "");
    assert_eq!(state(&complete).phase, Phase::Pending);
}

#[test]
fn a_plan_that_cannot_be_applied_makes_its_nodes_unknown_and_says_why() {
    let validated = with_condition(plan(), "Validated", "False", "Error", "drain conflict");
    let resolved = with_condition(plan(), "LatestResolved", "False", "Error", "no channel");
    let selected = with_condition(
        plan(),
        "Complete",
        "False",
        "SelectNodesFailed",
        "bad label",
    );
    for (plan, why) in [
        (validated, "drain conflict"),
        (resolved, "no channel"),
        (selected, "bad label"),
    ] {
        let found = state(&plan);
        assert_eq!(seen(&found), (Phase::Unknown, "PlanInvalid"), "{why}");
        assert_eq!(found.kind, None);
        let message = &found.updating.message;
        assert!(
            message.contains(why) && message.contains("agent-plan"),
            "{message}"
        );
        // The version of such a Plan is no target.
        let source = found.desired.map(|desired| desired.source);
        assert_eq!(source, Some(DesiredVersionSource::ApiServer));
        // A node that has opted out does not care.
        let out = Cluster::new(&[plan], &[]).state_of(agent().label(LABEL, "disabled"));
        assert_eq!(out.phase, Phase::Completed);
    }
    // Unknown is not False: the controller has not looked yet.
    let unknown = with_condition(plan(), "Validated", "Unknown", "", "");
    assert_eq!(state(&unknown).phase, Phase::Pending);
}

#[test]
fn of_several_plans_the_most_urgent_one_decides() {
    let in_progress = applying(&[HOST]);
    let mut failed = named("b-failed");
    failed["status"]["applying"] = json!([HOST]);
    let message =
        format!("Job system-upgrade/j failed on Node {AGENT}: DeadlineExceeded: too late");
    let failed = with_condition(failed, "Complete", "False", "JobFailed", &message);
    let held = with_condition(named("c-held"), "Complete", "False", "Waiting", "");
    let pending = named("d-pending");
    let invalid = with_condition(named("a-invalid"), "Validated", "False", "Error", "wrong");
    let all = [invalid, pending, held, failed, in_progress];
    for (count, reason) in [
        (5, "Applying"),
        (4, "JobFailed"),
        (3, "OutsideWindow"),
        (2, "Pending"),
        (1, "PlanInvalid"),
    ] {
        let found = Cluster::new(&all[..count], &[]).state_of(agent());
        assert_eq!(found.updating.reason, reason);
        // What has failed stays visible while another Plan goes on.
        let is_degraded = found.degraded.status == ConditionStatus::True;
        assert_eq!(is_degraded, count >= 4, "{reason}");
    }
    // Of two that wait, the one that updates the version.
    let mut image = named("a-system");
    image["status"]["latestVersion"] = "bookworm".into();
    let found = Cluster::new(&[image, plan()], &[]).state_of(agent());
    assert_eq!(found.kind, Some(UpdateKind::Version));
}

#[test]
fn the_plans_with_which_rancher_updates_its_agent_are_ignored() {
    for name in ["system-agent-upgrader", "system-agent-upgrader-windows"] {
        let mut plan = named(name);
        plan["metadata"]["namespace"] = "cattle-system".into();
        assert_eq!(parsed::<Plan>(&plan), Parsed::Ignored);
        let mut job = job(AGENT);
        job["metadata"]["labels"]["upgrade.cattle.io/plan"] = name.into();
        assert_eq!(parsed::<PlanJob>(&job), Parsed::Ignored);
    }
}

#[test]
fn a_plan_or_job_that_is_being_deleted_is_ignored() {
    let deleted = "2026-11-20T00:00:00Z";
    let (mut plan, mut job) = (plan(), job(AGENT));
    plan["metadata"]["deletionTimestamp"] = deleted.into();
    job["metadata"]["deletionTimestamp"] = deleted.into();
    assert_eq!(parsed::<Plan>(&plan), Parsed::Ignored);
    assert_eq!(parsed::<PlanJob>(&job), Parsed::Ignored);
}

#[test]
fn a_waiting_plan_does_not_hide_that_something_else_restarts_the_node() {
    let mut cluster = Cluster::new(&[plan()], &[]);
    cluster.facts().set_api_server_version(Some(NEW.into()));
    let silent = agent().cordoned_since(-60).not_ready(-60);
    let found = cluster.state_of(silent);
    assert_eq!(found.phase, Phase::Rebooting);
    assert!(found.overlays.is_empty());
}

#[test]
fn objects_that_cannot_be_read_are_named_as_such() {
    for (field, junk) in [
        ("spec", json!({"concurrency": "one"})),
        ("spec", json!({"nodeSelector": []})),
        ("status", json!({"applying": "agent-0"})),
        ("status", json!({"conditions": {}})),
        ("status", json!(7)),
    ] {
        let mut plan = plan();
        plan[field] = junk;
        let found = parsed::<Plan>(&plan);
        assert!(matches!(found, Parsed::Unreadable(_)), "{found:?}");
    }
    let mut job = job(AGENT);
    job["spec"]["parallelism"] = "many".into();
    assert!(matches!(parsed::<PlanJob>(&job), Parsed::Unreadable(_)));
    // An object without spec and status can be read.
    let bare = json!({"metadata": {"name": "bare", "namespace": "system-upgrade"}});
    assert!(matches!(parsed::<Plan>(&bare), Parsed::Fact(_)));
    assert_eq!(parsed::<PlanJob>(&bare), Parsed::Ignored);
}
