//! From the bytes of a token answer to a [`Token`] (RFC 6749, section 5.1), with each tolerated
//! deviation named.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};
use url::form_urlencoded;

use super::{Deviation, Deviations, Members, Rotation, Scopes, Token, TokenType};
use crate::exchange::{FORM, Received, is_printable, media_type, server_error_in};
use crate::jose::{Expected, IdToken};
use crate::{Advice, Error, ErrorKind, Secret, Timestamp};

/// The longest token to take.
pub(super) const MAX_TOKEN: usize = 64 * 1024;
/// Lifetimes above this are cut to it.
const MAX_LIFETIME: u64 = 10 * 365 * 86_400;

/// What a token was asked with, as far as its answer depends on it.
#[derive(Clone, Default)]
pub(crate) struct Asked {
    pub(crate) scopes: Scopes,
    /// The refresh token that was used, which stays good if no other comes.
    pub(crate) refresh_token: Option<Secret>,
    pub(crate) rotation: Rotation,
    pub(crate) tolerated: Deviations,
    /// What an ID token must hold: at a sign-in there must be one. Without this, one that comes is ignored.
    pub(crate) id_token: Option<Expected>,
}

impl Asked {
    /// Reads the answer.
    pub(crate) fn parse(&self, received: Received<'_>) -> Result<Token, Error> {
        let mut found = Deviations::NONE;
        // Filled where it lies, since it is large: to hand it on takes longer than to read some members.
        let mut fields = Fields::default();
        self.read(received, &mut fields, &mut found)?;
        self.token(&mut fields, received, &mut found)
    }

    fn tolerate(&self, deviation: Deviation, found: &mut Deviations, what: &'static str) -> Result<(), Error> {
        if !self.tolerated.contains(deviation) {
            return Err(invalid(what));
        }
        *found = found.with(deviation);
        Ok(())
    }

