//! A standby replica, which writes no insights.

use super::*;

#[tokio::test]
async fn a_standby_keeps_no_state_for_deleted_nodes() {
    on_every_backend(async |backends| {
        let mut bench = Bench::standby(backends.clone(), 0);
        for index in 0..50 {
            let name = format!("node-{index}");
            bench.apply(member(&name, &format!("pool-{index}")));
            bench.settle(2 * index + 1).await;
            bench.remove(&name);
            bench.settle(2 * index + 2).await;
            let name: Arc<str> = name.into();
            assert!(bench.controller.pending_deletion(&name).is_none());
            assert!(backends.nodes.metadata(&name).unwrap().is_none());
        }
        assert_eq!(backends.nodes.counter().count(), 0);
        assert_eq!(backends.pools.counter().count(), 0);
        assert_eq!(bench.controller.dirty(), 0);
        assert_eq!(bench.controller.keys().unwrap(), []);
        // A consumer that attaches now is notified of every existing key.
        bench.apply(member("last", "blue"));
        bench.settle(101).await;
        let mut inbox = bench.controller.attach("late", |_| true).unwrap();
        assert_eq!(read(&mut inbox), ["blue.pool", "last"]);
        bench.finish().await;
    })
    .await;
}
