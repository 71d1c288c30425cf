//! The events of one watch, each a line of JSON.

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

use super::request_info::RequestInfo;
use super::response::{self, Body};
use super::rule::{Fault, Stage};
use super::rules::Rules;

/// How long an event that is to be swapped waits for the next one.
const PATIENCE: Duration = Duration::from_millis(500);

/// What is sent to the operator.
enum Out {
    Event(Bytes),
    Pause(Duration),
    End,
}

struct Events {
    request: RequestInfo,
    body: Incoming,
    rules: Arc<Rules>,
    cuts: broadcast::Receiver<String>,
    /// The received part of an incomplete line.
    partial: BytesMut,
    out: VecDeque<Out>,
    held: Option<Bytes>,
}

/// The body of a watch, with the rules applied to its events.
pub(super) fn events(
    request: RequestInfo,
    body: Incoming,
    rules: Arc<Rules>,
    cuts: broadcast::Receiver<String>,
) -> Body {
    let events = Events {
        request,
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
                    Ok(resource) if resource != self.request.resource => {}
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
        // Bookmarks and errors have no object.
        let is_change =
            ["ADDED", "MODIFIED", "DELETED"].contains(&event["type"].as_str().unwrap_or_default());
        let name = event["object"]["metadata"]["name"].as_str();
        let fault = if is_change {
            let request = self.request.for_object(name.unwrap_or_default());
            self.rules.fault(&request, Stage::Event)
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
                let error = json!({"type": "ERROR", "object": response::status_object(410)});
                self.end_with(format!("{error}\n").into());
                return;
            }
            // The rest of the line is never sent.
            Some(Fault::Truncate) => {
                self.end_with(response::truncated(&line));
                return;
            }
            Some(Fault::Garble) => {
                let garbled = response::garbled(&line);
                self.out.push_back(Out::Event(garbled));
                return;
            }
            // The others apply to requests.
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
