//! An expired service account token. The API server issues none that lasts less than ten minutes, so it is signed
//! with the API server's own key.

use std::path::Path;

use anyhow::{Context as _, Result, anyhow};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::{SignedDuration, Timestamp};
use rcgen::KeyPair;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use serde_json::{Value, json};

/// The issuer and the audience of tokens.
pub(crate) const ISSUER: &str = "https://kubernetes.default.svc";

/// A token of the account, signed with the key in this file, that was issued an hour ago for ten minutes.
pub(crate) fn expired(key: &Path, namespace: &str, name: &str, uid: &str) -> Result<String> {
    let issued = Timestamp::now() - SignedDuration::from_hours(1);
    let expires = issued + SignedDuration::from_mins(10);
    let claims = json!({
        "iss": ISSUER,
        "aud": [ISSUER],
        "sub": format!("system:serviceaccount:{namespace}:{name}"),
        "iat": issued.as_second(),
        "nbf": issued.as_second(),
        "exp": expires.as_second(),
        "kubernetes.io": {"namespace": namespace, "serviceaccount": {"name": name, "uid": uid}},
    });
    sign(key, &claims).with_context(|| format!("signing with {}", key.display()))
}

fn sign(key: &Path, claims: &Value) -> Result<String> {
    let key = KeyPair::from_pem(&std::fs::read_to_string(key)?)?.serialize_der();
    let random = SystemRandom::new();
    let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &key, &random)
        .map_err(|error| anyhow!("the key cannot be used: {error}"))?;
    let header = json!({"alg": "ES256", "typ": "JWT"});
    let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let text = format!("{}.{}", encode(&header), encode(claims));
    let signature = key
        .sign(&random, text.as_bytes())
        .map_err(|_| anyhow!("there is no randomness"))?;
    Ok(format!("{text}.{}", URL_SAFE_NO_PAD.encode(signature)))
}
