//! What is told as Events: a queue of its own, so that nothing waits for them.
//!
//! Events are for people, and the insights are the truth. So they are few: what is more than the rate allows is
//! dropped, and counted.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tower::{Service, ServiceBuilder, ServiceExt as _};

use crate::kubernetes::diagnosis::Diagnosis;
use crate::kubernetes::events::{EventWriter, Note, Told};
use crate::telemetry::metrics::Metrics;

/// Events at once, and in each of the [`WINDOW`]s: two a second in the long run. An API server keeps them for an
/// hour.
const BURST: u64 = 50;
const WINDOW: Duration = Duration::from_secs(25);
/// Events that wait for their turn: what comes two minutes late is no news.
const WAITING: usize = 250;

/// Takes what shall be told. Clones are the same.
#[derive(Clone)]
pub struct Events {
    queue: Option<mpsc::Sender<Note>>,
    metrics: Arc<Metrics>,
}

/// Tells it.
pub struct Teller {
    queue: mpsc::Receiver<Note>,
    writer: EventWriter,
    metrics: Arc<Metrics>,
}

impl Events {
    /// Has `writer` tell, once the other one runs.
    #[must_use]
    pub fn new(writer: EventWriter, metrics: Arc<Metrics>) -> (Self, Teller) {
        let (sender, queue) = mpsc::channel(WAITING);
        let events = Self {
            queue: Some(sender),
            metrics: Arc::clone(&metrics),
        };
        let teller = Teller {
            queue,
            writer,
            metrics,
        };
        (events, teller)
    }

    /// Tells nobody.
    #[must_use]
    pub fn off(metrics: Arc<Metrics>) -> Self {
        Self {
            queue: None,
            metrics,
        }
    }

    /// Tells a note, or drops it when there are too many.
    pub fn tell(&self, note: Note) {
        if let Some(queue) = &self.queue
            && queue.try_send(note).is_err()
        {
            self.metrics.told("dropped");
        }
    }
}

impl Teller {
    /// Tells what comes, until `stop`; then what the rate allows at once.
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
        // What waits, waits in the queue.
        while let Some(Some(note)) = stop
            .run_until_cancelled(async {
                if !has_turn {
                    wait_for_turn(&mut rate).await;
                }
                queue.recv().await
            })
            .await
        {
            let told = writer.write(&note).await;
            // What is known already leaves its turn to the next one.
            has_turn = matches!(told, Ok(Told::Known));
            outcomes.of(&note, told);
        }
        stop.cancelled().await;
        while let Ok(note) = queue.try_recv() {
            if wait_for_turn(&mut rate).now_or_never().is_some() {
                outcomes.of(&note, writer.write(&note).await);
            } else {
                outcomes.metrics.told("dropped");
            }
        }
    }
}

/// Uses up one of those that the rate allows.
async fn wait_for_turn<S: Service<(), Error = Infallible>>(rate: &mut S) {
    let Ok(rate) = rate.ready().await;
    let Ok(_) = rate.call(()).await;
}

/// Counts what became of notes, and says when that changes.
struct Outcomes {
    metrics: Arc<Metrics>,
    is_failing: bool,
}

impl Outcomes {
    fn of(&mut self, note: &Note, told: Result<Told, Diagnosis>) {
        let (outcome, error) = match told {
            Ok(Told::Created) => ("created", None),
            Ok(Told::Known) => ("known", None),
            Err(diagnosis) => ("failed", Some(diagnosis)),
        };
        self.metrics.told(outcome);
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
