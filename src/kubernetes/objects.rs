//! Watched objects: parsed in one pass, and only what matters is retained.
//!
//! Parsing a whole Node takes 44 µs and 61 KB, mostly for images and managed fields; parsing this subset takes a
//! fraction. Text is borrowed from the JSON until it is needed: most Nodes that arrive are heartbeats, and nothing
//! of them is retained. No value that an API server can store makes parsing fail.

use std::borrow::Cow;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Node;
use kube::Resource;
use kube::api::ObjectMeta;
use kube::core::{ApiResource, DynamicResourceScope};
use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use self::meta::RawMeta;
use self::node::RawNode;
use crate::api::insight::{Insight, InsightStatus};
use crate::domain::fact::{Meta, Object};
use crate::domain::node::NodeObject;

mod meta;
mod node;

/// A watched Node.
#[derive(Debug, Clone)]
pub struct WatchedNode {
    metadata: ObjectMeta,
    node: NodeObject,
}

impl<'de> Deserialize<'de> for WatchedNode {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        RawNode::deserialize(deserializer).map(Self::from)
    }
}

impl WatchedNode {
    /// The retained fields and the resource version.
    #[must_use]
    pub fn into_parts(self) -> (NodeObject, String) {
        (
            self.node,
            self.metadata.resource_version.unwrap_or_default(),
        )
    }
}

/// An object of a kind that a provider reads; with `METADATA` only its metadata, which is all that the API server
/// sends then. Its name is the key of its facts: `namespace/name`, or `name` without a namespace.
#[derive(Debug, Clone)]
pub struct WatchedObject<const METADATA: bool> {
    metadata: ObjectMeta,
    meta: Meta,
    json: Box<RawValue>,
}

impl<'de, const METADATA: bool> Deserialize<'de> for WatchedObject<METADATA> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Outer {
            #[serde(default)]
            metadata: Meta,
        }
        let json = Box::<RawValue>::deserialize(deserializer)?;
        let outer: Outer = serde_json::from_str(json.get()).map_err(D::Error::custom)?;
        let meta = outer.metadata;
        let metadata = ObjectMeta {
            name: Some(meta.key().to_string()),
            uid: Some(meta.uid.clone()),
            resource_version: Some(meta.resource_version.clone()),
            ..ObjectMeta::default()
        };
        Ok(Self {
            metadata,
            meta,
            json,
        })
    }
}

impl<const METADATA: bool> WatchedObject<METADATA> {
    /// The object, from which a provider derives a fact.
    #[must_use]
    pub fn object(&self) -> Object<'_> {
        Object::new(&self.meta, self.json.get())
    }
}

impl<const METADATA: bool> Resource for WatchedObject<METADATA> {
    type DynamicType = ApiResource;
    type Scope = DynamicResourceScope;

    fn metadata_api() -> bool {
        METADATA
    }

    fn kind(resource: &ApiResource) -> Cow<'_, str> {
        resource.kind.as_str().into()
    }
    fn group(resource: &ApiResource) -> Cow<'_, str> {
        resource.group.as_str().into()
    }
    fn version(resource: &ApiResource) -> Cow<'_, str> {
        resource.version.as_str().into()
    }
    fn plural(resource: &ApiResource) -> Cow<'_, str> {
        resource.plural.as_str().into()
    }
    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }
    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

/// A watched insight.
#[derive(Debug, Clone)]
pub struct WatchedInsight<S> {
    metadata: ObjectMeta,
    /// UID of the object that owns it.
    pub owner_uid: Option<Arc<str>>,
    /// Its status; `None` when there is none, or this version cannot read it.
    pub status: Option<S>,
    /// There is a status, but it cannot be read.
    pub unreadable: bool,
}

impl<'de, S: DeserializeOwned> Deserialize<'de> for WatchedInsight<S> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        RawInsight::deserialize(deserializer).map(Self::from)
    }
}

impl<S> WatchedInsight<S> {
    /// Its metadata: name, UID, resource version and generation.
    #[must_use]
    pub fn metadata(&self) -> &ObjectMeta {
        &self.metadata
    }
}

macro_rules! resource_like {
    ([$($generics:tt)*] $type:ty => $like:ty) => {
        impl<$($generics)*> Resource for $type {
            type DynamicType = ();
            type Scope = <$like as Resource>::Scope;

            fn kind((): &()) -> Cow<'_, str> {
                <$like as Resource>::kind(&())
            }
            fn group((): &()) -> Cow<'_, str> {
                <$like as Resource>::group(&())
            }
            fn version((): &()) -> Cow<'_, str> {
                <$like as Resource>::version(&())
            }
            fn plural((): &()) -> Cow<'_, str> {
                <$like as Resource>::plural(&())
            }
            fn meta(&self) -> &ObjectMeta {
                &self.metadata
            }
            fn meta_mut(&mut self) -> &mut ObjectMeta {
                &mut self.metadata
            }
        }
    };
}

resource_like!([] WatchedNode => Node);
resource_like!([S: InsightStatus] WatchedInsight<S> => Insight<S>);

#[derive(Deserialize)]
#[serde(bound(deserialize = "S: DeserializeOwned"))]
struct RawInsight<'a, S> {
    #[serde(borrow)]
    metadata: RawMeta<'a>,
    #[serde(default = "absent")]
    status: Lenient<S>,
}

fn absent<S>() -> Lenient<S> {
    Lenient::Absent
}

/// A value of an unexpected type does not invalidate the surrounding object.
enum Lenient<S> {
    Absent,
    Readable(S),
    Unreadable,
}

impl<'de, S: DeserializeOwned> Deserialize<'de> for Lenient<S> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = serde_json::Value::deserialize(deserializer)?;
        if value.is_null() {
            return Ok(Self::Absent);
        }
        Ok(serde_json::from_value(value).map_or(Self::Unreadable, Self::Readable))
    }
}

impl<S> From<RawInsight<'_, S>> for WatchedInsight<S> {
    fn from(raw: RawInsight<'_, S>) -> Self {
        let (status, unreadable) = match raw.status {
            Lenient::Absent => (None, false),
            Lenient::Readable(status) => (Some(status), false),
            Lenient::Unreadable => (None, true),
        };
        Self {
            metadata: raw.metadata.to_object_meta(),
            owner_uid: raw
                .metadata
                .owner_references
                .iter()
                .flatten()
                .next()
                .map(|owner| Arc::from(&*owner.uid)),
            status,
            unreadable,
        }
    }
}

#[cfg(test)]
mod tests;
