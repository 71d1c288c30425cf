//! Single changes of a simulated `OpenShift` cluster, by which tests set up a situation.

use anyhow::{Context, Result, bail};
use kube::api::{Api, DynamicObject, Patch, PatchParams, PostParams};
use kube::{Client, ResourceExt};
use serde_json::{Value, json};

use super::objects::{self, PoolCounts, condition, history_entry};
use super::{PREFIX, VERSION, config_name, node};
use crate::kubernetes::node::now;
use crate::kubernetes::{Nodes, Ready};
use crate::load::Kind;
use crate::pods::Pods;

/// Writes a simulated cluster. Every method is one or two requests, and fails when the server rejects
/// them or the object does not exist.
#[derive(Clone)]
pub struct Editor {
    nodes: Nodes,
    pods: Pods,
    pools: Api<DynamicObject>,
    configs: Api<DynamicObject>,
    versions: Api<DynamicObject>,
}

impl Editor {
    /// An editor of the cluster that `client` talks to.
    #[must_use]
    pub fn new(client: &Client) -> Self {
        let api = |kind: Kind| Api::all_with(client.clone(), &kind.resource());
        Self {
            nodes: Nodes::new(client.clone()),
            pods: Pods::new(client),
            pools: api(Kind::MachineConfigPool),
            configs: api(Kind::MachineConfig),
            versions: api(Kind::ClusterVersion),
        }
    }

    /// Changes of nodes in any Kubernetes cluster: labels, cordon, Ready, deletion.
    #[must_use]
    pub fn nodes(&self) -> &Nodes {
        &self.nodes
    }

    /// The pods of its nodes.
    #[must_use]
    pub fn pods(&self) -> &Pods {
        &self.pods
    }

    /// The pools, for reading.
    #[must_use]
    pub fn pools(&self) -> &Api<DynamicObject> {
        &self.pools
    }

    /// Sets annotations of the Machine Config Operator, named without their prefix; `None` removes one.
    ///
    /// # Errors
    /// As for every method: see [`Editor`].
    pub async fn annotate(&self, node: &str, annotations: &[(&str, Option<&str>)]) -> Result<()> {
        let keys: Vec<String> = annotations
            .iter()
            .map(|(key, _)| format!("{PREFIX}{key}"))
            .collect();
        let values = annotations.iter().map(|(_, value)| *value);
        let prefixed: Vec<(&str, Option<&str>)> =
            keys.iter().map(String::as_str).zip(values).collect();
        self.nodes.annotate(node, &prefixed).await
    }

    /// Starts the update of a node to a configuration: it is cordoned, and its drain begins.
    ///
    /// # Errors
    /// See [`Editor`].
    pub async fn begin_drain(&self, node: &str, config: &str) -> Result<()> {
        let drain = format!("drain-{config}");
        let wanted = [
            ("desiredConfig", Some(config)),
            ("state", Some("Working")),
            ("desiredDrain", Some(&*drain)),
        ];
        self.annotate(node, &wanted).await?;
        self.cordon(node, true).await
    }

    /// Ends the update of a node to a configuration.
    ///
    /// # Errors
    /// See [`Editor`].
    pub async fn complete_node(&self, node: &str, config: &str) -> Result<()> {
        let uncordon = format!("uncordon-{config}");
        let done = [
            ("currentConfig", Some(config)),
            ("state", Some("Done")),
            ("desiredDrain", Some(&*uncordon)),
            ("lastAppliedDrain", Some(&*uncordon)),
        ];
        self.annotate(node, &done).await?;
        self.cordon(node, false).await
    }

    /// Sets a node's state and its reason.
    ///
    /// # Errors
    /// See [`Editor`].
    pub async fn set_state(&self, node: &str, state: &str, reason: &str) -> Result<()> {
        self.annotate(node, &[("state", Some(state)), ("reason", Some(reason))])
            .await
    }

    /// Adds a ready node of `pool` that runs the pool's configuration.
    ///
    /// # Errors
    /// See [`Editor`].
    pub async fn add_node(&self, name: &str, pool: &str, version: &str) -> Result<()> {
        let config = self.pool_configuration(pool).await?;
        self.nodes
            .join(&node(name, pool, &config, version).object()?)
            .await?;
        self.nodes.become_ready(name).await
    }

