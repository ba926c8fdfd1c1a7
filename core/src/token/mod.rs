//! Tokens as a token endpoint issues them: [`Token`], its scopes and its times.

mod answer;
mod apply;
mod deviation;
mod parse;
mod rotation;
mod scopes;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::HeaderValue;
use serde_json::{Map, Value};

pub use deviation::{Deviation, Deviations};
pub use rotation::Rotation;
pub use scopes::Scopes;

pub(crate) use answer::{Answer, Known, Scalar, Text, invalid};
pub(crate) use parse::{Answered, Asked};

use crate::dpop::{DpopKey, Proofs};
use crate::exchange::is_printable;
use crate::jose::IdToken;
use crate::server::Issuer;
use crate::{Error, ErrorKind, Secret, Timestamp};

/// A token answer (RFC 6749, section 5.1): the access token, and the other members.
///
/// The access token's text is held once, as the header value that carries it, and is wiped when the
/// last copy of that value is dropped. `Debug` shows no token.
#[derive(Clone)]
pub struct Token {
    /// Scheme and access token, or the access token alone if it goes into a header of its own.
    header: HeaderValue,
    /// Who issued it, where that is known.
    issuer: Option<Issuer>,
    issued_at: Timestamp,
    expires_at: Option<Timestamp>,
    scopes: Scopes,
    rest: Option<Box<Rest>>,
}

/// What few tokens have.
#[derive(Clone, Default)]
struct Rest {
    /// None for bearer tokens.
    token_type: Option<Box<TokenType>>,
    refresh_token: Option<Secret>,
    refresh_token_expires_at: Option<Timestamp>,
    id_token: Option<Arc<IdToken>>,
    rotation: Rotation,
    refresh_after: Option<Timestamp>,
    request_headers: Option<Arc<http::HeaderMap>>,
    /// What makes the proofs of the key that it is bound to.
    proofs: Option<Proofs>,
    /// The thumbprint of the certificate that it is bound to.
    certificate: Option<Box<str>>,
    members: Members,
    deviations: Deviations,
}

/// Servers have different ways to be asked for one; Google gives one with consent alone.
pub(crate) const NO_REFRESH_TOKEN: &str = "there is no refresh token: ask for offline access, and for consent anew, when \
     the user signs in (the scope `offline_access` and `prompt(\"consent\")`; at Google `access_type=offline`), unless the \
     server never gives one";

/// How an access token is used (RFC 6749, section 7.1).
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenType {
    /// A bearer token, in the header `Authorization` (RFC 6750).
    Bearer,
    /// A token that is bound to a key: each request shows a proof of the key (RFC 9449).
    DPoP,
    /// No access token: a token exchange issued a token of another kind, whose type is `N_A` (RFC 8693, section 2.2.1).
    /// No header takes it.
    NotApplicable,
    /// An API key, in a header of this name.
    Header(http::HeaderName),
    /// A type that this crate does not know.
    Other(Box<str>),
}

const BEARER: &str = "Bearer ";
const DPOP: &str = "DPoP ";

impl Token {
    /// A bearer token that the program has from elsewhere.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Config`] if no header can carry it, such as for the line break that a program printed behind it.
    pub fn bearer(access_token: &str, issued_at: Timestamp, expires_at: Option<Timestamp>) -> Result<Self, Error> {
        let token = Self::new(access_token, TokenType::Bearer, issued_at);
        let token = token.map_err(|why| Error::config(format!("the access token {why}")))?;
        Ok(Self { expires_at, ..token })
    }

    /// An API key, which goes into a header of its own, such as `x-goog-api-key`, and never expires.
    ///
    /// ```
    /// use grantflow::source::Credential;
    /// use grantflow::{Timestamp, Token};
    ///
    /// let name = http::HeaderName::from_static("x-api-key");
    /// let credential = Credential::fixed(Token::in_header(name, "k3y", Timestamp::from_unix(0))?);
    /// # let _ = credential;
    /// # Ok::<(), grantflow::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Config`] if no header can carry it.
    pub fn in_header(name: http::HeaderName, key: &str, issued_at: Timestamp) -> Result<Self, Error> {
        Self::new(key, TokenType::Header(name), issued_at).map_err(|why| Error::config(format!("the key {why}")))
    }

