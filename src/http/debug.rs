//! `/debug`: what the node-state controller knows, in JSON, to explain the contents of an insight.
//!
//! Served on a port of its own that is off by default and listens on loopback by default. There is no other
//! protection: every client that reaches the port can read every state.

use axum::Router;
use axum::extract::State;
use axum::http::{Method, StatusCode, Uri};
use axum::response::Response;
use axum::routing::get;
use tokio_util::sync::CancellationToken;

use super::answer::{Refusal, array, json, no_such_method, no_such_path};
use super::engine;
use super::engine::CurrentEngine;
use super::request::{Name, Parameters};

const PATHS: [&str; 5] = [
    "/debug/states?pool=NAME",
    "/debug/states/NODE",
    "/debug/pools",
    "/debug/queues",
    "/debug/sync",
];

#[derive(Clone)]
struct Debug {
    engine: CurrentEngine,
    stop: CancellationToken,
}

type Answer = Result<Response, Refusal>;

pub(super) fn router(engine: CurrentEngine, stop: CancellationToken) -> Router {
    Router::new()
        .route("/debug", get(index))
        .route("/debug/", get(index))
        .route("/debug/states", get(states))
        .route("/debug/states/{node}", get(state))
        .route("/debug/pools", get(pools))
        .route("/debug/queues", get(queues))
        .route("/debug/sync", get(sync))
        .fallback(async |uri: Uri| no_such_path(&uri, &PATHS.join(", ")))
        .method_not_allowed_fallback(async |method: Method, uri: Uri| no_such_method(&method, &uri))
        .with_state(Debug { engine, stop })
}

async fn index() -> Response {
    json(StatusCode::OK, &PATHS)
}

async fn states(State(debug): State<Debug>, parameters: Parameters) -> Answer {
    let pool = parameters.at_most("pool")?;
    let rows = engine(&debug.engine)?.states(pool.as_deref())?;
    Ok(array(rows, debug.stop))
}

async fn state(State(debug): State<Debug>, Name(node): Name, parameters: Parameters) -> Answer {
    parameters.none()?;
    let state = engine(&debug.engine)?.state(&node).ok_or_else(|| {
        let error = format!("There is no node {node:?}; /debug/states has all nodes");
        Refusal::new(StatusCode::NOT_FOUND, "UnknownNode", error)
    })?;
    Ok(json(StatusCode::OK, &state))
}

async fn pools(State(debug): State<Debug>, parameters: Parameters) -> Answer {
    parameters.none()?;
    let rows = engine(&debug.engine)?.pools();
    Ok(array(rows, debug.stop))
}

async fn queues(State(debug): State<Debug>, parameters: Parameters) -> Answer {
    parameters.none()?;
    let rows = engine(&debug.engine)?.queues();
    Ok(array(rows, debug.stop))
}

async fn sync(State(debug): State<Debug>, parameters: Parameters) -> Answer {
    parameters.none()?;
    let sync = engine(&debug.engine)?.sync();
    Ok(json(StatusCode::OK, &sync))
}
