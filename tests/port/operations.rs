//! `/operations`: who may do what, and the results.

use std::sync::Arc;
use std::time::{Duration, Instant};

use kube::client::Body;
use node_insights::kubernetes::access::Access;
use node_insights::registry::operations::OperationState;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::fakes::{ADMIN, Response, VIEWER, World, client, closed_port, request};

/// Every request that needs authorization.
const PROTECTED: [(&str, &str); 5] = [
    ("POST", "/operations/resync"),
    ("POST", "/operations/reevaluate?pool=worker"),
    ("POST", "/operations/export"),
    ("DELETE", "/operations/{id}"),
    ("GET", "/operations/{id}/result"),
];

/// A world with a running operation, and its id.
async fn busy() -> (World, String) {
    let world = World::start().await;
    let operation = world.begin("/operations/reevaluate?pool=master").await;
    (world, operation.id.to_string())
}

/// Sends every protected request with these headers, and checks that none has an effect.
async fn ask_all(headers: &[(&str, &str)], check: impl Fn(&Response)) {
    let (world, id) = busy().await;
    for (method, path) in PROTECTED {
        let mut request = request(method, &path.replace("{id}", &id));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        check(&world.send(request.body(Body::empty()).unwrap()).await);
    }
    assert_eq!(world.controller.started(), 1, "only the one from before");
    assert!(!world.operations.show(&id).unwrap().cancel_requested);
}

#[tokio::test]
async fn without_a_valid_token_nothing_is_started_cancelled_or_fetched() {
    let token = format!("Bearer {ADMIN}");
    let long = format!("Bearer {}", "x".repeat(20_000));
    for headers in [
        &[][..],
        &[("authorization", "Bearer unknown")],
        &[("authorization", "Bearer ")],
        &[("authorization", "Basic YWRtaW46YWRtaW4=")],
        &[("authorization", ADMIN)],
        &[("authorization", &*long)],
        // Two tokens are ambiguous.
        &[("authorization", &*token), ("authorization", &*token)],
    ] {
        ask_all(headers, |response| {
            response.is_error(401, "Unauthorized", "kubectl create token");
            let scheme = &response.headers["www-authenticate"];
            assert!(scheme.to_str().unwrap().starts_with("Bearer"));
        })
        .await;
    }
}

#[tokio::test]
async fn without_permission_nothing_is_started_cancelled_or_fetched() {
    let token = format!("Bearer {VIEWER}");
    ask_all(&[("authorization", &token)], |response| {
        response.is_error(403, "Forbidden", "viewer may not ");
        response.is_error(403, "Forbidden", " /operations/");
        response.is_error(403, "Forbidden", "node-insights-operate");
    })
    .await;
}

#[tokio::test]
async fn while_permissions_cannot_be_checked_everything_is_denied() {
    let (world, id) = busy().await;
    let unreachable = Arc::new(Access::new(client(closed_port().await)));
    for (access, reason, hint) in [
        (None, "NotReady", "no connection to the API server"),
        (Some(unreachable), "AccessUnknown", "cannot be reached"),
    ] {
        world.access.send_replace(access);
        for (method, path) in PROTECTED {
            let path = path.replace("{id}", &id);
            let response = world.ask(method, &path, Some(ADMIN)).await;
            response.is_error(503, reason, hint);
        }
    }
    assert_eq!(world.controller.started(), 1);
}

#[tokio::test]
async fn operations_can_be_listed_without_a_token() {
    let world = World::start().await;
    let first = world.begin("/operations/resync").await;
    let second = world.begin("/operations/export").await;
    let list = world.ask("GET", "/operations", None).await.json();
    let ids: Vec<&str> = list
        .as_array()
        .unwrap()
        .iter()
        .map(|operation| operation["id"].as_str().unwrap())
        .collect();
    assert_eq!(ids, [second.id.as_str(), first.id.as_str()], "newest first");
    let path = format!("/operations/{}", first.id);
    let shown = world.ask("GET", &path, None).await.json();
    assert_eq!(shown["state"], "Running");
}

#[tokio::test]
async fn a_running_operation_is_not_started_again() {
    let world = World::start().await;
    let response = world.ask("POST", "/operations/resync", Some(ADMIN)).await;
    assert_eq!(response.status, 202);
    let operation = response.json();
    let place = response.headers["location"].to_str().unwrap().to_owned();
    let again = world.ask("POST", "/operations/resync", Some(ADMIN)).await;
    assert_eq!(again.status, 200);
    assert_eq!(again.json(), operation);
    assert_eq!(world.controller.started(), 1);
    assert_eq!(world.ask("GET", &place, None).await.json(), operation);
}

