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

/// Where a slot shows its token to those who take no lock.
#[derive(Default)]
pub(crate) struct Shown(ArcSwapOption<Current>);

struct Current {
    issued: Arc<Issued>,
    /// In milliseconds since 1970.
    until: u64,
    /// In seconds since 1970.
    since: u32,
}

impl Shown {
    /// What is shown, if its time is not over. A moment from before it was shown means that the clock was set back,
    /// and says nothing about its end.
    #[inline]
    pub(crate) fn fresh(&self, now: Moment) -> Option<TokenRef> {
        let guard = self.0.load();
        let fresh = guard.as_ref().is_some_and(|current| {
            let until = SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(current.until));
            let since = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(current.since.into()));
            until.is_none_or(|until| now < until) && since.is_some_and(|since| since <= now)
        });
        if fresh { Some(TokenRef(guard)) } else { None }
    }

    /// Whether it is this that is shown at this moment.
    pub(crate) fn holds(&self, issued: &Arc<Issued>, now: Timestamp) -> bool {
        self.fresh(SystemTime::UNIX_EPOCH + Duration::from_millis(millis(now)))
            .is_some_and(|shown| Arc::ptr_eq(shown.issued(), issued))
    }

    /// Shows this from one moment to another.
    pub(crate) fn show(&self, issued: &Arc<Issued>, since: Timestamp, until: Timestamp) {
        self.0.store(Some(Current::new(issued.clone(), since, until)));
    }

    pub(crate) fn hide(&self) {
        self.0.store(None);
    }
}

impl Current {
    fn new(issued: Arc<Issued>, since: Timestamp, until: Timestamp) -> Arc<Self> {
        Arc::new(Self { issued, until: millis(until), since: u32::try_from(millis(since) / 1000).unwrap_or(u32::MAX) })
    }
}

/// In milliseconds since 1970.
fn millis(moment: Timestamp) -> u64 {
    u64::try_from(moment.as_unix_millis()).unwrap_or(0)
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
        Self(Guard::from_inner(Some(Current::new(issued, Timestamp::default(), Timestamp::default()))))
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
