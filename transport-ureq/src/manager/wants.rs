//! What a pool holds: its credentials by name, and the slots of their wants.
//!
//! No step is longer for a larger pool: what is there lies in tables that grow by small parts, and of a bounded pool a
//! hand goes round that forgets, of each few wants that it comes to, the one that was asked for the longest ago.

use std::hash::{BuildHasher as _, RandomState};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use grantflow::source::Want;
use grantflow::table::Table;
use grantflow::{Error, ErrorKind};

use super::credential::Credential;
use super::slot::{Closed, Slot};

/// Of how many wants one is forgotten where there is one too many.
const LOOKS: usize = 16;
/// How many are forgotten at once, at the most, where there are more too many, since managers held them.
const FORGOTTEN: usize = 2;

/// All credentials and wants of a pool. Its lock is held for look-ups only.
pub(crate) struct Wants {
    names: RwLock<Names>,
    seed: RandomState,
    most: usize,
    /// Counts the new wants: the clock of [`Slot::asked`]. It begins again at its end: that the wrong ones are forgotten
    /// once in a few thousand million does no harm.
    now: AtomicU32,
}

#[derive(Default)]
pub(super) struct Names {
    credentials: Table<Entry>,
    wants: Table<Arc<Slot>>,
    closed: bool,
}

pub(super) struct Entry {
    pub(super) credential: Arc<Credential>,
    /// All of its wants, each at its [`Slot::place`].
    pub(super) slots: Vec<Arc<Slot>>,
}

impl Wants {
    pub(super) fn new(most: Option<usize>) -> Self {
        let most = most.unwrap_or(usize::MAX);
        Self { names: RwLock::default(), seed: RandomState::new(), most, now: AtomicU32::new(0) }
    }

