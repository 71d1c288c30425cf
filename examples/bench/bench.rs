//! The cluster under measurement: a control plane, a simulated `OpenShift` fleet, and the changes of it.
//!
//! Tracks the phase of each node, so that every change is visible in an insight.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use http::Request;
use kube::Client;
use kube::api::{Api, DeleteParams, ListParams};
use kube::core::PartialObjectMeta;
use node_insights::api::types::Phase;
use node_insights::api::{NodeProgressInsight, PoolProgressInsight};
use node_insights_harness::openshift::{Cluster, Editor, Pool, config_name};
use node_insights_harness::{AuditMark, ControlPlane, eventually};

use super::observer::{NODES, Observer};
use super::operator::Program;
use super::report::{progress, thousands};
use super::writes::Writes;
use super::{Arguments, drains, mixed};

/// The release that the cluster runs.
const OLD: &str = "4.19.14";
/// The release that it is updated to.
pub(crate) const NEW: &str = "4.20.3";
/// Images per node, which make a real Node large.
const IMAGES: usize = 50;
/// The size of a real MachineConfig.
const CONFIG_BYTES: usize = 200_000;
/// The pools; `master` has 3 nodes, `worker` the rest.
const POOLS: [&str; 4] = ["master", "infra", "storage", "worker"];
/// One node in this many is in `infra`, and one in `storage`.
const CUSTOM_POOL_SHARE: usize = 10;
/// The node whose cordon, once reported, shows that everything before it was compared. It is part of the fleet.
pub(crate) const MARKER: &str = "master-0";
/// The reason in the insight of a cordoned node.
const CORDONED: &str = "Unschedulable";

/// A node, and the phase of its update.
struct Member {
    name: String,
    /// The configuration that its pool is updated to.
    config: String,
    phase: Phase,
}

/// The cluster under measurement.
pub(crate) struct Bench {
    pub(crate) plane: ControlPlane,
    pub(crate) client: Client,
    pub(crate) program: Program,
    pub(crate) editor: Editor,
    nodes: usize,
    machine_configs: usize,
    server: String,
    members: Vec<Member>,
    /// The pools have the configurations of the new release.
    is_rendered: bool,
}

impl Bench {
    /// Starts a control plane with our CRDs, our RBAC, the pools and configurations, and no nodes.
    ///
    /// # Errors
    /// When it does not come up, or rejects any of that.
    pub(crate) async fn prepare(arguments: &Arguments) -> Result<Self> {
        progress("starting the control plane");
        let plane = ControlPlane::start().await?;
        let project = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
        for plural in [NODES, super::observer::POOLS] {
            let file = project.join(format!("crds/nodeinsights.dev_{plural}.yaml"));
            plane.apply_file(file).await?;
        }
        let rbac: &Path = &project.join("config/rbac");
        plane
            .kubectl(&["apply", "-k", &rbac.to_string_lossy()])
            .await?;
        let client = plane.client();
        let bench = Self {
            program: Program::new(&arguments.operator, &plane).await?,
            editor: Editor::new(&client),
            server: client.apiserver_version().await?.git_version,
            client,
            plane,
            nodes: usize::try_from(arguments.nodes)?,
            machine_configs: usize::try_from(arguments.machine_configs)?,
            members: Vec::new(),
            is_rendered: false,
        };
        if !arguments.mixed && arguments.drains.is_none() {
            progress("loading the pools and the machine configurations");
            bench.cluster([0; 4])?.load(&bench.client).await?;
        }
        Ok(bench)
    }

    /// Loads the nodes.
    ///
    /// # Errors
    /// When the API server rejects one.
    pub(crate) async fn load_nodes(&mut self) -> Result<()> {
        progress(format_args!(
            "loading {} nodes of {IMAGES} images",
            thousands(self.nodes)
        ));
        let share = self.nodes / CUSTOM_POOL_SHARE;
        let cluster = self.cluster([3, share, share, self.nodes - 3 - 2 * share])?;
        cluster.load(&self.client).await?;
        self.members = POOLS
            .iter()
            .flat_map(|pool| cluster.nodes_of(pool).iter().map(move |name| (pool, name)))
            .map(|(pool, name)| Member {
                name: name.clone(),
                config: config_name(pool, &[NEW]),
                phase: Phase::Completed,
            })
            .collect();
        Ok(())
    }

    fn cluster(&self, nodes: [usize; 4]) -> Result<Cluster> {
        let builder = Cluster::builder(OLD)
            .images_per_node(IMAGES)
            .machine_configs(self.machine_configs, CONFIG_BYTES);
        let pools = POOLS.iter().zip(nodes);
        pools
            .fold(builder, |builder, (name, nodes)| {
                builder.pool(Pool::new(name, nodes))
            })
            .build()
    }

    /// Describes the cluster, where it runs and when.
    pub(crate) fn description(&self, arguments: &Arguments) -> String {
        let contents = if arguments.mixed {
            mixed::contents(self.nodes)
        } else if let Some(drains) = arguments.drains() {
            drains::contents(self.nodes, drains)
        } else {
            format!(
                "{} nodes of {IMAGES} images in {} pools, {} MachineConfigs of {} KB",
                thousands(self.nodes),
                POOLS.len(),
                self.machine_configs,
                CONFIG_BYTES / 1000,
            )
        };
        let cores = std::thread::available_parallelism().map_or(0, usize::from);
        format!(
            "{contents}; {cores} cores, on which kube-apiserver {} and etcd run beside the operator; {}.",
            self.server,
            jiff::Timestamp::now().strftime("%Y-%m-%d"),
        )
    }

