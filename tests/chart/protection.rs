//! `protection.enabled`: who may write insights, as decided by a real API server.

use std::fs;
use std::path::Path;

use anyhow::{Result, bail};
use node_insights_harness::{ControlPlane, eventually};

use crate::helm::{Helm, Major, NAME, chart};
use crate::support::SOON;

/// A status that the schema allows.
const STATUS: &str = r#"{"status": {"name": "a", "phase": "Completed", "provider": "Kubernetes",
    "scope": "WorkerPool", "phaseStartTime": "2026-01-01T00:00:00Z", "conditions": [], "timeline": []}}"#;

#[tokio::test]
async fn only_the_operator_and_configured_users_may_write_insights() -> Result<()> {
    let mut plane = ControlPlane::start().await?;
    let helm = Helm::of(Major::Four, &plane)?;
    helm.install(&["--set", "protection.enabled=true"])?;
    // After the CRDs: the garbage collector looks for new kinds every 30 s.
    plane.start_controller_manager().await?;

    let kubectl = async |args: &[&str]| plane.kubectl(args).await;
    kubectl(&["create", "serviceaccount", "boss", "-n", "default"]).await?;
    let cluster_admin = "--clusterrole=cluster-admin";
    let boss = "--serviceaccount=default:boss";
    kubectl(&["create", "clusterrolebinding", "boss", cluster_admin, boss]).await?;
    let boss = plane.service_account_kubeconfig("default", "boss").await?;
    let operator = plane.service_account_kubeconfig(NAME, NAME).await?;
    let admin = plane.kubeconfig();

    // The API server enforces a policy a moment after it is created.
    let denial = eventually("the policy is in force", SOON, async || {
        match create(&plane, &boss, "a", "--dry-run=server").await {
            Ok(_) => Ok(None),
            Err(error) => Ok(Some(error.to_string())),
        }
    })
    .await?;
    for part in [
        "Only node-insights writes insights",
        "system:serviceaccount:default:boss is not its account",
        "protection.users",
        "Forbidden",
    ] {
        assert!(denial.contains(part), "{part:?} is not in {denial}");
    }

    // The operator's account may write as the operator does, and so may the admin (of system:masters); a
    // cluster-admin may not.
    for kubeconfig in [&*operator, admin] {
        create(&plane, kubeconfig, "a", "--validate=false").await?;
        let denied = [
            write_status(&plane, &boss).await,
            delete(&plane, &boss).await,
            label(&plane, &boss).await,
            create_pool_insight(&plane, &boss).await,
        ];
        for result in denied {
            let error = result.unwrap_err().to_string();
            assert!(
                error.contains("Only node-insights writes insights"),
                "{error}"
            );
        }
        if kubeconfig == admin {
            write_status(&plane, kubeconfig).await?;
        } else {
            replace_status(&plane, kubeconfig).await?;
        }
        delete(&plane, kubeconfig).await?;
    }

    a_node_can_be_deleted(&plane).await?;

    // Configured users and groups may write.
    for name in [
        "protection.users[0]=system:serviceaccount:default:boss",
        "protection.groups[0]=system:serviceaccounts:default",
    ] {
        let set = ["--set", "protection.enabled=true", "--set", name];
        helm.release("upgrade", &[&[&*chart()], &set[..]].concat())?;
        eventually(&format!("{name} is in force"), SOON, async || {
            let created = create(&plane, &boss, "b", "--dry-run=server").await;
            created.map(Some)
        })
        .await?;
        helm.release("upgrade", &[&chart(), "--set", "protection.enabled=true"])?;
        eventually("it is no longer in force", SOON, async || {
            let created = create(&plane, &boss, "b", "--dry-run=server").await;
            Ok(created.is_err().then_some(()))
        })
        .await?;
    }
    Ok(())
}

