//! The operator as the chart's service account works with exactly the permissions that the chart grants.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result};
use k8s_openapi::api::rbac::v1::{ClusterRole, PolicyRule, Role};
use kube::Api;
use kube::api::DeleteParams;
use node_insights::domain::fact::KindSpec;
use node_insights::providers::{Options, Providers};
use node_insights_harness::openshift::{Cluster, Pool};
use node_insights_harness::{AuditEntry, eventually};
use serde_json::{Value, json};

use crate::helm::{Helm, Major, NAME};
use crate::support::{OPERATOR_USER, SERVING, SOON, World, spawn};

/// Why a permission is not used here; tests/integration/drains.rs uses it, with no other permissions than these.
const DRAINS: &str = "while a node has been drained for more than a minute only";

/// Permissions that the run below does not use, each with its reason.
const SPECIAL: [(&str, &str, &str, &str); 6] = [
    ("", "pods", "list", DRAINS),
    ("", "pods", "watch", DRAINS),
    ("policy", "poddisruptionbudgets", "list", DRAINS),
    ("policy", "poddisruptionbudgets", "watch", DRAINS),
    (
        "nodeinsights.dev",
        "nodeprogressinsights",
        "get",
        "after a conflict only",
    ),
    (
        "nodeinsights.dev",
        "poolprogressinsights",
        "get",
        "after a conflict only",
    ),
];

/// One permission: resource and verb, and namespace and names if it is restricted to them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Permission {
    group: String,
    resource: String,
    verb: String,
    namespace: Option<String>,
    names: Vec<String>,
}

impl Permission {
    fn allows(&self, entry: &AuditEntry) -> bool {
        self.group == entry.api_group
            && self.resource == resource_of(entry)
            && self.verb == entry.verb
            && self
                .namespace
                .as_ref()
                .is_none_or(|namespace| *namespace == entry.namespace)
            && (self.names.is_empty() || self.names.contains(&entry.name))
    }
}

/// kured's DaemonSet, as its manifest has it.
const KURED: &str = "
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: kured, namespace: kube-system}
spec:
  selector: {matchLabels: {name: kured}}
  template:
    metadata: {labels: {name: kured}}
    spec: {containers: [{name: kured, image: kured}]}
";

/// kubeadm's ConfigMap.
const KUBEADM: &str = "
apiVersion: v1
kind: ConfigMap
metadata: {name: kubeadm-config, namespace: kube-system}
data:
  ClusterConfiguration: |
    kubernetesVersion: v1.36.3
";

/// A CRD without a schema; none for kinds of Kubernetes and for those that the simulated cluster has.
fn stand_in(spec: &KindSpec) -> Option<Value> {
    let is_there = ["machineconfigpools", "machineconfigs", "clusterversions"];
    if !spec.group.contains('.') || is_there.contains(&spec.plural) {
        return None;
    }
    let schema = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    let name = spec.full_name();
    Some(json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {
            "name": name,
            "annotations": {"api-approved.kubernetes.io": "unapproved, a test"},
        },
        "spec": {
            "group": spec.group,
            "scope": if spec.namespaced { "Namespaced" } else { "Cluster" },
            "names": {
                "kind": spec.kind, "plural": spec.plural,
                "singular": spec.kind.to_lowercase(), "listKind": format!("{}List", spec.kind),
            },
            "versions": [{
                "name": spec.versions[0], "served": true, "storage": true,
                "schema": {"openAPIV3Schema": schema},
            }],
        },
    }))
}

