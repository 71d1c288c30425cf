//! What is read of a shadow.

use super::*;
use crate::domain::fact::Keys;

#[test]
fn a_shadow_belongs_to_its_owner_else_to_the_node_in_its_name() {
    let owned = parsed(&restarting());
    assert_eq!(&*owned.node, NODE_NAME);
    let mut keys = Keys::default();
    owned.index(&mut keys);
    let mut expected = Keys::default();
    expected.add(NODE, NODE_NAME);
    assert_eq!(keys, expected);

    let mut renamed = restarting();
    renamed["metadata"]["name"] = "brs-other".into();
    assert_eq!(&*parsed(&renamed).node, NODE_NAME);
    renamed["metadata"]["ownerReferences"] = Value::Null;
    assert_eq!(&*parsed(&renamed).node, "other");
    for name in ["brs-", "shadow"] {
        renamed["metadata"]["name"] = name.into();
        assert!(matches!(parse(&renamed), Parsed::Unreadable(_)), "{name}");
    }
}

#[test]
fn a_shadow_is_read_with_every_field_and_an_unreadable_time_is_reported() {
    let mut object = restarting();
    object["status"]["crash_count"] = 3.into();
    object["status"]["state_transition_failure_timestamp"] = "2026-01-02T03:04:05+00:00".into();
    let expected = Shadow {
        name: format!("brupop-bottlerocket-aws/brs-{NODE_NAME}").into(),
        node: NODE_NAME.into(),
        wanted: State::RebootedIntoUpdate,
        since: Some(at(-100) + SignedDuration::from_nanos(608_609_964)),
        wanted_version: Some(NEW.into()),
        status: Some(Status {
            state: State::StagedAndPerformedUpdate,
            version: OLD.into(),
            target: NEW.into(),
            failures: 3,
            failed_at: Some("2026-01-02T03:04:05Z".parse().unwrap()),
        }),
    };
    assert_eq!(parsed(&object), expected);
    object["status"]["state_transition_failure_timestamp"] = "yesterday".into();
    let Parsed::Flawed(flawed, why) = parse(&object) else {
        panic!("the time can be read");
    };
    assert!(why.contains("'yesterday'"), "{why}");
    assert_eq!(flawed.status.unwrap().failed_at, None);
    for junk in [
        json!({}),
        json!({"spec": 7}),
        json!({"spec": {"state": []}}),
    ] {
        let mut object = restarting();
        object["spec"] = junk["spec"].clone();
        assert!(matches!(parse(&object), Parsed::Unreadable(_)), "{junk}");
    }
}
