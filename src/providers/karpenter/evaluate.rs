//! Evaluates the replacement of a node.

use jiff::Timestamp;

use super::budget::{self, Blocked};
use super::evidence::KarpenterNode;
use super::kinds::{NodeClaim, NodePool, PROVIDER_ID, Signal};
use super::{split, target};
use crate::api::types::{ConditionStatus, Phase, UpdateKind};
use crate::domain::cordon::{CordonedBy, Cordoner};
use crate::domain::drain::method::Removal;
use crate::domain::facts::{Unavailable, View};
use crate::domain::node::NodeFacts;
use crate::domain::state::{Desired, Evaluation, Finding, JOINING};
use crate::domain::version::{self, Precision, Version};
use crate::providers::Subject;
use crate::providers::inferred::upper_bound;
use crate::providers::step::Step;

/// The inputs of the evaluation.
struct Context<'a> {
    node: &'a KarpenterNode,
    claim: &'a NodeClaim,
    /// The name of the NodePool.
    pool: &'a str,
    /// The version of a replacement, if known.
    target: Option<Desired>,
    version: Option<&'a str>,
    view: &'a View<'a>,
    now: Timestamp,
}

pub(super) fn evaluate(node: &Subject<'_>, view: &View<'_>) -> Result<Evaluation, Unavailable> {
    let nothing = KarpenterNode::default();
    let shown = node.facts.evidence::<KarpenterNode>().unwrap_or(&nothing);
    let version = node.facts.kubelet_version.as_deref();
    let mut no_target = None;
    let (mut step, target) = match claim_of(shown, view) {
        Ok(Claimed::One(claim)) => {
            let (target, missing) = split(target(claim.node_class.as_ref(), view));
            no_target = missing;
            let context = Context {
                node: shown,
                claim,
                pool: &node.pool.reference.name,
                target,
                version,
                view,
                now: node.now,
            };
            (context.step(), context.target)
        }
        Ok(Claimed::None) => (without_claim(node), None),
        Ok(Claimed::Several(message)) => {
            let step = Step::new(Phase::Unknown, None, "NodeClaimConflict", message);
            (step, None)
        }
        // Without NodeClaims, the evidence on the node remains.
        Err(error) => match without_source(node, shown, &error) {
            Some(step) => (step, None),
            None => return Err(error),
        },
    };
    let desired = desired(&step, target, version, view);
    step.missing.extend(no_target);
    step.unavailable = disrupted(shown);
    let mut evaluation = step.evaluation(node.facts, desired);
    if shown.is_disrupted && evaluation.cordoned_by.is_none() {
        // The taint is Karpenter's cordon.
        evaluation.cordoned_by = Some(CordonedBy {
            by: Cordoner::updater("karpenter"),
            since: shown.disrupted_since,
            is_foreign: !evaluation.phase.is_in_progress(),
        });
    }
    Ok(evaluation)
}

/// The desired version. A current node has none that is newer than its own.
fn desired(
    step: &Step,
    target: Option<Desired>,
    version: Option<&str>,
    view: &View<'_>,
) -> Option<Desired> {
    let is_outdated = step.kind.is_some();
    let found = target.or_else(|| upper_bound(version, view))?;
    let is_current =
        version.is_some_and(|own| !version::is_behind(own, &found.version, Precision::Minor));
    (is_outdated || is_current).then_some(found)
}

/// Karpenter cordons a node with its own taint.
fn disrupted(node: &KarpenterNode) -> Option<Finding> {
    node.is_disrupted.then(|| {
        Finding::new(
            false,
            "Disrupted",
            "Karpenter keeps new pods away from the node",
        )
    })
}

/// The NodeClaim of a node.
enum Claimed<'a> {
    One(&'a NodeClaim),
    None,
    Several(String),
}

fn claim_of<'a>(node: &KarpenterNode, view: &View<'a>) -> Result<Claimed<'a>, Unavailable> {
    let id = &*node.provider_id;
    if id.is_empty() {
        let owner = node.owner.as_deref().unwrap_or_default();
        let claim = view.get::<NodeClaim>(owner)?;
        return Ok(claim.map_or(Claimed::None, Claimed::One));
    }
    let claims = view.find::<NodeClaim>(PROVIDER_ID, id)?;
    let nodes = view.count_nodes(PROVIDER_ID, id);
    Ok(match claims.as_slice() {
        _ if nodes > 1 => Claimed::Several(format!(
            "{nodes} Nodes have the provider ID {id}: Karpenter ignores all of them"
        )),
        [] => Claimed::None,
        [one] => Claimed::One(one),
        several => Claimed::Several(format!(
            "{} NodeClaims have the provider ID {id}: Karpenter ignores all of them",
            several.len()
        )),
    })
}

