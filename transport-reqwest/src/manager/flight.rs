//! One refresh under way, and the turns of those that use one credential.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};

use grantflow::cell::Ticket;
use grantflow::source::{Change, Grant, GrantState, Mint, Outcome, TokenSource, Turn, Want};
use grantflow::{Error, ErrorKind, Token};
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::oneshot;

use super::hub::{Hub, mark_worker};
use super::lock;
use super::slot::Slot;

/// A credential in use.
pub(super) struct Origin {
    pub(super) name: Arc<str>,
    pub(super) hub: Arc<Hub>,
    grant: Mutex<Grant<oneshot::Sender<MyTurn>>>,
}

impl Origin {
    pub(super) fn new(hub: Arc<Hub>, name: Arc<str>, source: Arc<dyn TokenSource>) -> Arc<Self> {
        Arc::new(Self { name, hub, grant: Mutex::new(Grant::new(source)) })
    }

    pub(super) fn state(&self) -> GrantState {
        lock(&self.grant).state().clone()
    }

    pub(super) fn replace(&self, source: Arc<dyn TokenSource>) {
        lock(&self.grant).replace(source);
    }

    /// The token that it came with, if this want is for that and no other has it.
    pub(super) fn take_first(&self, want: &Want) -> Option<Token> {
        lock(&self.grant).take_first(want, self.hub.transport.now())
    }

    /// Says whose error it is, where there are many.
    fn named(&self, error: Error) -> Error {
        if self.name.is_empty() { error } else { error.within(format_args!("credential {:?}", self.name)) }
    }

    /// Waits for the right to mint.
    async fn turn(self: &Arc<Self>) -> Option<MyTurn> {
        let (sender, receiver) = oneshot::channel();
        let begun = lock(&self.grant).begin(sender);
        match begun {
            Some(turn) => Some(MyTurn::new(self, turn.split().1)),
            None => receiver.await.ok(),
        }
    }

    /// Ends a turn, and gives the next one to the first in the queue who still wants it.
    fn finish(self: &Arc<Self>, turn: Turn<()>, change: Change, outcome: Outcome<'_>) {
        let now = self.hub.transport.now();
        let mut next = lock(&self.grant).finish(turn, now, change, outcome);
        while let Some(turn) = next.take() {
            let (job, turn) = turn.split();
            if let Err(mut unwanted) = job.send(MyTurn::new(self, turn))
                && let Some(turn) = unwanted.turn.take()
            {
                next = lock(&self.grant).finish(turn, now, Change::default(), Outcome::Failed(&mut unused()));
            }
        }
    }
}

/// Why a turn ended that nobody used: nothing was sent.
fn unused() -> Error {
    Error::new(ErrorKind::Cancelled, "the refresh did not begin")
}

/// The right to mint with a credential, which goes back whatever happens, and with it what the machine changed.
struct MyTurn {
    origin: Arc<Origin>,
    turn: Option<Turn<()>>,
    /// The machine, once it runs.
    mint: Option<Mint>,
}

impl MyTurn {
    fn new(origin: &Arc<Origin>, turn: Turn<()>) -> Self {
        Self { origin: origin.clone(), turn: Some(turn), mint: None }
    }

    /// Mints for a slot. `None` if that did not begin, since all is different by now.
    async fn mint(mut self, slot: &Slot, rotating: &mut Option<Rotating>) -> Option<Result<Token, Error>> {
        let hub = self.origin.hub.clone();
        if slot.ended().is_some() {
            return None;
        }
        let now = hub.transport.now();
        let ends = slot.lock().cell.ends();
        let machine = {
            let grant = lock(&self.origin.grant);
            if grant.is_delicate() {
                *rotating = Some(Rotating::new(&hub));
            }
            grant.mint(self.turn.as_mut()?, &slot.want, now, ends)
        };
        let machine = match machine {
            Ok(machine) => machine,
            Err(error) if error.kind() == ErrorKind::Cancelled => return None,
            Err(error) => return Some(Err(error)),
        };
        let mut result = hub.transport.run(self.mint.insert(machine)).await;
        self.end(Outcome::from(&mut result));
        Some(result)
    }

    fn end(&mut self, outcome: Outcome<'_>) {
        let Some(turn) = self.turn.take() else { return };
        // A source that panics here has lost what it kept; this may be in the middle of another panic.
        let change = self.mint.as_mut().map(|mint| catch_unwind(AssertUnwindSafe(|| mint.take_change())));
        self.origin.finish(turn, change.and_then(Result::ok).unwrap_or_default(), outcome);
    }
}

impl Drop for MyTurn {
    fn drop(&mut self) {
        if self.mint.is_some() {
            self.end(Outcome::Abandoned);
        } else {
            self.end(Outcome::Failed(&mut unused()));
        }
    }
}

/// How many uses of refresh tokens that change are under way.
#[derive(Default)]
pub(super) struct Uses {
    pub(super) all: usize,
    /// Those that go on while a thread is blocked.
    pub(super) threaded: usize,
}

/// A use of a refresh token that changes, from its beginning until its outcome is known to all.
struct Rotating {
    hub: Arc<Hub>,
    threaded: usize,
}

impl Rotating {
    fn new(hub: &Arc<Hub>) -> Self {
        let single =
            Handle::try_current().is_ok_and(|runtime| runtime.runtime_flavor() == RuntimeFlavor::CurrentThread);
        let threaded = usize::from(!single);
        hub.rotating.send_modify(|uses| {
            uses.all += 1;
            uses.threaded += threaded;
        });
        Self { hub: hub.clone(), threaded }
    }
}

impl Drop for Rotating {
    fn drop(&mut self) {
        self.hub.rotating.send_modify(|uses| {
            uses.all -= 1;
            uses.threaded -= self.threaded;
        });
    }
}

/// A refresh: it holds the slot's ticket, which goes back whatever happens.
pub(super) struct Flight {
    slot: Arc<Slot>,
    ticket: Option<Ticket>,
    rotating: Option<Rotating>,
}

impl Flight {
    pub(super) fn new(slot: Arc<Slot>, ticket: Ticket) -> Self {
        Self { slot, ticket: Some(ticket), rotating: None }
    }

    pub(super) async fn run(mut self) {
        mark_worker();
        let Some(turn) = self.slot.origin.turn().await else { return };
        // What the grant learned is in place before the token is handed out.
        if let Some(result) = turn.mint(&self.slot, &mut self.rotating).await
            && let Some(ticket) = self.ticket.take()
        {
            self.slot.settle(ticket, result.map_err(|error| self.slot.origin.named(error)));
        }
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        let Some(ticket) = self.ticket.take() else { return };
        if std::thread::panicking() {
            // Trying again at once would only panic again.
            self.slot.settle(ticket, Err(Error::new(ErrorKind::Misuse, "the credential's source panicked")));
        } else {
            self.slot.abandon(ticket);
        }
    }
}
