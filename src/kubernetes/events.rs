//! Reports what happened, as Events of the cluster.
//!
//! The name of an Event is derived from its contents: the API server rejects a repeated Event, after a restart or
//! from the replica that takes over, and nothing changes. kube's own recorder is not used because its names are
//! always new.

use std::borrow::Cow;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client};

use super::diagnosis::{Attempt, Diagnosis, diagnose};
use super::write::FIELD_MANAGER;
use crate::domain::text;

/// Group of the resource.
pub const GROUP: &str = "events.k8s.io";
/// The namespace of Events about cluster-scoped objects, as the API server requires.
pub const OF_THE_CLUSTER: &str = "default";
/// The source of every Event.
const CONTROLLER: &str = "nodeinsights.dev/node-insights";
/// Writing an Event takes milliseconds.
const DEADLINE: Duration = Duration::from_secs(5);
/// Maximum length of an object name.
const NAME_LIMIT: usize = 253;
/// Maximum length of the name of the reporting instance.
const INSTANCE_LIMIT: usize = 128;

/// The severity of an Event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// Nothing is wrong.
    Normal,
    /// Needs attention.
    Warning,
}

/// What an Event reports.
#[derive(Debug, Clone, PartialEq)]
pub struct Note {
    /// Its severity.
    pub severity: Severity,
    /// What happened, in CamelCase.
    pub reason: &'static str,
    /// What was being done, in CamelCase.
    pub action: &'static str,
    /// What happened, for people; truncated to one line.
    pub text: String,
    /// When it happened.
    pub at: Timestamp,
    /// The object it is about.
    pub regarding: ObjectReference,
    /// The object that `regarding` belongs to.
    pub related: Option<ObjectReference>,
}

/// The outcome of writing a note.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WriteOutcome {
    /// The Event was created.
    Created,
    /// The Event already existed.
    Known,
}

/// Writes Events.
pub struct EventWriter {
    client: Client,
    instance: String,
}

impl EventWriter {
    /// Writes as `instance`, the name of this process.
    #[must_use]
    pub fn new(client: Client, instance: &str) -> Self {
        Self {
            client,
            instance: text::word(instance, INSTANCE_LIMIT)
                .map_or_else(|| "unknown".to_owned(), Cow::into_owned),
        }
    }

    /// Writes a note as an Event.
    ///
    /// # Errors
    /// When the API server rejects it or does not answer.
    pub async fn write(&self, note: &Note) -> Result<WriteOutcome, Diagnosis> {
        let event = self.event(note);
        let namespace = event.metadata.namespace.as_deref();
        let api: Api<Event> =
            Api::namespaced(self.client.clone(), namespace.unwrap_or(OF_THE_CLUSTER));
        let params = PostParams {
            field_manager: Some(FIELD_MANAGER.into()),
            ..PostParams::default()
        };
        let Ok(created) = tokio::time::timeout(DEADLINE, api.create(&params, &event)).await else {
            return Err(Diagnosis::no_answer(DEADLINE));
        };
        match created {
            Ok(_) => Ok(WriteOutcome::Created),
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(WriteOutcome::Known),
            Err(error) => Err(diagnose(
                &error,
                Attempt {
                    verbs: "create",
                    resource: "events",
                    group: GROUP,
                },
            )),
        }
    }

    fn event(&self, note: &Note) -> Event {
        let Note {
            severity,
            reason,
            action,
            text,
            at,
            regarding,
            related,
        } = note;
        let severity = match severity {
            Severity::Normal => "Normal",
            Severity::Warning => "Warning",
        };
        let namespace = regarding.namespace.as_deref().unwrap_or(OF_THE_CLUSTER);
        Event {
            metadata: ObjectMeta {
                name: Some(name(note)),
                namespace: Some(namespace.to_owned()),
                ..ObjectMeta::default()
            },
            type_: Some(severity.to_owned()),
            reason: Some((*reason).to_owned()),
            action: Some((*action).to_owned()),
            note: Some(text::summary(text)),
            event_time: Some(MicroTime(*at)),
            regarding: Some(regarding.clone()),
            related: related.clone(),
            reporting_controller: Some(CONTROLLER.to_owned()),
            reporting_instance: Some(self.instance.clone()),
            ..Event::default()
        }
    }
}

/// The same name for the same reason, time and object.
fn name(note: &Note) -> String {
    let about = note.regarding.name.as_deref().unwrap_or_default();
    let uid = note.regarding.uid.as_deref().unwrap_or_default();
    let identity = format!("{about}/{uid}/{}/{}", note.reason, note.at.as_second());
    let suffix = format!(".{:08x}", text::fnv1a(&identity));
    let about: String = about.chars().take(NAME_LIMIT - suffix.len()).collect();
    let about = about.trim_end_matches(|c: char| !c.is_ascii_alphanumeric());
    format!("{about}{suffix}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(name: &str, second: i64) -> Note {
        Note {
            severity: Severity::Normal,
            reason: "DrainStarted",
            action: "Draining",
            text: "Workloads\nare being moved away".to_owned(),
            at: Timestamp::from_second(second).unwrap(),
            regarding: ObjectReference {
                name: Some(name.to_owned()),
                ..ObjectReference::default()
            },
            related: None,
        }
    }

    #[test]
    fn only_a_repeated_report_of_the_same_occurrence_has_the_same_name() {
        assert_eq!(name(&note("a", 1)), name(&note("a", 1)));
        assert_ne!(name(&note("a", 1)), name(&note("a", 2)));
        let other = Note {
            reason: "UpdateStarted",
            ..note("a", 1)
        };
        assert_ne!(name(&note("a", 1)), name(&other));
    }

    #[test]
    fn the_name_fits_any_node_name() {
        assert!(name(&note("worker-1.example.com", 1)).starts_with("worker-1.example.com."));
        let (long, longer) = (
            format!("{}-a", "n".repeat(250)),
            format!("{}-b", "n".repeat(250)),
        );
        assert_eq!(name(&note(&"n".repeat(253), 1)).len(), 253);
        assert_ne!(name(&note(&long, 1)), name(&note(&longer, 1)));
        // Each part of a name must end with a letter or a digit.
        let truncated = name(&note(&format!("{}-{}", "n".repeat(243), "n".repeat(9)), 1));
        assert!(!truncated.contains("-."), "{truncated}");
    }
}
