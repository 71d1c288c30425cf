//! The state file itself: opening, judging, reading and writing it.
//!
//! Owns the open database. Every page is checked against its checksum before anything of the file is
//! believed. Damage, also a panic of the database's code over a file that makes no sense, leads to
//! another file; what a user can mend leads to an error that says how, and the file stays as it is.
//! There is one writer at a time, also across processes: the file is locked while it is open.
//!
//! Not told from damage: a file whose making was cut short is set aside, and held nothing. Not found:
//! damage in the very last commit of a process that was killed looks like a commit that was cut short,
//! and is taken back.

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

use super::super::{BackendError, Metadata, SetAside, check_key};

/// What this version writes, and the only one that it reads. To be raised when an older version could
/// not read what is written, with a way from each older one in `Location::read`.
pub(super) const FORMAT: u64 = 1;

/// The table that says what the others hold.
const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
const FORMAT_KEY: &str = "format";

/// Memory for pages. All that is kept is in memory already, so this only has to hold what one commit
/// touches; more is written a little earlier.
const CACHE: usize = 1024 * 1024;

/// Makes a database of an open file.
pub(super) type Create =
    Box<dyn Fn(&Builder, File) -> Result<Database, DatabaseError> + Send + Sync>;

/// A change of one table: keys with their new metadata, or none any more.
pub(super) type Rows = Vec<(Arc<str>, Option<Metadata>)>;

/// Where the file is, and how it is opened.
pub(super) struct Location {
    path: PathBuf,
    create: Create,
}

/// What a table holds.
pub(super) type Table = Vec<(Arc<str>, Metadata)>;

/// An open file, and what was found in it.
pub(super) struct Found {
    pub(super) disk: Disk,
    /// By name.
    pub(super) tables: HashMap<String, Table>,
    /// Nothing was there.
    pub(super) is_fresh: bool,
}

/// An open file.
pub(super) struct Disk(Database);

/// Why a file was not opened.
#[derive(Debug)]
pub(super) enum OpenError {
    /// The user has to do something, or to wait; the file is as it was.
    Refused(BackendError),
    /// What is in the file cannot be trusted.
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

    /// A file at this path that is read and written in another way.
    pub(super) fn with(path: PathBuf, create: Create) -> Self {
        Self { path, create }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Opens the file, or makes one. One that is damaged is set aside, and a fresh one takes its place.
    pub(super) fn open_or_set_aside(&self) -> Result<(Found, Option<SetAside>), BackendError> {
        let why = match self.open() {
            Ok(found) => return Ok((found, None)),
            Err(OpenError::Refused(error)) => return Err(error),
            Err(OpenError::Damaged(why)) => why,
        };
        let path = self.set_aside().map_err(|error| BackendError::Corrupt {
            path: self.path.clone(),
            why: why.clone(),
            remedy: format!("it could not be renamed ({error}), so move it away"),
        })?;
        let aside = SetAside { path, why };
        match self.open() {
            Ok(found) => Ok((found, Some(aside))),
            // The next attempt finds no damaged file, so what became of it is said here.
            Err(error) => Err(BackendError::Unavailable {
                why: format!(
                    "{} (a damaged file was there, which is now {}: {})",
                    error.while_running(&self.path),
                    aside.path.display(),
                    aside.why
                ),
            }),
        }
    }

    /// Opens the file, or makes one.
    pub(super) fn open(&self) -> Result<Found, OpenError> {
        let file = self.open_file()?;
        let mut builder = Builder::new();
        builder.set_cache_size(CACHE);
        // Else a page is believed as it is read: a flipped bit would be a fact.
        builder.set_check_integrity_on_open(true);
        let database = caught(|| (self.create)(&builder, file))
            .map_err(OpenError::Damaged)?
            .map_err(|error| self.judge(error.into()))?;
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
            .map_err(|error| self.refused(&error))?;
        let metadata = file.metadata().map_err(|error| self.refused(&error))?;
        if metadata.is_file() {
            return Ok(file);
        }
        Err(OpenError::Refused(self.inaccessible(
            "it is no regular file".to_owned(),
            "give the path of a file",
        )))
    }

    /// What the database holds; `None` if it was made just now.
    fn read(&self, database: &Database) -> Result<Option<HashMap<String, Table>>, OpenError> {
        match self.format(database)? {
            None => {
                self.begin(database).map_err(|error| self.judge(error))?;
                Ok(None)
            }
            Some(FORMAT) => self.tables(database).map(Some),
            Some(other) => Err(self.unknown(format!("format {other}"))),
        }
    }

    /// The format of what is in the database; `None` if nothing is.
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
        format().map_err(|error| self.judge(error))
    }

