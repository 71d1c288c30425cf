//! Both tables as they stand, and whether the update is over.

use anyhow::Result;
use kube::Client;

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
}

impl View {
    /// A view of a cluster of `expected` nodes; nothing is read yet.
    pub(super) fn new(client: Client, expected: usize) -> Self {
        Self {
            client,
            expected,
            nodes: Table::default(),
            pools: Table::default(),
        }
    }

    /// Reads both tables.
    pub(super) async fn refresh(&mut self) -> Result<()> {
        self.nodes = Table::fetch(&self.client, NODES).await?;
        self.pools = Table::fetch(&self.client, POOLS).await?;
        Ok(())
    }

    /// Whether every node has an insight, and with a phase.
    pub(super) fn is_full(&self) -> bool {
        let phases = self.nodes.cells("Phase");
        self.nodes.len() >= self.expected
            && self.pools.len() > 0
            && phases.iter().all(|phase| !phase.is_empty())
    }

    /// Whether every node and every pool is Completed.
    pub(super) fn is_completed(&self) -> bool {
        // Not more either: insights of replaced nodes are gone.
        self.is_full()
            && self.nodes.len() == self.expected
            && self.open_nodes().is_empty()
            && self.open_pools().is_empty()
    }

    /// Whether `pool` is the one that is not Completed, and is shown as left out. Insights of pools
    /// may be named after more than the pool.
    pub(super) fn waits_only_for(&self, pool: &str) -> bool {
        match &self.open_pools()[..] {
            [(name, assessment)] => {
                name.split('.').any(|part| part == pool) && assessment == "Excluded"
            }
            _ => false,
        }
    }

    /// What is not Completed, for a message.
    pub(super) fn unfinished(&self) -> String {
        let open = self.open_pools().into_iter().chain(self.open_nodes());
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

    /// What changes when the tables change in a way worth printing: no ages.
    pub(super) fn fingerprint(&self) -> Vec<String> {
        let columns = [
            self.pools.cells("Name"),
            self.pools.cells("Assessment"),
            self.nodes.cells("Name"),
            self.nodes.cells("Phase"),
        ];
        columns.concat()
    }

    /// The lines of the pools' table.
    pub(super) fn pool_lines(&self) -> Vec<String> {
        self.pools.lines()
    }

    /// The lines of the nodes' table; when no more than `rows` nodes fit, those that are being updated
    /// come first.
    pub(super) fn node_lines(&self, rows: usize) -> Vec<String> {
        let mut lines = self.nodes.lines();
        if lines.len() > rows + 1 {
            let calm = |phase: &str| matches!(phase, "Pending" | "Paused" | COMPLETED);
            let calm: Vec<bool> = self
                .nodes
                .cells("Phase")
                .iter()
                .map(|phase| calm(phase))
                .collect();
            let mut body: Vec<(bool, String)> = calm.into_iter().zip(lines.split_off(1)).collect();
            body.sort_by_key(|(calm, _)| *calm);
            lines.extend(body.into_iter().map(|(_, line)| line));
        }
        lines
    }

    fn open_nodes(&self) -> Vec<(String, String)> {
        open(&self.nodes, "Phase")
    }

    fn open_pools(&self) -> Vec<(String, String)> {
        open(&self.pools, "Assessment")
    }
}

fn open(table: &Table, column: &str) -> Vec<(String, String)> {
    let names = table.cells("Name").into_iter();
    let rows = names.zip(table.cells(column));
    rows.filter(|(_, phase)| phase != COMPLETED).collect()
}
