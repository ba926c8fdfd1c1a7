//! The one place where core makes an HTTP request: a [`Request`] value, a parse function, and
//! [`Exchange`], the machine that carries the one to a server and its answer to the other.
//!
//! ```text
//! Ready ─Start─▶ Preparing ─signed─▶ Sent ─answer─▶ Ended (parsed, or the server's error)
//!                 │     ▲             │ │
//!                 │     ├──── nonce ──┘ │ failure     only if it may be sent again, within its total time,
//!                 │     │ Slept         ▼             and never longer than the server asks to wait
//!                 │     └──────────── Waiting ─Refused─▶ Ended (the error that led here)
//!                 └─ no signature ─▶ Ended
//! ```
//!
//! Signatures are made anew at each try. A server that asks for a nonce in a proof has not processed the request: it is
//! made once more with the nonce, also where it must not be repeated, and that counts as no try.

mod ahead;
mod answer;
mod authenticate;
mod coding;
mod prepare;
mod refusal;
mod request;
#[cfg(test)]
mod tests;
mod text;
mod within;

use std::fmt;
use std::time::Duration;

use http::Response;

pub use ahead::Ahead;
use request::Inner;
pub(crate) use request::Refusable;
pub use request::Request;

pub(crate) use answer::{age, error_under_success, is_fine, media_type, server_error_in, signed_answer};
pub(crate) use refusal::at_refresh;
pub(crate) use text::{filled_in, is_printable, is_reserved, push_encoded, unpadded, vschar};
pub(crate) use within::Within;

use prepare::{Part, Preparing};

pub(crate) use crate::call::FORM;
use crate::dpop;
use crate::machine::Repeat;
use crate::secret::wipe_buffer;
use crate::{Advice, Call, Cx, Effect, Error, ErrorKind, Machine, Now, Reply, Step, Timestamp};

/// The total time of an exchange, its repetitions included.
const TOTAL: Duration = Duration::from_secs(30);
/// How often one exchange sends its request at the most.
const TRIES: u32 = 4;
/// The first pause before sending again; it doubles from one to the next.
const PAUSE: Duration = Duration::from_millis(500);

/// A successful answer (status 2xx), with the moments that its times are counted from.
#[derive(Clone, Copy)]
pub struct Received<'a> {
    /// The answer. Its body is wiped after parsing.
    pub response: &'a Response<Vec<u8>>,
    /// When the request was sent: lifetimes count from here.
    pub sent: Timestamp,
    /// When the answer was there.
    pub now: Timestamp,
}

impl fmt::Debug for Received<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Received({}, {} bytes)", self.response.status(), self.response.body().len())
    }
}

/// One round trip to a server, with whatever it takes: back-off, `Retry-After`, the OAuth error body,
/// a bound on its total time. Every other machine makes its requests through this one.
pub struct Exchange<T> {
    request: Request,
    parse: Parse<T>,
    rescue: fn(Error) -> Result<T, Error>,
    total: Duration,
    start_before: Option<Now>,
    deadline: Duration,
    tries: u32,
    most: u32,
    /// What the next try is signed with, from when it is made until it is sent.
    parts: Vec<Part>,
    /// The nonce that the server wants in proofs.
    nonce: Option<Box<str>>,
    /// Whether the request was made once more for a nonce.
    asked_for_nonce: bool,
    /// Whether the answer was an old document, and whether it must not be.
    was_old: bool,
    anew: bool,
    state: State,
}

