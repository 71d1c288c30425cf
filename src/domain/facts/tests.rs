//! Who has to know of a change, by what they read.

use serde::Deserialize;

use super::*;
use crate::domain::fact::{Fact, Keys, KindSpec, Object, Parsed};

/// A claim, found by the machine that it is for.
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

/// Facts of the only kind, which is listed.
fn listed() -> Facts {
    let mut facts = Facts::new(&[Kind::of::<Claim>()]);
    facts.set_availability(0, Availability::Ready);
    facts
}

/// Somebody who reads that.
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
fn who_read_an_object_has_to_know_of_it_alone_also_when_it_was_not_there() {
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
fn who_read_an_entry_of_an_index_has_to_know_who_comes_who_goes_and_what_changes_in_it() {
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
fn who_read_all_objects_has_to_know_of_each() {
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
fn while_a_kind_cannot_be_read_that_is_what_is_read_of_it() {
    let mut facts = Facts::new(&[Kind::of::<Claim>()]);
    let before = reader(&mut facts, |view| {
        assert!(!view.serves::<Claim>());
        let error = view.get::<Claim>("a").unwrap_err();
        assert_eq!(error.to_string(), "The API server does not serve claims");
    });
    assert_eq!(facts.apply(0, &"a".into(), Some(claim("m", 1))), None);
    assert_eq!(facts.set_availability(0, Availability::Listing), [before]);
    // Half a list is told to nobody.
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
fn a_kind_that_nobody_named_is_never_served() {
    let facts = Facts::new(&[]);
    assert!(!facts.view().serves::<Claim>());
    assert!(facts.view().get::<Claim>("a").is_err());
}

#[test]
fn a_version_in_a_pool_concerns_those_who_asked_for_the_newest_of_that_pool() {
    let mut facts = listed();
    let (blue, green): (Arc<str>, Arc<str>) = ("blue".into(), "green".into());
    let version = |text: &str| PoolVersion::parse(&text.into()).unwrap();
    let of_blue = reader(&mut facts, |view| {
        assert_eq!(view.newer_in_pool(&"blue".into(), "v1.31.0"), None);
    });
    let add = |facts: &mut Facts, pool: &Arc<str>, text: &str| {
        facts.change_versions(pool, |all| all.add(version(text)))
    };
    assert_eq!(add(&mut facts, &green, "v1.32.0"), []);
    assert_eq!(add(&mut facts, &blue, "v1.32.0"), [of_blue]);
    assert_eq!(add(&mut facts, &blue, "v1.31.0"), []);
    let newer = facts.view().newer_in_pool(&blue, "v1.31.0");
    assert_eq!(newer.as_deref(), Some("v1.32.0"));
}

#[test]
fn what_is_gone_and_read_by_nobody_leaves_nothing_behind() {
    let mut facts = listed();
    let empty = facts.size();
    for _ in 0..3 {
        let reader = reader(&mut facts, |view| {
            let _ = view.get::<Claim>("a");
            let _ = view.find::<Claim>("machine", "m1");
            let _ = view.newer_in_pool(&"blue".into(), "v1.31.0");
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
