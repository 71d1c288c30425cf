//! The flags that decide how a Node is evaluated, by the operator and by commands that evaluate Nodes as it does.

use std::path::PathBuf;

use clap::Args;

use super::{Platform, parse_provider};
use crate::domain::policy;
use crate::providers::Options;
use crate::providers::settings::WELL_KNOWN_POOL_LABELS;

/// Which providers and overlays there are.
#[derive(Debug, Clone, Args)]
pub struct ProviderFlags {
    /// What may update the nodes: with `auto`, each Node is evaluated by the provider that claims it
    #[arg(long, env = "NODE_INSIGHTS_PLATFORM", value_enum, default_value_t = Platform::Auto)]
    pub platform: Platform,

    /// Providers and overlays that are not used, and whose kinds are not read, as in `karpenter,kured`; their nodes are
    /// evaluated by the other providers
    #[arg(
        long, env = "NODE_INSIGHTS_DISABLED_PROVIDERS", value_name = "NAME,…", value_delimiter = ',',
        value_parser = parse_provider
    )]
    pub disabled_providers: Vec<String>,
}

impl ProviderFlags {
    /// The options of the providers that they determine.
    #[must_use]
    pub fn options(&self) -> Options {
        Options {
            platform: self.platform.into(),
            disabled: self.disabled_providers.iter().cloned().collect(),
            ..Options::default()
        }
    }
}

/// Which pool a node is in, and the policy of the user.
#[derive(Debug, Clone, Args)]
pub struct PoolFlags {
    /// Kubernetes: labels whose value names a node's pool, first match wins; nodes without any are
    /// grouped by role
    #[arg(
        long, env = "NODE_INSIGHTS_POOL_LABEL_KEYS", value_name = "KEY,…", value_delimiter = ',',
        default_values_t = WELL_KNOWN_POOL_LABELS.map(str::to_owned), value_parser = policy::parse_label_key
    )]
    pub pool_label_keys: Vec<String>,

    /// File with a policy: a desired version of all nodes or of one pool, and labels that name pools, as YAML. The operator
    /// reads it again when it changes; while it is invalid, the last valid one applies
    #[arg(long, env = "NODE_INSIGHTS_POLICY_FILE", value_name = "PATH")]
    pub policy_file: Option<PathBuf>,
}
