//! One want: its cell behind a lock, and the token that readers see without it.

use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use arc_swap::ArcSwapOption;
use grantflow::cell::{Issued, Ticket, TokenCell};
use grantflow::source::Want;
use grantflow::{Error, ErrorKind, Now, Timestamp, Token};
use tokio::sync::watch;

use super::background::At;
use super::change::{Change, Status};
use super::clock::{self, BEHIND};
use super::origin::{Flying, Origin};
use super::sync::lock;
use super::token_ref::TokenRef;

/// Used since it was fetched: the background refreshes it.
pub(super) const IN_USE: u8 = 1;
/// [`Ended::Removed`], set with the state locked, as is the next.
const REMOVED: u8 = 2;
/// [`Ended::ShutDown`].
const SHUT_DOWN: u8 = 4;

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
    /// Until when, in milliseconds since 1970, and since when, in seconds, `published` is handed out without asking the
    /// cell. They are written after `published`, and read before it in the other order, so the end is never of a later
    /// token. A moment before the first means that the clock was set back, and says nothing about the end.
    due: AtomicU64,
    since: AtomicU32,
    pub(super) marks: AtomicU8,
    /// When a bounded pool was last asked for it, on the pool's clock.
    pub(super) asked: AtomicU32,
    /// Its place among the wants of its credential.
    pub(super) place: AtomicUsize,
    state: Mutex<State>,
    pub(super) want: Want,
    pub(super) origin: Arc<Origin>,
}

pub(super) struct State {
    pub(super) cell: TokenCell,
    /// The refresh under way. It ends with it.
    under_way: Option<Box<UnderWay>>,
    /// Where it stands in the timetable.
    pub(super) wake_at: Option<At>,
}

struct UnderWay {
    /// Of those who wait. It tells a failure.
    waiters: watch::Sender<Option<Error>>,
    flying: Option<Arc<Flying>>,
}

impl State {
    pub(super) fn wait(&mut self) -> watch::Receiver<Option<Error>> {
        self.under_way().waiters.subscribe()
    }

    /// The refresh that was begun last, if it has not ended.
    pub(super) fn flying(&self) -> Option<Arc<Flying>> {
        self.under_way.as_ref()?.flying.clone()
    }

    pub(super) fn set_flying(&mut self, flying: &Arc<Flying>) {
        self.under_way().flying = Some(flying.clone());
    }

    fn under_way(&mut self) -> &mut UnderWay {
        self.under_way.get_or_insert_with(|| Box::new(UnderWay { waiters: watch::channel(None).0, flying: None }))
    }
}

impl Slot {
    pub(super) fn new(origin: Arc<Origin>, want: Want) -> Arc<Self> {
        let hub = &origin.hub;
        let cell = TokenCell::new(hub.salt());
        let cell = hub.options.margin.into_iter().fold(cell, TokenCell::margin);
        let slot = Arc::new(Self {
            published: ArcSwapOption::empty(),
            since: AtomicU32::new(0),
            due: AtomicU64::new(0),
            marks: AtomicU8::new(0),
            asked: AtomicU32::new(0),
            place: AtomicUsize::new(0),
            state: Mutex::new(State { cell, under_way: None, wake_at: None }),
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
        self.show(&state.cell, now);
        self.schedule(&mut state, now);
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// The fast path.
    #[inline]
    pub(super) fn fresh(&self) -> Option<TokenRef> {
        self.fresh_at(clock::millis())
    }

    #[inline]
    fn fresh_at(&self, now: u64) -> Option<TokenRef> {
        if now >= self.due.load(Ordering::Acquire) || now < u64::from(self.since.load(Ordering::Relaxed)) * 1000 {
            return None;
        }
        self.mark();
        TokenRef::of(&self.published)
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
            self.hide();
        }
        another
    }

    /// Takes the outcome of a refresh.
    pub(super) fn settle(self: &Arc<Self>, ticket: Ticket, result: Result<Token, Error>) {
        let now = self.now();
        let (outcome, ended) = {
            let mut state = self.lock();
            if let (Some(_), Ok(token)) = (self.ended(), &result) {
                // Nobody gets it, but observers that keep refresh tokens must hear of it.
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
                    Ok(issued.clone())
                }
                (None, None) => return,
                (Some(error), _) => Err(error.clone()),
            };
            self.show(&state.cell, now);
            self.schedule(&mut state, now);
            (outcome, state.under_way.take())
        };
        if let (Err(error), Some(ended)) = (&outcome, &ended) {
            ended.waiters.send_replace(Some(error.clone()));
        }
        drop(ended);
        self.tell(outcome);
    }

    pub(super) fn tell(&self, outcome: Result<Arc<Issued>, Error>) {
        if !self.origin.hub.watchers.listen() {
            return;
        }
        let (credential, want, state) = (self.origin.name.clone(), self.want.clone(), self.origin.state());
        let (grant, unsaved) = (state.status(), state.save_error().cloned());
        self.origin.hub.watchers.tell(Change { credential, want, outcome, grant, unsaved });
    }

    /// Takes a ticket back. The waiters begin again.
    pub(super) fn abandon(&self, ticket: Ticket) {
        let ended = {
            let mut state = self.lock();
            state.cell.abandon(ticket);
            if state.cell.is_refreshing() {
                None
            } else {
                self.show(&state.cell, self.now());
                state.under_way.take()
            }
        };
        drop(ended);
    }

    /// Forgets what is held, since the credential is another one, and begins with what that came with.
    pub(super) fn clear(self: &Arc<Self>) {
        self.forget();
        self.begin();
    }

    fn forget(&self) {
        let mut state = self.lock();
        state.cell.clear();
        self.published.store(None);
        self.hide();
        self.origin.hub.timetable.remove(&mut state.wake_at);
        let ended = state.under_way.take();
        drop(state);
        drop(ended);
    }

    /// No more tokens. The waiters are told.
    pub(super) fn end(&self, why: Ended) {
        let state = self.lock();
        self.marks.fetch_or(if let Ended::Removed = why { REMOVED } else { SHUT_DOWN }, Ordering::Relaxed);
        drop(state);
        self.forget();
    }

    pub(super) fn status(&self) -> Status {
        let now = self.now();
        let (grant, waiting) = self.origin.state_and_waiting();
        let state = self.lock();
        let wake = state.cell.next_wake(now).filter(|_| self.origin.hub.options.background);
        Status {
            expires_at: state.cell.held().and_then(|held| held.token.expires_at()),
            last_error: state.cell.error().cloned(),
            next_refresh: wake.map(|wait| now.wall + wait),
            refreshing: state.cell.is_refreshing(),
            waiting,
            grant: grant.status(),
            unsaved: grant.save_error().cloned(),
        }
    }

    #[inline]
    pub(super) fn mark(&self) {
        // Readers share the line as long as it does not change.
        if self.marks.load(Ordering::Relaxed) & IN_USE == 0 {
            self.marks.fetch_or(IN_USE, Ordering::Relaxed);
        }
    }

    pub(super) fn now(&self) -> Now {
        self.origin.hub.transport.now()
    }

    pub(super) fn open(&self) -> Result<MutexGuard<'_, State>, Error> {
        let state = self.lock();
        match self.ended() {
            Some(ended) => Err(ended.into()),
            None => Ok(state),
        }
    }

