//! Responses that the proxy generates or changes.

use std::time::Duration;

use anyhow::{Error, Result};
use bytes::Bytes;
use futures::stream;
use http::Response;
use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Frame;
use serde_json::{Value, json};

/// The body of every response.
pub(super) type Body = UnsyncBoxBody<Bytes, Error>;

/// The interval between two chunks of a slow response.
const TICK: Duration = Duration::from_millis(50);
const TICKS_PER_SECOND: usize = 20;

pub(super) fn whole(body: Bytes) -> Body {
    Full::new(body)
        .map_err(|never| match never {})
        .boxed_unsync()
}

/// The body at `rate` bytes a second.
pub(super) fn slowly(body: Bytes, rate: u32) -> Body {
    let step = (usize::try_from(rate).unwrap_or(usize::MAX) / TICKS_PER_SECOND).max(1);
    let parts = stream::unfold(body, move |mut rest| async move {
        if rest.is_empty() {
            return None;
        }
        tokio::time::sleep(TICK).await;
        let part = rest.split_to(step.min(rest.len()));
        Some((Ok(Frame::data(part)), rest))
    });
    BodyExt::boxed_unsync(StreamBody::new(parts))
}

/// An error response as the API server sends it.
pub(super) fn status(code: u16, retry_after: Option<u32>) -> Result<Response<Body>> {
    let mut response = Response::builder()
        .status(code)
        .header(CONTENT_TYPE, "application/json");
    if let Some(seconds) = retry_after {
        response = response.header(RETRY_AFTER, seconds);
    }
    let body = status_object(code).to_string();
    Ok(response.body(whole(body.into()))?)
}

/// The `Status` object of an error.
pub(super) fn status_object(code: u16) -> Value {
    let reason = match code {
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "NotFound",
        409 => "Conflict",
        410 => "Expired",
        422 => "Invalid",
        429 => "TooManyRequests",
        500 => "InternalError",
        503 => "ServiceUnavailable",
        504 => "Timeout",
        _ => "",
    };
    json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": format!("{code} from the fault proxy"), "reason": reason, "code": code,
    })
}

pub(super) fn json(body: Bytes) -> Result<Response<Body>> {
    let response = Response::builder().header(CONTENT_TYPE, "application/json");
    Ok(response.body(whole(body))?)
}

/// The first half.
pub(super) fn truncated(body: &Bytes) -> Bytes {
    body.slice(..body.len() / 2)
}

/// Of the same length, and invalid JSON: the middle is replaced by bytes that are not even allowed in a string.
/// Otherwise a middle that begins and ends in a string would leave a valid list that lacks some items.
pub(super) fn garbled(body: &Bytes) -> Bytes {
    let (from, to) = (body.len() / 3, (body.len() * 2).div_ceil(3));
    let mut garbled = body.to_vec();
    // Not a line feed, which would end an event.
    garbled[from..to].fill(0x01);
    garbled.into()
}

pub(super) fn with_version(body: &Bytes, version: &str) -> Result<Bytes> {
    let mut object: Value = serde_json::from_slice(body)?;
    object["gitVersion"] = version.into();
    Ok(serde_json::to_vec(&object)?.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_garbled_body_is_invalid_json_wherever_its_middle_begins_and_ends() {
        for (length, count) in (1..40).flat_map(|length| (1..40).map(move |count| (length, count)))
        {
            let items = vec![json!({"name": "a".repeat(length)}); count];
            let list = serde_json::to_vec(&json!({"items": items})).unwrap();
            let garbled = garbled(&list.into());
            let read: Result<Value, _> = serde_json::from_slice(&garbled);
            assert!(read.is_err(), "{count} items of {length}: {read:?}");
        }
    }
}
