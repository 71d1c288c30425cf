//! A drain as its insight shows it.

use std::borrow::Cow;

use jiff::{SignedDuration, Timestamp};

use super::{Blocker, Drain, Key, Reason};
use crate::api::node::{Certainty, Drain as Reported, DrainBlocker};
use crate::domain::text;

impl Drain {
    /// As the insight shows it; the drain began at `start`.
    #[must_use]
    pub fn report(&self, start: Timestamp) -> Reported {
        Reported {
            start_time: start,
            pods_left: self.pods_left.map(small),
            blockers: self.blockers.iter().map(Blocker::report).collect(),
            blockers_omitted: (self.omitted > 0).then(|| small(self.omitted)),
            blocked_seconds: i32::try_from(self.blocked.as_secs())
                .ok()
                .filter(|seconds| *seconds > 0),
        }
    }

    /// From the insight, after a start of the process. Blockers of unknown reasons are found again.
    #[must_use]
    pub fn reported(drain: &Reported) -> Self {
        let blockers: Vec<Blocker> = drain
            .blockers
            .iter()
            .filter_map(Blocker::reported)
            .collect();
        let causes = blockers.iter().map(|each| (each.key.clone(), each.since));
        Self {
            pods_left: drain.pods_left.and_then(|left| usize::try_from(left).ok()),
            causes: causes.collect(),
            omitted: drain
                .blockers_omitted
                .and_then(|omitted| usize::try_from(omitted).ok())
                .unwrap_or_default(),
            most: 0,
            shown: None,
            blocked: drain
                .blocked_seconds
                .map_or(SignedDuration::ZERO, |seconds| {
                    SignedDuration::from_secs(seconds.into())
                }),
            blockers: blockers.into_boxed_slice(),
        }
    }
}

impl Blocker {
    /// As an insight shows it.
    #[must_use]
    pub fn report(&self) -> DrainBlocker {
        let name = |name: &str| {
            text::word(name, 253)
                .map(Cow::into_owned)
                .unwrap_or_default()
        };
        let Key {
            reason,
            kind,
            namespace,
            name: object,
        } = &self.key;
        DrainBlocker {
            reason: reason.as_str().to_owned(),
            kind: name(kind),
            namespace: Some(name(namespace)).filter(|namespace| !namespace.is_empty()),
            name: name(object),
            pods: self.pods.iter().map(|pod| name(pod)).collect(),
            count: small(self.count),
            since: self.since,
            certainty: if reason.is_inferred() {
                Certainty::Inferred
            } else {
                Certainty::Observed
            },
            message: self.message.to_string(),
        }
    }

    fn reported(blocker: &DrainBlocker) -> Option<Self> {
        Some(Self {
            key: Key {
                reason: Reason::named(&blocker.reason)?,
                kind: blocker.kind.as_str().into(),
                namespace: blocker.namespace.as_deref().unwrap_or_default().into(),
                name: blocker.name.as_str().into(),
            },
            message: blocker.message.as_str().into(),
            pods: blocker.pods.iter().map(|pod| pod.as_str().into()).collect(),
            count: usize::try_from(blocker.count).unwrap_or_default(),
            since: blocker.since,
            gone: None,
            is_symptom: false,
        })
    }
}

fn small(count: usize) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}
