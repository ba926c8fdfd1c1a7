//! A credential in use, with all that its wants share: [`Credential`]. Its mints have their turns, one after the other
//! where that is needed, and the one that has a turn ends it.
//!
//! ```text
//! a thread ────▶ turn ──────┐ mint ─▶ end ─┬▶ the next that waits: its thread goes on
//! the background ▶ behind ──┘              └▶ or a task of the background
//! ```

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use grantflow::source::{Again, Change, Grant, GrantState, Mint, Minting, Outcome, TokenSource, Turn, Waiting, Want};
use grantflow::{Cx, Error, ErrorKind, Machine, Reply, Step, Token};

use super::shared::Shared;
use super::sync::{Condvar, Mutex, lock, wait};
use super::task::{Task, Timer};

pub(crate) struct Credential {
    /// Its name in a pool; empty outside.
    pub(crate) name: Arc<str>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) queue: Mutex<Queue>,
    /// A flight or a save counted in [`Queue::delicate`] is over.
    pub(crate) over: Condvar,
}

pub(crate) struct Queue {
    pub(crate) grant: Grant<Waiter>,
    /// How many flights and saves are under way that must not be torn off: a new refresh token would be lost.
    pub(crate) delicate: u32,
    /// When the background is to save what could not be saved.
    pub(crate) saving: Timer,
}

/// Who waits for a turn.
pub(crate) enum Waiter {
    /// A thread, which goes on itself.
    Thread(Arc<Mailbox>),
    /// What the background goes on with.
    Background(Box<dyn InTurn>),
}

/// What is done in a turn. Dropped undone, it is given up.
pub(crate) trait InTurn: Send {
    fn go(self: Box<Self>, turn: Turn<()>);
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

    pub(crate) fn waiting(&self) -> Option<Waiting> {
        lock(&self.queue).grant.waiting()
    }

    /// Tells what a mint waits for from now on.
    pub(super) fn wait_for(&self, waiting: Option<Waiting>) {
        lock(&self.queue).grant.wait_for(waiting);
        if let Some(waiting) = waiting {
            self.shared.tell_waiting(&self.name, waiting);
        }
    }

    /// Says whose error it is, where there are many.
    pub(crate) fn named(&self, error: Error) -> Error {
        if self.name.is_empty() {
            error
        } else {
            error.within(format_args!("credential {:?}", grantflow::Shown::name(&self.name)))
        }
    }

    /// Waits for a turn of this thread's.
    pub(crate) fn turn(&self) -> Turn<()> {
        let mailbox = Arc::new(Mailbox::default());
        let turn = lock(&self.queue).grant.begin(Waiter::Thread(mailbox.clone()));
        turn.map_or_else(|| mailbox.take(), |turn| turn.split().1)
    }

    /// Has this done in the background, once it has its turn.
    pub(crate) fn behind(self: &Arc<Self>, work: Box<dyn InTurn>) {
        let turn = lock(&self.queue).grant.begin(Waiter::Background(work));
        turn.into_iter().for_each(|turn| self.hand_over(turn));
    }

    /// Ends a turn, and has all go on that waited for it.
    pub(crate) fn end(self: &Arc<Self>, turn: Turn<()>, change: Change, outcome: Outcome<'_>) {
        let mut next = self.finish(turn, change, outcome);
        while let Some(turn) = next {
            self.hand_over(turn);
            next = lock(&self.queue).grant.next_turn();
        }
        self.save_later();
    }

    /// Hands a task to the background. Without threads there it is given up, and so are those behind it and whatever
    /// else is left there, each at its own credential.
    pub(crate) fn dispatch(&self, task: Box<dyn Task>) {
        let mut tasks = vec![task];
        while let Some(task) = tasks.pop() {
            let undone = self.shared.later(task).err().unwrap_or_default();
            tasks.extend(undone.into_iter().filter_map(Task::give_up));
        }
    }

    fn finish(&self, turn: Turn<()>, change: Change, outcome: Outcome<'_>) -> Option<Turn<Waiter>> {
        lock(&self.queue).grant.finish(turn, self.shared.now(), change, outcome)
    }

    fn hand_over(self: &Arc<Self>, turn: Turn<Waiter>) {
        self.task(turn).into_iter().for_each(|task| self.dispatch(task));
    }

    /// What the background is to do; nothing if it is a thread's turn, which goes on now.
    fn task(self: &Arc<Self>, turn: Turn<Waiter>) -> Option<Box<dyn Task>> {
        match turn.split() {
            (Waiter::Thread(mailbox), turn) => {
                mailbox.put(turn);
                None
            }
            (Waiter::Background(work), turn) => Some(Box::new(Due { home: self.clone(), turn, work })),
        }
    }
}

/// What the background does in its turn.
struct Due {
    home: Arc<Credential>,
    turn: Turn<()>,
    work: Box<dyn InTurn>,
}

impl Task for Due {
    fn run(self: Box<Self>) {
        self.work.go(self.turn);
    }

    fn give_up(self: Box<Self>) -> Option<Box<dyn Task>> {
        let Self { home, turn, work } = *self;
        let next = home.finish(turn, Change::default(), Outcome::Failed(&mut given_up()));
        drop(work);
        home.task(next?)
    }
}

/// Where the turn is put for a thread that waits for it.
#[derive(Default)]
pub(crate) struct Mailbox {
    turn: Mutex<Option<Turn<()>>>,
    put: Condvar,
}

impl Mailbox {
    fn put(&self, turn: Turn<()>) {
        *lock(&self.turn) = Some(turn);
        self.put.notify_all();
    }

    fn take(&self) -> Turn<()> {
        let mut place = lock(&self.turn);
        loop {
            match place.take() {
                Some(turn) => return turn,
                None => place = wait(&self.put, place),
            }
        }
    }
}

/// Counts a flight, or a save, in [`Queue::delicate`], if it is one, to its very end.
pub(super) struct Delicate<'a>(&'a Credential, u32);

impl<'a> Delicate<'a> {
    pub(super) fn enter(credential: &'a Credential) -> Self {
        let mut queue = lock(&credential.queue);
        let one = u32::from(queue.grant.is_delicate());
        queue.delicate += one;
        Self(credential, one)
    }

    /// Counts a save, which is always one.
    pub(super) fn saving(credential: &'a Credential) -> Self {
        lock(&credential.queue).delicate += 1;
        Self(credential, 1)
    }
}

impl Drop for Delicate<'_> {
    fn drop(&mut self) {
        lock(&self.0.queue).delicate -= self.1;
        self.0.over.notify_all();
    }
}

/// The error of what was not begun.
pub(super) fn given_up() -> Error {
    Error::new(ErrorKind::Cancelled, "the refresh was given up before it began")
}

pub(super) fn panicked() -> Error {
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
