//! All providers and overlays: assigns each node to a provider and evaluates it.

use std::fmt;
use std::sync::Arc;

use jiff::Timestamp;

use super::drains;
use super::kubernetes::Kubernetes;
use super::openshift::{self, OpenShift};
use super::serverless::excluded;
use super::step::cordoned_by;
use super::{Claim, Identity, Options, OverlayList, ProviderList, Subject, built_in};
use crate::api::types::{Phase, ProviderName, Scope};
use crate::domain::availability::{availability, runs_control_plane};
use crate::domain::drain::Drainer;
use crate::domain::drain::method::Method;
use crate::domain::fact::{Keys, Kind};
use crate::domain::facts::{Unavailable, View};
use crate::domain::node::{NodeFacts, NodeObject};
use crate::domain::pool::{Membership, PoolId, PoolState};
use crate::domain::pool_generations::{Flavour, Member, PoolVersion, flavour};
use crate::domain::state::{Belonging, Evaluation, Finding, History, NodeState};

/// A conflict between two providers or overlays.
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

/// The provider and the pool of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Assignment {
    /// The provider, by its index, and the pool.
    Provider(usize, Result<Membership, Box<Unavailable>>),
    /// Several providers claim the node and exclude each other: name and evidence of each; empty if no provider does.
    Conflict(Box<[(ProviderName, &'static str)]>),
}

impl Assignment {
    /// The pool, if it is known and there is exactly one.
    #[must_use]
    pub fn pool(&self) -> Option<&Arc<PoolId>> {
        match self {
            Self::Provider(_, Ok(membership)) => membership.pool(),
            Self::Provider(_, Err(_)) | Self::Conflict(_) => None,
        }
    }

    /// The provider, by its index.
    #[must_use]
    pub fn provider(&self) -> Option<usize> {
        match self {
            Self::Provider(provider, _) => Some(*provider),
            Self::Conflict(_) => None,
        }
    }
}

impl Providers {
    /// The built-in providers and overlays.
    ///
    /// # Errors
    /// As of [`Providers::new`].
    pub fn standard(options: &Options) -> Result<Self, ProviderError> {
        let (providers, overlays) = built_in(options);
        let kinds = if options.no_drain_blockers {
            Vec::new()
        } else {
            drains::kinds()
        };
        Self::with(providers, overlays, kinds)
    }

    /// These providers and overlays.
    ///
    /// # Errors
    /// When two of them read the same resource as different types.
    pub fn new(providers: ProviderList, overlays: OverlayList) -> Result<Self, ProviderError> {
        Self::with(providers, overlays, drains::kinds())
    }

    fn with(
        providers: ProviderList,
        overlays: OverlayList,
        of_drains: Vec<Kind>,
    ) -> Result<Self, ProviderError> {
        let mut kinds: Vec<(String, Kind)> = Vec::new();
        let of_providers = providers.iter().map(|each| (each.name(), each.kinds()));
        let of_overlays = overlays.iter().map(|each| (each.name(), each.kinds()));
        let of_drains = std::iter::once((ProviderName::new("drains"), of_drains));
        for (name, kind) in of_providers
            .chain(of_overlays)
            .chain(of_drains)
            .flat_map(|(name, kinds)| kinds.into_iter().map(move |kind| (name.clone(), kind)))
        {
            let mut before = kinds.iter();
            match before.find(|(_, known)| known.spec.label() == kind.spec.label()) {
                None => kinds.push((name.to_string(), kind)),
                Some((_, known)) if known.is_same_type(&kind) => {}
                Some((first, _)) => {
                    return Err(ProviderError {
                        what: "resource",
                        name: kind.spec.label().to_owned(),
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

    /// The kinds that are read in addition to Nodes.
    #[must_use]
    pub fn kinds(&self) -> &[Kind] {
        &self.kinds
    }

    /// The number of providers.
    #[must_use]
    pub fn count(&self) -> usize {
        self.in_order.len()
    }

    /// The keys by which a node is counted.
    #[must_use]
    pub fn node_keys(&self, node: &NodeFacts) -> Keys {
        let mut keys = Keys::default();
        for provider in &self.in_order {
            provider.node_keys(node, &mut keys);
        }
        keys
    }

    /// The node as a member of its pool: what it shows of the template of the pool.
    #[must_use]
    pub fn member(&self, node: &NodeFacts, assignment: &Assignment) -> Option<Member> {
        let provider = &self.in_order[assignment.provider()?];
        let (os, arch) = flavour(&node.labels);
        Some(Member {
            flavour: Flavour {
                os: os.into(),
                arch: arch.into(),
            },
            version: PoolVersion::parse(node.kubelet_version.as_ref()?)?,
            image: provider.image(node).map(|image| Arc::from(&*image)),
            created: node.created,
            name: Arc::clone(&node.name),
            is_ready: node.is_ready(),
            is_staying: node.cordoned.is_none() && !node.deleting,
        })
    }

    /// The facts of a Node for all providers and overlays.
    #[must_use]
    pub fn node_facts(&self, node: NodeObject) -> NodeFacts {
        let of_providers = self.in_order.iter().map(|each| each.evidence(&node));
        let of_overlays = self.overlays.iter().map(|each| each.evidence(&node));
        let evidence = of_providers.chain(of_overlays).flatten().collect();
        NodeFacts::new(node, evidence)
    }

    /// Assigns the node to the first provider with evidence, and to its pool. Evidence of other providers is a
    /// conflict, unless the first provider coexists with it.
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
                Assignment::Conflict(others.into_boxed_slice())
            }
            (Some((place, _)), _) | (None, Some(place)) => {
                let pool = self.in_order[place].pool(node, view);
                Assignment::Provider(place, pool.map_err(Box::new))
            }
            (None, None) => Assignment::Conflict(Box::default()),
        }
    }

    /// Evaluates a node. Total: every input has a result. `before` is the previous pool of the node, which is retained
    /// while its pool is unknown.
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
                    Ok(evaluation) => {
                        let drainer = self.in_order[*place].drainer();
                        let refined = self.refine(evaluation, &subject, view, &mut overlays);
                        let drainer = refined.1.unwrap_or(drainer);
                        drains::complete(refined.0, drainer, &subject, view)
                    }
                    Err(error) => unavailable(node, &error),
                }
            }
            (Assignment::Provider(_, Ok(Membership::None)), _) => {
                let oddity = openshift::without_pool(node).filter(|_| provider == OpenShift::NAME);
                let message = oddity.unwrap_or("The node belongs to no pool");
                undetermined(node, "NoPool", message.to_owned())
            }
            (Assignment::Provider(_, Ok(Membership::Excluded)), _) => excluded(node),
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
                undetermined(node, "ProviderConflict", conflict_message(claims))
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

    /// Applies the overlays in order; each refines the result of the previous ones. Also returns who drains the node, if
    /// that is an overlay.
    fn refine(
        &self,
        mut evaluation: Evaluation,
        subject: &Subject<'_>,
        view: &View<'_>,
        names: &mut Vec<ProviderName>,
    ) -> (Evaluation, Option<Drainer>) {
        let mut drainer = None;
        let is_open = |evaluation: &Evaluation| {
            matches!(evaluation.phase, Phase::Completed | Phase::Pending) || evaluation.is_inferred
        };
        // A tool that acts has precedence over another one that waits or reports nothing.
        let of_provider = is_open(&evaluation);
        // What it was before an overlay that waits.
        let mut waits: Option<(Evaluation, usize)> = None;
        for overlay in &self.overlays {
            match overlay.refine(subject, &evaluation, view) {
                Ok(None) => {}
                Ok(Some(mut refined)) => {
                    let acts = refined.phase.is_in_progress() && !evaluation.phase.is_in_progress();
                    if is_open(&evaluation) || (of_provider && acts) {
                        if let Some((before, named)) = waits.take_if(|_| acts) {
                            // What waits has no part in what another tool does, now as in later evaluations.
                            names.truncate(named);
                            if let Ok(Some(alone)) = overlay.refine(subject, &before, view) {
                                refined = alone;
                            }
                        }
                        drainer = (refined.phase == Phase::Draining).then(|| {
                            let method = overlay.method(subject.facts, view);
                            method.unwrap_or_default().drainer
                        });
                        let before = std::mem::replace(&mut evaluation, refined);
                        if !evaluation.phase.is_in_progress() {
                            waits.get_or_insert((before, names.len()));
                        }
                        names.push(overlay.name());
                    }
                }
                Err(error) => {
                    // The evaluation holds without the overlay; the message reports what is missing.
                    evaluation.updating = evaluation.updating.and(error);
                    names.push(overlay.name());
                }
            }
        }
        (evaluation, drainer)
    }

    /// The pools of a provider that exist without nodes.
    ///
    /// # Errors
    /// When a required kind cannot be read.
    pub fn pools(&self, provider: usize, view: &View<'_>) -> Result<Vec<Arc<PoolId>>, Unavailable> {
        self.in_order
            .get(provider)
            .map_or(Ok(Vec::new()), |provider| provider.pools(view))
    }

    /// A pool as its provider describes it.
    ///
    /// # Errors
    /// When a required kind cannot be read.
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
            replaces: provider.replaces(pool, view),
            reuses_names: provider.identity() == Identity::Name,
            api_server: view.api_server_version().cloned(),
        })
    }

    /// How the pods of a node in this state are moved away when it is updated; `None` if they stay.
    #[must_use]
    pub fn method(&self, node: &NodeFacts, state: &NodeState, view: &View<'_>) -> Option<Method> {
        let mut overlays = self.overlays.iter();
        let mut providers = self.in_order.iter();
        // The overlay that refined the evaluation last is the one that acts.
        if let Some(overlay) = overlays.rfind(|each| state.overlays.contains(&each.name())) {
            overlay.method(node, view)
        } else if let Some(provider) = providers.find(|each| each.name() == state.provider) {
            provider.method(node, view)
        } else {
            Some(Method::default())
        }
    }

    /// What identifies a node of this provider across its update.
    #[must_use]
    pub fn identity(&self, provider: &ProviderName) -> Identity {
        let mut providers = self.in_order.iter();
        providers
            .find(|each| each.name() == *provider)
            .map_or(Identity::Uid, |provider| provider.identity())
    }

    /// The name of the provider at this index.
    #[must_use]
    pub fn name(&self, provider: usize) -> Option<ProviderName> {
        self.in_order.get(provider).map(|provider| provider.name())
    }
}

fn conflict_message(claims: &[(ProviderName, &'static str)]) -> String {
    let named: Vec<String> = claims
        .iter()
        .map(|(name, shown)| format!("{name} ({shown})"))
        .collect();
    if named.is_empty() {
        "No provider claims the node".to_owned()
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

/// The evaluation of a node whose update is unknown.
fn undetermined(node: &NodeFacts, reason: &'static str, message: String) -> Evaluation {
    Evaluation {
        phase: Phase::Unknown,
        kind: None,
        version: None,
        desired: None,
        updating: Finding::updating(Phase::Unknown, reason, message),
        available: availability(node).unwrap_or_else(|| Finding::as_expected(true)),
        degraded: Finding::as_expected(false),
        again_at: None,
        is_inferred: false,
        cordoned_by: cordoned_by(node, false),
        is_only_behind: false,
        drain: None,
    }
}
