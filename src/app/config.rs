//! Flags. Each can also be set by an environment variable.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Args, Parser, Subcommand};
use jiff::SignedDuration;

pub use self::choices::{
    LeaseChoice, Output, Platform, StateBackendChoice, SyncStatusPlace, TlsChoice,
};
pub use self::evaluation::{PoolFlags, ProviderFlags};
pub use self::preflight::PreflightConfig;
use crate::domain::policy;
use crate::providers::{self, Options, ProviderError, Providers};
use crate::registry::election::Timing;
use crate::telemetry::logging::{LogFormat, parse_filter};

mod choices;
mod evaluation;
mod preflight;

/// Reports for every node and pool of a cluster whether it is being updated, its progress, versions and start
/// time, and what blocks it.
#[derive(Debug, Parser)]
#[command(name = "node-insights", version)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the operator
    Run(Box<RunConfig>),
    /// Print the CustomResourceDefinitions as YAML
    Crds(CrdsConfig),
    /// Check that the cluster has what the operator needs: CRDs, permissions, a version
    Doctor(DoctorConfig),
    /// Show what would hold up the drain of each node before an update begins
    Preflight(PreflightConfig),
    /// Make a running operator compare everything, or evaluate one pool again
    Resync(ResyncConfig),
}

/// Where to put the CustomResourceDefinitions.
#[derive(Debug, Args)]
pub struct CrdsConfig {
    /// Write one file per CRD into this folder instead of printing
    #[arg(long, value_name = "DIR")]
    pub output_dir: Option<PathBuf>,
}

/// What to check, and how to print it.
#[derive(Debug, Clone, Args)]
pub struct DoctorConfig {
    /// The operator's settings.
    #[command(flatten)]
    pub needs: NeedsConfig,

    /// Output format of the findings
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    pub output: Output,
}

/// The settings that determine which permissions the operator needs.
#[derive(Debug, Clone, Args)]
pub struct NeedsConfig {
    /// Which providers there are.
    #[command(flatten)]
    pub providers: ProviderFlags,

    /// Lease for the election of the replica that writes: `NAMESPACE/NAME`; `off` for a single replica; or
    /// `auto`: in a pod `node-insights` in its namespace, else off
    #[arg(
        long,
        env = "NODE_INSIGHTS_LEASE",
        value_name = "LEASE",
        default_value = "auto"
    )]
    pub lease: LeaseChoice,

    /// Where the status of the last compare is persisted: `file:PATH`, `configmap:NAMESPACE/NAME`, or
    /// `auto`: in a pod a ConfigMap in its namespace, else a file in the user's state folder
    #[arg(
        long,
        env = "NODE_INSIGHTS_SYNC_STATUS",
        value_name = "PLACE",
        default_value = "auto"
    )]
    pub sync_status: SyncStatusPlace,

    /// Write Events about nodes and about the operator itself
    #[arg(
        long, env = "NODE_INSIGHTS_ENABLE_EVENTS", value_name = "BOOL", default_value_t = true,
        action = ArgAction::Set, num_args = 0..=1, default_missing_value = "true"
    )]
    pub enable_events: bool,

    /// Name what holds the drain of a node up; pods and PodDisruptionBudgets are read only while a node is drained
    #[arg(
        long, env = "NODE_INSIGHTS_ENABLE_DRAIN_BLOCKERS", value_name = "BOOL", default_value_t = true,
        action = ArgAction::Set, num_args = 0..=1, default_missing_value = "true"
    )]
    pub enable_drain_blockers: bool,
}

/// The operation that a running operator is to start, and how to reach it.
#[derive(Debug, Clone, Args)]
pub struct ResyncConfig {
    /// Only evaluate the nodes of this pool again; its name as in `kubectl get ppi`
    #[arg(long, value_name = "NAME")]
    pub pool: Option<String>,

    /// Wait for the end of the operation, and show its progress
    #[arg(long)]
    pub wait: bool,

