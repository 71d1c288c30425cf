//! What users configure for all providers.

use std::sync::Arc;

use super::Options;
use crate::domain::availability::runs_control_plane;
use crate::domain::facts::View;
use crate::domain::labels::Labels;
use crate::domain::pool::PoolId;
use crate::domain::pool_name::LabelKey;

/// Labels that name a node's pool, in order of precedence. Source: the documentation of each vendor.
pub const WELL_KNOWN_POOL_LABELS: [&str; 10] = [
    "eks.amazonaws.com/nodegroup",
    "karpenter.sh/nodepool",
    "cloud.google.com/gke-nodepool",
    "kubernetes.azure.com/agentpool",
    "kops.k8s.io/instancegroup",
    "worker.gardener.cloud/pool",
    "alpha.eksctl.io/nodegroup-name",
    "doks.digitalocean.com/node-pool",
    "k8s.scaleway.com/pool-name",
    "lke.linode.com/pool-id",
];

const ROLE_PREFIX: &str = "node-role.kubernetes.io/";

/// What users configure for all providers.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Labels that name a pool; the first that a node has names its pool.
    pub pool_labels: Vec<LabelKey>,
    /// The desired version of every node whose provider does not report one.
    pub target_version: Option<Arc<str>>,
    /// Labels of providers, which name the pools of their nodes that have none of the labels above.
    own_labels: Vec<LabelKey>,
}

impl Settings {
    /// The settings of these options.
    #[must_use]
    pub fn new(options: &Options) -> Self {
        let pool_labels = LabelKey::all(&options.pool_label_keys);
        // All together, so that pools of labels with the same name have different names.
        let well_known = WELL_KNOWN_POOL_LABELS.map(str::to_owned);
        let keys: Vec<String> = [&options.pool_label_keys[..], &well_known].concat();
        Self {
            pool_labels,
            target_version: options.target_version.as_deref().map(Arc::from),
            own_labels: LabelKey::all(&keys),
        }
    }

    /// The pool of a node: its first pool label, else its role.
    #[must_use]
    pub fn pool(&self, labels: &Labels, view: &View<'_>) -> PoolId {
        by_label(self.keys(view).iter(), labels).unwrap_or_else(|| PoolId::role(role(labels)))
    }

    /// The pool of a node whose provider names pools by the label `own`: its first pool label, else that one, else its
    /// role.
    #[must_use]
    pub fn pool_of_provider(&self, labels: &Labels, own: &str, view: &View<'_>) -> PoolId {
        let own = self.own_labels.iter().filter(|key| key.as_str() == own);
        by_label(self.keys(view).iter().chain(own), labels)
            .unwrap_or_else(|| PoolId::role(role(labels)))
    }

    /// The labels that name a pool, those of the policy first.
    fn keys<'a>(&'a self, view: &View<'a>) -> &'a [LabelKey] {
        view.policy().pool_labels().unwrap_or(&self.pool_labels)
    }
}

fn by_label<'a>(mut keys: impl Iterator<Item = &'a LabelKey>, labels: &Labels) -> Option<PoolId> {
    keys.find_map(|key| {
        let value = labels.get(key.as_str()).filter(|value| !value.is_empty())?;
        Some(PoolId::label(key, value))
    })
}

/// The role that groups nodes without a pool label: control plane, else the first role by name except `worker`, else
/// `worker`.
fn role(labels: &Labels) -> &str {
    if runs_control_plane(labels) {
        return "control-plane";
    }
    labels
        .iter()
        .filter_map(|(key, _)| key.strip_prefix(ROLE_PREFIX))
        .filter(|role| !role.is_empty() && *role != "worker")
        .min()
        .unwrap_or("worker")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::fixtures::node;
    use crate::domain::policy::Policy;
    use crate::providers::fixtures::FactTable;

    #[test]
    fn labels_of_the_policy_come_first_and_never_share_names_with_the_others() {
        const OURS: &str = "example.com/nodegroup";
        const GROUP: &str = "eks.amazonaws.com/nodegroup";
        let settings = Settings::new(&Options::default());
        let policy = Policy::parse(
            "poolLabels: [example.com/nodegroup]",
            &[],
            &WELL_KNOWN_POOL_LABELS,
        );
        let mut table = FactTable::new(&[]);
        table.facts.set_policy(Arc::new(policy.unwrap()));
        let view = table.facts.view();
        let both = node("n").label(OURS, "ours").label(GROUP, "theirs").build();
        let pool = settings.pool_of_provider(&both.labels, GROUP, &view);
        assert_eq!(&*pool.name, "ours.nodegroup.example.com");
        let only = node("n").label(GROUP, "ours").build();
        let other = settings.pool_of_provider(&only.labels, GROUP, &view);
        assert_ne!(other.name, pool.name);
        // Without the provider's own label, a label that the user did not list names no pool.
        assert_eq!(&*settings.pool(&only.labels, &view).name, "worker");
    }
}
