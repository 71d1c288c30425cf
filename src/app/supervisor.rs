//! Owned, named tasks, whose end is always reported.

use std::collections::HashMap;
use std::future::Future;

use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

/// A task ended unexpectedly.
#[derive(Debug, thiserror::Error)]
pub enum Ended {
    /// It panicked.
    #[error("The task '{task}' panicked: {message}")]
    Panicked {
        /// Its name.
        task: &'static str,
        /// The message of the panic.
        message: String,
    },
    /// It returned.
    #[error("The task '{task}' ended unexpectedly")]
    Returned {
        /// Its name.
        task: &'static str,
    },
}

/// Tasks that are stopped together.
#[derive(Default)]
pub struct Stage {
    stop: CancellationToken,
    tasks: JoinSet<()>,
    names: HashMap<Id, &'static str>,
}

impl Stage {
    /// Starts a task that ends by itself once its token is cancelled.
    pub fn spawn<F>(&mut self, name: &'static str, task: impl FnOnce(CancellationToken) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let id = self.tasks.spawn(task(self.stop.clone())).id();
        self.names.insert(id, name);
    }

    /// Starts a task that is dropped when the stage stops.
    pub fn spawn_until_stopped<F>(&mut self, name: &'static str, task: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.spawn(name, |stop| async move {
            stop.run_until_cancelled(task).await;
        });
    }

    /// Waits until a task ends unexpectedly; forever when there are no tasks.
    pub async fn ended(&mut self) -> Ended {
        match self.tasks.join_next_with_id().await {
            Some(Ok((id, ()))) => Ended::Returned {
                task: self.name(id),
            },
            Some(Err(error)) => Ended::Panicked {
                task: self.name(error.id()),
                message: panic_message(error),
            },
            None => std::future::pending().await,
        }
    }

    /// Stops the tasks and waits for them; returns whether all ended by the deadline. The others are logged and
    /// dropped.
    pub async fn stop(mut self, deadline: Instant) -> bool {
        self.stop.cancel();
        loop {
            match timeout_at(deadline, self.tasks.join_next_with_id()).await {
                Ok(None) => return true,
                Ok(Some(Ok((id, ())))) => {
                    self.names.remove(&id);
                }
                Ok(Some(Err(error))) => {
                    let task = self.names.remove(&error.id()).unwrap_or("unnamed");
                    tracing::error!(task, error = %panic_message(error), "A task panicked while stopping");
                }
                Err(_) => {
                    for task in self.names.values() {
                        tracing::warn!(task, "A task did not stop in time and is dropped");
                    }
                    return false;
                }
            }
        }
    }

    fn name(&self, id: Id) -> &'static str {
        self.names.get(&id).copied().unwrap_or("unnamed")
    }
}

fn panic_message(error: JoinError) -> String {
    match error.try_into_panic() {
        Ok(panic) => panic
            .downcast_ref::<&str>()
            .map(ToString::to_string)
            .or_else(|| panic.downcast_ref::<String>().cloned())
            .unwrap_or_else(|| "without a message".to_owned()),
        Err(error) => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn a_panic_is_reported_with_the_tasks_name_and_the_message() {
        let mut stage = Stage::default();
        stage.spawn("node_insight", |_| async { panic!("no state") });
        assert_eq!(
            stage.ended().await.to_string(),
            "The task 'node_insight' panicked: no state"
        );
    }

    #[tokio::test]
    async fn a_task_that_returns_unexpectedly_is_named() {
        let mut stage = Stage::default();
        stage.spawn("node_state", |_| async {});
        assert_eq!(
            stage.ended().await.to_string(),
            "The task 'node_state' ended unexpectedly"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn stopping_waits_for_the_tasks_until_the_deadline() {
        let deadline = || Instant::now() + Duration::from_secs(9);
        let mut patient = Stage::default();
        patient.spawn("slow", |stop| async move {
            stop.cancelled().await;
            tokio::time::sleep(Duration::from_secs(8)).await;
        });
        assert!(patient.stop(deadline()).await);
        let mut stuck = Stage::default();
        stuck.spawn("stuck", |_| std::future::pending());
        assert!(!stuck.stop(deadline()).await);
    }
}
