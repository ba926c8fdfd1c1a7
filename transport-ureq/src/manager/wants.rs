//! What a pool holds: its credentials by name, and the slots of their wants.

use std::borrow::Borrow;
use std::collections::{HashMap, HashSet};
use std::hash::{Hash, Hasher};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use grantflow::source::Want;
use grantflow::{Error, ErrorKind};

use super::flight::Credential;
use super::slot::{Closed, Slot};

/// All credentials and wants of a pool. Its lock is held for look-ups only.
pub(crate) struct Wants {
    pub(super) names: RwLock<Names>,
    pub(super) most: usize,
    /// How often a want was asked for: a clock by which the oldest is found. It begins again at its end: that
    /// the wrong ones are forgotten once in a few thousand million calls does no harm.
    pub(super) asked: AtomicU32,
}

#[derive(Default)]
pub(super) struct Names {
    pub(super) credentials: HashMap<Arc<str>, Entry>,
    pub(super) count: usize,
    pub(super) closed: bool,
}

pub(super) struct Entry {
    pub(super) credential: Arc<Credential>,
    pub(super) slots: HashSet<Held>,
}

/// A slot, found by its want.
pub(super) struct Held(pub(super) Arc<Slot>);

impl Borrow<Want> for Held {
    fn borrow(&self) -> &Want {
        &self.0.want
    }
}

impl Hash for Held {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.want.hash(state);
    }
}

impl PartialEq for Held {
    fn eq(&self, other: &Self) -> bool {
        self.0.want == other.0.want
    }
}

impl Eq for Held {}

impl Names {
    pub(super) fn entry(&self, name: &str) -> Result<&Entry, Error> {
        self.credentials.get(name).ok_or_else(|| unknown(name))
    }
}

impl Wants {
    pub(super) fn new(most: Option<usize>) -> Self {
        Self { names: RwLock::default(), most: most.unwrap_or(usize::MAX), asked: AtomicU32::new(0) }
    }

    pub(super) fn read(&self) -> Result<RwLockReadGuard<'_, Names>, Error> {
        let names = self.names.read().unwrap_or_else(PoisonError::into_inner);
        if names.closed { Err(Closed::ShutDown.error()) } else { Ok(names) }
    }

    pub(super) fn write(&self) -> Result<RwLockWriteGuard<'_, Names>, Error> {
        let names = self.names.write().unwrap_or_else(PoisonError::into_inner);
        if names.closed { Err(Closed::ShutDown.error()) } else { Ok(names) }
    }

    /// The slot of a want, made now if there is none.
    pub(super) fn slot(&self, name: &str, want: Want) -> Result<Arc<Slot>, Error> {
        if let Some(Held(slot)) = self.read()?.entry(name)?.slots.get(&want) {
            self.touch(slot);
            return Ok(slot.clone());
        }
        let mut names = self.write()?;
        let entry = names.credentials.get_mut(name).ok_or_else(|| unknown(name))?;
        if let Some(Held(slot)) = entry.slots.get(&want) {
            return Ok(slot.clone());
        }
        let slot = Slot::new(&entry.credential, want);
        self.touch(&slot);
        entry.slots.insert(Held(slot.clone()));
        names.count += 1;
        let forgotten = if names.count > self.most { names.oldest(names.count - self.most) } else { Vec::new() };
        for slot in &forgotten {
            names.remove(slot);
        }
        drop(names);
        forgotten.iter().for_each(|slot| slot.close(Closed::Removed));
        Ok(slot)
    }

    pub(super) fn touch(&self, slot: &Slot) {
        if self.most != usize::MAX {
            slot.asked.store(self.asked.fetch_add(1, Relaxed), Relaxed);
        }
    }

    /// Forgets all wants of the credential of this slot's.
    pub(crate) fn clear(&self, slot: &Slot) {
        let Ok(names) = self.read() else { return };
        if let Some(entry) = names.credentials.get(&slot.home.name)
            && Arc::ptr_eq(&entry.credential, &slot.home)
        {
            entry.slots.iter().for_each(|Held(slot)| slot.clear());
        }
    }

    pub(crate) fn forget(&self, slot: &Arc<Slot>) {
        if let Ok(mut names) = self.write() {
            names.remove(slot);
        }
    }

    /// Closes all there is, and hands out what it was of.
    pub(crate) fn close(&self) -> Vec<Arc<Credential>> {
        let Ok(mut names) = self.write() else { return Vec::new() };
        names.closed = true;
        names.count = 0;
        let entries = std::mem::take(&mut names.credentials);
        drop(names);
        let close = |entry: Entry| {
            entry.slots.iter().for_each(|Held(slot)| slot.close(Closed::ShutDown));
            entry.credential
        };
        entries.into_values().map(close).collect()
    }
}

impl Names {
    /// The wants that nobody asked for the longest and nobody holds: as many as this, and some more, so that
    /// the next ones need no search.
    pub(super) fn oldest(&self, excess: usize) -> Vec<Arc<Slot>> {
        // One owner is the pool itself.
        let idle = |Held(slot): &&Held| Arc::strong_count(slot) == 1;
        let slots = self.credentials.values().flat_map(|entry| entry.slots.iter().filter(idle));
        let mut slots: Vec<_> = slots.map(|Held(slot)| (slot.asked.load(Relaxed), slot)).collect();
        slots.sort_unstable_by_key(|(asked, _)| *asked);
        slots.into_iter().take(excess + self.count / 32).map(|(_, slot)| slot.clone()).collect()
    }

    pub(super) fn remove(&mut self, slot: &Arc<Slot>) {
        if let Some(entry) = self.credentials.get_mut(&slot.home.name)
            && entry.slots.get(&slot.want).is_some_and(|Held(held)| Arc::ptr_eq(held, slot))
        {
            entry.slots.remove(&slot.want);
            self.count -= 1;
        }
    }
}

pub(super) fn unknown(name: &str) -> Error {
    Error::new(
        ErrorKind::Config,
        format!("the pool has no credential named {:?}: add it first", grantflow::Shown::name(name)),
    )
}
