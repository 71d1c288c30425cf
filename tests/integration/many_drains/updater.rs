//! Updates nodes: evicts their pods for as long as it takes, then boots them into another version. Beside it kubelets
//! end evicted pods, and owners replace them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams};
use kube::{Client, ResourceExt};
use node_insights_harness::kubernetes::node::os_image;
use node_insights_harness::kubernetes::{Nodes, Ready};
use node_insights_harness::pods::{NAMESPACE, Pods};
use serde_json::{Value, json};

use super::SPARE;
use super::blocker::{Blocker, Cause};
use crate::disruption::metadata;
use crate::drains::{evict, evictable};
use crate::support::World;

/// How often an eviction that was refused is sent again.
const RETRY: Duration = Duration::from_millis(500);

/// Who updates nodes, and what runs beside it.
pub struct Updater {
    pub nodes: Nodes,
    pub blockers: Vec<Blocker>,
    client: Client,
    pods: Pods,
    evictions: Api<Pod>,
    version: String,
    replacements: AtomicUsize,
}

impl Updater {
    pub async fn new(world: &World, version: &str, blockers: Vec<Blocker>) -> Result<Self> {
        Ok(Self {
            nodes: Nodes::new(world.client.clone()),
            blockers,
            client: world.client.clone(),
            pods: Pods::new(&world.client),
            evictions: evictable(world).await?,
            version: version.to_owned(),
            replacements: AtomicUsize::new(0),
        })
    }

    /// Updates a node that is cordoned.
    pub async fn update(self: Arc<Self>, node: String) -> Result<()> {
        self.drain(&node)
            .await
            .with_context(|| format!("Draining {node}"))?;
        let held = self.blockers.iter().filter(|blocker| blocker.node == node);
        held.for_each(|blocker| blocker.is_drained(Instant::now()));
        let image = os_image(&self.version);
        self.nodes.boot(&node, &self.version, &image).await?;
        self.nodes.set_ready(&node, Ready::Yes).await?;
        self.nodes.cordon(&node, false).await
    }

    async fn drain(&self, node: &str) -> Result<()> {
        let of_node = ListParams::default().fields(&format!("spec.nodeName={node}"));
        let mut attempts = tokio::time::interval(RETRY);
        loop {
            attempts.tick().await;
            let pods = self.pods.api().list(&of_node).await?.items;
            if pods.is_empty() {
                return Ok(());
            }
            for pod in pods {
                if pod.metadata.deletion_timestamp.is_none() {
                    self.evict(&pod).await?;
                }
            }
        }
    }

    async fn evict(&self, pod: &Pod) -> Result<()> {
        let (name, held) = (pod.name_any(), self.blocker_of(pod));
        match evict(&self.evictions, &name).await? {
            201 => self.ends(pod, held).await?,
            429 | 500 => {
                if let Some(held) = held {
                    held.is_known(Instant::now());
                }
            }
            other => bail!("the eviction of {name} is answered {other}"),
        }
        Ok(())
    }

    /// What the kubelet does with an evicted pod, and the owner of the pod.
    async fn ends(&self, pod: &Pod, held: Option<&Blocker>) -> Result<()> {
        let name = pod.name_any();
        let in_effect = held.filter(|held| !held.is_freed());
        let cause = in_effect.map(|held| (held, held.cause));
        match cause {
            Some((held, Cause::InGrace)) => held.is_known(Instant::now()),
            Some((held, Cause::Finalizer)) => {
                let ended = json!({"status": {"phase": "Succeeded"}});
                let api = self.pods.api();
                api.patch_status(&name, &PatchParams::default(), &Patch::Merge(ended))
                    .await?;
                self.pods.finish(&name).await?;
                held.is_known(Instant::now());
            }
            Some((held, Cause::Returns)) => {
                let node = &held.node;
                let tolerant = json!({"tolerations": [{"operator": "Exists"}]});
                let again = self.replacement(pod)?;
                self.pods.run_with(again, node, true, &tolerant).await?;
                held.is_known(Instant::now());
                self.pods.finish(&name).await?;
            }
            cause => {
                self.pods.finish(&name).await?;
                let is_ready = !matches!(cause, Some((_, Cause::Exhausted)));
                if pod
                    .owner_references()
                    .iter()
                    .any(|owner| owner.kind == "ReplicaSet")
                {
                    let replacement = self.replacement(pod)?;
                    self.pods.run_as(replacement, SPARE, is_ready).await?;
                }
            }
        }
        Ok(())
    }

    /// The metadata of the pod that takes the place of another.
    fn replacement(&self, pod: &Pod) -> Result<Value> {
        let app = &pod.labels()["app"];
        let number = self.replacements.fetch_add(1, Ordering::Relaxed);
        let owners = serde_json::to_value(pod.owner_references())?;
        Ok(metadata(&format!("{app}-new-{number}"), app, &owners))
    }

    fn blocker_of(&self, pod: &Pod) -> Option<&Blocker> {
        let app = &pod.labels()["app"];
        let mut all = self.blockers.iter();
        all.find(|blocker| blocker.workload.name == app)
    }

    /// Removes what holds a drain up.
    pub async fn free(&self, blocker: &Blocker) -> Result<()> {
        blocker.is_being_freed(Instant::now());
        let budgets: Api<PodDisruptionBudget> = Api::namespaced(self.client.clone(), NAMESPACE);
        let (first, name) = (blocker.first(), blocker.workload.name);
        let params = PatchParams::default();
        let change = async |spec: Value| {
            let patch = Patch::Merge(json!({"spec": spec}));
            budgets.patch(&first, &params, &patch).await
        };
        let delete = DeleteParams::default();
        match blocker.cause {
            Cause::NeverAllows => drop(change(json!({"maxUnavailable": 1})).await?),
            Cause::Unhealthy => {
                change(json!({"unhealthyPodEvictionPolicy": "AlwaysAllow"})).await?;
            }
            Cause::Multiple => drop(budgets.delete(&format!("{name}-1"), &delete).await?),
            Cause::UnmanagedPods | Cause::SyncFailed => {
                budgets.delete(&first, &delete).await?;
            }
            Cause::Exhausted => {
                for pod in self.pods.of(SPARE).await? {
                    if pod.starts_with(name) {
                        self.pods.set_ready(&pod, true).await?;
                    }
                }
            }
            Cause::Finalizer => {
                let patch = Patch::Merge(json!({"metadata": {"finalizers": null}}));
                self.pods.api().patch(&first, &params, &patch).await?;
            }
            Cause::PastGrace | Cause::InGrace => self.pods.finish(&first).await?,
            Cause::Returns => {}
        }
        blocker.is_free(Instant::now());
        Ok(())
    }
}
