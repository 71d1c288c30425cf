//! A real API server decides who may read `/metrics` over HTTPS, by the chart's role and by the tokens that it issued.

use anyhow::{Context as _, Result};
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec};
use kube::api::PostParams;
use kube::client::Body;
use kube::{Api, Client, Config};
use node_insights_harness::eventually;
use node_insights_harness::openshift::{Cluster, Pool};

use crate::support::{Operator, SERVING, SOON, World};

/// An operator with HTTPS, and two accounts: `reader` may read its metrics, and `guest` may not.
async fn world() -> Result<(World, Operator)> {
    let cluster = Cluster::builder("4.19.14")
        .pool(Pool::new("worker", 1))
        .build()?;
    let world = World::openshift(&cluster).await?;
    for account in ["reader", "guest"] {
        let create = ["create", "serviceaccount", account, "-n", "default"];
        world.plane.kubectl(&create).await?;
    }
    let role = "--clusterrole=node-insights-metrics-reader";
    let reader = "--serviceaccount=default:reader";
    let bind = ["create", "clusterrolebinding", "reader", role, reader];
    world.plane.kubectl(&bind).await?;
    let operator = world.operator(&["--metrics-tls", "self-signed"]).await?;
    operator.ready().await?;
    Ok((world, operator))
}

async fn token(world: &World, account: &str) -> Result<String> {
    let create = ["create", "token", account, "-n", "default"];
    Ok(world.plane.kubectl(&create).await?.trim().to_owned())
}

/// Why the API server does not accept a token.
async fn review(world: &World, token: &str) -> Result<String> {
    let review = TokenReview {
        spec: TokenReviewSpec {
            token: Some(token.to_owned()),
            ..TokenReviewSpec::default()
        },
        ..TokenReview::default()
    };
    let api: Api<TokenReview> = Api::all(world.client.clone());
    let answer = api.create(&PostParams::default(), &review).await?;
    let status = answer.status.context("a review without a status")?;
    Ok(status.error.unwrap_or_default())
}

/// Scrapes with this token; returns status and body.
async fn scrape(operator: &Operator, token: Option<&str>) -> Result<(u16, String)> {
    let lines = operator.log();
    let line = lines.iter().find(|line| line["message"] == SERVING);
    let address = line.and_then(|line| line["address"].as_str());
    let address = address.context("no address in the log")?;
    let mut config = Config::new(format!("https://{address}").parse()?);
    config.accept_invalid_certs = true;
    config.default_retry = false;
    let mut request = ::http::Request::get("/metrics");
    if let Some(token) = token {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    let answer = Client::try_from(config)?
        .send(request.body(Body::empty())?)
        .await?;
    let status = answer.status().as_u16();
    let body = answer.into_body().collect_bytes().await?;
    Ok((status, String::from_utf8(body.to_vec())?))
}

#[tokio::test]
async fn only_authorized_accounts_can_read_the_metrics() -> Result<()> {
    let (world, operator) = world().await?;
    let reader = token(&world, "reader").await?;
    let (status, text) = scrape(&operator, Some(&reader)).await?;
    assert_eq!(status, 200, "{text}");
    assert!(text.contains("node_insights_build_info"), "{text}");
    let guest = token(&world, "guest").await?;
    let expired = world.plane.expired_token("default", "reader").await?;
    let why = review(&world, &expired).await?;
    assert!(
        why.contains("expired"),
        "it is rejected for another reason: {why}"
    );
    for (what, token, expected, hint) in [
        ("denied", Some(&*guest), 403, "node-insights-metrics-reader"),
        ("expired", Some(&*expired), 401, "does not accept the token"),
        (
            "not a token",
            Some("nobody"),
            401,
            "does not accept the token",
        ),
        ("none", None, 401, "needs one token"),
    ] {
        let (status, text) = scrape(&operator, token).await?;
        assert_eq!(status, expected, "{what}: {text}");
        assert!(text.contains(hint), "{what}: {text}");
    }
    Ok(())
}

#[tokio::test]
async fn while_the_api_server_is_down_no_new_client_can_read_the_metrics() -> Result<()> {
    let (mut world, operator) = world().await?;
    let (known, new) = (
        token(&world, "reader").await?,
        token(&world, "reader").await?,
    );
    assert_eq!(scrape(&operator, Some(&known)).await?.0, 200);
    world.plane.stop_api_server().await?;
    let (status, text) = scrape(&operator, Some(&new)).await?;
    assert_eq!(status, 503, "{text}");
    // Prometheus keeps scraping during an outage, which is when metrics are needed.
    assert_eq!(scrape(&operator, Some(&known)).await?.0, 200);
    world.plane.start_api_server().await?;
    eventually("the new token is accepted", SOON, async || {
        let (status, _) = scrape(&operator, Some(&new)).await?;
        Ok((status == 200).then_some(()))
    })
    .await
}
