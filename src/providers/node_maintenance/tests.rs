//! One test for each rule of the node-maintenance-operator.

use serde_json::{Value, json};

use super::*;
use crate::api::types::{CordonerKind, UpdateKind};
use crate::domain::cordon::Cordoner;
use crate::domain::fact::{Fact, Meta, Object, Parsed};
use crate::domain::facts::Availability;
use crate::domain::fixtures::{NodeBuilder, at, node};
use crate::domain::labels::Labels;
use crate::domain::rows::Rows;
use crate::domain::state::{History, NodeState};
use crate::providers::Providers;
use crate::providers::fixtures::{self, FactTable, plain_kubernetes};

const NODE_NAME: &str = "worker-7";
const OLD: &str = "v1.35.2";
const NEW: &str = "v1.36.3";
const VERSION: Option<UpdateKind> = Some(UpdateKind::Version);
const REBOOT: Option<UpdateKind> = Some(UpdateKind::Reboot);

/// A maintenance of the node, as the API server returns it.
fn maintenance(status: Value) -> Value {
    let mut object = json!({
        "apiVersion": "nodemaintenance.medik8s.io/v1beta1", "kind": "NodeMaintenance",
        "metadata": {
            "name": "nm-1", "uid": "9c1d", "resourceVersion": "12",
            "finalizers": ["foregroundDeleteNodeMaintenance"],
        },
        "spec": {"nodeName": NODE_NAME, "reason": "replace a disk"},
    });
    object["status"] = status;
    object
}

fn running() -> Value {
    maintenance(json!({
        "phase": "Running", "drainProgress": 40, "evictionPods": 5, "totalpods": 12,
        "lastUpdate": "2026-11-01T10:00:00Z",
        "lastError": "error when evicting pods/\"db-0\":\n  global timeout reached: 30s",
        "pendingPods": ["db-0", "web-1", "web-2"],
        "pendingPodsRefs": [
            {"name": "web-1", "namespace": "shop"},
            {"name": "db-0", "namespace": "shop"},
            {"name": "web-2", "namespace": "shop"},
        ],
    }))
}

fn succeeded() -> Value {
    maintenance(json!({"phase": "Succeeded", "drainProgress": 100}))
}

fn failed() -> Value {
    let error = "maintenance failed: lease could not be extended after 4 attempts";
    maintenance(json!({"phase": "Failed", "lastError": error, "errorOnLeaseCount": 4}))
}

/// The same, being deleted.
fn deleting(mut object: Value) -> Value {
    object["metadata"]["deletionTimestamp"] = "2026-11-01T12:00:00Z".into();
    object
}

fn parse(object: &Value) -> Parsed<Maintenance> {
    let meta: Meta = serde_json::from_value(object["metadata"].clone()).unwrap();
    Maintenance::parse(&Object::new(&meta, &object.to_string()))
}

fn parsed(object: &Value) -> Maintenance {
    match parse(object) {
        Parsed::Fact(maintenance) => maintenance,
        other => panic!("{other:?}"),
    }
}

fn unmarked(version: &str) -> NodeBuilder {
    node(NODE_NAME).kubelet(version).boot("one")
}

fn tainted(node: NodeBuilder) -> NodeBuilder {
    node.evidence::<DrainTaint>(|_| {})
}

/// The node as the operator marks it.
fn marked(version: &str) -> NodeBuilder {
    let by = Cordoner::new(CordonerKind::Controller, "node-maintenance-operator");
    tainted(unmarked(version))
        .label(LABEL, "true")
        .cordoned_by(by, -10)
}

/// What is read of the objects.
fn table(objects: &[Value]) -> (Providers, FactTable) {
    let provider = plain_kubernetes(&[], None);
    let providers = Providers::new(vec![Box::new(provider)], vec![Box::new(NodeMaintenance)]);
    let providers = providers.unwrap();
    let mut table = FactTable::new(providers.kinds());
    for object in objects {
        let maintenance = parsed(object);
        table.put(&maintenance.name.clone(), maintenance);
    }
    table.facts.set_api_server_version(Some(NEW.into()));
    (providers, table)
}

fn evaluated(
    (providers, table): &(Providers, FactTable),
    node: NodeBuilder,
    past: Option<&NodeState>,
) -> NodeState {
    fixtures::evaluated(providers, &table.facts, &node.build(), past)
}

fn next(node: NodeBuilder, object: &Value, past: Option<&NodeState>) -> NodeState {
    evaluated(&table(std::slice::from_ref(object)), node, past)
}

