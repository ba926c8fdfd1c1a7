//! A grant that lies in a store, as a source of tokens.

use std::sync::Arc;

use super::record::Record;
use super::refresh::SharedRefresh;
use super::remembered::Unsaved;
use super::{RecordKey, Remembered};
use crate::source::{GrantState, Mint, Server, TokenSource, Want};
use crate::{Client, Error, Scopes, Token};

/// A source of tokens from a grant in a store, which processes and machines share.
///
/// The store's record is the state: whichever process refreshes, all of them use the new token, and a refresh token is
/// used once. The driver must have a store.
#[derive(Clone, Debug)]
pub struct SharedGrant(Arc<Inner>);

#[derive(Clone)]
pub(super) struct Inner {
    pub(super) key: RecordKey,
    pub(super) server: Server,
    pub(super) client: Client,
    pub(super) at_refresh: ScopesAtRefresh,
    /// What a person has just granted and could not be saved, and its token.
    first: Option<(Unsaved, Token)>,
}

/// Which scopes a refresh names (RFC 6749, section 6).
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum ScopesAtRefresh {
    /// Those of the want.
    Wanted,
    /// Those that were granted, where the want has none.
    Granted,
    Never,
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inner").field("key", &self.key).field("server", &self.server).finish_non_exhaustive()
    }
}

impl SharedGrant {
    /// The grant under this key, of this client at this server. With the key of another server or client there are no
    /// tokens, and nothing is sent. A want that names an account must name the key's label.
    pub fn new(key: RecordKey, server: impl Into<Server>, client: &Client) -> Self {
        Self(Arc::new(Inner {
            key,
            server: server.into(),
            client: client.clone(),
            at_refresh: ScopesAtRefresh::Wanted,
            first: None,
        }))
    }

    /// As [`new`](Self::new), for a grant that a person has just given and [`SaveGrant`](super::SaveGrant) could not
    /// save, as `error` says. It is used from memory, and saved [later](crate::source::Grant::save), over the record
    /// that is there by then.
    ///
    /// # Errors
    ///
    /// If the token is of another server than the key's, or has nothing to keep.
    pub fn signed_in(
        key: RecordKey,
        server: impl Into<Server>,
        client: &Client,
        want: &Want,
        token: &Token,
        error: Error,
    ) -> Result<Self, Error> {
        token.check_issuer(key.issuer())?;
        let record = Record::of(key.clone(), want, token, 0)?;
        let first = Some((Unsaved::signed_in(record, error), token.clone()));
        let (server, client) = (server.into(), client.clone());
        Ok(Self(Arc::new(Inner { key, server, client, at_refresh: ScopesAtRefresh::Wanted, first })))
    }

    /// For a grant that was [just given](Self::signed_in): keeps the scopes that were asked for beside it, as
    /// [`SaveGrant::asked`](super::SaveGrant::asked) does.
    pub fn asked(self, scopes: impl Into<Scopes>) -> Self {
        let mut inner = (*self.0).clone();
        if let Some((unsaved, _)) = &mut inner.first {
            unsaved.record.asked = scopes.into();
        }
        Self(Arc::new(inner))
    }

    /// Names the granted scopes at each refresh, if the want names none: for servers that refuse a refresh without
    /// scopes, as Microsoft Entra does where an application asks for tokens for itself.
    pub fn scopes_at_refresh(self) -> Self {
        self.at_refresh(ScopesAtRefresh::Granted)
    }

    /// Names no scopes at a refresh, whatever is wanted: for servers that take none there.
    pub(crate) fn no_scopes_at_refresh(self) -> Self {
        self.at_refresh(ScopesAtRefresh::Never)
    }

    fn at_refresh(self, at_refresh: ScopesAtRefresh) -> Self {
        Self(Arc::new(Inner { at_refresh, ..(*self.0).clone() }))
    }

    /// The key of the grant.
    pub fn key(&self) -> &RecordKey {
        &self.0.key
    }
}

impl TokenSource for SharedGrant {
    fn mint(&self, want: &Want, state: &GrantState) -> Mint {
        Box::new(SharedRefresh::new(self.0.clone(), want, state))
    }

    fn first_state(&self) -> GrantState {
        let mut remembered = Remembered::of(self.0.key.clone());
        remembered.unsaved = self.0.first.as_ref().map(|(unsaved, _)| Box::new(unsaved.clone()));
        GrantState { remembered, ..GrantState::default() }
    }

    fn first_token(&self) -> Option<Token> {
        self.0.first.as_ref().map(|(_, token)| token.clone())
    }

    fn may_change(&self, _: &GrantState) -> bool {
        true
    }
}
