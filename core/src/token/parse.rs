//! From the bytes of a token answer to a [`Token`] (RFC 6749, section 5.1), with each tolerated
//! deviation named.

use std::fmt;
use std::time::Duration;

use super::answer::{Answer, Known, Scalar, Shape, Text, invalid, shape};
use super::{Deviation, Deviations, Members, Rotation, Scopes, Token, TokenType};
use crate::dpop::DpopKey;
use crate::exchange::{Received, is_fine, is_printable, server_error_in};
use crate::jose::{Expected, IdToken};
use crate::server::Issuer;
use crate::{Advice, Error, ErrorKind, Secret, Timestamp};

/// The longest token to take.
pub(super) const MAX_TOKEN: usize = 64 * 1024;
/// Which kind of token the answer to a token exchange holds.
pub(super) const ISSUED_TOKEN_TYPE: &str = "issued_token_type";
/// Lifetimes above this are cut to it.
pub(super) const MAX_LIFETIME: u64 = 10 * 365 * 86_400;

/// What a token was asked with, as far as its answer depends on it.
#[derive(Clone, Default)]
pub(crate) struct Asked {
    /// The server that is asked, if it is an authorization server.
    pub(crate) issuer: Option<Issuer>,
    pub(crate) scopes: Scopes,
    /// The refresh token that was used, which stays good if no other comes.
    pub(crate) refresh_token: Option<Secret>,
    pub(crate) rotation: Rotation,
    pub(crate) tolerated: Deviations,
    /// Whether it was asked for by a token exchange: the answer then says of which kind it is.
    pub(crate) token_exchange: bool,
    /// The key that the token must be bound to.
    pub(crate) dpop: Option<DpopKey>,
    /// The thumbprint of the certificate that the server binds the token to.
    pub(crate) certificate: Option<Box<str>>,
    /// What an ID token must hold: at a sign-in there must be one. Without this, one that comes is ignored.
    pub(crate) id_token: Option<Expected>,
}

/// What an answer brought that tells what became of the request.
pub(crate) struct Answered {
    pub(crate) outcome: Result<Token, Error>,
    /// The refresh token that was used, and the one that came beside an error and takes its place. Where there is a
    /// token, [`Asked::successor`] tells.
    pub(crate) successor: Option<(Secret, Secret)>,
}

impl Asked {
    /// Reads the answer. An error is of one that does not tell what became of the request.
    pub(crate) fn parse(&self, received: Received<'_>) -> Result<Answered, Error> {
        match self.read(received) {
            Ok(token) => Ok(Answered { outcome: Ok(token), successor: None }),
            Err(error) => self.read_again(received, error),
        }
    }

    /// The refresh token that was used, and the one that came with this token in its place.
    pub(crate) fn successor(&self, token: &Token) -> Option<(Secret, Secret)> {
        self.succeeded_by(token.refresh_token()?.expose())
    }

    /// In one pass.
    fn read(&self, received: Received<'_>) -> Result<Token, Error> {
        let mut found = Deviations::NONE;
        // Filled where it lies, since it is large: to hand it on takes longer than to read some members.
        let mut answer = Answer::<Fields<'_>>::default();
        answer.read(received, self.tolerated, &mut found)?;
        self.token(&mut answer, received, &mut found)
    }

