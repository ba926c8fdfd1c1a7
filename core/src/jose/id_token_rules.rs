//! ID tokens that came from elsewhere than the token endpoint: whose they may be, for whom, and how fresh
//! (OpenID Connect Core 1.0, section 3.1.3.7).

use std::time::Duration;

use super::IdToken;
use super::claims::Claims;
use super::issuers::Issuers;
use super::jwk::Jwk;
use super::keys::KeySource;
use super::verifier::sealed::{Kind, Presented};
use super::verifier::{Keys, Verifier, Verify};
use crate::crypto::{Algorithm, MacAlgorithm, MacKey};
use crate::server::{GOOGLE, GOOGLE_KEYS, Issuer};
use crate::{Advice, Client, Endpoint, Error, ErrorKind, Secret, ServerMetadata};

/// Where the keys of all of Entra's tenants are, and how their issuers are named.
const ENTRA_KEYS: &str = "https://login.microsoftonline.com/common/discovery/v2.0/keys";
const ENTRA: (&str, &str, &str) = ("https://login.microsoftonline.com/", "tid", "/v2.0");

/// The rules for an ID token: see [`Verifier`].
#[derive(Clone, Debug)]
pub struct IdTokenRules {
    issuer: Issuers,
    client_ids: Vec<Box<str>>,
    parties: Parties,
    nonce: Nonce,
    max_age: Option<Duration>,
    hosted_domains: Vec<Box<str>>,
}

/// Who may have asked for a token that is for a client of ours.
#[derive(Clone, Debug)]
enum Parties {
    /// A client of ours, or one of these.
    Named(Vec<Box<str>>),
    Any,
}

/// What is expected of `nonce` where the caller names none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Nonce {
    None,
    Any,
}

fn texts<S: Into<String>>(texts: impl IntoIterator<Item = S>) -> Vec<Box<str>> {
    texts.into_iter().map(|text| text.into().into()).collect()
}

impl IdTokenRules {
    fn new(issuer: Issuers, client_ids: Vec<Box<str>>) -> Self {
        let parties = Parties::Named(Vec::new());
        Self { issuer, client_ids, parties, nonce: Nonce::None, max_age: None, hosted_domains: Vec::new() }
    }
}

impl Verifier<IdToken> {
    /// Verifies ID tokens that this issuer gave this client, by the keys that its metadata names.
    ///
    /// ```
    /// use grantflow::{Issuer, Verifier};
    ///
    /// let verifier = Verifier::id_tokens(&Issuer::new("https://as.example")?, "mobile-app").client_id("web-app");
    /// # let _ = verifier;
    /// # Ok::<(), grantflow::Error>(())
    /// ```
    pub fn id_tokens(issuer: &Issuer, client_id: &str) -> Self {
        let rules = IdTokenRules::new(Issuers::Named(texts([issuer.as_str()])), texts([client_id]));
        Self::new(rules, KeySource::Issuer { issuer: issuer.clone(), stranger: false })
    }

    /// Verifies ID tokens of a server whose metadata is known, with the other names of its issuer.
    ///
    /// # Errors
    ///
    /// If the server's metadata has no `jwks_uri`.
    pub fn id_tokens_of(server: &ServerMetadata, client: &Client) -> Result<Self, Error> {
        let aliases = server.issuer_aliases();
        let names = [server.issuer().as_str()].into_iter().chain(aliases.iter().map(String::as_str));
        Self::of_server(IdTokenRules::new(Issuers::Named(texts(names)), texts([client.id()])), server)
    }

    /// Verifies Google's ID tokens for these clients, by either name of its issuer, signed by RS256. Name all clients
    /// of one product: the server's, which the token is for (`aud`), and those of the applications on Android or iOS
    /// that asked for it (`azp`).
    ///
    /// ```
    /// use grantflow::Verifier;
    ///
    /// let verifier = Verifier::google_id_tokens(["1234-web.apps.googleusercontent.com"]).hosted_domain("example.com");
    /// # let _ = verifier;
    /// ```
    pub fn google_id_tokens<S: Into<String>>(client_ids: impl IntoIterator<Item = S>) -> Self {
        let rules = IdTokenRules::new(Issuers::Named(texts([GOOGLE, "accounts.google.com"])), texts(client_ids));
        Self::new(rules, KeySource::At(Endpoint::known(GOOGLE_KEYS))).algorithms([Algorithm::RS256])
    }

    /// Verifies ID tokens of Microsoft Entra for a client that is registered for many tenants: `iss` must be the issuer
    /// of the tenant that `tid` names. [`tenants`](Self::tenants) sets which ones; by default every tenant is accepted.
    ///
    /// ```
    /// use grantflow::Verifier;
    ///
    /// let verifier = Verifier::entra_id_tokens("4e8b...").tenants(["8eaef023-2b34-4da1-9baa-8bc8c9d6a490"]);
    /// # let _ = verifier;
    /// ```
    pub fn entra_id_tokens(client_id: &str) -> Self {
        let (before, claim, after) = ENTRA;
        let issuers = Issuers::tenants(before, claim, after);
        let rules = IdTokenRules::new(issuers, texts([client_id]));
        Self::new(rules, KeySource::At(Endpoint::known(ENTRA_KEYS))).algorithms([Algorithm::RS256])
    }

