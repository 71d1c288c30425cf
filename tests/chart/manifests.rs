//! `config/` is what `make manifests` generates from the chart.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Result, ensure};
use tempfile::TempDir;

use crate::support::project;

/// The files of `config/` that are written by hand.
const BY_HAND: [&str; 2] = ["kustomization.yaml", "namespace.yaml"];

#[test]
fn the_plain_manifests_are_those_of_the_chart() -> Result<()> {
    let fresh = TempDir::new()?;
    let output = Command::new(project().join("hack/manifests.sh"))
        .arg(fresh.path())
        .output()?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "hack/manifests.sh: {stderr}");
    let mut count = 0;
    for folder in ["rbac", "default"] {
        let generated = files(&fresh.path().join(folder))?;
        let mut committed = files(&project().join("config").join(folder))?;
        let kustomization = committed["kustomization.yaml"].clone();
        for name in committed
            .keys()
            .filter(|name| *name != "kustomization.yaml")
        {
            let line = format!("  - {name}\n");
            assert!(
                kustomization.contains(&line),
                "config/{folder}/kustomization.yaml does not name {name}"
            );
        }
        committed.retain(|name, _| !BY_HAND.contains(&name.as_str()));
        let names = |files: &BTreeMap<String, String>| files.keys().cloned().collect::<Vec<_>>();
        assert_eq!(names(&committed), names(&generated), "config/{folder}");
        for (name, text) in &generated {
            assert!(
                committed[name] == *text,
                "config/{folder}/{name} is not up to date with the chart: run `make manifests`"
            );
            assert!(
                !text.contains("Helm"),
                "config/{folder}/{name} mentions Helm"
            );
            count += 1;
        }
    }
    assert!(count >= 12, "{count}");
    Ok(())
}

fn files(folder: &Path) -> Result<BTreeMap<String, String>> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        files.insert(name, fs::read_to_string(&path)?);
    }
    Ok(files)
}