fn state(node: NodeBuilder, object: &Value) -> NodeState {
    next(node, object, None)
}

/// Without any object.
fn after(node: NodeBuilder, past: &NodeState) -> NodeState {
    evaluated(&table(&[]), node, Some(past))
}

#[test]
fn each_phase_of_the_maintenance_has_its_phase() {
    for (object, phase, reason) in [
        (running(), Phase::Draining, "Draining"),
        (succeeded(), Phase::Updating, "InMaintenance"),
        (deleting(succeeded()), Phase::Updating, "MaintenanceEnds"),
        (deleting(running()), Phase::Updating, "MaintenanceEnds"),
    ] {
        for (version, kind) in [(NEW, REBOOT), (OLD, VERSION)] {
            let state = state(marked(version), &object);
            let shown = (state.phase, state.kind, state.updating.reason);
            assert_eq!(shown, (phase, kind, reason), "{version}");
            assert_eq!(state.overlays[..], [ProviderName::new("NodeMaintenance")]);
            assert_eq!(state.provider.as_str(), "Kubernetes");
            let cordon = state.cordoned_by.unwrap();
            assert_eq!(cordon.by.name, "node-maintenance-operator");
            assert!(!cordon.is_foreign);
        }
    }
}

#[test]
fn a_drain_reports_its_progress_the_pods_that_remain_and_the_last_error() {
    let message = state(marked(NEW), &running()).updating.message;
    assert_eq!(
        &*message,
        "The node is drained for maintenance (replace a disk): 40% done, waiting for shop/db-0, \
         shop/web-1, shop/web-2; last error: error when evicting pods/\"db-0\": global timeout reached: 30s"
    );
    let mut many = running();
    let pods = (0..30).map(|number| json!({"name": format!("p-{number:02}"), "namespace": "a"}));
    many["status"]["pendingPodsRefs"] = pods.collect();
    let message = state(marked(NEW), &many).updating.message;
    assert!(
        message.contains("waiting for a/p-00, a/p-01, a/p-02 and 27 more"),
        "{message}"
    );
    // Older versions report names only.
    let old = maintenance(json!({"phase": "Running", "pendingPods": ["db-0"]}));
    let message = state(marked(NEW), &old).updating.message;
    assert!(
        message.ends_with(": 0% done, waiting for db-0"),
        "{message}"
    );
}

#[test]
fn a_drained_node_is_updating_until_its_maintenance_is_deleted_even_if_it_restarts() {
    let draining = state(marked(NEW), &running());
    let drained = next(marked(NEW), &succeeded(), Some(&draining));
    let off = marked(NEW).not_ready(-5);
    let off = next(off, &succeeded(), Some(&drained));
    let back = next(marked(NEW).boot("two"), &succeeded(), Some(&off));
    for state in [&drained, &off, &back] {
        let shown = (state.phase, state.kind, state.updating.reason);
        assert_eq!(shown, (Phase::Updating, REBOOT, "InMaintenance"));
        let message = &state.updating.message;
        assert!(
            message.contains("until the NodeMaintenance nm-1 is deleted"),
            "{message}"
        );
    }
    let ends = next(marked(NEW), &deleting(succeeded()), Some(&back));
    assert_eq!(ends.updating.reason, "MaintenanceEnds");
    let done = after(unmarked(NEW).boot("two"), &ends);
    assert_eq!((done.phase, done.kind), (Phase::Completed, None));
    assert!(done.overlays.is_empty());
}

#[test]
fn after_the_maintenance_the_provider_decides() {
    let in_maintenance = state(marked(OLD), &succeeded());
    let outdated = after(unmarked(OLD), &in_maintenance);
    assert_eq!((outdated.phase, outdated.kind), (Phase::Pending, VERSION));
    // The finalizer stays a moment longer than the cordon.
    let uncordoned = next(unmarked(NEW), &deleting(succeeded()), Some(&in_maintenance));
    assert_eq!(
        (uncordoned.phase, uncordoned.kind),
        (Phase::Completed, None)
    );
    assert!(uncordoned.overlays.is_empty());
    // The cordon of a user is left.
    let cordoned = after(unmarked(NEW).cordoned(), &in_maintenance);
    assert_eq!((cordoned.phase, cordoned.kind), (Phase::Updating, VERSION));
    assert!(cordoned.overlays.is_empty());
}

#[test]
fn the_kind_stays_when_the_node_has_the_new_version() {
    let outdated = state(marked(OLD), &succeeded());
    let updated = next(marked(NEW), &succeeded(), Some(&outdated));
    assert_eq!((updated.phase, updated.kind), (Phase::Updating, VERSION));
}

