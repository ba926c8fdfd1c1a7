//! A grant that lies in a store, as a source of tokens, and what a process remembers of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::RecordKey;
use super::record::{Record, name};
use super::refresh::SharedRefresh;
use crate::source::{GrantState, Mint, Server, TokenSource, Want};
use crate::{Client, Error, Secret};

/// A source of tokens from a grant that lies in a store, which processes and machines share.
///
/// The store's record is the state: whichever process refreshes, all of them use what it got, and a refresh
/// token is used once. The driver must have a store.
#[derive(Clone, Debug)]
pub struct SharedGrant(Arc<Inner>);

#[derive(Debug)]
pub(super) struct Inner {
    pub(super) key: RecordKey,
    pub(super) server: Server,
    pub(super) client: Client,
}

impl SharedGrant {
    /// The grant that lies under this key, of this client at this server. With the key of another server or client
    /// there are no tokens, and nothing is sent. A want that names an account must name the key's label.
    pub fn new(key: RecordKey, server: impl Into<Server>, client: &Client) -> Self {
        Self(Arc::new(Inner { key, server: server.into(), client: client.clone() }))
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
        let remembered = Remembered { key: Some(self.0.key.clone()), ..Remembered::default() };
        GrantState { remembered, ..GrantState::default() }
    }

    fn may_change(&self, _: &GrantState) -> bool {
        true
    }
}

/// What a process remembers of a stored grant between two mints.
#[derive(Clone, Default)]
pub(crate) struct Remembered {
    /// Where the grant lies, if it lies in a store at all.
    key: Option<RecordKey>,
    /// The version of the token that was handed out last, by want: to be asked again means that it will not do.
    handed: BTreeMap<String, u64>,
    /// What is not saved yet.
    pub(super) unsaved: Option<Box<Unsaved>>,
}

impl Remembered {
    pub(crate) fn is_stored(&self) -> bool {
        self.key.is_some()
    }

    /// Why what was got last is not saved.
    pub(crate) fn error(&self) -> Option<&Error> {
        self.unsaved.as_deref().and_then(|unsaved| unsaved.error.as_ref())
    }

    /// Keeps what another memory of the same grant could not save: no change of the credential makes it less new.
    pub(crate) fn take_over(&mut self, other: &Self) {
        if self.key == other.key && self.unsaved.is_none() {
            self.unsaved = other.unsaved.clone();
        }
    }

    /// The token that came with this version is handed out.
    pub(super) fn hand_out(&mut self, want: &Want, version: u64) {
        self.handed.insert(name(want), version);
    }

    /// Whether the token that came with this version is another than the one that was handed out last.
    pub(super) fn is_another(&self, want: &Want, version: u64) -> bool {
        self.handed.get(&name(want)).is_none_or(|handed| version > *handed)
    }
}

/// What a refresh brought, until it is saved.
#[derive(Clone)]
pub(super) struct Unsaved {
    pub(super) record: Record,
    /// The version that it goes over.
    pub(super) version: u64,
    /// The refresh token that was used for it.
    pub(super) used: Secret,
    /// Why it could not be saved.
    pub(super) error: Option<Error>,
}

impl Unsaved {
    /// Looks at what lies in the store. False if that is newer; else this goes over it.
    ///
    /// As long as the refresh token lies there that was used, whatever was written beside it since is about
    /// further uses of it. And what is read may be older than what was written.
    pub(super) fn goes_over(&mut self, found: &Record, version: u64) -> bool {
        let replaces = !self.used.matches(self.record.refresh_token.expose());
        if version > self.version && replaces && self.used.matches(found.refresh_token.expose()) {
            self.version = version;
        }
        version <= self.version
    }
}
