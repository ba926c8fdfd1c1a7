//! [`TokenPool`]: any want of any of many credentials.

use std::borrow::Borrow;
use std::collections::{HashMap, HashSet};
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::SystemTime;

use grantflow::source::{GrantState, TokenSource, Want};
use grantflow::{Error, ErrorKind};

use super::flight::Credential;
use super::handle::{Handle, Holds};
use super::shared::{Changes, Shared};
use super::slot::{Closed, Slot};
use super::token_manager::TokenManager;
use super::token_ref::TokenRef;
use crate::Transport;

/// Holds the tokens of many credentials, each by its name, for any number of wants. Clones are handles of one
/// and the same.
///
/// ```no_run
/// use grantflow_ureq::grantflow::source::{Credential, Want};
/// use grantflow_ureq::grantflow::{Client, ClientAuthentication, Issuer};
/// use grantflow_ureq::{TokenPool, Transport};
///
/// let pool = TokenPool::new(&Transport::new()?);
/// let client = Client::new("batch").authentication(ClientAuthentication::client_secret_basic("s3cret"));
/// pool.add("batch", Credential::client_credentials(Issuer::new("https://as.example")?, &client))?;
/// let token = pool.token("batch", &Want::access_token("read"))?;
/// # let _ = token;
/// # Ok::<(), grantflow_ureq::grantflow::Error>(())
/// ```
///
/// Each credential and want has a token of its own, as a [`TokenManager`] has it; no two different wants share
/// one. While one is fetched, all others are served.
#[derive(Clone)]
pub struct TokenPool {
    handle: Arc<Handle>,
}

impl TokenPool {
    /// A pool with the defaults, without credentials yet.
    pub fn new(transport: &Transport) -> Self {
        TokenManager::builder(transport).build_pool()
    }

    pub(crate) fn made(shared: Arc<Shared>, max_wants: Option<usize>) -> Self {
        let wants = Wants { names: RwLock::default(), most: max_wants.unwrap_or(usize::MAX), asked: AtomicU32::new(0) };
        Self { handle: Arc::new(Handle { shared, holds: Holds::Pool(wants) }) }
    }

    /// Adds a credential.
    ///
    /// # Errors
    ///
    /// Of kind [`Config`](ErrorKind::Config) if there is one of this name: it can be
    /// [replaced](Self::replace).
    pub fn add(&self, name: &str, source: impl TokenSource + 'static) -> Result<(), Error> {
        let name: Arc<str> = name.into();
        let credential = Credential::new(&self.handle.shared, name.clone(), source);
        let mut names = self.wants().write()?;
        if names.credentials.contains_key(&name) {
            return Err(Error::new(ErrorKind::Config, "the pool has a credential of this name already"));
        }
        names.credentials.insert(name, Entry { credential, slots: HashSet::new() });
        Ok(())
    }

    /// Forgets a credential and all its tokens. Its managers get errors from now on. Says whether there was
    /// one.
    pub fn remove(&self, name: &str) -> bool {
        let Ok(mut names) = self.wants().write() else { return false };
        let Some(entry) = names.credentials.remove(name) else { return false };
        names.count -= entry.slots.len();
        drop(names);
        entry.slots.iter().for_each(|Held(slot)| slot.close(Closed::Removed));
        true
    }

    /// Puts another credential in the place of the one of this name, as after a new sign-in: its tokens are
    /// forgotten, and so is a failure for good.
    ///
    /// # Errors
    ///
    /// If there is none of this name.
    pub fn replace(&self, name: &str, source: impl TokenSource + 'static) -> Result<(), Error> {
        let names = self.wants().read()?;
        let entry = names.entry(name)?;
        entry.credential.replace(source);
        entry.slots.iter().for_each(|Held(slot)| slot.clear());
        Ok(())
    }

    /// The manager of a want. It stands for what the pool holds, and keeps the pool from forgetting it.
    ///
    /// # Errors
    ///
    /// If there is no credential of this name.
    pub fn manager(&self, name: &str, want: Want) -> Result<TokenManager, Error> {
        Ok(TokenManager::of_pool(&self.handle, self.wants().slot(name, want)?))
    }

