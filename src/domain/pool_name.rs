//! Names of pool insights. A pool is a MachineConfigPool, a role or a label value.
//!
//! Names are unique for any of them. There are two disjoint forms:
//!
//! - Plain, in nearly all cases: a MachineConfigPool or role without a dot (`worker`), or label value, dot and label
//!   name (`blue.nodegroup`).
//! - Hashed, for texts without a valid plain name: the first part ends with a dash and a hash of [`HASH_LENGTH`]
//!   digits, as in `big-pool-3f…c1.nodegroup`. The first part of a plain name never ends like that.
//!
//! A plain name is unique because it ends with the label name; a hashed name because the hash covers the whole
//! identity of the pool.

use std::fmt::Write as _;

use ring::digest::{SHA256, digest};

use crate::api::types::PoolRef;

/// Longest name of a Kubernetes object.
const NAME_LIMIT: usize = 253;
/// Longest part of a name between its dots.
const PART_LIMIT: usize = 63;
/// Hexadecimal digits of a hash: 128 bits, so that collisions cannot be constructed. Names with shorter hexadecimal
/// suffixes, as tools generate them, stay plain.
const HASH_LENGTH: usize = 32;

/// A label whose values name pools.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LabelKey {
    key: String,
    /// The valid suffix after the dot in the names of its pools.
    suffix: String,
    /// Plain names of this label cannot collide with those of another label.
    is_distinct: bool,
}

impl LabelKey {
    /// All labels that name pools in a cluster, without duplicates.
    #[must_use]
    pub fn all(keys: &[String]) -> Vec<Self> {
        let mut distinct: Vec<&str> = Vec::new();
        for key in keys {
            if !distinct.contains(&key.as_str()) {
                distinct.push(key);
            }
        }
        let suffixes: Vec<String> = distinct.iter().map(|key| suffix(key, &distinct)).collect();
        let is_within = |a: &str, b: &str| b == a || b.ends_with(&format!(".{a}"));
        distinct
            .iter()
            .enumerate()
            .map(|(index, key)| {
                let own = &suffixes[index];
                let others = suffixes.iter().enumerate().filter(|(at, _)| *at != index);
                Self {
                    key: (*key).to_owned(),
                    suffix: fitting(own, NAME_LIMIT - PART_LIMIT - 1),
                    is_distinct: is_object_name(own)
                        && !others
                            .into_iter()
                            .any(|(_, other)| is_within(own, other) || is_within(other, own)),
                }
            })
            .collect()
    }

    /// The label's key.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.key
    }

    /// The part of the key before the `/`.
    #[must_use]
    pub fn group(&self) -> &str {
        split(&self.key).0
    }

    /// The part of the key after the `/`.
    #[must_use]
    pub fn resource(&self) -> &str {
        split(&self.key).1
    }

    /// `<value>.<label name>`, because a node group and a node pool can have the same name (EKS with Karpenter). If
    /// two keys share the label name, the prefix of the key is appended.
    pub(super) fn pool_name(&self, pool: &PoolRef) -> String {
        let plain = format!("{}.{}", pool.name, self.suffix);
        if self.is_distinct && is_plain(&plain) {
            plain
        } else {
            hashed("label", pool, &self.suffix)
        }
    }
}

/// The name of a role or a MachineConfigPool itself. They never meet: where there are MachineConfigPools, no node is
/// without a provider.
pub(super) fn bare(kind: &str, pool: &PoolRef) -> String {
    let name = pool.name.as_str();
    if !name.contains('.') && is_plain(name) {
        name.to_owned()
    } else {
        hashed(kind, pool, "")
    }
}

/// Name and resource of an object. The resource is plural, so that it differs from the name of a label.
pub(super) fn of_object(pool: &PoolRef) -> String {
    let plain = format!("{}.{}", pool.name, pool.resource);
    if !pool.name.contains('.') && is_plain(&plain) {
        plain
    } else {
        hashed("object", pool, &pool.resource)
    }
}

/// Prefix and name of a label's key.
fn split(key: &str) -> (&str, &str) {
    key.split_once('/').unwrap_or(("", key))
}

/// The name of the label, with its prefix if another of `keys` has the same name.
fn suffix(key: &str, keys: &[&str]) -> String {
    let (group, resource) = split(key);
    let is_shared = keys
        .iter()
        .any(|other| *other != key && split(other).1 == resource);
    if is_shared && !group.is_empty() {
        format!("{resource}.{group}")
    } else {
        resource.to_owned()
    }
}

/// Whether a text is a valid name that does not look like a hashed one.
fn is_plain(name: &str) -> bool {
    let first = name.split('.').next().unwrap_or(name);
    let end = first.rsplit('-').next().unwrap_or(first);
    let is_like_a_hash = end.len() == HASH_LENGTH
        && end
            .bytes()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    is_object_name(name) && !is_like_a_hash
}

