//! One test for each rule that holds for every updater that reports nothing.

use super::*;
use crate::api::types::ConditionStatus;
use crate::domain::fixtures::at;
use crate::providers::Options;
use crate::providers::profile::fixtures::{Cluster, Node, Seen, States};

mod targets;

const OLD: &str = "v1.31.2";
const NEW: &str = "v1.32.0";

const VERSION: Option<UpdateKind> = Some(UpdateKind::Version);
const REBOOT: Option<UpdateKind> = Some(UpdateKind::Reboot);
const PENDING: Seen = (Phase::Pending, VERSION, "Pending");
const DRAINING: Seen = (Phase::Draining, VERSION, "Draining");
const NOT_READY: Seen = (Phase::Pending, VERSION, "NotReady");

/// 30 minutes.
const LIMIT: i64 = 30 * 60;

/// A node that any tool updates in place.
fn plain(version: &str) -> Node {
    Node::new("a", version)
}

/// A node of a pool of GKE, whose nodes are replaced.
fn replaced(name: &str, version: &str) -> Node {
    Node::new(name, version).label("cloud.google.com/gke-nodepool", "blue")
}

/// A node of that pool with the new version, created at 100.
fn young() -> Node {
    replaced("young", NEW).created(100)
}

fn see(nodes: &[Node]) -> States {
    Cluster::first(NEW, nodes)
}

fn seen(node: Node) -> Seen {
    see(&[node]).seen("a")
}

#[test]
fn a_cordoned_node_that_does_not_report_restarts_for_half_an_hour_only() {
    let silent = |version: &str| plain(version).cordoned(10).silent(20);
    for (version, kind, after) in [
        (OLD, VERSION, NOT_READY),
        (NEW, REBOOT, (Phase::Completed, None, "Updated")),
    ] {
        let mut cluster = Cluster::new(NEW);
        let nodes = [silent(version)];
        for second in [30, 20 + LIMIT - 1] {
            let states = cluster.see(second, &nodes);
            assert_eq!(states.seen("a"), (Phase::Rebooting, kind, "Rebooting"));
            // Nothing else would evaluate a dead node again.
            assert_eq!(states.of("a").again_at, Some(at(20 + LIMIT)));
        }
        for second in [20 + LIMIT, 20 + 10 * LIMIT] {
            let states = cluster.see(second, &nodes);
            assert_eq!(states.seen("a"), after);
            assert_eq!(states.of("a").available.status, ConditionStatus::False);
            assert_eq!(states.of("a").again_at, None);
        }
    }
}

#[test]
fn the_limit_counts_from_when_the_node_became_unavailable_if_its_condition_has_no_time() {
    let mut cluster = Cluster::new(NEW);
    cluster.see(0, &[plain(OLD)]);
    let nodes = [plain(OLD).silent(0).without_ready_time().cordoned(10)];
    for second in [11, 500, 10 + LIMIT - 1] {
        let states = cluster.see(second, &nodes);
        assert_eq!(states.seen("a").0, Phase::Rebooting, "{second}");
        assert_eq!(states.of("a").again_at, Some(at(10 + LIMIT)));
    }
    for second in [10 + LIMIT, 10 + 2 * LIMIT] {
        assert_eq!(cluster.see(second, &nodes).seen("a"), NOT_READY, "{second}");
    }
}

#[test]
fn a_node_that_restarted_and_is_not_ready_is_restarting_for_half_an_hour_only() {
    let mut cluster = Cluster::new(NEW);
    cluster.see(0, &[plain(NEW)]);
    let back = [plain(NEW).boot("second").not_ready(20)];
    let states = cluster.see(21, &back);
    assert_eq!(states.seen("a"), (Phase::Rebooting, REBOOT, "Rebooted"));
    let states = cluster.see(20 + LIMIT, &back);
    assert_eq!(states.seen("a").0, Phase::Completed);
}

#[test]
fn an_outdated_node_that_only_stops_reporting_is_not_being_updated() {
    for node in [plain(OLD), replaced("a", OLD)] {
        let states = see(&[node.silent(990), young()]);
        assert_eq!(states.seen("a"), NOT_READY);
        assert!(states.message("a").contains("has not reported since"));
    }
}

