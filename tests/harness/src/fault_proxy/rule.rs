//! Which fault strikes what, how often and for how long.

use std::time::Duration;

use super::asked::Asked;

/// What is done to a request, to its answer, or to an event of a watch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The connection is closed, and the API server never hears of the request.
    Cut,
    /// The API server does what it is asked, and the connection is closed instead of an answer.
    LoseAnswer,
    /// The API server hears of the request only after this time.
    Delay(Duration),
    /// The request is taken, and never answered.
    Hang,
    /// The answer comes with so many bytes a second.
    Throttle(u32),
    /// An answer with this code, as the API server words it; the API server never hears of the request.
    Status {
        /// The HTTP status.
        code: u16,
        /// The header of that name, in seconds.
        retry_after: Option<u32>,
    },
    /// The JSON of an answer, or of an event of a watch, ends in its middle; HTTP is whole.
    Truncate,
    /// The JSON of an answer, or of an event of a watch, is none.
    Garble,
    /// A watch says that its resource version is too old, and ends.
    Expire,
    /// An event of a watch comes twice.
    Duplicate,
    /// An event of a watch never comes.
    Drop,
    /// An event of a watch comes after the one that follows it.
    Swap,
    /// A list is answered with the one that was kept: [`super::FaultProxy::record`].
    Replay,
    /// `/version` says that the API server is this one.
    Version(String),
}

/// When in the course of a request a fault strikes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Moment {
    Request,
    Answer,
    Event,
}

/// A fault and what it strikes: everything, unless it is restricted.
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

    /// A watch is struck event by event, all else once when it is asked for and once when it is answered.
    pub(super) fn strikes_at(&self, moment: Moment) -> bool {
        match self {
            Self::Cut | Self::Delay(_) | Self::Hang | Self::Status { .. } | Self::Replay => {
                moment == Moment::Request
            }
            Self::LoseAnswer | Self::Version(_) => moment == Moment::Answer,
            Self::Throttle(_) | Self::Truncate | Self::Garble => moment != Moment::Request,
            Self::Expire | Self::Duplicate | Self::Drop | Self::Swap => moment == Moment::Event,
        }
    }
}

impl Rule {
    /// Strikes everything, always, until it is removed.
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

    /// Only the writing ones.
    #[must_use]
    pub fn writes(self) -> Self {
        self.verbs(&["create", "update", "patch", "delete"])
    }

    /// Only the reading ones of a whole resource.
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

    /// Only in this share of cases, from 0 to 1.
    #[must_use]
    pub fn chance(mut self, chance: f64) -> Self {
        self.chance = chance;
        self
    }

    /// Only so often.
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

    pub(super) fn is_about(&self, asked: &Asked) -> bool {
        let is = |wanted: &Option<String>, what: &str| {
            wanted.as_deref().is_none_or(|wanted| wanted == what)
        };
        (self.verbs.is_empty() || self.verbs.iter().any(|verb| verb == asked.verb))
            && is(&self.resource, &asked.resource)
            && is(&self.subresource, &asked.subresource)
            && is(&self.name, &asked.name)
    }
}
