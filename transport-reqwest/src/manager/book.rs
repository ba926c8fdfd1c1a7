//! The names of a pool's credentials, or the one of a manager, and their wants.
//!
//! No step is longer for a larger pool: what is there lies in tables that grow by small parts, and of a bounded pool a
//! hand goes round that forgets, of each few wants that it comes to, the one that was used the longest ago.

use std::hash::{BuildHasher as _, RandomState};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use grantflow::source::{GrantState, TokenSource, Want};
use grantflow::table::Table;
use grantflow::{Error, ErrorKind};

use super::hub::Hub;
use super::origin::Origin;
use super::saving;
use super::slot::{Ended, Slot};
use super::token_ref::TokenRef;

/// Of how many wants one is forgotten where there is one too many.
const LOOKS: usize = 16;
/// How many are forgotten at once, at the most, where there are more too many, since managers held them.
const FORGOTTEN: usize = 2;

pub(super) struct Book {
    pub(super) hub: Arc<Hub>,
    names: RwLock<Names>,
    seed: RandomState,
    /// The most wants, and the most there can be where they are not bounded.
    most: usize,
    /// Counts the new wants: the clock of [`Slot::asked`]. It begins again at its end: that the wrong ones are forgotten
    /// once in a few thousand million does no harm.
    now: AtomicU32,
}

#[derive(Default)]
struct Names {
    credentials: Table<Listed>,
    wants: Table<Arc<Slot>>,
}

struct Listed {
    origin: Arc<Origin>,
    /// All of its wants, each at its [`Slot::place`].
    slots: Vec<Arc<Slot>>,
}

impl Book {
    pub(super) fn new(hub: Hub) -> Self {
        let (most, names) = (hub.options.max_wants.unwrap_or(usize::MAX), RwLock::default());
        Self { hub: Arc::new(hub), names, seed: RandomState::new(), most, now: AtomicU32::new(0) }
    }

