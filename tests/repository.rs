//! The repository's own rules, which no compiler checks.
//!
//! The layers are in `tests/architecture.rs`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "in tests a failed expectation is the result"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use node_insights::api::crd;

#[path = "repository/dockerfile.rs"]
mod dockerfile;
#[path = "repository/documents.rs"]
mod documents;
#[path = "repository/manifests.rs"]
mod manifests;

/// The maximum length of a file.
const LINES: usize = 500;

/// Files that may be longer, each with its reason.
const LONG_FILES: [(&str, &str); 0] = [];

#[test]
fn every_rust_file_is_declared_by_a_module() {
    let mut orphans = Vec::new();
    for (folder, roots) in [
        ("src", &["lib.rs", "main.rs"][..]),
        ("tests/harness/src", &["lib.rs"][..]),
    ] {
        let folder = root().join(folder);
        let mut open: Vec<PathBuf> = roots.iter().map(|name| folder.join(name)).collect();
        let mut reached = BTreeSet::new();
        while let Some(file) = open.pop() {
            open.extend(declared(&file));
            reached.insert(file);
        }
        orphans.extend(
            rust_files(&folder)
                .difference(&reached)
                .map(|file| name_of(file)),
        );
    }
    assert!(
        orphans.is_empty(),
        "no `mod` declares these, so they are not compiled: {orphans:?}"
    );
}

#[test]
fn no_file_is_named_mod() {
    let found: Vec<String> = repository_files()
        .into_iter()
        .filter(|file| Path::new(file).ends_with("mod.rs"))
        .collect();
    assert!(
        found.is_empty(),
        "foo.rs and foo/, not foo/mod.rs: {found:?}"
    );
}

#[test]
fn every_rust_file_begins_with_its_purpose() {
    let undocumented: Vec<String> = our_rust_files()
        .into_iter()
        .filter(|file| !read(file).starts_with("//! "))
        .collect();
    assert!(
        undocumented.is_empty(),
        "these have no `//!` on their first line: {undocumented:?}"
    );
}

#[test]
fn no_rust_file_is_long_without_a_reason() {
    for file in our_rust_files() {
        let lines = read(&file).lines().count();
        let excused = LONG_FILES.iter().any(|(name, _)| *name == file);
        assert!(
            lines <= LINES || excused,
            "{file} has {lines} lines: split it, or give a reason in LONG_FILES"
        );
        assert!(
            lines > LINES || !excused,
            "{file} has only {lines} lines: remove it from LONG_FILES"
        );
    }
}

