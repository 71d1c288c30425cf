//! Writes Kubernetes Events from a separate queue, so that nothing waits for them.
//!
//! Events are for people; the insights are the source of truth. Events above the rate limit are dropped and
//! counted.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tower::{Service, ServiceBuilder, ServiceExt as _};

use crate::kubernetes::diagnosis::Diagnosis;
use crate::kubernetes::events::{EventWriter, Note, WriteOutcome};
use crate::telemetry::metrics::Metrics;

/// Maximum number of Events per [`WINDOW`]: two per second on average. An API server keeps Events for one hour.
const BURST: u64 = 50;
const WINDOW: Duration = Duration::from_secs(25);
/// Queue length: an Event that is more than two minutes late is of no use.
const WAITING: usize = 250;

/// Queues Events. Clones share the queue.
#[derive(Clone)]
pub struct Events {
    queue: Option<mpsc::Sender<Note>>,
    metrics: Arc<Metrics>,
}

/// Writes the queued Events.
pub struct EventRecorder {
    queue: mpsc::Receiver<Note>,
    writer: EventWriter,
    metrics: Arc<Metrics>,
}

impl Events {
    /// Creates the queue and the recorder that empties it with `writer`.
    #[must_use]
    pub fn new(writer: EventWriter, metrics: Arc<Metrics>) -> (Self, EventRecorder) {
        let (sender, queue) = mpsc::channel(WAITING);
        let events = Self {
            queue: Some(sender),
            metrics: Arc::clone(&metrics),
        };
        let recorder = EventRecorder {
            queue,
            writer,
            metrics,
        };
        (events, recorder)
    }

    /// Drops all Events.
    #[must_use]
    pub fn off(metrics: Arc<Metrics>) -> Self {
        Self {
            queue: None,
            metrics,
        }
    }

    /// Queues an Event, or drops it when the queue is full.
    pub fn record(&self, note: Note) {
        if let Some(queue) = &self.queue
            && queue.try_send(note).is_err()
        {
            self.metrics.event("dropped");
        }
    }
}

impl EventRecorder {
    /// Writes queued Events until `stop`, then as many of the rest as the rate limit allows at once.
    pub async fn run(self, stop: CancellationToken) {
        let Self {
            mut queue,
            writer,
            metrics,
        } = self;
        let mut outcomes = Outcomes {
            metrics,
            is_failing: false,
        };
        let mut rate = ServiceBuilder::new()
            .rate_limit(BURST, WINDOW)
            .service_fn(|()| std::future::ready(Ok::<_, Infallible>(())));
        let mut has_turn = false;
        // Take an Event only when it may be written, so that the others stay in the queue.
        while let Some(Some(note)) = stop
            .run_until_cancelled(async {
                if !has_turn {
                    wait_for_turn(&mut rate).await;
                }
                queue.recv().await
            })
            .await
        {
            let outcome = writer.write(&note).await;
            // An Event that existed already does not use up the rate limit.
            has_turn = matches!(outcome, Ok(WriteOutcome::Known));
            outcomes.record(&note, outcome);
        }
        stop.cancelled().await;
        while let Ok(note) = queue.try_recv() {
            if wait_for_turn(&mut rate).now_or_never().is_some() {
                outcomes.record(&note, writer.write(&note).await);
            } else {
                outcomes.metrics.event("dropped");
            }
        }
    }
}

/// Waits for the rate limit and takes one slot.
async fn wait_for_turn<S: Service<(), Error = Infallible>>(rate: &mut S) {
    let Ok(rate) = rate.ready().await;
    let Ok(_) = rate.call(()).await;
}

/// Counts the outcomes, and logs when writing starts or stops failing.
struct Outcomes {
    metrics: Arc<Metrics>,
    is_failing: bool,
}

impl Outcomes {
    fn record(&mut self, note: &Note, result: Result<WriteOutcome, Diagnosis>) {
        let (outcome, error) = match result {
            Ok(WriteOutcome::Created) => ("created", None),
            Ok(WriteOutcome::Known) => ("known", None),
            Err(diagnosis) => ("failed", Some(diagnosis)),
        };
        self.metrics.event(outcome);
        let was_failing = std::mem::replace(&mut self.is_failing, error.is_some());
        match error {
            Some(error) if !was_failing => {
                tracing::warn!(reason = note.reason, %error, "Writing Events fails");
            }
            None if was_failing => tracing::info!("Writing Events works again"),
            Some(_) | None => {}
        }
    }
}
