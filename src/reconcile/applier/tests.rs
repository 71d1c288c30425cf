//! The spans and log lines of a write name the change that caused it.

use std::io;
use std::sync::Mutex;

use kube::Config;
use serde_json::Value;

use super::*;
use crate::api::NodeProgressInsightStatus;
use crate::telemetry::cause::Trigger;
use crate::telemetry::subscribed::subscribe;

const CHECK: &str = "writing";

/// The log output.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// An applier whose API server is unreachable.
fn applier() -> Applier<NodeProgressInsightStatus> {
    // Nothing listens on the discard port.
    let config = Config::new("http://127.0.0.1:9".parse().unwrap());
    Applier::new(
        Client::try_from(config).unwrap(),
        Arc::default(),
        Arc::new(Metrics::new().unwrap()),
        Arc::default(),
        CHECK,
    )
}

#[tokio::test]
async fn a_change_releases_its_span_once_it_is_written() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .json()
        .flatten_event(true)
        .with_max_level(tracing::Level::DEBUG)
        .with_writer(move || writer.clone())
        .finish();
    let _default = subscribe(subscriber);
    let (applier, cause) = (applier(), Cause::new(Trigger::Node, "7"));
    cause.open();
    let target = Target {
        owner: Ownership::Known(None),
        status: Box::new(|_| panic!("the API server is unreachable")),
    };
    let name = "worker-0".into();

    let done = applier.apply(&name, Some(target), Some(&cause)).await;
    assert_eq!(done, Err(Outcome::Failing(None)));
    assert!(!cause.span(Step::Write).is_disabled());

    let done = applier.apply(&name, None, Some(&cause)).await;
    assert_eq!(done, Ok(Applied::Unchanged));
    assert!(cause.span(Step::Write).is_disabled());

    let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    let ours: Vec<Value> = log
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .filter(|line: &Value| line["target"] == "node_insights::reconcile::applier::trouble")
        .collect();
    assert_eq!(
        ours.len(),
        2,
        "one line for the failure, one for the recovery: {log}"
    );
    for line in ours {
        assert_eq!(line["reconcile_id"], cause.reconcile_id, "{line}");
    }
}
