//! Opens, checks, reads and writes the state file.
//!
//! Owns the open database. Every page is checked against its checksum before the file is trusted.
//! Damage, including a panic of the database code on invalid content, leads to a new file. A problem
//! that the user can fix leads to an error with the remedy, and the file is not touched. There is one
//! writer at a time, also across processes: the file is locked while it is open.
//!
//! A file whose creation was interrupted counts as damaged and is quarantined; it held nothing. Not
//! detected: damage in the last commit of a killed process looks like an interrupted commit, and is
//! rolled back.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use redb::backends::FileBackend;
use redb::{
    Builder, Database, DatabaseError, Error, ReadableDatabase as _, ReadableTable as _,
    TableDefinition, TableHandle as _,
};

use super::super::{BackendError, Metadata, Quarantined, check_key};

/// The only format that this version reads and writes. Raise it when older versions could not read what
/// is written, and add a migration from each older one to `Location::read`.
pub(super) const FORMAT: u64 = 1;

/// The table that describes the others.
const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
const FORMAT_KEY: &str = "format";

/// Memory for pages. All metadata is in memory already, so this only has to hold what one commit
/// touches; anything beyond it is written a little earlier.
const CACHE: usize = 1024 * 1024;

/// Creates a database from an open file.
pub(super) type Create =
    Box<dyn Fn(&Builder, File) -> Result<Database, DatabaseError> + Send + Sync>;

/// A change of one table: keys with their new metadata, or `None` if it was removed.
pub(super) type Rows = Vec<(Arc<str>, Option<Metadata>)>;

/// Where the file is, and how it is opened.
pub(super) struct Location {
    path: PathBuf,
    create: Create,
}

/// The content of a table.
pub(super) type Table = Vec<(Arc<str>, Metadata)>;

/// An open file and its content.
pub(super) struct Found {
    pub(super) disk: Disk,
    /// By name.
    pub(super) tables: HashMap<String, Table>,
    /// The file was just created.
    pub(super) is_fresh: bool,
}

/// An open file.
pub(super) struct Disk(Database);

/// Why a file was not opened.
#[derive(Debug)]
pub(super) enum OpenError {
    /// The user has to act or wait; the file is unchanged.
    Rejected(BackendError),
    /// The content of the file cannot be trusted.
    Damaged(String),
}

impl Location {
    /// A file at this path.
    pub(super) fn file(path: PathBuf) -> Self {
        Self::with(
            path,
            Box::new(|builder, file| builder.create_with_backend(FileBackend::new(file)?)),
        )
    }

