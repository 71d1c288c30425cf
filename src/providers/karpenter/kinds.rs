//! The kinds of Karpenter, with the fields that matter.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;

use super::budget::Budget;
use super::evidence::DO_NOT_DISRUPT;
use crate::api::types::ConditionStatus;
use crate::domain::fact::{Fact, Keys, KindSpec, Meta, Need, Object, Parsed};
use crate::domain::pool::Owner;
use crate::domain::text;
use crate::providers::condition::RawCondition;

/// API group of NodePools and NodeClaims.
pub const GROUP: &str = "karpenter.sh";
/// Index of NodeClaims and Nodes by their machine.
pub const PROVIDER_ID: &str = "providerID";
/// Longest version or name that is stored.
const NAME_LIMIT: usize = 253;

/// A NodeClaim: one machine, from its request to its termination.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeClaim {
    /// `status.providerID`; empty before the machine is launched.
    pub provider_id: Box<str>,
    /// When it was created.
    pub created: Option<Timestamp>,
    /// Since when it is being deleted.
    pub deleting: Option<Timestamp>,
    /// `spec.nodeClassRef`.
    pub node_class: Option<NodeClassRef>,
    /// `spec.expireAfter`, where it expires.
    pub expire_after: Option<SignedDuration>,
    /// `spec.terminationGracePeriod` is set.
    pub has_grace_period: bool,
    /// Deadline for the eviction of its pods.
    pub deadline: Option<Timestamp>,
    /// The annotation that keeps Karpenter from disrupting it.
    pub do_not_disrupt: bool,
    /// Its conditions.
    pub conditions: ClaimConditions,
}

/// The conditions of a NodeClaim that matter.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClaimConditions {
    /// The Node has joined the cluster.
    pub registered: Option<Signal>,
    /// The Node takes pods.
    pub initialized: Option<Signal>,
    /// The node differs from its NodePool or node class; present only while it does.
    pub drifted: Option<Signal>,
    /// Karpenter is disrupting the node, and why.
    pub disruption_reason: Option<Signal>,
    /// Its pods are gone.
    pub drained: Option<Signal>,
    /// Its volumes are detached.
    pub volumes_detached: Option<Signal>,
    /// The machine is being terminated.
    pub instance_terminating: Option<Signal>,
}

/// A condition: its status, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signal {
    /// The status.
    pub status: ConditionStatus,
    /// The reason.
    pub reason: Box<str>,
}

impl Signal {
    /// Whether the condition exists and is True.
    #[must_use]
    pub fn is_true(signal: Option<&Self>) -> bool {
        signal.is_some_and(|signal| signal.status == ConditionStatus::True)
    }
}

/// The node class of the machine.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct NodeClassRef {
    /// Its kind, as `EC2NodeClass`.
    #[serde(default)]
    pub kind: Box<str>,
    /// Its name.
    #[serde(default)]
    pub name: Box<str>,
}

