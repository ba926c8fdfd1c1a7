//! The base of a chain as its grant holds it: [`Link`].
//!
//! A link is the base's own [`Grant`] and the one [`TokenCell`] of what the chain wants of it. A mint of the chain works on
//! a copy, and notes what happens as [`LinkEvent`]s; the grant of the chain applies the same events to the link itself
//! as the mint's turn ends. So whatever holds for a credential by itself holds for the base of a chain.

use std::sync::Arc;

use super::change::LinkEvent;
use super::{Grant, GrantState, Mint, Outcome, TokenSource, Want};
use crate::cell::{Acquired, Issued, TokenCell};
use crate::{Error, Now, Token};

/// The base of a chain, in use.
pub(crate) struct Link {
    grant: Grant<()>,
    cell: TokenCell,
    /// What is wanted of it.
    want: Want,
    /// A mint has found that it cannot go on without another token of the base.
    wanted: bool,
    /// The token that is held was refused: which one, and how.
    dropped: Option<(Arc<Issued>, Error)>,
    /// The token that is held took the place of a refused one, and was not taken since.
    doubted: bool,
}

/// What there is of a base.
pub(super) enum Has {
    /// A token to use.
    Token(Arc<Issued>),
    /// None that will do: one is to be minted.
    Nothing,
    /// None, and it is no time to mint.
    Failed(Error),
}

impl Link {
    pub(super) fn new(base: Arc<dyn TokenSource>, want: Want) -> Self {
        // Nothing is spread: of a chain's tokens each has a cell of its own.
        let cell = TokenCell::new(0);
        Self { grant: Grant::new(base), cell, want, wanted: false, dropped: None, doubted: false }
    }

    pub(crate) fn state(&self) -> &GrantState {
        self.grant.state()
    }

    /// Whether a mint of the chain has to begin with one of the base, as far as is known without a clock.
    pub(super) fn must_mint(&self) -> bool {
        self.wanted || self.is_dropped() || self.cell.held().is_none()
    }

    /// Whether the token that is held was refused, and is not to be used.
    pub(super) fn is_dropped(&self) -> bool {
        self.dropped.is_some()
    }

    /// How this token was refused, if it is the one that is held and was.
    pub(super) fn refusal_of(&self, token: &Token) -> Option<&Error> {
        let (dropped, error) = self.dropped.as_ref()?;
        (dropped.token.access_token() == token.access_token()).then_some(error)
    }

    /// Whether the token took the place of one that was refused, so that to replace it once more would not help.
    pub(super) fn is_doubted(&self) -> bool {
        self.doubted
    }

    pub(super) fn look(&self, now: Now) -> Has {
        match self.cell.valid(now) {
            Some(token) if self.cell.is_fresh(now) => return Has::Token(token),
            _ => {}
        }
        match self.cell.copy().acquire(now) {
            Acquired::Fresh(token) | Acquired::Due(token, None) => Has::Token(token),
            Acquired::Due(..) | Acquired::Refresh(_) | Acquired::Wait => Has::Nothing,
            Acquired::Failed(error) => Has::Failed(error),
        }
    }

    /// The token that the base came with, for this copy: see [`LinkEvent::First`].
    pub(super) fn first(&mut self, now: Now) -> Option<Token> {
        self.grant.take_first(&self.want, now)
    }

    /// The machine for the base, and what its turn began with.
    pub(super) fn mint(&self, now: Now) -> Result<(Mint, Option<Now>), Error> {
        let held = self.cell.holds();
        Ok((self.grant.mint_alone(&self.want, now, held)?, held.ends()))
    }

    /// Takes over what happened, and says the outcome of a mint.
    pub(super) fn apply(&mut self, event: &LinkEvent) -> Option<Result<Token, Error>> {
        match event {
            LinkEvent::Wanted => self.wanted = true,
            LinkEvent::Taken => self.doubted = false,
            LinkEvent::First { at, token } => {
                // The copy has taken it already.
                drop(self.grant.take_first(&self.want, *at));
                self.settle(*at, Some(Ok(token.clone())));
            }
            LinkEvent::Refused { generation, at, error } => {
                let held = self.cell.held().filter(|held| held.generation == *generation).cloned();
                if let Some(held) = held
                    && !self.is_dropped()
                    && self.cell.reject(*generation, *at)
                {
                    self.dropped = Some((held, error.clone()));
                }
            }
            LinkEvent::Saved(change) => self.grant.merge_saved(change.clone()),
            LinkEvent::NotBegun { at, error } => self.settle(*at, Some(Err(error.clone()))),
            LinkEvent::Minted { at, ends, outcome, change } => {
                let mut outcome = outcome.clone();
                let told = match &mut outcome {
                    Some(result) => Outcome::from(result),
                    None => Outcome::Abandoned,
                };
                self.grant.replay(*at, *ends, change.clone(), told);
                self.settle(*at, outcome.clone());
                return outcome;
            }
        }
        None
    }

    fn settle(&mut self, at: Now, outcome: Option<Result<Token, Error>>) {
        self.wanted = false;
        let Some(ticket) = self.cell.force() else { return };
        match outcome {
            Some(result) => {
                if result.is_ok() {
                    self.doubted = self.dropped.take().is_some();
                }
                self.cell.settle(ticket, at, result);
            }
            None => self.cell.abandon(ticket),
        }
    }

    /// The token that is there, if it is still good, due or not.
    pub(super) fn valid(&self, now: Now) -> Option<Arc<Issued>> {
        self.cell.valid(now)
    }

    /// Takes over what a mint of a former chain changed, as far as it is of the same grant.
    pub(super) fn merge_former(&mut self, events: &[LinkEvent]) {
        for event in events {
            if let LinkEvent::Minted { change, .. } | LinkEvent::Saved(change) = event {
                self.grant.merge_former(change.clone());
            }
        }
    }

    /// Keeps what a former chain could not save of the same grant.
    pub(super) fn take_over(&mut self, former: &Self) {
        self.grant.take_over(former.grant.state());
    }
}

impl Clone for Link {
    fn clone(&self) -> Self {
        let Self { grant, cell, want, wanted, dropped, doubted } = self;
        let (wanted, dropped, doubted) = (*wanted, dropped.clone(), *doubted);
        Self { grant: grant.copy(), cell: cell.copy(), want: want.clone(), wanted, dropped, doubted }
    }
}
