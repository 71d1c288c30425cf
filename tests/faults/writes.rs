//! Writes that fail, of one kind of insights: the other kind is written meanwhile, and afterwards everything is.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use node_insights_harness::eventually;
use node_insights_harness::fault_proxy::{Fault, Rule};

use crate::scene::{Scene, small};
use crate::snapshot::Snapshot;
use crate::support::SOON;

const NODE: &str = "worker-0";

/// Of these the API server never hears.
const UNHEARD: [(&str, Fault); 8] = [
    ("429 without Retry-After", Fault::status(429, None)),
    ("429 with Retry-After", Fault::status(429, Some(1))),
    ("500", Fault::status(500, None)),
    ("503", Fault::status(503, None)),
    ("503 with Retry-After", Fault::status(503, Some(1))),
    ("504", Fault::status(504, None)),
    ("a connection that is cut", Fault::Cut),
    ("no answer", Fault::Hang),
];

/// These are done, and the operator does not learn it, or late.
const DONE: [(&str, Fault); 5] = [
    ("an answer that is lost", Fault::LoseResponse),
    ("an answer that ends early", Fault::Truncate),
    ("an answer that is no JSON", Fault::Garble),
    ("a slow API server", Fault::Delay(Duration::from_secs(1))),
    ("a slow line", Fault::Throttle(500)),
];

#[tokio::test]
async fn while_writes_of_node_insights_do_not_come_through_pools_are_written_and_afterwards_all_is()
-> Result<()> {
    each(&UNHEARD, false).await
}

#[tokio::test]
async fn a_write_whose_answer_is_lost_or_cannot_be_read_is_neither_lost_nor_made_twice()
-> Result<()> {
    each(&DONE, true).await
}

async fn each(faults: &[(&str, Fault)], is_done: bool) -> Result<()> {
    let mut scene = Scene::openshift(&small()?, &[]).await?;
    let mut is_cordoned = false;
    for (name, fault) in faults {
        is_cordoned = !is_cordoned;
        strike(&mut scene, fault, is_cordoned, is_done)
            .await
            .with_context(|| format!("under {name}"))?;
    }
    Ok(())
}

async fn strike(scene: &mut Scene, fault: &Fault, cordon: bool, is_done: bool) -> Result<()> {
    let before = Snapshot::of(&scene.world).await?;
    let mark = scene.world.plane.audit().mark()?;
    let rule = Rule::new(fault.clone())
        .writes()
        .resource("nodeprogressinsights");
    let rule = scene.proxy.add(rule);
    scene.world.editor.cordon(NODE, cordon).await?;
    eventually("the fault strikes", SOON, async || {
        Ok((scene.proxy.hits(rule) > 0).then_some(()))
    })
    .await?;

    // Nothing else stops.
    scene.world.editor.cordon("infra-0", cordon).await?;
    scene
        .pool_has_available("infra", usize::from(!cordon))
        .await?;
    scene.is_alive().await?;
    if !is_done {
        let now = scene.world.node_insight(NODE).await?;
        ensure!(
            now.as_ref() == before.nodes.get(NODE),
            "it was written: {now:?}"
        );
    }

    scene.proxy.remove(rule);
    scene.reported_as_available(NODE, "worker", !cordon).await?;
    scene.settled().await?;
    let writes = scene.world.operator_writes(mark)?;
    let of_node = writes.iter().filter(|write| write.name == NODE);
    ensure!(of_node.count() == 1, "one change is one write: {writes:#?}");
    let after = Snapshot::of(&scene.world).await?;
    before.is_kept(&after, &[NODE, "worker", "infra", "infra-0"])?;
    scene.a_fresh_operator_writes_nothing().await
}
