//! A replica that does not write.

use super::*;

#[tokio::test]
async fn of_nodes_that_come_and_go_a_replica_that_does_not_write_keeps_nothing() {
    on_every_backend(async |backends| {
        let mut bench = Bench::standby(backends.clone(), 0);
        for index in 0..50 {
            let name = format!("node-{index}");
            bench.apply(member(&name, &format!("pool-{index}")));
            bench.settle(2 * index + 1).await;
            bench.remove(&name);
            bench.settle(2 * index + 2).await;
            let name: Arc<str> = name.into();
            assert!(bench.centre.departure(&name).is_none());
            assert!(backends.nodes.metadata(&name).unwrap().is_none());
        }
        assert_eq!(backends.nodes.counter().count(), 0);
        assert_eq!(backends.pools.counter().count(), 0);
        assert_eq!(bench.centre.dirty(), 0);
        assert_eq!(bench.centre.keys().unwrap(), []);
        // Whoever consumes from now on is told of what there is.
        bench.apply(member("last", "blue"));
        bench.settle(101).await;
        let mut inbox = bench.centre.attach("late", |_| true).unwrap();
        assert_eq!(read(&mut inbox), ["blue.pool", "last"]);
        bench.finish().await;
    })
    .await;
}
