//! Providers and overlays: the evaluators of nodes.
//!
//! A [`Provider`] evaluates the nodes that it claims; an [`Overlay`] refines the evaluation, such as kured, which
//! reboots nodes of any provider. Both are pure: they read a Node, and facts through a view that records the reads.
//! So a node is evaluated again exactly when something changes that its evaluation read.
//!
//! To add one: a type that implements one of the traits, or a [`Profile`], and a line in [`built_in`].

pub mod aks;
pub mod bottlerocket;
pub mod cluster_api;
mod condition;
pub mod distributions;
mod drains;
pub mod eks;
#[cfg(test)]
pub(crate) mod fixtures;
pub mod flatcar;
pub mod gardener;
pub mod gke;
pub mod hypershift;
pub mod inferred;
pub mod karpenter;
pub mod kops;
pub mod kubeadm;
pub mod kubernetes;
pub mod kured;
pub mod lifecycle;
pub mod microshift;
pub mod node_maintenance;
pub mod openshift;
pub mod plans;
pub mod profile;
pub mod serverless;
pub mod settings;
pub mod step;
mod table;
pub mod tuppr;

pub use table::{Assignment, ProviderError, Providers};

use std::any::Any;
use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::Timestamp;

use crate::api::types::{ProviderName, UpdateKind};
use crate::domain::drain::Drainer;
use crate::domain::drain::method::Method;
use crate::domain::erased::Erased;
use crate::domain::fact::{Keys, Kind};
use crate::domain::facts::{Unavailable, View};
use crate::domain::node::{Evidence, NodeFacts, NodeObject};
use crate::domain::pool::{Membership, PoolFacts, PoolId};
use crate::domain::state::{Evaluation, History};

use self::bottlerocket::Bottlerocket;
use self::cluster_api::ClusterApi;
use self::flatcar::Flatcar;
use self::hypershift::HyperShift;
use self::karpenter::Karpenter;
use self::kubeadm::Kubeadm;
use self::kubernetes::Kubernetes;
use self::kured::Kured;
use self::lifecycle::Lifecycle;
use self::node_maintenance::NodeMaintenance;
use self::openshift::OpenShift;
use self::plans::Plans;
use self::profile::{Profile, Profiled};
use self::serverless::Serverless;
use self::settings::Settings;
use self::tuppr::Tuppr;

/// Evaluates the nodes of one updater.
pub trait Provider: Send + Sync {
    /// The name that insights show.
    fn name(&self) -> ProviderName;

    /// The kinds that it reads in addition to Nodes.
    fn kinds(&self) -> Vec<Kind> {
        Vec::new()
    }

    /// What it reads from a Node, if anything; available as [`NodeFacts::evidence`].
    fn evidence(&self, _: &NodeObject) -> Option<Evidence> {
        None
    }

    /// Adds the keys by which nodes are counted: [`View::count_nodes`].
    fn node_keys(&self, _: &NodeFacts, _: &mut Keys) {}

    /// Whether the node belongs to this provider.
    fn claim(&self, node: &NodeFacts, view: &View<'_>) -> Claim;

    /// Evidence in claims of other providers that does not conflict with this provider.
    fn coexists_with(&self) -> &'static [&'static str] {
        &[]
    }

