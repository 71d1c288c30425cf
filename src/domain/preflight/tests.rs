//! What would hold up a drain: one test for each reason, from objects as the API server has them.

use std::sync::Arc;

use serde_json::{Value, json};

use super::*;
use crate::api::types::Phase;
use crate::domain::drain::Drainer;
use crate::domain::drain::budget::Budget;
use crate::domain::drain::method::{Method, Removal};
use crate::domain::drain::pod::Pod;
use crate::domain::fact::{Fact, Meta, Object, Parsed};
use crate::domain::fixtures::{NodeBuilder, at, node};
use crate::domain::pool_status::tests::node as state;
use crate::domain::state::NodeState;

mod budgets;
mod nodes;
mod pods;

/// The time at which the cluster is looked at.
const NOW: i64 = 0;

fn parse<F: Fact>(object: &Value) -> F {
    let meta: Meta = serde_json::from_value(object["metadata"].clone()).unwrap();
    match F::parse(&Object::new(&meta, &object.to_string())) {
        Parsed::Fact(fact) => fact,
        other => panic!("{other:?}"),
    }
}

/// A ready pod of ReplicaSet `web` on a node.
fn pod(name: &str, node: &str) -> Value {
    let owner = json!({"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web", "uid": "u", "controller": true});
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": name, "namespace": "shop", "ownerReferences": [owner],
            "labels": {"app": "web"}, "annotations": {},
            "creationTimestamp": at(-100_000).to_string(),
        },
        "spec": {"nodeName": node, "containers": []},
        "status": {
            "phase": "Running", "startTime": at(-600).to_string(),
            "conditions": [
                {"type": "Ready", "status": "True", "lastTransitionTime": at(-500).to_string()},
            ],
        },
    })
}

/// The same without a controller.
fn bare(name: &str, node: &str) -> Value {
    let mut pod = pod(name, node);
    pod["metadata"]["ownerReferences"] = json!([]);
    pod
}

/// The same, which has not been ready since then.
fn unready(name: &str, node: &str, since: i64) -> Value {
    let mut pod = pod(name, node);
    pod["status"]["conditions"] = json!([
        {"type": "Ready", "status": "False", "lastTransitionTime": at(since).to_string()},
    ]);
    pod
}

fn owned_by(mut pod: Value, kind: &str, name: &str) -> Value {
    pod["metadata"]["ownerReferences"][0]["kind"] = kind.into();
    pod["metadata"]["ownerReferences"][0]["name"] = name.into();
    pod
}

/// The budget of the pods `app=web` that needs `desired` of `expected` pods, of which `current` are healthy.
fn budget(name: &str, expected: i32, desired: i32, current: i32) -> Value {
    json!({
        "apiVersion": "policy/v1", "kind": "PodDisruptionBudget",
        "metadata": {"name": name, "namespace": "shop", "generation": 1},
        "spec": {"maxUnavailable": 1, "selector": {"matchLabels": {"app": "web"}}},
        "status": {
            "observedGeneration": 1, "expectedPods": expected, "desiredHealthy": desired,
            "currentHealthy": current,
            "disruptionsAllowed": if expected > 0 { (current - desired).max(0) } else { 0 },
        },
    })
}

/// A cluster: nodes that are drained by kubectl, their pods and budgets.
struct Scene {
    candidates: Vec<Candidate>,
    budgets: Vec<Value>,
    pods: Vec<Value>,
    api_server: &'static str,
}

fn candidate(node: NodeBuilder, method: Option<Method>) -> Candidate {
    let facts = node.build();
    let state = NodeState {
        name: Arc::clone(&facts.name),
        kubelet: facts.kubelet_version.clone(),
        ..state(Phase::Pending)
    };
    Candidate {
        facts: Arc::new(facts),
        state: Arc::new(state),
        method,
        is_paused: false,
    }
}

impl Scene {
    /// The nodes `a` and `b` with these pods, and others like those of ReplicaSet `web` elsewhere.
    fn new(pods: impl IntoIterator<Item = Value>) -> Self {
        let method = Some(Method::of(Drainer::Kubectl));
        let others = ["other-0", "other-1"].map(|name| pod(name, "elsewhere"));
        Self {
            candidates: ["a", "b"].map(|name| candidate(node(name), method)).into(),
            budgets: Vec::new(),
            pods: pods.into_iter().chain(others).collect(),
            api_server: "v1.36.3",
        }
    }

