//! Kinds of objects that evaluations read, and how an object becomes a fact.
//!
//! A kind is a Rust type that implements [`Fact`] and holds only the fields that matter. Equal facts give the same
//! evaluation, so a change of any other field causes no evaluation.

use std::any::TypeId;
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;

use jiff::Timestamp;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::erased::{Erased, downcast};

/// The fields of an object that matter to an evaluation.
pub trait Fact: PartialEq + Debug + Send + Sync + Sized + 'static {
    /// Where the objects are, and how they are read.
    const KIND: KindSpec;

    /// Parses an object.
    fn parse(object: &Object<'_>) -> Parsed<Self>;

    /// Adds the index keys of the fact, in addition to its name.
    fn index(&self, _: &mut Keys) {}
}

/// The result of parsing an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Parsed<F> {
    /// The fact.
    Fact(F),
    /// The object is of no interest.
    Ignored,
    /// A part of the object cannot be read: the rest, and the error.
    Flawed(F, String),
    /// The object cannot be read; its previous fact stays.
    Unreadable(String),
}

impl<F> Parsed<F> {
    fn map<T>(self, change: impl FnOnce(F) -> T) -> Parsed<T> {
        match self {
            Self::Fact(fact) => Parsed::Fact(change(fact)),
            Self::Ignored => Parsed::Ignored,
            Self::Flawed(fact, error) => Parsed::Flawed(change(fact), error),
            Self::Unreadable(error) => Parsed::Unreadable(error),
        }
    }
}

/// Where the objects of a kind are, and how they are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KindSpec {
    /// API group; empty for the core group.
    pub group: &'static str,
    /// Versions of the group, the preferred one first.
    pub versions: &'static [&'static str],
    /// Kind, in CamelCase.
    pub kind: &'static str,
    /// Plural name, as in URLs and RBAC rules.
    pub plural: &'static str,
    /// Name in `/readyz` and metrics, where the plural name says too little.
    pub alias: Option<&'static str>,
    /// Whether the objects are namespaced.
    pub namespaced: bool,
    /// How much of an object is read.
    pub read: Read,
    /// Which objects are read.
    pub select: Select,
    /// Whether the operator can be ready without the kind.
    pub need: Need,
    /// The kind is served on every cluster, and counts as served only where one of its objects is a fact.
    pub only_where_found: bool,
    /// The kind is served on every cluster, and counts as served only beside this kind; its full name.
    pub only_beside: Option<&'static str>,
    /// The kind is watched only while an evaluation reads it.
    pub only_while_read: bool,
}

/// How much of an object is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Read {
    /// All of it.
    Whole,
    /// The metadata only; the API server sends nothing else.
    Metadata,
}

/// Which objects are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Select {
    /// All.
    All,
    /// The objects of this name.
    Named(&'static str),
    /// One object.
    Object {
        /// Its namespace.
        namespace: &'static str,
        /// Its name.
        name: &'static str,
    },
    /// The objects that match this label selector.
    Labelled(&'static str),
    /// The objects on a node, by `spec.nodeName`, only while an evaluation of the node reads them. The kind is served by
    /// every cluster, and its facts have the index [`ON_NODE`].
    OnNode,
}

/// Index of facts by the node that they are on.
pub const ON_NODE: &str = "spec.nodeName";

/// Whether the operator can be ready without a kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// The kind must be served and readable.
    Always,
    /// Where the kind is served it must be readable; no node is evaluated before.
    WhereServed,
    /// Where the kind is not readable, only the details that it adds are missing.
    Optional,
}

impl KindSpec {
    /// A cluster-scoped kind whose objects are all read whole; required where it is served.
    #[must_use]
    pub const fn new(
        group: &'static str,
        versions: &'static [&'static str],
        kind: &'static str,
        plural: &'static str,
    ) -> Self {
        Self {
            group,
            versions,
            kind,
            plural,
            alias: None,
            namespaced: false,
            read: Read::Whole,
            select: Select::All,
            need: Need::WhereServed,
            only_where_found: false,
            only_beside: None,
            only_while_read: false,
        }
    }

    /// The same, namespaced: objects are named `namespace/name`.
    #[must_use]
    pub const fn namespaced(self) -> Self {
        Self {
            namespaced: true,
            ..self
        }
    }

    /// The same, with the metadata only.
    #[must_use]
    pub const fn metadata_only(self) -> Self {
        Self {
            read: Read::Metadata,
            ..self
        }
    }

    /// The same, limited to these objects.
    #[must_use]
    pub const fn select(self, select: Select) -> Self {
        Self { select, ..self }
    }

    /// The same, with another name in `/readyz` and metrics.
    #[must_use]
    pub const fn named(self, alias: &'static str) -> Self {
        Self {
            alias: Some(alias),
            ..self
        }
    }

    /// Name in `/readyz` and metrics.
    #[must_use]
    pub const fn label(&self) -> &'static str {
        match self.alias {
            Some(alias) => alias,
            None => self.plural,
        }
    }

    /// The same, with another [`Need`].
    #[must_use]
    pub const fn need(self, need: Need) -> Self {
        Self { need, ..self }
    }

    /// The same, but watched only where one of its objects is a fact; for built-in kinds of Kubernetes.
    #[must_use]
    pub const fn only_where_found(self) -> Self {
        Self {
            only_where_found: true,
            ..self
        }
    }

    /// The same, but watched only while an evaluation reads it.
    #[must_use]
    pub const fn only_while_read(self) -> Self {
        Self {
            only_while_read: true,
            ..self
        }
    }

    /// The same, but watched only where this other kind is served.
    #[must_use]
    pub const fn only_beside(self, full_name: &'static str) -> Self {
        Self {
            only_beside: Some(full_name),
            ..self
        }
    }

    /// Plural name and group, as in `nodeclaims.karpenter.sh`.
    #[must_use]
    pub fn full_name(&self) -> String {
        match self.group {
            "" => self.plural.to_owned(),
            group => format!("{}.{group}", self.plural),
        }
    }
}

