//! Backup and restore of etcd: how a real cluster goes back in time.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use super::start::start_etcd;
use super::{ControlPlane, KILL_DEADLINE};

/// A copy of etcd's data, valid as long as the control plane's folder exists.
#[derive(Clone, Debug)]
pub struct Backup {
    dir: PathBuf,
}

impl ControlPlane {
    /// Copies etcd's current data. The API server is down meanwhile.
    ///
    /// # Errors
    ///
    /// When the data cannot be copied or a server does not come back.
    pub async fn backup(&mut self) -> Result<Backup> {
        let number = (1..u32::MAX).find(|number| !self.layout.backup(*number).exists());
        let dir = self.layout.backup(number.unwrap_or_default());
        self.without_servers(|data| copy(data, &dir)).await?;
        Ok(Backup { dir })
    }

    /// Restores etcd from the backup: resource versions go back, and whatever was written since is gone. The API
    /// server is down meanwhile.
    ///
    /// # Errors
    ///
    /// When the data cannot be copied or a server does not come back.
    pub async fn restore(&mut self, backup: &Backup) -> Result<()> {
        self.without_servers(|data| {
            fs::remove_dir_all(data)?;
            copy(&backup.dir, data)
        })
        .await
    }

    async fn without_servers(&mut self, work: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
        self.stop_api_server().await?;
        self.etcd.kill()?;
        self.etcd.wait_timeout(KILL_DEADLINE).await?;
        let data = self.layout.etcd_data();
        work(&data).with_context(|| format!("copying {}", data.display()))?;
        self.etcd = start_etcd(&self.etcd_program, &self.layout).await?;
        self.start_api_server().await
    }
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}
