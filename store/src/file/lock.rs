//! Locks on files, which are free as soon as their holder dies.

use std::fs::{File, TryLockError};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use grantflow::Failure;
use grantflow::machine::FailureKind;

use super::failed::failed;
use super::private;
use crate::memory::Leases;

/// How long to wait for others who change a record.
const PATIENCE: Duration = Duration::from_secs(10);

/// What keeps two from working on one record.
#[derive(Clone, Debug)]
pub(super) enum Locks {
    /// Locks on files.
    Files,
    /// Nothing between processes: a table of leases, and a turn for the caller that makes a change.
    Threads(Leases, Arc<Mutex<()>>),
}

/// A file locked by us alone.
pub(super) struct Locked(File);

impl Drop for Locked {
    fn drop(&mut self) {
        // Closing it does the same, but not while a child of another thread has it open for a moment.
        let _ = self.0.unlock();
    }
}

/// Locks the file, if nobody else has it locked.
pub(super) fn try_lock(path: &Path) -> Result<Option<Locked>, Failure> {
    let file = private::open_lock(path)?;
    let tried = file.try_lock();
    locked(path, file, tried)
}

fn locked(path: &Path, file: File, tried: Result<(), TryLockError>) -> Result<Option<Locked>, Failure> {
    match tried {
        Ok(()) => Ok(Some(Locked(file))),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => {
            let why = format!(
                "files cannot be locked here ({error}): choose another directory, or FileStore::without_locks if \
                 only one process uses it"
            );
            Err(failed(path, why))
        }
    }
}

/// Locks the file, and waits a little for those who have it locked.
pub(super) fn lock_soon(path: &Path) -> Result<Locked, Failure> {
    lock_within(path, PATIENCE)
}

fn lock_within(path: &Path, time: Duration) -> Result<Locked, Failure> {
    let end = Instant::now() + time;
    let mut pause = Duration::from_millis(1);
    loop {
        if let Some(locked) = try_lock(path)? {
            return Ok(locked);
        }
        if Instant::now() >= end {
            let why = format!(
                "{}: another process changes this grant and does not come to an end",
                grantflow::Shown::path(path)
            );
            return Err(Failure::not_sent(FailureKind::Timeout, why));
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(20));
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn where_locks_do_not_work_the_error_says_so_and_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let tried = Err(TryLockError::Error(io::ErrorKind::Unsupported.into()));
        let text = locked(&path, private::open_lock(&path).unwrap(), tried).err().unwrap().to_string();
        for part in ["cannot be locked", "without_locks", &path.to_string_lossy()] {
            assert!(text.contains(part), "{text}");
        }
    }

    #[test]
    fn whoever_holds_a_lock_for_ever_is_not_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let held = try_lock(&path).unwrap().unwrap();
        let short = Duration::from_millis(30);
        let failure = lock_within(&path, short).err().unwrap();
        assert!(failure.kind() == FailureKind::Timeout && failure.to_string().contains("another process"));
        drop(held);
        assert!(lock_within(&path, short).is_ok());
    }
}
