//! What a handler may ask of a request before it does anything: who asks, and for what.
//!
//! Each is an extractor, so what a route demands stands in the signature of its handler. [`Permitted`]
//! comes first: whoever is not let in learns nothing else.

use axum::extract::{FromRequestParts, Path};
use axum::http::HeaderMap;
use axum::http::StatusCode;
use axum::http::header::{AUTHORIZATION, CONTENT_LENGTH, TRANSFER_ENCODING};
use axum::http::request::Parts;

use super::Shared;
use super::answer::{Refusal, unauthorized};
use crate::kubernetes::access::Memory;

/// No name of a node or pool is longer, nor is a number.
const VALUE_LIMIT: usize = 253;

/// Whoever asks is allowed to by the cluster's rules.
pub(super) struct Permitted;

impl FromRequestParts<Shared> for Permitted {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, shared: &Shared) -> Result<Self, Refusal> {
        permit(parts, shared, Memory::OF_OPERATIONS).await?;
        Ok(Self)
    }
}

/// Whoever asks may read the metrics: on a port that speaks HTTPS by the cluster's rules, else anybody.
pub(super) struct Scraper;

impl FromRequestParts<Shared> for Scraper {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, shared: &Shared) -> Result<Self, Refusal> {
        if shared.is_secured {
            permit(parts, shared, Memory::OF_SCRAPES).await?;
        }
        Ok(Self)
    }
}

async fn permit(parts: &Parts, shared: &Shared, memory: Memory) -> Result<(), Refusal> {
    let token = bearer(&parts.headers)?;
    let access = shared.port.access.borrow().clone().ok_or_else(|| {
        Refusal::not_ready(
            "Not yet: the operator has no connection to the API server, which says who may do this; try again, or see /readyz",
        )
    })?;
    let verb = parts.method.as_str().to_ascii_lowercase();
    let path = parts.uri.path();
    Ok(access.allowed(token, &verb, path, memory).await?)
}

fn bearer(headers: &HeaderMap) -> Result<&str, Refusal> {
    let mut given = headers.get_all(AUTHORIZATION).iter();
    let (Some(header), None) = (given.next(), given.next()) else {
        return Err(unauthorized("This needs one token"));
    };
    header
        .to_str()
        .ok()
        .and_then(|header| header.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("Bearer"))
        .map(|(_, token)| token.trim())
        .ok_or_else(|| unauthorized("The header Authorization has no bearer token"))
}

/// The request has no body: there is none to read, and whoever sends one means something by it.
pub(super) struct NoBody;

impl<S: Sync> FromRequestParts<S> for NoBody {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refusal> {
        let length = parts.headers.get(CONTENT_LENGTH);
        let is_empty = length.is_none_or(|length| length == "0");
        if is_empty && !parts.headers.contains_key(TRANSFER_ENCODING) {
            return Ok(Self);
        }
        Err(Refusal::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "BodyTooLarge",
            "Nothing is read from the body of a request: send none, and put parameters into the URL, as in ?pool=worker",
        ))
    }
}

/// What stands in the path: an id, or the name of a node.
pub(super) struct Name(pub(super) String);

impl<S: Send + Sync> FromRequestParts<S> for Name {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        let Path(name) = Path::<String>::from_request_parts(parts, state)
            .await
            .map_err(|error| Refusal::bad_request(error.body_text()))?;
        short("The name in the path", &name)?;
        Ok(Self(name))
    }
}

/// What stands behind the question mark.
pub(super) struct Parameters(Vec<(String, String)>);

impl<S: Sync> FromRequestParts<S> for Parameters {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refusal> {
        let query = parts.uri.query().unwrap_or_default();
        let pairs = form_urlencoded::parse(query.as_bytes());
        Ok(Self(pairs.into_owned().collect()))
    }
}

impl Parameters {
    /// There is none.
    ///
    /// # Errors
    /// When there is one: it is meant for something.
    pub(super) fn none(self) -> Result<(), Refusal> {
        match self.0.first() {
            None => Ok(()),
            Some((key, _)) => Err(unknown(key, "none here")),
        }
    }

    /// There is this one, at most.
    ///
    /// # Errors
    /// When there is another one, or the same twice.
    pub(super) fn at_most(self, name: &str) -> Result<Option<String>, Refusal> {
        let mut value = None;
        for (key, given) in self.0 {
            if key != name {
                return Err(unknown(&key, name));
            }
            short("The parameter", &given)?;
            if value.replace(given).is_some() {
                let error = format!("The parameter {name} is given more than once");
                return Err(Refusal::bad_request(error));
            }
        }
        Ok(value)
    }
}

/// Reads everything of a request that a handler may ask for, for the fuzzer.
#[cfg(any(test, fuzzing))]
pub(crate) fn read(parts: &Parts) {
    let _ = bearer(&parts.headers);
    let query = parts.uri.query().unwrap_or_default();
    for name in ["pool", ""] {
        let pairs = form_urlencoded::parse(query.as_bytes());
        let parameters = Parameters(pairs.into_owned().collect());
        if let Ok(Some(value)) = parameters.at_most(name) {
            assert!(value.len() <= VALUE_LIMIT);
        }
    }
}

fn unknown(key: &str, there_is: &str) -> Refusal {
    let key: String = key.chars().take(VALUE_LIMIT).collect();
    Refusal::bad_request(format!(
        "There is no parameter {key:?}: there is {there_is}"
    ))
}

fn short(what: &str, text: &str) -> Result<(), Refusal> {
    if text.len() <= VALUE_LIMIT {
        return Ok(());
    }
    let error = format!("{what} has more than {VALUE_LIMIT} characters");
    Err(Refusal::bad_request(error))
}