type Parse<T> = Box<dyn FnMut(Received<'_>) -> Result<T, Error> + Send>;

enum State {
    Ready,
    Preparing(Box<Preparing>),
    Sent { at: Timestamp },
    Waiting { error: Error },
    Ended,
}

impl<T> Machine for Exchange<T> {
    type Output = T;

    fn resume(&mut self, cx: &mut Cx, reply: Reply) -> Step<T> {
        match (std::mem::replace(&mut self.state, State::Ended), reply) {
            (State::Ready, Reply::Start) => {
                self.deadline = cx.now().mono.saturating_add(self.total);
                self.begin(cx)
            }
            (State::Preparing(preparing), reply) => self.prepare(preparing, cx, reply),
            (State::Sent { at }, Reply::Http(mut response)) => {
                let result = self.judge(&mut response, at, cx.now().wall);
                wipe_buffer(response.body_mut());
                self.was_old = self.request.0.oldest.is_some() && answer::age(&response) > Duration::ZERO;
                let wants_nonce = self.wants_nonce(&response, result.as_ref().err());
                match result {
                    _ if wants_nonce => self.begin(cx),
                    Err(error) if error.is_transient() => {
                        let done_nothing = answer::turns_away(response.status(), &error);
                        self.pause(cx, if done_nothing { error } else { error.uncertain() }, true)
                    }
                    // The server did what was asked, even if its answer cannot be used, unless it says that it did not.
                    Err(error) if response.status().is_success() && error.server().is_none() => {
                        self.end(Err(error.surely_used()))
                    }
                    result => self.end(result),
                }
            }
            (State::Sent { .. }, Reply::Failed(failure)) => {
                let maybe_sent = failure.may_have_been_sent();
                let error = Error::from(failure);
                self.pause(cx, if maybe_sent { error.uncertain() } else { error }, maybe_sent)
            }
            (State::Sent { .. }, Reply::Refused) => self.end(Err(Error::refused("Http"))),
            (State::Waiting { error }, Reply::Slept) => match self.deadline.saturating_sub(cx.now().mono) {
                Duration::ZERO => self.end(Err(error)),
                _ => self.begin(cx),
            },
            (State::Waiting { error }, Reply::Refused | Reply::Failed(_)) => self.end(Err(error)),
            _ => Step::Done(Err(Error::misuse("an exchange"))),
        }
    }
}

impl<T> Exchange<T> {
    /// The time it may take in all, pauses included; 30 s by default.
    pub fn total_time(mut self, time: Duration) -> Self {
        self.total = time;
        self
    }

    /// Sends its request once, whatever comes of it.
    pub(crate) fn once(mut self) -> Self {
        self.most = 1;
        self
    }

    /// Never begins to send once this moment has come, by either clock: it ends with an error of kind
    /// [`ErrorKind::Timeout`] instead.
    pub fn start_before(mut self, moment: Now) -> Self {
        self.start_before = Some(moment);
        self
    }

    /// Begins with this nonce in its proof, which the server gave to a request before (RFC 9449, section 8.2).
    pub(crate) fn nonce(mut self, nonce: Option<Box<str>>) -> Self {
        self.nonce = nonce;
        self
    }

    /// The newest nonce that the server gave.
    pub(crate) fn take_nonce(&mut self) -> Option<Box<str>> {
        self.nonce.take()
    }

    /// Takes no old answer, where the request allows for one.
    pub(crate) fn anew(mut self) -> Self {
        self.anew = true;
        self
    }

    /// Whether the answer was not a new one.
    pub(crate) fn was_old(&self) -> bool {
        self.was_old
    }

    /// A machine that makes what the first try is signed with, and yields this exchange: see [`Ahead`].
    pub fn ahead(self) -> Ahead<T> {
        Ahead::new(self)
    }

    /// The request as a value, for a caller that sends it itself.
    pub fn request(&self) -> &Request {
        &self.request
    }

    /// Whether a request is with the server, or may be.
    pub(crate) fn is_sent(&self) -> bool {
        matches!(self.state, State::Sent { .. })
    }

    /// What to make of an error: some are a success to some requests.
    pub(crate) fn rescue(mut self, rescue: fn(Error) -> Result<T, Error>) -> Self {
        self.rescue = rescue;
        self
    }

    /// Begins a try: makes what it is signed with, unless that is there and fresh, and sends it.
    fn begin(&mut self, cx: &mut Cx) -> Step<T> {
        if self.is_signed(cx.now()) {
            return self.send(cx.now());
        }
        self.prepare(Box::default(), cx, Reply::Start)
    }

    fn is_signed(&self, now: Now) -> bool {
        self.parts.len() == self.request.0.parts.len() && self.parts.iter().all(|part| part.is_fresh(now))
    }

    fn prepare(&mut self, preparing: Box<Preparing>, cx: &mut Cx, reply: Reply) -> Step<T> {
        match self.sign(preparing, cx, reply) {
            Step::Do(effect) => Step::Do(effect),
            Step::Done(Ok(())) => self.send(cx.now()),
            Step::Done(Err(error)) => Step::Done(Err(error)),
        }
    }

    /// Makes what a try is signed with, or goes on with it.
    fn sign(&mut self, mut preparing: Box<Preparing>, cx: &mut Cx, reply: Reply) -> Step<()> {
        let begun = match reply {
            Reply::Start => self.check(cx.now()),
            _ => Ok(()),
        };
        let bounds = (self.deadline, self.start_before);
        let step = match begun {
            Ok(()) => preparing.resume(&self.request, self.nonce.as_deref(), bounds, cx, reply),
            Err(error) => Step::Done(Err(error)),
        };
        match step {
            Step::Do(effect) => {
                self.state = State::Preparing(preparing);
                Step::Do(effect)
            }
            Step::Done(Ok(parts)) => {
                self.parts = parts;
                Step::Done(Ok(()))
            }
            Step::Done(Err(error)) => Step::Done(Err(error.during(self.request.0.doing, None))),
        }
    }

    /// As the first stage of [`Ahead`]: leaves the exchange ready to send.
    fn sign_ahead(&mut self, cx: &mut Cx, reply: Reply) -> Step<()> {
        let preparing = match (std::mem::replace(&mut self.state, State::Ended), &reply) {
            (State::Ready, Reply::Start) => {
                self.deadline = cx.now().mono.saturating_add(self.total);
                Box::default()
            }
            (State::Preparing(preparing), _) => preparing,
            _ => return Step::Done(Err(Error::misuse("signing ahead"))),
        };
        let step = self.sign(preparing, cx, reply);
        if matches!(step, Step::Done(Ok(()))) {
            self.state = State::Ready;
        }
        step
    }

    /// Whether a try may begin at all.
    fn check(&self, now: Now) -> Result<(), Error> {
        self.request.check()?;
        if self.start_before.is_some_and(|moment| now.has_reached(moment)) {
            return Err(Error::new(ErrorKind::Timeout, "the time to begin has passed"));
        }
        if now.mono >= self.deadline {
            return Err(Error::new(ErrorKind::Timeout, "there is no time left"));
        }
        Ok(())
    }

    fn send(&mut self, now: Now) -> Step<T> {
        let parts = std::mem::take(&mut self.parts);
        let request = match self.check(now).and_then(|()| self.request.build(&parts)) {
            Ok(request) => request,
            Err(error) => return self.end(Err(error)),
        };
        self.tries = self.tries.saturating_add(1);
        self.state = State::Sent { at: now.wall };
        let call = Call::new(request)
            .with_timeout(self.deadline.saturating_sub(now.mono))
            .with_max_body(self.request.0.max_body)
            .with_repeat(self.request.0.repeat)
            .with_reach(self.request.0.endpoint.reach());
        let call = match self.request.0.oldest {
            // Others who ask at the same time are answered together.
            Some(_) if self.anew => call.may_be_old(Duration::ZERO, Duration::ZERO),
            Some((age, on_failure)) => call.may_be_old(age, on_failure).or_at(self.request.0.other.clone()),
            None => call,
        };
        let call = match &self.request.0.identity {
            Some(identity) => call.with_identity(identity.clone()),
            None => call,
        };
        Step::Do(Effect::Http(match self.start_before {
            Some(moment) => call.with_start_before(moment),
            None => call,
        }))
    }

    /// Whether the server has not begun and wants the request once more, with a nonce in its proof (RFC 9449,
    /// section 8). Any nonce that it gives is for what is sent to it from then on (section 8.2).
    fn wants_nonce(&mut self, response: &Response<Vec<u8>>, error: Option<&Error>) -> bool {
        if !self.request.takes_nonce() {
            return false;
        }
        let given = dpop::nonce_in(response.headers());
        let asks = given.is_some()
            && !self.asked_for_nonce
            && matches!(response.status().as_u16(), 400 | 401)
            && error.and_then(Error::server).is_some_and(|server| server.error() == "use_dpop_nonce");
        if let Some(nonce) = given {
            self.nonce = Some(nonce.into());
        }
        if asks {
            self.asked_for_nonce = true;
            self.tries = self.tries.saturating_sub(1);
        }
        asks
    }

    /// Waits before the next try, if there may be one; else this error is the end.
    fn pause(&mut self, cx: &mut Cx, error: Error, maybe_sent: bool) -> Step<T> {
        let allowed = self.request.0.repeat == Repeat::Freely || !maybe_sent;
        if !allowed {
            return self.end(Err(error));
        }
        if !error.is_transient() || self.tries >= self.most {
            return self.end(Err(error));
        }
        // Half of the pause is fixed and half is random, so that many clients do not return in step.
        let longest = PAUSE.saturating_mul(1 << self.tries.saturating_sub(1).min(8));
        let random = cx.random::<1>("back-off").map_or(u8::MAX, |[byte]| byte);
        let pause = longest.mul_f64(0.5 + f64::from(random) / 512.0).max(error.retry_after().unwrap_or_default());
        let late = self.start_before.is_some_and(|moment| (cx.now() + pause).has_reached(moment));
        if late || pause >= self.deadline.saturating_sub(cx.now().mono) {
            return self.end(Err(error));
        }
        self.state = State::Waiting { error };
        Step::Do(Effect::Sleep(pause))
    }

    fn judge(&mut self, response: &mut Response<Vec<u8>>, sent: Timestamp, now: Timestamp) -> Result<T, Error> {
        let status = response.status();
        if response.body().len() > self.request.0.max_body {
            return Err(Error::new(ErrorKind::InvalidResponse, "the answer is larger than allowed"));
        }
        let plain = coding::undo(response, self.request.0.max_body);
        let response = &*response;
        let genuine = (self.request.0.genuine)(response).map_err(|error| error.with_status(status.as_u16()));
        let error = if status.is_success() {
            genuine?;
            plain?;
            match (self.parse)(Received { response, sent, now }) {
                Ok(parsed) => return Ok(parsed),
                Err(error) => error.with_status(status.as_u16()),
            }
        } else {
            let error = answer::error_answer(response, now);
            match (genuine, plain) {
                _ if error.is_transient() => error,
                (Err(error), _) => error,
                // What it says cannot be read, and that is more than its status.
                (_, Err(coded)) if error.kind() == ErrorKind::Http => coded,
                _ => error,
            }
        };
        Err(match self.request.0.refusable {
            Refusable::RefreshToken => refusal::at_refresh(error, response),
            Refusable::Password => refusal::at_password(error),
            // The server of a public document knows nothing of a grant.
            Refusable::Nothing if self.request.0.oldest.is_some() && error.advice() == Some(Advice::SignInAgain) => {
                error.with_advice(Advice::AskProvider)
            }
            Refusable::Nothing => error,
        })
    }

    fn end(&mut self, result: Result<T, Error>) -> Step<T> {
        Step::Done(result.or_else(|error| {
            let error = if self.request.0.repeat == Repeat::Freely { error.certain() } else { error };
            (self.rescue)(self.told(error))
        }))
    }

    /// An error beside which its answer brought something: as it may be told, without the secrets of the request.
    pub(crate) fn told(&self, error: Error) -> Error {
        let Inner { doing, endpoint, secrets, .. } = &*self.request.0;
        error.strike_out(secrets).during(doing, Some(endpoint.as_str()))
    }
}

impl<T> fmt::Debug for Exchange<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exchange").field("request", &self.request).finish_non_exhaustive()
    }
}
