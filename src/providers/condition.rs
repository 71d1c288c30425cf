//! A condition in the status of an object, as the API has it.

use jiff::Timestamp;
use serde::Deserialize;

use crate::api::types::ConditionStatus;

/// A condition. A field that is missing or null is empty.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct RawCondition {
    #[serde(rename = "type")]
    type_: Option<String>,
    status: Option<String>,
    reason: Option<String>,
    message: Option<String>,
    last_transition_time: Option<String>,
}

impl RawCondition {
    pub(super) fn type_(&self) -> &str {
        self.type_.as_deref().unwrap_or_default()
    }

    /// The status as it is written.
    pub(super) fn status_text(&self) -> &str {
        self.status.as_deref().unwrap_or_default()
    }

    pub(super) fn status(&self) -> ConditionStatus {
        match self.status_text() {
            "True" => ConditionStatus::True,
            "False" => ConditionStatus::False,
            _ => ConditionStatus::Unknown,
        }
    }

    pub(super) fn is(&self, type_: &str, status: &str) -> bool {
        self.type_() == type_ && self.status_text() == status
    }

    pub(super) fn is_true(&self) -> bool {
        self.status() == ConditionStatus::True
    }

    pub(super) fn is_false(&self) -> bool {
        self.status() == ConditionStatus::False
    }

    pub(super) fn reason(&self) -> &str {
        self.reason.as_deref().unwrap_or_default()
    }

    pub(super) fn message(&self) -> &str {
        self.message.as_deref().unwrap_or_default()
    }

    /// The transition time, if it can be read.
    pub(super) fn since(&self) -> Option<Timestamp> {
        self.last_transition_time.as_deref()?.parse().ok()
    }
}