#[test]
fn the_crds_are_those_that_the_code_generates() {
    let generated: BTreeMap<String, String> = crd::all()
        .unwrap()
        .into_iter()
        .map(|(file, crd)| {
            // As `node-insights crds` writes them.
            let yaml = serde_saphyr::to_string(&crd).unwrap();
            (file, format!("---\n{yaml}"))
        })
        .collect();
    let published: BTreeSet<String> = fs::read_dir(root().join("crds"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|file| file != "Kustomization")
        .collect();
    let names: BTreeSet<String> = generated.keys().cloned().collect();
    assert_eq!(published, names, "crds/ has other files: run `make crds`");
    for (file, yaml) in generated {
        // Not assert_eq, which would print both CRDs in full.
        assert!(
            read(&format!("crds/{file}")) == yaml,
            "crds/{file} is not up to date with the Rust types: run `make crds`"
        );
        assert!(
            read("crds/Kustomization").contains(&format!("- {file}\n")),
            "crds/Kustomization does not name {file}"
        );
    }
}

#[test]
fn every_dependency_has_its_reason_above_it() {
    let mut bare = Vec::new();
    let manifests = repository_files()
        .into_iter()
        .filter(|file| file.ends_with("Cargo.toml"));
    for manifest in manifests {
        bare.extend(dependencies_without_reason(&manifest, &read(&manifest)));
    }
    assert!(
        bare.is_empty(),
        "these dependencies have no comment: {bare:?}"
    );
}

#[test]
fn a_dependency_without_a_reason_is_found() {
    let manifest = "[dependencies]\n# Why.\nserde = \"1\"\ntokio = \"1\"\nkube.workspace = true\n\
                    http = { workspace = true }\n\n# Not for it.\n\njiff = \"1\"\n[features]\na = []\n";
    assert_eq!(
        dependencies_without_reason("Cargo.toml", manifest),
        ["Cargo.toml: tokio", "Cargo.toml: jiff"]
    );
}

#[test]
fn no_file_has_traces_of_the_machine_it_was_written_on() {
    let mut found = Vec::new();
    for file in repository_files() {
        let Ok(text) = fs::read_to_string(root().join(&file)) else {
            continue; // not text
        };
        for (number, line) in text.lines().enumerate() {
            if let Some(trace) = trace_of_a_machine(line) {
                found.push(format!("{file}:{}: {trace}", number + 1));
            }
        }
    }
    assert!(found.is_empty(), "\n{}\n", found.join("\n"));
}

#[test]
fn a_trace_of_a_machine_is_found() {
    // Concatenated, so that this file contains none itself.
    for trace in [
        ["See /ro", "ot/project/notes"],
        ["a file:///ho", "me/jane/project"],
        ["log in /tm", "p/bash_jobs.0/1"],
        ["/Use", "rs/jane/project"],
        ["[source.crates-io]\nreplace-", "with = \"mirror\""],
        ["GOPR", "OXY=https://mirror.example.com"],
        ["index-", "url = https://mirror.example.com/simple"],
    ] {
        let line = trace.concat();
        assert!(
            line.lines().any(|line| trace_of_a_machine(line).is_some()),
            "{line}"
        );
    }
    for innocent in [
        "$HOME/.cache",
        "/usr/bin/env bash",
        "the root/leaf",
        "at https://example.com/home/",
    ] {
        assert_eq!(trace_of_a_machine(innocent), None, "{innocent}");
    }
}

#[test]
fn every_crate_comes_from_crates_io() {
    let lock = read("Cargo.lock");
    let sources: BTreeSet<&str> = lock
        .lines()
        .filter_map(|line| line.strip_prefix("source = "))
        .collect();
    assert_eq!(
        sources,
        BTreeSet::from(["\"registry+https://github.com/rust-lang/crates.io-index\""])
    );
}

#[test]
fn every_script_is_valid_bash_and_executable() {
    let scripts: Vec<String> = repository_files()
        .into_iter()
        .filter(|file| {
            Path::new(file).extension().is_some_and(|end| end == "sh") || file == ".ci/run"
        })
        .collect();
    assert!(scripts.len() > 3, "{scripts:?}");
    for script in scripts {
        let output = Command::new("bash")
            .arg("-n")
            .arg(root().join(&script))
            .output()
            .unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "bash -n {script}: {stderr}");
        // A script without `#!` is sourced by others, not executed.
        if read(&script).starts_with("#!") {
            let mode = fs::metadata(root().join(&script))
                .unwrap()
                .permissions()
                .mode();
            assert_eq!(mode & 0o111, 0o111, "{script} is not executable: chmod +x");
        }
    }
}

#[test]
fn every_target_of_the_makefile_has_a_help_line_that_make_prints() {
    let makefile = read("Makefile");
    let targets: Vec<&str> = makefile
        .lines()
        .filter_map(|line| line.strip_prefix(".PHONY: "))
        .flat_map(str::split_whitespace)
        .collect();
    assert!(
        targets.contains(&"demo") && targets.contains(&"test"),
        "{targets:?}"
    );
    let output = Command::new("make").current_dir(root()).output().unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    for target in &targets {
        assert!(
            printed
                .lines()
                .any(|line| line.split_whitespace().nth(1) == Some(target)
                    && line.split_whitespace().count() > 2),
            "`make` does not print {target}:\n{printed}"
        );
    }
    // The check above would miss a target that is not declared.
    for line in makefile.lines() {
        let name = line.split(':').next().unwrap_or_default();
        let is_target = line.contains(':')
            && !name.is_empty()
            && name.chars().all(|c| c.is_ascii_lowercase() || c == '-');
        assert!(
            !is_target || targets.contains(&name),
            "{name} is not .PHONY"
        );
    }
}

