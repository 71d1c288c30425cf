//! Two processes that both take themselves for the leader. None does while they share a lease; these have none.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Result, ensure};
use node_insights::api::types::ConditionStatus;
use node_insights_harness::{Signal, eventually};

use crate::scene::{settled, small};
use crate::support::{SOON, World, condition};

const NODE: &str = "worker-0";
/// The one that was stopped for so long says that what happened meanwhile happened later.
const APART: Duration = Duration::from_secs(2);
/// For how long their writes are counted.
const WATCHED: Duration = Duration::from_secs(10);
/// Four at once each, one after 1, 2 and 4 seconds each, and one to spare.
const MOST_WRITES: usize = 16;

/// Seven times by each of the two, deleted, made and filled each time, as for a node; and the first time.
const MOST_OF_A_FIGHT: usize = 3 * 2 * 7 + 12;

#[tokio::test]
async fn two_that_write_the_same_insights_differently_do_so_less_and_less_often() -> Result<()> {
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
    // Faults that last this long, nothing that is waited for.
    tokio::time::sleep(APART).await;
    other.process.signal(Signal::CONT)?;
    tokio::time::sleep(WATCHED).await;

    let writes = world.operator_writes(mark)?;
    let of_node = writes.iter().filter(|entry| entry.name == NODE).count();
    ensure!(of_node > 2, "they did not differ: {of_node} writes");
    ensure!(of_node <= MOST_WRITES, "{of_node} writes in {WATCHED:?}");

    // What changes is still written, and one that is left alone with it is right.
    other.kill().await?;
    world.editor.set_state(NODE, "Done", "").await?;
    world
        .node_becomes(NODE, "not degraded", |status| {
            condition(&status.conditions, "Degraded").status == ConditionStatus::False
        })
        .await?;
    eventually("its log names the insight", SOON, async || {
        let said = one.log().into_iter().any(|line| {
            line["name"] == NODE
                && line["message"]
                    .as_str()
                    .is_some_and(|message| message.starts_with("Somebody else keeps changing"))
        });
        Ok(said.then_some(()))
    })
    .await
}

#[tokio::test]
async fn two_that_disagree_about_which_pools_there_are_fight_less_and_less_often() -> Result<()> {
    let world = World::openshift(&small()?).await?;
    let mark = world.plane.audit().mark()?;
    // One knows the pools of OpenShift, the other one those of the nodes' roles.
    let one = world.operator(&["--platform", "openshift"]).await?;
    let other = world.operator(&["--platform", "kubernetes"]).await?;
    one.ready().await?;
    other.ready().await?;
    // A fault that lasts this long, nothing that is waited for.
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
