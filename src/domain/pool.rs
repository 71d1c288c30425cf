//! Pools: what they are called, what their provider says of them, and which one a node belongs to.

use std::sync::Arc;

use super::pool_name::{self, LabelKey};
use super::state::Desired;
use crate::api::types::{PoolRef, ProviderName, Scope};

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
    /// The pool that an object of the cluster is.
    #[must_use]
    pub fn object(name: Arc<str>, reference: PoolRef, scope: Scope) -> Self {
        Self {
            name,
            reference,
            scope,
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

/// What the provider says of a pool, beside its nodes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PoolFacts {
    /// Nothing of it is updated until somebody resumes it.
    pub paused: bool,
    /// The version that the pool wants, where the pool itself says so.
    pub desired: Option<Desired>,
    /// Version of the pool's configuration, where it has one: what an empty pool is evaluated by.
    pub configured_version: Option<Arc<str>>,
    /// The object that the pool is, if it is one: its insight goes with it.
    pub owner: Option<Owner>,
}

/// An object that owns an insight.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// Group and version.
    pub api_version: Box<str>,
    /// Kind.
    pub kind: Box<str>,
    /// Name.
    pub name: Box<str>,
    /// UID.
    pub uid: Arc<str>,
}

/// A pool as its provider describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolState {
    /// Which pool it is.
    pub id: Arc<PoolId>,
    /// Who updates its nodes.
    pub provider: ProviderName,
    /// What the provider says of it.
    pub facts: PoolFacts,
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
