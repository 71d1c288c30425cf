//! Two processes that both believe they lead. With a shared lease that cannot happen; these run without one.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Result, ensure};
use node_insights::api::types::ConditionStatus;
use node_insights_harness::{Signal, eventually};

use crate::scene::{settled, small};
use crate::support::{SOON, World, condition};

const NODE: &str = "worker-0";
/// How long one of them is stopped: it then reports a later time for what happened meanwhile.
const APART: Duration = Duration::from_secs(2);
/// How long their writes are counted.
const WATCHED: Duration = Duration::from_secs(10);
/// Each writes four times at once, then after 1, 2 and 4 seconds, and may do so once more.
const MOST_WRITES: usize = 16;

/// Each of the two deletes, creates and fills it seven times, as for a node; plus the first writes.
const MOST_OF_A_FIGHT: usize = 3 * 2 * 7 + 12;

#[tokio::test]
async fn two_operators_that_overwrite_each_others_insights_back_off() -> Result<()> {
    let world = World::openshift(&small()?).await?;
    let (one, other) = (world.operator(&[]).await?, world.operator(&[]).await?);
    settled(&one).await?;
    settled(&other).await?;

    let mark = world.plane.audit().mark()?;
    other.process.signal(Signal::STOP)?;
    world
        .editor
        .set_state(NODE, "Degraded", "disk full")
        .await?;
    world
        .node_becomes(NODE, "degraded", |status| {
            condition(&status.conditions, "Degraded").status == ConditionStatus::True
        })
        .await?;
    // The duration of the fault, not a wait for something.
    tokio::time::sleep(APART).await;
    other.process.signal(Signal::CONT)?;
    tokio::time::sleep(WATCHED).await;

    let writes = world.operator_writes(mark)?;
    let of_node = writes.iter().filter(|entry| entry.name == NODE).count();
    ensure!(of_node > 2, "they did not differ: {of_node} writes");
    ensure!(of_node <= MOST_WRITES, "{of_node} writes in {WATCHED:?}");

    // Changes are still written, and correctly once one of them is alone.
    other.kill().await?;
    world.editor.set_state(NODE, "Done", "").await?;
    world
        .node_becomes(NODE, "not degraded", |status| {
            condition(&status.conditions, "Degraded").status == ConditionStatus::False
        })
        .await?;
    eventually("its log names the insight", SOON, async || {
        let is_logged = one.log().into_iter().any(|line| {
            line["name"] == NODE
                && line["message"]
                    .as_str()
                    .is_some_and(|message| message.starts_with("Another client keeps changing"))
        });
        Ok(is_logged.then_some(()))
    })
    .await
}

#[tokio::test]
async fn two_operators_that_disagree_about_the_pools_back_off() -> Result<()> {
    let world = World::openshift(&small()?).await?;
    let mark = world.plane.audit().mark()?;
    // One uses the pools of OpenShift, the other one the nodes' roles.
    let one = world.operator(&["--platform", "openshift"]).await?;
    let other = world.operator(&["--platform", "kubernetes"]).await?;
    one.ready().await?;
    other.ready().await?;
    // The duration of the fault, not a wait for something.
    tokio::time::sleep(2 * WATCHED).await;

    let mut by_name = BTreeMap::new();
    for entry in world.operator_writes(mark)? {
        *by_name
            .entry((entry.resource, entry.name))
            .or_insert(0_usize) += 1;
    }
    let most = by_name.values().max().copied().unwrap_or_default();
    ensure!(most > 4, "they agreed: {by_name:#?}");
    ensure!(most <= MOST_OF_A_FIGHT, "{by_name:#?}");
    Ok(())
}
