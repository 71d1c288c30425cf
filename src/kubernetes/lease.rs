//! Stores the lease of the leader election in a Lease object of the API server.
//!
//! Owns its fields and one annotation, and sends everything else back unchanged. It neither retries nor decides
//! anything: [`crate::registry::election`] does.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client};

use super::diagnosis::{Attempt, Problem, diagnose};
use super::write::FIELD_MANAGER;
use crate::registry::election::{LeaseError, LeaseStore, Record};

/// The default name of the lease.
pub const NAME: &str = "node-insights";
/// Names the process that released the lease. A lease that was emptied by hand does not have it.
const RELEASED_BY: &str = "nodeinsights.dev/released-by";

/// A Lease object.
pub struct LeaseObject {
    api: Api<Lease>,
    namespace: String,
    name: String,
}

impl LeaseObject {
    /// The Lease of this name, created when it does not exist. `client` must not retry.
    #[must_use]
    pub fn new(client: Client, namespace: &str, name: &str) -> Self {
        Self {
            api: Api::namespaced(client, namespace),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        }
    }

    fn explain(&self, error: &kube::Error, verb: &'static str) -> LeaseError {
        let (namespace, name) = (&self.namespace, &self.name);
        let attempt = Attempt {
            verbs: verb,
            resource: "leases",
            group: "coordination.k8s.io",
        };
        let mut diagnosis = diagnose(error, attempt);
        if diagnosis.problem == Problem::Forbidden {
            diagnosis.remedy = format!(
                "grant it in the namespace {namespace}, or check with: kubectl auth can-i {verb} leases/{name} -n {namespace}"
            );
        } else if diagnosis.problem == Problem::NotServed {
            // A missing lease would be created, so the namespace is missing.
            diagnosis.what = format!("There is no namespace {namespace}");
            "create it, or name another one with --lease".clone_into(&mut diagnosis.remedy);
        }
        LeaseError::Unavailable(diagnosis.to_string())
    }
}

impl LeaseStore for LeaseObject {
    type Version = Lease;

    async fn read(&self) -> Result<Option<(Record, Lease)>, LeaseError> {
        let lease = self.api.get_opt(&self.name).await;
        let lease = lease.map_err(|error| self.explain(&error, "get"))?;
        Ok(lease.map(|lease| (record(&lease), lease)))
    }

    async fn create(&self, record: &Record) -> Result<Lease, LeaseError> {
        let mut lease = Lease {
            metadata: ObjectMeta {
                name: Some(self.name.clone()),
                ..ObjectMeta::default()
            },
            ..Lease::default()
        };
        set(&mut lease, record);
        let created = self.api.create(&params(), &lease).await;
        created.map_err(|error| match code(&error) {
            409 => LeaseError::Conflict,
            _ => self.explain(&error, "create"),
        })
    }

    async fn replace(&self, record: &Record, version: &Lease) -> Result<Lease, LeaseError> {
        let mut lease = version.clone();
        lease.metadata.managed_fields = None;
        set(&mut lease, record);
        let replaced = self.api.replace(&self.name, &params(), &lease).await;
        replaced.map_err(|error| match code(&error) {
            // Changed, or deleted.
            409 | 404 => LeaseError::Conflict,
            _ => self.explain(&error, "update"),
        })
    }
}

fn params() -> PostParams {
    PostParams {
        field_manager: Some(FIELD_MANAGER.into()),
        ..PostParams::default()
    }
}

/// The status code; 0 when there was no answer.
fn code(error: &kube::Error) -> u16 {
    match error {
        kube::Error::Api(status) => status.code,
        _ => 0,
    }
}

/// Reads a lease. Invalid fields, as of a manual edit, get defaults.
pub(crate) fn record(lease: &Lease) -> Record {
    let spec = lease.spec.clone().unwrap_or_default();
    let annotations = lease.metadata.annotations.as_ref();
    Record {
        holder: spec.holder_identity.filter(|holder| !holder.is_empty()),
        duration: Duration::from_secs(
            spec.lease_duration_seconds
                .and_then(|seconds| u64::try_from(seconds).ok())
                .unwrap_or_default(),
        ),
        acquired: spec.acquire_time.map(|time| time.0),
        renewed: spec.renew_time.map(|time| time.0),
        transitions: spec
            .lease_transitions
            .and_then(|transitions| u32::try_from(transitions).ok())
            .unwrap_or_default(),
        released_by: annotations.and_then(|annotations| annotations.get(RELEASED_BY).cloned()),
    }
}

pub(crate) fn set(lease: &mut Lease, record: &Record) {
    let Record {
        holder,
        duration,
        acquired,
        renewed,
        transitions,
        released_by,
    } = record;
    let spec = LeaseSpec {
        // Empty when the lease is not held, as in client-go, which also accepts a missing holder.
        holder_identity: Some(holder.clone().unwrap_or_default()),
        lease_duration_seconds: Some(i32::try_from(duration.as_secs()).unwrap_or(i32::MAX)),
        acquire_time: acquired.map(MicroTime),
        renew_time: renewed.map(MicroTime),
        lease_transitions: Some(i32::try_from(*transitions).unwrap_or(i32::MAX)),
        ..lease.spec.take().unwrap_or_default()
    };
    lease.spec = Some(spec);
    let annotations = lease.metadata.annotations.get_or_insert_default();
    match released_by {
        Some(by) => {
            annotations.insert(RELEASED_BY.to_owned(), by.clone());
        }
        None => {
            annotations.remove(RELEASED_BY);
        }
    }
    if annotations.is_empty() {
        lease.metadata.annotations = None;
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use serde_json::json;

    use super::*;

    fn held() -> Record {
        Record {
            holder: Some("pod_1".to_owned()),
            duration: Duration::from_secs(15),
            acquired: Some(Timestamp::from_second(1_700_000_000).unwrap()),
            renewed: Some(Timestamp::from_second(1_700_000_002).unwrap()),
            transitions: 3,
            released_by: None,
        }
    }

    #[test]
    fn a_written_record_is_read_back_unchanged() {
        let mut lease = Lease::default();
        set(&mut lease, &held());
        assert_eq!(record(&lease), held());
        let released = Record {
            holder: None,
            released_by: Some("pod_1".to_owned()),
            ..held()
        };
        set(&mut lease, &released);
        assert_eq!(record(&lease), released);
        set(&mut lease, &held());
        assert_eq!(record(&lease), held());
        assert_eq!(lease.metadata.annotations, None);
    }

    #[test]
    fn fields_of_other_writers_stay_in_the_lease() {
        let mut lease: Lease = serde_json::from_value(json!({
            "metadata": {"name": "node-insights", "labels": {"a": "b"}, "annotations": {"c": "d"}},
            "spec": {"strategy": "OldestEmulationVersion"},
        }))
        .unwrap();
        let before = lease.clone();
        set(&mut lease, &held());
        assert_eq!(lease.metadata, before.metadata);
        assert!(lease.spec.unwrap().strategy.is_some());
    }

    #[test]
    fn a_lease_that_was_edited_by_hand_can_be_read() {
        let odd = json!({"spec": {
            "holderIdentity": "", "leaseDurationSeconds": -5, "leaseTransitions": -1,
        }});
        let read = record(&serde_json::from_value(odd).unwrap());
        assert_eq!(
            (read.holder, read.duration, read.transitions),
            (None, Duration::ZERO, 0)
        );
        assert_eq!(record(&Lease::default()).duration, Duration::ZERO);
    }
}
