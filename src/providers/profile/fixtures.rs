//! A cluster for tests, from Nodes as their vendor writes them.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use serde_json::{Value, json};

use crate::api::types::{Phase, UpdateKind};
use crate::domain::drain::fixtures::running;
use crate::domain::drain::pod::Pod;
use crate::domain::erased::Erased;
use crate::domain::fact::{Fact, Keys, Kind};
use crate::domain::facts::{Availability, Facts};
use crate::domain::fixtures::at;
use crate::domain::labels::Labels;
use crate::domain::node::{NodeFacts, NodeObject};
use crate::domain::pool::PoolState;
use crate::domain::rows::Rows;
use crate::domain::state::{History, NodeState};
use crate::providers::{Identity, Options, Providers};

/// A Node under construction: ready, not cordoned, created long ago.
#[derive(Debug, Clone)]
pub(crate) struct Node(Value);

impl Node {
    pub(crate) fn new(name: &str, version: &str) -> Self {
        Self(json!({
            "metadata": {
                "name": name, "uid": format!("uid-{name}"),
                "creationTimestamp": at(-100_000).to_string(),
                "labels": {"kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64"},
                "annotations": {},
            },
            "spec": {"taints": []},
            "status": {
                "conditions": [
                    {"type": "Ready", "status": "True", "lastTransitionTime": at(-90_000).to_string()},
                ],
                "nodeInfo": {"kubeletVersion": version, "bootID": format!("boot-{name}"), "osImage": ""},
            },
        }))
    }

    fn with(mut self, change: impl FnOnce(&mut Value)) -> Self {
        change(&mut self.0);
        self
    }

    fn push(self, list: &str, item: Value) -> Self {
        self.with(|node| {
            let list = node.pointer_mut(list).unwrap().as_array_mut().unwrap();
            list.push(item);
        })
    }

    pub(crate) fn label(self, key: &str, value: &str) -> Self {
        self.with(|node| node["metadata"]["labels"][key] = value.into())
    }

    pub(crate) fn annotation(self, key: &str, value: &str) -> Self {
        self.with(|node| node["metadata"]["annotations"][key] = value.into())
    }

    pub(crate) fn taint(self, key: &str, value: &str, effect: &str) -> Self {
        let taint = json!({"key": key, "value": value, "effect": effect});
        self.push("/spec/taints", taint)
    }

    pub(crate) fn condition(self, type_: &str, status: &str, reason: &str) -> Self {
        let condition = json!({"type": type_, "status": status, "reason": reason});
        self.push("/status/conditions", condition)
    }

    /// Created at that second.
    pub(crate) fn created(self, second: i64) -> Self {
        self.with(|node| node["metadata"]["creationTimestamp"] = at(second).to_string().into())
    }

    /// Cordoned at that second, with the taint of the node lifecycle controller.
    pub(crate) fn cordoned(self, second: i64) -> Self {
        let taint = json!({
            "key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule",
            "timeAdded": at(second).to_string(),
        });
        self.with(|node| node["spec"]["unschedulable"] = true.into())
            .push("/spec/taints", taint)
    }

    /// The field manager of the cordon.
    pub(crate) fn cordoned_by(self, manager: &str, second: i64) -> Self {
        self.cordoned(second)
            .with(|node| node["cordonManager"] = manager.into())
    }

    /// Since that second, its kubelet has not reported.
    pub(crate) fn silent(self, second: i64) -> Self {
        self.ready("Unknown", second)
    }

    /// Since that second, its kubelet has reported that it is not ready.
    pub(crate) fn not_ready(self, second: i64) -> Self {
        self.ready("False", second)
    }

    fn ready(self, status: &str, second: i64) -> Self {
        let since = at(second).to_string();
        self.with(|node| {
            node["status"]["conditions"][0] =
                json!({"type": "Ready", "status": status, "lastTransitionTime": since});
        })
    }

    /// The Ready condition has no time.
    pub(crate) fn without_ready_time(self) -> Self {
        self.with(|node| node["status"]["conditions"][0]["lastTransitionTime"] = Value::Null)
    }

    pub(crate) fn boot(self, id: &str) -> Self {
        self.with(|node| node["status"]["nodeInfo"]["bootID"] = id.into())
    }

    pub(crate) fn kubelet(self, version: &str) -> Self {
        self.with(|node| node["status"]["nodeInfo"]["kubeletVersion"] = version.into())
    }

