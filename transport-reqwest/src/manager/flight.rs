//! One refresh under way: a task of its own, which holds its slot's ticket.

use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use grantflow::cell::Issued;
use grantflow::{Error, ErrorKind};
use tokio::runtime::{Handle, RuntimeFlavor};

use super::hub::{Hub, mark_worker};
use super::origin::{Flying, MyTurn};
use super::slot::Slot;
use crate::runtime;

/// How often a flight shows that it is alive.
const BEAT: Duration = Duration::from_secs(1);

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

/// How often a mint may begin anew, since it may go on only in a turn of its own.
const ROUNDS: u8 = 3;

/// A refresh. Its slot's ticket goes back whatever happens.
pub(super) struct Flight {
    slot: Arc<Slot>,
    flying: Arc<Flying>,
}

impl Flight {
    pub(super) fn new(slot: Arc<Slot>, flying: Arc<Flying>) -> Self {
        Self { slot, flying }
    }

    pub(super) async fn run(self) {
        mark_worker();
        let hub = &self.slot.origin.hub;
        if !self.flying.begin(hub.transport.now()) {
            return;
        }
        let mut work = pin!(self.fly());
        // What is ready at once needs no timers.
        if std::future::poll_fn(|cx| Poll::Ready(work.as_mut().poll(cx).is_ready())).await {
            return;
        }
        loop {
            match runtime::within(async { Ok(tokio::time::timeout(BEAT, work.as_mut()).await.is_ok()) }).await {
                Ok(true) => return,
                Ok(false) => self.flying.beat(hub.transport.now()),
                Err(_) => return work.await,
            }
        }
    }

    async fn fly(&self) {
        let origin = &self.slot.origin;
        let mut rotating = None;
        let mut rounds = 0;
        let result = loop {
            origin.begin(&self.flying);
            let Some(turn) = self.turn().await else { return };
            if self.slot.ended().is_some() {
                return;
            }
            let held = self.slot.lock().cell.holds();
            let delicate = || rotating = Some(Rotating::new(&origin.hub));
            // What the grant learned is in place before the token is handed out.
            match turn.mint(&self.flying, &self.slot.want, held, delicate).await {
                Some((Err(_), true)) if rounds < ROUNDS && self.flying.wait_again() => rounds += 1,
                minted => break minted.map(|(result, _)| result),
            }
        };
        match (self.flying.take_ticket(), result) {
            (Some(ticket), Some(result)) => self.slot.settle(ticket, result.map_err(|error| origin.named(error))),
            (Some(ticket), None) => self.slot.abandon(ticket),
            // It was left behind. Nobody gets the token, but observers that keep refresh tokens must hear of it.
            (None, Some(Ok(token))) => self.slot.tell(Ok(Arc::new(Issued { token, generation: 0 }))),
            (None, _) => {}
        }
    }

    /// Waits for the right to mint, and relieves a holder that is not driven. `None` if this one was left behind.
    async fn turn(&self) -> Option<MyTurn> {
        loop {
            if let Some(turn) = self.flying.take_turn(&self.slot.origin).ok()? {
                return Some(turn);
            }
            let given = async { Ok(tokio::time::timeout(BEAT, self.flying.given()).await.is_ok()) };
            match runtime::within(given).await {
                Ok(true) => {}
                Ok(false) => self.slot.origin.relieve(),
                Err(_) => self.flying.given().await,
            }
        }
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        let Some(ticket) = self.flying.take_ticket() else { return };
        // Its place in line, and a turn that it was given. If it was minting, that turn has gone back.
        self.slot.origin.leave_behind(&self.flying);
        if std::thread::panicking() {
            // Trying again at once would only panic again.
            self.slot.settle(ticket, Err(Error::new(ErrorKind::Misuse, "the credential's source panicked")));
        } else {
            self.slot.abandon(ticket);
        }
    }
}
