//! What callers get, and how they ask for it.

use std::fmt;
use std::ops::Deref;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use arc_swap::{ArcSwapOption, Guard};
use grantflow::cell::Issued;
use grantflow::{Error, Token};

use super::slot::Slot;

/// A token, borrowed from its manager: reading it copies nothing. It stays as it is when the manager gets
/// another.
pub struct TokenRef(Guard<Option<Arc<Issued>>>);

impl TokenRef {
    /// Its place in the sequence of its manager's tokens.
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

/// Asks a slot for its token: the fast path without the weight of the slow one.
pub(super) struct Fetch<'a> {
    slot: &'a Arc<Slot>,
    slow: Option<Slow<'a>>,
}

type Slow<'a> = Pin<Box<dyn Future<Output = Result<TokenRef, Error>> + Send + 'a>>;

impl<'a> Fetch<'a> {
    #[inline]
    pub(super) fn new(slot: &'a Arc<Slot>) -> Self {
        Self { slot, slow: None }
    }
}

impl Future for Fetch<'_> {
    type Output = Result<TokenRef, Error>;

    #[inline]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if self.slow.is_none()
            && let Some(token) = self.slot.fresh()
        {
            return Poll::Ready(Ok(token));
        }
        let slot = self.slot;
        self.slow.get_or_insert_with(|| Box::pin(slot.get())).as_mut().poll(cx)
    }
}
