//! The cases: platform, scenario, size of the pool, and what is known before.

use std::fmt;

use node_insights::domain::eta;

use crate::generator::{Hangs, Plan, Platform, Scenario};

/// What is known of a pool of which nothing was observed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Prior {
    /// The constants of its provider and machines.
    Right,
    /// Those of the other class of machines.
    Wrong,
}

/// A case, of which many rollouts are simulated.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Case {
    pub(crate) plan: Plan,
    pub(crate) prior: Prior,
    /// Rollouts without incident that the pool had before.
    pub(crate) before: usize,
}

impl Case {
    /// What the estimator is given.
    pub(crate) fn constants(&self) -> eta::Prior {
        let (provider, machine) = self.platform();
        eta::Prior::of(provider, machine)
    }

    /// The provider and the class of machines, as far as is known.
    pub(crate) fn platform(&self) -> (&'static str, eta::Machine) {
        let (provider, machine) = match self.plan.platform {
            Platform::Cloud => ("OpenShift", eta::Machine::Virtual),
            Platform::BareMetal => ("OpenShift", eta::Machine::BareMetal),
            Platform::Replace => ("ClusterAPI", eta::Machine::Virtual),
            Platform::Eks => ("EKS", eta::Machine::Virtual),
            Platform::Kured => ("kured", eta::Machine::Virtual),
        };
        let machine = match (self.prior, machine) {
            (Prior::Right, machine) => machine,
            (Prior::Wrong, eta::Machine::Virtual) => eta::Machine::BareMetal,
            (Prior::Wrong, eta::Machine::BareMetal) => eta::Machine::Virtual,
        };
        (provider, machine)
    }

    /// Platform, scenario and prior in words.
    fn words(&self) -> [&'static str; 3] {
        let platform = match self.plan.platform {
            Platform::Cloud => "cloud",
            Platform::BareMetal => "bare metal",
            Platform::Replace => "replaced",
            Platform::Eks => "EKS",
            Platform::Kured => "kured",
        };
        let scenario = match self.plan.scenario {
            Scenario::Stationary => "",
            Scenario::Slower => ", slower midway",
            Scenario::Stuck => ", a stuck node",
            Scenario::Bimodal => ", bimodal",
            Scenario::Parallelism => ", parallelism changes",
            Scenario::Restarted => ", operator restarted",
        };
        let prior = match self.prior {
            Prior::Right => "",
            Prior::Wrong => ", wrong prior",
        };
        [platform, scenario, prior]
    }

    /// The case without its sizes and what was before.
    pub(crate) fn group(&self) -> String {
        self.words().concat()
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [platform, scenario, prior] = self.words();
        let known = if self.before == 0 { "cold" } else { "warm" };
        let Plan { nodes, slots, .. } = self.plan;
        write!(
            f,
            "{platform}, {nodes} nodes by {slots}{scenario}{prior}, {known}"
        )
    }
}

/// Every pool of these sizes that updates 1, 3 or 10 % of its nodes at once, rounded down, but at least one; each once.
fn sizes() -> Vec<(usize, usize)> {
    let mut sizes = Vec::new();
    for nodes in [3, 5, 12, 30, 100, 500] {
        for percent in [1, 3, 10] {
            let size = (nodes, (nodes * percent / 100).max(1));
            if !sizes.contains(&size) {
                sizes.push(size);
            }
        }
    }
    sizes
}

/// All cases.
pub(crate) fn all() -> Vec<Case> {
    let mut cases = Vec::new();
    let mut add = |platform, scenario, (nodes, slots), prior, before| {
        cases.push(Case {
            plan: Plan {
                platform,
                scenario,
                hangs: Hangs::SomeDrains,
                nodes,
                slots,
            },
            prior,
            before,
        });
    };
    for size in sizes() {
        for before in [0, 2] {
            add(
                Platform::Cloud,
                Scenario::Stationary,
                size,
                Prior::Right,
                before,
            );
        }
    }
    for (scenario, sizes) in [
        (Scenario::Slower, &[(12, 1), (30, 3)][..]),
        (Scenario::Stuck, &[(30, 3)][..]),
        (Scenario::Bimodal, &[(12, 1), (30, 3)][..]),
        (Scenario::Parallelism, &[(12, 2), (100, 4)][..]),
        (Scenario::Restarted, &[(12, 1), (30, 3)][..]),
    ] {
        for size in sizes {
            for before in [0, 2] {
                add(Platform::Cloud, scenario, *size, Prior::Right, before);
            }
        }
    }
    for (platform, sizes) in [
        (Platform::BareMetal, &[(3, 1), (12, 1), (30, 3)][..]),
        (Platform::Replace, &[(12, 1), (30, 3)][..]),
        (Platform::Eks, &[(3, 1), (12, 1)][..]),
        (Platform::Kured, &[(5, 1), (12, 1)][..]),
    ] {
        for size in sizes {
            for before in [0, 2] {
                add(platform, Scenario::Stationary, *size, Prior::Right, before);
            }
        }
    }
    for platform in [Platform::BareMetal, Platform::Cloud] {
        for size in [(3, 1), (12, 1), (30, 3)] {
            add(platform, Scenario::Stationary, size, Prior::Wrong, 0);
        }
    }
    cases
}
