//! The resources that the API server serves, and its version.

use std::collections::HashMap;

use kube::api::ListParams;
use kube::core::{ApiResource, GroupVersionKind};
use kube::{Api, Client};

use super::objects::WatchedObject;
use crate::domain::fact::{Kind, KindSpec, ON_NODE, Parsed, Read, Select};

/// Objects per page of a list.
const PAGE_SIZE: u32 = 100;

/// The names of a kind in this version, as the API uses them.
#[must_use]
pub fn resource(kind: &KindSpec, version: &str) -> ApiResource {
    let gvk = GroupVersionKind::gvk(kind.group, version, kind.kind);
    ApiResource::from_gvk_with_plural(&gvk, kind.plural)
}

/// The preferred served version of each kind; `None` where none is served.
///
/// # Errors
/// When the API server does not answer.
pub async fn served(client: &Client, kinds: &[Kind]) -> kube::Result<Vec<Option<&'static str>>> {
    let groups = client.list_api_groups().await?.groups;
    let serves_version = |group: &str, version: &str| {
        group.is_empty()
            || groups.iter().any(|served| {
                served.name == group && served.versions.iter().any(|each| each.version == version)
            })
    };
    // A group may be served without this resource, when the CRDs of its group are from another project.
    let mut resources: HashMap<String, Vec<String>> = HashMap::new();
    let mut found = Vec::with_capacity(kinds.len());
    for kind in kinds {
        let spec = &kind.spec;
        let mut version = None;
        for candidate in spec.versions {
            if !serves_version(spec.group, candidate) {
                continue;
            }
            let name = if spec.group.is_empty() {
                (*candidate).to_owned()
            } else {
                format!("{}/{candidate}", spec.group)
            };
            if !resources.contains_key(&name) {
                let list = if spec.group.is_empty() {
                    client.list_core_api_resources(&name).await?
                } else {
                    client.list_api_group_resources(&name).await?
                };
                let names = list.resources.into_iter().map(|each| each.name).collect();
                resources.insert(name.clone(), names);
            }
            if resources[&name].iter().any(|each| each == spec.plural) {
                version = Some(*candidate);
                break;
            }
        }
        if let Some(served) = version
            && spec.only_where_found
            && !is_found(client, kind, served).await?
        {
            version = None;
        }
        found.push(version);
    }
    let is_served = |name: &str| {
        let mut all = kinds.iter().zip(&found);
        all.any(|(kind, version)| kind.spec.full_name() == name && version.is_some())
    };
    let is_alone = |kind: &Kind| kind.spec.only_beside.is_some_and(|name| !is_served(name));
    let alone: Vec<bool> = kinds.iter().map(is_alone).collect();
    for (version, is_alone) in found.iter_mut().zip(alone) {
        *version = version.filter(|_| !is_alone);
    }
    Ok(found)
}

/// Whether one of the objects is a fact. A missing permission is reported by the watch.
async fn is_found(client: &Client, kind: &Kind, version: &str) -> kube::Result<bool> {
    let found = match kind.spec.read {
        Read::Whole => is_found_in(&api::<false>(client.clone(), &kind.spec, version), kind).await,
        Read::Metadata => {
            is_found_in(&api::<true>(client.clone(), &kind.spec, version), kind).await
        }
    };
    match found {
        Err(kube::Error::Api(status)) if status.code == 403 => Ok(true),
        found => found,
    }
}

/// The objects of a kind, in its namespace if it has one.
#[must_use]
pub fn api<const METADATA: bool>(
    client: Client,
    kind: &KindSpec,
    version: &str,
) -> Api<WatchedObject<METADATA>> {
    let resource = resource(kind, version);
    match kind.select {
        Select::Object { namespace, .. } => Api::namespaced_with(client, namespace, &resource),
        Select::All | Select::Named(_) | Select::Labelled(_) | Select::OnNode => {
            Api::all_with(client, &resource)
        }
    }
}

/// Selects the objects of a kind that are of interest, in a list of them all.
#[must_use]
pub fn selection(kind: &KindSpec) -> ListParams {
    let params = ListParams::default();
    match kind.select {
        Select::All => params,
        Select::OnNode => params.fields(&format!("{ON_NODE}!=")),
        Select::Named(name) | Select::Object { name, .. } => {
            params.fields(&format!("metadata.name={name}"))
        }
        Select::Labelled(selector) => params.labels(selector),
    }
}

async fn is_found_in<const METADATA: bool>(
    api: &Api<WatchedObject<METADATA>>,
    kind: &Kind,
) -> kube::Result<bool> {
    let mut params = selection(&kind.spec).limit(PAGE_SIZE);
    loop {
        let page = api.list(&params).await?;
        let mut facts = page.items.iter().map(|object| kind.parse(&object.object()));
        if facts.any(|fact| matches!(fact, Parsed::Fact(_) | Parsed::Flawed(..))) {
            return Ok(true);
        }
        let Some(next) = page.metadata.continue_.filter(|next| !next.is_empty()) else {
            return Ok(false);
        };
        params = params.continue_token(&next);
    }
}

/// The version of the API server, as in `v1.36.3`.
///
/// # Errors
/// When the API server does not answer.
pub async fn api_server_version(client: &Client) -> kube::Result<String> {
    Ok(client.apiserver_version().await?.git_version)
}
