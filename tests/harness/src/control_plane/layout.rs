//! The file layout of a control plane's folder.

use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::certificates::{Certificates, write_private};

/// The files of one control plane. The logs of its programs are beside them.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    dir: PathBuf,
    pub(crate) certificates: Certificates,
}

impl Layout {
    /// Creates the certificates and the audit policy in `dir`; the API server is also reached at `address`.
    pub(crate) fn create(dir: &Path, address: Option<&str>) -> Result<Self> {
        let certificates = Certificates::create(dir.join("pki"), address)?;
        let layout = Self {
            dir: dir.to_owned(),
            certificates,
        };
        write_private(&layout.audit_policy(), crate::audit::POLICY)?;
        Ok(layout)
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(crate) fn etcd_data(&self) -> PathBuf {
        self.dir.join("etcd")
    }

    pub(crate) fn etcd_socket(&self) -> PathBuf {
        self.dir.join("etcd.sock")
    }

    pub(crate) fn etcd_peer_socket(&self) -> PathBuf {
        self.dir.join("etcd-peer.sock")
    }

    pub(crate) fn etcd_url(&self) -> String {
        format!("unix://{}", self.etcd_socket().display())
    }

    pub(crate) fn audit_policy(&self) -> PathBuf {
        self.dir.join("audit-policy.yaml")
    }

    pub(crate) fn audit_log(&self) -> PathBuf {
        self.dir.join("audit.log")
    }

    /// A file of one of several API servers, which are distinguished by port.
    pub(crate) fn of_api_server(&self, port: u16, file: &str) -> PathBuf {
        self.dir.join(format!("apiserver-{port}-{file}"))
    }

    /// A backup of etcd's data.
    pub(crate) fn backup(&self, number: u32) -> PathBuf {
        self.dir.join(format!("etcd-backup-{number}"))
    }

    pub(crate) fn user_kubeconfig(&self, user: &str) -> PathBuf {
        self.dir
            .join(format!("{}.kubeconfig", user.replace(':', "-")))
    }

    pub(crate) fn service_account_kubeconfig(&self, namespace: &str, name: &str) -> PathBuf {
        self.dir.join(format!("{namespace}.{name}.kubeconfig"))
    }

    pub(crate) fn kubectl_cache(&self) -> PathBuf {
        self.dir.join("kubectl-cache")
    }
}
