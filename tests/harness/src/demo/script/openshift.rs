//! The Machine Config Operator updates all nodes in place.

use anyhow::Result;
use futures::future::LocalBoxFuture;
use kube::Client;

use super::{Script, refs};
use crate::kubernetes::Pace;
use crate::openshift::rollout::{self, Plan};
use crate::openshift::{Builder, Cluster, Editor, Pool};
use crate::truth::{COMPLETED, PENDING, Truth};

/// The releases that it is updated from and to.
const RELEASES: (&str, &str) = ("4.19.14", "4.20.3");

/// The pool that stays behind until all others are done.
const PAUSED: &str = "edge";

/// The node whose update fails at first.
const DEGRADED: &str = "worker-04";

/// The node whose drain somebody may hold up.
const HELD_UP: &str = "worker-02";

/// A cluster of OpenShift and its update.
#[derive(Debug)]
pub(in crate::demo) struct InPlace {
    cluster: Cluster,
    pools: Vec<String>,
    plan: Plan,
}

impl InPlace {
    /// The cluster of the demo.
    pub(in crate::demo) fn new(pace: Pace, truth: Truth) -> Result<Self> {
        let pools = [
            Pool::new("master", 3),
            Pool::new("worker", 12).max_unavailable(3),
            Pool::new("infra", 3),
        ];
        Self::of(&pools, DEGRADED, pace, truth)
    }

    /// A cluster of these pools and a paused one; the update of one node fails at first.
    pub(in crate::demo) fn of(
        pools: &[Pool],
        degraded: &str,
        pace: Pace,
        truth: Truth,
    ) -> Result<Self> {
        let paused = Pool::new(PAUSED, 2).max_unavailable(2).paused();
        let pools = pools.iter().cloned().chain([paused]);
        let pools: Vec<Pool> = pools.collect();
        let builder = Cluster::builder(RELEASES.0);
        let builder = pools.iter().cloned().fold(builder, Builder::pool);
        let plan = Plan {
            pace,
            degraded: Some(degraded.to_owned()),
            truth,
            ..Plan::to(RELEASES.1)
        };
        Ok(Self {
            cluster: builder.build()?,
            pools: pools.into_iter().map(|pool| pool.name).collect(),
            plan,
        })
    }

    /// The names of all nodes.
    fn names(&self) -> Vec<&str> {
        let names = self
            .pools
            .iter()
            .flat_map(|pool| self.cluster.nodes_of(pool));
        names.map(String::as_str).collect()
    }
}

impl Script for InPlace {
    fn name(&self) -> &'static str {
        "OpenShift"
    }

    fn nodes(&self) -> usize {
        self.names().len()
    }

    fn describe(&self) -> String {
        format!(
            "Updating from {} to {}, about a minute. The pool {PAUSED} is paused until the others are done; {} fails at first.",
            self.cluster.version,
            self.plan.version,
            self.plan.degraded.as_deref().unwrap_or("none")
        )
    }

    fn load<'a>(&'a self, client: &'a Client) -> LocalBoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let names = self.names();
            let loaded = self.cluster.load(client);
            let truth = &self.plan.truth;
            truth.step_of(&names, &[COMPLETED], loaded).await.map(drop)
        })
    }

    fn play<'a>(&'a self, client: &'a Client) -> LocalBoxFuture<'a, Result<()>> {
        Box::pin(rollout::play(client, &self.plan))
    }

    fn held_drain(&self) -> Option<&'static str> {
        Some(HELD_UP)
    }

    fn held_pool(&self) -> Option<&'static str> {
        Some(PAUSED)
    }

    fn release<'a>(&'a self, client: &'a Client) -> LocalBoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let names = refs(self.cluster.nodes_of(PAUSED));
            let editor = Editor::new(client);
            let unpaused = editor.set_paused(PAUSED, false);
            self.plan.truth.step_of(&names, &[PENDING], unpaused).await
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_node_that_fails_is_one_of_the_cluster() {
        let script = InPlace::new(Pace::DEMO, Truth::default()).unwrap();
        let workers = script.cluster.nodes_of("worker");
        assert!(workers.contains(&DEGRADED.to_owned()));
        assert!(
            workers[..3].contains(&HELD_UP.to_owned()),
            "one of the first"
        );
        assert_eq!(script.cluster.nodes_of(PAUSED).len(), 2);
        assert_eq!(script.nodes(), 20);
    }
}
