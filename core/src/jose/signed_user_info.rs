//! The signed answer of the userinfo endpoint (OpenID Connect Core 1.0, section 5.3.2).

use super::claims::Claims;
use super::keys::KeySource;
use super::verifier::Verifier;
use super::verifier::sealed::{Kind, Presented};
use crate::{Error, ErrorKind, ServerMetadata};

/// What a signed answer says of the user.
#[derive(Debug)]
pub(crate) struct SignedUserInfo(pub(crate) Claims);

/// What such an answer must hold.
#[derive(Clone, Debug)]
pub(crate) struct SignedUserInfoRules {
    issuer: Box<str>,
    client_id: Box<str>,
}

impl Verifier<SignedUserInfo> {
    /// Answers of this server to this client.
    pub(crate) fn user_info(server: &ServerMetadata, client_id: &str) -> Result<Self, Error> {
        let rules = SignedUserInfoRules { issuer: server.issuer().as_str().into(), client_id: client_id.into() };
        Ok(Self::new(rules, KeySource::At(server.jwks()?.clone())))
    }
}

impl Kind for SignedUserInfo {
    type Rules = SignedUserInfoRules;

    fn check(rules: &SignedUserInfoRules, token: &Presented<'_>) -> Result<(), Error> {
        let claims = token.claims;
        // An access token, a logout token and the like are of another kind, whoever signed them (RFC 8725, section 3.11).
        if token.jws.typ().is_some_and(|typ| !typ.eq_ignore_ascii_case("JWT")) {
            return Err(wrong("the signed answer says that it is of another kind (typ)"));
        }
        // Both should be there (section 5.3.2); what is there must be right.
        if claims.has("iss") && claims.str("iss") != Some(&*rules.issuer) {
            return Err(wrong("the signed answer is another issuer's (iss)"));
        }
        if claims.has("aud") && !claims.list("aud").is_some_and(|aud| aud.contains(&&*rules.client_id)) {
            return Err(wrong("the signed answer is for another client (aud)"));
        }
        if claims.has("exp") && claims.time("exp").is_none_or(|exp| token.now >= exp + token.leeway) {
            return Err(wrong("the signed answer has expired (exp)"));
        }
        if claims.has("nbf") && claims.time("nbf").is_none_or(|nbf| nbf > token.now + token.leeway) {
            return Err(wrong("the signed answer is not valid yet (nbf)"));
        }
        Ok(())
    }

    fn verified(_: &SignedUserInfoRules, _: &str, claims: Claims) -> Self {
        Self(claims)
    }
}

fn wrong(why: &'static str) -> Error {
    Error::new(ErrorKind::InvalidResponse, why)
}
