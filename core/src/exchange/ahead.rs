//! Signing before something is written down, and sending after.

use std::fmt;

use super::Exchange;
use crate::{Cx, Error, Machine, Reply, Step};

/// The machine that signs for the first try of an [`Exchange`], and yields the exchange: for a caller that must write
/// something down between the two, such as that a refresh token is about to be used.
///
/// ```text
/// ahead ─signatures─▶ (write it down) ─▶ the exchange sends
/// ```
///
/// It takes no longer than the exchange's total time, and begins no request of a signer after the moment that the
/// exchange must begin before. The exchange's own time begins as it starts. A signature that has become too old by then
/// is made anew. Without anything to sign the machine ends at once, with no effect.
pub struct Ahead<T>(Option<Exchange<T>>);

impl<T> Ahead<T> {
    pub(super) fn new(exchange: Exchange<T>) -> Self {
        Self(Some(exchange))
    }
}

impl<T> Machine for Ahead<T> {
    type Output = Exchange<T>;

    fn resume(&mut self, cx: &mut Cx, reply: Reply) -> Step<Exchange<T>> {
        let step = match &mut self.0 {
            Some(exchange) => exchange.sign_ahead(cx, reply),
            None => return Step::Done(Err(Error::misuse("signing ahead"))),
        };
        match step {
            Step::Do(effect) => Step::Do(effect),
            Step::Done(signed) => {
                let exchange = self.0.take().ok_or_else(|| Error::misuse("signing ahead"));
                Step::Done(signed.and(exchange))
            }
        }
    }
}

impl<T> fmt::Debug for Ahead<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Ahead").field(&self.0).finish()
    }
}
