//! A drain that is held up: by the budget of the only pod of a workload, until somebody changes the budget.
//!
//! No disruption controller runs, so the status that it would calculate is written here.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::Client;
use kube::api::{Api, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use super::view::View;
use crate::kubernetes::node::boot_id;
use crate::pods::{NAMESPACE, Pods};

const WORKLOAD: &str = "orders";
/// How long the blocker is shown before the budget is changed: long enough to be read.
const READING: Duration = Duration::from_secs(15);

/// The drain of a node, and how far it is.
pub(super) struct HoldUp {
    node: &'static str,
    state: State,
}

enum State {
    /// The insight names nothing yet.
    Unnamed,
    /// It names the budget, since then.
    Named(Instant),
    /// The budget allows the eviction.
    Freed,
    /// The insight names nothing any more.
    Over,
}

impl HoldUp {
    /// Creates the pod on the node, and its budget.
    pub(super) async fn plant(client: &Client, node: &'static str) -> Result<Self> {
        let owner = json!({
            "apiVersion": "apps/v1", "kind": "StatefulSet", "name": WORKLOAD,
            "uid": boot_id(&[WORKLOAD]), "controller": true,
        });
        let metadata = json!({
            "name": format!("{WORKLOAD}-0"), "labels": {"app": WORKLOAD}, "ownerReferences": [owner],
        });
        Pods::new(client).run_as(metadata, node, true).await?;
        let budget = json!({
            "metadata": {"name": WORKLOAD},
            "spec": {"maxUnavailable": 0, "selector": {"matchLabels": {"app": WORKLOAD}}},
        });
        let api = budgets(client);
        api.create(&PostParams::default(), &serde_json::from_value(budget)?)
            .await
            .context("Creating the budget")?;
        set_status(&api, 1, 0).await?;
        Ok(Self {
            node,
            state: State::Unnamed,
        })
    }

    /// Goes on with what the insights show; returns what to announce.
    pub(super) async fn go_on(&mut self, client: &Client, view: &View) -> Result<Option<String>> {
        let node = self.node;
        let is_named = view.is_held_up(node);
        match self.state {
            State::Unnamed if is_named => {
                self.state = State::Named(Instant::now());
                let seconds = READING.as_secs();
                Ok(Some(format!(
                    "The drain of {node} is held up; the budget is changed in {seconds} s."
                )))
            }
            State::Named(since) if since.elapsed() >= READING => {
                let api = budgets(client);
                let change = Patch::Merge(json!({"spec": {"maxUnavailable": 1}}));
                api.patch(WORKLOAD, &PatchParams::default(), &change)
                    .await
                    .context("Changing the budget")?;
                set_status(&api, 0, 1).await?;
                self.state = State::Freed;
                Ok(Some(format!(
                    "Budget {NAMESPACE}/{WORKLOAD} allows it now: the drain of {node} goes on."
                )))
            }
            State::Freed if !is_named => {
                self.state = State::Over;
                Ok(Some(format!(
                    "Nothing holds the drain of {node} up any more."
                )))
            }
            State::Unnamed | State::Named(_) | State::Freed | State::Over => Ok(None),
        }
    }
}

fn budgets(client: &Client) -> Api<PodDisruptionBudget> {
    Api::namespaced(client.clone(), NAMESPACE)
}

async fn set_status(api: &Api<PodDisruptionBudget>, desired: u32, allowed: u32) -> Result<()> {
    let generation = api.get(WORKLOAD).await?.metadata.generation;
    let status: Value = json!({
        "observedGeneration": generation, "expectedPods": 1, "currentHealthy": 1,
        "desiredHealthy": desired, "disruptionsAllowed": allowed,
    });
    let patch = Patch::Merge(json!({"status": status}));
    api.patch_status(WORKLOAD, &PatchParams::default(), &patch)
        .await
        .context("Patching the status of the budget")?;
    Ok(())
}
