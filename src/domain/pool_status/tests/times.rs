//! Transition times of a pool's conditions.

use super::*;

fn since(status: &PoolProgressInsightStatus) -> Vec<(String, i64)> {
    status
        .conditions
        .iter()
        .map(|condition| {
            let second = condition.last_transition_time.as_second() - at(0).as_second();
            (condition.type_.clone(), second)
        })
        .collect()
}

#[test]
fn an_unchanged_pool_keeps_its_status_and_times() {
    let pool = of(&[(2, Phase::Completed), (2, Phase::Pending)]);
    let first = project(&pool, None, 0, 1, at(0));
    assert_eq!(project(&pool, Some(&first), 0, 1, at(900)), first);
}

#[test]
fn a_condition_moves_its_time_only_when_its_status_changes() {
    let before = project(&of(&[(2, Phase::Updating)]), None, 0, 1, at(0));
    let half = of(&[(1, Phase::Updating), (1, Phase::Completed)]);
    let half = project(&half, Some(&before), 0, 1, at(60));
    assert!(since(&half).iter().all(|(_, second)| *second == 0));
    let done = project(&of(&[(2, Phase::Completed)]), Some(&half), 0, 1, at(120));
    assert_eq!(
        since(&done),
        [
            ("Updating".to_owned(), 120),
            ("Healthy".to_owned(), 0),
            ("Ready".to_owned(), 120),
            ("Reconciling".to_owned(), 120),
            ("Stalled".to_owned(), 0),
        ]
    );
}

#[test]
fn the_observed_generation_is_that_of_the_object() {
    let status = project(&of(&[(1, Phase::Completed)]), None, 0, 7, at(0));
    assert_eq!(status.observed_generation, 7);
}
