//! What a state file restores.

use super::*;
use crate::api::node::TimelineEntry;
use crate::domain::eta::Learned;

#[tokio::test]
async fn a_file_restores_the_timeline_of_the_same_node_and_the_durations_of_its_pool() {
    let folder = tempfile::tempdir().unwrap();
    let open = || {
        let backends = BACKENDS[1].1(&folder);
        backends.nodes.init().unwrap();
        backends.pools.init().unwrap();
        backends
    };
    let persisted = {
        let backends = open();
        let mut bench = Bench::start_at(backends.clone(), 0);
        bench.apply(member("a", "blue").kubelet("v1.35.0").cordoned());
        bench.apply(member("b", "blue"));
        bench.settle(2).await;
        bench.apply(member("a", "blue"));
        bench.finish().await;
        backends.nodes.flush(Duration::from_secs(10)).unwrap();
        bench.state("a").unwrap().state.timeline.clone()
    };
    assert_eq!(persisted.len(), 2, "{persisted:?}");
    let mut bench = Bench::start_at(open(), 500);
    bench.apply(member("a", "blue"));
    let mut another = member("b", "blue").build();
    another.uid = "another".into();
    bench
        .controller
        .observe(&Cause::new(Trigger::Node, "1"), |inventory| {
            inventory.apply_node(another)
        });
    bench.finish().await;
    let restored = bench.state("a").unwrap().state.timeline.clone();
    // What was usual is in the insight only.
    let persisted: Vec<_> = persisted
        .iter()
        .map(|entry| TimelineEntry {
            usual_seconds: None,
            ..*entry
        })
        .collect();
    assert_eq!(*restored, *persisted);
    assert_eq!(
        bench.state("b").unwrap().state.timeline[0].start_time,
        at(500)
    );
    let learned = bench.controller.learned(&"blue.pool".into()).unwrap();
    assert_ne!(*learned, Learned::default());
}
