//! The ID token (OpenID Connect Core 1.0, section 2) and the rules of its section 3.1.3.7.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256, Sha384, Sha512};
use subtle::ConstantTimeEq;

use super::claims::Claims;
use super::issuers::{is_issuer, may_sign};
use super::jwk::{Jwk, JwkSet};
use super::jws::{Jws, Verified, unverified_id_token};
use crate::client::SignedBy;
use crate::crypto::{Algorithm, MacKey};
use crate::server::Issuer;
use crate::{Advice, Client, Deviation, Deviations, Endpoint, Error, ErrorKind, Secret, ServerMetadata, Timestamp};

/// How far the server's clock may be off.
const SKEW: Duration = Duration::from_secs(60);
/// How old a token may be that was made for this very sign-in.
const MAX_AGE: Duration = Duration::from_secs(600);

/// An ID token whose claims have been checked: no other way leads to a value of this type.
#[derive(Clone)]
pub struct IdToken {
    text: Secret,
    claims: Claims,
    /// That of the sign-in, if this one came with a refresh.
    origin: Option<Arc<Origin>>,
}

/// What the ID tokens that come with refreshes must agree with: that of the sign-in (OpenID Connect Core 1.0, section 12.2).
pub(crate) struct Origin {
    issuer: Box<str>,
    subject: Box<str>,
    audience: Box<[Box<str>]>,
    nonce: Option<Secret>,
    auth_time: Option<Timestamp>,
    issued: Timestamp,
}

/// What an ID token must hold to be meant for us.
#[derive(Clone)]
pub(crate) struct Expected {
    pub(crate) issuer: Issuer,
    pub(crate) aliases: Arc<[String]>,
    pub(crate) client_id: Arc<str>,
    pub(crate) tolerated: Deviations,
    /// Who else it may be for.
    audiences: Box<[Box<str>]>,
    signed: Signed,
    jwks_uri: Option<Endpoint>,
    /// The moment it is made for.
    pub(crate) occasion: Occasion,
}

/// What vouches for an ID token from the token endpoint, beside TLS.
#[derive(Clone)]
enum Signed {
    /// Any key.
    AnyKey,
    /// A key, by the algorithm that the client is registered for.
    By(Algorithm),
    /// A key, by one of those that a profile permits.
    ByOneOf(&'static [Algorithm]),
    Secret(Arc<MacKey>),
}

/// When a server hands out an ID token, and what ties the token to that moment.
#[derive(Clone)]
pub(crate) enum Occasion {
    SignIn(Box<SignIn>),
    /// A refresh of what was granted at this sign-in.
    Refresh(Arc<Origin>),
}

/// What was asked of a sign-in, which its ID token must answer to.
#[derive(Clone, Default)]
pub(crate) struct SignIn {
    /// The `nonce` that was sent.
    pub(crate) nonce: Option<Secret>,
    /// The code that it came for.
    pub(crate) code: Option<Secret>,
    pub(crate) terms: SignInTerms,
}

/// How the user must have signed in.
#[derive(Clone, Default, Serialize, Deserialize)]
pub(crate) struct SignInTerms {
    /// The `max_age` that was asked for, in seconds.
    pub(crate) max_age: Option<u64>,
    /// Whether `auth_time` was asked for as an essential claim.
    pub(crate) auth_time: bool,
    /// The values of `acr` of which it must have one; any, if there are none.
    pub(crate) acr_values: Vec<Box<str>>,
    /// Whose sign-in it must be.
    pub(crate) subject: Option<Box<str>>,
}

/// Shows nobody's name.
impl fmt::Debug for SignInTerms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SignInTerms").field("max_age", &self.max_age).finish_non_exhaustive()
    }
}

impl Expected {
    /// What this client expects of this server.
    ///
    /// # Errors
    ///
    /// If the client has no secret that is good for the algorithm that it is registered for.
    pub(crate) fn new(server: &ServerMetadata, client: &Client, occasion: Occasion) -> Result<Self, Error> {
        let signed = match client.id_tokens().signed {
            None => Signed::AnyKey,
            Some(SignedBy::Key(algorithm)) => Signed::By(algorithm),
            Some(SignedBy::Keys(algorithms)) => Signed::ByOneOf(algorithms),
            Some(SignedBy::Secret(algorithm)) => {
                let none = || Error::config("ID tokens by the client's secret need a client that authenticates by one");
                let secret = client.secret().ok_or_else(none)?;
                Signed::Secret(Arc::new(MacKey::new(algorithm, secret.expose().as_bytes())?))
            }
        };
        Ok(Self {
            issuer: server.issuer().clone(),
            aliases: server.issuer_aliases(),
            client_id: client.shared_id(),
            tolerated: server.tolerated(),
            audiences: client.id_tokens().audiences.iter().cloned().collect(),
            signed,
            jwks_uri: server.jwks().ok().cloned(),
            occasion,
        })
    }

