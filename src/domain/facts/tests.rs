//! Which readers a change affects.

use serde::Deserialize;

use super::*;
use crate::domain::fact::{Fact, Keys, KindSpec, ON_NODE, Object, Parsed, Select};
use crate::domain::fixtures::member;
use crate::domain::version::Precision;

/// A claim, indexed by its machine.
#[derive(Debug, Clone, PartialEq, Deserialize)]
struct Claim {
    machine: String,
    size: u8,
}

impl Fact for Claim {
    const KIND: KindSpec = KindSpec::new("example.com", &["v1"], "Claim", "claims");

    fn parse(object: &Object<'_>) -> Parsed<Self> {
        object.read().map_or_else(Parsed::Unreadable, Parsed::Fact)
    }

    fn index(&self, keys: &mut Keys) {
        keys.add("machine", &self.machine);
    }
}

fn claim(machine: &str, size: u8) -> Arc<dyn Erased> {
    let machine = machine.to_owned();
    Arc::new(Claim { machine, size })
}

/// Facts of one kind whose list is complete.
fn listed() -> Facts {
    let mut facts = Facts::new(&[Kind::of::<Claim>()]);
    facts.set_availability(0, Availability::Ready);
    facts
}

/// A reader with the given reads.
fn reader(facts: &mut Facts, read: impl FnOnce(&View<'_>)) -> Reader {
    let view = facts.view();
    read(&view);
    let reads = view.into_reads();
    let reader = facts.add_reader();
    facts.record(reader, reads);
    reader
}

fn apply(facts: &mut Facts, name: &str, fact: impl Into<Option<Arc<dyn Erased>>>) -> Vec<Reader> {
    facts
        .apply(0, &name.into(), fact.into())
        .unwrap_or_default()
}

#[test]
fn a_read_of_an_object_depends_on_that_object_only_even_if_absent() {
    let mut facts = listed();
    apply(&mut facts, "a", claim("m1", 1));
    let of_a = reader(&mut facts, |view| {
        assert_eq!(view.get::<Claim>("a").unwrap().unwrap().size, 1);
    });
    let of_b = reader(&mut facts, |view| {
        assert_eq!(view.get::<Claim>("b"), Ok(None));
    });
    assert_eq!(apply(&mut facts, "a", claim("m1", 2)), [of_a]);
    assert_eq!(apply(&mut facts, "a", claim("m1", 2)), []);
    assert_eq!(apply(&mut facts, "b", claim("m1", 2)), [of_b]);
    assert_eq!(apply(&mut facts, "c", claim("m1", 2)), []);
    assert_eq!(apply(&mut facts, "b", None), [of_b]);
    assert_eq!(apply(&mut facts, "b", None), []);
}

#[test]
fn a_read_of_an_index_entry_depends_on_its_members_and_their_changes() {
    let mut facts = listed();
    let of_m1 = reader(&mut facts, |view| {
        assert_eq!(view.find::<Claim>("machine", "m1").unwrap().len(), 0);
    });
    assert_eq!(apply(&mut facts, "a", claim("m1", 1)), [of_m1]);
    let again = reader(&mut facts, |view| {
        assert_eq!(view.find::<Claim>("machine", "m1").unwrap().len(), 1);
    });
    assert_eq!(apply(&mut facts, "a", claim("m1", 2)), [again]);
    assert_eq!(apply(&mut facts, "b", claim("m2", 1)), []);
    assert_eq!(apply(&mut facts, "b", claim("m1", 1)), [of_m1, again]);
    assert_eq!(apply(&mut facts, "a", None), [of_m1, again]);
}

#[test]
fn a_read_of_many_keys_depends_on_their_members_and_on_keys_that_come_and_go() {
    let mut facts = listed();
    let find = |view: &View<'_>| {
        let mut found = Vec::new();
        let finder = view.finder::<Claim>("machine").unwrap();
        for key in ["m0", "m1"] {
            finder.find(key, &mut found);
        }
        found.len()
    };
    let of_m1 = reader(&mut facts, |view| assert_eq!(find(view), 0));
    assert_eq!(apply(&mut facts, "other", claim("m2", 1)), [of_m1]);
    assert_eq!(apply(&mut facts, "other", claim("m2", 2)), []);
    assert_eq!(apply(&mut facts, "another", claim("m2", 1)), []);
    assert_eq!(apply(&mut facts, "a", claim("m1", 1)), [of_m1]);
    let again = reader(&mut facts, |view| assert_eq!(find(view), 1));
    assert_eq!(apply(&mut facts, "a", claim("m1", 2)), [again]);
    assert_eq!(apply(&mut facts, "b", claim("m1", 1)), [again]);
    assert_eq!(apply(&mut facts, "b", claim("m3", 1)), [of_m1, again]);
    assert_eq!(apply(&mut facts, "another", None), []);
    assert_eq!(apply(&mut facts, "other", None), [of_m1, again]);
}

