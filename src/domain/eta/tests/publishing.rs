//! Rules of publishing.

use super::*;

fn new(median: i64) -> Estimate {
    Estimate {
        median: at(median),
        latest: at(median + 600),
        basis: EstimateBasis::PoolHistory,
        samples: 5,
        confidence: Confidence::Medium,
        without: 0,
    }
}

fn published(median: i64) -> Published {
    Published {
        estimate: new(median),
        is_extended: false,
    }
}

fn quiet(estimate: &Estimate) -> Evaluated<'_> {
    Evaluated {
        estimate,
        progressed: at(-300),
        is_phase_change: false,
    }
}

#[test]
fn the_first_estimate_and_that_of_a_phase_change_are_published() {
    let estimate = new(1_000);
    let as_it_is = Decision::Publish(published(1_000));
    let first = should_publish(None, quiet(&estimate), None, at(0));
    assert_eq!(first, as_it_is);
    let evaluated = Evaluated {
        is_phase_change: true,
        ..quiet(&estimate)
    };
    let changed = should_publish(Some(&published(1_001)), evaluated, None, at(0));
    assert_eq!(changed, as_it_is);
}

#[test]
fn small_differences_are_not_published() {
    for (old, difference) in [(300, 60), (300, -60), (10_000, 1_499), (10_000, -1_499)] {
        let estimate = new(old + difference);
        let decision = should_publish(Some(&published(old)), quiet(&estimate), None, at(0));
        assert_eq!(decision, Decision::Keep(None), "{old} {difference}");
    }
}

#[test]
fn a_large_difference_is_published_when_it_still_holds_after_five_minutes() {
    let (old, estimate) = (published(10_000), new(12_000));
    let Decision::Keep(candidate) = should_publish(Some(&old), quiet(&estimate), None, at(0))
    else {
        panic!("published at once");
    };
    assert!(candidate.is_some());
    let soon = should_publish(Some(&old), quiet(&estimate), candidate, at(299));
    assert_eq!(soon, Decision::Keep(candidate));
    let gone = should_publish(Some(&old), quiet(&old.estimate), candidate, at(299));
    assert_eq!(gone, Decision::Keep(None), "it no longer holds");
    let later = should_publish(Some(&old), quiet(&estimate), candidate, at(300));
    assert_eq!(later, Decision::Publish(published(12_000)));
}

#[test]
fn a_node_that_becomes_blocked_is_published_at_once() {
    let estimate = Estimate {
        without: 1,
        ..new(1_000)
    };
    let decision = should_publish(Some(&published(1_000)), quiet(&estimate), None, at(0));
    assert!(matches!(decision, Decision::Publish(published) if published.estimate == estimate));
}

#[test]
fn a_rollout_without_progress_takes_ever_fewer_writes() {
    let mut current = published(60);
    let mut candidate = None;
    let mut writes = 0;
    for now in (0..86_400).step_by(30) {
        // The model always believes in the next two minutes.
        let estimate = new(now + 120);
        let evaluated = Evaluated {
            progressed: at(0),
            ..quiet(&estimate)
        };
        match should_publish(Some(&current), evaluated, candidate, at(now)) {
            Decision::Publish(published) => {
                assert!(published.estimate.median > at(now));
                assert!(published.estimate.latest >= published.estimate.median);
                (current, candidate) = (published, None);
                writes += 1;
            }
            Decision::Keep(next) => candidate = next,
        }
    }
    assert!((8..=22).contains(&writes), "{writes} writes in a day");
}