    /// Deletes a node.
    ///
    /// # Errors
    /// See [`Editor`].
    pub async fn delete_node(&self, name: &str) -> Result<()> {
        self.nodes.delete(name).await
    }

    /// Cordons or uncordons a node.
    ///
    /// # Errors
    /// See [`Editor`].
    pub async fn cordon(&self, node: &str, yes: bool) -> Result<()> {
        self.nodes.cordon(node, yes).await
    }

    /// Sets a node's Ready condition.
    ///
    /// # Errors
    /// See [`Editor`].
    pub async fn set_ready(&self, node: &str, ready: Ready) -> Result<()> {
        self.nodes.set_ready(node, ready).await
    }

    /// The name of a pool's desired configuration.
    ///
    /// # Errors
    /// See [`Editor`].
    pub async fn pool_configuration(&self, pool: &str) -> Result<String> {
        let object = self
            .pools
            .get(pool)
            .await
            .with_context(|| format!("Reading pool {pool}"))?;
        let name = object.data["spec"]["configuration"]["name"].as_str();
        Ok(name.unwrap_or_default().to_owned())
    }

    /// Pauses or unpauses a pool.
    ///
    /// # Errors
    /// See [`Editor`].
    pub async fn set_paused(&self, pool: &str, paused: bool) -> Result<()> {
        self.set_pool(pool, &json!({"paused": paused})).await
    }

    /// Sets a pool's desired configuration.
    ///
    /// # Errors
    /// See [`Editor`].
    pub async fn set_pool_configuration(&self, pool: &str, config: &str) -> Result<()> {
        self.set_pool(pool, &json!({"configuration": {"name": config}}))
            .await
    }

    /// Sets how many nodes of a pool may be updated at once: `2` or `"25%"`.
    ///
    /// # Errors
    /// See [`Editor`].
    pub async fn set_max_unavailable(&self, pool: &str, limit: impl Into<Value>) -> Result<()> {
        self.set_pool(pool, &json!({"maxUnavailable": limit.into()}))
            .await
    }

    /// Replaces a pool's node selector: a label selector, or null.
    ///
    /// # Errors
    /// See [`Editor`].
    pub async fn set_selector(&self, pool: &str, selector: Value) -> Result<()> {
        // A merge patch merges maps: remove the old selector first.
        self.set_pool(pool, &json!({"nodeSelector": null})).await?;
        self.set_pool(pool, &json!({"nodeSelector": selector}))
            .await
    }

    /// Changes fields of a pool's spec: a JSON merge patch.
    ///
    /// # Errors
    /// See [`Editor`].
    pub async fn set_pool(&self, pool: &str, spec: &Value) -> Result<()> {
        let patch = Patch::Merge(json!({"spec": spec}));
        let patched = self
            .pools
            .patch_metadata(pool, &PatchParams::default(), &patch)
            .await;
        patched.with_context(|| format!("Patching pool {pool}"))?;
        Ok(())
    }

    /// Writes a pool's status.
    ///
    /// # Errors
    /// See [`Editor`].
    pub async fn set_pool_status(
        &self,
        pool: &str,
        counts: PoolCounts,
        current: &str,
        wanted: &str,
    ) -> Result<()> {
        let patch = Patch::Merge(json!({"status": counts.status(current, wanted)}));
        let patched = self
            .pools
            .patch_status(pool, &PatchParams::default(), &patch)
            .await;
        patched.with_context(|| format!("Patching the status of pool {pool}"))?;
        Ok(())
    }

    /// Adds a pool without nodes whose configuration is `config`.
    ///
    /// # Errors
    /// See [`Editor`].
    pub async fn add_pool(&self, pool: &super::Pool, config: &str) -> Result<()> {
        let object = objects::machine_config_pool(pool, config)?.value;
        self.pools.create(&PostParams::default(), &object).await?;
        Ok(())
    }

    /// Adds a rendered configuration for a pool. An existing one stays as it is.
    ///
    /// # Errors
    /// See [`Editor`].
    pub async fn add_config(&self, name: &str, pool: &str, release: Option<&str>) -> Result<()> {
        let object = objects::machine_config(name, pool, release, 0)?.value;
        match self.configs.create(&PostParams::default(), &object).await {
            Err(kube::Error::Api(status)) if status.is_already_exists() => Ok(()),
            Err(error) => Err(error).with_context(|| format!("Creating the configuration {name}")),
            Ok(_) => Ok(()),
        }
    }

