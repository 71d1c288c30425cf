//! Nodes and pools.

use super::*;
use crate::api::types::ConditionStatus;
use crate::domain::fixtures::condition;

#[test]
fn a_node_that_is_not_ready_blocks() {
    let scene = Scene::new([]).node(node("silent").not_ready(-720));
    assert_eq!(scene.found(), ["Blocker NodeUnreachable Node silent 1"]);
    assert!(scene.message().contains("out-of-service"));
    let unready = node("sick").with(|conditions| {
        let network = condition(ConditionStatus::False, "cni plugin not initialized", -60);
        conditions.ready = Some(network);
    });
    let scene = Scene::new([]).node(unready);
    assert_eq!(scene.found(), ["Blocker NodeNotReady Node sick 1"]);
    assert!(scene.message().contains("cni plugin not initialized"));
}

#[test]
fn a_pod_that_ends_on_a_silent_node_is_part_of_that_finding() {
    let mut ending = pod("web-0", "silent");
    ending["metadata"]["deletionTimestamp"] = at(-600).to_string().into();
    let scene = Scene::new([ending]).node(node("silent").not_ready(-720));
    assert_eq!(scene.found(), ["Blocker NodeUnreachable Node silent 1"]);
}

#[test]
fn a_paused_pool_is_one_warning_for_all_its_nodes() {
    let mut scene = Scene::new([]);
    for candidate in &mut scene.candidates {
        candidate.is_paused = true;
    }
    assert_eq!(scene.found(), ["Warning PoolPaused Pool worker 2"]);
    assert!(scene.message().contains("resume it"));
    assert_eq!(scene.report().blocked, 0);
}

#[test]
fn kubelets_that_are_too_far_from_the_api_server_are_a_warning_for_their_pool() {
    for (kubelets, expected) in [
        (["v1.36.1", "v1.34.0"], None),
        (
            ["v1.36.1", "v1.33.9"],
            Some((1, "as many as Kubernetes supports")),
        ),
        (
            ["v1.33.9", "v1.31.0"],
            Some((2, "more than Kubernetes supports")),
        ),
        (
            ["v1.36.1", "v1.37.0"],
            Some((1, "newer than the API server")),
        ),
        (["", "unreadable"], None),
    ] {
        let mut scene = Scene::new([]);
        for (candidate, kubelet) in scene.candidates.iter_mut().zip(kubelets) {
            let state = NodeState::clone(&candidate.state);
            candidate.state = Arc::new(NodeState {
                kubelet: Some(kubelet.into()),
                ..state
            });
        }
        match expected {
            None => assert_eq!(scene.found(), [""; 0], "{kubelets:?}"),
            Some((count, text)) => {
                let found = format!("Warning VersionSkew Pool worker {count}");
                assert_eq!(scene.found(), [found]);
                assert!(scene.message().contains(text), "{}", scene.message());
            }
        }
    }
}