#[test]
fn a_failed_maintenance_is_degraded_until_it_is_deleted_and_leaves_the_phase_to_the_provider() {
    let draining = state(marked(OLD), &running());
    // It has removed every mark.
    let failed_now = next(unmarked(OLD), &failed(), Some(&draining));
    let later = next(unmarked(OLD), &failed(), Some(&failed_now));
    for state in [&failed_now, &later] {
        assert_eq!((state.phase, state.kind), (Phase::Pending, VERSION));
        assert_eq!(state.degraded.status, ConditionStatus::True);
        assert_eq!(state.degraded.reason, "MaintenanceFailed");
        let message = &*state.degraded.message;
        assert_eq!(
            message,
            "The maintenance of the node (replace a disk) has failed (NodeMaintenance nm-1): \
             maintenance failed: lease could not be extended after 4 attempts"
        );
    }
    let deleted = after(unmarked(OLD), &later);
    assert_eq!(deleted.degraded.status, ConditionStatus::False);
    assert!(deleted.overlays.is_empty());
    let marked = state(marked(NEW), &failed());
    assert_eq!(marked.degraded.status, ConditionStatus::True);
    assert_eq!(marked.phase, Phase::Completed);
}

#[test]
fn a_failure_is_seen_although_the_operator_removes_the_marks_before_it_reports_it() {
    for (phase, before) in [("Running", Phase::Draining), ("Succeeded", Phase::Updating)] {
        let mut object = failed();
        object["status"]["phase"] = phase.into();
        let marked = state(marked(NEW), &object);
        assert_eq!(
            (marked.phase, marked.degraded.status),
            (before, ConditionStatus::False)
        );
        let unmarked_now = next(unmarked(NEW), &object, Some(&marked));
        let reported = next(unmarked(NEW), &failed(), Some(&unmarked_now));
        for state in [unmarked_now, reported] {
            assert_eq!(state.phase, Phase::Completed);
            assert_eq!(state.degraded.reason, "MaintenanceFailed");
        }
    }
    // Three errors are not enough.
    let mut object = running();
    object["status"]["errorOnLeaseCount"] = 3.into();
    assert!(!parsed(&object).is_giving_up);
}

#[test]
fn a_maintenance_that_has_not_begun_changes_nothing() {
    for object in [maintenance(Value::Null), maintenance(json!({}))] {
        assert_eq!(state(marked(NEW), &object).phase, Phase::Completed);
    }
    // It waits for the lease of the node, while another update goes on.
    let other = state(marked(OLD), &running());
    let waiting = next(unmarked(OLD), &running(), Some(&other));
    assert_eq!(waiting.phase, Phase::Pending);
}

#[test]
fn any_mark_makes_the_node_read_its_maintenance() {
    for node in [
        unmarked(NEW).label(LABEL, "true"),
        unmarked(NEW).cordoned(),
        tainted(unmarked(NEW)),
    ] {
        assert_eq!(state(node, &running()).phase, Phase::Draining);
    }
}

#[test]
fn a_node_without_a_mark_reads_nothing() {
    let is_reader = |node: NodeBuilder, past: Option<&NodeState>| {
        let (providers, mut table) = table(&[]);
        let (node, view) = (node.build(), table.facts.view());
        let past = past.map(History::from);
        let assignment = providers.assign(&node, &view);
        let _ = providers.evaluate(&node, &assignment, None, &view, past.as_ref(), at(0));
        let reads = view.into_reads();
        let reader = table.facts.add_reader();
        table.facts.record(reader, reads);
        let name = "nm-1".into();
        let fact = std::sync::Arc::new(parsed(&running()));
        table.facts.apply(0, &name, Some(fact)) == Some(vec![reader])
    };
    assert!(!is_reader(unmarked(OLD), None));
    assert!(!is_reader(unmarked(NEW).label(LABEL, "false"), None));
    let completed = after(unmarked(NEW), &state(unmarked(NEW), &running()));
    assert!(!is_reader(unmarked(NEW), Some(&completed)));
    assert!(is_reader(marked(NEW), None));
    let draining = state(marked(NEW), &running());
    assert!(is_reader(unmarked(NEW), Some(&draining)));
    // From the evaluation on that begins its progress.
    let reboots = unmarked(OLD).boot("two").not_ready(0);
    assert!(is_reader(reboots, Some(&state(unmarked(OLD), &running()))));
}

