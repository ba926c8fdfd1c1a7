//! The state of a grant: [`GrantState`].

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::change::Lineage;
use super::link::Link;
use super::standing::{Begun, GrantStatus, Held, Open, Standing, is_hopeless, learned, may_be_valid};
use crate::store::Remembered;
use crate::{Advice, Error, Now, Rotation, Scopes, Secret};

/// The state of a grant: what changes as its credential is used. It is one for all wants of the credential.
#[derive(Clone, Default)]
pub struct GrantState {
    /// The refresh token to use next.
    pub(crate) refresh_token: Option<Secret>,
    /// What was granted with it.
    pub(crate) scopes: Scopes,
    pub(crate) rotation: Rotation,
    pub(crate) standing: Standing,
    /// How many refreshes followed one another that brought no successor.
    pub(crate) staying: u8,
    /// Of a grant in a store.
    pub(crate) remembered: Remembered,
    /// Where the refresh token came from, if it took the place of another.
    pub(crate) lineage: Option<Arc<Lineage>>,
    /// Of a chain: its base.
    pub(crate) link: Option<Arc<Link>>,
}

impl GrantState {
    /// The first state of a source whose `refresh_token`, or another text of its own, is replaced when it is used: see
    /// [`Change::successor`](super::Change::successor).
    pub fn new(refresh_token: impl Into<Secret>) -> Self {
        Self { refresh_token: Some(refresh_token.into()), ..Self::default() }
    }

    /// The refresh token to use next, if there is one. A program that keeps it must keep the newest.
    pub fn refresh_token(&self) -> Option<&Secret> {
        self.refresh_token.as_ref()
    }

    /// The granted scopes.
    pub fn scopes(&self) -> &Scopes {
        &self.scopes
    }

    /// Whether the server replaces refresh tokens, as far as that is known.
    pub fn rotation(&self) -> Rotation {
        learned(self.rotation, self.staying)
    }

    /// Whether uses of the refresh token must follow one another.
    pub(super) fn may_be_replaced(&self) -> bool {
        self.rotation() != Rotation::Never || !matches!(self.standing, Standing::Settled)
    }

    /// The status of the grant.
    pub fn status(&self) -> GrantStatus {
        match &self.standing {
            Standing::Settled => self.base().map_or_else(|| self.remembered.status(), Self::status),
            Standing::Open(Open { since, tries, used, .. }) => {
                GrantStatus::Unclear { since: since.wall, tries: *tries, used: used.is_some() }
            }
            Standing::Refused { early, .. } => GrantStatus::Refused { early: *early },
        }
    }

    /// Why the store did not take the newest state, if so. The state is in use, and saving is tried again.
    pub fn save_error(&self) -> Option<&Error> {
        self.remembered.error().or_else(|| self.base()?.save_error())
    }

    /// How long until it is time to save what is not saved, of this grant or of the base of this chain.
    pub(super) fn save_due(&self, now: Now) -> Option<Duration> {
        self.remembered.save_due(now).or_else(|| self.base()?.save_due(now))
    }

    /// The state of the base, for a chain: its refresh token is the one to keep.
    pub fn base(&self) -> Option<&Self> {
        self.link.as_deref().map(Link::state)
    }

    /// Of a chain: whether the next mint begins with one of its base.
    pub(crate) fn must_mint_base(&self) -> bool {
        self.link.as_deref().is_none_or(Link::must_mint)
    }

    /// Whether a refresh token could be replaced by one that only this state would keep.
    pub(crate) fn keeps_successor(&self) -> bool {
        // That of a stored grant is in its record, and not here.
        let own = self.refresh_token.is_some() && self.rotation() != Rotation::Never;
        own || self.base().is_some_and(Self::keeps_successor)
    }

    /// Whether a mint that is torn off could lose something.
    pub(super) fn could_be_lost(&self) -> bool {
        self.refresh_token.is_some() || self.remembered.is_stored() || self.base().is_some_and(Self::could_be_lost)
    }

    /// The state of a stored grant for a mint whose want holds this.
    pub(super) fn holding(&self, held: Held) -> Self {
        let mut state = self.clone();
        state.remembered.holds(held);
        state
    }

    /// Keeps what a former credential could not save of the same grant.
    pub(super) fn take_over(&mut self, former: &Self) {
        self.remembered.take_over(&former.remembered);
        if let (Some(link), Some(former)) = (&mut self.link, &former.link) {
            Arc::make_mut(link).take_over(former);
        }
    }
}

impl fmt::Debug for GrantState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GrantState")
            .field("refresh_token", &self.refresh_token)
            .field("scopes", &self.scopes)
            .field("rotation", &self.rotation)
            .field("status", &self.status())
            .finish_non_exhaustive()
    }
}

/// What the standing of the refresh token permits, and what becomes of it.
impl GrantState {
    /// Whether the refresh token may be used now by a want whose token ends at this moment, and before which moment
    /// that must begin.
    pub(super) fn check(&self, now: Now, ends: Option<Now>) -> Result<Option<Now>, Error> {
        match &self.standing {
            Standing::Settled => Ok(None),
            Standing::Open(open) => open.check(now, ends.is_some_and(|end| !now.has_reached(end))),
            Standing::Refused { error, early: false } => Err(error.clone()),
            Standing::Refused { error, early: true } => match may_be_valid(ends, now) {
                Some(wait) => Err(error.clone().refused_early(wait)),
                None => Ok(None),
            },
        }
    }

    /// Whether the server's refusal is its last word. What ends beside the mint that was told so does not change that.
    fn is_refused(&self) -> bool {
        matches!(self.standing, Standing::Refused { early: false, .. })
    }

    /// A mint has come to a token, with or without another refresh token.
    pub(super) fn minted(&mut self) {
        self.standing = Standing::Settled;
        // After a successor the habit is known, and nothing is counted any more.
        if self.refresh_token.is_some() {
            self.staying = self.staying.saturating_add(1);
        }
    }

    /// A mint has failed that may have used the refresh token; says what there is to tell of it.
    pub(super) fn failed(&mut self, error: &mut Error, now: Now, begun: Begun) {
        // Of a chain, the base knows.
        if self.link.is_some() {
            return;
        }
        if error.ends_grant() {
            // That the answer came late does not matter.
            let early = may_be_valid(begun.ends, begun.at).is_some() && error.is_refusal() && self.remembered.is_news();
            if self.refresh_token.is_some() && !self.is_refused() {
                self.standing = Standing::Refused { error: error.clone(), early };
            }
            if early {
                let wait = may_be_valid(begun.ends, now).unwrap_or_default();
                self.remembered.refused_early();
                *error = error.clone().refused_early(wait);
            }
            return;
        }
        let kept = self.refresh_token.is_some() && self.rotation != Rotation::Never;
        if !error.is_uncertain() || !kept || self.is_refused() {
            return;
        }
        let rotates = self.rotation == Rotation::Rotates;
        let open = Open::after(&self.standing, error, now, rotates);
        let lasts = now.wall.since(open.since.wall).min(now.mono.saturating_sub(open.since.mono));
        if is_hopeless(open.tries, lasts) {
            *error = error.clone().with_advice(Advice::SignInAgain);
        }
        self.standing = Standing::Open(Open { error: error.clone(), ..open });
    }
}
