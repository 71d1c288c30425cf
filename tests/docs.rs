//! The tables of flags, columns, fields and metrics in docs/reference are up to date with the code; `make docs`
//! generates them. And every guarantee in docs/faults.md names existing tests.

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
use k8s_openapi::api::rbac::v1::ClusterRole;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps, JSONSchemaPropsOrArray,
};
use node_insights::api::crd;
use node_insights::app::config::Cli;
use node_insights::domain::drain::Reason;
use node_insights::domain::fact::{Need, Read, Select};
use node_insights::domain::preflight;
use node_insights::providers::{Options, Providers};
use node_insights::telemetry::metrics::Metrics;

/// Set to update the tables instead of comparing them.
const UPDATE: &str = "UPDATE_DOCS";

/// A page, and its tables by name.
type Page = (&'static str, Vec<(&'static str, String)>);

/// Every generated table, by page.
fn pages() -> [Page; 5] {
    let [(_, node), (_, pool)] = crd::all().unwrap();
    [
        (
            "docs/reference/flags.md",
            vec![
                ("flags", flags("run")),
                ("doctor flags", flags("doctor")),
                ("preflight flags", flags("preflight")),
                ("resync flags", flags("resync")),
                ("crds flags", flags("crds")),
            ],
        ),
        (
            "docs/reference/node-insight.md",
            vec![
                ("node columns", columns(&node)),
                ("node fields", fields(&node)),
            ],
        ),
        (
            "docs/reference/pool-insight.md",
            vec![
                ("pool columns", columns(&pool)),
                ("pool fields", fields(&pool)),
            ],
        ),
        ("docs/reference/metrics.md", vec![("metrics", metrics())]),
        ("docs/providers/README.md", vec![("kinds", kinds())]),
    ]
}

/// Every kind that a provider reads.
fn kinds() -> String {
    let providers = Providers::standard(&Options::default()).unwrap();
    let mut table =
        String::from("| Kind | Resource | Versions | Read | Needed |\n|---|---|---|---|---|\n");
    for kind in providers.kinds() {
        let spec = &kind.spec;
        let read = match spec.read {
            Read::Whole if spec.select == Select::OnNode => "the objects on nodes that need them",
            Read::Whole => "the object",
            Read::Metadata => "its metadata",
        };
        let need = match spec.need {
            Need::Always | Need::WhereServed => "where it is served",
            Need::Optional if spec.only_where_found => "optional; watched where one is found",
            Need::Optional if spec.only_while_read => "optional; watched while a node is drained",
            Need::Optional => "optional",
        };
        let versions = spec.versions.join(", ");
        let (name, full) = (spec.kind, spec.full_name());
        writeln!(
            table,
            "| {name} | `{full}` | {versions} | {read} | {need} |"
        )
        .unwrap();
    }
    table
}

#[test]
fn the_reference_has_the_flags_columns_fields_and_metrics_of_the_code() {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    for (page, tables) in pages() {
        let path = root.join(page);
        let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{page}: {error}"));
        let markers = text.matches(": generated -->").count();
        assert_eq!(markers, tables.len(), "{page} has other tables");
        let mut expected = text.clone();
        for (name, table) in tables {
            expected = replace(page, &expected, name, &table);
        }
        if std::env::var_os(UPDATE).is_some() {
            fs::write(&path, expected).unwrap();
        } else {
            assert!(
                text == expected,
                "{page} is not up to date: run `make docs`"
            );
        }
    }
}

#[test]
fn every_guarantee_under_fault_names_existing_tests() {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let page = fs::read_to_string(root.join("docs/faults.md")).unwrap();
    let mut guarantees = 0;
    for row in page.lines().filter(|line| line.starts_with('|')) {
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        if cells[0] == "Fault" || cells[0].starts_with('-') {
            continue;
        }
        let tests = named_tests(cells[cells.len() - 1]);
        assert!(
            cells.len() == 3 && !tests.is_empty(),
            "no test checks this: {row}"
        );
        for (test, file) in tests {
            let text = fs::read_to_string(root.join(file)).unwrap_or_default();
            assert!(is_test(&text, test), "no test {test} in {file}");
        }
        guarantees += 1;
    }
    assert!(guarantees > 20, "only {guarantees} guarantees were found");
}

#[test]
fn a_test_that_does_not_exist_or_never_runs_is_found() {
    let text = "#[tokio::test]\nasync fn one_that_runs() {}\nfn no_test() {}\n\
                #[test]\n#[ignore]\nfn one_that_is_ignored() {}\n";
    let found = [
        "one_that_runs",
        "one_that",
        "no_test",
        "one_that_is_ignored",
    ];
    assert_eq!(
        found.map(|name| is_test(text, name)),
        [true, false, false, false]
    );
    let cell = "`a_b` (`tests/x.rs`), `c_d` (`tests/y.rs`)";
    assert_eq!(
        named_tests(cell),
        [("a_b", "tests/x.rs"), ("c_d", "tests/y.rs")]
    );
    assert!(named_tests("`a_b`").is_empty());
}