    /// Verifies ID tokens of many tenants that share their keys. The name of a claim in braces stands for its value in
    /// the issuer's name, as in `https://login.microsoftonline.com/{tid}/v2.0`.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Config`] if `issuers` has no claim in braces or several, or the address of the keys cannot be used.
    pub fn id_tokens_of_tenants(issuers: &str, jwks_uri: &str, client_id: &str) -> Result<Self, Error> {
        let issuers = Issuers::template(issuers).ok_or_else(|| {
            Error::config("the issuers' name needs one claim in braces, as in https://login.example/{tid}")
        })?;
        let rules = IdTokenRules::new(issuers, texts([client_id]));
        Ok(Self::new(rules, KeySource::At(Endpoint::new(jwks_uri)?)))
    }

    /// Accepts tokens of these tenants alone. It has no effect on a verifier for a single issuer.
    pub fn tenants<S: Into<String>>(mut self, ids: impl IntoIterator<Item = S>) -> Self {
        if let Issuers::Tenants { allowed, .. } = &mut self.edit().issuer {
            allowed.extend(texts(ids));
        }
        self
    }

    /// Accepts tokens that are signed by the client's secret, with HMAC (`HS256` and the like; rule 8), for a client
    /// that is registered for them. No key of the issuer is then accepted.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Config`] if the secret is too short for the algorithm (RFC 7518, section 3.2).
    pub fn signed_by_secret(mut self, algorithm: MacAlgorithm, client_secret: &Secret) -> Result<Self, Error> {
        let key = MacKey::new(algorithm, client_secret.expose().as_bytes())?;
        self.keys = Keys::Secret(std::sync::Arc::new(key));
        Ok(self)
    }

    /// Accepts tokens for another client of yours, too.
    pub fn client_id(mut self, client_id: &str) -> Self {
        self.edit().client_ids.extend(texts([client_id]));
        self
    }

    /// Accepts tokens for your client that this party asked for (`azp`), which is none of your clients: such as a
    /// service account of Google's that calls a service.
    pub fn authorized_party(mut self, azp: &str) -> Self {
        if let Parties::Named(parties) = &mut self.edit().parties {
            parties.extend(texts([azp]));
        }
        self
    }

    /// Accepts tokens for your client whichever party asked for them (`azp`).
    pub fn any_authorized_party(mut self) -> Self {
        self.edit().parties = Parties::Any;
        self
    }

    /// Accepts Google's tokens for members of this Workspace domain alone (`hd`). Several may be named.
    pub fn hosted_domain(mut self, domain: &str) -> Self {
        self.edit().hosted_domains.extend(texts([domain]));
        self
    }

    /// Accepts tokens whose user signed in no longer ago than this (`auth_time`; rule 13).
    pub fn max_age(mut self, age: Duration) -> Self {
        self.edit().max_age = Some(age);
        self
    }

    /// Accepts tokens with any `nonce`, which the caller must then check. By default a token that has one is refused
    /// where none is [expected](Self::verify_with_nonce), since the caller expects it elsewhere (rule 11).
    pub fn any_nonce(mut self) -> Self {
        self.edit().nonce = Nonce::Any;
        self
    }

    /// Verifies a token as [`verify`](Self::verify) does, and that it was made for this `nonce`. The nonce must have
    /// been handed out for one sign-in, which uses it up.
    pub fn verify_with_nonce(&self, token: &str, nonce: &Secret) -> Verify<IdToken> {
        self.verify(token).with_nonce(nonce)
    }

    /// Verifies a token as [`verify_with`](Self::verify_with) does, and that it was made for this `nonce`.
    pub fn verify_nonce_with(
        &self,
        token: &str,
        nonce: &Secret,
        keys: &super::KeySet,
        now: crate::Now,
    ) -> super::Verdict<IdToken> {
        self.judge(token, Some(nonce), keys, now)
    }
}

impl Kind for IdToken {
    type Rules = IdTokenRules;

    fn check(rules: &IdTokenRules, token: &Presented<'_>) -> Result<(), Error> {
        // A token of another kind is none of an ID token, whoever signed it (RFC 8725, section 3.11).
        if token.jws.typ().is_some_and(|typ| !typ.eq_ignore_ascii_case("JWT")) {
            return Err(wrong("the token says that it is of another kind than an ID token (typ)"));
        }
        if is_logout(token.claims) {
            return Err(wrong("the token is a logout token, and no word on who signs in (events)"));
        }
        rules.check_parties(token)?;
        rules.check_times(token)?;
        rules.check_nonce(token)?;
        if !rules.hosted_domains.is_empty() {
            let hd = token.claims.str("hd");
            if !rules.hosted_domains.iter().any(|domain| hd == Some(domain)) {
                return Err(wrong("the user is of another domain (hd)"));
            }
        }
        Ok(())
    }

