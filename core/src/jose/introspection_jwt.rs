//! The signed answer of introspection (RFC 9701, section 5).

use super::claims::Claims;
use super::keys::KeySource;
use super::verifier::Verifier;
use super::verifier::sealed::{Kind, Presented};
use crate::{Error, ErrorKind, ServerMetadata};

/// What a signed answer says of the token.
#[derive(Debug)]
pub(crate) struct SignedIntrospection(pub(crate) Claims);

/// What such an answer must hold.
#[derive(Clone, Debug)]
pub(crate) struct SignedIntrospectionRules {
    issuer: Box<str>,
    audiences: Vec<Box<str>>,
}

impl Verifier<SignedIntrospection> {
    /// Answers of this server to a resource server that it knows by one of these names.
    pub(crate) fn introspection(server: &ServerMetadata, audiences: Vec<Box<str>>) -> Result<Self, Error> {
        let rules = SignedIntrospectionRules { issuer: server.issuer().as_str().into(), audiences };
        Ok(Self::new(rules, KeySource::At(server.jwks()?.clone())))
    }
}

impl Kind for SignedIntrospection {
    type Rules = SignedIntrospectionRules;

    fn check(rules: &SignedIntrospectionRules, token: &Presented<'_>) -> Result<(), Error> {
        let claims = token.claims;
        if !token.jws.is_of_type("token-introspection+jwt") {
            return Err(wrong("the signed answer does not say that it is one (typ)"));
        }
        if claims.str("iss") != Some(&*rules.issuer) {
            return Err(wrong("the signed answer is another issuer's (iss)"));
        }
        let ours = |aud: &&str| rules.audiences.iter().any(|ours| **ours == **aud);
        if !claims.list("aud").is_some_and(|aud| aud.iter().any(ours)) {
            return Err(wrong("the signed answer is for another resource server (aud)"));
        }
        let iat = claims.time("iat").ok_or_else(|| wrong("the signed answer has no iat that is a number"))?;
        if iat > token.now + token.leeway || token.now.since(iat) > token.leeway.saturating_mul(2) {
            return Err(wrong("the signed answer was not made now (iat)"));
        }
        // RFC 9701, section 5: lest the answer itself be taken for an access token.
        if claims.has("sub") || claims.has("exp") {
            return Err(wrong("the signed answer could be taken for a token (sub, exp)"));
        }
        Ok(())
    }

    fn verified(_: &SignedIntrospectionRules, _: &str, claims: Claims) -> Self {
        Self(claims)
    }
}

fn wrong(why: &'static str) -> Error {
    Error::new(ErrorKind::InvalidResponse, why)
}