    /// The key that the token is bound to (RFC 9449), if that is known here.
    pub fn dpop_key(&self) -> Option<&DpopKey> {
        Some(self.bound()?.1.key())
    }

    /// The [thumbprint](crate::x5t_s256) of the certificate that the token is bound to: the client presented it, and
    /// the server's metadata say that the server binds tokens to certificates (RFC 8705, section 3.3). `None` also if
    /// only the driver has the certificate.
    pub fn certificate_thumbprint(&self) -> Option<&str> {
        self.rest.as_ref()?.certificate.as_deref()
    }

    /// Says to which certificate it is bound.
    pub(crate) fn bound_to_certificate(mut self, thumbprint: &str) -> Self {
        self.rest().certificate = Some(thumbprint.into());
        self
    }

    /// Of one that is bound to a key: the value of its `Authorization` header, and what makes proofs.
    pub(crate) fn bound(&self) -> Option<(&HeaderValue, &Proofs)> {
        Some((&self.header, self.rest.as_ref()?.proofs.as_ref()?))
    }

    /// Says to which key it is bound.
    pub(crate) fn bound_to(mut self, key: &DpopKey) -> Self {
        let proofs = Proofs::of_token(key, self.access_token());
        self.rest().proofs = Some(proofs);
        self
    }

    /// A token that is bound to this key, and was kept.
    pub(crate) fn kept_bound(
        access_token: &str,
        key: &DpopKey,
        issued_at: Timestamp,
        expires_at: Option<Timestamp>,
    ) -> Result<Self, Error> {
        let token = Self::new(access_token, TokenType::DPoP, issued_at);
        let token = token.map_err(|why| Error::config(format!("the access token {why}")))?;
        Ok(Self { expires_at, ..token.bound_to(key) })
    }

    /// Sets when to get the next token, where the source knows better than the general rule: before that moment the
    /// source would hand out the same token again.
    pub fn with_refresh_after(mut self, moment: Timestamp) -> Self {
        self.rest().refresh_after = Some(moment);
        self
    }

    /// Sets the scopes of the token, where no answer named them.
    pub fn with_scopes(mut self, scopes: Scopes) -> Self {
        self.scopes = scopes;
        self
    }

    /// Says when it ends, where no answer did.
    pub(crate) fn or_ending(mut self, end: Option<Timestamp>) -> Self {
        self.expires_at = self.expires_at.or(end);
        self
    }

    /// Says which grant it is of, where no answer did.
    pub(crate) fn with_grant(mut self, refresh_token: &Secret, rotation: Rotation) -> Self {
        let rest = self.rest();
        rest.refresh_token = Some(refresh_token.clone());
        rest.rotation = rotation;
        self
    }

    /// Says who issued it, where no answer did.
    pub(crate) fn issued_by(mut self, issuer: &Issuer) -> Self {
        self.issuer = Some(issuer.clone());
        self
    }

    /// The authorization server that issued the token. Such a token is shown to that server alone. `None` if the server
    /// is not known, as for a token made by [`bearer`](Self::bearer), which may be shown to any server.
    pub fn issuer(&self) -> Option<&Issuer> {
        self.issuer.as_ref()
    }

    /// Whether it may be shown to that server.
    pub(crate) fn check_issuer(&self, issuer: &Issuer) -> Result<(), Error> {
        match &self.issuer {
            Some(own) if own != issuer => Err(Error::new(
                ErrorKind::Issuer,
                format!("the token was issued by {own}, and {issuer} is another server"),
            )),
            _ => Ok(()),
        }
    }

