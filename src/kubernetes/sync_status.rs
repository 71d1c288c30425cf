//! Stores the sync status in a ConfigMap of the operator's namespace.
//!
//! Owns one key of the ConfigMap and leaves everything else unchanged. Written by a PUT with the resource version
//! that was read, like every other write: a late write after its deadline is rejected, where a forced apply would
//! put the old status over a newer one. Errors are returned to the caller, neither logged nor retried, except for
//! one conflict.

use std::future::Future;
use std::time::Duration;

use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client};
use tokio::time::timeout;

use super::diagnosis::{Attempt, Diagnosis, Problem, diagnose};
use super::write::FIELD_MANAGER;
use crate::registry::sync::{BoxFuture, StatusStore, StoreError, SyncStatus};

/// The default name of the ConfigMap.
pub const NAME: &str = "node-insights-sync-status";
const KEY: &str = "status.json";
/// A call takes milliseconds; if it takes this long, the connection is dead.
const DEADLINE: Duration = Duration::from_secs(5);

/// Stores the sync status in a ConfigMap.
pub struct SyncStatusConfigMap {
    api: Api<ConfigMap>,
    namespace: String,
    name: String,
}

/// A call that failed.
struct Failure {
    /// The status code; 0 when there was no answer.
    code: u16,
    error: StoreError,
}

impl SyncStatusConfigMap {
    /// Uses the ConfigMap of this name, created when it does not exist.
    #[must_use]
    pub fn new(client: Client, namespace: &str, name: &str) -> Self {
        Self {
            api: Api::namespaced(client, namespace),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        }
    }

    async fn find(&self) -> Result<Option<SyncStatus>, Failure> {
        let Some(json) = self.read().await?.and_then(|map| map.data?.remove(KEY)) else {
            return Ok(None);
        };
        serde_json::from_str(&json).map(Some).map_err(|error| Failure {
            code: 0,
            error: StoreError::Unreadable(format!(
                "Ignoring the key {KEY} of the ConfigMap {}/{}, which is no sync status: {error}",
                self.namespace, self.name
            )),
        })
    }

    /// Reads the ConfigMap and writes it back with the status. Fails with 409 when it was created, changed or deleted
    /// in between.
    async fn put(&self, status: &SyncStatus) -> Result<(), Failure> {
        let json = serde_json::to_string(status).map_err(|error| Failure {
            code: 0,
            error: StoreError::Unavailable(format!(
                "The sync status cannot be serialized: {error}; report it"
            )),
        })?;
        let params = PostParams {
            field_manager: Some(FIELD_MANAGER.into()),
            ..PostParams::default()
        };
        if let Some(mut map) = self.read().await? {
            set(&mut map, json);
            let update = self.api.replace(&self.name, &params, &map);
            let updated = self.call("update", update).await;
            updated.map(|_| ()).map_err(|failure| match failure.code {
                // Deleted since it was read.
                404 => Failure {
                    code: 409,
                    ..failure
                },
                _ => failure,
            })
        } else {
            let mut map = ConfigMap {
                metadata: ObjectMeta {
                    name: Some(self.name.clone()),
                    ..ObjectMeta::default()
                },
                ..ConfigMap::default()
            };
            set(&mut map, json);
            let create = self.api.create(&params, &map);
            self.call("create", create).await.map(|_| ())
        }
    }

    async fn read(&self) -> Result<Option<ConfigMap>, Failure> {
        self.call("get", self.api.get_opt(&self.name)).await
    }

    async fn call<T>(
        &self,
        verb: &'static str,
        call: impl Future<Output = kube::Result<T>>,
    ) -> Result<T, Failure> {
        match timeout(DEADLINE, call).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(Failure {
                code: match &error {
                    kube::Error::Api(status) => status.code,
                    _ => 0,
                },
                error: self.explain(&error, verb),
            }),
            Err(_) => Err(Failure {
                code: 0,
                error: StoreError::Slow(DEADLINE),
            }),
        }
    }

    fn explain(&self, error: &kube::Error, verb: &'static str) -> StoreError {
        let (namespace, name) = (&self.namespace, &self.name);
        let attempt = Attempt {
            verbs: verb,
            resource: "configmaps",
            group: "",
        };
        let mut diagnosis = diagnose(error, attempt);
        match diagnosis.problem {
            Problem::Forbidden => {
                diagnosis.remedy = format!(
                    "grant it in the namespace {namespace}, or check with: kubectl auth can-i {verb} configmaps/{name} -n {namespace}"
                );
            }
            // A missing ConfigMap would be created, so the namespace is missing.
            Problem::NotServed => {
                diagnosis = Diagnosis {
                    what: format!("There is no namespace {namespace}"),
                    remedy: "create it, or name the operator's own".to_owned(),
                    ..diagnosis
                };
            }
            Problem::Unauthorized
            | Problem::Expired
            | Problem::Invalid
            | Problem::Overloaded
            | Problem::Unreachable
            | Problem::Unreadable
            | Problem::Other => {}
        }
        StoreError::Unavailable(format!(
            "The sync status is not stored in the ConfigMap {namespace}/{name}: {diagnosis}"
        ))
    }
}

fn set(map: &mut ConfigMap, json: String) {
    map.data.get_or_insert_default().insert(KEY.into(), json);
}

impl StatusStore for SyncStatusConfigMap {
    fn load(&self) -> BoxFuture<'_, Result<Option<SyncStatus>, StoreError>> {
        Box::pin(async { self.find().await.map_err(|failure| failure.error) })
    }

    fn save<'a>(&'a self, status: &'a SyncStatus) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async {
            let saved = match self.put(status).await {
                Err(Failure { code: 409, .. }) => self.put(status).await,
                saved => saved,
            };
            saved.map_err(|failure| failure.error)
        })
    }
}

#[cfg(test)]
mod tests;