#[tokio::test]
async fn the_operator_works_with_exactly_what_the_chart_grants() -> Result<()> {
    let world = World::bare().await?;
    Helm::of(Major::Four, &world.plane)?.install(&[])?;
    let cluster = Cluster::builder("4.19.14")
        .pool(Pool::new("master", 1))
        .pool(Pool::new("worker", 2))
        .pool(Pool::new("infra", 1))
        .build()?;
    cluster.load(&world.client).await?;
    // What every provider reads is there.
    for kind in Providers::standard(&Options::default())?.kinds() {
        if let Some(crd) = stand_in(&kind.spec) {
            world.plane.apply_yaml(&crd.to_string()).await?;
        }
    }
    world.plane.apply_yaml(KURED).await?;
    world.plane.apply_yaml(KUBEADM).await?;
    let mark = world.plane.audit().mark()?;
    // As in the Deployment, except for the interval; its flags have their own test.
    let operator = world
        .operator(&[
            "--lease",
            "node-insights/node-insights",
            "--metrics-tls",
            "self-signed",
            "--sync-status",
            "configmap:node-insights/node-insights-sync-status",
            "--sync-interval",
            "2s",
        ])
        .await?;
    world.all_reported(4).await?;
    operator.ready().await?;

    // Uses every verb: an update of the cluster, the deletion of a node and a pool, and an operation.
    world.editor.start_update("4.20.3").await?;
    world
        .pool_becomes("worker", "2 outdated", |pool| pool.progress == "0/2")
        .await?;
    world.editor.delete_node("infra-0").await?;
    world.all_reported(3).await?;
    world
        .editor
        .pools()
        .delete("infra", &DeleteParams::default())
        .await?;
    eventually("the pool's insight is gone", SOON, async || {
        Ok(world.pool_insight("infra").await?.is_none().then_some(()))
    })
    .await?;
    run_an_operation(&world, &operator.log()).await?;

    let granted = granted(&world).await?;
    let used = eventually("everything granted is used", SOON, async || {
        let entries: Vec<AuditEntry> = world
            .plane
            .audit()
            .since(mark)?
            .into_iter()
            .filter(|entry| entry.user == OPERATOR_USER && !entry.resource.is_empty())
            // Everybody may create these, by Kubernetes' own role system:basic-user.
            .filter(|entry| entry.resource != "selfsubjectaccessreviews")
            .collect();
        let unused: Vec<&Permission> = granted
            .iter()
            .filter(|permission| !is_special(permission))
            .filter(|permission| !entries.iter().any(|entry| permission.allows(entry)))
            .collect();
        if unused.is_empty() {
            Ok(Some(entries))
        } else {
            anyhow::bail!("granted but neither used nor in SPECIAL: {unused:#?}")
        }
    })
    .await?;
    let denied: Vec<&AuditEntry> = used
        .iter()
        .filter(|entry| entry.code == 403 || entry.code == 401)
        .collect();
    assert!(denied.is_empty(), "{denied:#?}");
    for entry in &used {
        assert!(
            granted.iter().any(|permission| permission.allows(entry)),
            "done, but not granted by the chart: {entry:#?}"
        );
    }
    // SPECIAL lists only permissions that are granted.
    for (group, resource, verb, _) in SPECIAL {
        assert!(
            granted
                .iter()
                .any(|it| it.group == group && it.resource == resource && it.verb == verb),
            "{verb} {resource} is not granted"
        );
    }
    assert!(operator.stop().await?.success());
    Ok(())
}

fn is_special(permission: &Permission) -> bool {
    SPECIAL.iter().any(|(group, resource, verb, _)| {
        permission.group == *group && permission.resource == *resource && permission.verb == *verb
    })
}

fn resource_of(entry: &AuditEntry) -> String {
    if entry.subresource.is_empty() {
        entry.resource.clone()
    } else {
        format!("{}/{}", entry.resource, entry.subresource)
    }
}

/// The permissions of the installed roles, one entry per verb.
async fn granted(world: &World) -> Result<BTreeSet<Permission>> {
    let cluster: Api<ClusterRole> = Api::all(world.client.clone());
    let namespaced: Api<Role> = Api::namespaced(world.client.clone(), NAME);
    let mut granted = BTreeSet::new();
    for rule in cluster.get(NAME).await?.rules.unwrap_or_default() {
        granted.extend(permissions(&rule, None));
    }
    for rule in namespaced.get(NAME).await?.rules.unwrap_or_default() {
        granted.extend(permissions(&rule, Some(NAME)));
    }
    assert!(granted.len() > 25, "{granted:#?}");
    Ok(granted)
}

fn permissions(rule: &PolicyRule, namespace: Option<&str>) -> Vec<Permission> {
    let mut permissions = Vec::new();
    for group in rule.api_groups.iter().flatten() {
        for resource in rule.resources.iter().flatten() {
            for verb in &rule.verbs {
                assert!(![group, resource, verb].iter().any(|it| it.contains('*')));
                permissions.push(Permission {
                    group: group.clone(),
                    resource: resource.clone(),
                    verb: verb.clone(),
                    namespace: namespace.map(str::to_owned),
                    names: rule.resource_names.clone().unwrap_or_default(),
                });
            }
        }
    }
    permissions
}

/// Runs a resync from an authorized account, as users do, and waits until it is done.
async fn run_an_operation(world: &World, log: &[serde_json::Value]) -> Result<()> {
    let kubectl = async |args: &[&str]| world.plane.kubectl(args).await;
    kubectl(&["create", "serviceaccount", "ops", "-n", "default"]).await?;
    kubectl(&[
        "create",
        "clusterrolebinding",
        "ops",
        "--clusterrole=node-insights-operate",
        "--serviceaccount=default:ops",
    ])
    .await?;
    let token = kubectl(&["create", "token", "ops", "-n", "default"]).await?;
    let address = log
        .iter()
        .find(|line| line["message"] == SERVING)
        .and_then(|line| line["address"].as_str())
        .context("the log says where the port is")?;
    let server = format!("https://{address}");
    let trust = "--insecure-skip-tls-verify";
    let resync = ["resync", "--wait", "--server", &server, trust];
    let envs = [("NODE_INSIGHTS_TOKEN", token.trim())];
    let process = spawn(&resync, &envs, world.plane.dir())?;
    let exit = process.wait_timeout(SOON).await?;
    assert!(exit.success(), "{}", process.read_stderr());
    Ok(())
}
