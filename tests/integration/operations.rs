//! Operations and the operator's state, over its ports: a real API server decides who may start an operation, by the
//! RBAC of `config/rbac`.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use kube::client::Body;
use kube::{Client, Config};
use node_insights::registry::operations::{Operation, OperationState};
use node_insights_harness::openshift::{Cluster, Pool};
use node_insights_harness::{Exit, eventually};
use serde_json::Value;

use crate::support::{Operator, SERVING, SOON, World, spawn};

/// A cluster of three nodes and two accounts: `admin` may operate, and `guest` may not.
async fn world() -> Result<World> {
    let cluster = Cluster::builder("4.19.14")
        .pool(Pool::new("master", 1))
        .pool(Pool::new("worker", 2))
        .build()?;
    let world = World::openshift(&cluster).await?;
    for account in ["admin", "guest"] {
        kubectl(&world, &["create", "serviceaccount", account]).await?;
    }
    let role = "--clusterrole=node-insights-operate";
    let admin = "--serviceaccount=default:admin";
    kubectl(
        &world,
        &["create", "clusterrolebinding", "ops", role, admin],
    )
    .await?;
    Ok(world)
}

async fn kubectl(world: &World, args: &[&str]) -> Result<String> {
    let all = [args, &["-n", "default"]].concat();
    Ok(world.plane.kubectl(&all).await?.trim().to_owned())
}

async fn token(world: &World, account: &str) -> Result<String> {
    kubectl(world, &["create", "token", account]).await
}

/// One of the operator's ports.
struct Port(SocketAddr);

impl Port {
    /// The port in this log message, once it is logged.
    async fn of(operator: &Operator, line: &str) -> Result<Self> {
        let address = eventually(&format!("the line {line:?}"), SOON, async || {
            let lines = operator.log();
            let line = lines.iter().find(|found| found["message"] == line);
            Ok(line.and_then(|line| line["address"].as_str().map(str::to_owned)))
        })
        .await?;
        Ok(Self(address.parse()?))
    }

    async fn main(operator: &Operator) -> Result<Self> {
        Self::of(operator, SERVING).await
    }

    fn url(&self) -> String {
        format!("http://{}", self.0)
    }

    async fn ask(&self, method: &str, path: &str, token: Option<&str>) -> Result<(u16, String)> {
        let mut config = Config::new(self.url().parse()?);
        config.root_cert = Some(Vec::new());
        config.default_retry = false;
        let mut request = ::http::Request::builder().method(method).uri(path);
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let request = request.body(Body::empty())?;
        let answer = Client::try_from(config)?.send(request).await?;
        let status = answer.status().as_u16();
        let body = answer.into_body().collect_bytes().await?;
        Ok((status, String::from_utf8(body.to_vec())?))
    }

    /// Starts an operation with an authorized token.
    async fn start(&self, path: &str, token: &str) -> Result<Operation> {
        let (status, text) = self.ask("POST", path, Some(token)).await?;
        ensure!(status == 202, "{status} {text}");
        Ok(serde_json::from_str(&text)?)
    }

    /// Waits until an operation has ended.
    async fn ended(&self, operation: &Operation) -> Result<Operation> {
        let path = format!("/operations/{}?wait=1", operation.id);
        eventually(&format!("the end of {}", operation.id), SOON, async || {
            let (_, text) = self.ask("GET", &path, None).await?;
            let operation: Operation = serde_json::from_str(&text)?;
            Ok((operation.state != OperationState::Running).then_some(operation))
        })
        .await
    }

    /// Posts with a token until the response has the expected status; returns its body.
    async fn until_status(&self, path: &str, token: &str, expected: u16) -> Result<String> {
        eventually(&format!("{expected} for {path}"), SOON, async || {
            let (status, text) = self.ask("POST", path, Some(token)).await?;
            Ok((status == expected).then_some(text))
        })
        .await
    }
}

/// An operator that is ready, and its port.
async fn operator(world: &World, args: &[&str]) -> Result<(Operator, Port)> {
    let operator = world.operator(args).await?;
    operator.ready().await?;
    let port = Port::main(&operator).await?;
    Ok((operator, port))
}

