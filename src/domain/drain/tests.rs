//! What holds a drain up: one test for each cause, and for their order.

use jiff::{SignedDuration, Timestamp};

use super::assess::InProgress;
use super::budget::Budget;
use super::fixtures::{PodBuilder, budget, running};
use super::pod::{DoNotDisrupt, DrainLabel, Operator, Pod, Stage};
use super::*;
use crate::domain::fixtures::{NodeBuilder, at, node};
use crate::domain::labels::Labels;

mod budget;
mod cases;
mod pod;
mod steady;

/// A drain that began at 0.
struct Scene {
    node: NodeBuilder,
    drainer: Drainer,
    pods: Vec<Pod>,
    budgets: Option<Vec<Budget>>,
    past: Option<Drain>,
}

impl Scene {
    fn new(pods: impl IntoIterator<Item = Pod>) -> Self {
        Self {
            node: node("a"),
            drainer: Drainer::Kubectl,
            pods: pods.into_iter().collect(),
            budgets: Some(Vec::new()),
            past: None,
        }
    }

    fn with(self, budgets: impl IntoIterator<Item = Budget>) -> Self {
        Self {
            budgets: Some(budgets.into_iter().collect()),
            ..self
        }
    }

    fn by(self, drainer: Drainer) -> Self {
        Self { drainer, ..self }
    }

    /// What holds it up at that second, with what was known before; and when to look again.
    fn at(&mut self, second: i64) -> (&Drain, Option<Timestamp>) {
        let facts = self.node.clone().build();
        let drain = InProgress {
            node: &facts,
            drainer: self.drainer,
            start: at(0),
            past: self.past.as_ref(),
        };
        let pods: Vec<&Pod> = self.pods.iter().collect();
        let budgets: Option<Vec<&Budget>> = self
            .budgets
            .as_ref()
            .map(|budgets| budgets.iter().collect());
        let (drain, again) = assess(drain, &pods, budgets.as_deref(), at(second));
        (self.past.insert(drain), again)
    }

    /// The reasons at that second.
    fn reasons(&mut self, second: i64) -> Vec<Reason> {
        let (drain, _) = self.at(second);
        drain
            .blockers
            .iter()
            .map(|blocker| blocker.key.reason)
            .collect()
    }

    /// The only blocker at that second.
    fn only(&mut self, second: i64) -> Blocker {
        let (drain, _) = self.at(second);
        let [blocker] = &*drain.blockers else {
            panic!("{drain:#?}");
        };
        blocker.clone()
    }
}

fn one(pod: Pod) -> Scene {
    Scene::new([pod])
}

#[test]
fn pods_of_daemon_sets_and_what_the_drainer_leaves_alone_are_not_waited_for() {
    let finished = |pod: Pod| Pod {
        stage: Stage::Finished,
        ..pod
    };
    let daemon = running("agent").of("DaemonSet", "agent").build();
    let skipped = running("s")
        .with(|pod| pod.drain = DrainLabel::Skip)
        .build();
    let tolerant = running("t")
        .with(|pod| pod.tolerates.disruption = true)
        .build();
    let past = running("p").ending(at(-61)).build();
    let of_the_system = running("dns")
        .with(|pod| pod.namespace = "kube-system".into())
        .build();
    let own = running("apply")
        .with(|pod| pod.labels = Labels::new([("upgrade.cattle.io/controller", "suc")]).into())
        .build();
    for (drainer, pod, must_go) in [
        (Drainer::Kubectl, running("web").build(), true),
        (Drainer::Kubectl, daemon.clone(), false),
        (Drainer::Kubectl, finished(daemon.clone()), true),
        (Drainer::Kubectl, skipped.clone(), true),
        (Drainer::ClusterApi, skipped, false),
        (Drainer::ClusterApi, finished(daemon.clone()), false),
        (Drainer::Talos, running("bare").bare().build(), false),
        (Drainer::Talos, running("web").build(), true),
        (Drainer::Karpenter, daemon, true),
        (Drainer::Karpenter, finished(running("job").build()), false),
        (Drainer::Karpenter, tolerant, false),
        (Drainer::Karpenter, past, false),
        (Drainer::Flatcar, running("web").build(), true),
        (Drainer::Flatcar, of_the_system, false),
        (plan_drain(true), own, false),
        (plan_drain(true), running("bare").bare().build(), true),
    ] {
        assert_eq!(drainer.must_go(&pod, at(0)), must_go, "{drainer:?} {pod:?}");
    }
}

