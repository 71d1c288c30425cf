//! Random changes of everything that is read, made directly in the API server.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use fastrand::Rng;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use kube::api::{DeleteParams, ListParams};
use kube::{Api, Client, ResourceExt as _};
use node_insights::api::NodeProgressInsight;
use node_insights_harness::kubernetes::{self, Nodes, Ready};
use node_insights_harness::openshift::{Editor, Pool, config_name, node};
use serde_json::json;

use super::chaos::OLDER_SERVER;
use crate::scene::{NEW, OLD, damage};
use crate::snapshot::Snapshot;
use crate::support::World;

const VERSIONS: [&str; 3] = [OLD, "4.19.20", NEW];
const POOLS: [&str; 2] = ["worker", "infra"];
const STATES: [&str; 5] = ["Done", "Working", "Rebooting", "Degraded", "Unreconcilable"];
/// The pool and the names of plain nodes.
const PLAIN: &str = "plain";
/// The label with a different value on each node.
const HOSTNAME: &str = "kubernetes.io/hostname";
/// Workers: some always exist, the others are created and deleted.
const WORKERS: usize = 10;
/// Concurrent writes of short-lived nodes.
const AT_ONCE: usize = 8;

pub struct Changes {
    random: Rng,
    editor: Editor,
    client: Client,
    /// Nodes that were replaced, and nodes whose insight was edited or deleted by hand, in this round.
    touched: BTreeSet<String>,
    is_there: BTreeSet<String>,
    /// The extra pool, while it exists; each time it has another name.
    extra_pool: Option<String>,
    extra_pools: u32,
}

/// Adds nodes that never change. On plain Kubernetes they are pending until they run the version of the API server,
/// even if an older API server answers in between.
pub async fn add_plain_nodes(world: &World) -> Result<()> {
    let cluster = kubernetes::Cluster::builder(OLDER_SERVER)
        .control_plane(0)
        .pool(PLAIN, 3)
        .build()?;
    let nodes = Nodes::new(world.client.clone());
    for object in cluster.objects() {
        nodes.join(object).await?;
        nodes.become_ready(&object.value.name_any()).await?;
    }
    Ok(())
}

impl Changes {
    pub async fn new(seed: u64, world: &World) -> Result<Self> {
        let editor = world.editor.clone();
        for version in VERSIONS {
            for pool in POOLS {
                let config = config_name(pool, &[version]);
                editor.add_config(&config, pool, Some(version)).await?;
            }
        }
        let nodes = editor.nodes().api().list(&ListParams::default()).await?;
        let names = nodes
            .items
            .into_iter()
            .filter_map(|node| node.metadata.name);
        Ok(Self {
            random: Rng::with_seed(seed),
            client: world.client.clone(),
            editor,
            touched: BTreeSet::new(),
            is_there: names.filter(|name| name.starts_with("worker-")).collect(),
            extra_pool: None,
            extra_pools: 0,
        })
    }

    /// Begins a round.
    pub fn begin(&mut self) {
        self.touched.clear();
    }

    /// Makes changes until then.
    pub async fn run(&mut self, until: Instant) -> Result<()> {
        while Instant::now() < until {
            self.one().await?;
            tokio::time::sleep(Duration::from_millis(self.random.u64(5..150))).await;
        }
        Ok(())
    }

    /// Nodes that were neither replaced nor edited by hand have the same insight as before, and its phase did not start
    /// earlier than before. Insights of plain nodes are unchanged, unless a replica was `killed`: on its start it
    /// takes the version of the first API server that answers.
    pub fn is_preserved(&self, before: &Snapshot, after: &Snapshot, killed: bool) -> Result<()> {
        for (name, old) in &before.nodes {
            let Some(new) = after.nodes.get(name) else {
                continue;
            };
            if name.starts_with(PLAIN) && !killed {
                ensure!(
                    old.metadata.resource_version == new.metadata.resource_version,
                    "{name} was written without a change:\n{}\n{}",
                    serde_json::to_string(old)?,
                    serde_json::to_string(new)?
                );
            }
            if self.touched.contains(name) {
                continue;
            }
            ensure!(
                new.metadata.uid == old.metadata.uid,
                "the insight {name} was recreated"
            );
            let started = [old, new].map(|insight| {
                insight
                    .status
                    .as_ref()
                    .map(|status| status.phase_start_time)
            });
            ensure!(
                started[0] <= started[1],
                "the time of {name} went back: {started:?}"
            );
        }
        for name in &self.is_there {
            ensure!(after.nodes.contains_key(name), "{name} has no insight");
        }
        Ok(())
    }

