//! Server-side apply of YAML, as `kubectl apply --server-side` does it.
//!
//! Kinds are looked up by API discovery, so nothing here knows the kinds that the tests use. CRDs are
//! applied first and waited for, as other objects may be of their kinds; then namespaces, then the
//! rest in the order given.
//!
//! The status is not applied: where it is a subresource, the API server ignores it.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, ApiResource, DynamicObject, ListParams, Patch, PatchParams};
use kube::core::GroupVersionKind;
use kube::discovery::{ApiCapabilities, Scope, pinned_kind};
use kube::{Client, ResourceExt as _};
use serde_json::Value;

use crate::wait::eventually;

/// Owner of the fields that the harness sets.
pub const FIELD_MANAGER: &str = "node-insights-harness";

/// How long a new CRD may take to be served; usually about a second.
const CRD_DEADLINE: Duration = Duration::from_secs(30);

/// Applies all documents of `yaml`; a `List` counts as its items.
///
/// Returns once the custom resources defined in it are served.
///
/// # Errors
///
/// When the text is not YAML of Kubernetes objects, or the API server rejects one; the objects before
/// it stay applied.
pub async fn apply_yaml(client: &Client, yaml: &str) -> Result<()> {
    apply_objects(client, parse(yaml)?).await
}

/// Applies all documents of a file.
///
/// # Errors
///
/// As [`apply_yaml`], and when the file cannot be read.
pub async fn apply_file(client: &Client, path: &Path) -> Result<()> {
    apply_objects(client, parse_file(path)?).await
}

/// Applies all documents of all `*.yaml` files of a folder, ordered by file name; not recursive.
///
/// # Errors
///
/// As [`apply_yaml`], and when the folder cannot be read.
pub async fn apply_dir(client: &Client, path: &Path) -> Result<()> {
    let entries = fs::read_dir(path).with_context(|| format!("reading {}", path.display()))?;
    let mut files = entries
        .map(|entry| Ok(entry?.path()))
        .collect::<std::io::Result<Vec<PathBuf>>>()?;
    files.retain(|file| file.is_file() && file.extension().is_some_and(|end| end == "yaml"));
    files.sort();
    let mut objects = Vec::new();
    for file in files {
        objects.extend(parse_file(&file)?);
    }
    apply_objects(client, objects).await
}

/// Applies `objects`, whose kinds must be set.
///
/// # Errors
///
/// When the API server does not know a kind or rejects an object.
pub async fn apply_objects(client: &Client, mut objects: Vec<DynamicObject>) -> Result<()> {
    objects.sort_by_key(rank); // stable: the order within a rank stays
    let crds = objects
        .iter()
        .take_while(|object| rank(object) == Rank::Crd)
        .count();
    let rest = objects.split_off(crds);

    let mut kinds = Kinds::new(client.clone());
    for object in &objects {
        kinds.apply(object).await?;
    }
    for object in &objects {
        wait_until_served(client, &object.name_any()).await?;
    }
    for object in &rest {
        kinds.apply(object).await?;
    }
    Ok(())
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    Crd,
    Namespace,
    Other,
}

fn rank(object: &DynamicObject) -> Rank {
    match object.types.as_ref().map(|types| types.kind.as_str()) {
        Some("CustomResourceDefinition") => Rank::Crd,
        Some("Namespace") => Rank::Namespace,
        Some(_) | None => Rank::Other,
    }
}

/// The kinds discovered so far, so that each is looked up once.
struct Kinds {
    client: Client,
    known: HashMap<GroupVersionKind, (ApiResource, ApiCapabilities)>,
}

impl Kinds {
    fn new(client: Client) -> Self {
        Self {
            client,
            known: HashMap::new(),
        }
    }

    async fn apply(&mut self, object: &DynamicObject) -> Result<()> {
        let name = object
            .metadata
            .name
            .as_deref()
            .context("an object has no metadata.name")?;
        let types = object
            .types
            .as_ref()
            .with_context(|| format!("{name} has no kind"))?;
        let what = format!("applying {} {name}", types.kind);
        let api = self
            .api(GroupVersionKind::try_from(types)?, object)
            .await
            .with_context(|| what.clone())?;
        let params = PatchParams::apply(FIELD_MANAGER).force();
        match api.patch(name, &params, &Patch::Apply(object)).await {
            Ok(_) => Ok(()),
            // kube would print the whole response twice; its message is enough.
            Err(kube::Error::Api(status)) => Err(anyhow!(status.message)),
            Err(error) => Err(error.into()),
        }
        .context(what)
    }

    async fn api(
        &mut self,
        gvk: GroupVersionKind,
        object: &DynamicObject,
    ) -> Result<Api<DynamicObject>> {
        if !self.known.contains_key(&gvk) {
            let found = pinned_kind(&self.client, &gvk).await?;
            self.known.insert(gvk.clone(), found);
        }
        let (resource, capabilities) = &self.known[&gvk];
        Ok(match capabilities.scope {
            Scope::Cluster => Api::all_with(self.client.clone(), resource),
            Scope::Namespaced => {
                let namespace = object.metadata.namespace.as_deref().unwrap_or("default");
                Api::namespaced_with(self.client.clone(), namespace, resource)
            }
        })
    }
}

/// Waits until the CRD is established and the API server lists each of its versions: the handler of a
/// new resource is installed a moment after the condition is set.
async fn wait_until_served(client: &Client, name: &str) -> Result<()> {
    let crds: Api<CustomResourceDefinition> = Api::all(client.clone());
    eventually(
        &format!("custom resource {name} served"),
        CRD_DEADLINE,
        async || {
            let crd = crds.get(name).await?;
            let conditions = crd
                .status
                .and_then(|status| status.conditions)
                .unwrap_or_default();
            if !conditions
                .iter()
                .any(|c| c.type_ == "Established" && c.status == "True")
            {
                return Ok(None);
            }
            for version in crd.spec.versions.iter().filter(|version| version.served) {
                let gvk =
                    GroupVersionKind::gvk(&crd.spec.group, &version.name, &crd.spec.names.kind);
                let (resource, _) = pinned_kind(client, &gvk).await?;
                let api: Api<DynamicObject> = Api::all_with(client.clone(), &resource);
                api.list(&ListParams::default().limit(1)).await?;
            }
            Ok(Some(()))
        },
    )
    .await
}

fn parse_file(path: &Path) -> Result<Vec<DynamicObject>> {
    let yaml = fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
    parse(&yaml).with_context(|| format!("reading {}", path.display()))
}

fn parse(yaml: &str) -> Result<Vec<DynamicObject>> {
    let documents: Vec<Value> = serde_saphyr::from_multiple(yaml).context("this is not YAML")?;
    let mut objects = Vec::new();
    for document in documents {
        flatten(document, &mut objects)?;
    }
    Ok(objects)
}

fn flatten(document: Value, objects: &mut Vec<DynamicObject>) -> Result<()> {
    match document {
        // A template that rendered nothing.
        Value::Null => Ok(()),
        Value::Object(mut map) if map.get("kind").is_some_and(|kind| kind == "List") => {
            let Some(Value::Array(items)) = map.remove("items") else {
                bail!("a List has no items");
            };
            items
                .into_iter()
                .try_for_each(|item| flatten(item, objects))
        }
        document @ Value::Object(_) => {
            objects
                .push(serde_json::from_value(document).context("this is not a Kubernetes object")?);
            Ok(())
        }
        other => bail!("this is not a Kubernetes object: {other}"),
    }
}
