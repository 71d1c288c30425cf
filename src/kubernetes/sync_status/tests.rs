//! The requests to an API server, and how its answers are handled; the answers are scripted. `tests/integration`
//! tests it with a real one.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::*;

const STATUS: &str = r#"{"phase":"Complete","reason":"Start","attempts":1,
    "lastAttempt":"2023-11-14T22:13:20Z","nodesCompared":59,"differencesFound":0,"differencesRepaired":0}"#;
const PATH: &str = "/api/v1/namespaces/ops/configmaps";

/// A request: method and path, and its body.
type Calls = Arc<Mutex<Vec<(String, Value)>>>;

#[derive(Clone, Default)]
struct Answers {
    next: Arc<Mutex<VecDeque<(u16, Value)>>>,
    calls: Calls,
}

async fn answer(State(answers): State<Answers>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let call = format!("{} {}", parts.method, parts.uri.path());
    let body = to_bytes(body, usize::MAX).await.unwrap();
    let object = serde_json::from_slice(&body).unwrap_or_default();
    answers.calls.lock().unwrap().push((call, object));
    let next = answers.next.lock().unwrap().pop_front();
    let Some((code, body)) = next else {
        return std::future::pending().await;
    };
    let code = StatusCode::from_u16(code).unwrap();
    (code, Body::from(body.to_string())).into_response()
}

/// A store whose requests get these answers, and the recorded requests.
fn store(answers: impl IntoIterator<Item = (u16, Value)>) -> (SyncStatusConfigMap, Calls) {
    let answers = Answers {
        next: Arc::new(Mutex::new(answers.into_iter().collect())),
        calls: Calls::default(),
    };
    let calls = Arc::clone(&answers.calls);
    let client = Client::new(Router::new().fallback(answer).with_state(answers), "ops");
    (SyncStatusConfigMap::new(client, "ops", NAME), calls)
}

fn map(version: &str, data: &Value) -> (u16, Value) {
    let metadata = json!({"name": NAME, "resourceVersion": version, "labels": {"team": "a"}});
    let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data});
    (200, map)
}

fn refusal(code: u16, message: &str) -> (u16, Value) {
    let reason = match code {
        404 => "NotFound",
        409 => "Conflict",
        _ => "Forbidden",
    };
    let status = json!({"apiVersion": "v1", "kind": "Status", "status": "Failure",
        "code": code, "reason": reason, "message": message});
    (code, status)
}

fn status() -> SyncStatus {
    serde_json::from_str(STATUS).unwrap()
}

fn names(calls: &Calls) -> Vec<String> {
    let calls = calls.lock().unwrap();
    calls.iter().map(|(call, _)| call.clone()).collect()
}

fn get() -> String {
    format!("GET {PATH}/{NAME}")
}

fn put() -> String {
    format!("PUT {PATH}/{NAME}")
}

fn post() -> String {
    format!("POST {PATH}")
}

#[tokio::test]
async fn a_stored_status_is_loaded() {
    let (store, calls) = store([map("7", &json!({KEY: STATUS}))]);
    assert_eq!(store.load().await, Ok(Some(status())));
    assert_eq!(names(&calls), [get()]);
}

#[tokio::test]
async fn nothing_is_loaded_when_nothing_was_stored() {
    for answer in [
        refusal(404, "configmaps not found"),
        map("7", &json!({"other": "x"})),
        map("7", &Value::Null),
    ] {
        let (store, _) = store([answer]);
        assert_eq!(store.load().await, Ok(None));
    }
}

#[tokio::test]
async fn a_foreign_value_is_ignored_and_reported() {
    for junk in ["", "{}", "[]", "\u{0}", r#"{"phase":"Dancing"}"#] {
        let (store, _) = store([map("7", &json!({KEY: junk}))]);
        let error = store.load().await.unwrap_err();
        assert!(matches!(error, StoreError::Unreadable(_)), "{junk}");
        assert!(error.to_string().contains("ops/node-insights-sync-status"));
    }
}

