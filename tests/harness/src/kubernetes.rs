//! A simulated cluster of plain Kubernetes: control-plane nodes, and node pools distinguished by a label.
//!
//! Everything here writes what kubelets and a cloud's node pools would write; nothing runs. The
//! simulated `OpenShift` is built from the modules below too.

use std::collections::BTreeMap;

use anyhow::Result;
use kube::Client;

use crate::load::{self, Object, Summary};

pub mod node;
pub mod nodes;
pub mod pace;
pub mod rollout;

pub use node::NodeTemplate;
pub use nodes::{Nodes, Ready};
pub use pace::Pace;

/// The default pool label.
pub const POOL_LABEL: &str = "doks.digitalocean.com/node-pool";

/// The label of control-plane nodes.
pub const CONTROL_PLANE_LABEL: &str = "node-role.kubernetes.io/control-plane";

/// A cluster as objects, to be written to an API server.
#[derive(Debug, Clone)]
pub struct Cluster {
    objects: Vec<Object>,
}

/// The options of a [`Cluster`].
#[derive(Debug, Clone)]
pub struct Builder {
    version: String,
    pool_label: String,
    control_plane: usize,
    images: usize,
    pools: Vec<(String, usize)>,
}

impl Cluster {
    /// Starts a cluster whose kubelets run `version`, such as `v1.35.4`.
    #[must_use]
    pub fn builder(version: &str) -> Builder {
        Builder {
            version: version.to_owned(),
            pool_label: POOL_LABEL.to_owned(),
            control_plane: 3,
            images: 0,
            pools: Vec::new(),
        }
    }

    /// Every object of the cluster.
    #[must_use]
    pub fn objects(&self) -> &[Object] {
        &self.objects
    }

    /// Makes these the only nodes of the server.
    ///
    /// # Errors
    /// When the server rejects one.
    pub async fn load(&self, client: &Client) -> Result<Summary> {
        load::write_objects(client, &self.objects, false).await
    }
}

impl Builder {
    /// How many control-plane nodes; 3 by default.
    #[must_use]
    pub fn control_plane(mut self, nodes: usize) -> Self {
        self.control_plane = nodes;
        self
    }

    /// Adds a node pool.
    #[must_use]
    pub fn pool(mut self, name: &str, nodes: usize) -> Self {
        self.pools.push((name.to_owned(), nodes));
        self
    }

    /// The label that names a node's pool.
    #[must_use]
    pub fn pool_label(mut self, label: &str) -> Self {
        label.clone_into(&mut self.pool_label);
        self
    }

    /// How many images each node reports: they are what makes a real Node large.
    #[must_use]
    pub fn images_per_node(mut self, images: usize) -> Self {
        self.images = images;
        self
    }

    /// The cluster.
    ///
    /// # Errors
    /// Never in practice: the objects are made of valid JSON.
    pub fn build(&self) -> Result<Cluster> {
        let control_plane = [(CONTROL_PLANE_LABEL, String::new())];
        let mut objects = Vec::new();
        for name in numbered("control-plane", self.control_plane) {
            objects.push(self.node(name, &control_plane)?);
        }
        for (pool, nodes) in &self.pools {
            let labels = [(self.pool_label.as_str(), pool.clone())];
            for name in numbered(pool, *nodes) {
                objects.push(self.node(name, &labels)?);
            }
        }
        Ok(Cluster { objects })
    }

    fn node(&self, name: String, labels: &[(&str, String)]) -> Result<Object> {
        let labels = labels
            .iter()
            .map(|(key, value)| ((*key).to_owned(), value.clone()));
        NodeTemplate {
            name,
            labels: labels.collect(),
            annotations: BTreeMap::new(),
            kubelet_version: self.version.clone(),
            os_image: node::os_image(&self.version),
            images: self.images,
        }
        .object()
    }
}

/// `prefix-0`, `prefix-1` …, with as many digits as the last one needs.
#[must_use]
pub fn numbered(prefix: &str, count: usize) -> Vec<String> {
    let digits = count.saturating_sub(1).to_string().len();
    (0..count)
        .map(|index| format!("{prefix}-{index:0digits$}"))
        .collect()
}
