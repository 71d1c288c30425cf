//! Every line about a change has its id exactly once, in both formats.

use std::sync::{Arc, Mutex};

use serde_json::Value;

use super::*;
use crate::telemetry::cause::{Cause, Step, Trigger};
use crate::telemetry::subscribed::subscribe;

/// The written bytes.
#[derive(Clone, Default)]
struct Output(Arc<Mutex<Vec<u8>>>);

impl io::Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The lines that are logged while `work` runs.
fn logged(format: LogFormat, filter: &str, work: impl FnOnce()) -> Vec<String> {
    let output = Output::default();
    let writer = output.clone();
    let layer = lines(format, filter.parse().unwrap(), move || writer.clone());
    let subscribed = subscribe(tracing_subscriber::registry().with(layer));
    work();
    drop(subscribed);
    let text = String::from_utf8(output.0.lock().unwrap().clone()).unwrap();
    text.lines().map(str::to_owned).collect()
}

/// Logs lines with and without an id of their own, at every depth.
fn change(cause: &Cause) {
    let id = cause.reconcile_id;
    cause.open();
    cause.in_span(Step::Trigger, || {
        tracing::info!("Without an id");
        tracing::info!(reconcile_id = id, node = "a", "With an id");
    });
    let reconcile = cause.reconcile("a");
    reconcile.in_span(Step::Evaluate, || {
        tracing::info!(node = "a", "Without an id");
        tracing::debug!(reconcile_id = Some(id), "With an id");
        tracing::debug!(reconcile_id = None::<u64>, "Without a value");
        tracing::debug_span!("inner").in_scope(|| tracing::warn!("Deeper"));
    });
}

#[test]
fn every_json_line_of_a_change_has_its_id_once() {
    let cause = Cause::new(Trigger::Node, "7");
    let lines = logged(LogFormat::Json, "debug", || change(&cause));
    assert_eq!(lines.len(), 6, "{lines:#?}");
    for line in &lines {
        let object: Value = serde_json::from_str(line).unwrap();
        assert_eq!(object["reconcile_id"], cause.reconcile_id, "{line}");
        assert_eq!(line.matches("reconcile_id").count(), 1, "{line}");
        assert!(object["message"].is_string() && object["timestamp"].is_string());
    }
}

#[test]
fn every_text_line_of_a_change_has_its_id_once() {
    let cause = Cause::new(Trigger::Node, "7");
    let lines = logged(LogFormat::Text, "debug", || change(&cause));
    assert_eq!(lines.len(), 6, "{lines:#?}");
    for line in &lines {
        let id = format!("reconcile_id={}", cause.reconcile_id);
        assert!(plain(line).contains(&id), "{line}");
        assert_eq!(line.matches("reconcile_id").count(), 1, "{line}");
    }
    let first = plain(&lines[0]);
    let (time, rest) = first.split_once(' ').unwrap();
    assert!(time.parse::<jiff::Timestamp>().is_ok(), "{first}");
    assert_eq!(
        rest,
        format!(" INFO Without an id reconcile_id={}", cause.reconcile_id)
    );
}

#[test]
fn at_info_there_are_no_spans_and_lines_only_have_their_own_id() {
    let cause = Cause::new(Trigger::Node, "7");
    let lines = logged(LogFormat::Json, "info", || change(&cause));
    let ids: Vec<bool> = lines
        .iter()
        .map(|line| line.contains("reconcile_id"))
        .collect();
    assert_eq!(ids, [false, true, false, false]);
}

#[test]
fn a_line_outside_of_any_change_has_no_id() {
    let cause = Cause::new(Trigger::Node, "7");
    for format in [LogFormat::Text, LogFormat::Json] {
        let lines = logged(format, "debug", || {
            cause.open();
            tracing::info!("Before the first step");
            cause.in_span(Step::Write, || ());
            cause.finish();
            cause.in_span(Step::Write, || tracing::info!("After the last"));
        });
        assert_eq!(lines.len(), 2);
        for line in lines {
            assert!(!line.contains("reconcile_id"), "{line}");
        }
    }
}

#[test]
fn lines_of_the_client_show_their_request() {
    let cause = Cause::new(Trigger::Node, "7");
    let request = || {
        cause.open();
        cause.in_span(Step::Write, || {
            let span = tracing::debug_span!("HTTP", method = "PUT");
            span.in_scope(|| tracing::debug!("Sending"));
        });
    };
    let id = cause.reconcile_id;
    let text = logged(LogFormat::Text, "debug", request);
    let line = format!("DEBUG HTTP{{method=\"PUT\"}}: Sending reconcile_id={id}");
    assert!(plain(&text[0]).ends_with(&line), "{text:?}");
    let json = logged(LogFormat::Json, "debug", request);
    let object: Value = serde_json::from_str(&json[0]).unwrap();
    assert_eq!(object["span"]["method"], "PUT", "{object}");
    assert_eq!(object["reconcile_id"], id, "{object}");
}

/// A line without its colours.
fn plain(line: &str) -> String {
    let mut plain = String::new();
    let mut rest = line;
    while let Some((before, colour)) = rest.split_once("\x1b[") {
        plain.push_str(before);
        rest = colour.split_once('m').unwrap().1;
    }
    plain + rest
}