    /// Waits until every node has an insight.
    ///
    /// # Errors
    /// When that takes too long.
    pub(crate) async fn all_reported(&self) -> Result<()> {
        let api: Api<NodeProgressInsight> = Api::all(self.client.clone());
        let params = ListParams::default().limit(1);
        let reported = eventually("every node has an insight", self.timeout(), async || {
            let page = api.list_metadata(&params).await?;
            let others = page.metadata.remaining_item_count.unwrap_or_default();
            let count = page.items.len() + usize::try_from(others)?;
            Ok((count == self.nodes).then_some(()))
        });
        reported.await
    }

    /// How many nodes there are.
    pub(crate) fn nodes(&self) -> usize {
        self.nodes
    }

    /// How many pools there are.
    pub(crate) fn pools() -> usize {
        POOLS.len()
    }

    /// The timeout for anything that affects all nodes: a multiple of the expected duration, so that something
    /// slow is measured, and something that hangs is not waited for.
    pub(crate) fn timeout(&self) -> Duration {
        const LEAST: Duration = Duration::from_mins(2);
        const PER_NODE: Duration = Duration::from_millis(50);
        LEAST + PER_NODE * u32::try_from(self.nodes).unwrap_or(u32::MAX)
    }

    /// The name of a node, by index.
    pub(crate) fn name(&self, index: usize) -> &str {
        &self.members[index].name
    }

    /// The names of all nodes and their phases.
    pub(crate) fn phases(&self) -> impl Iterator<Item = (&str, Phase)> {
        self.members
            .iter()
            .map(|member| (member.name.as_str(), member.phase))
    }

    /// Gives the pools the new release's configurations, once. Their nodes are changed one by one later.
    ///
    /// # Errors
    /// When the API server rejects it; the same for every method here.
    pub(crate) async fn render(&mut self) -> Result<()> {
        if std::mem::replace(&mut self.is_rendered, true) {
            return Ok(());
        }
        for pool in POOLS {
            self.editor.render(pool, NEW).await?;
        }
        Ok(())
    }

    /// Prepares a change of one node: to Draining, or from Draining to Updating. Returns the new phase and the
    /// request.
    pub(crate) fn advance(
        &mut self,
        index: usize,
    ) -> (Phase, impl Future<Output = Result<()>> + use<>) {
        let member = &mut self.members[index];
        member.phase = match member.phase {
            Phase::Draining => Phase::Updating,
            _ => Phase::Draining,
        };
        let phase = member.phase;
        let (name, config) = (member.name.clone(), member.config.clone());
        let editor = self.editor.clone();
        let patch = async move {
            let drain = format!("drain-{config}");
            let uncordon = format!("uncordon-{config}");
            // A drain is requested by the desired one, and complete when it is the last applied one.
            let applied = if phase == Phase::Draining {
                &uncordon
            } else {
                &drain
            };
            let annotations = [
                ("desiredConfig", Some(config.as_str())),
                ("desiredDrain", Some(&drain)),
                ("lastAppliedDrain", Some(applied)),
                ("state", Some("Working")),
            ];
            editor.annotate(&name, &annotations).await
        };
        (phase, patch)
    }

    /// Waits until all earlier changes are compared, and written if there is a difference: changes one more
    /// node, twice. Its first change may overtake others in the queue, if the node has been queued for long;
    /// its second one is the last in the queue.
    pub(crate) async fn settle(&self) -> Result<()> {
        let mut observer = Observer::start(&self.client, NODES).await?;
        for _ in 0..2 {
            self.flip_marker(&mut observer).await.context("settling")?;
        }
        Ok(())
    }

    /// Changes one node and waits until its insight shows it; returns when that was.
    pub(crate) async fn flip_marker(&self, observer: &mut Observer) -> Result<Instant> {
        let node = self.editor.nodes().api().get(MARKER).await?;
        let is_cordoned = node.spec.and_then(|spec| spec.unschedulable);
        let cordon = !is_cordoned.unwrap_or(false);
        self.editor.cordon(MARKER, cordon).await?;
        loop {
            let observation = observer.next(self.timeout()).await?;
            let shown = observation
                .status
                .is_some_and(|status| status.has_reason(CORDONED) == cordon);
            if observation.name == MARKER && shown {
                return Ok(observation.at);
            }
        }
    }

    /// What the operator wrote since `mark`.
    pub(crate) fn writes_since(&self, mark: AuditMark) -> Result<Writes> {
        Writes::since(&self.plane, mark)
    }

    /// Deletes every insight; no operator may be running.
    pub(crate) async fn delete_insights(&self) -> Result<()> {
        delete_all(&Api::<NodeProgressInsight>::all(self.client.clone())).await?;
        delete_all(&Api::<PoolProgressInsight>::all(self.client.clone())).await
    }

    /// A response of the API server as JSON.
    pub(crate) async fn read(&self, path: &str) -> Result<serde_json::Value> {
        let request = Request::get(path).body(Vec::new())?;
        Ok(self.client.request(request).await?)
    }
}

async fn delete_all<K>(api: &Api<K>) -> Result<()>
where
    K: kube::Resource<DynamicType = ()> + Clone + std::fmt::Debug + serde::de::DeserializeOwned,
{
    // In pages, as one request for very many would exceed the API server's own deadline.
    const PAGE: u32 = 500;
    eventually(
        "all insights are deleted",
        Duration::from_mins(5),
        async || {
            let page: kube::core::ObjectList<PartialObjectMeta<K>> = api
                .list_metadata(&ListParams::default().limit(PAGE))
                .await?;
            if page.items.is_empty() {
                return Ok(Some(()));
            }
            let params = ListParams::default().limit(PAGE);
            api.delete_collection(&DeleteParams::default(), &params)
                .await?;
            Ok(None)
        },
    )
    .await
}
