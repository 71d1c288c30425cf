//! Limits how many writes pass, so that a test knows exactly which writes were done.

use tokio::sync::watch;

use super::request_info::RequestInfo;

/// Counts writes, and holds up those above the limit.
pub(super) struct Gate {
    state: watch::Sender<State>,
}

#[derive(Default)]
struct State {
    /// How many may still pass; all, if `None`.
    left: Option<u64>,
    /// Passed, without a response yet.
    in_flight: u64,
    /// Succeeded.
    accepted: u64,
    /// The resources that are counted; all, if empty.
    resources: Vec<String>,
}

/// A write that was let through, in flight until this is dropped.
#[must_use]
pub(super) struct Passed<'a> {
    gate: &'a Gate,
    is_counted: bool,
}

impl Drop for Passed<'_> {
    fn drop(&mut self) {
        if self.is_counted {
            let gone = |state: &mut State| state.in_flight = state.in_flight.saturating_sub(1);
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
        // The sender cannot be gone: `self` holds it.
        let _ = state.wait_for(State::is_spent).await;
    }

    /// Waits until the write may pass.
    pub(super) async fn enter(&self, request: &RequestInfo) -> Passed<'_> {
        let mut changes = self.state.subscribe();
        loop {
            let mut is_counted = false;
            let passes = self.state.send_if_modified(|state| {
                is_counted = state.counts(request);
                if is_counted && state.left == Some(0) {
                    return false;
                }
                if is_counted {
                    state.left = state.left.map(|left| left - 1);
                    state.in_flight += 1;
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

    /// Records the response, and holds it up if it belongs to the last allowed write. A rejected write does not
    /// count: another one may pass instead.
    pub(super) async fn responded(&self, passed: Passed<'_>, is_accepted: bool) {
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
    fn counts(&self, request: &RequestInfo) -> bool {
        self.resources.is_empty() || self.resources.contains(&request.resource)
    }

    fn is_spent(&self) -> bool {
        self.left == Some(0) && self.in_flight == 0
    }
}
