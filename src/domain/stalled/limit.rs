//! How long a step may take before it is slow, from how long such steps usually take.
//!
//! A limit is taken when the step begins and stays as it is: a step that hangs must not move its own limit, nor may the
//! steps of other nodes. It depends on a quantile alone, and not on the longest step so far: what was observed of a
//! pool does not say which of its steps had hung, and one that did would raise the limit of those after it.
//!
//! The least limits are those of `docs/stalled.md`, where rollouts are simulated: with shorter ones a node that is
//! merely unlike those before it is a false alarm. So what is learned prolongs limits, and never shortens them.

use jiff::SignedDuration;

use super::{DRAIN, REBOOT, UPDATE};
use crate::domain::eta::{Calibration, Machine, Spread, Stage};

/// As many times as long as nine of ten steps.
const TIMES: f64 = 3.0;
/// Virtual machines are back within minutes, but not every machine that is said to be one is.
const VIRTUAL_REBOOT: SignedDuration = SignedDuration::from_mins(50);
/// However long such steps usually take, a human wants to know by then.
const LONGEST: SignedDuration = SignedDuration::from_hours(2);

/// What limits depend on besides durations.
#[derive(Debug, Clone, Copy)]
pub struct Platform<'a> {
    /// The provider of the node, by its name in the API.
    pub provider: &'a str,
    /// The class of the machines, if it is known.
    pub machine: Option<Machine>,
}

/// The limit of a step that begins now; `None` for a stage that is no step of a node.
///
/// `expected` is what [`Estimator::expected`](crate::domain::eta::Estimator::expected) says about the stage, and
/// `calibration` is that of the pool. The result is part of the node's
/// [`Outlook`](crate::domain::outlook::Outlook), which keeps the first one of a phase.
#[must_use]
pub fn learned(
    stage: Stage,
    expected: &Spread,
    calibration: Calibration,
    platform: Platform<'_>,
) -> Option<SignedDuration> {
    let least = least(stage, platform.machine)?;
    let seconds = TIMES * expected.latest(calibration);
    let limit = SignedDuration::try_from_secs_f64(seconds).unwrap_or(LONGEST);
    Some(limit.max(least).min(longest(stage, platform.provider)))
}

/// A step may take so long however short such steps usually are: another machine, a larger image, a database that
/// moves.
const fn least(stage: Stage, machine: Option<Machine>) -> Option<SignedDuration> {
    match stage {
        Stage::Start | Stage::Turn => None,
        Stage::Draining => Some(DRAIN),
        Stage::Updating => Some(UPDATE),
        Stage::Rebooting => match machine {
            Some(Machine::Virtual) => Some(VIRTUAL_REBOOT),
            Some(Machine::BareMetal) | None => Some(REBOOT),
        },
    }
}

/// Where the updater has given up, or ended the drain by force, nobody has to wait for longer; limits that users can
/// change do not count. The Machine Config Operator reports a failure itself, after an hour.
fn longest(stage: Stage, provider: &str) -> SignedDuration {
    match (stage, provider) {
        // It begins after a minute, and ends 15 later.
        (Stage::Draining, "EKS") => SignedDuration::from_mins(30),
        // It deletes the pods after an hour.
        (Stage::Draining, "GKE") => SignedDuration::from_mins(75),
        _ => LONGEST,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VIRTUAL: Platform<'_> = Platform {
        provider: "OpenShift",
        machine: Some(Machine::Virtual),
    };

    /// Minutes, for a stage of which nine of ten end within so many minutes.
    fn minutes(stage: Stage, nine_of_ten: f64, platform: Platform<'_>) -> i64 {
        let expected = Spread {
            median: 60.0,
            high: 60.0 * nine_of_ten,
        };
        let limit = learned(stage, &expected, Calibration::default(), platform);
        limit.unwrap().as_mins()
    }

    #[test]
    fn a_limit_is_three_times_as_long_as_nine_of_ten_steps_between_a_least_and_a_longest() {
        for (stage, least) in [
            (Stage::Draining, 60),
            (Stage::Updating, 30),
            (Stage::Rebooting, 50),
        ] {
            let of = |nine_of_ten| minutes(stage, nine_of_ten, VIRTUAL);
            let limits = [2.0, 25.0, 100.0, f64::INFINITY].map(of);
            assert_eq!(limits, [least, 75, 120, 120], "{stage:?}");
        }
    }

    #[test]
    fn a_machine_that_may_be_physical_gets_more_time_to_reboot() {
        let of = |machine| minutes(Stage::Rebooting, 2.0, Platform { machine, ..VIRTUAL });
        let machines = [Some(Machine::Virtual), Some(Machine::BareMetal), None];
        assert_eq!(machines.map(of), [50, 75, 75]);
    }

    #[test]
    fn where_the_updater_gives_up_nobody_waits_for_longer() {
        let of = |stage, provider| {
            let platform = Platform {
                provider,
                ..VIRTUAL
            };
            minutes(stage, 100.0, platform)
        };
        let drains = ["EKS", "GKE", "OpenShift", "kured"].map(|name| of(Stage::Draining, name));
        assert_eq!(drains, [30, 75, 120, 120]);
        assert_eq!(of(Stage::Updating, "EKS"), 120);
    }

    #[test]
    fn what_was_exceeded_more_often_than_expected_gets_more_time() {
        let expected = Spread {
            median: 600.0,
            high: 800.0,
        };
        let of = |factor| {
            let calibration = Calibration::with_factor(factor).unwrap();
            learned(Stage::Updating, &expected, calibration, VIRTUAL).unwrap()
        };
        assert!(of(2.0) > of(1.0));
    }

    #[test]
    fn what_is_no_step_of_a_node_has_no_limit() {
        let expected = Spread {
            median: 60.0,
            high: 90.0,
        };
        for stage in [Stage::Start, Stage::Turn] {
            let limit = learned(stage, &expected, Calibration::default(), VIRTUAL);
            assert_eq!(limit, None);
        }
    }
}
