//! What a watch passes on, above all while another one takes over.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use futures::FutureExt;
use futures::stream::BoxStream;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::ObjectMeta;
use tokio::sync::mpsc;

use super::*;
use crate::kubernetes::relist::{Fresh, Relist};

type WatchItem = watcher::Result<Event<ConfigMap>>;
type WatchSender = mpsc::UnboundedSender<WatchItem>;

fn object(name: &str, revision: u64) -> ConfigMap {
    ConfigMap {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            resource_version: Some(revision.to_string()),
            ..ObjectMeta::default()
        },
        ..ConfigMap::default()
    }
}

/// The state of the sink: names and revisions, and everything that it received.
#[derive(Default)]
struct Sink {
    known: BTreeMap<String, u64>,
    seen: Vec<String>,
    /// When the list with the last found object was requested.
    asked: Option<Instant>,
}

impl Sink {
    fn take(&mut self, seen: Seen<ConfigMap>) -> usize {
        if let Seen::Found(_, asked) = &seen {
            self.asked = Some(*asked);
        }
        match seen {
            Seen::Found(object, _) | Seen::Applied(object) => {
                let (name, revision) = (object.name_any(), revision(&object).unwrap());
                self.seen.push(format!("{name}@{revision}"));
                usize::from(self.known.insert(name, revision) != Some(revision))
            }
            Seen::Deleted(object) => {
                self.seen.push(format!("-{}", object.name_any()));
                usize::from(self.known.remove(&object.name_any()).is_some())
            }
            Seen::Listed(names) => {
                self.seen.push("listed".to_owned());
                let before = self.known.len();
                self.known.retain(|name, _| names.contains(name));
                before - self.known.len()
            }
            Seen::Failing(diagnosis) => {
                self.seen.push(format!("failing: {}", diagnosis.what));
                0
            }
        }
    }
}

/// A watch with events from the test.
struct Bench {
    watches: mpsc::UnboundedReceiver<WatchSender>,
    sink: Arc<Mutex<Sink>>,
    relist: Arc<Relist>,
}

impl Bench {
    fn start() -> Self {
        let (began, watches) = mpsc::unbounded_channel();
        let sink = Arc::new(Mutex::new(Sink::default()));
        let relist = Arc::new(Relist::default());
        let start = move || -> BoxStream<'static, WatchItem> {
            let (sender, events) = mpsc::unbounded_channel();
            began.send(sender).unwrap();
            futures::stream::unfold(events, async |mut events| {
                events.recv().await.map(|event| (event, events))
            })
            .boxed()
        };
        let attempt = Attempt {
            verbs: "list and watch",
            resource: "configmaps",
            group: "",
        };
        let (listener, into) = (relist.listener("configmaps", false), Arc::clone(&sink));
        tokio::spawn(async move {
            follow(start, attempt, listener, |seen| {
                into.lock().unwrap().take(seen)
            })
            .await;
        });
        Self {
            watches,
            sink,
            relist,
        }
    }

    /// The next watch that is started.
    async fn watch(&mut self) -> WatchSender {
        self.watches.recv().await.unwrap()
    }

    /// The next watch, after it has listed these objects.
    async fn listed(&mut self, objects: &[(&str, u64)]) -> WatchSender {
        let watch = self.watch().await;
        list(&watch, objects);
        settle().await;
        watch
    }

    /// Requests a fresh list; the task ends when the list is complete.
    async fn ask(&self) -> tokio::task::JoinHandle<Fresh> {
        let relist = Arc::clone(&self.relist);
        let asked = tokio::spawn(async move { relist.ask(Duration::from_mins(1)).await });
        settle().await;
        asked
    }

    fn known(&self) -> Vec<(String, u64)> {
        let sink = self.sink.lock().unwrap();
        sink.known.clone().into_iter().collect()
    }

    fn seen(&self) -> Vec<String> {
        std::mem::take(&mut self.sink.lock().unwrap().seen)
    }
}

fn list(watch: &WatchSender, objects: &[(&str, u64)]) {
    watch.send(Ok(Event::Init)).unwrap();
    for (name, revision) in objects {
        let object = object(name, *revision);
        watch.send(Ok(Event::InitApply(object))).unwrap();
    }
    watch.send(Ok(Event::InitDone)).unwrap();
}

fn apply(watch: &WatchSender, name: &str, revision: u64) {
    watch
        .send(Ok(Event::Apply(object(name, revision))))
        .unwrap();
}

