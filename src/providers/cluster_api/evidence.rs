//! What Cluster API writes on a Node.

use crate::domain::node::NodeObject;
use crate::domain::text;

/// What Cluster API writes on a Node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClusterApiNode {
    /// `cluster.x-k8s.io/cluster-namespace`: the namespace of all objects of the cluster; empty when there is none.
    pub namespace: Box<str>,
    /// `namespace/name` of the Cluster; empty when one of the two is missing.
    pub cluster: Box<str>,
    /// `cluster.x-k8s.io/machine`; empty when there is none.
    pub machine: Box<str>,
    /// `cluster.x-k8s.io/owner-kind`: what controls the Machine, or the MachinePool itself.
    pub owner_kind: OwnerKind,
    /// `cluster.x-k8s.io/owner-name`; empty when there is none.
    pub owner_name: Box<str>,
    /// `spec.providerID`; empty when there is none.
    pub provider_id: Box<str>,
    /// The taint of a node that belongs to an older revision of its MachineDeployment.
    pub is_outdated: bool,
    /// The taint of a node that is joining.
    pub is_new: bool,
}

/// What controls a Machine.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum OwnerKind {
    /// Nothing.
    #[default]
    None,
    /// A MachineSet, alone or of a MachineDeployment.
    MachineSet,
    /// A MachinePool.
    MachinePool,
    /// A control plane of kubeadm.
    KubeadmControlPlane,
    /// The control plane of another provider, such as RKE2ControlPlane.
    ControlPlane,
    /// Any other kind.
    Other,
}

impl OwnerKind {
    fn of(kind: &str) -> Self {
        match kind {
            "" => Self::None,
            "MachineSet" => Self::MachineSet,
            "MachinePool" => Self::MachinePool,
            "KubeadmControlPlane" => Self::KubeadmControlPlane,
            other if other.ends_with("ControlPlane") => Self::ControlPlane,
            _ => Self::Other,
        }
    }
}

impl ClusterApiNode {
    /// Reads the Node; `None` when Cluster API does not manage it.
    #[must_use]
    pub fn of(node: &NodeObject) -> Option<Self> {
        let annotation = |key: &str| node.annotations.get(&format!("cluster.x-k8s.io/{key}"));
        let (machine, owner_kind) = (annotation("machine"), annotation("owner-kind"));
        if machine.is_none() && owner_kind.is_none() {
            return None;
        }
        let taint = |key: &str, effect| {
            let key = format!("node.cluster.x-k8s.io/{key}");
            node.taint(&key, effect).is_some()
        };
        let namespace = name(annotation("cluster-namespace"));
        let cluster = match &*name(annotation("cluster-name")) {
            "" => Box::default(),
            _ if namespace.is_empty() => Box::default(),
            cluster => format!("{namespace}/{cluster}").into(),
        };
        Some(Self {
            namespace,
            cluster,
            machine: name(machine),
            owner_kind: OwnerKind::of(owner_kind.unwrap_or_default()),
            owner_name: name(annotation("owner-name")),
            provider_id: node.provider_id.clone(),
            is_outdated: taint("outdated-revision", "PreferNoSchedule"),
            is_new: taint("uninitialized", "NoSchedule"),
        })
    }
}

fn name(text: Option<&str>) -> Box<str> {
    text::name(text.unwrap_or_default())
}
