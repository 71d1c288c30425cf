//! A change is one tree of spans, which ends with the change.

use std::sync::{Arc, Mutex};

use tracing::Instrument;
use tracing::span::{Attributes, Id};
use tracing_subscriber::layer::{Context, SubscriberExt};
use tracing_subscriber::registry::Registry;
use tracing_subscriber::{Layer, registry};

use super::*;
use crate::telemetry::subscribed::subscribe;

/// Records the path of each span that begins or ends.
#[derive(Clone, Default)]
struct Recorder {
    began: Arc<Mutex<Vec<String>>>,
    ended: Arc<Mutex<Vec<String>>>,
}

fn path<'a>(context: &'a Context<'a, Registry>, id: &'a Id) -> String {
    let span = context.span(id).unwrap();
    let names: Vec<&str> = span.scope().from_root().map(|span| span.name()).collect();
    names.join("/")
}

impl Layer<Registry> for Recorder {
    fn on_new_span(&self, _: &Attributes<'_>, id: &Id, context: Context<'_, Registry>) {
        self.began.lock().unwrap().push(path(&context, id));
    }

    fn on_close(&self, id: Id, context: Context<'_, Registry>) {
        self.ended.lock().unwrap().push(path(&context, &id));
    }
}

impl Recorder {
    fn run(work: impl FnOnce(&Self)) -> Self {
        let recorder = Self::default();
        let subscribed = subscribe(registry().with(recorder.clone()));
        work(&recorder);
        drop(subscribed);
        recorder
    }

    fn began(&self) -> Vec<String> {
        self.began.lock().unwrap().clone()
    }

    fn ended(&self) -> Vec<String> {
        self.ended.lock().unwrap().clone()
    }
}

#[test]
fn the_steps_of_a_change_are_one_tree() {
    let recorder = Recorder::run(|_| {
        let cause = Cause::new(Trigger::Node, "7");
        cause.open();
        cause.in_span(Step::Trigger, || ());
        let reconcile = cause.reconcile("a");
        reconcile.in_span(Step::Gather, || ());
        reconcile.in_span(Step::Evaluate, || ());
        reconcile.in_span(Step::Commit, || ());
        reconcile.in_span(Step::Notify, || ());
        drop(reconcile);
        cause.in_span(Step::Write, || ());
    });
    assert_eq!(
        recorder.began(),
        [
            "change",
            "change/trigger",
            "change/reconcile",
            "change/reconcile/gather",
            "change/reconcile/evaluate",
            "change/reconcile/commit",
            "change/reconcile/notify",
            "change/write",
        ]
    );
}

#[test]
fn a_change_is_a_root_span_even_inside_another_span() {
    let recorder = Recorder::run(|_| {
        let (one, other) = (
            Cause::new(Trigger::Node, "1"),
            Cause::new(Trigger::Node, "2"),
        );
        one.open();
        one.in_span(Step::Write, || other.open());
    });
    assert_eq!(recorder.began(), ["change", "change/write", "change"]);
}

#[test]
fn the_span_of_a_change_ends_when_its_last_holder_releases_it() {
    Recorder::run(|recorder| {
        let cause = Cause::new(Trigger::Kind("ClusterVersion"), "7");
        cause.open();
        let (stored, queued) = (cause.clone(), cause.clone());
        drop(cause);
        drop(queued);
        assert!(recorder.ended().is_empty());
        stored.finish();
        assert_eq!(recorder.ended(), ["change"]);
    });
}

#[test]
fn a_holder_that_releases_the_span_does_not_affect_the_others() {
    let recorder = Recorder::run(|_| {
        let node = Cause::new(Trigger::Kind("ClusterVersion"), "7");
        node.open();
        let pool = node.clone();
        node.finish();
        node.in_span(Step::Write, || ());
        pool.in_span(Step::Write, || ());
    });
    assert_eq!(recorder.began(), ["change", "change/write"]);
}

#[test]
fn a_change_without_a_span_has_no_steps_below_another_span() {
    let recorder = Recorder::run(|_| {
        let (without, done) = (
            Cause::new(Trigger::Node, "1"),
            Cause::new(Trigger::Node, "2"),
        );
        done.open();
        done.finish();
        tracing::info_span!("other").in_scope(|| {
            for cause in [&without, &done] {
                cause.in_span(Step::Write, || ());
                cause.reconcile("a").in_span(Step::Gather, || ());
            }
        });
    });
    assert_eq!(recorder.began(), ["change", "other"]);
}

#[tokio::test]
async fn a_step_that_waits_keeps_its_span() {
    let recorder = Recorder::default();
    let subscriber = registry().with(recorder.clone());
    let _default = subscribe(subscriber);
    let cause = Cause::new(Trigger::Node, "1");
    cause.open();
    let work = tokio::task::yield_now().instrument(cause.span(Step::Write));
    assert!(recorder.ended().is_empty());
    work.await;
    assert_eq!(recorder.began(), ["change", "change/write"]);
    assert_eq!(recorder.ended(), ["change/write"]);
}

#[test]
fn a_kind_is_a_label_in_snake_case() {
    for (kind, label) in [
        ("MachineConfigPool", "machine_config_pool"),
        ("ClusterVersion", "cluster_version"),
        ("NodeClaim", "node_claim"),
        ("AKSNodeClass", "aksnode_class"),
    ] {
        assert_eq!(Trigger::Kind(kind).label(), label);
    }
    assert_eq!(Trigger::NodeDeleted.to_string(), "node_deleted");
}
