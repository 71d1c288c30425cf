//! Conflicting, missing and unreadable sources.

use super::*;

#[test]
fn two_claims_or_nodes_of_one_machine_are_a_conflict_and_a_missing_claim_is_reported() {
    let both = Cluster::new(&[claim(&[]), claim(&[])], &node_pool());
    let state = both.state_of(joined());
    assert_eq!(
        (state.phase, state.updating.reason),
        (Phase::Unknown, "NodeClaimConflict")
    );
    let none = Cluster::new(&[], &node_pool());
    assert_eq!(none.state_of(joined()).updating.reason, "NoNodeClaim");
    let mut twins = Cluster::new(&[claim(&[])], &node_pool());
    let mut keys = Keys::default();
    Karpenter::new(&[]).node_keys(&joined().build(), &mut keys);
    for _ in 0..2 {
        twins.facts().count_node(&Keys::default(), &keys);
    }
    let state = twins.state_of(joined());
    assert!(
        state.updating.message.contains("2 Nodes"),
        "{:?}",
        state.updating
    );
}

#[test]
fn without_permission_for_nodeclaims_the_evidence_on_the_node_is_used() {
    let mut cluster = Cluster::new(&[claim(&[DRIFTED])], &node_pool());
    let place = cluster.place("nodeclaims");
    let rejected = Availability::Rejected("forbidden".into());
    cluster.facts().set_availability(place, rejected);
    let state = cluster.state_of(joined());
    assert_eq!(
        (state.phase, state.updating.reason),
        (Phase::Unknown, "SourceUnavailable")
    );
    assert_eq!(
        &*state.updating.message,
        "nodeclaims cannot be read: forbidden"
    );
    let state = cluster.state_of(shown(|node| node.is_disrupted = true));
    assert_eq!(
        (state.phase, state.kind),
        (Phase::Updating, Some(UpdateKind::Replacement))
    );
    assert!(state.updating.message.contains("forbidden"));
    assert_eq!(cluster.state_of(joined().deleting()).phase, Phase::Draining);
    // The pool is still known by the label.
    assert_eq!(state.pool_name().as_deref(), Some("default.nodepool"));
}

#[test]
fn without_permission_for_nodepools_waiting_nodes_and_their_pool_report_it_and_are_evaluated() {
    let mut cluster = Cluster::new(&[claim(&[DRIFTED])], &node_pool());
    let place = cluster.place("nodepools");
    let rejected = Availability::Rejected("forbidden".into());
    cluster.facts().set_availability(place, rejected);
    let state = cluster.state_of(joined());
    assert_eq!(state.phase, Phase::Pending);
    let message = &*state.updating.message;
    assert!(
        message.ends_with("waits for its turn | nodepools cannot be read: forbidden"),
        "{message}"
    );
    let view = cluster.table.facts.view();
    let described = Karpenter::new(&[])
        .describe(state.pool.as_ref().unwrap(), &view, at(0))
        .unwrap();
    assert_eq!(described.missing.unwrap().kind, "nodepools");
    assert_eq!(described.owner, PoolOwner::Unknown);
    // The pool matters only to a node that waits for its turn.
    cluster
        .table
        .put("claim-0", parsed::<NodeClaim>(&claim(&[])));
    assert_eq!(&*cluster.state_of(joined()).updating.message, "");
}

