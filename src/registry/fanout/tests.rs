//! Every consumer is notified of the keys it wants, and a slow one delays no other.

use std::collections::HashMap;

use super::*;
use crate::registry::store::{Change, Store};

const EVERYTHING: fn(&u32) -> bool = |_| true;
const EVEN: fn(&u32) -> bool = |key| key.is_multiple_of(2);

fn read(inbox: &mut Inbox<u32>) -> Vec<u32> {
    std::iter::from_fn(|| inbox.try_next())
        .map(|(key, _)| key)
        .collect()
}

fn notify(fanout: &Fanout<u32>, key: u32) -> Vec<(&'static str, Marked)> {
    let mut notified = Vec::new();
    fanout.notify(&key, |name, marked| notified.push((name, marked)));
    notified
}

#[test]
fn exactly_the_consumers_that_want_a_key_are_notified() {
    let fanout = Fanout::default();
    let mut all = fanout.add("all", EVERYTHING);
    let mut some = fanout.add("some", EVEN);
    assert_eq!(notify(&fanout, 1), [("all", Marked::New)]);
    assert_eq!(
        notify(&fanout, 2),
        [("all", Marked::New), ("some", Marked::New)]
    );
    assert_eq!(read(&mut all), [1, 2]);
    assert_eq!(read(&mut some), [2]);
    assert_eq!((read(&mut all), read(&mut some)), (vec![], vec![]));
}

#[test]
fn a_consumer_that_does_not_read_does_not_delay_the_others() {
    let fanout = Fanout::default();
    let mut fast = fanout.add("fast", EVERYTHING);
    let mut slow = fanout.add("slow", EVERYTHING);
    for _ in 0..3 {
        notify(&fanout, 7);
        assert_eq!(read(&mut fast), [7]);
    }
    assert_eq!(
        notify(&fanout, 7),
        [("fast", Marked::New), ("slow", Marked::Coalesced)]
    );
    assert_eq!(read(&mut slow), [7]);
}

#[test]
fn a_dropped_consumer_does_not_affect_the_others() {
    let fanout = Fanout::default();
    drop(fanout.add("gone", EVERYTHING));
    let mut here = fanout.add("here", EVERYTHING);
    notify(&fanout, 1);
    assert_eq!(read(&mut here), [1]);
}

#[test]
fn a_consumer_that_is_added_again_replaces_the_first_of_its_name() {
    let fanout = Fanout::default();
    let mut first = fanout.add("one", EVERYTHING);
    let mut second = fanout.add("one", EVEN);
    assert_eq!(notify(&fanout, 2), [("one", Marked::New)]);
    assert_eq!(notify(&fanout, 3), []);
    assert_eq!(fanout.notify_consumer("one", &4), Some(Marked::New));
    assert_eq!((read(&mut first), read(&mut second)), (vec![], vec![2, 4]));
}

#[test]
fn without_consumers_notify_does_nothing() {
    assert_eq!(notify(&Fanout::default(), 1), []);
}

#[test]
fn a_hundred_thousand_changes_for_a_consumer_that_does_not_read_lose_no_key_and_no_state() {
    const KEYS: u32 = 3_000;
    let store: Store<u32, u32> = Store::new();
    let fanout = Fanout::default();
    let mut blocked = fanout.add("blocked", EVERYTHING);
    let mut newest = HashMap::new();
    let mut order = Vec::new();
    let mut new = 0;
    for change in 0..100_000u32 {
        // Spreads over the keys, each several times, in no simple order.
        let key = change.wrapping_mul(2_654_435_761) % KEYS;
        assert_ne!(store.upsert(key, change), Change::Unchanged);
        if newest.insert(key, change).is_none() {
            order.push(key);
        }
        for (_, marked) in notify(&fanout, key) {
            new += usize::from(marked == Marked::New);
        }
    }
    assert_eq!((new, blocked.pending()), (order.len(), order.len()));
    assert!(order.len() > 2_000, "{}", order.len());
    let delivered: Vec<u32> = std::iter::from_fn(|| blocked.try_next())
        .map(|(key, _)| {
            assert_eq!(store.get(&key).as_deref(), newest.get(&key));
            key
        })
        .collect();
    assert_eq!(delivered, order, "each once, in the order of first changes");
    assert_eq!(read(&mut blocked), Vec::<u32>::new());
}
