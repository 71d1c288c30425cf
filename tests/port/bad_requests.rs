//! Requests that make no sense: each is answered with what is wrong, and nothing comes of it.

use kube::client::Body;
use node_insights_harness::eventually;

use crate::fakes::{ADMIN, World, request};

#[tokio::test]
async fn an_id_that_is_none_or_unknown_is_refused() {
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
                "kept for some minutes",
            ),
            ("Resync-1", 400, "InvalidId", "resync-1700000000-3"),
            ("..%2F..%2Fetc", 400, "InvalidId", "\"../../etc\""),
            ("%1B%5B31m", 400, "InvalidId", "not the id"),
            ("%FF", 400, "BadRequest", "UTF-8"),
            (&*"x".repeat(1000), 400, "BadRequest", "more than 253"),
        ] {
            let path = path.replace("{id}", id);
            let answer = world.ask(method, &path, Some(ADMIN)).await;
            answer.refuses(status, reason, hint);
            assert!(answer.text.len() < 500, "{}", answer.text);
            assert!(!answer.text.trim_end().chars().any(char::is_control));
        }
    }
}

#[tokio::test]
async fn a_parameter_that_is_missing_wrong_or_unknown_is_refused() {
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
        // Not everything is compared because somebody meant one pool.
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
        let answer = world.ask(method, path, Some(ADMIN)).await;
        answer.refuses(400, "BadRequest", hint);
    }
    let long = format!("/operations/reevaluate?pool={}", "x".repeat(1000));
    let answer = world.ask("POST", &long, Some(ADMIN)).await;
    answer.refuses(400, "BadRequest", "more than 253");
    assert!(answer.text.len() < 500);
    assert_eq!(world.centre.started(), 1);
    let export = world.operations.show(id.as_str()).unwrap();
    assert!(!export.cancel_requested);
}

#[tokio::test]
async fn a_body_is_refused_since_nothing_would_come_of_it() {
    let world = World::start().await;
    for (size, path) in [
        (18, "/operations/reevaluate?pool=worker"),
        (18, "/operations/resync"),
        (10 << 20, "/operations/export"),
    ] {
        let authorization = format!("Bearer {ADMIN}");
        let request = request("POST", path).header("authorization", authorization);
        let request = request.body(Body::from(vec![b' '; size])).unwrap();
        let answer = world.send(request).await;
        answer.refuses(413, "BodyTooLarge", "?pool=worker");
    }
    assert_eq!(world.centre.started(), 0);
}

#[tokio::test]
async fn a_method_that_is_not_for_a_path_is_refused_with_those_that_are() {
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
        let answer = world.ask(method, &path, Some(ADMIN)).await;
        answer.refuses(
            405,
            "MethodNotAllowed",
            &format!("{method} is not for {path}"),
        );
        assert_eq!(answer.headers["allow"], allowed, "{method} {path}");
    }
}

#[tokio::test]
async fn a_path_where_nothing_is_says_what_there_is() {
    let world = World::start().await;
    for path in [
        "/",
        "/operations/",
        "/operations/a/b",
        "/operations/a/result/",
        "/metrics/a",
        // Only on the port that is for it.
        "/debug",
        "/debug/states",
    ] {
        let answer = world.ask("GET", path, Some(ADMIN)).await;
        answer.refuses(404, "UnknownPath", "/metrics and /operations");
    }
}

#[tokio::test]
async fn what_is_too_long_for_a_request_costs_its_connection_and_nothing_else() {
    let world = World::start().await;
    let header = "x".repeat(2 << 20);
    let request = request("POST", "/operations/resync").header("x-long", header);
    let request = request.body(Body::empty()).unwrap();
    let answer = crate::fakes::client(world.port).send(request).await;
    // Answered with 431, or cut off while it is still sent.
    assert!(answer.is_err() || answer.is_ok_and(|answer| answer.status() == 431));
    assert_eq!(world.centre.started(), 0);
    let alive = eventually(
        "an answer",
        std::time::Duration::from_secs(10),
        async || {
            let answer = world.ask("GET", "/metrics", None).await;
            Ok((answer.status == 200).then_some(()))
        },
    );
    alive.await.unwrap();
}
