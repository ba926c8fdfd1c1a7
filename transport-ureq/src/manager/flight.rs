//! One mint, from the ticket to the landing, in the order of its credential's queue: [`Job`].

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use grantflow::cell::Ticket;
use grantflow::source::{Again, Change, Grant, GrantState, Mint, Minting, Outcome, TokenSource, Turn, Want};
use grantflow::{Cx, Error, ErrorKind, Machine, Reply, Step, Token};

use super::shared::Shared;
use super::slot::{Slot, Timer};
use super::sync::{Condvar, Mutex, lock, wait};

/// How often a job may begin anew.
const ROUNDS: u8 = 3;

/// A credential in use, with all that its wants share.
pub(crate) struct Credential {
    /// Its name in a pool; empty outside.
    pub(crate) name: Arc<str>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) queue: Mutex<Queue>,
    /// A flight counted in [`Queue::delicate`] is over.
    pub(crate) over: Condvar,
}

pub(crate) struct Queue {
    pub(crate) grant: Grant<Job>,
    /// How many flights are under way that must not be torn off: a new refresh token would be lost.
    pub(crate) delicate: u32,
    /// When the background is to save what could not be saved.
    pub(crate) saving: Timer,
}

impl Credential {
    pub(crate) fn new(shared: &Arc<Shared>, name: Arc<str>, source: Arc<dyn TokenSource>) -> Arc<Self> {
        let grant = Grant::new(Arc::new(Calm(source)));
        let queue = Mutex::new(Queue { grant, delicate: 0, saving: 0 });
        let credential = Arc::new(Self { name, shared: shared.clone(), queue, over: Condvar::new() });
        credential.save_later();
        credential
    }

    /// Puts another in its place. Its slots are to be cleared next.
    pub(crate) fn replace(self: &Arc<Self>, source: Arc<dyn TokenSource>) {
        lock(&self.queue).grant.replace(Arc::new(Calm(source)));
        self.save_later();
    }

    /// The token that it came with, if this want is for that and no other has it.
    pub(crate) fn take_first(&self, want: &Want) -> Option<Token> {
        lock(&self.queue).grant.take_first(want, self.shared.now())
    }

    pub(crate) fn state(&self) -> GrantState {
        lock(&self.queue).grant.state().clone()
    }

    /// Says whose error it is, where there are many.
    fn named(&self, error: Error) -> Error {
        if self.name.is_empty() {
            error
        } else {
            error.within(format_args!("credential {:?}", grantflow::Shown::name(&self.name)))
        }
    }

    /// The next of those who need not wait any more.
    fn next_turn(&self) -> Option<Turn<Job>> {
        lock(&self.queue).grant.next_turn()
    }

    fn finish(&self, turn: Turn<()>, change: Change, outcome: Outcome<'_>) -> Option<Turn<Job>> {
        lock(&self.queue).grant.finish(turn, self.shared.now(), change, outcome)
    }

    /// Ends a turn, and has all go on that waited for it.
    pub(crate) fn end(self: &Arc<Self>, turn: Turn<()>, change: Change, outcome: Outcome<'_>) {
        let mut next = self.finish(turn, change, outcome);
        while let Some(turn) = next {
            Task::Mint(turn).dispatch();
            next = self.next_turn();
        }
        self.save_later();
    }
}

/// Counts a flight in [`Queue::delicate`], if it is one, to its very end.
struct Delicate<'a>(&'a Credential, u32);

impl<'a> Delicate<'a> {
    fn enter(credential: &'a Credential) -> Self {
        let mut queue = lock(&credential.queue);
        let one = u32::from(queue.grant.is_delicate());
        queue.delicate += one;
        Self(credential, one)
    }
}

impl Drop for Delicate<'_> {
    fn drop(&mut self) {
        lock(&self.0.queue).delicate -= self.1;
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
    /// Whether it is done on the thread that began it.
    here: bool,
    /// How often it began anew, since it may go on only in a turn of its own.
    rounds: u8,
}

impl Job {
    pub(crate) fn new(slot: &Arc<Slot>, ticket: Ticket, epoch: u32) -> Self {
        Self { slot: slot.clone(), ticket: Some(ticket), epoch, waiting: None, here: false, rounds: 0 }
    }

    /// Does it on this thread, once it has its turn.
    pub(crate) fn here(mut self) {
        let mailbox = Arc::new(Mailbox::default());
        self.waiting = Some(mailbox.clone());
        self.here = true;
        Task::Mint(self.begin().unwrap_or_else(|| mailbox.take())).run();
    }

    /// Has it done in the background, once it has its turn.
    pub(crate) fn behind(self) {
        if let Some(turn) = self.begin() {
            Task::Mint(turn).dispatch();
        }
    }