#[test]
fn the_changelog_has_an_unreleased_section() {
    assert!(
        read("CHANGELOG.md")
            .lines()
            .any(|line| line == "## [Unreleased]")
    );
}

/// The files of the modules that `file` declares.
fn declared(file: &Path) -> Vec<PathBuf> {
    let stem = file.file_stem().unwrap().to_string_lossy();
    let folder = file.parent().unwrap();
    let folder = if ["lib", "main"].contains(&&*stem) {
        folder.to_owned()
    } else {
        folder.join(&*stem)
    };
    let text = fs::read_to_string(file)
        .unwrap_or_else(|error| panic!("{} is declared, but: {error}", name_of(file)));
    text.lines()
        .filter_map(|line| {
            let item = line.trim_start();
            let item = item.strip_prefix("pub").map_or(item, |rest| {
                rest.split_once(") ")
                    .map_or(rest, |(_, rest)| rest)
                    .trim_start()
            });
            let name = item.strip_prefix("mod ")?.split_once(';')?.0;
            Some(folder.join(format!("{name}.rs")))
        })
        .collect()
}

/// All `.rs` files of a folder, recursively, declared or not, in git or not.
fn rust_files(folder: &Path) -> BTreeSet<PathBuf> {
    let mut files = BTreeSet::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|end| end == "rs") {
            files.insert(path);
        }
    }
    files
}

/// The files that are, or will be, in git.
fn repository_files() -> Vec<String> {
    let output = Command::new("git")
        .args([
            "ls-files",
            "-z",
            "--cached",
            "--others",
            "--exclude-standard",
        ])
        .current_dir(root())
        .output()
        .expect("the rules of the repository apply to the files in git, and git is missing");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "git ls-files: {stderr}");
    let files: BTreeSet<String> = String::from_utf8(output.stdout)
        .unwrap()
        .split('\0')
        // Deleted files are still listed until that is committed.
        .filter(|file| root().join(file).is_file())
        .map(str::to_owned)
        .collect();
    files.into_iter().collect()
}

fn our_rust_files() -> Vec<String> {
    let mut files = repository_files();
    files.retain(|file| Path::new(file).extension().is_some_and(|end| end == "rs"));
    assert!(files.len() > 50, "only {} files were found", files.len());
    files
}

/// The dependencies of a manifest without a comment directly above. Those from the workspace have their
/// reason there.
fn dependencies_without_reason(name: &str, manifest: &str) -> Vec<String> {
    let mut section = "";
    let mut previous = "";
    let mut bare = Vec::new();
    for line in manifest.lines() {
        if line.starts_with('[') {
            section = line;
        } else if section.contains("dependencies")
            && let Some((dependency, value)) = line.split_once('=')
            && !line.starts_with('#')
            && !dependency.trim().ends_with(".workspace")
            && !value.contains("workspace = true")
            && !previous.starts_with('#')
        {
            bare.push(format!("{name}: {}", dependency.trim()));
        }
        previous = line;
    }
    bare
}

/// What in a line reveals the machine or the mirror that was used.
fn trace_of_a_machine(line: &str) -> Option<&'static str> {
    // In halves, so that this file contains none of them itself.
    let folders = [
        (concat!("/ro", "ot/"), "a home folder"),
        (concat!("/ho", "me/"), "a home folder"),
        (concat!("/Use", "rs/"), "a home folder"),
        (concat!("/tm", "p/"), "a temporary folder"),
    ];
    for (folder, what) in folders {
        // Only at the start of a path: not `https://example.com/home/`.
        let begins = |at: usize| {
            !line[..at].ends_with(|c: char| c.is_alphanumeric() || "._-$})".contains(c))
        };
        let mut places = line.match_indices(folder);
        if places.any(|(at, _)| begins(at) && line.len() > at + folder.len()) {
            return Some(what);
        }
    }
    [
        concat!("replace-", "with"),
        concat!("GOPR", "OXY="),
        concat!("index-", "url"),
    ]
    .iter()
    .any(|setting| line.contains(setting))
    .then_some("the address of a mirror")
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn name_of(file: &Path) -> String {
    file.strip_prefix(root())
        .unwrap_or(file)
        .display()
        .to_string()
}

fn read(file: &str) -> String {
    fs::read_to_string(root().join(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}
