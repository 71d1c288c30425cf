//! The desired version of a node, and its source.

use super::*;
use crate::domain::fixtures::node;

/// The API server and the newest kubelet of pool `worker`.
fn cluster(api_server: Option<&str>, newest: Option<&str>) -> ClusterFacts {
    ClusterFacts {
        api_server_version: api_server.map(Arc::from),
        newest_in_pool: newest
            .map(|version| ("worker".into(), version.into()))
            .into_iter()
            .collect(),
        ..ClusterFacts::default()
    }
}

/// Desired version, its source and the phase of an untouched node.
fn desired(
    kubernetes: &Kubernetes,
    kubelet: &str,
    cluster: &ClusterFacts,
) -> (Option<(String, DesiredVersionSource)>, Phase) {
    let state = first_state(kubernetes, node("n").kubelet(kubelet).build(), cluster);
    (
        state
            .desired
            .map(|desired| (desired.version.to_string(), desired.source)),
        state.phase,
    )
}

#[test]
fn the_users_target_takes_precedence() {
    let cluster = cluster(Some("v1.33.0"), Some("v1.32.0"));
    assert_eq!(
        desired(&targeting("v1.31.5"), "v1.31.2", &cluster),
        (
            Some(("v1.31.5".into(), DesiredVersionSource::UserTarget)),
            Phase::Pending
        )
    );
}

/// The desired version of a node in pool `blue`, which a label names, whose youngest node runs `newest`.
fn desired_in_blue(kubelet: &str, newest: &str) -> (Option<(String, DesiredVersionSource)>, Phase) {
    let cluster = ClusterFacts {
        api_server_version: Some("v1.33.0".into()),
        newest_in_pool: [("blue.nodegroup".into(), newest.into())].into(),
        ..ClusterFacts::default()
    };
    let node = node("n")
        .label("eks.amazonaws.com/nodegroup", "blue")
        .kubelet(kubelet);
    let state = first_state(&plain(), node.build(), &cluster);
    let desired = state.desired;
    let desired = desired.map(|desired| (desired.version.to_string(), desired.source));
    (desired, state.phase)
}

#[test]
fn the_newest_in_the_pool_is_desired_when_it_is_newer_than_the_node() {
    assert_eq!(
        desired_in_blue("v1.31.2", "v1.32.0"),
        (
            Some(("v1.32.0".into(), DesiredVersionSource::NewestInPool)),
            Phase::Pending
        )
    );
}

#[test]
fn the_newest_among_nodes_that_only_share_a_role_is_not_desired() {
    let cluster = cluster(Some("v1.33.0"), Some("v1.32.0"));
    assert_eq!(
        desired(&plain(), "v1.31.2", &cluster),
        (
            Some(("v1.33.0".into(), DesiredVersionSource::ApiServer)),
            Phase::Pending
        )
    );
}

#[test]
fn the_newest_node_of_a_pool_is_compared_with_the_api_server() {
    assert_eq!(
        desired(
            &plain(),
            "v1.32.0",
            &cluster(Some("v1.33.0"), Some("v1.32.0"))
        ),
        (
            Some(("v1.33.0".into(), DesiredVersionSource::ApiServer)),
            Phase::Pending
        )
    );
    assert_eq!(
        desired(
            &plain(),
            "v1.33.0",
            &cluster(Some("v1.33.0"), Some("v1.33.0"))
        )
        .1,
        Phase::Completed
    );
}

#[test]
fn without_a_source_there_is_no_desired_version_and_no_outdated_node() {
    assert_eq!(
        desired(&plain(), "v1.31.2", &cluster(None, None)),
        (None, Phase::Completed)
    );
}

#[test]
fn a_node_newer_than_the_api_server_is_not_outdated() {
    assert_eq!(
        desired(&plain(), "v1.34.0", &cluster(Some("v1.33.0"), None)).1,
        Phase::Completed
    );
}