    /// When to get the next token: see [`with_refresh_after`](Self::with_refresh_after).
    pub fn refresh_after(&self) -> Option<Timestamp> {
        self.rest.as_ref()?.refresh_after
    }

    /// The access token.
    pub fn access_token(&self) -> &str {
        // Its characters were checked when it was made: they are ASCII.
        let text = std::str::from_utf8(self.header.as_bytes()).unwrap_or_default();
        match self.token_type() {
            TokenType::Bearer => text.get(BEARER.len()..).unwrap_or_default(),
            TokenType::DPoP => text.get(DPOP.len()..).unwrap_or_default(),
            _ => text,
        }
    }

    /// The type of the token: how requests carry it.
    pub fn token_type(&self) -> &TokenType {
        self.rest.as_ref().and_then(|rest| rest.token_type.as_deref()).unwrap_or(&TokenType::Bearer)
    }

    /// When the request for the token was sent.
    pub fn issued_at(&self) -> Timestamp {
        self.issued_at
    }

    /// When the access token expires, counted from when its request was sent. `None` if the server did not say: the
    /// token is then good until a server refuses it.
    pub fn expires_at(&self) -> Option<Timestamp> {
        self.expires_at
    }

    /// Whether the access token has expired at this moment, as far as the server said.
    pub fn is_expired(&self, now: Timestamp) -> bool {
        self.expires_at.is_some_and(|end| now >= end)
    }

    /// The granted scopes: those that the server named, or else those that were asked for (RFC 6749, section 5.1).
    pub fn scopes(&self) -> &Scopes {
        &self.scopes
    }

    /// The refresh token: the one that came with this token, or else the one that was used to obtain it.
    pub fn refresh_token(&self) -> Option<&Secret> {
        self.rest.as_ref()?.refresh_token.as_ref()
    }

    pub(crate) fn need_refresh_token(&self) -> Result<&Secret, Error> {
        self.refresh_token().ok_or_else(|| Error::config(NO_REFRESH_TOKEN))
    }

    /// When the refresh token expires, if the server said so (`refresh_token_expires_in`).
    pub fn refresh_token_expires_at(&self) -> Option<Timestamp> {
        self.rest.as_ref()?.refresh_token_expires_at
    }

    /// How long the grant lasts without use: it ends this long after the token was issued, unless it is refreshed
    /// before (`refresh_token_timeout`, Refresh Token and Authorization Expiration, section 4). `None` if the server
    /// does not say so.
    pub fn refresh_token_timeout(&self) -> Option<Duration> {
        self.seconds("refresh_token_timeout")
    }

    /// When the grant ends, even if it is refreshed: the person must then sign in again (`authorization_expires_in`,
    /// Refresh Token and Authorization Expiration, section 4). `None` if the server does not say so.
    pub fn authorization_expires_at(&self) -> Option<Timestamp> {
        Some(self.issued_at + self.seconds("authorization_expires_in")?)
    }

    /// When the person is signed out if this token is not refreshed before: the earliest of all ends that the server
    /// has named. It is for display: whether the grant has ended, the server's refusal alone says.
    pub fn signs_out_at(&self) -> Option<Timestamp> {
        let idle = self.refresh_token_timeout().map(|timeout| self.issued_at + timeout);
        [idle, self.authorization_expires_at(), self.refresh_token_expires_at()].into_iter().flatten().min()
    }

    fn seconds(&self, name: &str) -> Option<Duration> {
        let seconds = match self.get(name)? {
            Value::Number(number) => number.as_f64().filter(|seconds| *seconds >= 0.0).map(|seconds| seconds as u64),
            Value::String(text) => text.trim().parse().ok(),
            _ => None,
        };
        Some(Duration::from_secs(seconds?.min(parse::MAX_LIFETIME)))
    }

