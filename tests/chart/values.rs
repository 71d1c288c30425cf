//! The values: each is documented, checked and used, and the chart is of the operator's version.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use anyhow::Result;
use serde_json::Value;

use crate::helm::chart;
use crate::support::project;

/// A value that the schema allows for parent charts, and that is not in values.yaml.
const FOR_OTHER_CHARTS: &str = "enabled";

/// Schemas with properties that are documented as one value.
const AS_ONE: [&str; 3] = [
    "#/definitions/alert",
    "#/definitions/alertWithThreshold",
    "#/definitions/policy",
];

#[test]
fn values_schema_and_readme_have_the_same_values() -> Result<()> {
    let values: Value = serde_saphyr::from_str(&read("values.yaml")?)?;
    let schema: Value = serde_json::from_str(&read("values.schema.json")?)?;
    let mut of_values = BTreeSet::new();
    paths_of_values(&schema, &schema, &values, "", &mut of_values);
    let mut of_schema = BTreeSet::new();
    paths_of_schema(&schema, &schema, "", &mut of_schema);
    of_schema.remove(FOR_OTHER_CHARTS);
    assert!(of_values.len() > 60, "{of_values:#?}");
    assert_eq!(of_schema, of_values, "left: the schema, right: values.yaml");

    let readme = read("README.md")?;
    let (_, table) = readme.split_once("\n## Values\n").unwrap();
    let rows = table.lines().filter_map(|line| line.strip_prefix("| `"));
    let of_readme: BTreeSet<String> = rows
        .clone()
        .filter_map(|row| Some(row.split_once('`')?.0.to_owned()))
        .collect();
    assert_eq!(of_readme, of_values, "left: the README, right: values.yaml");

    // A default that the README shows as code is the actual default.
    let shown: BTreeMap<&str, &str> = rows
        .filter_map(|row| {
            let (path, rest) = row.split_once("` | ")?;
            let (default, _) = rest.split_once(" |")?;
            let code = default.strip_prefix('`')?.strip_suffix('`')?;
            Some((path, code))
        })
        .collect();
    assert!(shown.len() > 50, "{shown:#?}");
    for (path, code) in shown {
        let pointer = format!("/{}", path.replace('.', "/"));
        let default: Value = serde_saphyr::from_str(code)?;
        assert_eq!(values.pointer(&pointer), Some(&default), "{path}");
    }
    Ok(())
}

#[test]
fn every_value_is_used_by_a_template() -> Result<()> {
    let mut templates = String::new();
    for folder in ["templates", "templates/tests"] {
        for entry in fs::read_dir(format!("{}/{folder}", chart()))? {
            let path = entry?.path();
            if path.is_file() {
                templates.push_str(&fs::read_to_string(path)?);
            }
        }
    }
    let alerts = read("files/alerts.yaml")?;
    let schema: Value = serde_json::from_str(&read("values.schema.json")?)?;
    let mut paths = BTreeSet::new();
    paths_of_schema(&schema, &schema, "", &mut paths);
    paths.remove(FOR_OTHER_CHARTS);
    for path in paths {
        // The same lines read both monitors and the rule, and the same loop reads all alerts.
        let field = path.rsplit('.').next().unwrap();
        let is_used = templates.contains(&format!(".Values.{path}"))
            // One loop reads all providers.
            || (path.starts_with("providers.") && templates.contains("range $name, $provider"))
            || (path.contains("Monitor.") && templates.contains(&format!(".monitor.{field}")))
            || (path.starts_with("prometheusRule.")
                && (templates.contains(&format!(".monitor.{field}"))
                    || alerts.contains(&format!("- alert: {field}\n"))));
        assert!(is_used, "no template reads {path}");
    }
    Ok(())
}

#[test]
fn every_alert_has_its_values_and_no_others_exist() -> Result<()> {
    let values: Value = serde_saphyr::from_str(&read("values.yaml")?)?;
    let values = values["prometheusRule"]["alerts"].as_object().unwrap();
    let alerts: Vec<Value> = serde_saphyr::from_str(&read("files/alerts.yaml")?)?;
    let names: BTreeSet<&str> = values.keys().map(String::as_str).collect();
    let expected: BTreeSet<&str> = alerts
        .iter()
        .filter_map(|alert| alert["alert"].as_str())
        .collect();
    assert_eq!(
        names, expected,
        "left: values.yaml, right: files/alerts.yaml"
    );
    for alert in &alerts {
        let name = alert["alert"].as_str().unwrap();
        let reads = alert["expr"].as_str().unwrap().contains("$threshold");
        assert_eq!(values[name].get("threshold").is_some(), reads, "{name}");
    }
    Ok(())
}

