//! Those who use tokens.

use std::sync::Arc;
use std::time::Duration;

use grantflow::cell::Issued;

use super::manager::Asked;
use super::{Event, Season, Sim};

#[derive(Debug, Default)]
pub(super) struct Caller {
    state: State,
    nonce: u32,
}

#[derive(Debug, Default)]
enum State {
    #[default]
    Thinking,
    /// Waits for a refresh. `again`: after a 401.
    Waiting { slot: usize, again: bool },
    /// Was woken, and has yet to ask again.
    Woken { slot: usize, again: bool },
    /// Is about to use a token.
    Using { slot: usize, again: bool, issued: Arc<Issued> },
}

impl Sim {
    /// Does something else for a while.
    pub(super) fn think(&mut self, caller: usize) {
        let (low, high) = self.pace.between();
        let wait = self.rng.time(low, high);
        self.callers[caller].state = State::Thinking;
        self.go_on_in(caller, wait);
    }

    fn go_on_in(&mut self, caller: usize, wait: Duration) {
        self.callers[caller].nonce += 1;
        self.clock.after(wait, Event::Caller(caller, self.callers[caller].nonce));
    }

    pub(super) fn go_on(&mut self, caller: usize, nonce: u32) {
        if self.callers[caller].nonce != nonce {
            return;
        }
        match std::mem::take(&mut self.callers[caller].state) {
            State::Thinking => {
                let slot = self.next_slot();
                if self.season == Season::Storm && self.rng.one_in(200) {
                    self.note("caller {a} forces a refresh of slot {b}", caller, slot as u64);
                    self.force(caller, slot);
                    return self.wait(caller, slot, false);
                }
                self.want_token(caller, slot, false);
            }
            State::Woken { slot, again } => self.want_token(caller, slot, again),
            State::Using { slot, again, issued } => self.use_token(caller, slot, again, &issued),
            State::Waiting { .. } => self.breaks(format!("caller {caller} was woken while it waits")),
        }
    }

    fn want_token(&mut self, caller: usize, slot: usize, again: bool) {
        match self.ask(caller, slot) {
            Asked::Token(issued, published) => {
                self.report.served += 1;
                self.note("caller {a} gets a token of slot {b}", caller, slot as u64);
                self.judge_token(slot, &issued);
                self.judge_clocks(slot, published);
                self.know_served(slot);
                let late = match self.rng.below(10) {
                    0 => self.rng.time(Duration::from_millis(1), Duration::from_secs(60)),
                    _ => Duration::ZERO,
                };
                if late.is_zero() {
                    return self.use_token(caller, slot, again, &issued);
                }
                self.callers[caller].state = State::Using { slot, again, issued };
                self.go_on_in(caller, late);
            }
            Asked::Waits => {
                self.note("caller {a} waits for slot {b}", caller, slot as u64);
                self.report.waited += 1;
                self.judge_wait(slot);
                self.wait(caller, slot, again);
            }
            Asked::Failed => {
                self.note("caller {a} is told that slot {b} fails", caller, slot as u64);
                self.report.failed += 1;
                self.judge_failure(slot);
                self.think(caller);
            }
        }
    }

    fn wait(&mut self, caller: usize, slot: usize, again: bool) {
        self.callers[caller].state = State::Waiting { slot, again };
        if self.season == Season::Storm && self.rng.chance(5) {
            let patience = self.rng.time(Duration::from_millis(1), Duration::from_secs(5));
            self.callers[caller].nonce += 1;
            self.clock.after(patience, Event::Cancel(caller, self.callers[caller].nonce));
        }
    }

    /// Whoever is doing something else comes back to work.
    pub(super) fn rouse(&mut self) {
        for caller in 0..self.callers.len() {
            if matches!(self.callers[caller].state, State::Thinking) {
                self.think(caller);
            }
        }
    }

    /// Its refresh has ended, one way or the other.
    pub(super) fn wake(&mut self, caller: usize, slot: usize) {
        let again = matches!(self.callers[caller].state, State::Waiting { again: true, .. });
        self.callers[caller].state = State::Woken { slot, again };
        let soon = Duration::from_micros(self.rng.next() % 3000);
        self.go_on_in(caller, soon);
    }

    /// It is dropped while it waits, and another comes in its place.
    pub(super) fn cancel(&mut self, caller: usize, nonce: u32) {
        if self.callers[caller].nonce != nonce {
            return;
        }
        if let State::Waiting { slot, .. } = self.callers[caller].state {
            self.note("caller {a} gives up on slot {b}", caller, slot as u64);
            self.slots[slot].waiters.retain(|waiter| *waiter != caller);
            self.think(caller);
        }
    }

    fn use_token(&mut self, caller: usize, slot: usize, again: bool, issued: &Issued) {
        let credential = &self.credentials[self.slots[slot].credential];
        let account = issued.token.access_token().split('-').nth(1).and_then(|name| name.parse::<usize>().ok());
        let account = &self.accounts[account.unwrap_or_default()];
        if !credential.refused && account.accepts(issued.token.access_token(), self.clock.truth) {
            return self.think(caller);
        }
        self.note("slot {a} gets a 401 for generation {b}", slot, issued.generation);
        if self.invalidate(slot, issued.generation) && !again {
            self.want_token(caller, slot, true);
        } else {
            self.think(caller);
        }
    }
}
