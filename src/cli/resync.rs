//! `node-insights resync`: makes a running operator compare everything, or evaluate one pool again.
//!
//! The operation runs in the operator, and continues when this process ends. Results go to stdout, one per line;
//! progress and hints go to stderr.

use std::io::{self, Write as _, stderr, stdout};
use std::process::ExitCode;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{MissedTickBehavior, interval};

use super::operator::{Operator, OperatorError, Started, Trust, plain};
use super::progress::Progress;
use super::token::{self, TokenError};
use crate::app::config::ResyncConfig;
use crate::registry::operations::{Operation, OperationId, OperationState};

/// How long the operator may delay its response while nothing changes: the bar shows the seconds.
const WAIT: Duration = Duration::from_secs(1);
/// Minimum time between two requests, as a proxy may respond without waiting.
const PACE: Duration = Duration::from_millis(250);
/// Exit code after Ctrl-C, as in shells: 128 plus the number of the signal.
const INTERRUPTED: u8 = 130;

/// Why the operation did not succeed, or its outcome is unknown.
#[derive(Debug, thiserror::Error)]
pub enum ResyncError {
    /// There is no token.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// It was not started.
    #[error(transparent)]
    NotStarted(#[from] OperatorError),
    /// Ctrl-C cannot be handled.
    #[error("Cannot listen for Ctrl-C")]
    NoSignal(#[source] io::Error),
    /// It was started, then the operator stopped responding.
    #[error("Lost sight of operation/{id}, which may go on")]
    Lost {
        /// Its id.
        id: OperationId,
        /// What happened.
        source: OperatorError,
    },
    /// It failed, or was cancelled.
    #[error("operation/{id} {state}: {message}")]
    Ended {
        /// Its id.
        id: OperationId,
        /// How it ended.
        state: OperationState,
        /// Why.
        message: String,
    },
}

/// Starts the operation of `config`, and waits for it if `config` requests that.
///
/// # Errors
/// When it was not started, or did not succeed while this waited for it.
pub async fn run(config: &ResyncConfig) -> Result<ExitCode, ResyncError> {
    let operator = Operator::at(&config.server, &Trust::of(config))?;
    let token = token::find(config.token_file.as_deref())?;
    let Started { operation, ran } = operator.start(config.pool.as_deref(), &token).await?;
    let id = &operation.id;
    // From here on, Ctrl-C prints how to follow the operation.
    let mut interrupt = signal(SignalKind::interrupt()).map_err(ResyncError::NoSignal)?;
    let did = if ran { "runs already" } else { "started" };
    // Stdout may be closed.
    let _ = writeln!(stdout(), "operation/{id} {did}");
    if !config.wait {
        let _ = writeln!(stderr(), "Show its progress: curl {}", operator.url(id));
        return Ok(ExitCode::SUCCESS);
    }

    let mut progress = Progress::begin(&operation);
    let ended = tokio::select! {
        ended = follow(&operator, id, &mut progress) => Some(ended),
        _ = interrupt.recv() => None,
    };
    progress.end();
    let Some(ended) = ended else {
        let url = operator.url(id);
        let _ = writeln!(
            stderr(),
            "operation/{id} goes on; show its progress: curl {url}; \
             cancel it: curl -X DELETE -H \"Authorization: Bearer $TOKEN\" {url}"
        );
        return Ok(ExitCode::from(INTERRUPTED));
    };
    let operation = ended.map_err(|source| ResyncError::Lost {
        id: id.clone(),
        source,
    })?;
    if operation.state != OperationState::Succeeded {
        return Err(ResyncError::Ended {
            message: plain(operation.message.as_deref().unwrap_or("without a message")),
            state: operation.state,
            id: operation.id,
        });
    }
    let _ = writeln!(stdout(), "{}", summary(&operation));
    Ok(ExitCode::SUCCESS)
}

/// Shows the progress until the operation has ended.
async fn follow(
    operator: &Operator,
    id: &OperationId,
    progress: &mut Progress,
) -> Result<Operation, OperatorError> {
    let mut pace = interval(PACE);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        pace.tick().await;
        let operation = operator.further(id, WAIT).await?;
        if operation.state != OperationState::Running {
            return Ok(operation);
        }
        progress.show(&operation);
    }
}

/// The outcome in one line.
fn summary(operation: &Operation) -> String {
    let seconds = operation
        .finished_at
        .map(|end| end.duration_since(operation.started_at).as_secs());
    let took = seconds.map(|seconds| format!(" after {seconds} s"));
    let message = operation.message.as_deref().map(plain);
    let counts = operation.counts.iter();
    let counts: Vec<String> = counts
        .map(|(name, number)| format!("{number} {}", plain(name)))
        .collect();
    format!(
        "operation/{} {}{}{}{}",
        operation.id,
        operation.state,
        took.unwrap_or_default(),
        message.map_or_else(String::new, |message| format!(": {message}")),
        match &counts[..] {
            [] => String::new(),
            counts => format!(" ({})", counts.join(", ")),
        }
    )
}