    /// The token of a want: see [`TokenManager::token`].
    ///
    /// # Errors
    ///
    /// If there is no credential of this name, or no valid token and none can be had.
    pub fn token(&self, name: &str, want: &Want) -> Result<TokenRef, Error> {
        let wants = self.wants();
        if let Some(Held(slot)) = wants.read()?.entry(name)?.slots.get(want)
            && let Some(token) = slot.fresh(SystemTime::now())
        {
            wants.touch(slot);
            return Ok(token);
        }
        wants.slot(name, want.clone())?.token()
    }

    /// What changed of a credential as it was used: whoever keeps refresh tokens keeps this one's.
    ///
    /// # Errors
    ///
    /// If there is none of this name.
    pub fn grant_state(&self, name: &str) -> Result<GrantState, Error> {
        Ok(self.wants().read()?.entry(name)?.credential.state())
    }

    /// How many wants are held.
    pub fn len(&self) -> usize {
        self.wants().read().map_or(0, |names| names.count)
    }

    /// Whether no want is held.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Tells every new token and every failure of all wants from now on: see [`TokenManager::subscribe`].
    pub fn subscribe(&self) -> Changes {
        self.handle.shared.subscribe()
    }

    /// Ends it for all handles: see [`TokenManager::shutdown`].
    pub fn shutdown(&self) {
        self.handle.shutdown();
    }

    fn wants(&self) -> &Wants {
        match &self.handle.holds {
            Holds::Pool(wants) => wants,
            Holds::One(_) => unreachable!("a pool's handle holds a pool"),
        }
    }
}

impl fmt::Debug for TokenPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenPool").field("wants", &self.len()).finish_non_exhaustive()
    }
}

/// All credentials and wants of a pool. Its lock is held for look-ups only.
pub(crate) struct Wants {
    names: RwLock<Names>,
    most: usize,
    /// How often a want was asked for: a clock by which the oldest is found. It begins again at its end: that
    /// the wrong ones are forgotten once in a few thousand million calls does no harm.
    asked: AtomicU32,
}

#[derive(Default)]
struct Names {
    credentials: HashMap<Arc<str>, Entry>,
    count: usize,
    closed: bool,
}

struct Entry {
    credential: Arc<Credential>,
    slots: HashSet<Held>,
}

/// A slot, found by its want.
struct Held(Arc<Slot>);

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
    fn entry(&self, name: &str) -> Result<&Entry, Error> {
        self.credentials.get(name).ok_or_else(unknown)
    }
}

impl Wants {
    fn read(&self) -> Result<RwLockReadGuard<'_, Names>, Error> {
        let names = self.names.read().unwrap_or_else(PoisonError::into_inner);
        if names.closed { Err(Closed::ShutDown.error()) } else { Ok(names) }
    }

    fn write(&self) -> Result<RwLockWriteGuard<'_, Names>, Error> {
        let names = self.names.write().unwrap_or_else(PoisonError::into_inner);
        if names.closed { Err(Closed::ShutDown.error()) } else { Ok(names) }
    }

    /// The slot of a want, made now if there is none.
    fn slot(&self, name: &str, want: Want) -> Result<Arc<Slot>, Error> {
        if let Some(Held(slot)) = self.read()?.entry(name)?.slots.get(&want) {
            self.touch(slot);
            return Ok(slot.clone());
        }
        let mut names = self.write()?;
        let entry = names.credentials.get_mut(name).ok_or_else(unknown)?;
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

    fn touch(&self, slot: &Slot) {
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
    fn oldest(&self, excess: usize) -> Vec<Arc<Slot>> {
        // One owner is the pool itself.
        let idle = |Held(slot): &&Held| Arc::strong_count(slot) == 1;
        let slots = self.credentials.values().flat_map(|entry| entry.slots.iter().filter(idle));
        let mut slots: Vec<_> = slots.map(|Held(slot)| (slot.asked.load(Relaxed), slot)).collect();
        slots.sort_unstable_by_key(|(asked, _)| *asked);
        slots.into_iter().take(excess + self.count / 32).map(|(_, slot)| slot.clone()).collect()
    }

    fn remove(&mut self, slot: &Arc<Slot>) {
        if let Some(entry) = self.credentials.get_mut(&slot.home.name)
            && entry.slots.get(&slot.want).is_some_and(|Held(held)| Arc::ptr_eq(held, slot))
        {
            entry.slots.remove(&slot.want);
            self.count -= 1;
        }
    }
}

fn unknown() -> Error {
    Error::new(ErrorKind::Config, "the pool has no credential of this name")
}
