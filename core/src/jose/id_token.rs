//! The ID token (OpenID Connect Core 1.0, section 2) and the rules of its section 3.1.3.7.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256, Sha384, Sha512};
use subtle::ConstantTimeEq;

use super::claims::Claims;
use super::jws::{Jws, unverified_id_token};
use crate::server::Issuer;
use crate::{Advice, Client, Deviation, Deviations, Error, ErrorKind, Secret, ServerMetadata, Timestamp};

/// How far the server's clock may be off.
const SKEW: Duration = Duration::from_secs(60);
/// How old a token may be that was made for this very sign-in.
const MAX_AGE: Duration = Duration::from_secs(600);

/// An ID token whose claims were checked: there is no way to one without.
#[derive(Clone)]
pub struct IdToken {
    text: Secret,
    claims: Claims,
}

/// What an ID token must hold to be meant for us.
#[derive(Clone)]
pub(crate) struct Expected {
    pub(crate) issuer: Issuer,
    pub(crate) aliases: Arc<[String]>,
    pub(crate) client_id: Arc<str>,
    pub(crate) tolerated: Deviations,
    /// The moment it is made for.
    pub(crate) occasion: Occasion,
}

/// When a server hands out an ID token, and what ties the token to that moment.
#[derive(Clone)]
pub(crate) enum Occasion {
    /// A sign-in, with the `nonce` sent and the `max_age` asked, in seconds.
    SignIn { nonce: Option<Secret>, max_age: Option<u64> },
    /// A refresh of what was granted to this `sub` (OpenID Connect Core 1.0, section 12.2).
    Refresh { subject: Box<str> },
}

impl Expected {
    pub(crate) fn new(server: &ServerMetadata, client: &Client, occasion: Occasion) -> Self {
        Self {
            issuer: server.issuer().clone(),
            aliases: server.issuer_aliases(),
            client_id: client.shared_id(),
            tolerated: server.tolerated(),
            occasion,
        }
    }
}

impl IdToken {
    /// Checks a token that came from the token endpoint itself, over TLS, which stands for the
    /// signature (rule 6). `alg` is looked at all the same: `none` is refused.
    pub(crate) fn from_token_endpoint(
        text: &str,
        access_token: &str,
        expected: &Expected,
        now: Timestamp,
        found: &mut Deviations,
    ) -> Result<Self, Error> {
        let (jws, claims) = unverified_id_token(text)?;
        check_header(&jws)?;
        check_parties(&claims, expected)?;
        check_occasion(&claims, expected)?;
        check_at_hash(jws.header(), &claims, access_token, expected.tolerated, found)?;
        check_times(&claims, expected, now)?;
        Ok(Self { text: text.into(), claims })
    }

    /// One whose signature and claims were checked.
    pub(super) fn of(text: &str, claims: Claims) -> Self {
        Self { text: text.into(), claims }
    }

    /// The token itself, for servers that take one as a proof.
    pub fn as_secret(&self) -> &Secret {
        &self.text
    }

    /// The claims.
    pub fn claims(&self) -> &Claims {
        &self.claims
    }

    /// `iss`: who vouches. Users are told apart by this and [`subject`](Self::subject) together, never by
    /// an e-mail address.
    pub fn issuer(&self) -> &str {
        self.claims.str("iss").unwrap_or_default()
    }

    /// `sub`: the user, unique and never given again at this issuer.
    pub fn subject(&self) -> &str {
        self.claims.str("sub").unwrap_or_default()
    }

    /// `email`, but only if the issuer says that it is verified (`email_verified`).
    pub fn verified_email(&self) -> Option<&str> {
        self.claims.str("email").filter(|_| self.claims.bool("email_verified") == Some(true))
    }

    /// `exp`: when it ends.
    pub fn expires_at(&self) -> Timestamp {
        self.claims.time("exp").unwrap_or_default()
    }
}

impl fmt::Debug for IdToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IdToken").field("claims", &self.claims).finish_non_exhaustive()
    }
}

fn wrong(why: &'static str) -> Error {
    Error::new(ErrorKind::IdToken, why)
}

/// Rules 1, 6 and 7 as far as they go without a key.
fn check_header(jws: &Jws<'_>) -> Result<(), Error> {
    if jws.header().str("alg").is_some_and(|alg| alg.eq_ignore_ascii_case("none")) {
        return Err(wrong("the ID token is not signed (alg none)"));
    }
    // A token of another kind is none of an ID token, whoever signed it (RFC 8725, section 3.11).
    match jws.typ() {
        Some(typ) if !typ.eq_ignore_ascii_case("JWT") => {
            Err(wrong("the token says that it is of another kind than an ID token (typ)"))
        }
        _ => Ok(()),
    }
}

