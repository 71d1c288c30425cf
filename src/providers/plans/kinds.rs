//! Plans of the system-upgrade-controller, and their Jobs, with the fields that matter.
//!
//! A Plan is indexed by a label that its nodes must have, so that a change of it reaches only nodes that it can
//! select; a Job is indexed by its node.
//!
//! Sources: rancher/system-upgrade-controller `pkg/apis/upgrade.cattle.io`, `pkg/upgrade/plan/plan.go`,
//! `pkg/upgrade/job/job.go`, `pkg/upgrade/handle_upgrade.go`, `pkg/upgrade/handle_batch.go`; rancher/rancher
//! `pkg/capr/managesystemagent/managesystemagent.go`.

use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use serde::Deserialize;

use crate::domain::fact::{Fact, Keys, KindSpec, Need, Object, Parsed, Select};
use crate::domain::labels::Selector;
use crate::domain::text;
use crate::domain::version::Version;
use crate::providers::condition::RawCondition;

/// Prefix of the node label, and of the Job label, whose value is the hash of the Plan of that name.
pub const PLAN_PREFIX: &str = "plan.upgrade.cattle.io/";
/// Index of Plans by a label that their nodes must have.
pub const REQUIRES: &str = "requiredLabel";
/// Key of Plans in [`REQUIRES`] that require no label.
pub const NO_LABEL: &str = "";
/// Index of Jobs by their node.
pub const NODE: &str = "node";

/// The label of Jobs with the name of their Plan.
const JOB_PLAN: &str = "upgrade.cattle.io/plan";
/// The label of Jobs with the name of their node.
const JOB_NODE: &str = "upgrade.cattle.io/node";
/// Plans with which Rancher updates its own agent, and not the node.
const AGENT_PLANS: [&str; 2] = ["system-agent-upgrader", "system-agent-upgrader-windows"];
/// Longest version or hash that is stored: with a leading `v`, as long as a version in the API.
const NAME_LIMIT: usize = 252;

/// A Plan: which nodes are updated to what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Namespace and name.
    pub key: Arc<str>,
    /// The label in which a node has the hash of the Plan that was last applied to it.
    pub label: Box<str>,
    /// `spec.nodeSelector`; `None` selects nothing.
    pub selector: Option<Selector>,
    /// What happens to a node before it is updated.
    pub preparation: Preparation,
    /// `status.latestVersion`, where `-` replaces `+`.
    pub version: Box<str>,
    /// The same as a kubelet reports it, if it is a version of k3s or RKE2.
    pub kubelet_version: Option<Arc<str>>,
    /// `status.latestHash`; empty before a controller has read the Plan.
    pub hash: Box<str>,
    /// `status.applying`: the host names of the nodes that are being updated.
    pub applying: Box<[Box<str>]>,
    /// Why the controller cannot apply the Plan.
    pub problem: Option<Box<str>>,
    /// Why no further node is updated.
    pub hold: Option<Hold>,
    /// The failed Job that the Plan reports.
    pub failure: Option<Failure>,
}

/// What happens to a node before it is updated; afterwards it is uncordoned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Preparation {
    /// Nothing.
    None,
    /// It is cordoned.
    Cordon,
    /// It is cordoned and drained.
    Drain(DrainFlags),
}

/// How `kubectl drain` is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DrainFlags {
    /// It does not stop at pods without a controller.
    pub forces: bool,
    /// It does not stop at pods with `emptyDir` volumes.
    pub deletes_local_storage: bool,
    /// It evicts pods, rather than deletes them.
    pub evicts: bool,
}

/// Why a Plan updates no further node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hold {
    /// It waits for its time window.
    Window,
    /// `spec.concurrency` is zero or missing.
    Concurrency,
}

/// A failed Job, as its Plan reports it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The node, if the message names it.
    pub node: Option<Box<str>>,
    /// What the Plan says.
    pub message: Box<str>,
}

