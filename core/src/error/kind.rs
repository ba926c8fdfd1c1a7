//! The classes of errors, and what to do about them.

/// The classes of errors.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// A value that the caller gave cannot be used: an address, a parameter, a client file.
    Config,
    /// A machine was driven wrongly: a reply that does not fit, or a call after the end.
    Misuse,
    /// The driver refused an effect that the machine could not do without, or does not obey a rule of its request.
    Unsupported,
    /// There is no randomness.
    Entropy,
    /// The server could not be reached, or not securely, or the connection broke.
    Transport,
    /// The operation took longer than allowed.
    Timeout,
    /// The caller cancelled the operation.
    Cancelled,
    /// The server answered with an OAuth error: see [`Error::server`](super::Error::server).
    Server,
    /// The server answered with an HTTP status that is an error, without an OAuth error in it.
    Http,
    /// The server's answer breaks the standard, or is no answer of this kind at all.
    InvalidResponse,
    /// The authorization endpoint sent the user back with an error: see [`Error::server`](super::Error::server).
    Authorization,
    /// The redirect is not the answer to this authorization request:
    /// wrong or missing `state`, wrong `iss`, repeated or missing parameters.
    InvalidRedirect,
    /// The answer to an authorization request came too late, or a device's code has ended.
    Expired,
    /// The server is not the one that was meant: its metadata names another issuer, or another protected resource.
    Issuer,
    /// The ID token is missing, malformed, or not meant for this client and this request.
    IdToken,
    /// A logout token, or a server's request to sign a user out, is malformed, was used before, or is not meant for this
    /// client.
    LogoutToken,
    /// An access token that was presented to a resource server is malformed, has ended, or is not meant for it.
    AccessToken,
    /// A signed token is malformed, its signature is wrong or by an algorithm that is not allowed, or there is no key to
    /// check it with.
    Signature,
    /// A refresh token may have been replaced in an answer that never arrived, and another try did not help.
    GrantLost,
    /// The signature of a request could not be made: see the source for the signer's own error. Nothing was sent.
    Signing,
    /// A token cannot be used in this way, such as in a header for bearer tokens.
    TokenType,
    /// A store of grants cannot be read or written, or holds damaged records.
    Store,
    /// No person has signed in yet.
    NotSignedIn,
    /// A file is missing or cannot be read.
    File,
    /// A program could not be run, failed, or printed no token.
    Program,
    /// No connection from a browser could be received: see the source.
    Loopback,
}

impl ErrorKind {
    /// What to do about such an error, unless more is known of it.
    pub(super) fn advice(self) -> Option<Advice> {
        match self {
            Self::Config
            | Self::Issuer
            | Self::File
            | Self::Store
            | Self::Loopback
            | Self::TokenType
            | Self::Entropy
            | Self::Program => Some(Advice::FixConfiguration),
            Self::Misuse | Self::Unsupported => Some(Advice::FixProgram),
            Self::Signature | Self::AccessToken | Self::LogoutToken => Some(Advice::RefuseToken),
            Self::Timeout => Some(Advice::TryLater),
            Self::InvalidResponse | Self::IdToken => Some(Advice::AskProvider),
            Self::InvalidRedirect | Self::Expired | Self::GrantLost | Self::NotSignedIn => Some(Advice::SignInAgain),
            _ => None,
        }
    }
}

/// What to do about an error.
///
/// ```
/// use grantflow::{Advice, Error};
///
/// fn is_worth_asking_the_person(error: &Error) -> bool {
///     error.advice() == Some(Advice::SignInAgain)
/// }
/// # let _ = is_worth_asking_the_person;
/// ```
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Advice {
    /// The same operation may succeed later.
    TryLater,
    /// The grant is gone or was never given: a person must sign in again.
    SignInAgain,
    /// Something that was configured, here or at the server, is wrong.
    FixConfiguration,
    /// The clock of this machine is off.
    SetClock,
    /// The server breaks the standard; its operator, or a named deviation, may help.
    AskProvider,
    /// The program calls the library, or drives a machine, wrongly.
    FixProgram,
    /// A token that was presented or received is not to be trusted.
    RefuseToken,
}

impl Advice {
    pub(super) fn sentence(self) -> &'static str {
        match self {
            Self::TryLater => "try again later",
            Self::SignInAgain => "sign in again",
            Self::FixConfiguration => "fix the configuration",
            Self::SetClock => "set this machine's clock",
            Self::AskProvider => "the server breaks the standard: ask its operator",
            Self::FixProgram => "fix the program",
            Self::RefuseToken => "refuse the token",
        }
    }
}
