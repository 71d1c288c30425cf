//! Reconciles one object of the server with the dump.
//!
//! Create or replace, then PUT the status with the returned resourceVersion. Where a replacement is
//! rejected because a field is immutable (podCIDR, providerID) or may only grow, the object is deleted
//! and recreated: only the end state matters.

use std::collections::BTreeSet;

use anyhow::{Result, anyhow};
use futures::stream::{self, StreamExt, TryStreamExt};
use kube::api::{Api, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use kube::core::PartialObjectMeta;
use kube::{Client, ResourceExt};
use serde_json::{Value, json};

use super::dump::Object;
use super::kind::Kind;
use super::{IN_FLIGHT, nulls};

/// A conflict means that another client writes too; more than this many in a row is an error.
const ATTEMPTS: usize = 5;

/// Holds a node that is being deleted in the dump, when it has no finalizer there.
const FINALIZER: &str = "harness.nodeinsights.dev/terminating";

/// The page size of a list: small enough for `MachineConfig`s of 200 KB.
const PAGE: u32 = 100;

/// Brings one object to the desired state. `schema` is the kind's structural schema, if it has one.
///
/// # Errors
/// When the server rejects it: names the file, the object and the fields.
pub async fn reconcile(client: &Client, object: &Object, schema: Option<&Value>) -> Result<()> {
    let mut desired = object.value.clone();
    if let Some(schema) = schema {
        nulls::drop_forbidden(&mut desired.data, schema);
    }
    if object.terminating && desired.finalizers().is_empty() {
        desired.finalizers_mut().push(FINALIZER.to_owned());
    }
    let target = Target {
        api: Api::all_with(client.clone(), &object.kind.resource()),
        kind: object.kind,
        terminating: object.terminating,
        desired,
    };
    let mut attempt = 1;
    loop {
        match target.reconcile().await {
            Err(kube::Error::Api(status)) if status.code == 409 && attempt < ATTEMPTS => {
                attempt += 1;
            }
            Err(error) => return Err(explain(object, &error)),
            Ok(()) => return Ok(()),
        }
    }
}

/// Removes the objects of a kind that are not among `objects`; returns how many.
///
/// # Errors
/// When the server does not list or delete them.
pub async fn remove_others(client: &Client, kind: Kind, objects: &[Object]) -> Result<usize> {
    let mine = objects.iter().filter(|object| object.kind == kind);
    let desired: BTreeSet<String> = mine.map(|object| object.value.name_any()).collect();
    let api: Api<DynamicObject> = Api::all_with(client.clone(), &kind.resource());
    let names = names(&api).await?;
    stream::iter(names.into_iter().filter(|name| !desired.contains(name)))
        .map(|name| {
            let api = api.clone();
            async move { remove(&api, &name).await.map_err(anyhow::Error::from) }
        })
        .buffer_unordered(IN_FLIGHT)
        .try_fold(0, |count, ()| async move { Ok(count + 1) })
        .await
}

async fn names(api: &Api<DynamicObject>) -> kube::Result<Vec<String>> {
    let mut names = Vec::new();
    let mut params = ListParams::default().limit(PAGE);
    loop {
        let page = api.list_metadata(&params).await?;
        names.extend(page.items.iter().map(PartialObjectMeta::name_any));
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => params = params.continue_token(&token),
            None => return Ok(names),
        }
    }
}

/// Deletes an object, and removes its finalizers if it has any.
async fn remove(api: &Api<DynamicObject>, name: &str) -> kube::Result<()> {
    let has_finalizers = match api
        .delete(name, &DeleteParams::background().grace_period(0))
        .await
    {
        Ok(answer) => answer
            .left()
            .is_some_and(|object| !object.finalizers().is_empty()),
        Err(kube::Error::Api(status)) if status.code == 404 => false,
        Err(error) => return Err(error),
    };
    if !has_finalizers {
        return Ok(());
    }
    let patch = Patch::Merge(json!({"metadata": {"finalizers": null}}));
    match api
        .patch_metadata(name, &PatchParams::default(), &patch)
        .await
    {
        Err(kube::Error::Api(status)) if status.code != 404 => Err(kube::Error::Api(status)),
        Ok(_) | Err(kube::Error::Api(_)) => Ok(()),
        Err(error) => Err(error),
    }
}

struct Target {
    api: Api<DynamicObject>,
    kind: Kind,
    terminating: bool,
    desired: DynamicObject,
}

