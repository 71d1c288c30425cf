//! Writes insights: create, status, delete, each under a deadline.
//!
//! A status PUT costs the API server less than a patch or an apply, and its resource version names the state it
//! was computed from: a write that would overwrite another one is rejected.

use std::future::Future;
use std::marker::PhantomData;
use std::time::Duration;

use http::StatusCode;
use http::header::{HeaderMap, RETRY_AFTER};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::{DeleteParams, GetParams, ObjectMeta, PostParams, Preconditions};
use kube::client::Body;
use kube::core::Status;
use kube::{Client, Resource};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::diagnosis::{Attempt, Diagnosis, Problem, diagnose};
use super::objects::WatchedInsight;
use crate::api::insight::{API_VERSION, GROUP, Insight, InsightStatus};
use crate::domain::text;

/// A write takes milliseconds; if it takes this long, the connection is dead.
const DEADLINE: Duration = Duration::from_secs(15);
/// The API server itself sends one second; longer delays are not useful.
const RETRY_AFTER_AT_MOST: Duration = Duration::from_mins(1);
/// The field manager in `metadata.managedFields`.
pub(super) const FIELD_MANAGER: &str = "node-insights";

/// Why a write failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    /// The object has changed since it was read: read it again.
    #[error("The object has changed meanwhile")]
    Conflict,
    /// The object is gone.
    #[error("The object is gone")]
    Gone,
    /// The API server fails, for this write or in general.
    #[error("{what}")]
    Failing {
        /// What is wrong.
        what: Diagnosis,
        /// The API server accepts no retry before this delay.
        retry_after: Option<Duration>,
    },
    /// The API server rejects this write.
    #[error("{0}")]
    Rejected(Diagnosis),
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
    /// [`WriteError::Conflict`] when the insight already exists.
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

    /// Updates the status of the insight at this resource version.
    ///
    /// # Errors
    /// [`WriteError::Conflict`] when it has another one, [`WriteError::Gone`] when it does not exist.
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

    /// Deletes the insight with this UID.
    ///
    /// # Errors
    /// [`WriteError::Conflict`] when it has another one, [`WriteError::Gone`] when it does not exist.
    pub async fn delete(&self, name: &str, uid: &str) -> Result<(), WriteError> {
        let params = DeleteParams {
            preconditions: Some(Preconditions {
                uid: Some(uid.into()),
                resource_version: None,
            }),
            ..DeleteParams::background()
        };
        let request = Self::request().delete(name, &params);
        // The answer is the object or a Status; neither is needed.
        self.send::<serde_json::Value>("delete", request)
            .await
            .map(|_| ())
    }

    /// The current insight in the API server.
    ///
    /// # Errors
    /// [`WriteError::Gone`] when it does not exist.
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
            .map_err(|error| Self::classify(&error, verb, None))?;
        let asking = async {
            let answer = self.client.send(request.map(Body::from)).await;
            let answer = answer.map_err(|error| Self::classify(&error, verb, None))?;
            let retry_after = retry_after(answer.headers());
            let status = answer.status();
            let body = answer.into_body().collect_bytes().await;
            body.and_then(|body| read(status, &body))
                .map_err(|error| Self::classify(&error, verb, retry_after))
        };
        within(DEADLINE, asking).await?
    }

    fn classify(
        error: &kube::Error,
        verb: &'static str,
        retry_after: Option<Duration>,
    ) -> WriteError {
        let code = if let kube::Error::Api(status) = error {
            status.code
        } else {
            0
        };
        match (code, verb) {
            (409, _) => return WriteError::Conflict,
            (404, "update" | "delete" | "get") => return WriteError::Gone,
            _ => {}
        }
        let attempt = Attempt {
            verbs: verb,
            resource: S::PLURAL,
            group: GROUP,
        };
        let what = diagnose(error, attempt);
        match what.problem {
            // A policy, a webhook or a role that names objects may reject a single object.
            Problem::Forbidden | Problem::Invalid | Problem::Unreadable | Problem::Expired => {
                WriteError::Rejected(what)
            }
            Problem::Other if code < 500 => WriteError::Rejected(what),
            Problem::Other
            | Problem::Unauthorized
            | Problem::NotServed
            | Problem::Overloaded
            | Problem::Unreachable => WriteError::Failing { what, retry_after },
        }
    }

    fn unwritable(error: &serde_json::Error) -> WriteError {
        WriteError::Rejected(Diagnosis {
            problem: Problem::Other,
            what: format!("The insight cannot be serialized: {error}"),
            remedy: "report it".to_owned(),
        })
    }
}

async fn within<T>(deadline: Duration, work: impl Future<Output = T>) -> Result<T, WriteError> {
    let answered = tokio::time::timeout(deadline, work).await;
    answered.map_err(|_| WriteError::Failing {
        what: Diagnosis::no_answer(deadline),
        retry_after: None,
    })
}

/// Parses an answer. An error without a Status, as from a proxy or a rate limit, gets one from its code.
fn read<T: DeserializeOwned>(status: StatusCode, body: &[u8]) -> kube::Result<T> {
    if status.is_success() {
        return serde_json::from_slice(body).map_err(kube::Error::SerdeError);
    }
    let code = status.as_u16();
    let parsed = serde_json::from_slice(body).unwrap_or_else(|_| {
        let text = text::summary(&String::from_utf8_lossy(body));
        Status::failure(&text, status.canonical_reason().unwrap_or_default())
    });
    Err(kube::Error::Api(Box::new(parsed.with_code(code))))
}

/// The Retry-After delay; dates, which the API server never sends, are ignored.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(RETRY_AFTER)?.to_str().ok()?.parse().ok()?;
    Some(Duration::from_secs(seconds).min(RETRY_AFTER_AT_MOST))
}
