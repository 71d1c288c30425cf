//! The metadata of an object, as far as it is needed.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Deref;

use kube::api::ObjectMeta;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

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
    /// Up to half of an object; read only if it is needed.
    #[serde(default)]
    pub(super) managed_fields: Option<Box<RawValue>>,
    #[serde(default, borrow)]
    pub(super) owner_references: Option<Vec<RawOwner<'a>>>,
}

impl RawMeta<'_> {
    /// The writers of the object; none if they cannot be read.
    pub(super) fn managers(&self) -> Vec<RawManager<'_>> {
        let managers = self.managed_fields.as_ref();
        let managers = managers.and_then(|json| serde_json::from_str(json.get()).ok());
        managers.unwrap_or_default()
    }

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
