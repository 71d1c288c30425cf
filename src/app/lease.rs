//! Takes part in the leader election, and reports its outcome.

use std::sync::Arc;
use std::time::Duration;

use super::config::RunConfig;
use super::notes::Notes;
use super::supervisor::Stage;
use crate::kubernetes::client::{ClientError, Connection};
use crate::kubernetes::lease::LeaseObject;
use crate::kubernetes::pod;
use crate::reconcile::clock::system_clock;
use crate::registry::election::{
    Election, Leadership, LeaseError, ObserveElection, Standing, Timing,
};
use crate::telemetry::health::Health;
use crate::telemetry::metrics::Metrics;

/// Name under which `/readyz` shows whether the lease can be used.
const CHECK: &str = "lease";

/// Takes part in the election, if a lease is configured, until `election` stops, which must be after everything
/// that writes. The returned leadership shows whether this replica may write.
///
/// # Errors
/// When no client can be created.
pub(super) fn stand(
    config: &RunConfig,
    connection: &Connection,
    election: &mut Stage,
    notes: &Notes,
    metrics: &Arc<Metrics>,
    health: &Arc<Health>,
) -> Result<Leadership, ClientError> {
    let Some((namespace, name)) = config.needs.lease.object() else {
        metrics.leads(true);
        tracing::info!("Leader election is off: this must be the only replica");
        return Ok(Leadership::unconditional());
    };
    let identity = identity();
    tracing::info!(identity, lease = %format_args!("{namespace}/{name}"), "Taking part in the leader election");
    health.not_ready(CHECK, "not read yet");
    let candidate = Election::new(
        // A connection of its own, so that other requests do not delay renewals.
        LeaseObject::new(connection.another()?, &namespace, &name),
        &identity,
        Timing::of(config.lease_duration),
        system_clock(),
        Arc::new(Reporter {
            identity: identity.clone(),
            namespace,
            name,
            notes: notes.clone(),
            metrics: Arc::clone(metrics),
            health: Arc::clone(health),
        }),
    );
    let leadership = candidate.leadership();
    election.spawn("lease", |stop| candidate.run(stop));
    Ok(leadership)
}

/// Unique per process: a pod keeps its name when its container restarts.
fn identity() -> String {
    format!("{}_{:016x}", pod::host(), fastrand::u64(..))
}

/// Reports the election in logs, metrics, Events and `/readyz`.
struct Reporter {
    identity: String,
    namespace: String,
    name: String,
    notes: Notes,
    metrics: Arc<Metrics>,
    health: Arc<Health>,
}

impl ObserveElection for Reporter {
    fn stands(&self, standing: &Standing) {
        self.metrics.leads(*standing == Standing::Leader);
        match standing {
            Standing::Leader => {
                tracing::info!("This replica leads and writes from now on");
                self.notes.leads(&self.identity);
            }
            Standing::Standby(Some(leader)) => {
                tracing::info!(leader, "Another replica leads: this one stands by");
            }
            Standing::Standby(None) => tracing::info!("This replica stands by"),
            Standing::Lost(error) => {
                tracing::error!(error, "The lease is lost: this replica writes no more");
            }
        }
    }

    fn looked(&self, outcome: Result<(), &LeaseError>, is_leader: bool) {
        let Err(error) = outcome else {
            self.health.ready(CHECK);
            return;
        };
        self.metrics.lease_failed();
        let why = self.explain(error);
        if self.health.not_ready(CHECK, why.clone()) {
            tracing::warn!(error = why, is_leader, "Cannot use the lease");
        }
    }

    fn not_released(&self, error: &LeaseError, lease: Duration) {
        self.metrics.lease_failed();
        tracing::warn!(
            %error, lease = %format_args!("{}/{}", self.namespace, self.name),
            "The lease could not be released (were the permissions uninstalled first?): the next leader has to wait {lease:?} from its last renewal"
        );
    }
}

impl Reporter {
    /// The error, with a remedy if the error itself has none.
    fn explain(&self, error: &LeaseError) -> String {
        let Self {
            namespace, name, ..
        } = self;
        match error {
            LeaseError::Conflict | LeaseError::Unavailable(_) => error.to_string(),
            LeaseError::TooLong { .. } => format!(
                "{error}. Until then no other replica writes. If its holder no longer runs: kubectl -n {namespace} delete lease {name}; running replicas can then take it within 10 minutes, one that starts afterwards at once"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reconcile::events::Events;

    #[test]
    fn a_lease_with_an_absurd_duration_is_reported_with_a_remedy() {
        let (metrics, health) = (
            Arc::new(Metrics::new().unwrap()),
            Arc::new(Health::default()),
        );
        let reporter = Reporter {
            identity: "b".to_owned(),
            namespace: "here".to_owned(),
            name: "ours".to_owned(),
            notes: Notes::about_nothing(Events::off(Arc::clone(&metrics))),
            metrics,
            health: Arc::clone(&health),
        };
        let error = LeaseError::TooLong {
            holder: "a".to_owned(),
            duration: Duration::from_hours(24),
        };
        reporter.looked(Err(&error), false);
        let (ready, report) = health.report();
        assert!(!ready);
        for part in [
            "a holds it for 86400s",
            "no replica has more than 600s",
            "kubectl -n here delete lease ours",
        ] {
            assert!(report.contains(part), "{part}: {report}");
        }
        reporter.looked(Ok(()), false);
        assert!(health.report().0);
    }
}
