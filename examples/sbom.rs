//! Reduces the output of cargo-cyclonedx to the crates in the operator: `make sbom`.
//!
//! cargo-cyclonedx reads `cargo metadata`, which has one set of features for the whole workspace: including
//! those that only the test harness enables, and optional crates that nothing enables. `cargo tree` lists
//! what is compiled into the operator. Other crates are removed; a missing one is an error. From stdin to
//! stdout.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

const PACKAGE: &str = env!("CARGO_PKG_NAME");

/// Name and version.
type Crate = (String, String);

fn main() -> Result<()> {
    let target = std::env::args()
        .nth(1)
        .context("Name a target, as in x86_64-unknown-linux-gnu")?;
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text)?;
    let bom = reduce(&text, &crates(&tree(&target)?)?)?;
    let mut out = std::io::stdout().lock();
    serde_json::to_writer_pretty(&mut out, &bom)?;
    writeln!(out)?;
    Ok(())
}

/// The operator's dependencies according to cargo, without those for builds and tests. Includes macros, whose
/// output is compiled in.
fn tree(target: &str) -> Result<String> {
    let output = Command::new(env!("CARGO"))
        .args(["tree", "--locked", "--package", PACKAGE, "--target", target])
        .args(["--edges", "normal", "--prefix", "none", "--format", "{p}"])
        .output()
        .context("Cannot run cargo tree")?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "cargo tree: {stderr}");
    Ok(String::from_utf8(output.stdout)?)
}

/// The crates of lines like `serde v1.0.229 (*)`, without the operator itself.
fn crates(tree: &str) -> Result<BTreeSet<Crate>> {
    let mut crates = BTreeSet::new();
    for line in tree.lines().filter(|line| !line.is_empty()) {
        let mut words = line.split_whitespace();
        let (name, version) = (words.next(), words.next());
        let version = version.and_then(|version| version.strip_prefix('v'));
        let (Some(name), Some(version)) = (name, version) else {
            bail!("cargo tree printed an unexpected line: {line}");
        };
        if name != PACKAGE {
            crates.insert((name.to_owned(), version.to_owned()));
        }
    }
    ensure!(!crates.is_empty(), "cargo tree lists no crates");
    Ok(crates)
}

/// The bill of materials with exactly these crates, and without paths of this machine.
fn reduce(bom: &str, crates: &BTreeSet<Crate>) -> Result<Value> {
    let mut bom: Value = serde_json::from_str(bom).context("The bill of materials is not JSON")?;
    ensure!(
        bom["bomFormat"] == "CycloneDX",
        "That is not a CycloneDX bill of materials"
    );
    let own = text(&bom["metadata"]["component"]["bom-ref"])?.to_owned();
    ensure!(
        bom["metadata"]["component"]["name"] == PACKAGE,
        "That is not the bill of materials of {PACKAGE}"
    );

    let mut included = BTreeSet::from([own.clone()]);
    let mut missing = crates.clone();
    for component in list(&mut bom, "components")? {
        let id = (
            text(&component["name"])?.to_owned(),
            text(&component["version"])?.to_owned(),
        );
        if missing.remove(&id) {
            included.insert(text(&component["bom-ref"])?.to_owned());
        }
    }
    ensure!(missing.is_empty(), "These crates are missing: {missing:?}");

    let is_included = |value: &Value| value.as_str().is_some_and(|id| included.contains(id));
    list(&mut bom, "components")?.retain(|component| is_included(&component["bom-ref"]));
    let edges = list(&mut bom, "dependencies")?;
    edges.retain(|edge| is_included(&edge["ref"]));
    for edge in edges {
        if let Some(to) = edge["dependsOn"].as_array_mut() {
            to.retain(is_included);
        }
    }
    // `path+file:///folder#node-insights@0.1.0`
    let (folder, _) = own
        .split_once('#')
        .with_context(|| format!("Unexpected reference of the operator: {own}"))?;
    let text = bom.to_string().replace(&format!("{folder}#"), "");
    Ok(serde_json::from_str(&text)?)
}

fn list<'a>(bom: &'a mut Value, key: &str) -> Result<&'a mut Vec<Value>> {
    bom[key]
        .as_array_mut()
        .with_context(|| format!("The bill of materials has no {key}"))
}

fn text(value: &Value) -> Result<&str> {
    value.as_str().context("Something has no name")
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::unwrap_used,
        reason = "in tests a failed expectation is the result"
    )]

    use serde_json::json;

    use super::*;

    const TREE: &str = "node-insights v0.1.0 (/a/folder)\nserde v1.0.229\nserde_derive v1.0.229 (proc-macro)\nserde v1.0.229 (*)\n";

    fn bom() -> Value {
        let own = "path+file:///a/folder#node-insights@0.1.0";
        json!({
            "bomFormat": "CycloneDX",
            "metadata": {"component": {"bom-ref": own, "name": "node-insights"}},
            "components": [
                {"bom-ref": "r#serde@1.0.229", "name": "serde", "version": "1.0.229"},
                {"bom-ref": "r#serde_derive@1.0.229", "name": "serde_derive", "version": "1.0.229"},
                {"bom-ref": "r#proptest@1.12.0", "name": "proptest", "version": "1.12.0"},
            ],
            "dependencies": [
                {"ref": own, "dependsOn": ["r#serde@1.0.229", "r#proptest@1.12.0"]},
                {"ref": "r#serde@1.0.229", "dependsOn": ["r#serde_derive@1.0.229"]},
                {"ref": "r#proptest@1.12.0"},
            ],
        })
    }

    #[test]
    fn crates_of_tests_and_local_paths_are_removed() {
        let reduced = reduce(&bom().to_string(), &crates(TREE).unwrap()).unwrap();
        let expected = json!({
            "bomFormat": "CycloneDX",
            "metadata": {"component": {"bom-ref": "node-insights@0.1.0", "name": "node-insights"}},
            "components": [
                {"bom-ref": "r#serde@1.0.229", "name": "serde", "version": "1.0.229"},
                {"bom-ref": "r#serde_derive@1.0.229", "name": "serde_derive", "version": "1.0.229"},
            ],
            "dependencies": [
                {"ref": "node-insights@0.1.0", "dependsOn": ["r#serde@1.0.229"]},
                {"ref": "r#serde@1.0.229", "dependsOn": ["r#serde_derive@1.0.229"]},
            ],
        });
        assert_eq!(reduced, expected);
    }

    #[test]
    fn a_crate_that_is_missing_or_of_another_version_is_reported() {
        let crates = crates(TREE).unwrap();
        for (at, key, value) in [(0, "name", "other"), (1, "version", "1.0.228")] {
            let mut bom = bom();
            bom["components"][at][key] = value.into();
            let error = reduce(&bom.to_string(), &crates).unwrap_err().to_string();
            assert!(
                error.contains("serde") && error.contains("missing"),
                "{error}"
            );
        }
    }

    #[test]
    fn other_input_is_rejected() {
        let all = crates(TREE).unwrap();
        let mut other = bom();
        other["metadata"]["component"]["name"] = "harness".into();
        for text in ["", "{}", "[1]", &other.to_string()] {
            assert!(reduce(text, &all).is_err(), "{text}");
        }
        assert!(crates("").is_err() && crates("serde\n").is_err());
    }
}
