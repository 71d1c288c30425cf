//! Kinds of objects that evaluations read, and how an object becomes a fact.
//!
//! A kind is a Rust type that implements [`Fact`]: what of an object matters, and nothing else. Facts that are
//! equal lead to the same evaluation, so a change of anything else of the object costs none.

use std::any::TypeId;
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;

use jiff::Timestamp;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::erased::{Erased, downcast};

/// What of an object of one kind matters to an evaluation.
pub trait Fact: PartialEq + Debug + Send + Sync + Sized + 'static {
    /// Where the objects are, and how they are read.
    const KIND: KindSpec;

    /// The fact that an object is.
    fn parse(object: &Object<'_>) -> Parsed<Self>;

    /// Under what the fact can be found beside its name.
    fn index(&self, _: &mut Keys) {}
}

/// What came of parsing an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Parsed<F> {
    /// The fact.
    Fact(F),
    /// The object is of no interest.
    Ignored,
    /// A part of the object cannot be read; this is what remains, and what is wrong.
    Flawed(F, String),
    /// The object cannot be read; what was known of it before stays.
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
    /// Plural name: the one in URLs, in the permission, in `/readyz` and in metrics.
    pub plural: &'static str,
    /// Whether the objects are in namespaces.
    pub namespaced: bool,
    /// How much of an object is read.
    pub read: Read,
    /// Which objects are read.
    pub select: Select,
    /// Whether the operator is ready without it.
    pub need: Need,
    /// It is served everywhere, and counts as served where one of its objects is a fact.
    pub only_where_found: bool,
}

/// How much of an object is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Read {
    /// All of it.
    Whole,
    /// The metadata only: the API server sends nothing else.
    Metadata,
}

/// Which objects are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Select {
    /// All.
    All,
    /// Those of this name.
    Named(&'static str),
    /// Those that this label selector matches.
    Labelled(&'static str),
}

/// Whether the operator is ready without a kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// It has to be served, and readable.
    Always,
    /// Where it is served it has to be readable: nothing is evaluated before.
    WhereServed,
    /// What it would add is missing where it is not readable, and nothing else.
    Optional,
}

impl KindSpec {
    /// A kind whose objects are read whole, all of them, and have no namespace; needed where it is served.
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
            namespaced: false,
            read: Read::Whole,
            select: Select::All,
            need: Need::WhereServed,
            only_where_found: false,
        }
    }

    /// The same, in namespaces: objects are named `namespace/name`.
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

    /// The same, but these objects only.
    #[must_use]
    pub const fn select(self, select: Select) -> Self {
        Self { select, ..self }
    }

    /// The same, needed otherwise.
    #[must_use]
    pub const fn need(self, need: Need) -> Self {
        Self { need, ..self }
    }

    /// The same, but watched only where one of its objects is a fact: for a kind of Kubernetes itself.
    #[must_use]
    pub const fn only_where_found(self) -> Self {
        Self {
            only_where_found: true,
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
    /// The object that this JSON is, with the metadata that is in it.
    #[must_use]
    pub fn new(meta: &'a Meta, json: &'a str) -> Self {
        Self { meta, json }
    }

    /// Reads a type that has the fields that matter.
    ///
    /// # Errors
    /// When the object does not have them so.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T, String> {
        serde_json::from_str(self.json).map_err(|error| error.to_string())
    }
}

/// Metadata of an object, as far as it can matter.
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

    /// By what the object is known: its name, after its namespace where it has one.
    #[must_use]
    pub fn key(&self) -> Arc<str> {
        match &self.namespace {
            Some(namespace) => format!("{namespace}/{}", self.name).into(),
            None => self.name.as_str().into(),
        }
    }
}

/// Under what a fact, or a node, can be found: names of indexes, and keys in them.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Keys(Vec<(&'static str, Box<str>)>);

impl Keys {
    /// The fact can be found in `index` under `key`.
    pub fn add(&mut self, index: &'static str, key: &str) {
        self.0.push((index, key.into()));
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.0.iter().map(|(index, key)| (*index, &**key))
    }
}

/// A kind, whatever type its facts have.
#[derive(Debug, Clone, Copy)]
pub struct Kind {
    /// Where its objects are, and how they are read.
    pub spec: KindSpec,
    type_id: TypeId,
    parse: fn(&Object<'_>) -> Parsed<Arc<dyn Erased>>,
    index: fn(&dyn Erased) -> Keys,
}

impl Kind {
    /// The kind whose facts are of this type.
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

    /// The fact that an object is.
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
