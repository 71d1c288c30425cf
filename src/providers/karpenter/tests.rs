//! One test for each rule of Karpenter.

use serde_json::{Value, json};

use super::kinds::*;
use super::*;
use crate::api::types::{ConditionStatus, Phase, UpdateKind};
use crate::domain::erased::{Erased, downcast};
use crate::domain::fact::{Fact, Meta, Object, Parsed};
use crate::domain::facts::{Availability, Facts};
use crate::domain::fixtures::{NodeBuilder, at, node};
use crate::domain::state::NodeState;
use crate::providers::fixtures::FactTable;
use crate::providers::{Assignment, Options, Providers};

mod method;
mod sources;

const ID: &str = "aws:///us-east-2a/i-0123456789abcdef0";
const API_SERVER: &str = "v1.36.3";

/// A fact as it is parsed from an object.
fn parsed<F: Fact>(object: &Value) -> F {
    let meta: Meta = serde_json::from_value(object["metadata"].clone()).unwrap();
    let json = object.to_string();
    match F::parse(&Object::new(&meta, &json)) {
        Parsed::Fact(fact) => fact,
        other => panic!("{other:?}"),
    }
}

/// A NodeClaim whose node has joined, with more conditions: type, status and reason.
fn claim(conditions: &[(&str, &str, &str)]) -> Value {
    let joined = [("Registered", "True", ""), ("Initialized", "True", "")];
    let conditions: Vec<Value> = joined
        .iter()
        .chain(conditions)
        .map(|(type_, status, reason)| json!({"type": type_, "status": status, "reason": reason}))
        .collect();
    json!({
        "metadata": {
            "name": "default-x7k2p", "uid": "claim", "creationTimestamp": "2026-11-01T00:00:00Z",
            "labels": {"karpenter.sh/nodepool": "default"},
        },
        "spec": {
            "expireAfter": "720h",
            "nodeClassRef": {"group": "karpenter.k8s.aws", "kind": "EC2NodeClass", "name": "default"},
        },
        "status": {"providerID": ID, "conditions": conditions},
    })
}

/// The same, being deleted.
fn deleting(mut claim: Value) -> Value {
    claim["metadata"]["deletionTimestamp"] = "2026-11-20T00:00:00Z".into();
    claim
}

fn node_pool() -> Value {
    json!({
        "metadata": {"name": "default", "uid": "pool"},
        "spec": {
            "disruption": {"budgets": [{"nodes": "10%"}]},
            "template": {"spec": {"nodeClassRef": {"kind": "EC2NodeClass", "name": "default"}}},
        },
        "status": {"conditions": [{"type": "NodeClassReady", "status": "True"}]},
    })
}

/// A node of NodePool `default`.
fn joined() -> NodeBuilder {
    shown(|_| {})
}

/// The same, with changed evidence.
fn shown(change: impl FnOnce(&mut KarpenterNode)) -> NodeBuilder {
    node("ip-10-0-1-7")
        .label(NODE_POOL_LABEL, "default")
        .kubelet("v1.35.2")
        .evidence(|shown: &mut KarpenterNode| {
            shown.provider_id = ID.into();
            change(shown);
        })
}

/// A cluster with these claims and this pool, in which all kinds can be read.
struct Cluster {
    table: FactTable,
    providers: Providers,
}

impl Cluster {
    fn new(claims: &[Value], pool: &Value) -> Self {
        let providers = Providers::standard(&Options::default()).unwrap();
        let mut table = FactTable::new(providers.kinds());
        // OpenShift is not served.
        for (place, kind) in providers.kinds().iter().enumerate() {
            if kind.spec.group.ends_with("openshift.io") {
                table.facts.set_availability(place, Availability::NotServed);
            }
        }
        for (index, claim) in claims.iter().enumerate() {
            table.put(&format!("claim-{index}"), parsed::<NodeClaim>(claim));
        }
        table.put("default", parsed::<NodePool>(pool));
        table.facts.set_api_server_version(Some(API_SERVER.into()));
        Self { table, providers }
    }

    fn facts(&mut self) -> &mut Facts {
        &mut self.table.facts
    }

