//! The holder of one token of one want: [`Slot`].
//!
//! A fresh token is read without a lock. All else goes through the cell under a lock that is never held while
//! anything is fetched. What waiters need exists only while a flight is under way, and is made under that
//! lock: the thread that ends the flight takes it out under the same lock, so that no wake-up is lost.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use grantflow::cell::{Acquired, Issued, Ticket, TokenCell};
use grantflow::source::{Held, Want};
use grantflow::{Error, ErrorKind, Now, Token};

use super::flight::{Credential, Job};
use super::sync::{AtomicBool, AtomicU32, AtomicUsize, Condvar, Mutex, MutexGuard, lock, wait};
use super::token_ref::{Moment, Shown, TokenRef};

/// How often one call begins again: each time a token came and ended before it could be used.
const ROUNDS: u32 = 8;

pub(crate) struct Slot {
    pub(crate) want: Want,
    pub(crate) home: Arc<Credential>,
    shown: Shown,
    /// Whether the token was used again since its waiter had it.
    used: AtomicBool,
    /// When it was last asked for, on the clock of a pool that is bounded.
    pub(crate) asked: AtomicU32,
    /// Its place among the wants of its credential, if a pool has it.
    pub(crate) place: AtomicUsize,
    state: Mutex<State>,
}

struct State {
    cell: TokenCell,
    /// The end of the flight under way, if a caller waits for it.
    landing: Option<Arc<Condvar>>,
    /// How often everything was forgotten.
    epoch: u32,
    closed: Option<Closed>,
    timer: Timer,
}

/// When the worker is to look after a slot, on the worker's clock; none if it is zero.
pub(crate) type Timer = u64;

/// What the worker looks after.
pub(crate) trait Tend: Send + Sync {
    /// Its time has come, on behalf of the timer that was set to this moment.
    fn tend(self: Arc<Self>, timer: Timer);
    /// One of the clocks was set.
    fn look_again(self: Arc<Self>);
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

    /// The token, if it may be handed out without asking the cell.
    #[inline]
    pub(crate) fn fresh(self: &Arc<Self>, now: Moment) -> Option<TokenRef> {
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

    fn arm(self: &Arc<Self>, state: &mut State) {
        let shared = &self.home.shared;
        if let Some(time) = state.cell.next_wake(shared.now()).filter(|_| shared.background()) {
            shared.arm(self, &mut state.timer, time);
        }
    }

    /// The token, by whatever it takes.
    #[cold]
    pub(crate) fn token(self: &Arc<Self>) -> Result<TokenRef, Error> {
        let mut state = lock(&self.state);
        for _ in 0..ROUNDS {
            if let Some(closed) = state.closed {
                return Err(closed.error());
            }
            let now = self.home.shared.now();
            let acquired = state.cell.acquire(now);
            self.show(&state.cell, now);
            match acquired {
                Acquired::Fresh(token) => return Ok(token.into()),
                Acquired::Due(token, None) => return Ok(self.take(token)),
                Acquired::Due(token, Some(ticket)) if self.home.shared.background() => {
                    let (token, job) = (self.take(token), Job::new(self, ticket, state.epoch));
                    drop(state);
                    job.behind();
                    return Ok(token);
                }
                Acquired::Due(_, Some(ticket)) | Acquired::Refresh(ticket) => {
                    let job = Job::new(self, ticket, state.epoch);
                    drop(state);
                    job.here();
                    state = lock(&self.state);
                }
                Acquired::Wait => state = self.land(state),
                Acquired::Failed(error) => return Err(error),
            }
        }
        Err(Error::new(ErrorKind::InvalidResponse, "each new token had ended before it could be used"))
    }

    /// A new token, whatever is held.
    pub(crate) fn force(self: &Arc<Self>) -> Result<TokenRef, Error> {
        let mut state = lock(&self.state);
        let before = state.cell.held().map(|held| held.generation);
        for _ in 0..ROUNDS {
            if let Some(closed) = state.closed {
                return Err(closed.error());
            }
            match state.cell.force() {
                None => state = self.land(state),
                Some(ticket) => {
                    let job = Job::new(self, ticket, state.epoch);
                    drop(state);
                    job.here();
                    state = lock(&self.state);
                }
            }
            match (state.cell.held(), state.cell.error()) {
                (Some(held), _) if before.is_none_or(|before| held.generation > before) => {
                    return Ok(held.clone().into());
                }
                (_, Some(error)) => return Err(error.clone()),
                // Given up in the middle, as when the credential was replaced.
                (_, None) => {}
            }
        }
        Err(Error::new(ErrorKind::Cancelled, "each refresh was given up"))
    }

    /// A new token by the background, whatever is held.
    #[cfg(test)]
    pub(crate) fn refresh_behind(self: &Arc<Self>) {
        let mut state = lock(&self.state);
        let Some(ticket) = state.cell.force() else { return };
        let job = Job::new(self, ticket, state.epoch);
        drop(state);
        job.behind();
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
        shared.tell(self, came);
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

    /// Hands out a token that is in use, and soon to be another.
    fn take(&self, token: Arc<Issued>) -> TokenRef {
        self.used.store(true, Relaxed);
        token.into()
    }

    /// Shows what is held to those who read the wall clock alone: from now on, as long as the cell need not be asked.
    fn show(&self, cell: &TokenCell, now: Now) {
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

    /// Waits for the end of the flight under way.
    fn land<'a>(&'a self, mut state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        let landing = state.landing.get_or_insert_default().clone();
        while state.landing.as_ref().is_some_and(|current| Arc::ptr_eq(current, &landing)) {
            state = wait(&landing, state);
        }
        state
    }
}

impl Tend for Slot {
    fn tend(self: Arc<Self>, timer: Timer) {
        let shared = &self.home.shared;
        let now = shared.now();
        let mut state = lock(&self.state);
        if state.timer == timer {
            state.timer = 0;
        }
        if state.closed.is_some() || !self.used.load(Relaxed) {
            return;
        }
        match state.cell.next_wake(now) {
            None => {}
            Some(Duration::ZERO) => {
                if let Acquired::Due(_, Some(ticket)) = state.cell.acquire(now) {
                    self.show(&state.cell, now);
                    let job = Job::new(&self, ticket, state.epoch);
                    drop(state);
                    job.behind();
                }
            }
            Some(_) => self.arm(&mut state),
        }
    }

    // What is shown until some moment of the wall clock may have
    // ended by the other.
    fn look_again(self: Arc<Self>) {
        let state = lock(&self.state);
        if state.closed.is_none() {
            self.shown.hide();
            self.show(&state.cell, self.home.shared.now());
        }
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
