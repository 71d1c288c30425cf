//! Installs CRDs for the kinds of a dump.
//!
//! The published CRDs can be applied from a folder; where a kind is still not served, a minimal CRD
//! of our own is installed: same group, version, names and scope, every field preserved.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, bail};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::Client;
use kube::api::{Api, DynamicObject};
use serde_json::Value;

use super::kind::Kind;
use crate::apply::apply_objects;

/// Our minimal CRDs, one per document.
const MINIMAL: &str = include_str!("../../fixtures/openshift-crds.yaml");

/// Selects, among the variants of a CRD that differ by feature set, the default one.
const FEATURE_SET: &str = "release.openshift.io/feature-set";

/// Applies the CRDs of every `.yaml` and `.yml` file in `dir`, and returns notes for the user.
///
/// # Errors
/// When the folder has no CRD, a file is not YAML, or a CRD is rejected or not served in time.
pub async fn apply_folder(client: &Client, dir: &Path) -> Result<Vec<String>> {
    let entries =
        std::fs::read_dir(dir).with_context(|| format!("Cannot read {}", dir.display()))?;
    let mut files: Vec<_> = entries
        .filter_map(Result::ok)
        .map(|entry| entry.path())
        .collect();
    files.retain(|path| {
        path.extension()
            .is_some_and(|ext| ext == "yaml" || ext == "yml")
    });
    files.sort();
    let mut crds: BTreeMap<String, Value> = BTreeMap::new();
    for path in files {
        let text = std::fs::read_to_string(&path)
            .with_context(|| format!("Cannot read {}", path.display()))?;
        for document in documents(&text).with_context(|| path.display().to_string())? {
            let name = document["metadata"]["name"]
                .as_str()
                .unwrap_or_default()
                .to_owned();
            let default = document["metadata"]["annotations"][FEATURE_SET] == "Default";
            if default || !crds.contains_key(&name) {
                crds.insert(name, document);
            }
        }
    }
    if crds.is_empty() {
        bail!("{} has no CustomResourceDefinition", dir.display());
    }
    apply(client, crds.values()).await?;
    let names: Vec<&str> = crds.keys().map(String::as_str).collect();
    Ok(vec![format!("applied the CRDs {}", names.join(", "))])
}

/// Installs our minimal CRD for each of `kinds` that is not served, and returns notes for the user.
///
/// # Errors
/// When the server does not answer, or rejects a CRD.
pub async fn install_missing(client: &Client, kinds: &[Kind]) -> Result<Vec<String>> {
    let served = served(client).await?;
    let missing: Vec<String> = kinds
        .iter()
        .filter(|kind| !served.contains(kind))
        .filter_map(|kind| kind.crd())
        .collect();
    if missing.is_empty() {
        return Ok(Vec::new());
    }
    let crds: Vec<Value> = documents(MINIMAL)?
        .into_iter()
        .filter(|crd| {
            missing
                .iter()
                .any(|name| crd["metadata"]["name"] == name.as_str())
        })
        .collect();
    apply(client, crds.iter()).await?;
    Ok(vec![format!(
        "the server did not serve {}: installed minimal CRDs, which accept any field",
        missing.join(", ")
    )])
}

/// The kinds that the server serves, in the order of loading.
///
/// # Errors
/// When the server does not answer.
pub async fn served(client: &Client) -> Result<Vec<Kind>> {
    let mut served = Vec::new();
    for kind in Kind::ALL {
        if kind == Kind::Node || is_listed(client, kind).await? {
            served.push(kind);
        }
    }
    Ok(served)
}

async fn is_listed(client: &Client, kind: Kind) -> Result<bool> {
    match client.list_api_group_resources(kind.api_version()).await {
        Ok(list) => Ok(list
            .resources
            .iter()
            .any(|resource| resource.name == kind.plural())),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(false),
        Err(error) => Err(error).context("Cannot discover which kinds the API server serves"),
    }
}

/// The structural schema of a kind, if it has one that can be read.
pub async fn schema(client: &Client, kind: Kind) -> Option<Value> {
    let crds = Api::<CustomResourceDefinition>::all(client.clone());
    let crd = crds.get(&kind.crd()?).await.ok()?;
    let (_, version) = kind.api_version().split_once('/')?;
    let version = crd
        .spec
        .versions
        .into_iter()
        .find(|served| served.name == version)?;
    serde_json::to_value(version.schema?.open_api_v3_schema?).ok()
}

async fn apply(client: &Client, crds: impl Iterator<Item = &Value>) -> Result<()> {
    let crds = crds.map(|crd| serde_json::from_value(crd.clone()));
    let crds: Vec<DynamicObject> = crds.collect::<Result<_, _>>()?;
    apply_objects(client, crds).await
}

/// The CRDs among the documents of a text, without the fields that a server sets.
fn documents(text: &str) -> Result<Vec<Value>> {
    let options = serde_saphyr::options! { budget: None, strict_booleans: true };
    let mut documents: Vec<Value> = serde_saphyr::from_multiple_with_options(text, options)?;
    documents.retain(|document| document["kind"] == "CustomResourceDefinition");
    for document in &mut documents {
        if let Some(crd) = document.as_object_mut() {
            crd.remove("status");
        }
        if let Some(metadata) = document["metadata"].as_object_mut() {
            for field in [
                "uid",
                "resourceVersion",
                "managedFields",
                "generation",
                "creationTimestamp",
            ] {
                metadata.remove(field);
            }
        }
    }
    Ok(documents)
}
