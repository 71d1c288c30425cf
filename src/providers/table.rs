//! All providers and overlays at once: who evaluates a node, and what comes of it.

use std::fmt;
use std::sync::Arc;

use jiff::Timestamp;

use super::kubernetes::Kubernetes;
use super::{Claim, Identity, Options, OverlayList, ProviderList, Subject, built_in};
use crate::api::types::{ConditionStatus, Phase, ProviderName, Scope};
use crate::domain::availability::{availability, runs_control_plane};
use crate::domain::fact::{Keys, Kind};
use crate::domain::facts::{Unavailable, View};
use crate::domain::node::{NodeFacts, NodeObject};
use crate::domain::pool::{Membership, PoolId, PoolState};
use crate::domain::state::{Belonging, Evaluation, Finding, History, NodeState};

/// Why providers cannot work together.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{first} and {second} both have the {what} '{name}': each needs its own")]
pub struct ProviderError {
    what: &'static str,
    name: String,
    first: String,
    second: String,
}

/// All providers, in order of precedence, and all overlays, in their order.
pub struct Providers {
    in_order: ProviderList,
    overlays: OverlayList,
    kinds: Vec<Kind>,
}

impl fmt::Debug for Providers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.in_order.iter().map(|each| each.name());
        let overlays = self.overlays.iter().map(|each| each.name());
        f.debug_list().entries(names.chain(overlays)).finish()
    }
}

