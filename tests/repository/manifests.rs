//! `config/`, applied to a real API server.

use std::fs;

use k8s_openapi::api::authorization::v1::SubjectAccessReview;
use kube::Api;
use kube::api::PostParams;
use node_insights_harness::ControlPlane;
use serde_json::{Value, json};

use super::root;

/// The user name of the operator's account.
const ACCOUNT: &str = "system:serviceaccount:node-insights:node-insights";

/// The groups of every service account.
const GROUPS: [&str; 2] = ["system:serviceaccounts", "system:authenticated"];

/// The operator's permissions: group, resources and verbs.
const GRANTED: [(&str, &[&str], &[&str]); 8] = [
    ("", &["nodes", "pods"], &["list", "watch"]),
    ("policy", &["poddisruptionbudgets"], &["list", "watch"]),
    (
        "machineconfiguration.openshift.io",
        &["machineconfigpools", "machineconfigs"],
        &["list", "watch"],
    ),
    (
        "config.openshift.io",
        &["clusterversions"],
        &["list", "watch"],
    ),
    (
        "nodeinsights.dev",
        &["nodeprogressinsights", "poolprogressinsights"],
        &["get", "list", "watch", "create", "delete"],
    ),
    (
        "nodeinsights.dev",
        &["nodeprogressinsights/status", "poolprogressinsights/status"],
        &["update"],
    ),
    ("authentication.k8s.io", &["tokenreviews"], &["create"]),
    (
        "authorization.k8s.io",
        &["subjectaccessreviews"],
        &["create"],
    ),
];

/// Every verb that a rule can grant.
const VERBS: [&str; 8] = [
    "get",
    "list",
    "watch",
    "create",
    "update",
    "patch",
    "delete",
    "deletecollection",
];

#[tokio::test]
async fn the_operator_may_do_what_it_does_and_no_more() {
    let plane = ControlPlane::start().await.unwrap();
    let folder = root().join("config/default");
    plane
        .kubectl(&["apply", "--server-side", "-k", folder.to_str().unwrap()])
        .await
        .unwrap();

    for (group, resources, verbs) in GRANTED {
        for resource in resources {
            for verb in VERBS {
                assert_eq!(
                    may(&plane, group, resource, verb).await,
                    verbs.contains(&verb),
                    "{verb} {resource} {group}"
                );
            }
        }
    }
    for (group, resource) in [
        ("", "nodes/status"),
        ("", "pods/eviction"),
        ("", "pods/log"),
        ("", "secrets"),
        ("nodeinsights.dev", "nodeprogressinsights/finalizers"),
        ("apiextensions.k8s.io", "customresourcedefinitions"),
        ("authorization.k8s.io", "localsubjectaccessreviews"),
    ] {
        for verb in VERBS {
            assert!(
                !may(&plane, group, resource, verb).await,
                "{verb} {resource}"
            );
        }
    }
    // Not even the operator may start operations: the role for that is for users.
    for (verb, path, is_allowed) in [
        ("get", "/version", true),
        ("get", "/apis", true),
        ("post", "/operations/resync", false),
    ] {
        let attributes = json!({"nonResourceAttributes": {"path": path, "verb": verb}});
        assert_eq!(
            review(&plane, attributes).await,
            is_allowed,
            "{verb} {path}"
        );
    }
    // One ConfigMap and one Lease in its own namespace.
    let kinds = [
        ("", "configmaps", "node-insights-sync-status"),
        ("coordination.k8s.io", "leases", "node-insights"),
    ];
    for (group, resource, own) in kinds {
        for (verb, namespace, name, is_allowed) in [
            ("create", "node-insights", "", true),
            ("get", "node-insights", own, true),
            ("update", "node-insights", own, true),
            ("get", "node-insights", "another", false),
            ("list", "node-insights", "", false),
            ("delete", "node-insights", own, false),
            ("get", "default", own, false),
            ("create", "default", "", false),
        ] {
            let attributes = json!({
                "group": group, "version": "*", "resource": resource,
                "verb": verb, "namespace": namespace, "name": name
            });
            let spec = json!({"resourceAttributes": attributes});
            assert_eq!(
                review(&plane, spec).await,
                is_allowed,
                "{verb} {resource} {namespace}/{name}"
            );
        }
    }
}

async fn may(plane: &ControlPlane, group: &str, resource: &str, verb: &str) -> bool {
    let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
    let attributes = json!({
        "group": group, "version": "*", "resource": resource, "subresource": subresource, "verb": verb
    });
    review(plane, json!({"resourceAttributes": attributes})).await
}

/// Whether the API server allows the operator's account that.
async fn review(plane: &ControlPlane, mut spec: Value) -> bool {
    spec["user"] = ACCOUNT.into();
    spec["groups"] = GROUPS.as_slice().into();
    let review = serde_json::from_value(json!({"metadata": {}, "spec": spec})).unwrap();
    let reviews: Api<SubjectAccessReview> = Api::all(plane.client());
    let answer = reviews.create(&PostParams::default(), &review).await;
    answer.unwrap().status.unwrap().allowed
}

#[tokio::test]
async fn the_operators_pod_is_admitted_under_the_restricted_profile() {
    let plane = ControlPlane::start().await.unwrap();
    let folder = root().join("config/default");
    plane
        .kubectl(&["apply", "--server-side", "-k", folder.to_str().unwrap()])
        .await
        .unwrap();
    let get = [
        "get",
        "deployment",
        "node-insights",
        "-n",
        "node-insights",
        "-o",
        "json",
    ];
    let deployment: Value = serde_json::from_str(&plane.kubectl(&get).await.unwrap()).unwrap();
    let mut pod = deployment["spec"]["template"].clone();
    pod["apiVersion"] = "v1".into();
    pod["kind"] = "Pod".into();
    pod["metadata"]["name"] = "node-insights".into();
    pod["metadata"]["namespace"] = "node-insights".into();

    // Pod Security does not reject Deployments, only pods.
    create(&plane, &pod).await.unwrap();
    pod["spec"]["containers"][0]["securityContext"]["allowPrivilegeEscalation"] = true.into();
    let error = create(&plane, &pod).await.unwrap_err().to_string();
    assert!(error.contains("violates PodSecurity"), "{error}");
}

async fn create(plane: &ControlPlane, object: &Value) -> anyhow::Result<String> {
    let file = plane.dir().join("object.json");
    fs::write(&file, serde_json::to_vec(object)?)?;
    let file = file.to_string_lossy();
    plane
        .kubectl(&["create", "--dry-run=server", "-f", &file])
        .await
}
