//! Parses the files of a dump into objects that an API server accepts.
//!
//! Accepts what real tools print: one object, several documents, `kind: List`, typed lists whose items
//! lack apiVersion and kind. Fields set by the dumped cluster's API server are stripped.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context, Result, anyhow, bail};
use kube::ResourceExt;
use kube::api::DynamicObject;
use serde_json::{Map, Value};

use super::kind::Kind;

/// Fields that the other server set, or that make no sense in this one. Owners are not loaded, so the
/// garbage collector would remove objects that refer to them.
const SERVER_FIELDS: [&str; 8] = [
    "uid",
    "resourceVersion",
    "managedFields",
    "ownerReferences",
    "generation",
    "selfLink",
    "creationTimestamp",
    "deletionGracePeriodSeconds",
];

/// One object to load.
#[derive(Debug, Clone)]
pub struct Object {
    /// Its kind.
    pub kind: Kind,
    /// The file that it comes from, for messages.
    pub origin: String,
    /// Whether it had a deletionTimestamp.
    pub terminating: bool,
    /// The object without the fields that a server sets.
    pub value: DynamicObject,
}

/// The content of a dump's folder.
#[derive(Debug, Clone, Default)]
pub struct Dump {
    /// The objects, in the order of the files.
    pub objects: Vec<Object>,
    /// Notes for the user: missing files, skipped documents.
    pub notes: Vec<String>,
}

