//! What a process remembers of a stored grant.

use std::collections::BTreeMap;
use std::time::Duration;

use super::RecordKey;
use super::record::{Record, name};
use crate::source::{GrantStatus, Want};
use crate::{Error, Now, Secret};

/// The first pause before what could not be saved is tried again; it doubles.
const SAVE_AGAIN: Duration = Duration::from_secs(5);
const LONGEST_PAUSE: Duration = Duration::from_secs(300);

/// What a process remembers of a stored grant between two mints.
#[derive(Clone, Default)]
pub(crate) struct Remembered {
    /// Where the grant lies, if it lies in a store at all.
    key: Option<RecordKey>,
    /// The version of the token that was handed out last, by want: to be asked again means that it will not do.
    handed: BTreeMap<String, u64>,
    /// What is not saved yet.
    pub(super) unsaved: Option<Box<Unsaved>>,
    /// What the server refused.
    pub(super) refused: Option<Box<Refused>>,
    /// How it stands with the refresh token by the record.
    pub(super) open: GrantStatus,
}

/// A refresh token that the server refused.
#[derive(Clone)]
pub(super) struct Refused {
    pub(super) refresh_token: Secret,
    pub(super) error: Error,
    /// Whether there was a valid access token.
    pub(super) early: bool,
}

impl Remembered {
    /// Of the grant that lies under this key, which was not used yet.
    pub(super) fn of(key: RecordKey) -> Self {
        Self { key: Some(key), ..Self::default() }
    }

    pub(crate) fn status(&self) -> GrantStatus {
        match &self.refused {
            Some(refused) => GrantStatus::Refused { early: refused.early },
            None => self.open,
        }
    }

    /// Takes note that the server refused the refresh token because an access token is good.
    pub(crate) fn refused_early(&mut self) {
        self.refused.iter_mut().for_each(|refused| refused.early = true);
    }

    /// How long until it is time to save what is not saved.
    pub(crate) fn save_due(&self, now: Now) -> Option<Duration> {
        self.unsaved.as_deref().map(|unsaved| unsaved.next.saturating_sub(now.mono))
    }

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
    /// The refresh token that was used for it; without one it is of a sign-in, and goes over whatever lies there.
    pub(super) used: Option<Secret>,
    /// Why it could not be saved.
    pub(super) error: Option<Error>,
    /// How often that was tried, and when, on the monotonic clock, it is to be tried next.
    pub(super) tries: u32,
    pub(super) next: Duration,
}

impl Unsaved {
    pub(super) fn new(record: Record, version: u64, used: Option<Secret>) -> Self {
        Self { record, version, used, error: None, tries: 0, next: Duration::ZERO }
    }

    /// It could not be saved.
    pub(super) fn fail(&mut self, error: Error, now: Now) {
        let pause = SAVE_AGAIN.saturating_mul(1 << self.tries.min(8)).min(LONGEST_PAUSE);
        self.tries = self.tries.saturating_add(1);
        self.next = now.mono.saturating_add(pause);
        self.error = Some(error);
    }

    /// Looks at what lies in the store. False if that is newer; else this goes over it.
    ///
    /// As long as the refresh token lies there that was used, whatever was written beside it since is about
    /// further uses of it. And what is read may be older than what was written.
    pub(super) fn goes_over(&mut self, found: &Record, version: u64) -> bool {
        let Some(used) = &self.used else {
            self.version = version;
            return true;
        };
        let replaces = !used.matches(self.record.refresh_token.expose());
        if version > self.version && replaces && used.matches(found.refresh_token.expose()) {
            self.version = version;
        }
        version <= self.version
    }
}
