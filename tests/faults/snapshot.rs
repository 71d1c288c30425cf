//! All insights at one moment, to be compared with a later moment.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use anyhow::{Result, ensure};
use node_insights::api::{Insight, NodeProgressInsight, PoolProgressInsight};
use serde::Serialize;

use crate::support::World;

/// All insights, of nodes and of pools.
pub struct Snapshot {
    pub nodes: BTreeMap<String, NodeProgressInsight>,
    pub pools: BTreeMap<String, PoolProgressInsight>,
}

impl Snapshot {
    pub async fn of(world: &World) -> Result<Self> {
        Ok(Self {
            nodes: world.node_insights().await?,
            pools: world.pool_insights().await?,
        })
    }

    /// Fails unless every insight is identical, including its resource version.
    pub fn is_the_same(&self, later: &Self) -> Result<()> {
        let difference = self.difference(later);
        ensure!(
            difference.is_empty(),
            "insights have changed:\n{difference}"
        );
        Ok(())
    }

    /// Fails if an insight was deleted or recreated, or if one that is not in `touched` was written.
    pub fn is_preserved(&self, later: &Self, touched: &[&str]) -> Result<()> {
        preserved(&self.nodes, &later.nodes, touched)?;
        preserved(&self.pools, &later.pools, touched)
    }

    /// The insights that differ, in full.
    pub fn difference(&self, later: &Self) -> String {
        let mut text = String::new();
        differ(&mut text, &self.nodes, &later.nodes);
        differ(&mut text, &self.pools, &later.pools);
        text
    }
}

fn preserved<S>(
    before: &BTreeMap<String, Insight<S>>,
    after: &BTreeMap<String, Insight<S>>,
    touched: &[&str],
) -> Result<()> {
    for (name, old) in before {
        let new = after.get(name);
        let new = new.map(|new| &new.metadata);
        let is_same = new.is_some_and(|new| new.uid == old.metadata.uid);
        ensure!(is_same, "the insight {name} was deleted or recreated");
        let is_written =
            new.is_some_and(|new| new.resource_version != old.metadata.resource_version);
        ensure!(
            !is_written || touched.contains(&name.as_str()),
            "the insight {name} was written without a change of its node or pool"
        );
    }
    Ok(())
}

fn differ<S: Serialize>(
    text: &mut String,
    before: &BTreeMap<String, Insight<S>>,
    after: &BTreeMap<String, Insight<S>>,
) {
    let json = |insight: Option<&Insight<S>>| {
        insight.map_or_else(
            || "nothing".to_owned(),
            |insight| serde_json::to_string(insight).unwrap_or_default(),
        )
    };
    let names: std::collections::BTreeSet<_> = before.keys().chain(after.keys()).collect();
    for name in names {
        let (old, new) = (json(before.get(name)), json(after.get(name)));
        if old != new {
            let _ = writeln!(text, "{name}\n  was {old}\n  is  {new}");
        }
    }
}
