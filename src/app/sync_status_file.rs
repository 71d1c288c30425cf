//! Persists the sync status in a file, for an operator that runs outside of a cluster.
//!
//! The file is replaced atomically, and only its owner may read it. A save whose future was dropped continues, but
//! never replaces a newer status with an older one.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::task::spawn_blocking;

use crate::registry::sync::{BoxFuture, StatusStore, StoreError, SyncStatus};

/// A status has some hundred bytes; anything longer is not one.
const MOST_BYTES: u64 = 64 << 10;
/// Only the owner may read and write it.
const MODE: u32 = 0o600;

/// The sync status in a file.
pub(super) struct SyncStatusFile {
    place: Arc<Mutex<Place>>,
    /// The number of the next save.
    saves: AtomicU64,
}

/// The file; locked while it is read or written.
struct Place {
    path: PathBuf,
    /// The number of the newest save in the file.
    save: u64,
}

impl SyncStatusFile {
    /// Uses this file, whose folder must exist.
    #[must_use]
    pub(super) fn new(path: PathBuf) -> Self {
        Self {
            place: Arc::new(Mutex::new(Place { path, save: 0 })),
            saves: AtomicU64::new(0),
        }
    }

    /// Runs `work` on a thread that may block.
    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Place) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let place = Arc::clone(&self.place);
        spawn_blocking(move || work(&mut place.lock().unwrap_or_else(PoisonError::into_inner)))
            .await
            .unwrap_or_else(|error| Err(StoreError::Unavailable(error.to_string())))
    }
}

impl StatusStore for SyncStatusFile {
    fn load(&self) -> BoxFuture<'_, Result<Option<SyncStatus>, StoreError>> {
        Box::pin(self.run(|place| load(&place.path)))
    }

    fn save<'a>(&'a self, status: &'a SyncStatus) -> BoxFuture<'a, Result<(), StoreError>> {
        let (status, number) = (status.clone(), self.saves.fetch_add(1, Ordering::Relaxed));
        Box::pin(self.run(move |place| {
            if number >= place.save {
                save(&place.path, &status)?;
                place.save = number;
            }
            Ok(())
        }))
    }
}

fn load(path: &Path) -> Result<Option<SyncStatus>, StoreError> {
    let mut json = Vec::new();
    match File::open(path) {
        Ok(file) => file
            .take(MOST_BYTES)
            .read_to_end(&mut json)
            .map_err(|error| explain("read", path, &error))?,
        Err(error) if error.kind() == ErrorKind::NotFound && folder(path).is_dir() => {
            return Ok(None);
        }
        Err(error) => return Err(explain("open", path, &error)),
    };
    serde_json::from_slice(&json).map(Some).map_err(|error| {
        StoreError::Unreadable(format!(
            "Ignoring the file {}, which is no sync status: {error}",
            path.display()
        ))
    })
}

/// Writes a temporary file in the same folder, then renames it.
fn save(path: &Path, status: &SyncStatus) -> Result<(), StoreError> {
    let mut name = path.as_os_str().to_owned();
    name.push(".tmp");
    let new = PathBuf::from(name);
    let written = write(&new, status).and_then(|()| fs::rename(&new, path));
    written.map_err(|error| {
        // A failure of the cleanup is ignored: the first error is reported.
        let _ = fs::remove_file(&new);
        explain("write", path, &error)
    })
}

fn write(new: &Path, status: &SyncStatus) -> io::Result<()> {
    // A leftover of a crash may have another owner or mode, or be a link.
    if let Err(error) = fs::remove_file(new)
        && error.kind() != ErrorKind::NotFound
    {
        return Err(error);
    }
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(MODE)
        .open(new)?;
    file.write_all(&serde_json::to_vec(status)?)?;
    file.sync_all()
}

fn explain(verb: &str, path: &Path, error: &io::Error) -> StoreError {
    let folder = folder(path);
    let (path, folder_is_missing) = (path.display(), !folder.is_dir());
    StoreError::Unavailable(if folder_is_missing {
        format!(
            "Cannot {verb} the sync status {path}: there is no folder {}; create it, or choose another file",
            folder.display()
        )
    } else {
        format!("Cannot {verb} the sync status {path}: {error}; fix that, or choose another file")
    })
}

