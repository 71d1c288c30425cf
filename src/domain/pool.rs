//! Pools: what they are called, what is known of them, and which one a node belongs to.

use std::sync::Arc;

use super::labels::Selector;
use super::text::fnv1a;
use crate::api::openshift::{MACHINE_CONFIG_GROUP, MACHINE_CONFIG_POOLS};
use crate::api::types::{PoolRef, Scope};

/// Longest name of a Kubernetes object.
const NAME_LIMIT: usize = 253;
/// Longest end of a pool's name that comes from the label's key: leaves room for any label value (63)
/// and a hash.
const SUFFIX_LIMIT: usize = 180;

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
        Self {
            name: object_name(role, "").into(),
            reference: PoolRef {
                group: "node-role.kubernetes.io".into(),
                resource: "role".into(),
                name: role.into(),
            },
            scope: if role == "control-plane" {
                Scope::ControlPlane
            } else {
                Scope::WorkerPool
            },
        }
    }

    /// The pool of all nodes that have the value `value` for the label `key`.
    ///
    /// Its insight is called `<value>.<label name>`: node groups and node pools of the same name do
    /// exist side by side (EKS with Karpenter). With `qualified`, for two keys that share the label
    /// name, the key's prefix follows.
    #[must_use]
    pub fn label(key: &str, value: &str, qualified: bool) -> Self {
        let (group, resource) = key.split_once('/').unwrap_or(("", key));
        let suffix = if qualified {
            format!(".{resource}.{group}")
        } else {
            format!(".{resource}")
        };
        Self {
            name: object_name(value, &suffix).into(),
            reference: PoolRef {
                group: group.into(),
                resource: resource.into(),
                name: value.into(),
            },
            scope: Scope::WorkerPool,
        }
    }
}

/// `text` as the name of an object: lower case, no character that a name cannot have. Where that
/// changed the text, a hash of it follows, so that two texts never share a name.
fn object_name(text: &str, suffix: &str) -> String {
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '.';
    let valid = |text: &str, limit: usize| {
        let fitting = text.to_ascii_lowercase();
        let fitting: String = fitting
            .chars()
            .map(|c| if fits(c) { c } else { '-' })
            .take(limit)
            .collect();
        // Between dots, too, a part begins and ends with a letter or digit.
        let parts = fitting.split('.').map(|part| part.trim_matches('-'));
        let parts: Vec<&str> = parts.filter(|part| !part.is_empty()).collect();
        parts.join(".")
    };
    let suffix = match valid(suffix, SUFFIX_LIMIT) {
        suffix if suffix.is_empty() => suffix,
        suffix => format!(".{suffix}"),
    };
    let name = valid(text, NAME_LIMIT.saturating_sub(suffix.len() + 10));
    if name == text {
        format!("{name}{suffix}")
    } else {
        format!("{name}-{:08x}{suffix}", fnv1a(text))
            .trim_start_matches('-')
            .to_owned()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pools_of_the_same_name_from_different_labels_have_different_insights() {
        let nodegroup = PoolId::label("eks.amazonaws.com/nodegroup", "default", false);
        let nodepool = PoolId::label("karpenter.sh/nodepool", "default", false);
        assert_eq!(&*nodegroup.name, "default.nodegroup");
        assert_eq!(&*nodepool.name, "default.nodepool");
        assert_eq!(nodegroup.reference.group, "eks.amazonaws.com");
        assert_eq!(
            &*PoolId::label("example.com/nodepool", "default", true).name,
            "default.nodepool.example.com"
        );
    }

    #[test]
    fn a_label_value_that_is_no_object_name_gets_one_of_its_own() {
        let upper = PoolId::label("example.com/pool", "Big_Pool", false);
        let lower = PoolId::label("example.com/pool", "big_pool", false);
        assert_ne!(upper.name, lower.name);
        assert_eq!(upper.reference.name, "Big_Pool");
        for id in [
            upper,
            lower,
            PoolId::label("example.com/My_Key", "a..b", false),
            PoolId::role(""),
        ] {
            assert!(
                id.name
                    .chars()
                    .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '.')
                    && !id.name.starts_with(['-', '.'])
                    && !id.name.ends_with(['-', '.'])
                    && !id.name.contains(".."),
                "{}",
                id.name
            );
        }
    }

    #[test]
    fn a_name_is_never_longer_than_an_object_name() {
        assert!(
            PoolId::label("example.com/pool", &"x".repeat(400), true)
                .name
                .len()
                <= NAME_LIMIT
        );
    }
}
