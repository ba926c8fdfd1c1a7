//! Who is who: the credentials of a pool, or the one of a manager, and their wants.

use std::borrow::Borrow;
use std::collections::{HashMap, HashSet, VecDeque};
use std::hash::{Hash, Hasher};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use grantflow::source::{GrantState, TokenSource, Want};
use grantflow::{Error, ErrorKind};

use super::hub::Hub;
use super::origin::Origin;
use super::slot::{Ended, Slot};
use super::token_ref::TokenRef;

pub(super) struct Book {
    pub(super) hub: Arc<Hub>,
    names: RwLock<Names>,
}

#[derive(Default)]
struct Names {
    credentials: HashMap<Arc<str>, Listed>,
    /// If the wants are bounded, all of them, in the order in which they are looked at to be forgotten.
    order: VecDeque<Arc<Slot>>,
}

struct Listed {
    origin: Arc<Origin>,
    wants: HashSet<ByWant>,
}

/// A slot, found by its want, which is thus held once.
struct ByWant(Arc<Slot>);

impl Borrow<Want> for ByWant {
    fn borrow(&self) -> &Want {
        &self.0.want
    }
}

impl Hash for ByWant {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.want.hash(state);
    }
}

impl PartialEq for ByWant {
    fn eq(&self, other: &Self) -> bool {
        self.0.want == other.0.want
    }
}

impl Eq for ByWant {}

impl Book {
    pub(super) fn new(hub: Hub) -> Self {
        Self { hub: Arc::new(hub), names: RwLock::default() }
    }

    fn read(&self) -> RwLockReadGuard<'_, Names> {
        self.names.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Names> {
        self.names.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// The one credential and want of a manager by itself.
    pub(super) fn begin(&self, source: Arc<dyn TokenSource>, want: Want) -> Arc<Slot> {
        let name = Arc::from("");
        let origin = Origin::new(self.hub.clone(), Arc::clone(&name), source);
        let slot = Slot::new(origin.clone(), want);
        let listed = Listed { origin, wants: HashSet::from([ByWant(slot.clone())]) };
        self.write().credentials.insert(name, listed);
        slot
    }

    pub(super) fn add(&self, name: &str, source: Arc<dyn TokenSource>) -> Result<bool, Error> {
        let mut book = self.write();
        if self.hub.is_closed() {
            return Err(Ended::ShutDown.into());
        }
        if book.credentials.contains_key(name) {
            return Ok(false);
        }
        let name = Arc::from(name);
        let origin = Origin::new(self.hub.clone(), Arc::clone(&name), source);
        book.credentials.insert(name, Listed { origin, wants: HashSet::new() });
        Ok(true)
    }

    pub(super) fn remove(&self, name: &str) -> bool {
        let mut book = self.write();
        let Some(listed) = book.credentials.remove(name) else { return false };
        book.order.retain(|slot| !Arc::ptr_eq(&slot.origin, &listed.origin));
        drop(book);
        listed.wants.iter().for_each(|slot| slot.0.end(Ended::Removed));
        true
    }

    pub(super) fn origin(&self, name: &str) -> Result<Arc<Origin>, Error> {
        self.read().credentials.get(name).map(|listed| listed.origin.clone()).ok_or_else(|| unknown(name))
    }

    pub(super) fn state(&self, name: &str) -> Result<GrantState, Error> {
        Ok(self.origin(name)?.state())
    }

    pub(super) fn replace(&self, origin: &Arc<Origin>, source: Arc<dyn TokenSource>) {
        origin.replace(source);
        // What was minted with the old one is forgotten only now, so that no more of it can come.
        let book = self.read();
        if let Some(listed) = book.credentials.get(&origin.name).filter(|listed| Arc::ptr_eq(&listed.origin, origin)) {
            listed.wants.iter().for_each(|slot| slot.0.clear());
        }
    }

    /// A fresh token, or else the slot that may get one.
    pub(super) fn find(&self, name: &str, want: &Want) -> Result<Result<TokenRef, Arc<Slot>>, Error> {
        if let Some(slot) = self.read().credentials.get(name).and_then(|listed| listed.wants.get(want)) {
            return Ok(slot.0.fresh().ok_or_else(|| slot.0.clone()));
        }
        self.slot(name, want.clone()).map(Err)
    }

    pub(super) fn slot(&self, name: &str, want: Want) -> Result<Arc<Slot>, Error> {
        let mut book = self.write();
        if self.hub.is_closed() {
            return Err(Ended::ShutDown.into());
        }
        let listed = book.credentials.get_mut(name).ok_or_else(|| unknown(name))?;
        if let Some(slot) = listed.wants.get(&want) {
            return Ok(slot.0.clone());
        }
        let slot = Slot::new(listed.origin.clone(), want);
        listed.wants.insert(ByWant(slot.clone()));
        if let Some(max) = self.hub.options.max_wants {
            while book.order.len() >= max && book.forget_one() {}
            book.order.push_back(slot.clone());
        }
        Ok(slot)
    }

    /// Takes a want out. Whoever asks for it again gets another slot.
    pub(super) fn forget(&self, slot: &Arc<Slot>) {
        let mut book = self.write();
        book.strike(slot);
        book.order.retain(|other| !Arc::ptr_eq(other, slot));
    }

    /// How many wants there are.
    pub(super) fn len(&self) -> usize {
        self.read().credentials.values().map(|listed| listed.wants.len()).sum()
    }

    /// Ends all. Grants stay, to be asked for their state.
    pub(super) fn close(&self) {
        self.hub.close();
        let mut book = self.write();
        book.order.clear();
        for listed in book.credentials.values_mut() {
            listed.wants.drain().for_each(|slot| slot.0.end(Ended::ShutDown));
        }
        drop(book);
        self.hub.watchers.close();
    }
}

impl Names {
    /// Forgets the oldest of those that were not used since they were looked at last, and that nobody
    /// holds. `false` if there is none.
    fn forget_one(&mut self) -> bool {
        // Twice around: the first may find all of them in use, and takes note of that.
        for _ in 0..self.order.len().saturating_mul(2) {
            let Some(slot) = self.order.pop_front() else { return false };
            // Two of the counts are this book's.
            if Arc::strong_count(&slot) <= 2 && !slot.take_seen() {
                self.strike(&slot);
                return true;
            }
            self.order.push_back(slot);
        }
        false
    }

    fn strike(&mut self, slot: &Arc<Slot>) {
        if let Some(listed) = self.credentials.get_mut(&slot.origin.name)
            && listed.wants.get(&slot.want).is_some_and(|found| Arc::ptr_eq(&found.0, slot))
        {
            listed.wants.remove(&slot.want);
        }
    }
}

fn unknown(name: &str) -> Error {
    Error::new(
        ErrorKind::Config,
        format!("the pool has no credential named {:?}: add it first", grantflow::Shown::name(name)),
    )
}
