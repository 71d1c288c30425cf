//! A real Kubernetes control plane, and what tests and the demo need around it.
//!
//! Nothing is mocked: [`ControlPlane`] runs the kube-apiserver and etcd of a release, so schemas,
//! RBAC, conflicts, watches and outages are real. The rest of a cluster (kubelets, the Machine Config
//! Operator) is simulated by writing what it would write.
//!
//! | Module | For |
//! |---|---|
//! | [`control_plane`] | etcd, kube-apiserver, kube-controller-manager: start, outage, end |
//! | [`apply`] | server-side apply of YAML, as `kubectl apply --server-side` does |
//! | [`audit`] | which requests the API server received, and from whom |
//! | [`fault_proxy`] | faults between an operator and its API server |
//! | [`memory_limit`] | a memory limit like that of a container |
//! | [`process`] | programs that end with the test |
//! | [`truth`] | what is true of simulated nodes, and a verifier of insights |
//! | [`wait`] | waiting for a condition |

pub mod apply;
pub mod audit;
mod certificates;
pub mod cluster_api;
pub mod control_plane;
pub mod demo;
pub mod fault_proxy;
pub mod hypershift;
pub mod karpenter;
pub mod kubernetes;
pub mod kured;
pub mod load;
pub mod managed;
pub mod memory_limit;
pub mod openshift;
pub mod overlays;
pub mod plans;
pub mod pods;
pub mod process;
pub mod truth;
pub mod wait;

pub use audit::{AuditEntry, AuditLog, AuditMark, writes};
pub use control_plane::{
    ApiServer, Backup, ControlPlane, ControlPlaneBuilder, DetachedControlPlane,
};
pub use fault_proxy::{Fault, FaultProxy, Rule};
pub use memory_limit::MemoryLimit;
pub use process::{Exit, Process};
pub use rustix::process::Signal;
pub use wait::eventually;