#[test]
fn a_read_of_all_objects_depends_on_each() {
    let mut facts = listed();
    let of_all = reader(&mut facts, |view| {
        assert_eq!(view.all::<Claim>().unwrap().count(), 0);
    });
    assert_eq!(apply(&mut facts, "a", claim("m1", 1)), [of_all]);
    assert_eq!(apply(&mut facts, "a", claim("m1", 2)), [of_all]);
    let (gone, readers) = facts.retain(0, &HashSet::new());
    assert_eq!((gone, readers), (1, vec![of_all]));
}

#[test]
fn a_read_of_an_unavailable_kind_depends_on_its_availability() {
    let mut facts = Facts::new(&[Kind::of::<Claim>()]);
    let before = reader(&mut facts, |view| {
        assert!(!view.serves::<Claim>());
        let error = view.get::<Claim>("a").unwrap_err();
        assert_eq!(error.to_string(), "The API server does not serve claims");
    });
    assert_eq!(facts.apply(0, &"a".into(), Some(claim("m", 1))), None);
    assert_eq!(facts.set_availability(0, Availability::Listing), [before]);
    // Objects of an incomplete list affect no reader.
    assert_eq!(
        facts.apply(0, &"a".into(), Some(claim("m", 1))),
        Some(Vec::new())
    );
    assert_eq!(facts.set_availability(0, Availability::Ready), [before]);
    assert_eq!(facts.set_availability(0, Availability::Ready), []);
    let rejected = Availability::Rejected("forbidden".into());
    facts.set_availability(0, rejected);
    let error = facts
        .view()
        .all::<Claim>()
        .map(Iterator::count)
        .unwrap_err();
    assert_eq!(error.to_string(), "claims cannot be read: forbidden");
    facts.set_availability(0, Availability::NotServed);
    assert_eq!(facts.count(0), 0);
}

#[test]
fn a_kind_that_is_not_in_the_table_is_never_served() {
    let facts = Facts::new(&[]);
    assert!(!facts.view().serves::<Claim>());
    assert!(facts.view().get::<Claim>("a").is_err());
}

#[test]
fn a_new_version_affects_readers_of_that_pool_only() {
    let mut facts = listed();
    let (blue, green): (Arc<str>, Arc<str>) = ("blue".into(), "green".into());
    let flavour = ("linux", "amd64");
    let of_blue = reader(&mut facts, |view| {
        let target = view.generation(&"blue".into(), flavour, Precision::Full);
        assert_eq!(target, None);
    });
    let add = |facts: &mut Facts, pool: &Arc<str>, text: &str| {
        facts.change_member(pool, None, Some(&member(text, flavour)))
    };
    assert_eq!(add(&mut facts, &green, "v1.32.0"), []);
    assert_eq!(add(&mut facts, &blue, "v1.32.0"), [of_blue]);
    assert_eq!(add(&mut facts, &blue, "v1.31.0"), []);
    let target = facts.view().generation(&blue, flavour, Precision::Full);
    assert_eq!(target.map(|target| &*target.version), Some("v1.32.0"));
    // A target is never newer than the API server.
    let of_limit = facts.set_api_server_version(Some("v1.31.4".into()));
    assert_eq!(of_limit, [of_blue]);
}

#[test]
fn removed_facts_without_readers_leave_nothing_behind() {
    let mut facts = listed();
    let empty = facts.size();
    for _ in 0..3 {
        let reader = reader(&mut facts, |view| {
            let _ = view.get::<Claim>("a");
            let _ = view.find::<Claim>("machine", "m1");
            view.finder::<Claim>("machine")
                .unwrap()
                .find("m1", &mut Vec::new());
            let _ = view.generation(&"blue".into(), ("", ""), Precision::Minor);
        });
        apply(&mut facts, "a", claim("m1", 1));
        apply(&mut facts, "b", claim("m2", 1));
        assert!(facts.size() > empty);
        apply(&mut facts, "a", None);
        apply(&mut facts, "b", None);
        facts.remove_reader(reader);
        assert_eq!(facts.size(), empty);
    }
}

/// A pod of a node.
#[derive(Debug, Clone, PartialEq, Deserialize)]
struct Pod {
    node: String,
    size: u8,
}

impl Fact for Pod {
    const KIND: KindSpec = KindSpec::new("", &["v1"], "Pod", "pods").select(Select::OnNode);

