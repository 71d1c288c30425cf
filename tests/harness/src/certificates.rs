//! The certificates and keys of one control plane, made on the spot and thrown away with it.
//!
//! One authority signs everything. All files are in one folder and readable by their owner only.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};

/// The names under which the API server is reached: by its clients here, and by what in a real
/// cluster would be a pod.
const API_SERVER_NAMES: [&str; 6] = [
    "127.0.0.1",
    "localhost",
    "kubernetes",
    "kubernetes.default",
    "kubernetes.default.svc",
    "kubernetes.default.svc.cluster.local",
];

/// Where the certificates and keys of a control plane are.
#[derive(Clone, Debug)]
pub(crate) struct Certificates {
    dir: PathBuf,
}

/// A certificate and its key, in PEM files.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
}

impl Certificates {
    /// Makes them all, in `dir`, which it creates.
    pub(crate) fn create(dir: PathBuf) -> Result<Self> {
        fs::create_dir_all(&dir).with_context(|| format!("creating {}", dir.display()))?;
        let certificates = Self { dir };
        certificates
            .generate()
            .context("making the certificates of the control plane")?;
        Ok(certificates)
    }

    pub(crate) fn authority(&self) -> PathBuf {
        self.dir.join("ca.crt")
    }

    pub(crate) fn api_server(&self) -> Identity {
        self.identity("apiserver")
    }

    /// A member of `system:masters`: RBAC does not apply to it.
    pub(crate) fn admin(&self) -> Identity {
        self.identity("admin")
    }

    pub(crate) fn controller_manager(&self) -> Identity {
        self.identity("controller-manager")
    }

    /// Signs the tokens of service accounts.
    pub(crate) fn service_account_key(&self) -> PathBuf {
        self.dir.join("service-accounts.key")
    }

    /// Checks them.
    pub(crate) fn service_account_public_key(&self) -> PathBuf {
        self.dir.join("service-accounts.pub")
    }

    fn identity(&self, name: &str) -> Identity {
        Identity {
            certificate: self.dir.join(format!("{name}.crt")),
            key: self.dir.join(format!("{name}.key")),
        }
    }

    fn generate(&self) -> Result<()> {
        let mut params = CertificateParams::default();
        params
            .distinguished_name
            .push(DnType::CommonName, "node-insights-harness");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![
            KeyUsagePurpose::KeyCertSign,
            KeyUsagePurpose::DigitalSignature,
        ];
        let key = KeyPair::generate()?;
        write_private(&self.authority(), &params.self_signed(&key)?.pem())?;
        let authority = Issuer::new(params, key);

        let mut params = CertificateParams::new(API_SERVER_NAMES.map(String::from))?;
        params
            .distinguished_name
            .push(DnType::CommonName, "kube-apiserver");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        sign(params, &authority, &self.api_server())?;
        sign(
            client("admin", Some("system:masters")),
            &authority,
            &self.admin(),
        )?;
        let user = client("system:kube-controller-manager", None);
        sign(user, &authority, &self.controller_manager())?;

        let key = KeyPair::generate()?;
        write_private(&self.service_account_key(), &key.serialize_pem())?;
        write_private(&self.service_account_public_key(), &key.public_key_pem())
    }
}

/// Writes a file that only its owner can read; an existing one is replaced.
pub(crate) fn write_private(path: &Path, content: &str) -> Result<()> {
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .and_then(|mut file| file.write_all(content.as_bytes()))
        .with_context(|| format!("writing {}", path.display()))
}

fn client(user: &str, group: Option<&str>) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, user);
    if let Some(group) = group {
        params
            .distinguished_name
            .push(DnType::OrganizationName, group);
    }
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params
}

fn sign(
    mut params: CertificateParams,
    authority: &Issuer<'_, KeyPair>,
    files: &Identity,
) -> Result<()> {
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    let key = KeyPair::generate()?;
    write_private(
        &files.certificate,
        &params.signed_by(&key, authority)?.pem(),
    )?;
    write_private(&files.key, &key.serialize_pem())
}
