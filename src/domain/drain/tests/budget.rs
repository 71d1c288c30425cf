//! When a budget holds a pod up.

use serde_json::{Value, json};

use super::*;
use crate::domain::drain::budget::{SELECTS, keys_of};
use crate::domain::fact::{Fact, Kind, Meta, Object, Parsed};
use crate::domain::facts::{Availability, Facts};

fn reasons(pod: Pod, budget: Budget, second: i64) -> Vec<Reason> {
    one(pod).with([budget]).reasons(second)
}

fn web() -> Pod {
    running("web").build()
}

fn unready() -> Pod {
    running("web").unready().build()
}

#[test]
fn a_budget_that_needs_all_its_pods_never_allows_an_eviction() {
    let blocker = one(web()).with([budget("web", 1, 1, 1)]).only(61);
    assert_eq!(blocker.key.reason, Reason::BudgetNeverAllows);
    assert_eq!(
        &*blocker.message,
        "PodDisruptionBudget shop/web needs 1 of 1 pods, so none of them can be evicted: scale up, restart the workload elsewhere, or change the budget"
    );
    // With a number of pods, the expected ones fall for a moment while pods are replaced.
    let number = Budget {
        is_number: true,
        ..budget("web", 2, 2, 2)
    };
    let mut scene = one(web()).with([number]);
    assert_eq!(scene.reasons(70), []);
    assert_eq!(scene.reasons(79), []);
    assert_eq!(scene.reasons(80), [Reason::BudgetNeverAllows]);
}

#[test]
fn a_budget_that_allows_nothing_for_a_moment_is_no_blocker() {
    let scene = || one(web()).with([budget("web", 3, 2, 2)]);
    assert_eq!(scene().reasons(180), []);
    let mut scene = scene();
    assert_eq!(scene.reasons(181), [Reason::BudgetExhausted]);
    // It comes and goes with each pod that is replaced.
    scene = scene.with([budget("web", 3, 2, 3)]);
    assert_eq!(scene.reasons(190), [Reason::BudgetExhausted]);
    assert_eq!(scene.reasons(209), [Reason::BudgetExhausted]);
    assert_eq!(scene.reasons(210), []);
}

#[test]
fn pods_that_are_not_ready_hold_a_budget_up_for_ever() {
    // A pair that crashes: one may be unavailable, and both are.
    let pair = || budget("api", 2, 1, 0);
    assert_eq!(reasons(unready(), pair(), 61), [Reason::BudgetUnhealthy]);
    // One replica that is not ready, with maxUnavailable 1.
    let single = budget("api", 1, 0, 0);
    assert_eq!(reasons(unready(), single, 61), [Reason::BudgetUnhealthy]);
    // A ready pod waits for others that are not.
    let mut scene = one(web()).with([budget("api", 3, 2, 1)]);
    assert_eq!(scene.reasons(61), []);
    assert_eq!(scene.reasons(200), [Reason::BudgetExhausted]);
    assert_eq!(scene.reasons(361), [Reason::BudgetUnhealthy]);
}

#[test]
fn a_pod_that_is_not_ready_may_go_where_the_budget_lets_it() {
    let always = Budget {
        always_allows_unready: true,
        ..budget("api", 2, 1, 0)
    };
    assert_eq!(reasons(unready(), always, 61), []);
    // The others are healthy enough.
    assert_eq!(reasons(unready(), budget("api", 3, 2, 2), 61), []);
}

#[test]
fn a_pod_with_two_budgets_can_never_be_evicted_whatever_they_allow() {
    let both = [budget("a", 3, 1, 3), budget("b", 3, 1, 3)];
    let blocker = one(web()).with(both).only(61);
    assert_eq!(blocker.key.reason, Reason::MultipleBudgets);
    assert!(blocker.message.contains("a and b"), "{}", blocker.message);
    let elsewhere = Budget {
        namespace: "other".into(),
        ..budget("b", 1, 1, 1)
    };
    let one_each = [budget("a", 3, 1, 3), elsewhere];
    assert_eq!(one(web()).with(one_each).reasons(61), []);
}

#[test]
fn a_budget_that_cannot_be_calculated_allows_nothing_and_its_numbers_say_nothing() {
    let failed = Budget {
        failure: Some("found no controllers for pod web".into()),
        is_observed: false,
        ..budget("web", 1, 1, 1)
    };
    let blocker = one(web()).with([failed]).only(61);
    assert_eq!(blocker.key.reason, Reason::BudgetSyncFailed);
    assert!(blocker.message.contains("found no controllers"));
    let stale = Budget {
        is_observed: false,
        ..budget("web", 1, 1, 1)
    };
    let mut scene = one(web()).with([stale]);
    assert_eq!(scene.reasons(61), []);
    assert_eq!(scene.reasons(121), [Reason::BudgetStale]);
    let unmanaged = budget("web", 0, 0, 0);
    assert_eq!(reasons(web(), unmanaged, 61), [Reason::BudgetUnmanagedPods]);
}

