//! Whether whoever asks something of the operator's own port may do so, by the rules of the cluster.
//!
//! As kube-rbac-proxy and controller-runtime do it: a `TokenReview` says whose the bearer token is,
//! a `SubjectAccessReview` whether that user may do the verb on the path, so what opens the port is granted
//! by RBAC like everything else. What cannot be found out is denied.
//!
//! Owns the memory of what was answered a moment ago, under digests: no token is kept, logged or part of
//! an error. For how long an answer holds depends on what is asked ([`Memory`]); what could not be found out
//! is asked again.
//!
//! Whoever was allowed something before is independent of strangers: what is allowed and what is denied is
//! remembered apart, and so are the reviews in flight. A stranger waits his turn among all strangers, in the
//! order in which they came.

use std::time::Duration;

use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec, UserInfo};
use k8s_openapi::api::authorization::v1::{
    NonResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec,
};
use kube::api::PostParams;
use kube::{Client, Resource};
use ring::digest::{Context, SHA256, SHA256_OUTPUT_LEN};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};

use super::diagnosis::{Attempt, Diagnosis, diagnose};
use crate::registry::store::Store;

/// Both reviews take milliseconds; whoever asks is waiting.
const DEADLINE: Duration = Duration::from_secs(5);
/// How much is remembered, of each: far more than is asked for in that time. Each takes some 100 bytes.
const MOST_REMEMBERED: usize = 1024;
/// Reviews in flight at once of who was not allowed it before: a flood of wrong tokens must not become one
/// at the API server, where it would hold up the operator's own writes.
const REVIEWS_OF_STRANGERS: usize = 4;
/// Reviews in flight at once of who was. There are few, each once in some minutes.
const REVIEWS_OF_KNOWN: usize = 2;
/// Tokens of service accounts have about 1 KiB, those of identity providers with many groups up to some
/// KiB; the API server refuses headers in which a longer one would come.
const TOKEN_LIMIT: usize = 16 << 10;

const TOKEN_REVIEWS: Attempt = Attempt {
    verbs: "create",
    resource: "tokenreviews",
    group: "authentication.k8s.io",
};
const ACCESS_REVIEWS: Attempt = Attempt {
    verbs: "create",
    resource: "subjectaccessreviews",
    group: "authorization.k8s.io",
};

/// Why somebody is not let in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// No token looks like that; the API server was not asked.
    #[error(
        "What was given is no bearer token: it is empty, has characters that none has, or more than {TOKEN_LIMIT} of them"
    )]
    NoToken,
    /// The API server does not know the token.
    #[error(
        "The API server does not accept the token: it has expired, was withdrawn, or is of another cluster"
    )]
    NotAccepted,
    /// The user may not do that.
    #[error("{user} may not {verb} {path}")]
    Forbidden {
        /// Whose the token is.
        user: String,
        /// The verb, as RBAC calls it.
        verb: String,
        /// The path.
        path: String,
    },
    /// The API server could not be asked.
    #[error("It cannot be found out whether this is allowed: {0}")]
    Unknown(Diagnosis),
}

/// For how long an answer is remembered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    /// One that allows.
    pub allowed: Duration,
    /// One that denies.
    pub denied: Duration,
}

impl Memory {
    /// For what somebody does: a permission or token that is withdrawn is of no use 10 s later (the API
    /// server itself remembers tokens for as long), whoever asks in a loop costs the API server two reviews
    /// in 10 s, and whoever was just granted something is let in.
    pub const OF_OPERATIONS: Self = Self {
        allowed: Duration::from_secs(10),
        denied: Duration::ZERO,
    };
    /// For what is read every half minute for years, as controller-runtime has it.
    pub const OF_SCRAPES: Self = Self {
        allowed: Duration::from_mins(5),
        denied: Duration::from_secs(30),
    };
}

/// A denial that is remembered.
#[derive(Debug, Clone, PartialEq)]
struct Denial {
    until: Instant,
    why: Denied,
}

type Digest = [u8; SHA256_OUTPUT_LEN];

/// Asks the API server who may do what at the operator's port.
pub struct Access {
    client: Client,
    /// Until when a token may do a verb on a path without asking again. One that is over says who is known.
    allowed: Store<Digest, Instant>,
    /// Beside it, so that strangers do not use up the room there.
    denied: Store<Digest, Denial>,
    reviews_of_known: Semaphore,
    reviews_of_strangers: Semaphore,
}

impl Access {
    /// Asks with `client`, whose account must be allowed to create both reviews.
    #[must_use]
    pub fn new(client: Client) -> Self {
        Self {
            client,
            allowed: Store::new(),
            denied: Store::new(),
            reviews_of_known: Semaphore::new(REVIEWS_OF_KNOWN),
            reviews_of_strangers: Semaphore::new(REVIEWS_OF_STRANGERS),
        }
    }