/// How Karpenter removes the pods of a node.
pub(super) fn removal(node: &NodeFacts, view: &View<'_>) -> Removal {
    let nothing = KarpenterNode::default();
    let shown = node.evidence::<KarpenterNode>().unwrap_or(&nothing);
    match claim_of(shown, view) {
        Ok(Claimed::One(claim)) if claim.has_grace_period => Removal::EvictionUntilDeadline,
        Ok(Claimed::One(_) | Claimed::None | Claimed::Several(_)) | Err(_) => Removal::Eviction,
    }
}

fn without_claim(node: &Subject<'_>) -> Step {
    if node.facts.deleting {
        let message = "The node is being deleted, and its NodeClaim is gone";
        Step::new(Phase::Completed, None, "BeingDeleted", message)
    } else {
        let message = "No NodeClaim has the provider ID of the node";
        Step::new(Phase::Unknown, None, "NoNodeClaim", message)
    }
}

/// Without NodeClaims it is known that Karpenter disrupts the node, but not why.
fn without_source(node: &Subject<'_>, shown: &KarpenterNode, error: &Unavailable) -> Option<Step> {
    let (phase, reason, what) = if node.facts.deleting {
        (Phase::Draining, "Deleting", "Karpenter removes the node")
    } else if shown.is_disrupted {
        let what = "Karpenter is about to remove the node";
        (Phase::Updating, "Disrupted", what)
    } else {
        return None;
    };
    let message = format!("{what}; why is not known: {error}");
    Some(Step::new(
        phase,
        Some(UpdateKind::Replacement),
        reason,
        message,
    ))
}

