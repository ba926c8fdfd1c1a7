//! The one error type: the operation, its object, the reason and the remedy.

mod display;
mod kind;
mod server;
mod strike;

use std::borrow::Cow;
use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

pub use kind::{Advice, ErrorKind};
pub use server::{Interaction, ServerError};
use strike::clean;
pub(crate) use strike::struck_out;

use crate::failure::{Failure, FailureKind};
use crate::shown::without_query;

/// The error of every operation of this crate. Cheap to clone: one failure reaches all callers that wait for it.
///
/// It holds no secret, and prints none. [`kind`](Self::kind) is for programs, [`advice`](Self::advice) and `Display`
/// are for people.
#[derive(Clone)]
pub struct Error(Arc<Inner>);

#[derive(Clone)]
struct Inner {
    kind: ErrorKind,
    message: Cow<'static, str>,
    doing: Option<&'static str>,
    endpoint: Option<String>,
    status: Option<u16>,
    server: Option<ServerError>,
    retry_after: Option<Duration>,
    transient: bool,
    outcome: Use,
    advice: Option<Advice>,
    /// The outcome of another try at the same.
    besides: Option<Box<str>>,
    source: Option<Arc<dyn StdError + Send + Sync>>,
}

/// What an error says of the refresh token, or code, that was used when it came about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Use {
    /// Nothing, or that it was not used.
    #[default]
    Nothing,
    /// It may be used up.
    Unclear,
    /// It was surely used, and its answer cannot be read.
    Used,
    /// The server refuses it.
    Refused,
    /// The server refuses its use, in words that nobody knows.
    RefusedSomehow,
    /// The server refuses it while it may take the last access token for valid.
    RefusedEarly,
}

impl Error {
    /// An error of this kind. The message must hold no secret.
    pub fn new(kind: ErrorKind, message: impl Into<Cow<'static, str>>) -> Self {
        let transient = matches!(kind, ErrorKind::Timeout);
        let advice = kind.advice();
        Self(Arc::new(Inner {
            kind,
            message: clean(message.into()),
            doing: None,
            endpoint: None,
            status: None,
            server: None,
            retry_after: None,
            transient,
            outcome: Use::default(),
            advice,
            besides: None,
            source: None,
        }))
    }

    /// The class of the error.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The OAuth error that the server answered with, if it did.
    pub fn server(&self) -> Option<&ServerError> {
        self.0.server.as_ref()
    }

    /// The HTTP status of the answer, if there was one.
    pub fn status(&self) -> Option<u16> {
        self.0.status
    }

    /// How long to wait before the next try: as the server asked (`Retry-After`, RFC 9110, section 10.2.3), or as the
    /// grant demands.
    pub fn retry_after(&self) -> Option<Duration> {
        self.0.retry_after
    }

    /// Whether the same operation may succeed later without any change.
    pub fn is_transient(&self) -> bool {
        self.0.transient
    }

    /// Whether a request that must not reach the server twice may have been carried out in spite of this error: its
    /// refresh token or code may be used up.
    pub fn is_uncertain(&self) -> bool {
        matches!(self.0.outcome, Use::Unclear | Use::Used)
    }

    /// Whether the grant has ended, so that a person must sign in anew: the server has refused the refresh token in the
    /// answer to its use, or has surely used it up in an answer that can no longer be read. No other error says so,
    /// whatever its words; the [advice](Self::advice) to sign in again may come with other errors too.
    pub fn ends_grant(&self) -> bool {
        self.0.outcome == Use::Refused || self.0.kind == ErrorKind::GrantLost
    }

    /// Whether it is the server's refusal of the refresh token.
    pub(crate) fn is_refusal(&self) -> bool {
        self.0.outcome == Use::Refused
    }

    /// Whether the refresh token was surely used, and its answer cannot be read.
    pub(crate) fn is_surely_used(&self) -> bool {
        self.0.outcome == Use::Used
    }

    /// What to do about the error. There is no advice if the caller cancelled, nor for a server's error code that no
    /// standard explains.
    pub fn advice(&self) -> Option<Advice> {
        self.0.advice
    }

    /// What is wrong, without what was being done and what to do about it.
    pub(crate) fn message(&self) -> &str {
        &self.0.message
    }

