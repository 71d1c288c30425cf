//! Judging again only who is affected gives what judging everybody from scratch gives.

use proptest::prelude::*;

use std::collections::BTreeMap;

use super::*;
use crate::domain::facts::NodeFacts;
use crate::domain::pool::PoolFacts;

/// A change of the cluster.
#[derive(Debug, Clone)]
enum Operation {
    Node(Box<NodeFacts>),
    NodeGone(String),
    Pool(PoolFacts),
    PoolGone(&'static str),
    Release(&'static str, Option<&'static str>),
    Target(Option<&'static str>),
    ApiServer(Option<&'static str>),
}

/// Everything that the operations so far led to.
#[derive(Default)]
struct Model {
    nodes: BTreeMap<Arc<str>, NodeFacts>,
    pools: BTreeMap<Arc<str>, PoolFacts>,
    releases: BTreeMap<&'static str, &'static str>,
    target: Option<&'static str>,
    api_server: Option<&'static str>,
    states: BTreeMap<Arc<str>, NodeState>,
}

impl Model {
    fn apply(&mut self, operation: Operation) {
        match operation {
            Operation::Node(facts) => {
                self.nodes.insert(Arc::clone(&facts.name), *facts);
            }
            Operation::NodeGone(name) => {
                self.nodes.remove(&*name);
            }
            Operation::Pool(facts) => {
                self.pools.insert(Arc::clone(&facts.id.name), facts);
            }
            Operation::PoolGone(name) => {
                self.pools.remove(name);
            }
            Operation::Release(config, Some(version)) => {
                self.releases.insert(config, version);
            }
            Operation::Release(config, None) => {
                self.releases.remove(config);
            }
            Operation::Target(version) => self.target = version,
            Operation::ApiServer(version) => self.api_server = version,
        }
    }

    /// Everybody is judged, in an inventory that knows nothing of how it came to this.
    fn judge(&mut self, rules: Box<dyn Evaluator>, now: Timestamp) {
        let inventory = Inventory::new(rules);
        inventory.set_api_server_version(self.api_server.map(Arc::from));
        inventory.set_cluster_version(self.target.map(Arc::from));
        for (config, version) in &self.releases {
            inventory.set_release_version(&Arc::from(*config), Some(Arc::from(*version)));
        }
        for node in self.nodes.values().rev() {
            inventory.apply_node(node.clone());
        }
        for pool in self.pools.values().rev() {
            inventory.apply_pool(pool.clone());
        }
        let past = std::mem::take(&mut self.states);
        for name in self.nodes.keys() {
            let past = past.get(name).map(History::from);
            let state = inventory.evaluate(name, past.as_ref(), now).unwrap();
            self.states.insert(Arc::clone(name), state);
        }
    }
}

/// What the program does: only who is affected is judged again.
struct Subject {
    inventory: Inventory,
    states: BTreeMap<Arc<str>, NodeState>,
}

impl Subject {
    fn apply(&mut self, operation: Operation, now: Timestamp) {
        let affected = match operation {
            Operation::Node(facts) => self.inventory.apply_node(*facts),
            Operation::NodeGone(name) => self.inventory.remove_node(&name.into()),
            Operation::Pool(facts) => self.inventory.apply_pool(facts),
            Operation::PoolGone(name) => self.inventory.remove_pool(&name.into()),
            Operation::Release(config, version) => self
                .inventory
                .set_release_version(&config.into(), version.map(Arc::from)),
            Operation::Target(version) => {
                self.inventory.set_cluster_version(version.map(Arc::from))
            }
            Operation::ApiServer(version) => self
                .inventory
                .set_api_server_version(version.map(Arc::from)),
        };
        for name in affected.nodes {
            let past = self.states.get(&name).map(History::from);
            match self.inventory.evaluate(&name, past.as_ref(), now) {
                Some(state) => self.states.insert(name, state),
                None => self.states.remove(&name),
            };
        }
    }
}

const CONFIGS: [&str; 4] = ["c0", "c1", "c2", "c3"];
const RELEASES: [&str; 3] = ["4.14.1", "4.15.0", "4.15.1"];
const POOLS: [&str; 4] = ["master", "worker", "infra", "gpu"];
const KUBELETS: [&str; 11] = [
    "v1.31.2",
    "v1.31.10",
    "v1.32.0",
    "v1.32.0+k3s1",
    "v1.32.0-k3s1",
    "v1.32.0+k3s2",
    "v1.32.0+rke2r1",
    "v1.32.0-eks-16b398d",
    "v1.32.0-eks-a737599",
    "v1.32.0-rc.1",
    "unreadable",
];

fn one_of<T: Clone + std::fmt::Debug + 'static>(values: &[T]) -> BoxedStrategy<T> {
    prop::sample::select(values.to_vec()).boxed()
}

fn a_node() -> BoxedStrategy<Operation> {
    (
        (0..6u8, prop::sample::subsequence(POOLS.to_vec(), 0..=2)),
        (one_of(&CONFIGS), one_of(&CONFIGS)),
        one_of(&[
            DaemonState::Done,
            DaemonState::Working,
            DaemonState::Rebooting,
            DaemonState::Degraded,
        ]),
        (one_of(&KUBELETS), one_of(&["boot1", "boot2"])),
        (any::<bool>(), any::<bool>(), prop::bool::weighted(0.2)),
        one_of(&["ssd", "hdd"]),
    )
        .prop_map(
            |((index, roles), (current, desired), daemon, (kubelet, boot), flags, disk)| {
                let (cordoned, ready, deleting) = flags;
                let mut node = node(&format!("n{index}"))
                    .current(current)
                    .desired(desired)
                    .daemon(daemon)
                    .kubelet(kubelet)
                    .boot(boot)
                    .label("disk", disk);
                for role in roles {
                    node = node.role(role);
                }
                if cordoned {
                    node = node.cordoned();
                }
                if !ready {
                    node = node.not_ready(0);
                }
                if deleting {
                    node = node.deleting();
                }
                Operation::Node(Box::new(node.build()))
            },
        )
        .boxed()
}

fn a_pool() -> BoxedStrategy<Operation> {
    let selectors = prop_oneof![
        4 => Just(None),
        1 => Just(Some(selector(&[("disk", "ssd")]))),
        1 => Just(Some(None)),
    ];
    (one_of(&POOLS), one_of(&CONFIGS), any::<bool>(), selectors)
        .prop_map(|(name, config, paused, selector)| {
            let mut pool = pool(name, config);
            pool.paused = paused;
            if let Some(selector) = selector {
                pool.selector = selector;
            }
            Operation::Pool(pool)
        })
        .boxed()
}

fn operation() -> BoxedStrategy<Operation> {
    let version = || prop::option::weighted(0.8, one_of(&RELEASES));
    prop_oneof![
        8 => a_node(),
        1 => (0..6u8).prop_map(|index| Operation::NodeGone(format!("n{index}"))),
        4 => a_pool(),
        1 => one_of(&POOLS).prop_map(Operation::PoolGone),
        3 => (one_of(&CONFIGS), version()).prop_map(|(c, v)| Operation::Release(c, v)),
        1 => version().prop_map(Operation::Target),
        1 => prop::option::of(one_of(&KUBELETS)).prop_map(Operation::ApiServer),
    ]
    .boxed()
}

fn compare(
    rules: impl Fn() -> Box<dyn Evaluator>,
    operations: &[Operation],
) -> Result<(), TestCaseError> {
    let mut model = Model::default();
    let mut subject = Subject {
        inventory: Inventory::new(rules()),
        states: BTreeMap::new(),
    };
    for (minute, operation) in (0..).zip(operations) {
        let now = at(60 * minute);
        subject.apply(operation.clone(), now);
        model.apply(operation.clone());
        model.judge(rules(), now);
        prop_assert_eq!(&subject.states, &model.states, "after {:?}", operation);
    }
    Ok(())
}

proptest! {
    #[test]
    fn on_openshift_judging_the_affected_is_judging_all(
        operations in prop::collection::vec(operation(), 1..40),
    ) {
        compare(|| Box::new(OpenShift), &operations)?;
    }

    #[test]
    fn on_plain_kubernetes_judging_the_affected_is_judging_all(
        operations in prop::collection::vec(operation(), 1..40),
        target in prop::option::weighted(0.2, one_of(&KUBELETS)),
    ) {
        let labels = ["disk".to_owned()];
        compare(|| Box::new(Kubernetes::new(&labels, target)), &operations)?;
    }
}