    /// A file at this path, opened by `create`.
    pub(super) fn with(path: PathBuf, create: Create) -> Self {
        Self { path, create }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Opens or creates the file. Quarantines a damaged one and creates a new one in its place.
    pub(super) fn open_or_quarantine(&self) -> Result<(Found, Option<Quarantined>), BackendError> {
        let why = match self.open() {
            Ok(found) => return Ok((found, None)),
            Err(OpenError::Rejected(error)) => return Err(error),
            Err(OpenError::Damaged(why)) => why,
        };
        let path = self.quarantine().map_err(|error| BackendError::Corrupt {
            path: self.path.clone(),
            why: why.clone(),
            remedy: format!("it could not be renamed ({error}), so move it away"),
        })?;
        let aside = Quarantined { path, why };
        match self.open() {
            Ok(found) => Ok((found, Some(aside))),
            // The next attempt finds no damaged file, so this error has to report it.
            Err(error) => Err(BackendError::Unavailable {
                why: format!(
                    "{} (the damaged file there was renamed to {}: {})",
                    error.while_running(&self.path),
                    aside.path.display(),
                    aside.why
                ),
            }),
        }
    }

    /// Opens or creates the file.
    pub(super) fn open(&self) -> Result<Found, OpenError> {
        let file = self.open_file()?;
        let mut builder = Builder::new();
        builder.set_cache_size(CACHE);
        // Otherwise pages are not verified when they are read, and flipped bits go unnoticed.
        builder.set_check_integrity_on_open(true);
        let database = caught(|| (self.create)(&builder, file))
            .map_err(OpenError::Damaged)?
            .map_err(|error| self.classify(error.into()))?;
        let read = caught(|| self.read(&database)).map_err(OpenError::Damaged);
        match read.flatten() {
            Ok(tables) => Ok(Found {
                disk: Disk(database),
                is_fresh: tables.is_none(),
                tables: tables.unwrap_or_default(),
            }),
            Err(error) => {
                close(database);
                Err(error)
            }
        }
    }

    fn open_file(&self) -> Result<File, OpenError> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&self.path)
            .map_err(|error| self.io_error(&error))?;
        let metadata = file.metadata().map_err(|error| self.io_error(&error))?;
        if metadata.is_file() {
            return Ok(file);
        }
        Err(OpenError::Rejected(self.inaccessible(
            "it is not a regular file".to_owned(),
            "give the path of a file",
        )))
    }

    /// Reads the database; returns `None` if it is new.
    fn read(&self, database: &Database) -> Result<Option<HashMap<String, Table>>, OpenError> {
        match self.format(database)? {
            None => {
                self.begin(database).map_err(|error| self.classify(error))?;
                Ok(None)
            }
            Some(FORMAT) => self.tables(database).map(Some),
            Some(other) => Err(self.unknown(format!("format {other}"))),
        }
    }

    /// Returns the format of the database; `None` if it is empty.
    fn format(&self, database: &Database) -> Result<Option<u64>, OpenError> {
        let format = || -> Result<Option<u64>, Error> {
            let transaction = database.begin_read()?;
            if transaction.list_tables()?.next().is_none()
                && transaction.list_multimap_tables()?.next().is_none()
            {
                return Ok(None);
            }
            let format = transaction.open_table(META)?.get(FORMAT_KEY)?;
            let missing = || Error::TableDoesNotExist(META.name().to_owned());
            format
                .map(|format| format.value())
                .ok_or_else(missing)
                .map(Some)
        };
        format().map_err(|error| self.classify(error))
    }

    /// Initializes an empty database.
    fn begin(&self, database: &Database) -> Result<(), Error> {
        let transaction = database.begin_write()?;
        transaction
            .open_table(META)?
            .insert(FORMAT_KEY, FORMAT)
            .map(drop)?;
        transaction.commit()?;
        // Otherwise the file's directory entry may be lost in a power failure.
        if let Some(folder) = self.path.parent() {
            let folder = if folder.as_os_str().is_empty() {
                Path::new(".")
            } else {
                folder
            };
            File::open(folder)?.sync_all()?;
        }
        Ok(())
    }

    fn tables(&self, database: &Database) -> Result<HashMap<String, Table>, OpenError> {
        let read = || -> Result<_, Error> {
            let transaction = database.begin_read()?;
            let mut tables = HashMap::new();
            for table in transaction.list_tables()? {
                if table.name() == META.name() {
                    continue;
                }
                let rows = transaction.open_table(rows_of(table.name()))?;
                let mut entries = Vec::new();
                for row in rows.iter()? {
                    let (key, metadata) = row?;
                    check_key(key.value()).map_err(|error| corrupted(&error))?;
                    entries.push((Arc::from(key.value()), Metadata::new(metadata.value())));
                }
                tables.insert(table.name().to_owned(), entries);
            }
            Ok(tables)
        };
        read().map_err(|error| self.classify(error))
    }

    /// Classifies a database error by its effect on the file.
    fn classify(&self, error: Error) -> OpenError {
        match error {
            Error::DatabaseAlreadyOpen | Error::LockProtocolMismatch => {
                OpenError::Rejected(BackendError::InUse {
                    path: self.path.clone(),
                })
            }
            Error::UpgradeRequired(version) => {
                self.unknown(format!("a database of file format {version}"))
            }
            Error::TableDoesNotExist(_)
            | Error::TableTypeMismatch { .. }
            | Error::TableIsMultimap(_)
            | Error::TypeDefinitionChanged { .. } => {
                self.unknown("tables of another program".to_owned())
            }
            Error::Corrupted(why) => OpenError::Damaged(why),
            Error::Io(error)
                if [ErrorKind::InvalidData, ErrorKind::UnexpectedEof].contains(&error.kind()) =>
            {
                OpenError::Damaged(error.to_string())
            }
            Error::Io(error) => self.io_error(&error),
            other => OpenError::Rejected(BackendError::Unavailable {
                why: format!("{} cannot be opened: {other}", self.path.display()),
            }),
        }
    }

    fn io_error(&self, error: &io::Error) -> OpenError {
        let remedy = match error.kind() {
            ErrorKind::NotFound => "create its directory first",
            ErrorKind::NotADirectory => "give a path whose parents are directories",
            ErrorKind::IsADirectory => "give the path of a file",
            ErrorKind::PermissionDenied => {
                "let the user that this runs as read and write it and its directory"
            }
            ErrorKind::ReadOnlyFilesystem => "mount its file system writable",
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => "free some disk space",
            _ => {
                return OpenError::Rejected(BackendError::Unavailable {
                    why: format!("{} cannot be opened: {error}", self.path.display()),
                });
            }
        };
        OpenError::Rejected(self.inaccessible(error.to_string(), remedy))
    }

    fn inaccessible(&self, why: String, remedy: &'static str) -> BackendError {
        BackendError::Inaccessible {
            path: self.path.clone(),
            why,
            remedy,
        }
    }

    fn unknown(&self, found: String) -> OpenError {
        OpenError::Rejected(BackendError::UnknownFormat {
            path: self.path.clone(),
            found,
            ours: FORMAT,
        })
    }

    /// Renames the file to an unused path and returns that.
    fn quarantine(&self) -> io::Result<PathBuf> {
        let seconds = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_secs());
        let mut name = self.path.clone().into_os_string();
        name.push(format!(".damaged-{seconds}"));
        let mut path = PathBuf::from(&name);
        let mut number = 1;
        while path.symlink_metadata().is_ok() {
            let mut other = name.clone();
            other.push(format!("-{number}"));
            path = PathBuf::from(other);
            number += 1;
        }
        fs::rename(&self.path, &path)?;
        Ok(path)
    }
}

