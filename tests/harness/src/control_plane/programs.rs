//! Where the programs of the control plane are.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Stdio;

use anyhow::{Context as _, Result, ensure};
use tokio::process::Command;
use tokio::sync::Mutex;

/// Finds the programs, and builds what is missing.
const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../hack/control-plane.sh");

/// The programs found by this process. Locked during a build, so that concurrent tests wait for it.
static FOUND: Mutex<BTreeMap<String, PathBuf>> = Mutex::const_new(BTreeMap::new());

/// The paths of the programs `names`, in that order; what is missing is built, once, into the user's cache folder.
///
/// # Errors
///
/// When one is unknown, or cannot be built.
pub async fn find<const N: usize>(names: [&str; N]) -> Result<[PathBuf; N]> {
    let mut found = FOUND.lock().await;
    let missing: Vec<&str> = names
        .into_iter()
        .filter(|name| !found.contains_key(*name))
        .collect();
    if !missing.is_empty() {
        let output = Command::new(SCRIPT)
            .args(&missing)
            .stdin(Stdio::null())
            .stderr(Stdio::inherit()) // a build takes minutes: show its progress
            .kill_on_drop(true)
            .output()
            .await
            .with_context(|| format!("running {SCRIPT}"))?;
        ensure!(
            output.status.success(),
            "{SCRIPT} failed with {}: see its output above",
            output.status
        );
        let paths = String::from_utf8(output.stdout)?;
        ensure!(
            paths.lines().count() == missing.len(),
            "{SCRIPT} printed {paths:?} for {missing:?}"
        );
        found.extend(
            missing
                .into_iter()
                .map(String::from)
                .zip(paths.lines().map(PathBuf::from)),
        );
    }
    Ok(names.map(|name| found.get(name).cloned().unwrap_or_default()))
}