    /// The members of the body, in whichever of the known shapes it is.
    fn read<'a>(&self, received: Received<'a>, fields: &mut Fields<'a>, found: &mut Deviations) -> Result<(), Error> {
        let response = received.response;
        let mut body = response.body().as_slice();
        if let Some(rest) = body.strip_prefix(b"\xef\xbb\xbf") {
            self.tolerate(Deviation::ByteOrderMark, found, "the answer begins with a byte order mark")?;
            body = rest;
        }
        let kind = media_type(response).unwrap_or_default();
        if kind.eq_ignore_ascii_case(FORM) {
            self.tolerate(Deviation::FormBody, found, "the answer is a form and not JSON")?;
            return fields.read_form(body);
        }
        fields.read_json(body).map_err(|e| not_json(response, &e))?;
        if !kind.eq_ignore_ascii_case("application/json") && !kind.ends_with("+json") {
            self.tolerate(Deviation::JsonCalledText, found, "the answer does not call itself JSON")?;
        }
        Ok(())
    }

    fn token(&self, fields: &mut Fields<'_>, received: Received<'_>, found: &mut Deviations) -> Result<Token, Error> {
        if fields.is_error() {
            self.tolerate(Deviation::ErrorUnderSuccess, found, "the answer is an error under a status of success")?;
            return Err(match server_error_in(&fields.members) {
                Some(server) => Error::from_server(ErrorKind::Server, server),
                None => invalid("the answer holds an error that cannot be read"),
            });
        }
        let access_token = fields
            .access_token
            .take()
            .text("access_token")?
            .ok_or_else(|| invalid("the answer has no access_token"))?;
        let token_type = match fields.token_type.take().text("token_type")?.as_deref() {
            Some(name) if name.eq_ignore_ascii_case("bearer") => TokenType::Bearer,
            Some(name) if name.eq_ignore_ascii_case("dpop") => TokenType::DPoP,
            Some(_) if self.tolerated.contains(Deviation::OddTokenType) => {
                *found = found.with(Deviation::OddTokenType);
                TokenType::Bearer
            }
            Some(name) => TokenType::Other(name.into()),
            None => {
                self.tolerate(Deviation::NoTokenType, found, "the answer has no token_type")?;
                TokenType::Bearer
            }
        };
        let mut token = Token::new(&access_token, token_type, received.sent)?;
        token.expires_at = self.lifetime(fields.expires_in.take(), received.sent, found)?;
        token.scopes = self.granted(fields.scope.take(), found)?;
        self.refresh_token(&mut token, fields, received.sent, found)?;
        self.id_token(&mut token, fields.id_token.take(), &access_token, received.now, found)?;
        if !fields.members.is_empty() {
            token.rest().members = Members(std::mem::take(&mut fields.members));
        }
        if !found.is_empty() {
            token.rest().deviations = *found;
        }
        Ok(token)
    }

    fn lifetime(&self, value: Scalar<'_>, sent: Timestamp, found: &mut Deviations) -> Result<Option<Timestamp>, Error> {
        let seconds = match value {
            Scalar::Null => return Ok(None),
            Scalar::Int(seconds) => seconds,
            Scalar::Float(seconds) if seconds.is_finite() && seconds >= 0.0 => {
                self.tolerate(Deviation::NumberAsText, found, "a lifetime is no whole number")?;
                seconds as u64
            }
            Scalar::Text(text) if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) => {
                self.tolerate(Deviation::NumberAsText, found, "a lifetime is a text")?;
                text.parse().unwrap_or(u64::MAX)
            }
            _ => {
                // An error here would throw away the refresh token that came along.
                self.tolerate(Deviation::OddLifetime, found, "a lifetime is no number of seconds")?;
                return Ok(None);
            }
        };
        if seconds == 0 && self.tolerated.contains(Deviation::ZeroMeansNever) {
            *found = found.with(Deviation::ZeroMeansNever);
            return Ok(None);
        }
        Ok(Some(sent + Duration::from_secs(seconds.min(MAX_LIFETIME))))
    }

    fn granted(&self, value: Scalar<'_>, found: &mut Deviations) -> Result<Scopes, Error> {
        match value {
            Scalar::Null => Ok(self.scopes.clone()),
            Scalar::Text(text) if text.contains(',') && !text.contains(' ') => {
                self.tolerate(Deviation::ScopeWithCommas, found, "scope is separated by commas")?;
                Ok(text.split(',').collect())
            }
            Scalar::Text(text) => Ok(Scopes::from(&*text)),
            Scalar::List(texts) => {
                self.tolerate(Deviation::ScopeAsList, found, "scope is a list")?;
                Ok(texts.into_iter().collect())
            }
            _ => Err(invalid("scope is no text")),
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
        let new = fields.refresh_token.take().text("refresh_token")?.filter(|text| !text.is_empty());
        let rotation = match (&self.refresh_token, &new) {
            (Some(old), Some(new)) if !old.matches(new) => Rotation::Rotates,
            _ => self.rotation,
        };
        if let Some(new) = &new
            && (new.len() > MAX_TOKEN || !is_printable(new, b' '))
        {
            return Err(invalid("the refresh token is too long or holds characters that it may not"));
        }
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
        match value.text("id_token")? {
            Some(text) => match IdToken::from_token_endpoint(&text, access_token, expected, now) {
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

impl fmt::Debug for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Asked").field("scopes", &self.scopes).finish_non_exhaustive()
    }
}

fn invalid(why: &'static str) -> Error {
    Error::new(ErrorKind::InvalidResponse, why)
}

/// Tells a page meant for people from JSON that went wrong. The parser's own words are kept to the place
/// of the fault: they may quote the text.
fn not_json(response: &http::Response<Vec<u8>>, error: &serde_json::Error) -> Error {
    let what = match media_type(response) {
        _ if response.body().is_empty() => "the answer is empty".to_owned(),
        Some(kind) if kind.eq_ignore_ascii_case("text/html") => {
            "the answer is a web page and no token: is the token endpoint right?".to_owned()
        }
        _ => format!("the answer is no token in JSON (line {}, column {})", error.line(), error.column()),
    };
    Error::new(ErrorKind::InvalidResponse, what)
}

/// The members of a token answer by the names that this crate knows, and the rest as they are.
#[derive(Default)]
struct Fields<'a> {
    access_token: Scalar<'a>,
    token_type: Scalar<'a>,
    expires_in: Scalar<'a>,
    refresh_token: Scalar<'a>,
    refresh_token_expires_in: Scalar<'a>,
    scope: Scalar<'a>,
    id_token: Scalar<'a>,
    members: Map<String, Value>,
}

impl<'a> Fields<'a> {
    /// The member of this name, and a bit to remember it by.
    fn known(&mut self, name: &str) -> Option<(&mut Scalar<'a>, u8)> {
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

    fn read_form(&mut self, body: &'a [u8]) -> Result<(), Error> {
        let mut seen = 0;
        for (name, value) in form_urlencoded::parse(body) {
            let again = match self.known(&name) {
                Some((field, bit)) => {
                    *field = Scalar::Text(value);
                    let again = seen & bit != 0;
                    seen |= bit;
                    again
                }
                None => self.members.insert(name.into_owned(), Value::String(value.into_owned())).is_some(),
            };
            if again {
                return Err(invalid("the answer has a member twice"));
            }
        }
        Ok(())
    }

    fn read_json(&mut self, body: &'a [u8]) -> serde_json::Result<()> {
        let mut json = serde_json::Deserializer::from_slice(body);
        json.deserialize_map(self)?;
        json.end()
    }

    /// An `error`, an `ok` that is false as Slack's, or only an `error_code`.
    fn is_error(&self) -> bool {
        let named = self.members.get("error").is_some_and(|error| !error.is_null());
        named || self.members.get("ok") == Some(&Value::Bool(false))
    }
}

impl<'de> Visitor<'de> for &mut Fields<'de> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut seen = 0;
        while let Some(Name(name)) = map.next_key()? {
            let again = match self.known(&name) {
                Some((field, bit)) => {
                    *field = map.next_value()?;
                    let again = seen & bit != 0;
                    seen |= bit;
                    again
                }
                None => self.members.insert(name.into_owned(), map.next_value()?).is_some(),
            };
            if again {
                return Err(de::Error::custom("a member twice"));
            }
        }
        Ok(())
    }
}