    /// URL of the operator's HTTP port
    #[arg(
        long,
        env = "NODE_INSIGHTS_SERVER",
        value_name = "URL",
        default_value = "http://127.0.0.1:8080"
    )]
    pub server: String,

    /// PEM file with the CA certificates, or the certificate itself, to verify the operator's certificate with;
    /// without it, those that the machine trusts
    #[arg(long, env = "NODE_INSIGHTS_CERTIFICATE_AUTHORITY", value_name = "FILE")]
    pub certificate_authority: Option<PathBuf>,

    /// Do not verify the operator's certificate, as with `kubectl port-forward`, where the API server connects to
    /// the pod: any server at that URL gets the token
    #[arg(long, conflicts_with = "certificate_authority")]
    pub insecure_skip_tls_verify: bool,

    /// File with a token of the cluster; without it, the environment variable
    /// `NODE_INSIGHTS_TOKEN` or the token of the pod's service account is used
    #[arg(long, env = "NODE_INSIGHTS_TOKEN_FILE", value_name = "FILE")]
    pub token_file: Option<PathBuf>,
}

/// The operator's settings.
#[derive(Debug, Clone, Args)]
pub struct RunConfig {
    /// The settings that determine which permissions are needed.
    #[command(flatten)]
    pub needs: NeedsConfig,

    /// Write NodeProgressInsights
    #[arg(
        long, env = "NODE_INSIGHTS_ENABLE_NODE_INSIGHTS", value_name = "BOOL", default_value_t = true,
        action = ArgAction::Set, num_args = 0..=1, default_missing_value = "true"
    )]
    pub enable_node_insights: bool,

    /// Write PoolProgressInsights
    #[arg(
        long, env = "NODE_INSIGHTS_ENABLE_POOL_INSIGHTS", value_name = "BOOL", default_value_t = true,
        action = ArgAction::Set, num_args = 0..=1, default_missing_value = "true"
    )]
    pub enable_pool_insights: bool,

    /// Address of the HTTP port with /metrics and /operations; port 0 takes a free one
    #[arg(
        long,
        env = "NODE_INSIGHTS_METRICS_ADDRESS",
        value_name = "ADDRESS:PORT",
        default_value = "0.0.0.0:8080",
        value_parser = parse_address
    )]
    pub metrics_address: SocketAddr,

    /// Certificate of that port: a folder with tls.crt and tls.key, which are reloaded when they change;
    /// `self-signed`; `off`; or `auto`: in a pod self-signed, else off. With HTTPS, /metrics requires a token
    /// that RBAC allows to read it
    #[arg(
        long,
        env = "NODE_INSIGHTS_METRICS_TLS",
        value_name = "TLS",
        default_value = "auto"
    )]
    pub metrics_tls: TlsChoice,

    /// Address of the HTTP port with /livez and /readyz, without authentication; port 0 takes a free one
    #[arg(
        long,
        env = "NODE_INSIGHTS_HEALTH_ADDRESS",
        value_name = "ADDRESS:PORT",
        default_value = "0.0.0.0:8081",
        value_parser = parse_address
    )]
    pub health_address: SocketAddr,

    /// Format of log lines
    #[arg(long, env = "NODE_INSIGHTS_LOG_FORMAT", value_enum, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,

    /// Minimum level of log lines: error, warn, info, debug or trace; or a filter by module, as in
    /// `info,node_insights=debug`
    #[arg(long, env = "NODE_INSIGHTS_LOG_LEVEL", value_name = "LEVEL", default_value = "info", value_parser = parse_filter)]
    pub log_level: String,

    /// Maximum concurrent writes of node insights, and of pool insights
    #[arg(
        long, env = "NODE_INSIGHTS_CONCURRENCY", value_name = "NUMBER", default_value_t = 8,
        value_parser = clap::value_parser!(u16).range(1..=64)
    )]
    pub concurrency: u16,

    /// Which pools there are.
    #[command(flatten)]
    pub pools: PoolFlags,

    /// Kubernetes: desired kubelet version of every node, as in v1.36.3; without it, the newest
    /// in the pool or the API server's
    #[arg(long, env = "NODE_INSIGHTS_TARGET_VERSION", value_name = "VERSION", value_parser = policy::parse_version)]
    pub target_version: Option<String>,

    /// Address of another HTTP port with /debug, which shows every state without authentication; a port
    /// alone, as in :6060, is on 127.0.0.1. Off by default
    #[arg(
        long,
        env = "NODE_INSIGHTS_DEBUG_ADDRESS",
        value_name = "ADDRESS:PORT",
        value_parser = parse_loopback_address
    )]
    pub debug_address: Option<SocketAddr>,

    /// Where states are stored: `memory`, or `file:PATH`, which persists timelines and learned durations
    /// across restarts
    #[arg(
        long,
        env = "NODE_INSIGHTS_STATE_BACKEND",
        value_name = "BACKEND",
        default_value = "memory"
    )]
    pub state_backend: StateBackendChoice,

    /// Interval at which everything is compared with the cluster and repaired, ± 10%
    #[arg(long, env = "NODE_INSIGHTS_SYNC_INTERVAL", value_name = "DURATION", default_value = "10m", value_parser = parse_interval)]
    pub sync_interval: Duration,

    /// How long after its last renewal another replica can take the lease, from 3s to 10m. A leader that cannot
    /// renew it stops after two thirds of that; it renews it every two fifteenths, or every 2 seconds. Replicas may
    /// have different values
    #[arg(long, env = "NODE_INSIGHTS_LEASE_DURATION", value_name = "DURATION", default_value = "15s", value_parser = parse_lease_duration)]
    pub lease_duration: Duration,

    /// Also serve a metric for each node, which adds a series per node
    #[arg(
        long, env = "NODE_INSIGHTS_ENABLE_NODE_METRICS", value_name = "BOOL", default_value_t = false,
        action = ArgAction::Set, num_args = 0..=1, default_missing_value = "true"
    )]
    pub enable_node_metrics: bool,
}

