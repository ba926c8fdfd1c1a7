//! What all of the manager's files lock with.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// What a lock protects is whole between any two statements: a panic elsewhere does not concern it.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
