//! Answers in JSON: results and errors.
//!
//! An error has a text for people, which includes the remedy, and a stable reason for machines. Long answers
//! are streamed, so they need little memory whatever their length.

use std::io;

use axum::body::Body;
use axum::http::header::{CONTENT_TYPE, HeaderValue, WWW_AUTHENTICATE};
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use futures::stream;
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use super::engine::{EngineError, Rows};
use crate::kubernetes::access::Denied;
use crate::registry::operations::OperationError;

const JSON: &str = "application/json";
/// Some dozen states: the overhead per piece is negligible, and so is the memory.
const PIECE: usize = 64 << 10;
/// Maximum number of characters of the request that an error repeats.
const REPEATED: usize = 200;

/// Why a request is rejected.
#[derive(Debug, Serialize)]
pub(super) struct Refusal {
    #[serde(skip)]
    status: StatusCode,
    error: String,
    reason: &'static str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    known: Vec<String>,
}

impl Refusal {
    pub(super) fn new(status: StatusCode, reason: &'static str, error: impl Into<String>) -> Self {
        Self {
            status,
            error: error.into(),
            reason,
            known: Vec::new(),
        }
    }

    pub(super) fn bad_request(error: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "BadRequest", error)
    }

    pub(super) fn not_ready(error: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "NotReady", error)
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut response = json(self.status, &self);
        if self.status == StatusCode::UNAUTHORIZED {
            let bearer = HeaderValue::from_static("Bearer realm=\"node-insights\"");
            response.headers_mut().insert(WWW_AUTHENTICATE, bearer);
        }
        response
    }
}

impl From<EngineError> for Refusal {
    fn from(error: EngineError) -> Self {
        let text = error.to_string();
        match error {
            EngineError::UnknownPool { name: _, known } => Self {
                known,
                ..Self::new(StatusCode::NOT_FOUND, "UnknownPool", text)
            },
            EngineError::NotReady { why: _ } => Self::not_ready(text),
            EngineError::Standby { leader: _ } => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "Standby", text)
            }
        }
    }
}

impl From<OperationError> for Refusal {
    fn from(error: OperationError) -> Self {
        let (status, reason) = match &error {
            OperationError::InvalidId { .. } => (StatusCode::BAD_REQUEST, "InvalidId"),
            OperationError::NotFound { .. } => (StatusCode::NOT_FOUND, "UnknownOperation"),
            OperationError::NoResult { .. } => (StatusCode::NOT_FOUND, "NoResult"),
            OperationError::AlreadyFinished { .. } => (StatusCode::CONFLICT, "AlreadyFinished"),
            OperationError::Running { .. } => (StatusCode::CONFLICT, "Running"),
        };
        Self::new(status, reason, error.to_string())
    }
}

impl From<Denied> for Refusal {
    fn from(denied: Denied) -> Self {
        match &denied {
            Denied::NoToken | Denied::NotAccepted => unauthorized(&denied.to_string()),
            Denied::Forbidden { .. } => Self::new(
                StatusCode::FORBIDDEN,
                "Forbidden",
                format!(
                    "{denied}: a ClusterRole grants it, node-insights-metrics-reader for /metrics and node-insights-operate for /operations (kubectl create clusterrolebinding)"
                ),
            ),
            Denied::Unknown(_) => Self::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "AccessUnknown",
                denied.to_string(),
            ),
        }
    }
}

/// The request needs a valid token.
pub(super) fn unauthorized(why: &str) -> Refusal {
    let error = format!(
        "{why}; send a token of the cluster (Authorization: Bearer TOKEN), as from: kubectl create token NAME -n NAMESPACE"
    );
    Refusal::new(StatusCode::UNAUTHORIZED, "Unauthorized", error)
}

/// The path does not exist.
pub(super) fn no_such_path(uri: &Uri, paths: &str) -> Refusal {
    let error = format!("There is no path {}; available: {paths}", shown(uri));
    Refusal::new(StatusCode::NOT_FOUND, "UnknownPath", error)
}

