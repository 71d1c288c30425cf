//! Pools: what they are called, what is known of them, and which one a node belongs to.

use std::sync::Arc;

use super::labels::Selector;
use super::pool_name::{self, LabelKey};
use crate::api::openshift::{MACHINE_CONFIG_GROUP, MACHINE_CONFIG_POOLS};
use crate::api::types::{PoolRef, Scope};

/// Identity of a pool.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PoolId {
    /// Name of the pool's insight: unique in the cluster and a valid object name.
    pub name: Arc<str>,
    /// Where the pool comes from, under the name that its owner knows.
    pub reference: PoolRef,
    /// Whether the pool is known to run the control plane; a pool made of labels is judged by its
    /// nodes.
    pub scope: Scope,
}

impl PoolId {
    /// The pool of a MachineConfigPool.
    #[must_use]
    pub fn machine_config_pool(name: &str) -> Self {
        Self {
            name: name.into(),
            reference: PoolRef {
                group: MACHINE_CONFIG_GROUP.into(),
                resource: MACHINE_CONFIG_POOLS.into(),
                name: name.into(),
            },
            scope: if name == "master" {
                Scope::ControlPlane
            } else {
                Scope::WorkerPool
            },
        }
    }

    /// The pool of all nodes with a role.
    #[must_use]
    pub fn role(role: &str) -> Self {
        let reference = PoolRef {
            group: "node-role.kubernetes.io".into(),
            resource: "role".into(),
            name: role.into(),
        };
        Self {
            name: pool_name::of_role(&reference).into(),
            scope: if role == "control-plane" {
                Scope::ControlPlane
            } else {
                Scope::WorkerPool
            },
            reference,
        }
    }

    /// The pool of all nodes that have the value `value` for the label `key`.
    #[must_use]
    pub fn label(key: &LabelKey, value: &str) -> Self {
        let reference = PoolRef {
            group: key.group().into(),
            resource: key.resource().into(),
            name: value.into(),
        };
        Self {
            name: key.pool_name(&reference).into(),
            reference,
            scope: Scope::WorkerPool,
        }
    }
}

/// What is known of a MachineConfigPool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolFacts {
    /// Its identity.
    pub id: Arc<PoolId>,
    /// `metadata.uid`: the pool's insight is owned by it.
    pub uid: Arc<str>,
    /// `spec.paused`.
    pub paused: bool,
    /// `spec.configuration.name`.
    pub configuration: Option<Arc<str>>,
    /// `spec.nodeSelector`; `None` matches nothing.
    pub selector: Option<Selector>,
}

/// The pool that a node belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Membership {
    /// Exactly one.
    Pool(Arc<PoolId>),
    /// None: no selector matches, or the node is not for pools at all.
    None,
    /// Several that exclude each other; their names, sorted.
    Conflict(Vec<Arc<str>>),
}

impl Membership {
    /// The pool, when there is exactly one.
    #[must_use]
    pub fn pool(&self) -> Option<&Arc<PoolId>> {
        match self {
            Self::Pool(pool) => Some(pool),
            Self::None | Self::Conflict(_) => None,
        }
    }
}
