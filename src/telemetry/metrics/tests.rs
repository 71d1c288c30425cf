//! The scraped metrics are bounded, follow the nodes, and are computed at each scrape.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use super::*;
use crate::api::pool::{Assessment, VersionSkew};
use crate::api::types::Phase;
use crate::telemetry::cause::Trigger;

const POOLS: [&str; 4] = ["master", "infra", "edge", "worker"];
/// The budget of the design.
const SERIES_LIMIT: usize = 400;

const CHECKS: [&str; 12] = [
    "1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11", "12",
];

/// The value of a series; `None` when there is none.
fn value(metrics: &Metrics, series: &str) -> Option<i64> {
    let text = metrics.render().unwrap();
    let line = text.lines().find(|line| {
        line.strip_prefix(series)
            .is_some_and(|rest| rest.starts_with(' '))
    })?;
    Some(line.rsplit(' ').next()?.parse().unwrap())
}

fn series(text: &str) -> usize {
    text.lines().filter(|line| !line.starts_with('#')).count()
}

/// Counts a node like the node-state controller.
fn moves(
    metrics: &Metrics,
    node: &str,
    before: Option<(Option<&str>, Phase)>,
    after: Option<(Option<&str>, Phase)>,
) {
    for (place, delta) in [(before, -1), (after, 1)] {
        if let Some((pool, phase)) = place {
            metrics.count_node(pool, phase, delta);
        }
    }
    metrics.node_phase(node, before, after);
}

/// Updates every metric with every label, for this number of nodes.
fn drive(metrics: &Metrics, nodes: usize) {
    metrics.register_gauge(Gauge::NodeStates, move || nodes);
    metrics.register_gauge(Gauge::OperationsRunning, || 1);
    metrics.register_oldest_phase_start(|_| Some(1_700_000_000));
    for index in 0..nodes {
        let (node, pool) = (format!("node-{index}"), Some(POOLS[index % 4]));
        let mut before = None;
        for phase in Phase::ALL {
            moves(metrics, &node, before, Some((pool, phase)));
            metrics.count_degraded(pool, 1);
            metrics.left_phase(phase, 60.0);
            before = Some((pool, phase));
        }
        metrics.evaluated(
            [Trigger::Node, Trigger::Sync, Trigger::Kind("MachineConfig")][index % 3],
            EvaluationResult::Changed,
            1e-6,
        );
        for consumer in ["node_insight", "pool_insight"] {
            metrics.notified(consumer, index % 2 == 0);
            metrics.notification_read(consumer, 0.01);
            metrics.pending(consumer, index);
        }
        for outcome in ["created", "known", "failed", "dropped"] {
            metrics.event(outcome);
        }
        for kind in ["NodeProgressInsight", "PoolProgressInsight"] {
            for outcome in ["created", "updated", "deleted", "conflict", "failed"] {
                metrics.wrote(kind, outcome);
            }
            metrics.written_after(kind, 0.01);
        }
    }
    for pool in POOLS {
        metrics.pool_is(pool, Assessment::Pending, 0);
        metrics.pool_is(pool, Assessment::Progressing, 50);
    }
    // The kinds of an OpenShift cluster.
    metrics.register_readiness(|| Readiness {
        ready: true,
        checks: CHECKS.map(|check| (check, true)).to_vec(),
    });
    for kind in [
        "nodes",
        "machineconfigpools",
        "machineconfigs",
        "clusterversions",
        "nodeprogressinsights",
        "poolprogressinsights",
    ] {
        metrics.watch(kind, true);
        metrics.watch_event(kind);
        metrics.watch_restarted(kind);
        metrics.unreadable(kind);
        for reason in ["unreachable", "forbidden", "not_served"] {
            metrics.watch_failed(kind, reason);
        }
    }
    for reason in ["start", "interval", "restarted", "leadership", "asked"] {
        metrics.sync_started();
        metrics.sync_ended(reason, 0.1, Some(Compared::default()));
        metrics.sync_ended(reason, 0.1, None);
    }
    for backend in ["memory", "file"] {
        metrics.backend_healthy(backend, true);
        for category in ["unavailable", "timeout", "not_found", "invalid_key"] {
            metrics.backend_failed(backend, category);
        }
    }
    for kind in ["resync", "reevaluate", "export"] {
        for result in ["done", "failed", "cancelled"] {
            metrics.operation_ended(kind, result);
        }
    }
}

