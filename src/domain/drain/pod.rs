//! Pods, as far as a drain is concerned with them. Mirrors of static pods are left out: no drain moves them.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::domain::fact::{Fact, Keys, KindSpec, Need, ON_NODE, Object, Parsed, Select};
use crate::domain::facts::{Unavailable, View};
use crate::domain::labels::Labels;
use crate::domain::shared::Common;

/// The annotation of the mirror of a static pod.
const MIRROR: &str = "kubernetes.io/config.mirror";
/// The mark for Karpenter: `true`, or a duration since the start of the pod.
const DO_NOT_DISRUPT: &str = "karpenter.sh/do-not-disrupt";
/// The label for Cluster API.
const CLUSTER_API_DRAIN: &str = "cluster.x-k8s.io/drain";

/// Different texts, or sets of labels, that the pods of nodes that are drained share.
const COMMON: usize = 10_000;

thread_local! {
    static TEXTS: RefCell<Common<str, COMMON>> = RefCell::default();
    static LABELS: RefCell<Common<Labels, COMMON>> = RefCell::default();
}

/// The text, in the allocation of the same text of another pod.
fn common(text: &str) -> Arc<str> {
    TEXTS.with_borrow_mut(|texts| texts.share(text, || text.into()))
}

/// The labels, in the allocation of those of another pod.
fn common_labels(labels: &Labels) -> Arc<Labels> {
    LABELS.with_borrow_mut(|known| known.share(labels, || Arc::new(labels.clone())))
}

/// A pod on a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pod {
    /// The node that it is on.
    pub node: Arc<str>,
    /// Its namespace.
    pub namespace: Arc<str>,
    /// Its name.
    pub name: Box<str>,
    /// What made it.
    pub controller: Option<Controller>,
    /// Its labels, for the selectors of budgets.
    pub labels: Arc<Labels>,
    /// How far it is.
    pub stage: Stage,
    /// It is ready.
    pub is_ready: bool,
    /// Since when it has not been ready, if it is not.
    pub unready_since: Option<Timestamp>,
    /// When it was created.
    pub created: Option<Timestamp>,
    /// When it has to end, if it is being deleted.
    pub deletion: Option<Deletion>,
    /// The first finalizer that keeps it.
    pub finalizer: Option<Box<str>>,
    /// Karpenter leaves it alone.
    pub do_not_disrupt: Option<DoNotDisrupt>,
    /// What Cluster API does with it.
    pub drain: DrainLabel,
    /// An operator moves it when its node is drained.
    pub operator: Option<Operator>,
    /// It has an `emptyDir`: data that is deleted with it.
    pub has_empty_dir: bool,
    /// Which taints of drains it tolerates.
    pub tolerates: Tolerates,
}

/// Taints of drains that a pod tolerates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tolerates {
    /// It stays on a node that Karpenter disrupts.
    pub disruption: bool,
    /// It may be scheduled to a cordoned node.
    pub cordon: bool,
}

/// What made a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Controller {
    /// Its kind.
    pub kind: Arc<str>,
    /// Its name.
    pub name: Arc<str>,
}

/// How far a pod is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// It has not started.
    Pending,
    /// It runs.
    Running,
    /// It has succeeded or failed.
    Finished,
}

/// The deletion of a pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deletion {
    /// `deletionTimestamp`: when its grace ends.
    pub ends: Timestamp,
    /// `deletionGracePeriodSeconds` is 0: the kubelet is done with it.
    pub is_done: bool,
}

/// The mark `karpenter.sh/do-not-disrupt`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DoNotDisrupt {
    /// For ever.
    Always,
    /// Until then.
    Until(Timestamp),
}

/// The label `cluster.x-k8s.io/drain`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DrainLabel {
    /// It is evicted.
    #[default]
    Evict,
    /// It stays.
    Skip,
    /// It is left to finish.
    WaitCompleted,
}

