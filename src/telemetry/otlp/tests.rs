//! What a collector receives, and the behaviour without a collector.
//!
//! The subscriber and the environment are set once per process, so each test runs this test program again as a
//! separate process.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::process::{Command, Output};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use axum::Router;
use axum::body::Bytes;
use axum::http::HeaderMap;
use axum::routing::post;
use opentelemetry_sdk::error::OTelSdkError;
use tokio::net::TcpListener;
use tokio::task::spawn_blocking;
use tracing_subscriber::layer::SubscriberExt;

use super::*;
use crate::telemetry::cause::{Cause, Step, Trigger};
use crate::telemetry::logging::{self, LogFormat};
use crate::telemetry::subscribed::subscribe;

#[test]
#[ignore = "the tests below run it, each in a process of its own"]
fn one_change() {
    let telemetry = logging::init(LogFormat::Json, "info").unwrap();
    let cause = Cause::new(Trigger::Node, "7");
    cause.open();
    cause.in_span(Step::Trigger, || ());
    let reconcile = cause.reconcile("worker-0");
    for step in [Step::Gather, Step::Evaluate, Step::Commit, Step::Notify] {
        reconcile.in_span(
            step,
            || tracing::debug_span!(target: "kube", "of another crate"),
        );
    }
    drop(reconcile);
    cause.in_span(Step::Write, || ());
    cause.finish();
    drop(telemetry);
}

/// Runs `one_change` with this collector.
async fn with_collector(endpoint: String) -> (Output, Duration) {
    let started = Instant::now();
    let run = move || {
        Command::new(std::env::current_exe()?)
            .args(["--exact", "telemetry::otlp::tests::one_change"])
            .args(["--ignored", "--nocapture"])
            .env("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)
            .env("OTEL_RESOURCE_ATTRIBUTES", "k8s.cluster.name=test")
            .output()
    };
    let output: io::Result<Output> = spawn_blocking(run).await.unwrap();
    (output.unwrap(), started.elapsed())
}

/// Runs a collector; returns its address.
async fn serve(router: Router) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    address
}

#[tokio::test]
async fn a_collector_gets_one_tree_of_spans_for_a_change() {
    let requests = Arc::new(Mutex::new(Vec::new()));
    let received = Arc::clone(&requests);
    let take = move |headers: HeaderMap, body: Bytes| async move {
        received.lock().unwrap().push((headers, body));
    };
    let address = serve(Router::new().route("/v1/traces", post(take))).await;

    let (output, _) = with_collector(format!("http://{address}")).await;

    assert!(output.status.success(), "{output:?}");
    let requests = requests.lock().unwrap();
    let [(headers, body)] = &requests[..] else {
        panic!("one request, not {}", requests.len());
    };
    assert_eq!(headers["content-type"], "application/x-protobuf");
    let spans = Span::all(body);
    let tree: Vec<(&str, &str)> = spans
        .iter()
        .map(|span| {
            let parent = spans.iter().find(|parent| parent.id == span.parent);
            (span.name.as_str(), parent.map_or("", |parent| &parent.name))
        })
        .collect();
    let expected = BTreeMap::from([
        ("change", ""),
        ("trigger", "change"),
        ("reconcile", "change"),
        ("gather", "reconcile"),
        ("evaluate", "reconcile"),
        ("commit", "reconcile"),
        ("notify", "reconcile"),
        ("write", "change"),
    ]);
    assert_eq!(tree.len(), expected.len(), "{tree:?}");
    assert_eq!(tree.into_iter().collect::<BTreeMap<_, _>>(), expected);
    assert!(spans.iter().all(|span| span.trace == spans[0].trace));
    let text = String::from_utf8_lossy(body);
    for part in [
        "service.name",
        "node-insights",
        "k8s.cluster.name",
        "reconcile_id",
        "worker-0",
    ] {
        assert!(text.contains(part), "{part}");
    }
}

#[tokio::test]
async fn a_collector_that_never_answers_does_not_hold_up_the_end() {
    let hang = post(|| async { std::future::pending::<()>().await });
    let address = serve(Router::new().route("/v1/traces", hang)).await;
    let (output, took) = with_collector(format!("http://{address}")).await;
    assert!(output.status.success(), "{output:?}");
    // The exporter's own timeout is 10 s.
    assert!(took < Duration::from_secs(5), "{took:?}");
}

#[tokio::test]
async fn without_a_collector_nothing_is_sent_or_logged() {
    let (output, _) = with_collector(String::new()).await;
    assert!(output.status.success(), "{output:?}");
    assert!(output.stderr.is_empty(), "{output:?}");
}