    /// Where the keys are that it is signed by; nowhere, if it is by the client's secret.
    ///
    /// # Errors
    ///
    /// If the server's metadata has no `jwks_uri`.
    pub(crate) fn keys(&self) -> Result<Option<Endpoint>, Error> {
        let none = "the signature of the ID token is to be checked, and the server is known without a jwks_uri";
        match &self.signed {
            Signed::Secret(_) => Ok(None),
            _ => self.jwks_uri.clone().map(Some).ok_or_else(|| Error::config(none)),
        }
    }

    /// The algorithms by which a key of the server's may sign it.
    pub(crate) fn algorithms(&self) -> Box<[Algorithm]> {
        match &self.signed {
            Signed::By(algorithm) => [*algorithm].into(),
            Signed::ByOneOf(algorithms) => (*algorithms).into(),
            _ => Algorithm::ALL.into(),
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
        check_header(&jws, &expected.signed)?;
        check_parties(&claims, expected)?;
        check_occasion(&claims, expected)?;
        let mut hashes = Hashes { header: jws.header(), claims: &claims, tolerated: expected.tolerated, found };
        hashes.check("at_hash", access_token)?;
        if let Occasion::SignIn(asked) = &expected.occasion
            && let Some(code) = &asked.code
        {
            hashes.check("c_hash", code.expose())?;
        }
        check_times(&claims, expected, now)?;
        let origin = match &expected.occasion {
            Occasion::Refresh(origin) => Some(origin.clone()),
            Occasion::SignIn(_) => None,
        };
        Ok(Self { text: text.into(), claims, origin })
    }

    /// What the ID tokens of later refreshes must agree with.
    pub(crate) fn origin(&self) -> Arc<Origin> {
        let Self { claims, origin, .. } = self;
        origin.clone().unwrap_or_else(|| {
            let audience = claims.list("aud").unwrap_or_default().into_iter().map(Box::from).collect();
            Arc::new(Origin {
                issuer: self.issuer().into(),
                subject: self.subject().into(),
                audience,
                nonce: claims.str("nonce").map(Secret::from),
                auth_time: self.auth_time(),
                issued: claims.time("iat").unwrap_or_default(),
            })
        })
    }

    /// Checks the signature of one that came from the token endpoint (rule 6), by these keys of its server, whose issuer
    /// has these other names.
    pub(crate) fn verify_by(
        &self,
        keys: &JwkSet,
        allowed: &[Algorithm],
        aliases: &[String],
    ) -> Result<Verified, Error> {
        let jws = Jws::read(self.text.expose())?;
        let may = |key: &Jwk| may_sign(aliases.iter().map(String::as_str), key, &self.claims);
        Ok(jws.verify_by(keys, jws.allowed(allowed)?, may))
    }

    /// One whose signature and claims were checked.
    pub(super) fn of(text: &str, claims: Claims) -> Self {
        Self { text: text.into(), claims, origin: None }
    }

    /// The token itself, for servers that take an ID token as a proof.
    pub fn as_secret(&self) -> &Secret {
        &self.text
    }

    /// The claims.
    pub fn claims(&self) -> &Claims {
        &self.claims
    }

    /// `iss`: the issuer. Tell users apart by this and [`subject`](Self::subject) together, never by an e-mail address.
    pub fn issuer(&self) -> &str {
        self.claims.str("iss").unwrap_or_default()
    }

    /// `sub`: the user, unique at this issuer, which never gives it to another user.
    pub fn subject(&self) -> &str {
        self.claims.str("sub").unwrap_or_default()
    }

    /// `acr`: how the user signed in, by a name of the server's own (section 2).
    pub fn acr(&self) -> Option<&str> {
        self.claims.str("acr")
    }

    /// `amr`: by which means the user signed in, as in RFC 8176.
    pub fn amr(&self) -> Vec<&str> {
        self.claims.list("amr").unwrap_or_default()
    }

    /// `auth_time`: when the user signed in (section 2).
    pub fn auth_time(&self) -> Option<Timestamp> {
        self.claims.time("auth_time")
    }

    /// `sid`: the session at the server, if it names one (Front-Channel Logout 1.0, section 3).
    pub fn session(&self) -> Option<&str> {
        self.claims.str("sid")
    }

    /// `email`, but only if the issuer says that it is verified (`email_verified`).
    pub fn verified_email(&self) -> Option<&str> {
        self.claims.str("email").filter(|_| self.claims.bool("email_verified") == Some(true))
    }

    /// `exp`: when the ID token expires.
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

/// Rules 1, 6, 7 and 8 as far as they go without a key of the server's.
fn check_header(jws: &Jws<'_>, signed: &Signed) -> Result<(), Error> {
    if jws.header().str("alg").is_some_and(|alg| alg.eq_ignore_ascii_case("none")) {
        return Err(wrong("the ID token is not signed (alg none)"));
    }
    match signed {
        Signed::AnyKey => {}
        Signed::By(algorithm) if jws.algorithm() == Some(*algorithm) => {}
        Signed::By(_) => {
            return Err(wrong("the ID token is by another algorithm than the client is registered for (alg)"));
        }
        Signed::ByOneOf(permitted) if jws.algorithm().is_some_and(|it| permitted.contains(&it)) => {}
        Signed::ByOneOf(_) => {
            return Err(wrong("the ID token is by an algorithm that the client's profile does not permit (alg)"));
        }
        Signed::Secret(key) => drop(jws.verify_mac(key)?),
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
    if iss != expected.issuer.as_str() && !expected.aliases.iter().any(|alias| is_issuer(alias, iss, claims)) {
        return Err(wrong("the ID token is another issuer's (iss)"));
    }
    if claims.str("sub").is_none_or(|sub| sub.is_empty() || sub.len() > 255) {
        return Err(wrong("the ID token has no sub, or one that is no text of at most 255 characters"));
    }
    let us = &*expected.client_id;
    let has_azp = claims.has("azp");
    if has_azp && claims.str("azp") != Some(us) {
        return Err(wrong("the ID token was issued to another client (azp)"));
    }
    let aud = claims.list("aud").ok_or_else(|| wrong("the ID token has no aud"))?;
    if !aud.contains(&us) {
        return Err(wrong("the ID token is for another client (aud)"));
    }
    let others: Vec<_> = aud.into_iter().filter(|other| *other != us).collect();
    match &expected.signed {
        _ if others.is_empty() => Ok(()),
        // Rule 8: the secret of one client says nothing to others.
        Signed::Secret(_) => Err(wrong("the ID token is by the secret of one client, and for several (aud)")),
        _ if !others.iter().all(|other| expected.audiences.iter().any(|trusted| **trusted == **other)) => {
            Err(wrong("the ID token is for others too, who are not trusted (aud)"))
        }
        _ if !has_azp => Err(wrong("the ID token is for several, and does not say who asked (azp)")),
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
    if claims.has("nbf") && claims.time("nbf").is_none_or(|nbf| nbf > now + SKEW) {
        return Err(clock("the ID token is not valid yet (nbf)"));
    }
    let Occasion::SignIn(asked) = &expected.occasion else { return Ok(()) };
    if now.since(iat) > MAX_AGE.saturating_add(SKEW) {
        return Err(clock("the ID token is too old for this sign-in (iat)"));
    }
    let auth_time = claims.time("auth_time");
    if asked.terms.auth_time && auth_time.is_none() {
        return Err(wrong("auth_time was asked for, and there is none"));
    }
    if let Some(max_age) = &asked.terms.max_age {
        let auth_time = auth_time.ok_or_else(|| wrong("max_age was asked, and there is no auth_time"))?;
        if now.since(auth_time) > Duration::from_secs(*max_age).saturating_add(SKEW) {
            return Err(
                wrong("the user signed in longer ago than max_age allows (auth_time)").with_advice(Advice::SignInAgain)
            );
        }
    }
    Ok(())
}

/// Rules 11 and 12: for this request and as it asked, or at a refresh, for the same user as before.
fn check_occasion(claims: &Claims, expected: &Expected) -> Result<(), Error> {
    match &expected.occasion {
        Occasion::SignIn(asked) => {
            match (&asked.nonce, claims.has("nonce")) {
                (None, false) => {}
                (Some(ours), true) if claims.str("nonce").is_some_and(|theirs| ours.matches(theirs)) => {}
                (Some(_), false) => return Err(wrong("the ID token has no nonce, although one was sent")),
                (_, true) => {
                    let why = wrong("the ID token was made for another request (nonce)");
                    return Err(why.with_advice(Advice::SignInAgain));
                }
            }
            if asked.terms.subject.as_deref().is_some_and(|subject| claims.str("sub") != Some(subject)) {
                let why = wrong("another user has signed in than the one who was asked for (sub)");
                return Err(why.with_advice(Advice::SignInAgain));
            }
            let acr = claims.str("acr");
            if !asked.terms.acr_values.is_empty() && !asked.terms.acr_values.iter().any(|value| acr == Some(value)) {
                let why = wrong("the user did not sign in in one of the ways that were asked for (acr)");
                return Err(why.with_advice(Advice::SignInAgain));
            }
            Ok(())
        }
        Occasion::Refresh(origin) => origin.check(claims),
    }
}

impl Origin {
    /// The rules of section 12.2.
    fn check(&self, claims: &Claims) -> Result<(), Error> {
        let again = |why: &str| Err(Error::new(ErrorKind::IdToken, format!("the refreshed ID token {why}")));
        if claims.str("sub") != Some(&*self.subject) {
            return again("is another user's (sub)");
        }
        // One of the other names of the issuer, such as another tenant, was no other name at the sign-in.
        if claims.str("iss") != Some(&*self.issuer) {
            return again("is another issuer's than that of the sign-in (iss)");
        }
        // Most often it is one text, which needs no list.
        let only = claims.str("aud");
        let several = if only.is_some() { Vec::new() } else { claims.list("aud").unwrap_or_default() };
        if !self.audience.iter().all(|one| only == Some(&**one) || several.contains(&&**one)) {
            return again("is not for all that that of the sign-in was for (aud)");
        }
        // It should have none.
        let is_same = |nonce: &str| self.nonce.as_ref().is_some_and(|own| own.matches(nonce));
        if claims.has("nonce") && !claims.str("nonce").is_some_and(is_same) {
            return again("was made for another request (nonce)");
        }
        if let (Some(own), Some(other)) = (self.auth_time, claims.time("auth_time"))
            && own != other
        {
            return again("is of another sign-in (auth_time)");
        }
        if claims.time("iat").is_some_and(|issued| issued + SKEW < self.issued) {
            return again("is older than that of the sign-in (iat)");
        }
        Ok(())
    }
}

/// The claims that tie an ID token to its access token and to its code.
struct Hashes<'a> {
    header: &'a Claims,
    claims: &'a Claims,
    tolerated: Deviations,
    found: &'a mut Deviations,
}

impl Hashes<'_> {
    /// `at_hash` or `c_hash`, if it is there, is the left half of the hash of the access token or the code, by the hash
    /// function of `alg` (OpenID Connect Core 1.0, sections 3.1.3.6 and 3.3.2.11).
    fn check(&mut self, name: &'static str, of: &str) -> Result<(), Error> {
        let wrong = |why: &str| Error::new(ErrorKind::IdToken, format!("the ID token's {name} {why}"));
        if !self.claims.has(name) {
            return Ok(());
        }
        let claimed = self.claims.str(name).ok_or_else(|| wrong("is no text"))?;
        let hash = match self.header.str("alg") {
            Some("RS256" | "ES256" | "PS256" | "HS256" | "ES256K") => Sha256::digest(of).to_vec(),
            Some("RS384" | "ES384" | "PS384" | "HS384") => Sha384::digest(of).to_vec(),
            Some("RS512" | "ES512" | "PS512" | "HS512" | "EdDSA" | "Ed25519") => Sha512::digest(of).to_vec(),
            _ => return Err(wrong("cannot be checked: of its alg no hash function is known")),
        };
        let is_half_of = |hash: &[u8]| {
            let half = hash.get(..hash.len() / 2).unwrap_or_default();
            bool::from(URL_SAFE_NO_PAD.encode(half).as_bytes().ct_eq(claimed.as_bytes()))
        };
        if is_half_of(&hash) {
            return Ok(());
        }
        if !is_half_of(&Sha256::digest(of)) {
            return Err(wrong("is of another access token or code"));
        }
        if !self.tolerated.contains(Deviation::AtHashBySha256) {
            return Err(wrong(
                "is by SHA-256, and its alg asks for another hash: Deviation::AtHashBySha256 would tolerate it",
            ));
        }
        *self.found = self.found.with(Deviation::AtHashBySha256);
        Ok(())
    }
}
