//! Sources of tokens: [`TokenSource`] mints them, [`Want`] says which token, and [`GrantState`] is what changes as a
//! source is used.

mod again;
mod asserted;
mod chain;
mod change;
mod credential;
mod exchanged;
mod grant;
mod link;
mod platform;
mod program;
mod standing;
mod state;
mod want;

use crate::machine::Machine;
use crate::{Cx, Error, Reply, Step, Token};

pub use again::Again;
pub use asserted::AssertedToken;
pub use chain::Base;
pub use change::{Change, Minting, Waiting};
pub use credential::{Credential, Server};
pub use exchanged::ExchangedToken;
pub use grant::{Grant, Outcome, Turn};
pub use platform::PlatformToken;
pub use program::ProgramToken;
pub(crate) use program::{Report, without_tokens};
pub(crate) use standing::{GRACE, LATE, is_hopeless, learned, lost, may_be_valid, pause, waits};
pub use standing::{GrantStatus, Held};
pub use state::GrantState;
pub use want::{Want, WantKind};

/// A machine that mints one token.
pub type Mint = Box<dyn Minting + Send>;

/// Whatever can mint a token, again and again: a refresh token, a client's own credentials, a service
/// account. It never changes itself; what changes is its [`GrantState`].
///
/// A source of one's own makes its requests by [`Request`](crate::exchange::Request), such as one for the identity
/// tokens of a HashiCorp Vault:
///
/// ```
/// use std::time::Duration;
///
/// use grantflow::exchange::{Received, Request};
/// use grantflow::source::{GrantState, Mint, TokenSource, Want};
/// use grantflow::{Endpoint, Error, ErrorKind, Secret, Token};
/// use serde_json::Value;
///
/// struct Vault {
///     role: Endpoint,
///     token: Secret,
/// }
///
/// impl TokenSource for Vault {
///     fn mint(&self, _want: &Want, _state: &GrantState) -> Mint {
///         // Struck from whatever Vault says, and repeated while it is busy.
///         let request = Request::get("asking Vault for a token", &self.role).secret_header("x-vault-token", &self.token);
///         Box::new(request.exchange(read))
///     }
/// }
///
/// fn read(received: Received<'_>) -> Result<Token, Error> {
///     let wrong = || Error::new(ErrorKind::InvalidResponse, "Vault answers without a token and its ttl");
///     let answer: Value = serde_json::from_slice(received.response.body()).map_err(|_| wrong())?;
///     let (token, ttl) = (answer["data"]["token"].as_str(), answer["data"]["ttl"].as_u64());
///     let (Some(token), Some(ttl)) = (token, ttl) else { return Err(wrong()) };
///     Token::bearer(token, received.sent, Some(received.sent + Duration::from_secs(ttl)))
/// }
///
/// let vault = Vault {
///     role: Endpoint::new("https://vault.example/v1/identity/oidc/token/reader")?,
///     token: Secret::from("hvs.demo"),
/// };
/// # use grantflow::{Cx, Effect, Machine, Reply, Step};
/// # let cx = || Cx::without_entropy(Default::default());
/// # let mut mint = vault.mint(&Want::default(), &vault.first_state());
/// # let Step::Do(Effect::Http(call)) = mint.resume(&mut cx(), Reply::Start) else { panic!("no request") };
/// # let sent = call.open(grantflow::machine::Rules::V1).expect("plain").request.headers()["x-vault-token"].clone();
/// # assert_eq!(sent, "hvs.demo");
/// # let answer = http::Response::new(br#"{"data": {"token": "t", "ttl": 3600}}"#.to_vec());
/// # let Step::Done(Ok(token)) = mint.resume(&mut cx(), Reply::Http(answer)) else { panic!("no token") };
/// # assert_eq!(token.expires_at(), Some(grantflow::Timestamp::from_unix(3600)));
/// # Ok::<(), Error>(())
/// ```
///
/// A source whose own secret is replaced when it is used keeps the newest one in the state. It begins with it
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
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no source of tokens",
    note = "a client or a refresh token becomes one by `Credential`, a grant in a store by `SharedGrant`, a file of Google's by `GoogleCredential`"
)]
pub trait TokenSource: Send + Sync {
    /// A machine that mints a token for `want`, beginning from `state`.
    fn mint(&self, want: &Want, state: &GrantState) -> Mint;

    /// The state that the first mint begins from.
    fn first_state(&self) -> GrantState {
        GrantState::default()
    }

    /// A token that the source has before its first mint, as of a user who has just signed in. A holder begins with it,
    /// and mints when it comes due. See [`Grant::take_first`].
    fn first_token(&self) -> Option<Token> {
        None
    }

    /// When to try again after a mint of this source has failed. Only the source knows which failures are final.
    fn again(&self, _error: &Error) -> Again {
        Again::Usual
    }

    /// Further headers for requests with its tokens, such as `x-goog-user-project`.
    fn request_headers(&self) -> http::HeaderMap {
        http::HeaderMap::new()
    }

    /// Whether a mint that begins from `state` may change it. Such mints run one after another, for all wants; others
    /// run side by side.
    fn may_change(&self, _state: &GrantState) -> bool {
        false
    }
}

/// A source that is shared is one.
impl TokenSource for std::sync::Arc<dyn TokenSource> {
    fn mint(&self, want: &Want, state: &GrantState) -> Mint {
        (**self).mint(want, state)
    }
    fn first_state(&self) -> GrantState {
        (**self).first_state()
    }
    fn first_token(&self) -> Option<Token> {
        (**self).first_token()
    }
    fn again(&self, error: &Error) -> Again {
        (**self).again(error)
    }
    fn request_headers(&self) -> http::HeaderMap {
        (**self).request_headers()
    }
    fn may_change(&self, state: &GrantState) -> bool {
        (**self).may_change(state)
    }
}

/// A mint of a source that is not made as it should be.
pub(crate) struct Refusal(pub(crate) Error);

impl Machine for Refusal {
    type Output = Token;
    fn resume(&mut self, _: &mut Cx, _: Reply) -> Step<Token> {
        Step::Done(Err(std::mem::replace(&mut self.0, Error::misuse("a mint"))))
    }
}

impl Minting for Refusal {}

/// An error of a want that a source cannot fulfil.
pub(crate) fn cannot(what: &str) -> Error {
    Error::config(format!("this credential {what}"))
}
