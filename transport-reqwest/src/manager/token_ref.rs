//! The tokens that callers get.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use arc_swap::{ArcSwapOption, Guard};
use grantflow::Token;
use grantflow::cell::Issued;

/// A token that its manager shares: reading it copies nothing. It stays the same when its manager gets a new one.
pub struct TokenRef(Guard<Option<Arc<Issued>>>);

impl TokenRef {
    /// The number of the token among those of its want: a later one has a higher number.
    pub fn generation(&self) -> u64 {
        self.issued().generation
    }

    /// What is there now.
    #[inline]
    pub(super) fn of(published: &ArcSwapOption<Issued>) -> Option<Self> {
        let guard = published.load();
        guard.is_some().then(|| Self(guard))
    }

    #[inline]
    pub(super) fn issued(&self) -> &Arc<Issued> {
        self.0.as_ref().expect("there is none without a token: see `of`")
    }
}

impl From<Arc<Issued>> for TokenRef {
    fn from(issued: Arc<Issued>) -> Self {
        Self(Guard::from_inner(Some(issued)))
    }
}

impl Clone for TokenRef {
    fn clone(&self) -> Self {
        self.issued().clone().into()
    }
}

impl Deref for TokenRef {
    type Target = Token;
    #[inline]
    fn deref(&self) -> &Token {
        &self.issued().token
    }
}

impl fmt::Debug for TokenRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}
