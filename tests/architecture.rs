//! The layers, checked over the source text: who may use whom, and what only some may touch.
//!
//! ```text
//! main ─► app ─► reconcile ─► registry          generic: no I/O, no task, no log
//!                    ├──────► providers ─► domain ─► api      pure: no client, no runtime, no clock, no log
//!                    ├──────► kubernetes ─► domain, api, registry
//!                    └──────► telemetry ─► api, registry
//!         app ─► http ─► telemetry, kubernetes::access, registry
//! main ─► cli ─► app::config, registry   talks to an operator that runs
//! ```
//!
//! Paths are read from the text without its comments and strings: `use` groups are taken apart, and
//! `super::` is followed. What a macro makes up is not seen, nor a crate that is renamed by `use … as`.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "in tests a failed expectation is the result"
)]

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use source::{PathUse, module_path, paths, test_modules, tokens};

#[path = "architecture/source.rs"]
mod source;
#[path = "architecture/states.rs"]
mod states;
#[path = "architecture/the_checker.rs"]
mod the_checker;

/// What one module of the crate's root may use.
struct Layer {
    name: &'static str,
    /// Other modules of the root, or parts of them.
    modules: &'static [&'static str],
    /// Paths outside of this crate that it may use, by their beginning; none: all of them.
    only: Option<&'static [&'static str]>,
    /// Why.
    reason: &'static str,
}

/// What reads a clock, or is one.
const CLOCKS: [&str; 4] = [
    "Timestamp::now",
    "Zoned::now",
    "Instant::now",
    "SystemTime::now",
];

const LAYERS: [Layer; 12] = [
    Layer {
        name: "api",
        modules: &[],
        only: Some(&[
            "std",
            "core",
            "jiff",
            "k8s_openapi",
            "schemars",
            "serde",
            "serde_json",
            "thiserror",
            "kube::CustomResource",
            "kube::Resource",
            "kube::api::ObjectMeta",
            "kube::core",
        ]),
        reason: "api is types only",
    },
    Layer {
        name: "domain",
        modules: &["api"],
        only: Some(&[
            "std",
            "core",
            "jiff",
            "k8s_openapi",
            "ring::digest",
            "serde",
            "serde_json",
            "thiserror",
        ]),
        reason: "domain is pure: no client, no runtime, no log",
    },
    Layer {
        name: "providers",
        modules: &["api", "domain"],
        only: Some(&[
            "std",
            "core",
            // The schedules of disruption budgets.
            "cronexpr",
            "jiff",
            "k8s_openapi",
            "serde",
            "serde_json",
            "thiserror",
        ]),
        reason: "providers are pure: they see facts, and no client, runtime or log",
    },
    Layer {
        name: "registry",
        modules: &[],
        only: Some(&[
            "std",
            "core",
            "jiff",
            "serde",
            "thiserror",
            "tokio::sync",
            // Who holds a lock is a task.
            "tokio::task",
            // Only the sync coordinator: what it waits for, and when.
            "fastrand",
            "tokio::select",
            "tokio::time",
            "tokio_util::sync::CancellationToken",
        ]),
        reason: "registry is generic: it does no I/O, starts no task and logs nothing",
    },
    Layer {
        name: "kubernetes",
        modules: &["api", "domain", "registry"],
        only: None,
        reason: "kubernetes reads objects into facts, writes insights, and keeps what registry wants kept",
    },
    Layer {
        name: "telemetry",
        modules: &["api", "registry"],
        only: None,
        reason: "telemetry is told what happened and asks nobody",
    },
    Layer {
        name: "http",
        // The centre it knows by a trait of its own, and the cluster not at all, but for who may ask.
        modules: &[
            "kubernetes::access",
            "registry::operations",
            "registry::sync",
            "telemetry",
        ],
        only: None,
        reason: "http shows what others know, to whoever may see it",
    },
    Layer {
        name: "reconcile",
        modules: &[
            "api",
            "domain",
            "kubernetes",
            "providers",
            "registry",
            "telemetry",
        ],
        only: None,
        reason: "reconcile runs the rest, and app wires it",
    },
    Layer {
        name: "app",
        modules: &[
            "api",
            "domain",
            "http",
            "kubernetes",
            "providers",
            "reconcile",
            "registry",
            "telemetry",
        ],
        only: None,
        reason: "app wires everything",
    },
    Layer {
        name: "cli",
        modules: &[
            "app::config",
            "kubernetes::diagnosis",
            "registry::operations",
        ],
        only: None,
        reason: "cli sees an operator from outside: its flags, and what it sends",
    },
    Layer {
        name: "fuzzing",
        modules: &[
            "api",
            "domain",
            "http",
            "kubernetes",
            "providers",
            "reconcile",
            "registry",
        ],
        only: None,
        reason: "fuzzing calls whatever reads what others write",
    },
    Layer {
        name: "main",
        // The CRDs are printed, and logs begin, before there is anything for app to run.
        modules: &["api", "app", "cli", "telemetry"],
        only: None,
        reason: "main reads the command line and calls app or cli",
    },
];

