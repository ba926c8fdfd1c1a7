//! The authorization code flow (RFC 6749, section 4.1; RFC 7636; OpenID Connect Core 1.0, section 3.1): a URL to send
//! the user to, what to remember until the user is back, and the token for the code that the redirect brings.
//!
//! ```text
//! AuthorizationRequest ─start─▶ StartAuthorization ─▶ Authorization { url, pending }
//!                                                                       │      ▲ the user signs in, and
//!                    PendingAuthorization ◀─────────────────────────────┘      │ a redirect comes back
//!                             │ finish(redirect) ◀─────────────────────────────┘
//!                             ▼
//!                    FinishAuthorization ─▶ Token
//! ```
//!
//! [`StartAuthorization`] and [`FinishAuthorization`] are machines. A receiver to whose address strangers may send
//! requests takes two steps instead of `finish`: [`receive`](PendingAuthorization::receive) until one of them is the
//! answer, then [`finish_with`](PendingAuthorization::finish_with).

mod answer;
mod cookie;
mod finish;
mod openid;
mod pending;
mod pushed;
mod redirect_uri;
mod request;
mod request_uri;
mod signed;
mod start;
mod third_party;
mod way;

use std::fmt;

pub use answer::Answer;
pub(crate) use answer::not_the_answer;
pub use cookie::PendingCookie;
pub use finish::FinishAuthorization;
pub use pending::PendingAuthorization;
pub(crate) use pending::Verdict;
pub(crate) use redirect_uri::check_redirect_uri;
pub use request::AuthorizationRequest;
pub use start::StartAuthorization;
pub use third_party::ThirdPartyLogin;

/// The format of a pending authorization that this release writes, and the newest that it reads.
const VERSION: u8 = 1;

/// The URL for the user's browser, and what must be kept until the user is back.
pub struct Authorization {
    /// The address to send the user to. It holds no secret, but tells who is asked for what: it does not belong in
    /// logs.
    pub url: String,
    /// What the answer is checked against.
    pub pending: PendingAuthorization,
}

/// Shows the URL without its query.
impl fmt::Debug for Authorization {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authorization")
            .field("url", &crate::shown::without_query(&self.url))
            .field("pending", &self.pending)
            .finish()
    }
}
