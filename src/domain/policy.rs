//! The policy of the user: what nodes should run, and which labels name pools.
//!
//! ```yaml
//! targetVersion: v1.33.4         # of every node whose provider does not report a desired version
//! pools:
//!   blue.nodegroup:              # the name of a pool's insight
//!     targetVersion: v1.32.9     # takes precedence, so that a pool can be pinned
//! poolLabels: [example.com/pool] # before those that are known
//! ```
//!
//! Other fields, versions that are none and labels that are none are errors: nothing of an invalid policy applies.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Deserialize;

use super::pool_name::LabelKey;
use super::version::Version;

/// The policy of the user.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Policy {
    target_version: Option<Arc<str>>,
    /// By the name of a pool's insight.
    pools: BTreeMap<String, Arc<str>>,
    /// All labels that name pools, if the policy adds any.
    pool_labels: Option<Vec<LabelKey>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Raw {
    #[serde(default)]
    target_version: Option<String>,
    #[serde(default)]
    pools: BTreeMap<String, RawPool>,
    #[serde(default)]
    pool_labels: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RawPool {
    target_version: String,
}

impl Policy {
    /// Parses a policy. `pool_labels` are the labels that name pools without it, and `reserved` are labels whose pools
    /// must have other names than those of the policy. An empty text is the empty policy.
    ///
    /// # Errors
    /// Where and why the text is invalid.
    pub fn parse(text: &str, pool_labels: &[String], reserved: &[&str]) -> Result<Self, String> {
        if text.trim().is_empty() {
            return Ok(Self::default());
        }
        let raw: Raw = serde_saphyr::from_str(text).map_err(|error| error.to_string())?;
        let version = |place: &str, text: String| match parse_version(&text) {
            Ok(version) => Ok(Arc::from(version)),
            Err(error) => Err(format!("{place}: '{text}' is no version: {error}")),
        };
        let target = raw.target_version;
        let target_version = target.map(|text| version("targetVersion", text));
        let mut pools = BTreeMap::new();
        for (pool, raw) in raw.pools {
            let place = format!("pools.{pool}.targetVersion");
            let target = version(&place, raw.target_version)?;
            pools.insert(pool, target);
        }
        for label in &raw.pool_labels {
            parse_label_key(label)
                .map_err(|error| format!("poolLabels: '{label}' is no label: {error}"))?;
        }
        let labels = raw.pool_labels;
        Ok(Self {
            target_version: target_version.transpose()?,
            pools,
            pool_labels: (!labels.is_empty()).then(|| {
                let used: Vec<String> = labels.iter().chain(pool_labels).cloned().collect();
                let reserved = reserved.iter().map(|label| (*label).to_owned());
                let all: Vec<String> = used.iter().cloned().chain(reserved).collect();
                let mut keys = LabelKey::all(&all);
                keys.retain(|key| used.iter().any(|label| label == key.as_str()));
                keys
            }),
        })
    }

    /// The desired version of the nodes of a pool, by the name of its insight.
    #[must_use]
    pub fn target(&self, pool: &str) -> Option<&Arc<str>> {
        self.pools.get(pool).or(self.target_version.as_ref())
    }

    /// All labels that name pools, if the policy adds any.
    #[must_use]
    pub fn pool_labels(&self) -> Option<&[LabelKey]> {
        self.pool_labels.as_deref()
    }
}

/// A label key in the format of Kubernetes: an optional DNS prefix, then a name.
///
/// # Errors
/// When it is none.
pub fn parse_label_key(text: &str) -> Result<String, String> {
    let (prefix, name) = text
        .split_once('/')
        .map_or((None, text), |(prefix, name)| (Some(prefix), name));
    let is_word = |text: &str, limit: usize, extra: &[char]| {
        !text.is_empty()
            && text.len() <= limit
            && text
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || extra.contains(&c))
            && text.starts_with(|c: char| c.is_ascii_alphanumeric())
            && text.ends_with(|c: char| c.is_ascii_alphanumeric())
    };
    if is_word(name, 63, &['-', '_', '.'])
        && prefix.is_none_or(|prefix| is_word(prefix, 253, &['-', '.']))
    {
        Ok(text.to_owned())
    } else {
        Err("a label key is a name of up to 63 letters, digits, '-', '_' and '.', with an optional DNS prefix before a '/', as in example.com/pool".to_owned())
    }
}

/// A version as a kubelet reports it.
///
/// # Errors
/// When it is none.
pub fn parse_version(text: &str) -> Result<String, String> {
    match Version::parse(text) {
        Some(_) => Ok(text.to_owned()),
        None => Err("a version has three numbers, as in v1.36.3".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GROUP: &str = "eks.amazonaws.com/nodegroup";

    fn parse(text: &str) -> Result<Policy, String> {
        Policy::parse(text, &[GROUP.to_owned()], &[])
    }

    #[test]
    fn a_pool_has_its_own_target_before_that_of_all() {
        let policy = parse(
            "targetVersion: v1.33.4\npools:\n  blue.nodegroup:\n    targetVersion: v1.32.9\n",
        );
        let policy = policy.unwrap();
        let target = |pool| policy.target(pool).map(|version| &**version);
        assert_eq!(target("blue.nodegroup"), Some("v1.32.9"));
        assert_eq!(target("green.nodegroup"), Some("v1.33.4"));
        for empty in ["", "\n", "# nothing yet\n{}", "{}"] {
            assert_eq!(parse(empty), Ok(Policy::default()), "{empty:?}");
        }
    }

    #[test]
    fn an_invalid_policy_says_where_and_why() {
        for (text, place) in [
            ("targetVersion: latest", "targetVersion: 'latest'"),
            (
                "pools: {blue: {targetVersion: v1}}",
                "pools.blue.targetVersion: 'v1'",
            ),
            ("poolLabels: [a b]", "poolLabels: 'a b'"),
            ("target: v1.33.4", "target"),
            ("pools: {blue: {version: v1.33.4}}", "version"),
            ("pools: [blue]", "line 1"),
            ("targetVersion: [", "line 1"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(place), "{text}: {error}");
        }
    }
}
