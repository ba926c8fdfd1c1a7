//! The machine that turns the redirect into a token (RFC 6749, section 4.1.3).
//!
//! ```text
//! Begin ─Start, it is the answer─▶ [Signed ─▶] Exchange ─▶ Ended (a token, or an error)
//!   └─ it is not, or too late ─▶ Ended
//! ```
//!
//! The exchange reads the server's keys before the code is redeemed, if the signature of the ID token is to be checked.
//! For a signed answer they are read before anything in it counts.

use std::time::Duration;
use std::{fmt, mem};

use super::answer::{Answer, Came, not_the_answer};
use super::pending::PendingAuthorization;
use super::signed;
use crate::client::FAPI_ALGORITHMS;
use crate::crypto::Algorithm;
use crate::jose::{KeySet, ReadKeys};
use crate::machine::ask;
use crate::source::{Change, Minting};
use crate::{
    Advice, Client, Cx, Error, ErrorKind, Machine, Reply, Secret, Step, Timestamp, Token, TokenExchange, TokenRequest,
};

impl PendingAuthorization {
    /// The machine that reads the redirect and exchanges its code for a token, at the server where the sign-in began.
    ///
    /// `redirect` is the whole URL, its query, or the body of a form post (`response_mode=form_post`); `code#state`, as
    /// some servers show it to be copied, is taken too. `client` is the one that began the sign-in.
    ///
    /// # Errors
    ///
    /// The machine ends with the errors of [`receive`](Self::receive), with
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) for another client, and with those of the token request.
    pub fn finish(self, client: &Client, redirect: &str) -> FinishAuthorization {
        FinishAuthorization::new(self, client, Redirect::Text(redirect.into()))
    }

    /// The machine that exchanges the code of an answer that this authorization [received](Self::receive). If the
    /// answer belongs to another request, it ends with an error of kind
    /// [`ErrorKind::InvalidRedirect`](crate::ErrorKind::InvalidRedirect), and nothing is sent.
    pub fn finish_with(self, client: &Client, answer: Answer) -> FinishAuthorization {
        FinishAuthorization::of_answer(self, client, Ok(answer))
    }
}

/// The machine that finishes an authorization: it checks the redirect and exchanges the code for a
/// token. It is made by [`PendingAuthorization::finish`] and [`finish_with`](PendingAuthorization::finish_with).
///
/// A code is good for one use, and so is this machine: after an error the sign-in must be started again.
pub struct FinishAuthorization {
    stage: Stage,
    total: Option<Duration>,
    change: Change,
}

enum Stage {
    Begin(Box<Begin>),
    /// A signed answer, and whether its keys are read as they are at this moment.
    Signed(Box<ReadKeys>, Box<Begin>, Secret, bool),
    Exchange(Box<TokenExchange>),
    Ended,
}

const DOING: &str = "finishing an authorization";

struct Begin {
    pending: PendingAuthorization,
    came: Redirect,
    resources: Vec<Box<str>>,
    /// The token request, but for its code and its resources.
    request: Result<TokenRequest, Error>,
    /// By which algorithms an answer may be signed.
    algorithms: Box<[Algorithm]>,
}

/// The redirect.
enum Redirect {
    /// As it is.
    Text(Secret),
    /// Received before.
    Answer(Result<Answer, Error>),
    /// Looked at.
    Done,
}

impl FinishAuthorization {
    /// An answer that is an error already ends the machine at once.
    pub(crate) fn of_answer(pending: PendingAuthorization, client: &Client, answer: Result<Answer, Error>) -> Self {
        Self::new(pending, client, Redirect::Answer(answer))
    }

    fn new(pending: PendingAuthorization, client: &Client, came: Redirect) -> Self {
        let request = pending.token_request(client);
        let algorithms = match client.authorization_signed_response() {
            Some(algorithm) => [algorithm].into(),
            None if client.is_fapi() => FAPI_ALGORITHMS.into(),
            None => Algorithm::ALL.into(),
        };
        let begin = Begin { pending, came, resources: Vec::new(), request, algorithms };
        Self { stage: Stage::Begin(Box::new(begin)), total: None, change: Change::default() }
    }

    fn change(mut self, change: impl FnOnce(TokenRequest) -> TokenRequest) -> Self {
        if let Stage::Begin(begin) = &mut self.stage {
            let request = mem::replace(&mut begin.request, Err(Error::misuse(DOING)));
            begin.request = request.map(change);
        }
        self
    }

    /// `audience` of the token request: what the token is for, by the name that the server gives it; may be called
    /// several times.
    pub fn audience(self, audience: &str) -> Self {
        self.change(|request| request.audience(audience))
    }

    /// Sets the `resource` of the token request, in place of those of the authorization request: a part of them, for a
    /// token that is good for less (RFC 8707, section 2.2); may be called several times.
    pub fn resource(mut self, resource: &str) -> Self {
        if let Stage::Begin(begin) = &mut self.stage {
            begin.resources.push(resource.into());
        }
        self
    }

