//! Drifted nodes are replaced by Karpenter.

use anyhow::Result;
use futures::future::LocalBoxFuture;
use kube::Client;

use super::{Script, Update};
use crate::karpenter::{self, rollout};

/// The node whose drain somebody may hold up.
const HELD_UP: &str = "karpenter-general-0";

/// A drift rollout.
#[derive(Debug)]
pub(in crate::demo) struct Drift(rollout::Plan);

impl Drift {
    pub(in crate::demo) fn new(update: Update) -> Self {
        Self(rollout::Plan {
            from: update.from,
            version: update.to,
            pace: update.pace,
            truth: update.truth,
        })
    }
}

impl Script for Drift {
    fn name(&self) -> &'static str {
        "Karpenter"
    }

    fn nodes(&self) -> usize {
        self.0.nodes()
    }

    fn nodes_afterwards(&self) -> usize {
        // One is empty, and removed.
        self.nodes() - 1
    }

    fn describe(&self) -> String {
        format!(
            "The image of the node class goes to {}, and drifted nodes are replaced, about a minute. An empty node is removed, which is no update; a node of the pool {} is held by karpenter.sh/do-not-disrupt until the others are done.",
            self.0.version,
            rollout::HELD_POOL
        )
    }

    fn install<'a>(&'a self, client: &'a Client) -> LocalBoxFuture<'a, Result<()>> {
        Box::pin(karpenter::install(client))
    }

    fn load<'a>(&'a self, client: &'a Client) -> LocalBoxFuture<'a, Result<()>> {
        Box::pin(rollout::load(client, &self.0))
    }

    fn play<'a>(&'a self, client: &'a Client) -> LocalBoxFuture<'a, Result<()>> {
        Box::pin(rollout::play(client, &self.0))
    }

    fn held_drain(&self) -> Option<&'static str> {
        Some(HELD_UP)
    }

    fn held_pool(&self) -> Option<&'static str> {
        Some(rollout::HELD_POOL)
    }

    fn release<'a>(&'a self, client: &'a Client) -> LocalBoxFuture<'a, Result<()>> {
        Box::pin(rollout::release(client, &self.0))
    }
}
