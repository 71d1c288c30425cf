//! Who updates nodes, and how each of them shows how far it is.
//!
//! A [`Provider`] evaluates the nodes that it claims; an [`Overlay`] refines what the provider says, as kured does
//! that reboots nodes whoever updates them. Both are pure: they see a Node, and the facts through a view that notes
//! what they read, so that a node is evaluated again exactly when something changes that its evaluation read.
//!
//! To add one: a folder here with a type that implements one of the traits, and a line in [`built_in`].

#[cfg(test)]
pub(crate) mod fixtures;
pub mod karpenter;
pub mod kubernetes;
pub mod kured;
pub mod openshift;
mod table;

pub use table::{Assignment, ProviderError, Providers};

use std::any::Any;
use std::sync::Arc;

use jiff::Timestamp;

use crate::api::types::ProviderName;
use crate::domain::erased::Erased;
use crate::domain::fact::{Keys, Kind};
use crate::domain::facts::{Unavailable, View};
use crate::domain::node::{Evidence, NodeFacts, NodeObject};
use crate::domain::pool::{Membership, PoolFacts, PoolId};
use crate::domain::state::{Evaluation, History};

use self::karpenter::Karpenter;
use self::kubernetes::Kubernetes;
use self::kured::Kured;
use self::openshift::OpenShift;

/// Somebody who updates nodes.
pub trait Provider: Send + Sync {
    /// The name that insights show.
    fn name(&self) -> ProviderName;

    /// The kinds that it reads beside Nodes.
    fn kinds(&self) -> Vec<Kind> {
        Vec::new()
    }

    /// What it takes from a Node, if there is anything of it: [`NodeFacts::evidence`] gives it back.
    fn evidence(&self, _: &NodeObject) -> Option<Evidence> {
        None
    }

    /// Under what its nodes can be counted: [`View::count_nodes`].
    fn node_keys(&self, _: &NodeFacts, _: &mut Keys) {}

    /// Whether the node is one of its nodes.
    fn claim(&self, node: &NodeFacts, view: &View<'_>) -> Claim;

    /// What others may show on its nodes, as they name it in their claims, without that being a contradiction.
    fn coexists_with(&self) -> &'static [&'static str] {
        &[]
    }

    /// The pool of a node that it claims.
    ///
    /// # Errors
    /// When a kind that says so cannot be read.
    fn pool(&self, node: &NodeFacts, view: &View<'_>) -> Result<Membership, Unavailable>;

    /// How far the update of a node of `pool` is.
    ///
    /// # Errors
    /// When a kind that says so cannot be read.
    fn evaluate(&self, node: &Subject<'_>, view: &View<'_>) -> Result<Evaluation, Unavailable>;

    /// The pools that are there whether they have nodes or not, because they are objects.
    ///
    /// # Errors
    /// When the kind cannot be read.
    fn pools(&self, _: &View<'_>) -> Result<Vec<Arc<PoolId>>, Unavailable> {
        Ok(Vec::new())
    }

    /// What a pool says beside its nodes.
    ///
    /// # Errors
    /// When the kind cannot be read.
    fn describe(&self, _: &PoolId, _: &View<'_>, _: Timestamp) -> Result<PoolFacts, Unavailable> {
        Ok(PoolFacts::default())
    }

    /// What of a node survives its update.
    fn identity(&self) -> Identity {
        Identity::Uid
    }
}

/// Whether a node is one of a provider's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Claim {
    /// It is not.
    None,
    /// The node shows it; what shows it, as in `label karpenter.sh/nodepool`.
    Evidence(&'static str),
    /// Nothing shows it, but it is if nobody else claims the node.
    Otherwise,
}

/// What of a node survives its update.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Identity {
    /// The UID: another UID is another node.
    Uid,
    /// The name: the Node is deleted and registers again, and goes on where it was.
    Name,
}

/// The node that is evaluated.
#[derive(Clone, Copy)]
pub struct Subject<'a> {
    /// What matters of the Node.
    pub facts: &'a NodeFacts,
    /// Its pool.
    pub pool: &'a PoolId,
    /// What was known of it before.
    pub past: Option<&'a History>,
    /// The time.
    pub now: Timestamp,
}

/// Somebody who does things to nodes beside the provider.
pub trait Overlay: Send + Sync {
    /// The name that insights show.
    fn name(&self) -> ProviderName;

    /// The kinds that it reads beside Nodes.
    fn kinds(&self) -> Vec<Kind> {
        Vec::new()
    }

    /// What it takes from a Node, if there is anything of it: [`NodeFacts::evidence`] gives it back.
    fn evidence(&self, _: &NodeObject) -> Option<Evidence> {
        None
    }

    /// What it makes of what was said until now; `None` where it has no say. It is believed where nothing is under
    /// way, and where what is under way was concluded from what any updater does.
    ///
    /// # Errors
    /// When a kind that says so cannot be read.
    fn refine(
        &self,
        node: &Subject<'_>,
        until_now: &Evaluation,
        view: &View<'_>,
    ) -> Result<Option<Evaluation>, Unavailable>;
}

/// Who may update the nodes, as the user says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Platform {
    /// Whoever a node shows.
    #[default]
    Any,
    /// OpenShift's Machine Config Operator, and nobody else.
    OpenShift,
    /// Everybody but that.
    Kubernetes,
}

/// What the user says about providers.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Who may update the nodes.
    pub platform: Platform,
    /// Plain Kubernetes: labels whose value names a node's pool, first match wins.
    pub pool_label_keys: Vec<String>,
    /// Plain Kubernetes: the version that every node is to run.
    pub target_version: Option<String>,
}

/// Providers in order of precedence.
pub type ProviderList = Vec<Box<dyn Provider>>;
/// Overlays in their order.
pub type OverlayList = Vec<Box<dyn Overlay>>;

/// The providers and overlays that are built in. Whoever has one of their own puts it where it belongs, and passes
/// both to [`Providers::new`].
#[must_use]
pub fn built_in(options: &Options) -> (ProviderList, OverlayList) {
    let target = options.target_version.as_deref();
    let kubernetes = Kubernetes::new(&options.pool_label_keys, target);
    let providers: ProviderList = match options.platform {
        Platform::OpenShift => vec![Box::new(OpenShift::chosen())],
        Platform::Any => vec![
            Box::new(OpenShift::default()),
            Box::new(Karpenter::new(&options.pool_label_keys)),
            Box::new(kubernetes),
        ],
        Platform::Kubernetes => vec![
            Box::new(Karpenter::new(&options.pool_label_keys)),
            Box::new(kubernetes),
        ],
    };
    (providers, vec![Box::new(Kured)])
}

/// Makes evidence of what a provider takes from a Node.
#[must_use]
pub fn evidence<E: Erased + Any>(found: Option<E>) -> Option<Evidence> {
    found.map(|found| Arc::new(found) as Evidence)
}

#[cfg(test)]
mod tests;
