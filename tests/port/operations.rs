//! `/operations`: who may do what, and what comes of it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use kube::client::Body;
use node_insights::kubernetes::access::Access;
use node_insights::registry::operations::OperationState;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::fakes::{ADMIN, Answer, VIEWER, World, client, nobody, request};

/// Everything that is not open to all who reach the port.
const PROTECTED: [(&str, &str); 5] = [
    ("POST", "/operations/resync"),
    ("POST", "/operations/reevaluate?pool=worker"),
    ("POST", "/operations/export"),
    ("DELETE", "/operations/{id}"),
    ("GET", "/operations/{id}/result"),
];

/// A world in which one operation runs, and its id.
async fn busy() -> (World, String) {
    let world = World::start().await;
    let operation = world.begin("/operations/reevaluate?pool=master").await;
    (world, operation.id.to_string())
}

/// Asks for everything that is protected, with these headers, and checks that nothing came of it.
async fn ask_all(headers: &[(&str, &str)], check: impl Fn(&Answer)) {
    let (world, id) = busy().await;
    for (method, path) in PROTECTED {
        let mut request = request(method, &path.replace("{id}", &id));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        check(&world.send(request.body(Body::empty()).unwrap()).await);
    }
    assert_eq!(world.centre.started(), 1, "only what was there before");
    assert!(!world.operations.show(&id).unwrap().cancel_requested);
}

#[tokio::test]
async fn without_a_token_that_the_cluster_knows_nothing_is_started_cancelled_or_fetched() {
    let token = format!("Bearer {ADMIN}");
    let long = format!("Bearer {}", "x".repeat(20_000));
    for headers in [
        &[][..],
        &[("authorization", "Bearer unknown")],
        &[("authorization", "Bearer ")],
        &[("authorization", "Basic YWRtaW46YWRtaW4=")],
        &[("authorization", ADMIN)],
        &[("authorization", &*long)],
        // Which of the two is meant is not for this port to say.
        &[("authorization", &*token), ("authorization", &*token)],
    ] {
        ask_all(headers, |answer| {
            answer.refuses(401, "Unauthorized", "kubectl create token");
            let scheme = &answer.headers["www-authenticate"];
            assert!(scheme.to_str().unwrap().starts_with("Bearer"));
        })
        .await;
    }
}

#[tokio::test]
async fn without_permission_nothing_is_started_cancelled_or_fetched() {
    let token = format!("Bearer {VIEWER}");
    ask_all(&[("authorization", &token)], |answer| {
        answer.refuses(403, "Forbidden", "viewer may not ");
        answer.refuses(403, "Forbidden", " /operations/");
        answer.refuses(403, "Forbidden", "node-insights-operate");
    })
    .await;
}

#[tokio::test]
async fn while_nobody_can_say_who_may_nobody_may() {
    let (world, id) = busy().await;
    let away = Arc::new(Access::new(client(nobody().await)));
    for (access, reason, hint) in [
        (None, "NotReady", "no connection to the API server"),
        (Some(away), "AccessUnknown", "cannot be reached"),
    ] {
        world.access.send_replace(access);
        for (method, path) in PROTECTED {
            let path = path.replace("{id}", &id);
            let answer = world.ask(method, &path, Some(ADMIN)).await;
            answer.refuses(503, reason, hint);
        }
    }
    assert_eq!(world.centre.started(), 1);
}

