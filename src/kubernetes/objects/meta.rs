//! The metadata of an object, as far as it is needed.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Deref;

use kube::api::ObjectMeta;
use serde::Deserialize;
use serde::de::IgnoredAny;

/// Text of the object, borrowed unless it has escapes.
#[derive(Deserialize, Default, PartialEq, Eq, PartialOrd, Ord)]
#[serde(transparent)]
pub(super) struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

impl Deref for Text<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

/// Labels or annotations.
pub(super) type Texts<'a> = BTreeMap<Text<'a>, Text<'a>>;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct RawMeta<'a> {
    #[serde(default, borrow)]
    pub(super) name: Text<'a>,
    #[serde(default, borrow)]
    pub(super) uid: Text<'a>,
    #[serde(default, borrow)]
    pub(super) resource_version: Text<'a>,
    #[serde(default)]
    pub(super) generation: Option<i64>,
    #[serde(default, borrow)]
    pub(super) labels: Option<Texts<'a>>,
    #[serde(default, borrow)]
    pub(super) annotations: Option<Texts<'a>>,
    #[serde(default, borrow)]
    pub(super) creation_timestamp: Option<Text<'a>>,
    #[serde(default, borrow)]
    pub(super) deletion_timestamp: Option<Text<'a>>,
    #[serde(default, borrow)]
    pub(super) managed_fields: Option<Vec<RawManager<'a>>>,
    #[serde(default, borrow)]
    pub(super) owner_references: Option<Vec<RawOwner<'a>>>,
}

impl RawMeta<'_> {
    pub(super) fn to_object_meta(&self) -> ObjectMeta {
        ObjectMeta {
            name: Some((*self.name).to_owned()),
            uid: Some((*self.uid).to_owned()),
            resource_version: Some((*self.resource_version).to_owned()),
            generation: self.generation,
            ..ObjectMeta::default()
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct RawOwner<'a> {
    #[serde(borrow)]
    pub(super) uid: Text<'a>,
    #[serde(default, borrow)]
    pub(super) api_version: Option<Text<'a>>,
    #[serde(default, borrow)]
    pub(super) kind: Option<Text<'a>>,
    #[serde(default, borrow)]
    pub(super) name: Option<Text<'a>>,
}

/// One writer of an object, and the fields that it set, as far as they are needed.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct RawManager<'a> {
    #[serde(default, borrow)]
    pub(super) manager: Option<Text<'a>>,
    #[serde(default, borrow)]
    pub(super) time: Option<Text<'a>>,
    #[serde(default)]
    pub(super) fields_v1: Option<RawFields>,
}

#[derive(Deserialize)]
pub(super) struct RawFields {
    #[serde(default, rename = "f:spec")]
    pub(super) spec: Option<RawSpecFields>,
}

#[derive(Deserialize)]
pub(super) struct RawSpecFields {
    #[serde(default, rename = "f:unschedulable")]
    pub(super) unschedulable: Option<IgnoredAny>,
}