    /// Sets the `authorization_details` of the token request: a part of those that were granted (RFC 9396, section 6).
    /// Without this the token is good for all.
    pub fn authorization_details(self, details: &serde_json::Value) -> Self {
        self.change(|request| request.authorization_details(details))
    }

    /// Adds a parameter of the server's own to the token request. Parameters of the grant and of client authentication
    /// cannot be set by this.
    pub fn extra(self, name: &str, value: &str) -> Self {
        self.change(|request| request.extra(name, value))
    }

    /// Sets the total time of the exchange of the code; 30 s by default.
    pub fn total_time(mut self, time: Duration) -> Self {
        self.total = Some(time);
        self
    }
}

impl Begin {
    /// What the redirect holds, if it is the answer.
    fn answer(&mut self, now: Timestamp) -> Result<Came, Error> {
        let answer = match mem::replace(&mut self.came, Redirect::Done) {
            Redirect::Text(redirect) => self.pending.receive(redirect.expose(), now)?,
            Redirect::Answer(answer) => answer?,
            Redirect::Done => return Err(Error::misuse(DOING)),
        };
        match answer.request == self.pending.id() {
            true => Ok(answer.came),
            false => Err(not_the_answer("its code belongs to another authorization request")),
        }
    }

    /// The keys that a signed answer is checked by.
    fn answer_keys(&self, anew: bool) -> Result<Box<ReadKeys>, Error> {
        let keys = self.pending.answer_keys.as_ref().ok_or_else(|| Error::misuse(DOING))?;
        Ok(Box::new(ReadKeys::at(keys, anew)))
    }

    /// The code of a signed answer, if one of these keys vouches for it; `None` if its key is not among them.
    fn code(&self, jwt: &Secret, keys: &KeySet, now: Timestamp) -> Result<Option<Secret>, Error> {
        match signed::verified(jwt.expose(), keys.keys(), &self.algorithms)? {
            Some(found) => self.pending.code_of(found, now).map(Some),
            None => Ok(None),
        }
    }

    fn redeem(self, code: &Secret, total: Option<Duration>) -> Result<Stage, Error> {
        let Self { pending, resources, request, .. } = self;
        let request = request?.code(code);
        let resources = if resources.is_empty() { &pending.resources } else { &resources };
        let request = resources.iter().fold(request, |request, resource| request.resource(resource));
        let exchange = total.into_iter().fold(request.exchange(), TokenExchange::total_time);
        Ok(Stage::Exchange(Box::new(exchange)))
    }

    /// Goes on with what the redirect holds.
    fn go_on(mut self: Box<Self>, total: Option<Duration>, now: Timestamp) -> Result<Stage, Error> {
        match self.answer(now)? {
            Came::Code(code) => self.redeem(&code, total),
            Came::Signed(jwt) => Ok(Stage::Signed(self.answer_keys(false)?, self, jwt, false)),
        }
    }

    /// Goes on with keys for a signed answer; `anew`: as they are at this moment.
    fn go_on_with(
        self: Box<Self>,
        (jwt, keys, anew): (Secret, KeySet, bool),
        total: Option<Duration>,
        now: Timestamp,
    ) -> Result<Stage, Error> {
        match self.code(&jwt, &keys, now)? {
            Some(code) => self.redeem(&code, total),
            None if anew => Err(Error::new(ErrorKind::Signature, "the server has no key for the answer's signature")),
            None => Ok(Stage::Signed(self.answer_keys(true)?, self, jwt, true)),
        }
    }
}

impl Machine for FinishAuthorization {
    type Output = Token;

    fn resume(&mut self, cx: &mut Cx, mut reply: Reply) -> Step<Token> {
        while !matches!(self.stage, Stage::Exchange(_)) {
            let now = cx.now().wall;
            let next = match (mem::replace(&mut self.stage, Stage::Ended), &reply) {
                (Stage::Begin(begin), Reply::Start) => begin.go_on(self.total, now),
                (Stage::Signed(mut reading, begin, jwt, anew), _) => match reading.resume(cx, mem::take(&mut reply)) {
                    Step::Do(effect) => {
                        self.stage = Stage::Signed(reading, begin, jwt, anew);
                        return Step::Do(effect);
                    }
                    Step::Done(keys) => keys.and_then(|keys| begin.go_on_with((jwt, keys, anew), self.total, now)),
                },
                _ => Err(Error::misuse(DOING)),
            };
            match next {
                Ok(stage) => self.stage = stage,
                Err(error) => return Step::Done(Err(error)),
            }
        }
        let Stage::Exchange(exchange) = &mut self.stage else {
            return Step::Done(Err(Error::misuse(DOING)));
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
            Stage::Begin(begin) | Stage::Signed(_, begin, ..) => {
                f.debug_tuple("FinishAuthorization").field(&begin.pending).finish()
            }
            Stage::Exchange(exchange) => f.debug_tuple("FinishAuthorization").field(exchange).finish(),
            Stage::Ended => f.write_str("FinishAuthorization(ended)"),
        }
    }
}
