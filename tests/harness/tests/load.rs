//! The loader against a real API server: afterwards the server holds what is in the dump.
#![allow(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use kube::api::{Api, DynamicObject, ListParams};
use kube::{Client, ResourceExt};
use node_insights_harness::ControlPlane;
use node_insights_harness::load::{Kind, Options, dump, load_cluster};
use serde_json::{Value, json};

const NODES: &str = r#"
apiVersion: v1
kind: NodeList
metadata: {resourceVersion: ""}
items:
- metadata:
    name: terminating
    uid: 0e3c5b0e-0000-4000-8000-000000000000
    resourceVersion: "17"
    creationTimestamp: null
    deletionTimestamp: "2024-01-01T00:00:00Z"
    finalizers: [example.com/hold]
    ownerReferences: [{apiVersion: v1, kind: Machine, name: m, uid: u}]
    managedFields: [{manager: kubelet}]
  spec:
    podCIDR: 10.1.0.0/24
    podCIDRs: [10.1.0.0/24]
    providerID: aws:///a/i-1
    unschedulable: true
    taints: [{key: node.kubernetes.io/unschedulable, effect: NoSchedule, timeAdded: "2024-02-07T16:00:47Z"}]
  status: null
- metadata: {name: broken, annotations: {text: "yes"}}
  spec:
    taints: [{key: node.kubernetes.io/not-ready, effect: NoSchedule}]
  status:
    conditions: [{type: Ready, status: Unknown, lastTransitionTime: null}]
"#;

const POOLS: &str = r"
apiVersion: machineconfiguration.openshift.io/v1
kind: MachineConfigPool
metadata: {name: worker, creationTimestamp: null}
spec: {paused: true, nodeSelector: null}
status: {machineCount: 2}
---
apiVersion: machineconfiguration.openshift.io/v1
kind: KubeletConfig
metadata: {name: skipped}
";

fn dumps() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/testdata/openshift");
    let Ok(entries) = fs::read_dir(&folder) else {
        // Not println: the output of a passing test is captured.
        let mut stderr = std::io::stderr();
        writeln!(
            stderr,
            "SKIPPED: loading real clusters, no dumps in {}",
            folder.display()
        )
        .unwrap();
        return Vec::new();
    };
    let folders = entries.map(|entry| entry.unwrap().path());
    let mut folders: Vec<_> = folders
        .filter(|path| path.join("node.yaml").exists())
        .collect();
    folders.sort();
    folders
}

fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        fs::write(folder.path().join(name), text).unwrap();
    }
    folder
}

async fn list(client: &Client, kind: Kind) -> BTreeMap<String, DynamicObject> {
    let api: Api<DynamicObject> = Api::all_with(client.clone(), &kind.resource());
    let objects = api.list(&ListParams::default()).await.unwrap();
    objects
        .items
        .into_iter()
        .map(|object| (object.name_any(), object))
        .collect()
}

/// The differences, by path. The server adds empty fields to a Node and drops empty lists.
fn differences(path: &str, wanted: &Value, live: &Value, found: &mut Vec<String>) {
    match (wanted, live) {
        (Value::Object(wanted), Value::Object(live)) => {
            for (key, wanted) in wanted {
                differences(
                    &format!("{path}.{key}"),
                    wanted,
                    live.get(key).unwrap_or(&Value::Null),
                    found,
                );
            }
            let added = live.keys().filter(|key| !wanted.contains_key(*key));
            let added =
                added.filter(|key| !["nodeInfo", "daemonEndpoints"].contains(&key.as_str()));
            found.extend(added.map(|key| format!("{path}.{key} is new")));
        }
        (Value::Array(wanted), Value::Array(live)) if wanted.len() == live.len() => {
            for (index, (wanted, live)) in wanted.iter().zip(live).enumerate() {
                differences(&format!("{path}[{index}]"), wanted, live, found);
            }
        }
        (Value::Array(wanted), Value::Null) if wanted.is_empty() => {}
        (wanted, live) if wanted == live => {}
        (wanted, live) => found.push(format!("{path}: {wanted} became {live}")),
    }
}

async fn assert_holds(client: &Client, dir: &Path) {
    let dump = dump::read(dir).unwrap();
    let mut found = Vec::new();
    for kind in Kind::ALL {
        let live = list(client, kind).await;
        let wanted: BTreeMap<_, _> = dump
            .objects
            .iter()
            .filter(|object| object.kind == kind)
            .map(|object| (object.value.name_any(), &object.value))
            .collect();
        let names = |names: Vec<&String>| names.into_iter().cloned().collect::<Vec<_>>();
        assert_eq!(
            names(wanted.keys().collect()),
            names(live.keys().collect()),
            "{kind}"
        );
        for (name, wanted) in wanted {
            let live = &live[&name];
            assert_eq!(wanted.labels(), live.labels(), "{kind} {name}");
            assert_eq!(wanted.annotations(), live.annotations(), "{kind} {name}");
            let mut data = live.data.clone();
            if kind == Kind::Node && wanted.data.get("spec").is_none() {
                data.as_object_mut().unwrap().remove("spec");
            }
            differences(&format!("{kind}/{name}"), &wanted.data, &data, &mut found);
        }
    }
    assert!(found.is_empty(), "{}: {found:#?}", dir.display());
}

