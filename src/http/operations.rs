//! `/operations`: long-running work. Listing and showing need no authorization: they return only counts and
//! pool names. Starting, cancelling, and fetching a result, which may contain every state, need a token that
//! the cluster's RBAC authorizes.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::{CONTENT_DISPOSITION, CONTENT_TYPE, LOCATION};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::answer::{Refusal, json};
use super::engine::{Start, Work};
use super::request::{Name, NoBody, Parameters, Permitted};
use super::{Shared, engine};
use crate::registry::operations::{Operation, OperationError, Operations};

/// All results are lines of JSON, one per state.
const LINES_OF_JSON: &str = "application/x-ndjson";
/// Maximum wait for an answer: below the timeouts of proxies.
const LONGEST_WAIT: u64 = 60;
/// How often progress is checked: a bar that moves twice a second looks alive, and a check takes less than a
/// microsecond.
const LOOK: Duration = Duration::from_millis(500);

type Answer = Result<Response, Refusal>;

pub(super) fn routes() -> Router<Shared> {
    Router::new()
        .route("/operations", get(list))
        .route("/operations/{id}", get(show).delete(cancel))
        .route("/operations/{id}/result", get(result))
        .route("/operations/resync", post(resync))
        .route("/operations/reevaluate", post(reevaluate))
        .route("/operations/export", post(export))
}

async fn list(State(shared): State<Shared>, parameters: Parameters) -> Answer {
    parameters.none()?;
    Ok(json(StatusCode::OK, &shared.port.operations.list()))
}

async fn show(State(shared): State<Shared>, Name(id): Name, parameters: Parameters) -> Answer {
    let wait = match parameters.at_most("wait")? {
        None => 0,
        Some(wait) => wait
            .parse()
            .ok()
            .filter(|seconds| *seconds <= LONGEST_WAIT)
            .ok_or_else(|| {
                let error = format!("wait is a number of seconds from 0 to {LONGEST_WAIT}");
                Refusal::bad_request(error)
            })?,
    };
    let (operations, stop) = (&shared.port.operations, &shared.stop);
    let operation = further(operations, &id, Duration::from_secs(wait), stop).await?;
    Ok(json(StatusCode::OK, &operation))
}

/// The operation once it has changed, or after `wait`, whichever is first.
async fn further(
    operations: &Operations,
    id: &str,
    wait: Duration,
    stop: &CancellationToken,
) -> Result<Operation, OperationError> {
    let before = operations.show(id)?;
    let end = Instant::now() + wait;
    loop {
        let look = end.min(Instant::now() + LOOK);
        tokio::select! {
            ended = operations.finished(id) => return ended,
            () = stop.cancelled() => return operations.show(id),
            () = sleep_until(look) => {
                let now = operations.show(id)?;
                if now != before || look == end {
                    return Ok(now);
                }
            }
        }
    }
}

async fn result(
    _: Permitted,
    State(shared): State<Shared>,
    Name(id): Name,
    parameters: Parameters,
) -> Answer {
    parameters.none()?;
    let result: Arc<[u8]> = shared.port.operations.result(&id)?;
    let headers = [
        (CONTENT_TYPE, LINES_OF_JSON.to_owned()),
        // An id is letters, digits and hyphens.
        (
            CONTENT_DISPOSITION,
            format!("attachment; filename=\"{id}.ndjson\""),
        ),
    ];
    Ok((headers, Body::from(Bytes::from_owner(result))).into_response())
}

async fn cancel(
    _: Permitted,
    _: NoBody,
    State(shared): State<Shared>,
    Name(id): Name,
    parameters: Parameters,
) -> Answer {
    parameters.none()?;
    let operation = shared.port.operations.cancel(&id)?;
    tracing::info!(operation = %operation.id, "Cancelling an operation on request");
    Ok(json(StatusCode::ACCEPTED, &operation))
}

async fn resync(
    _: Permitted,
    _: NoBody,
    State(shared): State<Shared>,
    parameters: Parameters,
) -> Answer {
    parameters.none()?;
    start(&shared, Work::Resync)
}

