//! The command lines of the servers.

use std::path::Path;

use super::layout::Layout;
use super::token;
use crate::certificates::Identity;

/// The controllers that tests rely on, and no others. Deliberately absent: the node lifecycle, taint
/// eviction and pod garbage collection controllers, which would mark every node without a kubelet
/// as not ready and remove its pods.
const CONTROLLERS: &str = "clusterrole-aggregation-controller,\
                           disruption-controller,\
                           garbage-collector-controller,\
                           namespace-controller,\
                           serviceaccount-controller,\
                           serviceaccount-token-controller";

/// Unix sockets only: no port has to be found, and no other user of the machine can reach etcd.
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
        // 5,000 nodes with large machine configurations, each in many revisions, exceed the default
        // of 2 GB.
        flag("quota-backend-bytes", 8 << 30),
        flag("log-level", "warn"),
    ]
}

/// The kube-apiserver on 127.0.0.1:`port`, or on every address when real nodes have to reach it at `address`;
/// `extra` comes last, so it wins.
pub(crate) fn api_server(
    layout: &Layout,
    port: u16,
    address: Option<&str>,
    extra: &[String],
) -> Vec<String> {
    let certificates = &layout.certificates;
    let Identity { certificate, key } = certificates.api_server();
    let mut flags = vec![
        flag("etcd-servers", layout.etcd_url()),
        flag("secure-port", port),
        flag("tls-cert-file", certificate.display()),
        flag("tls-private-key-file", key.display()),
        flag("client-ca-file", certificates.authority().display()),
        // OpenShift enables it, and it rejects owner references that pass elsewhere.
        flag(
            "enable-admission-plugins",
            "OwnerReferencesPermissionEnforcement",
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
    flags.extend(match address {
        Some(address) => with_nodes(layout, address),
        None => without_nodes(),
    });
    flags.extend_from_slice(extra);
    flags
}

fn without_nodes() -> Vec<String> {
    vec![
        flag("bind-address", "127.0.0.1"),
        flag("advertise-address", "127.0.0.1"),
        // The `kubernetes` service has no endpoints: a loopback address is not allowed there.
        flag("endpoint-reconciler-type", "none"),
        flag("authorization-mode", "RBAC"),
        // ServiceAccount would reject pods until a controller has created the account `default`;
        // TaintNodesByCondition taints each new node until the node lifecycle controller sees its
        // kubelet. Here there is neither.
        flag(
            "disable-admission-plugins",
            "ServiceAccount,TaintNodesByCondition",
        ),
    ]
}

fn with_nodes(layout: &Layout, address: &str) -> Vec<String> {
    let Identity { certificate, key } = layout.certificates.api_server_to_kubelets();
    vec![
        flag("bind-address", "0.0.0.0"),
        flag("advertise-address", address),
        flag("authorization-mode", "Node,RBAC"),
        flag("enable-admission-plugins", "NodeRestriction"),
        flag("kubelet-client-certificate", certificate.display()),
        flag("kubelet-client-key", key.display()),
        flag(
            "kubelet-certificate-authority",
            layout.certificates.authority().display(),
        ),
        flag("kubelet-preferred-address-types", "InternalIP"),
    ]
}

/// The kube-controller-manager without a port; with every controller where there are real nodes.
pub(crate) fn controller_manager(
    layout: &Layout,
    kubeconfig: &Path,
    with_nodes: bool,
) -> Vec<String> {
    let certificates = &layout.certificates;
    let mut flags = vec![
        flag("kubeconfig", kubeconfig.display()),
        flag("use-service-account-credentials", true), // as clusters have it
        flag(
            "service-account-private-key-file",
            certificates.service_account_key().display(),
        ),
        flag("root-ca-file", certificates.authority().display()),
        flag("leader-elect", false),
        flag("secure-port", 0),
    ];
    if with_nodes {
        // A fifth of the default: a test need not wait 50 s until a dead node is reported as such.
        flags.push(flag("node-monitor-grace-period", "10s"));
        flags.push(flag("node-monitor-period", "1s"));
    } else {
        flags.push(flag("controllers", CONTROLLERS));
    }
    flags
}

/// The kube-scheduler without a port.
pub(crate) fn scheduler(kubeconfig: &Path) -> Vec<String> {
    vec![
        flag("kubeconfig", kubeconfig.display()),
        flag("leader-elect", false),
        flag("secure-port", 0),
    ]
}

fn flag(name: &str, value: impl std::fmt::Display) -> String {
    format!("--{name}={value}")
}
