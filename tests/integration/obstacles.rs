//! Something is missing: the operator reports it with a remedy, and continues once it is fixed.

use anyhow::Result;
use node_insights::api::types::Phase;
use node_insights_harness::eventually;
use node_insights_harness::openshift::{Cluster, Pool};

use crate::support::{Operator, SOON, World};

fn cluster() -> Result<Cluster> {
    Cluster::builder("4.19.14")
        .pool(Pool::new("master", 1))
        .pool(Pool::new("worker", 2))
        .build()
}

#[tokio::test]
async fn a_missing_crd_is_named_and_the_operator_goes_on_once_it_is_installed() -> Result<()> {
    let world = World::bare().await?;
    world.install_rbac().await?;
    cluster()?.load(&world.client).await?;
    let operator = world.operator(&[]).await?;
    let why = operator
        .says_why("does not serve nodeprogressinsights.nodeinsights.dev")
        .await?;
    assert!(why.contains("kubectl apply -f crds/"), "{why}");
    assert_eq!(
        operator.get("/livez").await?.0,
        200,
        "it is alive nevertheless"
    );
    world.install_crds().await?;
    world.all_reported(3).await?;
    operator.ready().await
}

#[tokio::test]
async fn a_missing_permission_is_named_and_the_operator_goes_on_once_it_is_granted() -> Result<()> {
    let world = World::empty().await?;
    cluster()?.load(&world.client).await?;
    world
        .plane
        .kubectl(&["delete", "clusterrolebinding", "node-insights"])
        .await?;
    let operator = world.operator(&[]).await?;
    let why = operator
        .says_why("The operator may not list and watch nodes")
        .await?;
    assert!(why.contains("kubectl auth can-i list nodes"), "{why}");
    world.install_rbac().await?;
    world.all_reported(3).await?;
    operator.ready().await
}

#[tokio::test]
async fn a_missing_permission_to_write_is_named_and_nothing_is_lost() -> Result<()> {
    let world = World::empty().await?;
    cluster()?.load(&world.client).await?;
    let account = "system:serviceaccount:node-insights:node-insights";
    world
        .plane
        .kubectl(&["delete", "clusterrolebinding", "node-insights"])
        .await?;
    world
        .plane
        .kubectl(&[
            "create", "clusterrole", "reader", "--verb=get,list,watch",
            "--resource=nodes,machineconfigpools.machineconfiguration.openshift.io,machineconfigs.machineconfiguration.openshift.io,clusterversions.config.openshift.io,nodeprogressinsights.nodeinsights.dev,poolprogressinsights.nodeinsights.dev",
        ])
        .await?;
    world
        .plane
        .kubectl(&[
            "create",
            "clusterrolebinding",
            "reader",
            "--clusterrole=reader",
            &format!("--user={account}"),
        ])
        .await?;
    let operator = world.operator(&[]).await?;
    let why = operator
        .says_why("[-] writing nodeprogressinsights: The operator may not create")
        .await?;
    assert!(why.contains("kubectl apply -k config/rbac"), "{why}");
    world.install_rbac().await?;
    world.all_reported(3).await?;
    operator.ready().await
}

#[tokio::test]
async fn an_outage_of_the_api_server_is_reported_and_missed_changes_are_found() -> Result<()> {
    let mut world = World::empty().await?;
    cluster()?.load(&world.client).await?;
    let operator = world.operator(&[]).await?;
    world.all_reported(3).await?;
    operator.ready().await?;
    world.plane.stop_api_server().await?;
    operator
        .says_why("The API server cannot be reached")
        .await?;
    world.plane.start_api_server().await?;
    world.editor.start_update("4.20.3").await?;
    world.editor.delete_node("worker-1").await?;
    world.node_reaches("worker-0", Phase::Pending).await?;
    world.all_reported(2).await?;
    operator.ready().await
}

#[tokio::test]
async fn an_operator_that_starts_before_its_api_server_waits_for_it() -> Result<()> {
    let mut world = World::empty().await?;
    cluster()?.load(&world.client).await?;
    let kubeconfig = world
        .plane
        .service_account_kubeconfig("node-insights", "node-insights")
        .await?;
    world.plane.stop_api_server().await?;
    let operator = Operator::start(&kubeconfig, &[], world.plane.dir()).await?;
    let why = operator
        .says_why("[-] discovery: The API server cannot be reached")
        .await?;
    assert!(why.contains("KUBECONFIG"), "{why}");
    world.plane.start_api_server().await?;
    world.all_reported(3).await?;
    operator.ready().await
}

#[tokio::test]
async fn an_expired_token_is_named() -> Result<()> {
    let world = World::empty().await?;
    cluster()?.load(&world.client).await?;
    let good = world
        .plane
        .service_account_kubeconfig("node-insights", "node-insights")
        .await?;
    let text = std::fs::read_to_string(&good)?;
    let token = text
        .split(|c: char| !(c.is_ascii_alphanumeric() || "-_.".contains(c)))
        .find(|word| word.starts_with("eyJ") && word.len() > 200)
        .expect("the kubeconfig has a token");
    let bad = world.plane.dir().join("bad-token");
    std::fs::write(&bad, text.replace(token, "invalid"))?;
    let operator = Operator::start(&bad, &["--platform", "openshift"], world.plane.dir()).await?;
    let why = operator
        .says_why("does not accept the operator's credentials")
        .await?;
    assert!(why.contains("renew the token"), "{why}");
    eventually("the failure is counted", SOON, async || {
        let failures = operator
            .metric(
                "node_insights_watch_failures_total",
                &["reason=\"unauthorized\""],
            )
            .await?;
        Ok((failures >= 1).then_some(()))
    })
    .await
}
