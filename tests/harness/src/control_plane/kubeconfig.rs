//! Kubeconfig files.

use std::path::{Path, PathBuf};

use anyhow::Result;
use serde_json::json;

use super::layout::Layout;
use crate::certificates::{Identity, write_private};

/// The group to which RBAC does not apply.
pub(crate) const MASTERS: &str = "system:masters";

/// How a client authenticates to the API server.
pub(crate) enum Credentials<'a> {
    Certificate(&'a Identity),
    Token(&'a str),
}

/// Writes the kubeconfig of a user, with a new certificate.
pub(crate) fn for_user(
    layout: &Layout,
    url: &str,
    user: &str,
    group: Option<&str>,
) -> Result<PathBuf> {
    let path = layout.user_kubeconfig(user);
    for_user_at(&path, layout, url, user, group)?;
    Ok(path)
}

/// The same at a given path: each of several API servers has its own.
pub(crate) fn for_user_at(
    path: &Path,
    layout: &Layout,
    url: &str,
    user: &str,
    group: Option<&str>,
) -> Result<()> {
    let identity = layout.certificates.issue_client(user, group)?;
    let authority = layout.certificates.authority();
    write(
        path,
        url,
        &authority,
        user,
        &Credentials::Certificate(&identity),
    )
}

/// Writes a kubeconfig with one cluster, one user and one context. Certificates are referenced by
/// path, so the file is valid as long as the control plane's folder exists.
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
    // JSON is YAML, and good enough for a file that people rarely read.
    write_private(path, &serde_json::to_string_pretty(&config)?)
}