/// Who evaluates a node, and in which pool it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Assignment {
    /// This provider, by its place in the list; the pool, if that can be told.
    Provider(usize, Result<Membership, Unavailable>),
    /// These claim it and exclude one another: name, and what shows it.
    Conflict(Vec<(ProviderName, &'static str)>),
}

impl Assignment {
    /// The pool, where it can be told and there is exactly one.
    #[must_use]
    pub fn pool(&self) -> Option<&Arc<PoolId>> {
        match self {
            Self::Provider(_, Ok(membership)) => membership.pool(),
            Self::Provider(_, Err(_)) | Self::Conflict(_) => None,
        }
    }

    /// The provider, by its place in the list.
    #[must_use]
    pub fn provider(&self) -> Option<usize> {
        match self {
            Self::Provider(provider, _) => Some(*provider),
            Self::Conflict(_) => None,
        }
    }
}

impl Providers {
    /// Those that are built in.
    ///
    /// # Errors
    /// As of [`Providers::new`].
    pub fn standard(options: &Options) -> Result<Self, ProviderError> {
        let (providers, overlays) = built_in(options);
        Self::new(providers, overlays)
    }

    /// These providers, and the overlays on them.
    ///
    /// # Errors
    /// When two of them read the same resource by different types.
    pub fn new(providers: ProviderList, overlays: OverlayList) -> Result<Self, ProviderError> {
        let mut kinds: Vec<(String, Kind)> = Vec::new();
        let of_providers = providers.iter().map(|each| (each.name(), each.kinds()));
        let of_overlays = overlays.iter().map(|each| (each.name(), each.kinds()));
        for (name, kind) in of_providers
            .chain(of_overlays)
            .flat_map(|(name, kinds)| kinds.into_iter().map(move |kind| (name.clone(), kind)))
        {
            let mut before = kinds.iter();
            match before.find(|(_, known)| known.spec.plural == kind.spec.plural) {
                None => kinds.push((name.to_string(), kind)),
                Some((_, known)) if known.is_same_type(&kind) => {}
                Some((first, _)) => {
                    return Err(ProviderError {
                        what: "resource",
                        name: kind.spec.plural.to_owned(),
                        first: first.clone(),
                        second: name.to_string(),
                    });
                }
            }
        }
        Ok(Self {
            in_order: providers,
            overlays,
            kinds: kinds.into_iter().map(|(_, kind)| kind).collect(),
        })
    }

    /// The table of kinds: everything that is read beside Nodes.
    #[must_use]
    pub fn kinds(&self) -> &[Kind] {
        &self.kinds
    }

    /// How many providers there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.in_order.len()
    }

    /// Under what a node can be counted.
    #[must_use]
    pub fn node_keys(&self, node: &NodeFacts) -> Keys {
        let mut keys = Keys::default();
        for provider in &self.in_order {
            provider.node_keys(node, &mut keys);
        }
        keys
    }

    /// What matters of a Node to whoever may evaluate it.
    #[must_use]
    pub fn node_facts(&self, node: NodeObject) -> NodeFacts {
        let of_providers = self.in_order.iter().map(|each| each.evidence(&node));
        let of_overlays = self.overlays.iter().map(|each| each.evidence(&node));
        let evidence = of_providers.chain(of_overlays).flatten().collect();
        NodeFacts::new(node, evidence)
    }

    /// Who evaluates the node, and in which pool it is. The first that shows evidence has it; others that show some
    /// as well and that it does not know to occur beside its own are a contradiction.
    #[must_use]
    pub fn assign(&self, node: &NodeFacts, view: &View<'_>) -> Assignment {
        let mut first: Option<(usize, &'static str)> = None;
        let mut others = Vec::new();
        let mut otherwise = None;
        for (place, provider) in self.in_order.iter().enumerate() {
            match (provider.claim(node, view), first) {
                (Claim::Evidence(shown), None) => first = Some((place, shown)),
                (Claim::Evidence(shown), Some((owner, _))) => {
                    if !self.in_order[owner].coexists_with().contains(&shown) {
                        others.push((provider.name(), shown));
                    }
                }
                (Claim::Otherwise, _) => otherwise = otherwise.or(Some(place)),
                (Claim::None, _) => {}
            }
        }
        match (first, otherwise) {
            (Some((place, shown)), _) if !others.is_empty() => {
                others.insert(0, (self.in_order[place].name(), shown));
                Assignment::Conflict(others)
            }
            (Some((place, _)), _) | (None, Some(place)) => {
                Assignment::Provider(place, self.in_order[place].pool(node, view))
            }
            (None, None) => Assignment::Conflict(Vec::new()),
        }
    }

    /// The state of a node. Total: it has an answer for every input. `before` is the pool that it was in, which it
    /// stays in while that cannot be told.
    #[must_use]
    pub fn evaluate(
        &self,
        node: &NodeFacts,
        assignment: &Assignment,
        before: Option<&Arc<PoolId>>,
        view: &View<'_>,
        past: Option<&History>,
        now: Timestamp,
    ) -> NodeState {
        let (provider, pool) = match assignment {
            Assignment::Provider(place, Ok(membership)) => {
                (self.in_order[*place].name(), membership.pool())
            }
            Assignment::Provider(place, Err(_)) => (self.in_order[*place].name(), before),
            Assignment::Conflict(_) => (Kubernetes::NAME, None),
        };
        let mut overlays = Vec::new();
        let evaluation = match (assignment, pool) {
            (Assignment::Provider(place, Ok(Membership::Pool(pool))), _) => {
                let subject = Subject {
                    facts: node,
                    pool,
                    past,
                    now,
                };
                let evaluation = self.in_order[*place].evaluate(&subject, view);
                match evaluation {
                    Ok(evaluation) => self.refine(evaluation, &subject, view, &mut overlays),
                    Err(error) => unavailable(node, &error),
                }
            }
            (Assignment::Provider(_, Ok(Membership::None)), _) => {
                undetermined(node, "NoPool", "The node belongs to no pool".to_owned())
            }
            (Assignment::Provider(_, Ok(Membership::Conflict(pools))), _) => undetermined(
                node,
                "PoolConflict",
                format!(
                    "The node belongs to several pools that exclude each other: {}",
                    pools.join(", ")
                ),
            ),
            (Assignment::Provider(_, Err(error)), _) => unavailable(node, error),
            (Assignment::Conflict(claims), _) => {
                undetermined(node, "ProviderConflict", contradiction(claims))
            }
        };
        let is_control_plane = pool.is_some_and(|pool| pool.scope == Scope::ControlPlane)
            || runs_control_plane(&node.labels);
        let belonging = Belonging {
            provider,
            overlays: overlays.into_boxed_slice(),
            pool: pool.cloned(),
            scope: if is_control_plane {
                Scope::ControlPlane
            } else {
                Scope::WorkerPool
            },
        };
        NodeState::new(evaluation, node, belonging, past, now)
    }

    /// Each overlay sees what the ones before it have made of the answer.
    fn refine(
        &self,
        mut evaluation: Evaluation,
        subject: &Subject<'_>,
        view: &View<'_>,
        names: &mut Vec<ProviderName>,
    ) -> Evaluation {
        for overlay in &self.overlays {
            match overlay.refine(subject, &evaluation, view) {
                Ok(None) => {}
                Ok(Some(refined)) => {
                    let is_open = matches!(evaluation.phase, Phase::Completed | Phase::Pending);
                    if is_open || evaluation.is_inferred {
                        evaluation = refined;
                        names.push(overlay.name());
                    }
                }
                Err(error) => {
                    // What it would have added is missing, and that is said; the rest holds.
                    let said = &evaluation.updating.message;
                    let message = if said.is_empty() {
                        error.to_string()
                    } else {
                        format!("{said} | {error}")
                    };
                    evaluation.updating.message = message.into();
                    names.push(overlay.name());
                }
            }
        }
        evaluation
    }

    /// The pools of a provider that are there whether they have nodes or not.
    ///
    /// # Errors
    /// When that cannot be told.
    pub fn pools(&self, provider: usize, view: &View<'_>) -> Result<Vec<Arc<PoolId>>, Unavailable> {
        self.in_order
            .get(provider)
            .map_or(Ok(Vec::new()), |provider| provider.pools(view))
    }

    /// A pool as its provider describes it.
    ///
    /// # Errors
    /// When that cannot be told.
    pub fn describe(
        &self,
        provider: usize,
        pool: &Arc<PoolId>,
        view: &View<'_>,
        now: Timestamp,
    ) -> Result<PoolState, Unavailable> {
        let provider = &self.in_order[provider];
        Ok(PoolState {
            id: Arc::clone(pool),
            provider: provider.name(),
            facts: provider.describe(pool, view, now)?,
        })
    }

    /// What of a node of this provider survives its update.
    #[must_use]
    pub fn identity(&self, provider: &ProviderName) -> Identity {
        let mut providers = self.in_order.iter();
        providers
            .find(|each| each.name() == *provider)
            .map_or(Identity::Uid, |provider| provider.identity())
    }

    /// The name of the provider at this place of the list.
    #[must_use]
    pub fn name(&self, provider: usize) -> Option<ProviderName> {
        self.in_order.get(provider).map(|provider| provider.name())
    }
}

fn contradiction(claims: &[(ProviderName, &'static str)]) -> String {
    let named: Vec<String> = claims
        .iter()
        .map(|(name, shown)| format!("{name} ({shown})"))
        .collect();
    if named.is_empty() {
        "Nobody claims the node".to_owned()
    } else {
        format!(
            "The node shows several updaters that exclude each other: {}",
            named.join(", ")
        )
    }
}

fn unavailable(node: &NodeFacts, error: &Unavailable) -> Evaluation {
    undetermined(node, "SourceUnavailable", error.to_string())
}

/// Nothing can be told of the update.
fn undetermined(node: &NodeFacts, reason: &'static str, message: String) -> Evaluation {
    Evaluation {
        phase: Phase::Unknown,
        kind: None,
        version: None,
        desired: None,
        updating: Finding::new(ConditionStatus::Unknown, reason, message),
        available: availability(node).unwrap_or_else(|| Finding::as_expected(true)),
        degraded: Finding::as_expected(false),
        again_at: None,
        is_inferred: false,
    }
}