#[test]
fn a_kubelet_that_does_not_report_cannot_confirm_the_end_of_its_pods() {
    let mut scene = Scene::new(["a", "b"].map(|name| running(name).ending(at(10)).build()));
    scene.node = scene.node.not_ready(30);
    let blocker = scene.only(90);
    assert_eq!(blocker.key.reason, Reason::NodeUnreachable);
    assert_eq!((&*blocker.key.kind, &*blocker.key.name), ("Node", "a"));
    assert_eq!(blocker.count, 2);
    assert!(
        blocker.message.contains("out-of-service"),
        "{}",
        blocker.message
    );
}

#[test]
fn a_pod_that_has_ended_is_kept_by_its_finalizer() {
    let ended = |finalizer: &str| {
        running("job")
            .stage(Stage::Finished)
            .ending(at(0))
            .with(|pod| {
                pod.finalizer = Some(finalizer.into());
                pod.deletion = pod.deletion.map(|deletion| super::pod::Deletion {
                    is_done: true,
                    ..deletion
                });
            })
    };
    let blocker = one(ended("example.com/backup").build()).only(70);
    assert_eq!(blocker.key.reason, Reason::FinalizerHolds);
    assert!(
        blocker.message.contains("example.com/backup"),
        "{}",
        blocker.message
    );
    // The controller of Jobs takes its own one off.
    let mut scene = one(ended("batch.kubernetes.io/job-tracking").build());
    assert_eq!(scene.reasons(70), []);
    assert_eq!(scene.reasons(189), []);
    assert_eq!(scene.reasons(190), [Reason::FinalizerHolds]);
    // The kubelet is not done with it.
    let running = ended("example.com/backup").with(|pod| {
        pod.stage = Stage::Running;
    });
    assert_eq!(
        one(running.build()).reasons(70),
        [Reason::TerminatingPastGrace]
    );
}

#[test]
fn a_pod_may_take_its_grace_and_not_more() {
    let reasons = |ends: i64| one(running("web").ending(at(ends)).build()).reasons(100);
    assert_eq!(reasons(69), [Reason::TerminatingPastGrace]);
    assert_eq!(reasons(70), []);
    assert_eq!(reasons(220), []);
    assert_eq!(reasons(221), [Reason::TerminatingInGrace]);
}

#[test]
fn a_finished_pod_of_a_daemon_set_that_cannot_end_holds_the_drain_up_and_a_guard_of_others_does_not()
 {
    let agent = running("agent-x1")
        .of("DaemonSet", "agent")
        .stage(Stage::Finished)
        .ending(at(-10_800));
    let guard = Budget {
        namespace: "etcd".into(),
        ..budget("guard-pdb", 3, 2, 2)
    };
    let blocker = one(agent.build()).with([guard]).only(3_600);
    assert_eq!(blocker.key.reason, Reason::TerminatingPastGrace);
    assert_eq!(
        (&*blocker.key.kind, &*blocker.key.name),
        ("DaemonSet", "agent")
    );
}

#[test]
fn a_mark_counts_only_for_the_updater_that_reads_it() {
    let marked = |mark| running("web").marked(mark).build();
    let reasons = |pod: Pod, drainer| one(pod).by(drainer).reasons(90);
    let always = marked(DoNotDisrupt::Always);
    assert_eq!(
        reasons(always.clone(), Drainer::Karpenter),
        [Reason::DoNotDisrupt]
    );
    assert_eq!(reasons(always, Drainer::Kubectl), []);
    let until = |second| marked(DoNotDisrupt::Until(at(second)));
    assert_eq!(
        reasons(until(91), Drainer::Karpenter),
        [Reason::DoNotDisrupt]
    );
    assert_eq!(reasons(until(90), Drainer::Karpenter), []);
    let waits = running("job")
        .with(|pod| pod.drain = DrainLabel::WaitCompleted)
        .build();
    assert_eq!(
        reasons(waits.clone(), Drainer::ClusterApi),
        [Reason::WaitsForCompletion]
    );
    assert_eq!(reasons(waits, Drainer::Karpenter), []);
}

/// The drain of a Plan that takes pods without a controller and local data, or neither.
fn plan_drain(takes_all: bool) -> Drainer {
    Drainer::SystemUpgrade {
        is_forced: takes_all,
        loses_local_data: takes_all,
    }
}

#[test]
fn a_plan_drains_nothing_while_it_may_not_lose_one_of_the_pods() {
    let bare = || running("bare").bare();
    let with_data = || running("cache").with(|pod| pod.has_empty_dir = true);
    let reasons = |pod: PodBuilder, drainer| one(pod.build()).by(drainer).reasons(60);
    assert_eq!(reasons(bare(), plan_drain(false)), [Reason::UnmanagedPod]);
    assert_eq!(
        reasons(with_data(), plan_drain(false)),
        [Reason::LocalStorage]
    );
    assert_eq!(reasons(running("web"), plan_drain(false)), []);
    for drainer in [plan_drain(true), Drainer::Kubectl] {
        assert_eq!(reasons(bare(), drainer), []);
        assert_eq!(reasons(with_data(), drainer), []);
    }
}

