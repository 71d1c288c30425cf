//! The folder of a control plane, and whether it stays.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use tempfile::TempDir;

/// Set to `1`, this keeps the folder of every control plane.
const KEEP_LOGS: &str = "NODE_INSIGHTS_KEEP_LOGS";

/// A temporary folder, removed by its drop unless the thread is panicking or `NODE_INSIGHTS_KEEP_LOGS`
/// is `1`: then it stays, and a line on stderr says where.
#[derive(Debug)]
pub(crate) struct Folder {
    dir: Option<TempDir>,
    path: PathBuf,
}

impl Folder {
    pub(crate) fn create() -> Result<Self> {
        // For its owner only: it holds the admin's key, and etcd's socket needs no credentials.
        let dir = tempfile::Builder::new()
            .prefix("node-insights-")
            .permissions(Permissions::from_mode(0o700))
            .tempdir()
            .context("creating the folder of the control plane")?;
        let path = dir.path().to_owned();
        Ok(Self {
            dir: Some(dir),
            path,
        })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Leaves the folder where it is, without a message.
    pub(crate) fn keep(mut self) -> PathBuf {
        self.dir.take().map(TempDir::keep);
        self.path.clone()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let Some(dir) = self.dir.take() else { return };
        if std::thread::panicking() || std::env::var_os(KEEP_LOGS).is_some_and(|value| value == "1")
        {
            eprintln!("The control plane's logs are in {}", dir.keep().display());
        }
    }
}
