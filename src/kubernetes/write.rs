//! Writes insights: create, status, delete, each under a deadline.
//!
//! A status PUT costs the API server less than a patch or an apply, and the resource version in it
//! says what it was computed from: a write that would overwrite another one is refused.

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

/// A write takes milliseconds; one that takes this long is on a dead connection.
const DEADLINE: Duration = Duration::from_secs(15);
/// What the API server itself says is one second; whoever says more than this means nobody any good.
const RETRY_AFTER_AT_MOST: Duration = Duration::from_mins(1);
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
    /// The API server fails, at this write or at all.
    #[error("{what}")]
    Failing {
        /// What is wrong.
        what: Diagnosis,
        /// It is not to be asked again before so long.
        retry_after: Option<Duration>,
    },
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
            // One object may be refused by a policy, a webhook or a role that names objects.
            Problem::Forbidden | Problem::Invalid | Problem::Unreadable | Problem::Expired => {
                WriteError::Refused(what)
            }
            Problem::Other if code < 500 => WriteError::Refused(what),
            Problem::Other
            | Problem::Unauthorized
            | Problem::NotServed
            | Problem::Overloaded
            | Problem::Unreachable => WriteError::Failing { what, retry_after },
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
    answered.map_err(|_| WriteError::Failing {
        what: Diagnosis::no_answer(deadline),
        retry_after: None,
    })
}

/// What an answer says. One that is no Status, as of a proxy or of the API server's limits, is one by its code.
fn read<T: DeserializeOwned>(status: StatusCode, body: &[u8]) -> kube::Result<T> {
    if status.is_success() {
        return serde_json::from_slice(body).map_err(kube::Error::SerdeError);
    }
    let code = status.as_u16();
    let said = serde_json::from_slice(body).unwrap_or_else(|_| {
        let text = text::summary(&String::from_utf8_lossy(body));
        Status::failure(&text, status.canonical_reason().unwrap_or_default())
    });
    Err(kube::Error::Api(Box::new(said.with_code(code))))
}

/// How long the API server asks to be left alone; a date, which it never says, is not read.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(RETRY_AFTER)?.to_str().ok()?.parse().ok()?;
    Some(Duration::from_secs(seconds).min(RETRY_AFTER_AT_MOST))
}
