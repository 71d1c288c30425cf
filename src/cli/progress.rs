//! The progress of an operation on stderr: a bar on a terminal, otherwise periodic lines.

use std::io::{IsTerminal, Write as _, stderr};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::time::Instant;

use crate::registry::operations::Operation;

/// Often enough to show that it still runs, without flooding a log.
const BETWEEN_LINES: Duration = Duration::from_secs(10);
const BAR: &str = "{prefix} [{bar:40}] {pos}/{len} {elapsed}";
/// While the total is unknown.
const NO_BAR: &str = "{prefix} {elapsed}";

pub(super) enum Progress {
    Bar(ProgressBar),
    Lines { next: Instant },
}

impl Progress {
    /// Begins to show `operation`.
    pub(super) fn begin(operation: &Operation) -> Self {
        let mut progress = if stderr().is_terminal() {
            let target = ProgressDrawTarget::stderr();
            let bar = ProgressBar::with_draw_target(Some(0), target);
            Self::Bar(bar.with_prefix(operation.kind.clone()))
        } else {
            Self::Lines {
                next: Instant::now() + BETWEEN_LINES,
            }
        };
        progress.show(operation);
        progress
    }

    /// Shows the current progress.
    pub(super) fn show(&mut self, operation: &Operation) {
        let (done, total) = (operation.progress.done, operation.progress.total);
        match self {
            Self::Bar(bar) => {
                let template = if total == 0 { NO_BAR } else { BAR };
                if let Ok(style) = ProgressStyle::with_template(template) {
                    bar.set_style(style);
                }
                bar.update(|bar| {
                    bar.set_len(total);
                    bar.set_pos(done);
                });
                bar.tick();
            }
            Self::Lines { next } => {
                let now = Instant::now();
                if now >= *next {
                    *next = now + BETWEEN_LINES;
                    let _ = writeln!(stderr(), "operation/{}: {done} of {total}", operation.id);
                }
            }
        }
    }

    /// Removes the bar.
    pub(super) fn end(&self) {
        match self {
            Self::Bar(bar) => bar.finish_and_clear(),
            Self::Lines { next: _ } => {}
        }
    }
}
