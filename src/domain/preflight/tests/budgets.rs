//! Budgets that allow nothing.

use super::*;

fn with(mut budget: Value, change: impl FnOnce(&mut Value)) -> Value {
    change(&mut budget);
    budget
}

#[test]
fn a_budget_that_needs_all_its_pods_blocks_every_node_with_one() {
    for (expected, desired) in [(1, 1), (3, 3), (3, 4)] {
        let scene = Scene::new([pod("web-0", "a"), pod("web-1", "b")]);
        let scene = scene.with([budget("web", expected, desired, expected)]);
        assert_eq!(
            scene.found(),
            ["Blocker BudgetNeverAllows PodDisruptionBudget shop/web 2"]
        );
        assert!(scene.message().contains("scale up"));
    }
}

#[test]
fn a_budget_that_counts_no_controller_blocks() {
    let scene = Scene::new([bare("web-0", "a")]).with([budget("web", 0, 0, 1)]);
    assert_eq!(
        scene.found(),
        [
            "Blocker BudgetUnmanagedPods PodDisruptionBudget shop/web 1",
            "Warning UnmanagedPod Pod shop/web-0 1",
        ]
    );
}

#[test]
fn a_budget_that_cannot_be_calculated_blocks_and_says_why() {
    let failed = with(budget("web", 3, 2, 3), |budget| {
        budget["status"]["disruptionsAllowed"] = 0.into();
        budget["status"]["conditions"] = json!([{
            "type": "DisruptionAllowed", "status": "False", "reason": "SyncFailed",
            "message": "jobs.batch does not implement the scale subresource",
        }]);
    });
    let scene = Scene::new([pod("web-0", "a")]).with([failed]);
    assert_eq!(
        scene.found(),
        ["Blocker BudgetSyncFailed PodDisruptionBudget shop/web 1"]
    );
    assert!(
        scene
            .message()
            .contains("does not implement the scale subresource")
    );
}

#[test]
fn two_budgets_of_one_pod_block_whatever_they_allow() {
    let scene = Scene::new([pod("web-0", "a")]);
    let scene = scene.with([budget("one", 3, 1, 3), budget("two", 3, 1, 3)]);
    assert_eq!(
        scene.found(),
        ["Blocker MultipleBudgets PodDisruptionBudget shop/one 1"]
    );
    assert!(scene.message().contains("one and two"));
}

#[test]
fn a_budget_of_another_namespace_is_none_of_the_pod() {
    let elsewhere = with(budget("web", 1, 1, 1), |budget| {
        budget["metadata"]["namespace"] = "other".into();
    });
    let scene = Scene::new([pod("web-0", "a")]).with([elsewhere]);
    assert_eq!(scene.found(), [""; 0]);
}

#[test]
fn pods_that_stay_unready_block_unless_the_budget_lets_them_go() {
    let unhealthy = || budget("web", 2, 1, 0);
    let scene = Scene::new([unready("web-0", "a", -301)]).with([unhealthy()]);
    assert_eq!(
        scene.found(),
        ["Blocker BudgetUnhealthy PodDisruptionBudget shop/web 1"]
    );
    assert!(scene.message().contains("AlwaysAllow"));
    let lenient = with(unhealthy(), |budget| {
        budget["spec"]["unhealthyPodEvictionPolicy"] = "AlwaysAllow".into();
    });
    let scene = Scene::new([unready("web-0", "a", -301)]).with([lenient]);
    assert_eq!(scene.found(), [""; 0]);
}

#[test]
fn the_only_replica_that_stays_unready_blocks_though_one_may_be_unavailable() {
    let scene = Scene::new([unready("web-0", "a", -301)]).with([budget("web", 1, 0, 0)]);
    assert_eq!(
        scene.found(),
        ["Blocker BudgetUnhealthy PodDisruptionBudget shop/web 1"]
    );
}

#[test]
fn ready_pods_of_a_budget_are_blocked_by_one_that_stays_unready_on_any_node() {
    let pods = [pod("web-0", "a"), unready("web-1", "elsewhere", -301)];
    let scene = Scene::new(pods).with([budget("web", 2, 1, 0)]);
    assert_eq!(
        scene.found(),
        ["Blocker BudgetUnhealthy PodDisruptionBudget shop/web 1"]
    );
}

#[test]
fn a_budget_that_waits_for_a_rollout_is_a_warning() {
    let waiting = "Warning BudgetExhausted PodDisruptionBudget shop/web 1";
    // A pod is about to become ready.
    for pod in [pod("web-0", "a"), unready("web-0", "a", -10)] {
        let scene = Scene::new([pod]).with([budget("web", 4, 3, 2)]);
        assert_eq!(scene.found(), [waiting]);
        assert!(scene.message().contains("waits until another pod is ready"));
    }
    // As many are ready as there have to be.
    let scene = Scene::new([pod("web-0", "a")]).with([budget("web", 4, 3, 3)]);
    assert_eq!(scene.found(), [waiting]);
    assert_eq!(scene.report().blocked, 0);
}

#[test]
fn a_budget_that_the_disruption_controller_has_not_seen_is_a_warning() {
    let changed = with(budget("web", 3, 2, 3), |budget| {
        budget["metadata"]["generation"] = 2.into();
    });
    let scene = Scene::new([pod("web-0", "a")]).with([changed]);
    assert_eq!(
        scene.found(),
        ["Warning BudgetStale PodDisruptionBudget shop/web 1"]
    );
}

#[test]
fn budgets_of_storage_and_guards_are_warnings_because_their_operator_lifts_them() {
    let guarded = Scene::new([pod("web-0", "a")]).with([budget("etcd-guard-pdb", 3, 3, 3)]);
    assert_eq!(
        guarded.found(),
        ["Warning BudgetNeverAllows PodDisruptionBudget shop/etcd-guard-pdb 1"]
    );
    assert!(guarded.message().contains("its operator allows it"));
    // Nobody lifts these.
    let second = budget("other", 3, 1, 3);
    let twice = guarded.with([second]);
    assert_eq!(
        twice.found(),
        ["Blocker MultipleBudgets PodDisruptionBudget shop/etcd-guard-pdb 1"]
    );
}

#[test]
fn an_operator_that_moves_its_pods_is_not_held_up_by_their_budgets() {
    let mut machine = owned_by(pod("vm", "a"), "VirtualMachineInstance", "vm");
    machine["metadata"]["labels"]["kubevirt.io"] = "virt-launcher".into();
    let scene = Scene::new([machine]).with([budget("web", 1, 1, 1)]);
    assert_eq!(scene.found(), [""; 0]);

    let mut primary = owned_by(pod("db-1", "a"), "Cluster", "db");
    primary["metadata"]["labels"]["cnpg.io/cluster"] = "db".into();
    let mut standby = primary.clone();
    standby["metadata"]["name"] = "db-2".into();
    standby["spec"]["nodeName"] = "elsewhere".into();
    primary["metadata"]["labels"]["cnpg.io/instanceRole"] = "primary".into();
    let alone = Scene::new([primary.clone()]).with([budget("db-primary", 1, 1, 1)]);
    assert_eq!(
        alone.found(),
        ["Blocker BudgetNeverAllows PodDisruptionBudget shop/db-primary 1"]
    );
    let scene = Scene::new([primary, standby]).with([budget("db-primary", 1, 1, 1)]);
    assert_eq!(
        scene.found(),
        [""; 0],
        "the other instance becomes the primary"
    );
}
