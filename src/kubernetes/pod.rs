//! What a pod knows of itself.

use std::{env, fs};

use k8s_openapi::api::core::v1::ObjectReference;

/// Where a pod finds the namespace that it is in.
const NAMESPACE: &str = "/var/run/secrets/kubernetes.io/serviceaccount/namespace";

/// The pod that this process runs in, as its environment says.
#[must_use]
pub fn this() -> Option<ObjectReference> {
    let said = |name| env::var(name).ok().filter(|value| !value.is_empty());
    Some(ObjectReference {
        api_version: Some("v1".to_owned()),
        kind: Some("Pod".to_owned()),
        namespace: Some(said("POD_NAMESPACE")?),
        name: Some(said("POD_NAME")?),
        uid: Some(said("POD_UID")?),
        ..ObjectReference::default()
    })
}

/// What this process runs in is called: the pod, else the machine.
#[must_use]
pub fn host() -> String {
    let host = env::var("POD_NAME")
        .or_else(|_| fs::read_to_string("/proc/sys/kernel/hostname"))
        .unwrap_or_default();
    host.trim().to_owned()
}

/// The namespace of the pod that this process runs in, if it does.
#[must_use]
pub fn namespace() -> Option<String> {
    let namespace = fs::read_to_string(NAMESPACE).ok()?;
    Some(namespace.trim().to_owned()).filter(|namespace| !namespace.is_empty())
}

/// Whether the API server is reached as a pod does it: by the Service, without a kubeconfig.
#[must_use]
pub fn is_here() -> bool {
    env::var_os("KUBERNETES_SERVICE_HOST").is_some() && env::var_os("KUBECONFIG").is_none()
}
