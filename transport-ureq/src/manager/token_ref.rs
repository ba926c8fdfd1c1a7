//! [`TokenRef`]: a token without a copy.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use arc_swap::{ArcSwapOption, Guard};
use grantflow::Token;
use grantflow::cell::Issued;

/// Where a slot shows its token to those who take no lock.
pub(crate) type Shown = ArcSwapOption<Issued>;

/// A token as its holder has it: nothing is copied, and no count changed that other readers share. It stays
/// the same however often its holder gets a new one.
///
/// Each thread may have a few of them at a time for nothing; from the eighth on, one costs as much as an
/// [`Arc`]'s clone.
pub struct TokenRef(Guard<Option<Arc<Issued>>>);

impl TokenRef {
    /// What is shown now.
    pub(crate) fn of(shown: &Shown) -> Option<Self> {
        let guard = shown.load();
        guard.is_some().then_some(Self(guard))
    }

    /// The number of the token among those of its want: a later one has a higher number.
    pub fn generation(&self) -> u64 {
        self.issued().generation
    }

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
    fn deref(&self) -> &Token {
        &self.issued().token
    }
}

impl Clone for TokenRef {
    fn clone(&self) -> Self {
        self.issued().clone().into()
    }
}

impl fmt::Debug for TokenRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}
