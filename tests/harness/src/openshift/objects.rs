//! `OpenShift` objects that the published CRDs accept, with the fields that matter.

use anyhow::Result;
use serde_json::{Value, json};

use super::{PREFIX, Pool, VERSION};
use crate::kubernetes::node::{fingerprint, now};
use crate::load::{Kind, Object};

/// A `ClusterVersion` whose last update, to `version`, is completed.
///
/// # Errors
/// Never in practice; the same for every function here.
pub fn cluster_version(version: &str) -> Result<Object> {
    let mut entry = history_entry(version);
    entry["state"] = "Completed".into();
    entry["completionTime"] = now().into();
    object(
        Kind::ClusterVersion,
        &json!({
            "metadata": {"name": VERSION},
            "spec": {"clusterID": "7d3c1a52-0a4e-4c0e-9a51-6f2b8f6f3a10", "channel": "stable"},
            "status": {
                "availableUpdates": null,
                "conditions": [
                    condition("Available", true, &format!("Done applying {version}")),
                    condition("Progressing", false, &format!("Cluster version is {version}")),
                    condition("Failing", false, ""),
                ],
                "desired": {"image": entry["image"], "version": version},
                "history": [entry],
                "observedGeneration": 1,
                "versionHash": "c2ltdWxhdGVk",
            },
        }),
    )
}

/// The history entry with which an update to `version` begins.
#[must_use]
pub fn history_entry(version: &str) -> Value {
    let digest = fingerprint(&["release", version]);
    json!({
        "state": "Partial",
        "startedTime": now(),
        "completionTime": null,
        "version": version,
        "image": format!("quay.io/openshift-release-dev/ocp-release@sha256:{digest}{digest}"),
        "verified": true,
    })
}

/// A `MachineConfig` of about `bytes`; a rendered one names its `release`.
///
/// # Errors
/// As [`cluster_version`].
pub fn machine_config(
    name: &str,
    role: &str,
    release: Option<&str>,
    bytes: usize,
) -> Result<Object> {
    let mut annotations = json!({format!("{PREFIX}generated-by-controller-version"): "simulation"});
    if let Some(release) = release {
        annotations[format!("{PREFIX}release-image-version")] = release.into();
    }
    let mut config = json!({"ignition": {"version": "3.4.0"}});
    if bytes > 0 {
        // One large file, as real ones embed files and units.
        let source = format!("data:,{}", "x".repeat(bytes));
        config["storage"] =
            json!({"files": [{"path": "/etc/simulated", "contents": {"source": source}}]});
    }
    object(
        Kind::MachineConfig,
        &json!({
            "metadata": {"name": name, "annotations": annotations, "labels": {format!("{PREFIX}role"): role}},
            "spec": {"config": config},
        }),
    )
}

/// A pool whose nodes all run `config`.
///
/// # Errors
/// As [`cluster_version`].
pub fn machine_config_pool(pool: &Pool, config: &str) -> Result<Object> {
    let name = &pool.name;
    let mut labels = json!({format!("pools.operator.{PREFIX}{name}"): ""});
    if name == "master" {
        labels[format!("operator.{PREFIX}required-for-upgrade")] = "".into();
    }
    let mut spec = json!({
        "configuration": {"name": config},
        "machineConfigSelector": {"matchLabels": {format!("{PREFIX}role"): name}},
        "nodeSelector": {"matchLabels": {format!("node-role.kubernetes.io/{name}"): ""}},
        "paused": pool.paused,
    });
    if let Some(limit) = &pool.max_unavailable {
        spec["maxUnavailable"] = limit.clone();
    }
    let counts = PoolCounts {
        total: pool.nodes,
        updated: pool.nodes,
        ..PoolCounts::default()
    };
    object(
        Kind::MachineConfigPool,
        &json!({
            "metadata": {"name": name, "labels": labels},
            "spec": spec,
            "status": counts.status(config, config),
        }),
    )
}

/// The node counts of a pool.
#[derive(Debug, Clone, Copy, Default)]
pub struct PoolCounts {
    /// All nodes.
    pub total: usize,
    /// Those that run the pool's configuration.
    pub updated: usize,
    /// Those that are being updated.
    pub unavailable: usize,
    /// Those whose update failed.
    pub degraded: usize,
}

impl PoolCounts {
    /// The pool's status: it runs `current` until every node runs `wanted`.
    #[must_use]
    pub fn status(self, current: &str, wanted: &str) -> Value {
        let updated = self.updated >= self.total;
        let running = if updated { wanted } else { current };
        let degraded = self.degraded > 0;
        json!({
            "configuration": {"name": running},
            "conditions": [
                condition("RenderDegraded", false, ""),
                condition("NodeDegraded", degraded, ""),
                condition("Degraded", degraded, ""),
                condition("Updated", updated, ""),
                condition("Updating", !updated, &format!("All nodes are updating to MachineConfig {wanted}")),
            ],
            "machineCount": self.total,
            "updatedMachineCount": self.updated,
            "readyMachineCount": self.updated,
            "unavailableMachineCount": self.unavailable,
            "degradedMachineCount": self.degraded,
        })
    }
}

/// A condition of `OpenShift`'s own objects, whose transition is now.
#[must_use]
pub fn condition(kind: &str, status: bool, message: &str) -> Value {
    let status = if status { "True" } else { "False" };
    json!({"type": kind, "status": status, "reason": "AsExpected", "message": message, "lastTransitionTime": now()})
}

fn object(kind: Kind, body: &Value) -> Result<Object> {
    let mut value = body.clone();
    value["apiVersion"] = kind.api_version().into();
    value["kind"] = kind.name().into();
    Ok(Object {
        kind,
        origin: "simulation".to_owned(),
        terminating: false,
        value: serde_json::from_value(value)?,
    })
}
