//! Collects nodes, budgets and pods, and groups what they would do to drains by its object.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use jiff::Timestamp;

use super::pods::{self, Subject};
use super::{Finding, NODES, Reason, Report, Severity, nodes};
use crate::domain::drain;
use crate::domain::drain::budget::Budget;
use crate::domain::drain::method::Method;
use crate::domain::drain::pod::{Operator, Pod, Stage};
use crate::domain::node::NodeFacts;
use crate::domain::state::NodeState;
use crate::domain::text;

/// A node whose drain is looked at.
#[derive(Debug, Clone)]
pub struct Candidate {
    /// Its facts.
    pub facts: Arc<NodeFacts>,
    /// Its evaluation.
    pub state: Arc<NodeState>,
    /// How its pods are moved away; `None` if it is updated with its pods on it.
    pub method: Option<Method>,
    /// Its pool is paused.
    pub is_paused: bool,
}

/// Something found at one node.
#[derive(Debug, Clone)]
pub(super) struct Problem {
    pub(super) key: Key,
    pub(super) message: String,
    /// The message if the budget only waits for pods that become ready.
    pub(super) otherwise: Option<String>,
}

/// What a finding is about; found at several nodes, it is one finding.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    pub(super) severity: Severity,
    pub(super) reason: Reason,
    pub(super) kind: Arc<str>,
    pub(super) namespace: Arc<str>,
    pub(super) name: Arc<str>,
}

impl Key {
    pub(super) fn of_drain(severity: Severity, key: drain::Key) -> Self {
        let drain::Key {
            reason,
            kind,
            namespace,
            name,
        } = key;
        Self {
            severity,
            reason: Reason::Drain(reason),
            kind,
            namespace,
            name,
        }
    }
}

struct Group {
    message: String,
    otherwise: Option<String>,
    nodes: BTreeSet<Arc<str>>,
}

/// Namespace, kind and name of what made pods.
type Workload = (Arc<str>, Arc<str>, Arc<str>);

/// The pods of a workload.
#[derive(Default)]
struct Replicas {
    count: usize,
    /// What it means if there is only this one, and the node.
    single: Option<(Problem, Arc<str>)>,
}

/// What was found so far.
///
/// Nodes and budgets come first, then every pod of the cluster: also those on other nodes, which are replicas.
pub struct Survey {
    now: Timestamp,
    api_server: Option<Arc<str>>,
    candidates: HashMap<Arc<str>, Candidate>,
    /// By namespace.
    budgets: HashMap<Arc<str>, Vec<Budget>>,
    groups: BTreeMap<Key, Group>,
    replicas: HashMap<Workload, Replicas>,
    /// Blockers at primaries of CloudNativePG, which are none if there is another instance.
    primaries: Vec<(Workload, Problem, Arc<str>)>,
    /// Namespaces and names of the budgets with a pod that does not recover.
    broken: HashSet<(Arc<str>, Arc<str>)>,
}

impl Survey {
    /// An empty survey at this time, of a cluster with this version of the API server.
    #[must_use]
    pub fn new(now: Timestamp, api_server: Option<Arc<str>>) -> Self {
        Self {
            now,
            api_server,
            candidates: HashMap::new(),
            budgets: HashMap::new(),
            groups: BTreeMap::new(),
            replicas: HashMap::new(),
            primaries: Vec::new(),
            broken: HashSet::new(),
        }
    }

    /// Adds a node.
    pub fn node(&mut self, candidate: Candidate) {
        let name = Arc::clone(&candidate.facts.name);
        let problems = [
            nodes::not_ready(&candidate.facts),
            nodes::paused(&candidate),
        ];
        for problem in problems.into_iter().flatten() {
            self.add(problem, &name);
        }
        self.candidates.insert(name, candidate);
    }

    /// Adds a budget.
    pub fn budget(&mut self, budget: Budget) {
        let namespace = Arc::clone(&budget.namespace);
        self.budgets.entry(namespace).or_default().push(budget);
    }

    /// Adds a pod.
    pub fn pod(&mut self, pod: &Pod) {
        let of_namespace = self.budgets.get(&pod.namespace);
        let of_namespace = of_namespace.map_or(&[][..], Vec::as_slice);
        let budgets: Vec<&Budget> = of_namespace
            .iter()
            .filter(|budget| budget.covers(pod))
            .collect();
        if pods::is_broken(pod, self.now) {
            let name = |budget: &&Budget| (Arc::clone(&budget.namespace), Arc::clone(&budget.name));
            self.broken.extend(budgets.iter().map(name));
        }
        let candidate = self.candidates.get(&pod.node);
        let drained = candidate.and_then(|candidate| Some((candidate, candidate.method?)));
        let Some((candidate, method)) = drained else {
            self.count(pod, None);
            return;
        };
        let subject = Subject {
            pod,
            budgets,
            node: &candidate.facts,
            method,
            now: self.now,
        };
        let (obstacle, losses) = (subject.obstacle(), subject.losses());
        let is_interrupted = obstacle.is_none() && method.drainer.must_go(pod, self.now);
        let single = is_interrupted.then(|| pods::single(pod)).flatten();
        self.count(pod, single);
        for problem in losses {
            self.add(problem, &pod.node);
        }
        let Some(problem) = obstacle else {
            return;
        };
        let is_of_budget = &*problem.key.kind == "PodDisruptionBudget";
        match (pod.operator.filter(|_| is_of_budget), workload(pod)) {
            // They move the pod when the node is cordoned, whatever its budget allows.
            (Some(Operator::KubeVirt | Operator::Strimzi), _) => {}
            (Some(Operator::CloudNativePg), Some(cluster)) => {
                self.primaries
                    .push((cluster, problem, Arc::clone(&pod.node)));
            }
            (Some(Operator::CloudNativePg) | None, _) => self.add(problem, &pod.node),
        }
    }

