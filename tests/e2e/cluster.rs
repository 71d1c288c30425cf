//! The cluster of these tests: a control plane and two nodes.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use node_insights_harness::openshift::Editor;
use node_insights_harness::{ControlPlane, eventually};
use serde_json::Value;

use crate::helm::{Helm, Major, NAME};
use crate::node::{CONTROL_PLANE, Kubelet, Node};
use crate::support::{SOON, World};

/// How long kubectl waits for what usually takes seconds.
pub const READY: &str = "--timeout=60s";

/// The names of the nodes.
pub const FIRST: &str = "control-plane-1";
pub const SECOND: &str = "worker-1";

/// RBAC for kube-router.
const SETUP: &str = "
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: kube-router}
rules:
  - {apiGroups: [''], resources: [namespaces, pods, services, nodes, endpoints], verbs: [get, list, watch]}
  - {apiGroups: [networking.k8s.io], resources: [networkpolicies], verbs: [get, list, watch]}
  - {apiGroups: [discovery.k8s.io], resources: [endpointslices], verbs: [get, list, watch]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: kube-router}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: kube-router}
subjects: [{apiGroup: rbac.authorization.k8s.io, kind: User, name: kube-router}]
";

/// The cluster.
pub struct Cluster {
    // Dropped before the control plane: nodes are switched off first.
    first: Node,
    pub second: Node,
    pub helm: Helm,
    pub world: World,
}

/// A pod of the operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replica {
    pub name: String,
    pub node: String,
    pub restarts: u64,
}

impl Cluster {
    /// Starts the control plane and both nodes, the second one with an older kubelet, and waits until they are ready.
    pub async fn start() -> Result<Self> {
        let plane = ControlPlane::builder().nodes(CONTROL_PLANE).start().await?;
        plane.apply_yaml(SETUP).await?;
        let mut first = Node::new(&plane, FIRST, 2).await?;
        let mut second = Node::new(&plane, SECOND, 3).await?;
        first.boot(Kubelet::Current).await?;
        second.boot(Kubelet::AsOlder).await?;
        let client = plane.client();
        let world = World {
            editor: Editor::new(&client),
            client,
            plane,
        };
        let helm = Helm::of(Major::Four, &world.plane)?;
        let cluster = Self {
            first,
            second,
            helm,
            world,
        };
        cluster.is_ready(FIRST).await?;
        cluster.is_ready(SECOND).await?;
        let role = "node-role.kubernetes.io/control-plane=";
        cluster.kubectl(&["label", "node", FIRST, role]).await?;
        let taint = "node-role.kubernetes.io/control-plane:NoSchedule";
        cluster.kubectl(&["taint", "node", FIRST, taint]).await?;
        Ok(cluster)
    }

    /// kubectl, as the cluster admin.
    pub async fn kubectl(&self, args: &[&str]) -> Result<String> {
        self.world.plane.kubectl(args).await
    }

    /// The output of `kubectl get` as JSON.
    pub async fn get(&self, args: &[&str]) -> Result<Value> {
        let mut all = vec!["get", "-o", "json"];
        all.extend(args);
        Ok(serde_json::from_str(&self.kubectl(&all).await?)?)
    }

    /// Waits until a node is Ready.
    pub async fn is_ready(&self, node: &str) -> Result<()> {
        let what = format!("{node} is Ready");
        eventually(&what, SOON, async || {
            let node = self.get(&["node", node]).await?;
            let conditions = node["status"]["conditions"].as_array().cloned();
            let ready = conditions
                .into_iter()
                .flatten()
                .find(|condition| condition["type"] == "Ready")
                .context("no Ready condition")?;
            ensure!(ready["status"] == "True", "{ready}");
            Ok(Some(()))
        })
        .await
    }

    /// The operator's pods that are not being deleted.
    pub async fn replicas(&self) -> Result<Vec<Replica>> {
        let labels = "app.kubernetes.io/name=node-insights,app.kubernetes.io/component=operator";
        let pods = self.get(&["pods", "-n", NAME, "-l", labels]).await?;
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        Ok(pods["items"]
            .as_array()
            .into_iter()
            .flatten()
            .filter(|pod| pod["metadata"]["deletionTimestamp"].is_null())
            .map(|pod| Replica {
                name: text(&pod["metadata"]["name"]),
                node: text(&pod["spec"]["nodeName"]),
                restarts: pod["status"]["containerStatuses"][0]["restartCount"]
                    .as_u64()
                    .unwrap_or_default(),
            })
            .collect())
    }

    /// The node of this name.
    pub fn node(&mut self, name: &str) -> &mut Node {
        if name == FIRST {
            &mut self.first
        } else {
            &mut self.second
        }
    }

    /// Checks that there are two replicas on different nodes that were never restarted.
    pub async fn is_spread(&self) -> Result<()> {
        let replicas = self.replicas().await?;
        let by_node: BTreeMap<&str, &Replica> = replicas
            .iter()
            .map(|replica| (replica.node.as_str(), replica))
            .collect();
        ensure!(
            replicas.len() == 2 && by_node.contains_key(FIRST) && by_node.contains_key(SECOND),
            "not one replica on each node: {replicas:?}"
        );
        ensure!(
            replicas.iter().all(|replica| replica.restarts == 0),
            "restarted: {replicas:?}"
        );
        Ok(())
    }

    /// Waits until both replicas of the operator are ready.
    pub async fn rolled_out(&self) -> Result<()> {
        let args = ["rollout", "status", "-n", NAME, "deployment/node-insights"];
        self.kubectl(&[&args[..], &["--timeout=120s"]].concat())
            .await
            .map(drop)
    }

    /// The replica that holds the lease.
    pub async fn leader(&self) -> Result<Option<Replica>> {
        let lease = self.get(&["lease", "-n", NAME, NAME]).await?;
        let holder = lease["spec"]["holderIdentity"].as_str().unwrap_or_default();
        let replicas = self.replicas().await?;
        Ok(replicas
            .into_iter()
            .find(|replica| holder.starts_with(&replica.name)))
    }

    /// Waits until a replica that is not `former` leads, at most `within`.
    pub async fn another_leads(&self, former: &str, within: Duration) -> Result<Replica> {
        eventually("another replica leads", within, async || {
            let leader = self.leader().await?;
            Ok(leader.filter(|leader| leader.name != former))
        })
        .await
    }

    /// Prints what to look at first after a failed step.
    pub async fn describe(&self) {
        let logs =
            "logs -n node-insights -l app.kubernetes.io/name=node-insights --prefix --tail=30";
        for command in [
            "get nodes -o wide",
            "get pods -A -o wide",
            "get npi,ppi -o wide",
            "get lease -n node-insights",
            "get events -A --sort-by=.lastTimestamp",
            logs,
        ] {
            let args: Vec<&str> = command.split(' ').collect();
            let output = match self.kubectl(&args).await {
                Ok(output) => output,
                Err(error) => format!("{error:#}"),
            };
            eprintln!("\n$ kubectl {command}\n{output}");
        }
    }
}