#[test]
fn only_plain_http_is_supported_and_a_wrong_setting_is_rejected_with_a_hint() {
    let (endpoint, traces, protocol) = (
        "OTEL_EXPORTER_OTLP_ENDPOINT",
        "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
        "OTEL_EXPORTER_OTLP_PROTOCOL",
    );
    let http = (endpoint, "http://collector:4318");
    let configured = |set: &[(&str, &str)]| {
        is_configured(|name| {
            let (_, value) = set.iter().find(|(key, _)| *key == name)?;
            Some((*value).to_owned())
        })
        .map_err(|error| format!("{error:#}"))
    };
    assert_eq!(configured(&[]), Ok(false));
    assert_eq!(configured(&[(endpoint, "")]), Ok(false));
    assert_eq!(
        configured(&[http, ("OTEL_SDK_DISABLED", "true")]),
        Ok(false)
    );
    assert_eq!(configured(&[http]), Ok(true));
    assert_eq!(configured(&[http, (protocol, "http/protobuf")]), Ok(true));
    for (set, hint) in [
        ([http, (traces, "https://collector:4318")], traces),
        ([http, (traces, "collector:4318")], "http://"),
        ([http, (traces, "http://")], "no valid address"),
        ([http, (protocol, "grpc")], "http/protobuf"),
    ] {
        let error = configured(&set).unwrap_err();
        assert!(error.contains(hint), "{error}");
    }
}

#[test]
fn one_line_is_logged_when_sending_fails_and_one_when_it_recovers() {
    #[derive(Debug)]
    struct Collector(Arc<AtomicBool>);
    impl SpanExporter for Collector {
        fn export(&self, _: Vec<SpanData>) -> impl Future<Output = OTelSdkResult> + Send {
            ready(if self.0.load(Ordering::Relaxed) {
                Ok(())
            } else {
                Err(OTelSdkError::InternalFailure(
                    "connection refused".to_owned(),
                ))
            })
        }
    }
    struct Lines(Arc<Mutex<Vec<Level>>>);
    impl<S: Subscriber> Layer<S> for Lines {
        fn on_event(
            &self,
            event: &tracing::Event<'_>,
            _: tracing_subscriber::layer::Context<'_, S>,
        ) {
            self.0.lock().unwrap().push(*event.metadata().level());
        }
    }
    let (works, lines) = (Arc::new(AtomicBool::new(false)), Arc::default());
    let runtime = runtime::Builder::new_current_thread().build().unwrap();
    let sender = Sender::new(Collector(Arc::clone(&works)), runtime);
    let subscriber = tracing_subscriber::registry().with(Lines(Arc::clone(&lines)));
    let default = subscribe(subscriber);
    for working in [false, false, false, true, true, false] {
        works.store(working, Ordering::Relaxed);
        drop(sender.export(Vec::new()));
    }
    drop(default);
    let lines = lines.lock().unwrap();
    assert_eq!(*lines, [Level::WARN, Level::INFO, Level::WARN]);
}

/// A span in its wire format.
#[derive(Debug, Default)]
struct Span {
    trace: Vec<u8>,
    id: Vec<u8>,
    parent: Vec<u8>,
    name: String,
}

impl Span {
    /// The spans of an export request, decoded without OpenTelemetry's library.
    fn all(request: &[u8]) -> Vec<Self> {
        let (resource_spans, scope_spans, spans) = (1, 2, 2);
        children(request, resource_spans)
            .flat_map(|resource| children(resource, scope_spans))
            .flat_map(|scope| children(scope, spans))
            .map(|span| {
                let field = |number| children(span, number).next().unwrap_or_default();
                Self {
                    trace: field(1).to_vec(),
                    id: field(2).to_vec(),
                    parent: field(4).to_vec(),
                    name: String::from_utf8(field(5).to_vec()).unwrap(),
                }
            })
            .collect()
    }
}

/// The length-delimited values of one field of a protobuf message.
fn children(message: &[u8], number: u64) -> impl Iterator<Item = &[u8]> {
    let mut rest = message;
    std::iter::from_fn(move || {
        while !rest.is_empty() {
            let key = varint(&mut rest);
            let value = match key & 7 {
                0 => {
                    varint(&mut rest);
                    continue;
                }
                1 => rest.split_off(..8).unwrap(),
                2 => {
                    let length = usize::try_from(varint(&mut rest)).unwrap();
                    rest.split_off(..length).unwrap()
                }
                5 => rest.split_off(..4).unwrap(),
                other => panic!("wire type {other}"),
            };
            if key >> 3 == number && key & 7 == 2 {
                return Some(value);
            }
        }
        None
    })
}

fn varint(bytes: &mut &[u8]) -> u64 {
    let mut value = 0;
    for shift in (0..).step_by(7) {
        let byte = *bytes.split_off_first().unwrap();
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            break;
        }
    }
    value
}
