//! What changes as a credential is used: [`GrantState`].

use std::fmt;
use std::sync::Arc;

use super::change::Lineage;
use crate::store::Remembered;
use crate::{Error, Rotation, Scopes, Secret, Timestamp};

/// What changes as a credential is used, and belongs to it as a whole and not to one want.
#[derive(Clone, Default)]
pub struct GrantState {
    /// The refresh token to use next.
    pub(crate) refresh_token: Option<Secret>,
    /// What was granted with it.
    pub(crate) scopes: Scopes,
    pub(crate) rotation: Rotation,
    /// A refresh that nobody knows the outcome of.
    pub(crate) uncertain: Option<Uncertain>,
    /// Of a grant in a store.
    pub(crate) remembered: Remembered,
    /// Where the refresh token came from, if it took the place of another.
    pub(crate) lineage: Option<Arc<Lineage>>,
}

/// A use of a refresh token after which nobody knows whether it is still good.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Uncertain {
    pub(crate) since: Timestamp,
    pub(crate) attempts: u32,
}

impl GrantState {
    /// The state that a source begins with whose `refresh_token`, or other text of its own, is replaced when it is
    /// used: see [`Change::successor`](super::Change::successor).
    pub fn new(refresh_token: impl Into<Secret>) -> Self {
        Self { refresh_token: Some(refresh_token.into()), ..Self::default() }
    }

    /// The refresh token to use next, if there is one. Whoever keeps it must keep the newest.
    pub fn refresh_token(&self) -> Option<&Secret> {
        self.refresh_token.as_ref()
    }

    /// What was granted.
    pub fn scopes(&self) -> &Scopes {
        &self.scopes
    }

    /// What is known of the server's habit with refresh tokens.
    pub fn rotation(&self) -> Rotation {
        self.rotation
    }

    /// Why what was got last could not be saved in the store, if so. It is in use, and it is tried again to
    /// save it.
    pub fn save_error(&self) -> Option<&Error> {
        self.remembered.error()
    }
}

impl fmt::Debug for GrantState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GrantState")
            .field("refresh_token", &self.refresh_token)
            .field("scopes", &self.scopes)
            .field("rotation", &self.rotation)
            .field("uncertain", &self.uncertain)
            .finish_non_exhaustive()
    }
}
