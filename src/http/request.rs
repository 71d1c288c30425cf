//! What a handler requires of a request before it does anything: the client's permission, and its parameters.
//!
//! Each is an extractor, so the signature of a handler shows what its route requires. [`Permitted`] comes
//! first: an unauthorized client learns nothing else.

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

/// The client is authorized by the cluster's RBAC.
pub(super) struct Permitted;

impl FromRequestParts<Shared> for Permitted {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, shared: &Shared) -> Result<Self, Refusal> {
        permit(parts, shared, Memory::OF_OPERATIONS).await?;
        Ok(Self)
    }
}

/// The client may read the metrics: over HTTPS only if the cluster's RBAC allows it, otherwise always.
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
            "Not yet: there is no connection to the API server, which authorizes this; try again, or see /readyz",
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

/// The request has no body: a client that sends one expects it to be read.
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
            "The body of a request is not read: send none, and put parameters into the URL, as in ?pool=worker",
        ))
    }
}

/// A path parameter: an id, or the name of a node.
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

/// The query parameters.
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
    /// Checks that there is none.
    ///
    /// # Errors
    /// When there is one.
    pub(super) fn none(self) -> Result<(), Refusal> {
        match self.0.first() {
            None => Ok(()),
            Some((key, _)) => Err(unknown(key, "none here")),
        }
    }

    /// Returns this parameter, if present, and accepts no other.
    ///
    /// # Errors
    /// When there is another one, or the same one twice.
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

/// Reads every part of a request that a handler may require, for the fuzzer.
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