    fn with(mut self, budgets: impl IntoIterator<Item = Value>) -> Self {
        self.budgets.extend(budgets);
        self
    }

    fn by(mut self, method: impl Into<Option<Method>>) -> Self {
        let method = method.into();
        for candidate in &mut self.candidates {
            candidate.method = method;
        }
        self
    }

    fn node(mut self, node: NodeBuilder) -> Self {
        let method = Some(Method::of(Drainer::Kubectl));
        self.candidates.push(candidate(node, method));
        self
    }

    fn report(&self) -> Report {
        let mut survey = Survey::new(at(NOW), Some(self.api_server.into()));
        for candidate in &self.candidates {
            survey.node(candidate.clone());
        }
        for budget in &self.budgets {
            survey.budget(parse::<Budget>(budget));
        }
        for pod in &self.pods {
            survey.pod(&parse::<Pod>(pod));
        }
        survey.finish()
    }

    /// Severity, reason, object and number of nodes of each finding.
    fn found(&self) -> Vec<String> {
        let findings = self.report().findings;
        let line = |finding: &Finding| {
            let (severity, reason) = (finding.severity.as_str(), finding.reason.as_str());
            format!("{severity} {reason} {} {}", finding.object(), finding.count)
        };
        findings.iter().map(line).collect()
    }

    /// The message of the only finding.
    fn message(&self) -> String {
        let findings = self.report().findings;
        let [finding] = &*findings else {
            panic!("{findings:#?}");
        };
        finding.message.to_string()
    }
}

#[test]
fn nothing_is_found_where_nothing_holds_up_a_drain() {
    let daemon = owned_by(pod("agent", "a"), "DaemonSet", "agent");
    let scene = Scene::new([pod("web-0", "a"), daemon]).with([budget("web", 3, 2, 3)]);
    let report = scene.report();
    assert_eq!(report.findings, []);
    assert_eq!((report.nodes, report.blocked), (2, 0));
}

#[test]
fn blockers_come_first_and_then_what_concerns_the_most_nodes() {
    let mut local = pod("web-2", "a");
    local["spec"]["volumes"] = json!([{"name": "cache", "emptyDir": {}}]);
    let mut same = local.clone();
    same["spec"]["nodeName"] = "b".into();
    let mut zoo = budget("zoo", 1, 1, 1);
    zoo["spec"]["selector"]["matchLabels"] = json!({"app": "zoo"});
    let mut caged = pod("zoo-0", "a");
    caged["metadata"]["labels"]["app"] = "zoo".into();
    let scene = Scene::new([bare("one", "a"), local, same, pod("web-3", "b"), caged]);
    let scene = scene.with([budget("web", 4, 4, 4), zoo]);
    assert_eq!(
        scene.found(),
        [
            "Blocker BudgetNeverAllows PodDisruptionBudget shop/web 2",
            "Blocker BudgetNeverAllows PodDisruptionBudget shop/zoo 1",
            "Warning LocalStorage ReplicaSet shop/web 2",
            "Warning UnmanagedPod Pod shop/one 1",
        ]
    );
    assert_eq!(scene.report().blocked, 2);
}

#[test]
fn a_finding_names_five_nodes_and_counts_all_of_them() {
    let names: Vec<String> = (0..9).map(|place| format!("n{place}")).collect();
    let pods = names.iter().map(|name| pod(&format!("web-{name}"), name));
    let mut scene = Scene::new(pods).with([budget("web", 9, 9, 9)]);
    for name in &names {
        scene = scene.node(node(name));
    }
    let report = scene.report();
    let [finding] = &*report.findings else {
        panic!("{report:#?}");
    };
    assert_eq!(finding.count, 9);
    assert_eq!(finding.nodes.join(" "), "n0 n1 n2 n3 n4");
    assert_eq!((report.nodes, report.blocked), (11, 9));
}

#[test]
fn every_reason_has_its_own_name() {
    let names: std::collections::BTreeSet<&str> =
        Reason::ALL.iter().map(|reason| reason.as_str()).collect();
    assert_eq!(names.len(), Reason::ALL.len());
}
