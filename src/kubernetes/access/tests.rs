//! The requests to an API server, how its answers are handled, and what is cached. The server is a function here;
//! `tests/integration` tests with a real one.

use std::convert::Infallible;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use http::{Request, Response};
use kube::client::Body;
use serde_json::{Value, json};
use tokio::time::{advance, sleep};
use tower::service_fn;

use super::*;

const TOKEN: &str = "header.payload.signature";
const MEMORY: Memory = Memory::OF_OPERATIONS;

impl Access {
    async fn may(&self, token: &str, verb: &str, path: &str) -> Result<(), Denied> {
        self.allowed(token, verb, path, MEMORY).await
    }
}

/// The recorded requests to the API server, in order.
type Asked = Arc<Mutex<Vec<(String, Value)>>>;

/// An `Access` whose API server answers with the result of `answer` for the resource.
fn access(answer: impl Fn(&str) -> (u16, Value) + Send + Sync + 'static) -> (Access, Asked) {
    let asked = Asked::default();
    let (log, answer) = (Arc::clone(&asked), Arc::new(answer));
    let server = service_fn(move |request: Request<Body>| {
        let (log, answer) = (Arc::clone(&log), Arc::clone(&answer));
        async move {
            let path = request.uri().path().to_owned();
            let body = request.into_body().collect_bytes().await.unwrap();
            let body = serde_json::from_slice(&body).unwrap();
            log.lock().unwrap().push((path.clone(), body));
            let resource = path.rsplit('/').next().unwrap();
            let (status, body) = answer(resource);
            let body = Body::from(serde_json::to_vec(&body).unwrap());
            let answer = Response::builder().status(status).body(body).unwrap();
            Ok::<_, Infallible>(answer)
        }
    });
    (Access::new(Client::new(server, "default")), asked)
}

fn authenticated() -> Value {
    let user = json!({
        "username": "jane", "uid": "u-1", "groups": ["admins"], "extra": {"scopes": ["all"]}
    });
    json!({"metadata": {}, "spec": {"token": TOKEN}, "status": {"authenticated": true, "user": user}})
}

fn reviewed(allowed: bool) -> Value {
    json!({"metadata": {}, "spec": {}, "status": {"allowed": allowed}})
}

/// A cluster with one user, who may do everything.
fn open() -> (Access, Asked) {
    access(|resource| match resource {
        "tokenreviews" => (201, authenticated()),
        _ => (201, reviewed(true)),
    })
}

fn count(asked: &Asked) -> usize {
    asked.lock().unwrap().len()
}

#[tokio::test]
async fn the_owner_of_the_token_is_reviewed_first_and_then_the_permission() {
    let (access, asked) = open();
    let allowed = access.may(TOKEN, "post", "/operations/resync").await;
    assert_eq!(allowed, Ok(()));
    let asked = asked.lock().unwrap();
    let [(tokens, whose), (accesses, what)] = &asked[..] else {
        panic!("{asked:?}");
    };
    assert_eq!(tokens, "/apis/authentication.k8s.io/v1/tokenreviews");
    assert_eq!(whose["spec"], json!({"token": TOKEN}));
    assert_eq!(
        accesses,
        "/apis/authorization.k8s.io/v1/subjectaccessreviews"
    );
    assert_eq!(
        what["spec"],
        json!({
            "user": "jane", "uid": "u-1", "groups": ["admins"], "extra": {"scopes": ["all"]},
            "nonResourceAttributes": {"verb": "post", "path": "/operations/resync"}
        })
    );
}

#[tokio::test]
async fn an_unknown_token_is_not_accepted_and_nothing_else_is_reviewed() {
    for status in [
        json!({"authenticated": false, "error": "token has expired"}),
        json!({"authenticated": true}),
        json!({"user": {"username": "jane"}}),
        json!({}),
    ] {
        let body = json!({"metadata": {}, "spec": {}, "status": status});
        let (access, asked) = access(move |_| (201, body.clone()));
        let denied = access.may(TOKEN, "get", "/metrics").await;
        assert_eq!(denied, Err(Denied::NotAccepted));
        assert_eq!(count(&asked), 1);
    }
}

#[tokio::test]
async fn a_user_without_permission_is_named_with_verb_and_path() {
    for answer in [reviewed(false), json!({"metadata": {}, "spec": {}})] {
        let (access, _) = access(move |resource| match resource {
            "tokenreviews" => (201, authenticated()),
            _ => (201, answer.clone()),
        });
        let denied = access.may(TOKEN, "delete", "/operations/x").await;
        let text = denied.unwrap_err().to_string();
        assert_eq!(text, "jane may not delete /operations/x");
    }
}

