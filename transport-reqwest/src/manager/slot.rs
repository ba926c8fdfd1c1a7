//! One want: its cell behind a lock, and what readers see without it.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwapOption;
use grantflow::cell::{Acquired, Issued, Ticket, TokenCell};
use grantflow::source::Want;
use grantflow::{Error, ErrorKind, Now, Timestamp, Token};
use tokio::sync::watch;

use super::background::At;
use super::flight::{Flight, Origin};
use super::{Change, Status, TokenRef, lock};
use crate::runtime;

/// Used since it was fetched: the background refreshes it.
const IN_USE: u8 = 1;
/// Used since the pool last looked for something to forget.
const SEEN: u8 = 2;
/// [`Ended::Removed`], set with the state locked, as is the next.
const REMOVED: u8 = 4;
/// [`Ended::ShutDown`].
const SHUT_DOWN: u8 = 8;
/// How often a caller begins again after a refresh that was given up.
const ROUNDS: usize = 16;
/// No token: due since 1970.
const NOTHING: Timestamp = Timestamp::from_unix(0);

/// Why a slot has no more tokens.
#[derive(Clone, Copy)]
pub(super) enum Ended {
    Removed,
    ShutDown,
}

impl From<Ended> for Error {
    fn from(ended: Ended) -> Self {
        match ended {
            Ended::Removed => Self::new(ErrorKind::Config, "the credential was removed from its pool"),
            Ended::ShutDown => Self::new(ErrorKind::Cancelled, "the token manager was shut down"),
        }
    }
}

/// One want of one credential.
pub(super) struct Slot {
    published: ArcSwapOption<Issued>,
    /// Until when, in milliseconds since 1970, `published` is handed out without asking the cell. It is
    /// written after `published` and read before it, so it is never of a later token.
    due: AtomicU64,
    marks: AtomicU8,
    state: Mutex<State>,
    pub(super) want: Want,
    pub(super) origin: Arc<Origin>,
}

pub(super) struct State {
    pub(super) cell: TokenCell,
    /// Of those who wait for the refresh under way. It ends with it, and tells a failure.
    waiters: Option<watch::Sender<Option<Error>>>,
    /// Where it stands in the timetable.
    wake_at: Option<At>,
}

impl State {
    fn wait(&mut self) -> watch::Receiver<Option<Error>> {
        self.waiters.get_or_insert_with(|| watch::channel(None).0).subscribe()
    }
}

/// Waits for the refresh under way; a failure, if it came to one.
async fn outcome(mut refresh: watch::Receiver<Option<Error>>) -> Option<Error> {
    // An error here is the end without a message.
    let _ = refresh.changed().await;
    refresh.borrow().clone()
}

impl Slot {
    pub(super) fn new(origin: Arc<Origin>, want: Want) -> Arc<Self> {
        let hub = &origin.hub;
        let cell = TokenCell::new(hub.salt());
        let cell = hub.options.margin.into_iter().fold(cell, TokenCell::margin);
        let slot = Arc::new(Self {
            published: ArcSwapOption::empty(),
            due: AtomicU64::new(0),
            marks: AtomicU8::new(SEEN),
            state: Mutex::new(State { cell, waiters: None, wake_at: None }),
            want,
            origin,
        });
        slot.begin();
        slot
    }

