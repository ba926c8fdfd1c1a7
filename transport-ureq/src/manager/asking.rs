//! Requests for a token: by a caller, who has it fetched or waits for it, and by the worker, when it is due.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use grantflow::cell::{Acquired, Issued};
use grantflow::{Error, ErrorKind};

use super::flight::Job;
use super::slot::{Slot, State};
use super::sync::{MutexGuard, lock, wait};
use super::task::{Tend, Timer};
use super::token_ref::TokenRef;

/// How often one call begins again: each time a token came and ended before it could be used.
const ROUNDS: u32 = 8;

impl Slot {
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
                Acquired::Due(token, None) => return Ok(take(self, token)),
                Acquired::Due(token, Some(ticket)) if self.home.shared.background() => {
                    let (token, job) = (take(self, token), Job::new(self, ticket, state.epoch));
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
                Acquired::Wait => state = land(state),
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
                None => state = land(state),
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

/// Hands out a token that is in use, and soon to be another.
fn take(slot: &Slot, token: Arc<Issued>) -> TokenRef {
    slot.used.store(true, Relaxed);
    token.into()
}

/// Waits for the end of the flight under way.
fn land(mut state: MutexGuard<'_, State>) -> MutexGuard<'_, State> {
    let landing = state.landing.get_or_insert_default().clone();
    while state.landing.as_ref().is_some_and(|current| Arc::ptr_eq(current, &landing)) {
        state = wait(&landing, state);
    }
    state
}
