//! Every input has a result that is valid in the API.

use super::*;

/// A cluster with the objects that the node names, so that every branch is reached.
fn cluster_around(node: &NodeFacts, version: &str, is_paused: bool) -> ClusterFacts {
    let config = node.evidence::<MachineConfigFacts>().cloned();
    let config = config.unwrap_or_default();
    let wanted = config.current_config.as_deref().unwrap_or("other");
    let pools = ["master", "worker", "infra"].map(|name| pool(name, wanted));
    let mut cluster = openshift(if is_paused { pools.map(paused) } else { pools });
    cluster.release_versions.extend(
        [&config.current_config, &config.desired_config]
            .into_iter()
            .flatten()
            .filter(|config| config.len() % 2 == 0)
            .map(|config| (config.clone(), version.into())),
    );
    cluster.api_server_version = Some(version.into());
    cluster.newest_in_pool = [("worker".into(), version.into())].into();
    cluster
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn whatever_a_node_says_there_is_a_status_that_the_api_server_takes(
        first in facts(hostile(), hostile()),
        second in facts(hostile(), hostile()),
        version in hostile(),
        is_paused in any::<bool>(),
    ) {
        for providers in each_alone(&version) {
            let mut past = None;
            for (minute, node) in [&first, &second, &second, &first].into_iter().enumerate() {
                let cluster = cluster_around(&first, &version, is_paused);
                let now = at(60 * i64::try_from(minute).unwrap());
                let state = next_state(&providers, node, &cluster, past.as_ref(), now);
                let status = project(&state);
                let problems = SCHEMA.problems(&status);
                prop_assert!(problems.is_empty(), "{:?}", problems);
                if let Some(line) = &status.message {
                    prop_assert!(!line.chars().any(char::is_control), "{:?}", line);
                }
                past = Some(History::from(&state));
            }
        }
    }

    #[test]
    fn any_drain_annotation_is_read_without_a_panic(
        desired in prop::option::of(hostile()),
        last in prop::option::of(hostile()),
    ) {
        let requested = drain_requested(desired.as_deref(), last.as_deref());
        prop_assert!(!requested || desired != last);
        prop_assert!(!drain_requested(desired.as_deref(), desired.as_deref()));
    }

    #[test]
    fn any_two_texts_can_be_compared_as_versions_in_both_directions(
        a in hostile(),
        b in hostile(),
    ) {
        use crate::domain::version::compare;
        prop_assert_eq!(compare(&a, &b), compare(&b, &a).map(std::cmp::Ordering::reverse));
        prop_assert_eq!(compare(&a, &a), Some(std::cmp::Ordering::Equal));
    }
}

#[test]
fn names_of_forty_thousand_characters_fit_into_the_messages_that_quote_them() {
    let long = "ä\u{7}".repeat(20_000);
    let node = |current: &str| node("n").role("worker").current(current).desired(&long);
    let wanted = openshift([pool("worker", &long)]);
    for node in [
        node(&long),
        node("old").cordoned(),
        node("old").kubelet(&long),
    ] {
        for providers in each_alone(&long) {
            let first = next_state(&providers, &node.clone().build(), &wanted, None, at(0));
            let past = History {
                phase: Phase::Updating,
                ..History::from(&first)
            };
            let node = node.clone().cordoned().build();
            let state = next_state(&providers, &node, &wanted, Some(&past), at(0));
            for state in [first, state] {
                let problems = SCHEMA.problems(&project(&state));
                assert!(problems.is_empty(), "{problems:?}");
            }
        }
    }
}

#[test]
fn the_schema_check_rejects_what_the_api_server_rejects() {
    let cluster = openshift([pool("worker", "config")]);
    let state = next_state(
        &only(OpenShift::chosen()),
        &node("n").build(),
        &cluster,
        None,
        at(0),
    );
    let good = project(&state);
    assert_eq!(SCHEMA.problems(&good), Vec::<String>::new());

    let mut bad = good.clone();
    bad.message = Some("ä".repeat(201));
    bad.conditions[0].reason = "no camel case".to_owned();
    bad.conditions[1]
        .type_
        .clone_from(&good.conditions[0].type_);
    bad.timeline = vec![good.timeline[0]; 9];
    assert_eq!(
        SCHEMA.problems(&bad).len(),
        4,
        "{:?}",
        SCHEMA.problems(&bad)
    );
}
