//! Invalid requests: each is answered with an error that says what is wrong, and has no effect.

use kube::client::Body;
use node_insights_harness::eventually;

use crate::fakes::{ADMIN, World, request};

#[tokio::test]
async fn an_invalid_or_unknown_id_is_rejected() {
    let world = World::start().await;
    for (method, path) in [
        ("GET", "/operations/{id}"),
        ("DELETE", "/operations/{id}"),
        ("GET", "/operations/{id}/result"),
    ] {
        for (id, status, reason, hint) in [
            (
                "resync-1-1",
                404,
                "UnknownOperation",
                "listed for some minutes",
            ),
            ("Resync-1", 400, "InvalidId", "resync-1700000000-3"),
            ("..%2F..%2Fetc", 400, "InvalidId", "\"../../etc\""),
            ("%1B%5B31m", 400, "InvalidId", "not the id"),
            ("%FF", 400, "BadRequest", "UTF-8"),
            (&*"x".repeat(1000), 400, "BadRequest", "more than 253"),
        ] {
            let path = path.replace("{id}", id);
            let response = world.ask(method, &path, Some(ADMIN)).await;
            response.is_error(status, reason, hint);
            assert!(response.text.len() < 500, "{}", response.text);
            assert!(!response.text.trim_end().chars().any(char::is_control));
        }
    }
}

#[tokio::test]
async fn a_missing_invalid_or_unknown_parameter_is_rejected() {
    let world = World::start().await;
    let id = world.begin("/operations/export").await.id;
    let of_one = |query: &str| format!("/operations/{id}?{query}");
    for (method, path, hint) in [
        ("POST", "/operations/reevaluate", "?pool=worker"),
        ("POST", "/operations/reevaluate?pool=", "?pool=worker"),
        (
            "POST",
            "/operations/reevaluate?pol=a",
            "\"pol\": there is pool",
        ),
        (
            "POST",
            "/operations/reevaluate?pool=master&pool=worker",
            "more than once",
        ),
        // A mistaken parameter for one pool must not start a resync of everything.
        (
            "POST",
            "/operations/resync?pool=worker",
            "no parameter \"pool\": there is none",
        ),
        ("POST", "/operations/export?pool=worker", "no parameter"),
        ("GET", "/operations?kind=export", "no parameter"),
        ("DELETE", &of_one("force=true"), "no parameter"),
        ("GET", &of_one("wait=61"), "from 0 to 60"),
        ("GET", &of_one("wait=-1"), "from 0 to 60"),
        ("GET", &of_one("wait=soon"), "from 0 to 60"),
        ("GET", &of_one("wait=99999999999999999999"), "from 0 to 60"),
    ] {
        let response = world.ask(method, path, Some(ADMIN)).await;
        response.is_error(400, "BadRequest", hint);
    }
    let long = format!("/operations/reevaluate?pool={}", "x".repeat(1000));
    let response = world.ask("POST", &long, Some(ADMIN)).await;
    response.is_error(400, "BadRequest", "more than 253");
    assert!(response.text.len() < 500);
    assert_eq!(world.controller.started(), 1);
    let export = world.operations.show(id.as_str()).unwrap();
    assert!(!export.cancel_requested);
}

#[tokio::test]
async fn a_body_is_rejected_as_it_would_be_ignored() {
    let world = World::start().await;
    for (size, path) in [
        (18, "/operations/reevaluate?pool=worker"),
        (18, "/operations/resync"),
        (10 << 20, "/operations/export"),
    ] {
        let authorization = format!("Bearer {ADMIN}");
        let request = request("POST", path).header("authorization", authorization);
        let request = request.body(Body::from(vec![b' '; size])).unwrap();
        let response = world.send(request).await;
        response.is_error(413, "BodyTooLarge", "?pool=worker");
    }
    assert_eq!(world.controller.started(), 0);
}

#[tokio::test]
async fn an_unsupported_method_is_rejected_with_the_supported_ones() {
    let world = World::start().await;
    let id = world.begin("/operations/export").await.id;
    for (method, path, allowed) in [
        ("PUT", "/operations".to_owned(), "GET,HEAD"),
        ("GET", "/operations/resync".to_owned(), "POST"),
        ("DELETE", "/operations/export".to_owned(), "POST"),
        ("POST", format!("/operations/{id}"), "GET,HEAD,DELETE"),
        ("DELETE", format!("/operations/{id}/result"), "GET,HEAD"),
        ("POST", "/metrics".to_owned(), "GET,HEAD"),
    ] {
        let response = world.ask(method, &path, Some(ADMIN)).await;
        response.is_error(
            405,
            "MethodNotAllowed",
            &format!("{method} is not for {path}"),
        );
        assert_eq!(response.headers["allow"], allowed, "{method} {path}");
    }
}

#[tokio::test]
async fn an_unknown_path_is_answered_with_the_known_ones() {
    let world = World::start().await;
    for path in [
        "/",
        "/operations/",
        "/operations/a/b",
        "/operations/a/result/",
        "/metrics/a",
        // Only on the debug port.
        "/debug",
        "/debug/states",
    ] {
        let response = world.ask("GET", path, Some(ADMIN)).await;
        response.is_error(404, "UnknownPath", "/metrics and /operations");
    }
}

#[tokio::test]
async fn an_oversized_request_costs_its_connection_and_nothing_else() {
    let world = World::start().await;
    let header = "x".repeat(2 << 20);
    let request = request("POST", "/operations/resync").header("x-long", header);
    let request = request.body(Body::empty()).unwrap();
    let response = crate::fakes::client(world.port).send(request).await;
    // Either a 431, or the connection is closed while the request is still being sent.
    assert!(response.is_err() || response.is_ok_and(|response| response.status() == 431));
    assert_eq!(world.controller.started(), 0);
    let alive = eventually(
        "a response",
        std::time::Duration::from_secs(10),
        async || {
            let response = world.ask("GET", "/metrics", None).await;
            Ok((response.status == 200).then_some(()))
        },
    );
    alive.await.unwrap();
}