/// The header `Allow` lists the supported methods.
pub(super) fn no_such_method(method: &axum::http::Method, uri: &Uri) -> Refusal {
    let error = format!("{method} is not for {}: see the header Allow", shown(uri));
    Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed", error)
}

fn shown(uri: &Uri) -> String {
    uri.path().chars().take(REPEATED).collect()
}

/// A short answer.
pub(super) fn json<T: Serialize>(status: StatusCode, value: &T) -> Response {
    match serde_json::to_vec(value) {
        Ok(mut body) => {
            body.push(b'\n');
            (status, [(CONTENT_TYPE, JSON)], body).into_response()
        }
        Err(error) => (
            StatusCode::INTERNAL_SERVER_ERROR,
            format!("The answer cannot be serialized: {error}; report it\n"),
        )
            .into_response(),
    }
}

/// A JSON array of any length, one row per line. Visibly truncated when the port closes.
pub(super) fn array(rows: Rows, stop: CancellationToken) -> Response {
    let pieces = Pieces {
        rows: Some(rows),
        begun: false,
        stop,
    };
    let body = Body::from_stream(stream::iter(pieces));
    ([(CONTENT_TYPE, JSON)], body).into_response()
}

struct Pieces {
    /// `None` once the array has ended.
    rows: Option<Rows>,
    begun: bool,
    stop: CancellationToken,
}

impl Pieces {
    fn fill(&mut self, piece: &mut Vec<u8>) -> io::Result<()> {
        if self.stop.is_cancelled() {
            return Err(io::Error::other("the operator is stopping"));
        }
        while let Some(rows) = &mut self.rows
            && piece.len() < PIECE
        {
            let row = rows.next();
            piece.extend_from_slice(match (self.begun, &row) {
                (false, Some(_)) => b"[\n",
                (true, Some(_)) => b",\n",
                (false, None) => b"[]\n",
                (true, None) => b"\n]\n",
            });
            self.begun = true;
            match row {
                Some(row) => serde_json::to_writer(&mut *piece, &row)?,
                None => self.rows = None,
            }
        }
        Ok(())
    }
}

impl Iterator for Pieces {
    type Item = io::Result<Vec<u8>>;

    fn next(&mut self) -> Option<Self::Item> {
        self.rows.as_ref()?;
        let mut piece = Vec::with_capacity(2 * PIECE);
        let filled = self.fill(&mut piece);
        if filled.is_err() {
            self.rows = None;
        }
        Some(filled.map(|()| piece))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pieces(rows: usize) -> Pieces {
        let row = |number| json!({"node": number, "message": "x".repeat(1000)});
        Pieces {
            rows: Some(Box::new((0..rows).map(row))),
            begun: false,
            stop: CancellationToken::new(),
        }
    }

    #[test]
    fn an_array_is_sent_in_pieces_of_bounded_size() {
        for rows in [0, 1, 2, 1000] {
            let pieces: Vec<Vec<u8>> = pieces(rows).collect::<io::Result<_>>().unwrap();
            assert!(pieces.iter().all(|piece| piece.len() < 2 * PIECE));
            assert!(pieces.len() >= rows / 100, "{}", pieces.len());
            let array: Vec<Value> = serde_json::from_slice(&pieces.concat()).unwrap();
            assert_eq!(array.len(), rows);
            assert!(array.iter().enumerate().all(|(at, row)| row["node"] == at));
        }
    }

    #[test]
    fn rows_are_generated_while_they_are_sent() {
        let made = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let count = std::sync::Arc::clone(&made);
        let rows = (0..100_000).map(move |_| {
            count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            json!("x".repeat(1000))
        });
        let mut pieces = Pieces {
            rows: Some(Box::new(rows)),
            ..pieces(0)
        };
        pieces.next().unwrap().unwrap();
        assert!(made.load(std::sync::atomic::Ordering::Relaxed) < 100);
    }

    #[test]
    fn a_truncated_array_ends_with_an_error() {
        let mut pieces = pieces(1000);
        assert!(pieces.next().unwrap().is_ok());
        pieces.stop.cancel();
        assert!(pieces.next().unwrap().is_err());
        assert!(pieces.next().is_none());
    }
}
