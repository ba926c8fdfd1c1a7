//! Grants kept in memory.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use grantflow::Failure;
use grantflow::store::{Page, RecordKey, Stored, Which};

use crate::{Lease, Store};

/// A store that keeps grants in memory, for the threads of one process. Clones share the grants.
#[derive(Clone, Default)]
pub struct MemoryStore {
    records: Arc<Mutex<BTreeMap<RecordKey, Stored>>>,
    leases: Leases,
}

impl MemoryStore {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    /// Changes what lies under a key if it has this version.
    fn change(&self, key: &RecordKey, expected: Option<u64>, to: Option<&Stored>) -> bool {
        let mut records = lock(&self.records);
        let same = records.get(key).map(|found| found.version) == expected;
        if same {
            match to {
                Some(stored) => records.insert(key.clone(), stored.clone()),
                None => records.remove(key),
            };
        }
        same
    }
}

impl Store for MemoryStore {
    fn load(&self, key: &RecordKey) -> Result<Option<Stored>, Failure> {
        Ok(lock(&self.records).get(key).cloned())
    }
    fn save(&self, key: &RecordKey, expected: Option<u64>, stored: &Stored) -> Result<bool, Failure> {
        Ok(self.change(key, expected, Some(stored)))
    }
    fn delete(&self, key: &RecordKey, expected: u64) -> Result<bool, Failure> {
        Ok(self.change(key, Some(expected), None))
    }
    fn try_lease(&self, key: &RecordKey, _: Duration) -> Result<Option<Lease>, Failure> {
        Ok(self.leases.take(key))
    }
    fn list(&self, which: &Which, after: Option<&RecordKey>, most: usize) -> Result<Page, Failure> {
        let records = lock(&self.records);
        let begin = after.map_or(Bound::Unbounded, Bound::Excluded);
        let found = records.range::<RecordKey, _>((begin, Bound::Unbounded));
        let mut found = found.filter(|(key, stored)| which.has(key, &stored.tags)).map(|(key, _)| key.clone());
        let keys = found.by_ref().take(most).collect();
        Ok(Page { keys, more: found.next().is_some() })
    }
    fn count(&self, which: &Which) -> Result<u64, Failure> {
        let records = lock(&self.records);
        Ok(records.iter().filter(|(key, stored)| which.has(key, &stored.tags)).count() as u64)
    }
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStore").finish_non_exhaustive()
    }
}

/// What is in there, even if a thread panicked with it.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // The thread that panicked held it for one whole change of a map.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Leases among the threads of one process.
#[derive(Clone, Debug, Default)]
pub(crate) struct Leases(Arc<Mutex<BTreeSet<RecordKey>>>);

impl Leases {
    pub(crate) fn take(&self, key: &RecordKey) -> Option<Lease> {
        let guard = || Taken { leases: self.clone(), key: key.clone() };
        lock(&self.0).insert(key.clone()).then(|| Lease::new(None, guard()))
    }
}

struct Taken {
    leases: Leases,
    key: RecordKey,
}

impl Drop for Taken {
    fn drop(&mut self) {
        lock(&self.leases.0).remove(&self.key);
    }
}
