//! The rollout of one pool: which nodes are updated, and the pool's status.

use anyhow::{Context, Result};
use kube::api::DynamicObject;
use kube::runtime::wait::await_condition;
use tokio::sync::Mutex;

use super::{Plan, RENDER, is_paused, node};
use crate::openshift::Editor;
use crate::openshift::objects::PoolCounts;

/// The rollout of a pool from one rendered configuration to another.
pub(super) struct PoolRollout<'a> {
    editor: &'a Editor,
    plan: &'a Plan,
    pool: &'a str,
    current: &'a str,
    wanted: &'a str,
    /// Held across the write of the status, so that the last one written is the newest.
    counts: Mutex<PoolCounts>,
}

impl<'a> PoolRollout<'a> {
    pub(super) fn new(
        editor: &'a Editor,
        plan: &'a Plan,
        pool: &'a str,
        current: &'a str,
        wanted: &'a str,
        nodes: usize,
    ) -> Self {
        let counts = PoolCounts {
            total: nodes,
            ..PoolCounts::default()
        };
        Self {
            editor,
            plan,
            pool,
            current,
            wanted,
            counts: Mutex::new(counts),
        }
    }

    /// Writes the pool's current status.
    pub(super) async fn report(&self) -> Result<()> {
        self.change(|_| ()).await
    }

    /// Updates one node once the pool is not paused.
    pub(super) async fn update(&self, node: &str) -> Result<()> {
        self.unpaused().await?;
        self.change(|counts| counts.unavailable += 1).await?;
        let update = node::Update {
            editor: self.editor,
            pace: self.plan.pace,
            truth: &self.plan.truth,
            node,
            config: self.wanted,
            version: &self.plan.version,
        };
        update.drain().await?;
        if self.plan.degraded.as_deref() == Some(node) {
            self.change(|counts| counts.degraded += 1).await?;
            update.fail_and_recover().await?;
            self.change(|counts| counts.degraded -= 1).await?;
        }
        update.apply_and_reboot().await?;
        self.change(|counts| {
            counts.unavailable -= 1;
            counts.updated += 1;
        })
        .await
    }

    /// Returns once the pool is not paused; after an unpause, the controller takes a moment.
    async fn unpaused(&self) -> Result<()> {
        let pools = self.editor.pools();
        if !is_paused(&pools.get(self.pool).await?) {
            return Ok(());
        }
        let unpaused = |pool: Option<&DynamicObject>| pool.is_some_and(|pool| !is_paused(pool));
        let waited = await_condition(pools.clone(), self.pool, unpaused).await;
        waited.with_context(|| format!("Waiting until pool {} is not paused", self.pool))?;
        self.plan.pace.pass(RENDER).await;
        Ok(())
    }

    async fn change(&self, change: impl FnOnce(&mut PoolCounts)) -> Result<()> {
        let mut counts = self.counts.lock().await;
        change(&mut counts);
        self.editor
            .set_pool_status(self.pool, *counts, self.current, self.wanted)
            .await
    }
}