#[tokio::test]
async fn what_is_started_can_be_looked_at_by_everybody() {
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
async fn what_runs_already_is_not_started_again() {
    let world = World::start().await;
    let answer = world.ask("POST", "/operations/resync", Some(ADMIN)).await;
    assert_eq!(answer.status, 202);
    let operation = answer.json();
    let place = answer.headers["location"].to_str().unwrap().to_owned();
    let again = world.ask("POST", "/operations/resync", Some(ADMIN)).await;
    assert_eq!(again.status, 200);
    assert_eq!(again.json(), operation);
    assert_eq!(world.centre.started(), 1);
    assert_eq!(world.ask("GET", &place, None).await.json(), operation);
}

#[tokio::test]
async fn what_is_cancelled_is_told_so_once_and_not_after_its_end() {
    let (world, id) = busy().await;
    let path = format!("/operations/{id}");
    let answer = world.ask("DELETE", &path, Some(ADMIN)).await;
    assert_eq!(answer.status, 202);
    assert_eq!(answer.json()["cancelRequested"], true);
    let handle = world.centre.take(&id);
    assert!(handle.is_cancelled());
    handle.stopped("on request");
    let answer = world.ask("DELETE", &path, Some(ADMIN)).await;
    answer.refuses(409, "AlreadyFinished", "cancelled");
}

#[tokio::test]
async fn a_result_can_be_fetched_when_it_is_there() {
    let world = World::start().await;
    let id = world.begin("/operations/export").await.id.to_string();
    let path = format!("/operations/{id}/result");
    let answer = world.ask("GET", &path, Some(ADMIN)).await;
    answer.refuses(409, "Running", "wait until it has ended");
    let lines = "{\"name\":\"a\"}\n{\"name\":\"b\"}\n";
    let handle = world.centre.take(&id);
    handle.succeed("2 states", Some(Arc::from(lines.as_bytes())));
    let answer = world.ask("GET", &path, Some(ADMIN)).await;
    assert_eq!((answer.status, &*answer.text), (200, lines));
    assert_eq!(answer.headers["content-type"], "application/x-ndjson");
    let name = format!("attachment; filename=\"{id}.ndjson\"");
    assert_eq!(answer.headers["content-disposition"], name);

    let id = world.begin("/operations/resync").await.id.to_string();
    world.centre.take(&id).fail("no answer");
    let path = format!("/operations/{id}/result");
    let answer = world.ask("GET", &path, Some(ADMIN)).await;
    answer.refuses(404, "NoResult", "nothing to fetch");
}

#[tokio::test]
async fn who_waits_for_the_end_is_answered_at_the_end() {
    let (world, id) = busy().await;
    let path = format!("/operations/{id}?wait=60");
    let began = Instant::now();
    let (answer, ()) = tokio::join!(world.ask("GET", &path, None), async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        world.centre.take(&id).succeed("3 nodes", None);
    });
    assert_eq!(answer.json()["state"], "Succeeded");
    assert!(began.elapsed() < Duration::from_secs(20));
}

#[tokio::test]
async fn before_there_is_a_centre_it_is_said_what_it_waits_for() {
    let (world, id) = busy().await;
    world.engine.send_replace(None);
    for path in ["/operations/resync", "/operations/export"] {
        let answer = world.ask("POST", path, Some(ADMIN)).await;
        answer.refuses(503, "NotReady", "/readyz");
    }
    // What runs is the registry's, and can be stopped all the same.
    let path = format!("/operations/{id}");
    let answer = world.ask("DELETE", &path, Some(ADMIN)).await;
    assert_eq!(answer.status, 202);
}

#[tokio::test]
async fn an_unknown_pool_is_answered_with_those_that_there_are() {
    let world = World::start().await;
    let path = "/operations/reevaluate?pool=gpus";
    let answer = world.ask("POST", path, Some(ADMIN)).await;
    answer.refuses(404, "UnknownPool", "\"gpus\"; there are: master, worker");
    let known: Vec<Value> = vec!["master".into(), "worker".into()];
    assert_eq!(answer.json()["known"], Value::Array(known));
}

#[tokio::test]
async fn the_end_of_the_operator_waits_for_nobody_who_waits() {
    let (world, id) = busy().await;
    let path = format!("/operations/{id}?wait=60");
    let began = Instant::now();
    let (answer, ()) = tokio::join!(world.ask("GET", &path, None), async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        world.stop.cancel();
    });
    assert_eq!(answer.json()["state"], "Running");
    assert!(began.elapsed() < Duration::from_secs(20));
    assert_eq!(world.state(&id), OperationState::Running);
    world.end().await;
}

#[tokio::test]
async fn the_end_of_the_operator_waits_for_nobody_who_does_not_read() {
    let world = World::start().await;
    let id = world.begin("/operations/export").await.id.to_string();
    // More than fits between the operator and whoever reads.
    let lines = vec![b'\n'; 64 << 20];
    world.centre.take(&id).succeed("", Some(Arc::from(lines)));
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
