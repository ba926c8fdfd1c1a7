//! One mint, from the ticket to the landing, in the order of its credential's queue: [`Job`].

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use grantflow::cell::Ticket;
use grantflow::source::{Grant, GrantState, Mint, Minted, Outcome, TokenSource, Turn, Want};
use grantflow::{Cx, Error, ErrorKind, Machine, Reply, Step};

use super::shared::Shared;
use super::slot::Slot;
use super::sync::{Condvar, Mutex, lock, wait};

/// A credential in use, with all that its wants share.
pub(crate) struct Credential {
    /// Its name in a pool.
    pub(crate) name: Option<Arc<str>>,
    pub(crate) shared: Arc<Shared>,
    line: Mutex<Arc<Line>>,
}

impl Credential {
    pub(crate) fn new(shared: &Arc<Shared>, name: Option<Arc<str>>, source: impl TokenSource + 'static) -> Arc<Self> {
        Arc::new(Self { name, shared: shared.clone(), line: Mutex::new(Line::new(source)) })
    }

    /// Puts another in its place. Flights under way end in the line in which they began, and what they learn
    /// stays there. Its slots are to be cleared next.
    pub(crate) fn replace(&self, source: impl TokenSource + 'static) {
        *lock(&self.line) = Line::new(source);
    }

    pub(crate) fn state(&self) -> GrantState {
        lock(&self.line().queue).grant.state().clone()
    }

    pub(crate) fn line(&self) -> Arc<Line> {
        lock(&self.line).clone()
    }
}

/// Where the jobs of a credential line up.
pub(crate) struct Line {
    pub(crate) queue: Mutex<Queue>,
    /// A flight counted in [`Queue::delicate`] is over.
    pub(crate) over: Condvar,
}

pub(crate) struct Queue {
    grant: Grant<Job>,
    /// How many flights are under way that must not be torn off: a new refresh token would be lost.
    pub(crate) delicate: u32,
}

impl Line {
    fn new(source: impl TokenSource + 'static) -> Arc<Self> {
        let grant = Grant::new(Arc::new(Calm(source)));
        Arc::new(Self { queue: Mutex::new(Queue { grant, delicate: 0 }), over: Condvar::new() })
    }

    fn enter(self: &Arc<Self>) -> Option<Delicate> {
        let mut queue = lock(&self.queue);
        let delicate = queue.grant.is_busy() && queue.grant.state().refresh_token().is_some();
        queue.delicate += u32::from(delicate);
        delicate.then(|| Delicate(self.clone()))
    }
}

/// Counts a flight in [`Queue::delicate`], to its very end.
struct Delicate(Arc<Line>);

impl Drop for Delicate {
    fn drop(&mut self) {
        lock(&self.0.queue).delicate -= 1;
        self.0.over.notify_all();
    }
}

/// A mint to be done for a slot. Dropped undone, it gives its ticket back.
pub(crate) struct Job {
    slot: Arc<Slot>,
    ticket: Option<Ticket>,
    epoch: u32,
    /// Where a thread waits for its turn to do it; without, it is done in the background.
    waiting: Option<Arc<Mailbox>>,
}

impl Job {
    pub(crate) fn new(slot: &Arc<Slot>, ticket: Ticket, epoch: u32) -> Self {
        Self { slot: slot.clone(), ticket: Some(ticket), epoch, waiting: None }
    }

    /// Does it on this thread, once it has its turn.
    pub(crate) fn here(mut self) {
        let line = self.slot.home.line();
        let mailbox = Arc::new(Mailbox::default());
        self.waiting = Some(mailbox.clone());
        let begun = lock(&line.queue).grant.begin(self);
        let turn = begun.unwrap_or_else(|| mailbox.take());
        Task { line, turn }.run();
    }

    /// Has it done in the background, once it has its turn.
    pub(crate) fn behind(self) {
        let line = self.slot.home.line();
        let begun = lock(&line.queue).grant.begin(self);
        if let Some(turn) = begun {
            Task { line, turn }.dispatch();
        }
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket.take() {
            self.slot.abandon(ticket);
        }
    }
}

