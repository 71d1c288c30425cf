//! One test for each rule of the Flatcar update operator.

use std::collections::BTreeMap;

use super::*;
use crate::api::types::{ConditionStatus, CordonerKind};
use crate::domain::facts::Facts;
use crate::domain::fixtures::at;
use crate::domain::node::NodeFacts;
use crate::domain::rows::Rows;
use crate::domain::state::NodeState;
use crate::providers::Providers;
use crate::providers::fixtures::{evaluated, plain_kubernetes};

const VERSION: &str = "v1.36.3";
const OLD: &str = "3510.2.0";
const NEW: &str = "3602.2.1";

/// Labels and annotations of the operator on a node, and what else its phase depends on.
#[derive(Clone)]
struct Shown {
    labels: BTreeMap<String, String>,
    annotations: BTreeMap<String, String>,
    boot: &'static str,
    is_ready: bool,
    is_cordoned: bool,
    kubelet: &'static str,
}

/// A node whose agent has started: it runs the old version.
fn idle() -> Shown {
    let shown = Shown {
        labels: BTreeMap::new(),
        annotations: BTreeMap::new(),
        boot: "one",
        is_ready: true,
        is_cordoned: false,
        kubelet: VERSION,
    };
    shown
        .label("id", "flatcar")
        .label("version", OLD)
        .label("group", "stable")
        .says("reboot-needed", "false")
        .says("reboot-in-progress", "false")
        .says("status", "UPDATE_STATUS_IDLE")
        .says("new-version", "0.0.0")
        .says("last-checked-time", "1790000000")
}

/// A node that asks for its reboot.
fn needs_reboot() -> Shown {
    idle()
        .says("status", "UPDATE_STATUS_UPDATED_NEED_REBOOT")
        .says("new-version", NEW)
        .says("reboot-needed", "true")
        .label("reboot-needed", "true")
}

/// The agent drains the node and reboots it.
fn reboots() -> Shown {
    needs_reboot()
        .says("reboot-ok", "true")
        .says("reboot-in-progress", "true")
        .says("agent-made-unschedulable", "true")
        .cordoned()
}

/// The agent has started after the reboot.
fn restarted() -> Shown {
    reboots()
        .boot("two")
        .label("version", NEW)
        .label("reboot-needed", "false")
        .says("reboot-needed", "false")
        .says("reboot-in-progress", "false")
}

impl Shown {
    fn says(mut self, name: &str, value: &str) -> Self {
        let key = format!("{PREFIX}{name}");
        self.annotations.insert(key, value.to_owned());
        self
    }

    fn label(mut self, name: &str, value: &str) -> Self {
        let key = format!("{PREFIX}{name}");
        self.labels.insert(key, value.to_owned());
        self
    }

    fn boot(self, boot: &'static str) -> Self {
        Self { boot, ..self }
    }

    fn silent(self) -> Self {
        Self {
            is_ready: false,
            ..self
        }
    }

    fn cordoned(self) -> Self {
        Self {
            is_cordoned: true,
            ..self
        }
    }

    fn uncordoned(self) -> Self {
        Self {
            is_cordoned: false,
            ..self
        }
    }

    fn object(&self) -> NodeObject {
        let rows = |map: &BTreeMap<String, String>| {
            Labels::new(
                map.iter()
                    .map(|(key, value)| (key.as_str(), value.as_str())),
            )
        };
        let status = if self.is_ready { "True" } else { "Unknown" };
        let since = at(-1000).to_string();
        NodeObject {
            name: "n".into(),
            uid: "uid-n".into(),
            labels: rows(&self.labels),
            annotations: rows(&self.annotations),
            created: Some(at(-100_000)),
            cordon_manager: "kubectl".into(),
            unschedulable: self.is_cordoned,
            kubelet_version: self.kubelet.into(),
            boot_id: self.boot.into(),
            conditions: Rows::new([["Ready", status, "", &since, ""]]),
            ..NodeObject::default()
        }
    }
}

fn providers() -> Providers {
    let provider = plain_kubernetes(&[], None);
    Providers::new(vec![Box::new(provider)], vec![Box::new(Flatcar)]).unwrap()
}

fn facts(shown: &Shown) -> NodeFacts {
    providers().node_facts(shown.object())
}