    pub(crate) fn os_image(self, image: &str) -> Self {
        self.with(|node| node["status"]["nodeInfo"]["osImage"] = image.into())
    }

    pub(crate) fn uid(self, uid: &str) -> Self {
        self.with(|node| node["metadata"]["uid"] = uid.into())
    }

    pub(crate) fn deleting(self) -> Self {
        self.with(|node| node["metadata"]["deletionTimestamp"] = at(0).to_string().into())
    }

    /// The parts that are retained of it.
    pub(crate) fn object(&self) -> NodeObject {
        let Self(node) = self;
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let labels = |value: &Value| {
            let pairs: BTreeMap<String, String> = serde_json::from_value(value.clone()).unwrap();
            Labels::new(pairs.iter().map(|(key, value)| (&**key, &**value)))
        };
        let (metadata, spec, status) = (&node["metadata"], &node["spec"], &node["status"]);
        let info = &status["nodeInfo"];
        NodeObject {
            name: text(&metadata["name"]).into(),
            uid: text(&metadata["uid"]).into(),
            labels: labels(&metadata["labels"]),
            annotations: labels(&metadata["annotations"]),
            created: text(&metadata["creationTimestamp"]).parse().ok(),
            deleting: metadata.get("deletionTimestamp").is_some(),
            cordon_manager: text(&node["cordonManager"]).into(),
            unschedulable: spec["unschedulable"] == true,
            taints: rows(&spec["taints"], ["key", "value", "effect", "timeAdded"]),
            kubelet_version: text(&info["kubeletVersion"]).into(),
            boot_id: text(&info["bootID"]).into(),
            os_image: text(&info["osImage"]).into(),
            conditions: rows(
                &status["conditions"],
                ["type", "status", "reason", "lastTransitionTime", "message"],
            ),
            ..NodeObject::default()
        }
    }
}

fn rows<const N: usize>(list: &Value, keys: [&str; N]) -> Rows<N> {
    let list = list.as_array().unwrap();
    let all: Vec<[&str; N]> = list
        .iter()
        .map(|each| keys.map(|key| each[key].as_str().unwrap_or_default()))
        .collect();
    Rows::new(all)
}