#[tokio::test]
async fn only_authorized_accounts_can_start_cancel_or_fetch_operations() -> Result<()> {
    let world = world().await?;
    let (_operator, port) = operator(&world, &[]).await?;
    let guest = token(&world, "guest").await?;
    for (method, path) in [
        ("POST", "/operations/resync"),
        ("POST", "/operations/reevaluate?pool=worker"),
        ("POST", "/operations/export"),
        ("DELETE", "/operations/resync-1-1"),
        ("GET", "/operations/export-1-1/result"),
    ] {
        for none in [None, Some("none"), Some("a.b.c")] {
            let (status, text) = port.ask(method, path, none).await?;
            assert_eq!(status, 401, "{method} {path}: {text}");
        }
        let (status, text) = port.ask(method, path, Some(&guest)).await?;
        assert_eq!(status, 403, "{method} {path}: {text}");
        let who = "system:serviceaccount:default:guest may not";
        assert!(text.contains(who), "{text}");
    }
    let (status, list) = port.ask("GET", "/operations", None).await?;
    assert_eq!((status, list.trim()), (200, "[]"), "nothing was started");

    let admin = token(&world, "admin").await?;
    let resync = port.start("/operations/resync", &admin).await?;
    let (status, text) = port
        .ask("DELETE", "/operations/resync-1-1", Some(&admin))
        .await?;
    assert_eq!(status, 404, "{text}");
    assert_eq!(port.ended(&resync).await?.state, OperationState::Succeeded);
    Ok(())
}

#[tokio::test]
async fn a_grant_takes_effect_at_once_and_its_revocation_soon() -> Result<()> {
    let world = world().await?;
    let (_operator, port) = operator(&world, &[]).await?;
    let (admin, guest) = (token(&world, "admin").await?, token(&world, "guest").await?);
    let path = "/operations/export";
    let (status, _) = port.ask("POST", path, Some(&guest)).await?;
    assert_eq!(status, 403);
    let role = "--clusterrole=node-insights-operate";
    let account = "--serviceaccount=default:guest";
    kubectl(
        &world,
        &["create", "clusterrolebinding", "more", role, account],
    )
    .await?;
    // The API server itself learns of a binding from a watch.
    port.until_status(path, &guest, 202).await?;

    kubectl(&world, &["delete", "clusterrolebinding", "more"]).await?;
    port.until_status(path, &guest, 403).await?;
    // A token becomes invalid when its account is deleted.
    kubectl(&world, &["delete", "serviceaccount", "admin"]).await?;
    let why = port.until_status(path, &admin, 401).await?;
    assert!(why.contains("does not accept the token"), "{why}");
    Ok(())
}

#[tokio::test]
async fn while_the_api_server_is_down_no_operation_can_be_started() -> Result<()> {
    let mut world = world().await?;
    let (_operator, port) = operator(&world, &[]).await?;
    let admin = token(&world, "admin").await?;
    world.plane.stop_api_server().await?;
    let began = Instant::now();
    let (status, text) = port.ask("POST", "/operations/export", Some(&admin)).await?;
    assert_eq!(status, 503, "{text}");
    assert!(text.contains("AccessUnknown"), "{text}");
    assert!(began.elapsed() < Duration::from_secs(10));
    let (status, list) = port.ask("GET", "/operations", None).await?;
    assert_eq!((status, list.trim()), (200, "[]"));
    world.plane.start_api_server().await?;
    port.until_status("/operations/export", &admin, 202).await?;
    Ok(())
}

#[tokio::test]
async fn an_operator_without_permission_for_reviews_reports_what_to_grant() -> Result<()> {
    let world = world().await?;
    let (_operator, port) = operator(&world, &[]).await?;
    let admin = token(&world, "admin").await?;
    kubectl(&world, &["delete", "clusterrolebinding", "node-insights"]).await?;
    let why = port.until_status("/operations/export", &admin, 503).await?;
    assert!(why.contains("may not create tokenreviews"), "{why}");
    assert!(why.contains("kubectl apply -k config/rbac"), "{why}");
    Ok(())
}

