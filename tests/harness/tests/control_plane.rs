//! The harness itself, against the real programs.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use k8s_openapi::api::core::v1::{ConfigMap, Node, ServiceAccount};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::api::{Api, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::{ApiResource, GroupVersionKind};
use kube::{Client, Config, ResourceExt as _};
use node_insights_harness::{AuditEntry, ControlPlane, eventually, writes};
use serde_json::json;

/// For background work of a server, such as garbage collection.
const SOON: Duration = Duration::from_secs(30);

#[tokio::test]
async fn the_api_server_is_a_release_of_1_36_and_ready_in_seconds() {
    let started = Instant::now();
    let plane = ControlPlane::start().await.unwrap();
    let took = started.elapsed();

    let version = plane.client().apiserver_version().await.unwrap();
    assert!(
        version.git_version.starts_with("v1.36."),
        "{}",
        version.git_version
    );
    println!("ready in {took:?}");
    for process in plane.processes() {
        let peak = process.peak_rss_bytes().unwrap() >> 20;
        println!(
            "{}: {peak} MiB at most, {:?} of CPU",
            process.name(),
            process.cpu_time().unwrap()
        );
    }
}

#[tokio::test]
async fn a_service_account_without_permissions_is_denied_and_the_audit_log_shows_it() {
    let plane = ControlPlane::start().await.unwrap();
    let client = service_account(&plane, "default", "nobody").await.unwrap();
    let mark = plane.audit().mark().unwrap();

    let error = Api::<Node>::all(client)
        .list(&ListParams::default())
        .await
        .unwrap_err();

    let kube::Error::Api(status) = error else {
        panic!("{error}")
    };
    assert_eq!(status.code, 403);
    let entries = plane.audit().since(mark).unwrap();
    assert_eq!(entries.len(), 1, "{entries:#?}");
    let AuditEntry {
        verb,
        user,
        resource,
        code,
        ..
    } = &entries[0];
    assert_eq!(
        (verb.as_str(), user.as_str(), resource.as_str(), *code),
        ("list", "system:serviceaccount:default:nobody", "nodes", 403)
    );
}

#[tokio::test]
async fn the_audit_log_counts_every_write_and_nothing_but_writes() {
    let plane = ControlPlane::start().await.unwrap();
    let nodes: Api<Node> = Api::all(plane.client());
    let mark = plane.audit().mark().unwrap();

    let mut node = nodes
        .create(&PostParams::default(), &named("a"))
        .await
        .unwrap();
    assert_eq!(
        node.spec.as_ref().and_then(|spec| spec.taints.as_ref()),
        None
    );
    node.labels_mut().insert("x".into(), "y".into());
    nodes
        .replace("a", &PostParams::default(), &node)
        .await
        .unwrap();
    // The same again is a conflict: a request, but not a write.
    node.labels_mut().insert("x".into(), "z".into());
    nodes
        .replace("a", &PostParams::default(), &node)
        .await
        .unwrap_err();
    let status = json!({ "status": { "conditions": [{ "type": "Ready", "status": "True" }] } });
    nodes
        .patch_status("a", &PatchParams::default(), &Patch::Merge(status))
        .await
        .unwrap();
    nodes.list(&ListParams::default()).await.unwrap();
    nodes.delete("a", &DeleteParams::default()).await.unwrap();

    let entries = plane.audit().since(mark).unwrap();
    let seen: Vec<_> = writes(&entries)
        .iter()
        .map(|entry| {
            (
                entry.verb.as_str(),
                entry.subresource.as_str(),
                entry.name.as_str(),
                entry.code,
            )
        })
        .collect();
    assert_eq!(
        seen,
        [
            ("create", "", "a", 201),
            ("update", "", "a", 200),
            ("patch", "status", "a", 200),
            ("delete", "", "a", 200)
        ]
    );
    assert_eq!(entries.len(), 6, "{entries:#?}");
}

#[tokio::test]
async fn two_control_planes_side_by_side_do_not_see_each_others_nodes() {
    let (one, two) = tokio::join!(ControlPlane::start(), ControlPlane::start());
    let (one, two) = (one.unwrap(), two.unwrap());
    Api::<Node>::all(one.client())
        .create(&PostParams::default(), &named("a"))
        .await
        .unwrap();

    assert_eq!(
        Api::<Node>::all(one.client())
            .list(&ListParams::default())
            .await
            .unwrap()
            .items
            .len(),
        1
    );
    assert_eq!(
        Api::<Node>::all(two.client())
            .list(&ListParams::default())
            .await
            .unwrap()
            .items
            .len(),
        0
    );
}