#[derive(Deserialize)]
struct ClaimObject {
    #[serde(default)]
    spec: ClaimSpec,
    #[serde(default)]
    status: ClaimStatus,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct ClaimSpec {
    node_class_ref: Option<NodeClassRef>,
    expire_after: Option<String>,
    termination_grace_period: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct ClaimStatus {
    #[serde(rename = "providerID")]
    provider_id: Option<String>,
    conditions: Option<Vec<RawCondition>>,
}

impl NodeClaim {
    /// Plural name of the kind.
    pub const PLURAL: &'static str = "nodeclaims";
}

impl Fact for NodeClaim {
    const KIND: KindSpec =
        KindSpec::new(GROUP, &["v1", "v1beta1"], "NodeClaim", Self::PLURAL).need(Need::Optional);

    fn parse(object: &Object<'_>) -> Parsed<Self> {
        let claim = match object.read::<ClaimObject>() {
            Ok(claim) => claim,
            Err(error) => return Parsed::Unreadable(error),
        };
        let meta = object.meta;
        let (annotation, value) = DO_NOT_DISRUPT;
        let deadline = meta.annotation("karpenter.sh/nodeclaim-termination-timestamp");
        Parsed::Fact(Self {
            provider_id: claim.status.provider_id.unwrap_or_default().into(),
            created: meta.created(),
            deleting: moment(meta.deletion_timestamp.as_deref()),
            node_class: claim.spec.node_class_ref,
            // "Never" cannot be parsed as a duration.
            expire_after: claim.spec.expire_after.and_then(|text| text.parse().ok()),
            has_grace_period: claim.spec.termination_grace_period.is_some(),
            deadline: moment(deadline),
            do_not_disrupt: meta.annotation(annotation) == Some(value),
            conditions: ClaimConditions::of(claim.status.conditions.unwrap_or_default()),
        })
    }

    fn index(&self, keys: &mut Keys) {
        if !self.provider_id.is_empty() {
            keys.add(PROVIDER_ID, &self.provider_id);
        }
    }
}

fn moment(text: Option<&str>) -> Option<Timestamp> {
    text?.parse().ok()
}

impl ClaimConditions {
    fn of(raw: Vec<RawCondition>) -> Self {
        let mut conditions = Self::default();
        for condition in raw {
            let slot = match condition.type_() {
                "Registered" => &mut conditions.registered,
                "Initialized" => &mut conditions.initialized,
                "Drifted" => &mut conditions.drifted,
                "DisruptionReason" => &mut conditions.disruption_reason,
                "Drained" => &mut conditions.drained,
                "VolumesDetached" => &mut conditions.volumes_detached,
                "InstanceTerminating" => &mut conditions.instance_terminating,
                _ => continue,
            };
            let reason = condition.reason();
            *slot = Some(Signal {
                status: condition.status(),
                reason: text::word(reason, NAME_LIMIT).unwrap_or_default().into(),
            });
        }
        conditions
    }
}

/// A NodePool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodePool {
    /// Its name.
    pub name: Arc<str>,
    /// Its UID.
    pub uid: Arc<str>,
    /// How many of its nodes may be disrupted at once, and when.
    pub budgets: Vec<Budget>,
    /// The node class of its machines.
    pub node_class: Option<NodeClassRef>,
    /// Why it cannot create machines, one line each.
    pub problems: Vec<Box<str>>,
}

impl NodePool {
    /// The owner of the pool's insight.
    #[must_use]
    pub fn owner(&self) -> Owner {
        Owner {
            api_version: format!("{GROUP}/v1").into(),
            kind: Self::KIND.kind.into(),
            name: (*self.name).into(),
            uid: Arc::clone(&self.uid),
        }
    }
}

#[derive(Deserialize)]
struct PoolObject {
    #[serde(default)]
    spec: PoolSpec,
    #[serde(default)]
    status: PoolStatus,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct PoolSpec {
    disruption: Option<Disruption>,
    template: Option<Template>,
}

#[derive(Deserialize)]
struct Disruption {
    #[serde(default)]
    budgets: Option<Vec<Budget>>,
}

#[derive(Deserialize)]
struct Template {
    #[serde(default)]
    spec: Option<ClaimSpec>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct PoolStatus {
    conditions: Option<Vec<RawCondition>>,
}

impl Fact for NodePool {
    const KIND: KindSpec =
        KindSpec::new(GROUP, &["v1", "v1beta1"], "NodePool", "nodepools").need(Need::Optional);

    fn parse(object: &Object<'_>) -> Parsed<Self> {
        let pool = match object.read::<PoolObject>() {
            Ok(pool) => pool,
            Err(error) => return Parsed::Unreadable(error),
        };
        let Meta { name, uid, .. } = object.meta;
        let conditions = pool.status.conditions.unwrap_or_default();
        let problems = conditions.iter().filter_map(problem).collect();
        let template = pool.spec.template.and_then(|template| template.spec);
        let disruption = pool.spec.disruption;
        let budgets = disruption.and_then(|disruption| disruption.budgets);
        Parsed::Fact(Self {
            name: name.as_str().into(),
            uid: uid.as_str().into(),
            budgets: budgets.unwrap_or_default(),
            node_class: template.and_then(|spec| spec.node_class_ref),
            problems,
        })
    }
}

/// A NodePool replaces nothing while its node class is not ready, or while its machines do not join.
fn problem(condition: &RawCondition) -> Option<Box<str>> {
    let is_about_that = ["NodeClassReady", "NodeRegistrationHealthy"];
    if !is_about_that.contains(&condition.type_()) || !condition.is_false() {
        return None;
    }
    let why = text::summary(condition.message());
    let name = condition.type_();
    Some(if why.is_empty() {
        format!("{name} is False").into()
    } else {
        format!("{name} is False: {why}").into()
    })
}

/// A node class of AKS, once it has a version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AksNodeClass {
    /// The Kubernetes version of its nodes, with a leading `v` as kubelets report it.
    pub version: Arc<str>,
}

#[derive(Deserialize)]
struct ClassObject {
    #[serde(default)]
    status: ClassStatus,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct ClassStatus {
    kubernetes_version: Option<String>,
}

impl Fact for AksNodeClass {
    const KIND: KindSpec = KindSpec::new(
        "karpenter.azure.com",
        &["v1beta1", "v1alpha2"],
        "AKSNodeClass",
        "aksnodeclasses",
    )
    .need(Need::Optional);

    fn parse(object: &Object<'_>) -> Parsed<Self> {
        let class = match object.read::<ClassObject>() {
            Ok(class) => class,
            Err(error) => return Parsed::Unreadable(error),
        };
        let version = class.status.kubernetes_version.unwrap_or_default();
        let version = version.trim_start_matches('v');
        match text::word(version, NAME_LIMIT - 1) {
            Some(version) => Parsed::Fact(Self {
                version: format!("v{version}").into(),
            }),
            None => Parsed::Ignored,
        }
    }
}
