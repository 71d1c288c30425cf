//! A release on a real API server: installed, upgraded, rolled back, uninstalled, installed again.

use std::fs;
use std::path::Path;

use anyhow::{Result, ensure};
use node_insights_harness::ControlPlane;
use serde_json::Value;

use crate::helm::{Helm, Major, NAME, chart};

/// The version of the chart to upgrade from.
const PREVIOUS: &str = "0.0.9";
/// A short name that the CRD of the previous version does not have.
const SHORT_NAME: &str = "npi";

#[tokio::test]
async fn a_release_goes_through_its_lifecycle_and_its_insights_outlive_it_with_helm_3() -> Result<()>
{
    let plane = ControlPlane::start().await?;
    let helm = Helm::of(Major::Three, &plane)?;
    lifecycle(&plane, &helm).await?;
    // After a migration to Helm 4 there are releases that Helm 3 created.
    let four = Helm::of(Major::Four, &plane)?;
    four.release("upgrade", &[&chart(), "--set", "concurrency=3"])?;
    assert_eq!(flag(&plane, "--concurrency").await?, "3");
    four.release("rollback", &[])?;
    assert_eq!(flag(&plane, "--concurrency").await?, "8");
    Ok(())
}

#[tokio::test]
async fn a_release_goes_through_its_lifecycle_and_its_insights_outlive_it_with_helm_4() -> Result<()>
{
    let plane = ControlPlane::start().await?;
    let helm = Helm::of(Major::Four, &plane)?;
    lifecycle(&plane, &helm).await
}

async fn lifecycle(plane: &ControlPlane, helm: &Helm) -> Result<()> {
    let previous = previous_version(helm, plane.dir())?;
    let args = [&*previous, "--create-namespace", "--set", "concurrency=4"];
    let notes = helm.release("install", &args)?;
    for text in [
        "node-insights 0.0.9 is installed",
        "kubectl -n node-insights rollout status deployment/node-insights",
        "helm test -n node-insights node-insights",
        "kubectl get npi,ppi",
    ] {
        assert!(notes.contains(text), "no {text} in: {notes}");
    }
    assert!(!notes.contains("WARNING"), "{notes}");
    assert_eq!(flag(plane, "--concurrency").await?, "4");
    assert_eq!(image(plane).await?, "node-insights:0.0.9");
    assert!(!has_short_name(plane).await?);

    // Only one release per cluster: the CRDs belong to the first one.
    let second = helm.run(&["install", "second", &chart(), "--namespace", "default"]);
    let error = second.unwrap_err().to_string();
    assert!(error.contains("invalid ownership metadata"), "{error}");

    let insight = "{apiVersion: nodeinsights.dev/v1alpha1, kind: NodeProgressInsight, \
                   metadata: {name: worker-0}}";
    plane.apply_yaml(insight).await?;
    let uid = uid_of_insight(plane).await?;

    helm.release("upgrade", &[&chart(), "--reset-values"])?;
    assert_eq!(flag(plane, "--concurrency").await?, "8");
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(image(plane).await?, format!("node-insights:{version}"));
    assert!(has_short_name(plane).await?, "the CRD is upgraded");

    helm.release("rollback", &["1"])?;
    assert_eq!(flag(plane, "--concurrency").await?, "4");
    assert!(!has_short_name(plane).await?, "the CRD is rolled back");

    let history: Value = serde_json::from_str(&helm.release("history", &["-o", "json"])?)?;
    let statuses: Vec<&str> = history
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|revision| revision["status"].as_str())
        .collect();
    assert_eq!(statuses, ["superseded", "superseded", "deployed"]);

    helm.release("uninstall", &[])?;
    for kind in [
        "deployments,services,serviceaccounts,networkpolicies,poddisruptionbudgets,roles,rolebindings",
        "clusterroles,clusterrolebindings,validatingadmissionpolicies",
    ] {
        let label = "app.kubernetes.io/instance=node-insights";
        let get = ["get", kind, "-n", NAME, "-l", label, "-o", "name"];
        assert_eq!(plane.kubectl(&get).await?, "", "left behind");
    }
    assert_eq!(
        uid_of_insight(plane).await?,
        uid,
        "the insight is unchanged"
    );

    helm.install(&[])?;
    assert!(has_short_name(plane).await?);
    assert_eq!(
        uid_of_insight(plane).await?,
        uid,
        "the insight is unchanged"
    );
    Ok(())
}

/// A package of the chart as an earlier version: another version number, and a CRD that has changed since.
fn previous_version(helm: &Helm, folder: &Path) -> Result<String> {
    let source = folder.join("previous");
    copy(Path::new(&chart()), &source)?;
    let file = source.join("files/crds/nodeinsights.dev_nodeprogressinsights.yaml");
    let crd = fs::read_to_string(&file)?;
    let line = format!("    - {SHORT_NAME}\n");
    ensure!(crd.contains(&line), "no short name {SHORT_NAME}");
    fs::write(&file, crd.replace(&line, ""))?;
    helm.run(&[
        "package",
        &source.to_string_lossy(),
        "--version",
        PREVIOUS,
        "--app-version",
        PREVIOUS,
        "--destination",
        &folder.to_string_lossy(),
    ])?;
    let package = folder.join(format!("node-insights-{PREVIOUS}.tgz"));
    Ok(package.to_string_lossy().into_owned())
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

async fn container(plane: &ControlPlane) -> Result<Value> {
    let get = ["get", "deployment", "-n", NAME, NAME, "-o", "json"];
    let deployment: Value = serde_json::from_str(&plane.kubectl(&get).await?)?;
    Ok(deployment["spec"]["template"]["spec"]["containers"][0].clone())
}

async fn image(plane: &ControlPlane) -> Result<String> {
    Ok(container(plane).await?["image"]
        .as_str()
        .unwrap()
        .to_owned())
}

/// The value of a flag that the Deployment passes.
async fn flag(plane: &ControlPlane, name: &str) -> Result<String> {
    let container = container(plane).await?;
    let args = container["args"].as_array().unwrap().iter();
    let values: Vec<&str> = args
        .filter_map(|arg| arg.as_str()?.strip_prefix(name)?.strip_prefix('='))
        .collect();
    let [value] = values[..] else {
        panic!("{name} is passed {} times", values.len());
    };
    Ok(value.to_owned())
}

async fn has_short_name(plane: &ControlPlane) -> Result<bool> {
    let crd = "nodeprogressinsights.nodeinsights.dev";
    let path = "jsonpath={.spec.names.shortNames}";
    let names = plane.kubectl(&["get", "crd", crd, "-o", path]).await?;
    Ok(names.contains(&format!("\"{SHORT_NAME}\"")))
}

async fn uid_of_insight(plane: &ControlPlane) -> Result<String> {
    let path = "jsonpath={.metadata.uid}";
    plane
        .kubectl(&["get", "nodeprogressinsights", "worker-0", "-o", path])
        .await
}