    /// Makes an empty database one of ours.
    fn begin(&self, database: &Database) -> Result<(), Error> {
        let transaction = database.begin_write()?;
        transaction
            .open_table(META)?
            .insert(FORMAT_KEY, FORMAT)
            .map(drop)?;
        transaction.commit()?;
        // Without this the file's name may be gone after a power cut.
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
        read().map_err(|error| self.judge(error))
    }

    /// What an error means for the file.
    fn judge(&self, error: Error) -> OpenError {
        match error {
            Error::DatabaseAlreadyOpen | Error::LockProtocolMismatch => {
                OpenError::Refused(BackendError::InUse {
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
            Error::Io(error) => self.refused(&error),
            other => OpenError::Refused(BackendError::Unavailable {
                why: format!("{} cannot be opened: {other}", self.path.display()),
            }),
        }
    }

    fn refused(&self, error: &io::Error) -> OpenError {
        let remedy = match error.kind() {
            ErrorKind::NotFound => "make its folder first",
            ErrorKind::NotADirectory => "give a path that leads through folders",
            ErrorKind::IsADirectory => "give the path of a file",
            ErrorKind::PermissionDenied => {
                "let the user that this runs as read and write it and its folder"
            }
            ErrorKind::ReadOnlyFilesystem => "mount its file system so that it can be written",
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => "make room for it",
            _ => {
                return OpenError::Refused(BackendError::Unavailable {
                    why: format!("{} cannot be opened: {error}", self.path.display()),
                });
            }
        };
        OpenError::Refused(self.inaccessible(error.to_string(), remedy))
    }

    fn inaccessible(&self, why: String, remedy: &'static str) -> BackendError {
        BackendError::Inaccessible {
            path: self.path.clone(),
            why,
            remedy,
        }
    }

    fn unknown(&self, found: String) -> OpenError {
        OpenError::Refused(BackendError::UnknownFormat {
            path: self.path.clone(),
            found,
            ours: FORMAT,
        })
    }

    /// Renames the file; its new path, which was nobody's.
    fn set_aside(&self) -> io::Result<PathBuf> {
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
    /// The error for a file that is left where it is. While the program runs, a disk that damages every
    /// file would else be filled with them.
    pub(super) fn while_running(self, path: &Path) -> BackendError {
        match self {
            Self::Refused(error) => BackendError::Unavailable {
                why: error.to_string(),
            },
            Self::Damaged(why) => BackendError::Corrupt {
                path: path.to_owned(),
                why,
                remedy: "restart, which sets it aside and begins a fresh one".to_owned(),
            },
        }
    }
}

impl Disk {
    /// Writes all of it, or nothing. After an error the file is closed: it has to be opened anew.
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

/// Runs code of the database, which may take a damaged file for a mistake of its own, and panic. What
/// it works on is to be closed then, but not while the panic goes on: one more would end the process.
fn caught<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|panic| {
        panic
            .downcast_ref::<&str>()
            .map(|message| (*message).to_owned())
            .or_else(|| panic.downcast_ref::<String>().cloned())
            .unwrap_or_else(|| "it makes no sense".to_owned())
    })
}

/// Closes a database that is of no use any more.
fn close(database: Database) {
    // Whatever it says, nothing follows from it.
    let _ = caught(move || drop(database));
}