    /// The granted authorization details: an array of objects with a `type` each (RFC 9396, section 7). `None` if the
    /// server does not name them. They may be less than was asked for, or more: compare the types before the token is
    /// used.
    pub fn authorization_details(&self) -> Option<&[Value]> {
        self.get("authorization_details")?.as_array().map(Vec::as_slice)
    }

    /// Says what was granted in detail, of a token that was kept.
    pub(crate) fn with_authorization_details(mut self, details: Option<&Value>) -> Self {
        if let Some(details) = details {
            self.rest().members.0.insert("authorization_details".to_owned(), details.clone());
        }
        self
    }

    /// The ID token, which has been checked, if the scope `openid` was asked for.
    pub fn id_token(&self) -> Option<&IdToken> {
        self.rest.as_ref()?.id_token.as_deref()
    }

    /// What this answer says about the server's rotation of refresh tokens.
    pub fn rotation(&self) -> Rotation {
        self.rest.as_ref().map_or(Rotation::Unknown, |rest| rest.rotation)
    }

    /// The type of the token that a token exchange issued (RFC 8693, section 2.2.1): see
    /// [`token_type`](crate::token_type).
    pub fn issued_token_type(&self) -> Option<&str> {
        self.get(parse::ISSUED_TOKEN_TYPE)?.as_str()
    }

    /// A member of the answer that has no method of its own here. It may be a secret.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.rest.as_ref()?.members.0.get(name)
    }

    /// The deviations from the standard that were tolerated in the answer.
    pub fn deviations(&self) -> Deviations {
        self.rest.as_ref().map(|rest| rest.deviations).unwrap_or_default()
    }

    /// The error is what is wrong with the access token.
    fn new(access_token: &str, token_type: TokenType, issued_at: Timestamp) -> Result<Self, &'static str> {
        if access_token.is_empty() {
            return Err("is empty");
        }
        // b64token (RFC 6750, section 2.1), a little wider: some servers' tokens hold more.
        let scheme = match token_type {
            TokenType::Bearer => BEARER,
            TokenType::DPoP => DPOP,
            _ => "",
        };
        let lowest = if scheme.is_empty() { b' ' } else { b'!' };
        if !is_printable(access_token, lowest) {
            return Err("holds characters that no header can carry");
        }
        if access_token.len() > parse::MAX_TOKEN {
            return Err("is longer than 64 KiB");
        }
        let mut text = Vec::with_capacity(scheme.len().saturating_add(access_token.len()));
        text.extend_from_slice(scheme.as_bytes());
        text.extend_from_slice(access_token.as_bytes());
        // The header value takes over this very buffer, which is wiped with its last owner.
        let mut header = HeaderValue::from_maybe_shared(Bytes::from_owner(Wiped(text)))
            .map_err(|_| "holds characters that no header can carry")?;
        header.set_sensitive(true);
        let mut token =
            Self { header, issuer: None, issued_at, expires_at: None, scopes: Scopes::default(), rest: None };
        if token_type != TokenType::Bearer {
            token.rest().token_type = Some(Box::new(token_type));
        }
        Ok(token)
    }

    fn rest(&mut self) -> &mut Rest {
        self.rest.get_or_insert_default()
    }
}

/// The text of an access token, wiped at the end.
struct Wiped(Vec<u8>);

impl AsRef<[u8]> for Wiped {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Wiped {
    fn drop(&mut self) {
        crate::secret::wipe(&mut self.0);
    }
}

/// Shows when and for what, and no token.
impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token")
            .field("token_type", self.token_type())
            .field("issuer", &self.issuer)
            .field("expires_at", &self.expires_at)
            .field("scopes", &self.scopes)
            .field("refresh_token", &self.refresh_token())
            .field("id_token", &self.id_token())
            .finish_non_exhaustive()
    }
}

/// Members of an answer that have no name here; their texts are wiped on drop.
#[derive(Clone, Default)]
struct Members(Map<String, Value>);

impl Drop for Members {
    fn drop(&mut self) {
        self.0.values_mut().for_each(crate::secret::wipe_json);
    }
}