#[test]
fn budgets_of_storage_and_of_a_quorum_rank_behind_what_they_wait_for() {
    let database = running("orders-1").of("Cluster", "orders");
    let storage = running("im-a").of("InstanceManager", "a").with(|pod| {
        pod.namespace = "storage".into();
    });
    let of_storage = Budget {
        namespace: "storage".into(),
        ..budget("im-a", 1, 1, 1)
    };
    let mut scene = Scene::new([storage.build(), database.build()])
        .by(Drainer::Karpenter)
        .with([of_storage, budget("orders-primary", 1, 1, 1)]);
    let (drain, _) = scene.at(90);
    let names: Vec<&str> = drain.blockers.iter().map(|each| &*each.key.name).collect();
    assert_eq!(names, ["orders-primary", "im-a"]);
}

fn parse(change: impl FnOnce(&mut Value)) -> Parsed<Budget> {
    let mut object = json!({
        "metadata": {"name": "web", "namespace": "shop", "generation": 2},
        "spec": {"selector": {"matchLabels": {"app": "web"}}, "maxUnavailable": 1},
        "status": {
            "observedGeneration": 2, "expectedPods": 3, "desiredHealthy": 2, "currentHealthy": 3,
            "disruptionsAllowed": 1,
            "conditions": [{"type": "DisruptionAllowed", "status": "True", "reason": "SufficientPods"}],
        },
    });
    change(&mut object);
    let meta: Meta = serde_json::from_value(object["metadata"].clone()).unwrap();
    Budget::parse(&Object::new(&meta, &object.to_string()))
}

fn parsed(change: impl FnOnce(&mut Value)) -> Budget {
    match parse(change) {
        Parsed::Fact(budget) => budget,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_budget_is_read_as_the_eviction_handler_reads_it() {
    assert_eq!(parsed(|_| ()), budget("web", 3, 2, 3));
    let without = parsed(|object| object["spec"]["selector"] = Value::Null);
    assert!(!without.covers(&web()), "no selector matches nothing");
    let empty = parsed(|object| object["spec"]["selector"] = json!({}));
    assert!(empty.covers(&web()), "an empty one matches everything");
    let deprecated = parsed(|object| {
        let key = "pdb.kubernetes.io/deprecated-v1beta1-empty-selector-match";
        object["spec"]["selector"] =
            json!({"matchExpressions": [{"key": key, "operator": "Exists"}]});
    });
    assert!(!deprecated.covers(&web()));
    assert!(parsed(|object| object["spec"]["minAvailable"] = 2.into()).is_number);
    assert!(!parsed(|object| object["spec"]["minAvailable"] = "50%".into()).is_number);
    assert!(!parsed(|object| object["metadata"]["generation"] = 3.into()).is_observed);
    let policy =
        parsed(|object| object["spec"]["unhealthyPodEvictionPolicy"] = "AlwaysAllow".into());
    assert!(policy.always_allows_unready);
    let failed = parsed(|object| {
        object["status"]["conditions"][0] = json!({"type": "DisruptionAllowed", "status": "False", "reason": "SyncFailed", "message": "no scale"});
    });
    assert_eq!(failed.failure.as_deref(), Some("no scale"));
    let new = parsed(|object| object["status"] = json!({}));
    assert_eq!((new.expected, new.is_observed), (0, false));
}

#[test]
fn a_budget_with_an_unknown_operator_is_reported_and_covers_nothing() {
    let odd = parse(|object| {
        object["spec"]["selector"] =
            json!({"matchExpressions": [{"key": "app", "operator": "Near"}]});
    });
    assert!(matches!(odd, Parsed::Flawed(budget, _) if !budget.covers(&web())));
    assert!(matches!(
        parse(|object| object["spec"] = 1.into()),
        Parsed::Unreadable(_)
    ));
}

#[test]
fn a_pod_finds_every_budget_that_covers_it() {
    let pod = running("web")
        .with(|pod| pod.labels = Labels::new([("app", "web"), ("tier", "front")]).into())
        .build();
    let is_found = |budget: &Budget| {
        let mut facts = Facts::new(&[Kind::of::<Budget>()]);
        facts.set_availability(0, Availability::Ready);
        facts.apply(0, &"shop/web".into(), Some(Arc::new(budget.clone())));
        let view = facts.view();
        let finder = view.finder::<Budget>(SELECTS).unwrap();
        let mut found = Vec::new();
        for key in keys_of(&pod) {
            finder.find(&key, &mut found);
        }
        !found.is_empty()
    };
    for (selector, covers) in [
        (json!({"matchLabels": {"app": "web"}}), true),
        (
            json!({"matchLabels": {"app": "web", "tier": "front"}}),
            true,
        ),
        (
            json!({"matchExpressions": [
                {"key": "app", "operator": "In", "values": ["api", "web"]},
            ]}),
            true,
        ),
        (
            json!({"matchExpressions": [{"key": "tier", "operator": "Exists"}]}),
            true,
        ),
        (
            json!({"matchExpressions": [{"key": "job", "operator": "DoesNotExist"}]}),
            true,
        ),
        (
            json!({"matchExpressions": [
                {"key": "app", "operator": "NotIn", "values": ["api"]},
            ]}),
            true,
        ),
        (json!({}), true),
        (json!({"matchLabels": {"app": "api"}}), false),
        (Value::Null, false),
    ] {
        let budget = parsed(|budget| budget["spec"]["selector"] = selector.clone());
        assert_eq!(budget.covers(&pod), covers, "{selector}");
        if covers {
            assert!(is_found(&budget), "{selector}");
        }
    }
}
