//! What a pod knows of itself.

use std::fs;

/// Where a pod finds the namespace that it is in.
const NAMESPACE: &str = "/var/run/secrets/kubernetes.io/serviceaccount/namespace";

/// The namespace of the pod that this process runs in, if it does.
#[must_use]
pub fn namespace() -> Option<String> {
    let namespace = fs::read_to_string(NAMESPACE).ok()?;
    Some(namespace.trim().to_owned()).filter(|namespace| !namespace.is_empty())
}