/// Reads the four files in `dir`. Only `node.yaml` is required: a plain Kubernetes cluster has no more
/// than that.
///
/// # Errors
/// When `dir` or `node.yaml` is missing, when a file is not YAML, when an object has no name, and when
/// two objects of a kind have the same name.
pub fn read(dir: &Path) -> Result<Dump> {
    if !dir.is_dir() {
        bail!("{} is not a folder", dir.display());
    }
    let mut dump = Dump::default();
    for kind in Kind::ALL {
        let path = dir.join(kind.file());
        match std::fs::read_to_string(&path) {
            Ok(text) => {
                parse(&text, kind, &mut dump).with_context(|| path.display().to_string())?;
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && kind != Kind::Node => {
                dump.notes
                    .push(format!("{} is missing: loading no {kind}", path.display()));
            }
            Err(error) => return Err(anyhow!("Cannot read {}: {error}", path.display())),
        }
    }
    let mut seen = BTreeSet::new();
    for object in &dump.objects {
        let name = object.value.name_any();
        if !seen.insert((object.kind, name.clone())) {
            bail!("{}: duplicate {} {name}", object.origin, object.kind);
        }
    }
    Ok(dump)
}

/// Adds the objects of one file's text; `default` is the kind of items without one.
///
/// # Errors
/// When the text is not YAML, or contains something other than objects.
pub fn parse(text: &str, default: Kind, dump: &mut Dump) -> Result<()> {
    // No budget: dumps of thousands of nodes are large. Kubernetes quotes what YAML 1.1 would read as
    // a boolean, so only true and false are booleans.
    let options = serde_saphyr::options! { budget: None, strict_booleans: true };
    let documents: Vec<Value> = serde_saphyr::from_multiple_with_options(text, options)?;
    for document in documents {
        flatten(document, default, dump)?;
    }
    Ok(())
}

fn flatten(document: Value, default: Kind, dump: &mut Dump) -> Result<()> {
    let mut document = match document {
        Value::Null => return Ok(()),
        Value::Object(map) => map,
        other => bail!(
            "an object was expected, not {}",
            shorten(&other.to_string())
        ),
    };
    let kind = text(&document, "kind").unwrap_or_default();
    let Some(list_of) = kind.strip_suffix("List") else {
        return add(document, default, dump);
    };
    let default = Kind::of(list_of).unwrap_or(default);
    match document.remove("items") {
        None | Some(Value::Null) => Ok(()),
        Some(Value::Array(items)) => items
            .into_iter()
            .try_for_each(|item| flatten(item, default, dump)),
        Some(_) => bail!("items of the {kind} is not a list"),
    }
}

fn add(mut map: Map<String, Value>, default: Kind, dump: &mut Dump) -> Result<()> {
    let named = text(&map, "kind");
    let kind = match &named {
        None => Some(default),
        Some(name) => Kind::of(name),
    };
    let api = text(&map, "apiVersion");
    let kind = kind.filter(|kind| {
        api.as_ref()
            .is_none_or(|api| group(api) == group(kind.api_version()))
    });
    let Some(kind) = kind else {
        let what = format!("{} {}", api.unwrap_or_default(), named.unwrap_or_default());
        let note = format!(
            "{}: skipping objects of kind {}",
            default.file(),
            what.trim()
        );
        if !dump.notes.contains(&note) {
            dump.notes.push(note);
        }
        return Ok(());
    };
    map.insert("apiVersion".to_owned(), kind.api_version().into());
    map.insert("kind".to_owned(), kind.name().into());
    // Null at the top level means absent, whatever the schema.
    map.retain(|_, value| !value.is_null());

    let metadata = map
        .get_mut("metadata")
        .and_then(Value::as_object_mut)
        .with_context(|| format!("a {kind} without metadata"))?;
    for field in SERVER_FIELDS {
        metadata.remove(field);
    }
    super::nulls::drop_all(metadata);
    let terminating = metadata.remove("deletionTimestamp").is_some();
    let name = text(metadata, "name").filter(|name| !name.is_empty());
    let name = name.with_context(|| format!("a {kind} without metadata.name"))?;
    let value =
        serde_json::from_value(Value::Object(map)).with_context(|| format!("{kind} {name}"))?;
    dump.objects.push(Object {
        kind,
        origin: default.file().to_owned(),
        terminating,
        value,
    });
    Ok(())
}

fn text(map: &Map<String, Value>, key: &str) -> Option<String> {
    map.get(key).and_then(Value::as_str).map(str::to_owned)
}

fn group(api_version: &str) -> &str {
    api_version.split_once('/').map_or("", |(group, _)| group)
}

fn shorten(text: &str) -> String {
    text.chars().take(40).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str, kind: Kind) -> Dump {
        let mut dump = Dump::default();
        parse(text, kind, &mut dump).unwrap();
        dump
    }

    #[test]
    fn items_of_a_typed_list_get_the_kind_of_the_list() {
        let dump = parsed(
            "apiVersion: v1\nkind: NodeList\nitems:\n- metadata: {name: a, creationTimestamp: null}\n  status: null\n",
            Kind::Node,
        );
        assert_eq!(dump.objects.len(), 1);
        let types = dump.objects[0].value.types.clone().unwrap();
        assert_eq!(
            (types.api_version.as_str(), types.kind.as_str()),
            ("v1", "Node")
        );
        assert_eq!(dump.objects[0].value.data, serde_json::json!({}));
    }

    #[test]
    fn fields_set_by_another_server_are_stripped_and_a_deletion_is_remembered() {
        let dump = parsed(
            "kind: Node\nmetadata:\n  name: a\n  uid: x\n  resourceVersion: '1'\n  deletionTimestamp: '2024-02-07T16:00:47Z'\n  ownerReferences: [{name: o}]\n  labels: null\n",
            Kind::Node,
        );
        let object = &dump.objects[0];
        assert!(object.terminating);
        let metadata = serde_json::to_value(&object.value.metadata).unwrap();
        assert_eq!(metadata, serde_json::json!({"name": "a"}));
    }

    #[test]
    fn documents_of_other_kinds_are_skipped() {
        let dump = parsed(
            "kind: Node\nmetadata: {name: a}\n---\n---\napiVersion: v1\nkind: Pod\nmetadata: {name: p}\n---\napiVersion: other/v1\nkind: Node\nmetadata: {name: b}\n",
            Kind::Node,
        );
        assert_eq!(dump.objects.len(), 1);
        assert_eq!(dump.notes.len(), 2);
    }

    #[test]
    fn an_object_without_a_name_is_reported() {
        let error = parse(
            "kind: Node\nmetadata: {}\n",
            Kind::Node,
            &mut Dump::default(),
        )
        .unwrap_err();
        assert!(error.to_string().contains("metadata.name"), "{error}");
    }
}