async fn reevaluate(
    _: Permitted,
    _: NoBody,
    State(shared): State<Shared>,
    parameters: Parameters,
) -> Answer {
    let pool = parameters.at_most("pool")?.filter(|pool| !pool.is_empty());
    let pool = pool.ok_or_else(|| {
        Refusal::bad_request("Name a pool, as in /operations/reevaluate?pool=worker")
    })?;
    start(&shared, Work::Reevaluate { pool })
}

async fn export(
    _: Permitted,
    _: NoBody,
    State(shared): State<Shared>,
    parameters: Parameters,
) -> Answer {
    parameters.none()?;
    start(&shared, Work::Export)
}

fn start(shared: &Shared, work: Work) -> Answer {
    let (status, operation) = match engine(&shared.port.engine)?.start(work)? {
        Start::Begun(operation) => {
            tracing::info!(operation = %operation.id, "Started an operation on request");
            (StatusCode::ACCEPTED, operation)
        }
        Start::Runs(operation) => (StatusCode::OK, operation),
    };
    let place = [(LOCATION, format!("/operations/{}", operation.id))];
    Ok((place, json(status, &operation)).into_response())
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;
    use jiff::Timestamp;
    use tokio::time::advance;

    use super::*;
    use crate::registry::operations::{Begun, Limits, OperationHandle, OperationState};

    fn running() -> (Operations, OperationHandle) {
        let clock = Arc::new(|| Timestamp::UNIX_EPOCH);
        let operations = Operations::new(Limits::default(), clock);
        match operations.begin("resync", None) {
            Begun::Started(handle) => (operations, handle),
            Begun::Running(_) => panic!("there was one already"),
        }
    }

    const LONG: Duration = Duration::from_secs(LONGEST_WAIT);

    #[tokio::test(start_paused = true)]
    async fn a_waiting_client_gets_progress_soon_and_the_end_at_once() {
        let (operations, handle) = running();
        let (id, stop) = (handle.id().to_string(), CancellationToken::new());
        let mut waiting = std::pin::pin!(further(&operations, &id, LONG, &stop));
        assert!(waiting.as_mut().now_or_never().is_none());
        advance(2 * LOOK).await;
        assert!(waiting.as_mut().now_or_never().is_none(), "nothing is new");
        handle.progress(1, 2);
        advance(LOOK).await;
        let operation = waiting.now_or_never().unwrap().unwrap();
        assert_eq!(operation.progress.done, 1);

        let mut waiting = std::pin::pin!(further(&operations, &id, LONG, &stop));
        assert!(waiting.as_mut().now_or_never().is_none());
        handle.succeed("done", None);
        let operation = waiting.now_or_never().unwrap().unwrap();
        assert_eq!(operation.state, OperationState::Succeeded);
        let again = further(&operations, &id, LONG, &stop).now_or_never();
        assert_eq!(again.unwrap().unwrap(), operation);
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_waits_at_most_as_long_as_it_asked_for() {
        let (operations, handle) = running();
        let (id, stop) = (handle.id().to_string(), CancellationToken::new());
        let began = Instant::now();
        let wait = Duration::from_secs(3);
        further(&operations, &id, wait, &stop).await.unwrap();
        assert_eq!(began.elapsed(), wait);
        further(&operations, &id, Duration::ZERO, &stop)
            .await
            .unwrap();
        assert_eq!(began.elapsed(), wait);
    }

    #[tokio::test(start_paused = true)]
    async fn a_waiting_client_does_not_delay_the_shutdown() {
        let (operations, handle) = running();
        let (id, stop) = (handle.id().to_string(), CancellationToken::new());
        let mut waiting = std::pin::pin!(further(&operations, &id, LONG, &stop));
        assert!(waiting.as_mut().now_or_never().is_none());
        stop.cancel();
        let operation = waiting.now_or_never().unwrap().unwrap();
        assert_eq!(operation.state, OperationState::Running);
    }
}