/// Who may name the client beside `src/kubernetes`, and why. A new one needs a reason here.
const CLIENT_OUTSIDE_KUBERNETES: [(&str, &str); 4] = [
    ("src/app/wiring.rs", "hands the client to its users"),
    (
        "src/cli/operator.rs",
        "talks HTTP to the operator, not to an API server, and there is no other client for that",
    ),
    (
        "src/reconcile/applier.rs",
        "hands the client to the writer that it owns",
    ),
    (
        "src/reconcile/watches.rs",
        "says of each kind which API is watched and how it reaches the node-state controller",
    ),
];

/// Crates that single files may use beyond their layer, and why. A new one needs a reason here.
const CRATES_OF_SINGLE_FILES: [(&str, &str, &str); 1] = [(
    "src/registry/backend/file/disk.rs",
    "redb",
    "the state file is a database; nobody else sees which",
)];

#[derive(Debug, PartialEq, Eq)]
struct Violation {
    file: String,
    line: usize,
    rule: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.file, self.line, self.rule)
    }
}

#[test]
fn every_module_uses_only_what_its_layer_may_use() {
    let mut violations = Vec::new();
    let crates = dependencies();
    let sources = sources();
    let tests: Vec<Vec<String>> = sources
        .iter()
        .flat_map(|(file, text)| test_modules(file, text))
        .collect();
    for (file, text) in &sources {
        let modules = module_path(file);
        let test = tests.iter().any(|test| modules.starts_with(test));
        violations.extend(check(file, text, &crates, test));
    }
    let lines: Vec<String> = violations.iter().map(ToString::to_string).collect();
    assert!(lines.is_empty(), "\n{}\n", lines.join("\n"));
}

#[test]
fn every_module_of_the_root_is_a_layer_and_every_layer_is_a_module() {
    let root = read(&source_root().join("lib.rs"));
    let tokens = tokens(&root);
    let mut declared: Vec<&str> = tokens
        .windows(3)
        .filter(|three| three[0].text == "mod" && three[2].text == ";")
        .map(|three| three[1].text.as_str())
        .chain(["main"])
        .collect();
    let mut layers: Vec<&str> = LAYERS.iter().map(|layer| layer.name).collect();
    declared.sort_unstable();
    layers.sort_unstable();
    assert_eq!(declared, layers);
}

#[test]
fn every_exception_for_the_client_is_still_needed() {
    for (file, _) in CLIENT_OUTSIDE_KUBERNETES {
        let text = read(&source_root().join("..").join(file));
        assert!(
            paths(file, &text).iter().any(names_client),
            "{file} no longer names the client: take it off the list"
        );
    }
}

#[test]
fn every_exception_for_a_crate_is_still_needed() {
    for (file, name, _) in CRATES_OF_SINGLE_FILES {
        let text = read(&source_root().join("..").join(file));
        assert!(
            paths(file, &text).iter().any(|path| path.starts_with(name)),
            "{file} no longer uses {name}: take it off the list"
        );
    }
}