#[tokio::test]
async fn objects_owned_by_a_node_are_collected_when_the_node_is_deleted() {
    let mut plane = ControlPlane::start().await.unwrap();
    // In this order: the garbage collector looks for new kinds only every 30 s.
    plane
        .apply_yaml(include_str!("widget_crd.yaml"))
        .await
        .unwrap();
    plane.start_controller_manager().await.unwrap();
    plane.start_controller_manager().await.unwrap_err();
    let nodes: Api<Node> = Api::all(plane.client());
    let widgets: Api<DynamicObject> = Api::default_namespaced_with(plane.client(), &widget());
    let node = nodes
        .create(&PostParams::default(), &named("a"))
        .await
        .unwrap();
    let mut owned = DynamicObject::new("owned", &widget());
    owned.metadata.owner_references = Some(vec![OwnerReference {
        api_version: "v1".into(),
        kind: "Node".into(),
        name: node.name_any(),
        uid: node.uid().unwrap(),
        ..OwnerReference::default()
    }]);
    widgets
        .create(&PostParams::default(), &owned)
        .await
        .unwrap();
    widgets
        .create(
            &PostParams::default(),
            &DynamicObject::new("free", &widget()),
        )
        .await
        .unwrap();

    let mark = plane.audit().mark().unwrap();
    let deleted = Instant::now();
    nodes.delete("a", &DeleteParams::default()).await.unwrap();

    eventually("the dependent deleted", SOON, async || {
        Ok(widgets.get_opt("owned").await?.is_none().then_some(()))
    })
    .await
    .unwrap();
    println!("collected after {:?}", deleted.elapsed());
    widgets.get("free").await.unwrap();
    // Writes of the controllers are not in the log: only the client's delete is.
    assert_eq!(writes(&plane.audit().since(mark).unwrap()).len(), 1);
}

#[tokio::test]
async fn an_outage_keeps_the_port_and_the_data() {
    let mut plane = ControlPlane::start().await.unwrap();
    let nodes: Api<Node> = Api::all(plane.client());
    nodes
        .create(&PostParams::default(), &named("a"))
        .await
        .unwrap();
    let url = plane.url().to_owned();
    let before = plane.audit().entries().unwrap().len();

    plane.stop_api_server().await.unwrap();
    nodes.list(&ListParams::default()).await.unwrap_err();
    plane.stop_api_server().await.unwrap_err();
    let started = Instant::now();
    plane.start_api_server().await.unwrap();
    println!("back in {:?}", started.elapsed());

    assert_eq!(plane.url(), url);
    assert_eq!(
        nodes.list(&ListParams::default()).await.unwrap().items[0].name_any(),
        "a"
    );
    assert!(
        plane.audit().entries().unwrap().len() > before,
        "the log continues where it was"
    );
}

#[tokio::test]
async fn a_custom_resource_can_be_used_as_soon_as_its_crd_is_applied() {
    let plane = ControlPlane::start().await.unwrap();
    // The object precedes its CRD, and its namespace comes last.
    plane
        .apply_yaml(
            r"
apiVersion: example.dev/v1
kind: Widget
metadata: {name: w, namespace: late}
spec: {size: 3}
---
# Only a comment, as a template may leave it.
---
apiVersion: v1
kind: List
items:
  - {apiVersion: v1, kind: ConfigMap, metadata: {name: c}, data: {k: v}}
---
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: widgets.example.dev}
spec:
  group: example.dev
  scope: Namespaced
  names: {plural: widgets, singular: widget, kind: Widget}
  versions:
    - name: v1
      served: true
      storage: true
      schema:
        openAPIV3Schema:
          type: object
          properties:
            spec: {type: object, properties: {size: {type: integer}}}
---
apiVersion: v1
kind: Namespace
metadata: {name: late}
",
        )
        .await
        .unwrap();

    let api: Api<DynamicObject> = Api::namespaced_with(plane.client(), "late", &widget());
    assert_eq!(api.get("w").await.unwrap().data["spec"]["size"], 3);
    Api::<ConfigMap>::namespaced(plane.client(), "default")
        .get("c")
        .await
        .unwrap();

    let unknown = plane
        .apply_yaml("{apiVersion: v1, kind: Gadget, metadata: {name: g}}")
        .await
        .unwrap_err();
    assert!(
        format!("{unknown:#}").contains("applying Gadget g"),
        "{unknown:#}"
    );
}

