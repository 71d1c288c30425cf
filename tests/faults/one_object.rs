//! An insight that the API server rejects affects no other insight.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::admissionregistration::v1::ValidatingAdmissionPolicyBinding;
use kube::Api;
use kube::api::DeleteParams;
use node_insights::api::types::ConditionStatus;
use node_insights_harness::fault_proxy::{Fault, Rule};
use node_insights_harness::openshift::{Cluster, Pool};
use node_insights_harness::{AuditEntry, AuditMark, eventually};

use crate::scene::{OLD, Scene};
use crate::support::{OPERATOR_USER, SOON, condition};

/// The node whose insight is rejected; the last one, so that the others come first.
const REJECTED: &str = "worker-11";
const OTHERS: usize = 11;
/// A write takes milliseconds. Without a backoff per insight it took a second, even at rest.
const UNAFFECTED: SignedDuration = SignedDuration::from_millis(150);

/// Denies the insights of the worker pool and of this node.
const POLICY: &str = "
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata: {name: no-such-insights}
spec:
  failurePolicy: Fail
  matchConstraints:
    resourceRules:
    - apiGroups: [nodeinsights.dev]
      apiVersions: ['*']
      operations: [CREATE, UPDATE]
      resources: ['*', '*/status']
  validations:
  - expression: \"!(object.metadata.name in ['worker-11', 'worker'])\"
    message: not this one
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata: {name: no-such-insights}
spec: {policyName: no-such-insights, validationActions: [Deny]}
";

#[tokio::test]
async fn insights_of_a_node_and_a_pool_that_a_policy_rejects_delay_no_other() -> Result<()> {
    let mut scene = scene().await?;
    let usual = median(&scene, true).await?;

    scene.world.plane.apply_yaml(POLICY).await?;
    let mark = scene.world.plane.audit().mark()?;
    // The API server takes a moment to enforce a policy.
    let cordon = Cell::new(false);
    let rejections = |name: &'static str| {
        let scene = &scene;
        move || {
            let entries = scene.world.plane.audit().since(mark)?;
            let is_it = |entry: &&AuditEntry| {
                entry.user == OPERATOR_USER && entry.name == name && entry.code == 422
            };
            anyhow::Ok(entries.iter().filter(is_it).count())
        }
    };
    let (of_node, of_pool) = (rejections(REJECTED), rejections("worker"));
    eventually("the policy rejects both", SOON, async || {
        cordon.set(!cordon.get());
        scene.world.editor.cordon(REJECTED, cordon.get()).await?;
        Ok((of_node()? > 0 && of_pool()? > 0).then_some(()))
    })
    .await?;
    let beside = median(&scene, false).await?;
    ensure!(
        beside <= usual + UNAFFECTED,
        "others took {beside:?} in the median, and {usual:?} without the policy"
    );
    let (node, pool) = (of_node()?, of_pool()?);
    ensure!(
        node < 100 && pool < 100,
        "{node} and {pool} writes were rejected"
    );

    let policies: Api<ValidatingAdmissionPolicyBinding> = Api::all(scene.world.client.clone());
    policies
        .delete("no-such-insights", &DeleteParams::default())
        .await?;
    scene.world.editor.cordon(REJECTED, true).await?;
    scene
        .reported_as_available(REJECTED, "worker", false)
        .await?;
    scene.a_fresh_operator_writes_nothing().await
}

#[tokio::test]
async fn a_rejected_insight_delays_no_other_and_is_written_once_it_is_allowed() -> Result<()> {
    rejected_with(403).await
}

#[tokio::test]
async fn an_insight_whose_writes_fail_delays_no_other_and_is_written_once_they_succeed()
-> Result<()> {
    rejected_with(500).await
}

async fn scene() -> Result<Scene> {
    let cluster = Cluster::builder(OLD)
        .pool(Pool::new("master", 1))
        .pool(Pool::new("worker", OTHERS + 1))
        .build()?;
    Scene::openshift(&cluster, &[]).await
}

async fn rejected_with(code: u16) -> Result<()> {
    let mut scene = scene().await?;
    let usual = median(&scene, true).await?;

    let rule = Rule::new(Fault::status(code, None))
        .writes()
        .resource("nodeprogressinsights");
    let rule = scene.proxy.add(rule.name(REJECTED));
    scene.world.editor.cordon(REJECTED, true).await?;
    eventually("it is rejected and retried", SOON, async || {
        Ok((scene.proxy.hits(rule) >= 2).then_some(()))
    })
    .await?;
    let beside = median(&scene, false).await?;
    ensure!(
        beside <= usual + UNAFFECTED,
        "others took {beside:?} in the median, and {usual:?} without the rejected one"
    );
    let hits = scene.proxy.remove(rule);
    ensure!(hits < 100, "it was written {hits} times");
    scene
        .reported_as_available(REJECTED, "worker", false)
        .await?;
    scene.a_fresh_operator_writes_nothing().await
}

/// Cordons (or uncordons) the other nodes one by one; returns the median time from a node's change to the write of
/// its insight, by the API server's clock. Checks that the operator stays ready.
async fn median(scene: &Scene, cordon: bool) -> Result<SignedDuration> {
    let mark = scene.world.plane.audit().mark()?;
    for index in 0..OTHERS {
        let node = format!("worker-{index:02}");
        scene.world.editor.cordon(&node, cordon).await?;
        let wanted = if cordon {
            ConditionStatus::False
        } else {
            ConditionStatus::True
        };
        scene
            .world
            .node_becomes(&node, "cordoned or not", |status| {
                condition(&status.conditions, "Available").status == wanted
            })
            .await?;
        let (code, why) = scene.operator()?.get("/readyz").await?;
        ensure!(code == 200, "not ready for one insight: {why}");
        // Wait, so that the writes of two nodes do not overlap.
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let mut delays = delays(scene, mark)?;
    ensure!(delays.len() == OTHERS, "{delays:?}");
    delays.sort();
    Ok(delays[delays.len() / 2])
}

fn delays(scene: &Scene, mark: AuditMark) -> Result<Vec<SignedDuration>> {
    let mut changed: BTreeMap<String, Timestamp> = BTreeMap::new();
    let mut delays = BTreeMap::new();
    for entry in scene.world.plane.audit().since(mark)? {
        let is_operator = entry.user == OPERATOR_USER;
        match (entry.resource.as_str(), entry.verb.as_str()) {
            ("nodes", "patch") => {
                changed.insert(entry.name, entry.reached);
            }
            ("nodeprogressinsights", "update") if is_operator && entry.name != REJECTED => {
                let at = changed
                    .get(&entry.name)
                    .context("a write without a change")?;
                delays.insert(entry.name, entry.received.duration_since(*at));
            }
            _ => {}
        }
    }
    Ok(delays.into_values().collect())
}