    /// Once more, each member by itself: what is odd costs itself, where it is nothing that must be right, and a
    /// refresh token is found whatever is wrong with the rest.
    #[cold]
    fn read_again(&self, received: Received<'_>, error: Error) -> Result<Answered, Error> {
        let mut found = Deviations::NONE;
        let mut body = shape(received.response, Deviations::EVERY, &mut found)?.map(Text::of);
        found = Deviations::NONE;
        if let Shape::Json(text) = &mut body
            && text.mend()
        {
            found = found.with(Deviation::OddMember);
        }
        let body = match &body {
            Shape::Json(text) => Shape::Json(text.as_str()),
            Shape::Form(text) => Shape::Form(text.as_str()),
        };
        if str::from_utf8(received.response.body()).is_err() {
            found = found.with(Deviation::BrokenText);
        }
        let mut answer = Answer::<Fields<'_>>::default();
        let whole = answer.read_each(&body, &mut found) && !answer.repeated;
        let new = match &answer.known.refresh_token {
            Scalar::Text(new) if !new.is_empty() && is_usable(new) => Some(&**new),
            _ => None,
        };
        let successor = new.and_then(|new| self.succeeded_by(new));
        let says_none = new.is_some() || matches!(answer.known.refresh_token, Scalar::Null);
        let has_access_token = matches!(&answer.known.access_token, Scalar::Text(text) if !text.is_empty());
        let outcome = if whole { self.token_again(&mut answer, received, &mut found) } else { Err(error) };
        let is_refusal = outcome.as_ref().is_err_and(|error| error.server().is_some());
        let is_settled = whole && says_none && has_access_token && !is_refusal && self.refresh_token.is_some();
        match outcome {
            Err(error) if successor.is_none() && !is_settled => Err(error),
            outcome => {
                let status = received.response.status().as_u16();
                Ok(Answered { outcome: outcome.map_err(|error| error.with_status(status)), successor })
            }
        }
    }

    /// The token of an answer whose members were read one by one.
    fn token_again(
        &self,
        answer: &mut Answer<Fields<'_>>,
        received: Received<'_>,
        found: &mut Deviations,
    ) -> Result<Token, Error> {
        for (deviation, what) in [
            (Deviation::OddMember, "a member of the answer cannot be read"),
            (Deviation::BrokenText, "the answer is no text in UTF-8"),
        ] {
            if found.contains(deviation) {
                self.tolerated.allow(deviation, found, what)?;
            }
        }
        let _ = shape(received.response, self.tolerated, found)?;
        answer.check(received.response, self.tolerated, found)?;
        self.token(answer, received, found)
    }

    fn succeeded_by(&self, new: &str) -> Option<(Secret, Secret)> {
        let used = self.refresh_token.as_ref().filter(|used| !used.matches(new))?;
        Some((used.clone(), Secret::from(new)))
    }

    fn token(
        &self,
        answer: &mut Answer<Fields<'_>>,
        received: Received<'_>,
        found: &mut Deviations,
    ) -> Result<Token, Error> {
        let Answer { known: fields, members, .. } = answer;
        let access_token = match fields.access_token.take().text("access_token")? {
            Some(text) if !text.is_empty() => text,
            _ => return Err(self.without_token(members, found)),
        };
        let token_type = match fields.token_type.take() {
            Scalar::Text(name) => Some(name).filter(|name| !name.trim().is_empty()),
            // What was bound to no key is for bearers still.
            _ if self.refresh_token.is_some() => None,
            odd => odd.text("token_type")?,
        };
        let token_type = match token_type.as_deref() {
            Some(name) if name.eq_ignore_ascii_case("bearer") => TokenType::Bearer,
            Some(name) if name.trim().eq_ignore_ascii_case("bearer") => {
                self.tolerated.allow(Deviation::OddMember, found, "token_type has blanks around it")?;
                TokenType::Bearer
            }
            Some(name) if name.eq_ignore_ascii_case("dpop") => TokenType::DPoP,
            Some(name) if name.eq_ignore_ascii_case("n_a") => TokenType::NotApplicable,
            Some(_) if self.tolerated.contains(Deviation::OddTokenType) => {
                *found = found.with(Deviation::OddTokenType);
                TokenType::Bearer
            }
            Some(name) => TokenType::Other(name.into()),
            None => {
                self.tolerated.allow(Deviation::NoTokenType, found, "the answer has no token_type")?;
                TokenType::Bearer
            }
        };
        if self.dpop.is_some() && !matches!(token_type, TokenType::DPoP | TokenType::NotApplicable) {
            let why =
                "the token is not bound to the key that was proved: its token_type is not DPoP (RFC 9449, section 5)";
            return Err(Error::new(ErrorKind::TokenType, why));
        }
        let kind = members.get(ISSUED_TOKEN_TYPE).and_then(serde_json::Value::as_str).unwrap_or_default();
        if self.token_exchange && kind.is_empty() {
            let what = "the answer has no issued_token_type (RFC 8693, section 2.2.1)";
            self.tolerated.allow(Deviation::NoIssuedTokenType, found, what)?;
        }
        let mut token = Token::new(&access_token, token_type, received.sent)
            .map_err(|why| invalid(format!("the access token {why}")))?;
        if let (Some(key), TokenType::DPoP) = (&self.dpop, token.token_type()) {
            token = token.bound_to(key);
        }
        if let Some(thumbprint) = &self.certificate {
            token = token.bound_to_certificate(thumbprint);
        }
        token.issuer = self.issuer.clone();
        token.expires_at = self.lifetime(fields.expires_in.take(), received.sent, found)?;
        token.scopes = self.granted(fields.scope.take(), found)?;
        self.refresh_token(&mut token, fields, received.sent, found)?;
        self.id_token(&mut token, fields.id_token.take(), &access_token, received.now, found)?;
        if !members.is_empty() {
            token.rest().members = Members(std::mem::take(members));
        }
        if !found.is_empty() {
            token.rest().deviations = *found;
        }
        Ok(token)
    }

