//! Simulated tools that act on nodes of any provider: the Bottlerocket update operator, the Flatcar update operator and
//! the node-maintenance-operator. Nothing runs; every method writes what the tool would write in one of its steps.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use jiff::Timestamp;
use kube::Client;
use kube::api::{Api, DeleteParams, DynamicObject, Patch, PatchParams, PostParams};
use kube::core::{ApiResource, GroupVersionKind};
use serde_json::{Value, json};

use crate::apply::apply_objects;
use crate::kubernetes::Nodes;
use crate::kubernetes::node::now;

/// Stand-ins for the CRDs.
const CRDS: &str = include_str!("../fixtures/overlay-crds.yaml");
/// The namespace of the Bottlerocket update operator.
const BRUPOP: &str = "brupop-bottlerocket-aws";
/// What keeps a `NodeMaintenance` until the node is uncordoned.
const FINALIZER: &str = "foregroundDeleteNodeMaintenance";
/// The taint of a node in maintenance.
const DRAIN_TAINT: &str = "medik8s.io/drain";
/// The label of a node in maintenance.
const EXCLUDE_LABEL: &str = "remediation.medik8s.io/exclude-from-remediation";
/// Prefix of the labels and annotations of the Flatcar update operator.
const FLATCAR: &str = "flatcar-linux-update.v1.flatcar-linux.net/";

/// Makes the server serve the kinds, by stand-ins.
///
/// # Errors
/// When the server refuses them, or does not serve them in time; so for every function here.
pub async fn install(client: &Client) -> Result<()> {
    apply_crds(client, CRDS).await
}

/// Makes the server serve the kind that a published file defines.
///
/// # Errors
/// As [`install`], and when the file cannot be read.
pub async fn install_published(client: &Client, file: &Path) -> Result<()> {
    let text = fs::read_to_string(file).with_context(|| format!("Reading {}", file.display()))?;
    apply_crds(client, &text).await
}

/// The published CRD of the Bottlerocket update operator converts an old version by a webhook of the operator, which
/// does not run here: only the version that is stored is served, which needs no conversion.
async fn apply_crds(client: &Client, yaml: &str) -> Result<()> {
    let documents: Vec<Value> = serde_saphyr::from_multiple(yaml)?;
    let mut objects = Vec::new();
    for mut crd in documents.into_iter().filter(|document| !document.is_null()) {
        if let Some(versions) = crd["spec"]["versions"].as_array_mut() {
            versions.retain(|version| version["storage"] == true);
        }
        if let Some(spec) = crd["spec"].as_object_mut() {
            spec.remove("conversion");
        }
        objects.push(serde_json::from_value(crd)?);
    }
    apply_objects(client, objects).await
}

fn resource(group: &str, version: &str, kind: &str, plural: &str) -> ApiResource {
    ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, version, kind), plural)
}

async fn create(api: &Api<DynamicObject>, object: Value) -> Result<()> {
    let object: DynamicObject = serde_json::from_value(object)?;
    api.create(&PostParams::default(), &object).await?;
    Ok(())
}

async fn patch(api: &Api<DynamicObject>, name: &str, patch: Value) -> Result<()> {
    let patch = Patch::Merge(patch);
    api.patch(name, &PatchParams::default(), &patch)
        .await
        .with_context(|| format!("Patching {name}"))?;
    Ok(())
}

async fn patch_status(api: &Api<DynamicObject>, name: &str, status: Value) -> Result<()> {
    let patch = Patch::Merge(json!({"status": status}));
    api.patch_status(name, &PatchParams::default(), &patch)
        .await
        .with_context(|| format!("Patching the status of {name}"))?;
    Ok(())
}

/// The Bottlerocket update operator: its controller, and its agents.
pub struct Brupop {
    shadows: Api<DynamicObject>,
    nodes: Nodes,
}

impl Brupop {
    /// Creates the namespace of the operator.
    ///
    /// # Errors
    /// As [`install`].
    pub async fn start(client: &Client) -> Result<Self> {
        let namespace = json!({
            "apiVersion": "v1", "kind": "Namespace", "metadata": {"name": BRUPOP},
        });
        apply_objects(client, vec![serde_json::from_value(namespace)?]).await?;
        let kind = resource(
            "brupop.bottlerocket.aws",
            "v2",
            "BottlerocketShadow",
            "bottlerocketshadows",
        );
        Ok(Self {
            shadows: Api::namespaced_with(client.clone(), BRUPOP, &kind),
            nodes: Nodes::new(client.clone()),
        })
    }

