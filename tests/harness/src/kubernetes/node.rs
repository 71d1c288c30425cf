//! A Node object as a kubelet maintains it.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use anyhow::Result;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::load::{Kind, Object};

/// A Node to be created.
#[derive(Debug, Clone)]
pub struct NodeTemplate {
    /// Its name.
    pub name: String,
    /// Labels in addition to those that every node has.
    pub labels: BTreeMap<String, String>,
    /// Its annotations.
    pub annotations: BTreeMap<String, String>,
    /// `status.nodeInfo.kubeletVersion`.
    pub kubelet_version: String,
    /// `status.nodeInfo.osImage`.
    pub os_image: String,
    /// How many images it reports.
    pub images: usize,
}

impl NodeTemplate {
    /// The ready, schedulable Node.
    ///
    /// # Errors
    /// Never in practice: the JSON below is a Node.
    pub fn object(&self) -> Result<Object> {
        let name = &self.name;
        let zone = ["us-east-2a", "us-east-2b"][usize::from(hash(&[name]).is_multiple_of(2))];
        let mut labels = BTreeMap::from([
            ("kubernetes.io/arch", "amd64"),
            ("kubernetes.io/os", "linux"),
            ("kubernetes.io/hostname", name),
            ("node.kubernetes.io/instance-type", "m6i.xlarge"),
            ("topology.kubernetes.io/region", "us-east-2"),
            ("topology.kubernetes.io/zone", zone),
        ]);
        for (key, value) in &self.labels {
            labels.insert(key, value);
        }
        let value = json!({
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": name, "labels": labels, "annotations": self.annotations},
            "spec": {"providerID": format!("aws:///{zone}/i-{}", &fingerprint(&[name])[..17])},
            "status": self.status(),
        });
        Ok(Object {
            kind: Kind::Node,
            origin: "simulation".to_owned(),
            terminating: false,
            value: serde_json::from_value(value)?,
        })
    }

    fn status(&self) -> Value {
        let name = &self.name;
        let id = fingerprint(&[name]);
        let address = format!(
            "10.0.{}.{}",
            hash(&[name, "net"]) % 256,
            hash(&[name, "host"]) % 254 + 1
        );
        let resources = json!({"cpu": "4", "memory": "16384Mi", "pods": "250", "ephemeral-storage": "125293548Ki"});
        let images: Vec<Value> = (0..self.images)
            .map(|index| {
                let digest = fingerprint(&["image", &index.to_string()]);
                json!({"names": [format!("registry.example.com/image@sha256:{digest}{digest}")], "sizeBytes": 100_000_000 + index})
            })
            .collect();
        json!({
            "addresses": [{"type": "InternalIP", "address": address}, {"type": "Hostname", "address": name}],
            "capacity": resources,
            "allocatable": resources,
            "conditions": [
                condition("MemoryPressure", "False", "KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
                condition("DiskPressure", "False", "KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
                condition("PIDPressure", "False", "KubeletHasSufficientPID", "kubelet has sufficient PID available"),
                condition("Ready", "True", "KubeletReady", "kubelet is posting ready status"),
            ],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": 10250}},
            "images": images,
            "nodeInfo": {
                "architecture": "amd64",
                "bootID": boot_id(&[name]),
                "containerRuntimeVersion": "cri-o://1.33.4",
                "kernelVersion": "5.14.0-570.49.1.el9_6.x86_64",
                "kubeProxyVersion": "",
                "kubeletVersion": self.kubelet_version,
                "machineID": id,
                "operatingSystem": "linux",
                "osImage": self.os_image,
                "systemUUID": boot_id(&[name, "system"]),
            },
        })
    }
}

/// A node condition whose transition is now.
#[must_use]
pub fn condition(kind: &str, status: &str, reason: &str, message: &str) -> Value {
    let now = now();
    json!({
        "type": kind, "status": status, "reason": reason, "message": message,
        "lastHeartbeatTime": now, "lastTransitionTime": now,
    })
}

/// The time as Kubernetes writes it, to the second.
#[must_use]
pub fn now() -> String {
    Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// The operating system of a node pool's image, which has a build of its own for each kubelet version.
#[must_use]
pub fn os_image(kubelet_version: &str) -> String {
    format!(
        "Container-Optimized OS ({})",
        &fingerprint(&[kubelet_version])[..8]
    )
}

/// 32 hexadecimal digits that depend only on the parts: names that tests can predict.
#[must_use]
pub fn fingerprint(parts: &[&str]) -> String {
    let salted: Vec<&str> = ["salt"].iter().chain(parts).copied().collect();
    format!("{:016x}{:016x}", hash(parts), hash(&salted))
}

/// A boot ID for these parts, as the kernel writes one.
#[must_use]
pub fn boot_id(parts: &[&str]) -> String {
    let hex = fingerprint(parts);
    let groups = [
        &hex[..8],
        &hex[8..12],
        &hex[12..16],
        &hex[16..20],
        &hex[20..],
    ];
    groups.join("-")
}

fn hash(parts: &[&str]) -> u64 {
    let mut hasher = DefaultHasher::new();
    parts.hash(&mut hasher);
    hasher.finish()
}