/// A member's name, borrowed from the text where it has no escapes.
struct Name<'a>(Cow<'a, str>);

impl<'de> Deserialize<'de> for Name<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match deserializer.deserialize_str(AnyScalar)? {
            Scalar::Text(text) => Ok(Self(text)),
            _ => Err(de::Error::custom("a name that is no text")),
        }
    }
}

/// The values that members of a token answer have, borrowed from the text where that can be.
#[derive(Default)]
enum Scalar<'a> {
    #[default]
    Null,
    Int(u64),
    Float(f64),
    Text(Cow<'a, str>),
    List(Vec<Cow<'a, str>>),
    Other,
}

impl<'a> Scalar<'a> {
    fn take(&mut self) -> Self {
        std::mem::take(self)
    }

    #[inline]
    fn text(self, name: &'static str) -> Result<Option<Cow<'a, str>>, Error> {
        match self {
            Self::Null => Ok(None),
            Self::Text(text) => Ok(Some(text)),
            _ => Err(Error::new(ErrorKind::InvalidResponse, format!("{name} is no text"))),
        }
    }
}

impl<'de> Deserialize<'de> for Scalar<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyScalar)
    }
}

struct AnyScalar;

impl<'de> Visitor<'de> for AnyScalar {
    type Value = Scalar<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }
    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Scalar::Null)
    }
    fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
        Ok(Scalar::Other)
    }
    fn visit_u64<E>(self, number: u64) -> Result<Self::Value, E> {
        Ok(Scalar::Int(number))
    }
    fn visit_i64<E>(self, number: i64) -> Result<Self::Value, E> {
        Ok(u64::try_from(number).map_or(Scalar::Other, Scalar::Int))
    }
    fn visit_f64<E>(self, number: f64) -> Result<Self::Value, E> {
        Ok(Scalar::Float(number))
    }
    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Scalar::Text(Cow::Borrowed(text)))
    }
    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Scalar::Text(Cow::Owned(text.to_owned())))
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let mut texts = Vec::new();
        while let Some(value) = list.next_element::<Scalar<'de>>()? {
            let Scalar::Text(text) = value else { return Err(de::Error::custom("a list of other things than texts")) };
            texts.push(text);
        }
        Ok(Scalar::List(texts))
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        while map.next_entry::<de::IgnoredAny, de::IgnoredAny>()?.is_some() {}
        Ok(Scalar::Other)
    }
}
