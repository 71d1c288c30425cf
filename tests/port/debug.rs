//! `/debug`: the state of the controller.

use kube::client::Body;
use serde_json::{Value, json};

use crate::fakes::{World, client, request, send};

fn names(rows: &Value) -> Vec<&str> {
    let rows = rows.as_array().unwrap().iter();
    rows.map(|row| row["name"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn the_whole_state_of_the_controller_can_be_read() {
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
async fn the_index_lists_paths_that_exist() {
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
async fn unknown_nodes_pools_and_paths_are_named() {
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
        world.ask_debug(path).await.is_error(status, reason, hint);
    }
    let post = request("POST", "/debug/states")
        .body(Body::empty())
        .unwrap();
    let response = send(world.debug, post).await;
    response.is_error(405, "MethodNotAllowed", "POST");
}

#[tokio::test]
async fn before_the_controller_runs_responses_refer_to_readyz() {
    let world = World::start().await;
    world.engine.send_replace(None);
    for path in ["states", "states/node-1", "pools", "queues", "sync"] {
        let response = world.ask_debug(&format!("/debug/{path}")).await;
        response.is_error(503, "NotReady", "/readyz");
    }
}

#[tokio::test]
async fn the_states_of_a_large_cluster_are_returned_in_full() {
    let world = World::with_nodes(100_000).await;
    let all = world.ask_debug("/debug/states").await.json();
    assert_eq!(all.as_array().unwrap().len(), 100_000);
    assert_eq!(all[99_999]["name"], "node-99999");
}

#[tokio::test]
async fn a_response_that_the_end_of_the_operator_cuts_off_is_an_error() {
    let world = World::with_nodes(100_000).await;
    let request = request("GET", "/debug/states").body(Body::empty()).unwrap();
    let response = client(world.debug).send(request).await.unwrap();
    assert_eq!(response.status(), 200);
    world.end().await;
    let read = response.into_body().collect_bytes().await;
    assert!(read.is_err(), "it looks complete");
}
