//! Requests of callers for a slot's token, and the beginning of refreshes.
//!
//! A waiter looks once a second whether a thread still drives the refresh that it waits for. If not, it is left
//! behind as soon as that may be ([`origin`](super::origin)), and done here instead.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Duration;

use grantflow::cell::{Acquired, Ticket};
use grantflow::source::Want;
use grantflow::{Error, ErrorKind};
use tokio::runtime::Handle;
use tokio::sync::watch;

use super::background::{At, Tend};
use super::book::Book;
use super::flight::Flight;
use super::origin::Flying;
use super::slot::{IN_USE, Slot};
use super::token_ref::TokenRef;
use crate::runtime;

/// How often a caller begins again after a refresh that was given up.
const ROUNDS: usize = 16;
/// How often a waiter looks after what it waits for.
const LOOK: Duration = Duration::from_secs(1);

impl Slot {
    /// The slow path.
    pub(super) async fn get(self: &Arc<Self>) -> Result<TokenRef, Error> {
        let mut failed = None;
        for _ in 0..ROUNDS {
            let (ticket, refresh) = {
                let mut state = self.open()?;
                self.mark();
                let now = self.now();
                let acquired = state.cell.acquire(now);
                self.show(&state.cell, now);
                match (acquired, failed) {
                    (Acquired::Fresh(issued) | Acquired::Due(issued, None), _) => return Ok(issued.into()),
                    (Acquired::Due(issued, Some(ticket)), _) => {
                        drop(state);
                        // Without a runtime there is still the token.
                        let _ = self.launch(ticket);
                        return Ok(issued.into());
                    }
                    (Acquired::Failed(error), _) => return Err(error),
                    // A caller that has waited for a failure is told it, and does not wait for another.
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
            failed = self.outcome(refresh).await;
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
            if let Some(error) = self.outcome(refresh).await {
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

    /// Waits for the refresh under way; a failure, if it came to one.
    async fn outcome(self: &Arc<Self>, mut refresh: watch::Receiver<Option<Error>>) -> Option<Error> {
        loop {
            let Ok(runtime) = self.origin.hub.runtime() else { break };
            let changed = async { Ok(tokio::time::timeout(LOOK, refresh.changed()).await.is_ok()) };
            match runtime::inside(&runtime, changed).await {
                Ok(true) => return refresh.borrow().clone(),
                Ok(false) => self.rescue(&runtime),
                // Without timers.
                Err(_) => break,
            }
        }
        // An error here is the end without a message.
        let _ = refresh.changed().await;
        refresh.borrow().clone()
    }

    /// Does the refresh under way here, if nobody drives it any more and it may be left behind.
    fn rescue(self: &Arc<Self>, runtime: &Handle) {
        let Some(flying) = self.lock().flying() else { return };
        if flying.is_left(self.now())
            && self.origin.leave_behind(&flying)
            && let Some(ticket) = flying.take_ticket()
        {
            // The runtime of the caller that waits is one that is driven.
            self.launch_on(&runtime::current().unwrap_or_else(|_| runtime.clone()), ticket);
        }
    }

    /// Begins a refresh as a task. Nothing may be locked: in a runtime that ends, the task ends here.
    fn launch(self: &Arc<Self>, ticket: Ticket) -> Result<(), Error> {
        match self.origin.hub.runtime() {
            Ok(runtime) => {
                self.launch_on(&runtime, ticket);
                Ok(())
            }
            Err(error) => {
                self.abandon(ticket);
                Err(error)
            }
        }
    }

    fn launch_on(self: &Arc<Self>, runtime: &Handle, ticket: Ticket) {
        let flying = Flying::new(ticket, self.now());
        self.lock().set_flying(&flying);
        runtime.spawn(Flight::new(self.clone(), flying).run());
    }
}

impl Tend for Slot {
    fn tend(self: Arc<Self>, at: At) {
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
                self.show(&state.cell, now);
                drop(state);
                // Without a runtime, the next caller does it.
                let _ = self.launch(ticket);
            }
            // Nobody uses it, or it ended in a suspend and the next caller comes.
            Acquired::Due(_, Some(ticket)) | Acquired::Refresh(ticket) => state.cell.abandon(ticket),
            Acquired::Fresh(_) | Acquired::Due(_, None) => self.schedule(&mut state, now),
            Acquired::Wait | Acquired::Failed(_) => {}
        }
    }

    fn look_again(self: Arc<Self>) {
        let mut state = self.lock();
        if self.ended().is_none() {
            let now = self.now();
            self.hide();
            self.show(&state.cell, now);
            self.schedule(&mut state, now);
        }
    }
}

fn given_up() -> Error {
    Error::new(ErrorKind::Cancelled, "the refresh was given up again and again: is the runtime shutting down?")
}

/// Asks a slot for its token: the fast path without the weight of the slow one.
pub(super) struct Fetch<'a> {
    slot: &'a Arc<Slot>,
    slow: Option<Slow<'a>>,
}

type Slow<'a> = Pin<Box<dyn Future<Output = Result<TokenRef, Error>> + Send + 'a>>;

impl<'a> Fetch<'a> {
    #[inline]
    pub(super) fn new(slot: &'a Arc<Slot>) -> Self {
        Self { slot, slow: None }
    }
}

impl Future for Fetch<'_> {
    type Output = Result<TokenRef, Error>;

    #[inline]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if self.slow.is_none()
            && let Some(token) = self.slot.fresh()
        {
            return Poll::Ready(Ok(token));
        }
        let slot = self.slot;
        self.slow.get_or_insert_with(|| Box::pin(slot.get())).as_mut().poll(cx)
    }
}

/// Asks a pool for a token, likewise.
pub(super) struct Look<'a> {
    book: &'a Book,
    name: &'a str,
    want: &'a Want,
    slow: Option<Slow<'a>>,
}

impl<'a> Look<'a> {
    #[inline]
    pub(super) fn new(book: &'a Book, name: &'a str, want: &'a Want) -> Self {
        Self { book, name, want, slow: None }
    }
}

impl Future for Look<'_> {
    type Output = Result<TokenRef, Error>;

    #[inline]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if let Some(slow) = &mut self.slow {
            return slow.as_mut().poll(cx);
        }
        match self.book.find(self.name, self.want)? {
            Ok(token) => Poll::Ready(Ok(token)),
            Err(slot) => self.slow.insert(Box::pin(async move { slot.get().await })).as_mut().poll(cx),
        }
    }
}