    /// Whether the owner of the token may do `verb`, which is the HTTP method in lower case, on `path`,
    /// which is one without parameters. Answers within 5 seconds.
    ///
    /// # Errors
    /// Whenever that is not certain; the error says why.
    pub async fn allowed(
        &self,
        token: &str,
        verb: &str,
        path: &str,
        memory: Memory,
    ) -> Result<(), Denied> {
        if !is_token(token) {
            return Err(Denied::NoToken);
        }
        let digest = digest(token, verb, path);
        let allowed = self.allowed.get(&digest);
        if allowed
            .as_ref()
            .is_some_and(|until| Instant::now() < **until)
        {
            return Ok(());
        }
        if let Some(denial) = self.denied.get(&digest)
            && Instant::now() < denial.until
        {
            return Err(denial.why.clone());
        }
        let reviews = match allowed {
            Some(_) => &self.reviews_of_known,
            None => &self.reviews_of_strangers,
        };
        let reviewing = async {
            // Never closed.
            let _one_of_few = reviews.acquire().await;
            self.review(token, verb, path).await
        };
        let answer = timeout(DEADLINE, reviewing)
            .await
            .unwrap_or_else(|_| Err(Denied::Unknown(Diagnosis::no_answer(DEADLINE))));
        match &answer {
            Ok(()) => self.remember_allowed(digest, memory.allowed),
            // Still known, if it was: that the API server is away says nothing about the token.
            Err(Denied::Unknown(_)) => {}
            Err(denied) => {
                self.allowed.remove(&digest);
                self.remember_denied(digest, denied.clone(), memory.denied);
            }
        }
        answer
    }

    async fn review(&self, token: &str, verb: &str, path: &str) -> Result<(), Denied> {
        let UserInfo {
            extra,
            groups,
            uid,
            username,
        } = self.owner(token).await?;
        let user = username.unwrap_or_default();
        let review = SubjectAccessReview {
            spec: SubjectAccessReviewSpec {
                extra,
                groups,
                non_resource_attributes: Some(NonResourceAttributes {
                    path: Some(path.to_owned()),
                    verb: Some(verb.to_owned()),
                }),
                resource_attributes: None,
                uid,
                user: Some(user.clone()),
            },
            ..SubjectAccessReview::default()
        };
        let answer = self.create(&review, ACCESS_REVIEWS).await?;
        if answer.status.is_some_and(|status| status.allowed) {
            Ok(())
        } else {
            Err(Denied::Forbidden {
                user,
                verb: verb.to_owned(),
                path: path.to_owned(),
            })
        }
    }

    async fn owner(&self, token: &str) -> Result<UserInfo, Denied> {
        let review = TokenReview {
            spec: TokenReviewSpec {
                // Those of the API server: what opens it opens this.
                audiences: None,
                token: Some(token.to_owned()),
            },
            ..TokenReview::default()
        };
        self.create(&review, TOKEN_REVIEWS)
            .await?
            .status
            .filter(|status| status.authenticated == Some(true))
            .and_then(|status| status.user)
            .ok_or(Denied::NotAccepted)
    }

    async fn create<R>(&self, review: &R, attempt: Attempt) -> Result<R, Denied>
    where
        R: Resource<DynamicType = ()> + Serialize + DeserializeOwned,
    {
        let answer = async {
            let body = serde_json::to_vec(review).map_err(kube::Error::SerdeError)?;
            let request = kube::core::Request::new(R::url_path(&(), None))
                .create(&PostParams::default(), body)
                .map_err(kube::Error::BuildRequest)?;
            // Read here: the client would log an answer that it cannot read, and the token is in it.
            let text = self.client.request_text(request).await?;
            serde_json::from_str(&text).map_err(kube::Error::SerdeError)
        };
        answer
            .await
            .map_err(|error| Denied::Unknown(diagnose(&error, attempt)))
    }

    fn remember_allowed(&self, digest: Digest, how_long: Duration) {
        let now = Instant::now();
        if self.allowed.count() >= MOST_REMEMBERED {
            self.allowed.evict_where(|_, until| *until <= now);
        }
        // Still full: whoever is not remembered is asked about again, and that is all.
        if self.allowed.count() < MOST_REMEMBERED || self.allowed.contains(&digest) {
            self.allowed.upsert(digest, now + how_long);
        }
    }

    fn remember_denied(&self, digest: Digest, why: Denied, how_long: Duration) {
        if how_long.is_zero() {
            return;
        }
        let now = Instant::now();
        if self.denied.count() >= MOST_REMEMBERED {
            self.denied.evict_where(|_, denial| denial.until <= now);
        }
        if self.denied.count() < MOST_REMEMBERED {
            let until = now + how_long;
            self.denied.upsert(digest, Denial { until, why });
        }
    }
}

/// Whether it may be a bearer token, by RFC 6750.
fn is_token(text: &str) -> bool {
    let is_of_token = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~+/=".contains(&byte);
    (1..=TOKEN_LIMIT).contains(&text.len()) && text.bytes().all(is_of_token)
}

/// None of the three has a line break, so each triple has a digest of its own.
fn digest(token: &str, verb: &str, path: &str) -> Digest {
    let mut context = Context::new(&SHA256);
    for part in [verb, "\n", path, "\n", token] {
        context.update(part.as_bytes());
    }
    let mut digest = Digest::default();
    digest.copy_from_slice(context.finish().as_ref());
    digest
}

#[cfg(test)]
mod tests;
