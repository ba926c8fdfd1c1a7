//! What all wants of a pool, or the one of a manager, have in common.

use std::borrow::Borrow;
use std::cell::Cell;
use std::collections::{HashMap, HashSet, VecDeque};
use std::hash::{Hash, Hasher};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, Instant};

use grantflow::source::{GrantState, TokenSource, Want};
use grantflow::{Error, ErrorKind};
use tokio::runtime::{Handle as Runtime, RuntimeFlavor};
use tokio::sync::watch;

use super::background::Timetable;
use super::change::{Callback, Watchers};
use super::flight::{Origin, Uses};
use super::slot::{Ended, Slot};
use super::{Changes, TokenRef};
use crate::{Transport, runtime};

/// How long the end waits for a use of a refresh token that changes with each use.
const PATIENCE: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub(super) struct Options {
    pub(super) margin: Option<Duration>,
    pub(super) background: bool,
    pub(super) max_wants: Option<usize>,
}

pub(super) struct Hub {
    pub(super) transport: Transport,
    pub(super) options: Options,
    pub(super) watchers: Watchers,
    pub(super) timetable: Timetable,
    pub(super) rotating: watch::Sender<Uses>,
    closed: AtomicBool,
    salt: AtomicU64,
    book: RwLock<Book>,
}

/// Who is who.
#[derive(Default)]
struct Book {
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

impl Hub {
    pub(super) fn new(transport: Transport, options: Options, on_change: Option<Callback>) -> Self {
        Self {
            transport,
            options,
            watchers: Watchers::new(on_change),
            timetable: Timetable::default(),
            rotating: watch::Sender::default(),
            closed: AtomicBool::new(false),
            // It keeps fleets from refreshing in step; without entropy, they do.
            salt: AtomicU64::new(getrandom::u64().unwrap_or_default()),
            book: RwLock::default(),
        }
    }

    /// A salt that no other cell has.
    pub(super) fn salt(&self) -> u64 {
        self.salt.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed).wrapping_mul(0xbf58_476d_1ce4_e5b9)
    }

    fn read(&self) -> RwLockReadGuard<'_, Book> {
        self.book.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Book> {
        self.book.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// The one credential and want of a manager by itself.
    pub(super) fn begin(self: &Arc<Self>, source: Arc<dyn TokenSource>, want: Want) -> Arc<Slot> {
        let name = Arc::from("");
        let origin = Origin::new(self.clone(), Arc::clone(&name), source);
        let slot = Slot::new(origin.clone(), want);
        let listed = Listed { origin, wants: HashSet::from([ByWant(slot.clone())]) };
        self.write().credentials.insert(name, listed);
        slot
    }

    pub(super) fn add(self: &Arc<Self>, name: &str, source: Arc<dyn TokenSource>) -> Result<bool, Error> {
        let mut book = self.write();
        if self.is_closed() {
            return Err(Ended::ShutDown.into());
        }
        if book.credentials.contains_key(name) {
            return Ok(false);
        }
        let name = Arc::from(name);
        let origin = Origin::new(self.clone(), Arc::clone(&name), source);
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
    pub(super) fn find(self: &Arc<Self>, name: &str, want: &Want) -> Result<Result<TokenRef, Arc<Slot>>, Error> {
        if let Some(slot) = self.read().credentials.get(name).and_then(|listed| listed.wants.get(want)) {
            return Ok(slot.0.fresh().ok_or_else(|| slot.0.clone()));
        }
        self.slot(name, want.clone()).map(Err)
    }

    pub(super) fn slot(self: &Arc<Self>, name: &str, want: Want) -> Result<Arc<Slot>, Error> {
        let mut book = self.write();
        if self.is_closed() {
            return Err(Ended::ShutDown.into());
        }
        let listed = book.credentials.get_mut(name).ok_or_else(|| unknown(name))?;
        if let Some(slot) = listed.wants.get(&want) {
            return Ok(slot.0.clone());
        }
        let slot = Slot::new(listed.origin.clone(), want);
        listed.wants.insert(ByWant(slot.clone()));
        if let Some(max) = self.options.max_wants {
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

    pub(super) fn subscribe(&self) -> Changes {
        self.watchers.subscribe()
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::SeqCst)
    }

    /// Ends all. Grants stay, to be asked for their state.
    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
        self.timetable.close();
        let mut book = self.write();
        book.order.clear();
        for listed in book.credentials.values_mut() {
            listed.wants.drain().for_each(|slot| slot.0.end(Ended::ShutDown));
        }
        drop(book);
        self.watchers.close();
    }

    /// Waits, not for long, until no refresh token that changes is being used.
    pub(super) async fn settled(&self) {
        let mut rotating = self.rotating.subscribe();
        let none = rotating.wait_for(|uses| uses.all == 0);
        // Without a runtime, or without timers, nothing can be waited for.
        let _ = runtime::within(async { Ok(tokio::time::timeout(PATIENCE, none).await.is_ok()) }).await;
    }

    /// As [`settled`](Self::settled), for where nothing can be awaited. What runs on one thread only, and that
    /// may be this one, is not waited for.
    fn settled_blocking(&self) {
        let end = Instant::now() + PATIENCE;
        while self.rotating.borrow().threaded > 0 && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

impl Book {
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
    Error::new(ErrorKind::Config, format!("the pool has no credential named {name:?}"))
}

/// What managers and pools hold: with the last clone, all ends.
pub(super) struct Handle(pub(super) Arc<Hub>);

impl Drop for Handle {
    fn drop(&mut self) {
        let hub = &self.0;
        hub.close();
        // Credentials and hub hold each other until now.
        hub.write().credentials.clear();
        if hub.rotating.borrow().threaded == 0 {
            return;
        }
        match Runtime::try_current() {
            Ok(runtime)
                if runtime.runtime_flavor() == RuntimeFlavor::MultiThread && tokio::task::try_id().is_some() =>
            {
                if WORKER.get() {
                    // What is queued on this thread must go on elsewhere.
                    return tokio::task::block_in_place(|| hub.settled_blocking());
                }
                // A task of a `LocalSet`, whose thread has no such queue and must not be left, or a worker that never
                // ran a task of this crate: the next task takes the place that other workers cannot take from.
                runtime.spawn(async {});
                hub.settled_blocking();
            }
            // Outside of any task, nothing is queued on this thread.
            _ => hub.settled_blocking(),
        }
    }
}

thread_local! {
    /// Whether this thread has run a task of ours in a runtime of several threads, and so is one of its workers.
    static WORKER: Cell<bool> = const { Cell::new(false) };
}

/// To be called at the beginning of each task that is spawned.
pub(super) fn mark_worker() {
    let flavor = Runtime::try_current().map(|runtime| runtime.runtime_flavor());
    if matches!(flavor, Ok(RuntimeFlavor::MultiThread)) {
        WORKER.set(true);
    }
}