/// Successive states of a node.
fn states(seen: &[Shown]) -> Vec<NodeState> {
    let providers = providers();
    let mut facts = Facts::new(providers.kinds());
    facts.set_api_server_version(Some(VERSION.into()));
    let mut states: Vec<NodeState> = Vec::new();
    for shown in seen {
        let node = providers.node_facts(shown.object());
        states.push(evaluated(&providers, &facts, &node, states.last()));
    }
    states
}

fn state(shown: Shown) -> NodeState {
    states(&[shown]).remove(0)
}

#[test]
fn each_combination_of_annotations_and_labels_has_its_phase() {
    let permitted = || needs_reboot().says("reboot-ok", "true");
    let status = |status: &str| idle().says("status", status);
    for (shown, phase, reason) in [
        (idle(), Phase::Completed, "Updated"),
        (needs_reboot(), Phase::Pending, "RebootNeeded"),
        (
            needs_reboot().says("reboot-ok", "false"),
            Phase::Pending,
            "RebootNeeded",
        ),
        (
            needs_reboot().says("reboot-paused", "true"),
            Phase::Paused,
            "RebootPaused",
        ),
        (
            needs_reboot().says("reboot-paused", "false"),
            Phase::Pending,
            "RebootNeeded",
        ),
        (
            needs_reboot().label("before-reboot", "true"),
            Phase::Updating,
            "BeforeReboot",
        ),
        (permitted(), Phase::Updating, "RebootPermitted"),
        (reboots(), Phase::Draining, "Draining"),
        (reboots().silent(), Phase::Rebooting, "Rebooting"),
        (restarted(), Phase::Updating, "AfterReboot"),
        (
            restarted().label("after-reboot", "true"),
            Phase::Updating,
            "AfterReboot",
        ),
        (
            restarted().says("reboot-ok", "false"),
            Phase::Updating,
            "Uncordoning",
        ),
        (
            status("UPDATE_STATUS_DOWNLOADING"),
            Phase::Updating,
            "Downloading",
        ),
        (
            status("UPDATE_STATUS_VERIFYING"),
            Phase::Updating,
            "Verifying",
        ),
        (
            status("UPDATE_STATUS_FINALIZING"),
            Phase::Updating,
            "Finalizing",
        ),
        (
            status("UPDATE_STATUS_REPORTING_ERROR_EVENT"),
            Phase::Updating,
            "UpdateFailed",
        ),
        (
            status("UPDATE_STATUS_CHECKING_FOR_UPDATE"),
            Phase::Completed,
            "Updated",
        ),
        (
            status("UPDATE_STATUS_UPDATE_AVAILABLE"),
            Phase::Completed,
            "Updated",
        ),
        (status(""), Phase::Completed, "Updated"),
    ] {
        let state = state(shown);
        assert_eq!((state.phase, state.updating.reason), (phase, reason));
        let is_updated = phase == Phase::Completed;
        let kind = (!is_updated).then_some(UpdateKind::Image);
        assert_eq!(state.kind, kind, "{reason}");
        assert_eq!(state.overlays.is_empty(), is_updated, "{reason}");
        let is_failed = (reason == "UpdateFailed").into();
        assert_eq!(state.degraded.status, is_failed, "{reason}");
    }
}

#[test]
fn a_pause_counts_before_the_checks_and_no_longer_after_the_permission() {
    let checked = needs_reboot()
        .label("before-reboot", "true")
        .says("reboot-paused", "true");
    assert_eq!(state(checked).phase, Phase::Paused);
    let permitted = needs_reboot()
        .says("reboot-ok", "true")
        .says("reboot-paused", "true");
    assert_eq!(state(permitted).phase, Phase::Updating);
    assert_eq!(
        state(reboots().says("reboot-paused", "true")).phase,
        Phase::Draining
    );
}

#[test]
fn a_reboot_in_progress_without_the_permission_is_waiting() {
    let odd = needs_reboot().says("reboot-in-progress", "true");
    assert_eq!(state(odd).phase, Phase::Pending);
}