    /// The error of an answer without an access token: the server's own words, where it has some.
    #[cold]
    fn without_token(&self, members: &serde_json::Map<String, serde_json::Value>, found: &mut Deviations) -> Error {
        let says = server_error_in(members).filter(|it| it.error_description().is_some() && !is_fine(it.error()));
        match says {
            Some(server) => {
                let what = "the answer is an error under a status of success";
                let allowed = self.tolerated.allow(Deviation::ErrorUnderSuccess, found, what);
                allowed.err().unwrap_or_else(|| Error::from_server(ErrorKind::Server, server))
            }
            None => invalid("the answer has no access_token"),
        }
    }

    fn lifetime(&self, value: Scalar<'_>, sent: Timestamp, found: &mut Deviations) -> Result<Option<Timestamp>, Error> {
        let Some(seconds) = value.seconds(self.tolerated, found)? else { return Ok(None) };
        if seconds == 0 && self.tolerated.contains(Deviation::ZeroMeansNever) {
            *found = found.with(Deviation::ZeroMeansNever);
            return Ok(None);
        }
        Ok(Some(sent + Duration::from_secs(seconds.min(MAX_LIFETIME))))
    }

    fn granted(&self, value: Scalar<'_>, found: &mut Deviations) -> Result<Scopes, Error> {
        match value {
            Scalar::Null => Ok(self.scopes.clone()),
            // Empty is not said: servers write it where they leave out what has not changed.
            Scalar::Text(text) if text.trim().is_empty() => Ok(self.scopes.clone()),
            Scalar::Text(text) if text.contains(", ") || (text.contains(',') && !text.contains(' ')) => {
                self.tolerated.allow(Deviation::ScopeWithCommas, found, "scope is separated by commas")?;
                Ok(text.split(',').collect())
            }
            Scalar::Text(text) => Ok(Scopes::from(&*text)),
            Scalar::List(texts) => {
                self.tolerated.allow(Deviation::ScopeAsList, found, "scope is a list")?;
                let scopes: Scopes = texts.into_iter().collect();
                Ok(if scopes.is_empty() { self.scopes.clone() } else { scopes })
            }
            _ => {
                self.tolerated.allow(Deviation::OddScope, found, "scope is no text")?;
                Ok(self.scopes.clone())
            }
        }
    }