#[test]
fn an_outdated_node_of_a_replaced_pool_that_stops_reporting_is_being_terminated() {
    let nodes = [replaced("a", OLD).cordoned(150).silent(160), young()];
    let mut cluster = Cluster::new(NEW);
    let states = cluster.see(170, &nodes);
    assert_eq!(states.seen("a"), (Phase::Updating, VERSION, "Terminating"));
    assert_eq!(cluster.see(160 + LIMIT, &nodes).seen("a"), NOT_READY);
}

#[test]
fn a_current_node_of_a_replaced_pool_that_is_cordoned_and_silent_is_no_update() {
    let states = see(&[replaced("a", NEW).cordoned(150).silent(160), young()]);
    assert_eq!(states.seen("a"), (Phase::Completed, None, "Updated"));
    // If it comes back with another boot, it has restarted.
    let mut cluster = Cluster::new(NEW);
    cluster.see(0, &[replaced("a", NEW)]);
    let back = replaced("a", NEW).cordoned(150).boot("second");
    let states = cluster.see(200, &[back]);
    assert_eq!(states.seen("a"), (Phase::Updating, REBOOT, "Rebooted"));
}

#[test]
fn a_new_node_is_not_updated_before_it_was_ready_for_the_first_time() {
    let joining = |node: Node| see(&[node, replaced("b", NEW)]).seen("a");
    let new = || replaced("a", NEW).created(900);
    let unknown = (Phase::Unknown, None, "Joining");
    assert_eq!(joining(new().not_ready(900)), unknown);
    assert_eq!(joining(new().not_ready(910)), unknown);
    // It was ready before.
    assert_eq!(joining(new().not_ready(911)).0, Phase::Completed);
    // A node that is updated in place does not join because of an update.
    let in_place = plain(NEW).created(900).not_ready(900);
    assert_eq!(seen(in_place).0, Phase::Completed);
}

#[test]
fn the_cordon_of_an_autoscaler_is_never_a_drain() {
    let by = |manager: &str| plain(OLD).cordoned_by(manager, 990);
    let states = see(&[by("cluster-autoscaler")]);
    assert_eq!(states.seen("a"), PENDING);
    assert!(
        states
            .message("a")
            .contains("cluster-autoscaler cordoned it")
    );
    assert!(states.of("a").cordoned_by.as_ref().unwrap().is_foreign);
    // A tool that runs kubectl looks like a user.
    for manager in ["kubectl", "my-updater", ""] {
        assert_eq!(see(&[by(manager)]).seen("a"), DRAINING, "{manager}");
    }
}

#[test]
fn a_cordon_that_is_older_than_the_rollout_is_no_drain() {
    // The first new node was created at 100.
    for (cordoned, expected) in [(50, PENDING), (150, DRAINING)] {
        let nodes = [
            replaced("a", OLD).cordoned(cordoned),
            replaced("b", OLD),
            young(),
        ];
        let states = see(&nodes);
        assert_eq!(states.seen("a"), expected);
        let is_foreign = states.of("a").cordoned_by.as_ref().unwrap().is_foreign;
        assert_eq!(is_foreign, expected == PENDING);
    }
    // In place: the node was up to date when a user cordoned it.
    let mut cluster = Cluster::new(OLD);
    let node = [plain(OLD).cordoned_by("kubectl", 10)];
    assert_eq!(cluster.see(20, &node).seen("a").0, Phase::Completed);
    let mut later = Cluster::new(NEW);
    later.see(0, &[plain(NEW)]);
    let states = later.see(500, &node);
    assert_eq!(states.seen("a"), PENDING);
    assert!(
        states
            .message("a")
            .contains("kubectl cordoned it before the update")
    );
    // It stays so.
    assert_eq!(later.see(600, &node).seen("a"), PENDING);
}

#[test]
fn a_node_that_was_outdated_when_it_was_first_seen_became_outdated_at_no_known_time() {
    // The operator starts in the middle: the cordon is older than what it knows.
    let mut cluster = Cluster::new(NEW);
    let nodes = [plain(OLD).silent(0).cordoned(10)];
    for second in [LIMIT, LIMIT + 60] {
        let states = cluster.see(second, &nodes);
        assert_eq!(states.seen("a"), NOT_READY);
        assert!(states.message("a").contains("has not reported since"));
    }
    assert_eq!(
        cluster
            .see(LIMIT + 90, &[plain(OLD).cordoned(10)])
            .seen("a"),
        DRAINING
    );
    // A rollout that begins later says more.
    let mut cluster = Cluster::new(NEW);
    let nodes = [replaced("a", OLD).cordoned(10), replaced("b", OLD)];
    assert_eq!(cluster.see(50, &nodes).seen("a"), PENDING);
    let [a, b] = nodes;
    let states = cluster.see(150, &[a, b, young()]);
    assert_eq!(states.seen("a"), PENDING);
    assert!(states.message("a").contains("cordoned before the update"));
}