#[test]
fn the_machine_config_operator_tries_only_every_five_minutes_after_ten() {
    let scene = || one(running("web").build()).by(Drainer::MachineConfigOperator);
    assert_eq!(scene().reasons(600), []);
    assert_eq!(one(running("web").build()).reasons(601), []);
    let mut scene = scene();
    let blocker = scene.only(601);
    assert_eq!(blocker.key.reason, Reason::RetryWait);
    assert!(blocker.key.reason.is_inferred());
    assert_eq!(scene.at(602).1, Some(at(901)), "the next turning point");
    // It has had its turn.
    assert_eq!(scene.reasons(955), [Reason::RetryWait]);
    assert_eq!(scene.reasons(961), [Reason::Unknown]);
}

#[test]
fn an_operator_has_twenty_minutes_to_move_its_pod() {
    let primary = running("db-1").operator(Operator::CloudNativePg).build();
    let mut scene = one(primary).with([budget("db", 1, 1, 1)]);
    assert_eq!(scene.reasons(1_195), [Reason::WaitsForOperator]);
    assert_eq!(scene.reasons(1_200), [Reason::BudgetNeverAllows]);
    let machine = running("vm").operator(Operator::KubeVirt).build();
    assert_eq!(one(machine).reasons(90), [Reason::WaitsForMigration]);
}

#[test]
fn a_pod_that_does_not_run_needs_no_budget_and_is_to_be_deleted() {
    for stage in [Stage::Finished, Stage::Pending] {
        let scene = || one(running("web").stage(stage).build()).with([budget("web", 1, 1, 1)]);
        assert_eq!(scene().reasons(180), []);
        assert_eq!(scene().reasons(181), [Reason::NotDeleted]);
    }
}

#[test]
fn a_pod_that_tolerates_the_cordon_comes_back() {
    let returned = running("web").with(|pod| {
        pod.created = Some(at(30));
        pod.tolerates.cordon = true;
    });
    let blocker = one(returned.clone().build()).only(90);
    assert_eq!(blocker.key.reason, Reason::ReturnsToNode);
    let before = returned.with(|pod| pod.created = Some(at(-1)));
    assert_eq!(one(before.build()).reasons(90), []);
}

#[test]
fn an_eviction_that_nothing_speaks_against_counts_as_denied_once_other_pods_have_gone() {
    let two = || Scene::new([running("stays").build(), running("goes").build()]);
    let mut scene = two();
    assert_eq!(scene.reasons(70), []);
    assert_eq!(scene.reasons(400), [], "nothing has gone yet");
    scene.pods.pop();
    assert_eq!(scene.reasons(410), []);
    assert_eq!(scene.reasons(469), []);
    assert_eq!(scene.reasons(470), [Reason::EvictionDenied]);
    let blocker = scene.only(471);
    assert!(blocker.key.reason.is_inferred());
    // The Machine Config Operator may try only every five minutes.
    let mut scene = two().by(Drainer::MachineConfigOperator);
    scene.reasons(70);
    scene.pods.pop();
    assert_eq!(scene.reasons(410), []);
    assert_eq!(scene.reasons(765), [Reason::RetryWait]);
    assert_eq!(scene.reasons(770), [Reason::EvictionDenied]);
}

#[test]
fn without_budgets_nothing_is_concluded_about_evictions() {
    let mut scene = Scene::new([running("stays").build(), running("goes").build()]);
    scene.budgets = None;
    scene.reasons(70);
    scene.pods.pop();
    assert_eq!(scene.reasons(410), []);
    assert_eq!(scene.reasons(600), []);
}

#[test]
fn a_drain_without_a_visible_cause_says_so_after_a_quarter_of_an_hour() {
    let scene = || one(running("web").build());
    assert_eq!(scene().reasons(900), []);
    let blocker = scene().only(901);
    assert_eq!(blocker.key.reason, Reason::Unknown);
    assert_eq!(blocker.count, 1);
    assert_eq!(Scene::new([]).reasons(901), []);
}