    /// Gives a pool the configuration of the release `version`; returns its name.
    ///
    /// # Errors
    /// See [`Editor`].
    pub async fn render(&self, pool: &str, version: &str) -> Result<String> {
        let config = config_name(pool, &[version]);
        self.add_config(&config, pool, Some(version)).await?;
        self.set_pool_configuration(pool, &config).await?;
        Ok(config)
    }

    /// Deletes a configuration.
    ///
    /// # Errors
    /// See [`Editor`].
    pub async fn delete_config(&self, name: &str) -> Result<()> {
        let deleted = self
            .configs
            .delete(name, &kube::api::DeleteParams::default())
            .await;
        deleted.with_context(|| format!("Deleting the configuration {name}"))?;
        Ok(())
    }

    /// Sets which release rendered a configuration; `None` removes it.
    ///
    /// # Errors
    /// See [`Editor`].
    pub async fn set_release(&self, config: &str, release: Option<&str>) -> Result<()> {
        let annotations = json!({format!("{PREFIX}release-image-version"): release});
        let patch = Patch::Merge(json!({"metadata": {"annotations": annotations}}));
        let patched = self
            .configs
            .patch_metadata(config, &PatchParams::default(), &patch)
            .await;
        patched.with_context(|| format!("Patching the configuration {config}"))?;
        Ok(())
    }

    /// The release that the cluster runs or is being updated to.
    ///
    /// # Errors
    /// See [`Editor`].
    pub async fn target_version(&self) -> Result<String> {
        let object = self
            .versions
            .get(VERSION)
            .await
            .context("Reading the ClusterVersion")?;
        let version = object.data["status"]["history"][0]["version"].as_str();
        Ok(version.unwrap_or_default().to_owned())
    }

    /// Sets the target: the history gets a new entry, which is Partial.
    ///
    /// # Errors
    /// See [`Editor`].
    pub async fn start_update(&self, version: &str) -> Result<()> {
        let spec = Patch::Merge(json!({"spec": {"desiredUpdate": {"version": version}}}));
        self.versions
            .patch(VERSION, &PatchParams::default(), &spec)
            .await?;
        self.change_version(|status| {
            let entry = history_entry(version);
            status["desired"] = json!({"image": entry["image"], "version": version});
            if let Some(history) = status["history"].as_array_mut() {
                history.insert(0, entry);
            } else {
                status["history"] = json!([entry]);
            }
            set_condition(
                status,
                "Progressing",
                true,
                &format!("Working towards {version}"),
            );
        })
        .await
    }

    /// Completes the newest entry of the history.
    ///
    /// # Errors
    /// See [`Editor`].
    pub async fn complete_update(&self) -> Result<()> {
        self.change_version(|status| {
            let version = status["history"][0]["version"]
                .as_str()
                .unwrap_or_default()
                .to_owned();
            status["history"][0]["state"] = "Completed".into();
            status["history"][0]["completionTime"] = now().into();
            set_condition(
                status,
                "Progressing",
                false,
                &format!("Cluster version is {version}"),
            );
        })
        .await
    }

    async fn change_version(&self, change: impl Fn(&mut Value)) -> Result<()> {
        /// Others rarely write the `ClusterVersion`: more conflicts than this are an error.
        const ATTEMPTS: usize = 5;
        for _ in 0..ATTEMPTS {
            let mut object = self
                .versions
                .get(VERSION)
                .await
                .context("Reading the ClusterVersion")?;
            if object.data["status"]["history"]
                .as_array()
                .is_none_or(Vec::is_empty)
            {
                bail!("The ClusterVersion {} has no history", object.name_any());
            }
            change(&mut object.data["status"]);
            match self
                .versions
                .replace_status(VERSION, &PostParams::default(), &object)
                .await
            {
                Err(kube::Error::Api(status)) if status.code == 409 => {}
                Err(error) => return Err(error).context("Writing the ClusterVersion's status"),
                Ok(_) => return Ok(()),
            }
        }
        bail!("The ClusterVersion was changed by others {ATTEMPTS} times in a row")
    }
}

fn set_condition(status: &mut Value, kind: &str, value: bool, message: &str) {
    if let Some(conditions) = status["conditions"].as_array_mut() {
        conditions.retain(|condition| condition["type"] != kind);
        conditions.push(condition(kind, value, message));
    }
}