#[tokio::test]
async fn a_folder_is_applied_with_its_crds_first() {
    let plane = ControlPlane::start().await.unwrap();
    let dir = plane.dir().join("manifests");
    std::fs::create_dir(&dir).unwrap();
    std::fs::write(
        dir.join("1.yaml"),
        "{apiVersion: example.dev/v1, kind: Widget, metadata: {name: w}}",
    )
    .unwrap();
    std::fs::write(dir.join("2.yaml"), include_str!("widget_crd.yaml")).unwrap();
    std::fs::write(dir.join("README.md"), "not a manifest").unwrap();

    plane.apply_dir(&dir).await.unwrap();

    assert_eq!(
        plane
            .kubectl(&["get", "widgets", "-o", "name"])
            .await
            .unwrap(),
        "widget.example.dev/w\n"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_control_plane_can_be_shared_by_tasks() {
    let plane = tokio::spawn(ControlPlane::start()).await.unwrap().unwrap();
    let plane = Arc::new(plane);
    let tasks = ["a", "b", "c"].map(|name| {
        let plane = Arc::clone(&plane);
        tokio::spawn(async move {
            let yaml = format!("{{apiVersion: v1, kind: Node, metadata: {{name: {name}}}}}");
            plane.apply_yaml(&yaml).await?;
            plane.kubectl(&["get", "node", name, "-o", "name"]).await
        })
    });
    for (task, name) in tasks.into_iter().zip(["node/a\n", "node/b\n", "node/c\n"]) {
        assert_eq!(task.await.unwrap().unwrap(), name);
    }
}

#[tokio::test]
async fn kubectl_runs_as_the_admin_and_reports_why_it_fails() {
    let plane = ControlPlane::start().await.unwrap();
    plane
        .apply_yaml("{apiVersion: v1, kind: Node, metadata: {name: a}}")
        .await
        .unwrap();

    assert_eq!(
        plane
            .kubectl(&["get", "nodes", "-o", "name"])
            .await
            .unwrap(),
        "node/a\n"
    );
    let error = plane.kubectl(&["get", "node", "b"]).await.unwrap_err();
    assert!(error.to_string().contains("\"b\" not found"), "{error}");
}

#[tokio::test]
async fn an_unknown_api_server_flag_is_an_immediate_error() {
    let started = Instant::now();
    let error = ControlPlane::builder()
        .api_server_flag("--no-such-flag")
        .start()
        .await
        .unwrap_err();

    assert!(
        format!("{error:#}").contains("unknown flag: --no-such-flag"),
        "{error:#}"
    );
    assert!(started.elapsed() < SOON);
    // The folder is kept for the reader of the error, so remove it here.
    let message = error.to_string();
    let folder = message.rsplit(' ').next().unwrap();
    assert!(
        Path::new(folder).join("kube-apiserver.stderr.log").exists(),
        "{message}"
    );
    std::fs::remove_dir_all(folder).unwrap();
}

async fn service_account(plane: &ControlPlane, namespace: &str, name: &str) -> Result<Client> {
    let account = ServiceAccount {
        metadata: ObjectMeta {
            name: Some(name.into()),
            ..ObjectMeta::default()
        },
        ..ServiceAccount::default()
    };
    Api::namespaced(plane.client(), namespace)
        .create(&PostParams::default(), &account)
        .await?;
    let kubeconfig =
        Kubeconfig::read_from(plane.service_account_kubeconfig(namespace, name).await?)?;
    Ok(Client::try_from(
        Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?,
    )?)
}

fn named(name: &str) -> Node {
    Node {
        metadata: ObjectMeta {
            name: Some(name.into()),
            ..ObjectMeta::default()
        },
        ..Node::default()
    }
}

/// The kind that `widget_crd.yaml` defines.
fn widget() -> ApiResource {
    ApiResource::from_gvk(&GroupVersionKind::gvk("example.dev", "v1", "Widget"))
}