#[test]
fn the_maintenance_of_another_node_is_ignored() {
    let mut other = running();
    other["spec"]["nodeName"] = "worker-8".into();
    let state = state(marked(NEW), &other);
    assert_eq!(state.phase, Phase::Completed);
    assert!(state.overlays.is_empty());
}

#[test]
fn contradictions_are_unknown_and_named() {
    let odd = maintenance(json!({"phase": "Dreaming"}));
    let odd = state(marked(NEW), &odd);
    assert_eq!(
        (odd.phase, odd.updating.reason),
        (Phase::Unknown, "UnknownPhase")
    );
    assert!(
        odd.updating.message.contains("'Dreaming'"),
        "{:?}",
        odd.updating
    );
    let mut second = running();
    second["metadata"]["name"] = "nm-2".into();
    let several = evaluated(&table(&[running(), second]), marked(NEW), None);
    let shown = (several.phase, several.updating.reason);
    assert_eq!(shown, (Phase::Unknown, "SeveralMaintenances"));
    assert!(
        several.updating.message.contains("nm-1 and nm-2"),
        "{:?}",
        several.updating
    );
}

#[test]
fn without_the_permission_the_taint_alone_shows_the_maintenance() {
    let rejected = |node: NodeBuilder| {
        let mut read = table(&[running()]);
        let rejected = Availability::Rejected("forbidden".into());
        read.1.facts.set_availability(0, rejected);
        evaluated(&read, node, None)
    };
    let tainted = rejected(marked(NEW));
    assert_eq!((tainted.phase, tainted.kind), (Phase::Updating, REBOOT));
    let message = &*tainted.updating.message;
    assert!(
        message.contains("nodemaintenances cannot be read: forbidden"),
        "{message}"
    );
    for other in [
        unmarked(NEW),
        unmarked(NEW).cordoned(),
        unmarked(NEW).label(LABEL, "true"),
    ] {
        let state = rejected(other);
        assert_eq!(state.phase, Phase::Completed);
        assert!(state.overlays.is_empty() && state.updating.message.is_empty());
    }
}

#[test]
fn where_the_kind_is_not_served_its_marks_are_ignored() {
    let mut read = table(&[]);
    read.1.facts.set_availability(0, Availability::NotServed);
    let state = evaluated(&read, marked(NEW), None);
    assert_eq!(state.phase, Phase::Completed);
    assert!(state.overlays.is_empty() && state.updating.message.is_empty());
}

#[test]
fn the_taint_is_evidence_and_nothing_else_is() {
    let shows = |taint: [&'static str; 4]| {
        let node = NodeObject {
            labels: Labels::new([(LABEL, "true")]),
            taints: Rows::new([taint]),
            ..NodeObject::default()
        };
        NodeMaintenance.evidence(&node).is_some()
    };
    assert!(shows([TAINT, "", "NoSchedule", ""]));
    assert!(!shows([TAINT, "", "PreferNoSchedule", ""]));
    assert!(!shows([
        "node.kubernetes.io/unschedulable",
        "",
        "NoSchedule",
        ""
    ]));
}

#[test]
fn a_maintenance_is_read_with_every_field_and_without_a_node_it_is_unreadable() {
    let expected = Maintenance {
        name: "nm-1".into(),
        node: NODE_NAME.into(),
        reason: "replace a disk".into(),
        phase: MaintenancePhase::Running,
        is_ending: false,
        is_giving_up: false,
        progress: 40,
        pods: ["shop/db-0", "shop/web-1", "shop/web-2"]
            .map(Box::from)
            .to_vec(),
        more_pods: 0,
        last_error: "error when evicting pods/\"db-0\": global timeout reached: 30s".into(),
    };
    assert_eq!(parsed(&running()), expected);
    let mut changed = running();
    changed["status"]["lastUpdate"] = "2026-11-01T10:00:05Z".into();
    changed["status"]["totalpods"] = 13.into();
    assert_eq!(
        parsed(&changed),
        expected,
        "nothing that matters has changed"
    );
    for (progress, expected) in [(-5, 0), (100, 100), (700, 100)] {
        changed["status"]["drainProgress"] = progress.into();
        assert_eq!(parsed(&changed).progress, expected);
    }
    for spec in [
        json!({}),
        json!({"nodeName": ""}),
        json!({"nodeName": 7}),
        json!(7),
    ] {
        changed["spec"] = spec;
        assert!(matches!(parse(&changed), Parsed::Unreadable(_)));
    }
}
