//! The API server's audit log: every request, who sent it, and how it was answered.
//!
//! It is the one source that does not depend on the operator's own counters: a test that claims
//! "0 writes" reads it here. The log is written in blocking mode: the entry of a write is in the file
//! before the client sees the response. Only a response of more than 4 KiB may reach the client a
//! moment before its entry.

use std::fs::File;
use std::io::{ErrorKind, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use jiff::Timestamp;
use serde::Deserialize;

/// The audit policy: no bodies, one entry per request (two for a watch: at its start and at its end).
/// The control plane's own requests are left out, so that a test sees only its own clients.
pub(crate) const POLICY: &str = r#"
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
  - level: None
    users: ["system:apiserver", "system:kube-controller-manager"]
  - level: None # the controllers of the controller manager
    userGroups: ["system:serviceaccounts:kube-system"]
  - level: None
    nonResourceURLs: ["/readyz*", "/livez*", "/healthz*"]
  - level: Metadata
"#;

/// The audit log of one control plane: a cheap handle, valid as long as the control plane's folder
/// exists.
#[derive(Clone, Debug)]
pub struct AuditLog {
    path: PathBuf,
}

/// A position in the log: see [`AuditLog::mark`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct AuditMark(u64);

/// One request, as the API server saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditEntry {
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`, `deletecollection`; the
    /// lower-case HTTP method for non-resource URLs.
    pub verb: String,
    /// The authenticated user, such as `system:serviceaccount:NAMESPACE:NAME`.
    pub user: String,
    /// The resource in the plural, empty for paths such as `/version`.
    pub resource: String,
    /// Such as `status`; empty for the resource itself.
    pub subresource: String,
    /// Empty for the core group.
    pub api_group: String,
    /// Empty for a list, a watch and a rejected create.
    pub name: String,
    /// Empty for cluster-scoped resources.
    pub namespace: String,
    /// The HTTP status of the response; 0 when there was none.
    pub code: u16,
    /// `ResponseComplete`, `ResponseStarted` (a watch that began) or `Panic`.
    pub stage: String,
    /// The client's `User-Agent`.
    pub user_agent: String,
    /// The path and the query.
    pub request_uri: String,
    /// When the request came in, to the microsecond.
    pub received: Timestamp,
    /// When it reached its stage: the response was complete, or the watch began.
    pub reached: Timestamp,
}

impl AuditLog {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// The file, one JSON object per line.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// All entries so far, in the order in which they were answered.
    ///
    /// # Errors
    ///
    /// When the file cannot be read or holds something other than audit events.
    pub fn entries(&self) -> Result<Vec<AuditEntry>> {
        self.since(AuditMark::default())
    }

    /// The current end of the log, for a later [`Self::since`].
    ///
    /// # Errors
    ///
    /// When the file cannot be read.
    pub fn mark(&self) -> Result<AuditMark> {
        match std::fs::metadata(&self.path) {
            Ok(metadata) => Ok(AuditMark(metadata.len())),
            // The API server creates it with the first entry.
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(AuditMark::default()),
            Err(error) => Err(error).with_context(|| format!("reading {}", self.path.display())),
        }
    }

    /// The entries after `mark`.
    ///
    /// # Errors
    ///
    /// When the file cannot be read or holds something other than audit events.
    pub fn since(&self, mark: AuditMark) -> Result<Vec<AuditEntry>> {
        let text = self
            .read_from(mark)
            .with_context(|| format!("reading {}", self.path.display()))?;
        // The last line may still be being written.
        let complete = text.rfind('\n').map_or("", |end| &text[..end]);
        complete
            .lines()
            .map(|line| {
                let event: Event = serde_json::from_str(line)
                    .with_context(|| format!("this line is not an audit event: {line}"))?;
                Ok(AuditEntry::from(event))
            })
            .collect()
    }

    fn read_from(&self, mark: AuditMark) -> std::io::Result<String> {
        let mut text = String::new();
        match File::open(&self.path) {
            Ok(mut file) => {
                file.seek(SeekFrom::Start(mark.0))?;
                file.read_to_string(&mut text)?;
                Ok(text)
            }
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(text),
            Err(error) => Err(error),
        }
    }
}

impl AuditEntry {
    /// Whether the request was a successful write: a writing verb and a code below 400. Reviews, which
    /// are created by POST, count as well: filter by resource where they matter.
    #[must_use]
    pub fn is_write(&self) -> bool {
        let verb = matches!(
            self.verb.as_str(),
            "create" | "update" | "patch" | "delete" | "deletecollection"
        );
        verb && self.stage == "ResponseComplete" && (100..400).contains(&self.code)
    }
}

/// The writes among `entries`: see [`AuditEntry::is_write`].
#[must_use]
pub fn writes(entries: &[AuditEntry]) -> Vec<&AuditEntry> {
    entries.iter().filter(|entry| entry.is_write()).collect()
}

/// `audit.k8s.io/v1` `Event`: the fields that are read here.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Event {
    stage: String,
    #[serde(rename = "requestURI", default)]
    request_uri: String,
    verb: String,
    user: User,
    #[serde(default)]
    user_agent: String,
    #[serde(default)]
    object_ref: ObjectRef,
    #[serde(default)]
    response_status: ResponseStatus,
    request_received_timestamp: Timestamp,
    stage_timestamp: Timestamp,
}

#[derive(Deserialize)]
struct User {
    // Absent when the client could not be authenticated.
    #[serde(default)]
    username: String,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ObjectRef {
    resource: String,
    namespace: String,
    name: String,
    api_group: String,
    subresource: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ResponseStatus {
    code: u16,
}

impl From<Event> for AuditEntry {
    fn from(event: Event) -> Self {
        Self {
            verb: event.verb,
            user: event.user.username,
            resource: event.object_ref.resource,
            subresource: event.object_ref.subresource,
            api_group: event.object_ref.api_group,
            name: event.object_ref.name,
            namespace: event.object_ref.namespace,
            code: event.response_status.code,
            stage: event.stage,
            user_agent: event.user_agent,
            request_uri: event.request_uri,
            received: event.request_received_timestamp,
            reached: event.stage_timestamp,
        }
    }
}
