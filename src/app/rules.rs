//! Which platform's rules judge the nodes.

use std::time::Duration;

use kube::Client;

use super::config::{Platform, RunConfig};
use crate::api::types::Provider;
use crate::domain::evaluate::Evaluator;
use crate::domain::evaluate::kubernetes::Kubernetes;
use crate::domain::evaluate::openshift::OpenShift;
use crate::kubernetes::backoff;
use crate::kubernetes::diagnosis::{Attempt, diagnose};
use crate::kubernetes::platform::detect;
use crate::telemetry::health::Health;

const CHECK: &str = "platform";
/// How often a cluster that is not OpenShift is asked whether it has become it: its APIs appear some
/// minutes after its API server while it is installed.
const INTERVAL: Duration = Duration::from_secs(30);

/// The platform that was asked for, else the one that the cluster is; waits until that is known.
pub(super) async fn provider(config: &RunConfig, client: &Client, health: &Health) -> Provider {
    let provider = match config.needs.platform {
        Platform::Openshift => Provider::OpenShift,
        Platform::Kubernetes => Provider::Kubernetes,
        Platform::Auto => wait_for_detection(client, health).await,
    };
    health.ready(CHECK);
    tracing::info!(platform = ?provider, "Judging nodes by the rules of the platform");
    provider
}

/// The rules of a platform.
pub(super) fn of(provider: Provider, config: &RunConfig) -> Box<dyn Evaluator> {
    let target = config.target_version.as_deref();
    match provider {
        Provider::OpenShift => {
            if target.is_some() {
                tracing::warn!(
                    "Ignoring --target-version: on OpenShift, ClusterVersion says the target"
                );
            }
            Box::new(OpenShift)
        }
        Provider::Kubernetes => Box::new(Kubernetes::new(&config.pool_label_keys, target)),
    }
}

/// Waits until `provider` is not what the cluster is any more; for ever when the user chose it, and
/// for OpenShift, whose APIs do not go away.
pub(super) async fn outdated(config: &RunConfig, provider: Provider, client: &Client) {
    if config.needs.platform != Platform::Auto || provider == Provider::OpenShift {
        std::future::pending::<()>().await;
    }
    loop {
        tokio::time::sleep(INTERVAL).await;
        // An API server that does not answer is the watches' concern.
        if matches!(detect(client).await, Ok(Provider::OpenShift)) {
            return;
        }
    }
}

async fn wait_for_detection(client: &Client, health: &Health) -> Provider {
    let attempt = Attempt {
        verbs: "get",
        resource: "the path /apis",
        group: "",
    };
    health.not_ready(CHECK, "not known yet");
    let mut delays = backoff::short();
    loop {
        match detect(client).await {
            Ok(provider) => return provider,
            Err(error) => {
                let diagnosis = diagnose(&error, attempt);
                if health.not_ready(CHECK, diagnosis.to_string()) {
                    tracing::warn!(error = %diagnosis, "Finding out the platform fails");
                }
            }
        }
        backoff::wait(&mut delays).await;
    }
}