fn folder(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        Some(_) | None => Path::new("."),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn status(attempts: u32) -> SyncStatus {
        let json = r#"{"phase":"Complete","reason":"Start","attempts":1,"lastAttempt":"2023-11-14T22:13:20Z",
            "nodesCompared":59,"differencesFound":0,"differencesRepaired":0}"#;
        SyncStatus {
            attempts,
            ..serde_json::from_str(json).unwrap()
        }
    }

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.collect()
    }

    #[tokio::test]
    async fn the_next_process_loads_the_last_saved_status_and_no_temporary_file_remains() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("status.json");
        let store = SyncStatusFile::new(path.clone());
        assert_eq!(store.load().await, Ok(None));
        for attempts in [1, 2] {
            store.save(&status(attempts)).await.unwrap();
        }
        assert_eq!(names(folder.path()), ["status.json"]);
        let next = SyncStatusFile::new(path);
        assert_eq!(next.load().await, Ok(Some(status(2))));
    }

    #[tokio::test]
    async fn only_the_owner_may_read_the_file_even_if_the_old_one_was_readable() {
        let folder = tempfile::tempdir().unwrap();
        let (path, victim) = (folder.path().join("s.json"), folder.path().join("victim"));
        fs::write(&path, "old").unwrap();
        fs::write(&victim, "mine").unwrap();
        symlink(&victim, folder.path().join("s.json.tmp")).unwrap();
        let store = SyncStatusFile::new(path.clone());
        store.save(&status(1)).await.unwrap();
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            MODE
        );
        assert_eq!(fs::read_to_string(&victim).unwrap(), "mine");
    }

    #[tokio::test]
    async fn a_missing_folder_is_named_both_when_reading_and_when_writing() {
        let folder = tempfile::tempdir().unwrap();
        let store = SyncStatusFile::new(folder.path().join("absent/status.json"));
        let errors = [
            store.load().await.unwrap_err(),
            store.save(&status(1)).await.unwrap_err(),
        ];
        for error in errors {
            assert!(matches!(error, StoreError::Unavailable(_)));
            let text = error.to_string();
            assert!(text.contains("there is no folder"), "{text}");
            assert!(text.contains("absent; create it"), "{text}");
        }
    }

    #[tokio::test]
    async fn an_unreadable_file_is_reported_and_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("status.json");
        let mut huge = vec![b' '; 10 << 20];
        huge.extend(serde_json::to_vec(&status(1)).unwrap());
        for junk in [&b""[..], b"{}", b"\xff\xfe", b"null", &huge] {
            fs::write(&path, junk).unwrap();
            let store = SyncStatusFile::new(path.clone());
            let error = store.load().await.unwrap_err();
            assert!(matches!(error, StoreError::Unreadable(_)), "{error}");
            assert!(error.to_string().contains("status.json"), "{error}");
            store.save(&status(1)).await.unwrap();
            assert_eq!(store.load().await, Ok(Some(status(1))));
        }
    }

    #[tokio::test]
    async fn a_failed_save_leaves_no_temporary_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("status.json");
        // Even root cannot replace a folder by a file.
        fs::create_dir(&path).unwrap();
        let store = SyncStatusFile::new(path);
        let error = store.save(&status(1)).await.unwrap_err().to_string();
        assert!(error.contains("Cannot write the sync status"), "{error}");
        assert_eq!(names(folder.path()), ["status.json"]);
    }

    #[tokio::test]
    async fn a_late_save_does_not_replace_a_newer_status() {
        let folder = tempfile::tempdir().unwrap();
        let store = SyncStatusFile::new(folder.path().join("status.json"));
        let (old, new) = (status(1), status(2));
        let late = store.save(&old);
        store.save(&new).await.unwrap();
        late.await.unwrap();
        assert_eq!(store.load().await, Ok(Some(new)));
    }
}