#[tokio::test]
async fn every_dump_is_loaded_as_it_was_taken_whatever_was_loaded_before() {
    let dumps = dumps();
    if dumps.is_empty() {
        println!("Skipped: no dumps of real clusters beside this project");
        return;
    }
    let control_plane = ControlPlane::start().await.unwrap();
    let client = control_plane.client();
    let crds = dumps[0].with_file_name("crds");
    let options = Options {
        crds: crds.exists().then_some(crds),
        ..Options::default()
    };
    for dir in &dumps {
        load_cluster(client.clone(), dir, &options).await.unwrap();
        assert_holds(&client, dir).await;
    }
}

#[tokio::test]
async fn loading_twice_changes_nothing_and_another_dump_replaces_the_first() {
    let control_plane = ControlPlane::start().await.unwrap();
    let client = control_plane.client();
    let first = folder(&[("node.yaml", NODES), ("mcp.yaml", POOLS)]);
    let summary = load_cluster(client.clone(), first.path(), &Options::default())
        .await
        .unwrap();
    let text = summary.to_string();
    assert!(text.contains("installed minimal CRDs"), "{text}");
    assert!(text.contains("cv.yaml is missing"), "{text}");
    assert!(
        text.contains(
            "skipping objects of kind machineconfiguration.openshift.io/v1 KubeletConfig"
        ),
        "{text}"
    );

    let nodes = list(&client, Kind::Node).await;
    let terminating = &nodes["terminating"];
    assert!(terminating.metadata.deletion_timestamp.is_some());
    assert_eq!(terminating.finalizers(), ["example.com/hold"]);
    assert!(terminating.owner_references().is_empty());
    assert_eq!(terminating.data["spec"]["providerID"], "aws:///a/i-1");
    assert_eq!(
        terminating.data["spec"]["taints"].as_array().unwrap().len(),
        1,
        "no taint from admission"
    );
    let broken = &nodes["broken"];
    assert_eq!(
        broken.data["spec"]["taints"][0]["key"],
        "node.kubernetes.io/not-ready"
    );
    assert_eq!(broken.data["status"]["conditions"][0]["status"], "Unknown");
    assert_eq!(broken.annotations()["text"], "yes");
    let pools = list(&client, Kind::MachineConfigPool).await;
    let spec = json!({"paused": true, "nodeSelector": null});
    assert_eq!(
        pools["worker"].data,
        json!({"spec": spec, "status": {"machineCount": 2}})
    );

    load_cluster(client.clone(), first.path(), &Options::default())
        .await
        .unwrap();
    let again = list(&client, Kind::Node).await;
    assert_eq!(
        again["broken"].resource_version(),
        broken.resource_version()
    );
    let pools_again = list(&client, Kind::MachineConfigPool).await;
    assert_eq!(
        pools_again["worker"].resource_version(),
        pools["worker"].resource_version()
    );

    let stays = NODES
        .replace("    deletionTimestamp: \"2024-01-01T00:00:00Z\"\n", "")
        .replace("i-1", "i-2");
    let second = folder(&[(
        "node.yaml",
        &stays
            .replace("10.1.0.0", "10.2.0.0")
            .replace("name: broken", "name: other"),
    )]);
    load_cluster(client.clone(), second.path(), &Options::default())
        .await
        .unwrap();
    let nodes = list(&client, Kind::Node).await;
    assert_eq!(nodes.keys().collect::<Vec<_>>(), ["other", "terminating"]);
    assert_eq!(nodes["terminating"].metadata.deletion_timestamp, None);
    assert_eq!(
        nodes["terminating"].data["spec"]["providerID"],
        "aws:///a/i-2"
    );
    assert!(list(&client, Kind::MachineConfigPool).await.is_empty());
}

#[tokio::test]
async fn a_rejected_object_is_reported_with_its_file_and_field() {
    let control_plane = ControlPlane::start().await.unwrap();
    let nodes = "kind: NodeList\nitems:\n- metadata: {name: good}\n- metadata: {name: bad}\n  spec: {podCIDR: nonsense, podCIDRs: [nonsense]}\n";
    let dir = folder(&[("node.yaml", nodes)]);
    let client = control_plane.client();
    let error = load_cluster(client.clone(), dir.path(), &Options::default())
        .await
        .unwrap_err();
    let text = format!("{error:#}");
    assert!(
        text.contains("node.yaml: Node bad: spec.podCIDRs"),
        "{text}"
    );
    assert_eq!(
        list(&client, Kind::Node).await.keys().collect::<Vec<_>>(),
        ["good"]
    );

    let empty = folder(&[]);
    let error = load_cluster(client, empty.path(), &Options::default())
        .await
        .unwrap_err();
    assert!(error.to_string().contains("node.yaml"), "{error}");
}