#[tokio::test]
async fn whatever_goes_wrong_at_the_api_server_is_denied_and_says_what_to_do() {
    let failure = |code: u16| json!({"kind": "Status", "code": code, "message": "no"});
    for (resource, code, hint) in [
        ("tokenreviews", 403, "kubectl apply -k config/rbac"),
        ("subjectaccessreviews", 403, "create subjectaccessreviews"),
        ("tokenreviews", 401, "renew the token"),
        ("tokenreviews", 500, "answered 500"),
        ("subjectaccessreviews", 503, "overloaded"),
    ] {
        let (access, _) = access(move |asked| match asked {
            asked if asked == resource => (code, failure(code)),
            "tokenreviews" => (201, authenticated()),
            _ => (201, reviewed(true)),
        });
        let denied = access.may(TOKEN, "get", "/metrics").await.unwrap_err();
        assert!(matches!(denied, Denied::Unknown(_)), "{denied}");
        assert!(
            denied.to_string().contains(hint),
            "{resource} {code}: {denied}"
        );
    }
}

#[tokio::test]
async fn an_answer_that_cannot_be_read_is_denied_and_does_not_give_the_token_away() {
    let (access, _) = access(|_| (201, json!({"spec": {"token": TOKEN}, "status": "yes"})));
    let denied = access.may(TOKEN, "get", "/metrics").await.unwrap_err();
    let text = format!("{denied} {denied:?}");
    assert!(text.contains("cannot be read"), "{text}");
    assert!(!text.contains(TOKEN), "{text}");
}