    pub(crate) fn config(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorKind::Config, message)
    }

    /// The same, seen as an error of another class.
    pub(crate) fn of_kind(mut self, kind: ErrorKind) -> Self {
        let told = self.advice().filter(|advice| self.kind().advice() != Some(*advice));
        let advice = told.or(kind.advice());
        let inner = self.edit();
        (inner.kind, inner.advice) = (kind, advice);
        self
    }

    pub(crate) fn misuse(machine: &'static str) -> Self {
        Self::new(ErrorKind::Misuse, format!("{machine} got a reply that does not fit, or was resumed after its end"))
    }

    /// The error of a signer. What another server said to it is no word about this request, its refresh token or
    /// its user.
    pub(crate) fn signing(error: Self) -> Self {
        let advice = error.advice().map(|advice| match advice {
            Advice::SignInAgain => Advice::FixConfiguration,
            advice => advice,
        });
        let mut signing =
            Self::new(ErrorKind::Signing, "the request could not be signed").with_retry_after(error.retry_after());
        let inner = signing.edit();
        (inner.transient, inner.advice) = (error.is_transient(), advice.or(Some(Advice::FixConfiguration)));
        signing.with_source(error)
    }

    pub(crate) fn refused(effect: &'static str) -> Self {
        // The driver may be able to, and have no store.
        let hint = match effect {
            "Store" => "; is it bound to a store?",
            "Exec" => "; were programs allowed, by allow_programs()?",
            _ => "",
        };
        let message = format!("the driver does not carry out the effect {effect}, which this needs{hint}");
        Self::new(ErrorKind::Unsupported, message)
    }

    /// The error of an OAuth error answer, with the advice that its code allows.
    #[cold]
    pub(crate) fn from_server(kind: ErrorKind, server: ServerError) -> Self {
        let mut error = Self::new(kind, "the server answered with an error");
        let inner = error.edit();
        inner.transient = server.is_transient();
        inner.advice = server.advice();
        inner.server = Some(server);
        error
    }

    /// Of the answer to a refresh: it refuses the refresh token, which ends what was granted.
    pub(crate) fn refuses_grant(mut self, how: &str) -> Self {
        let inner = self.edit();
        if inner.server.is_none() {
            inner.message = format!("the server refuses the refresh token {how}").into();
        }
        inner.transient = false;
        inner.advice = Some(Advice::SignInAgain);
        inner.outcome = Use::Refused;
        self
    }

    /// Of the answer to a refresh: nobody knows why it refuses.
    pub(crate) fn refuses_unknown(mut self) -> Self {
        self.edit().outcome = Use::RefusedSomehow;
        self
    }

    /// Whether it is of an answer to a refresh that refuses, and nobody knows why.
    pub(crate) fn is_unknown_refusal(&self) -> bool {
        self.0.outcome == Use::RefusedSomehow
            || (self.0.kind == ErrorKind::Server && self.0.advice.is_none() && !self.0.transient)
    }

    /// Its source says that what it consists of was refused, and that no further try can help.
    pub(crate) fn never_again(mut self) -> Self {
        let inner = self.edit();
        inner.transient = false;
        inner.advice.get_or_insert(Advice::SignInAgain);
        inner.outcome = Use::Refused;
        self
    }

    /// The refusal does not count: the server refuses refreshes as long as the access token is good, it seems.
    pub(crate) fn refused_early(mut self, wait: Duration) -> Self {
        let inner = self.edit();
        inner.outcome = Use::RefusedEarly;
        inner.advice = Some(Advice::TryLater);
        inner.transient = true;
        inner.retry_after = Some(wait);
        self
    }

    /// Whether it is a refusal that came while the server may have taken the last access token for valid.
    pub(crate) fn is_early_refusal(&self) -> bool {
        self.0.outcome == Use::RefusedEarly
    }

    /// This error told once more, when nothing was asked of the server.
    pub(crate) fn told_again(mut self, wait: Duration) -> Self {
        let inner = self.edit();
        if inner.outcome != Use::Refused {
            inner.outcome = Use::Nothing;
            inner.retry_after = Some(wait);
        }
        self
    }

    /// The grant has ended, but another may be there after a while.
    pub(crate) fn look_again(mut self, wait: Duration) -> Self {
        self.edit().retry_after = Some(wait);
        self
    }

    fn edit(&mut self) -> &mut Inner {
        Arc::make_mut(&mut self.0)
    }

    /// Adds the cause of the error, which must hold no secret either: `Display` shows it too. Meant for adapters.
    pub fn with_source(mut self, source: impl StdError + Send + Sync + 'static) -> Self {
        self.edit().source = Some(Arc::new(source));
        self
    }

    pub(crate) fn with_advice(mut self, advice: Advice) -> Self {
        self.edit().advice = Some(advice);
        self
    }

    /// The same where there is no person to sign in: what asks for one is the configuration's to mend.
    pub(crate) fn of_no_person(self) -> Self {
        match self.advice() {
            Some(Advice::SignInAgain) => self.with_advice(Advice::FixConfiguration),
            _ => self,
        }
    }

    pub(crate) fn with_status(mut self, status: u16) -> Self {
        self.edit().status = Some(status);
        self
    }

    pub(crate) fn with_retry_after(mut self, time: Option<Duration>) -> Self {
        self.edit().retry_after = time;
        self
    }

    pub(crate) fn uncertain(mut self) -> Self {
        if self.0.outcome != Use::Used {
            self.edit().outcome = Use::Unclear;
        }
        self
    }

    pub(crate) fn surely_used(mut self) -> Self {
        self.edit().outcome = Use::Used;
        self
    }

    /// For requests that may be sent any number of times.
    pub(crate) fn certain(mut self) -> Self {
        if self.is_uncertain() {
            self.edit().outcome = Use::Nothing;
        }
        self
    }

    pub(crate) fn transient(mut self) -> Self {
        let inner = self.edit();
        inner.transient = true;
        inner.advice = Some(Advice::TryLater);
        self
    }

    /// Tells of another try at the same, which failed too: of one that says the same, where it was alone.
    pub(crate) fn beside(mut self, other: &Self) -> Self {
        let same = self.0.message == other.0.message && self.0.status == other.0.status && other.0.server.is_none();
        let told = match other.0.endpoint.as_ref().filter(|_| same) {
            Some(endpoint) => format!("{endpoint}, with the same result"),
            None => other.plain().to_string(),
        };
        self.edit().besides = Some(told.into());
        self
    }

    /// Says that the same cannot be tried again, though it failed for a while only: what it needs is used up, and a
    /// person must sign in anew.
    pub(crate) fn used_up(mut self, what: &str) -> Self {
        let inner = self.edit();
        inner.transient = false;
        inner.advice = Some(Advice::SignInAgain);
        inner.message = format!("{}; {what}", inner.message).into();
        self
    }

    /// Adds where the error happened: in which file, with which credential, or at which other place. The text must hold
    /// no secret.
    pub fn within(mut self, place: impl fmt::Display) -> Self {
        let inner = self.edit();
        inner.message = clean(format!("{place}: {}", inner.message).into());
        self
    }

    /// Strikes secrets and JWTs out of the server's words, should it have sent ours back, and only then cuts
    /// the words to a length that can be shown.
    pub(crate) fn strike_out(mut self, secrets: &[crate::Secret]) -> Self {
        let strike = |text: &mut String| *text = struck_out(text, secrets);
        if self.0.server.is_some()
            && let Some(server) = &mut self.edit().server
        {
            strike(&mut server.error);
            for text in [&mut server.error_description, &mut server.error_uri, &mut server.error_subtype] {
                text.iter_mut().for_each(strike);
            }
        }
        self
    }

    /// Says what was being done and to which endpoint, unless something nearer has said so.
    pub(crate) fn during(mut self, doing: &'static str, endpoint: Option<&str>) -> Self {
        let inner = self.edit();
        inner.doing.get_or_insert(doing);
        if inner.endpoint.is_none() {
            inner.endpoint = endpoint.map(without_query);
        }
        self
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        let kind = match failure.kind() {
            FailureKind::Timeout => ErrorKind::Timeout,
            FailureKind::TooLarge => ErrorKind::InvalidResponse,
            FailureKind::Forbidden => ErrorKind::Config,
            FailureKind::Unsupported => ErrorKind::Unsupported,
            FailureKind::File => ErrorKind::File,
            FailureKind::Store => ErrorKind::Store,
            FailureKind::Program => ErrorKind::Program,
            _ => ErrorKind::Transport,
        };
        let source = failure.source();
        // An error of our own brings its advice, which is said once.
        let message = match source.downcast_ref::<Self>() {
            Some(own) => format!("{}: {}", failure.what(), own.plain()),
            None => failure.to_string(),
        };
        let mut error = Self::new(kind, message);
        error.edit().source = Some(source);
        if failure.kind() == FailureKind::Tls {
            error = error.with_advice(Advice::FixConfiguration);
        }
        if failure.is_transient() { error.transient() } else { error }
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_deref().map(|source| source as _)
    }
}