/// The tests in a cell, each with its file: `` `name` (`file`) ``.
fn named_tests(cell: &str) -> Vec<(&str, &str)> {
    let code: Vec<&str> = cell.split('`').skip(1).step_by(2).collect();
    let pairs = code.chunks_exact(2).map(|pair| (pair[0], pair[1]));
    pairs.collect()
}

/// Whether a file has a test of this name that is not ignored.
fn is_test(text: &str, name: &str) -> bool {
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    let is_function = |line: &str| {
        let line = line.strip_prefix("async ").unwrap_or(line);
        line.strip_prefix("fn ")
            .and_then(|rest| rest.strip_prefix(name))
            .is_some_and(|rest| rest.starts_with('('))
    };
    let Some(at) = lines.iter().position(|line| is_function(line)) else {
        return false;
    };
    let attributes: Vec<&&str> = lines[..at]
        .iter()
        .rev()
        .take_while(|line| line.starts_with('#'))
        .collect();
    let is_marked = attributes
        .iter()
        .any(|line| line.starts_with("#[test") || line.starts_with("#[tokio::test"));
    is_marked && !attributes.iter().any(|line| line.starts_with("#[ignore"))
}

/// The text with the table between the markers of this name replaced.
fn replace(page: &str, text: &str, name: &str, table: &str) -> String {
    let (begin, end) = (
        format!("<!-- {name}: generated -->\n"),
        format!("<!-- end of {name} -->"),
    );
    let (before, rest) = text
        .split_once(&begin)
        .unwrap_or_else(|| panic!("{page} has no {begin:?}"));
    let (_, after) = rest
        .split_once(&end)
        .unwrap_or_else(|| panic!("{page} has no {end:?}"));
    format!("{before}{begin}\n{table}\n{end}{after}")
}

/// The text on one line, escaped for a table cell.
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
        // A flag without a value has no default, though clap has `true` and `false`.
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

fn columns(crd: &CustomResourceDefinition) -> String {
    let mut table = "| Column | Value | Shown |\n|---|---|---|\n\
                     | NAME | `.metadata.name` | always |\n"
        .to_owned();
    let columns = crd.spec.versions[0].additional_printer_columns.iter();
    for column in columns.flatten() {
        let (name, path) = (column.name.to_uppercase(), &column.json_path);
        let value = if column.type_ == "date" {
            format!("time since `{path}`")
        } else {
            format!("`{path}`")
        };
        let shown = match column.priority {
            None | Some(0) => "always",
            Some(_) => "with `-o wide`",
        };
        writeln!(table, "| {name} | {value} | {shown} |").unwrap();
    }
    table
}

fn fields(crd: &CustomResourceDefinition) -> String {
    let schema = crd.spec.versions[0]
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
            Some(JSONSchemaPropsOrArray::Schemas(_)) => panic!("a list of several schemas"),
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

#[test]
fn every_reason_why_a_drain_is_held_up_has_its_row() {
    let page = include_str!("../docs/drains.md");
    for reason in Reason::ALL {
        let row = format!("| `{}` |", reason.as_str());
        assert!(page.contains(&row), "docs/drains.md has no row {row}");
    }
}

#[test]
fn every_reason_of_a_preflight_has_its_row() {
    let page = include_str!("../docs/preflight.md");
    for reason in preflight::Reason::ALL {
        let row = format!("| `{}` |", reason.as_str());
        assert!(page.contains(&row), "docs/preflight.md has no row {row}");
    }
}

/// With the role on the page nothing is missing from a report, wherever the kinds of the providers are served.
#[test]
fn the_role_for_a_preflight_lists_every_kind_of_the_providers() {
    let page = include_str!("../docs/preflight.md");
    let (_, role) = page.split_once("```yaml\n").unwrap();
    let (role, _) = role.split_once("```").unwrap();
    let role: ClusterRole = serde_saphyr::from_str(role).unwrap();
    let rules = role.rules.unwrap();
    let providers = Providers::standard(&Options::default()).unwrap();
    for kind in providers.kinds() {
        let (group, plural) = (kind.spec.group, kind.spec.plural);
        let is_granted = rules.iter().any(|rule| {
            let has = |list: &Option<Vec<String>>, name: &str| {
                list.iter().flatten().any(|each| each == name)
            };
            has(&rule.api_groups, group) && has(&rule.resources, plural)
        });
        assert!(
            is_granted,
            "docs/preflight.md does not grant {plural} of {group:?}"
        );
    }
}
