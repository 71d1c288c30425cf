//! Adds what holds a drain up to the evaluation of a node that is being drained.

use jiff::Timestamp;

use super::Subject;
use crate::api::types::Phase;
use crate::domain::drain::assess::InProgress;
use crate::domain::drain::budget::{Budget, SELECTS, keys_of};
use crate::domain::drain::pod::Pod;
use crate::domain::drain::{Drain, Drainer, assess};
use crate::domain::fact::Kind;
use crate::domain::facts::{Availability, Unavailable, View};
use crate::domain::state::Evaluation;

/// The kinds that show what holds a drain up.
pub(super) fn kinds() -> Vec<Kind> {
    vec![Kind::of::<Pod>(), Kind::of::<Budget>()]
}

/// The evaluation, with what holds the drain up if there is one for longer than most.
pub(super) fn complete(
    evaluation: Evaluation,
    drainer: Drainer,
    node: &Subject<'_>,
    view: &View<'_>,
) -> Evaluation {
    if evaluation.phase != Phase::Draining || !view.serves::<Pod>() {
        return evaluation;
    }
    let past = node.past.filter(|past| past.phase == Phase::Draining);
    let drain = InProgress {
        node: node.facts,
        drainer,
        start: past.map_or(node.now, |past| past.phase_start),
        past: past.and_then(|past| past.drain.as_deref()),
    };
    if node.now < drain.read_from() {
        return again(evaluation, Some(drain.read_from()));
    }
    let (pods, budgets, missing) = match read(drain, node, view) {
        Ok(Some(read)) => read,
        // Nothing is known yet: what the insight shows stays.
        Ok(None) => {
            return match drain.past {
                Some(past) => with(evaluation, past.clone()),
                None => evaluation,
            };
        }
        Err(error) => {
            return Evaluation {
                updating: evaluation.updating.and(error),
                ..evaluation
            };
        }
    };
    if node.now < drain.gate() {
        return again(evaluation, Some(drain.gate()));
    }
    let (found, at) = assess(drain, &pods, budgets.as_deref(), node.now);
    let mut evaluation = again(with(evaluation, found), at);
    if let Some(missing) = missing {
        evaluation.updating = evaluation.updating.and(missing);
    }
    evaluation
}

/// Pods, their budgets if they can be read, and why not.
type Read<'a> = (Vec<&'a Pod>, Option<Vec<&'a Budget>>, Option<Unavailable>);

/// The pods of the node, and the budgets that may be theirs; `None` until both are known.
fn read<'a>(
    drain: InProgress<'_>,
    node: &Subject<'_>,
    view: &View<'a>,
) -> Result<Option<Read<'a>>, Unavailable> {
    let Some(pods) = view.on_node::<Pod>(&node.facts.name)? else {
        return Ok(None);
    };
    if !view.serves::<Budget>() {
        return Ok(Some((pods, None, None)));
    }
    let is_left = |pod: &&&Pod| drain.drainer.must_go(pod, node.now);
    let mut must_go = pods.iter().filter(is_left).peekable();
    if must_go.peek().is_none() {
        return Ok(Some((pods, Some(Vec::new()), None)));
    }
    let finder = match view.finder::<Budget>(SELECTS) {
        Ok(finder) => finder,
        Err(error) if error.availability == Availability::Listing => return Ok(None),
        Err(error) => return Ok(Some((pods, None, Some(error)))),
    };
    let mut budgets = Vec::new();
    for key in must_go.flat_map(|pod| keys_of(pod)) {
        finder.find(&key, &mut budgets);
    }
    budgets.sort_unstable_by(|a, b| (&a.namespace, &a.name).cmp(&(&b.namespace, &b.name)));
    budgets.dedup_by_key(|budget| (&budget.namespace, &budget.name));
    Ok(Some((pods, Some(budgets), None)))
}

fn with(evaluation: Evaluation, drain: Drain) -> Evaluation {
    Evaluation {
        drain: Some(Box::new(drain)),
        ..evaluation
    }
}

/// The evaluation, to be repeated at this time at the latest.
fn again(evaluation: Evaluation, at: Option<Timestamp>) -> Evaluation {
    Evaluation {
        again_at: evaluation.again_at.into_iter().chain(at).min(),
        ..evaluation
    }
}

#[cfg(test)]
mod tests;
