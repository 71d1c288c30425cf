//! Authorizes requests to the operator's own port by the cluster's RBAC.
//!
//! As in kube-rbac-proxy and controller-runtime, a `TokenReview` identifies the owner of the bearer token, and a
//! `SubjectAccessReview` decides whether that user may use the verb on the path. So access to the port is granted
//! by RBAC like everything else. A request that cannot be reviewed is denied.
//!
//! Caches recent answers by digest: no token is stored, logged or part of an error. How long an answer is valid
//! depends on the kind of request ([`Memory`]); failed reviews are not cached.
//!
//! Known clients, which were allowed before, do not depend on strangers: allowed and denied requests are cached
//! separately, and their reviews have separate limits. Strangers are reviewed in the order in which they came.

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

/// Both reviews take milliseconds; the client is waiting.
const DEADLINE: Duration = Duration::from_secs(5);
/// Maximum size of each cache: far more entries than are needed in that time. Each takes about 100 bytes.
const MOST_REMEMBERED: usize = 1024;
/// Concurrent reviews of clients that were not allowed before: a flood of wrong tokens must not reach the API
/// server, where it would hold up the operator's own writes.
const REVIEWS_OF_STRANGERS: usize = 4;
/// Concurrent reviews of known clients. There are few, each once every few minutes.
const REVIEWS_OF_KNOWN: usize = 2;
/// Tokens of service accounts have about 1 KiB, those of identity providers with many groups up to a few KiB;
/// the API server rejects headers with a longer one.
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

/// Why a request is denied.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// The text cannot be a token; the API server was not asked.
    #[error(
        "This is no bearer token: it is empty, contains invalid characters, or has more than {TOKEN_LIMIT} characters"
    )]
    NoToken,
    /// The API server does not accept the token.
    #[error(
        "The API server does not accept the token: it has expired, was revoked, or is from another cluster"
    )]
    NotAccepted,
    /// The user lacks the permission.
    #[error("{user} may not {verb} {path}")]
    Forbidden {
        /// The owner of the token.
        user: String,
        /// The verb, as RBAC calls it.
        verb: String,
        /// The path.
        path: String,
    },
    /// The API server did not review the request.
    #[error("It cannot be found out whether this is allowed: {0}")]
    Unknown(Diagnosis),
}

/// How long an answer is cached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    /// An answer that allows.
    pub allowed: Duration,
    /// An answer that denies.
    pub denied: Duration,
}

impl Memory {
    /// For operations: a revoked permission or token stops working after 10 s (the API server itself caches tokens
    /// for as long), a client that asks in a loop costs the API server two reviews in 10 s, and a new permission
    /// works at once.
    pub const OF_OPERATIONS: Self = Self {
        allowed: Duration::from_secs(10),
        denied: Duration::ZERO,
    };
    /// For scrapes, which repeat every half minute for years; as in controller-runtime.
    pub const OF_SCRAPES: Self = Self {
        allowed: Duration::from_mins(5),
        denied: Duration::from_secs(30),
    };
}

/// A cached denial.
#[derive(Debug, Clone, PartialEq)]
struct Denial {
    until: Instant,
    why: Denied,
}

type Digest = [u8; SHA256_OUTPUT_LEN];

/// Asks the API server to authorize requests to the operator's port.
pub struct Access {
    client: Client,
    /// Until when a token may use a verb on a path without a review. Expired entries still mark known clients.
    allowed: Store<Digest, Instant>,
    /// Separate, so that strangers do not fill the cache of known clients.
    denied: Store<Digest, Denial>,
    reviews_of_known: Semaphore,
    reviews_of_strangers: Semaphore,
}

impl Access {
    /// Reviews with `client`, whose account must be allowed to create both reviews.
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

    /// Checks that the owner of the token may use `verb`, the HTTP method in lower case, on `path`, without
    /// parameters. Answers within 5 seconds.
    ///
    /// # Errors
    /// Unless the API server allows it; the error explains why.
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
            // A known client stays known: an unavailable API server does not invalidate the token.
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
                // The default audiences of the API server: a token that is valid there is valid here.
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
            // Read here: the client would log an unreadable answer, and it contains the token.
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
        // If the cache is still full, the client is reviewed again next time.
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

/// Whether the text may be a bearer token by RFC 6750.
fn is_token(text: &str) -> bool {
    let is_of_token = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~+/=".contains(&byte);
    (1..=TOKEN_LIMIT).contains(&text.len()) && text.bytes().all(is_of_token)
}

/// None of the three contains a line break, so each triple has a digest of its own.
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