impl Context<'_> {
    /// The first step that applies.
    fn step(&self) -> Step {
        let conditions = &self.claim.conditions;
        let is_true = |signal: &Option<Signal>| Signal::is_true(signal.as_ref());
        let is_new = self.node.is_unregistered
            || !is_true(&conditions.registered)
            || !is_true(&conditions.initialized);
        if self.claim.deleting.is_some() {
            return self.deletion();
        }
        if is_new {
            let message = "The node is joining: its NodeClaim is not initialized yet";
            return Step::unknown(JOINING, message);
        }
        let disruption = conditions.disruption_reason.as_ref();
        let why = disruption.filter(|signal| Signal::is_true(Some(signal)));
        match why.map(|signal| &*signal.reason) {
            Some("Drifted") => Step::new(
                Phase::Updating,
                Some(self.kind()),
                "WaitingForReplacement",
                "Waiting for the replacement of the node to be initialized; nothing is evicted yet",
            ),
            Some(reason) => self.removal(&format!("Karpenter disrupts the node ({reason})")),
            None if is_true(&conditions.drifted) => self.waiting(),
            None => Step::completed(),
        }
    }

    /// The node has drifted and is not being replaced yet.
    fn waiting(&self) -> Step {
        let kind = Some(self.kind());
        let drift = self.drift();
        if self.node.do_not_disrupt || self.claim.do_not_disrupt {
            let message = format!(
                "The node has drifted ({drift}); its annotation karpenter.sh/do-not-disrupt keeps Karpenter from replacing it"
            );
            return Step::new(Phase::Paused, kind, "DoNotDisrupt", message);
        }
        let (pool, missing) = split(self.pool());
        let budgets = pool.map(|pool| pool.budgets.as_slice());
        let Blocked {
            is_blocked,
            again_at,
        } = budget::blocked(budgets.unwrap_or_default(), self.now);
        let step = if is_blocked {
            let message = format!(
                "The node has drifted ({drift}); a disruption budget of its NodePool allows no replacement now"
            );
            Step::new(Phase::Paused, kind, "DisruptionBudget", message)
        } else {
            let mut message = format!("The node has drifted ({drift}) and waits for its turn");
            for problem in pool.iter().flat_map(|pool| &pool.problems) {
                message.push_str("; NodePool: ");
                message.push_str(problem);
            }
            Step::new(Phase::Pending, kind, "Pending", message)
        };
        Step {
            again_at,
            missing: missing.into_iter().collect(),
            ..step
        }
    }

    /// The NodePool, if there is one.
    fn pool(&self) -> Result<Option<&NodePool>, Unavailable> {
        if self.view.serves::<NodePool>() {
            self.view.get::<NodePool>(self.pool)
        } else {
            Ok(None)
        }
    }

    /// The NodeClaim is being deleted: to be replaced, or to be removed.
    fn deletion(&self) -> Step {
        let conditions = &self.claim.conditions;
        let disruption = conditions.disruption_reason.as_ref();
        let why = disruption.filter(|signal| Signal::is_true(Some(signal)));
        let is_drifted = Signal::is_true(conditions.drifted.as_ref());
        let kind = match why.map(|signal| &*signal.reason) {
            Some("Drifted") => self.kind(),
            Some(reason) => {
                return self.removal(&format!("Karpenter removes the node ({reason})"));
            }
            None if self.is_expired() => UpdateKind::Replacement,
            None if self.is_repair() => {
                return self.removal("Karpenter repairs the node by removing it");
            }
            // It was deleted by a user, or the machine is gone: the replacement is not outdated.
            None if is_drifted => self.kind(),
            None => return self.removal("The NodeClaim of the node is being deleted"),
        };
        let status = |signal: &Option<Signal>| signal.as_ref().map(|signal| signal.status);
        let (phase, reason, message) = if Signal::is_true(conditions.instance_terminating.as_ref())
        {
            let message = "The machine is being terminated";
            (Phase::Updating, "InstanceTerminating", message.to_owned())
        } else if status(&conditions.drained) != Some(ConditionStatus::True) {
            (Phase::Draining, "Draining", self.draining())
        } else if status(&conditions.volumes_detached) == Some(ConditionStatus::Unknown) {
            let message = "Waiting for the volumes of the node to be detached";
            (
                Phase::Updating,
                "AwaitingVolumeDetachment",
                message.to_owned(),
            )
        } else {
            let message = "The node is drained; its machine is terminated next";
            (Phase::Updating, "Drained", message.to_owned())
        };
        Step::new(phase, Some(kind), reason, message)
    }

    fn draining(&self) -> String {
        match self.claim.deadline {
            Some(deadline) => {
                format!("Pods are being evicted; what is left at {deadline:.0} is deleted")
            }
            None => "Pods are being evicted; there is no time limit".to_owned(),
        }
    }

    /// The node is removed, and that is no update.
    fn removal(&self, what: &str) -> Step {
        let message = format!("{what}; this is no update");
        if Signal::is_true(self.claim.conditions.drifted.as_ref()) {
            Step::new(Phase::Pending, Some(self.kind()), "BeingRemoved", message)
        } else {
            Step::new(Phase::Completed, None, "BeingRemoved", message)
        }
    }

    /// Karpenter deletes an expired NodeClaim, whatever its other conditions are.
    fn is_expired(&self) -> bool {
        let end = self
            .claim
            .created
            .zip(self.claim.expire_after)
            .and_then(|(created, after)| created.checked_add(after).ok());
        end.zip(self.claim.deleting)
            .is_some_and(|(end, deleting)| deleting >= end)
    }

    /// The deadline of a node that is repaired expires at once, without a grace period that would set one.
    fn is_repair(&self) -> bool {
        let times = self.claim.deadline.zip(self.claim.deleting);
        !self.claim.has_grace_period
            && times.is_some_and(|(deadline, deleting)| deadline <= deleting)
    }

    /// The reason of the drift that Karpenter reports.
    fn drift(&self) -> &str {
        let drifted = self.claim.conditions.drifted.as_ref();
        match drifted.map(|signal| &*signal.reason) {
            None | Some("") => "Drifted",
            Some(reason) => reason,
        }
    }

    /// What the replacement changes.
    fn kind(&self) -> UpdateKind {
        match self.drift() {
            "K8sVersionDrift" => UpdateKind::Version,
            "AMIDrift" | "ImageDrift" => {
                let bound = || upper_bound(self.version, self.view);
                let target = self.target.clone().or_else(bound);
                let minor = |text: &str| Version::parse(text).map(|version| version.minor());
                let own = self.version.and_then(minor);
                let wanted = target.and_then(|target| minor(&target.version));
                if own.is_some() && wanted.is_some() && own != wanted {
                    UpdateKind::Version
                } else {
                    UpdateKind::Image
                }
            }
            "InstanceTypeNotFound" | "Drifted" => UpdateKind::Replacement,
            _ => UpdateKind::Configuration,
        }
    }
}
