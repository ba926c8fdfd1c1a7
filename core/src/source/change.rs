//! The change that a mint makes to the state of its grant: [`Change`].

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::GrantState;
use super::standing::Standing;
use crate::machine::Machine;
use crate::store::Remembered;
use crate::{Error, Exchange, Now, Rotation, Secret, Timestamp, Token};

/// A machine that mints one token, and reports the change that this makes to the grant.
///
/// The change is reported beside the token and not with it: an answer may bring another refresh token and still be an
/// error, and a run may be abandoned after the answer came.
pub trait Minting: Machine<Output = Token> {
    /// Takes the change that was made until now and not taken yet. The driver takes it at the end of the run: after a
    /// token, after an error, and when the run is abandoned.
    fn take_change(&mut self) -> Change {
        Change::default()
    }

    /// Whether the machine has ended, with an error, only because it may not go on beside others. The driver takes over
    /// its change, and begins another mint for the same want, which gets a turn of its own: at most three times. A
    /// driver may also report the error, since a later mint succeeds.
    fn must_wait(&self) -> bool {
        false
    }

    /// What the machine waits for that another process does. A driver that shows people why there is no token yet asks
    /// after each step.
    fn waiting(&self) -> Option<Waiting> {
        None
    }
}

/// What a mint waits for that another process does: see [`Minting::waiting`].
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waiting {
    /// Another process holds the lease of the stored grant: it refreshes it, or saves it.
    Lease,
    /// Another process began to use the refresh token, and may have died since. Its request may reach the server until
    /// this moment, at most 30 s after the use began.
    Use {
        /// The end of the wait, by the wall clock.
        until: Timestamp,
    },
}

/// For people, as in "waiting until ..".
impl fmt::Display for Waiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Lease => "another program has refreshed this grant",
            Self::Use { .. } => {
                "a refresh is over that another program began and has not ended, which takes 30 seconds at the most"
            }
        })
    }
}

impl<M: Minting + ?Sized> Minting for Box<M> {
    fn take_change(&mut self) -> Change {
        (**self).take_change()
    }

    fn must_wait(&self) -> bool {
        (**self).must_wait()
    }

    fn waiting(&self) -> Option<Waiting> {
        (**self).waiting()
    }
}

impl<M: Minting + ?Sized> Minting for &mut M {
    fn take_change(&mut self) -> Change {
        (**self).take_change()
    }

    fn must_wait(&self) -> bool {
        (**self).must_wait()
    }

    fn waiting(&self) -> Option<Waiting> {
        (**self).waiting()
    }
}

/// A request after which nothing is another.
impl Minting for Exchange<Token> {}

/// The change that a mint made, whether or not it brought a token: see [`Minting::take_change`].
///
/// [`Grant::finish`](super::Grant::finish) or [`GrantState::merge`] applies it to the state.
#[derive(Clone, Default)]
pub struct Change(Option<Box<Parts>>);

#[derive(Clone, Default)]
struct Parts {
    successor: Option<Successor>,
    /// Of a grant in a store.
    remembered: Option<Remembered>,
    /// Of a mint that is given up: whether its request is on its way.
    sent: Option<bool>,
    /// Of a chain: what happened to its base, in order.
    linked: Vec<LinkEvent>,
}

#[derive(Clone)]
struct Successor {
    used: Secret,
    new: Secret,
    /// When, on the monotonic clock, the request was sent that brought it.
    asked: Option<Duration>,
}

impl Change {
    /// The server answered the use of the refresh token `used` with another one, `new`. A source of another kind
    /// reports in the same way any text of its own that is replaced by use.
    ///
    /// `new` replaces `used` and no other refresh token. Of two successors of `used`, that of the later request holds.
    pub fn successor(used: &Secret, new: impl Into<Secret>) -> Self {
        let new = new.into();
        if new.matches(used.expose()) {
            return Self::default();
        }
        let successor = Some(Successor { used: used.clone(), new, asked: None });
        Self(Some(Box::new(Parts { successor, ..Parts::default() })))
    }

    /// Says when the request was sent that brought the successor.
    pub(crate) fn asked_at(mut self, mono: Duration) -> Self {
        if let Some(successor) = self.0.as_mut().and_then(|parts| parts.successor.as_mut()) {
            successor.asked = Some(mono);
        }
        self
    }

    /// The refresh token to use from now on, if the server sent another one.
    pub fn refresh_token(&self) -> Option<&Secret> {
        Some(&self.0.as_ref()?.successor.as_ref()?.new)
    }

    /// Whether the change is empty.
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// Says of a mint that is under way that the refresh token may be with the server now.
    pub(crate) fn sent(&mut self) {
        self.0.get_or_insert_default().sent = Some(true);
    }