    /// Shows what is held to those who read the wall clock alone: from now on, as long as the cell need not be asked. A
    /// token that is there already costs no more than the times: to show another one visits each thread that ever read.
    pub(super) fn show(&self, cell: &TokenCell, now: Now) {
        let (Some(issued), Some(time)) = (cell.held(), cell.serves_for(now)) else { return self.hide() };
        if !self.published.load().as_ref().is_some_and(|shown| Arc::ptr_eq(shown, issued)) {
            self.published.store(Some(issued.clone()));
        }
        self.since.store(u32::try_from(millis(now.wall) / 1000).unwrap_or(u32::MAX), Ordering::Relaxed);
        self.due.store(millis(now.wall + time), Ordering::Release);
    }

    /// Readers ask the cell.
    pub(super) fn hide(&self) {
        self.due.store(0, Ordering::Release);
    }

    /// Why it has no more tokens, if so. Only with the state locked does it stay so.
    pub(super) fn ended(&self) -> Option<Ended> {
        match self.marks.load(Ordering::Relaxed) {
            marks if marks & SHUT_DOWN != 0 => Some(Ended::ShutDown),
            marks if marks & REMOVED != 0 => Some(Ended::Removed),
            _ => None,
        }
    }

    pub(super) fn schedule(self: &Arc<Self>, state: &mut State, now: Now) {
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

/// In milliseconds since 1970, as far as readers see them: their clock may be behind.
fn millis(moment: Timestamp) -> u64 {
    u64::try_from((moment - BEHIND).as_unix_millis()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use grantflow::source::Credential;

    use super::*;
    use crate::Transport;
    use crate::manager::hub::{Hub, Options};

    #[test]
    fn a_moment_before_a_token_was_shown_says_nothing_about_its_end() {
        let transport = Transport::new().unwrap();
        let options = Options { margin: None, background: true, max_wants: None, runtime: None };
        let hub = Arc::new(Hub::new(&transport, options, None, None));
        let now = transport.now();
        let token = Token::bearer("t", now.wall, Some(now.wall + Duration::from_secs(3600))).unwrap();
        let origin = Origin::new(hub, "".into(), Arc::new(Credential::fixed(token.clone())));
        let slot = Slot::new(origin, Want::default());
        let mut state = slot.lock();
        let ticket = state.cell.force().unwrap();
        state.cell.settle(ticket, now, Ok(token));
        let shown = |wall: Timestamp| slot.fresh_at(millis(wall)).is_some();
        let back = Timestamp::from_unix_millis(now.wall.as_unix_millis() - 2000);
        let (minute, hour) = (Duration::from_secs(60), Duration::from_secs(3600));

        slot.show(&state.cell, now);
        assert!(shown(now.wall) && shown(now.wall + minute));
        assert!(!shown(back) && !shown(Timestamp::from_unix(0)) && !shown(now.wall + hour));

        // A caller that asked both clocks shows it again for what is left by them.
        slot.show(&state.cell, Now { wall: back, mono: now.mono + hour / 2 });
        assert!(shown(back) && shown(back + minute) && !shown(back + hour / 2));
        slot.show(&state.cell, Now { wall: back, mono: now.mono + hour });
        assert!(!shown(back) && !shown(now.wall));
    }
}