    async fn one(&mut self) -> Result<()> {
        let version = VERSIONS[self.random.usize(..VERSIONS.len())];
        let pool = POOLS[self.random.usize(..POOLS.len())];
        let node = self.node();
        let yes = self.random.bool();
        let kind = self.random.u8(..18);
        let editor = &self.editor;
        match kind {
            0..3 => editor.cordon(&node, yes).await,
            3 | 4 => {
                let state = STATES[self.random.usize(..STATES.len())];
                let reason = if yes { "disk is full\n\u{7}" } else { "" };
                editor.set_state(&node, state, reason).await
            }
            5 => {
                let states = [Ready::Yes, Ready::No, Ready::Unknown];
                editor
                    .set_ready(&node, states[self.random.usize(..3)])
                    .await
            }
            6 | 7 => {
                let config = config_name("worker", &[version]);
                let drain = format!("{}-{config}", if yes { "drain" } else { "uncordon" });
                let wanted = [
                    ("desiredConfig", Some(&*config)),
                    ("desiredDrain", Some(&*drain)),
                ];
                editor.annotate(&node, &wanted).await
            }
            8 => {
                let config = config_name("worker", &[version]);
                let done = [
                    ("currentConfig", Some(&*config)),
                    ("desiredConfig", Some(&*config)),
                    ("state", Some("Done")),
                ];
                editor.annotate(&node, &done).await
            }
            9 if editor.target_version().await? != version => editor.start_update(version).await,
            9 => editor.complete_update().await,
            10 => editor.render(pool, version).await.map(|_| ()),
            11 => editor.set_paused(pool, yes).await,
            12 => editor.set_max_unavailable(pool, self.random.u8(1..4)).await,
            13 => {
                // The infra pool selects one worker as well, or only its own nodes.
                let role = "node-role.kubernetes.io/infra";
                let selector = if yes {
                    json!({"matchLabels": {role: ""}})
                } else {
                    json!({"matchLabels": {HOSTNAME: node}})
                };
                editor.set_selector("infra", selector).await
            }
            14 => {
                let config = config_name(pool, &[version]);
                editor.set_release(&config, yes.then_some(version)).await
            }
            15 => self.replace_worker().await,
            16 => self.by_hand(&node, yes).await,
            _ => self.extra_pool(&node, version).await,
        }
        .with_context(|| format!("making change {kind} of {node}"))
    }

    fn node(&mut self) -> String {
        let index = self.random.usize(..self.is_there.len());
        self.is_there.iter().nth(index).cloned().unwrap_or_default()
    }

    /// Deletes a worker, creates one, or replaces one by another of the same name.
    async fn replace_worker(&mut self) -> Result<()> {
        let name = format!("worker-{}", self.random.usize(..WORKERS));
        self.touched.insert(name.clone());
        let is_there = self.is_there.remove(&name);
        if is_there {
            self.editor.delete_node(&name).await?;
        }
        // Keep a few at all times.
        if !is_there || self.is_there.len() < 3 || self.random.bool() {
            self.editor.add_node(&name, "worker", OLD).await?;
            self.is_there.insert(name);
        }
        Ok(())
    }

    async fn by_hand(&mut self, node: &str, delete: bool) -> Result<()> {
        self.touched.insert(node.to_owned());
        let done = if delete {
            let params = DeleteParams::default();
            let insights: Api<NodeProgressInsight> = Api::all(self.client.clone());
            insights.delete(node, &params).await.map(|_| ())
        } else {
            damage(&self.client, node).await
        };
        match done {
            // The operator has not created it yet, or not its status.
            Err(kube::Error::Api(status)) if [404, 422].contains(&status.code) => Ok(()),
            done => Ok(done?),
        }
    }

    /// Creates a pool that selects a node, or deletes it.
    async fn extra_pool(&mut self, node: &str, version: &str) -> Result<()> {
        let pools = self.editor.pools();
        if let Some(name) = self.extra_pool.take() {
            pools.delete(&name, &DeleteParams::default()).await?;
            return Ok(());
        }
        self.extra_pools += 1;
        let name = format!("extra-{}", self.extra_pools);
        let config = config_name("worker", &[version]);
        self.editor.add_pool(&Pool::new(&name, 0), &config).await?;
        let selector = json!({"matchLabels": {HOSTNAME: node}});
        self.editor.set_selector(&name, selector).await?;
        self.extra_pool = Some(name);
        Ok(())
    }
}

/// Creates this many nodes, and deletes them again before the time is over.
pub async fn churn(world: &World, round: u32, count: usize, until: Instant) -> Result<()> {
    let nodes = Nodes::new(world.client.clone());
    let config = config_name("worker", &[OLD]);
    let names: Vec<String> = (0..count)
        .map(|index| format!("churn-{round}-{index}"))
        .collect();
    let objects = names
        .iter()
        .map(|name| node(name, "worker", &config, OLD).object());
    let objects = objects.collect::<Result<Vec<_>>>()?;
    let creating = objects.iter().map(|object| nodes.join(object));
    stream::iter(creating)
        .buffer_unordered(AT_ONCE)
        .try_collect::<()>()
        .await?;
    // Long enough for their insights to be written.
    let rest = until.saturating_duration_since(Instant::now());
    tokio::time::sleep(rest / 2).await;
    let deleting = names.iter().map(|name| nodes.delete(name));
    stream::iter(deleting)
        .buffer_unordered(AT_ONCE)
        .try_collect::<()>()
        .await
}
