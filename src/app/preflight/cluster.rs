//! Reads the cluster, evaluates its nodes as the operator does, and looks at what their drains would meet.

use std::collections::HashMap;
use std::sync::Arc;

use anyhow::{Context as _, anyhow, bail};
use jiff::Timestamp;

use crate::api::types::Phase;
use crate::app::config::PreflightConfig;
use crate::app::policy::PolicyFile;
use crate::domain::drain::budget::Budget;
use crate::domain::drain::pod::Pod;
use crate::domain::fact::{Fact, Kind, Need, Object, Parsed};
use crate::domain::facts::Availability;
use crate::domain::preflight::{Candidate, Report, Survey};
use crate::domain::text;
use crate::kubernetes::client::Connection;
use crate::kubernetes::diagnosis::{Attempt, diagnose};
use crate::kubernetes::list;
use crate::kubernetes::platform;
use crate::providers::Providers;
use crate::reconcile::inventory::{Found, Inventory};

/// Longest version that is shown, as in the API.
const VERSION_LIMIT: usize = 253;

/// What was found, and what could not be read.
pub(super) struct Outcome {
    pub(super) report: Report,
    pub(super) gaps: Vec<Gap>,
}

/// Something that could not be read, so that something may be missing from the report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Gap {
    /// The resource, as `kubectl` takes it.
    pub(super) resource: String,
    /// Why.
    pub(super) message: String,
}

/// Objects of a kind that do not match its API.
#[derive(Default)]
struct Unreadable {
    count: usize,
    first: String,
}

impl Unreadable {
    fn add(&mut self, object: &Object<'_>, error: &str) {
        if self.count == 0 {
            self.first = text::summary(&format!("{}: {error}", object.meta.key()));
        }
        self.count += 1;
    }

    fn gap(self, resource: String) -> Option<Gap> {
        let Self { count, first } = self;
        (count > 0).then(|| Gap {
            resource,
            message: format!("{count} cannot be read and are left out, the first one is {first}"),
        })
    }
}

/// What the cluster consists of.
struct Cluster {
    inventory: Inventory,
    nodes: Vec<Arc<str>>,
    api_server: Option<Arc<str>>,
    gaps: Vec<Gap>,
}

/// Reads the cluster and looks at the drains of its nodes, or of those in one pool.
pub(super) async fn look(
    connection: &Connection,
    config: &PreflightConfig,
    now: Timestamp,
) -> anyhow::Result<Outcome> {
    let mut cluster = read(connection, config).await?;
    let candidates = candidates(&cluster, config.pool.as_deref(), now)?;
    let mut survey = Survey::new(now, cluster.api_server.clone());
    for candidate in candidates {
        survey.node(candidate);
    }
    let budgets = list_all(connection, |budget: Budget| survey.budget(budget)).await?;
    let pods = list_all(connection, |pod: Pod| survey.pod(&pod)).await?;
    cluster.gaps.extend(budgets.into_iter().chain(pods));
    Ok(Outcome {
        report: survey.finish(),
        gaps: cluster.gaps,
    })
}

/// Lists the nodes, and the kinds that their providers read.
async fn read(connection: &Connection, config: &PreflightConfig) -> anyhow::Result<Cluster> {
    let providers = Providers::standard(&config.provider_options())?;
    let kinds = providers.kinds().to_vec();
    let inventory = Inventory::new(providers);
    if let Some(file) = PolicyFile::of(&config.pools) {
        inventory.set_policy(Arc::new(file.read().map_err(|error| anyhow!(error))?));
    }
    let version = platform::api_server_version(&connection.client).await;
    let version = version.map_err(|error| explained(&error, "the path /version"))?;
    let api_server: Option<Arc<str>> = text::word(&version, VERSION_LIMIT).map(Arc::from);
    inventory.set_api_server_version(api_server.clone());
    let mut nodes = Vec::new();
    list::nodes(connection, |node| {
        nodes.push(Arc::clone(&node.name));
        inventory.apply_node_object(node);
    })
    .await?;
    let served = platform::served(&connection.client, &kinds).await;
    let served = served.map_err(|error| explained(&error, "the path /apis"))?;
    let mut gaps = Vec::new();
    for (place, (kind, version)) in kinds.iter().zip(served).enumerate() {
        gaps.extend(read_kind(connection, &inventory, place, kind, version).await?);
    }
    inventory.open();
    Ok(Cluster {
        inventory,
        nodes,
        api_server,
        gaps,
    })
}

