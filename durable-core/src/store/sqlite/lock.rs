//! At most one worker process for each file, by a lock of the operating system.
//!
//! The lock is on a file of its own beside the database: closing any handle of a file drops the POSIX
//! locks that SQLite holds on it. It dies with the process, so that after a `SIGKILL` the next worker
//! serves at once. The file stays where it is: removing it would let two workers hold two locks.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use durable_machine::model::WorkerId;
use uuid::Uuid;

use super::super::StoreError;

/// A client that asks whether anybody holds the lock holds it for an instant itself.
pub(super) const TRIES: u32 = 20;
pub(super) const BETWEEN_TRIES: Duration = Duration::from_millis(10);

/// The lock of a worker, or the absence of one.
pub(super) struct WorkerLock {
    path: PathBuf,
    held: Mutex<Option<(WorkerId, File)>>,
}

/// What one try to take the lock gave.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Try {
    /// Taken now.
    Taken,
    /// This worker has it already.
    Mine,
    /// Another process has it, or another store of this one.
    Theirs { pid: Option<u32> },
}

impl WorkerLock {
    pub(super) fn beside(database: &Path) -> Self {
        let mut name = database.as_os_str().to_owned();
        name.push(".lock");
        Self { path: name.into(), held: Mutex::new(None) }
    }

    pub(super) fn try_take(&self, worker: WorkerId) -> Result<Try, StoreError> {
        let mut held = self.held();
        if let Some((holder, _)) = &*held {
            return if *holder == worker {
                Ok(Try::Mine)
            } else {
                Err(StoreError::HubInUse { pid: Some(std::process::id()) })
            };
        }
        let mut file = self.open()?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Ok(Try::Theirs { pid: read(&mut file).map(|(pid, _)| pid) });
            }
            Err(TryLockError::Error(error)) => return Err(self.broken(&error)),
        }
        // For people and for `HubInUse`; the lock itself is what counts.
        let written = file
            .set_len(0)
            .and_then(|()| file.seek(SeekFrom::Start(0)))
            .and_then(|_| writeln!(file, "{}\n{worker}", std::process::id()));
        if let Err(error) = written {
            return Err(self.broken(&error));
        }
        *held = Some((worker, file));
        Ok(Try::Taken)
    }

    /// Who holds the lock now, in this process or another.
    pub(super) fn holder(&self) -> Result<Option<WorkerId>, StoreError> {
        if let Some((worker, _)) = &*self.held() {
            return Ok(Some(*worker));
        }
        let mut file = self.open()?;
        // Shared, so that two who ask do not take each other for a worker.
        match file.try_lock_shared() {
            Ok(()) => Ok(None),
            Err(TryLockError::WouldBlock) => Ok(read(&mut file).and_then(|(_, worker)| worker)),
            Err(TryLockError::Error(error)) => Err(self.broken(&error)),
        }
    }

    pub(super) fn give_up(&self, worker: WorkerId) {
        let mut held = self.held();
        if held.as_ref().is_some_and(|(holder, _)| *holder == worker) {
            // Closing the file drops the lock.
            *held = None;
        }
    }

    fn open(&self) -> Result<File, StoreError> {
        OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&self.path)
            .map_err(|error| self.broken(&error))
    }

    fn broken(&self, error: &std::io::Error) -> StoreError {
        StoreError::Unusable(format!(
            "the lock file {} cannot be used: {error}",
            self.path.display()
        ))
    }

    fn held(&self) -> MutexGuard<'_, Option<(WorkerId, File)>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Process id and worker as the holder wrote them. Where a locked file cannot be read (Windows), or is
/// just being written, nobody knows.
fn read(file: &mut File) -> Option<(u32, Option<WorkerId>)> {
    let mut text = String::new();
    file.read_to_string(&mut text).ok()?;
    let mut lines = text.lines();
    let pid = lines.next()?.parse().ok()?;
    Some((pid, lines.next().and_then(|line| Uuid::parse_str(line).ok()).map(WorkerId)))
}
