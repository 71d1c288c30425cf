//! The flags of `preflight`.

use clap::Args;

use super::{Output, PoolFlags, ProviderFlags};
use crate::providers::Options;

/// Which nodes to look at, how to evaluate them, and how to print the findings.
#[derive(Debug, Clone, Args)]
pub struct PreflightConfig {
    /// Only look at the nodes of this pool; its name as in `kubectl get ppi`
    #[arg(long, value_name = "NAME")]
    pub pool: Option<String>,

    /// Output format of the findings
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    pub output: Output,

    /// Which providers there are.
    #[command(flatten)]
    pub providers: ProviderFlags,

    /// Which pools there are.
    #[command(flatten)]
    pub pools: PoolFlags,
}

impl PreflightConfig {
    /// The options of the providers. Pods and budgets are not among what they read: all of them are listed once.
    #[must_use]
    pub fn provider_options(&self) -> Options {
        Options {
            pool_label_keys: self.pools.pool_label_keys.clone(),
            no_drain_blockers: true,
            ..self.providers.options()
        }
    }
}
