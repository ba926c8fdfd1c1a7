//! The failure of an effect: its reason, and whether the effect may have happened all the same.

use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;

/// The failure of an effect that the driver tried.
///
/// The driver says whether the request may have reached the server. "Not sent" is a promise: it allows a request that
/// must not arrive twice to be sent again.
#[derive(Clone, Debug)]
pub struct Failure {
    kind: FailureKind,
    maybe_sent: bool,
    source: Arc<dyn StdError + Send + Sync>,
}

/// The reason of a failure.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureKind {
    /// No connection: the name was not found, or no server listens there.
    Connect,
    /// No secure connection: the peer could not prove its identity, or TLS failed.
    Tls,
    /// The connection broke.
    Broken,
    /// The effect took longer than allowed.
    Timeout,
    /// The body or file is larger than allowed.
    TooLarge,
    /// The call's own rules forbid it, such as cleartext to a public address.
    Forbidden,
    /// The call has a rule that the driver does not obey.
    Unsupported,
    /// A file cannot be read.
    File,
    /// A store cannot be read or written, or refuses for safety.
    Store,
    /// A program cannot be run.
    Program,
    /// Anything else.
    Other,
}

impl Failure {
    /// A failure before the first byte of the request was written. Use it only where that is certain.
    pub fn not_sent(kind: FailureKind, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self { kind, maybe_sent: false, source: source.into().into() }
    }

    /// A failure after which it is unknown whether the server got the request.
    pub fn maybe_sent(kind: FailureKind, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self { kind, maybe_sent: true, source: source.into().into() }
    }

    /// The reason of the failure.
    pub fn kind(&self) -> FailureKind {
        self.kind
    }

    /// Whether the request may have reached the server.
    pub fn may_have_been_sent(&self) -> bool {
        self.maybe_sent
    }

    /// Whether the same effect may well succeed later.
    pub(crate) fn is_transient(&self) -> bool {
        matches!(self.kind, FailureKind::Connect | FailureKind::Broken | FailureKind::Timeout)
    }

    pub(crate) fn source(&self) -> Arc<dyn StdError + Send + Sync> {
        self.source.clone()
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.what(), crate::shown::swept(&self.source.to_string()))
    }
}

impl Failure {
    /// The kind in words.
    pub(crate) fn what(&self) -> &'static str {
        match self.kind {
            FailureKind::Connect => "no connection",
            FailureKind::Tls => "no secure connection",
            FailureKind::Broken => "the connection broke",
            FailureKind::Timeout => "it took too long",
            FailureKind::TooLarge => "the content is larger than allowed",
            FailureKind::Forbidden => "the request's own rules forbid it",
            FailureKind::Unsupported => "it is not supported",
            FailureKind::File => "the file cannot be read",
            FailureKind::Store => "the store failed",
            FailureKind::Program => "the program cannot be run",
            FailureKind::Other => "it failed",
        }
    }
}

impl StdError for Failure {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        // What it holds is shown with it.
        self.source.source()
    }
}
