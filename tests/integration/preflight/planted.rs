//! Pods and budgets that hold up drains, or do not. The status of a budget is what the disruption controller would write.

use anyhow::Result;
use futures::{StreamExt, TryStreamExt, stream};
use jiff::{Span, Timestamp};
use k8s_openapi::api::core::v1::Pod as PodObject;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams};
use node_insights_harness::kubernetes::{Cluster, Nodes};
use serde_json::{Value, json};

use crate::support::World;

const NAMESPACE: &str = "default";
/// Pods that are created at once.
const AT_ONCE: usize = 16;

/// A cluster of plain Kubernetes.
pub struct Planted {
    pub world: World,
    pub nodes: Nodes,
    pods: Api<PodObject>,
    budgets: Api<PodDisruptionBudget>,
}

impl Planted {
    /// Pools of two nodes each, with kubelets of this version.
    pub async fn new(world: World, version: &str, pools: &[&str]) -> Result<Self> {
        let mut cluster = Cluster::builder(version).control_plane(0);
        for pool in pools {
            cluster = cluster.pool(pool, 2);
        }
        cluster.build()?.load(&world.client).await?;
        Ok(Self {
            nodes: Nodes::new(world.client.clone()),
            pods: Api::namespaced(world.client.clone(), NAMESPACE),
            budgets: Api::namespaced(world.client.clone(), NAMESPACE),
            world,
        })
    }

    /// A pod on its node, which runs.
    pub async fn pod(&self, pod: &Pod) -> Result<()> {
        let object = serde_json::from_value(pod.object.clone())?;
        self.pods.create(&PostParams::default(), &object).await?;
        let name = pod.object["metadata"]["name"].as_str().unwrap_or_default();
        self.status(name, pod.status.clone()).await
    }

    /// Two pods of a workload, one on each node of pool `blue`.
    pub async fn two(&self, workload: &str) -> Result<()> {
        for place in 0..2 {
            let (name, node) = (format!("{workload}-{place}"), format!("blue-{place}"));
            self.pod(&Pod::new(workload, &name, &node)).await?;
        }
        Ok(())
    }

    /// Pods without a controller that have not started.
    pub async fn many(&self, count: usize, node: &str) -> Result<()> {
        stream::iter(0..count)
            .map(async |place| {
                let pod = Pod::new("many", &format!("many-{place}"), node).bare();
                let object = serde_json::from_value(pod.object)?;
                self.pods.create(&PostParams::default(), &object).await?;
                anyhow::Ok(())
            })
            .buffer_unordered(AT_ONCE)
            .try_collect()
            .await
    }

    /// Changes the status of a pod.
    pub async fn status(&self, pod: &str, status: Value) -> Result<()> {
        let patch = Patch::Merge(json!({"status": status}));
        self.pods
            .patch_status(pod, &PatchParams::default(), &patch)
            .await?;
        Ok(())
    }

    /// Deletes a pod, with so many seconds to end.
    pub async fn delete(&self, pod: &str, grace: u32) -> Result<()> {
        let params = DeleteParams::default().grace_period(grace);
        self.pods.delete(pod, &params).await?;
        Ok(())
    }

    /// A budget with its status.
    pub async fn budget(&self, budget: &Budget) -> Result<()> {
        let Budget {
            name,
            workload,
            status,
        } = budget;
        let object = json!({
            "apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": name},
            "spec": {"maxUnavailable": 1, "selector": {"matchLabels": {"app": workload}}},
        });
        let object = serde_json::from_value(object)?;
        self.budgets.create(&PostParams::default(), &object).await?;
        let patch = Patch::Merge(json!({"status": status}));
        self.budgets
            .patch_status(name, &PatchParams::default(), &patch)
            .await?;
        Ok(())
    }
}

/// A pod to be created.
pub struct Pod {
    object: Value,
    status: Value,
}

impl Pod {
    /// A ready pod of a ReplicaSet on a node.
    pub fn new(workload: &str, name: &str, node: &str) -> Self {
        let owner = json!({
            "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": workload, "uid": workload,
            "controller": true,
        });
        let object = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {
                "name": name, "labels": {"app": workload}, "annotations": {},
                "ownerReferences": [owner],
            },
            "spec": {
                "nodeName": node, "automountServiceAccountToken": false,
                "containers": [{"name": "main", "image": "registry.example.com/main"}],
            },
        });
        let status = status("True", Timestamp::now());
        Self { object, status }
    }

    pub fn bare(mut self) -> Self {
        self.object["metadata"]["ownerReferences"] = json!([]);
        self
    }

    /// The same with another kind of controller.
    pub fn of(mut self, kind: &str) -> Self {
        self.object["metadata"]["ownerReferences"][0]["kind"] = kind.into();
        self
    }

    pub fn annotation(mut self, key: &str, value: &str) -> Self {
        self.object["metadata"]["annotations"][key] = value.into();
        self
    }

    pub fn finalizer(mut self, finalizer: &str) -> Self {
        self.object["metadata"]["finalizers"] = json!([finalizer]);
        self
    }

    /// The same with another field in its spec.
    pub fn spec(mut self, field: &str, value: Value) -> Self {
        self.object["spec"][field] = value;
        self
    }

    /// The same, not ready since that long, as in `-10m`.
    pub fn unready(mut self, since: &str) -> Self {
        let ago: Span = since.parse().unwrap();
        self.status = status("False", Timestamp::now().checked_add(ago).unwrap());
        self
    }
}

fn status(ready: &str, since: Timestamp) -> Value {
    let condition = json!({
        "type": "Ready", "status": ready, "lastTransitionTime": format!("{since:.0}"),
    });
    json!({"phase": "Running", "conditions": [condition]})
}

/// A budget to be created.
pub struct Budget {
    name: String,
    workload: String,
    status: Value,
}

impl Budget {
    /// The budget of a workload that needs `desired` of `expected` pods, of which `current` are healthy.
    pub fn new(workload: &str, expected: i32, desired: i32, current: i32) -> Self {
        let allowed = if expected > 0 {
            (current - desired).max(0)
        } else {
            0
        };
        Self {
            name: workload.to_owned(),
            workload: workload.to_owned(),
            status: json!({
                "observedGeneration": 1, "expectedPods": expected, "desiredHealthy": desired,
                "currentHealthy": current, "disruptionsAllowed": allowed,
            }),
        }
    }

    /// The same for the pods of another workload.
    pub fn covering(mut self, workload: &str) -> Self {
        workload.clone_into(&mut self.workload);
        self
    }

    /// The same, which the disruption controller has not seen.
    pub fn unseen(mut self) -> Self {
        self.status["observedGeneration"] = 0.into();
        self
    }

    /// The same, which the disruption controller cannot calculate.
    pub fn failing(mut self, why: &str) -> Self {
        self.status["conditions"] = json!([{
            "type": "DisruptionAllowed", "status": "False", "reason": "SyncFailed", "message": why,
            "lastTransitionTime": format!("{:.0}", Timestamp::now()), "observedGeneration": 1,
        }]);
        self
    }
}
