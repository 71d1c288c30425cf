//! A simulated `OpenShift` cluster: the objects that the Machine Config Operator and the Cluster Version
//! Operator maintain in the API server.
//!
//! | Module | For |
//! |---|---|
//! | [`objects`] | what the objects look like |
//! | [`editor`] | single changes, for tests |
//! | [`rollout`] | simulates a whole update |
//!
//! Deliberately absent: cluster operators, `MachineConfigNode`s, image mode.

use std::collections::BTreeMap;

use anyhow::Result;
use kube::Client;
use serde_json::Value;

use crate::kubernetes::node::fingerprint;
use crate::kubernetes::{NodeTemplate, numbered};
use crate::load::{self, Kind, Object, Summary, crds};

pub mod editor;
pub mod objects;
pub mod rollout;

pub use editor::Editor;

/// The prefix of every annotation of the Machine Config Operator.
pub const PREFIX: &str = "machineconfiguration.openshift.io/";

/// The name of the `ClusterVersion`.
pub const VERSION: &str = "version";

/// A pool and its nodes, to be created.
#[derive(Debug, Clone)]
pub struct Pool {
    /// `master`, `worker`, or the name of a custom pool, whose nodes are workers too.
    pub name: String,
    /// How many nodes.
    pub nodes: usize,
    /// `spec.paused`.
    pub paused: bool,
    /// `spec.maxUnavailable`, a number or a percentage; absent means 1.
    pub max_unavailable: Option<Value>,
}

impl Pool {
    /// A pool that is not paused and updates one node at a time.
    #[must_use]
    pub fn new(name: &str, nodes: usize) -> Self {
        Self {
            name: name.to_owned(),
            nodes,
            paused: false,
            max_unavailable: None,
        }
    }

    /// The same pool, paused.
    #[must_use]
    pub fn paused(mut self) -> Self {
        self.paused = true;
        self
    }

    /// How many nodes at once: `2` or `"25%"`.
    #[must_use]
    pub fn max_unavailable(mut self, limit: impl Into<Value>) -> Self {
        self.max_unavailable = Some(limit.into());
        self
    }
}

/// A cluster as objects, to be written to an API server.
#[derive(Debug, Clone)]
pub struct Cluster {
    /// The release that it runs.
    pub version: String,
    objects: Vec<Object>,
    members: BTreeMap<String, Vec<String>>,
}

/// The options of a [`Cluster`].
#[derive(Debug, Clone)]
pub struct Builder {
    version: String,
    pools: Vec<Pool>,
    images: usize,
    config_bytes: usize,
    source_configs: usize,
}

impl Cluster {
    /// Starts a cluster that runs the release `version`, such as `4.19.14`. Without pools it gets a
    /// master and a worker pool of three nodes each.
    #[must_use]
    pub fn builder(version: &str) -> Builder {
        Builder {
            version: version.to_owned(),
            pools: Vec::new(),
            images: 0,
            config_bytes: 0,
            source_configs: 0,
        }
    }

    /// Every object of the cluster.
    #[must_use]
    pub fn objects(&self) -> &[Object] {
        &self.objects
    }

    /// The names of a pool's nodes.
    #[must_use]
    pub fn nodes_of(&self, pool: &str) -> &[String] {
        self.members.get(pool).map_or(&[], Vec::as_slice)
    }

    /// Makes these the only objects of their kinds on the server; installs minimal CRDs where
    /// `OpenShift`'s kinds are not served.
    ///
    /// # Errors
    /// When the server rejects an object.
    pub async fn load(&self, client: &Client) -> Result<Summary> {
        crds::install_missing(client, &Kind::ALL).await?;
        load::write_objects(client, &self.objects, false).await
    }
}

impl Builder {
    /// Adds a pool. It replaces one of the same name.
    #[must_use]
    pub fn pool(mut self, pool: Pool) -> Self {
        self.pools.retain(|other| other.name != pool.name);
        self.pools.push(pool);
        self
    }

    /// How many images each node reports: they are what makes a real Node large.
    #[must_use]
    pub fn images_per_node(mut self, images: usize) -> Self {
        self.images = images;
        self
    }

    /// Adds `count` source configurations of `bytes` each, which is also the size of the rendered ones.
    /// Real ones have 41 to 186 KB.
    #[must_use]
    pub fn machine_configs(mut self, count: usize, bytes: usize) -> Self {
        self.source_configs = count;
        self.config_bytes = bytes;
        self
    }

