//! Lists a kind once, page by page: for commands, which look at a cluster and end.
//!
//! No more than one page is in memory. A server that is busy is asked again a few times.

use std::fmt::Debug;

use kube::api::ListParams;
use kube::{Api, Resource};
use serde::de::DeserializeOwned;

use super::backoff;
use super::client::Connection;
use super::diagnosis::{Attempt, Diagnosis, Problem, diagnose};
use super::objects::{WatchedNode, WatchedObject};
use super::platform;
use crate::domain::fact::{KindSpec, Object, Read, Select};
use crate::domain::node::NodeObject;

/// Objects per page: whole Nodes are up to 2 MB of JSON then.
const PAGE_SIZE: u32 = 100;
/// Pods per page, as of kubectl: 5 MB of JSON at 10 KB a pod.
const PODS_PAGE_SIZE: u32 = 500;
/// How often a busy server is asked again: for about ten seconds.
const RETRIES: usize = 6;

/// Why a kind cannot be listed.
#[derive(Debug, thiserror::Error)]
pub enum ListError {
    /// The permission is missing.
    #[error(
        "Cannot list {resource}, because it is forbidden: {message}; grant the verb list for {resource} in all namespaces, or check with: kubectl auth can-i list {resource} --all-namespaces"
    )]
    Forbidden {
        /// The resource, as `kubectl` takes it.
        resource: String,
        /// What the API server says.
        message: String,
    },
    /// The list changed for so long that its next page is gone.
    #[error(
        "Cannot list {resource} before its pages expire, after about five minutes: run this again, closer to the API server or when it is less busy"
    )]
    Expired {
        /// The resource, as `kubectl` takes it.
        resource: String,
    },
    /// Anything else.
    #[error("Cannot list {resource}: {diagnosis}")]
    Failed {
        /// The resource, as `kubectl` takes it.
        resource: String,
        /// What is wrong, and what to do about it.
        diagnosis: Diagnosis,
    },
}

impl ListError {
    fn new(error: kube::Error, attempt: Attempt, resource: String) -> Self {
        let diagnosis = diagnose(&error, attempt);
        match (diagnosis.problem, error) {
            (Problem::Forbidden, kube::Error::Api(status)) => Self::Forbidden {
                resource,
                message: status.message.clone(),
            },
            (Problem::Expired, _) => Self::Expired { resource },
            _ => Self::Failed {
                resource,
                diagnosis,
            },
        }
    }

    /// Whether only this kind cannot be read, while the API server answers about others.
    #[must_use]
    pub fn is_of_kind(&self) -> bool {
        match self {
            Self::Forbidden { .. } => true,
            Self::Expired { .. } => false,
            Self::Failed { diagnosis, .. } => match diagnosis.problem {
                Problem::Forbidden
                | Problem::NotServed
                | Problem::Invalid
                | Problem::Unreadable
                | Problem::Other => true,
                Problem::Unauthorized
                | Problem::Expired
                | Problem::Overloaded
                | Problem::Unreachable => false,
            },
        }
    }
}

/// Lists all Nodes.
///
/// # Errors
/// When a page cannot be read.
pub async fn nodes(
    connection: &Connection,
    mut each: impl FnMut(NodeObject),
) -> Result<(), ListError> {
    let api: Api<WatchedNode> = Api::all(connection.client.clone());
    let params = ListParams::default().limit(PAGE_SIZE);
    let resource = ("", "nodes");
    pages(&api, params, resource, |node| each(node.into_parts().0)).await
}

/// Lists the objects of a kind that are of interest: those of pods that are on a node.
///
/// # Errors
/// When a page cannot be read.
pub async fn objects(
    connection: &Connection,
    spec: &KindSpec,
    version: &str,
    each: impl FnMut(&Object<'_>),
) -> Result<(), ListError> {
    match spec.read {
        Read::Whole => objects_as::<false>(connection, spec, version, each).await,
        Read::Metadata => objects_as::<true>(connection, spec, version, each).await,
    }
}

async fn objects_as<const METADATA: bool>(
    connection: &Connection,
    spec: &KindSpec,
    version: &str,
    mut each: impl FnMut(&Object<'_>),
) -> Result<(), ListError> {
    let api = platform::api::<METADATA>(connection.client.clone(), spec, version);
    let size = match spec.select {
        Select::OnNode => PODS_PAGE_SIZE,
        Select::All | Select::Named(_) | Select::Object { .. } | Select::Labelled(_) => PAGE_SIZE,
    };
    let params = platform::selection(spec).limit(size);
    let resource = (spec.group, spec.plural);
    let sink = |object: WatchedObject<METADATA>| each(&object.object());
    pages(&api, params, resource, sink).await
}

async fn pages<K: Resource + Clone + Debug + DeserializeOwned>(
    api: &Api<K>,
    mut params: ListParams,
    (group, plural): (&'static str, &'static str),
    mut each: impl FnMut(K),
) -> Result<(), ListError> {
    let attempt = Attempt {
        verbs: "list",
        resource: plural,
        group,
    };
    let mut retries = RETRIES;
    let mut delays = backoff::short();
    loop {
        let page = match api.list(&params).await {
            Ok(page) => page,
            Err(error) => {
                let is_busy = diagnose(&error, attempt).problem == Problem::Overloaded;
                if is_busy && retries > 0 {
                    retries -= 1;
                    backoff::wait(&mut delays).await;
                    continue;
                }
                return Err(ListError::new(error, attempt, attempt.resource()));
            }
        };
        page.items.into_iter().for_each(&mut each);
        let Some(next) = page.metadata.continue_.filter(|next| !next.is_empty()) else {
            return Ok(());
        };
        params = params.continue_token(&next);
    }
}
