//! A disk that fails on request.

use std::io::{Error, ErrorKind, Result};
use std::ops::Bound;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use redb::backends::FileBackend;
use redb::{BackendError, StorageBackend};

use super::super::disk::Location;

/// The health of the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Health {
    Well,
    /// Nothing can be written.
    Full,
    /// Nothing can be written, and reads return garbage.
    Garbled,
    /// Writes hang.
    Hangs,
    /// Nothing is written from this operation on, counted from the beginning, as if the process had
    /// been killed there.
    Ends(u64),
    /// Writes panic.
    Panics,
}

#[derive(Debug)]
pub(super) struct Control {
    health: Mutex<Health>,
    changed: Condvar,
    /// Number of attempted writes.
    operations: AtomicU64,
    synced: Sender<()>,
    events: Mutex<Receiver<()>>,
}

impl Control {
    /// A healthy disk.
    pub(super) fn new() -> Arc<Self> {
        let (synced, events) = channel();
        Arc::new(Self {
            health: Mutex::new(Health::Well),
            changed: Condvar::new(),
            operations: AtomicU64::new(0),
            synced,
            events: Mutex::new(events),
        })
    }

    /// A file on this disk.
    pub(super) fn file(self: &Arc<Self>, path: PathBuf) -> Location {
        let control = Arc::clone(self);
        Location::with(
            path,
            Box::new(move |builder, file| {
                builder.create_with_backend(Faulty {
                    file: FileBackend::new(file)?,
                    control: Arc::clone(&control),
                })
            }),
        )
    }

    pub(super) fn set(&self, health: Health) {
        *self.health.lock().unwrap() = health;
        self.changed.notify_all();
    }

    pub(super) fn operations(&self) -> u64 {
        self.operations.load(Ordering::SeqCst)
    }

    pub(super) fn forget_events(&self) {
        let events = self.events.lock().unwrap();
        while events.try_recv().is_ok() {}
    }

    /// Waits for the next sync to disk.
    pub(super) fn next_sync(&self, most: Duration) {
        self.events.lock().unwrap().recv_timeout(most).unwrap();
    }

    fn before_writing(&self) -> Result<()> {
        let number = self.operations.fetch_add(1, Ordering::SeqCst);
        let health = self.health.lock().unwrap();
        let health = *self
            .changed
            .wait_while(health, |health| *health == Health::Hangs)
            .unwrap();
        match health {
            Health::Well | Health::Hangs => Ok(()),
            Health::Ends(end) if number < end => Ok(()),
            Health::Full | Health::Garbled => Err(ErrorKind::StorageFull.into()),
            Health::Ends(_) => Err(Error::other("the end")),
            Health::Panics => panic!("on purpose"),
        }
    }
}

#[derive(Debug)]
struct Faulty {
    file: FileBackend,
    control: Arc<Control>,
}

impl StorageBackend for Faulty {
    fn len(&self) -> Result<u64> {
        self.file.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<()> {
        self.file.read(offset, out)?;
        if *self.control.health.lock().unwrap() == Health::Garbled {
            for byte in out {
                *byte ^= 0x55;
            }
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> Result<()> {
        self.control.before_writing()?;
        self.file.set_len(len)
    }

    fn sync_data(&self) -> Result<()> {
        self.control.before_writing()?;
        self.file.sync_data()?;
        // The receiver may be gone.
        let _ = self.control.synced.send(());
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<()> {
        self.control.before_writing()?;
        self.file.write(offset, data)
    }

    fn close(&self) -> Result<()> {
        self.file.close()
    }

    fn try_lock_range(
        &self,
        start: Bound<u64>,
        end: Bound<u64>,
    ) -> std::result::Result<bool, BackendError> {
        self.file.try_lock_range(start, end)
    }

    fn unlock_range(
        &self,
        start: Bound<u64>,
        end: Bound<u64>,
    ) -> std::result::Result<(), BackendError> {
        self.file.unlock_range(start, end)
    }
}
