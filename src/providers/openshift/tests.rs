//! One test for each rule of OpenShift.

use std::sync::Arc;

use serde_json::Value;

use super::evidence::DaemonState;
use super::*;
use crate::api::types::{ConditionStatus, Phase, UpdateKind};
use crate::domain::erased::Erased;
use crate::domain::fact::{Fact, Meta, Object, Parsed};
use crate::domain::facts::{Availability, Facts};
use crate::domain::fixtures::{NodeBuilder, at};
use crate::domain::state::NodeState;
use crate::providers::Providers;
use crate::providers::fixtures::{ClusterFacts, next_state, only};

mod conditions;
mod image;
mod membership;
mod oddities;
mod phase;
mod progress;

/// The state of a node that is first evaluated at time 0.
fn first_state(node: &NodeFacts, cluster: &ClusterFacts) -> NodeState {
    next_state(&only(OpenShift::chosen()), node, cluster, None, at(0))
}

#[test]
fn the_kinds_that_every_openshift_has_are_needed_if_it_is_chosen_and_the_others_are_optional() {
    let needs = |provider: OpenShift| {
        let kinds = provider.kinds();
        let needs = kinds.iter().map(|kind| (kind.spec.plural, kind.spec.need));
        needs.collect::<Vec<_>>()
    };
    let (always, served) = (needs(OpenShift::chosen()), needs(OpenShift::default()));
    for (plural, need) in &always[..3] {
        assert_eq!(*need, Need::Always, "{plural}");
    }
    assert!(
        served[..3]
            .iter()
            .all(|(_, need)| *need == Need::WhereServed)
    );
    for (plural, need) in always[3..].iter().chain(&served[3..]) {
        assert_eq!(*need, Need::Optional, "{plural}");
    }
    assert_eq!(always.len(), 6);
}

/// What an object is parsed to.
fn parse<F: Fact>(object: &Value) -> Parsed<F> {
    let meta: Meta = serde_json::from_value(object["metadata"].clone()).unwrap();
    F::parse(&Object::new(&meta, &object.to_string()))
}

/// A cluster with objects of optional kinds; where there are none, the kind can be read and is empty.
struct World {
    providers: Providers,
    facts: Facts,
}

impl World {
    fn new(cluster: &ClusterFacts) -> Self {
        let providers = only(OpenShift::chosen());
        let facts = cluster.facts(providers.kinds());
        Self { providers, facts }
    }

    fn place(&self, plural: &str) -> usize {
        let mut kinds = self.providers.kinds().iter();
        kinds.position(|kind| kind.spec.plural == plural).unwrap()
    }

    /// Parses an object and adds it.
    fn put<F: Fact>(&mut self, object: &Value) {
        let Parsed::Fact(fact) = parse::<F>(object) else {
            panic!("{object}");
        };
        let (place, name) = (
            self.place(F::KIND.plural),
            object["metadata"]["name"].as_str(),
        );
        let fact = Arc::new(fact) as Arc<dyn Erased>;
        self.facts.apply(place, &name.unwrap().into(), Some(fact));
    }

    fn set<F: Fact>(&mut self, availability: Availability) {
        let place = self.place(F::KIND.plural);
        self.facts.set_availability(place, availability);
    }

    fn reject<F: Fact>(&mut self) {
        self.set::<F>(Availability::Rejected("forbidden".into()));
    }

    /// Adds another node of the cluster, as far as nodes are counted.
    fn count(&mut self, node: NodeBuilder) {
        let keys = self.providers.node_keys(&node.build());
        self.facts.count_node(&Keys::default(), &keys);
    }

    fn state_of(&self, node: NodeBuilder) -> NodeState {
        let (node, view) = (node.build(), self.facts.view());
        let assignment = self.providers.assign(&node, &view);
        self.providers
            .evaluate(&node, &assignment, None, &view, None, at(0))
    }

    /// Phase, reason and kind.
    fn seen(&self, node: NodeBuilder) -> (Phase, &'static str, Option<UpdateKind>) {
        let state = self.state_of(node);
        (state.phase, state.updating.reason, state.kind)
    }
}
