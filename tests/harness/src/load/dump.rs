//! Reads the files of a dump into objects that an API server accepts.
//!
//! Takes what real tools print: one object, several documents, `kind: List`, typed lists whose items
//! lack apiVersion and kind. What belongs to the server the dump was taken from is stripped.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context, Result, anyhow, bail};
use kube::ResourceExt;
use kube::api::DynamicObject;
use serde_json::{Map, Value};

use super::kind::Kind;

/// What another server assigned, and what makes no sense in this one. Owners are not loaded, so the
/// garbage collector would remove what refers to them.
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
    /// Which of the four it is.
    pub kind: Kind,
    /// Where it comes from, for messages: a file name.
    pub origin: String,
    /// Whether it had a deletionTimestamp.
    pub leaving: bool,
    /// The object without what a server assigns.
    pub value: DynamicObject,
}

/// Everything that the files of one folder hold.
#[derive(Debug, Clone, Default)]
pub struct Dump {
    /// The objects, in the order of the files.
    pub objects: Vec<Object>,
    /// What a user should know: files that are absent, documents that were skipped.
    pub notes: Vec<String>,
}

/// Reads the four files in `dir`. Only `node.yaml` must be there: a plain Kubernetes cluster has no
/// more than that.
///
/// # Errors
/// When `dir` or `node.yaml` is missing, when a file is no YAML, when an object has no name, and when
/// two objects of a kind have the same.
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
            bail!("{}: {} {name} is there twice", object.origin, object.kind);
        }
    }
    Ok(dump)
}

/// Adds the objects of one file's text; `default` is the kind of items that do not name theirs.
///
/// # Errors
/// When the text is no YAML, or something in it is no object.
pub fn parse(text: &str, default: Kind, dump: &mut Dump) -> Result<()> {
    // No budget: a dump of thousands of nodes is large on purpose. Kubernetes quotes what older
    // YAML would read as a boolean, so only true and false are booleans.
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
    // Null at the top means absent, whatever the schema says.
    map.retain(|_, value| !value.is_null());

    let metadata = map
        .get_mut("metadata")
        .and_then(Value::as_object_mut)
        .with_context(|| format!("a {kind} without metadata"))?;
    for field in SERVER_FIELDS {
        metadata.remove(field);
    }
    super::nulls::drop_all(metadata);
    let leaving = metadata.remove("deletionTimestamp").is_some();
    let name = text(metadata, "name").filter(|name| !name.is_empty());
    let name = name.with_context(|| format!("a {kind} without metadata.name"))?;
    let value =
        serde_json::from_value(Value::Object(map)).with_context(|| format!("{kind} {name}"))?;
    dump.objects.push(Object {
        kind,
        origin: default.file().to_owned(),
        leaving,
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
    fn what_another_server_assigned_is_stripped_and_leaving_is_remembered() {
        let dump = parsed(
            "kind: Node\nmetadata:\n  name: a\n  uid: x\n  resourceVersion: '1'\n  deletionTimestamp: '2024-02-07T16:00:47Z'\n  ownerReferences: [{name: o}]\n  labels: null\n",
            Kind::Node,
        );
        let object = &dump.objects[0];
        assert!(object.leaving);
        let metadata = serde_json::to_value(&object.value.metadata).unwrap();
        assert_eq!(metadata, serde_json::json!({"name": "a"}));
    }

    #[test]
    fn several_documents_and_foreign_kinds_are_told_apart() {
        let dump = parsed(
            "kind: Node\nmetadata: {name: a}\n---\n---\napiVersion: v1\nkind: Pod\nmetadata: {name: p}\n---\napiVersion: other/v1\nkind: Node\nmetadata: {name: b}\n",
            Kind::Node,
        );
        assert_eq!(dump.objects.len(), 1);
        assert_eq!(dump.notes.len(), 2);
    }

    #[test]
    fn an_object_without_a_name_is_an_error_that_says_so() {
        let error = parse(
            "kind: Node\nmetadata: {}\n",
            Kind::Node,
            &mut Dump::default(),
        )
        .unwrap_err();
        assert!(error.to_string().contains("metadata.name"), "{error}");
    }
}
