//! Access tokens at a resource server: JWTs (RFC 9068), and answers of introspection (RFC 7662).

use std::fmt;
use std::time::Duration;

use super::claims::Claims;
use super::id_token_rules::{check_times, is_logout};
use super::keys::KeySource;
use super::verifier::Verifier;
use super::verifier::sealed::{Kind, Presented};
use crate::server::Issuer;
use crate::{Error, ErrorKind, Scopes, ServerMetadata, Timestamp};

/// The content of an access token that was presented to a resource server and has been verified. It does not hold the
/// token itself. It is cheap to read; `Debug` shows the names of its claims.
#[derive(Clone)]
pub struct AccessToken {
    claims: Claims,
    scopes: Scopes,
}

impl AccessToken {
    pub(crate) fn of(claims: Claims) -> Self {
        let scopes = match claims.str("scope").or_else(|| claims.str("scp")) {
            Some(text) => Scopes::from(text),
            None => claims.list("scope").or_else(|| claims.list("scp")).unwrap_or_default().into_iter().collect(),
        };
        Self { claims, scopes }
    }

    /// The claims.
    pub fn claims(&self) -> &Claims {
        &self.claims
    }

    /// `scope`: the scopes of the token (RFC 8693, section 4.2).
    pub fn scopes(&self) -> &Scopes {
        &self.scopes
    }

    /// `sub`: the user; if no user takes part, the client itself (RFC 9068, section 2.2).
    pub fn subject(&self) -> Option<&str> {
        self.claims.str("sub")
    }

    /// `client_id`: the client that the token was issued to (RFC 8693, section 4.3).
    pub fn client_id(&self) -> Option<&str> {
        self.claims.str("client_id")
    }

    /// `iss`: the issuer of the token.
    pub fn issuer(&self) -> Option<&str> {
        self.claims.str("iss")
    }

    /// `exp`: when the token expires.
    pub fn expires_at(&self) -> Option<Timestamp> {
        self.claims.time("exp")
    }

    /// `acr`: how the user signed in (RFC 9470, section 6).
    pub fn acr(&self) -> Option<&str> {
        self.claims.str("acr")
    }

    /// `auth_time`: when the user signed in (RFC 9470, section 6).
    pub fn auth_time(&self) -> Option<Timestamp> {
        self.claims.time("auth_time")
    }
}

impl fmt::Debug for AccessToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AccessToken").field("claims", &self.claims).finish_non_exhaustive()
    }
}

/// The rules for an access token: see [`Verifier`].
#[derive(Clone, Debug)]
pub struct AccessTokenRules {
    issuer: Issuer,
    audiences: Vec<Box<str>>,
    profile: bool,
}

impl Verifier<AccessToken> {
    /// Verifies access tokens that are JWTs (RFC 9068), of this issuer for this resource (`aud`), by the keys that the
    /// issuer's metadata names.
    pub fn access_tokens(issuer: &Issuer, resource: &str) -> Self {
        let keys = KeySource::Issuer { issuer: issuer.clone(), stranger: false };
        Self::new(AccessTokenRules::new(issuer, resource), keys)
    }

    /// Verifies access tokens of a server whose metadata is known.
    ///
    /// # Errors
    ///
    /// If the server's metadata has no `jwks_uri`.
    pub fn access_tokens_of(server: &ServerMetadata, resource: &str) -> Result<Self, Error> {
        Self::of_server(AccessTokenRules::new(server.issuer(), resource), server)
    }

    /// Accepts tokens for another name of this resource, too.
    pub fn audience(mut self, resource: &str) -> Self {
        self.edit().audiences.push(resource.into());
        self
    }

    /// Accepts JWTs that do not follow RFC 9068, as those of Keycloak and Entra: without `typ: at+jwt`, `sub`,
    /// `client_id`, `jti` and `iat`. An ID token for the same name would then pass for an access token (RFC 9068,
    /// section 5): the resource must have a name that no client has.
    pub fn without_profile(mut self) -> Self {
        self.edit().profile = false;
        self
    }
}

impl AccessTokenRules {
    fn new(issuer: &Issuer, resource: &str) -> Self {
        Self { issuer: issuer.clone(), audiences: vec![resource.into()], profile: true }
    }
}

/// RFC 9068, section 4.
impl Kind for AccessToken {
    type Rules = AccessTokenRules;

    fn check(rules: &AccessTokenRules, token: &Presented<'_>) -> Result<(), Error> {
        let claims = token.claims;
        let is_jwt = token.jws.typ().is_none_or(|typ| typ.eq_ignore_ascii_case("JWT"));
        if !token.jws.is_of_type("at+jwt") && (rules.profile || !is_jwt) {
            return Err(wrong("the token does not say that it is an access token (typ)"));
        }
        if is_jwt && is_logout(claims) {
            return Err(wrong("the token is a logout token, and grants nothing (events)"));
        }
        if claims.str("iss") != Some(rules.issuer.as_str()) {
            return Err(wrong("the access token is another issuer's (iss)"));
        }
        let is_ours = |aud: &str| rules.audiences.iter().any(|ours| **ours == *aud);
        let ours = match claims.str("aud") {
            Some(aud) => is_ours(aud),
            None => claims.list("aud").is_some_and(|aud| aud.into_iter().any(is_ours)),
        };
        if !ours {
            return Err(wrong("the access token is for another resource (aud)"));
        }
        if rules.profile {
            check_times(token, "access token", wrong)?;
            let missing = ["sub", "client_id", "jti"].into_iter().find(|name| claims.str(name).is_none());
            if let Some(name) = missing {
                return Err(wrong(format!("the access token has no {name}")));
            }
            return Ok(());
        }
        check_active(claims, token.now, token.leeway)
    }

    fn verified(_: &AccessTokenRules, _: &str, claims: Claims) -> Self {
        Self::of(claims)
    }
}

/// That a token has not ended, and has begun, as far as it says. A JWT must say when it ends.
fn check_active(claims: &Claims, now: Timestamp, leeway: Duration) -> Result<(), Error> {
    match claims.time("exp") {
        Some(exp) if now >= exp + leeway => Err(wrong("the access token has expired (exp)")),
        None => Err(wrong("the access token has no exp that is a number")),
        _ if claims.has("nbf") && claims.time("nbf").is_none_or(|nbf| nbf > now + leeway) => {
            Err(wrong("the access token is not valid yet (nbf)"))
        }
        _ => Ok(()),
    }
}

pub(crate) fn wrong(why: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::AccessToken, why)
}
