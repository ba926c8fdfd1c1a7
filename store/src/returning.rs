//! Leases on their way back from async programs: the task that drops one cannot wait.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use grantflow::store::RecordKey;

use crate::memory::lock;

/// Gives a lease back, by a command that may be sent any number of times.
pub(crate) struct Release<C> {
    key: RecordKey,
    pub(crate) command: C,
    /// Until when it may still be held, if it cannot be given back.
    asked: Instant,
    time: Duration,
}

impl<C> Release<C> {
    /// For a lease of so much time, which was asked for no earlier than now.
    pub(crate) fn new(key: &RecordKey, command: C, time: Duration) -> Self {
        Self { key: key.clone(), command, asked: Instant::now(), time }
    }
}

/// Those that the server has not confirmed yet. The task that sends one may lie on a runtime that nobody drives:
/// the next caller for the same lease does not wait for it, and sends it too.
pub(crate) struct Returning<C>(Mutex<Vec<Arc<Release<C>>>>);

impl<C> Default for Returning<C> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<C> Returning<C> {
    pub(crate) fn of(&self, key: &RecordKey) -> Vec<Arc<Release<C>>> {
        lock(&self.0).iter().filter(|lease| lease.key == *key).cloned().collect()
    }

    pub(crate) fn begin(&self, release: Arc<Release<C>>) {
        let mut returning = lock(&self.0);
        returning.retain(|lease| lease.asked.elapsed() < lease.time);
        returning.push(release);
    }

    pub(crate) fn end(&self, release: &Arc<Release<C>>) {
        lock(&self.0).retain(|other| !Arc::ptr_eq(other, release));
    }
}
