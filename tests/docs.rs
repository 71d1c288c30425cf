//! The tables of flags, fields and metrics in the README are what the code says. `make docs` writes
//! them; this fails when they are not up to date.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a failed expectation is the result of a test"
)]

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;

use clap::CommandFactory;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps, JSONSchemaPropsOrArray,
};
use node_insights::api::crd;
use node_insights::app::config::Cli;
use node_insights::telemetry::metrics::Metrics;

/// Set to write the tables instead of comparing them.
const UPDATE: &str = "UPDATE_DOCS";

#[test]
fn the_readme_has_the_flags_fields_and_metrics_of_the_code() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("README.md");
    let readme = fs::read_to_string(&path).unwrap();
    let [(_, nodes), (_, pools)] = crd::all().unwrap();
    let mut expected = readme.clone();
    for (name, table) in [
        ("flags", flags("run")),
        ("resync flags", flags("resync")),
        ("doctor flags", flags("doctor")),
        ("node fields", fields(&nodes)),
        ("pool fields", fields(&pools)),
        ("metrics", metrics()),
    ] {
        expected = replace(&expected, name, &table);
    }
    if std::env::var_os(UPDATE).is_some() {
        fs::write(&path, expected).unwrap();
    } else {
        assert!(
            readme == expected,
            "README.md is not up to date: run `make docs`"
        );
    }
}

/// The text with a table between the markers of that name.
fn replace(text: &str, name: &str, table: &str) -> String {
    let (begin, end) = (
        format!("<!-- {name}: generated -->\n"),
        format!("<!-- end of {name} -->"),
    );
    let (before, rest) = text
        .split_once(&begin)
        .unwrap_or_else(|| panic!("README.md has {begin:?}"));
    let (_, after) = rest
        .split_once(&end)
        .unwrap_or_else(|| panic!("README.md has {end:?}"));
    format!("{before}{begin}\n{table}\n{end}{after}")
}

/// A text in one line that a cell can hold.
fn cell(text: &str) -> String {
    text.split_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
        .replace('|', "\\|")
}

fn flags(subcommand: &str) -> String {
    let command = Cli::command();
    let subcommand = command.find_subcommand(subcommand).unwrap();
    let mut table =
        "| Flag | Environment variable | Default | Meaning |\n|---|---|---|---|\n".to_owned();
    for arg in subcommand
        .get_arguments()
        .filter(|arg| arg.get_id() != "help")
    {
        // A flag that takes no value has none, though clap knows `true` and `false`.
        let defaults: Vec<_> = arg
            .get_default_values()
            .iter()
            .filter(|_| arg.get_action().takes_values())
            .map(|value| value.to_string_lossy())
            .collect();
        let default = if defaults.is_empty() {
            "–".to_owned()
        } else {
            format!("`{}`", defaults.join(","))
        };
        let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
        let variable = arg.get_env().map_or("–".to_owned(), |name| {
            format!("`{}`", name.to_string_lossy())
        });
        let possible: Vec<_> = arg
            .get_possible_values()
            .iter()
            .filter(|_| arg.get_action().takes_values())
            .map(|value| format!("`{}`", value.get_name()))
            .collect();
        let possible = if possible.is_empty() {
            String::new()
        } else {
            format!(": {}", possible.join(", "))
        };
        writeln!(
            table,
            "| `--{}` | {variable} | {default} | {}{possible} |",
            arg.get_long().unwrap(),
            cell(&help)
        )
        .unwrap();
    }
    table
}

fn fields(definition: &CustomResourceDefinition) -> String {
    let schema = definition.spec.versions[0]
        .schema
        .as_ref()
        .unwrap()
        .open_api_v3_schema
        .as_ref()
        .unwrap();
    let status = &schema.properties.as_ref().unwrap()["status"];
    let mut table = "| Field of `status` | Type | Meaning |\n|---|---|---|\n".to_owned();
    rows(&mut table, "", status);
    table
}

fn rows(table: &mut String, prefix: &str, schema: &JSONSchemaProps) {
    for (name, field) in schema.properties.iter().flatten() {
        let mut kind = field.type_.clone().unwrap_or_default();
        if let Some(format) = &field.format {
            kind = if format == "date-time" {
                "time".to_owned()
            } else {
                kind
            };
        }
        if let Some(values) = &field.enum_ {
            let values: Vec<_> = values
                .iter()
                .map(|value| format!("`{}`", value.0.as_str().unwrap()))
                .collect();
            kind = values.join(", ");
        }
        let path = format!("{prefix}{name}");
        let meaning = cell(field.description.as_deref().unwrap_or_default());
        writeln!(table, "| `{path}` | {kind} | {meaning} |").unwrap();
        match &field.items {
            Some(JSONSchemaPropsOrArray::Schema(items)) => {
                rows(table, &format!("{path}[]."), items);
            }
            Some(JSONSchemaPropsOrArray::Schemas(_)) => panic!("a list of one kind"),
            None => rows(table, &format!("{path}."), field),
        }
    }
}

fn metrics() -> String {
    let metrics = Metrics::new().unwrap();
    let mut table = "| Metric | Type | Labels | Meaning |\n|---|---|---|---|\n".to_owned();
    for metric in metrics.descriptions() {
        let labels: Vec<_> = metric
            .labels
            .iter()
            .map(|label| format!("`{label}`"))
            .collect();
        let labels = if labels.is_empty() {
            "–".to_owned()
        } else {
            labels.join(", ")
        };
        writeln!(
            table,
            "| `{}` | {} | {labels} | {} |",
            metric.name,
            metric.kind,
            cell(&metric.help)
        )
        .unwrap();
    }
    table
}
