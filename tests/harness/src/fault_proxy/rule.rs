//! Which fault hits which requests, how often and for how long.

use std::time::Duration;

use super::request_info::RequestInfo;

/// What happens to a request, to its response, or to a watch event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The connection is closed, and the request never reaches the API server.
    Cut,
    /// The API server executes the request, and the connection is closed instead of a response.
    LoseResponse,
    /// The request reaches the API server only after this time.
    Delay(Duration),
    /// The request is accepted and never answered.
    Hang,
    /// The response comes at this many bytes a second.
    Throttle(u32),
    /// A response with this code, as the API server sends it; the request never reaches the API server.
    Status {
        /// The HTTP status.
        code: u16,
        /// The `Retry-After` header, in seconds.
        retry_after: Option<u32>,
    },
    /// The JSON of a response, or of a watch event, is truncated; HTTP is intact.
    Truncate,
    /// The JSON of a response, or of a watch event, is invalid.
    Garble,
    /// A watch reports that its resource version is too old, and ends.
    Expire,
    /// A watch event comes twice.
    Duplicate,
    /// A watch event never comes.
    Drop,
    /// A watch event comes after the one that follows it.
    Swap,
    /// A list is answered with the recorded one: [`super::FaultProxy::record`].
    Replay,
    /// `/version` reports this version.
    Version(String),
}

/// The stage of a request at which a fault applies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    Request,
    Response,
    Event,
}

/// A fault and what it hits: everything, unless it is restricted.
#[derive(Clone, Debug)]
pub struct Rule {
    pub(super) fault: Fault,
    pub(super) chance: f64,
    pub(super) times: Option<u64>,
    pub(super) lasts: Option<Duration>,
    verbs: Vec<String>,
    resource: Option<String>,
    subresource: Option<String>,
    name: Option<String>,
}

impl Fault {
    /// With a `Retry-After` in seconds or without.
    #[must_use]
    pub const fn status(code: u16, retry_after: Option<u32>) -> Self {
        Self::Status { code, retry_after }
    }

    /// A watch is hit event by event, everything else once as a request and once as a response.
    pub(super) fn applies_at(&self, stage: Stage) -> bool {
        match self {
            Self::Cut | Self::Delay(_) | Self::Hang | Self::Status { .. } | Self::Replay => {
                stage == Stage::Request
            }
            Self::LoseResponse | Self::Version(_) => stage == Stage::Response,
            Self::Throttle(_) | Self::Truncate | Self::Garble => stage != Stage::Request,
            Self::Expire | Self::Duplicate | Self::Drop | Self::Swap => stage == Stage::Event,
        }
    }
}

impl Rule {
    /// Hits everything, always, until it is removed.
    #[must_use]
    pub fn new(fault: Fault) -> Self {
        Self {
            fault,
            chance: 1.0,
            times: None,
            lasts: None,
            verbs: Vec::new(),
            resource: None,
            subresource: None,
            name: None,
        }
    }

    /// Only these verbs.
    #[must_use]
    pub fn verbs(mut self, verbs: &[&str]) -> Self {
        self.verbs = verbs.iter().map(|&verb| verb.to_owned()).collect();
        self
    }

    /// Only verbs that write.
    #[must_use]
    pub fn writes(self) -> Self {
        self.verbs(&["create", "update", "patch", "delete"])
    }

    /// Only lists and watches.
    #[must_use]
    pub fn reads(self) -> Self {
        self.verbs(&["list", "watch"])
    }

    /// Only this resource: a plural, or a path such as `/version`.
    #[must_use]
    pub fn resource(mut self, resource: &str) -> Self {
        self.resource = Some(resource.to_owned());
        self
    }

    /// Only this subresource; the empty one is the resource itself.
    #[must_use]
    pub fn subresource(mut self, subresource: &str) -> Self {
        self.subresource = Some(subresource.to_owned());
        self
    }

    /// Only the object of this name.
    #[must_use]
    pub fn name(mut self, name: &str) -> Self {
        self.name = Some(name.to_owned());
        self
    }

    /// Only with this probability, from 0 to 1.
    #[must_use]
    pub fn chance(mut self, chance: f64) -> Self {
        self.chance = chance;
        self
    }

    /// At most this often.
    #[must_use]
    pub fn times(mut self, times: u64) -> Self {
        self.times = Some(times);
        self
    }

    /// Only for this time.
    #[must_use]
    pub fn lasts(mut self, time: Duration) -> Self {
        self.lasts = Some(time);
        self
    }

    pub(super) fn matches(&self, request: &RequestInfo) -> bool {
        let is = |wanted: &Option<String>, what: &str| {
            wanted.as_deref().is_none_or(|wanted| wanted == what)
        };
        (self.verbs.is_empty() || self.verbs.iter().any(|verb| verb == request.verb))
            && is(&self.resource, &request.resource)
            && is(&self.subresource, &request.subresource)
            && is(&self.name, &request.name)
    }
}
