//! The one request of a grant, under way: [`TokenExchange`].
//!
//! It is an [`Exchange`] with two results: a token or an error, and whether the refresh token that it used has a
//! successor. If the signature of the ID token is to be checked, keys are read before it and, if need be, after it.

use std::fmt;
use std::time::Duration;

use super::signature::CheckSignature;
use crate::exchange::{self, Request};
use crate::machine::ask;
use crate::source::{Change, Minting};
use crate::token::Answered;
use crate::{Cx, Effect, Exchange, Machine, Now, Reply, Step, Token};

/// The machine that sends a [`TokenRequest`](crate::TokenRequest) and reads the token.
///
/// The answer to a refresh may bring a new refresh token and still be an error, such as one with an ID token of another
/// user. After the end, [`take_change`](Minting::take_change) has that refresh token in any case: the one that was used
/// may be of no use any more.
pub struct TokenExchange {
    exchange: Exchange<Answered>,
    /// When, on the monotonic clock, the request was sent last.
    asked: Duration,
    change: Change,
    signature: Option<Box<CheckSignature>>,
    begun: bool,
}

impl TokenExchange {
    pub(super) fn new(exchange: Exchange<Answered>, signature: Option<Box<CheckSignature>>) -> Self {
        Self { exchange, asked: Duration::ZERO, change: Change::default(), signature, begun: false }
    }

    /// Whether the request itself has begun, with all that is read before it.
    pub(crate) fn has_begun(&self) -> bool {
        self.begun
    }

    /// Sets the total time of the request, pauses included; 30 s by default.
    pub fn total_time(mut self, time: Duration) -> Self {
        self.exchange = self.exchange.total_time(time);
        self
    }

    /// Never begins to send once this moment has come, by either clock: the machine then ends with an error of kind
    /// [`Timeout`](crate::ErrorKind::Timeout).
    pub fn start_before(mut self, moment: Now) -> Self {
        self.exchange = self.exchange.start_before(moment);
        self
    }

    /// The machine that signs for the first try, and yields this one: see [`Exchange::ahead`].
    pub fn ahead(self) -> impl Machine<Output = Self> + Send + use<> {
        Ahead(self.exchange.ahead(), self.signature)
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

    /// Checks the ID token's signature by what did so in another exchange, and has the keys already.
    pub(super) fn signature(mut self, signature: Option<Box<CheckSignature>>) -> Self {
        self.signature = signature.or(self.signature);
        self
    }

    /// What checks the ID token's signature, if it was not used: for the next exchange.
    pub(super) fn take_signature(&mut self) -> Option<Box<CheckSignature>> {
        self.signature.take_if(|signature| signature.is_ready())
    }

    /// Whether a token came whose ID token's signature is wrong, or could not be checked.
    pub(super) fn has_refused_a_token(&self) -> bool {
        self.begun && self.signature.as_ref().is_some_and(|signature| !signature.is_ready())
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

struct Ahead(exchange::Ahead<Answered>, Option<Box<CheckSignature>>);

impl Machine for Ahead {
    type Output = TokenExchange;

    fn resume(&mut self, cx: &mut Cx, reply: Reply) -> Step<TokenExchange> {
        match self.0.resume(cx, reply) {
            Step::Do(effect) => Step::Do(effect),
            Step::Done(signed) => Step::Done(signed.map(|exchange| TokenExchange::new(exchange, self.1.take()))),
        }
    }
}

impl Machine for TokenExchange {
    type Output = Token;

    fn resume(&mut self, cx: &mut Cx, mut reply: Reply) -> Step<Token> {
        loop {
            if let Some(signature) = self.signature.as_mut().filter(|signature| !signature.is_ready()) {
                match ask!(signature, cx, reply) {
                    Ok(Some(token)) => return Step::Done(Ok(token)),
                    Ok(None) => {}
                    Err(error) => return Step::Done(Err(error)),
                }
            }
            let token = match self.send(cx, std::mem::take(&mut reply)) {
                Step::Do(effect) => return Step::Do(effect),
                Step::Done(token) => token,
            };
            let judged = match (token, &mut self.signature) {
                (Ok(token), Some(signature)) => signature.judge(token),
                (token, _) => token.map(Some),
            };
            if let Some(token) = judged.transpose() {
                return Step::Done(token);
            }
        }
    }
}

impl TokenExchange {
    fn send(&mut self, cx: &mut Cx, reply: Reply) -> Step<Token> {
        self.begun = true;
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
            change.sent();
        }
        change
    }
}

impl fmt::Debug for TokenExchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenExchange").field("request", self.request()).finish_non_exhaustive()
    }
}
