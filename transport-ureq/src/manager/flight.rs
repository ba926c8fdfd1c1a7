//! One mint, from the ticket to the landing, in a turn of its credential's: [`Job`].

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use grantflow::cell::Ticket;
use grantflow::source::{Mint, Minting as _, Outcome, Turn, Waiting};
use grantflow::{Cx, Error, ErrorKind, Machine, Reply, Step, Token};

use super::credential::{Credential, Delicate, InTurn, given_up, panicked};
use super::slot::Slot;
use super::sync::lock;

/// How often a job may begin anew.
const ROUNDS: u8 = 3;

/// A mint to be done for a slot. Dropped undone, it gives its ticket back.
pub(crate) struct Job {
    slot: Arc<Slot>,
    ticket: Option<Ticket>,
    epoch: u32,
    /// How often it began anew, since it may go on only in a turn of its own.
    rounds: u8,
}

impl Job {
    pub(crate) fn new(slot: &Arc<Slot>, ticket: Ticket, epoch: u32) -> Self {
        Self { slot: slot.clone(), ticket: Some(ticket), epoch, rounds: 0 }
    }

    /// Does it on this thread, once it has its turn.
    pub(crate) fn here(self) {
        let mut begins = Some(self);
        while let Some(job) = begins {
            let turn = job.slot.home.turn();
            begins = job.fly(turn);
        }
    }

    /// Has it done in the background, once it has its turn.
    pub(crate) fn behind(self) {
        let home = self.slot.home.clone();
        home.behind(Box::new(self));
    }

    /// Does it in this turn. It comes back if it must begin anew, in a turn of its own.
    fn fly(mut self, turn: Turn<()>) -> Option<Self> {
        let slot = self.slot.clone();
        // Counted first, looked second: a thread that closes the slot first and counts second misses none.
        let _delicate = Delicate::enter(&slot.home);
        let mut flight = Flight { home: &slot.home, turn: Some(turn), mint: None };
        let mut result = if slot.awaits(self.epoch) { flight.mint(&slot) } else { Err(Why::GivenUp(given_up())) };
        let again = self.rounds < ROUNDS && matches!(result, Err(Why::Failed(_))) && flight.must_wait();
        flight.end(match &mut result {
            Ok(token) => Outcome::Minted(token),
            Err(Why::GivenUp(error) | Why::Failed(error)) => Outcome::Failed(error),
            Err(Why::Panicked) => Outcome::Abandoned,
        });
        if again {
            self.rounds += 1;
            return Some(self);
        }
        let result = match result {
            Ok(token) => Ok(token),
            Err(Why::Failed(error)) => Err(slot.home.named(error)),
            Err(Why::Panicked) => Err(panicked()),
            Err(Why::GivenUp(_)) => return None,
        };
        if let Some(ticket) = self.ticket.take() {
            slot.settle(ticket, result);
        }
        None
    }
}

impl InTurn for Job {
    fn go(self: Box<Self>, turn: Turn<()>) {
        self.fly(turn).into_iter().for_each(Self::behind);
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket.take() {
            self.slot.abandon(ticket);
        }
    }
}

/// Why there is no token.
enum Why {
    /// Nobody wants it any more, or the credential is another one since.
    GivenUp(Error),
    Failed(Error),
    Panicked,
}

/// A turn and its machine. However it ends, the turn goes back, and with it what the machine changed.
struct Flight<'a> {
    home: &'a Arc<Credential>,
    turn: Option<Turn<()>>,
    mint: Option<Mint>,
}

impl Flight<'_> {
    fn mint(&mut self, slot: &Slot) -> Result<Token, Why> {
        let (Some(turn), shared) = (&mut self.turn, &self.home.shared) else { return Err(Why::GivenUp(given_up())) };
        let now = shared.now();
        let held = slot.holds();
        let machine = lock(&self.home.queue).grant.mint(turn, &slot.want, now, held);
        let mint = self.mint.insert(machine.map_err(|error| match error.kind() {
            // A use that was given up before, and must rest, is an error of that kind too.
            ErrorKind::Cancelled if !error.is_transient() => Why::GivenUp(error),
            _ => Why::Failed(error),
        })?);
        let watched = Watched { mint, home: self.home, waiting: None };
        let result = catch_unwind(AssertUnwindSafe(|| shared.run(watched)));
        result.map_err(|_| Why::Panicked)?.map_err(Why::Failed)
    }

    fn end(&mut self, outcome: Outcome<'_>) {
        let Some(turn) = self.turn.take() else { return };
        // A source that panics here has lost what it kept.
        let change = self.mint.as_mut().map(|mint| catch_unwind(AssertUnwindSafe(|| mint.take_change())));
        let change = change.and_then(Result::ok).unwrap_or_default();
        self.home.end(turn, change, outcome);
    }

    /// Whether the machine may go on only in a turn of its own.
    fn must_wait(&self) -> bool {
        let mint = self.mint.as_ref();
        mint.is_some_and(|mint| catch_unwind(AssertUnwindSafe(|| mint.must_wait())).unwrap_or_default())
    }
}

/// A mint that tells what it waits for.
struct Watched<'a> {
    mint: &'a mut Mint,
    home: &'a Credential,
    waiting: Option<Waiting>,
}

impl Machine for Watched<'_> {
    type Output = Token;

    fn resume(&mut self, cx: &mut Cx, reply: Reply) -> Step<Token> {
        let step = self.mint.resume(cx, reply);
        let waiting = self.mint.waiting();
        if waiting != self.waiting {
            self.waiting = waiting;
            self.home.wait_for(waiting);
        }
        step
    }
}

impl Drop for Flight<'_> {
    fn drop(&mut self) {
        self.end(Outcome::Abandoned);
    }
}