fn delete(watch: &WatchSender, name: &str, revision: u64) {
    watch
        .send(Ok(Event::Delete(object(name, revision))))
        .unwrap();
}

/// Lets the watch process its events.
async fn settle() {
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
}

fn missed(missed: usize) -> Fresh {
    Fresh {
        missed,
        ..Fresh::default()
    }
}

fn named(objects: &[(&str, u64)]) -> Vec<(String, u64)> {
    objects
        .iter()
        .map(|(name, revision)| ((*name).to_owned(), *revision))
        .collect()
}

#[tokio::test(start_paused = true)]
async fn a_fresh_list_finds_the_events_that_a_watch_has_missed_and_takes_over() {
    let mut bench = Bench::start();
    let _deaf = bench.listed(&[("a", 1), ("b", 2), ("gone", 3)]).await;
    let asked = bench.ask().await;
    let fresh = bench.listed(&[("a", 1), ("b", 5), ("new", 6)]).await;
    assert_eq!(
        asked.await.unwrap(),
        missed(3),
        "one changed, one is new, one is gone"
    );
    assert_eq!(bench.known(), named(&[("a", 1), ("b", 5), ("new", 6)]));
    apply(&fresh, "a", 9);
    settle().await;
    assert_eq!(bench.known()[0], ("a".to_owned(), 9));
}

#[tokio::test(start_paused = true)]
async fn an_event_within_the_grace_period_was_late_and_not_missed() {
    let mut bench = Bench::start();
    let old = bench.listed(&[("a", 1), ("gone", 2)]).await;
    let asked = bench.ask().await;
    let _fresh = bench.listed(&[("a", 5)]).await;
    tokio::time::sleep(GRACE / 2).await;
    apply(&old, "a", 5);
    delete(&old, "gone", 6);
    assert_eq!(asked.await.unwrap(), missed(0));
    assert_eq!(bench.known(), named(&[("a", 5)]));
}

#[tokio::test(start_paused = true)]
async fn the_old_watch_reports_events_while_the_list_is_made() {
    let mut bench = Bench::start();
    let old = bench.listed(&[("a", 1)]).await;
    let asked = bench.ask().await;
    let fresh = bench.watch().await;
    apply(&old, "a", 2);
    settle().await;
    assert_eq!(
        bench.known(),
        named(&[("a", 2)]),
        "nothing waits for the list"
    );
    list(&fresh, &[("a", 1)]);
    settle().await;
    assert_eq!(
        bench.known(),
        named(&[("a", 2)]),
        "nothing goes back in time"
    );
    assert_eq!(asked.await.unwrap(), missed(0));
    assert_eq!(bench.known(), named(&[("a", 2)]));
}

#[tokio::test(start_paused = true)]
async fn objects_created_or_deleted_while_the_list_is_made_stay_so() {
    let mut bench = Bench::start();
    let old = bench.listed(&[("a", 1), ("b", 2)]).await;
    let asked = bench.ask().await;
    let fresh = bench.watch().await;
    apply(&old, "new", 7);
    delete(&old, "b", 8);
    settle().await;
    list(&fresh, &[("a", 1), ("b", 2)]);
    settle().await;
    assert_eq!(bench.known(), named(&[("a", 1), ("new", 7)]));
    // The new watch began before both events, and reports them again.
    apply(&fresh, "new", 7);
    delete(&fresh, "b", 8);
    bench.seen();
    assert_eq!(asked.await.unwrap(), missed(0));
    assert_eq!(bench.known(), named(&[("a", 1), ("new", 7)]));
    assert_eq!(bench.seen(), ["listed"], "nothing is reported twice");
}

#[tokio::test(start_paused = true)]
async fn a_fresh_list_that_fails_is_answered_with_the_error_and_the_old_watch_stays() {
    let mut bench = Bench::start();
    let old = bench.listed(&[("a", 1)]).await;
    let asked = bench.ask().await;
    let fresh = bench.watch().await;
    fresh.send(Ok(Event::Init)).unwrap();
    fresh.send(Err(watcher::Error::NoResourceVersion)).unwrap();
    let unlisted = asked.await.unwrap().unlisted.remove("configmaps").unwrap();
    assert!(unlisted.to_string().contains("configmaps"), "{unlisted}");
    apply(&old, "a", 2);
    settle().await;
    assert_eq!(bench.known(), named(&[("a", 2)]));
    let asked = bench.ask().await;
    let _next = bench.listed(&[("a", 2)]).await;
    assert_eq!(asked.await.unwrap(), missed(0), "a new request works");
}

