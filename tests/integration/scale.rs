//! Many nodes: each is reported once, and counted correctly.

use std::time::Instant;

use anyhow::Result;
use node_insights::api::types::Phase;
use node_insights_harness::openshift::{Cluster, Pool};

use crate::support::{OPERATOR_USER, World, count};

#[tokio::test]
async fn a_thousand_nodes_created_at_once_are_all_reported_with_one_status_write_each() -> Result<()>
{
    let cluster = |workers| {
        let builder = Cluster::builder("4.19.14").images_per_node(50);
        let builder = builder.pool(Pool::new("master", 3));
        builder.pool(Pool::new("worker", workers)).build()
    };
    let world = World::openshift(&cluster(0)?).await?;
    let operator = world.operator(&[]).await?;
    world.all_reported(3).await?;
    operator.ready().await?;
    let mark = world.plane.audit().mark()?;
    let started = Instant::now();
    cluster(1000)?.load(&world.client).await?;
    let loaded = started.elapsed();
    let insights = world.all_reported(1003).await?;
    world
        .pool_becomes("worker", "1,000 nodes", |pool| pool.progress == "1000/1000")
        .await?;
    println!(
        "loaded 1,000 nodes in {loaded:?}; all reported after {:?}",
        started.elapsed()
    );
    println!(
        "RSS {} KiB, peak {} KiB",
        operator.process.rss_bytes()? / 1024,
        operator.process.peak_rss_bytes()? / 1024
    );
    for (name, insight) in &insights {
        let status = insight.status.as_ref().expect("every insight has a status");
        assert_eq!((&status.name, status.phase), (name, Phase::Completed));
    }
    assert!(operator.stop().await?.success());
    let writes = world.operator_writes(mark)?;
    for (verb, subresource) in [("create", ""), ("update", "status")] {
        let written = count(&writes, verb, "nodeprogressinsights", subresource);
        assert_eq!(written, 1000, "{verb} {subresource}");
    }
    Ok(())
}

#[tokio::test]
async fn a_pool_of_three_thousand_nodes_is_counted_correctly_and_each_node_is_written_once()
-> Result<()> {
    let world = World::empty().await?;
    let cluster = Cluster::builder("4.19.14")
        .pool(Pool::new("master", 3))
        .pool(Pool::new("worker", 3000))
        .build()?;
    cluster.load(&world.client).await?;
    let mark = world.plane.audit().mark()?;
    let operator = world.operator(&[]).await?;
    world.all_reported(3003).await?;
    let pool = world
        .pool_becomes("worker", "3,000 nodes", |pool| pool.progress == "3000/3000")
        .await?;
    assert_eq!(pool.completion_percent, 100);
    assert!(
        pool.summaries
            .iter()
            .all(|summary| [0, 3000].contains(&summary.count)),
        "{:?}",
        pool.summaries
    );
    assert!(operator.stop().await?.success());
    let writes = world.operator_writes(mark)?;
    assert!(writes.iter().all(|write| write.user == OPERATOR_USER));
    assert_eq!(count(&writes, "create", "nodeprogressinsights", ""), 3003);
    assert_eq!(
        count(&writes, "update", "nodeprogressinsights", "status"),
        3003,
        "one status write per node"
    );
    Ok(())
}
