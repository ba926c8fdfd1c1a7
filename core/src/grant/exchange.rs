//! The one request of a grant, under way: [`TokenExchange`].

use std::fmt;
use std::time::Duration;

use crate::exchange::Request;
use crate::{Cx, Exchange, Machine, Now, Reply, Step, Token};

/// Sends a [`TokenRequest`](crate::TokenRequest) and reads the token.
pub struct TokenExchange(Exchange<Token>);

impl TokenExchange {
    pub(super) fn new(exchange: Exchange<Token>) -> Self {
        Self(exchange)
    }

    /// The time it may take in all, pauses included; 30 s unless told.
    pub fn total_time(self, time: Duration) -> Self {
        Self(self.0.total_time(time))
    }

    /// Never begins to send once this moment has come, by either clock: it ends with an error of kind
    /// [`Timeout`](crate::ErrorKind::Timeout) instead.
    pub fn start_before(self, moment: Now) -> Self {
        Self(self.0.start_before(moment))
    }

    /// Sends its request once, whatever comes of it.
    pub(crate) fn once(self) -> Self {
        Self(self.0.once())
    }

    /// The request as a value, for whoever sends it themselves.
    pub fn request(&self) -> &Request {
        self.0.request()
    }
}

impl Machine for TokenExchange {
    type Output = Token;

    fn resume(&mut self, cx: &mut Cx, reply: Reply) -> Step<Token> {
        self.0.resume(cx, reply)
    }
}

impl fmt::Debug for TokenExchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenExchange").field("request", self.request()).finish_non_exhaustive()
    }
}