#[test]
fn an_update_passes_every_phase_in_order_and_ends_with_the_new_version() {
    let done = restarted()
        .says("reboot-ok", "false")
        .says("agent-made-unschedulable", "false")
        .uncordoned();
    let states = states(&[
        needs_reboot(),
        reboots(),
        reboots().silent(),
        reboots().boot("two").silent(),
        // The agent has not started yet, so the annotations are those of before.
        reboots().boot("two"),
        reboots().boot("two"),
        restarted(),
        restarted().says("reboot-ok", "false"),
        done,
    ]);
    let phases: Vec<(Phase, &str)> = states
        .iter()
        .map(|state| (state.phase, state.updating.reason))
        .collect();
    assert_eq!(
        phases,
        [
            (Phase::Pending, "RebootNeeded"),
            (Phase::Draining, "Draining"),
            (Phase::Rebooting, "Rebooting"),
            (Phase::Rebooting, REBOOTED),
            (Phase::Updating, REBOOTED),
            (Phase::Updating, REBOOTED),
            (Phase::Updating, "AfterReboot"),
            (Phase::Updating, "Uncordoning"),
            (Phase::Completed, "Updated"),
        ]
    );
    assert!(states.last().unwrap().overlays.is_empty());
    assert_eq!(states[0].overlays[..], [ProviderName::new("Flatcar")]);
    assert_eq!(states[0].provider.as_str(), "Kubernetes");
}

#[test]
fn the_message_has_both_versions_only_while_a_reboot_is_needed() {
    let waiting = state(needs_reboot());
    let message = &*waiting.updating.message;
    assert!(
        message.starts_with("Flatcar 3510.2.0 to 3602.2.1: "),
        "{message}"
    );
    assert_eq!(waiting.version.as_deref(), Some(VERSION));
    // The annotation with the new version stays after the update.
    let after = state(restarted().says("new-version", "3600.0.0"));
    let message = &*after.updating.message;
    assert!(message.starts_with("Flatcar 3602.2.1: "), "{message}");
    let mut unlabelled = needs_reboot();
    unlabelled.labels.clear();
    let message = state(unlabelled).updating.message;
    assert!(message.starts_with("Flatcar, to 3602.2.1: "), "{message}");
}

#[test]
fn a_node_that_waits_for_uncordoning_is_not_drained_although_its_kubelet_is_outdated() {
    let outdated = Shown {
        kubelet: "v1.35.0",
        ..restarted().says("reboot-ok", "false")
    };
    let state = state(outdated);
    assert_eq!(
        (state.phase, state.kind),
        (Phase::Updating, Some(UpdateKind::Image))
    );
}

#[test]
fn a_cordon_belongs_to_the_update_only_if_the_agent_made_it() {
    let by = |shown: Shown| {
        let cordon = *state(shown).cordoned_by.unwrap();
        (
            cordon.by.kind,
            cordon.by.name.into_owned(),
            cordon.is_foreign,
        )
    };
    let operator = "flatcar-linux-update-operator".to_owned();
    assert_eq!(by(reboots()), (CordonerKind::Updater, operator, false));
    let kubectl = || "kubectl".to_owned();
    let before = reboots().says("agent-made-unschedulable", "false");
    assert_eq!(by(before), (CordonerKind::Person, kubectl(), true));
    assert_eq!(
        by(needs_reboot().cordoned()),
        (CordonerKind::Person, kubectl(), true)
    );
}

#[test]
fn a_failed_update_is_degraded_with_the_version() {
    let failed = state(idle().says("status", "UPDATE_STATUS_REPORTING_ERROR_EVENT"));
    assert_eq!(failed.degraded.status, ConditionStatus::True);
    assert_eq!(failed.degraded.reason, "UpdateFailed");
    let message = &*failed.degraded.message;
    assert!(
        message.starts_with("Flatcar 3510.2.0: update_engine has failed"),
        "{message}"
    );
}

#[test]
fn a_status_that_is_not_known_is_unknown_and_named() {
    let odd = state(idle().says("status", "UPDATE_STATUS_ÄRGER"));
    assert_eq!(
        (odd.phase, odd.updating.reason),
        (Phase::Unknown, "UnknownStatus")
    );
    assert!(
        odd.updating.message.contains("'UPDATE_STATUS_ÄRGER'"),
        "{:?}",
        odd.updating
    );
    // What the annotations say about the reboot is known nevertheless.
    let waiting = state(needs_reboot().says("status", "UPDATE_STATUS_ÄRGER"));
    assert_eq!(waiting.phase, Phase::Pending);
}

#[test]
fn a_node_without_an_update_has_no_evidence() {
    let has_evidence = |shown: &Shown| facts(shown).evidence::<FlatcarNode>().is_some();
    assert!(!has_evidence(&idle()));
    let mut other = needs_reboot();
    other.annotations.clear();
    assert!(!has_evidence(&other), "the labels alone say nothing");
    assert!(has_evidence(&needs_reboot()));
}
