//! The command lines of the three servers.

use super::layout::Layout;
use super::token;
use crate::certificates::Identity;

/// The controllers that tests rely on, and no other. Deliberately absent: the node lifecycle, taint
/// eviction and pod garbage collection controllers, which would mark every node without a kubelet
/// as not ready and take its pods away.
const CONTROLLERS: &str = "clusterrole-aggregation-controller,\
                           garbage-collector-controller,\
                           namespace-controller,\
                           serviceaccount-controller,\
                           serviceaccount-token-controller";

/// Unix sockets only: nothing to find a port for, and nobody else on the machine gets at etcd.
pub(crate) fn etcd(layout: &Layout) -> Vec<String> {
    // Only advertised, never listened on nor dialled, as there is one member. It must be a URL with
    // a port for etcd to start.
    let advertised = "http://127.0.0.1:0";
    vec![
        flag("data-dir", layout.etcd_data().display()),
        flag("listen-client-urls", layout.etcd_url()),
        flag(
            "listen-peer-urls",
            format!("unix://{}", layout.etcd_peer_socket().display()),
        ),
        flag("advertise-client-urls", advertised),
        flag("initial-advertise-peer-urls", advertised),
        flag("initial-cluster", format!("default={advertised}")),
        // The data never outlives the test: do not wait for the disk.
        "--unsafe-no-fsync".to_owned(),
        // 5,000 nodes with large machine configurations, each in many revisions, pass the 2 GB that
        // are the default.
        flag("quota-backend-bytes", 8 << 30),
        flag("log-level", "warn"),
    ]
}

/// The kube-apiserver on 127.0.0.1:`port`; `extra` comes last, and so wins.
pub(crate) fn api_server(layout: &Layout, port: u16, extra: &[String]) -> Vec<String> {
    let certificates = &layout.certificates;
    let Identity { certificate, key } = certificates.api_server();
    let mut flags = vec![
        flag("etcd-servers", layout.etcd_url()),
        flag("bind-address", "127.0.0.1"),
        flag("advertise-address", "127.0.0.1"),
        // Nothing is behind the `kubernetes` service, and a loopback address is not allowed there.
        flag("endpoint-reconciler-type", "none"),
        flag("secure-port", port),
        flag("tls-cert-file", certificate.display()),
        flag("tls-private-key-file", key.display()),
        flag("client-ca-file", certificates.authority().display()),
        flag("authorization-mode", "RBAC"),
        // OpenShift has it on, and it refuses owner references that elsewhere pass.
        flag(
            "enable-admission-plugins",
            "OwnerReferencesPermissionEnforcement",
        ),
        // ServiceAccount would refuse pods until a controller has made the account `default`;
        // TaintNodesByCondition taints each new node until the node lifecycle controller sees its
        // kubelet, and there is neither.
        flag(
            "disable-admission-plugins",
            "ServiceAccount,TaintNodesByCondition",
        ),
        flag("service-account-issuer", token::ISSUER),
        flag(
            "service-account-key-file",
            certificates.service_account_public_key().display(),
        ),
        flag(
            "service-account-signing-key-file",
            certificates.service_account_key().display(),
        ),
        flag("service-cluster-ip-range", "10.96.0.0/16"),
        flag("audit-policy-file", layout.audit_policy().display()),
        flag("audit-log-path", layout.audit_log().display()),
        flag("audit-log-mode", "blocking"),
        flag("audit-log-maxsize", 0), // no rotation: a count covers the whole run
        flag("profiling", false),
    ];
    flags.extend_from_slice(extra);
    flags
}

/// The kube-controller-manager, listening on nothing.
pub(crate) fn controller_manager(layout: &Layout) -> Vec<String> {
    let certificates = &layout.certificates;
    vec![
        flag(
            "kubeconfig",
            layout.controller_manager_kubeconfig().display(),
        ),
        flag("controllers", CONTROLLERS),
        flag("use-service-account-credentials", true), // as clusters have it
        flag(
            "service-account-private-key-file",
            certificates.service_account_key().display(),
        ),
        flag("root-ca-file", certificates.authority().display()),
        flag("leader-elect", false),
        flag("secure-port", 0),
    ]
}

fn flag(name: &str, value: impl std::fmt::Display) -> String {
    format!("--{name}={value}")
}
