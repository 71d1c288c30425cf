//! Whole rollouts, verified at every moment: no insight shows a phase that is not true for longer than a second.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result};
use node_insights::api::pool::Assessment;
use node_insights_harness::demo::{Platform, Scenario};
use node_insights_harness::kubernetes::Pace;
use node_insights_harness::openshift::Pool;
use node_insights_harness::truth::{Report, Truth, Watch};
use node_insights_harness::{cluster_api, eventually, karpenter, plans};

use crate::support::{World, published_crds};

/// How long a rollout may take: three times the usual.
const ROLLOUT: Duration = Duration::from_mins(3);

/// Installs the CRDs that the updaters publish, or stand-ins where they are not there.
async fn install_kinds(world: &World) -> Result<()> {
    for folder in ["karpenter", "cluster-api", "system-upgrade-controller"] {
        match (published_crds(folder), folder) {
            (Some(published), _) => world.plane.apply_dir(&published).await?,
            (None, "karpenter") => karpenter::install(&world.client).await?,
            (None, "cluster-api") => cluster_api::install(&world.client).await?,
            (None, _) => plans::install(&world.client).await?,
        }
    }
    Ok(())
}

/// Plays a rollout from its start to its end with a verifier beside it; returns what the verifier has seen.
async fn verified(world: &World, scenario: &Scenario, truth: &Truth) -> Result<Report> {
    scenario.load(&world.client).await?;
    let verifier = Watch::start(&world.client, truth).await?;
    let operator = world.operator(&[]).await?;
    operator.ready().await?;
    world.all_reported(scenario.nodes()).await?;
    let played = async {
        let released = async {
            if let Some(pool) = scenario.paused_pool() {
                waits_only_for(world, pool).await?;
                scenario.unpause(&world.client).await?;
            }
            anyhow::Ok(())
        };
        tokio::try_join!(scenario.play(&world.client), released)?;
        all_completed(world, scenario.nodes_afterwards()).await
    };
    let played = tokio::time::timeout(ROLLOUT, played).await;
    let report = verifier.finish().await?;
    // What was wrong explains why a rollout did not end.
    let complaints = report.complaints();
    assert!(complaints.is_empty(), "{complaints:#?}\n{played:?}");
    played.context("The rollout did not end")??;
    Ok(report)
}

/// Waits until the update of other pools has begun, and until they are Completed again.
async fn waits_only_for(world: &World, held: &str) -> Result<()> {
    eventually("the update has begun", ROLLOUT, async || {
        Ok((unfinished(world).await?.len() > 1).then_some(()))
    })
    .await?;
    eventually("all pools but one are Completed", ROLLOUT, async || {
        let open = unfinished(world).await?;
        let is_held = |(name, assessment): (&String, &Assessment)| {
            name.split('.').any(|part| part == held) && *assessment == Assessment::Excluded
        };
        Ok((open.len() == 1 && open.iter().all(is_held)).then_some(()))
    })
    .await
}

/// Waits until every pool is Completed, and nothing is left of old nodes.
async fn all_completed(world: &World, nodes: usize) -> Result<()> {
    eventually("all pools are Completed", ROLLOUT, async || {
        Ok(unfinished(world).await?.is_empty().then_some(()))
    })
    .await?;
    world.all_reported(nodes).await.map(drop)
}

/// The pools that are not Completed.
async fn unfinished(world: &World) -> Result<BTreeMap<String, Assessment>> {
    let pools = world.pool_insights().await?;
    let open = pools.into_iter().filter_map(|(name, insight)| {
        let assessment = insight.status?.assessment;
        (assessment != Assessment::Completed).then_some((name, assessment))
    });
    Ok(open.collect())
}

/// Asserts the phases that nodes passed, in order.
fn assert_passed(report: &Report, expected: &[(&str, &str)]) {
    for (node, phases) in expected {
        assert_eq!(report.passed(node).join(" "), *phases, "{node}");
    }
}

#[tokio::test]
async fn rollouts_of_many_updaters_in_one_cluster_show_nothing_that_is_not_true() -> Result<()> {
    let world = World::empty().await?;
    install_kinds(&world).await?;
    let version = world.client.apiserver_version().await?.git_version;
    let truth = Truth::default();
    let scenario = Scenario::telling(&Platform::COMBINABLE, &version, Pace::VERIFIED, &truth)?;
    let report = verified(&world, &scenario, &truth).await?;
    assert_passed(
        &report,
        &[
            (
                "control-plane-0",
                "Pending Draining Rebooting Updating Completed",
            ),
            ("general-0", "Pending Draining"),
            ("eks-blue-0", "Pending Draining Updating"),
            ("eks-green-0", "Unknown Completed"),
            ("aks-0", "Pending Draining Rebooting Updating Completed"),
            (
                "aks-1",
                "Pending Draining Pending Draining Rebooting Updating Completed",
            ),
            ("aks-surge", "Unknown Completed"),
            ("gke-blue-3", "Pending Draining Updating"),
            (
                "karpenter-general-5",
                "Completed Pending Updating Draining Updating",
            ),
            ("karpenter-batch-2", "Completed"),
            (
                "karpenter-stateful-0",
                "Completed Paused Pending Updating Draining Updating",
            ),
            ("capi-memory-1", "Completed Pending Draining Updating"),
            (
                "k3s-agent-1",
                "Pending Updating Draining Updating Completed",
            ),
            (
                "hosted-0",
                "Pending Updating Draining Updating Rebooting Updating Completed",
            ),
            ("edge-3", "Completed Draining Rebooting Updating Completed"),
            ("fargate-0", "Completed"),
        ],
    );
    Ok(())
}

#[tokio::test]
async fn a_rollout_of_openshift_shows_nothing_that_is_not_true() -> Result<()> {
    let world = World::empty().await?;
    let truth = Truth::default();
    let pools = [
        Pool::new("master", 1),
        Pool::new("worker", 4).max_unavailable(2),
    ];
    let scenario = Scenario::openshift(&pools, "worker-0", Pace::VERIFIED, &truth)?;
    let report = verified(&world, &scenario, &truth).await?;
    let whole = "Completed Pending Draining Updating Rebooting Updating Completed";
    assert_passed(
        &report,
        &[
            ("master-0", whole),
            ("worker-0", whole),
            ("worker-3", whole),
            ("edge-1", &whole.replace("Pending", "Paused Pending")),
        ],
    );
    Ok(())
}
