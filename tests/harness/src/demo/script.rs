//! Scripts of updaters: what the cluster has before, and the update that is played.
//!
//! No two scripts have a node of the same name, so that several can run in one cluster.

use std::fmt::Debug;
use std::sync::Arc;

use anyhow::Result;
use futures::future::LocalBoxFuture;
use kube::Client;

use crate::kubernetes::Pace;
use crate::truth::Truth;

pub(super) mod cluster_api;
pub(super) mod hypershift;
pub(super) mod k3s;
pub(super) mod karpenter;
pub(super) mod kubernetes;
pub(super) mod kured;
pub(super) mod managed;
pub(super) mod mixed;
pub(super) mod openshift;

/// A script, shared by whoever plays it.
pub(super) type Shared = Arc<dyn Script>;

/// A cluster and its update.
pub(super) trait Script: Debug + Send + Sync {
    /// What kind of cluster it is.
    fn name(&self) -> &'static str;

    /// Number of nodes before the update.
    fn nodes(&self) -> usize;

    /// Number of nodes after the update.
    fn nodes_afterwards(&self) -> usize {
        self.nodes()
    }

    /// A description of the update.
    fn describe(&self) -> String;

    /// Makes the server serve the kinds of the updater, by stand-ins.
    fn install<'a>(&'a self, _client: &'a Client) -> LocalBoxFuture<'a, Result<()>> {
        done()
    }

    /// Loads the cluster, before its update.
    fn load<'a>(&'a self, client: &'a Client) -> LocalBoxFuture<'a, Result<()>>;

    /// Plays the update. Returns only after a held pool is released.
    fn play<'a>(&'a self, client: &'a Client) -> LocalBoxFuture<'a, Result<()>>;

    /// The pool that is held at the start, and that the update waits for at its end.
    fn held_pool(&self) -> Option<&'static str> {
        None
    }

    /// The node whose drain somebody may hold up: one of the first whose updater evicts pods.
    fn held_drain(&self) -> Option<&'static str> {
        None
    }

    /// Releases the held pool.
    fn release<'a>(&'a self, _client: &'a Client) -> LocalBoxFuture<'a, Result<()>> {
        done()
    }
}

/// The versions of an update, how fast it goes, and where the truth about it is told.
#[derive(Debug, Clone)]
pub(super) struct Update {
    pub(super) from: String,
    pub(super) to: String,
    pub(super) pace: Pace,
    pub(super) truth: Truth,
}

fn done<'a>() -> LocalBoxFuture<'a, Result<()>> {
    Box::pin(std::future::ready(Ok(())))
}

/// Names without their owner.
fn refs(names: &[String]) -> Vec<&str> {
    names.iter().map(String::as_str).collect()
}