#[test]
fn the_number_of_series_does_not_grow_with_the_nodes() {
    let [few, many] = [40, 5_000].map(|nodes| {
        let metrics = Metrics::new().unwrap();
        drive(&metrics, nodes);
        metrics
    });
    let started = Instant::now();
    let text = many.render().unwrap();
    println!(
        "5,000 nodes: {} series, {} bytes, rendered in {:?}",
        series(&text),
        text.len(),
        started.elapsed()
    );
    assert_eq!(series(&text), series(&few.render().unwrap()));
    assert!(series(&text) <= SERIES_LIMIT, "{}", series(&text));
    assert!(!text.contains("node-1"));
}

#[test]
fn series_per_node_exist_only_when_enabled_and_are_removed_with_the_node() {
    let metrics = Metrics::new().unwrap();
    let pending = Some((Some("worker"), Phase::Pending));
    let draining = Some((Some("worker"), Phase::Draining));
    let series = |node: &str, phase: &str| {
        let labels = format!("{{node=\"{node}\",phase=\"{phase}\",pool=\"worker\"}}");
        value(&metrics, &format!("node_insights_node_phase{labels}"))
    };
    metrics.node_phase("a", None, pending);
    assert_eq!(series("a", "Pending"), None);
    metrics.enable_node_series();
    // Known before its series was enabled.
    metrics.node_phase("a", pending, draining);
    metrics.node_phase("b", None, pending);
    assert_eq!(series("a", "Draining"), Some(1));
    assert_eq!(series("b", "Pending"), Some(1));
    metrics.node_phase("b", pending, pending);
    assert_eq!(series("b", "Pending"), Some(1));
    metrics.node_phase("b", pending, draining);
    assert_eq!(series("b", "Pending"), None);
    metrics.node_phase("b", draining, Some((None, Phase::Unknown)));
    assert_eq!(series("b", "Draining"), None);
    metrics.node_phase("b", Some((None, Phase::Unknown)), None);
    assert!(!metrics.render().unwrap().contains("node=\"b\""));
}

#[test]
fn a_pool_has_one_assessment_and_a_deleted_pool_has_no_series() {
    let metrics = Metrics::new().unwrap();
    let of = |assessment: &str| {
        let labels = format!("{{assessment=\"{assessment}\",pool=\"worker\"}}");
        value(&metrics, &format!("node_insights_pool_assessment{labels}"))
    };
    let completion = "node_insights_pool_completion_percent{pool=\"worker\"}";
    metrics.pool_is("worker", Assessment::Progressing, 33);
    assert_eq!((of("Progressing"), of("Completed")), (Some(1), None));
    assert_eq!(value(&metrics, completion), Some(33));
    metrics.pool_is("worker", Assessment::Completed, 100);
    assert_eq!((of("Progressing"), of("Completed")), (None, Some(1)));
    assert_eq!(value(&metrics, completion), Some(100));
    metrics.pool_is_gone("worker");
    assert!(!metrics.render().unwrap().contains("worker"));
}