/// Where the turn is put for a thread that waits for it.
#[derive(Default)]
struct Mailbox {
    turn: Mutex<Option<Turn<Job>>>,
    put: Condvar,
}

impl Mailbox {
    fn put(&self, turn: Turn<Job>) {
        *lock(&self.turn) = Some(turn);
        self.put.notify_all();
    }

    fn take(&self) -> Turn<Job> {
        let mut slot = lock(&self.turn);
        loop {
            match slot.take() {
                Some(turn) => return turn,
                None => slot = wait(&self.put, slot),
            }
        }
    }
}

/// A job whose turn it is.
pub(crate) struct Task {
    line: Arc<Line>,
    turn: Turn<Job>,
}

impl Task {
    /// Does it, on this thread.
    pub(crate) fn run(self) {
        let Self { line, turn } = self;
        let (mut job, turn) = turn.split();
        let slot = job.slot.clone();
        let shared = &slot.home.shared;
        // Counted first, looked second: whoever closes the slot first and counts second misses none.
        let _delicate = line.enter();
        let wanted = slot.awaits(job.epoch);
        let mut result = if wanted { mint(&line, &slot) } else { Err(Some(given_up())) };
        let now = shared.now();
        let outcome = match &mut result {
            Ok(minted) => Outcome::Minted(minted),
            Err(Some(error)) => Outcome::Failed(error),
            Err(None) => Outcome::Abandoned,
        };
        let next = lock(&line.queue).grant.finish(turn, now.wall, outcome);
        if let Some(turn) = next {
            Self { line: line.clone(), turn }.dispatch();
        }
        if let Some(ticket) = job.ticket.take_if(|_| wanted) {
            let result = result.map(|minted| minted.token).map_err(|error| error.unwrap_or_else(panicked));
            slot.settle(ticket, now, result);
        }
    }

    /// Hands it to the thread that waits for it, or to the background. Without threads there, it is given up,
    /// and so are those behind it.
    fn dispatch(self) {
        let mut task = self;
        loop {
            if let Some(mailbox) = task.turn.job.waiting.take() {
                return mailbox.put(task.turn);
            }
            let shared = task.turn.job.slot.home.shared.clone();
            let Err(Self { line, turn }) = shared.later(task) else { return };
            let (job, turn) = turn.split();
            let next = lock(&line.queue).grant.finish(turn, shared.now().wall, Outcome::Failed(&given_up()));
            drop(job);
            match next {
                Some(turn) => task = Self { line, turn },
                None => return,
            }
        }
    }
}

/// Mints; `None` is a panic in the middle.
fn mint(line: &Line, slot: &Slot) -> Result<Minted, Option<Error>> {
    let shared = &slot.home.shared;
    let now = shared.now();
    let valid = slot.is_valid(now);
    let machine = lock(&line.queue).grant.mint(&slot.want, now.wall, valid)?;
    catch_unwind(AssertUnwindSafe(|| shared.run(machine))).map_err(|_| None)?.map_err(Some)
}

fn given_up() -> Error {
    Error::new(ErrorKind::Cancelled, "the refresh was given up before it began")
}

fn panicked() -> Error {
    Error::new(ErrorKind::Misuse, "the source of the token panicked")
}

/// A source whose panics are errors, so that none comes out of the middle of a queue.
struct Calm<S>(S);

impl<S: TokenSource> TokenSource for Calm<S> {
    fn mint(&self, want: &Want, state: &GrantState) -> Mint {
        catch_unwind(AssertUnwindSafe(|| self.0.mint(want, state))).unwrap_or_else(|_| Box::new(Panicked))
    }

    fn first_state(&self) -> GrantState {
        self.0.first_state()
    }

    fn may_change(&self, state: &GrantState) -> bool {
        catch_unwind(AssertUnwindSafe(|| self.0.may_change(state))).unwrap_or(true)
    }
}

struct Panicked;

impl Machine for Panicked {
    type Output = Minted;
    fn resume(&mut self, _: &mut Cx, _: Reply) -> Step<Minted> {
        Step::Done(Err(panicked()))
    }
}
