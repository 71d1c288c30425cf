//! Plays the update of a pool as its cloud does it.

use std::time::Duration;

use anyhow::Result;

use super::{Cloud, Machine, Managed, workload};
use crate::kubernetes::Pace;
use crate::truth::{COMPLETED, DRAINING, PENDING, Phases, REBOOTING, UNKNOWN, UPDATING};

// Nominal durations at the pace of the demo.
const BOOT: Duration = Duration::from_secs(3);
/// Half of a drain: its pods end one after the other.
const DRAIN: Duration = Duration::from_secs(2);
const TERMINATE: Duration = Duration::from_secs(2);
/// How long a node of AKS stays quarantined.
const QUARANTINE: Duration = Duration::from_secs(6);

impl Managed {
    /// An outdated machine, which has joined and is ready, and its pods.
    ///
    /// # Errors
    /// As [`Managed::join`].
    pub async fn outdated(&self, machine: &Machine) -> Result<()> {
        let joined = async {
            self.machine(machine).await?;
            self.workload(&machine.name).await
        };
        self.truth.joins(&machine.name, &[PENDING], joined).await
    }

    /// Updates a pool as its cloud does, from `old` to `new`: the first one of `new` is the surge. Machines of AKS keep
    /// their names, and its surge node is removed at the end.
    ///
    /// # Errors
    /// As [`Managed::join`].
    pub async fn update(&self, old: &[Machine], new: &[Machine], pace: Pace) -> Result<()> {
        self.update_with(old, new, None, pace).await
    }

    /// The same, with a node that AKS quarantines for a while.
    ///
    /// # Errors
    /// As [`Managed::join`].
    pub async fn update_with(
        &self,
        old: &[Machine],
        new: &[Machine],
        quarantined: Option<&str>,
        pace: Pace,
    ) -> Result<()> {
        let names: Vec<&str> = old.iter().map(|machine| machine.name.as_str()).collect();
        let Some((surge, others)) = new.split_first() else {
            return Ok(());
        };
        self.replacement(surge, pace).await?;
        match self.cloud {
            Cloud::Eks => {
                for machine in others {
                    self.replacement(machine, pace).await?;
                }
                self.replace_of_eks(&names, pace).await
            }
            Cloud::Gke => self.replace_of_gke(&names, others, pace).await,
            Cloud::Aks => {
                for machine in others {
                    let fails = quarantined == Some(&*machine.name);
                    self.upgrade_of_aks(machine, fails, pace).await?;
                }
                self.remove_surge(&surge.name, pace).await
            }
        }
    }

    async fn replace_of_eks(&self, old: &[&str], pace: Pace) -> Result<()> {
        self.truth
            .step_of(old, &[PENDING], self.cordon(old))
            .await?;
        for name in old {
            pace.pass(DRAIN).await;
            self.drain(name, &[DRAINING], pace).await?;
            let excluded = async {
                self.end_pods(name).await?;
                self.exclude(name).await
            };
            self.truth.step(name, &[UPDATING], excluded).await?;
            pace.pass(TERMINATE).await;
            self.end(name, pace).await?;
        }
        Ok(())
    }

    async fn replace_of_gke(&self, old: &[&str], new: &[Machine], pace: Pace) -> Result<()> {
        let mut new = new.iter();
        for name in old {
            let cordoned = self.nodes.cordon(name, true);
            self.truth.step(name, &[DRAINING], cordoned).await?;
            pace.pass(DRAIN).await;
            self.drain(name, &[DRAINING], pace).await?;
            self.end_pods(name).await?;
            self.end(name, pace).await?;
            if let Some(machine) = new.next() {
                self.replacement(machine, pace).await?;
            }
        }
        Ok(())
    }

    async fn upgrade_of_aks(&self, machine: &Machine, fails: bool, pace: Pace) -> Result<()> {
        let name = machine.name.as_str();
        let truth = &self.truth;
        truth.step(name, &[PENDING], self.mark(name, true)).await?;
        pace.pass(TERMINATE).await;
        let cordoned = self.nodes.cordon(name, true);
        truth.step(name, &[DRAINING], cordoned).await?;
        self.drain(name, &[DRAINING], pace).await?;
        if fails {
            // The last pod does not end in time.
            let quarantined = self.quarantine(name);
            truth.step(name, &[PENDING], quarantined).await?;
            pace.pass(QUARANTINE).await;
            truth.step(name, &[DRAINING], self.retry(name)).await?;
            pace.pass(DRAIN).await;
        }
        self.end_pods(name).await?;
        let silent = self.terminate(name);
        truth.step(name, &[REBOOTING, UPDATING], silent).await?;
        pace.pass(TERMINATE).await;
        let reimaged = self.reimage(machine);
        truth.step(name, &[UPDATING], reimaged).await?;
        pace.pass(BOOT).await;
        let ready = self.nodes.become_ready(name);
        truth.step(name, &[COMPLETED], ready).await?;
        self.collect(name).await?;
        self.workload(name).await
    }

    /// AKS removes the surge node at the end, which is no update.
    async fn remove_surge(&self, surge: &str, pace: Pace) -> Result<()> {
        let cordoned = self.nodes.cordon(surge, true);
        self.truth.step(surge, &[COMPLETED], cordoned).await?;
        self.drain(surge, &[COMPLETED], pace).await?;
        self.end_pods(surge).await?;
        self.truth.gone(surge, self.gone(surge)).await?;
        self.collect(surge).await
    }

    /// A new node joins, becomes ready, and gets pods.
    async fn replacement(&self, machine: &Machine, pace: Pace) -> Result<()> {
        let name = machine.name.as_str();
        self.truth
            .step(name, &[UNKNOWN], self.join(machine))
            .await?;
        pace.pass(BOOT).await;
        let ready = self.nodes.become_ready(name);
        self.truth.step(name, &[COMPLETED], ready).await?;
        self.workload(name).await
    }

    /// The pods of a cordoned node are evicted, and all but the last one end.
    async fn drain(&self, node: &str, phases: Phases, pace: Pace) -> Result<()> {
        let running = self.pods.of(node).await?;
        let pods = workload(node);
        let pods: Vec<&String> = pods.iter().filter(|pod| running.contains(pod)).collect();
        let evicted = async {
            for pod in &pods {
                self.pods.evict(pod).await?;
            }
            Ok(())
        };
        self.truth.step(node, phases, evicted).await?;
        pace.pass(DRAIN).await;
        if let Some((_, others)) = pods.split_last() {
            for pod in others {
                self.pods.finish(pod).await?;
            }
        }
        pace.pass(DRAIN).await;
        Ok(())
    }

    /// The last pods of a drained node end.
    async fn end_pods(&self, node: &str) -> Result<()> {
        let running = self.pods.of(node).await?;
        for pod in workload(node) {
            if running.contains(&pod) {
                self.pods.finish(&pod).await?;
            }
        }
        Ok(())
    }

    /// The machine of a drained node ends.
    async fn end(&self, node: &str, pace: Pace) -> Result<()> {
        let silent = self.terminate(node);
        self.truth.step(node, &[UPDATING], silent).await?;
        pace.pass(TERMINATE).await;
        self.truth.gone(node, self.gone(node)).await?;
        self.collect(node).await
    }

    /// What is left of the pods of a machine that has ended is collected.
    async fn collect(&self, node: &str) -> Result<()> {
        for pod in self.pods.of(node).await? {
            self.pods.finish(&pod).await?;
        }
        Ok(())
    }
}
