//! The operator as a process of the demo: starts it, monitors it, and quotes its log on failure.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use kube::ResourceExt;
use kube::api::DynamicObject;
use serde_json::{Value, json};

use crate::apply::apply_objects;
use crate::{ControlPlane, Process};

/// The kinds of manifests that define the operator's permissions. No controller runs here for the
/// others (Deployments, Services).
const RBAC_KINDS: [&str; 6] = [
    "Namespace",
    "ServiceAccount",
    "ClusterRole",
    "ClusterRoleBinding",
    "Role",
    "RoleBinding",
];

/// How many log lines a failure quotes.
const LINES: usize = 20;

/// The running operator.
pub(super) struct Operator {
    process: Process,
}

impl Operator {
    /// Starts `program` as the service account of the RBAC manifests, or else as administrator.
    pub(super) async fn start(
        program: &Path,
        rbac: &Path,
        control_plane: &ControlPlane,
    ) -> Result<Self> {
        let account = apply_rbac(rbac, control_plane).await?;
        let kubeconfig = match &account {
            Some((namespace, name)) => {
                control_plane
                    .service_account_kubeconfig(namespace, name)
                    .await?
            }
            None => control_plane.kubeconfig().to_owned(),
        };
        let kubeconfig = kubeconfig.to_string_lossy();
        // Its state goes beside its log, not into the user's state folder.
        let folder = control_plane.dir().to_string_lossy();
        let mut envs = vec![
            ("KUBECONFIG", kubeconfig.as_ref()),
            ("XDG_STATE_HOME", folder.as_ref()),
            ("NODE_INSIGHTS_HEALTH_ADDRESS", "127.0.0.1:0"),
        ];
        if let Some((namespace, _)) = &account {
            envs.push(("POD_NAMESPACE", namespace));
        }
        let args = ["run", "--metrics-address", "127.0.0.1:0"];
        let process = Process::spawn("node-insights", program, args, &envs, control_plane.dir())?;
        Ok(Self { process })
    }

    /// Fails once the operator has exited.
    pub(super) fn alive(&mut self) -> Result<()> {
        match self.process.exited()? {
            Some(exit) => bail!("The operator has exited: {exit:?}"),
            None => Ok(()),
        }
    }

    /// The error, followed by the operator's last log lines.
    pub(super) fn explain(&self, error: &anyhow::Error) -> anyhow::Error {
        let log = [self.process.read_stdout(), self.process.read_stderr()].concat();
        let lines: Vec<&str> = log.lines().collect();
        let last = &lines[lines.len().saturating_sub(LINES)..];
        let log = if last.is_empty() {
            "It logged nothing".to_owned()
        } else {
            format!("Its last log lines:\n{}", last.join("\n"))
        };
        anyhow!("{error:#}\n{log}")
    }

    /// Leaves it running, and returns its process id.
    pub(super) fn keep(self) -> Result<u32> {
        self.process.keep()
    }
}

/// Applies the folder's RBAC manifests; returns namespace and name of the service account.
async fn apply_rbac(
    folder: &Path,
    control_plane: &ControlPlane,
) -> Result<Option<(String, String)>> {
    let mut objects = Vec::new();
    for path in manifests(folder)? {
        let text =
            fs::read_to_string(&path).with_context(|| format!("Reading {}", path.display()))?;
        let documents: Vec<Value> = serde_saphyr::from_multiple(&text)
            .with_context(|| format!("Reading {}", path.display()))?;
        for document in documents {
            let kind = document["kind"].as_str().unwrap_or_default();
            if RBAC_KINDS.contains(&kind) {
                objects.push(serde_json::from_value::<DynamicObject>(document)?);
            }
        }
    }
    let kind = |object: &DynamicObject| object.types.as_ref().map(|types| types.kind.clone());
    let account = objects
        .iter()
        .find(|object| kind(object).as_deref() == Some("ServiceAccount"));
    let Some(account) = account else {
        return Ok(None);
    };
    let namespace = account.namespace().unwrap_or_else(|| "default".to_owned());
    let account = (namespace.clone(), account.name_any());
    let namespace =
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}});
    apply_objects(
        &control_plane.client(),
        vec![serde_json::from_value(namespace)?],
    )
    .await?;
    apply_objects(&control_plane.client(), objects).await?;
    Ok(Some(account))
}

/// The YAML files of a folder and of those directly in it.
fn manifests(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut folders = vec![(folder.to_owned(), 0)];
    while let Some((folder, depth)) = folders.pop() {
        let Ok(entries) = fs::read_dir(&folder) else {
            continue; // no RBAC manifests
        };
        for entry in entries {
            let path = entry?.path();
            if path.is_dir() && depth == 0 {
                folders.push((path, depth + 1));
            } else if path.extension().is_some_and(|end| end == "yaml") {
                files.push(path);
            }
        }
    }
    files.sort();
    Ok(files)
}