    /// Labels a node, whose agent then creates its shadow.
    ///
    /// # Errors
    /// As [`install`].
    pub async fn label(&self, node: &str) -> Result<()> {
        let label = "bottlerocket.aws/updater-interface-version";
        self.nodes.label(node, label, Some("2.0.0")).await?;
        let uid = self.nodes.api().get(node).await?.metadata.uid;
        let object = json!({
            "apiVersion": "brupop.bottlerocket.aws/v2", "kind": "BottlerocketShadow",
            "metadata": {
                "name": shadow(node),
                "ownerReferences": [{"apiVersion": "v1", "kind": "Node", "name": node, "uid": uid}],
            },
            "spec": {"state": "Idle", "state_transition_timestamp": null, "version": null},
        });
        create(&self.shadows, object).await
    }

    /// The controller asks for a state.
    ///
    /// # Errors
    /// As [`install`].
    pub async fn ask(&self, node: &str, state: &str, version: Option<&str>) -> Result<()> {
        let spec = json!({
            "state": state, "version": version,
            "state_transition_timestamp": Timestamp::now().to_string(),
        });
        patch(&self.shadows, &shadow(node), json!({"spec": spec})).await
    }

    /// The agent reports a state, the version of the node, and the one that it would update to.
    ///
    /// # Errors
    /// As [`install`].
    pub async fn report(&self, node: &str, state: &str, version: &str, target: &str) -> Result<()> {
        let status = json!({
            "current_state": state, "current_version": version, "target_version": target,
            "crash_count": 0, "state_transition_failure_timestamp": null,
        });
        patch_status(&self.shadows, &shadow(node), status).await
    }

    /// The agent reports that a step has failed, for the first time.
    ///
    /// # Errors
    /// As [`install`].
    pub async fn fail(&self, node: &str) -> Result<()> {
        let status = json!({
            "current_state": "ErrorReset", "crash_count": 1,
            "state_transition_failure_timestamp": Timestamp::now().to_string(),
        });
        patch_status(&self.shadows, &shadow(node), status).await
    }
}

fn shadow(node: &str) -> String {
    format!("brs-{node}")
}

/// The Flatcar update operator, and its agents.
pub struct Flatcar(Nodes);

impl Flatcar {
    /// Writes to the server that `client` talks to.
    #[must_use]
    pub fn new(client: &Client) -> Self {
        Self(Nodes::new(client.clone()))
    }

    /// The agent starts on a node that runs this version.
    ///
    /// # Errors
    /// As [`install`].
    pub async fn start(&self, node: &str, version: &str) -> Result<()> {
        for (name, value) in [("id", "flatcar"), ("version", version), ("group", "stable")] {
            self.label(node, name, Some(value)).await?;
        }
        self.says(
            node,
            &[("reboot-needed", "false"), ("reboot-in-progress", "false")],
        )
        .await
    }

    /// Sets annotations.
    ///
    /// # Errors
    /// As [`install`].
    pub async fn says(&self, node: &str, annotations: &[(&str, &str)]) -> Result<()> {
        let keys = annotations
            .iter()
            .map(|(name, _)| format!("{FLATCAR}{name}"));
        let keys: Vec<String> = keys.collect();
        let pairs = keys.iter().zip(annotations);
        let pairs: Vec<_> = pairs
            .map(|(key, (_, value))| (&**key, Some(*value)))
            .collect();
        self.0.annotate(node, &pairs).await
    }

    /// Sets a label, or removes it.
    ///
    /// # Errors
    /// As [`install`].
    pub async fn label(&self, node: &str, name: &str, value: Option<&str>) -> Result<()> {
        self.0.label(node, &format!("{FLATCAR}{name}"), value).await
    }

    /// An image is installed, and the node asks for its reboot.
    ///
    /// # Errors
    /// As [`install`].
    pub async fn installed(&self, node: &str, version: &str) -> Result<()> {
        let annotations = [
            ("status", "UPDATE_STATUS_UPDATED_NEED_REBOOT"),
            ("new-version", version),
            ("reboot-needed", "true"),
        ];
        self.says(node, &annotations).await
    }

    /// The agent begins to drain its node.
    ///
    /// # Errors
    /// As [`install`].
    pub async fn drain(&self, node: &str) -> Result<()> {
        let annotations = [
            ("reboot-in-progress", "true"),
            ("agent-made-unschedulable", "true"),
        ];
        self.says(node, &annotations).await?;
        self.0.cordon(node, true).await
    }

