//! Properties of every provider and every input.

use std::sync::LazyLock;

use proptest::prelude::*;

use super::fixtures::{ClusterFacts, next_state, only, openshift, paused, plain_kubernetes, pool};
use super::openshift::evidence::{DaemonState, MachineConfigFacts, drain_requested};
use super::settings::WELL_KNOWN_POOL_LABELS;
use super::*;
use crate::api::node::NodeProgressInsightStatus;
use crate::api::types::{ConditionStatus, Phase};
use crate::domain::cordon::{Cordon, Cordoner};
use crate::domain::fixtures::schema::StatusSchema;
use crate::domain::fixtures::{at, node};
use crate::domain::interruption::Interruption;
use crate::domain::labels::Labels;
use crate::domain::node::{LifecycleConditions, NodeCondition, NodeConditions};
use crate::domain::node_status::project;
use crate::domain::state::NodeState;

mod availability;
mod claims;
mod milestones;
mod restart;
mod times;
mod total;

static SCHEMA: LazyLock<StatusSchema> =
    LazyLock::new(StatusSchema::of::<NodeProgressInsightStatus>);

/// Strings from outside.
fn hostile() -> BoxedStrategy<String> {
    prop_oneof![
        4 => ".{0,40}",
        2 => "[\\x00-\\x1f\\x7f\u{85}\u{a0} \n\t]{0,20}",
        2 => "(v?[0-9]{1,25}\\.){0,4}[-+.0-9a-zä]{0,12}",
        1 => any::<String>(),
        1 => (".", 1usize..5_000).prop_map(|(text, times)| text.repeat(times)),
        1 => (".", 30_000usize..40_000).prop_map(|(text, times)| text.repeat(times)),
    ]
    .boxed()
}

fn status() -> impl Strategy<Value = ConditionStatus> {
    prop::sample::select(vec![
        ConditionStatus::True,
        ConditionStatus::False,
        ConditionStatus::Unknown,
    ])
}

fn moment() -> impl Strategy<Value = Timestamp> {
    (-5_000i64..5_000, 0i32..1_000_000_000).prop_map(|(seconds, nanos)| {
        at(seconds) + jiff::SignedDuration::from_nanos(i64::from(nanos))
    })
}

fn condition(
    message: impl Strategy<Value = String>,
) -> impl Strategy<Value = Option<NodeCondition>> {
    prop::option::of((status(), prop::option::of(moment()), message).prop_map(
        |(status, since, message)| NodeCondition {
            status,
            since,
            message: message.into_boxed_str(),
        },
    ))
}

fn conditions<S: Strategy<Value = String> + Clone + 'static>(
    message: S,
) -> BoxedStrategy<NodeConditions> {
    (
        (
            condition(message.clone()),
            condition(message.clone()),
            condition(message),
        ),
        any::<(bool, bool, bool, bool, bool)>(),
    )
        .prop_map(|((ready, disk, network), (a, b, c, d, e))| NodeConditions {
            ready,
            disk_pressure: disk.map(Box::new),
            network_unavailable: network.map(Box::new),
            lifecycle: LifecycleConditions {
                drain_in_progress: a,
                drained: b,
                maintenance_planned: c,
                maintenance_in_progress: d,
                graceful_shutdown_in_progress: e,
            },
        })
        .boxed()
}

fn machine_config<S: Strategy<Value = String> + Clone>(
    text: &S,
) -> impl Strategy<Value = MachineConfigFacts> + use<S> {
    let word = || prop::option::of(text.clone());
    (
        (word(), word(), word(), word()),
        prop::sample::select(vec![
            DaemonState::Done,
            DaemonState::Working,
            DaemonState::Rebooting,
            DaemonState::Degraded,
            DaemonState::Unreconcilable,
            DaemonState::Other,
        ]),
        word(),
        any::<bool>(),
    )
        .prop_map(
            |((current, desired, image, desired_image), state, reason, drain_requested)| {
                MachineConfigFacts {
                    current_config: current.map(Into::into),
                    desired_config: desired.map(Into::into),
                    current_image: image.map(Into::into),
                    desired_image: desired_image.map(Into::into),
                    state,
                    reason: reason.map(Into::into),
                    drain_requested,
                    ..MachineConfigFacts::default()
                }
            },
        )
}

/// A node with texts `text` and one of the roles or labels that providers read.
fn facts<S: Strategy<Value = String> + Clone + 'static>(
    text: S,
    boot: impl Strategy<Value = String> + 'static,
) -> BoxedStrategy<NodeFacts> {
    let labels = prop::sample::subsequence(
        vec![
            ("eks.amazonaws.com/nodegroup", "Blue_1"),
            ("kubernetes.io/os", "windows"),
            ("node-role.kubernetes.io/infra", ""),
            ("node-role.kubernetes.io/master", ""),
            ("node-role.kubernetes.io/worker", ""),
        ],
        0..=5,
    );
    (
        labels,
        any::<bool>(),
        prop::option::of(prop::option::of(moment())),
        prop::option::of(text.clone()),
        prop::option::of(boot),
        conditions(text.clone()),
        machine_config(&text),
        any::<bool>(),
    )
        .prop_map(
            |(labels, deleting, cordoned, version, boot, conditions, machine_config, removed)| {
                NodeFacts {
                    labels: Labels::new(labels),
                    deleting,
                    cordoned: cordoned.map(|since| {
                        Box::new(Cordon {
                            since,
                            by: Cordoner::UNKNOWN,
                        })
                    }),
                    kubelet_version: version.map(Into::into),
                    boot_id: boot.map(Into::into),
                    conditions,
                    interruption: removed.then_some(Interruption::ClusterAutoscaler),
                    evidence: vec![Arc::new(machine_config) as Evidence].into_boxed_slice(),
                    ..node("n").build()
                }
            },
        )
        .boxed()
}

/// Each provider alone; Kubernetes with and without a target version.
fn each_alone(target: &str) -> [Providers; 3] {
    let labels = WELL_KNOWN_POOL_LABELS.map(str::to_owned);
    [
        only(OpenShift::chosen()),
        only(plain_kubernetes(&labels, None)),
        only(plain_kubernetes(&labels, Some(target))),
    ]
}