    fn read(&self) -> RwLockReadGuard<'_, Names> {
        self.names.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> Result<RwLockWriteGuard<'_, Names>, Error> {
        let names = self.names.write().unwrap_or_else(PoisonError::into_inner);
        if self.hub.is_closed() { Err(Ended::ShutDown.into()) } else { Ok(names) }
    }

    /// The one credential and want of a manager by itself.
    pub(super) fn begin(&self, source: Arc<dyn TokenSource>, want: Want) -> Arc<Slot> {
        let mut names = self.names.write().unwrap_or_else(PoisonError::into_inner);
        let origin = Origin::new(self.hub.clone(), "".into(), source);
        let listed = Listed { origin, slots: Vec::with_capacity(1) };
        let slot = Slot::new(listed.origin.clone(), want);
        names.credentials.insert(self.seed.hash_one(""), listed);
        self.enter(&mut names, &slot);
        slot
    }

    pub(super) fn add(&self, name: &str, source: Arc<dyn TokenSource>) -> Result<bool, Error> {
        let mut names = self.write()?;
        if self.listed(&names, name).is_ok() {
            return Ok(false);
        }
        let origin = Origin::new(self.hub.clone(), name.into(), source);
        names.credentials.insert(self.seed.hash_one(name), Listed { origin, slots: Vec::new() });
        Ok(true)
    }

    pub(super) fn remove(&self, name: &str) -> bool {
        let Ok(mut names) = self.write() else { return false };
        let found = names.credentials.remove(self.seed.hash_one(name), |listed| *listed.origin.name == *name);
        let Some(listed) = found else { return false };
        for slot in &listed.slots {
            names.wants.remove(self.hash(name, &slot.want), |held| Arc::ptr_eq(held, slot));
        }
        drop(names);
        listed.slots.iter().for_each(|slot| slot.end(Ended::Removed));
        saving::save_at_last(vec![listed.origin]);
        true
    }

    fn listed<'a>(&self, names: &'a Names, name: &str) -> Result<&'a Listed, Error> {
        let hash = self.seed.hash_one(name);
        names.credentials.get(hash, |listed| *listed.origin.name == *name).ok_or_else(|| unknown(name))
    }

    pub(super) fn origin(&self, name: &str) -> Result<Arc<Origin>, Error> {
        Ok(self.listed(&self.read(), name)?.origin.clone())
    }

    pub(super) fn state(&self, name: &str) -> Result<GrantState, Error> {
        Ok(self.origin(name)?.state())
    }

    pub(super) fn replace(&self, origin: &Arc<Origin>, source: Arc<dyn TokenSource>) {
        origin.replace(source);
        // What was minted with the old one is forgotten only now, so that no more of it can come.
        let names = self.read();
        let listed = self.listed(&names, &origin.name).ok().filter(|listed| Arc::ptr_eq(&listed.origin, origin));
        listed.into_iter().flat_map(|listed| &listed.slots).for_each(|slot| slot.clear());
    }

    /// A fresh token, or else the slot that may get one.
    pub(super) fn find(&self, name: &str, want: &Want) -> Result<Result<TokenRef, Arc<Slot>>, Error> {
        if let Some(slot) = self.found(&self.read(), name, want) {
            return Ok(slot.fresh().ok_or_else(|| slot.clone()));
        }
        self.slot(name, want.clone()).map(Err)
    }

    /// The slot of a want, if there is one.
    fn found<'a>(&self, names: &'a Names, name: &str, want: &Want) -> Option<&'a Arc<Slot>> {
        let slot = names.wants.get(self.hash(name, want), |slot| slot.want == *want && *slot.origin.name == *name)?;
        // Readers share the line as long as it does not change.
        if self.most != usize::MAX {
            let now = self.now.load(Relaxed);
            if slot.asked.load(Relaxed) != now {
                slot.asked.store(now, Relaxed);
            }
        }
        Some(slot)
    }

    pub(super) fn slot(&self, name: &str, want: Want) -> Result<Arc<Slot>, Error> {
        let mut names = self.write()?;
        if let Some(slot) = self.found(&names, name, &want) {
            return Ok(slot.clone());
        }
        let slot = Slot::new(self.listed(&names, name)?.origin.clone(), want);
        self.enter(&mut names, &slot);
        let forgotten: Vec<_> = (0..FORGOTTEN).map_while(|_| self.forget_one(&mut names)).collect();
        drop(names);
        drop(forgotten);
        Ok(slot)
    }

    fn enter(&self, names: &mut Names, slot: &Arc<Slot>) {
        let name = &slot.origin.name;
        let listed = names.credentials.get_mut(self.seed.hash_one(&**name), |listed| listed.origin.name == *name);
        let Some(listed) = listed else { return };
        slot.place.store(listed.slots.len(), Relaxed);
        listed.slots.push(slot.clone());
        names.wants.insert(self.hash(name, &slot.want), slot.clone());
        // Whatever is used from now on was so after this one.
        slot.asked.store(self.now.fetch_add(1, Relaxed), Relaxed);
    }

    /// Takes a want out. A caller that asks for it again gets another slot.
    pub(super) fn forget(&self, slot: &Arc<Slot>) {
        let Ok(mut names) = self.write() else { return };
        let hash = self.hash(&slot.origin.name, &slot.want);
        if names.wants.remove(hash, |held| Arc::ptr_eq(held, slot)).is_some() {
            self.strike(&mut names, slot);
        }
    }

    /// Forgets a want that nobody holds, if there are too many. Of those that it looks at, the one that was used the
    /// longest ago.
    fn forget_one(&self, names: &mut Names) -> Option<Arc<Slot>> {
        if names.wants.len() <= self.most {
            return None;
        }
        let now = self.now.load(Relaxed);
        // Two of the counts are this book's.
        let idle = |slot: &Arc<Slot>| Arc::strong_count(slot) == 2;
        let age = |slot: &Arc<Slot>| now.wrapping_sub(slot.asked.load(Relaxed));
        let slot = names.wants.take_worst(LOOKS, |slot| idle(slot).then(|| age(slot)))?;
        self.strike(names, &slot);
        Some(slot)
    }

    /// Strikes a slot off its credential's list.
    fn strike(&self, names: &mut Names, slot: &Arc<Slot>) {
        let (name, place) = (&slot.origin.name, slot.place.load(Relaxed));
        let listed = names.credentials.get_mut(self.seed.hash_one(&**name), |listed| listed.origin.name == *name);
        let Some(listed) = listed else { return };
        if listed.slots.get(place).is_some_and(|held| Arc::ptr_eq(held, slot)) {
            listed.slots.swap_remove(place);
            if let Some(moved) = listed.slots.get(place) {
                moved.place.store(place, Relaxed);
            }
        }
    }

    /// All credentials.
    pub(super) fn origins(&self) -> Vec<Arc<Origin>> {
        self.read().credentials.iter().map(|listed| listed.origin.clone()).collect()
    }

    /// How many wants there are.
    pub(super) fn len(&self) -> usize {
        self.read().wants.len()
    }

    /// Ends all. Grants stay, to be asked for their state.
    pub(super) fn close(&self) {
        self.hub.close();
        let mut guard = self.names.write().unwrap_or_else(PoisonError::into_inner);
        let wants = std::mem::take(&mut guard.wants);
        // No place is true any more, and none is looked at: nothing is forgotten after the end.
        for slot in wants.iter() {
            self.strike(&mut guard, slot);
        }
        drop(guard);
        wants.iter().for_each(|slot| slot.end(Ended::ShutDown));
        self.hub.watchers.close();
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
