//! The holder of one token of one want: [`Slot`]. How it is asked for is in `asking.rs`.
//!
//! A fresh token is read without a lock. All else goes through the cell under a lock that is never held while
//! anything is fetched. What waiters need exists only while a flight is under way, and is made under that
//! lock: the thread that ends the flight takes it out under the same lock, so that no wake-up is lost.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use grantflow::cell::{Issued, Ticket, TokenCell};
use grantflow::source::{Held, Want};
use grantflow::{Error, ErrorKind, Now, Token};

use super::credential::Credential;
use super::sync::{AtomicBool, AtomicU32, AtomicUsize, Condvar, Mutex, lock};
use super::task::Timer;
use super::token_ref::{Shown, TokenRef};

pub(crate) struct Slot {
    pub(crate) want: Want,
    pub(crate) home: Arc<Credential>,
    pub(super) shown: Shown,
    /// Whether the token was used again since its waiter had it.
    pub(super) used: AtomicBool,
    /// When it was last asked for, on the clock of a pool that is bounded.
    pub(crate) asked: AtomicU32,
    /// Its place among the wants of its credential, if a pool has it.
    pub(crate) place: AtomicUsize,
    pub(super) state: Mutex<State>,
}

pub(super) struct State {
    pub(super) cell: TokenCell,
    /// The end of the flight under way, if a caller waits for it.
    pub(super) landing: Option<Arc<Condvar>>,
    /// How often everything was forgotten.
    pub(super) epoch: u32,
    pub(super) closed: Option<Closed>,
    pub(super) timer: Timer,
}

/// Why a slot hands out nothing any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Closed {
    ShutDown,
    Removed,
}

impl Closed {
    pub(crate) fn error(self) -> Error {
        match self {
            Self::ShutDown => Error::new(ErrorKind::Cancelled, "the token manager was shut down"),
            Self::Removed => Error::new(ErrorKind::Config, "the credential was removed from its pool"),
        }
    }
}

/// What is known of a slot at a moment.
pub(crate) struct Seen {
    pub(crate) held: Option<Arc<Issued>>,
    pub(crate) error: Option<Error>,
    pub(crate) next_refresh: Option<Duration>,
    pub(crate) refreshing: bool,
}

impl Slot {
    pub(crate) fn new(home: &Arc<Credential>, want: Want) -> Arc<Self> {
        let slot = Arc::new(Self {
            want,
            home: home.clone(),
            shown: Shown::default(),
            used: AtomicBool::new(false),
            asked: AtomicU32::new(0),
            place: AtomicUsize::new(0),
            state: Mutex::new(State { cell: home.shared.cell(), landing: None, epoch: 0, closed: None, timer: 0 }),
        });
        slot.begin();
        slot
    }

    /// Begins with the token that the credential came with, if there is one for this want.
    fn begin(&self) {
        let Some(token) = self.home.take_first(&self.want) else { return };
        let mut state = lock(&self.state);
        let ticket = if state.closed.is_none() { state.cell.force() } else { None };
        let Some(ticket) = ticket else { return };
        let now = self.home.shared.now();
        state.cell.settle(ticket, now, Ok(token));
        self.used.store(false, Relaxed);
        self.show(&state.cell, now);
    }

    /// The token, if it may be handed out without asking the cell at this time of [`clock`](super::clock).
    #[inline]
    pub(crate) fn fresh(self: &Arc<Self>, now: u64) -> Option<TokenRef> {
        let token = self.shown.fresh(now)?;
        // A write would take the line away from the other readers.
        if !self.used.load(Relaxed) {
            self.use_first();
        }
        Some(token)
    }

    /// From now on the token is in use, and refreshed before it ends.
    #[cold]
    fn use_first(self: &Arc<Self>) {
        if !self.used.swap(true, Relaxed) {
            let mut state = lock(&self.state);
            if state.closed.is_none() {
                self.arm(&mut state);
            }
        }
    }

    pub(super) fn arm(self: &Arc<Self>, state: &mut State) {
        let shared = &self.home.shared;
        if let Some(time) = state.cell.next_wake(shared.now()).filter(|_| shared.background()) {
            shared.arm(self, &mut state.timer, time);
        }
    }