    /// Says of a mint that is under way that nothing was sent, unless it is known to be.
    pub(crate) fn unless_sent(mut self) -> Self {
        self.0.get_or_insert_default().sent.get_or_insert(false);
        self
    }

    /// Whether the refresh token of a mint that was given up may be used. Who does not say may have used it.
    pub(super) fn may_be_sent(&self) -> bool {
        self.0.as_ref().and_then(|parts| parts.sent).unwrap_or(true)
    }

    /// What happened to the base of a chain.
    pub(super) fn linked(events: Vec<LinkEvent>) -> Self {
        if events.is_empty() {
            return Self::default();
        }
        Self(Some(Box::new(Parts { linked: events, ..Parts::default() })))
    }

    /// What changed of the base of a chain, as a change of the chain.
    pub(crate) fn of_base(self) -> Self {
        if self.is_empty() { self } else { Self::linked(vec![LinkEvent::Saved(self)]) }
    }

    /// What a process remembers of a stored grant is another.
    pub(crate) fn remembered(&mut self, remembered: Remembered) {
        self.0.get_or_insert_default().remembered = Some(remembered);
    }
}

/// What happened to the base of a chain in a mint of the chain.
#[derive(Clone)]
pub(super) enum LinkEvent {
    /// The mint cannot go on without another token of the base.
    Wanted,
    /// The base came with a token, which is used now.
    First { at: Now, token: Token },
    /// The base has minted, or was given up in the middle; it began with a token that ends at this moment.
    Minted { at: Now, ends: Option<Now>, outcome: Option<Result<Token, Error>>, change: Change },
    /// The base may not mint now.
    NotBegun { at: Now, error: Error },
    /// The base's token of this generation was refused, in these words.
    Refused { generation: u64, at: Now, error: Error },
    /// The base's token was taken that took the place of a refused one.
    Taken,
    /// What the base brought was saved, or that was tried, apart from any mint.
    Saved(Change),
}

impl fmt::Debug for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Change").field("refresh_token", &self.refresh_token()).finish_non_exhaustive()
    }
}

/// Where the refresh token of a state came from.
#[derive(Debug)]
pub(crate) struct Lineage {
    used: Secret,
    order: Order,
}

/// Which of two requests is the later one.
#[derive(Clone, Copy, Debug, Default)]
struct Order {
    turn: u64,
    asked: Option<Duration>,
}

impl Order {
    fn is_after(self, other: Self) -> bool {
        match (self.asked, other.asked) {
            (Some(this), Some(other)) => this >= other,
            _ => self.turn >= other.turn,
        }
    }
}

impl GrantState {
    /// Applies the change of a mint that began from this state. [`Grant::finish`](super::Grant::finish) does so by
    /// itself.
    pub fn merge(&mut self, change: Change) {
        let turn = self.lineage.as_ref().map_or(0, |lineage| lineage.order.turn);
        self.merge_own(change, turn);
    }

    /// Takes over what the turn of this number changed. Says whether a successor is in its place now.
    pub(super) fn merge_own(&mut self, change: Change, turn: u64) -> bool {
        let Some(parts) = change.0 else { return false };
        if let Some(remembered) = parts.remembered {
            self.remembered = remembered;
        }
        if let Some(link) = self.link.as_mut().filter(|_| !parts.linked.is_empty()) {
            let link = Arc::make_mut(link);
            for event in &parts.linked {
                let _told = link.apply(event);
            }
        }
        // Without a refresh token, the first that a source names was of its own making.
        let first = self.refresh_token.is_none();
        parts.successor.is_some_and(|successor| self.succeed(successor, turn, first))
    }

    /// Takes over what a turn of a former credential changed, as far as it is of the same grant.
    pub(super) fn merge_former(&mut self, change: Change, turn: u64) {
        let Some(parts) = change.0 else { return };
        if let Some(remembered) = parts.remembered {
            self.remembered.merge_former(&remembered);
        }
        if let Some(link) = self.link.as_mut().filter(|_| !parts.linked.is_empty()) {
            Arc::make_mut(link).merge_former(&parts.linked);
        }
        if let Some(successor) = parts.successor {
            self.succeed(successor, turn, false);
        }
    }

    fn succeed(&mut self, successor: Successor, turn: u64, first: bool) -> bool {
        let Successor { used, new, asked } = successor;
        let order = Order { turn, asked };
        let is_current = self.refresh_token.as_ref().is_some_and(|current| current.matches(used.expose()));
        let is_later = |last: &Arc<Lineage>| last.used.matches(used.expose()) && order.is_after(last.order);
        if !first && !is_current && !self.lineage.as_ref().is_some_and(is_later) {
            return false;
        }
        self.refresh_token = Some(new);
        self.rotation = Rotation::Rotates;
        self.standing = Standing::Settled;
        self.lineage = Some(Arc::new(Lineage { used, order }));
        true
    }
}
