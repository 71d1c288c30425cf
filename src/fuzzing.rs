//! The parsers of external data, each behind a function that takes bytes: for the fuzzer (`make fuzz`), and for the
//! test that replays its corpus.
//!
//! A function returns for any bytes, and panics only if a guarantee is violated: parsers do not panic, texts are
//! truncated and have no control characters, and parsed data can be written and parsed again.

use std::sync::Arc;

use axum::http::header::AUTHORIZATION;
use axum::http::{HeaderValue, Request, Uri};
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use serde::de::DeserializeOwned;

use crate::api::types::Condition;
use crate::api::{NodeProgressInsightStatus, PoolProgressInsightStatus};
use crate::domain::erased::downcast;
use crate::domain::eta::{Span, Stage, summary};
use crate::domain::fact::{Fact, Kind, Parsed};
use crate::domain::facts::Availability;
use crate::domain::node::NodeObject;
use crate::domain::node_status;
use crate::domain::pool_status::{self, PoolView};
use crate::domain::state::{History, NodeState};
use crate::domain::version;
use crate::kubernetes::lease;
use crate::kubernetes::objects::{WatchedInsight, WatchedNode, WatchedObject};
use crate::providers::openshift::kinds::{ClusterVersion, MachineConfig, MachineConfigPool};
use crate::providers::{Options, Platform, Providers};
use crate::reconcile::inventory::{Found, Inventory};
use crate::reconcile::persisted::{decode_timeline, encode_timeline};
use crate::registry::sync::SyncStatus;

/// A parser of external data, by the name of its corpus.
pub type Target = (&'static str, fn(&[u8]));

/// All parsers.
pub const TARGETS: [Target; 11] = [
    ("node", node),
    ("pool", pool),
    ("machine-config", machine_config),
    ("cluster-version", cluster_version),
    ("insight", insight),
    ("lease", read_lease),
    ("state-file", state_file),
    ("durations", durations),
    ("sync-status", sync_status),
    ("request", request),
    ("versions", versions),
];

/// Longest text in one line of an insight, in characters.
const LINE: usize = 253;

fn read<T: DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    serde_json::from_slice(bytes).ok()
}

fn node(bytes: &[u8]) {
    let Some(node) = read::<WatchedNode>(bytes) else {
        return;
    };
    let (node, _) = node.into_parts();
    for platform in [Platform::Any, Platform::OpenShift] {
        let options = Options {
            platform,
            ..Options::default()
        };
        if let Ok(providers) = Providers::standard(&options) {
            evaluate(&Inventory::new(providers), node.clone());
        }
    }
}

/// Evaluates the node twice, the second time with the first state as its history.
fn evaluate(inventory: &Inventory, node: NodeObject) {
    let name = Arc::clone(&node.name);
    for place in 0..inventory.providers().kinds().len() {
        inventory.set_availability(place, Availability::Ready);
    }
    inventory.apply_node_object(node);
    inventory.open();
    let now = Timestamp::UNIX_EPOCH;
    let Some(first) = inventory.evaluate(&name, None, None, now) else {
        return;
    };
    let past = History::from(&first);
    let Some(second) = inventory.evaluate(&name, None, Some(&past), now) else {
        return;
    };
    for state in [first, second] {
        fits(&state);
        let pool = state.pool_name().map(|pool| inventory.describe(&pool, now));
        if let Some(Found::Here(pool)) = pool {
            let view = PoolView {
                state: Arc::new(pool),
                nodes: vec![Arc::new(state)],
                awaited: 0,
                removed: 0,
                replaced: None,
            };
            let status = pool_status::project(&view, None, 0, 1, now);
            conditions_fit(&status.conditions);
        }
    }
}

fn fits(state: &NodeState) {
    let status = node_status::project(state);
    line_fits(status.message.as_deref());
    line_fits(status.version.as_deref());
    line_fits(status.desired_version.as_deref());
    conditions_fit(&status.conditions);
    let json = serde_json::to_vec(&status).unwrap_or_default();
    assert!(
        serde_json::from_slice::<NodeProgressInsightStatus>(&json).is_ok(),
        "a status that cannot be read again"
    );
}

fn line_fits(line: Option<&str>) {
    let line = line.unwrap_or_default();
    assert!(line.chars().count() <= LINE, "{} characters", line.len());
    assert!(!line.chars().any(char::is_control), "{line:?}");
}

fn conditions_fit(conditions: &[Condition]) {
    for condition in conditions {
        assert!(condition.message.chars().count() <= 32_768);
        let is_word = |c: char| c.is_ascii_alphanumeric();
        assert!(condition.reason.chars().all(is_word), "{condition:?}");
    }
}