#[test]
fn the_skew_of_a_pool_has_series_only_while_it_is_known() {
    let metrics = Metrics::new().unwrap();
    let behind = "node_insights_pool_kubelet_minors_behind{pool=\"worker\"}";
    let supported = |when: &str| {
        let labels = format!("{{pool=\"worker\",when=\"{when}\"}}");
        let name = format!("node_insights_pool_kubelet_skew_supported{labels}");
        value(&metrics, &name)
    };
    let skew = VersionSkew {
        oldest_kubelet: "v1.31.0".into(),
        minors_behind: 3,
        supported: true,
        supported_after_next_minor: false,
        newer_kubelet: None,
    };
    metrics.pool_skew_is("worker", Some(&skew));
    assert_eq!(value(&metrics, behind), Some(3));
    assert_eq!(supported("now"), Some(1));
    assert_eq!(supported("after_next_minor"), Some(0));
    metrics.pool_skew_is("worker", None);
    assert!(!metrics.render().unwrap().contains("worker"));
}

#[test]
fn degraded_nodes_are_counted_by_pool_and_removed_with_it() {
    let metrics = Metrics::new().unwrap();
    let of = |pool: &str| {
        let name = format!("node_insights_degraded_nodes{{pool=\"{pool}\"}}");
        value(&metrics, &name)
    };
    metrics.count_degraded(Some("worker"), 0);
    assert_eq!(of("worker"), Some(0));
    metrics.count_degraded(Some("worker"), 1);
    metrics.count_degraded(None, 1);
    assert_eq!((of("worker"), of("")), (Some(1), Some(1)));
    metrics.forget_pool("worker");
    assert_eq!((of("worker"), of("")), (None, Some(1)));
}

#[test]
fn readiness_is_computed_at_each_scrape_and_a_forgotten_check_has_no_series() {
    let metrics = Metrics::new().unwrap();
    let of = |name: &str| value(&metrics, name);
    let check = |name: &str| of(&format!("node_insights_check_ready{{check=\"{name}\"}}"));
    assert_eq!(of("node_insights_ready"), None);
    metrics.register_readiness(|| Readiness {
        ready: false,
        checks: vec![("nodes", true), ("platform", false)],
    });
    assert_eq!(of("node_insights_ready"), Some(0));
    assert_eq!((check("nodes"), check("platform")), (Some(1), Some(0)));
    metrics.register_readiness(|| Readiness {
        ready: true,
        checks: vec![("nodes", true)],
    });
    assert_eq!(of("node_insights_ready"), Some(1));
    assert_eq!((check("nodes"), check("platform")), (Some(1), None));
}

#[test]
fn a_gauge_calls_the_last_registered_closure_at_each_scrape() {
    let metrics = Metrics::new().unwrap();
    let name = "node_insights_node_states";
    assert_eq!(value(&metrics, name), None);
    let states = Arc::new(AtomicUsize::new(3));
    let counted = Arc::clone(&states);
    metrics.register_gauge(Gauge::NodeStates, move || counted.load(Ordering::Relaxed));
    assert_eq!(value(&metrics, name), Some(3));
    states.store(5, Ordering::Relaxed);
    assert_eq!(value(&metrics, name), Some(5));
    metrics.register_gauge(Gauge::NodeStates, || 8);
    assert_eq!(value(&metrics, name), Some(8));
    assert_eq!(
        Arc::strong_count(&states),
        1,
        "the replaced closure is dropped"
    );
}

#[test]
fn the_oldest_node_of_a_phase_is_shown_while_the_phase_has_nodes() {
    let metrics = Metrics::new().unwrap();
    let name = "node_insights_oldest_phase_start_timestamp_seconds";
    let of = |phase: &str| value(&metrics, &format!("{name}{{phase=\"{phase}\"}}"));
    metrics.register_oldest_phase_start(|phase| match phase {
        Phase::Draining => Some(1_700_000_000),
        Phase::Completed => Some(1),
        _ => None,
    });
    assert_eq!(of("Draining"), Some(1_700_000_000));
    assert_eq!(of("Pending"), None);
    assert_eq!(of("Completed"), None);
    metrics.register_oldest_phase_start(|phase| (phase == Phase::Pending).then_some(7));
    assert_eq!(of("Draining"), None);
    assert_eq!(of("Pending"), Some(7));
}