    fn may_sign(rules: &IdTokenRules, claims: &Claims, key: &Jwk) -> bool {
        rules.issuer.may_sign(key, claims)
    }

    fn verified(_: &IdTokenRules, text: &str, claims: Claims) -> Self {
        Self::of(text, claims)
    }
}

impl IdTokenRules {
    /// Rules 2 to 5: who made it, for whom.
    fn check_parties(&self, token: &Presented<'_>) -> Result<(), Error> {
        let claims = token.claims;
        self.issuer.check(claims.str("iss").ok_or_else(|| wrong("the ID token has no iss"))?, claims)?;
        if claims.str("sub").is_none_or(|sub| sub.is_empty() || sub.len() > 255) {
            return Err(wrong("the ID token has no sub, or one that is no text of at most 255 characters"));
        }
        let is_ours = |id: &str| self.client_ids.iter().any(|ours| **ours == *id);
        let several = match claims.str("aud") {
            Some(aud) if is_ours(aud) => false,
            Some(_) => return Err(wrong("the ID token is for another client (aud)")),
            None => {
                let aud = claims.list("aud").ok_or_else(|| wrong("the ID token has no aud"))?;
                if !aud.iter().any(|id| is_ours(id)) {
                    return Err(wrong("the ID token is for another client (aud)"));
                }
                if !aud.iter().all(|id| is_ours(id)) {
                    return Err(wrong("the ID token is for others too, who are not trusted (aud)"));
                }
                aud.len() > 1
            }
        };
        match (claims.str("azp"), &self.parties) {
            (None, _) if claims.has("azp") => Err(wrong("the ID token's azp is no text")),
            // Rule 8: what a secret of several clients would be is not said.
            _ if several && token.is_shared => {
                Err(wrong("the ID token is signed by a secret, and for several clients (aud)"))
            }
            (None, _) if several => Err(wrong("the ID token is for several clients, and does not say who asked (azp)")),
            (None, _) | (Some(_), Parties::Any) => Ok(()),
            (Some(azp), Parties::Named(parties)) if is_ours(azp) || parties.iter().any(|it| **it == *azp) => Ok(()),
            (Some(_), Parties::Named(_)) => Err(wrong("the ID token was issued to another client (azp)")),
        }
    }

    /// Rules 9, 10 and 13: when.
    fn check_times(&self, token: &Presented<'_>) -> Result<(), Error> {
        let claims = token.claims;
        check_times(token, "ID token", wrong)?;
        let Some(max_age) = self.max_age else { return Ok(()) };
        let auth_time = claims.time("auth_time").ok_or_else(|| wrong("max_age is asked, and there is no auth_time"))?;
        if token.now.since(auth_time) > max_age.saturating_add(token.leeway) {
            let why = wrong("the user signed in longer ago than max_age allows (auth_time)");
            return Err(why.with_advice(Advice::SignInAgain));
        }
        Ok(())
    }

    /// Rule 11.
    fn check_nonce(&self, token: &Presented<'_>) -> Result<(), Error> {
        match (token.nonce, token.claims.str("nonce")) {
            (Some(ours), Some(theirs)) if ours.matches(theirs) => Ok(()),
            (Some(_), None) => Err(wrong("the ID token has no nonce, although one was sent")),
            (Some(_), Some(_)) => Err(wrong("the ID token was made for another request (nonce)")),
            (None, _) if self.nonce == Nonce::Any || !token.claims.has("nonce") => Ok(()),
            (None, _) => Err(wrong("the ID token has a nonce, and none is expected: verify it with its nonce")),
        }
    }
}

/// The member of `events` that makes a logout token of a JWT (OpenID Connect Back-Channel Logout 1.0, section 2.4).
pub(super) const LOGOUT_EVENT: &str = "http://schemas.openid.net/event/backchannel-logout";

/// Whether these are the claims of a logout token, whose `typ` need not say so (Back-Channel Logout 1.0, section 2.4).
pub(super) fn is_logout(claims: &Claims) -> bool {
    claims.has("events") && claims.get("events").is_some_and(|events| events.get(LOGOUT_EVENT).is_some())
}

/// `exp`, `iat` and `nbf` (RFC 7519, section 4.1), which a token of this name must hold, but for `nbf`.
pub(super) fn check_times(token: &Presented<'_>, name: &str, wrong: fn(String) -> Error) -> Result<(), Error> {
    let Presented { claims, now, leeway, .. } = *token;
    let need = |claim| claims.time(claim).ok_or_else(|| wrong(format!("the {name} has no {claim} that is a number")));
    let (exp, iat) = (need("exp")?, need("iat")?);
    if now >= exp + leeway {
        return Err(wrong(format!("the {name} has expired (exp)")));
    }
    if iat > now + leeway {
        return Err(wrong(format!("the {name} comes from the future (iat)")).with_advice(Advice::SetClock));
    }
    if claims.has("nbf") && claims.time("nbf").is_none_or(|nbf| nbf > now + leeway) {
        return Err(wrong(format!("the {name} is not valid yet (nbf)")).with_advice(Advice::SetClock));
    }
    Ok(())
}

fn wrong(why: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::IdToken, why)
}