impl RunConfig {
    /// Maximum concurrent writes.
    #[must_use]
    pub fn concurrency(&self) -> usize {
        usize::from(self.concurrency)
    }

    /// The providers that evaluate the nodes.
    ///
    /// # Errors
    /// When two providers cannot be combined.
    pub fn providers(&self) -> Result<Providers, ProviderError> {
        Providers::standard(&self.provider_options())
    }

    /// The options of the providers.
    #[must_use]
    pub fn provider_options(&self) -> Options {
        Options {
            pool_label_keys: self.pools.pool_label_keys.clone(),
            target_version: self.target_version.clone(),
            ..self.needs.provider_options()
        }
    }
}

impl NeedsConfig {
    /// The options for providers that determine which kinds are read.
    #[must_use]
    pub fn provider_options(&self) -> Options {
        Options {
            no_drain_blockers: !self.enable_drain_blockers,
            ..self.providers.options()
        }
    }
}

/// The name of a provider or an overlay.
fn parse_provider(text: &str) -> Result<String, String> {
    let known = providers::keys();
    if known.iter().any(|key| key == text) {
        Ok(text.to_owned())
    } else {
        Err(format!("it is one of {}", known.join(", ")))
    }
}

/// An address and a port; a port alone is on every address, as in other operators.
fn parse_address(text: &str) -> Result<SocketAddr, String> {
    address(text, "0.0.0.0").ok_or_else(|| {
        "an address is an IP and a port, as in 127.0.0.1:8080 or [::]:8080; a port alone, as in :8080, is on every address".to_owned()
    })
}

/// An address and a port; a port alone is on this machine only.
fn parse_loopback_address(text: &str) -> Result<SocketAddr, String> {
    address(text, "127.0.0.1").ok_or_else(|| {
        "an address is an IP and a port, as in 127.0.0.1:6060 or [::]:6060; a port alone, as in :6060, is on 127.0.0.1".to_owned()
    })
}

fn address(text: &str, default: &str) -> Option<SocketAddr> {
    let full = if text.starts_with(':') {
        format!("{default}{text}")
    } else {
        text.to_owned()
    };
    full.parse().ok()
}

/// A duration with units, as in 1h30m.
fn parse_duration(text: &str) -> Option<Duration> {
    Duration::try_from(text.parse::<SignedDuration>().ok()?).ok()
}

/// A whole number of seconds, as in the Lease.
fn parse_lease_duration(text: &str) -> Result<Duration, String> {
    let legal = Timing::SHORTEST_LEASE..=Timing::LONGEST_LEASE;
    parse_duration(text)
        .filter(|duration| legal.contains(duration) && duration.subsec_nanos() == 0)
        .ok_or_else(|| "it is a number of seconds from 3s to 10m, as in 15s".to_owned())
}

