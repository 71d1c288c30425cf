//! How Karpenter removes the pods of a node.

use super::*;
use crate::domain::drain::method::{Method, Removal};

fn method(claim: &Value) -> Option<Method> {
    let cluster = Cluster::new(std::slice::from_ref(claim), &node_pool());
    let state = cluster.state_of(joined());
    let view = cluster.table.facts.view();
    cluster.providers.method(&joined().build(), &state, &view)
}

#[test]
fn karpenter_evicts_until_the_grace_period_of_the_node_claim_is_over_if_it_has_one() {
    let patient = Method::of(Drainer::Karpenter);
    assert_eq!(method(&claim(&[])), Some(patient));
    let mut limited = claim(&[]);
    limited["spec"]["terminationGracePeriod"] = "30m".into();
    let expected = Method {
        removal: Removal::EvictionUntilDeadline,
        ..patient
    };
    assert_eq!(method(&limited), Some(expected));
}