    /// The pool of a claimed node.
    ///
    /// # Errors
    /// When a required kind cannot be read.
    fn pool(&self, node: &NodeFacts, view: &View<'_>) -> Result<Membership, Unavailable>;

    /// Evaluates the update of a node of `pool`.
    ///
    /// # Errors
    /// When a required kind cannot be read.
    fn evaluate(&self, node: &Subject<'_>, view: &View<'_>) -> Result<Evaluation, Unavailable>;

    /// What identifies the machine image of a node, in addition to its kubelet version.
    fn image<'a>(&self, _: &'a NodeFacts) -> Option<Cow<'a, str>> {
        None
    }

    /// The pools that exist without nodes, because they are objects.
    ///
    /// # Errors
    /// When the kind cannot be read.
    fn pools(&self, _: &View<'_>) -> Result<Vec<Arc<PoolId>>, Unavailable> {
        Ok(Vec::new())
    }

    /// The facts of a pool, in addition to its nodes.
    ///
    /// # Errors
    /// When the kind cannot be read.
    fn describe(&self, _: &PoolId, _: &View<'_>, _: Timestamp) -> Result<PoolFacts, Unavailable> {
        Ok(PoolFacts::default())
    }

    /// Whether the nodes of a pool are replaced by others, not updated in place.
    fn replaces(&self, _: &PoolId, _: &View<'_>) -> bool {
        false
    }

    /// Who drains the nodes.
    fn drainer(&self) -> Drainer {
        Drainer::Kubectl
    }

    /// How the pods of a node are moved away when it is updated; `None` if they stay.
    fn method(&self, _: &NodeFacts, _: &View<'_>) -> Option<Method> {
        Some(Method::of(self.drainer()))
    }

    /// What identifies a node across its update.
    fn identity(&self) -> Identity {
        Identity::Uid
    }
}

/// Whether a node belongs to a provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Claim {
    /// It does not.
    None,
    /// The node has evidence, such as `label karpenter.sh/nodepool`.
    Evidence(&'static str),
    /// There is no evidence, but it does if no other provider claims the node.
    Otherwise,
}

/// What identifies a node across its update.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Identity {
    /// The UID: another UID is another node.
    Uid,
    /// The name: the Node is deleted and registers again, and continues its update.
    Name,
}

/// The node that is evaluated.
#[derive(Clone, Copy)]
pub struct Subject<'a> {
    /// Facts of the Node.
    pub facts: &'a NodeFacts,
    /// Its pool.
    pub pool: &'a PoolId,
    /// Its previous state.
    pub past: Option<&'a History>,
    /// The current time.
    pub now: Timestamp,
}

impl<'a> Subject<'a> {
    /// Its history during an update in progress.
    #[must_use]
    pub fn so_far(&self) -> Option<&'a History> {
        self.past.filter(|past| past.phase.is_in_progress())
    }

    /// What its update in progress changes, if that is known.
    #[must_use]
    pub fn kind_so_far(&self) -> Option<UpdateKind> {
        self.so_far().and_then(|past| past.kind)
    }

    /// Whether the boot ID has changed since the last evaluation.
    #[must_use]
    pub fn has_other_boot(&self) -> bool {
        let before = self.past.and_then(|past| past.boot_id.as_ref());
        matches!((before, &self.facts.boot_id), (Some(before), Some(now)) if before != now)
    }

    /// Whether the node has rebooted during its update: now, or an earlier evaluation of this update has seen it.
    #[must_use]
    pub fn has_rebooted(&self) -> bool {
        self.has_other_boot() || self.so_far().is_some_and(|past| past.rebooted)
    }
}

/// Refines evaluations for a tool that acts on nodes of any provider.
pub trait Overlay: Send + Sync {
    /// The name that insights show.
    fn name(&self) -> ProviderName;

    /// The kinds that it reads in addition to Nodes.
    fn kinds(&self) -> Vec<Kind> {
        Vec::new()
    }

    /// What it reads from a Node, if anything; available as [`NodeFacts::evidence`].
    fn evidence(&self, _: &NodeObject) -> Option<Evidence> {
        None
    }

    /// Refines the evaluation so far; `None` leaves it unchanged. The refinement is used only where no step is in
    /// progress, or where the step is inferred.
    ///
    /// # Errors
    /// When a required kind cannot be read.
    fn refine(
        &self,
        node: &Subject<'_>,
        until_now: &Evaluation,
        view: &View<'_>,
    ) -> Result<Option<Evaluation>, Unavailable>;

    /// How the pods of a node are moved away, if it is this tool that updates the node; `None` if they stay.
    fn method(&self, _: &NodeFacts, _: &View<'_>) -> Option<Method> {
        Some(Method::of(Drainer::Kubectl))
    }
}

/// The updaters that the user allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Platform {
    /// Any updater, by evidence of each node.
    #[default]
    Any,
    /// Only OpenShift's Machine Config Operator.
    OpenShift,
    /// Any updater except the Machine Config Operator.
    Kubernetes,
}

