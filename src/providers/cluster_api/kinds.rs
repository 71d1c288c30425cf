//! The kinds of Cluster API, with the fields that matter.
//!
//! Two versions are served. v1beta2 has the conditions in `status.conditions`; v1beta1 has them in
//! `status.v1beta2.conditions`, and older ones, some with the same meaning, in `status.conditions`. Both become the
//! same facts. Counts of replicas are left out: the nodes are counted, and each change of a count would evaluate every
//! node of the pool.
//!
//! Source: kubernetes-sigs/cluster-api `api/core/v1beta2`, `api/core/v1beta1`, `api/controlplane/kubeadm`.

use std::sync::Arc;

use jiff::Timestamp;
use serde::Deserialize;

use crate::domain::fact::Meta;
use crate::domain::text;
use crate::providers::condition::RawCondition;

pub use cluster::{Cluster, Topology};
pub use machine::{Deletion, InPlace, Machine, Removal, TimeLimit, UpToDate};
pub use template::{KubeadmControlPlane, MachineDeployment, MachinePool, Template, Templated};

mod cluster;
mod machine;
mod template;

/// API group of all kinds but control planes.
pub const GROUP: &str = "cluster.x-k8s.io";
/// API group of control planes.
pub const CONTROL_PLANE_GROUP: &str = "controlplane.cluster.x-k8s.io";
/// Index of Machines by their machine.
pub const PROVIDER_ID: &str = "providerID";
/// Index of the objects that are pools, by their name without the namespace.
pub const NAME: &str = "name";
/// Versions that are read, the preferred one first.
const VERSIONS: &[&str] = &["v1beta2", "v1beta1"];
/// Longest version or name that is stored, as in the API.
const NAME_LIMIT: usize = 253;
const CLUSTER_NAME: &str = "cluster.x-k8s.io/cluster-name";

/// The conditions in a status of either version.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Conditions {
    conditions: Option<Vec<RawCondition>>,
    v1beta2: Option<Modern>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Modern {
    conditions: Option<Vec<RawCondition>>,
}

impl Conditions {
    /// The condition of this type; where v1beta1 has it twice, the one with the meaning of v1beta2.
    fn find(&self, type_: &str) -> Option<&RawCondition> {
        let modern = self.v1beta2.iter().flat_map(|modern| &modern.conditions);
        let mut all = modern.chain(&self.conditions).flatten();
        all.find(|condition| condition.type_() == type_)
    }

    fn is_true(&self, type_: &str) -> bool {
        self.find(type_).is_some_and(RawCondition::is_true)
    }

    fn is_false(&self, type_: &str) -> bool {
        self.find(type_).is_some_and(RawCondition::is_false)
    }
}

/// Whether the object has the annotation that keeps its controller from processing it; any value but `false` does.
fn is_paused(meta: &Meta) -> bool {
    let value = meta.annotation("cluster.x-k8s.io/paused");
    value.is_some_and(|value| value != "false")
}

/// `namespace/cluster` of an object; empty when the object names no Cluster.
fn cluster_of(meta: &Meta, name: Option<&str>) -> Box<str> {
    let name = name.filter(|name| !name.is_empty());
    match (&meta.namespace, name.or_else(|| meta.label(CLUSTER_NAME))) {
        (Some(namespace), Some(name)) => format!("{namespace}/{name}").into(),
        (_, _) => Box::default(),
    }
}

fn version(text: Option<&str>) -> Option<Arc<str>> {
    text::word(text?, NAME_LIMIT).map(Arc::from)
}

fn moment(text: Option<&str>) -> Option<Timestamp> {
    text?.parse().ok()
}
