//! Writes insights: create, status, delete, each under a deadline.
//!
//! A status PUT costs the API server less than a patch or an apply, and the resource version in it
//! says what it was computed from: a write that would overwrite another one is refused.

use std::future::Future;
use std::marker::PhantomData;
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::{DeleteParams, GetParams, ObjectMeta, PostParams, Preconditions};
use kube::{Client, Resource};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::diagnosis::{Attempt, Diagnosis, Problem, diagnose};
use super::objects::WatchedInsight;
use crate::api::insight::{API_VERSION, GROUP, Insight, InsightStatus};

/// A write takes milliseconds; one that takes this long is on a dead connection.
const DEADLINE: Duration = Duration::from_secs(15);
/// Stands in `metadata.managedFields`.
pub(super) const FIELD_MANAGER: &str = "node-insights";

/// Why a write was not done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    /// The object is another one than was thought: read it again.
    #[error("The object has changed meanwhile")]
    Conflict,
    /// The object is gone.
    #[error("The object is gone")]
    Gone,
    /// The API server does not take any write now.
    #[error("{0}")]
    Blocked(Diagnosis),
    /// The API server does not take this write.
    #[error("{0}")]
    Refused(Diagnosis),
}

/// Writes insights of one kind.
#[derive(Clone)]
pub struct Writer<S> {
    client: Client,
    kind: PhantomData<S>,
}

impl<S: InsightStatus + Serialize + DeserializeOwned> Writer<S> {
    /// A writer that uses `client`.
    #[must_use]
    pub fn new(client: Client) -> Self {
        Self {
            client,
            kind: PhantomData,
        }
    }

    /// Creates an insight without a status: the API server would drop it.
    ///
    /// # Errors
    /// [`WriteError::Conflict`] when there is one already.
    pub async fn create(
        &self,
        name: &str,
        owner: Option<&OwnerReference>,
    ) -> Result<WatchedInsight<S>, WriteError> {
        let insight = Self::insight(
            ObjectMeta {
                name: Some(name.into()),
                owner_references: owner.map(|owner| vec![owner.clone()]),
                ..ObjectMeta::default()
            },
            None,
        );
        let body = serde_json::to_vec(&insight).map_err(|error| Self::unwritable(&error))?;
        let request = Self::request().create(&Self::params(), body);
        self.send("create", request).await
    }

    /// Puts the status of the insight that has this resource version.
    ///
    /// # Errors
    /// [`WriteError::Conflict`] when it has another one, [`WriteError::Gone`] when there is none.
    pub async fn put_status(
        &self,
        name: &str,
        resource_version: &str,
        status: &S,
    ) -> Result<WatchedInsight<S>, WriteError> {
        let insight = Self::insight(
            ObjectMeta {
                name: Some(name.into()),
                resource_version: Some(resource_version.into()),
                ..ObjectMeta::default()
            },
            Some(status.clone()),
        );
        let body = serde_json::to_vec(&insight).map_err(|error| Self::unwritable(&error))?;
        let request = Self::request().replace_subresource("status", name, &Self::params(), body);
        self.send("update", request).await
    }

    /// Deletes the insight that has this UID.
    ///
    /// # Errors
    /// [`WriteError::Conflict`] when it has another one, [`WriteError::Gone`] when there is none.
    pub async fn delete(&self, name: &str, uid: &str) -> Result<(), WriteError> {
        let params = DeleteParams {
            preconditions: Some(Preconditions {
                uid: Some(uid.into()),
                resource_version: None,
            }),
            ..DeleteParams::background()
        };
        let request = Self::request().delete(name, &params);
        // The answer is the object or a Status; neither says anything that is needed.
        self.send::<serde_json::Value>("delete", request)
            .await
            .map(|_| ())
    }

    /// The insight as the API server has it now.
    ///
    /// # Errors
    /// [`WriteError::Gone`] when there is none.
    pub async fn read(&self, name: &str) -> Result<WatchedInsight<S>, WriteError> {
        self.send("get", Self::request().get(name, &GetParams::default()))
            .await
    }

    fn request() -> kube::core::Request {
        kube::core::Request::new(Insight::<S>::url_path(&(), None))
    }

    fn params() -> PostParams {
        PostParams {
            field_manager: Some(FIELD_MANAGER.into()),
            ..PostParams::default()
        }
    }

    fn insight(metadata: ObjectMeta, status: Option<S>) -> Insight<S> {
        Insight {
            api_version: API_VERSION.into(),
            kind: S::KIND.into(),
            metadata,
            status,
        }
    }

    async fn send<T: DeserializeOwned>(
        &self,
        verb: &'static str,
        request: Result<http::Request<Vec<u8>>, kube::core::request::Error>,
    ) -> Result<T, WriteError> {
        let request = request
            .map_err(kube::Error::BuildRequest)
            .map_err(|error| Self::classify(&error, verb))?;
        within(DEADLINE, self.client.request::<T>(request))
            .await?
            .map_err(|error| Self::classify(&error, verb))
    }

    fn classify(error: &kube::Error, verb: &'static str) -> WriteError {
        let code = if let kube::Error::Api(status) = error {
            status.code
        } else {
            0
        };
        match (code, verb) {
            (409, _) => WriteError::Conflict,
            (404, "update" | "delete" | "get") => WriteError::Gone,
            _ => {
                let diagnosis = diagnose(
                    error,
                    Attempt {
                        verbs: verb,
                        resource: S::PLURAL,
                        group: GROUP,
                    },
                );
                match diagnosis.problem {
                    Problem::Invalid | Problem::Unreadable | Problem::Expired | Problem::Other => {
                        WriteError::Refused(diagnosis)
                    }
                    Problem::Unauthorized
                    | Problem::Forbidden
                    | Problem::NotServed
                    | Problem::Overloaded
                    | Problem::Unreachable => WriteError::Blocked(diagnosis),
                }
            }
        }
    }

    fn unwritable(error: &serde_json::Error) -> WriteError {
        WriteError::Refused(Diagnosis {
            problem: Problem::Other,
            what: format!("The insight cannot be put into JSON: {error}"),
            remedy: "report it".to_owned(),
        })
    }
}

async fn within<T>(deadline: Duration, work: impl Future<Output = T>) -> Result<T, WriteError> {
    let answered = tokio::time::timeout(deadline, work).await;
    answered.map_err(|_| WriteError::Blocked(Diagnosis::no_answer(deadline)))
}
