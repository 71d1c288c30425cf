//! One request: what strikes it, and what becomes of its answer.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Result, bail};
use bytes::Bytes;
use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use serde_json::Value;

use super::Shared;
use super::answer::{self, Body};
use super::asked::Asked;
use super::connection::Upstream;
use super::events::events;
use super::rule::{Fault, Moment};

/// Lists that were kept, by resource.
#[derive(Default)]
pub(super) struct Recorded {
    lists: Mutex<HashMap<String, Option<Bytes>>>,
}

impl Recorded {
    pub(super) fn want(&self, resource: &str) {
        self.lock().insert(resource.to_owned(), None);
    }

    pub(super) fn of(&self, resource: &str) -> Option<Bytes> {
        self.lock().get(resource).cloned().flatten()
    }

    fn keep(&self, asked: &Asked, list: &Bytes) {
        if asked.verb == "list"
            && let Some(kept @ None) = self.lock().get_mut(&asked.resource)
            && is_whole(list)
        {
            *kept = Some(list.clone());
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Option<Bytes>>> {
        // A panic elsewhere cannot leave it half changed.
        self.lists.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether nothing follows the first page of a list.
fn is_whole(list: &Bytes) -> bool {
    let list: Value = serde_json::from_slice(list).unwrap_or_default();
    let follows = list["metadata"]["continue"].as_str();
    follows.unwrap_or_default().is_empty()
}

/// # Errors
///
/// When the connection is to be closed without an answer.
pub(super) async fn respond(
    shared: &Shared,
    upstream: &Upstream,
    request: Request<Incoming>,
) -> Result<Response<Body>> {
    let asked = Asked::of(request.method(), request.uri());
    let (parts, body) = request.into_parts();
    let is_first_page = !parts.uri.query().unwrap_or_default().contains("continue=");
    let body = body.collect().await?.to_bytes();
    match shared.rules.strike(&asked, Moment::Request) {
        Some(Fault::Cut) => bail!("this request is cut"),
        Some(Fault::Hang) => std::future::pending().await,
        Some(Fault::Delay(time)) => tokio::time::sleep(time).await,
        Some(Fault::Status { code, retry_after }) => return answer::status(code, retry_after),
        Some(Fault::Replay) => {
            if let Some(list) = shared.recorded.of(&asked.resource) {
                return answer::json(list);
            }
        }
        // The others strike later.
        Some(_) | None => {}
    }
    let passed = if asked.is_write() {
        Some(shared.gate.enter(&asked).await)
    } else {
        None
    };
    let request = Request::from_parts(parts, Full::new(body));
    let response = upstream.ask(shared, request).await?;
    let is_success = response.status().is_success();
    if let Some(passed) = passed {
        shared.gate.answered(passed, is_success).await;
    }
    let (mut parts, body) = response.into_parts();
    if asked.is_watch() && is_success {
        let cuts = shared.cuts.subscribe();
        let rules = Arc::clone(&shared.rules);
        return Ok(Response::from_parts(
            parts,
            events(asked, body, rules, cuts),
        ));
    }
    let body = body.collect().await?.to_bytes();
    if is_success && is_first_page {
        shared.recorded.keep(&asked, &body);
    }
    let body = match shared.rules.strike(&asked, Moment::Answer) {
        Some(Fault::LoseAnswer) => bail!("this answer is lost"),
        Some(Fault::Throttle(rate)) => answer::slowly(body, rate),
        Some(Fault::Truncate) => answer::whole(answer::truncated(&body)),
        Some(Fault::Garble) => answer::whole(answer::garbled(&body)),
        Some(Fault::Version(version)) => answer::whole(answer::with_version(&body, &version)?),
        // The others strike earlier, or watches.
        Some(_) | None => answer::whole(body),
    };
    // Both are those of what is sent on, not of what came.
    parts.headers.remove(CONTENT_LENGTH);
    parts.headers.remove(TRANSFER_ENCODING);
    Ok(Response::from_parts(parts, body))
}
