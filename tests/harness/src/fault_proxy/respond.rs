//! One request: which fault hits it, and its response.

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
use super::connection::Upstream;
use super::events::events;
use super::request_info::RequestInfo;
use super::response::{self, Body};
use super::rule::{Fault, Stage};

/// Recorded lists, by resource.
#[derive(Default)]
pub(super) struct Recorded {
    lists: Mutex<HashMap<String, Option<Bytes>>>,
}

impl Recorded {
    pub(super) fn request(&self, resource: &str) {
        self.lock().insert(resource.to_owned(), None);
    }

    pub(super) fn of(&self, resource: &str) -> Option<Bytes> {
        self.lock().get(resource).cloned().flatten()
    }

    fn store(&self, info: &RequestInfo, list: &Bytes) {
        if info.verb == "list"
            && let Some(recorded @ None) = self.lock().get_mut(&info.resource)
            && is_complete(list)
        {
            *recorded = Some(list.clone());
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Option<Bytes>>> {
        // A panic elsewhere cannot leave it inconsistent.
        self.lists.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether the first page is the whole list.
fn is_complete(list: &Bytes) -> bool {
    let list: Value = serde_json::from_slice(list).unwrap_or_default();
    let token = list["metadata"]["continue"].as_str();
    token.unwrap_or_default().is_empty()
}

/// # Errors
///
/// When the connection is to be closed without a response.
pub(super) async fn respond(
    shared: &Shared,
    upstream: &Upstream,
    request: Request<Incoming>,
) -> Result<Response<Body>> {
    let info = RequestInfo::of(request.method(), request.uri());
    let (parts, body) = request.into_parts();
    let is_first_page = !parts.uri.query().unwrap_or_default().contains("continue=");
    let body = body.collect().await?.to_bytes();
    match shared.rules.fault(&info, Stage::Request) {
        Some(Fault::Cut) => bail!("this request is cut"),
        Some(Fault::Hang) => std::future::pending().await,
        Some(Fault::Delay(time)) => tokio::time::sleep(time).await,
        Some(Fault::Status { code, retry_after }) => return response::status(code, retry_after),
        Some(Fault::Replay) => {
            if let Some(list) = shared.recorded.of(&info.resource) {
                return response::json(list);
            }
        }
        // The others apply later.
        Some(_) | None => {}
    }
    let passed = if info.is_write() {
        Some(shared.gate.enter(&info).await)
    } else {
        None
    };
    let request = Request::from_parts(parts, Full::new(body));
    let response = upstream.send(shared, request).await?;
    let is_success = response.status().is_success();
    if let Some(passed) = passed {
        shared.gate.responded(passed, is_success).await;
    }
    let (mut parts, body) = response.into_parts();
    if info.is_watch() && is_success {
        let cuts = shared.cuts.subscribe();
        let rules = Arc::clone(&shared.rules);
        return Ok(Response::from_parts(parts, events(info, body, rules, cuts)));
    }
    let body = body.collect().await?.to_bytes();
    if is_success && is_first_page {
        shared.recorded.store(&info, &body);
    }
    let body = match shared.rules.fault(&info, Stage::Response) {
        Some(Fault::LoseResponse) => bail!("this response is lost"),
        Some(Fault::Throttle(rate)) => response::slowly(body, rate),
        Some(Fault::Truncate) => response::whole(response::truncated(&body)),
        Some(Fault::Garble) => response::whole(response::garbled(&body)),
        Some(Fault::Version(version)) => response::whole(response::with_version(&body, &version)?),
        // The others apply earlier, or to watches.
        Some(_) | None => response::whole(body),
    };
    // Both depend on what is sent on, not on what was received.
    parts.headers.remove(CONTENT_LENGTH);
    parts.headers.remove(TRANSFER_ENCODING);
    Ok(Response::from_parts(parts, body))
}