    /// Begins with the token that the credential came with, if there is one for this want.
    fn begin(self: &Arc<Self>) {
        let Some(token) = self.origin.take_first(&self.want) else { return };
        let now = self.now();
        let mut state = self.lock();
        let ticket = if self.ended().is_none() { state.cell.force() } else { None };
        let Some(ticket) = ticket else { return };
        state.cell.settle(ticket, now, Ok(token));
        if let Some(issued) = state.cell.held() {
            self.publish(Some(issued.clone()), state.cell.due().0);
        }
        self.schedule(&mut state, now);
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// The fast path.
    #[inline]
    pub(super) fn fresh(&self) -> Option<TokenRef> {
        let due = Duration::from_millis(self.due.load(Ordering::Acquire));
        // The clock as it comes: to make a `Timestamp` of it would cost half of its reading again.
        if UNIX_EPOCH.checked_add(due).is_some_and(|due| SystemTime::now() >= due) {
            return None;
        }
        self.mark();
        TokenRef::of(&self.published)
    }

    /// The slow path.
    pub(super) async fn get(self: &Arc<Self>) -> Result<TokenRef, Error> {
        let mut failed = None;
        for _ in 0..ROUNDS {
            let (ticket, refresh) = {
                let mut state = self.open()?;
                self.mark();
                match (state.cell.acquire(self.now()), failed) {
                    (Acquired::Fresh(issued) | Acquired::Due(issued, None), _) => return Ok(issued.into()),
                    (Acquired::Due(issued, Some(ticket)), _) => {
                        drop(state);
                        // Without a runtime there is still the token.
                        let _ = self.launch(ticket);
                        return Ok(issued.into());
                    }
                    (Acquired::Failed(error), _) => return Err(error),
                    // Whoever has waited for a failure is told it, and does not wait for another.
                    (Acquired::Wait, Some(error)) => return Err(error),
                    (Acquired::Refresh(ticket), Some(error)) => {
                        state.cell.abandon(ticket);
                        return Err(error);
                    }
                    (Acquired::Wait, None) => (None, state.wait()),
                    (Acquired::Refresh(ticket), None) => (Some(ticket), state.wait()),
                }
            };
            ticket.map_or(Ok(()), |ticket| self.launch(ticket))?;
            failed = outcome(refresh).await;
        }
        Err(given_up())
    }

    pub(super) async fn force(self: &Arc<Self>) -> Result<TokenRef, Error> {
        let mut before = None;
        for _ in 0..ROUNDS {
            let (ticket, refresh) = {
                let mut state = self.open()?;
                let held = state.cell.held().map_or(0, |held| held.generation);
                before.get_or_insert(held);
                (state.cell.force(), state.wait())
            };
            ticket.map_or(Ok(()), |ticket| self.launch(ticket))?;
            if let Some(error) = outcome(refresh).await {
                return Err(error);
            }
            self.mark();
            let valid = self.open()?.cell.valid(self.now());
            if let Some(issued) = valid.filter(|issued| Some(issued.generation) > before) {
                return Ok(issued.into());
            }
        }
        Err(given_up())
    }

    /// Takes note that a server refused this token; see [`TokenCell::reject`].
    pub(super) fn reject(&self, issued: &Arc<Issued>) -> bool {
        let mut state = self.lock();
        // What is not held, or no longer, or by another manager, says nothing about what is.
        if !state.cell.held().is_some_and(|held| Arc::ptr_eq(held, issued)) {
            return true;
        }
        let another = state.cell.reject(issued.generation, self.now());
        if state.cell.valid(self.now()).is_none() {
            self.due_at(NOTHING);
        }
        another
    }

    /// Takes what came of a refresh.
    pub(super) fn settle(self: &Arc<Self>, ticket: Ticket, result: Result<Token, Error>) {
        let now = self.now();
        let (outcome, waiters) = {
            let mut state = self.lock();
            if let (Some(_), Ok(token)) = (self.ended(), &result) {
                // Nobody gets it, but whoever keeps refresh tokens must hear of it.
                let issued = Issued { token: token.clone(), generation: 0 };
                drop(state);
                return self.tell(Ok(Arc::new(issued)));
            }
            let expected = state.cell.is_refreshing();
            state.cell.settle(ticket, now, result);
            if !expected || state.cell.is_refreshing() {
                // The ticket was of another credential, or of none any more.
                return;
            }
            let outcome = match (state.cell.error(), state.cell.held()) {
                (None, Some(issued)) => {
                    self.marks.fetch_and(!IN_USE, Ordering::Relaxed);
                    self.publish(Some(issued.clone()), state.cell.due().0);
                    Ok(issued.clone())
                }
                (None, None) => return,
                (Some(error), _) => Err(error.clone()),
            };
            self.schedule(&mut state, now);
            (outcome, state.waiters.take())
        };
        if let (Err(error), Some(waiters)) = (&outcome, &waiters) {
            waiters.send_replace(Some(error.clone()));
        }
        drop(waiters);
        self.tell(outcome);
    }

    fn tell(&self, outcome: Result<Arc<Issued>, Error>) {
        let (credential, want) = (self.origin.name.clone(), self.want.clone());
        self.origin.hub.watchers.tell(Change { credential, want, outcome });
    }

    /// Takes a ticket back. Whoever waits begins again.
    pub(super) fn abandon(&self, ticket: Ticket) {
        let waiters = {
            let mut state = self.lock();
            state.cell.abandon(ticket);
            if state.cell.is_refreshing() { None } else { state.waiters.take() }
        };
        drop(waiters);
    }

    /// Forgets what is held, since the credential is another one, and begins with what that came with.
    pub(super) fn clear(self: &Arc<Self>) {
        self.forget();
        self.begin();
    }

    fn forget(&self) {
        let mut state = self.lock();
        state.cell.clear();
        self.publish(None, NOTHING);
        self.origin.hub.timetable.remove(&mut state.wake_at);
        let waiters = state.waiters.take();
        drop(state);
        drop(waiters);
    }

    /// No more tokens. Whoever waits is told.
    pub(super) fn end(&self, why: Ended) {
        let state = self.lock();
        self.marks.fetch_or(if let Ended::Removed = why { REMOVED } else { SHUT_DOWN }, Ordering::Relaxed);
        drop(state);
        self.forget();
    }

    /// Its turn in the timetable, which was at `at`.
    pub(super) fn refresh_in_background(self: &Arc<Self>, at: At) {
        let now = self.now();
        let mut state = self.lock();
        if state.wake_at == Some(at) {
            state.wake_at = None;
        }
        if self.ended().is_some() {
            return;
        }
        match state.cell.acquire(now) {
            Acquired::Due(_, Some(ticket)) if self.marks.load(Ordering::Relaxed) & IN_USE != 0 => {
                drop(state);
                // Without a runtime, the next caller does it.
                let _ = self.launch(ticket);
            }
            // Nobody uses it, or it ended in a suspend and whoever needs one comes.
            Acquired::Due(_, Some(ticket)) | Acquired::Refresh(ticket) => state.cell.abandon(ticket),
            Acquired::Fresh(_) | Acquired::Due(_, None) => self.schedule(&mut state, now),
            Acquired::Wait | Acquired::Failed(_) => {}
        }
    }

    /// Takes another look at the clocks.
    pub(super) fn reschedule(self: &Arc<Self>) {
        let mut state = self.lock();
        self.schedule(&mut state, self.now());
    }

    pub(super) fn status(&self) -> Status {
        let now = self.now();
        let state = self.lock();
        let wake = state.cell.next_wake(now).filter(|_| self.origin.hub.options.background);
        Status {
            expires_at: state.cell.held().and_then(|held| held.token.expires_at()),
            last_error: state.cell.error().cloned(),
            next_refresh: wake.map(|wait| now.wall + wait),
            refreshing: state.cell.is_refreshing(),
        }
    }

    /// Whether it was used since this was asked last.
    pub(super) fn take_seen(&self) -> bool {
        self.marks.fetch_and(!SEEN, Ordering::Relaxed) & SEEN != 0
    }

    #[inline]
    fn mark(&self) {
        // Readers share the line as long as it does not change.
        if self.marks.load(Ordering::Relaxed) & (IN_USE | SEEN) != IN_USE | SEEN {
            self.marks.fetch_or(IN_USE | SEEN, Ordering::Relaxed);
        }
    }

    fn now(&self) -> Now {
        self.origin.hub.transport.now()
    }

    fn open(&self) -> Result<MutexGuard<'_, State>, Error> {
        let state = self.lock();
        match self.ended() {
            Some(ended) => Err(ended.into()),
            None => Ok(state),
        }
    }

