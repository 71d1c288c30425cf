//! Evaluations at a set time.

use super::*;

#[tokio::test(start_paused = true)]
async fn what_may_wait_is_evaluated_once_within_a_second_with_its_last_cause() {
    let begun = tokio::time::Instant::now();
    let clock: Clock = Arc::new(move || {
        let elapsed = i64::try_from(begun.elapsed().as_secs()).unwrap_or_default();
        at(elapsed)
    });
    let backends = BACKENDS[0].1(&tempfile::tempdir().unwrap());
    backends.nodes.init().unwrap();
    backends.pools.init().unwrap();
    let bench = Bench::with(backends, clock);
    bench.gate.arrived("nodes");
    bench.controller.evaluated().await;
    let evaluated = || bench.controller.node(&"a".into()).unwrap();
    for version in ["v1.34.0", "v1.35.0", "v1.36.3"] {
        let cause = Cause::new(Trigger::Kind("Pod"), version);
        let node = node("a").kubelet(version).build();
        bench
            .controller
            .observe_soon(&cause, |inventory| inventory.apply_node(node));
    }
    tokio::task::yield_now().await;
    assert!(evaluated().is_none());
    tokio::time::sleep(Duration::from_secs(1)).await;
    tokio::task::yield_now().await;
    let evaluated = evaluated().expect("a second has passed");
    assert_eq!(&*evaluated.cause.resource_version, "v1.36.3");
    assert_eq!(evaluated.cause.trigger, Trigger::Kind("Pod"));
    assert_eq!(bench.evaluations(), 1);
    bench.stop.cancel();
}