/// All violations of one file; `for_tests`: it is compiled for tests only.
fn check(file: &str, source: &str, crates: &[String], for_tests: bool) -> Vec<Violation> {
    let modules = module_path(file);
    let Some(layer) = LAYERS
        .iter()
        .find(|layer| modules.first().is_some_and(|first| first == layer.name))
    else {
        return Vec::new(); // lib.rs declares modules, and each of them is checked
    };
    let mut violations = Vec::new();
    let mut report = |path: &PathUse, rule: String| {
        let violation = Violation {
            file: file.to_owned(),
            line: path.line,
            rule,
        };
        if !violations.contains(&violation) {
            violations.push(violation);
        }
    };
    for path in paths(file, source) {
        if let ["crate" | "node_insights", ref inside @ ..] =
            path.segments.iter().map(String::as_str).collect::<Vec<_>>()[..]
            && let [module, ..] = *inside
        {
            if module == "*" {
                report(&path, "`crate::*` hides what is used: name it".to_owned());
            } else if LAYERS.iter().any(|layer| layer.name == module)
                && module != layer.name
                && !layer.modules.iter().any(|allowed| is_in(inside, allowed))
            {
                report(
                    &path,
                    format!("{} may not use {module}: {}", layer.name, layer.reason),
                );
            }
        }
        // Tests may use what they like of other crates: they are no part of what is shipped.
        if for_tests || path.test {
            continue;
        }
        let external = path.segments.len() > 1 && crates.contains(&path.segments[0]);
        let excepted = CRATES_OF_SINGLE_FILES
            .iter()
            .any(|(allowed, name, _)| *allowed == file && path.starts_with(name));
        if let Some(only) = layer.only
            && external
            && !excepted
            && !only.iter().any(|prefix| path.starts_with(prefix))
        {
            report(
                &path,
                format!(
                    "{} may not use {}: {}",
                    layer.name,
                    path.text(),
                    layer.reason
                ),
            );
        }
        if ["api", "domain", "providers"].contains(&layer.name)
            && CLOCKS.iter().any(|clock| path.ends_with(clock))
        {
            report(
                &path,
                format!(
                    "{} may not read a clock ({}): the time is an argument",
                    layer.name,
                    path.text()
                ),
            );
        }
        if layer.name != "kubernetes"
            && names_client(&path)
            && !CLIENT_OUTSIDE_KUBERNETES
                .iter()
                .any(|(allowed, _)| *allowed == file)
        {
            report(
                &path,
                format!(
                    "only src/kubernetes names the client ({}); exceptions stand in CLIENT_OUTSIDE_KUBERNETES, with a reason",
                    path.text()
                ),
            );
        }
    }
    violations
}

/// Whether a path inside of the crate is `module`, as in `kubernetes::access`, or in it.
fn is_in(path: &[&str], module: &str) -> bool {
    let module: Vec<&str> = module.split("::").collect();
    path.starts_with(&module)
}

/// Whether the path is a way to the API server, or may hide one.
fn names_client(path: &PathUse) -> bool {
    let client = ["Client", "Api", "client", "Discovery", "*"];
    path.segments[0] == "kube"
        && path.segments[1..]
            .iter()
            .any(|segment| client.contains(&segment.as_str()))
}

/// The files under `src`, with their paths from the root of the repository.
fn sources() -> Vec<(String, String)> {
    let mut folders = vec![source_root()];
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|end| end == "rs") {
                let name = path.strip_prefix(source_root()).unwrap();
                files.push((format!("src/{}", name.display()), read(&path)));
            }
        }
    }
    assert!(files.len() > 20, "only {} files were found", files.len());
    files.sort();
    files
}

/// The crates that this package may name: its dependencies and Rust's own.
fn dependencies() -> Vec<String> {
    let manifest = read(&source_root().join("../Cargo.toml"));
    let mut section = "";
    let mut crates: Vec<String> = ["std", "core", "alloc"].map(str::to_owned).into();
    for line in manifest.lines() {
        if line.starts_with('[') {
            section = line;
        } else if section == "[dependencies]"
            && let Some(end) = line.find(['.', ' ', '='])
            && !line.starts_with('#')
        {
            crates.push(line[..end].replace('-', "_"));
        }
    }
    assert!(crates.iter().any(|name| name == "kube"), "{crates:?}");
    crates
}

fn source_root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