    fn place(&self, plural: &str) -> usize {
        let mut kinds = self.providers.kinds().iter();
        kinds.position(|kind| kind.spec.plural == plural).unwrap()
    }

    fn state_of(&self, node: NodeBuilder) -> NodeState {
        let (node, view) = (node.build(), self.table.facts.view());
        let assignment = self.providers.assign(&node, &view);
        self.providers
            .evaluate(&node, &assignment, None, &view, None, at(0))
    }
}

fn state(node: NodeBuilder, claim: &Value) -> NodeState {
    Cluster::new(std::slice::from_ref(claim), &node_pool()).state_of(node)
}

/// Phase, kind and reason.
fn seen(node: NodeBuilder, claim: &Value) -> (Phase, Option<UpdateKind>, &'static str) {
    let state = state(node, claim);
    (state.phase, state.kind, state.updating.reason)
}

const DRIFTED: (&str, &str, &str) = ("Drifted", "True", "AMIDrift");
const BECAUSE_OF_DRIFT: (&str, &str, &str) = ("DisruptionReason", "True", "Drifted");

#[test]
fn a_node_that_has_not_drifted_is_completed_without_a_newer_desired_version() {
    let state = state(joined(), &claim(&[]));
    assert_eq!((state.phase, state.kind), (Phase::Completed, None));
    assert_eq!(state.provider, Karpenter::NAME);
    assert_eq!(state.pool_name().as_deref(), Some("default.nodepool"));
    // It is a minor version behind the API server, but its image is pinned: no newer version is desired.
    assert_eq!(state.desired, None);
}

#[test]
fn a_drifted_node_is_pending_and_the_drift_reason_decides_the_kind() {
    for (reason, kind) in [
        ("K8sVersionDrift", UpdateKind::Version),
        // Image of a newer minor version, that of the API server.
        ("AMIDrift", UpdateKind::Version),
        ("NodePoolDrifted", UpdateKind::Configuration),
        ("RequirementsDrifted", UpdateKind::Configuration),
        ("SecurityGroupDrift", UpdateKind::Configuration),
        ("InstanceTypeNotFound", UpdateKind::Replacement),
    ] {
        let claim = claim(&[("Drifted", "True", reason)]);
        let state = state(joined(), &claim);
        assert_eq!(
            (state.phase, state.kind),
            (Phase::Pending, Some(kind)),
            "{reason}"
        );
        assert!(state.updating.message.contains(reason), "{reason}");
        assert_eq!(&*state.desired.unwrap().version, API_SERVER);
    }
    let image = joined().kubelet("v1.36.1");
    let (phase, kind, _) = seen(image, &claim(&[DRIFTED]));
    assert_eq!((phase, kind), (Phase::Pending, Some(UpdateKind::Image)));
}

#[test]
fn a_condition_that_is_not_true_is_no_drift() {
    for status in ["False", "Unknown", ""] {
        let claim = claim(&[("Drifted", status, "AMIDrift")]);
        assert_eq!(seen(joined(), &claim).0, Phase::Completed, "{status}");
    }
}

#[test]
fn a_node_that_waits_for_its_replacement_is_updating_and_unavailable() {
    let claim = claim(&[DRIFTED, BECAUSE_OF_DRIFT]);
    let state = state(shown(|node| node.is_disrupted = true), &claim);
    assert_eq!(
        (state.phase, state.updating.reason),
        (Phase::Updating, "WaitingForReplacement")
    );
    assert_eq!(state.available.status, ConditionStatus::False);
    assert_eq!(state.available.reason, "Disrupted");
}

#[test]
fn the_taint_alone_starts_no_update() {
    let claim = claim(&[DRIFTED]);
    assert_eq!(
        seen(shown(|node| node.is_disrupted = true), &claim).0,
        Phase::Pending
    );
}

