//! A real API server accepts every object that the chart renders, and admits its pods under the
//! restricted Pod Security profile.

use std::fs;

use anyhow::{Context as _, Result};
use node_insights_harness::ControlPlane;
use serde_json::Value;

use crate::helm::{Case, Helm, Major, NAME, objects, one};
use crate::support::project;

/// Minimal CRDs of the Prometheus Operator, to validate monitors against.
const MONITORS: &str = include_str!("fixtures/prometheus-operator-crds.yaml");

#[tokio::test]
async fn every_object_is_accepted_with_strict_field_validation() -> Result<()> {
    let plane = plane().await?;
    plane.apply_yaml(MONITORS).await?;
    for case in Case::accepted()? {
        let rendered = Helm::offline(Major::Four)?.template(&["--values", &case.path])?;
        let file = plane.dir().join("rendered.yaml");
        fs::write(&file, rendered)?;
        let file = file.to_string_lossy();
        let output = plane
            .kubectl(&[
                "apply",
                "--server-side",
                "--dry-run=server",
                "--validate=strict",
                "-f",
                &file,
            ])
            .await
            .context(case.name)?;
        assert!(output.lines().count() > 8, "{output}");
    }
    // Cross-check: an unknown field is rejected.
    let wrong = "{apiVersion: monitoring.coreos.com/v1, kind: ServiceMonitor, \
                 metadata: {name: a, namespace: node-insights}, \
                 spec: {selector: {}, endpoints: [{port: a, interval: 30s, skeme: https}]}}";
    let file = plane.dir().join("wrong.yaml");
    fs::write(&file, wrong)?;
    let file = file.to_string_lossy();
    let apply = [
        "apply",
        "--server-side",
        "--dry-run=server",
        "--validate=strict",
        "-f",
        &file,
    ];
    let rejected = plane.kubectl(&apply);
    let error = rejected.await.unwrap_err().to_string();
    assert!(error.contains("skeme"), "{error}");
    Ok(())
}

#[tokio::test]
async fn the_pods_are_admitted_under_the_restricted_profile() -> Result<()> {
    let plane = plane().await?;
    for case in Case::accepted()? {
        let rendered = Helm::offline(Major::Four)?.template(&["--values", &case.path])?;
        let rendered = objects(&rendered)?;
        let mut pod = one(&rendered, "Deployment", "")["spec"]["template"].clone();
        pod["apiVersion"] = "v1".into();
        pod["kind"] = "Pod".into();
        pod["metadata"]["name"] = NAME.into();
        pod["metadata"]["namespace"] = NAME.into();
        create(&plane, &pod).await.context(case.name.clone())?;
        create(&plane, one(&rendered, "Pod", "-doctor"))
            .await
            .context(case.name)?;
        pod["spec"]["containers"][0]["securityContext"]["runAsUser"] = 0.into();
        let error = create(&plane, &pod).await.unwrap_err().to_string();
        assert!(error.contains("violates PodSecurity"), "{error}");
        // OpenShift assigns a range of users and groups to each namespace, and rejects any other.
        for field in ["runAsUser", "runAsGroup", "fsGroup", "supplementalGroups"] {
            assert!(pod["spec"]["securityContext"][field].is_null(), "{field}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn the_plain_manifests_are_accepted_too() -> Result<()> {
    let plane = ControlPlane::start().await?;
    let folder = project().join("config/default");
    let folder = folder.to_string_lossy();
    plane
        .kubectl(&["apply", "--validate=strict", "-k", &folder])
        .await?;
    // Again, as in an upgrade: no field is defaulted to another value. kubectl always sends the selector of a
    // PodDisruptionBudget, as its patch strategy is to replace it.
    let output = plane
        .kubectl(&["apply", "--validate=strict", "-k", &folder])
        .await?;
    let changed: Vec<&str> = output
        .lines()
        .filter(|line| !line.ends_with(" unchanged"))
        .collect();
    let budget = "poddisruptionbudget.policy/node-insights configured";
    assert_eq!(changed, [budget]);
    // And by server-side apply, which rejects duplicate keys in lists.
    plane
        .kubectl(&["apply", "--server-side", "--force-conflicts", "-k", &folder])
        .await?;
    let get = ["get", "deployment", "-n", NAME, "-o", "json", NAME];
    let deployment: Value = serde_json::from_str(&plane.kubectl(&get).await?)?;
    let container = &deployment["spec"]["template"]["spec"]["containers"][0];
    assert_eq!(container["image"], "node-insights:dev");
    Ok(())
}

/// A cluster with a namespace that enforces the restricted profile.
async fn plane() -> Result<ControlPlane> {
    let plane = ControlPlane::start().await?;
    let namespace = project().join("config/rbac/namespace.yaml");
    plane.apply_file(namespace).await?;
    Ok(plane)
}

async fn create(plane: &ControlPlane, object: &Value) -> Result<String> {
    let file = plane.dir().join("object.json");
    fs::write(&file, serde_json::to_vec(object)?)?;
    let file = file.to_string_lossy();
    plane
        .kubectl(&[
            "create",
            "--dry-run=server",
            "--validate=strict",
            "-f",
            &file,
        ])
        .await
}