#[test]
fn without_permission_for_aksnodeclasses_nodes_and_pools_report_it_and_use_the_api_server() {
    let class = json!({"kind": "AKSNodeClass", "name": "default"});
    let mut outdated = claim(&[("Drifted", "True", "K8sVersionDrift")]);
    outdated["spec"]["nodeClassRef"] = class.clone();
    let mut pool = node_pool();
    pool["spec"]["template"]["spec"]["nodeClassRef"] = class;
    let mut cluster = Cluster::new(&[outdated], &pool);
    let place = cluster.place("aksnodeclasses");
    let rejected = Availability::Rejected("forbidden".into());
    cluster.facts().set_availability(place, rejected);
    let state = cluster.state_of(joined());
    assert_eq!(&*state.desired.unwrap().version, API_SERVER);
    let message = &*state.updating.message;
    assert!(
        message.ends_with(" | aksnodeclasses cannot be read: forbidden"),
        "{message}"
    );
    let view = cluster.table.facts.view();
    let described = Karpenter::new(&[])
        .describe(state.pool.as_ref().unwrap(), &view, at(0))
        .unwrap();
    assert_eq!(described.missing.unwrap().kind, "aksnodeclasses");
    assert!(matches!(described.owner, PoolOwner::Object(_)));
}

#[test]
fn labels_of_the_cloud_coexist_with_karpenter_and_labels_of_another_updater_conflict() {
    let cluster = Cluster::new(&[claim(&[])], &node_pool());
    let providers = &cluster.providers;
    let view = cluster.table.facts.view();
    let assigned = |node: NodeBuilder| providers.assign(&node.build(), &view);
    for label in [
        "kubernetes.azure.com/agentpool",
        "cloud.google.com/gke-nodepool",
    ] {
        let assignment = assigned(joined().label(label, "x"));
        assert_eq!(
            assignment.pool().unwrap().name,
            "default.nodepool".into(),
            "{label}"
        );
    }
    let both = assigned(joined().label("eks.amazonaws.com/nodegroup", "blue"));
    assert!(matches!(both, Assignment::Conflict(_)), "{both:?}");
    let state = cluster.state_of(joined().label("eks.amazonaws.com/nodegroup", "blue"));
    assert_eq!(state.updating.reason, "ProviderConflict");
    let message = &*state.updating.message;
    assert!(
        message.contains("Karpenter") && message.contains("nodegroup"),
        "{message}"
    );
}

#[test]
fn a_claim_without_a_pool_is_standalone() {
    let standalone = node("n").evidence(|shown: &mut KarpenterNode| {
        shown.provider_id = ID.into();
        shown.owner = Some("mine".into());
    });
    let state = state(standalone, &claim(&[]));
    assert_eq!(state.pool_name().as_deref(), Some("standalone.nodeclaims"));
    assert_eq!(state.phase, Phase::Completed);
}

#[test]
fn a_conflict_names_the_evidence_that_the_node_has() {
    let standalone = node("n")
        .label("eks.amazonaws.com/nodegroup", "blue")
        .evidence(|shown: &mut KarpenterNode| shown.owner = Some("mine".into()));
    let state = state(standalone, &claim(&[]));
    assert_eq!(
        &*state.updating.message,
        "The node shows several updaters that exclude each other: Karpenter (owner NodeClaim), \
         EKS (label eks.amazonaws.com/nodegroup)"
    );
}

#[test]
fn an_invalid_claim_is_unreadable_and_junk_causes_no_panic() {
    let meta = Meta::default();
    for json in ["7", r#"{"spec": 1}"#, r#"{"status": {"conditions": [1]}}"#] {
        let parsed = NodeClaim::parse(&Object::new(&meta, json));
        assert!(
            matches!(parsed, Parsed::Unreadable(_)),
            "{json}: {parsed:?}"
        );
    }
    let junk = json!({
        "metadata": {"deletionTimestamp": "yesterday", "annotations": {"a": "\u{0}"}},
        "spec": {"expireAfter": "soon"},
        "status": {"providerID": "", "conditions": [{"type": "Drifted", "status": "True"}]},
    });
    let claim = Kind::of::<NodeClaim>();
    let json = junk.to_string();
    let Parsed::Fact(fact) = claim.parse(&Object::new(&meta, &json)) else {
        panic!("it can be read");
    };
    let fact: &dyn Erased = &*fact;
    assert_eq!(downcast::<NodeClaim>(fact).unwrap().expire_after, None);
}
