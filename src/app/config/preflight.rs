//! The flags of `preflight`.

use std::path::PathBuf;

use clap::Args;

use super::{Output, Platform, parse_provider};
use crate::domain::policy;
use crate::providers::Options;
use crate::providers::settings::WELL_KNOWN_POOL_LABELS;

/// Which nodes to look at, how the operator evaluates them, and how to print the findings.
#[derive(Debug, Clone, Args)]
pub struct PreflightConfig {
    /// Only look at the nodes of this pool; its name as in `kubectl get ppi`
    #[arg(long, value_name = "NAME")]
    pub pool: Option<String>,

    /// Output format of the findings
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    pub output: Output,

    /// What may update the nodes, as the operator is run
    #[arg(long, env = "NODE_INSIGHTS_PLATFORM", value_enum, default_value_t = Platform::Auto)]
    pub platform: Platform,

    /// Providers and overlays that are not used, as the operator is run
    #[arg(
        long, env = "NODE_INSIGHTS_DISABLED_PROVIDERS", value_name = "NAME,…", value_delimiter = ',',
        value_parser = parse_provider
    )]
    pub disabled_providers: Vec<String>,

    /// Labels whose value names a node's pool, as the operator is run
    #[arg(
        long, env = "NODE_INSIGHTS_POOL_LABEL_KEYS", value_name = "KEY,…", value_delimiter = ',',
        default_values_t = WELL_KNOWN_POOL_LABELS.map(str::to_owned), value_parser = policy::parse_label_key
    )]
    pub pool_label_keys: Vec<String>,

    /// File with the policy, as the operator is run
    #[arg(long, env = "NODE_INSIGHTS_POLICY_FILE", value_name = "PATH")]
    pub policy_file: Option<PathBuf>,
}

impl PreflightConfig {
    /// The options of the providers. Pods and budgets are not among what they read: all of them are listed once.
    #[must_use]
    pub fn provider_options(&self) -> Options {
        Options {
            platform: self.platform.into(),
            disabled: self.disabled_providers.iter().cloned().collect(),
            pool_label_keys: self.pool_label_keys.clone(),
            no_drain_blockers: true,
            ..Options::default()
        }
    }
}