impl OpenError {
    /// Returns the error for a file that is not quarantined. While the program runs, a disk that
    /// damages every file would otherwise fill up with them.
    pub(super) fn while_running(self, path: &Path) -> BackendError {
        match self {
            Self::Rejected(error) => BackendError::Unavailable {
                why: error.to_string(),
            },
            Self::Damaged(why) => BackendError::Corrupt {
                path: path.to_owned(),
                why,
                remedy: "restart, which quarantines it and creates a new one".to_owned(),
            },
        }
    }
}

impl Disk {
    /// Commits all changes or none. After an error the file is closed and has to be reopened.
    pub(super) fn write(self, changes: &[(&'static str, Rows)]) -> Result<Self, String> {
        match caught(|| self.try_write(changes)).flatten() {
            Ok(()) => Ok(self),
            Err(why) => {
                close(self.0);
                Err(why)
            }
        }
    }

    fn try_write(&self, changes: &[(&'static str, Rows)]) -> Result<(), String> {
        let write = || -> Result<(), Error> {
            let transaction = self.0.begin_write()?;
            for (name, rows) in changes {
                let mut table = transaction.open_table(rows_of(name))?;
                for (key, metadata) in rows {
                    match metadata {
                        Some(metadata) => table.insert(&**key, metadata.bytes()).map(drop)?,
                        None => table.remove(&**key).map(drop)?,
                    }
                }
            }
            transaction.commit()?;
            Ok(())
        };
        write().map_err(|error| error.to_string())
    }
}

fn rows_of(name: &str) -> TableDefinition<'_, &'static str, &'static [u8]> {
    TableDefinition::new(name)
}

fn corrupted(error: &BackendError) -> Error {
    Error::Corrupted(error.to_string())
}

/// Runs database code, which may panic on a damaged file. The database must be closed after a panic,
/// but not while unwinding: a second panic would abort the process.
fn caught<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|panic| {
        panic
            .downcast_ref::<&str>()
            .map(|message| (*message).to_owned())
            .or_else(|| panic.downcast_ref::<String>().cloned())
            .unwrap_or_else(|| "its content is invalid".to_owned())
    })
}

/// Closes a database that is no longer needed.
fn close(database: Database) {
    // Errors and panics do not matter here.
    let _ = caught(move || drop(database));
}