impl Target {
    async fn reconcile(&self) -> kube::Result<()> {
        let name = self.desired.name_any();
        let mut existing = self.api.get_opt(&name).await?;
        // A deletion cannot be undone, and finalizers cannot be added meanwhile.
        if existing
            .as_ref()
            .is_some_and(|live| live.metadata.deletion_timestamp.is_some())
        {
            remove(&self.api, &name).await?;
            existing = None;
        }
        if let Some(existing) = existing {
            match self.update(&existing).await {
                Err(kube::Error::Api(status)) if status.is_invalid() => {
                    remove(&self.api, &name).await?;
                }
                Err(error) => return Err(error),
                Ok(()) => return self.terminate(&name).await,
            }
        }
        let created = self
            .api
            .create(&PostParams::default(), &self.desired)
            .await?;
        let same_taints = taints(&created) == taints(&self.desired);
        // Admission taints every new node as not ready; restore the taints of the dump.
        let live = if self.kind == Kind::Node && !same_taints {
            self.replace(&created).await?
        } else {
            created
        };
        if self.kind.has_status() && !contains(&live.data["status"], &self.desired.data["status"]) {
            self.replace_status(&live).await?;
        }
        self.terminate(&name).await
    }

    /// Replaces the object and its status.
    async fn update(&self, existing: &DynamicObject) -> kube::Result<()> {
        let live = self.replace(existing).await?;
        if self.kind.has_status() && live.data.get("status") != self.desired.data.get("status") {
            self.replace_status(&live).await?;
        }
        Ok(())
    }

    async fn replace(&self, live: &DynamicObject) -> kube::Result<DynamicObject> {
        let name = self.desired.name_any();
        self.api
            .replace(&name, &PostParams::default(), &self.at(live))
            .await
    }

    async fn replace_status(&self, live: &DynamicObject) -> kube::Result<DynamicObject> {
        let name = self.desired.name_any();
        self.api
            .replace_status(&name, &PostParams::default(), &self.at(live))
            .await
    }

    /// Deletes the object if it was being deleted in the dump: its finalizer contains it.
    async fn terminate(&self, name: &str) -> kube::Result<()> {
        if self.terminating {
            self.api.delete(name, &DeleteParams::default()).await?;
        }
        Ok(())
    }

    /// The desired object with the resourceVersion of the live one.
    fn at(&self, live: &DynamicObject) -> DynamicObject {
        let mut object = self.desired.clone();
        object.metadata.resource_version = live.resource_version();
        object
    }
}

fn taints(object: &DynamicObject) -> &[Value] {
    let taints = object.data["spec"]["taints"].as_array();
    taints.map_or(&[], Vec::as_slice)
}

/// Whether `live` contains all of `desired`. The server adds empty fields and omits empty ones.
fn contains(live: &Value, desired: &Value) -> bool {
    match desired {
        Value::Object(fields) => fields
            .iter()
            .all(|(key, desired)| contains(&live[key], desired)),
        Value::Array(items) => {
            let live = live.as_array().map_or(&[][..], Vec::as_slice);
            live.len() == items.len()
                && live
                    .iter()
                    .zip(items)
                    .all(|(live, desired)| contains(live, desired))
        }
        Value::Null => live.is_null(),
        Value::String(text) if text.is_empty() => live.is_null() || live == desired,
        Value::Bool(_) | Value::Number(_) | Value::String(_) => live == desired,
    }
}

/// One line: file, object, and each field with its error.
fn explain(object: &Object, error: &kube::Error) -> anyhow::Error {
    let what = match error {
        kube::Error::Api(status) => {
            let causes = status.details.iter().flat_map(|details| &details.causes);
            // A cause without a field only means that validation stopped early.
            let fields: Vec<String> = causes
                .filter(|cause| !matches!(cause.field.as_str(), "" | "<nil>"))
                .map(|cause| format!("{}: {}", cause.field, cause.message))
                .collect();
            if fields.is_empty() {
                status.message.clone()
            } else {
                fields.join("; ")
            }
        }
        other => other.to_string(),
    };
    anyhow!(
        "{}: {} {}: {what}",
        object.origin,
        object.kind,
        object.value.name_any()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_field_that_the_server_omits_is_contained_and_another_value_is_not() {
        let live = json!({"a": 1, "more": "", "list": [{"x": 1, "y": 2}]});
        assert!(contains(
            &live,
            &json!({"a": 1, "gone": "", "list": [{"x": 1}], "none": {}})
        ));
        assert!(!contains(&live, &json!({"a": 2})));
        assert!(!contains(&live, &json!({"list": []})));
    }
}