    /// Takes note that a server refused this token; see [`TokenCell::reject`].
    pub(crate) fn reject(&self, issued: &Arc<Issued>) -> bool {
        let mut state = lock(&self.state);
        // What is not held, or no longer, says nothing about what is.
        if !state.cell.held().is_some_and(|held| Arc::ptr_eq(held, issued)) {
            return true;
        }
        let another = state.cell.reject(issued.generation, self.home.shared.now());
        if another {
            self.shown.hide();
        }
        another
    }

    pub(crate) fn see(&self, now: Now) -> Seen {
        let state = lock(&self.state);
        Seen {
            held: state.cell.held().cloned(),
            error: state.cell.error().cloned(),
            next_refresh: state.cell.next_wake(now),
            refreshing: state.cell.is_refreshing(),
        }
    }

    /// What its cell holds.
    pub(crate) fn holds(&self) -> Held {
        lock(&self.state).cell.holds()
    }

    /// Whether what a flight of this epoch brings is still wanted.
    pub(crate) fn awaits(&self, epoch: u32) -> bool {
        let state = lock(&self.state);
        state.closed.is_none() && state.epoch == epoch
    }

    /// Takes the outcome of a flight, shows it and wakes the waiters. The outcome of one from before a
    /// [`clear`](Self::clear) is ignored.
    pub(crate) fn settle(self: &Arc<Self>, ticket: Ticket, result: Result<Token, Error>) {
        let shared = &self.home.shared;
        let now = shared.now();
        let mut state = lock(&self.state);
        let flying = state.cell.is_refreshing();
        state.cell.settle(ticket, now, result);
        if !flying || state.cell.is_refreshing() {
            return;
        }
        let came = match (state.cell.error(), state.cell.held()) {
            (None, Some(held)) => Ok(held.clone()),
            (Some(error), _) => Err(error.clone()),
            (None, None) => return,
        };
        if state.closed.is_some() {
            state.cell.clear();
        } else {
            match &came {
                Ok(_) => self.used.store(false, Relaxed),
                Err(_) if self.used.load(Relaxed) => self.arm(&mut state),
                Err(_) => {}
            }
            self.show(&state.cell, now);
        }
        state.landed();
        drop(state);
        shared.tell(&self.home.name, &self.want, came, || self.home.state());
    }

    /// Takes back a ticket of which nothing came.
    pub(crate) fn abandon(&self, ticket: Ticket) {
        let mut state = lock(&self.state);
        state.cell.abandon(ticket);
        if state.cell.is_refreshing() {
            return;
        }
        if state.closed.is_some() {
            state.cell.clear();
        }
        self.show(&state.cell, self.home.shared.now());
        state.landed();
    }

    /// Forgets everything, since the credential is another one, and begins with what that came with.
    pub(crate) fn clear(self: &Arc<Self>) {
        let mut state = lock(&self.state);
        self.forget(&mut state);
        state.cell.clear();
        state.landed();
        drop(state);
        self.begin();
    }

    /// Hands out nothing from now on. A flight under way still tells what it brought.
    pub(crate) fn close(self: &Arc<Self>, why: Closed) {
        let mut state = lock(&self.state);
        state.closed.get_or_insert(why);
        self.forget(&mut state);
        if !state.cell.is_refreshing() {
            state.cell.clear();
        }
        state.landed();
    }

    /// Shows what is held to those who read the wall clock alone: from now on, as long as the cell need not be asked.
    pub(super) fn show(&self, cell: &TokenCell, now: Now) {
        match (cell.held(), cell.serves_for(now)) {
            (Some(issued), Some(time)) => self.shown.show(issued, now.wall, now.wall + time),
            _ => self.shown.hide(),
        }
    }

    fn forget(self: &Arc<Self>, state: &mut State) {
        state.epoch = state.epoch.wrapping_add(1);
        self.shown.clear();
        self.home.shared.disarm(self, &mut state.timer);
    }
}

impl State {
    /// Wakes the waiters: each acquires again.
    fn landed(&mut self) {
        if let Some(landing) = self.landing.take() {
            landing.notify_all();
        }
    }
}
