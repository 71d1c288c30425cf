//! What the insights of pools are called outside OpenShift, where a pool is a role or the value of a label.
//!
//! Two pools never share a name, whatever texts roles and labels are. There are two kinds of names, and no name
//! is of both:
//!
//! - Plain ones, as nearly all are: a role without a dot, `worker`; and a label's value, a dot and the label's
//!   name, `blue.nodegroup`.
//! - Hashed ones, for texts that have no plain name: their first part ends with a dash and a hash in
//!   [`HASH_LENGTH`] digits, as in `big-pool-3f…c1.nodegroup`. A plain name has none that ends so.
//!
//! So a plain name is that of one pool, as the label's name can be read from its end; and a hashed one too, as the
//! hash is over all that the pool is.

use std::fmt::Write as _;

use ring::digest::{SHA256, digest};

use crate::api::types::PoolRef;

/// Longest name of a Kubernetes object.
const NAME_LIMIT: usize = 253;
/// Longest part of a name between its dots.
const PART_LIMIT: usize = 63;
/// Hexadecimal digits of a hash: 128 bits, so that nobody finds two pools with the same. Shorter ends of digits,
/// which tools give to the names that they make up, stay plain.
const HASH_LENGTH: usize = 32;

/// A label that names pools, among all that do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LabelKey {
    key: String,
    /// What follows the dot in the names of its pools, made fit.
    suffix: String,
    /// No plain name of a pool of this label can be one of another label.
    is_distinct: bool,
}

impl LabelKey {
    /// All labels that name pools in a cluster; those that are there twice count once.
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

    /// What is before the `/` of the key.
    #[must_use]
    pub fn group(&self) -> &str {
        split(&self.key).0
    }

    /// What is after it.
    #[must_use]
    pub fn resource(&self) -> &str {
        split(&self.key).1
    }

    /// `<value>.<label name>`: node groups and node pools of the same name do exist side by side (EKS with
    /// Karpenter). For two keys that share the label name, the key's prefix follows.
    pub(super) fn pool_name(&self, pool: &PoolRef) -> String {
        let plain = format!("{}.{}", pool.name, self.suffix);
        if self.is_distinct && is_plain(&plain) {
            plain
        } else {
            hashed("label", pool, &self.suffix)
        }
    }
}

/// The role itself.
pub(super) fn of_role(pool: &PoolRef) -> String {
    let role = pool.name.as_str();
    if !role.contains('.') && is_plain(role) {
        role.to_owned()
    } else {
        hashed("role", pool, "")
    }
}

/// Prefix and name of a label's key.
fn split(key: &str) -> (&str, &str) {
    key.split_once('/').unwrap_or(("", key))
}

/// The name of the label, and its prefix too if another of `keys` has the same name.
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

/// Whether a text can be a name, and is not like a hashed one.
fn is_plain(name: &str) -> bool {
    let first = name.split('.').next().unwrap_or(name);
    let end = first.rsplit('-').next().unwrap_or(first);
    let is_like_a_hash = end.len() == HASH_LENGTH
        && end
            .bytes()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    is_object_name(name) && !is_like_a_hash
}

/// Whether the API server takes it as the name of an object (a DNS-1123 subdomain).
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

/// What can be read of the pool's name, the hash of all that the pool is, and the suffix.
fn hashed(kind: &str, pool: &PoolRef, suffix: &str) -> String {
    let readable = fitting(&pool.name.replace('.', "-"), PART_LIMIT - HASH_LENGTH - 1);
    let mut name = readable;
    if !name.is_empty() {
        name.push('-');
    }
    // With their lengths, so that no two pools are the same text.
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

/// `text` in lower case with dashes for what a name cannot have, at most `limit` long; may be empty.
fn fitting(text: &str, limit: usize) -> String {
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '.';
    let text: String = text
        .to_ascii_lowercase()
        .chars()
        .map(|c| if fits(c) { c } else { '-' })
        .take(limit)
        .collect();
    // Between dots, too, a part begins and ends with a letter or digit.
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
    fn a_pool_is_called_as_its_owner_calls_it_with_the_name_of_the_label() {
        for value in [
            "default",
            "blue-1",
            // As eksctl and Terraform make them up.
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
    fn the_prefix_follows_where_two_labels_have_one_name() {
        let keys = keys(&["a.example/pool", "b.example/pool", "a.example/pool", "pool"]);
        let names: Vec<String> = keys
            .iter()
            .map(|key| PoolId::label(key, "x").name.to_string())
            .collect();
        assert_eq!(names[..2], ["x.pool.a.example", "x.pool.b.example"]);
        assert_eq!(names[2..], ["x.pool"]);
    }

    #[test]
    fn the_name_of_a_text_that_is_no_name_can_be_read_and_stays_the_same() {
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
    fn a_name_is_one_of_an_object_however_long_the_texts_are() {
        let key = format!("{}/{}", "p.".repeat(126), "k".repeat(300));
        let key = keys(&[&key, &format!("x/{}", "k".repeat(300))]);
        let name = PoolId::label(&key[0], &"x".repeat(400)).name;
        assert!(is_object_name(&name), "{name}");
    }
}
