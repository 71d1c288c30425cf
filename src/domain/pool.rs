//! Pools: their identity, what their provider reports, and the membership of nodes.

use std::sync::Arc;

use super::facts::Unavailable;
use super::pool_name::{self, LabelKey};
use super::state::Desired;
use crate::api::types::{PoolRef, ProviderName, Scope};

/// Identity of a pool.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PoolId {
    /// Name of the pool's insight: unique in the cluster and a valid object name.
    pub name: Arc<str>,
    /// Where the pool comes from, with the name that its owner uses.
    pub reference: PoolRef,
    /// Whether the pool is known to run the control plane; for a pool of labels the nodes decide.
    pub scope: Scope,
}

impl PoolId {
    /// A pool that is an object of the cluster, with the name of that object.
    #[must_use]
    pub fn object(reference: PoolRef, scope: Scope) -> Self {
        Self {
            name: pool_name::bare("object", &reference).into(),
            reference,
            scope,
        }
    }

    /// A pool that is an object whose name other objects and labels may share: its insight has the singular of its
    /// resource as a suffix.
    #[must_use]
    pub fn named(reference: PoolRef, scope: Scope) -> Self {
        Self {
            name: pool_name::of_object(&reference).into(),
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
            name: pool_name::bare("role", &reference).into(),
            scope: if role == "control-plane" {
                Scope::ControlPlane
            } else {
                Scope::WorkerPool
            },
            reference,
        }
    }

    /// The pool of all nodes with the label `key=value`.
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

/// What the provider reports about a pool, in addition to its nodes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PoolFacts {
    /// No node is updated until the pool is resumed.
    pub paused: bool,
    /// The desired version, where the pool itself has one.
    pub desired: Option<Desired>,
    /// Version of the pool's configuration, if it has one; an empty pool is evaluated by it.
    pub configured_version: Option<Arc<str>>,
    /// What owns the pool's insight.
    pub owner: PoolOwner,
    /// A kind that the provider cannot read; the conditions report it.
    pub missing: Option<Unavailable>,
}

/// What owns the insight of a pool.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum PoolOwner {
    /// Nothing: no object stands for the pool.
    #[default]
    None,
    /// The object of the pool.
    Object(Owner),
    /// The object cannot be read, so an existing insight retains its owner.
    Unknown,
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
    /// Identity of the pool.
    pub id: Arc<PoolId>,
    /// The provider of its nodes.
    pub provider: ProviderName,
    /// What the provider reports.
    pub facts: PoolFacts,
    /// Its nodes are replaced, not updated in place.
    pub replaces: bool,
    /// A replaced node registers again under its name.
    pub reuses_names: bool,
    /// The version of the API server, if known.
    pub api_server: Option<Arc<str>>,
}

/// The pool that a node belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Membership {
    /// Exactly one.
    Pool(Arc<PoolId>),
    /// None: no selector matches, or the node cannot be in a pool.
    None,
    /// None: the node is never updated, and its provider says so.
    Excluded,
    /// Several pools that exclude each other; their names, sorted.
    Conflict(Box<[Arc<str>]>),
}

impl Membership {
    /// The pool, when there is exactly one.
    #[must_use]
    pub fn pool(&self) -> Option<&Arc<PoolId>> {
        match self {
            Self::Pool(pool) => Some(pool),
            Self::None | Self::Excluded | Self::Conflict(_) => None,
        }
    }
}