#[tokio::test]
async fn the_subcommand_waits_for_a_resync_and_for_one_pool() -> Result<()> {
    let world = world().await?;
    let (_operator, port) = operator(&world, &[]).await?;
    let token = token(&world, "admin").await?;
    let envs = [("NODE_INSIGHTS_TOKEN", &*token)];
    let server = port.url();
    for (pool, kind) in [(&[][..], "resync"), (&["--pool", "worker"], "reevaluate")] {
        let args = [&["resync", "--wait", "--server", &server], pool].concat();
        let resync = spawn(&args, &envs, world.plane.dir())?;
        let exit = resync.wait_timeout(SOON).await?;
        assert_eq!(exit, Exit::Code(0), "{}", resync.read_stderr());
        let output = resync.read_stdout();
        let last = output.lines().last().context("no output")?;
        assert!(last.starts_with(&format!("operation/{kind}-")), "{last}");
        assert!(last.contains(" succeeded after "), "{last}");
    }
    let args = ["resync", "--pool", "gpus", "--server", &server];
    let wrong = spawn(&args, &envs, world.plane.dir())?;
    assert_eq!(wrong.wait_timeout(SOON).await?, Exit::Code(1));
    let why = wrong.read_stderr();
    assert!(why.contains("master") && why.contains("worker"), "{why}");
    Ok(())
}

#[tokio::test]
async fn a_standby_rejects_a_resync_and_names_the_leader() -> Result<()> {
    let world = world().await?;
    let args = ["--lease", "node-insights/node-insights"];
    let (leader, _) = operator(&world, &args).await?;
    eventually("it leads", SOON, async || {
        let leads = leader.metric("leader_election_master_status", &[]).await?;
        Ok((leads == 1).then_some(()))
    })
    .await?;
    let (_standby, port) = operator(&world, &args).await?;
    let admin = token(&world, "admin").await?;
    let error = port.until_status("/operations/resync", &admin, 503).await?;
    let lease = [
        "get",
        "lease",
        "node-insights",
        "-o",
        "jsonpath={.spec.holderIdentity}",
    ];
    let holder = world
        .plane
        .kubectl(&[&lease[..], &["-n", "node-insights"]].concat())
        .await?;
    assert!(error.contains("This replica stands by"), "{error}");
    assert!(!holder.is_empty() && error.contains(&holder), "{error}");
    Ok(())
}

#[tokio::test]
async fn an_export_has_a_line_for_each_node() -> Result<()> {
    let world = world().await?;
    let (_operator, port) = operator(&world, &[]).await?;
    let admin = token(&world, "admin").await?;
    let export = port.start("/operations/export", &admin).await?;
    assert_eq!(port.ended(&export).await?.state, OperationState::Succeeded);
    let path = format!("/operations/{}/result", export.id);
    let (status, lines) = port.ask("GET", &path, Some(&admin)).await?;
    assert_eq!(status, 200, "{lines}");
    let nodes: Vec<Value> = lines
        .lines()
        .map(serde_json::from_str)
        .collect::<Result<_, _>>()?;
    assert_eq!(nodes.len(), 3);
    Ok(())
}

#[tokio::test]
async fn the_operators_state_is_served_on_a_separate_port_and_only_if_enabled() -> Result<()> {
    let world = world().await?;
    let (operator, port) = operator(&world, &["--debug-address", ":0"]).await?;
    let debug = Port::of(&operator, "Serving /debug").await?;
    assert!(debug.0.ip().is_loopback());
    let (_, text) = debug.ask("GET", "/debug/states", None).await?;
    let nodes: Vec<Value> = serde_json::from_str(&text)?;
    assert_eq!(nodes.len(), 3);
    for path in ["pools", "queues", "sync"] {
        let (status, text) = debug.ask("GET", &format!("/debug/{path}"), None).await?;
        assert_eq!(status, 200, "{path}: {text}");
    }
    let (status, _) = port.ask("GET", "/debug/states", None).await?;
    assert_eq!(status, 404, "not on the main port");
    operator.stop().await?;

    let (plain, _) = self::operator(&world, &[]).await?;
    let lines = plain.log();
    assert!(lines.iter().all(|line| line["message"] != "Serving /debug"));
    Ok(())
}
