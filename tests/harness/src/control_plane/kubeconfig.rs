//! Kubeconfig files.

use std::path::Path;

use anyhow::Result;
use serde_json::json;

use crate::certificates::{Identity, write_private};

/// What a client shows to the API server.
pub(crate) enum Credentials<'a> {
    Certificate(&'a Identity),
    Token(&'a str),
}

/// Writes a kubeconfig with one cluster, one user and one context. Certificates are named by their
/// path, so the file is valid for as long as the control plane's folder is.
pub(crate) fn write(
    path: &Path,
    url: &str,
    authority: &Path,
    user: &str,
    credentials: &Credentials<'_>,
) -> Result<()> {
    let credentials = match credentials {
        Credentials::Certificate(Identity { certificate, key }) => {
            json!({ "client-certificate": certificate, "client-key": key })
        }
        Credentials::Token(token) => json!({ "token": token }),
    };
    let config = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{
            "name": "node-insights",
            "cluster": { "server": url, "certificate-authority": authority },
        }],
        "users": [{ "name": user, "user": credentials }],
        "contexts": [{
            "name": "node-insights",
            "context": { "cluster": "node-insights", "user": user },
        }],
        "current-context": "node-insights",
    });
    // JSON is YAML, and for a file that people rarely read it does.
    write_private(path, &serde_json::to_string_pretty(&config)?)
}
