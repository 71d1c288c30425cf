//! Evaluating only the nodes and pools that have read what changed gives the same states as evaluating everything from
//! scratch, in clusters with all providers at once.

mod repeated;

use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use serde_json::Value;

use super::{archetypes, *};
use crate::api::types::ConditionStatus;
use crate::domain::facts::Availability;
use crate::domain::node::{NodeFacts, NodeObject};
use crate::providers::karpenter::budget::Budget;
use crate::providers::karpenter::evidence::KarpenterNode;
use crate::providers::karpenter::kinds::{ClaimConditions, NodeClaim, NodePool, Signal};
use crate::providers::kured::kinds::{KuredDaemonSet, Lock};
use crate::providers::openshift::kinds::{ClusterVersion, MachineConfig, MachineConfigPool};
use crate::providers::{Options, Providers};

/// A change of the cluster.
#[derive(Debug, Clone)]
enum Operation {
    Node(Box<NodeFacts>),
    NodeGone(String),
    Claim(String, Option<Box<NodeClaim>>),
    NodePool(Option<NodePool>),
    Locks(Option<&'static str>),
    Pool(MachineConfigPool),
    PoolGone(&'static str),
    Release(&'static str, Option<&'static str>),
    Target(Option<&'static str>),
    ApiServer(Option<&'static str>),
    /// A node of a provider that is recognised by what it shows.
    Shown(Box<NodeObject>),
    /// An object of the kind of this name, and whether it is there.
    Object(&'static str, Box<Value>, bool),
    Policy(&'static str),
    Availability(usize, Availability),
    /// A relist of a kind returns only every second object.
    Relisted(usize),
}

/// Applies an operation to an inventory.
fn apply(inventory: &Inventory, operation: Operation) -> Affected {
    match operation {
        Operation::Node(facts) => inventory.apply_node(*facts),
        Operation::NodeGone(name) => inventory.remove_node(&name.into()),
        Operation::Claim(name, claim) => inventory.apply_fact(&name, claim.map(|claim| *claim)),
        Operation::NodePool(pool) => inventory.apply_fact("default", pool),
        Operation::Locks(node) => {
            let locks = node.map(|node| KuredDaemonSet {
                locks: vec![Lock {
                    node: node.into(),
                    was_unschedulable: false,
                    created: Some(at(0)),
                    ttl: None,
                }],
            });
            inventory.apply_fact("kube-system/kured", locks)
        }
        Operation::Pool(pool) => inventory.apply_pool(pool),
        Operation::PoolGone(name) => inventory.remove_pool(name),
        Operation::Release(config, version) => inventory.set_release_version(config, version),
        Operation::Target(version) => inventory.set_cluster_version(version),
        Operation::ApiServer(version) => inventory.set_api_server_version(version.map(Arc::from)),
        Operation::Shown(node) => inventory.apply_node_object(*node),
        Operation::Object(kind, object, is_here) => {
            archetypes::apply(inventory, kind, &object, is_here)
        }
        Operation::Policy(text) => inventory.set_policy(archetypes::policy(text)),
        Operation::Availability(kind, availability) => {
            inventory.set_availability(kind, availability)
        }
        Operation::Relisted(kind) => {
            let listed = CONFIGS.iter().chain(&POOLS).step_by(2);
            inventory.retain_objects(kind, &listed.map(ToString::to_string).collect())
        }
    }
}

/// All operations so far, and the states after the last one.
#[derive(Default)]
struct Model {
    operations: Vec<Operation>,
    states: BTreeMap<Arc<str>, NodeState>,
}

impl Model {
    /// Evaluates everything in a new inventory, after all operations are applied.
    fn evaluate(&mut self, now: Timestamp) -> BTreeMap<Arc<str>, Found<PoolState>> {
        let inventory = Inventory::new(providers());
        for operation in &self.operations {
            apply(&inventory, operation.clone());
        }
        inventory.open();
        let before = std::mem::take(&mut self.states);
        let names = inventory.world.lock().node_names();
        for name in names {
            let before = before.get(&name);
            let past = before.map(History::from);
            let pool = before.and_then(|before| before.pool.as_ref());
            let state = inventory.evaluate(&name, pool, past.as_ref(), now).unwrap();
            self.states.insert(name, state);
        }
        // Pools that cannot be listed now may be known from before.
        let world = inventory.world.lock();
        let mut lists = world.object_pools.iter();
        let is_listed = lists.all(|pools| pools.unavailable.is_none());
        drop(world);
        let pools = inventory.pool_names();
        pools
            .into_iter()
            .filter(|_| is_listed)
            .map(|name| (Arc::clone(&name), inventory.describe(&name, now)))
            .collect()
    }
}

/// Evaluates only affected nodes and pools, as the program does.
struct Subject {
    inventory: Inventory,
    states: BTreeMap<Arc<str>, NodeState>,
    pools: BTreeMap<Arc<str>, Found<PoolState>>,
    evaluations: usize,
    unnecessary: usize,
}

impl Subject {
    fn new() -> Self {
        let inventory = Inventory::new(providers());
        inventory.open();
        Self {
            inventory,
            states: BTreeMap::new(),
            pools: BTreeMap::new(),
            evaluations: 0,
            unnecessary: 0,
        }
    }

    fn apply(&mut self, operation: Operation, now: Timestamp) {
        let mut affected = apply(&self.inventory, operation);
        // What depends on the time is evaluated again when its time has come.
        let due = self.states.values().filter(|state| {
            state.again_at.is_some_and(|at| at <= now) && !affected.nodes.contains(&state.name)
        });
        let due: Vec<Arc<str>> = due.map(|state| Arc::clone(&state.name)).collect();
        affected.nodes.extend(due);
        for name in affected.nodes {
            let before = self.states.get(&name);
            let past = before.map(History::from);
            let pool = before.and_then(|before| before.pool.as_ref());
            let after = self.inventory.evaluate(&name, pool, past.as_ref(), now);
            self.evaluations += 1;
            self.unnecessary += usize::from(before == after.as_ref());
            match after {
                Some(state) => self.states.insert(name, state),
                None => self.states.remove(&name),
            };
        }
        for name in affected.pools {
            match self.inventory.describe(&name, now) {
                Found::Gone => self.pools.remove(&name),
                // The last known state stays.
                Found::Unknown => None,
                here @ Found::Here(_) => self.pools.insert(name, here),
            };
        }
    }
}

fn providers() -> Providers {
    let options = Options {
        pool_label_keys: vec!["disk".to_owned()],
        ..Options::default()
    };
    Providers::standard(&options).unwrap()
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
        prop::option::of((one_of(&CONFIGS), one_of(&CONFIGS))),
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
            |((index, roles), configs, daemon, (kubelet, boot), flags, disk)| {
                let (cordoned, ready, deleting) = flags;
                let mut node = node(&format!("n{index}"))
                    .kubelet(kubelet)
                    .boot(boot)
                    .label("disk", disk);
                if let Some((current, desired)) = configs {
                    node = node.current(current).desired(desired).daemon(daemon);
                }
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

/// A node of Karpenter, sometimes also labelled by another provider.
fn a_node_of_karpenter() -> BoxedStrategy<Operation> {
    (
        (0..3u8, 0..3u8, one_of(&KUBELETS)),
        (any::<bool>(), any::<bool>(), prop::bool::weighted(0.1)),
    )
        .prop_map(
            |((index, machine, kubelet), (is_disrupted, is_held, is_of_eks))| {
                let mut node = node(&format!("k{index}"))
                    .kubelet(kubelet)
                    .label("karpenter.sh/nodepool", "default")
                    .evidence(|node: &mut KarpenterNode| {
                        node.provider_id = format!("machine-{machine}").into();
                        node.is_disrupted = is_disrupted;
                        node.do_not_disrupt = is_held;
                    });
                if is_of_eks {
                    node = node.label("eks.amazonaws.com/nodegroup", "blue");
                }
                Operation::Node(Box::new(node.build()))
            },
        )
        .boxed()
}

fn a_claim() -> BoxedStrategy<Operation> {
    let signal = |reasons: &'static [&'static str]| {
        let status = one_of(&[ConditionStatus::True, ConditionStatus::Unknown]);
        prop::option::of(
            (status, one_of(reasons)).prop_map(|(status, reason)| Signal {
                status,
                reason: reason.into(),
            }),
        )
    };
    let joined = || {
        Some(Signal {
            status: ConditionStatus::True,
            reason: "".into(),
        })
    };
    let claim = (
        (0..3u8, any::<bool>()),
        signal(&["AMIDrift", "NodePoolDrifted"]),
        signal(&["Drifted", "Empty"]),
        signal(&["Draining"]),
    )
        .prop_map(
            move |((machine, is_deleting), drifted, disruption, drained)| NodeClaim {
                provider_id: format!("machine-{machine}").into(),
                created: Some(at(-1000)),
                deleting: is_deleting.then(|| at(0)),
                node_class: None,
                expire_after: None,
                has_grace_period: false,
                deadline: None,
                do_not_disrupt: false,
                conditions: ClaimConditions {
                    registered: joined(),
                    initialized: joined(),
                    drifted,
                    disruption_reason: disruption,
                    drained,
                    ..ClaimConditions::default()
                },
            },
        );
    (0..3u8, prop::option::weighted(0.9, claim))
        .prop_map(|(index, claim)| Operation::Claim(format!("claim-{index}"), claim.map(Box::new)))
        .boxed()
}

fn a_node_pool() -> BoxedStrategy<Operation> {
    prop::option::weighted(0.9, any::<bool>())
        .prop_map(|is_blocked| {
            Operation::NodePool(is_blocked.map(|is_blocked| NodePool {
                name: "default".into(),
                uid: "uid".into(),
                budgets: vec![Budget {
                    nodes: if is_blocked { "0" } else { "10%" }.to_owned(),
                    ..Budget::default()
                }],
                node_class: None,
                problems: Vec::new(),
            }))
        })
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

fn an_availability() -> BoxedStrategy<Operation> {
    let kinds = providers().kinds().len();
    let availability = prop_oneof![
        6 => Just(Availability::Ready),
        1 => Just(Availability::NotServed),
        1 => Just(Availability::Listing),
        1 => Just(Availability::Rejected("forbidden".into())),
    ];
    (0..kinds, availability)
        .prop_map(|(kind, availability)| Operation::Availability(kind, availability))
        .boxed()
}

fn operation() -> BoxedStrategy<Operation> {
    let version = || prop::option::weighted(0.8, one_of(&RELEASES));
    prop_oneof![
        10 => a_node(),
        4 => a_node_of_karpenter(),
        4 => a_claim(),
        1 => a_node_pool(),
        1 => prop::option::of(one_of(&["n0", "n1", "k0"])).prop_map(Operation::Locks),
        8 => archetypes::a_node().prop_map(|node| Operation::Shown(Box::new(node))),
        6 => archetypes::an_object().prop_map(|(kind, object, is_here)| {
            Operation::Object(kind, Box::new(object), is_here)
        }),
        1 => archetypes::a_policy().prop_map(Operation::Policy),
        1 => (0..6u8).prop_map(|index| Operation::NodeGone(format!("n{index}"))),
        1 => (0..4u8).prop_map(|index| Operation::NodeGone(format!("x{index}"))),
        1 => (0..3u8).prop_map(|index| Operation::NodeGone(format!("k{index}"))),
        4 => a_pool(),
        1 => one_of(&POOLS).prop_map(Operation::PoolGone),
        3 => (one_of(&CONFIGS), version()).prop_map(|(c, v)| Operation::Release(c, v)),
        1 => version().prop_map(Operation::Target),
        1 => prop::option::of(one_of(&KUBELETS)).prop_map(Operation::ApiServer),
        2 => an_availability(),
        1 => archetypes::a_relist(&providers()).prop_map(Operation::Relisted),
    ]
    .boxed()
}

/// Every kind is ready; those of OpenShift, which claims every node, only on request.
fn ready_kinds(has_openshift: bool) -> Vec<Operation> {
    let providers = providers();
    let kinds = providers.kinds().iter().enumerate();
    kinds
        .filter(|(_, kind)| has_openshift || !kind.spec.group.ends_with("openshift.io"))
        .map(|(kind, _)| Operation::Availability(kind, Availability::Ready))
        .collect()
}

/// Runs both, one operation a minute; returns how many evaluations the program made, and how many changed nothing.
fn compare(operations: &[Operation]) -> Result<(usize, usize), TestCaseError> {
    let (mut model, mut subject) = (Model::default(), Subject::new());
    for (minute, operation) in (0..).zip(operations) {
        let now = at(60 * minute);
        subject.apply(operation.clone(), now);
        model.operations.push(operation.clone());
        let pools = model.evaluate(now);
        prop_assert_eq!(&subject.states, &model.states, "after {:?}", operation);
        // A pool that cannot be described keeps its last state.
        let is_here = |(_, pool): &(_, Found<PoolState>)| matches!(pool, Found::Here(_));
        for (name, pool) in pools.into_iter().filter(is_here) {
            prop_assert_eq!(
                subject.pools.get(&name),
                Some(&pool),
                "after {:?}",
                operation
            );
        }
    }
    Ok((subject.evaluations, subject.unnecessary))
}

proptest! {
    #[test]
    fn evaluating_only_what_is_affected_equals_evaluating_everything(
        operations in prop::collection::vec(operation(), 1..40),
        mut all in prop_oneof![
            1 => Just(Vec::new()),
            4 => Just(ready_kinds(true)),
            4 => Just(ready_kinds(false)),
        ],
    ) {
        all.extend(operations);
        compare(&all)?;
    }

    #[test]
    fn deleted_nodes_and_objects_leave_nothing_behind(
        operations in prop::collection::vec(operation(), 1..40),
    ) {
        let mut subject = Subject::new();
        let empty = subject.inventory.world.lock().size();
        for operation in ready_kinds(true).into_iter().chain(operations) {
            subject.apply(operation, at(0));
        }
        for index in 0..6 {
            for prefix in ["n", "k", "x"] {
                subject.apply(Operation::NodeGone(format!("{prefix}{index}")), at(0));
            }
        }
        for kind in 0..subject.inventory.providers().kinds().len() {
            subject.apply(Operation::Availability(kind, Availability::NotServed), at(0));
        }
        prop_assert_eq!(subject.inventory.world.lock().size(), empty);
    }
}

#[test]
fn an_unrecorded_read_is_detected() {
    let mut runner = TestRunner::deterministic();
    let strategy = prop::collection::vec(operation(), 30..40);
    for kind in [
        Inventory::place::<MachineConfigPool>,
        Inventory::place::<MachineConfig>,
        Inventory::place::<ClusterVersion>,
        Inventory::place::<NodeClaim>,
        Inventory::place::<NodePool>,
        Inventory::place::<KuredDaemonSet>,
    ] {
        let _blind = crate::domain::facts::blind::to(kind(&Inventory::new(providers())));
        let is_detected = (0..200).any(|_| {
            let mut operations = ready_kinds(true);
            operations.extend(strategy.new_tree(&mut runner).unwrap().current());
            compare(&operations).is_err()
        });
        assert!(is_detected);
    }
}

#[test]
fn few_evaluations_change_nothing() {
    let mut runner = TestRunner::deterministic();
    let strategy = prop::collection::vec(operation(), 40);
    let (mut evaluations, mut unnecessary) = (0, 0);
    for _ in 0..100 {
        let mut operations = ready_kinds(true);
        operations.extend(strategy.new_tree(&mut runner).unwrap().current());
        let (all, of_them) = compare(&operations).unwrap();
        (evaluations, unnecessary) = (evaluations + all, unnecessary + of_them);
    }
    println!("{unnecessary} of {evaluations} evaluations changed nothing");
    assert!(
        unnecessary * 3 < evaluations,
        "{unnecessary} of {evaluations}"
    );
}