#[test]
fn the_users_target_may_be_a_downgrade() {
    let cluster = cluster(Some("v1.33.0"), None);
    let phase = |target, kubelet| desired(&targeting(target), kubelet, &cluster).1;
    assert_eq!(phase("v1.31.2", "v1.31.5"), Phase::Pending);
    assert_eq!(phase("v1.31.2", "v1.31.2"), Phase::Completed);
    assert_eq!(phase("1.31.2", "v1.31.2"), Phase::Completed);
}

#[test]
fn an_invalid_target_version_is_met_by_the_same_text_only() {
    let phase = |kubelet| desired(&targeting("nightly"), kubelet, &cluster(None, None)).1;
    assert_eq!(phase("nightly"), Phase::Completed);
    assert_eq!(phase("v1.31.2"), Phase::Pending);
}

#[test]
fn another_build_of_the_same_version_in_the_pool_is_newer() {
    let (_, phase) = desired_in_blue("v1.29.4+k3s2", "v1.29.4+k3s12");
    assert_eq!(phase, Phase::Pending);
    let (_, phase) = desired_in_blue("v1.33.0+k3s12", "v1.33.0+k3s2");
    assert_eq!(phase, Phase::Completed);
}

#[test]
fn a_node_that_does_not_report_its_version_is_unknown() {
    let state = first_state(
        &plain(),
        node("n").build(),
        &cluster(Some("v1.33.0"), Some("v1.33.0")),
    );
    assert_eq!((state.phase, state.version), (Phase::Unknown, None));
    assert_eq!(state.updating.status, ConditionStatus::Unknown);
    assert_eq!(state.updating.reason, "VersionUnknown");
}

#[test]
fn a_missing_build_in_target_or_kubelet_version_matches_any_build() {
    let cluster = cluster(None, None);
    let phase = |target, kubelet| desired(&targeting(target), kubelet, &cluster).1;
    for (target, kubelet, expected) in [
        ("v1.31.2", "v1.31.2-eks-94953ac", Phase::Completed),
        ("v1.31.2", "v1.31.2+k3s1", Phase::Completed),
        ("v1.29.4+rke2r2", "v1.29.4", Phase::Completed),
        ("v1.29.4-k3s2", "v1.29.4+k3s2", Phase::Completed),
        ("v1.29.4+k3s2", "v1.29.4+k3s1", Phase::Pending),
        ("v1.29.4+k3s1", "v1.29.4+k3s2", Phase::Pending),
        ("v1.31.2-eks-94953ac", "v1.31.2-eks-a737599", Phase::Pending),
        ("v1.33.0", "v1.33.0-rc.1", Phase::Pending),
        ("v1.33.0-rc.1", "v1.33.0", Phase::Pending),
    ] {
        assert_eq!(phase(target, kubelet), expected, "{target} {kubelet}");
    }
}

#[test]
fn a_completed_node_never_shows_a_desired_version_below_what_it_runs() {
    for (kubelet, api_server) in [
        ("v1.34.0", "v1.33.0"),
        ("v1.33.0", "v1.33.0-rc.1"),
        ("v1.31.5-eks-94953ac", "v1.31.2-eks-8cce635"),
        ("v1.29.4+k3s2", "v1.29.4+k3s1"),
    ] {
        assert_eq!(
            desired(&plain(), kubelet, &cluster(Some(api_server), None)),
            (None, Phase::Completed),
            "{kubelet} {api_server}"
        );
    }
}

#[test]
fn another_build_of_the_api_servers_version_is_not_outdated() {
    for (kubelet, api_server) in [
        ("v1.29.4", "v1.29.4+rke2r2"),
        ("v1.31.2", "v1.31.2-dirty"),
        ("v1.27.4+18eadca", "v1.27.4+31a56cf75"),
        ("v1.31.2", "v1.31.5-eks-8cce635"),
    ] {
        let (_, phase) = desired(&plain(), kubelet, &cluster(Some(api_server), None));
        assert_eq!(phase, Phase::Completed, "{kubelet} {api_server}");
    }
    let (_, phase) = desired(
        &plain(),
        "v1.29.4+rke2r1",
        &cluster(Some("v1.29.4+rke2r2"), None),
    );
    assert_eq!(phase, Phase::Pending);
}
