//! [`TokenRef`]: a token without a copy.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicU32, AtomicU64};

use arc_swap::{ArcSwapOption, Guard};
use grantflow::cell::Issued;
use grantflow::{Timestamp, Token};

use super::clock::BEHIND;

/// Where a slot shows its token to those who take no lock.
#[derive(Default)]
pub(crate) struct Shown {
    issued: ArcSwapOption<Issued>,
    /// Until when, in milliseconds since 1970, and since when, in seconds. They are written after the token, and read
    /// before it, so that the end is never of a later token.
    until: AtomicU64,
    since: AtomicU32,
}

impl Shown {
    /// What is shown, if its time is not over by the milliseconds of [`clock`](super::clock). A moment from before it was
    /// shown means that the clock was set back, and says nothing about its end.
    #[inline]
    pub(crate) fn fresh(&self, now: u64) -> Option<TokenRef> {
        if now >= self.until.load(Acquire) || now < u64::from(self.since.load(Relaxed)) * 1000 {
            return None;
        }
        let guard = self.issued.load();
        guard.is_some().then(|| TokenRef(guard))
    }

    /// Shows this from one moment to another. A token that is there already costs no more than the times: to show another
    /// one visits each thread that ever read.
    pub(crate) fn show(&self, issued: &Arc<Issued>, since: Timestamp, until: Timestamp) {
        if !self.issued.load().as_ref().is_some_and(|shown| Arc::ptr_eq(shown, issued)) {
            self.issued.store(Some(issued.clone()));
        }
        self.since.store(u32::try_from(millis(since) / 1000).unwrap_or(u32::MAX), Relaxed);
        self.until.store(millis(until), Release);
    }

    /// Readers ask the cell.
    pub(crate) fn hide(&self) {
        self.until.store(0, Release);
    }

    /// As [`hide`](Self::hide), and keeps no token.
    pub(crate) fn clear(&self) {
        self.hide();
        self.issued.store(None);
    }
}

/// In milliseconds since 1970, as far as readers see them: their clock may be behind.
fn millis(moment: Timestamp) -> u64 {
    u64::try_from((moment - BEHIND).as_unix_millis()).unwrap_or(0)
}

/// A token that its manager shares: it is not copied, and no count changes that other readers share. It stays the same
/// when its manager gets a new one.
///
/// Each thread may have eight of them at a time for free; each further one costs as much as a clone of an [`Arc`].
pub struct TokenRef(Guard<Option<Arc<Issued>>>);

impl TokenRef {
    /// The number of the token among those of its want: a later one has a higher number.
    pub fn generation(&self) -> u64 {
        self.issued().generation
    }

    #[inline]
    pub(crate) fn issued(&self) -> &Arc<Issued> {
        self.0.as_ref().expect("it was made with a token")
    }
}

impl From<Arc<Issued>> for TokenRef {
    fn from(issued: Arc<Issued>) -> Self {
        Self(Guard::from_inner(Some(issued)))
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_moment_before_a_token_was_shown_says_nothing_about_its_end() {
        const HOUR: Duration = Duration::from_secs(3600);
        let now = Timestamp::from_unix(1_800_000_000);
        let token = Token::bearer("t", now, Some(now + HOUR)).unwrap();
        let (issued, shown) = (Arc::new(Issued { token, generation: 1 }), Shown::default());
        let fresh = |at: Timestamp| shown.fresh(u64::try_from(at.as_unix_millis()).unwrap()).is_some();
        shown.show(&issued, now, now + HOUR);
        assert!(fresh(now) && fresh(now + HOUR / 2) && !fresh(now + HOUR));
        // The clock was set back.
        let back = now - Duration::from_secs(2);
        assert!(!fresh(back) && !fresh(Timestamp::from_unix(0)));
        // The cell was asked, and half an hour is left by the clock that was not.
        shown.show(&issued, back, back + HOUR / 2);
        assert!(fresh(back) && !fresh(back + HOUR / 2));
        shown.hide();
        assert!(!fresh(back) && !fresh(now));
    }
}
