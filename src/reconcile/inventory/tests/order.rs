//! Pool membership does not depend on the order in which nodes and pools arrive.

use std::thread;

use proptest::prelude::*;

use super::*;
use crate::domain::node::NodeFacts;

const ROLES: [&str; 5] = ["master", "worker", "infra", "gpu", "storage"];

#[derive(Debug, Clone)]
enum Step {
    Pool(&'static str),
    Node(usize),
}

fn nodes_with(roles: &[Vec<&'static str>]) -> Vec<NodeFacts> {
    let with = |(index, roles): (usize, &Vec<&'static str>)| {
        let node = node(&format!("n{index}"));
        roles
            .iter()
            .fold(node, |node, role| node.role(role))
            .build()
    };
    roles.iter().enumerate().map(with).collect()
}

/// The pools of the nodes.
fn pools_of(inventory: &Inventory, nodes: &[NodeFacts]) -> Vec<(Option<String>, String)> {
    let of = |node: &NodeFacts| {
        let state = inventory.evaluate(&node.name, None, None, at(0)).unwrap();
        let pool = state.pool.map(|pool| pool.name.to_string());
        (pool, state.updating.message.into_string())
    };
    nodes.iter().map(of).collect()
}

/// The pools of the nodes after all steps in this order.
fn pools_after(steps: &[Step], nodes: &[NodeFacts]) -> Vec<(Option<String>, String)> {
    let inventory = Inventory::of(OpenShift::chosen());
    for step in steps {
        match step {
            Step::Pool(name) => inventory.apply_pool(pool(name, NEW)),
            Step::Node(index) => inventory.apply_node(nodes[*index].clone()),
        };
    }
    pools_of(&inventory, nodes)
}

proptest! {
    #[test]
    fn membership_does_not_depend_on_the_order_in_which_pools_and_nodes_arrive(
        pools in prop::sample::subsequence(ROLES.to_vec(), 0..=5),
        roles in prop::collection::vec(prop::sample::subsequence(ROLES.to_vec(), 0..=5), 1..6),
        orders in prop::collection::vec(any::<u64>(), 11),
    ) {
        let nodes = nodes_with(&roles);
        let mut steps: Vec<Step> = pools.iter().copied().map(Step::Pool).collect();
        steps.extend((0..nodes.len()).map(Step::Node));
        let in_order = pools_after(&steps, &nodes);
        let mut ranked: Vec<(u64, Step)> = orders.into_iter().zip(steps).collect();
        ranked.sort_by_key(|(rank, _)| *rank);
        let shuffled: Vec<Step> = ranked.into_iter().map(|(_, step)| step).collect();
        prop_assert_eq!(pools_after(&shuffled, &nodes), in_order);
    }
}

#[test]
fn a_node_and_its_pool_that_arrive_at_once_are_matched_and_the_node_is_affected() {
    for round in 0..2_000 {
        let inventory = Inventory::of(OpenShift::chosen());
        inventory.apply_pool(pool("worker", NEW));
        let infra = node("n").role("worker").role("infra").build();
        let name = Arc::clone(&infra.name);
        thread::scope(|scope| {
            let pools = scope.spawn(|| inventory.apply_pool(pool("infra", NEW)));
            let nodes = scope.spawn(|| inventory.apply_node(infra));
            let affected = [pools.join().unwrap(), nodes.join().unwrap()];
            assert!(
                affected
                    .iter()
                    .any(|affected| affected.nodes.contains(&name))
            );
        });
        let pool = inventory
            .evaluate(&name, None, None, at(0))
            .unwrap()
            .pool_name();
        assert_eq!(pool.as_deref(), Some("infra"), "round {round}");
    }
}