#[tokio::test(start_paused = true)]
async fn a_review_without_an_answer_fails_after_the_deadline() {
    let server =
        service_fn(|_: Request<Body>| std::future::pending::<Result<Response<Body>, Infallible>>());
    let access = Arc::new(Access::new(Client::new(server, "default")));
    let began = Instant::now();
    // More than may be reviewed at once: those in the queue have the same deadline.
    let asking: Vec<_> = (0..2 * REVIEWS_OF_STRANGERS)
        .map(|_| {
            let access = Arc::clone(&access);
            tokio::spawn(async move { access.may(TOKEN, "get", "/metrics").await })
        })
        .collect();
    for one in asking {
        let text = one.await.unwrap().unwrap_err().to_string();
        assert!(text.contains("did not answer within 5 s"), "{text}");
    }
    assert_eq!(began.elapsed(), DEADLINE);
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_tokens_is_none_at_the_api_server() {
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (in_flight, seen) = (Arc::clone(&now), Arc::clone(&most));
    let server = service_fn(move |_: Request<Body>| {
        let (in_flight, seen) = (Arc::clone(&in_flight), Arc::clone(&seen));
        async move {
            let number = in_flight.fetch_add(1, Ordering::Relaxed) + 1;
            seen.fetch_max(number, Ordering::Relaxed);
            sleep(Duration::from_millis(10)).await;
            in_flight.fetch_sub(1, Ordering::Relaxed);
            let body = json!({"metadata": {}, "spec": {}, "status": {"authenticated": false}});
            let body = Body::from(serde_json::to_vec(&body).unwrap());
            Ok::<_, Infallible>(Response::new(body))
        }
    });
    let access = Arc::new(Access::new(Client::new(server, "default")));
    let asking: Vec<_> = (0..100)
        .map(|number| {
            let access = Arc::clone(&access);
            tokio::spawn(async move { access.may(&format!("t{number}"), "get", "/metrics").await })
        })
        .collect();
    for one in asking {
        assert_eq!(one.await.unwrap(), Err(Denied::NotAccepted));
    }
    assert_eq!(most.load(Ordering::Relaxed), REVIEWS_OF_STRANGERS);
}

#[tokio::test]
async fn an_invalid_token_is_rejected_without_a_review() {
    let (access, asked) = open();
    let long = "x".repeat(TOKEN_LIMIT + 1);
    for token in ["", "two words", "a\nb", "ü", "a\u{0}", &long] {
        let denied = access.may(token, "get", "/metrics").await;
        assert_eq!(denied, Err(Denied::NoToken));
    }
    assert_eq!(count(&asked), 0);
    let longest = "x".repeat(TOKEN_LIMIT);
    assert_eq!(access.may(&longest, "get", "/metrics").await, Ok(()));
}

#[tokio::test(start_paused = true)]
async fn an_allowed_request_is_cached_for_ten_seconds() {
    let (access, asked) = open();
    access.may(TOKEN, "post", "/a").await.unwrap();
    assert_eq!(count(&asked), 2);
    let moment = Duration::from_millis(1);
    advance(MEMORY.allowed.checked_sub(moment).unwrap()).await;
    access.may(TOKEN, "post", "/a").await.unwrap();
    assert_eq!(count(&asked), 2);
    advance(moment).await;
    access.may(TOKEN, "post", "/a").await.unwrap();
    assert_eq!(count(&asked), 4);
}

#[tokio::test(start_paused = true)]
async fn a_cached_answer_covers_only_its_token_verb_and_path() {
    let (access, asked) = open();
    let tries = [
        (TOKEN, "post", "/a"),
        ("another", "post", "/a"),
        (TOKEN, "delete", "/a"),
        (TOKEN, "post", "/a/b"),
    ];
    for (number, (token, verb, path)) in tries.into_iter().enumerate() {
        access.may(token, verb, path).await.unwrap();
        assert_eq!(count(&asked), 2 * (number + 1), "{token} {verb} {path}");
    }
}

#[tokio::test]
async fn a_denied_operation_is_allowed_as_soon_as_it_is_granted() {
    let granted = Arc::new(AtomicUsize::new(0));
    let asked_so_far = Arc::clone(&granted);
    let (access, _) = access(move |resource| {
        if resource == "tokenreviews" {
            return (201, authenticated());
        }
        let first = asked_so_far.fetch_add(1, Ordering::Relaxed) == 0;
        (201, reviewed(!first))
    });
    assert!(access.may(TOKEN, "post", "/a").await.is_err());
    assert_eq!(access.may(TOKEN, "post", "/a").await, Ok(()));
}

#[tokio::test(start_paused = true)]
async fn what_is_remembered_does_not_grow_without_end() {
    let (access, asked) = open();
    let ask = async |from: usize, number: usize| {
        for path in from..from + number {
            let path = format!("/{path}");
            access.may(TOKEN, "get", &path).await.unwrap();
        }
    };
    ask(0, MOST_REMEMBERED + 10).await;
    assert_eq!(access.allowed.count(), MOST_REMEMBERED);
    advance(MEMORY.allowed).await;
    ask(0, 10).await;
    assert_eq!(access.allowed.count(), 10, "expired entries were evicted");
    assert_eq!(count(&asked), 2 * (MOST_REMEMBERED + 20));
}

#[tokio::test(start_paused = true)]
async fn an_allowed_scrape_is_reviewed_every_five_minutes_and_a_denied_one_every_half_minute() {
    let scrape = async |access: &Access| {
        let memory = Memory::OF_SCRAPES;
        access.allowed(TOKEN, "get", "/metrics", memory).await
    };
    let (minute, second) = (Duration::from_mins(1), Duration::from_secs(1));
    let (access, asked) = open();
    scrape(&access).await.unwrap();
    advance(4 * minute + 59 * second).await;
    scrape(&access).await.unwrap();
    assert_eq!(count(&asked), 2);
    advance(second).await;
    scrape(&access).await.unwrap();
    assert_eq!(count(&asked), 4);

    let (access, asked) = self::access(|resource| match resource {
        "tokenreviews" => (201, authenticated()),
        _ => (201, reviewed(false)),
    });
    for _ in 0..2 {
        let text = scrape(&access).await.unwrap_err().to_string();
        assert_eq!(text, "jane may not get /metrics");
    }
    assert_eq!(count(&asked), 2);
    advance(30 * second).await;
    assert!(scrape(&access).await.is_err());
    assert_eq!(count(&asked), 4);
}

#[tokio::test(start_paused = true)]
async fn a_failed_review_is_not_cached() {
    let calls = Arc::new(AtomicUsize::new(0));
    let so_far = Arc::clone(&calls);
    let (access, _) = access(move |resource| match resource {
        "tokenreviews" if so_far.fetch_add(1, Ordering::Relaxed) == 0 => (500, json!({})),
        "tokenreviews" => (201, authenticated()),
        _ => (201, reviewed(true)),
    });
    let memory = Memory::OF_SCRAPES;
    let denied = access.allowed(TOKEN, "get", "/metrics", memory).await;
    assert!(matches!(denied, Err(Denied::Unknown(_))), "{denied:?}");
    assert_eq!(
        access.allowed(TOKEN, "get", "/metrics", memory).await,
        Ok(())
    );
}

/// A cluster with one valid token, and an API server that takes `slow` to reject any other.
fn slow_with_strangers(slow: Duration) -> (Arc<Access>, Arc<AtomicUsize>) {
    let reviews = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&reviews);
    let server = service_fn(move |request: Request<Body>| {
        let count = Arc::clone(&count);
        async move {
            let body = request.into_body().collect_bytes().await.unwrap();
            let body: Value = serde_json::from_slice(&body).unwrap();
            count.fetch_add(1, Ordering::Relaxed);
            let answer = match body["spec"]["token"].as_str() {
                Some(TOKEN) => authenticated(),
                None => reviewed(true),
                Some(_) => {
                    sleep(slow).await;
                    json!({"metadata": {}, "spec": {}, "status": {"authenticated": false}})
                }
            };
            let body = Body::from(serde_json::to_vec(&answer).unwrap());
            Ok::<_, Infallible>(Response::new(body))
        }
    });
    let access = Access::new(Client::new(server, "default"));
    (Arc::new(access), reviews)
}