#[test]
fn what_needs_a_human_comes_first_then_what_has_held_for_longest_and_five_are_named() {
    let own = |name: &str| running(name).of("ReplicaSet", name);
    let pods = [
        own("grace").ending(at(1_000)),
        own("late").ending(at(0)),
        own("later").ending(at(10)),
        running("web"),
        own("pending").stage(Stage::Pending),
        own("finished").stage(Stage::Finished),
        own("grace-too").ending(at(1_000)),
    ];
    let mut scene = Scene::new(pods.map(super::fixtures::PodBuilder::build));
    scene = scene.with([budget("web", 1, 1, 1)]);
    scene.budgets = Some(vec![Budget {
        selector: crate::domain::labels::Selector::standard(None).unwrap(),
        ..budget("web", 1, 1, 1)
    }]);
    scene.at(35);
    scene = scene.with([budget("web", 1, 1, 1)]);
    for pod in &mut scene.pods {
        let is_web = &*pod.name == "web";
        pod.labels = Labels::new([("app", if is_web { "web" } else { "x" })]).into();
    }
    let (drain, _) = scene.at(200);
    let named: Vec<(Reason, &str)> = drain
        .blockers
        .iter()
        .map(|blocker| (blocker.key.reason, &*blocker.key.name))
        .collect();
    assert_eq!(
        named,
        [
            (Reason::BudgetNeverAllows, "web"),
            (Reason::TerminatingPastGrace, "late"),
            (Reason::TerminatingPastGrace, "later"),
            (Reason::NotDeleted, "finished"),
            (Reason::NotDeleted, "pending"),
        ]
    );
    assert_eq!((drain.omitted, drain.pods_left), (2, Some(7)));
}

#[test]
fn pods_with_the_same_cause_are_one_blocker_that_names_three_of_them() {
    let pods = ["a", "b", "c", "d"].map(|name| running(name).build());
    let blocker = Scene::new(pods).with([budget("web", 4, 4, 4)]).only(90);
    let pods: Vec<&str> = blocker.pods.iter().map(|pod| &**pod).collect();
    assert_eq!((pods, blocker.count), (vec!["a", "b", "c"], 4));
}

#[test]
fn what_the_insight_shows_is_what_a_new_process_goes_on_with() {
    let mut scene = one(running("web").build()).with([budget("web", 1, 1, 1)]);
    let (before, _) = scene.at(90);
    let reported = before.report(at(0));
    assert_eq!(reported.pods_left, Some(1));
    assert_eq!(reported.blockers[0].reason, "BudgetNeverAllows");
    assert_eq!(reported.blockers[0].namespace.as_deref(), Some("shop"));
    scene.past = Some(Drain::reported(&reported));
    let (after, _) = scene.at(500);
    assert_eq!(after.report(at(0)), reported);
}

#[test]
fn every_message_is_a_line_of_an_insight_and_every_reason_has_its_name() {
    for reason in Reason::ALL {
        assert_eq!(Reason::named(reason.as_str()), Some(reason));
    }
    assert_eq!(Reason::named("Other"), None);
    let long = "x".repeat(63);
    let pod = running(&long).with(|pod| {
        pod.namespace = long.as_str().into();
        pod.finalizer = Some(long.as_str().into());
    });
    let blocker = one(pod.ending(at(0)).build()).only(90);
    assert!(
        blocker.message.chars().count() <= 200,
        "{}",
        blocker.message
    );
}

/// How long after that second the drain is looked at again.
fn after(scene: &mut Scene, second: i64) -> SignedDuration {
    let (_, again) = scene.at(second);
    again.unwrap().duration_since(at(second))
}

#[test]
fn a_drain_is_looked_at_again_when_another_cause_may_apply() {
    let mut scene = one(running("web").build());
    assert_eq!(after(&mut scene, 90), SignedDuration::from_secs(91));
    assert_eq!(after(&mut scene, 190), SignedDuration::from_secs(711));
    let mut scene = one(running("web").build()).by(Drainer::MachineConfigOperator);
    assert_eq!(after(&mut scene, 190), SignedDuration::from_secs(411));
}

#[test]
fn a_pod_is_looked_at_again_when_its_grace_or_its_mark_ends() {
    let ending = |second| one(running("web").ending(at(second)).build());
    let until = |second| {
        let mark = DoNotDisrupt::Until(at(second));
        one(running("web").marked(mark).build()).by(Drainer::Karpenter)
    };
    let reason = |drain: &Drain| drain.blockers.first().map(|blocker| blocker.key.reason);
    for (mut scene, again, before, after) in [
        (ending(70), 101, None, Some(Reason::TerminatingPastGrace)),
        (ending(210), 91, Some(Reason::TerminatingInGrace), None),
        (until(80), 81, Some(Reason::DoNotDisrupt), None),
    ] {
        let (drain, when) = scene.at(60);
        assert_eq!((reason(drain), when), (before, Some(at(again))));
        assert_eq!(reason(scene.at(again).0), after);
    }
    let mut scene = ending(10).by(Drainer::Karpenter);
    assert_eq!(scene.at(60).1, Some(at(71)), "Karpenter waits no longer");
    assert_eq!(scene.at(71).0.pods_left, Some(0));
}
