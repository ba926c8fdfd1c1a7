//! The one request of a grant, under way: [`TokenExchange`].
//!
//! It is an [`Exchange`] that tells two things at its end: a token or an error, and whether the refresh token that it
//! used has a successor.

use std::fmt;
use std::time::Duration;

use crate::exchange::{self, Request};
use crate::source::{Change, Minting};
use crate::token::Answered;
use crate::{Cx, Effect, Exchange, Machine, Now, Reply, Step, Token};

/// Sends a [`TokenRequest`](crate::TokenRequest) and reads the token.
///
/// An answer to a refresh may bring another refresh token and, beside it, something that makes an error of the
/// answer, such as an ID token of another user. After the end, [`take_change`](Minting::take_change) has that refresh
/// token, whatever the end was: the one that was used may be of no use any more.
pub struct TokenExchange {
    exchange: Exchange<Answered>,
    /// When, on the monotonic clock, the request was sent last.
    asked: Duration,
    change: Change,
}

impl TokenExchange {
    pub(super) fn new(exchange: Exchange<Answered>) -> Self {
        Self { exchange, asked: Duration::ZERO, change: Change::default() }
    }

    /// The time it may take in all, pauses included; 30 s unless told.
    pub fn total_time(mut self, time: Duration) -> Self {
        self.exchange = self.exchange.total_time(time);
        self
    }

    /// Never begins to send once this moment has come, by either clock: it ends with an error of kind
    /// [`Timeout`](crate::ErrorKind::Timeout) instead.
    pub fn start_before(mut self, moment: Now) -> Self {
        self.exchange = self.exchange.start_before(moment);
        self
    }

    /// A machine that makes what the first try is signed with, and yields this one: see
    /// [`Exchange::ahead`].
    pub fn ahead(self) -> impl Machine<Output = Self> + Send + use<> {
        Ahead(self.exchange.ahead())
    }

    /// Sends its request once, whatever comes of it.
    pub(crate) fn once(mut self) -> Self {
        self.exchange = self.exchange.once();
        self
    }

    /// See [`Exchange::nonce`].
    pub(super) fn nonce(mut self, nonce: Option<Box<str>>) -> Self {
        self.exchange = self.exchange.nonce(nonce);
        self
    }

    /// The newest nonce that the server gave.
    pub(super) fn take_nonce(&mut self) -> Option<Box<str>> {
        self.exchange.take_nonce()
    }

    /// The request as a value, for a caller that sends it itself.
    pub fn request(&self) -> &Request {
        self.exchange.request()
    }
}

struct Ahead(exchange::Ahead<Answered>);

impl Machine for Ahead {
    type Output = TokenExchange;

    fn resume(&mut self, cx: &mut Cx, reply: Reply) -> Step<TokenExchange> {
        match self.0.resume(cx, reply) {
            Step::Do(effect) => Step::Do(effect),
            Step::Done(signed) => Step::Done(signed.map(TokenExchange::new)),
        }
    }
}

impl Machine for TokenExchange {
    type Output = Token;

    fn resume(&mut self, cx: &mut Cx, reply: Reply) -> Step<Token> {
        let answered = match self.exchange.resume(cx, reply) {
            Step::Do(effect) => {
                if let Effect::Http(_) = effect {
                    self.asked = cx.now().mono;
                }
                return Step::Do(effect);
            }
            Step::Done(Err(error)) => return Step::Done(Err(error)),
            Step::Done(Ok(answered)) => answered,
        };
        if let Some((used, new)) = answered.successor {
            self.change = Change::successor(&used, new).asked_at(self.asked);
        }
        Step::Done(answered.outcome.map_err(|error| self.exchange.told(error)))
    }
}

impl Minting for TokenExchange {
    fn take_change(&mut self) -> Change {
        let mut change = std::mem::take(&mut self.change);
        if self.exchange.is_sent() {
            change.sent(true);
        }
        change
    }
}

impl fmt::Debug for TokenExchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenExchange").field("request", self.request()).finish_non_exhaustive()
    }
}
