//! The machine that turns the redirect into a token (RFC 6749, section 4.1.3).
//!
//! ```text
//! Begin ─Start, it is the answer─▶ Exchange ─▶ Ended (a token, or an error)
//!   └─ it is not, or too late ─▶ Ended
//! ```
//!
//! The exchange reads keys before the code is redeemed, where the signature of the ID token is asked for.

use std::time::Duration;
use std::{fmt, mem};

use super::answer::{Answer, not_the_answer};
use super::pending::PendingAuthorization;
use crate::machine::ask;
use crate::source::{Change, Minting};
use crate::{Advice, Client, Cx, Error, Machine, Reply, Secret, Step, Timestamp, Token, TokenExchange, TokenRequest};

impl PendingAuthorization {
    /// The machine that reads the redirect and exchanges its code for a token, at the server where this began.
    ///
    /// `redirect` is the whole URL, its query, or the body of a form post (`response_mode=form_post`); `code#state`,
    /// as some servers show it to be copied, is taken too. `client` is the one that began.
    ///
    /// # Errors
    ///
    /// The machine's are those of [`receive`](Self::receive), [`ErrorKind::Config`](crate::ErrorKind::Config) for another client, and those of
    /// the token request.
    pub fn finish(self, client: &Client, redirect: &str) -> FinishAuthorization {
        FinishAuthorization::new(self, client, Came::Redirect(redirect.into()))
    }

    /// The machine that exchanges the code of an answer that this authorization [received](Self::receive). The answer
    /// to another request is an error of kind [`ErrorKind::InvalidRedirect`](crate::ErrorKind::InvalidRedirect), and nothing is sent.
    pub fn finish_with(self, client: &Client, answer: Answer) -> FinishAuthorization {
        FinishAuthorization::of_answer(self, client, Ok(answer))
    }
}

/// The machine that finishes an authorization: it checks the redirect and exchanges the code for a
/// token. It is made by [`PendingAuthorization::finish`] and [`finish_with`](PendingAuthorization::finish_with).
///
/// A code is good for one use, and so is this: after an error the sign-in must be started again.
pub struct FinishAuthorization {
    stage: Stage,
    total: Option<Duration>,
    change: Change,
}

enum Stage {
    Begin(Box<Begin>),
    Exchange(Box<TokenExchange>),
    Ended,
}

struct Begin {
    pending: PendingAuthorization,
    came: Came,
    resources: Vec<Box<str>>,
    /// The token request, but for its code and its resources.
    request: Result<TokenRequest, Error>,
}

/// The redirect.
enum Came {
    /// As it is.
    Redirect(Secret),
    /// Received before.
    Answer(Result<Answer, Error>),
}

impl FinishAuthorization {
    /// An answer that is an error already ends the machine at once.
    pub(crate) fn of_answer(pending: PendingAuthorization, client: &Client, answer: Result<Answer, Error>) -> Self {
        Self::new(pending, client, Came::Answer(answer))
    }

    fn new(pending: PendingAuthorization, client: &Client, came: Came) -> Self {
        let request = pending.token_request(client);
        let begin = Begin { pending, came, resources: Vec::new(), request };
        Self { stage: Stage::Begin(Box::new(begin)), total: None, change: Change::default() }
    }

    fn change(mut self, change: impl FnOnce(TokenRequest) -> TokenRequest) -> Self {
        if let Stage::Begin(begin) = &mut self.stage {
            let request = mem::replace(&mut begin.request, Err(Error::misuse("finishing an authorization")));
            begin.request = request.map(change);
        }
        self
    }

    /// `audience` of the token request: what the token is for, by the name that the server gives it; may be called
    /// several times.
    pub fn audience(self, audience: &str) -> Self {
        self.change(|request| request.audience(audience))
    }

    /// `resource` of the token request, in place of those of the authorization request: some of them, for a token that
    /// is good for less (RFC 8707, section 2.2); may be called several times.
    pub fn resource(mut self, resource: &str) -> Self {
        if let Stage::Begin(begin) = &mut self.stage {
            begin.resources.push(resource.into());
        }
        self
    }

    /// Adds a parameter of the server's own to the token request. Those that the grant and client authentications set
    /// cannot be set by this.
    pub fn extra(self, name: &str, value: &str) -> Self {
        self.change(|request| request.extra(name, value))
    }

    /// The time that the exchange of the code may take in all; 30 s unless told.
    pub fn total_time(mut self, time: Duration) -> Self {
        self.total = Some(time);
        self
    }
}

impl Begin {
    fn exchange(self, now: Timestamp) -> Result<TokenExchange, Error> {
        let Self { pending, came, resources, request } = self;
        let answer = match came {
            Came::Redirect(redirect) => pending.receive(redirect.expose(), now)?,
            Came::Answer(answer) => answer?,
        };
        if answer.request != pending.id() {
            return Err(not_the_answer("its code belongs to another authorization request"));
        }
        let request = request?.code(&answer.code);
        let resources = if resources.is_empty() { &pending.resources } else { &resources };
        let request = resources.iter().fold(request, |request, resource| request.resource(resource));
        Ok(request.exchange())
    }
}

impl Machine for FinishAuthorization {
    type Output = Token;

    fn resume(&mut self, cx: &mut Cx, mut reply: Reply) -> Step<Token> {
        if let Stage::Begin(_) = &self.stage
            && let Stage::Begin(begin) = mem::replace(&mut self.stage, Stage::Ended)
        {
            if !matches!(reply, Reply::Start) {
                return Step::Done(Err(Error::misuse("finishing an authorization")));
            }
            match begin.exchange(cx.now().wall) {
                Ok(exchange) => {
                    let exchange = self.total.into_iter().fold(exchange, TokenExchange::total_time);
                    self.stage = Stage::Exchange(Box::new(exchange));
                }
                Err(error) => return Step::Done(Err(error)),
            }
        }
        let Stage::Exchange(exchange) = &mut self.stage else {
            return Step::Done(Err(Error::misuse("finishing an authorization")));
        };
        let result = ask!(exchange, cx, reply);
        let result = result.map_err(|error| if exchange.has_begun() { spent(error) } else { error });
        self.change = exchange.take_change();
        self.stage = Stage::Ended;
        Step::Done(result)
    }
}

impl Minting for FinishAuthorization {
    fn take_change(&mut self) -> Change {
        match &mut self.stage {
            Stage::Exchange(exchange) => exchange.take_change(),
            _ => mem::take(&mut self.change),
        }
    }
}

/// A code that was sent cannot be sent again, and what was pending is gone with it: whatever else says "later" means a
/// new sign-in here.
fn spent(error: Error) -> Error {
    match error.advice() {
        Some(Advice::TryLater) => error.used_up("the authorization code cannot be used again"),
        _ => error,
    }
}

/// Shows how far it is.
impl fmt::Debug for FinishAuthorization {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.stage {
            Stage::Begin(begin) => f.debug_tuple("FinishAuthorization").field(&begin.pending).finish(),
            Stage::Exchange(exchange) => f.debug_tuple("FinishAuthorization").field(exchange).finish(),
            Stage::Ended => f.write_str("FinishAuthorization(ended)"),
        }
    }
}
