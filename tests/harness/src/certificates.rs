//! The certificates and keys of one control plane, generated for it and deleted with it.
//!
//! One authority signs everything. All files are in one folder and readable by their owner only.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};

/// The names under which the API server is reached: by clients on this machine, and by pods, which use the first
/// address of the service CIDR.
const API_SERVER_NAMES: [&str; 7] = [
    "127.0.0.1",
    "10.96.0.1",
    "localhost",
    "kubernetes",
    "kubernetes.default",
    "kubernetes.default.svc",
    "kubernetes.default.svc.cluster.local",
];

const API_SERVER: &str = "kube-apiserver";
const API_SERVER_TO_KUBELETS: &str = "kube-apiserver-kubelet-client";

/// Where the certificates and keys of a control plane are.
#[derive(Clone, Debug)]
pub(crate) struct Certificates {
    dir: PathBuf,
    issuer: Arc<Issuer<'static, KeyPair>>,
}

/// A certificate and its key, in PEM files.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The certificate.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

impl Certificates {
    /// Creates all of them in `dir`, which it creates too. The API server is also reached at `address`, if given.
    pub(crate) fn create(dir: PathBuf, address: Option<&str>) -> Result<Self> {
        fs::create_dir_all(&dir).with_context(|| format!("creating {}", dir.display()))?;
        Self::generate(dir, address).context("making the certificates of the control plane")
    }

    pub(crate) fn authority(&self) -> PathBuf {
        self.dir.join("ca.crt")
    }

    pub(crate) fn api_server(&self) -> Identity {
        self.identity(API_SERVER)
    }

    /// The API server's client certificate towards kubelets.
    pub(crate) fn api_server_to_kubelets(&self) -> Identity {
        self.identity(API_SERVER_TO_KUBELETS)
    }

    /// Signs the tokens of service accounts.
    pub(crate) fn service_account_key(&self) -> PathBuf {
        self.dir.join("service-accounts.key")
    }

    /// Verifies them.
    pub(crate) fn service_account_public_key(&self) -> PathBuf {
        self.dir.join("service-accounts.pub")
    }

    /// A client certificate for a user, and its group.
    pub(crate) fn issue_client(&self, user: &str, group: Option<&str>) -> Result<Identity> {
        let files = self.identity(&user.replace(':', "-"));
        sign(client(user, group), &self.issuer, &files)?;
        Ok(files)
    }

    /// A certificate of a server with these names and addresses.
    pub(crate) fn issue_server(&self, name: &str, names: Vec<String>) -> Result<Identity> {
        let files = self.identity(name);
        let mut params = CertificateParams::new(names)?;
        params.distinguished_name.push(DnType::CommonName, name);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        sign(params, &self.issuer, &files)?;
        Ok(files)
    }

    fn identity(&self, name: &str) -> Identity {
        Identity {
            certificate: self.dir.join(format!("{name}.crt")),
            key: self.dir.join(format!("{name}.key")),
        }
    }

    fn generate(dir: PathBuf, address: Option<&str>) -> Result<Self> {
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
        let authority = params.self_signed(&key)?.pem();
        let certificates = Self {
            dir,
            issuer: Arc::new(Issuer::new(params, key)),
        };
        write_private(&certificates.authority(), &authority)?;

        let names = API_SERVER_NAMES.into_iter().chain(address);
        certificates.issue_server(API_SERVER, names.map(String::from).collect())?;

        certificates.issue_client(API_SERVER_TO_KUBELETS, Some("system:masters"))?;

        let key = KeyPair::generate()?;
        write_private(&certificates.service_account_key(), &key.serialize_pem())?;
        write_private(
            &certificates.service_account_public_key(),
            &key.public_key_pem(),
        )?;
        Ok(certificates)
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
