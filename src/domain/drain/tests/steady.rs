//! How seldom what is shown changes.

use super::*;

const MANY: usize = 10;

/// A drain of ten pods, of which this many are left, and the budget of all of them.
fn left(count: usize) -> (Vec<Pod>, Vec<Budget>) {
    let pods = (0..count).map(|index| running(&format!("p{index}")).build());
    (pods.collect(), vec![budget("web", 10, 10, 10)])
}

fn shown(drain: &Drain) -> (Option<usize>, usize) {
    let counts = drain.blockers.iter().map(|blocker| blocker.count);
    (drain.pods_left, counts.sum())
}

#[test]
fn numbers_alone_are_shown_every_thirty_seconds_and_when_half_or_all_pods_have_gone() {
    let (pods, budgets) = left(MANY);
    let mut scene = Scene::new(pods).with(budgets);
    assert_eq!(shown(scene.at(60).0), (Some(10), 10));
    scene.pods.truncate(8);
    let (drain, again) = scene.at(61);
    assert_eq!(shown(drain), (Some(10), 10));
    assert_eq!(
        again,
        Some(at(90)),
        "so that the last number is shown as well"
    );
    scene.pods.truncate(7);
    assert_eq!(shown(scene.at(89).0), (Some(10), 10));
    assert_eq!(shown(scene.at(90).0), (Some(7), 7));
    scene.pods.truncate(5);
    assert_eq!(shown(scene.at(96).0), (Some(5), 5), "half");
    scene.pods.clear();
    assert_eq!(shown(scene.at(97).0), (Some(5), 5), "too soon");
    assert_eq!(shown(scene.at(101).0), (Some(0), 0));
}

#[test]
fn what_holds_it_up_is_shown_at_once_unless_that_changed_less_than_five_seconds_ago() {
    let (pods, budgets) = left(MANY);
    let mut scene = Scene::new(pods);
    scene.at(60);
    scene.budgets = Some(budgets.clone());
    assert_eq!(scene.reasons(62), [], "less than five seconds ago");
    let (_, again) = scene.at(62);
    assert_eq!(again, Some(at(65)));
    assert_eq!(scene.reasons(65), [Reason::BudgetNeverAllows]);
    scene.budgets = Some(Vec::new());
    assert_eq!(scene.reasons(71), []);
    scene.budgets = Some(budgets);
    assert_eq!(scene.reasons(300), [Reason::BudgetNeverAllows]);
}

#[test]
fn what_was_shown_before_a_restart_is_replaced_at_once() {
    let (pods, budgets) = left(MANY);
    let mut scene = Scene::new(pods).with(budgets);
    let before = scene.at(60).0.report(at(0));
    scene.past = Some(Drain::reported(&before));
    scene.pods.truncate(9);
    assert_eq!(shown(scene.at(61).0), (Some(9), 9));
}

#[test]
fn a_cause_that_comes_and_goes_is_gone_in_time_although_nothing_else_changes() {
    let (pods, _) = left(1);
    let mut scene = Scene::new(pods).with([budget("web", 3, 2, 2)]);
    assert_eq!(scene.reasons(200), [Reason::BudgetExhausted]);
    scene.budgets = Some(vec![budget("web", 3, 2, 3)]);
    assert_eq!(scene.reasons(201), [Reason::BudgetExhausted]);
    assert_eq!(scene.reasons(215), [Reason::BudgetExhausted]);
    assert_eq!(scene.reasons(222), []);
}