/// At least a second, as anything shorter would compare without a pause.
fn parse_interval(text: &str) -> Result<Duration, String> {
    parse_duration(text)
        .filter(|duration| *duration >= Duration::from_secs(1))
        .ok_or_else(|| {
            "a duration has units and is a second or more, as in 90s, 10m or 1h30m".to_owned()
        })
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn run(args: &[&str]) -> Result<RunConfig, String> {
        let args = ["node-insights", "run"].iter().chain(args);
        match Cli::try_parse_from(args)
            .map_err(|error| error.to_string())?
            .command
        {
            Command::Run(config) => Ok(*config),
            Command::Crds(_) | Command::Resync(_) | Command::Doctor(_) | Command::Preflight(_) => {
                Err("not run".to_owned())
            }
        }
    }

    #[test]
    fn the_flags_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_flag_of_run_has_an_environment_variable_of_its_name() {
        let command = Cli::command();
        let run = command.find_subcommand("run").unwrap();
        for arg in run.get_arguments().filter(|arg| arg.get_id() != "help") {
            let expected = format!("NODE_INSIGHTS_{}", arg.get_id().as_str().to_uppercase());
            assert_eq!(
                arg.get_env().and_then(|name| name.to_str()),
                Some(expected.as_str()),
                "{}",
                arg.get_id()
            );
        }
    }

    #[test]
    fn both_insights_are_written_unless_one_is_disabled() {
        let config = run(&[]).unwrap();
        assert!(config.enable_node_insights && config.enable_pool_insights);
        let config = run(&["--enable-node-insights=false", "--enable-pool-insights"]).unwrap();
        assert!(!config.enable_node_insights && config.enable_pool_insights);
        let config = run(&["--enable-node-insights", "--enable-pool-insights", "false"]).unwrap();
        assert!(config.enable_node_insights && !config.enable_pool_insights);
    }

    #[test]
    fn a_port_alone_is_on_every_address() {
        let config = run(&["--metrics-address", ":9090"]).unwrap();
        assert_eq!(config.metrics_address.to_string(), "0.0.0.0:9090");
        let config = run(&["--metrics-address", "[::1]:0"]).unwrap();
        assert!(config.metrics_address.ip().is_loopback());
    }

    #[test]
    fn the_debug_port_is_off_by_default_and_listens_on_loopback_unless_given_an_address() {
        assert_eq!(run(&[]).unwrap().debug_address, None);
        for (flag, address) in [
            (":6060", "127.0.0.1:6060"),
            ("0.0.0.0:6060", "0.0.0.0:6060"),
            ("[::1]:0", "[::1]:0"),
        ] {
            let config = run(&["--debug-address", flag]).unwrap();
            assert_eq!(config.debug_address.unwrap().to_string(), address);
        }
    }

    #[test]
    fn an_invalid_value_is_rejected_with_a_hint() {
        for (args, hint) in [
            (["--platform", "nomad"], "auto, openshift, kubernetes"),
            (["--concurrency", "0"], "1..=64"),
            (["--target-version", "newest"], "v1.36.3"),
            (["--pool-label-keys", "a/b/c"], "example.com/pool"),
            (["--metrics-address", "8080"], "as in :8080"),
            (["--debug-address", "6060"], "as in :6060, is on 127.0.0.1"),
            (["--log-level", "node_insights=loud"], "log-level"),
            (["--state-backend", "file:"], "file:/var/lib"),
            (["--sync-interval", "10"], "as in 90s"),
            (["--sync-interval", "10ms"], "a second or more"),
            (["--sync-status", "configmap:here"], "'configmap:'"),
            (
                ["--lease", "on"],
                "'auto', 'off', or a namespace and a name",
            ),
            (["--metrics-tls", "on"], "or the path of a folder"),
            (["--lease", "/name"], "as in node-insights/node-insights"),
            (["--lease-duration", "2s"], "from 3s to 10m"),
            (["--lease-duration", "3500ms"], "from 3s to 10m"),
            (["--lease-duration", "601s"], "from 3s to 10m"),
        ] {
            let error = run(&args).unwrap_err();
            assert!(error.contains(hint), "{args:?}: {error}");
        }
    }

    #[test]
    fn pool_labels_are_a_list_in_order() {
        let config = run(&["--pool-label-keys", "example.com/pool,team"]).unwrap();
        assert_eq!(config.pools.pool_label_keys, ["example.com/pool", "team"]);
    }
}
