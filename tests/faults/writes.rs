//! Writes of one kind of insights fail: the other kind is still written, and the rest follows afterwards.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use node_insights_harness::eventually;
use node_insights_harness::fault_proxy::{Fault, Rule};

use crate::scene::{Scene, small};
use crate::snapshot::Snapshot;
use crate::support::SOON;

const NODE: &str = "worker-0";

/// These writes never reach the API server.
const NOT_DONE: [(&str, Fault); 8] = [
    ("429 without Retry-After", Fault::status(429, None)),
    ("429 with Retry-After", Fault::status(429, Some(1))),
    ("500", Fault::status(500, None)),
    ("503", Fault::status(503, None)),
    ("503 with Retry-After", Fault::status(503, Some(1))),
    ("504", Fault::status(504, None)),
    ("a connection that is cut", Fault::Cut),
    ("no response", Fault::Hang),
];

/// These writes are done, but the operator does not learn of it, or only late.
const DONE: [(&str, Fault); 5] = [
    ("a response that is lost", Fault::LoseResponse),
    ("a response that ends early", Fault::Truncate),
    ("a response that is not JSON", Fault::Garble),
    ("a slow API server", Fault::Delay(Duration::from_secs(1))),
    ("a slow connection", Fault::Throttle(500)),
];

#[tokio::test]
async fn while_writes_of_node_insights_fail_pools_are_written_and_the_rest_follows() -> Result<()> {
    each(&NOT_DONE, false).await
}

#[tokio::test]
async fn a_write_whose_response_is_lost_or_unreadable_is_neither_lost_nor_repeated() -> Result<()> {
    each(&DONE, true).await
}

async fn each(faults: &[(&str, Fault)], is_done: bool) -> Result<()> {
    let mut scene = Scene::openshift(&small()?, &[]).await?;
    let mut is_cordoned = false;
    for (name, fault) in faults {
        is_cordoned = !is_cordoned;
        inject(&mut scene, fault, is_cordoned, is_done)
            .await
            .with_context(|| format!("under {name}"))?;
    }
    Ok(())
}

async fn inject(scene: &mut Scene, fault: &Fault, cordon: bool, is_done: bool) -> Result<()> {
    let before = Snapshot::of(&scene.world).await?;
    let mark = scene.world.plane.audit().mark()?;
    let rule = Rule::new(fault.clone())
        .writes()
        .resource("nodeprogressinsights");
    let rule = scene.proxy.add(rule);
    scene.world.editor.cordon(NODE, cordon).await?;
    eventually("the fault hits", SOON, async || {
        Ok((scene.proxy.hits(rule) > 0).then_some(()))
    })
    .await?;

    // Everything else continues.
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
    before.is_preserved(&after, &[NODE, "worker", "infra", "infra-0"])?;
    scene.a_fresh_operator_writes_nothing().await
}