/// An operator that moves a pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operator {
    /// KubeVirt migrates the virtual machine.
    KubeVirt,
    /// Strimzi restarts the broker elsewhere.
    Strimzi,
    /// CloudNativePG makes another instance the primary.
    CloudNativePg,
}

impl Pod {
    /// Kind and name of what made it, or of itself.
    #[must_use]
    pub fn object(&self) -> (Arc<str>, Arc<str>) {
        match &self.controller {
            Some(Controller { kind, name }) => (Arc::clone(kind), Arc::clone(name)),
            None => ("Pod".into(), (*self.name).into()),
        }
    }

    /// Whether a DaemonSet made it.
    #[must_use]
    pub fn is_of_daemon_set(&self) -> bool {
        let controller = self.controller.as_ref();
        controller.is_some_and(|controller| &*controller.kind == "DaemonSet")
    }
}

#[derive(Deserialize)]
struct Raw {
    metadata: RawMetadata,
    spec: RawSpec,
    #[serde(default)]
    status: RawStatus,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawMetadata {
    owner_references: Option<Vec<RawOwner>>,
    deletion_grace_period_seconds: Option<i64>,
    finalizers: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct RawOwner {
    kind: String,
    name: String,
    controller: Option<bool>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawSpec {
    node_name: Option<String>,
    volumes: Option<Vec<RawVolume>>,
    tolerations: Option<Vec<RawToleration>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawVolume {
    empty_dir: Option<IgnoredAny>,
}

#[derive(Deserialize)]
struct RawToleration {
    key: Option<String>,
    operator: Option<String>,
    effect: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct RawStatus {
    phase: Option<String>,
    start_time: Option<String>,
    conditions: Option<Vec<RawCondition>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawCondition {
    #[serde(rename = "type")]
    type_: String,
    status: String,
    last_transition_time: Option<String>,
}

impl RawToleration {
    /// Whether it tolerates a taint of this key with the effect `NoSchedule`.
    fn covers(&self, key: &str) -> bool {
        let own = self.key.as_deref().unwrap_or_default();
        let effect = self.effect.as_deref().unwrap_or_default();
        let is_key = if own.is_empty() {
            self.operator.as_deref() == Some("Exists")
        } else {
            own == key
        };
        is_key && matches!(effect, "" | "NoSchedule")
    }
}

impl Raw {
    fn controller(&self) -> Option<Controller> {
        let mut owners = self.metadata.owner_references.iter().flatten();
        let owner = owners.find(|owner| owner.controller == Some(true))?;
        Some(Controller {
            kind: common(&owner.kind),
            name: common(&owner.name),
        })
    }

    fn stage(&self) -> Stage {
        match self.status.phase.as_deref() {
            Some("Succeeded" | "Failed") => Stage::Finished,
            Some("Running" | "Unknown") => Stage::Running,
            Some(_) | None => Stage::Pending,
        }
    }

    /// Whether it is ready, and since when.
    fn readiness(&self) -> (bool, Option<Timestamp>) {
        let mut conditions = self.status.conditions.iter().flatten();
        let ready = conditions.find(|condition| condition.type_ == "Ready");
        let since = ready.and_then(|ready| ready.last_transition_time.as_deref());
        (
            ready.is_some_and(|ready| ready.status == "True"),
            since.and_then(|since| since.parse().ok()),
        )
    }

    fn has_empty_dir(&self) -> bool {
        let mut volumes = self.spec.volumes.iter().flatten();
        volumes.any(|volume| volume.empty_dir.is_some())
    }

    fn tolerates(&self, key: &str) -> bool {
        let mut tolerations = self.spec.tolerations.iter().flatten();
        tolerations.any(|toleration| toleration.covers(key))
    }

    /// The mark for Karpenter; a duration counts from the start of the pod.
    fn do_not_disrupt(&self, mark: &str) -> Option<DoNotDisrupt> {
        if mark == "true" {
            return Some(DoNotDisrupt::Always);
        }
        let duration: jiff::SignedDuration = mark.parse().ok()?;
        let started: Timestamp = self.status.start_time.as_deref()?.parse().ok()?;
        Some(DoNotDisrupt::Until(started.checked_add(duration).ok()?))
    }
}

fn operator(labels: &BTreeMap<String, String>, object: &Object<'_>) -> Option<Operator> {
    let is = |key: &str, value: &str| labels.get(key).is_some_and(|found| found == value);
    if is("kubevirt.io", "virt-launcher") {
        Some(Operator::KubeVirt)
    } else if object.meta.annotation("strimzi.io/manual-rolling-update") == Some("true") {
        Some(Operator::Strimzi)
    } else if labels.contains_key("cnpg.io/cluster") && is("cnpg.io/instanceRole", "primary") {
        Some(Operator::CloudNativePg)
    } else {
        None
    }
}

impl Fact for Pod {
    const KIND: KindSpec = KindSpec::new("", &["v1"], "Pod", "pods")
        .namespaced()
        .select(Select::OnNode)
        .need(Need::Optional);

    fn parse(object: &Object<'_>) -> Parsed<Self> {
        let raw: Raw = match object.read() {
            Ok(raw) => raw,
            Err(error) => return Parsed::Unreadable(error),
        };
        let meta = object.meta;
        let Some(node) = raw.spec.node_name.as_deref() else {
            return Parsed::Ignored;
        };
        if meta.annotation(MIRROR).is_some() {
            return Parsed::Ignored;
        }
        let nothing = BTreeMap::new();
        let labels = meta.labels.as_ref().unwrap_or(&nothing);
        let finalizers = raw.metadata.finalizers.as_deref().unwrap_or_default();
        let ends = meta.deletion_timestamp.as_deref();
        let (is_ready, ready_since) = raw.readiness();
        Parsed::Fact(Self {
            node: common(node),
            namespace: common(meta.namespace.as_deref().unwrap_or_default()),
            name: meta.name.as_str().into(),
            controller: raw.controller(),
            labels: common_labels(&Labels::new(
                labels.iter().map(|(key, value)| (&**key, &**value)),
            )),
            stage: raw.stage(),
            is_ready,
            unready_since: ready_since.filter(|_| !is_ready),
            created: meta.created(),
            deletion: ends.and_then(|ends| {
                Some(Deletion {
                    ends: ends.parse().ok()?,
                    is_done: raw.metadata.deletion_grace_period_seconds == Some(0),
                })
            }),
            finalizer: finalizers.first().map(|name| name.as_str().into()),
            do_not_disrupt: meta
                .annotation(DO_NOT_DISRUPT)
                .and_then(|mark| raw.do_not_disrupt(mark)),
            drain: match meta.label(CLUSTER_API_DRAIN) {
                Some("skip") => DrainLabel::Skip,
                Some("wait-completed") => DrainLabel::WaitCompleted,
                Some(_) | None => DrainLabel::Evict,
            },
            operator: operator(labels, object),
            has_empty_dir: raw.has_empty_dir(),
            tolerates: Tolerates {
                disruption: raw.tolerates("karpenter.sh/disrupted"),
                cordon: raw.tolerates("node.kubernetes.io/unschedulable"),
            },
        })
    }

    fn index(&self, keys: &mut Keys) {
        keys.add(ON_NODE, &self.node);
    }
}

/// Whether pods that a drain moves away are leaving a node; `false` until its pods are known.
///
/// # Errors
/// When pods cannot be read.
pub fn are_leaving(node: &str, view: &View<'_>) -> Result<bool, Unavailable> {
    if !view.serves::<Pod>() {
        return Ok(false);
    }
    let pods = view.on_node::<Pod>(node)?;
    let is_leaving = |pod: &&Pod| {
        pod.deletion.is_some() && pod.stage != Stage::Finished && !pod.is_of_daemon_set()
    };
    Ok(pods.iter().flatten().any(is_leaving))
}
