//! The only thread that writes the file.
//!
//! It waits for the disk so that callers do not have to. Failed writes are retried forever. After an
//! error the file is reopened, since the database no longer trusts its own view.

use std::io;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use super::super::BackendError;
use super::backlog::Backlog;
use super::disk::{Disk, Location};

/// Starts the thread.
pub(super) fn start(
    location: Arc<Location>,
    disk: Disk,
    backlog: Arc<Backlog>,
) -> io::Result<JoinHandle<()>> {
    backlog.begin();
    let end = End(Arc::clone(&backlog));
    thread::Builder::new()
        .name("state-file".to_owned())
        .spawn(move || {
            let _end = end;
            run(&location, disk, &backlog);
        })
}

/// Reports that the writer has ended, also after a panic.
struct End(Arc<Backlog>);

impl Drop for End {
    fn drop(&mut self) {
        self.0.end();
    }
}

fn run(location: &Location, disk: Disk, backlog: &Backlog) {
    let mut disk = Some(disk);
    let mut goes_on = true;
    while goes_on && backlog.wait_until_due() {
        let open = match disk.take().map_or_else(|| reopen(location, backlog), Ok) {
            Ok(open) => open,
            Err(error) => {
                goes_on = backlog.failed(None, error);
                continue;
            }
        };
        let batch = backlog.take();
        match open.write(&backlog.rows(&batch)) {
            Ok(open) => {
                backlog.succeeded(&batch);
                disk = Some(open);
            }
            Err(why) => goes_on = backlog.failed(Some(batch), cannot_write(location, &why)),
        }
    }
}

fn reopen(location: &Location, backlog: &Backlog) -> Result<Disk, BackendError> {
    let found = location
        .open()
        .map_err(|error| error.while_running(location.path()))?;
    if found.is_fresh {
        // The file was removed while it was closed.
        backlog.mark_everything();
    }
    Ok(found.disk)
}

fn cannot_write(location: &Location, why: &str) -> BackendError {
    BackendError::Unavailable {
        why: format!(
            "writing {} failed: {why}; it is retried, and unwritten data stays in memory",
            location.path().display()
        ),
    }
}
