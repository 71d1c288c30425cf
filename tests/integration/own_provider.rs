//! A provider that is not part of this crate, with a kind of its own: `examples/own_provider.rs`.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use kube::api::{Api, DynamicObject, Patch, PatchParams, PostParams};
use kube::core::{ApiResource, GroupVersionKind};
use node_insights::api::types::{DesiredVersionSource, Phase};
use node_insights_harness::kubernetes::Cluster;
use serde_json::json;

use crate::support::{Operator, World};

/// The CRD of Acme, and the permission to read it.
const ACME: &str = "
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata:
  name: rollouts.acme.example
spec:
  group: acme.example
  scope: Cluster
  names: {kind: Rollout, listKind: RolloutList, plural: rollouts, singular: rollout}
  versions:
    - name: v1
      served: true
      storage: true
      schema:
        openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: acme}
rules:
  - {apiGroups: [acme.example], resources: [rollouts], verbs: [list, watch]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: acme}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: acme}
subjects: [{kind: ServiceAccount, name: node-insights, namespace: node-insights}]
";

/// Builds the example, which only a run of all tests has done before; where it is.
fn program() -> Result<PathBuf> {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args([
        "build",
        "--quiet",
        "--all-features",
        "--example",
        "own_provider",
    ]);
    let built = cargo.current_dir(env!("CARGO_MANIFEST_DIR")).output()?;
    let stderr = String::from_utf8_lossy(&built.stderr);
    ensure!(
        built.status.success(),
        "the example cannot be built: {stderr}"
    );
    let operator = PathBuf::from(env!("CARGO_BIN_EXE_node-insights"));
    let folder = operator.parent().context("a program in a folder")?;
    Ok(folder.join("examples/own_provider"))
}

#[tokio::test]
async fn a_provider_from_outside_claims_its_nodes_watches_its_kind_and_is_evaluated_and_written()
-> Result<()> {
    let program = program()?;
    let world = World::empty().await?;
    world.plane.apply_yaml(ACME).await?;
    let fleet = Cluster::builder("v1.36.3")
        .control_plane(1)
        .pool_label("acme.example/fleet")
        .pool("red", 2);
    fleet.build()?.load(&world.client).await?;
    let kubeconfig = world
        .plane
        .service_account_kubeconfig("node-insights", "node-insights")
        .await?;
    let operator = Operator::start_program(&program, &kubeconfig, &[], world.plane.dir()).await?;
    operator.ready().await?;
    let node = world.node_reaches("red-0", Phase::Completed).await?;
    assert_eq!(node.provider.as_str(), "Acme");

    let gvk = GroupVersionKind::gvk("acme.example", "v1", "Rollout");
    let resource = ApiResource::from_gvk_with_plural(&gvk, "rollouts");
    let rollouts: Api<DynamicObject> = Api::all_with(world.client.clone(), &resource);
    let rollout = json!({
        "apiVersion": "acme.example/v1", "kind": "Rollout", "metadata": {"name": "red-0"},
        "spec": {"version": "v1.37.0"}, "status": {"step": "Waiting"},
    });
    let rollout = serde_json::from_value(rollout)?;
    rollouts.create(&PostParams::default(), &rollout).await?;
    let pending = world.node_reaches("red-0", Phase::Pending).await?;
    assert_eq!(pending.desired_version.as_deref(), Some("v1.37.0"));
    let source = pending.desired_version_source;
    assert_eq!(source, Some(DesiredVersionSource::Provider));

    let evaluated = operator.evaluations(None).await?;
    let step = Patch::Merge(json!({"status": {"step": "Draining"}}));
    rollouts
        .patch("red-0", &PatchParams::default(), &step)
        .await?;
    world.node_reaches("red-0", Phase::Draining).await?;
    assert_eq!(operator.evaluations(None).await?, evaluated + 1);
    let pool = world
        .pool_becomes("red.fleet", "1 of 2", |pool| pool.progress == "1/2")
        .await?;
    assert_eq!((pool.provider.as_str(), &*pool.name), ("Acme", "red"));
    // Others are whose they were.
    let other = world
        .node_reaches("control-plane-0", Phase::Completed)
        .await?;
    assert_eq!(other.provider.as_str(), "Kubernetes");
    Ok(())
}
