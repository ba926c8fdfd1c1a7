//! What slots and flights are built on. Their model test puts others in its place.

use std::sync::PoisonError;

pub(crate) use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize};
pub(crate) use std::sync::{Condvar, Mutex, MutexGuard};

/// What a lock protects is whole between any two statements: a panic elsewhere does not concern it.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Waits for a call of `notify_all`, or for nothing.
pub(crate) fn wait<'a, T>(condvar: &Condvar, guard: MutexGuard<'a, T>) -> MutexGuard<'a, T> {
    condvar.wait(guard).unwrap_or_else(PoisonError::into_inner)
}
