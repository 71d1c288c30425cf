//! Checks in the source text which modules and crates each layer may use.
//!
//! ```text
//! main ─► app ─► reconcile ─► registry          generic: no I/O, no task, no log
//!                    ├──────► providers ─► domain ─► api      pure: no client, no runtime, no clock, no log
//!                    ├──────► kubernetes ─► domain, api, registry
//!                    └──────► telemetry ─► api, registry
//!         app ─► http ─► telemetry, kubernetes::access, registry
//! main ─► cli ─► app::config, registry   talks to a running operator
//! ```
//!
//! Paths are parsed from the text without comments and strings: `use` groups are expanded, and `super::` is
//! resolved. Paths from macro expansion are not seen, nor crates renamed by `use … as`.
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

/// A module of the crate's root, and what it may use.
struct Layer {
    name: &'static str,
    /// The allowed modules of the root, or parts of them.
    modules: &'static [&'static str],
    /// The allowed external paths, as prefixes; `None` allows all.
    only: Option<&'static [&'static str]>,
    /// Reason, shown in violations.
    reason: &'static str,
}

/// Paths that read a clock.
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
            // The policy of the user.
            "serde_saphyr",
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
            // YAML in a ConfigMap of kubeadm.
            "serde_saphyr",
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
            // The holder of a lock is a task.
            "tokio::task",
            // Only for the sync coordinator: what it waits for, and how long.
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
        reason: "kubernetes parses objects into facts, writes insights, and persists data for registry",
    },
    Layer {
        name: "telemetry",
        modules: &["api", "registry"],
        only: None,
        reason: "telemetry records what callers report and calls no other layer",
    },
    Layer {
        name: "http",
        // It calls the node-state controller by its own trait, and the cluster only to authorize requests.
        modules: &[
            "kubernetes::access",
            "registry::operations",
            "registry::sync",
            "telemetry",
        ],
        only: None,
        reason: "http serves the data of other layers to authorized clients",
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
        reason: "reconcile runs the other layers, and app wires it",
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
        reason: "cli only uses an operator from outside: its flags and responses",
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
        reason: "fuzzing calls every parser of external data",
    },
    Layer {
        name: "main",
        // It prints the CRDs, and sets up logs before app runs.
        modules: &["api", "app", "cli", "telemetry"],
        only: None,
        reason: "main reads the command line and calls app or cli",
    },
];

/// Files outside of `src/kubernetes` that may name the client, with the reason. A new one needs a reason here.
const CLIENT_OUTSIDE_KUBERNETES: [(&str, &str); 6] = [
    ("src/app/wiring.rs", "hands the client to its users"),
    (
        "src/cli/operator.rs",
        "sends HTTP requests to the operator, not to an API server, with the only HTTP client of the project",
    ),
    (
        "src/reconcile/applier.rs",
        "hands the client to the writer that it owns",
    ),
    (
        "src/reconcile/watches.rs",
        "defines which API is watched for each kind, and how its events reach the node-state controller",
    ),
    (
        "src/reconcile/watches/kind.rs",
        "the same, for the kinds that providers read",
    ),
    (
        "src/reconcile/watches/on_nodes.rs",
        "the same, for objects on nodes, of which some are listed instead of watched",
    ),
];

/// Crates that single files may use beyond their layer, with the reason. A new one needs a reason here.
const CRATES_OF_SINGLE_FILES: [(&str, &str, &str); 1] = [(
    "src/registry/backend/file/disk.rs",
    "redb",
    "the state file is a database, which is hidden from other modules",
)];

#[derive(Debug, PartialEq, Eq)]
struct Violation {
    file: String,
    line: usize,
    message: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.file, self.line, self.message)
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

/// All violations of one file; `for_tests` if it is only compiled for tests.
fn check(file: &str, source: &str, crates: &[String], for_tests: bool) -> Vec<Violation> {
    let modules = module_path(file);
    let Some(layer) = LAYERS
        .iter()
        .find(|layer| modules.first().is_some_and(|first| first == layer.name))
    else {
        return Vec::new(); // lib.rs declares modules, and each of them is checked
    };
    let mut violations = Vec::new();
    let mut report = |path: &PathUse, message: String| {
        let violation = Violation {
            file: file.to_owned(),
            line: path.line,
            message,
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
        // Tests may use any crate, as they are not part of the binary.
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
                    "only src/kubernetes names the client ({}); add exceptions to CLIENT_OUTSIDE_KUBERNETES, with a reason",
                    path.text()
                ),
            );
        }
    }
    violations
}

/// Whether a path of the crate is in `module`, for example `kubernetes::access`.
fn is_in(path: &[&str], module: &str) -> bool {
    let module: Vec<&str> = module.split("::").collect();
    path.starts_with(&module)
}

/// Whether the path names the client, or may hide it.
fn names_client(path: &PathUse) -> bool {
    let client = ["Client", "Api", "client", "Discovery", "*"];
    path.segments[0] == "kube"
        && path.segments[1..]
            .iter()
            .any(|segment| client.contains(&segment.as_str()))
}

/// The files in `src`, with their paths relative to the repository's root.
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

/// The dependencies of this package, and the crates of Rust itself.
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