    pub(super) fn read(&self) -> Result<RwLockReadGuard<'_, Names>, Error> {
        let names = self.names.read().unwrap_or_else(PoisonError::into_inner);
        if names.closed { Err(Closed::ShutDown.error()) } else { Ok(names) }
    }

    fn write(&self) -> Result<RwLockWriteGuard<'_, Names>, Error> {
        let names = self.names.write().unwrap_or_else(PoisonError::into_inner);
        if names.closed { Err(Closed::ShutDown.error()) } else { Ok(names) }
    }

    /// The credential of this name.
    pub(super) fn entry<'a>(&self, names: &'a Names, name: &str) -> Result<&'a Entry, Error> {
        names
            .credentials
            .get(self.seed.hash_one(name), |entry| *entry.credential.name == *name)
            .ok_or_else(|| unknown(name))
    }

    /// Adds a credential, unless there is one of this name. Says whether it was added.
    pub(super) fn add(&self, name: &str, make: impl FnOnce() -> Arc<Credential>) -> Result<bool, Error> {
        let mut names = self.write()?;
        if self.entry(&names, name).is_ok() {
            return Ok(false);
        }
        names.credentials.insert(self.seed.hash_one(name), Entry { credential: make(), slots: Vec::new() });
        Ok(true)
    }

    /// Takes a credential out, with its wants.
    pub(super) fn remove(&self, name: &str) -> Option<Entry> {
        let mut names = self.write().ok()?;
        let entry = names.credentials.remove(self.seed.hash_one(name), |entry| *entry.credential.name == *name)?;
        for slot in &entry.slots {
            names.wants.remove(self.hash(name, &slot.want), |held| Arc::ptr_eq(held, slot));
        }
        Some(entry)
    }

    /// The slot of a want, if there is one.
    pub(super) fn find<'a>(&self, names: &'a Names, name: &str, want: &Want) -> Option<&'a Arc<Slot>> {
        let slot = names.wants.get(self.hash(name, want), |slot| slot.want == *want && *slot.home.name == *name)?;
        // A write would take the line away from the other readers.
        if self.most != usize::MAX {
            let now = self.now.load(Relaxed);
            if slot.asked.load(Relaxed) != now {
                slot.asked.store(now, Relaxed);
            }
        }
        Some(slot)
    }

    /// The slot of a want, made now if there is none.
    pub(super) fn slot(&self, name: &str, want: Want) -> Result<Arc<Slot>, Error> {
        if let Some(slot) = self.find(&*self.read()?, name, &want) {
            return Ok(slot.clone());
        }
        let mut guard = self.write()?;
        if let Some(slot) = self.find(&guard, name, &want) {
            return Ok(slot.clone());
        }
        let names = &mut *guard;
        let entry = names
            .credentials
            .get_mut(self.seed.hash_one(name), |entry| *entry.credential.name == *name)
            .ok_or_else(|| unknown(name))?;
        let hash = self.hash(name, &want);
        let slot = Slot::new(&entry.credential, want);
        slot.place.store(entry.slots.len(), Relaxed);
        entry.slots.push(slot.clone());
        names.wants.insert(hash, slot.clone());
        // Whatever is asked for from now on was so after this one.
        slot.asked.store(self.now.fetch_add(1, Relaxed), Relaxed);
        let forgotten: Vec<_> = (0..FORGOTTEN).map_while(|_| self.forget_one(names)).collect();
        drop(guard);
        forgotten.iter().for_each(|slot| slot.close(Closed::Removed));
        Ok(slot)
    }

    /// Forgets a want that nobody holds, if there are too many. Of those that it looks at, the one that was asked for the
    /// longest ago.
    fn forget_one(&self, names: &mut Names) -> Option<Arc<Slot>> {
        if names.wants.len() <= self.most {
            return None;
        }
        let now = self.now.load(Relaxed);
        // Two owners are the pool itself.
        let idle = |slot: &Arc<Slot>| Arc::strong_count(slot) == 2;
        let age = |slot: &Arc<Slot>| now.wrapping_sub(slot.asked.load(Relaxed));
        let slot = names.wants.take_worst(LOOKS, |slot| idle(slot).then(|| age(slot)))?;
        self.strike(names, &slot);
        Some(slot)
    }

    /// Forgets all tokens of the credential of this slot's.
    pub(crate) fn clear(&self, slot: &Slot) {
        let Ok(names) = self.read() else { return };
        if let Ok(entry) = self.entry(&names, &slot.home.name)
            && Arc::ptr_eq(&entry.credential, &slot.home)
        {
            entry.slots.iter().for_each(|slot| slot.clear());
        }
    }

    pub(crate) fn forget(&self, slot: &Arc<Slot>) {
        let Ok(mut names) = self.write() else { return };
        if names.wants.remove(self.hash(&slot.home.name, &slot.want), |held| Arc::ptr_eq(held, slot)).is_some() {
            self.strike(&mut names, slot);
        }
    }

    pub(super) fn len(&self) -> usize {
        self.read().map_or(0, |names| names.wants.len())
    }

    /// Closes all there is, and hands out what it was of.
    pub(crate) fn close(&self) -> Vec<Arc<Credential>> {
        let Ok(mut names) = self.write() else { return Vec::new() };
        names.closed = true;
        let Names { credentials, wants, .. } = std::mem::take(&mut *names);
        names.closed = true;
        drop(names);
        wants.iter().for_each(|slot| slot.close(Closed::ShutDown));
        credentials.iter().map(|entry| entry.credential.clone()).collect()
    }

    /// Strikes a slot off its credential's list.
    fn strike(&self, names: &mut Names, slot: &Arc<Slot>) {
        let (name, place) = (&slot.home.name, slot.place.load(Relaxed));
        let entry = names.credentials.get_mut(self.seed.hash_one(&**name), |entry| entry.credential.name == *name);
        let Some(entry) = entry.filter(|entry| entry.slots.get(place).is_some_and(|held| Arc::ptr_eq(held, slot)))
        else {
            return;
        };
        entry.slots.swap_remove(place);
        if let Some(moved) = entry.slots.get(place) {
            moved.place.store(place, Relaxed);
        }
    }

    fn hash(&self, name: &str, want: &Want) -> u64 {
        self.seed.hash_one((name, want))
    }
}

fn unknown(name: &str) -> Error {
    Error::new(
        ErrorKind::Config,
        format!("the pool has no credential named {:?}: add it first", grantflow::Shown::name(name)),
    )
}