#[test]
fn a_cordon_after_the_first_new_node_is_a_drain_even_if_the_operator_sees_both_at_once() {
    let mut cluster = Cluster::new("v1.31.2");
    let nodes = [replaced("a", OLD), replaced("b", OLD)];
    assert_eq!(cluster.see(0, &nodes).seen("a").0, Phase::Completed);
    let newer = replaced("young", "v1.31.9-gke.1").created(100);
    let nodes = [replaced("a", OLD).cordoned(120), replaced("b", OLD), newer];
    assert_eq!(cluster.see(500, &nodes).seen("a"), DRAINING);
}

#[test]
fn the_age_of_a_node_that_is_updated_in_place_says_nothing_about_the_rollout() {
    let member = |name: &str, version: &str| {
        Node::new(name, version).label("node-role.kubernetes.io/control-plane", "")
    };
    let mut cluster = Cluster::new(NEW);
    let cordoned = member("a", OLD).cordoned(10);
    cluster.see(5, &[member("a", NEW)]);
    let states = cluster.see(400, &[cordoned.clone(), member("b", NEW)]);
    assert_eq!(states.seen("a"), PENDING, "it was current until now");
    let states = see(&[cordoned, member("b", NEW).created(100)]);
    assert_eq!(
        states.seen("a"),
        DRAINING,
        "nothing is known of the time before"
    );
}

#[test]
fn a_drain_that_began_before_its_target_changed_goes_on() {
    let mut cluster = Cluster::new(NEW);
    cluster.see(0, &[plain(OLD)]);
    let nodes = [plain(OLD).cordoned(10)];
    assert_eq!(cluster.see(11, &nodes).seen("a"), DRAINING);
    assert_eq!(cluster.see(5000, &nodes).seen("a"), DRAINING);
    // It may stop and go on.
    let dead = [plain(OLD).cordoned(10).silent(5000)];
    for second in [5000 + LIMIT, 5060 + LIMIT] {
        let states = cluster.see(second, &dead);
        assert_eq!(states.seen("a"), NOT_READY);
        assert!(states.message("a").contains("has not reported since"));
    }
    assert_eq!(cluster.see(9000, &nodes).seen("a"), DRAINING);
}

