//! Brings an API server to the state that the dump of a cluster describes, status included.
//!
//! ```text
//! DIR/{cv,mcp,mc,node}.yaml ─► dump (parse, strip) ─► crds (serve the kinds) ─► write (8 in flight)
//! ```
//!
//! Guarantees: afterwards the server holds, for the four kinds, exactly what the dump holds, also
//! when it held another dump before. What a server assigns by itself is the exception: UIDs,
//! resource versions, generations and creation times are new, and owners are not loaded.
//! Every object that cannot be loaded is reported with its file and field, the others are loaded.
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

/// Requests in flight: more of them buy little throughput, as the server's own work is the limit.
pub const IN_FLIGHT: usize = 8;

/// A kubelet renews its lease every 10 s; one renewed this recently belongs to a living cluster.
const LIVING_KUBELET: Duration = Duration::from_mins(5);

/// How many faulty objects a message lists before it counts the rest.
const ERRORS_SHOWN: usize = 20;

/// What to do beside loading the objects.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// A folder of CRDs that are applied first.
    pub crds: Option<PathBuf>,
    /// Leave objects of the four kinds alone that the dump does not hold; they are removed otherwise.
    pub keep_others: bool,
    /// Load even into a cluster whose kubelets are alive.
    pub force: bool,
}

/// What was loaded, and what is worth saying about it.
#[derive(Debug, Clone, Default)]
pub struct Summary {
    /// Objects loaded, by kind.
    pub loaded: BTreeMap<Kind, usize>,
    /// Objects removed because the dump does not hold them, by kind.
    pub removed: BTreeMap<Kind, usize>,
    /// Remarks for the user: files that are missing, CRDs that were installed.
    pub notes: Vec<String>,
    /// From the first file read to the last answer of the server.
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
/// When a file cannot be read or is no dump, when a kind is not served and cannot be installed,
/// when the server belongs to a living cluster, and when it refuses objects: the message names
/// the file, the object and the field of each.
pub async fn load_cluster(client: Client, dir: &Path, options: &Options) -> Result<Summary> {
    let started = Instant::now();
    let dump = dump::read(dir)?;
    if !options.force {
        let refused = refuse_living_cluster(&client).await;
        refused.context("Not loading, as --force is not given")?;
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

/// Writes objects whose kinds are served, and unless `keep_others` removes what is not among them.
///
/// # Errors
/// When the server refuses objects; those that it accepts are written all the same.
pub async fn write_objects(
    client: &Client,
    objects: &[Object],
    keep_others: bool,
) -> Result<Summary> {
    let started = Instant::now();
    let mut summary = Summary::default();
    let served = crds::served(client).await?;
    if !keep_others {
        // Nodes first: whoever watches never sees a node whose pool and config are already gone.
        for kind in served.iter().rev() {
            let removed = write::remove_others(client, *kind, objects).await?;
            summary.removed.insert(*kind, removed);
        }
    }
    let mut refused = Vec::new();
    for kind in &served {
        let schema = crds::schema(client, *kind).await;
        let mine: Vec<&Object> = objects
            .iter()
            .filter(|object| object.kind == *kind)
            .collect();
        let results: Vec<Result<()>> = stream::iter(mine)
            .map(|object| write::bring(client, object, schema.as_ref()))
            .buffer_unordered(IN_FLIGHT)
            .collect()
            .await;
        let total = results.len();
        let errors: Vec<_> = results.into_iter().filter_map(Result::err).collect();
        summary.loaded.insert(*kind, total - errors.len());
        refused.extend(errors);
    }
    summary.took = started.elapsed();
    if refused.is_empty() {
        return Ok(summary);
    }
    let mut lines: Vec<String> = refused.iter().map(|error| format!("  {error:#}")).collect();
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

/// Protects a real cluster: a dump takes the place of every node, which is fatal where kubelets run.
///
/// # Errors
/// When a kubelet of the cluster is alive, and when the server cannot be reached.
pub async fn refuse_living_cluster(client: &Client) -> Result<()> {
    let leases = Api::<Lease>::namespaced(client.clone(), "kube-node-lease");
    let leases = match leases.list(&ListParams::default()).await {
        Ok(leases) => leases,
        // Who may not read leases may still load a dump; who cannot connect learns it here.
        Err(kube::Error::Api(_)) => return Ok(()),
        Err(error) => return Err(error).context("Cannot talk to the API server"),
    };
    let now = jiff::Timestamp::now();
    let living = leases.iter().find(|lease| {
        let renewed = lease
            .spec
            .as_ref()
            .and_then(|spec| spec.renew_time.as_ref());
        renewed.is_some_and(|time| now.duration_since(time.0).unsigned_abs() < LIVING_KUBELET)
    });
    if let Some(lease) = living {
        bail!(
            "The kubelet of node {} is alive: this is a real cluster, and what is simulated takes the place of its nodes",
            lease.name_any()
        );
    }
    Ok(())
}