#[tokio::test]
async fn the_status_is_put_with_the_resource_version_and_other_keys_stay() {
    let before = map("7", &json!({KEY: "old", "other": "x"}));
    let (store, calls) = store([before.clone(), before]);
    store.save(&status()).await.unwrap();
    assert_eq!(names(&calls), [get(), put()]);
    let sent = calls.lock().unwrap()[1].1.clone();
    assert_eq!(sent["metadata"]["resourceVersion"], "7");
    assert_eq!(sent["metadata"]["labels"]["team"], "a");
    assert_eq!(sent["data"]["other"], "x");
    let stored = sent["data"][KEY].as_str().unwrap();
    assert_eq!(
        serde_json::from_str::<SyncStatus>(stored).unwrap(),
        status()
    );
}

#[tokio::test]
async fn a_missing_config_map_is_created() {
    let created = map("1", &Value::Null);
    let (store, calls) = store([refusal(404, "configmaps not found"), created]);
    store.save(&status()).await.unwrap();
    assert_eq!(names(&calls), [get(), post()]);
    let sent = calls.lock().unwrap()[1].1.clone();
    assert_eq!(sent["metadata"]["name"], NAME);
    assert_eq!(sent["metadata"]["resourceVersion"], Value::Null);
}

#[tokio::test]
async fn after_a_conflict_the_config_map_is_read_again_and_put_once_more() {
    let (old, new) = (map("7", &Value::Null), map("8", &Value::Null));
    let (store, calls) = store([old, refusal(409, "modified"), new.clone(), new]);
    store.save(&status()).await.unwrap();
    assert_eq!(names(&calls), [get(), put(), get(), put()]);
    let sent = calls.lock().unwrap()[3].1.clone();
    assert_eq!(sent["metadata"]["resourceVersion"], "8");
}

#[tokio::test]
async fn creation_or_deletion_in_between_is_a_conflict_too() {
    let (missing, there) = (refusal(404, "not found"), map("7", &Value::Null));
    let exists = refusal(409, "already exists");
    let (created, calls) = store([missing.clone(), exists, there.clone(), there.clone()]);
    created.save(&status()).await.unwrap();
    assert_eq!(names(&calls), [get(), post(), get(), put()]);
    let (deleted, calls) = store([there.clone(), missing.clone(), missing, there]);
    deleted.save(&status()).await.unwrap();
    assert_eq!(names(&calls), [get(), put(), get(), post()]);
}

#[tokio::test]
async fn a_second_conflict_is_returned_and_not_retried() {
    let there = map("7", &Value::Null);
    let conflict = refusal(409, "the object has been modified");
    let (store, calls) = store([there.clone(), conflict.clone(), there, conflict]);
    let error = store.save(&status()).await.unwrap_err().to_string();
    assert!(error.contains("the object has been modified"), "{error}");
    assert_eq!(names(&calls).len(), 4);
}

#[tokio::test]
async fn a_missing_permission_is_reported_with_verb_resource_namespace_and_check() {
    let (missing, there) = (refusal(404, "not found"), map("7", &Value::Null));
    let forbidden = refusal(403, "User \"ni\" cannot do that");
    for (verb, answers) in [
        ("get", vec![forbidden.clone()]),
        ("update", vec![there, forbidden.clone()]),
        ("create", vec![missing, forbidden]),
    ] {
        let (store, _) = store(answers);
        let error = store.save(&status()).await.unwrap_err();
        assert!(matches!(error, StoreError::Unavailable(_)));
        let text = error.to_string();
        for part in [
            format!("may not {verb} configmaps: User"),
            "in the namespace ops".to_owned(),
            format!("kubectl auth can-i {verb} configmaps/node-insights-sync-status -n ops"),
        ] {
            assert!(text.contains(&part), "{text}");
        }
    }
}

#[tokio::test]
async fn a_missing_namespace_is_reported() {
    let missing = refusal(404, "namespaces \"ops\" not found");
    let (store, _) = store([missing.clone(), missing]);
    let error = store.save(&status()).await.unwrap_err().to_string();
    assert!(error.contains("There is no namespace ops"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_call_without_an_answer_fails_after_five_seconds() {
    let (store, _) = store([]);
    let begin = tokio::time::Instant::now();
    assert_eq!(store.load().await, Err(StoreError::Slow(DEADLINE)));
    assert_eq!(begin.elapsed().as_secs(), 5);
}