/// Whether the API server accepts it as an object name (a DNS-1123 subdomain).
fn is_object_name(name: &str) -> bool {
    let is_alphanumeric = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    name.len() <= NAME_LIMIT
        && name.split('.').all(|part| {
            let bytes = part.as_bytes();
            bytes.len() <= PART_LIMIT
                && bytes.first().is_some_and(|first| is_alphanumeric(*first))
                && bytes.last().is_some_and(|last| is_alphanumeric(*last))
                && bytes
                    .iter()
                    .all(|byte| is_alphanumeric(*byte) || *byte == b'-')
        })
}

/// The readable part of the pool's name, the hash of the pool's identity, and the suffix.
fn hashed(kind: &str, pool: &PoolRef, suffix: &str) -> String {
    let readable = fitting(&pool.name.replace('.', "-"), PART_LIMIT - HASH_LENGTH - 1);
    let mut name = readable;
    if !name.is_empty() {
        name.push('-');
    }
    // Lengths are included, so that the texts of two pools always differ.
    let PoolRef {
        group,
        resource,
        name: own,
    } = pool;
    let mut identity = kind.to_owned();
    for text in [group, resource, own] {
        let _ = write!(identity, "/{}:{text}", text.len());
    }
    for byte in digest(&SHA256, identity.as_bytes())
        .as_ref()
        .iter()
        .take(HASH_LENGTH / 2)
    {
        let _ = write!(name, "{byte:02x}");
    }
    if !suffix.is_empty() {
        name.push('.');
        name.push_str(suffix);
    }
    name
}

/// `text` in lower case, with dashes for invalid characters and at most `limit` long; may be empty.
fn fitting(text: &str, limit: usize) -> String {
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '.';
    let text: String = text
        .to_ascii_lowercase()
        .chars()
        .map(|c| if fits(c) { c } else { '-' })
        .take(limit)
        .collect();
    // Each part between dots must begin and end with a letter or digit.
    let parts = text.split('.').map(|part| {
        let part = part.get(..PART_LIMIT).unwrap_or(part);
        part.trim_matches('-')
    });
    let parts: Vec<&str> = parts.filter(|part| !part.is_empty()).collect();
    parts.join(".")
}

#[cfg(test)]
mod tests {
    use crate::domain::pool::PoolId;

    use super::*;

    fn keys(keys: &[&str]) -> Vec<LabelKey> {
        let keys: Vec<String> = keys.iter().map(|key| (*key).to_owned()).collect();
        LabelKey::all(&keys)
    }

    fn name(key: &str, value: &str) -> String {
        PoolId::label(&keys(&[key])[0], value).name.to_string()
    }

    #[test]
    fn a_plain_name_is_the_owners_name_of_the_pool_and_the_label_name() {
        for value in [
            "default",
            "blue-1",
            // As eksctl and Terraform generate them.
            "ng-6c9a2e1b",
            "blue-20230516085555716900000012",
            "a-6f8d3c1e-1b2c-4d5e-8f90-a1b2c3d4e5f6",
            "gpu.large",
        ] {
            let key = "eks.amazonaws.com/nodegroup";
            assert_eq!(name(key, value), format!("{value}.nodegroup"));
        }
        for role in ["worker", "control-plane", "gpu"] {
            assert_eq!(&*PoolId::role(role).name, role);
        }
    }

    #[test]
    fn an_object_whose_name_looks_like_a_label_value_and_its_label_gets_another_name() {
        let config_pool = |name: &str| {
            let reference = PoolRef {
                group: "machineconfiguration.openshift.io".into(),
                resource: "machineconfigpools".into(),
                name: name.into(),
            };
            PoolId::object(reference, crate::api::types::Scope::WorkerPool).name
        };
        assert_eq!(&*config_pool("infra"), "infra");
        let dotted = config_pool("default.nodepool");
        assert_ne!(*dotted, *name("karpenter.sh/nodepool", "default"));
        assert!(is_object_name(&dotted) && dotted.starts_with("default-nodepool-"));
    }

    #[test]
    fn the_prefix_is_appended_when_two_labels_share_a_name() {
        let keys = keys(&["a.example/pool", "b.example/pool", "a.example/pool", "pool"]);
        let names: Vec<String> = keys
            .iter()
            .map(|key| PoolId::label(key, "x").name.to_string())
            .collect();
        assert_eq!(names[..2], ["x.pool.a.example", "x.pool.b.example"]);
        assert_eq!(names[2..], ["x.pool"]);
    }

    #[test]
    fn an_invalid_text_gets_a_readable_and_stable_name() {
        assert_eq!(
            name("example.com/pool", "Big_Pool"),
            "big-pool-afd636b544489649417df1e5c2ecd656.pool"
        );
        let long = name("example.com/My_Key", &"X.".repeat(300));
        assert!(
            long.starts_with("x-x-x-") && long.ends_with(".my-key"),
            "{long}"
        );
        assert_eq!(PoolId::role("").name.len(), HASH_LENGTH);
    }

    #[test]
    fn long_texts_give_valid_object_names() {
        let key = format!("{}/{}", "p.".repeat(126), "k".repeat(300));
        let key = keys(&[&key, &format!("x/{}", "k".repeat(300))]);
        let name = PoolId::label(&key[0], &"x".repeat(400)).name;
        assert!(is_object_name(&name), "{name}");
    }
}
