//! Plain Kubernetes: what every node reports, with any updater.

use std::sync::Arc;

use super::inferred::{IN_PLACE, Signs, evaluate};
use super::settings::Settings;
use super::{Claim, Provider, Subject};
use crate::api::types::ProviderName;
use crate::domain::facts::{Unavailable, View};
use crate::domain::node::NodeFacts;
use crate::domain::pool::Membership;
use crate::domain::state::Evaluation;

/// Plain Kubernetes: every node that no other provider claims.
#[derive(Debug, Clone)]
pub struct Kubernetes(Settings);

impl Kubernetes {
    /// Its name in insights.
    pub const NAME: ProviderName = ProviderName::new("Kubernetes");

    /// The provider with these settings.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self(settings)
    }
}

impl Provider for Kubernetes {
    fn name(&self) -> ProviderName {
        Self::NAME
    }

    fn claim(&self, _: &NodeFacts, _: &View<'_>) -> Claim {
        Claim::Otherwise
    }

    fn pool(&self, node: &NodeFacts, view: &View<'_>) -> Result<Membership, Unavailable> {
        Ok(Membership::Pool(Arc::new(self.0.pool(&node.labels, view))))
    }

    fn evaluate(&self, node: &Subject<'_>, view: &View<'_>) -> Result<Evaluation, Unavailable> {
        Ok(evaluate(&self.0, &IN_PLACE, node, Signs::default(), view))
    }
}

#[cfg(test)]
mod tests;
