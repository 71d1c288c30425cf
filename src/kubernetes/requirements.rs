//! Checks that a cluster has what this version needs: CRDs with the fields that it writes, and permissions.
//! Changes nothing.

mod crds;
mod permissions;

use std::fmt;
use std::future::Future;
use std::time::Duration;

use futures::StreamExt;
use futures::future::{BoxFuture, FutureExt};
use futures::stream;
use kube::Client;
use serde::Serialize;

use self::crds::crds;
use self::permissions::permissions;
use super::diagnosis::{Attempt, Diagnosis, diagnose};
use super::platform::{api_server_version, served};
use crate::domain::fact::Kind;

/// The oldest minor release of Kubernetes 1 that is supported.
const OLDEST_MINOR: u32 = 33;
/// Concurrent checks. Each needs a connection, and connections cost memory.
const AT_ONCE: usize = 4;
/// Each check takes milliseconds.
const DEADLINE: Duration = Duration::from_secs(5);

/// What to check.
#[derive(Debug, Clone, Default)]
pub struct Scope {
    /// The kinds that providers read, where they are served.
    pub kinds: Vec<Kind>,
    /// Namespace and name of the lease, if there is one.
    pub lease: Option<(String, String)>,
    /// Namespace and name of the ConfigMap with the sync status, if it is stored in one.
    pub sync_status: Option<(String, String)>,
    /// Whether Events are written.
    pub events: bool,
}

/// The result of one check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The check, as in `permission: list nodes`.
    pub check: String,
    /// Its outcome.
    #[serde(flatten)]
    pub outcome: Outcome,
}

/// The outcome of a check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "result", rename_all = "camelCase")]
pub enum Outcome {
    /// The requirement is met.
    Ok {
        /// What was found.
        what: String,
    },
    /// The requirement is not met.
    Failed {
        /// What is wrong.
        what: String,
        /// What to do about it.
        remedy: String,
    },
    /// Something optional is missing; the operator works without it.
    Optional {
        /// What is missing.
        what: String,
        /// What to do about it.
        remedy: String,
    },
    /// The check did not get an answer.
    Unknown {
        /// Why.
        what: String,
        /// What to do about it.
        remedy: String,
    },
}

impl Outcome {
    /// Whether the requirement is met.
    #[must_use]
    pub fn is_ok(&self) -> bool {
        matches!(self, Self::Ok { .. } | Self::Optional { .. })
    }

    /// Whether the requirement is known not to be met.
    #[must_use]
    pub fn is_failed(&self) -> bool {
        matches!(self, Self::Failed { .. })
    }

    fn ok(what: impl Into<String>) -> Self {
        Self::Ok { what: what.into() }
    }

    fn unknown(diagnosis: Diagnosis) -> Self {
        Self::Unknown {
            what: diagnosis.what,
            remedy: diagnosis.remedy,
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.outcome {
            Outcome::Ok { what } => write!(f, "{}: {what}", self.check),
            Outcome::Failed { what, remedy }
            | Outcome::Optional { what, remedy }
            | Outcome::Unknown { what, remedy } => {
                write!(f, "{}: {what}; {remedy}", self.check)
            }
        }
    }
}

/// A running check.
type Question<'a> = BoxFuture<'a, Finding>;

/// Checks the requirements.
pub struct Requirements {
    client: Client,
    scope: Scope,
}

impl Requirements {
    /// Checks what `scope` needs, for the account of `client`.
    #[must_use]
    pub fn new(client: Client, scope: Scope) -> Self {
        Self { client, scope }
    }

    /// Runs all checks; returns the findings in a fixed order.
    pub async fn all(&self) -> Vec<Finding> {
        let mut questions = vec![
            server(&self.client).boxed(),
            discovery(&self.client).boxed(),
        ];
        questions.extend(crds(&self.client));
        let mut findings = ask(questions).await;
        findings.extend(self.permissions().await);
        findings
    }

    /// Checks that the CRDs are as new as this version.
    pub async fn crds(&self) -> Vec<Finding> {
        ask(crds(&self.client)).await
    }

    /// Checks the permissions.
    pub async fn permissions(&self) -> Vec<Finding> {
        // If discovery fails, the watches report it.
        let kinds = &self.scope.kinds;
        let served = within(DISCOVERY, served(&self.client, kinds)).await;
        let served = served.unwrap_or_else(|_| vec![None; kinds.len()]);
        ask(permissions(&self.client, &self.scope, &served)).await
    }
}

async fn ask(questions: Vec<Question<'_>>) -> Vec<Finding> {
    stream::iter(questions).buffered(AT_ONCE).collect().await
}

const DISCOVERY: Attempt = Attempt {
    verbs: "get",
    resource: "the path /apis",
    group: "",
};

async fn discovery(client: &Client) -> Finding {
    let outcome = match within(DISCOVERY, client.list_api_groups()).await {
        Ok(groups) => Outcome::ok(format!("{} API groups are served", groups.groups.len())),
        Err(diagnosis) => Outcome::unknown(diagnosis),
    };
    Finding {
        check: "discovery".to_owned(),
        outcome,
    }
}

async fn server(client: &Client) -> Finding {
    let attempt = Attempt {
        verbs: "get",
        resource: "the path /version",
        group: "",
    };
    let outcome = match within(attempt, api_server_version(client)).await {
        Ok(version) if is_supported(&version) => Outcome::ok(format!("it is {version}")),
        Ok(version) => Outcome::Failed {
            what: format!("it is {version}, and 1.{OLDEST_MINOR} is the oldest that is supported"),
            remedy: "update the cluster".to_owned(),
        },
        Err(diagnosis) => Outcome::unknown(diagnosis),
    };
    Finding {
        check: "API server".to_owned(),
        outcome,
    }
}

fn is_supported(version: &str) -> bool {
    let mut parts = version
        .trim_start_matches('v')
        .split('.')
        .map(str::parse::<u32>);
    match (parts.next(), parts.next()) {
        (Some(Ok(1)), Some(Ok(minor))) => minor >= OLDEST_MINOR,
        // A version that cannot be parsed counts as supported.
        _ => true,
    }
}

async fn within<T>(
    attempt: Attempt,
    call: impl Future<Output = kube::Result<T>>,
) -> Result<T, Diagnosis> {
    match tokio::time::timeout(DEADLINE, call).await {
        Ok(answer) => answer.map_err(|error| diagnose(&error, attempt)),
        Err(_) => Err(Diagnosis::no_answer(DEADLINE)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_version_known_to_be_too_old_is_unsupported() {
        for (version, expected) in [
            ("v1.33.0", true),
            ("v1.36.3-eks-94953ac", true),
            ("v1.32.9", false),
            ("v2.0.0", true),
            ("", true),
            ("v1.x", true),
        ] {
            assert_eq!(is_supported(version), expected, "{version}");
        }
    }
}
