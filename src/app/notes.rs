//! Events about the operator itself: that this replica leads, and that a requirement is missing.

use k8s_openapi::api::core::v1::ObjectReference;

use super::config::RunConfig;
use crate::kubernetes::events::{Note, Severity};
use crate::kubernetes::pod;
use crate::reconcile::clock::system_clock;
use crate::reconcile::events::Events;

/// Records Events about the operator itself.
#[derive(Clone)]
pub(super) struct Notes {
    events: Events,
    lease: Option<ObjectReference>,
    pod: Option<ObjectReference>,
}

impl Notes {
    pub(super) fn new(config: &RunConfig, events: Events) -> Self {
        let lease = config.needs.lease.object();
        Self {
            events,
            lease: lease.map(|(namespace, name)| ObjectReference {
                api_version: Some("coordination.k8s.io/v1".to_owned()),
                kind: Some("Lease".to_owned()),
                namespace: Some(namespace),
                name: Some(name),
                ..ObjectReference::default()
            }),
            pod: pod::this(),
        }
    }

    /// For an operator with neither lease nor pod.
    #[cfg(test)]
    pub(super) fn about_nothing(events: Events) -> Self {
        Self {
            events,
            lease: None,
            pod: None,
        }
    }

    /// This replica leads, as `identity`.
    pub(super) fn leads(&self, identity: &str) {
        self.record(
            Severity::Normal,
            // The reason that other controllers use.
            "LeaderElection",
            "Leading",
            format!("{identity} became leader"),
            self.lease.as_ref(),
        );
    }

    /// The cluster lacks something. Not recorded outside of a pod, as the Event would have no subject.
    pub(super) fn lacks(&self, reason: &'static str, why: &str) {
        let about = self.pod.as_ref();
        self.record(Severity::Warning, reason, "Checking", why.to_owned(), about);
    }

    fn record(
        &self,
        severity: Severity,
        reason: &'static str,
        action: &'static str,
        text: String,
        about: Option<&ObjectReference>,
    ) {
        if let Some(regarding) = about {
            self.events.record(Note {
                severity,
                reason,
                action,
                text,
                at: (system_clock())(),
                regarding: regarding.clone(),
                related: None,
            });
        }
    }
}
