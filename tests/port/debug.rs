//! `/debug`: what the centre knows.

use kube::client::Body;
use serde_json::{Value, json};

use crate::fakes::{World, client, request, send};

fn names(rows: &Value) -> Vec<&str> {
    let rows = rows.as_array().unwrap().iter();
    rows.map(|row| row["name"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn everything_that_the_centre_knows_can_be_read() {
    let world = World::start().await;
    let all = world.ask_debug("/debug/states").await.json();
    assert_eq!(names(&all), ["node-0", "node-1", "node-2", "node-3"]);
    let pool = world.ask_debug("/debug/states?pool=worker").await.json();
    assert_eq!(names(&pool), ["node-1", "node-3"]);
    let node = world.ask_debug("/debug/states/node-1").await.json();
    assert_eq!(node, all[1]);
    let pools = world.ask_debug("/debug/pools").await.json();
    assert_eq!(names(&pools), ["master", "worker"]);
    let queues = world.ask_debug("/debug/queues").await.json();
    assert_eq!(queues, json!([{"name": "node_state", "pending": 3}]));
    assert_eq!(world.ask_debug("/debug/sync").await.json(), Value::Null);
}

#[tokio::test]
async fn the_index_names_paths_that_there_are() {
    let world = World::start().await;
    let index = world.ask_debug("/debug").await.json();
    assert_eq!(world.ask_debug("/debug/").await.json(), index);
    for path in index.as_array().unwrap() {
        let path = path.as_str().unwrap();
        let path = path.replace("=NAME", "=worker").replace("NODE", "node-0");
        assert_eq!(world.ask_debug(&path).await.status, 200, "{path}");
    }
}

#[tokio::test]
async fn what_there_is_not_is_named() {
    let world = World::start().await;
    for (path, status, reason, hint) in [
        ("/debug/states/node-4", 404, "UnknownNode", "\"node-4\""),
        ("/debug/states/%1B", 404, "UnknownNode", "/debug/states has"),
        ("/debug/states?pool=x", 404, "UnknownPool", "master, worker"),
        ("/debug/states?node=x", 400, "BadRequest", "there is pool"),
        ("/debug/pools?name=x", 400, "BadRequest", "there is none"),
        ("/metrics", 404, "UnknownPath", "/debug/queues"),
        ("/operations", 404, "UnknownPath", "/debug/queues"),
    ] {
        world.ask_debug(path).await.refuses(status, reason, hint);
    }
    let post = request("POST", "/debug/states")
        .body(Body::empty())
        .unwrap();
    let answer = send(world.debug, post).await;
    answer.refuses(405, "MethodNotAllowed", "POST");
}

#[tokio::test]
async fn before_there_is_a_centre_it_is_said_what_it_waits_for() {
    let world = World::start().await;
    world.engine.send_replace(None);
    for path in ["states", "states/node-1", "pools", "queues", "sync"] {
        let answer = world.ask_debug(&format!("/debug/{path}")).await;
        answer.refuses(503, "NotReady", "/readyz");
    }
}

#[tokio::test]
async fn the_states_of_a_large_cluster_come_whole() {
    let world = World::with_nodes(100_000).await;
    let all = world.ask_debug("/debug/states").await.json();
    assert_eq!(all.as_array().unwrap().len(), 100_000);
    assert_eq!(all[99_999]["name"], "node-99999");
}

#[tokio::test]
async fn who_reads_when_the_operator_ends_sees_that_it_is_cut_off() {
    let world = World::with_nodes(100_000).await;
    let request = request("GET", "/debug/states").body(Body::empty()).unwrap();
    let answer = client(world.debug).send(request).await.unwrap();
    assert_eq!(answer.status(), 200);
    world.end().await;
    let read = answer.into_body().collect_bytes().await;
    assert!(read.is_err(), "it looks whole");
}
