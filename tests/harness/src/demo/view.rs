//! The current tables, and whether the update is complete.

use anyhow::Result;
use kube::core::Request;
use kube::{Client, api::ListParams};
use serde_json::Value;

use super::screen::wrap;
use super::table::Table;

const NODES: &str = "/apis/nodeinsights.dev/v1alpha1/nodeprogressinsights";
const POOLS: &str = "/apis/nodeinsights.dev/v1alpha1/poolprogressinsights";
const COMPLETED: &str = "Completed";

/// The insights as last read.
pub(super) struct View {
    client: Client,
    expected: usize,
    nodes: Table,
    pools: Table,
    held_up: Vec<HeldUp>,
}

/// What holds the drain of a node up, most of all.
struct HeldUp {
    node: String,
    reason: String,
    pods: String,
    message: String,
}

impl View {
    /// A view of a cluster of `expected` nodes, still empty.
    pub(super) fn new(client: Client, expected: usize) -> Self {
        Self {
            client,
            expected,
            nodes: Table::default(),
            pools: Table::default(),
            held_up: Vec::new(),
        }
    }

    /// Reads both tables, and what holds drains up.
    pub(super) async fn refresh(&mut self) -> Result<()> {
        self.nodes = Table::fetch(&self.client, NODES).await?;
        self.pools = Table::fetch(&self.client, POOLS).await?;
        let list = Request::new(NODES).list(&ListParams::default())?;
        let list: Value = self.client.request(list).await?;
        let insights = list["items"].as_array().into_iter().flatten();
        self.held_up = insights.filter_map(HeldUp::of).collect();
        Ok(())
    }

    /// Whether every node has an insight with a phase.
    pub(super) fn is_full(&self) -> bool {
        let phases = self.nodes.cells("Phase");
        self.nodes.len() >= self.expected
            && self.pools.len() > 0
            && phases.iter().all(|phase| !phase.is_empty())
    }

    /// The update ends with so many nodes.
    pub(super) fn expect(&mut self, nodes: usize) {
        self.expected = nodes;
    }

    /// Whether every node and every pool is Completed.
    pub(super) fn is_completed(&self) -> bool {
        // Not more than expected either: the insights of replaced nodes must be gone.
        self.is_full()
            && self.nodes.len() == self.expected
            && self.unfinished_nodes().is_empty()
            && self.unfinished_pools().is_empty()
    }

    /// Whether `pool` is the only one that is not Completed, and is Excluded. The name of a pool insight
    /// may contain more than the name of the pool.
    pub(super) fn waits_only_for(&self, pool: &str) -> bool {
        match &self.unfinished_pools()[..] {
            [(name, assessment)] => {
                name.split('.').any(|part| part == pool) && assessment == "Excluded"
            }
            _ => false,
        }
    }

    /// Describes what is not Completed, for a message.
    pub(super) fn unfinished(&self) -> String {
        let open = self
            .unfinished_pools()
            .into_iter()
            .chain(self.unfinished_nodes());
        let open: Vec<String> = open
            .map(|(name, phase)| format!("{name} is {phase}"))
            .collect();
        if open.is_empty() {
            format!(
                "{} of {} nodes have an insight",
                self.nodes.len(),
                self.expected
            )
        } else {
            open.join(", ")
        }
    }

    /// Whether something is named that holds the drain of a node up.
    pub(super) fn is_held_up(&self, node: &str) -> bool {
        self.held_up.iter().any(|held_up| held_up.node == node)
    }

    /// The cells whose change is worth printing: no ages.
    pub(super) fn fingerprint(&self) -> Vec<String> {
        let columns = [
            self.pools.cells("Name"),
            self.pools.cells("Assessment"),
            self.nodes.cells("Name"),
            self.nodes.cells("Phase"),
            self.held_up.iter().map(|each| each.node.clone()).collect(),
        ];
        columns.concat()
    }

    /// What holds drains up, in lines of this width; none where nothing does.
    pub(super) fn held_up_lines(&self, width: usize) -> Vec<String> {
        let mut lines = Vec::new();
        for HeldUp {
            node,
            reason,
            pods,
            message,
        } in &self.held_up
        {
            lines.push(String::new());
            lines.push(format!("{node} waits for {pods} ({reason}):"));
            lines.extend(wrap(message, "  ", width));
            lines.push(format!(
                "  kubectl get npi {node} -o yaml has it in status.drain"
            ));
        }
        lines
    }

    /// The lines of the pool table.
    pub(super) fn pool_lines(&self) -> Vec<String> {
        self.pools.lines()
    }

    /// The lines of the node table; if more than `rows` nodes would be shown, those being updated come
    /// first.
    pub(super) fn node_lines(&self, rows: usize) -> Vec<String> {
        let mut lines = self.nodes.lines();
        if lines.len() > rows + 1 {
            let is_idle = |phase: &str| matches!(phase, "Pending" | "Paused" | COMPLETED);
            let idle: Vec<bool> = self
                .nodes
                .cells("Phase")
                .iter()
                .map(|phase| is_idle(phase))
                .collect();
            let mut body: Vec<(bool, String)> = idle.into_iter().zip(lines.split_off(1)).collect();
            body.sort_by_key(|(idle, _)| *idle);
            lines.extend(body.into_iter().map(|(_, line)| line));
        }
        lines
    }

    fn unfinished_nodes(&self) -> Vec<(String, String)> {
        unfinished(&self.nodes, "Phase")
    }

    fn unfinished_pools(&self) -> Vec<(String, String)> {
        unfinished(&self.pools, "Assessment")
    }
}

impl HeldUp {
    fn of(insight: &Value) -> Option<Self> {
        let blocker = insight["status"]["drain"]["blockers"].get(0)?;
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let namespace = text(&blocker["namespace"]);
        let pods = blocker["pods"].as_array().into_iter().flatten();
        let pods: Vec<String> = pods
            .map(|pod| format!("pod {namespace}/{}", text(pod)))
            .collect();
        Some(Self {
            node: text(&insight["metadata"]["name"]),
            reason: text(&blocker["reason"]),
            pods: pods.join(", "),
            message: text(&blocker["message"]),
        })
    }
}

fn unfinished(table: &Table, column: &str) -> Vec<(String, String)> {
    let names = table.cells("Name").into_iter();
    let rows = names.zip(table.cells(column));
    rows.filter(|(_, phase)| phase != COMPLETED).collect()
}