#[test]
fn the_termination_of_a_replaced_node_passes_every_step() {
    let drained = ("Drained", "True", "Drained");
    let detaching = ("VolumesDetached", "Unknown", "AwaitingVolumeDetachment");
    let detached = ("VolumesDetached", "True", "VolumesDetached");
    let gave_up = ("VolumesDetached", "False", "TerminationGracePeriodElapsed");
    let terminating = ("InstanceTerminating", "True", "InstanceTerminating");
    for (conditions, phase, reason) in [
        (&[][..], Phase::Draining, "Draining"),
        (
            &[("Drained", "Unknown", "Draining")],
            Phase::Draining,
            "Draining",
        ),
        (
            &[drained, detaching],
            Phase::Updating,
            "AwaitingVolumeDetachment",
        ),
        (&[drained, detached], Phase::Updating, "Drained"),
        (&[drained, gave_up], Phase::Updating, "Drained"),
        (
            &[drained, detached, terminating],
            Phase::Updating,
            "InstanceTerminating",
        ),
    ] {
        let mut all = vec![DRIFTED, BECAUSE_OF_DRIFT];
        all.extend(conditions);
        let (found, kind, why) = seen(joined(), &deleting(claim(&all)));
        assert_eq!((found, why), (phase, reason), "{conditions:?}");
        assert_eq!(kind, Some(UpdateKind::Version));
    }
}

#[test]
fn the_message_of_a_drain_has_its_time_limit() {
    let drifted = claim(&[DRIFTED, BECAUSE_OF_DRIFT]);
    let message = state(joined(), &deleting(drifted.clone())).updating.message;
    assert!(message.contains("no time limit"), "{message}");
    let mut limited = deleting(drifted);
    limited["spec"]["terminationGracePeriod"] = "1h".into();
    limited["metadata"]["annotations"] =
        json!({"karpenter.sh/nodeclaim-termination-timestamp": "2026-11-20T01:00:00Z"});
    let message = state(joined(), &limited).updating.message;
    assert!(message.contains("2026-11-20T01:00:00Z"), "{message}");
}

#[test]
fn consolidation_is_no_update_and_a_drifted_node_stays_pending() {
    for reason in ["Empty", "Underutilized"] {
        let consolidated = ("DisruptionReason", "True", reason);
        for claim in [claim(&[consolidated]), deleting(claim(&[consolidated]))] {
            let state = state(joined(), &claim);
            assert_eq!(
                (state.phase, state.kind),
                (Phase::Completed, None),
                "{reason}"
            );
            let message = &state.updating.message;
            assert!(
                message.contains(reason) && message.contains("no update"),
                "{message}"
            );
            // An outdated node stays outdated until it is deleted.
            let mut drifted = claim;
            let conditions = drifted["status"]["conditions"].as_array_mut().unwrap();
            conditions.push(json!({"type": "Drifted", "status": "True", "reason": "AMIDrift"}));
            assert_eq!(seen(joined(), &drifted).0, Phase::Pending, "{reason}");
        }
    }
}

#[test]
fn an_expired_node_is_replaced_and_a_node_deleted_by_a_user_is_not() {
    let mut expired = deleting(claim(&[]));
    expired["spec"]["expireAfter"] = "1h".into();
    let (phase, kind, _) = seen(joined(), &expired);
    assert_eq!(
        (phase, kind),
        (Phase::Draining, Some(UpdateKind::Replacement))
    );
    for never in ["720h", "Never"] {
        let mut deleted = deleting(claim(&[]));
        deleted["spec"]["expireAfter"] = never.into();
        let (phase, kind, _) = seen(joined(), &deleted);
        assert_eq!((phase, kind), (Phase::Completed, None), "{never}");
    }
    // A drifted node that a user deletes is replaced by a current one.
    assert_eq!(
        seen(joined(), &deleting(claim(&[DRIFTED]))).0,
        Phase::Draining
    );
}

#[test]
fn a_repaired_node_is_not_being_updated() {
    let mut repaired = deleting(claim(&[]));
    repaired["metadata"]["annotations"] =
        json!({"karpenter.sh/nodeclaim-termination-timestamp": "2026-11-20T00:00:00Z"});
    let state = state(joined(), &repaired);
    assert_eq!(state.phase, Phase::Completed);
    assert!(
        state.updating.message.contains("repairs"),
        "{:?}",
        state.updating
    );
}

