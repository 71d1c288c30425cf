//! Waits for a condition, never for a fixed time.

use std::time::Duration;

use anyhow::{Result, anyhow};
use tokio::time::Instant;

/// How often a condition is polled: often enough that a wait adds little to a test, and rarely enough
/// to leave the CPU to the API server that is usually waited for.
const POLL: Duration = Duration::from_millis(50);

/// Calls `probe`, an `async ||` closure, until it returns a value, and returns that value.
///
/// An error of the probe counts as "not yet": servers that are starting refuse connections. A probe
/// that hangs is cancelled at the deadline.
///
/// # Errors
///
/// After `timeout`; the message says what was waited for, how long, and the probe's last error.
pub async fn eventually<T, F, Fut>(what: &str, timeout: Duration, mut probe: F) -> Result<T>
where
    // Not AsyncFnMut: with it the compiler (1.95) cannot see that the future is Send, and a task that
    // waits could not be spawned.
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<Option<T>>>,
{
    let deadline = Instant::now() + timeout;
    let mut last_error = None;
    loop {
        match tokio::time::timeout_at(deadline, probe()).await {
            Ok(Ok(Some(value))) => return Ok(value),
            Ok(Ok(None)) => last_error = None,
            Ok(Err(error)) => last_error = Some(error),
            Err(_) => {
                last_error = last_error.or_else(|| Some(anyhow!("the last probe did not return")));
            }
        }
        if Instant::now() + POLL >= deadline {
            let waited = format!("timed out after {timeout:?} waiting for: {what}");
            return Err(match last_error {
                Some(error) => error.context(waited),
                None => anyhow!(waited),
            });
        }
        tokio::time::sleep(POLL).await;
    }
}