/// Options of the user for providers.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// The updaters that are allowed.
    pub platform: Platform,
    /// Plain Kubernetes: labels whose value names a node's pool, first match wins.
    pub pool_label_keys: Vec<String>,
    /// The desired version of every node whose provider does not report one.
    pub target_version: Option<String>,
    /// Keys of the providers and overlays that are not used; see [`key`].
    pub disabled: BTreeSet<String>,
    /// Pods and PodDisruptionBudgets are not read, so it is not known what holds a drain up.
    pub no_drain_blockers: bool,
}

/// Providers in order of precedence.
pub type ProviderList = Vec<Box<dyn Provider>>;
/// Overlays in their order.
pub type OverlayList = Vec<Box<dyn Overlay>>;

/// The built-in providers and overlays. To add your own, insert it at its place and pass both lists to
/// [`Providers::new`].
#[must_use]
pub fn built_in(options: &Options) -> (ProviderList, OverlayList) {
    let settings = Settings::new(options);
    let (open_shift, others) = match options.platform {
        Platform::OpenShift => (Some(OpenShift::chosen()), false),
        Platform::Any => (Some(OpenShift::default()), true),
        Platform::Kubernetes => (None, true),
    };
    let mut providers: ProviderList = Vec::new();
    if others {
        providers.push(Box::new(HyperShift::new(&settings)));
    }
    if let Some(provider) = open_shift {
        providers.push(Box::new(provider));
    }
    if others {
        let profiled = |profile: &'static Profile| Box::new(Profiled::new(profile, &settings));
        providers.push(Box::new(Karpenter::new(&options.pool_label_keys)));
        providers.push(Box::new(Serverless));
        providers.push(profiled(&eks::EKS));
        providers.push(profiled(&aks::AKS));
        providers.push(profiled(&gke::GKE));
        providers.push(Box::new(ClusterApi::new(&settings)));
        providers.push(profiled(&gardener::GARDENER));
        providers.push(profiled(&kops::KOPS));
        providers.push(profiled(&eks::EKSCTL));
        providers.push(profiled(&distributions::TALOS));
        providers.push(profiled(&distributions::K3S));
        providers.push(profiled(&distributions::RKE2));
        providers.push(profiled(&microshift::MICROSHIFT));
        providers.push(Box::new(Kubeadm::new(&settings)));
        providers.push(Box::new(Kubernetes::new(settings)));
    }
    let mut overlays: OverlayList = vec![
        Box::new(Kured),
        Box::new(Plans),
        Box::new(Bottlerocket),
        Box::new(Flatcar),
        Box::new(NodeMaintenance),
        Box::new(Lifecycle),
        Box::new(Tuppr),
    ];
    let is_enabled = |name: &ProviderName| !options.disabled.contains(&key(name));
    providers.retain(|each| is_enabled(&each.name()) || each.name() == Kubernetes::NAME);
    overlays.retain(|each| is_enabled(&each.name()));
    (providers, overlays)
}

/// The name of a provider or an overlay in flags and in values of the chart: letters and digits in lower case.
#[must_use]
pub fn key(name: &ProviderName) -> String {
    let letters = name.as_str().chars().filter(char::is_ascii_alphanumeric);
    letters.map(|letter| letter.to_ascii_lowercase()).collect()
}

/// The keys of all built-in providers and overlays that can be disabled; plain Kubernetes cannot.
#[must_use]
pub fn keys() -> Vec<String> {
    let (providers, overlays) = built_in(&Options::default());
    let of_providers = providers.iter().map(|each| each.name());
    let names = of_providers.chain(overlays.iter().map(|each| each.name()));
    names
        .filter(|name| *name != Kubernetes::NAME)
        .map(|name| key(&name))
        .collect()
}

/// Converts what a provider reads from a Node to evidence.
#[must_use]
pub fn evidence<E: Erased + Any>(found: Option<E>) -> Option<Evidence> {
    found.map(|found| Arc::new(found) as Evidence)
}

#[cfg(test)]
mod tests;
