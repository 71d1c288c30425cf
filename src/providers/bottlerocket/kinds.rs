//! The shadow of a node, with the fields that matter.

use jiff::Timestamp;
use serde::Deserialize;

use crate::domain::fact::{Fact, Keys, KindSpec, Need, Object, Parsed};
use crate::domain::text;

/// Index of shadows by the name of their node.
pub const NODE: &str = "node";
/// A shadow is named after its node.
const NAME_PREFIX: &str = "brs-";

/// A `BottlerocketShadow`: what the operating system of one node runs, and what it has to reach.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shadow {
    /// Its namespace and name.
    pub name: Box<str>,
    /// Name of its node.
    pub node: Box<str>,
    /// `spec.state`: the state that the node has to reach.
    pub wanted: State,
    /// Since when.
    pub since: Option<Timestamp>,
    /// `spec.version`. After an update it stays until the node is idle again.
    pub wanted_version: Option<Box<str>>,
    /// What the agent on the node reports; `None` before its first report.
    pub status: Option<Status>,
}

/// What the agent on the node reports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// The state that the node has reached.
    pub state: State,
    /// The version that it runs.
    pub version: Box<str>,
    /// The version that it would update to; its own if there is no newer one.
    pub target: Box<str>,
    /// Failed attempts since the last update.
    pub failures: u32,
    /// When the last attempt failed.
    pub failed_at: Option<Timestamp>,
}

/// A state of a node. The states follow each other in this order, and then begin again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// Nothing is done.
    Idle,
    /// The image is downloaded and installed.
    StagedAndPerformedUpdate,
    /// The node has restarted.
    RebootedIntoUpdate,
    /// The node runs after the update.
    MonitoringUpdate,
    /// A step has failed.
    ErrorReset,
    /// Another state, which this version does not know.
    Other(Box<str>),
}

impl From<&str> for State {
    fn from(text: &str) -> Self {
        match text {
            "Idle" => Self::Idle,
            "StagedAndPerformedUpdate" => Self::StagedAndPerformedUpdate,
            "RebootedIntoUpdate" => Self::RebootedIntoUpdate,
            "MonitoringUpdate" => Self::MonitoringUpdate,
            "ErrorReset" => Self::ErrorReset,
            other => Self::Other(text::name(other)),
        }
    }
}

#[derive(Deserialize)]
struct RawShadow {
    #[serde(default)]
    metadata: RawMeta,
    spec: RawSpec,
    #[serde(default)]
    status: Option<RawStatus>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct RawMeta {
    owner_references: Option<Vec<RawOwner>>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct RawOwner {
    kind: String,
    name: String,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct RawSpec {
    state: String,
    state_transition_timestamp: Option<String>,
    version: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct RawStatus {
    current_state: String,
    current_version: String,
    target_version: String,
    crash_count: u64,
    state_transition_failure_timestamp: Option<String>,
}

impl Fact for Shadow {
    /// Version 1 is converted to version 2 by a webhook, and has other states.
    const KIND: KindSpec = KindSpec::new(
        "brupop.bottlerocket.aws",
        &["v2"],
        "BottlerocketShadow",
        "bottlerocketshadows",
    )
    .namespaced()
    .need(Need::Optional);

    fn parse(object: &Object<'_>) -> Parsed<Self> {
        let RawShadow {
            metadata,
            spec,
            status,
        } = match object.read() {
            Ok(shadow) => shadow,
            Err(error) => return Parsed::Unreadable(error),
        };
        let mut owners = metadata.owner_references.into_iter().flatten();
        let owner = owners.find(|owner| owner.kind == "Node");
        let named = || {
            object
                .meta
                .name
                .strip_prefix(NAME_PREFIX)
                .map(str::to_owned)
        };
        let node = owner.map(|owner| owner.name).or_else(named);
        let Some(node) = node.filter(|node| !node.is_empty()) else {
            return Parsed::Unreadable("Neither its owner nor its name names a node".to_owned());
        };
        let mut odd = Vec::new();
        let since = moment(spec.state_transition_timestamp, &mut odd);
        let version = spec.version.map(|version| text::name(&version));
        let status = status.map(|status| Status {
            state: State::from(status.current_state.as_str()),
            version: text::name(&status.current_version),
            target: text::name(&status.target_version),
            failures: u32::try_from(status.crash_count).unwrap_or(u32::MAX),
            failed_at: moment(status.state_transition_failure_timestamp, &mut odd),
        });
        let shadow = Self {
            name: (*object.meta.key()).into(),
            node: node.into(),
            wanted: State::from(spec.state.as_str()),
            since,
            wanted_version: version,
            status,
        };
        if odd.is_empty() {
            Parsed::Fact(shadow)
        } else {
            Parsed::Flawed(shadow, odd.join("; "))
        }
    }

    fn index(&self, keys: &mut Keys) {
        keys.add(NODE, &self.node);
    }
}

/// The time in a field, if it has one; an unreadable time is added to what is odd.
fn moment(text: Option<String>, odd: &mut Vec<String>) -> Option<Timestamp> {
    let text = text?;
    let time = text.parse().ok();
    if time.is_none() {
        odd.push(format!("'{}' is no time", text::name(&text)));
    }
    time
}
