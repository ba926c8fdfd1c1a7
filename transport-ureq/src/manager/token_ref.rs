//! [`TokenRef`]: a token without a copy.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arc_swap::{ArcSwapOption, Guard};
use grantflow::cell::Issued;
use grantflow::{Timestamp, Token};

/// When somebody asks. As the system tells it: to make a [`Timestamp`] of it takes half as long again.
pub(crate) type Moment = SystemTime;

/// The end of the year 9999, which every system can tell.
const LATEST: Duration = Duration::from_secs(253_402_300_799);

/// Where a slot shows its token to those who take no lock.
#[derive(Default)]
pub(crate) struct Shown(ArcSwapOption<Current>);

struct Current {
    issued: Arc<Issued>,
    until: Moment,
}

impl Shown {
    /// What is shown, if its time is not over.
    #[inline]
    pub(crate) fn fresh(&self, now: Moment) -> Option<TokenRef> {
        let guard = self.0.load();
        let fresh = guard.as_ref().is_some_and(|current| now < current.until);
        if fresh { Some(TokenRef(guard)) } else { None }
    }

    /// Shows this from now on, until its time is over.
    pub(crate) fn show(&self, issued: &Arc<Issued>, until: Timestamp) {
        self.0.store(Some(Current::new(issued.clone(), until)));
    }

    pub(crate) fn hide(&self) {
        self.0.store(None);
    }
}

impl Current {
    fn new(issued: Arc<Issued>, until: Timestamp) -> Arc<Self> {
        let since = Duration::from_millis(u64::try_from(until.as_unix_millis()).unwrap_or(0)).min(LATEST);
        Arc::new(Self { issued, until: SystemTime::UNIX_EPOCH + since })
    }
}

/// A token as its holder has it: nothing is copied, and no count changed that other readers share. It stays
/// the same however often its holder gets a new one.
///
/// Each thread may have a few of them at a time for nothing; from the ninth on, one costs as much as an
/// [`Arc`]'s clone.
pub struct TokenRef(Guard<Option<Arc<Current>>>);

impl TokenRef {
    /// The number of the token among those of its want: a later one has a higher number.
    pub fn generation(&self) -> u64 {
        self.issued().generation
    }

    #[inline]
    pub(crate) fn issued(&self) -> &Arc<Issued> {
        &self.0.as_ref().expect("it was made with a token").issued
    }
}

impl From<Arc<Issued>> for TokenRef {
    fn from(issued: Arc<Issued>) -> Self {
        Self(Guard::from_inner(Some(Current::new(issued, Timestamp::default()))))
    }
}

impl Deref for TokenRef {
    type Target = Token;
    #[inline]
    fn deref(&self) -> &Token {
        &self.issued().token
    }
}

impl Clone for TokenRef {
    fn clone(&self) -> Self {
        Self(Guard::from_inner(self.0.clone()))
    }
}

impl fmt::Debug for TokenRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}