    /// A new refresh token replaces the old one; without one the old one stays (RFC 6749, section 6).
    fn refresh_token(
        &self,
        token: &mut Token,
        fields: &mut Fields<'_>,
        sent: Timestamp,
        found: &mut Deviations,
    ) -> Result<(), Error> {
        let expires_in = std::mem::take(&mut fields.refresh_token_expires_in);
        let new = match fields.refresh_token.take() {
            Scalar::Null => None,
            Scalar::Text(new) if is_usable(&new) => Some(new).filter(|new| !new.is_empty()),
            _ => {
                let what = "the refresh token is no text, is too long, or holds characters that it may not";
                self.tolerated.allow(Deviation::OddRefreshToken, found, what)?;
                None
            }
        };
        let rotation = match (&self.refresh_token, &new) {
            (Some(old), Some(new)) if !old.matches(new) => Rotation::Rotates,
            _ => self.rotation,
        };
        let current = match new {
            Some(new) => Some(Secret::from(&*new)),
            None => self.refresh_token.clone(),
        };
        if current.is_some() || rotation != Rotation::Unknown {
            let rest = token.rest();
            rest.refresh_token = current;
            rest.rotation = rotation;
        }
        if let Some(end) = self.lifetime(expires_in, sent, found)? {
            token.rest().refresh_token_expires_at = Some(end);
        }
        Ok(())
    }

    fn id_token(
        &self,
        token: &mut Token,
        value: Scalar<'_>,
        access_token: &str,
        now: Timestamp,
        found: &mut Deviations,
    ) -> Result<(), Error> {
        let Some(expected) = &self.id_token else { return Ok(()) };
        let text = match value {
            Scalar::Null => None,
            Scalar::Text(text) => Some(text).filter(|text| !text.trim().is_empty()),
            _ if self.refresh_token.is_some() => {
                self.tolerated.allow(Deviation::OddMember, found, "id_token is no text")?;
                None
            }
            odd => odd.text("id_token")?,
        };
        match text {
            Some(text) => match IdToken::from_token_endpoint(&text, access_token, expected, now, found) {
                Ok(id_token) => token.rest().id_token = Some(id_token.into()),
                // A clock that is off must not cost the refresh token that came along: only the claims
                // are kept back.
                Err(error) if self.refresh_token.is_some() && error.advice() == Some(Advice::SetClock) => {
                    *found = found.with(Deviation::UntimelyIdToken);
                }
                Err(error) => return Err(error),
            },
            None if self.refresh_token.is_some() => {}
            None if self.tolerated.contains(Deviation::NoIdToken) => *found = found.with(Deviation::NoIdToken),
            None => {
                return Err(Error::new(ErrorKind::IdToken, "openid was asked, and the answer has no id_token"));
            }
        }
        Ok(())
    }
}

/// Whether a refresh token can be sent back (RFC 6749, appendix A.17), and is no longer than any should be.
fn is_usable(refresh_token: &str) -> bool {
    refresh_token.len() <= MAX_TOKEN && is_printable(refresh_token, b' ')
}

impl fmt::Debug for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Asked").field("scopes", &self.scopes).finish_non_exhaustive()
    }
}

/// The members of a token answer.
#[derive(Default)]
struct Fields<'a> {
    access_token: Scalar<'a>,
    token_type: Scalar<'a>,
    expires_in: Scalar<'a>,
    refresh_token: Scalar<'a>,
    refresh_token_expires_in: Scalar<'a>,
    scope: Scalar<'a>,
    id_token: Scalar<'a>,
}

impl<'a> Known<'a> for Fields<'a> {
    const WHAT: &'static str = "token";

    fn member(&mut self, name: &str) -> Option<(&mut Scalar<'a>, u8)> {
        Some(match name {
            "access_token" => (&mut self.access_token, 1),
            "token_type" => (&mut self.token_type, 2),
            "expires_in" => (&mut self.expires_in, 4),
            "refresh_token" => (&mut self.refresh_token, 8),
            "refresh_token_expires_in" => (&mut self.refresh_token_expires_in, 16),
            "scope" => (&mut self.scope, 32),
            "id_token" => (&mut self.id_token, 64),
            _ => return None,
        })
    }
}
