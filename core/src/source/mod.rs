//! What mints tokens again and again: [`TokenSource`], what to ask of it ([`Want`]), and what changes as it
//! is used ([`GrantState`]).

mod change;
mod credential;
mod grant;
mod state;
mod want;

use crate::machine::Machine;
use crate::{Cx, Error, Reply, Step, Token};

pub use change::{Change, Minting};
pub use credential::{Credential, Server};
pub(crate) use grant::is_final;
pub use grant::{Grant, Outcome, Turn};
pub use state::GrantState;
pub(crate) use state::Uncertain;
pub use want::{Want, WantKind};

/// A machine that mints one token.
pub type Mint = Box<dyn Minting + Send>;

/// Whatever can mint a token, again and again: a refresh token, a client's own credentials, a service
/// account. It never changes itself; what changes is its [`GrantState`].
///
/// A source for tokens of one's own making is short:
///
/// ```
/// use grantflow::source::{GrantState, Mint, Minting, TokenSource, Want};
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
///     type Output = Token;
///     fn resume(&mut self, cx: &mut Cx, _: Reply) -> Step<Token> {
///         // A real one would ask for an effect first.
///         Step::Done(Token::bearer("vault-token", cx.now().wall, None))
///     }
/// }
///
/// // Nothing changes as it is used.
/// impl Minting for Ask {}
/// ```
///
/// A source whose own secret is replaced when it is used keeps what came last in the state. It begins with it
/// ([`GrantState::new`]), takes it from there ([`GrantState::refresh_token`]), and tells the next by
/// [`Minting::take_change`]; such mints must wait for each other ([`may_change`](Self::may_change)):
///
/// ```
/// use grantflow::source::{Change, GrantState, Mint, Minting, TokenSource, Want};
/// use grantflow::{Cx, Machine, Reply, Secret, Step, Token};
///
/// struct Ticket(Secret);
///
/// impl TokenSource for Ticket {
///     fn mint(&self, _want: &Want, state: &GrantState) -> Mint {
///         let ticket = state.refresh_token().unwrap_or(&self.0).clone();
///         Box::new(Punch { ticket, change: Change::default() })
///     }
///     fn first_state(&self) -> GrantState {
///         GrantState::new(self.0.clone())
///     }
///     fn may_change(&self, _state: &GrantState) -> bool {
///         true
///     }
/// }
///
/// struct Punch {
///     ticket: Secret,
///     change: Change,
/// }
///
/// impl Machine for Punch {
///     type Output = Token;
///     fn resume(&mut self, cx: &mut Cx, _: Reply) -> Step<Token> {
///         // The answer has a token and the next ticket. The ticket comes first: it is kept whatever is
///         // wrong with the token.
///         self.change = Change::successor(&self.ticket, "ticket-2");
///         Step::Done(Token::bearer("token", cx.now().wall, None))
///     }
/// }
///
/// impl Minting for Punch {
///     fn take_change(&mut self) -> Change {
///         std::mem::take(&mut self.change)
///     }
/// }
///
/// let source = Ticket(Secret::from("ticket-1"));
/// let mut state = source.first_state();
/// let mut mint = source.mint(&Want::default(), &state);
/// let _token = mint.resume(&mut Cx::without_entropy(Default::default()), Reply::Start);
/// state.merge(mint.take_change());
/// assert!(state.refresh_token().is_some_and(|ticket| ticket.matches("ticket-2")));
/// ```
pub trait TokenSource: Send + Sync {
    /// A machine that mints a token for `want`, beginning from `state`.
    fn mint(&self, want: &Want, state: &GrantState) -> Mint;

    /// The state to begin with.
    fn first_state(&self) -> GrantState {
        GrantState::default()
    }

    /// The token that is there already, as of a user who has just signed in: a holder begins with it, and mints
    /// when it comes due. See [`Grant::take_first`].
    fn first_token(&self) -> Option<Token> {
        None
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

/// A mint of a source that is not made as it should be.
pub(crate) struct Refusal(pub(crate) Error);

impl Machine for Refusal {
    type Output = Token;
    fn resume(&mut self, _: &mut Cx, _: Reply) -> Step<Token> {
        Step::Done(Err(self.0.clone()))
    }
}

impl Minting for Refusal {}

/// An error of a want that a source cannot fulfil.
pub(crate) fn cannot(what: &str) -> Error {
    Error::config(format!("this credential {what}"))
}
