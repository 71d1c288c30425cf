//! The events of one watch: a line of JSON each.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Error, Result, anyhow};
use bytes::{Bytes, BytesMut};
use futures::stream;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use serde_json::{Value, json};
use tokio::sync::broadcast;

use super::answer::{self, Body};
use super::asked::Asked;
use super::rule::{Fault, Moment};
use super::rules::Rules;

/// How long an event that shall come after the next one waits for it.
const PATIENCE: Duration = Duration::from_millis(500);

/// What goes on to the operator.
enum Out {
    Event(Bytes),
    Pause(Duration),
    End,
}

struct Events {
    asked: Asked,
    body: Incoming,
    rules: Arc<Rules>,
    cuts: broadcast::Receiver<String>,
    /// What has come of a line that is not complete.
    partial: BytesMut,
    out: VecDeque<Out>,
    held: Option<Bytes>,
}

/// The body of a watch with what the rules do to its events.
pub(super) fn events(
    asked: Asked,
    body: Incoming,
    rules: Arc<Rules>,
    cuts: broadcast::Receiver<String>,
) -> Body {
    let events = Events {
        asked,
        body,
        rules,
        cuts,
        partial: BytesMut::new(),
        out: VecDeque::new(),
        held: None,
    };
    BodyExt::boxed_unsync(StreamBody::new(stream::unfold(events, Events::next)))
}

impl Events {
    async fn next(mut self) -> Option<(Result<Frame<Bytes>>, Self)> {
        loop {
            match self.out.pop_front() {
                Some(Out::Event(line)) => return Some((Ok(Frame::data(line)), self)),
                Some(Out::Pause(time)) => {
                    tokio::time::sleep(time).await;
                    continue;
                }
                Some(Out::End) => return None,
                None => {}
            }
            let is_holding = self.held.is_some();
            tokio::select! {
                biased;
                cut = self.cuts.recv() => match cut {
                    Ok(resource) if resource != self.asked.resource => {}
                    _ => return Some((Err(anyhow!("this watch is cut")), self)),
                },
                frame = self.body.frame() => match frame {
                    Some(Ok(frame)) => {
                        if let Ok(data) = frame.into_data() {
                            self.partial.extend_from_slice(&data);
                            self.take_lines();
                        }
                    }
                    Some(Err(error)) => return Some((Err(Error::from(error)), self)),
                    None => {
                        self.release();
                        self.out.push_back(Out::End);
                    }
                },
                () = tokio::time::sleep(PATIENCE), if is_holding => self.release(),
            }
        }
    }

    fn take_lines(&mut self) {
        while let Some(end) = self.partial.iter().position(|byte| *byte == b'\n') {
            let line = self.partial.split_to(end + 1).freeze();
            self.take(line);
        }
    }

    fn take(&mut self, line: Bytes) {
        let event: Value = serde_json::from_slice(&line).unwrap_or_default();
        // A bookmark and an error are about no object.
        let is_change =
            ["ADDED", "MODIFIED", "DELETED"].contains(&event["type"].as_str().unwrap_or_default());
        let name = event["object"]["metadata"]["name"].as_str();
        let fault = if is_change {
            let asked = self.asked.about(name.unwrap_or_default());
            self.rules.strike(&asked, Moment::Event)
        } else {
            None
        };
        match fault {
            Some(Fault::Drop) => return,
            Some(Fault::Duplicate) => self.out.push_back(Out::Event(line.clone())),
            Some(Fault::Swap) if self.held.is_none() => {
                self.held = Some(line);
                return;
            }
            Some(Fault::Throttle(rate)) => {
                let seconds = u32::try_from(line.len()).unwrap_or(u32::MAX) / rate.max(1);
                self.out
                    .push_back(Out::Pause(Duration::from_secs(seconds.into())));
            }
            Some(Fault::Expire) => {
                let error = json!({"type": "ERROR", "object": answer::status_object(410)});
                self.end_with(format!("{error}\n").into());
                return;
            }
            // The rest of the line never comes.
            Some(Fault::Truncate) => {
                self.end_with(answer::truncated(&line));
                return;
            }
            Some(Fault::Garble) => {
                let garbled = answer::garbled(&line);
                self.out.push_back(Out::Event(garbled));
                return;
            }
            // The others strike requests.
            Some(_) | None => {}
        }
        self.out.push_back(Out::Event(line));
        self.release();
    }

    fn end_with(&mut self, line: Bytes) {
        self.out.push_back(Out::Event(line));
        self.out.push_back(Out::End);
    }

    fn release(&mut self) {
        self.out.extend(self.held.take().map(Out::Event));
    }
}