fn explained(error: &kube::Error, path: &'static str) -> anyhow::Error {
    let attempt = Attempt {
        verbs: "get",
        resource: path,
        group: "",
    };
    anyhow!(diagnose(error, attempt).to_string())
}

/// Lists a kind that providers read, at this index of their table. Returns what is missing, if they can do without.
async fn read_kind(
    connection: &Connection,
    inventory: &Inventory,
    place: usize,
    kind: &Kind,
    version: Option<&'static str>,
) -> anyhow::Result<Option<Gap>> {
    let spec = &kind.spec;
    let Some(version) = version else {
        if spec.need == Need::Always {
            bail!(
                "The API server does not serve {}: check --platform",
                spec.full_name()
            );
        }
        inventory.set_availability(place, Availability::NotServed);
        return Ok(None);
    };
    inventory.set_availability(place, Availability::Listing);
    let mut unreadable = Unreadable::default();
    let listed = list::objects(connection, spec, version, |object| {
        let fact = match kind.parse(object) {
            Parsed::Fact(fact) => Some(fact),
            Parsed::Ignored => None,
            Parsed::Flawed(fact, error) => {
                unreadable.add(object, &error);
                Some(fact)
            }
            Parsed::Unreadable(error) => {
                unreadable.add(object, &error);
                None
            }
        };
        inventory.apply_object(place, &object.meta.key(), fact);
    })
    .await;
    match listed {
        Ok(()) => {
            inventory.set_availability(place, Availability::Ready);
            Ok(unreadable.gap(spec.full_name()))
        }
        Err(error) if spec.need == Need::Optional && error.is_of_kind() => {
            let message = error.to_string();
            let why = text::summary(&message).into();
            inventory.set_availability(place, Availability::Rejected(why));
            Ok(Some(Gap {
                resource: spec.full_name(),
                message,
            }))
        }
        Err(error) => Err(error.into()),
    }
}

/// Evaluates the nodes, and returns those that are looked at.
fn candidates(
    cluster: &Cluster,
    pool: Option<&str>,
    now: Timestamp,
) -> anyhow::Result<Vec<Candidate>> {
    let inventory = &cluster.inventory;
    if let Some(pool) = pool {
        let mut known = inventory.pool_names();
        known.sort_unstable();
        if !known.iter().any(|name| **name == *pool) {
            bail!(
                "There is no pool '{pool}': {}",
                if known.is_empty() {
                    "the cluster has no pools".to_owned()
                } else {
                    format!("the pools are {}", known.join(", "))
                }
            );
        }
    }
    let mut paused: HashMap<Arc<str>, bool> = HashMap::new();
    let mut candidates = Vec::new();
    for name in &cluster.nodes {
        let state = inventory.evaluate(name, None, None, now);
        let Some(state) = state.map(Arc::new) else {
            continue;
        };
        let of = state.pool_name();
        // A node without a machine, as on Fargate, is never updated: it is up to date and in no pool.
        let is_never_updated = of.is_none() && state.phase == Phase::Completed;
        let is_elsewhere = pool.is_some_and(|pool| of.as_deref() != Some(pool));
        if is_never_updated || is_elsewhere {
            continue;
        }
        let is_paused = of.is_some_and(|of| {
            *paused.entry(of).or_insert_with_key(
                |of| matches!(inventory.describe(of, now), Found::Here(pool) if pool.facts.paused),
            )
        });
        let (facts, method) = inventory
            .drained_as(&state)
            .with_context(|| format!("Node {name} is gone"))?;
        candidates.push(Candidate {
            facts,
            state,
            method,
            is_paused,
        });
    }
    Ok(candidates)
}

/// Lists a kind of Kubernetes itself; returns what of it cannot be read.
async fn list_all<F: Fact>(
    connection: &Connection,
    mut each: impl FnMut(F),
) -> anyhow::Result<Option<Gap>> {
    let spec = F::KIND;
    let version = spec.versions.first().copied().unwrap_or_default();
    let mut unreadable = Unreadable::default();
    list::objects(connection, &spec, version, |object| {
        match F::parse(object) {
            Parsed::Fact(fact) => each(fact),
            Parsed::Ignored => {}
            Parsed::Flawed(fact, error) => {
                unreadable.add(object, &error);
                each(fact);
            }
            Parsed::Unreadable(error) => unreadable.add(object, &error),
        }
    })
    .await?;
    Ok(unreadable.gap(spec.full_name()))
}