    fn begin(self) -> Option<Turn<Self>> {
        let home = self.slot.home.clone();
        lock(&home.queue).grant.begin(self)
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
        let mut place = lock(&self.turn);
        loop {
            match place.take() {
                Some(turn) => return turn,
                None => place = wait(&self.put, place),
            }
        }
    }
}

/// What there is to do.
pub(crate) enum Task {
    /// A job whose turn it is.
    Mint(Turn<Job>),
    /// What could not be saved is to be saved.
    Save(Arc<Credential>),
}

impl Task {
    /// Does it, on this thread.
    pub(crate) fn run(self) {
        let turn = match self {
            Self::Mint(turn) => turn,
            Self::Save(home) => return home.save(),
        };
        let (mut job, turn) = turn.split();
        let slot = job.slot.clone();
        // Counted first, looked second: whoever closes the slot first and counts second misses none.
        let _delicate = Delicate::enter(&slot.home);
        let mut flight = Flight { home: &slot.home, turn: Some(turn), mint: None };
        let mut result = if slot.awaits(job.epoch) { flight.mint(&slot) } else { Err(Why::GivenUp(given_up())) };
        let again = job.rounds < ROUNDS && matches!(result, Err(Why::Failed(_))) && flight.must_wait();
        flight.end(match &mut result {
            Ok(token) => Outcome::Minted(token),
            Err(Why::GivenUp(error) | Why::Failed(error)) => Outcome::Failed(error),
            Err(Why::Panicked) => Outcome::Abandoned,
        });
        if again {
            job.rounds += 1;
            return if job.here { job.here() } else { job.behind() };
        }
        let result = match result {
            Ok(token) => Ok(token),
            Err(Why::Failed(error)) => Err(slot.home.named(error)),
            Err(Why::Panicked) => Err(panicked()),
            Err(Why::GivenUp(_)) => return,
        };
        if let Some(ticket) = job.ticket.take() {
            slot.settle(ticket, result);
        }
    }

    /// Hands it to the thread that waits for it, or to the background. Without threads there, it is given up,
    /// and so are those behind it and whatever else is left there, each at its own credential.
    pub(crate) fn dispatch(self) {
        let mut tasks = vec![self];
        while let Some(mut task) = tasks.pop() {
            if let Self::Mint(turn) = &mut task
                && let Some(mailbox) = turn.job.waiting.take()
            {
                let Self::Mint(turn) = task else { continue };
                mailbox.put(turn);
                continue;
            }
            let shared = match &task {
                Self::Mint(turn) => turn.job.slot.home.shared.clone(),
                Self::Save(home) => home.shared.clone(),
            };
            for task in shared.later(task).err().unwrap_or_default() {
                // What cannot be saved now is saved at the end of the next flight, or of all.
                let Self::Mint(turn) = task else { continue };
                let (job, turn) = turn.split();
                let next = job.slot.home.finish(turn, Change::default(), Outcome::Failed(&mut given_up()));
                drop(job);
                tasks.extend(next.map(Self::Mint));
            }
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
        let result = catch_unwind(AssertUnwindSafe(|| shared.run(mint)));
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

impl Drop for Flight<'_> {
    fn drop(&mut self) {
        self.end(Outcome::Abandoned);
    }
}

fn given_up() -> Error {
    Error::new(ErrorKind::Cancelled, "the refresh was given up before it began")
}

fn panicked() -> Error {
    Error::new(ErrorKind::Misuse, "the source of the token panicked")
}

/// A source whose panics are errors, so that none comes out of the middle of a queue.
struct Calm(Arc<dyn TokenSource>);

impl TokenSource for Calm {
    fn mint(&self, want: &Want, state: &GrantState) -> Mint {
        catch_unwind(AssertUnwindSafe(|| self.0.mint(want, state))).unwrap_or_else(|_| Box::new(Panicked))
    }

    fn first_state(&self) -> GrantState {
        self.0.first_state()
    }

    fn first_token(&self) -> Option<Token> {
        catch_unwind(AssertUnwindSafe(|| self.0.first_token())).unwrap_or_default()
    }

    fn again(&self, error: &Error) -> Again {
        catch_unwind(AssertUnwindSafe(|| self.0.again(error))).unwrap_or_default()
    }

    fn request_headers(&self) -> http::HeaderMap {
        catch_unwind(AssertUnwindSafe(|| self.0.request_headers())).unwrap_or_default()
    }

    fn may_change(&self, state: &GrantState) -> bool {
        catch_unwind(AssertUnwindSafe(|| self.0.may_change(state))).unwrap_or(true)
    }
}

struct Panicked;

impl Machine for Panicked {
    type Output = Token;
    fn resume(&mut self, _: &mut Cx, _: Reply) -> Step<Token> {
        Step::Done(Err(panicked()))
    }
}

impl Minting for Panicked {}