/// An object as the API server sent it.
#[derive(Debug, Clone, Copy)]
pub struct Object<'a> {
    /// Its metadata.
    pub meta: &'a Meta,
    json: &'a str,
}

impl<'a> Object<'a> {
    /// An object from its JSON and the metadata parsed from it.
    #[must_use]
    pub fn new(meta: &'a Meta, json: &'a str) -> Self {
        Self { meta, json }
    }

    /// Deserializes the fields that `T` has.
    ///
    /// # Errors
    /// When the object does not match `T`.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T, String> {
        serde_json::from_str(self.json).map_err(|error| error.to_string())
    }
}

/// The metadata of an object that can matter.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Meta {
    /// `metadata.name`.
    pub name: String,
    /// `metadata.namespace`.
    pub namespace: Option<String>,
    /// `metadata.uid`.
    pub uid: String,
    /// `metadata.resourceVersion`.
    pub resource_version: String,
    /// `metadata.labels`.
    pub labels: Option<BTreeMap<String, String>>,
    /// `metadata.annotations`.
    pub annotations: Option<BTreeMap<String, String>>,
    /// `metadata.creationTimestamp`.
    pub creation_timestamp: Option<String>,
    /// `metadata.deletionTimestamp`.
    pub deletion_timestamp: Option<String>,
}

impl Meta {
    /// The value of a label.
    #[must_use]
    pub fn label(&self, key: &str) -> Option<&str> {
        self.labels.as_ref()?.get(key).map(String::as_str)
    }

    /// The value of an annotation.
    #[must_use]
    pub fn annotation(&self, key: &str) -> Option<&str> {
        self.annotations.as_ref()?.get(key).map(String::as_str)
    }

    /// When the object was created.
    #[must_use]
    pub fn created(&self) -> Option<Timestamp> {
        self.creation_timestamp.as_deref()?.parse().ok()
    }

    /// Whether the object is being deleted.
    #[must_use]
    pub fn is_deleting(&self) -> bool {
        self.deletion_timestamp.is_some()
    }

    /// `namespace/name`, or the name of a cluster-scoped object.
    #[must_use]
    pub fn key(&self) -> Arc<str> {
        match &self.namespace {
            Some(namespace) => format!("{namespace}/{}", self.name).into(),
            None => self.name.as_str().into(),
        }
    }
}

/// The index keys of a fact or a node: pairs of index name and key.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Keys(Vec<(&'static str, Box<str>)>);

impl Keys {
    /// Adds a key of `index`.
    pub fn add(&mut self, index: &'static str, key: &str) {
        self.0.push((index, key.into()));
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.0.iter().map(|(index, key)| (*index, &**key))
    }
}

/// A kind with the type of its facts erased.
#[derive(Debug, Clone, Copy)]
pub struct Kind {
    /// Where its objects are, and how they are read.
    pub spec: KindSpec,
    type_id: TypeId,
    parse: fn(&Object<'_>) -> Parsed<Arc<dyn Erased>>,
    index: fn(&dyn Erased) -> Keys,
}

impl Kind {
    /// The kind whose facts have this type.
    #[must_use]
    pub fn of<F: Fact>() -> Self {
        Self {
            spec: F::KIND,
            type_id: TypeId::of::<F>(),
            parse: |object| F::parse(object).map(|fact| Arc::new(fact) as Arc<dyn Erased>),
            index: |fact| {
                let mut keys = Keys::default();
                if let Some(fact) = downcast::<F>(fact) {
                    fact.index(&mut keys);
                }
                keys
            },
        }
    }

    /// Parses an object.
    #[must_use]
    pub fn parse(&self, object: &Object<'_>) -> Parsed<Arc<dyn Erased>> {
        (self.parse)(object)
    }

    /// Whether the other kind's facts are of the same type.
    #[must_use]
    pub fn is_same_type(&self, other: &Self) -> bool {
        self.type_id == other.type_id
    }

    pub(super) fn type_id(&self) -> TypeId {
        self.type_id
    }

    pub(super) fn keys(&self, fact: &dyn Erased) -> Keys {
        (self.index)(fact)
    }
}
