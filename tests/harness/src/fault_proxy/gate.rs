//! How many writes may pass, so that a test knows to the write what has been done.

use tokio::sync::watch;

use super::asked::Asked;

/// Counts writes, and holds up those that are too many.
pub(super) struct Gate {
    state: watch::Sender<State>,
}

#[derive(Default)]
struct State {
    /// How many may still pass; all, if there is no number.
    left: Option<u64>,
    /// Passed, and not answered yet.
    under_way: u64,
    /// Answered with success.
    accepted: u64,
    /// What is counted; everything, if there is nothing.
    resources: Vec<String>,
}

/// A write that was let through, and is under way until this is dropped.
#[must_use]
pub(super) struct Passed<'a> {
    gate: &'a Gate,
    is_counted: bool,
}

impl Drop for Passed<'_> {
    fn drop(&mut self) {
        if self.is_counted {
            let gone = |state: &mut State| state.under_way = state.under_way.saturating_sub(1);
            self.gate.state.send_modify(gone);
        }
    }
}

impl Default for Gate {
    fn default() -> Self {
        Self {
            state: watch::Sender::new(State::default()),
        }
    }
}

impl Gate {
    pub(super) fn allow(&self, count: u64, resources: &[&str]) {
        self.state.send_modify(|state| {
            state.left = Some(count);
            state.resources = resources.iter().map(|&name| name.to_owned()).collect();
        });
    }

    pub(super) fn open(&self) {
        self.state.send_modify(|state| state.left = None);
    }

    pub(super) fn accepted(&self) -> u64 {
        self.state.borrow().accepted
    }

    pub(super) async fn spent(&self) {
        let mut state = self.state.subscribe();
        // It cannot be gone: it is held here.
        let _ = state.wait_for(State::is_spent).await;
    }

    /// Waits until the write may pass.
    pub(super) async fn enter(&self, asked: &Asked) -> Passed<'_> {
        let mut changes = self.state.subscribe();
        loop {
            let mut is_counted = false;
            let passes = self.state.send_if_modified(|state| {
                is_counted = state.counts(asked);
                if is_counted && state.left == Some(0) {
                    return false;
                }
                if is_counted {
                    state.left = state.left.map(|left| left - 1);
                    state.under_way += 1;
                }
                true
            });
            if passes {
                return Passed {
                    gate: self,
                    is_counted,
                };
            }
            if changes.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Notes the answer, and holds it up if it is that of the last write that was allowed. One that was refused is
    /// no write: another one may pass for it.
    pub(super) async fn answered(&self, passed: Passed<'_>, is_accepted: bool) {
        let is_counted = passed.is_counted;
        self.state.send_modify(|state| {
            state.accepted += u64::from(is_accepted);
            if is_counted && !is_accepted {
                state.left = state.left.map(|left| left + 1);
            }
        });
        drop(passed);
        if is_counted && is_accepted {
            let mut state = self.state.subscribe();
            let _ = state.wait_for(|state| state.left != Some(0)).await;
        }
    }
}

impl State {
    fn counts(&self, asked: &Asked) -> bool {
        self.resources.is_empty() || self.resources.contains(&asked.resource)
    }

    fn is_spent(&self) -> bool {
        self.left == Some(0) && self.under_way == 0
    }
}