#[tokio::test(start_paused = true)]
async fn a_request_during_the_first_list_or_a_failure_is_answered_by_the_next_list() {
    let mut bench = Bench::start();
    let first = bench.watch().await;
    let mut asked = bench.ask().await;
    assert!((&mut asked).now_or_never().is_none());
    first.send(Err(watcher::Error::NoResourceVersion)).unwrap();
    let _second = bench.listed(&[("a", 1)]).await;
    assert_eq!(asked.await.unwrap(), missed(0));
    assert!(bench.seen()[0].starts_with("failing"));
}

#[tokio::test(start_paused = true)]
async fn an_old_watch_that_fails_during_a_takeover_relists_and_answers() {
    let mut bench = Bench::start();
    let old = bench.listed(&[("a", 1)]).await;
    let asked = bench.ask().await;
    let _fresh = bench.watch().await;
    old.send(Err(watcher::Error::NoResourceVersion)).unwrap();
    let _next = bench.listed(&[("a", 1)]).await;
    assert_eq!(asked.await.unwrap(), missed(0));
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_goes_back_in_time_is_replaced_by_a_fresh_list() {
    let mut bench = Bench::start();
    let watch = bench.listed(&[("a", 1_000)]).await;
    apply(&watch, "a", 1_001);
    // As after a restore of etcd from a backup, with the connection still open.
    apply(&watch, "b", 7);
    let again = bench.listed(&[("a", 3), ("b", 7)]).await;
    assert_eq!(bench.known(), named(&[("a", 3), ("b", 7)]));
    apply(&again, "a", 8);
    settle().await;
    assert_eq!(bench.known(), named(&[("a", 8), ("b", 7)]));
    assert!(!bench.seen().iter().any(|seen| seen.contains("failing")));
}

#[tokio::test(start_paused = true)]
async fn listed_objects_come_with_the_time_before_the_request_of_the_list() {
    let mut bench = Bench::start();
    tokio::time::advance(Duration::from_secs(5)).await;
    let asked = |bench: &Bench| bench.sink.lock().unwrap().asked.unwrap();
    let first = Instant::now();
    let watch = bench.listed(&[("a", 1)]).await;
    assert!(asked(&bench) <= first);
    tokio::time::advance(Duration::from_secs(5)).await;
    let again = Instant::now();
    let fresh = bench.ask().await;
    tokio::time::advance(Duration::from_secs(5)).await;
    let _next = bench.listed(&[("a", 2)]).await;
    fresh.await.unwrap();
    assert_eq!(asked(&bench), again);
    drop(watch);
}

#[tokio::test(start_paused = true)]
async fn a_kind_that_fails_for_ten_seconds_answers_waiting_requests_with_the_error() {
    let mut bench = Bench::start();
    let begin = Instant::now();
    let asked = bench.ask().await;
    let fail = async {
        loop {
            let watch = bench.watches.recv().await.unwrap();
            watch.send(Err(watcher::Error::NoResourceVersion)).unwrap();
        }
    };
    let fresh = tokio::select! {
        fresh = asked => fresh.unwrap(),
        () = fail => unreachable!(),
    };
    let waited = begin.elapsed().as_secs();
    assert!((10..20).contains(&waited), "{waited} s");
    assert!(fresh.unlisted.contains_key("configmaps"), "{fresh:?}");
}

#[tokio::test(start_paused = true)]
async fn a_kind_that_never_answers_is_reported_and_the_others_count() {
    let bench = Bench::start();
    let mut other = bench.relist.listener("other", false);
    tokio::spawn(async move { other.asked().await.answer(Ok(2)) });
    let begin = Instant::now();
    let fresh = bench.ask().await.await.unwrap();
    assert_eq!(begin.elapsed(), Duration::from_mins(1));
    assert_eq!(fresh.missed, 2);
    assert_eq!(fresh.unlisted.keys().collect::<Vec<_>>(), [&"configmaps"]);
}

#[tokio::test(start_paused = true)]
async fn an_event_that_cannot_be_parsed_causes_a_fresh_list() {
    let mut bench = Bench::start();
    let watch = bench.listed(&[("a", 1)]).await;
    let error = serde_json::from_str::<ConfigMap>("{").unwrap_err();
    let unreadable = watcher::Error::WatchFailed(kube::Error::SerdeError(error));
    watch.send(Err(unreadable)).unwrap();
    let _again = bench.listed(&[("a", 2)]).await;
    assert_eq!(
        bench.known(),
        named(&[("a", 2)]),
        "the list has the contents of the event"
    );
}
