//! How far the kubelets of a pool are behind the API server.
//!
//! Source: the version skew policy of Kubernetes: a kubelet is at most three minor versions older than the API server
//! (two before 1.25), and never newer.

use std::sync::Arc;

use super::state::NodeState;
use super::version::{Precision, Version};
use crate::api::pool::VersionSkew;

/// Minor versions that a kubelet may be behind.
const SUPPORTED: u64 = 3;
/// The same for kubelets older than [`SINCE`].
const SUPPORTED_BEFORE: u64 = 2;
/// The first minor version of a kubelet that may be three behind.
const SINCE: (u64, u64) = (1, 25);

/// The skew of these nodes; `None` when no version can be compared. Nodes that do not report are counted as well: they
/// come back with the kubelet that they had.
#[must_use]
pub fn skew(nodes: &[Arc<NodeState>], api_server: Option<&str>) -> Option<VersionSkew> {
    let api_server = Version::parse(api_server?)?;
    let versions = nodes.iter().filter_map(|node| node.kubelet.as_ref());
    let mut versions: Vec<(Version, &Arc<str>)> = versions
        .filter_map(|text| Some((Version::parse(text)?, text)))
        .collect();
    versions.sort_by(|(a, a_text), (b, b_text)| a.total_cmp(b).then_with(|| a_text.cmp(b_text)));
    let (oldest, text) = versions.first()?;
    let (newest, newest_text) = versions.last()?;
    let (major, minor) = api_server.minor();
    let is_newer = newest.is_ahead(&api_server, Precision::Minor);
    let is_same_major = oldest.minor().0 == major;
    let behind = |minor: u64| {
        i64::try_from(minor)
            .ok()?
            .checked_sub_unsigned(oldest.minor().1)
    };
    let limit = if oldest.minor() >= SINCE {
        SUPPORTED
    } else {
        SUPPORTED_BEFORE
    };
    let allows = |minor: u64| is_same_major && oldest.minor().1.saturating_add(limit) >= minor;
    Some(VersionSkew {
        oldest_kubelet: super::text::word(text, 253)?.into_owned(),
        minors_behind: i32::try_from(behind(minor)?).ok()?,
        supported: allows(minor) && !is_newer,
        supported_after_next_minor: allows(minor.saturating_add(1)),
        newer_kubelet: is_newer
            .then(|| super::text::word(newest_text, 253))
            .flatten()
            .map(std::borrow::Cow::into_owned),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::types::Phase;
    use crate::domain::pool_status::tests::node;

    fn of(kubelets: &[&str], api_server: &str) -> Option<VersionSkew> {
        let nodes: Vec<Arc<NodeState>> = kubelets
            .iter()
            .map(|kubelet| {
                Arc::new(NodeState {
                    kubelet: Some((*kubelet).into()),
                    ..node(Phase::Completed)
                })
            })
            .collect();
        skew(&nodes, Some(api_server))
    }

    #[test]
    fn the_oldest_kubelet_decides_how_far_the_pool_is_behind() {
        for (oldest, behind, supported, after) in [
            ("v1.34.0", 0, true, true),
            ("v1.33.1", 1, true, true),
            ("v1.32.0-eks-94953ac", 2, true, true),
            ("v1.31.0", 3, true, false),
            ("v1.30.0", 4, false, false),
        ] {
            let skew = of(&["v1.34.2", oldest, "unreadable"], "v1.34.1").unwrap();
            let found = (
                skew.minors_behind,
                skew.supported,
                skew.supported_after_next_minor,
            );
            assert_eq!(found, (behind, supported, after), "{oldest}");
            assert_eq!(skew.oldest_kubelet, oldest);
            assert_eq!(skew.newer_kubelet, None);
        }
    }

    #[test]
    fn kubelets_before_1_25_may_be_two_behind() {
        assert!(of(&["v1.24.3"], "v1.26.0").unwrap().supported);
        assert!(!of(&["v1.24.3"], "v1.27.0").unwrap().supported);
    }

    #[test]
    fn a_kubelet_newer_than_the_api_server_is_named_and_not_supported() {
        let skew = of(&["v1.33.0", "v1.35.0"], "v1.34.1").unwrap();
        assert_eq!(skew.newer_kubelet.as_deref(), Some("v1.35.0"));
        assert!(!skew.supported && skew.supported_after_next_minor);
        let alone = of(&["v1.35.0"], "v1.34.1").unwrap();
        assert_eq!((alone.minors_behind, alone.supported), (-1, false));
    }

    #[test]
    fn there_is_no_skew_without_versions() {
        assert_eq!(of(&["unreadable"], "v1.34.1"), None);
        assert_eq!(of(&["v1.34.1"], "unreadable"), None);
        assert_eq!(of(&[], "v1.34.1"), None);
        assert_eq!(
            of(&["v99999999999.18446744073709551615.0"], "v1.0.0").map(|skew| skew.supported),
            None
        );
    }
}
