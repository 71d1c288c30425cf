//! A Node as JSON, and the fields that are retained.

use std::sync::Arc;

use serde::Deserialize;

use super::WatchedNode;
use super::meta::{RawManager, RawMeta, Text, Texts};
use crate::domain::labels::Labels;
use crate::domain::node::NodeObject;
use crate::domain::rows::Rows;

#[derive(Deserialize)]
pub(super) struct RawNode<'a> {
    #[serde(borrow)]
    metadata: RawMeta<'a>,
    #[serde(default, borrow)]
    spec: Option<RawSpec<'a>>,
    #[serde(default, borrow)]
    status: Option<RawStatus<'a>>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase")]
struct RawSpec<'a> {
    #[serde(default)]
    unschedulable: Option<bool>,
    #[serde(default, borrow, rename = "providerID")]
    provider_id: Option<Text<'a>>,
    #[serde(default, borrow)]
    taints: Option<Vec<RawTaint<'a>>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawTaint<'a> {
    #[serde(default, borrow)]
    key: Text<'a>,
    #[serde(default, borrow)]
    value: Option<Text<'a>>,
    #[serde(default, borrow)]
    effect: Option<Text<'a>>,
    #[serde(default, borrow)]
    time_added: Option<Text<'a>>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase")]
struct RawStatus<'a> {
    #[serde(default, borrow)]
    conditions: Option<Vec<RawCondition<'a>>>,
    #[serde(default, borrow)]
    node_info: Option<RawNodeInfo<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawCondition<'a> {
    #[serde(default, borrow, rename = "type")]
    type_: Text<'a>,
    #[serde(default, borrow)]
    status: Text<'a>,
    #[serde(default, borrow)]
    reason: Option<Text<'a>>,
    #[serde(default, borrow)]
    last_transition_time: Option<Text<'a>>,
    #[serde(default, borrow)]
    message: Option<Text<'a>>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase")]
struct RawNodeInfo<'a> {
    #[serde(default, borrow)]
    kubelet_version: Option<Text<'a>>,
    #[serde(default, borrow, rename = "bootID")]
    boot_id: Option<Text<'a>>,
    #[serde(default, borrow)]
    os_image: Option<Text<'a>>,
}

impl From<RawNode<'_>> for WatchedNode {
    fn from(raw: RawNode<'_>) -> Self {
        let metadata = raw.metadata.to_object_meta();
        let (spec, status) = (raw.spec.unwrap_or_default(), raw.status.unwrap_or_default());
        let info = status.node_info.unwrap_or_default();
        let owners = raw.metadata.owner_references.as_deref().unwrap_or_default();
        let taints = spec.taints.as_deref().unwrap_or_default();
        let conditions = status.conditions.as_deref().unwrap_or_default();
        let is_cordoned = spec.unschedulable == Some(true);
        let managers = is_cordoned.then(|| raw.metadata.managers());
        let cordon = managers.as_deref().and_then(cordon_manager);
        let node = NodeObject {
            name: Arc::from(&*raw.metadata.name),
            uid: Arc::from(&*raw.metadata.uid),
            labels: labels(raw.metadata.labels.as_ref()),
            annotations: labels(raw.metadata.annotations.as_ref()),
            owners: Rows::new(owners.iter().map(|owner| {
                [
                    text(owner.api_version.as_ref()),
                    text(owner.kind.as_ref()),
                    text(owner.name.as_ref()),
                ]
            })),
            created: text(raw.metadata.creation_timestamp.as_ref()).parse().ok(),
            deleting: raw.metadata.deletion_timestamp.is_some(),
            cordon_manager: text(cordon.and_then(|cordon| cordon.manager.as_ref())).into(),
            cordon_time: text(cordon.and_then(|cordon| cordon.time.as_ref())).into(),
            provider_id: text(spec.provider_id.as_ref()).into(),
            unschedulable: spec.unschedulable.unwrap_or_default(),
            taints: Rows::new(taints.iter().map(|taint| {
                let RawTaint {
                    key,
                    value,
                    effect,
                    time_added,
                } = taint;
                [
                    key,
                    text(value.as_ref()),
                    text(effect.as_ref()),
                    text(time_added.as_ref()),
                ]
            })),
            kubelet_version: text(info.kubelet_version.as_ref()).into(),
            boot_id: text(info.boot_id.as_ref()).into(),
            os_image: text(info.os_image.as_ref()).into(),
            conditions: Rows::new(conditions.iter().map(|condition| {
                let RawCondition {
                    type_,
                    status,
                    reason,
                    last_transition_time,
                    message,
                } = condition;
                let (since, message) =
                    (text(last_transition_time.as_ref()), text(message.as_ref()));
                [type_, status, text(reason.as_ref()), since, message]
            })),
        };
        Self { metadata, node }
    }
}

/// The writer that set `spec.unschedulable`.
fn cordon_manager<'a>(managers: &'a [RawManager<'a>]) -> Option<&'a RawManager<'a>> {
    managers.iter().find(|manager| {
        let fields = manager.fields_v1.as_ref();
        let spec = fields.and_then(|fields| fields.spec.as_ref());
        spec.is_some_and(|spec| spec.unschedulable.is_some())
    })
}

fn text<'a>(field: Option<&'a Text<'_>>) -> &'a str {
    field.map(|text| &**text).unwrap_or_default()
}

fn labels(texts: Option<&Texts<'_>>) -> Labels {
    let texts = texts.into_iter().flatten();
    Labels::new(texts.map(|(key, value)| (&**key, &**value)))
}