/// The garbage collector deletes the insight of a deleted node, or with `--cascade=orphan` removes its owner
/// reference. If that were denied, the node could never be deleted.
async fn a_node_can_be_deleted(plane: &ControlPlane) -> Result<()> {
    for (name, cascade) in [("gone", "background"), ("left", "orphan")] {
        let node = format!("{{apiVersion: v1, kind: Node, metadata: {{name: {name}}}}}");
        plane.apply_yaml(&node).await?;
        let uid = "jsonpath={.metadata.uid}";
        let uid = plane.kubectl(&["get", "node", name, "-o", uid]).await?;
        let owner = format!("[{{apiVersion: v1, kind: Node, name: {name}, uid: {uid}}}]");
        let insight = format!(
            "{{apiVersion: nodeinsights.dev/v1alpha1, kind: NodeProgressInsight, \
             metadata: {{name: {name}, ownerReferences: {owner}}}}}"
        );
        plane.apply_yaml(&insight).await?;
        let cascade = format!("--cascade={cascade}");
        plane
            .kubectl(&["delete", "node", name, &cascade, "--wait=false"])
            .await?;
    }
    let names = async |resource: &str| -> Result<Vec<String>> {
        let get = ["get", resource, "-o", "name"];
        let listed = plane.kubectl(&get).await?;
        Ok(listed.lines().map(str::to_owned).collect())
    };
    eventually(
        "both nodes are gone, and one of the insights",
        SOON,
        async || {
            let nodes = names("nodes").await?;
            let insights = names("nodeprogressinsights").await?;
            if nodes.is_empty() && insights == ["nodeprogressinsight.nodeinsights.dev/left"] {
                Ok(Some(()))
            } else {
                bail!("nodes {nodes:?}, insights {insights:?}")
            }
        },
    )
    .await?;
    let delete = ["delete", "nodeprogressinsight", "left"];
    plane.kubectl(&delete).await.map(drop)
}

async fn create(plane: &ControlPlane, kubeconfig: &Path, name: &str, flag: &str) -> Result<String> {
    let file = plane.dir().join("insight.yaml");
    let insight = format!(
        "{{apiVersion: nodeinsights.dev/v1alpha1, kind: NodeProgressInsight, metadata: {{name: {name}}}}}"
    );
    fs::write(&file, insight)?;
    as_account(
        plane,
        kubeconfig,
        &["create", flag, "-f", &file.to_string_lossy()],
    )
    .await
}

async fn create_pool_insight(plane: &ControlPlane, kubeconfig: &Path) -> Result<String> {
    let file = plane.dir().join("pool.yaml");
    let insight =
        "{apiVersion: nodeinsights.dev/v1alpha1, kind: PoolProgressInsight, metadata: {name: a}}";
    fs::write(&file, insight)?;
    as_account(
        plane,
        kubeconfig,
        &["create", "-f", &file.to_string_lossy()],
    )
    .await
}

/// By a patch, which the operator's account is not allowed to do.
async fn write_status(plane: &ControlPlane, kubeconfig: &Path) -> Result<String> {
    let patch = [
        "patch",
        "npi",
        "a",
        "--subresource=status",
        "--type=merge",
        "-p",
        STATUS,
    ];
    as_account(plane, kubeconfig, &patch).await
}

/// By a PUT, as the operator does it.
async fn replace_status(plane: &ControlPlane, kubeconfig: &Path) -> Result<String> {
    let status: serde_json::Value = serde_json::from_str(STATUS)?;
    let get = as_account(plane, kubeconfig, &["get", "npi", "a", "-o", "json"]).await?;
    let mut insight: serde_json::Value = serde_json::from_str(&get)?;
    insight["status"] = status["status"].clone();
    let file = plane.dir().join("status.json");
    fs::write(&file, insight.to_string())?;
    let file = file.to_string_lossy();
    let replace = [
        "replace",
        "--subresource=status",
        "--validate=false",
        "-f",
        &file,
    ];
    as_account(plane, kubeconfig, &replace).await
}

async fn label(plane: &ControlPlane, kubeconfig: &Path) -> Result<String> {
    as_account(plane, kubeconfig, &["label", "npi", "a", "mine=true"]).await
}

async fn delete(plane: &ControlPlane, kubeconfig: &Path) -> Result<String> {
    as_account(plane, kubeconfig, &["delete", "npi", "a"]).await
}

async fn as_account(plane: &ControlPlane, kubeconfig: &Path, args: &[&str]) -> Result<String> {
    let kubeconfig = kubeconfig.to_string_lossy();
    plane
        .kubectl(&[&["--kubeconfig", &kubeconfig], args].concat())
        .await
}