/// What acts on a node and is no update: a taint or a label, and a word of its sentence.
type Acting = (fn(Node) -> Node, &'static str);

fn interruptions() -> Vec<Acting> {
    vec![
        (
            |node| node.taint("ToBeDeletedByClusterAutoscaler", "1790000000", "NoSchedule"),
            "autoscaler",
        ),
        (
            |node| node.taint("aws-node-termination-handler/spot-itn", "e", "NoSchedule"),
            "spot instance",
        ),
        (
            |node| {
                let key = "aws-node-termination-handler/scheduled-maintenance";
                node.taint(key, "e", "NoSchedule")
            },
            "AWS maintains",
        ),
        (
            |node| node.label("aws-node-termination-handler/action", "UncordonAfterReboot"),
            "AWS maintains",
        ),
        (
            |node| {
                let key = "aws-node-termination-handler/rebalance-recommendation";
                node.taint(key, "e", "NoSchedule")
            },
            "recommends",
        ),
        (
            |node| {
                let key = "aws-node-termination-handler/asg-lifecycle-termination";
                node.taint(key, "e", "NoSchedule")
            },
            "scaling group",
        ),
        (
            |node| {
                node.taint(
                    "cloud.google.com/impending-node-termination",
                    "",
                    "NoSchedule",
                )
            },
            "about to end",
        ),
        (
            |node| {
                node.taint(
                    "remediation.medik8s.io/self-node-remediation",
                    "",
                    "NoExecute",
                )
            },
            "restarted",
        ),
        (
            |node| {
                node.taint(
                    "node.kubernetes.io/out-of-service",
                    "nodeshutdown",
                    "NoExecute",
                )
            },
            "out of service",
        ),
        (
            |node| node.label("nvidia.com/gpu-driver-upgrade-state", "drain-required"),
            "driver",
        ),
    ]
}

#[test]
fn what_else_acts_on_a_node_is_named_and_is_no_update() {
    for (interrupt, word) in interruptions() {
        for node in [
            plain(OLD).cordoned(990),
            plain(OLD).cordoned(990).silent(995),
            plain(OLD).deleting(),
            plain(NEW).cordoned(990),
            plain(NEW).cordoned(990).silent(995),
            plain(NEW).deleting(),
        ] {
            let states = see(&[interrupt(node)]);
            assert!(!states.seen("a").0.is_in_progress(), "{word}");
            let message = states.message("a");
            assert!(message.contains(word), "{message}");
        }
    }
}

#[test]
fn a_candidate_of_the_autoscaler_still_takes_pods_and_is_drained_by_its_updater() {
    let candidate = plain(OLD).taint(
        "DeletionCandidateOfClusterAutoscaler",
        "1790000000",
        "PreferNoSchedule",
    );
    assert_eq!(seen(candidate.clone()), PENDING);
    assert_eq!(seen(candidate.cordoned(990)), DRAINING);
}

#[test]
fn the_end_of_a_machine_by_its_scaling_group_is_an_update_only_in_a_rollout() {
    let ended = |node: Node| {
        let key = "aws-node-termination-handler/asg-lifecycle-termination";
        node.taint(key, "e", "NoSchedule").cordoned(990)
    };
    let states = see(&[ended(replaced("a", OLD)), replaced("b", OLD), young()]);
    assert_eq!(states.seen("a"), DRAINING);
    let states = see(&[ended(replaced("a", OLD)), replaced("b", OLD)]);
    assert_eq!(states.seen("a"), PENDING, "only the API server is newer");
    let states = see(&[ended(replaced("a", NEW)), young()]);
    assert_eq!(states.seen("a").0, Phase::Completed);
}

#[test]
fn an_outdated_node_that_is_deleted_is_being_replaced_and_a_current_one_is_not() {
    let kind = Some(UpdateKind::Replacement);
    let reason = "BeingReplaced";
    let states = see(&[replaced("a", OLD).deleting(), young()]);
    assert_eq!(states.seen("a"), (Phase::Updating, kind, reason));
    assert_eq!(seen(plain(OLD).deleting()), (Phase::Draining, kind, reason));
    for node in [plain(NEW), replaced("a", NEW)] {
        assert_eq!(
            seen(node.deleting()),
            (Phase::Completed, None, "BeingDeleted")
        );
    }
}

#[test]
fn a_node_without_a_version_or_with_one_that_cannot_be_read_is_unknown() {
    for (version, reason) in [
        ("", "VersionUnknown"),
        ("latest", "VersionUnreadable"),
        ("v1.31", "VersionUnreadable"),
        ("v1.31.x", "VersionUnreadable"),
    ] {
        for node in [
            plain(version),
            replaced("a", version),
            plain(version).cordoned(990),
        ] {
            let states = see(&[node, young()]);
            assert_eq!(
                states.seen("a"),
                (Phase::Unknown, None, reason),
                "{version}"
            );
            assert!(states.message("a").contains(version));
        }
    }
    // A target of a user may be any text.
    let options = Options {
        target_version: Some("latest".to_owned()),
        ..Options::default()
    };
    let states = Cluster::with(NEW, &options).see(0, &[plain("latest")]);
    assert_eq!(states.seen("a").0, Phase::Completed);
}

#[test]
fn the_first_control_plane_node_that_is_updated_in_place_is_ahead_of_the_others_and_not_rolled_back()
 {
    let of_control_plane = |name: &str, version: &str| {
        Node::new(name, version).label("node-role.kubernetes.io/control-plane", "")
    };
    let first = |version: &str| of_control_plane("a", version);
    let others = [of_control_plane("b", OLD), of_control_plane("c", OLD)];
    let mut cluster = Cluster::new(NEW);
    let mut see = |second: i64, node: Node| {
        let nodes = [&[node], &others[..]].concat();
        cluster.see(second, &nodes).seen("a")
    };
    assert_eq!(see(0, first(OLD)), PENDING);
    assert_eq!(see(20, first(OLD).cordoned(20)), DRAINING);
    let silent = first(OLD).cordoned(20).silent(40);
    assert_eq!(see(41, silent), (Phase::Rebooting, VERSION, "Rebooting"));
    let back = first(NEW).cordoned(20).boot("second");
    assert_eq!(see(90, back), (Phase::Updating, VERSION, "Rebooted"));
    assert_eq!(see(99, first(NEW).boot("second")).0, Phase::Completed);
}