    /// Begins a refresh as a task. Nothing may be locked: in a runtime that ends, the task ends here.
    fn launch(self: &Arc<Self>, ticket: Ticket) -> Result<(), Error> {
        let flight = Flight::new(self.clone(), ticket);
        runtime::current()?.spawn(flight.run());
        Ok(())
    }

    fn publish(&self, issued: Option<Arc<Issued>>, due: Timestamp) {
        self.published.store(issued);
        self.due_at(due);
    }

    fn due_at(&self, due: Timestamp) {
        self.due.store(u64::try_from(due.as_unix_millis()).unwrap_or(0), Ordering::Release);
    }

    /// Why it has no more tokens, if so. Only with the state locked does it stay so.
    pub(super) fn ended(&self) -> Option<Ended> {
        match self.marks.load(Ordering::Relaxed) {
            marks if marks & SHUT_DOWN != 0 => Some(Ended::ShutDown),
            marks if marks & REMOVED != 0 => Some(Ended::Removed),
            _ => None,
        }
    }

    fn schedule(self: &Arc<Self>, state: &mut State, now: Now) {
        let hub = &self.origin.hub;
        let at = state.cell.next_wake(now).filter(|_| hub.options.background && self.ended().is_none());
        hub.timetable.set(self, &mut state.wake_at, at.map(|wait| now.mono.saturating_add(wait)));
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut wake_at = lock(&self.state).wake_at.take();
        self.origin.hub.timetable.remove(&mut wake_at);
    }
}

fn given_up() -> Error {
    Error::new(ErrorKind::Cancelled, "the refresh was given up again and again: is the runtime shutting down?")
}
