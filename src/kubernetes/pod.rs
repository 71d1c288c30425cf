//! What a process knows about its pod.

use std::{env, fs};

use k8s_openapi::api::core::v1::ObjectReference;

/// The file with the namespace of the pod.
const NAMESPACE: &str = "/var/run/secrets/kubernetes.io/serviceaccount/namespace";

/// The pod of this process, from its environment.
#[must_use]
pub fn this() -> Option<ObjectReference> {
    let value = |name| env::var(name).ok().filter(|value| !value.is_empty());
    Some(ObjectReference {
        api_version: Some("v1".to_owned()),
        kind: Some("Pod".to_owned()),
        namespace: Some(value("POD_NAMESPACE")?),
        name: Some(value("POD_NAME")?),
        uid: Some(value("POD_UID")?),
        ..ObjectReference::default()
    })
}

/// The name of the pod, or else of the machine.
#[must_use]
pub fn host() -> String {
    let host = env::var("POD_NAME")
        .or_else(|_| fs::read_to_string("/proc/sys/kernel/hostname"))
        .unwrap_or_default();
    host.trim().to_owned()
}

/// The namespace of the pod of this process, if it runs in one.
#[must_use]
pub fn namespace() -> Option<String> {
    let namespace = fs::read_to_string(NAMESPACE).ok()?;
    Some(namespace.trim().to_owned()).filter(|namespace| !namespace.is_empty())
}

/// Whether the API server is reached as in a pod: through the Service, without a kubeconfig.
#[must_use]
pub fn is_here() -> bool {
    env::var_os("KUBERNETES_SERVICE_HOST").is_some() && env::var_os("KUBECONFIG").is_none()
}
