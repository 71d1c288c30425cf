//! Which nodes a Plan selects, and which nodes read it.

use super::*;

/// A Plan with this selector.
fn selecting(selector: Value) -> Value {
    let mut plan = plan();
    plan["spec"]["nodeSelector"] = selector;
    plan
}

#[test]
fn a_plan_selects_by_labels_nothing_without_a_selector_and_everything_with_an_empty_one() {
    let control_plane = "node-role.kubernetes.io/control-plane";
    let with = |operator: &str| json!({"matchExpressions": [{"key": control_plane, "operator": operator}]});
    for (selector, agent_waits, server_waits) in [
        (Value::Null, false, false),
        (json!({}), true, true),
        (with("DoesNotExist"), true, false),
        (with("Exists"), false, true),
        (
            json!({"matchLabels": {"kubernetes.io/os": "linux"}}),
            true,
            true,
        ),
        (
            json!({"matchLabels": {"kubernetes.io/os": "windows"}}),
            false,
            false,
        ),
        (
            json!({"matchLabels": {"k3s-upgrade": "true"}}),
            false,
            false,
        ),
    ] {
        let cluster = Cluster::new(&[selecting(selector.clone())], &[]);
        let waits = |node| cluster.state_of(node).phase == Phase::Pending;
        assert_eq!(waits(agent()), agent_waits, "{selector}");
        assert_eq!(
            waits(agent().label(control_plane, "true")),
            server_waits,
            "{selector}"
        );
    }
}

#[test]
fn a_node_without_a_host_name_is_selected_by_no_plan() {
    let cluster = Cluster::new(&[selecting(json!({}))], &[]);
    let nameless = node("agent-0").kubelet(OLD).evidence(|_: &mut K3sNode| {});
    assert_eq!(cluster.state_of(nameless).phase, Phase::Completed);
}

#[test]
fn a_selector_that_cannot_be_read_makes_the_nodes_unknown_that_meet_the_rest_of_it() {
    let plan = selecting(json!({
        "matchLabels": {"kubernetes.io/os": "linux"},
        "matchExpressions": [{"key": "zone", "operator": "Near", "values": ["a"]}],
    }));
    let Parsed::Flawed(_, error) = parsed::<Plan>(&plan) else {
        panic!("the selector was read");
    };
    assert!(error.contains("'Near'"), "{error}");
    let cluster = Cluster::new(&[plan], &[]);
    let found = cluster.state_of(agent());
    assert_eq!(seen(&found), (Phase::Unknown, "PlanInvalid"));
    assert!(found.updating.message.contains("'Near'"));
    let other = agent().label("kubernetes.io/os", "windows");
    assert_eq!(cluster.state_of(other).phase, Phase::Completed);
}

#[test]
fn a_change_of_a_plan_evaluates_only_nodes_with_the_label_that_it_requires() {
    let change = |selector: Value, label: Option<&str>| {
        let mut cluster = Cluster::new(&[selecting(selector.clone())], &[]);
        let node = label.map_or(agent(), |label| agent().label(label, "true"));
        let reader = cluster.facts().add_reader();
        let reads = {
            let (node, view) = (node.build(), cluster.table.facts.view());
            let assignment = cluster.providers.assign(&node, &view);
            let providers = &cluster.providers;
            let found = providers.evaluate(&node, &assignment, None, &view, None, at(0));
            assert_eq!(found.provider.as_str(), "k3s");
            view.into_reads()
        };
        cluster.facts().record(reader, reads);
        let mut changed = selecting(selector);
        changed["status"]["applying"] = json!(["other"]);
        let (place, key) = (cluster.place("plans"), meta(&changed).key());
        let Parsed::Fact(fact) = parsed::<Plan>(&changed) else {
            panic!("the Plan was not read");
        };
        let readers = cluster.facts().apply(place, &key, Some(Arc::new(fact)));
        readers.unwrap() == [reader]
    };
    let labelled = || json!({"matchLabels": {"k3s-upgrade": "true", "kubernetes.io/os": "linux"}});
    assert!(change(labelled(), Some("k3s-upgrade")));
    assert!(!change(labelled(), None));
    assert!(change(json!({}), None));
    assert!(!change(Value::Null, None));
}

#[test]
fn plans_that_cannot_be_read_are_missed_by_nodes_that_they_may_concern() {
    let says_so = |cluster: &Cluster, node: NodeBuilder| {
        let message = cluster.state_of(node).updating.message;
        message.contains("plans cannot be read: forbidden")
    };
    let cluster = Cluster::new(&[], &[]).reject("plans");
    assert!(says_so(&cluster, agent()));
    let plain = || {
        let plain = node("n").label("kubernetes.io/hostname", "n");
        plain.kubelet("v1.30.4")
    };
    assert!(!says_so(&cluster, plain()));
    assert!(says_so(&cluster, plain().label(LABEL, HASH)));
    // Where the kind is not served, nothing is missed.
    let mut cluster = Cluster::new(&[], &[]);
    let place = cluster.place("plans");
    cluster
        .facts()
        .set_availability(place, Availability::NotServed);
    let found = cluster.state_of(agent());
    assert!(found.overlays.is_empty() && found.updating.message.is_empty());
}