#[derive(Deserialize)]
struct PlanObject {
    #[serde(default)]
    spec: PlanSpec,
    #[serde(default)]
    status: PlanStatus,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct PlanSpec {
    node_selector: Option<LabelSelector>,
    concurrency: Option<i64>,
    cordon: Option<bool>,
    drain: Option<DrainSpec>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct DrainSpec {
    force: bool,
    delete_local_data: Option<bool>,
    delete_emptydir_data: Option<bool>,
    disable_eviction: bool,
}

impl DrainSpec {
    fn flags(&self) -> DrainFlags {
        let is_kept = [self.delete_local_data, self.delete_emptydir_data].contains(&Some(false));
        DrainFlags {
            forces: self.force,
            deletes_local_storage: !is_kept,
            evicts: !self.disable_eviction,
        }
    }
}

impl PlanSpec {
    fn preparation(&self) -> Preparation {
        if let Some(drain) = &self.drain {
            Preparation::Drain(drain.flags())
        } else if self.cordon.unwrap_or_default() {
            Preparation::Cordon
        } else {
            Preparation::None
        }
    }
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct PlanStatus {
    conditions: Option<Vec<RawCondition>>,
    latest_version: Option<String>,
    latest_hash: Option<String>,
    applying: Option<Vec<String>>,
}

impl Fact for Plan {
    const KIND: KindSpec = KindSpec::new("upgrade.cattle.io", &["v1"], "Plan", "plans")
        .namespaced()
        .need(Need::Optional);

    fn parse(object: &Object<'_>) -> Parsed<Self> {
        let meta = object.meta;
        if AGENT_PLANS.contains(&meta.name.as_str()) || meta.is_deleting() {
            return Parsed::Ignored;
        }
        let PlanObject { spec, status } = match object.read::<PlanObject>() {
            Ok(plan) => plan,
            Err(error) => return Parsed::Unreadable(error),
        };
        let (selector, error) = match Selector::standard(spec.node_selector.as_ref()) {
            Ok(selector) => (selector, None),
            Err((error, rest)) => (Some(rest), Some(error.to_string())),
        };
        let conditions = status.conditions.unwrap_or_default();
        let complete = conditions
            .iter()
            .find(|condition| condition.type_() == "Complete" && !condition.is_true());
        let version = word(status.latest_version);
        let has_reason = |reason: &str| complete.filter(|condition| condition.reason() == reason);
        let plan = Self {
            key: meta.key(),
            label: format!("{PLAN_PREFIX}{}", meta.name).into(),
            selector,
            preparation: spec.preparation(),
            kubelet_version: kubelet_version(&version).map(Arc::from),
            version,
            hash: word(status.latest_hash),
            applying: status
                .applying
                .into_iter()
                .flatten()
                .map(String::into_boxed_str)
                .collect(),
            problem: error
                .clone()
                .or_else(|| conditions.iter().find_map(problem))
                .map(String::into_boxed_str),
            hold: if has_reason("Waiting").is_some() {
                Some(Hold::Window)
            } else {
                let is_stopped = spec.concurrency.is_none_or(|nodes| nodes < 1);
                is_stopped.then_some(Hold::Concurrency)
            },
            failure: has_reason("JobFailed").map(Failure::of),
        };
        match error {
            None => Parsed::Fact(plan),
            Some(error) => Parsed::Flawed(plan, error),
        }
    }

    fn index(&self, keys: &mut Keys) {
        if let Some(selector) = &self.selector {
            keys.add(REQUIRES, selector.required_label().unwrap_or(NO_LABEL));
        }
    }
}

impl Failure {
    /// The message ends with `failed on Node NAME: REASON: MESSAGE`.
    fn of(condition: &RawCondition) -> Self {
        let message = condition.message();
        let named = message.split_once(" failed on Node ");
        let node = named.and_then(|(_, rest)| rest.split([':', ' ']).next());
        Self {
            node: node.filter(|node| !node.is_empty()).map(Box::from),
            message: why(condition).into(),
        }
    }
}

/// Why the controller cannot apply the Plan, if that is what the condition says.
fn problem(condition: &RawCondition) -> Option<String> {
    let is_invalid = condition.is("Validated", "False") || condition.is("LatestResolved", "False");
    let selects_nothing =
        condition.is("Complete", "False") && condition.reason() == "SelectNodesFailed";
    (is_invalid || selects_nothing).then(|| {
        let (type_, status) = (condition.type_(), condition.status_text());
        format!("{type_} is {status}: {}", why(condition))
    })
}

/// The message of a condition, or its reason if there is none.
fn why(condition: &RawCondition) -> String {
    let message = text::message(condition.message());
    if message.is_empty() {
        text::summary(condition.reason())
    } else {
        message.into_owned()
    }
}

fn word(text: Option<String>) -> Box<str> {
    let text = text.unwrap_or_default();
    text::word(&text, NAME_LIMIT).unwrap_or_default().into()
}

/// The version that the kubelet of k3s or RKE2 reports, with the `+` that is no valid character of an image tag.
fn kubelet_version(version: &str) -> Option<String> {
    let (release, build) = version.rsplit_once(['-', '+'])?;
    let number = ["k3s", "rke2r"]
        .into_iter()
        .find_map(|name| build.strip_prefix(name))?;
    let is_number = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    if !is_number || Version::parse(release).is_none() {
        return None;
    }
    let release = release.strip_prefix('v').unwrap_or(release);
    Some(format!("v{release}+{build}"))
}

/// A Job that applies a Plan to one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlanJob {
    /// Namespace and name of the Plan.
    pub plan: Box<str>,
    /// Name of the node.
    pub node: Box<str>,
    /// The hash of the Plan that it applies.
    pub hash: Box<str>,
    /// How far it is.
    pub state: JobState,
}

/// How far a Job is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JobState {
    /// The controller has not started it yet.
    Paused,
    /// It runs, or is about to.
    Active,
    /// It has done its work.
    Complete,
    /// It has failed; why.
    Failed(Box<str>),
}

#[derive(Deserialize)]
struct JobObject {
    #[serde(default)]
    spec: JobSpec,
    #[serde(default)]
    status: JobStatus,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct JobSpec {
    parallelism: Option<i64>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct JobStatus {
    conditions: Option<Vec<RawCondition>>,
}

impl Fact for PlanJob {
    // Jobs are served everywhere. `only_where_found` would list every Job of the cluster at each discovery, and a
    // node's Job lives for minutes; this watch is empty where there is no Plan.
    const KIND: KindSpec = KindSpec::new("batch", &["v1"], "Job", "jobs")
        .namespaced()
        .select(Select::Labelled(JOB_PLAN))
        .only_beside("plans.upgrade.cattle.io")
        .need(Need::Optional);

    fn parse(object: &Object<'_>) -> Parsed<Self> {
        let meta = object.meta;
        let (Some(plan), Some(node)) = (meta.label(JOB_PLAN), meta.label(JOB_NODE)) else {
            return Parsed::Ignored;
        };
        if AGENT_PLANS.contains(&plan) || meta.is_deleting() {
            return Parsed::Ignored;
        }
        let job = match object.read::<JobObject>() {
            Ok(job) => job,
            Err(error) => return Parsed::Unreadable(error),
        };
        let namespace = meta.namespace.as_deref().unwrap_or_default();
        let hash = meta.label(&format!("{PLAN_PREFIX}{plan}"));
        Parsed::Fact(Self {
            plan: format!("{namespace}/{plan}").into(),
            node: node.into(),
            hash: hash.unwrap_or_default().into(),
            state: JobState::of(&job),
        })
    }

    fn index(&self, keys: &mut Keys) {
        keys.add(NODE, &self.node);
    }
}

impl JobState {
    fn of(job: &JobObject) -> Self {
        let conditions = job.status.conditions.as_deref().unwrap_or_default();
        let mut conditions = conditions.iter();
        let end = conditions.find(|each| each.is("Failed", "True") || each.is("Complete", "True"));
        match end {
            Some(end) if end.type_() == "Failed" => {
                let (reason, why) = (end.reason(), why(end));
                let why = if reason.is_empty() || reason == why {
                    why
                } else {
                    format!("{}: {why}", text::summary(reason))
                };
                Self::Failed(why.into())
            }
            Some(_) => Self::Complete,
            None if job.spec.parallelism == Some(0) => Self::Paused,
            None => Self::Active,
        }
    }
}
