//! What mints tokens again and again: [`TokenSource`], what to ask of it ([`Want`]), and what changes as it
//! is used ([`GrantState`]).

mod credential;
mod grant;
mod want;

use std::fmt;

use crate::machine::Machine;
use crate::store::Remembered;
use crate::{Cx, Error, Reply, Rotation, Scopes, Secret, ServerMetadata, Step, Timestamp, Token};

pub use credential::{Credential, Server};
pub(crate) use grant::is_final;
pub use grant::{Grant, Outcome, Turn};
pub use want::{Want, WantKind};

/// A machine that mints one token.
pub type Mint = Box<dyn Machine<Output = Minted> + Send>;

/// Whatever can mint a token, again and again: a refresh token, a client's own credentials, a service
/// account. It never changes itself; what changes is its [`GrantState`].
///
/// A source for tokens of one's own making is short:
///
/// ```
/// use grantflow::source::{GrantState, Mint, Minted, TokenSource, Want};
/// use grantflow::{Cx, Machine, Reply, Step, Token};
///
/// struct FromVault;
///
/// impl TokenSource for FromVault {
///     fn mint(&self, _want: &Want, _state: &GrantState) -> Mint {
///         Box::new(Ask)
///     }
/// }
///
/// struct Ask;
///
/// impl Machine for Ask {
///     type Output = Minted;
///     fn resume(&mut self, cx: &mut Cx, _: Reply) -> Step<Minted> {
///         // A real one would ask for an effect first.
///         Step::Done(Token::bearer("vault-token", cx.now().wall, None).map(Minted::from))
///     }
/// }
/// ```
pub trait TokenSource: Send + Sync {
    /// A machine that mints a token for `want`, beginning from `state`.
    fn mint(&self, want: &Want, state: &GrantState) -> Mint;

    /// The state to begin with.
    fn first_state(&self) -> GrantState {
        GrantState::default()
    }

    /// Headers that requests with its tokens need besides, such as `x-goog-user-project`.
    fn request_headers(&self) -> http::HeaderMap {
        http::HeaderMap::new()
    }

    /// Whether a mint that begins from `state` may change it. Such mints run one after another, whatever
    /// their wants; others run side by side.
    fn may_change(&self, _state: &GrantState) -> bool {
        false
    }
}

/// What a mint yields.
#[derive(Debug)]
pub struct Minted {
    /// The token.
    pub token: Token,
    /// The new state of the grant, if it changed.
    pub state: Option<GrantState>,
}

impl From<Token> for Minted {
    fn from(token: Token) -> Self {
        Self { token, state: None }
    }
}

/// What changes as a credential is used, and belongs to it as a whole and not to one want.
#[derive(Clone, Default)]
pub struct GrantState {
    /// The refresh token to use next.
    pub(crate) refresh_token: Option<Secret>,
    /// What was granted with it.
    pub(crate) scopes: Scopes,
    pub(crate) rotation: Rotation,
    /// The server's metadata, and when it was read.
    pub(crate) metadata: Option<(ServerMetadata, Timestamp)>,
    /// A refresh that nobody knows the outcome of.
    pub(crate) uncertain: Option<Uncertain>,
    /// Of a grant in a store.
    pub(crate) remembered: Remembered,
}

/// A use of a refresh token after which nobody knows whether it is still good.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Uncertain {
    pub(crate) since: Timestamp,
    pub(crate) attempts: u32,
}

impl GrantState {
    /// The refresh token to use next, if there is one. Whoever keeps it must keep the newest.
    pub fn refresh_token(&self) -> Option<&Secret> {
        self.refresh_token.as_ref()
    }

    /// What was granted.
    pub fn scopes(&self) -> &Scopes {
        &self.scopes
    }

    /// What is known of the server's habit with refresh tokens.
    pub fn rotation(&self) -> Rotation {
        self.rotation
    }

    /// Why what was got last could not be saved in the store, if so. It is in use, and it is tried again to
    /// save it.
    pub fn save_error(&self) -> Option<&Error> {
        self.remembered.error()
    }
}

impl fmt::Debug for GrantState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GrantState")
            .field("refresh_token", &self.refresh_token)
            .field("scopes", &self.scopes)
            .field("rotation", &self.rotation)
            .field("uncertain", &self.uncertain)
            .finish_non_exhaustive()
    }
}

/// A mint of a source that is not made as it should be.
pub(crate) struct Refusal(pub(crate) Error);

impl Machine for Refusal {
    type Output = Minted;
    fn resume(&mut self, _: &mut Cx, _: Reply) -> Step<Minted> {
        Step::Done(Err(self.0.clone()))
    }
}

/// An error of a want that a source cannot fulfil.
pub(crate) fn cannot(what: &str) -> Error {
    Error::config(format!("this credential {what}"))
}
