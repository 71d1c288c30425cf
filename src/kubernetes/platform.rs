//! Which kind of cluster this is, and which version its API server has.

use kube::Client;

use crate::api::openshift::MACHINE_CONFIG_GROUP;
use crate::api::types::Provider;

/// The group that serves ClusterVersion.
const CLUSTER_VERSION_GROUP: &str = "config.openshift.io";

/// The platform of the cluster: OpenShift when both of the API groups that its rules need are served.
///
/// # Errors
/// When the API server cannot be asked.
pub async fn detect(client: &Client) -> kube::Result<Provider> {
    let groups = client.list_api_groups().await?.groups;
    let serves = |name: &str| groups.iter().any(|group| group.name == name);
    let openshift = serves(MACHINE_CONFIG_GROUP) && serves(CLUSTER_VERSION_GROUP);
    Ok(if openshift {
        Provider::OpenShift
    } else {
        Provider::Kubernetes
    })
}

/// The version of the API server, as in `v1.36.3`.
///
/// # Errors
/// When the API server cannot be asked.
pub async fn api_server_version(client: &Client) -> kube::Result<String> {
    Ok(client.apiserver_version().await?.git_version)
}