#[test]
fn a_node_that_is_not_initialized_is_joining_and_not_updated() {
    for condition in ["Registered", "Initialized"] {
        let mut claim = claim(&[]);
        let conditions = claim["status"]["conditions"].as_array_mut().unwrap();
        conditions.retain(|each| each["type"] != condition);
        assert_eq!(seen(joined(), &claim).2, "Joining", "{condition}");
    }
    let unregistered = shown(|node| node.is_unregistered = true);
    assert_eq!(
        seen(unregistered, &claim(&[])),
        (Phase::Unknown, None, "Joining")
    );
}

#[test]
fn a_drifted_node_with_do_not_disrupt_is_paused() {
    let held = shown(|node| node.do_not_disrupt = true);
    assert_eq!(seen(held.clone(), &claim(&[DRIFTED])).2, "DoNotDisrupt");
    assert_eq!(seen(held.clone(), &claim(&[])).0, Phase::Completed);
    let mut by_claim = claim(&[DRIFTED]);
    by_claim["metadata"]["annotations"] = json!({"karpenter.sh/do-not-disrupt": "true"});
    assert_eq!(seen(joined(), &by_claim).0, Phase::Paused);
    by_claim["metadata"]["annotations"] = json!({"karpenter.sh/do-not-disrupt": "yes"});
    assert_eq!(seen(joined(), &by_claim).0, Phase::Pending);
    // Expiry ignores the annotation.
    let mut expired = deleting(claim(&[]));
    expired["spec"]["expireAfter"] = "1h".into();
    assert_eq!(seen(held, &expired).0, Phase::Draining);
}

#[test]
fn a_budget_of_zero_nodes_pauses_the_pool_and_its_drifted_nodes() {
    let mut pool = node_pool();
    pool["spec"]["disruption"]["budgets"] = json!([{"nodes": "0"}, {"nodes": "50%"}]);
    let cluster = Cluster::new(&[claim(&[DRIFTED])], &pool);
    let state = cluster.state_of(joined());
    assert_eq!(
        (state.phase, state.updating.reason),
        (Phase::Paused, "DisruptionBudget")
    );
    let karpenter = Karpenter::new(&[]);
    let view = cluster.table.facts.view();
    let described = karpenter
        .describe(state.pool.as_ref().unwrap(), &view, at(0))
        .unwrap();
    assert!(described.paused);
    let PoolOwner::Object(owner) = described.owner else {
        panic!("{:?}", described.owner);
    };
    assert_eq!(
        (&*owner.kind, &*owner.name, &*owner.uid),
        ("NodePool", "default", "pool")
    );
}

#[test]
fn nodes_are_evaluated_again_when_a_scheduled_budget_ends() {
    let mut pool = node_pool();
    pool["spec"]["disruption"]["budgets"] =
        json!([{"nodes": "0", "schedule": "@hourly", "duration": "59m"}]);
    let cluster = Cluster::new(&[claim(&[DRIFTED])], &pool);
    let state = cluster.state_of(joined());
    assert!(state.again_at.is_some_and(|again| again > at(0)));
}

#[test]
fn problems_of_a_pool_are_reported_on_its_drifted_nodes() {
    let mut pool = node_pool();
    pool["status"]["conditions"] = json!([
        {"type": "NodeClassReady", "status": "False", "message": "no subnets"},
        {"type": "Ready", "status": "False", "message": "something else"},
    ]);
    let state = Cluster::new(&[claim(&[DRIFTED])], &pool).state_of(joined());
    let message = &*state.updating.message;
    assert!(
        message.ends_with("NodePool: NodeClassReady is False: no subnets"),
        "{message}"
    );
}

#[test]
fn the_node_class_of_aks_has_the_desired_version() {
    let mut claim = claim(&[("Drifted", "True", "K8sVersionDrift")]);
    claim["spec"]["nodeClassRef"] = json!({"kind": "AKSNodeClass", "name": "default"});
    let mut cluster = Cluster::new(&[claim], &node_pool());
    let class = json!({"metadata": {"name": "default"}, "status": {"kubernetesVersion": "1.35.9"}});
    cluster.table.put("default", parsed::<AksNodeClass>(&class));
    let desired = cluster.state_of(joined()).desired.unwrap();
    assert_eq!(&*desired.version, "v1.35.9");
    assert_eq!(desired.source, DesiredVersionSource::Provider);
}