/// Parses the object as a fact, if possible.
fn fact<F: Fact + Clone>(bytes: &[u8]) -> Option<F> {
    let object = read::<WatchedObject<false>>(bytes)?;
    match Kind::of::<F>().parse(&object.object()) {
        Parsed::Fact(fact) | Parsed::Flawed(fact, _) => downcast::<F>(&*fact).cloned(),
        Parsed::Ignored | Parsed::Unreadable(_) => None,
    }
}

fn pool(bytes: &[u8]) {
    if let Some(pool) = fact::<MachineConfigPool>(bytes) {
        line_fits(Some(&pool.owner().kind));
    }
}

fn machine_config(bytes: &[u8]) {
    let config = fact::<MachineConfig>(bytes);
    line_fits(config.map(|config| config.release_version).as_deref());
}

fn cluster_version(bytes: &[u8]) {
    let cluster = fact::<ClusterVersion>(bytes);
    line_fits(cluster.map(|cluster| cluster.version).as_deref());
}

fn insight(bytes: &[u8]) {
    if let Some(insight) = read::<WatchedInsight<NodeProgressInsightStatus>>(bytes)
        && let Some(status) = insight.status
    {
        let _ = History::from_status(&status);
    }
    let _ = read::<WatchedInsight<PoolProgressInsightStatus>>(bytes);
}

fn read_lease(bytes: &[u8]) {
    let Some(mut lease) = read::<Lease>(bytes) else {
        return;
    };
    let first = lease::record(&lease);
    lease::set(&mut lease, &first);
    let second = lease::record(&lease);
    assert_eq!(second.holder, first.holder);
    assert_eq!(second.renewed, first.renewed);
    assert_eq!(second.released_by, first.released_by);
    assert!(second.duration <= first.duration);
}

fn state_file(bytes: &[u8]) {
    let (uid, bytes) = bytes.split_at(bytes.len().min(4));
    let Ok(uid) = std::str::from_utf8(uid) else {
        return;
    };
    let timeline = decode_timeline(bytes, uid);
    assert_eq!(
        decode_timeline(&encode_timeline(uid, &timeline), uid),
        timeline
    );
}

/// What was learned of durations, with and without its checksum. What is read is written the same way, and can be
/// learned from.
fn durations(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let signed = summary::decode(&summary::signed(text));
    let Ok(learned) = summary::decode(text).or(signed) else {
        return;
    };
    let encoded = summary::encode(&learned);
    assert_eq!(
        summary::decode(&encoded).map(|again| summary::encode(&again)),
        Ok(encoded)
    );
    let mut learning = learned;
    let span = Span::seen(Timestamp::UNIX_EPOCH, Timestamp::MAX);
    learning.stage_ended(None, Stage::Draining, &span);
    learning.rollout_ended(1);
}

fn sync_status(bytes: &[u8]) {
    if let Some(status) = read::<SyncStatus>(bytes) {
        let json = serde_json::to_vec(&status).unwrap_or_default();
        assert!(serde_json::from_slice::<SyncStatus>(&json).is_ok());
    }
}

/// The first line is the path, the second the authorization header.
fn request(bytes: &[u8]) {
    let mut lines = bytes.splitn(2, |byte| *byte == b'\n');
    let (uri, header) = (lines.next().unwrap_or_default(), lines.next());
    let Ok(uri) = Uri::try_from(uri) else { return };
    let mut request = Request::new(());
    *request.uri_mut() = uri;
    if let Some(header) = header.and_then(|header| HeaderValue::from_bytes(header).ok()) {
        request.headers_mut().insert(AUTHORIZATION, header);
    }
    crate::http::read_request(&request.into_parts().0);
}

/// Two or three versions, one per line.
fn versions(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let lines: Vec<&str> = text.lines().take(3).collect();
    for a in &lines {
        for b in &lines {
            let back = version::compare(b, a).map(std::cmp::Ordering::reverse);
            assert_eq!(version::compare(a, b), back, "{a:?} and {b:?}");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    #[test]
    fn the_corpus_has_durations_that_can_be_read() {
        let text = include_str!("../tests/fuzz/corpus/durations/one-kind");
        assert!(summary::decode(&summary::signed(text)).is_ok());
    }

    #[test]
    fn the_corpus_is_parsed_without_violating_a_guarantee() {
        let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus");
        for (name, target) in TARGETS {
            let files: Vec<_> = fs::read_dir(corpus.join(name)).unwrap().collect();
            assert!(!files.is_empty(), "{name} has no corpus");
            for file in files {
                let path = file.unwrap().path();
                println!("{}", path.display());
                target(&fs::read(path).unwrap());
            }
        }
    }

    #[test]
    fn a_text_that_is_too_long_or_has_control_characters_is_detected() {
        assert!(std::panic::catch_unwind(|| line_fits(Some("a\u{7}"))).is_err());
        let long = "ä".repeat(LINE + 1);
        assert!(std::panic::catch_unwind(|| line_fits(Some(&long))).is_err());
    }
}
