//! The logout token (OpenID Connect Back-Channel Logout 1.0, section 2.4): a server's word that a session, or all sessions
//! of a user, have ended.

use std::fmt;
use std::time::Duration;

use serde_json::Value;

use super::IdToken;
use super::claims::Claims;
use super::id_token_rules::{LOGOUT_EVENT, check_times};
use super::jwk::JwkSet;
use super::keys::{KeySet, KeySource};
use super::verifier::sealed::{Kind, Presented};
use super::verifier::{Keys, Verifier};
use crate::client::SignedBy;
use crate::crypto::MacKey;
use crate::{Client, Error, ErrorKind, ServerMetadata, Timestamp};

/// How old a logout token may be: servers send it when a session ends.
const MAX_AGE: Duration = Duration::from_secs(600);

/// A logout token that has been verified: the user of [`subject`](Self::subject) has signed out of the session
/// [`session`](Self::session), or, if it names none, of all sessions. `Debug` shows the names of its claims.
#[derive(Clone)]
pub struct LogoutToken {
    claims: Claims,
}

impl LogoutToken {
    /// The claims.
    pub fn claims(&self) -> &Claims {
        &self.claims
    }

    /// `iss`: the server that issued the token.
    pub fn issuer(&self) -> &str {
        self.claims.str("iss").unwrap_or_default()
    }

    /// `sub`: the user. A token has this, or [`session`](Self::session), or both.
    pub fn subject(&self) -> Option<&str> {
        self.claims.str("sub")
    }

    /// `sid`: the session at the server that has ended.
    pub fn session(&self) -> Option<&str> {
        self.claims.str("sid")
    }

    /// `jti`: the name of this token, which is unique at the server. A token that was seen before is a replay: see
    /// [`LogoutReplays`](crate::LogoutReplays).
    pub fn id(&self) -> &str {
        self.claims.str("jti").unwrap_or_default()
    }

    /// The moment from which on the token is refused: its [`id`](Self::id) must be remembered until then.
    pub fn usable_until(&self, leeway: Duration) -> Timestamp {
        let issued = self.claims.time("iat").unwrap_or_default() + MAX_AGE;
        issued.min(self.claims.time("exp").unwrap_or_default()) + leeway
    }

    /// Whether the token ends the sign-in of this ID token: at the same server, in the same session, or, if the token
    /// names no session, of the same user.
    pub fn ends(&self, id_token: &IdToken) -> bool {
        let same_user = self.subject().is_none_or(|sub| sub == id_token.subject());
        let same_session = self.session().is_none_or(|sid| Some(sid) == id_token.session());
        self.issuer() == id_token.issuer() && same_user && same_session
    }
}

impl fmt::Debug for LogoutToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogoutToken").field("claims", &self.claims).finish_non_exhaustive()
    }
}

/// The rules for a logout token: see [`Verifier`].
#[derive(Clone, Debug)]
pub struct LogoutTokenRules {
    issuer: Box<str>,
    client_id: Box<str>,
}

impl Verifier<LogoutToken> {
    /// Verifies logout tokens of this server for this client, by the server's keys; or by the client's secret, if the
    /// client is [registered so](Client::id_token_signed_by_secret): they are signed as ID tokens are.
    ///
    /// # Errors
    ///
    /// If the server's metadata has no `jwks_uri`, or the client's secret is too short for its algorithm.
    pub fn logout_tokens_of(server: &ServerMetadata, client: &Client) -> Result<Self, Error> {
        let rules = LogoutTokenRules { issuer: server.issuer().as_str().into(), client_id: client.id().into() };
        match client.id_tokens().signed {
            Some(SignedBy::Secret(algorithm)) => {
                let none =
                    || Error::config("logout tokens by the client's secret need a client that authenticates by one");
                let secret = client.secret().ok_or_else(none)?;
                let key = MacKey::new(algorithm, secret.expose().as_bytes())?;
                let mut verifier = Self::new(rules, KeySource::Here(KeySet::fixed(JwkSet::default())));
                verifier.keys = Keys::Secret(std::sync::Arc::new(key));
                Ok(verifier)
            }
            Some(SignedBy::Key(algorithm)) => Ok(Self::of_server(rules, server)?.algorithms([algorithm])),
            Some(SignedBy::Keys(algorithms)) => {
                Ok(Self::of_server(rules, server)?.algorithms(algorithms.iter().copied()))
            }
            None => Self::of_server(rules, server),
        }
    }
}

/// Back-Channel Logout 1.0, section 2.6.
impl Kind for LogoutToken {
    type Rules = LogoutTokenRules;

    fn check(rules: &LogoutTokenRules, token: &Presented<'_>) -> Result<(), Error> {
        let claims = token.claims;
        // Section 2.4 recommends `logout+jwt`; a token of any other kind is none.
        if token.jws.typ().is_some_and(|typ| !["logout+jwt", "JWT"].iter().any(|it| typ.eq_ignore_ascii_case(it))) {
            return Err(wrong("the token says that it is of another kind than a logout token (typ)"));
        }
        if claims.str("iss") != Some(&*rules.issuer) {
            return Err(wrong("the logout token is another issuer's (iss)"));
        }
        if !claims.list("aud").is_some_and(|aud| aud.contains(&&*rules.client_id)) {
            return Err(wrong("the logout token is for another client (aud)"));
        }
        check_times(token, "logout token", wrong)?;
        if claims.time("iat").is_none_or(|iat| token.now.since(iat) > MAX_AGE.saturating_add(token.leeway)) {
            return Err(wrong("the logout token is too old (iat)"));
        }
        let is_text = |name| claims.str(name).is_some_and(|text| !text.is_empty() && text.len() <= 255);
        if ["sub", "sid"].into_iter().any(|name| claims.has(name) && !is_text(name)) {
            return Err(wrong("the logout token has a sub or a sid that is no text of at most 255 characters"));
        }
        if !claims.has("sub") && !claims.has("sid") {
            return Err(wrong("the logout token names neither a user nor a session (sub, sid)"));
        }
        if !claims.get("events").and_then(|events| events.get(LOGOUT_EVENT)).is_some_and(Value::is_object) {
            return Err(wrong("the logout token is about no logout (events)"));
        }
        // Lest an ID token be taken for one.
        if claims.has("nonce") {
            return Err(wrong("the logout token has a nonce, as ID tokens have"));
        }
        if !is_text("jti") {
            return Err(wrong("the logout token has no jti"));
        }
        Ok(())
    }

    fn verified(_: &LogoutTokenRules, _: &str, claims: Claims) -> Self {
        Self { claims }
    }
}

fn wrong(why: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::LogoutToken, why)
}
