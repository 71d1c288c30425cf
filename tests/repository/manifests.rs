//! `config/`, as a real API server takes it.

use std::fs;

use k8s_openapi::api::authorization::v1::SubjectAccessReview;
use kube::Api;
use kube::api::PostParams;
use node_insights_harness::ControlPlane;
use serde_json::{Value, json};

use super::root;

/// How the API server calls the operator's account.
const ACCOUNT: &str = "system:serviceaccount:node-insights:node-insights";

/// The groups that every service account is in.
const GROUPS: [&str; 2] = ["system:serviceaccounts", "system:authenticated"];

/// Group, resources and verbs of what the operator does.
const DOES: [(&str, &[&str], &[&str]); 7] = [
    ("", &["nodes"], &["list", "watch"]),
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

    for (group, resources, verbs) in DOES {
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
        ("", "pods"),
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
    // Not even the operator may start operations: the role for that is for people.
    for (verb, path, is_so) in [
        ("get", "/version", true),
        ("get", "/apis", true),
        ("post", "/operations/resync", false),
    ] {
        let attributes = json!({"nonResourceAttributes": {"path": path, "verb": verb}});
        assert_eq!(review(&plane, attributes).await, is_so, "{verb} {path}");
    }
    // The one ConfigMap and the one Lease in its own namespace.
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

/// Asks the API server whether the operator's account is allowed that.
async fn review(plane: &ControlPlane, mut spec: Value) -> bool {
    spec["user"] = ACCOUNT.into();
    spec["groups"] = GROUPS.as_slice().into();
    let review = serde_json::from_value(json!({"metadata": {}, "spec": spec})).unwrap();
    let reviews: Api<SubjectAccessReview> = Api::all(plane.client());
    let answer = reviews.create(&PostParams::default(), &review).await;
    answer.unwrap().status.unwrap().allowed
}

#[tokio::test]
async fn the_operators_pod_is_let_in_where_the_strictest_profile_is_enforced() {
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

    // A Deployment is taken whatever its pods ask for: only a pod is judged.
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