/// What is compared of a state: phase, kind and reason.
pub(crate) type Seen = (Phase, Option<UpdateKind>, &'static str);

/// What is compared of a state.
pub(crate) fn seen(state: &NodeState) -> Seen {
    (state.phase, state.kind, state.updating.reason)
}

/// A cluster that serves only the kinds of its objects, and the history of its nodes.
pub(crate) struct Cluster {
    providers: Providers,
    api_server: String,
    /// By the index of the kind.
    objects: BTreeMap<(usize, Arc<str>), Arc<dyn Erased>>,
    /// Kinds that are served, by their index.
    served: BTreeSet<usize>,
    /// Nodes whose pods are known.
    listed: BTreeSet<String>,
    /// Kinds that cannot be read.
    rejected: BTreeSet<&'static str>,
    past: BTreeMap<String, (String, History)>,
}

/// The states of all nodes and pools at one moment, by name.
pub(crate) struct States {
    nodes: BTreeMap<String, NodeState>,
    pools: BTreeMap<String, PoolState>,
}

impl States {
    pub(crate) fn of(&self, name: &str) -> &NodeState {
        self.nodes.get(name).unwrap()
    }

    pub(crate) fn pool(&self, name: &str) -> &PoolState {
        self.pools.get(name).unwrap()
    }

    pub(crate) fn seen(&self, name: &str) -> Seen {
        seen(self.of(name))
    }

    pub(crate) fn message(&self, name: &str) -> &str {
        &self.of(name).updating.message
    }
}

impl Cluster {
    /// A cluster with the standard providers, whose API server has this version.
    pub(crate) fn new(api_server: &str) -> Self {
        Self::with(api_server, &Options::default())
    }

    pub(crate) fn with(api_server: &str, options: &Options) -> Self {
        Self {
            providers: Providers::standard(options).unwrap(),
            api_server: api_server.to_owned(),
            objects: BTreeMap::new(),
            served: BTreeSet::new(),
            listed: BTreeSet::new(),
            rejected: BTreeSet::new(),
            past: BTreeMap::new(),
        }
    }

    /// Adds an object.
    pub(crate) fn put<F: Fact>(&mut self, name: &str, fact: F) {
        let kind = self.place::<F>();
        self.served.insert(kind);
        self.objects.insert((kind, name.into()), Arc::new(fact));
    }

    /// The pods of a node, by whether they are leaving; its only ones.
    pub(crate) fn pods(&mut self, node: &str, leaving: &[bool]) {
        let pod = |(index, is_leaving): (usize, &bool)| {
            let pod = running(&format!("web-{index}"));
            if *is_leaving {
                pod.ending(at(1_000_000)).build()
            } else {
                pod.build()
            }
        };
        self.put_pods(node, leaving.iter().enumerate().map(pod).collect());
    }

    /// These pods are the only ones of the node.
    pub(crate) fn put_pods(&mut self, node: &str, pods: Vec<Pod>) {
        self.forget_pods(node);
        for pod in pods {
            let pod = Pod {
                node: node.into(),
                ..pod
            };
            self.put(&format!("{node}/{}", pod.name), pod);
        }
        self.listed.insert(node.to_owned());
    }

    /// The pods of the node are not known.
    pub(crate) fn forget_pods(&mut self, node: &str) {
        let (kind, prefix) = (self.place::<Pod>(), format!("{node}/"));
        self.objects
            .retain(|(of, name), _| *of != kind || !name.starts_with(&prefix));
        self.listed.remove(node);
    }

    /// A kind cannot be read.
    pub(crate) fn reject(&mut self, label: &'static str) {
        self.rejected.insert(label);
    }

    fn place<F: Fact>(&self) -> usize {
        let mut kinds = self.providers.kinds().iter();
        let kind = Kind::of::<F>();
        kinds.position(|each| each.is_same_type(&kind)).unwrap()
    }

    fn facts(&self) -> Facts {
        let mut facts = Facts::new(self.providers.kinds());
        facts.set_api_server_version(Some(self.api_server.as_str().into()));
        for kind in &self.served {
            facts.set_availability(*kind, Availability::Ready);
        }
        for ((kind, name), fact) in &self.objects {
            facts.apply(*kind, name, Some(Arc::clone(fact)));
        }
        let names: HashSet<String> = self
            .objects
            .keys()
            .map(|(_, name)| name.to_string())
            .collect();
        for node in &self.listed {
            facts.listed(self.place::<Pod>(), node, &names);
        }
        for (kind, each) in self.providers.kinds().iter().enumerate() {
            if self.rejected.contains(each.spec.label()) {
                facts.set_availability(kind, Availability::Rejected("forbidden".into()));
            }
        }
        facts
    }

    /// Evaluates the nodes, which are all that there are, at that second.
    pub(crate) fn see(&mut self, second: i64, nodes: &[Node]) -> States {
        let mut facts = self.facts();
        let nodes = nodes.iter().map(Node::object);
        let nodes: Vec<NodeFacts> = nodes.map(|node| self.providers.node_facts(node)).collect();
        let assignments: Vec<_> = nodes
            .iter()
            .map(|node| self.providers.assign(node, &facts.view()))
            .collect();
        for (node, assignment) in nodes.iter().zip(&assignments) {
            facts.count_node(&Keys::default(), &self.providers.node_keys(node));
            if let Some(pool) = assignment.pool() {
                let member = self.providers.member(node, assignment);
                facts.change_member(&pool.name, None, member.as_ref());
            }
        }
        let (mut states, mut pools) = (BTreeMap::new(), BTreeMap::new());
        for (node, assignment) in nodes.iter().zip(&assignments) {
            let provider = assignment.provider().and_then(|at| self.providers.name(at));
            let identity = provider.map(|name| self.providers.identity(&name));
            let known = self.past.get(&*node.name);
            let known =
                known.filter(|(uid, _)| **uid == *node.uid || identity == Some(Identity::Name));
            let past = known.map(|(_, past)| past);
            let state =
                self.providers
                    .evaluate(node, assignment, None, &facts.view(), past, at(second));
            let past = (node.uid.to_string(), History::from(&state));
            self.past.insert(node.name.to_string(), past);
            states.insert(node.name.to_string(), state);
            if let Some((provider, pool)) = assignment.provider().zip(assignment.pool()) {
                let described = self
                    .providers
                    .describe(provider, pool, &facts.view(), at(second));
                pools.insert(pool.name.to_string(), described.unwrap());
            }
        }
        States {
            nodes: states,
            pools,
        }
    }

    /// Evaluates the nodes for the first time.
    pub(crate) fn first(api_server: &str, nodes: &[Node]) -> States {
        Self::new(api_server).see(1000, nodes)
    }
}