#[test]
fn an_evaluation_is_counted_by_its_trigger_and_result() {
    let metrics = Metrics::new().unwrap();
    let triggers = [
        Trigger::Node,
        Trigger::Sync,
        Trigger::Kind("MachineConfig"),
        Trigger::Kind("EC2NodeClass"),
    ];
    for trigger in triggers {
        metrics.evaluated(trigger, EvaluationResult::Unchanged, 1e-6);
    }
    metrics.evaluated(
        Trigger::Kind("MachineConfig"),
        EvaluationResult::Removed,
        1e-6,
    );
    let of = |result: &str, trigger: &str| {
        let labels = format!("{{result=\"{result}\",trigger=\"{trigger}\"}}");
        value(
            &metrics,
            &format!("node_insights_evaluations_total{labels}"),
        )
    };
    for trigger in triggers {
        assert_eq!(of("unchanged", &trigger.label()), Some(1));
        assert_eq!(of("changed", &trigger.label()), Some(0));
    }
    assert_eq!(of("removed", "machine_config"), Some(1));
    let count = "node_insights_evaluation_duration_seconds_count";
    assert_eq!(value(&metrics, count), Some(5));
}

#[test]
fn the_sync_is_in_one_phase_and_a_failure_keeps_the_last_success() {
    let metrics = Metrics::new().unwrap();
    let phases = || {
        ["Syncing", "Complete", "Failed"].map(|phase| {
            value(
                &metrics,
                &format!("node_insights_sync_phase{{phase=\"{phase}\"}}"),
            )
        })
    };
    let last = || {
        value(
            &metrics,
            "node_insights_sync_last_success_timestamp_seconds",
        )
    };
    metrics.sync_started();
    assert_eq!(phases(), [Some(1), Some(0), Some(0)]);
    assert_eq!(last(), Some(0));
    let compared = Compared {
        nodes: 7,
        differences: 3,
        repaired: 2,
    };
    metrics.sync_ended("interval", 0.1, Some(compared));
    assert_eq!(phases(), [Some(0), Some(1), Some(0)]);
    assert!(last() > Some(1_700_000_000));
    let success = last();
    metrics.sync_ended("interval", 0.1, None);
    assert_eq!(phases(), [Some(0), Some(0), Some(1)]);
    assert_eq!(last(), success);
    for (name, expected) in [
        ("node_insights_sync_nodes_compared", 7),
        ("node_insights_sync_differences_total", 3),
        ("node_insights_sync_repaired_total", 2),
        ("node_insights_sync_duration_seconds_count", 2),
    ] {
        assert_eq!(value(&metrics, name), Some(expected), "{name}");
    }
    for result in ["success", "failure"] {
        let labels = format!("{{reason=\"interval\",result=\"{result}\"}}");
        let name = format!("node_insights_sync_attempts_total{labels}");
        assert_eq!(value(&metrics, &name), Some(1), "{result}");
    }
}

#[test]
fn every_metric_has_a_valid_name_and_a_help_text_in_whole_sentences() {
    let metrics = Metrics::new().unwrap();
    for description in metrics.descriptions() {
        let name = &description.name;
        // The common name of this metric in all controllers.
        let is_common = name == "leader_election_master_status";
        assert!(is_common || name.starts_with("node_insights_"), "{name}");
        assert!(description.help.ends_with('.'), "{name}");
        let is_total = name.ends_with("_total");
        assert_eq!(is_total, description.kind == "counter", "{name}");
    }
    // Including metrics without series.
    drive(&metrics, 4);
    let text = metrics.render().unwrap();
    for line in text
        .lines()
        .filter(|line| line.starts_with("# TYPE node_insights"))
    {
        let name = line.split(' ').nth(2).unwrap();
        assert!(
            metrics
                .descriptions()
                .iter()
                .any(|description| description.name == name),
            "{name}"
        );
    }
}