/// Rules 2 to 5: who made it, for whom.
fn check_parties(claims: &Claims, expected: &Expected) -> Result<(), Error> {
    let iss = claims.str("iss").ok_or_else(|| wrong("the ID token has no iss"))?;
    if iss != expected.issuer.as_str() && !expected.aliases.iter().any(|alias| alias == iss) {
        return Err(wrong("the ID token is another issuer's (iss)"));
    }
    if claims.str("sub").is_none_or(|sub| sub.is_empty() || sub.len() > 255) {
        return Err(wrong("the ID token has no sub, or one that is no text of at most 255 characters"));
    }
    let aud = claims.list("aud").ok_or_else(|| wrong("the ID token has no aud"))?;
    let us = &*expected.client_id;
    match claims.get("azp") {
        Some(azp) if azp.as_str() != Some(us) => Err(wrong("the ID token was issued to another client (azp)")),
        _ if !aud.contains(&us) => Err(wrong("the ID token is for another client (aud)")),
        _ if aud.iter().any(|other| *other != us) => {
            Err(wrong("the ID token is for others too, who are not trusted (aud)"))
        }
        _ => Ok(()),
    }
}

/// Rules 9, 10 and 13: when.
fn check_times(claims: &Claims, expected: &Expected, now: Timestamp) -> Result<(), Error> {
    let clock = |why| wrong(why).with_advice(Advice::SetClock);
    let exp = claims.time("exp").ok_or_else(|| wrong("the ID token has no exp that is a number"))?;
    let iat = claims.time("iat").ok_or_else(|| wrong("the ID token has no iat that is a number"))?;
    if now >= exp + SKEW {
        return Err(clock("the ID token has expired (exp)"));
    }
    if iat > now + SKEW {
        return Err(clock("the ID token comes from the future (iat)"));
    }
    if claims.get("nbf").is_some() && claims.time("nbf").is_none_or(|nbf| nbf > now + SKEW) {
        return Err(clock("the ID token is not valid yet (nbf)"));
    }
    let Occasion::SignIn { max_age, .. } = &expected.occasion else { return Ok(()) };
    if now.since(iat) > MAX_AGE.saturating_add(SKEW) {
        return Err(clock("the ID token is too old for this sign-in (iat)"));
    }
    if let Some(max_age) = max_age {
        let auth_time =
            claims.time("auth_time").ok_or_else(|| wrong("max_age was asked, and there is no auth_time"))?;
        if now.since(auth_time) > Duration::from_secs(*max_age).saturating_add(SKEW) {
            return Err(
                wrong("the user signed in longer ago than max_age allows (auth_time)").with_advice(Advice::SignInAgain)
            );
        }
    }
    Ok(())
}

/// Rule 11: for this request, or at a refresh, for the same user as before.
fn check_occasion(claims: &Claims, expected: &Expected) -> Result<(), Error> {
    match &expected.occasion {
        Occasion::SignIn { nonce, .. } => match (nonce, claims.get("nonce")) {
            (None, None) => Ok(()),
            (Some(ours), Some(theirs)) if theirs.as_str().is_some_and(|text| ours.matches(text)) => Ok(()),
            (Some(_), None) => Err(wrong("the ID token has no nonce, although one was sent")),
            (_, Some(_)) => {
                Err(wrong("the ID token was made for another request (nonce)").with_advice(Advice::SignInAgain))
            }
        },
        Occasion::Refresh { subject } if claims.str("sub") == Some(subject) => Ok(()),
        Occasion::Refresh { .. } => Err(wrong("the refreshed ID token is another user's (sub)")),
    }
}

/// `at_hash`, if it is there, is the left half of the access token's hash, by the hash function of
/// `alg` (OpenID Connect Core 1.0, section 3.1.3.6).
fn check_at_hash(
    header: &Claims,
    claims: &Claims,
    access_token: &str,
    tolerated: Deviations,
    found: &mut Deviations,
) -> Result<(), Error> {
    let Some(at_hash) = claims.get("at_hash") else { return Ok(()) };
    let at_hash = at_hash.as_str().ok_or_else(|| wrong("the ID token's at_hash is no text"))?;
    let hash = match header.str("alg") {
        Some("RS256" | "ES256" | "PS256" | "HS256" | "ES256K") => Sha256::digest(access_token).to_vec(),
        Some("RS384" | "ES384" | "PS384" | "HS384") => Sha384::digest(access_token).to_vec(),
        Some("RS512" | "ES512" | "PS512" | "HS512" | "EdDSA" | "Ed25519") => Sha512::digest(access_token).to_vec(),
        _ => return Err(wrong("the ID token has an at_hash, and an alg of which no hash function is known")),
    };
    let is_half_of = |hash: &[u8]| {
        let half = hash.get(..hash.len() / 2).unwrap_or_default();
        bool::from(URL_SAFE_NO_PAD.encode(half).as_bytes().ct_eq(at_hash.as_bytes()))
    };
    if is_half_of(&hash) {
        return Ok(());
    }
    if !is_half_of(&Sha256::digest(access_token)) {
        return Err(wrong("the ID token belongs to another access token (at_hash)"));
    }
    if !tolerated.contains(Deviation::AtHashBySha256) {
        return Err(wrong(
            "the ID token's at_hash is by SHA-256, and its alg asks for another hash: Deviation::AtHashBySha256 would \
             tolerate it",
        ));
    }
    *found = found.with(Deviation::AtHashBySha256);
    Ok(())
}