    fn parse(object: &Object<'_>) -> Parsed<Self> {
        object.read().map_or_else(Parsed::Unreadable, Parsed::Fact)
    }

    fn index(&self, keys: &mut Keys) {
        keys.add(ON_NODE, &self.node);
    }
}

fn pod(node: &str, size: u8) -> Arc<dyn Erased> {
    let node = node.to_owned();
    Arc::new(Pod { node, size })
}

/// Facts of pods, which are read on demand.
fn on_demand() -> Facts {
    let mut facts = Facts::new(&[Kind::of::<Pod>()]);
    facts.set_availability(0, Availability::Ready);
    facts
}

fn sizes(view: &View<'_>, node: &str) -> Option<Vec<u8>> {
    let pods = view.on_node::<Pod>(node).unwrap();
    pods.map(|pods| pods.iter().map(|pod| pod.size).collect())
}

fn names(names: &[&str]) -> HashSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

#[test]
fn objects_on_a_node_are_wanted_while_they_are_read_and_known_once_they_are_listed() {
    let mut facts = on_demand();
    assert!(facts.wanted(0).is_empty());
    let before = facts.demand();
    let of_a = reader(&mut facts, |view| assert_eq!(sizes(view, "a"), None));
    assert_ne!(facts.demand(), before);
    assert_eq!(facts.wanted(0), ["a".into()]);
    assert_eq!(apply(&mut facts, "x", pod("a", 1)), [of_a]);
    assert_eq!(sizes(&facts.view(), "a"), None);
    assert_eq!(facts.listed(0, "a", &names(&["x"])), [of_a]);
    assert_eq!(facts.listed(0, "a", &names(&["x"])), []);
    assert_eq!(sizes(&facts.view(), "a"), Some(vec![1]));
    // Every change of one of its objects is one of the node; those of other nodes are none.
    assert_eq!(apply(&mut facts, "x", pod("a", 2)), [of_a]);
    assert_eq!(apply(&mut facts, "y", pod("b", 2)), []);
    assert_eq!(facts.listed(0, "a", &names(&[])), [of_a]);
    assert_eq!(sizes(&facts.view(), "a"), Some(vec![]));
}

#[test]
fn objects_on_a_node_that_nobody_reads_any_more_are_released_and_leave_nothing_behind() {
    let mut facts = on_demand();
    let empty = facts.size();
    let of_a = reader(&mut facts, |view| assert_eq!(sizes(view, "a"), None));
    apply(&mut facts, "x", pod("a", 1));
    facts.listed(0, "a", &names(&["x"]));
    assert!(!facts.release(0, "a"), "it is still read");
    assert_eq!(facts.count(0), 1);
    let before = facts.demand();
    facts.remove_reader(of_a);
    assert_ne!(facts.demand(), before);
    assert!(facts.wanted(0).is_empty());
    assert!(facts.release(0, "a"));
    assert_eq!((facts.count(0), facts.size()), (0, empty));
    // Whoever reads it next waits for a list.
    reader(&mut facts, |view| assert_eq!(sizes(view, "a"), None));
    assert_eq!(facts.wanted(0), ["a".into()]);
}

#[test]
fn a_list_that_arrives_after_its_kind_is_gone_leaves_nothing_behind() {
    let mut facts = on_demand();
    let empty = facts.size();
    facts.set_availability(0, Availability::NotServed);
    assert_eq!(facts.listed(0, "a", &names(&["x"])), []);
    assert_eq!(facts.size(), empty);
}

#[test]
fn objects_on_a_node_stay_wanted_while_their_kind_cannot_be_read() {
    let mut facts = on_demand();
    facts.set_availability(0, Availability::Rejected("forbidden".into()));
    let of_a = reader(&mut facts, |view| {
        assert!(view.on_node::<Pod>("a").is_err());
    });
    assert_eq!(facts.wanted(0), ["a".into()]);
    assert_eq!(facts.set_availability(0, Availability::Ready), [of_a]);
}

#[test]
fn a_node_without_objects_stays_known_until_it_is_released_whether_or_not_it_is_read() {
    let mut facts = on_demand();
    let empty = facts.size();
    let of_a = reader(&mut facts, |view| assert_eq!(sizes(view, "a"), None));
    facts.listed(0, "a", &names(&[]));
    // Whoever lists nodes has not looked in between, and lists none of them twice.
    facts.remove_reader(of_a);
    let again = reader(&mut facts, |view| {
        assert_eq!(sizes(view, "a"), Some(vec![]));
    });
    assert!(!facts.release(0, "a"));
    facts.remove_reader(again);
    assert!(facts.release(0, "a"));
    assert_eq!(facts.size(), empty);
}
