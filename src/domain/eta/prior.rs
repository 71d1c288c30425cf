//! How long stages take where nothing was observed yet: constants by provider and class of machine.
//!
//! They are the orders of magnitude that users and vendors report, and soon outweighed by what is observed: a constant
//! that is wrong by a factor of ten must not matter after a few nodes.

use super::curve::Curve;
use super::stage::{PerStage, Stage};

/// The class of the machines of a pool: it decides how long a reboot takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Machine {
    /// A virtual machine.
    Virtual,
    /// A physical machine, whose firmware tests its hardware at each start.
    BareMetal,
}

impl Machine {
    /// By the scheme of a provider ID; `None` where it does not say: k3s and RKE2 have one of their own on any machine.
    #[must_use]
    pub fn of(provider_id: &str) -> Option<Self> {
        const PHYSICAL: [&str; 6] = [
            "baremetalhost",
            "metal3",
            "equinixmetal",
            "packet",
            "tinkerbell",
            "byoh",
        ];
        const VIRTUAL: [&str; 12] = [
            "aws",
            "azure",
            "gce",
            "openstack",
            "vsphere",
            "digitalocean",
            "hcloud",
            "linode",
            "kubevirt",
            "nutanix",
            "proxmox",
            "scaleway",
        ];
        let (scheme, _) = provider_id.split_once("://")?;
        if PHYSICAL.contains(&scheme) {
            Some(Self::BareMetal)
        } else if VIRTUAL.contains(&scheme) {
            Some(Self::Virtual)
        } else {
            None
        }
    }
}

/// What is expected of one stage.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Expected {
    /// Median of its duration, in seconds.
    pub(super) median: f64,
    /// Standard deviation of the duration's logarithm.
    pub(super) spread: f64,
    /// The share of nodes that go through it.
    pub(super) share: f64,
}

impl Expected {
    const fn new(median: f64, spread: f64, share: f64) -> Self {
        Self {
            median,
            spread,
            share,
        }
    }

    pub(super) fn curve(&self) -> Curve {
        Curve::log_logistic(self.median, self.spread)
    }
}

/// What is expected of a pool of which nothing was observed.
#[derive(Debug, Clone, PartialEq)]
pub struct Prior {
    stages: PerStage<Expected>,
}

/// Updates and reboots vary little around their median; drains depend on the pods and have a heavy tail.
const STEADY: f64 = 0.4;
const HEAVY: f64 = 1.0;

/// 5 to 10 min per node, on average 8 here: OpenShift's documentation, `modules/update-duration-*.adoc`, and
/// openshift-docs#46241; of which 1 to 2 min are the reboot of a virtual machine. The other updaters in place do the
/// same work.
const IN_PLACE: PerStage<Expected> = PerStage {
    start: Expected::new(30.0, HEAVY, 1.0),
    turn: Expected::new(15.0, HEAVY, 1.0),
    draining: Expected::new(100.0, HEAVY, 1.0),
    updating: Expected::new(150.0, STEADY, 0.9),
    rebooting: Expected::new(120.0, STEADY, 0.9),
};

/// 15 min and more in OpenShift's documentation; 3.5 to 9 min, and 9 to 27 until everything has started, in
/// cubecos#1440; of which the firmware takes 5 (talos#4626).
const BARE_METAL_REBOOT: Expected = Expected::new(900.0, STEADY, 0.9);

/// Replacing a machine takes about 5 min: cluster-api-provider-azure#313 for Cluster API, quickstart-amazon-eks#377 for
/// EKS.
const REPLACED: PerStage<Expected> = PerStage {
    updating: Expected::new(300.0, STEADY, 1.0),
    rebooting: Expected::new(120.0, STEADY, 0.1),
    ..IN_PLACE
};

impl Prior {
    /// The constants of a provider, by its name in the API.
    #[must_use]
    pub fn of(provider: &str, machine: Machine) -> Self {
        let mut stages = match provider {
            // New machines come up for 5 to 6 min, then nothing is seen for 20: containers-roadmap#1560.
            "EKS" => PerStage {
                start: Expected::new(1_200.0, STEADY, 1.0),
                ..REPLACED
            },
            // 5 to 10 min per node: aks-engine#1980.
            "AKS" => PerStage {
                updating: Expected::new(330.0, STEADY, 1.0),
                ..REPLACED
            },
            // 4 min per node in kraken-lib#217, 9 and more in cluster-toolkit#3343.
            "GKE" => PerStage {
                updating: Expected::new(270.0, STEADY, 1.0),
                ..REPLACED
            },
            // A new node within 100 s (karpenter-provider-aws#3102), and an instance that ends within seconds, or
            // minutes (#7019).
            "Karpenter" => PerStage {
                turn: Expected::new(100.0, HEAVY, 1.0),
                updating: Expected::new(60.0, HEAVY, 1.0),
                ..REPLACED
            },
            // A node starts within 3 to 5 min: kops#3329.
            "kOps" => PerStage {
                updating: Expected::new(240.0, STEADY, 1.0),
                ..REPLACED
            },
            "ClusterAPI" | "HyperShift" | "Gardener" => REPLACED,
            // It looks once in 60 min whether a node may reboot, so one waits for half of that on average: kured#173.
            "kured" => PerStage {
                turn: Expected::new(1_500.0, 0.6, 1.0),
                updating: Expected::new(60.0, HEAVY, 0.5),
                ..IN_PLACE
            },
            _ => IN_PLACE,
        };
        if machine == Machine::BareMetal {
            stages.rebooting = Expected {
                share: stages.rebooting.share,
                ..BARE_METAL_REBOOT
            };
        }
        Self { stages }
    }

    /// What is expected of a stage.
    #[must_use]
    pub(super) const fn expected(&self, stage: Stage) -> &Expected {
        self.stages.get(stage)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn physical_machines_reboot_longer() {
        for provider in ["OpenShift", "ClusterAPI", "somebody's own"] {
            let reboot = |machine| {
                Prior::of(provider, machine)
                    .expected(Stage::Rebooting)
                    .median
            };
            assert!(reboot(Machine::BareMetal) > 3.0 * reboot(Machine::Virtual));
        }
    }

    #[test]
    fn machines_are_recognised_by_their_provider_id() {
        for id in ["baremetalhost:///ns/a/b", "metal3://x", "tinkerbell://y"] {
            assert_eq!(Machine::of(id), Some(Machine::BareMetal), "{id}");
        }
        for id in ["aws:///eu-west-1a/i-1", "vsphere://42"] {
            assert_eq!(Machine::of(id), Some(Machine::Virtual), "{id}");
        }
        for id in ["", "metal3", "k3s://server-0"] {
            assert_eq!(Machine::of(id), None, "{id}");
        }
    }

    #[test]
    fn what_is_special_about_a_provider_is_expected() {
        let median = |provider, stage| Prior::of(provider, Machine::Virtual).expected(stage).median;
        assert!(median("EKS", Stage::Start) > 10.0 * median("GKE", Stage::Start));
        assert!(median("kured", Stage::Turn) > 10.0 * median("OpenShift", Stage::Turn));
    }
}