#[test]
fn the_schema_rejects_unknown_values() -> Result<()> {
    let schema: Value = serde_json::from_str(&read("values.schema.json")?)?;
    let mut open = Vec::new();
    find_open(&schema, "", &mut open);
    // Other charts have globals of their own; the other two only exclude some entries.
    open.retain(|path| {
        !path.ends_with("/global")
            && !path.contains("/extraEnv/")
            && !path.contains("/extraVolumes/")
    });
    assert_eq!(open, Vec::<String>::new());
    Ok(())
}

#[test]
fn the_chart_has_the_version_of_the_operator() -> Result<()> {
    let about: Value = serde_saphyr::from_str(&read("Chart.yaml")?)?;
    for field in ["version", "appVersion"] {
        assert_eq!(about[field], env!("CARGO_PKG_VERSION"), "{field}");
    }
    Ok(())
}

#[test]
fn the_charts_copy_of_the_crds_is_up_to_date() -> Result<()> {
    let files = |folder: &str| -> Result<BTreeMap<String, String>> {
        let mut files = BTreeMap::new();
        for entry in fs::read_dir(project().join(folder))? {
            let path = entry?.path();
            if path.extension().is_some_and(|end| end == "yaml") {
                let name = path.file_name().unwrap().to_string_lossy().into_owned();
                files.insert(name, fs::read_to_string(&path)?);
            }
        }
        Ok(files)
    };
    let (copies, crds) = (files("charts/node-insights/files/crds")?, files("crds")?);
    assert_eq!(crds.len(), 2);
    // Not assert_eq, which would print both CRDs in full.
    assert!(copies == crds, "run `make crds`");
    Ok(())
}

fn read(file: &str) -> Result<String> {
    Ok(fs::read_to_string(format!("{}/{file}", chart()))?)
}

/// The schema that a `$ref` points to, or the schema itself.
fn resolve<'a>(root: &'a Value, schema: &'a Value) -> &'a Value {
    schema["$ref"].as_str().map_or(schema, |reference| {
        let pointer = reference.strip_prefix('#').unwrap();
        root.pointer(pointer)
            .unwrap_or_else(|| panic!("{reference} is not in the schema"))
    })
}

fn is_one_value(schema: &Value) -> bool {
    schema["$ref"]
        .as_str()
        .is_some_and(|to| AS_ONE.contains(&to))
}

/// The paths of the leaf values. A value without properties in the schema is a leaf.
fn paths_of_values(
    root: &Value,
    schema: &Value,
    value: &Value,
    path: &str,
    found: &mut BTreeSet<String>,
) {
    if is_one_value(schema) {
        found.insert(path.to_owned());
        return;
    }
    let schema = resolve(root, schema);
    match (value.as_object(), schema["properties"].as_object()) {
        (Some(map), Some(properties)) => {
            for (key, value) in map {
                let schema = properties.get(key).unwrap_or(&Value::Null);
                paths_of_values(root, schema, value, &join(path, key), found);
            }
        }
        _ => {
            found.insert(path.to_owned());
        }
    }
}

fn paths_of_schema(root: &Value, schema: &Value, path: &str, found: &mut BTreeSet<String>) {
    if is_one_value(schema) {
        found.insert(path.to_owned());
        return;
    }
    let schema = resolve(root, schema);
    match schema["properties"].as_object() {
        Some(properties) => {
            for (key, schema) in properties {
                paths_of_schema(root, schema, &join(path, key), found);
            }
        }
        None => {
            found.insert(path.to_owned());
        }
    }
}

fn join(path: &str, key: &str) -> String {
    if path.is_empty() {
        key.to_owned()
    } else {
        format!("{path}.{key}")
    }
}

/// Schemas that have properties and allow additional ones.
fn find_open(schema: &Value, path: &str, open: &mut Vec<String>) {
    match schema {
        Value::Object(map) => {
            if map.contains_key("properties")
                && map.get("type") == Some(&Value::from("object"))
                && map.get("additionalProperties") != Some(&Value::Bool(false))
            {
                open.push(path.to_owned());
            }
            for (key, schema) in map {
                find_open(schema, &format!("{path}/{key}"), open);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| find_open(item, path, open)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}