#[tokio::test]
async fn a_running_operation_can_be_cancelled_and_a_finished_one_cannot() {
    let (world, id) = busy().await;
    let path = format!("/operations/{id}");
    let response = world.ask("DELETE", &path, Some(ADMIN)).await;
    assert_eq!(response.status, 202);
    assert_eq!(response.json()["cancelRequested"], true);
    let handle = world.controller.take(&id);
    assert!(handle.is_cancelled());
    handle.stopped("on request");
    let response = world.ask("DELETE", &path, Some(ADMIN)).await;
    response.is_error(409, "AlreadyFinished", "cancelled");
}

#[tokio::test]
async fn a_result_can_be_fetched_once_it_exists() {
    let world = World::start().await;
    let id = world.begin("/operations/export").await.id.to_string();
    let path = format!("/operations/{id}/result");
    let response = world.ask("GET", &path, Some(ADMIN)).await;
    response.is_error(409, "Running", "wait until it has ended");
    let lines = "{\"name\":\"a\"}\n{\"name\":\"b\"}\n";
    let handle = world.controller.take(&id);
    handle.succeed("2 states", Some(Arc::from(lines.as_bytes())));
    let response = world.ask("GET", &path, Some(ADMIN)).await;
    assert_eq!((response.status, &*response.text), (200, lines));
    assert_eq!(response.headers["content-type"], "application/x-ndjson");
    let name = format!("attachment; filename=\"{id}.ndjson\"");
    assert_eq!(response.headers["content-disposition"], name);

    let id = world.begin("/operations/resync").await.id.to_string();
    world.controller.take(&id).fail("no response");
    let path = format!("/operations/{id}/result");
    let response = world.ask("GET", &path, Some(ADMIN)).await;
    response.is_error(404, "NoResult", "nothing to fetch");
}

#[tokio::test]
async fn a_request_that_waits_is_answered_when_the_operation_ends() {
    let (world, id) = busy().await;
    let path = format!("/operations/{id}?wait=60");
    let began = Instant::now();
    let (response, ()) = tokio::join!(world.ask("GET", &path, None), async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        world.controller.take(&id).succeed("3 nodes", None);
    });
    assert_eq!(response.json()["state"], "Succeeded");
    assert!(began.elapsed() < Duration::from_secs(20));
}

#[tokio::test]
async fn before_the_controller_runs_responses_refer_to_readyz() {
    let (world, id) = busy().await;
    world.engine.send_replace(None);
    for path in ["/operations/resync", "/operations/export"] {
        let response = world.ask("POST", path, Some(ADMIN)).await;
        response.is_error(503, "NotReady", "/readyz");
    }
    // Running operations belong to the registry, and can still be cancelled.
    let path = format!("/operations/{id}");
    let response = world.ask("DELETE", &path, Some(ADMIN)).await;
    assert_eq!(response.status, 202);
}

#[tokio::test]
async fn an_unknown_pool_is_answered_with_the_known_ones() {
    let world = World::start().await;
    let path = "/operations/reevaluate?pool=gpus";
    let response = world.ask("POST", path, Some(ADMIN)).await;
    response.is_error(404, "UnknownPool", "\"gpus\"; there are: master, worker");
    let known: Vec<Value> = vec!["master".into(), "worker".into()];
    assert_eq!(response.json()["known"], Value::Array(known));
}

#[tokio::test]
async fn shutdown_does_not_wait_for_requests_that_wait() {
    let (world, id) = busy().await;
    let path = format!("/operations/{id}?wait=60");
    let began = Instant::now();
    let (response, ()) = tokio::join!(world.ask("GET", &path, None), async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        world.stop.cancel();
    });
    assert_eq!(response.json()["state"], "Running");
    assert!(began.elapsed() < Duration::from_secs(20));
    assert_eq!(world.state(&id), OperationState::Running);
    world.end().await;
}

#[tokio::test]
async fn shutdown_does_not_wait_for_clients_that_do_not_read() {
    let world = World::start().await;
    let id = world.begin("/operations/export").await.id.to_string();
    // More than fits into the buffers between the operator and the client.
    let lines = vec![b'\n'; 64 << 20];
    world
        .controller
        .take(&id)
        .succeed("", Some(Arc::from(lines)));
    let mut idle = TcpStream::connect(world.port).await.unwrap();
    let ask = format!(
        "GET /operations/{id}/result HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {ADMIN}\r\n\r\n"
    );
    idle.write_all(ask.as_bytes()).await.unwrap();
    let mut begun = [0; 12];
    idle.read_exact(&mut begun).await.unwrap();
    assert_eq!(&begun, b"HTTP/1.1 200");

    world.end().await;
}