    /// The agent uncordons its node.
    ///
    /// # Errors
    /// As [`install`].
    pub async fn uncordon(&self, node: &str) -> Result<()> {
        self.0.cordon(node, false).await?;
        self.says(node, &[("agent-made-unschedulable", "false")])
            .await
    }
}

/// The node-maintenance-operator.
pub struct NodeMaintenance {
    objects: Api<DynamicObject>,
    nodes: Nodes,
}

impl NodeMaintenance {
    /// Writes to the server that `client` talks to.
    #[must_use]
    pub fn new(client: &Client) -> Self {
        let kind = resource(
            "nodemaintenance.medik8s.io",
            "v1beta1",
            "NodeMaintenance",
            "nodemaintenances",
        );
        Self {
            objects: Api::all_with(client.clone(), &kind),
            nodes: Nodes::new(client.clone()),
        }
    }

    /// A user requests the maintenance of a node, which the operator has not marked yet.
    ///
    /// # Errors
    /// As [`install`].
    pub async fn request(&self, name: &str, node: &str, reason: &str) -> Result<()> {
        let object = json!({
            "apiVersion": "nodemaintenance.medik8s.io/v1beta1", "kind": "NodeMaintenance",
            "metadata": {"name": name, "finalizers": [FINALIZER]},
            "spec": {"nodeName": node, "reason": reason},
        });
        create(&self.objects, object).await?;
        let status = json!({
            "phase": "Running", "evictionPods": 2, "totalpods": 4, "lastUpdate": now(),
            "pendingPods": ["db-0", "web-1"],
            "pendingPodsRefs": [
                {"name": "db-0", "namespace": "shop"}, {"name": "web-1", "namespace": "shop"},
            ],
        });
        patch_status(&self.objects, name, status).await
    }

    /// The operator marks the node, and begins to evict its pods.
    ///
    /// # Errors
    /// As [`install`].
    pub async fn drain(&self, node: &str) -> Result<()> {
        self.nodes.label(node, EXCLUDE_LABEL, Some("true")).await?;
        self.nodes.taint(node, DRAIN_TAINT, "NoSchedule").await?;
        self.nodes.cordon(node, true).await
    }

    /// One pod of two is gone.
    ///
    /// # Errors
    /// As [`install`].
    pub async fn progress(&self, name: &str) -> Result<()> {
        let status = json!({
            "drainProgress": 50, "lastUpdate": now(), "lastError": "global timeout reached: 30s",
            "pendingPods": ["db-0"],
            "pendingPodsRefs": [{"name": "db-0", "namespace": "shop"}],
        });
        patch_status(&self.objects, name, status).await
    }

    /// The pods are gone.
    ///
    /// # Errors
    /// As [`install`].
    pub async fn drained(&self, name: &str) -> Result<()> {
        let status = json!({
            "phase": "Succeeded", "drainProgress": 100, "lastUpdate": now(),
            "pendingPods": null, "pendingPodsRefs": null,
        });
        patch_status(&self.objects, name, status).await
    }

    /// The operator lost the lease of the node: it releases the node, and then reports that it failed.
    ///
    /// # Errors
    /// As [`install`].
    pub async fn fail(&self, name: &str, node: &str) -> Result<()> {
        let lost = json!({"errorOnLeaseCount": 4, "lastError": "failed to extend a lease"});
        patch_status(&self.objects, name, lost).await?;
        self.release(node).await?;
        let error = "maintenance failed: lease could not be extended after 4 attempts";
        let failed = json!({"phase": "Failed", "lastError": error});
        patch_status(&self.objects, name, failed).await
    }

    /// The user deletes the object, which stays until the node is released.
    ///
    /// # Errors
    /// As [`install`].
    pub async fn delete(&self, name: &str) -> Result<()> {
        self.objects.delete(name, &DeleteParams::default()).await?;
        Ok(())
    }

    /// The operator releases the node, and then the object.
    ///
    /// # Errors
    /// As [`install`].
    pub async fn end(&self, name: &str, node: &str) -> Result<()> {
        self.release(node).await?;
        let free = json!({"metadata": {"finalizers": null}});
        patch(&self.objects, name, free).await
    }

    /// Removes the marks of a node. It has no other taints here.
    async fn release(&self, node: &str) -> Result<()> {
        let spec = json!({"spec": {"taints": null, "unschedulable": null}});
        let params = PatchParams::default();
        let patch = Patch::Merge(spec);
        self.nodes.api().patch(node, &params, &patch).await?;
        self.nodes.label(node, EXCLUDE_LABEL, None).await
    }
}
