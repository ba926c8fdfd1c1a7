//! A grant that lies in a store, as a source of tokens.

use std::sync::Arc;

use super::refresh::SharedRefresh;
use super::{RecordKey, Remembered};
use crate::Client;
use crate::source::{GrantState, Mint, Server, TokenSource, Want};

/// A source of tokens from a grant that lies in a store, which processes and machines share.
///
/// The store's record is the state: whichever process refreshes, all of them use what it got, and a refresh
/// token is used once. The driver must have a store.
#[derive(Clone, Debug)]
pub struct SharedGrant(Arc<Inner>);

#[derive(Clone, Debug)]
pub(super) struct Inner {
    pub(super) key: RecordKey,
    pub(super) server: Server,
    pub(super) client: Client,
    pub(super) scopes_at_refresh: bool,
}

impl SharedGrant {
    /// The grant that lies under this key, of this client at this server. With the key of another server or client
    /// there are no tokens, and nothing is sent. A want that names an account must name the key's label.
    pub fn new(key: RecordKey, server: impl Into<Server>, client: &Client) -> Self {
        Self(Arc::new(Inner { key, server: server.into(), client: client.clone(), scopes_at_refresh: false }))
    }

    /// Names at each refresh, where the want names no scopes, those that were granted: for servers that refuse a
    /// refresh without, as Microsoft Entra does where an application asks for tokens for itself.
    pub fn scopes_at_refresh(self) -> Self {
        Self(Arc::new(Inner { scopes_at_refresh: true, ..(*self.0).clone() }))
    }

    /// Where it lies.
    pub fn key(&self) -> &RecordKey {
        &self.0.key
    }
}

impl TokenSource for SharedGrant {
    fn mint(&self, want: &Want, state: &GrantState) -> Mint {
        Box::new(SharedRefresh::new(self.0.clone(), want, state))
    }

    fn first_state(&self) -> GrantState {
        GrantState { remembered: Remembered::of(self.0.key.clone()), ..GrantState::default() }
    }

    fn may_change(&self, _: &GrantState) -> bool {
        true
    }
}