    /// The cluster, its last update completed.
    ///
    /// # Errors
    /// Never in practice: the objects are made of valid JSON.
    pub fn build(&self) -> Result<Cluster> {
        let defaults = [Pool::new("master", 3), Pool::new("worker", 3)];
        let pools = if self.pools.is_empty() {
            &defaults[..]
        } else {
            &self.pools[..]
        };
        let mut objects = vec![objects::cluster_version(&self.version)?];
        let mut members = BTreeMap::new();
        for index in 0..self.source_configs {
            let name = format!("{index:02}-worker-source");
            objects.push(objects::machine_config(
                &name,
                "worker",
                None,
                self.config_bytes,
            )?);
        }
        for pool in pools {
            let config = config_name(&pool.name, &[&self.version]);
            let release = Some(self.version.as_str());
            objects.push(objects::machine_config(
                &config,
                &pool.name,
                release,
                self.config_bytes,
            )?);
            objects.push(objects::machine_config_pool(pool, &config)?);
            let names = numbered(&pool.name, pool.nodes);
            for name in &names {
                let mut node = node(name, &pool.name, &config, &self.version);
                node.images = self.images;
                objects.push(node.object()?);
            }
            members.insert(pool.name.clone(), names);
        }
        Ok(Cluster {
            version: self.version.clone(),
            objects,
            members,
        })
    }
}

/// A node of `pool` that runs `config` of the release `version`.
#[must_use]
pub fn node(name: &str, pool: &str, config: &str, version: &str) -> NodeTemplate {
    let role = |role: &str| (format!("node-role.kubernetes.io/{role}"), String::new());
    let labels = match pool {
        "master" => BTreeMap::from([role("master"), role("control-plane")]),
        "worker" => BTreeMap::from([role("worker")]),
        custom => BTreeMap::from([role("worker"), role(custom)]),
    };
    let uncordoned = format!("uncordon-{config}");
    let annotations = [
        ("controlPlaneTopology", "HighlyAvailable"),
        ("currentConfig", config),
        ("desiredConfig", config),
        ("desiredDrain", &uncordoned),
        ("lastAppliedDrain", &uncordoned),
        ("reason", ""),
        ("state", "Done"),
    ];
    let annotations = annotations.map(|(key, value)| (format!("{PREFIX}{key}"), value.to_owned()));
    NodeTemplate {
        name: name.to_owned(),
        labels,
        annotations: BTreeMap::from(annotations),
        kubelet_version: kubelet_of(version),
        os_image: os_image_of(version),
        images: 0,
    }
}

/// The name of a pool's rendered configuration, which depends only on the pool and on `parts`.
#[must_use]
pub fn config_name(pool: &str, parts: &[&str]) -> String {
    let parts: Vec<&str> = [pool].iter().chain(parts).copied().collect();
    format!("rendered-{pool}-{}", fingerprint(&parts))
}

/// The kubelet of a release: `4.20.3` ships Kubernetes 1.33.
#[must_use]
pub fn kubelet_of(version: &str) -> String {
    /// Kubernetes is this many minor versions ahead of `OpenShift` 4.
    const AHEAD: u32 = 13;
    let mut parts = version
        .split(['.', '-'])
        .skip(1)
        .map(|part| part.parse::<u32>().unwrap_or(0));
    let (minor, patch) = (parts.next().unwrap_or(0), parts.next().unwrap_or(0));
    format!("v1.{}.{patch}", minor + AHEAD)
}

/// The operating system of a release.
#[must_use]
pub fn os_image_of(version: &str) -> String {
    format!("Red Hat Enterprise Linux CoreOS {version}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_release_ships_the_kubelet_thirteen_minor_versions_ahead() {
        assert_eq!(kubelet_of("4.20.3"), "v1.33.3");
        assert_eq!(kubelet_of("4.15.0-ec.2"), "v1.28.0");
        assert_eq!(kubelet_of("nonsense"), "v1.13.0");
    }

    #[test]
    fn a_rendered_configuration_is_named_after_its_pool_and_its_content() {
        let name = config_name("infra", &["4.20.3"]);
        assert!(name.starts_with("rendered-infra-") && name.len() == "rendered-infra-".len() + 32);
        assert_eq!(name, config_name("infra", &["4.20.3"]));
        assert_ne!(name, config_name("infra", &["4.20.4"]));
    }

    #[test]
    fn nodes_of_a_custom_pool_are_workers_too() {
        let cluster = Cluster::builder("4.20.3")
            .pool(Pool::new("infra", 2))
            .build()
            .unwrap();
        assert_eq!(cluster.nodes_of("infra"), ["infra-0", "infra-1"]);
        let labels = node("n", "infra", "c", "4.20.3").labels;
        assert!(labels.contains_key("node-role.kubernetes.io/worker"));
        assert!(labels.contains_key("node-role.kubernetes.io/infra"));
    }
}