/// Starts requests of `number` strangers, each with its own token, which keep waiting.
async fn strangers(access: &Arc<Access>, number: usize) {
    for number in 0..number {
        let access = Arc::clone(access);
        tokio::spawn(async move {
            let memory = Memory::OF_SCRAPES;
            let token = format!("wrong-{number}");
            access.allowed(&token, "get", "/metrics", memory).await
        });
    }
    // They are queued before any other request.
    tokio::task::yield_now().await;
}

#[tokio::test(start_paused = true)]
async fn a_scraper_that_was_let_in_before_does_not_wait_for_strangers() {
    let (access, reviews) = slow_with_strangers(Duration::from_secs(1));
    let memory = Memory::OF_SCRAPES;
    let scrape = async || access.allowed(TOKEN, "get", "/metrics", memory).await;
    assert_eq!(scrape().await, Ok(()));
    for round in 1..=3 {
        advance(memory.allowed).await;
        strangers(&access, 100).await;
        let began = Instant::now();
        assert_eq!(scrape().await, Ok(()), "round {round}");
        assert_eq!(began.elapsed(), Duration::ZERO, "round {round}");
    }
    assert!(
        reviews.load(Ordering::Relaxed) >= 8,
        "it was reviewed again"
    );
}

#[tokio::test(start_paused = true)]
async fn a_new_scraper_waits_its_turn_among_strangers_and_is_allowed() {
    let (access, _) = slow_with_strangers(Duration::from_millis(100));
    strangers(&access, 10 * REVIEWS_OF_STRANGERS).await;
    let began = Instant::now();
    let memory = Memory::OF_SCRAPES;
    let answer = access.allowed(TOKEN, "get", "/metrics", memory).await;
    assert_eq!(answer, Ok(()));
    assert_eq!(began.elapsed(), Duration::from_secs(1));
}

#[tokio::test(start_paused = true)]
async fn strangers_do_not_fill_the_cache_of_known_clients() {
    let (access, reviews) = slow_with_strangers(Duration::ZERO);
    let memory = Memory::OF_SCRAPES;
    for number in 0..2 * MOST_REMEMBERED {
        let token = format!("wrong-{number}");
        let answer = access.allowed(&token, "get", "/metrics", memory).await;
        assert_eq!(answer, Err(Denied::NotAccepted));
    }
    assert_eq!(access.denied.count(), MOST_REMEMBERED);
    let before = reviews.load(Ordering::Relaxed);
    for _ in 0..3 {
        let answer = access.allowed(TOKEN, "get", "/metrics", memory).await;
        assert_eq!(answer, Ok(()));
    }
    assert_eq!(reviews.load(Ordering::Relaxed), before + 2, "asked once");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_is_no_longer_allowed_is_a_stranger_again() {
    let allowed = Arc::new(AtomicUsize::new(0));
    let so_far = Arc::clone(&allowed);
    let (access, _) = access(move |resource| match resource {
        "tokenreviews" => (201, authenticated()),
        _ => (201, reviewed(so_far.fetch_add(1, Ordering::Relaxed) == 0)),
    });
    let memory = Memory::OF_SCRAPES;
    let scrape = async || access.allowed(TOKEN, "get", "/metrics", memory).await;
    assert_eq!(scrape().await, Ok(()));
    advance(memory.allowed).await;
    assert!(matches!(scrape().await, Err(Denied::Forbidden { .. })));
    assert_eq!(access.allowed.count(), 0);
}