    /// Counts the pod among those of its workload.
    fn count(&mut self, pod: &Pod, single: Option<Problem>) {
        let is_there = pod.stage != Stage::Finished && pod.deletion.is_none();
        if let Some(workload) = workload(pod).filter(|_| is_there) {
            let replicas = self.replicas.entry(workload).or_default();
            replicas.count += 1;
            let single = single.filter(|_| replicas.count == 1);
            replicas.single = single.map(|problem| (problem, Arc::clone(&pod.node)));
        }
    }

    fn add(&mut self, problem: Problem, node: &Arc<str>) {
        let Problem {
            key,
            message,
            otherwise,
        } = problem;
        let group = self.groups.entry(key).or_insert_with(|| Group {
            message,
            otherwise,
            nodes: BTreeSet::new(),
        });
        group.nodes.insert(Arc::clone(node));
    }

    /// What was found.
    #[must_use]
    pub fn finish(mut self) -> Report {
        for (cluster, problem, node) in std::mem::take(&mut self.primaries) {
            let replicas = self.replicas.get(&cluster);
            if replicas.is_none_or(|replicas| replicas.count < 2) {
                self.add(problem, &node);
            }
        }
        for replicas in std::mem::take(&mut self.replicas).into_values() {
            if let (1, Some((problem, node))) = (replicas.count, replicas.single) {
                self.add(problem, &node);
            }
        }
        self.add_skew();
        self.excuse_recovering();
        let mut blocked: BTreeSet<&Arc<str>> = BTreeSet::new();
        for (key, group) in &self.groups {
            if key.severity == Severity::Blocker {
                blocked.extend(&group.nodes);
            }
        }
        let blocked = blocked.len();
        let mut findings: Vec<Finding> = self.groups.into_iter().map(finding).collect();
        findings.sort_by(|a, b| order(a).cmp(&order(b)));
        Report {
            nodes: self.candidates.len(),
            blocked,
            findings,
        }
    }

    /// Nodes whose kubelet is too far from the API server, by pool.
    fn add_skew(&mut self) {
        let api_server = self.api_server.clone();
        let states = self.candidates.values().map(|candidate| &candidate.state);
        let mut skewed: Vec<Arc<NodeState>> = states
            .filter(|state| nodes::is_skewed(state, api_server.as_deref()))
            .cloned()
            .collect();
        skewed.sort_by_key(|state| state.pool_name());
        for of_pool in skewed.chunk_by(|a, b| a.pool_name() == b.pool_name()) {
            if let Some(problem) = nodes::skewed(of_pool, api_server.as_deref()) {
                for state in of_pool {
                    self.add(problem.clone(), &state.name);
                }
            }
        }
    }

    /// A budget whose pods have only just become unready waits for them, as in any rollout.
    fn excuse_recovering(&mut self) {
        let unhealthy = Reason::Drain(drain::Reason::BudgetUnhealthy);
        let broken = std::mem::take(&mut self.broken);
        let is_recovering = |key: &Key, _: &mut Group| {
            let budget = (Arc::clone(&key.namespace), Arc::clone(&key.name));
            key.reason == unhealthy && !broken.contains(&budget)
        };
        let recovering: Vec<(Key, Group)> = self.groups.extract_if(.., is_recovering).collect();
        for (key, group) in recovering {
            let problem = Problem {
                key: Key {
                    severity: Severity::Warning,
                    reason: Reason::Drain(drain::Reason::BudgetExhausted),
                    ..key
                },
                message: group.otherwise.unwrap_or(group.message),
                otherwise: None,
            };
            for node in &group.nodes {
                self.add(problem.clone(), node);
            }
        }
    }
}

fn workload(pod: &Pod) -> Option<Workload> {
    let controller = pod.controller.as_ref()?;
    Some((
        Arc::clone(&pod.namespace),
        Arc::clone(&controller.kind),
        Arc::clone(&controller.name),
    ))
}

fn finding((key, group): (Key, Group)) -> Finding {
    let Key {
        severity,
        reason,
        kind,
        namespace,
        name,
    } = key;
    // Owner references hold any text.
    let plain = |text: &Arc<str>| Arc::from(text::name(text));
    Finding {
        severity,
        reason,
        kind: plain(&kind),
        namespace: plain(&namespace),
        name: plain(&name),
        count: group.nodes.len(),
        nodes: group.nodes.iter().take(NODES).cloned().collect(),
        message: text::message(&group.message).into(),
    }
}

/// The order of findings, the most important first.
fn order(finding: &Finding) -> impl Ord {
    (
        finding.severity,
        std::cmp::Reverse(finding.count),
        finding.reason.as_str(),
        Arc::clone(&finding.namespace),
        Arc::clone(&finding.name),
        Arc::clone(&finding.kind),
    )
}
