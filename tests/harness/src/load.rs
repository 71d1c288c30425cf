//! Loads the dump of a cluster into an API server, including the status of its objects.
//!
//! ```text
//! DIR/{cv,mcp,mc,node}.yaml ─► dump (parse, strip) ─► crds (serve the kinds) ─► write (8 in flight)
//! ```
//!
//! Guarantees: afterwards the server holds, for the four kinds, exactly what the dump holds, even if
//! another dump was loaded before. The exception is what a server assigns itself: UIDs, resource
//! versions, generations and creation times are new, and owner references are not loaded. Every object
//! that cannot be loaded is reported with its file and field; the others are loaded.
//!
//! Deliberately absent: namespaced objects, and any kind but the four.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use futures::stream::{self, StreamExt};
use k8s_openapi::api::coordination::v1::Lease;
use kube::api::{Api, ListParams};
use kube::{Client, ResourceExt};

pub mod crds;
pub mod dump;
pub mod kind;
pub mod nulls;
pub mod write;

pub use dump::Object;
pub use kind::Kind;

/// Requests in flight: more of them add little throughput, as the server is the limit.
pub const IN_FLIGHT: usize = 8;

/// A kubelet renews its lease every 10 s; one renewed this recently belongs to a live cluster.
const LIVE_KUBELET: Duration = Duration::from_mins(5);

/// How many rejected objects a message lists before it only counts the rest.
const ERRORS_SHOWN: usize = 20;

/// What to do in addition to loading the objects.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// A folder of CRDs that are applied first.
    pub crds: Option<PathBuf>,
    /// Keep objects of the four kinds that are not in the dump; otherwise they are removed.
    pub keep_others: bool,
    /// Load even into a cluster whose kubelets are alive.
    pub force: bool,
}

/// What was loaded, and notes for the user.
#[derive(Debug, Clone, Default)]
pub struct Summary {
    /// Objects loaded, by kind.
    pub loaded: BTreeMap<Kind, usize>,
    /// Objects removed because they are not in the dump, by kind.
    pub removed: BTreeMap<Kind, usize>,
    /// Notes for the user: missing files, installed CRDs.
    pub notes: Vec<String>,
    /// From the first file read to the last response of the server.
    pub took: Duration,
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for note in &self.notes {
            writeln!(f, "Note: {note}")?;
        }
        let counts = |counts: &BTreeMap<Kind, usize>| {
            let some = counts.iter().filter(|(_, count)| **count > 0);
            let text: Vec<String> = some
                .map(|(kind, count)| format!("{count} {kind}"))
                .collect();
            if text.is_empty() {
                "nothing".to_owned()
            } else {
                text.join(", ")
            }
        };
        write!(f, "Loaded {}", counts(&self.loaded))?;
        if self.removed.values().any(|count| *count > 0) {
            write!(f, "; removed {}", counts(&self.removed))?;
        }
        write!(f, "; {:.1} s", self.took.as_secs_f64())
    }
}

/// Loads the dump in `dir` into the server that `client` talks to.
///
/// # Errors
/// When a file cannot be read or is not a dump, when a kind is not served and cannot be installed,
/// when the server belongs to a live cluster, and when it rejects objects: the message names the
/// file, the object and the field of each.
pub async fn load_cluster(client: Client, dir: &Path, options: &Options) -> Result<Summary> {
    let started = Instant::now();
    let dump = dump::read(dir)?;
    if !options.force {
        let check = reject_live_cluster(&client).await;
        check.context("Not loading, as --force is not given")?;
    }
    let mut notes = dump.notes;
    if let Some(crds) = &options.crds {
        notes.extend(crds::apply_folder(&client, crds).await?);
    }
    let wanted: Vec<Kind> = Kind::ALL
        .into_iter()
        .filter(|kind| dump.objects.iter().any(|object| object.kind == *kind))
        .collect();
    notes.extend(crds::install_missing(&client, &wanted).await?);
    let mut summary = write_objects(&client, &dump.objects, options.keep_others).await?;
    notes.append(&mut summary.notes);
    summary.notes = notes;
    summary.took = started.elapsed();
    Ok(summary)
}

/// Writes objects whose kinds are served, and removes all others unless `keep_others` is set.
///
/// # Errors
/// When the server rejects objects; the others are still written.
pub async fn write_objects(
    client: &Client,
    objects: &[Object],
    keep_others: bool,
) -> Result<Summary> {
    let started = Instant::now();
    let mut summary = Summary::default();
    let served = crds::served(client).await?;
    if !keep_others {
        // Nodes first: a watcher never sees a node whose pool and config are already gone.
        for kind in served.iter().rev() {
            let removed = write::remove_others(client, *kind, objects).await?;
            summary.removed.insert(*kind, removed);
        }
    }
    let mut rejected = Vec::new();
    for kind in &served {
        let schema = crds::schema(client, *kind).await;
        let mine: Vec<&Object> = objects
            .iter()
            .filter(|object| object.kind == *kind)
            .collect();
        let results: Vec<Result<()>> = stream::iter(mine)
            .map(|object| write::reconcile(client, object, schema.as_ref()))
            .buffer_unordered(IN_FLIGHT)
            .collect()
            .await;
        let total = results.len();
        let errors: Vec<_> = results.into_iter().filter_map(Result::err).collect();
        summary.loaded.insert(*kind, total - errors.len());
        rejected.extend(errors);
    }
    summary.took = started.elapsed();
    if rejected.is_empty() {
        return Ok(summary);
    }
    let mut lines: Vec<String> = rejected
        .iter()
        .map(|error| format!("  {error:#}"))
        .collect();
    lines.sort();
    let count = lines.len();
    if count > ERRORS_SHOWN {
        lines.truncate(ERRORS_SHOWN);
        lines.push(format!("  and {} more", count - ERRORS_SHOWN));
    }
    bail!(
        "Not loaded, {count} in all:\n{}\n{summary}",
        lines.join("\n")
    );
}

/// Protects a real cluster: a dump replaces every node, which is fatal where kubelets run.
///
/// # Errors
/// When a kubelet of the cluster is alive, and when the server cannot be reached.
pub async fn reject_live_cluster(client: &Client) -> Result<()> {
    let leases = Api::<Lease>::namespaced(client.clone(), "kube-node-lease");
    let leases = match leases.list(&ListParams::default()).await {
        Ok(leases) => leases,
        // Loading a dump does not need the permission to read leases; a failed connection is an error.
        Err(kube::Error::Api(_)) => return Ok(()),
        Err(error) => return Err(error).context("Cannot talk to the API server"),
    };
    let now = jiff::Timestamp::now();
    let live = leases.iter().find(|lease| {
        let renewed = lease
            .spec
            .as_ref()
            .and_then(|spec| spec.renew_time.as_ref());
        renewed.is_some_and(|time| now.duration_since(time.0).unsigned_abs() < LIVE_KUBELET)
    });
    if let Some(lease) = live {
        bail!(
            "The kubelet of node {} is alive: this is a real cluster, and simulated nodes would replace its nodes",
            lease.name_any()
        );
    }
    Ok(())
}
