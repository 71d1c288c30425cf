//! Clusters: whether they are paused, and the version of their topology.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Deserialize;

use super::{GROUP, VERSIONS, version};
use crate::domain::fact::{Fact, KindSpec, Need, Object, Parsed};

const DEFER: &str = "topology.cluster.x-k8s.io/defer-upgrade";
const HOLD: &str = "topology.cluster.x-k8s.io/hold-upgrade-sequence";

/// A Cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cluster {
    /// `spec.paused`: no object of the cluster is processed.
    pub is_paused: bool,
    /// `spec.topology`, where the cluster has one.
    pub topology: Option<Topology>,
}

/// What a Cluster wants of the pools that it manages itself. It updates the control plane first, then the others one
/// after the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topology {
    /// The Kubernetes version of all of them.
    pub version: Arc<str>,
    /// The pools whose update a user holds back: `machinedeployments/name` or `machinepools/name`, as the topology
    /// names them. The annotations for that are in the Cluster, never on the MachineDeployment.
    pub held: Box<[Box<str>]>,
}

#[derive(Deserialize)]
struct RawCluster {
    spec: Option<Spec>,
}

#[derive(Deserialize)]
struct Spec {
    paused: Option<bool>,
    topology: Option<RawTopology>,
}

#[derive(Deserialize)]
struct RawTopology {
    version: Option<String>,
    workers: Option<Workers>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Workers {
    machine_deployments: Option<Vec<Group>>,
    machine_pools: Option<Vec<Group>>,
}

#[derive(Deserialize)]
struct Group {
    name: Option<String>,
    metadata: Option<GroupMeta>,
}

#[derive(Deserialize)]
struct GroupMeta {
    annotations: Option<BTreeMap<String, Option<String>>>,
}

impl Fact for Cluster {
    const KIND: KindSpec = KindSpec::new(GROUP, VERSIONS, "Cluster", "clusters")
        .namespaced()
        .need(Need::Optional);

    fn parse(object: &Object<'_>) -> Parsed<Self> {
        let cluster = match object.read::<RawCluster>() {
            Ok(cluster) => cluster,
            Err(error) => return Parsed::Unreadable(error),
        };
        let spec = cluster.spec;
        Parsed::Fact(Self {
            is_paused: spec.as_ref().and_then(|spec| spec.paused) == Some(true),
            topology: spec.and_then(|spec| spec.topology).and_then(topology),
        })
    }
}

fn topology(raw: RawTopology) -> Option<Topology> {
    let version = version(raw.version.as_deref())?;
    let mut held = Vec::new();
    if let Some(workers) = raw.workers {
        for (plural, groups) in [
            ("machinedeployments", workers.machine_deployments),
            ("machinepools", workers.machine_pools),
        ] {
            let groups = groups.unwrap_or_default();
            // One annotation holds back its pool, the other one all pools that follow as well.
            let end = groups.iter().position(|group| group.has(HOLD));
            let end = end.unwrap_or(groups.len());
            let groups = groups.into_iter().enumerate();
            let groups = groups.filter(|(place, group)| *place >= end || group.has(DEFER));
            held.extend(groups.filter_map(|(_, group)| {
                let name = group.name?;
                Some(format!("{plural}/{name}").into())
            }));
        }
    }
    Some(Topology {
        version,
        held: held.into(),
    })
}

impl Group {
    fn has(&self, annotation: &str) -> bool {
        let meta = self.metadata.as_ref();
        let annotations = meta.and_then(|meta| meta.annotations.as_ref());
        annotations.is_some_and(|annotations| annotations.contains_key(annotation))
    }
}
