//! The body of a server's answer in whichever of the known shapes it is: its members by the names that the
//! reader knows, and the rest as they are.

use std::borrow::Cow;
use std::fmt;

use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use url::form_urlencoded;
use zeroize::Zeroize;

use super::{Deviation, Deviations};
use crate::exchange::{FORM, Received, is_fine, media_type, server_error_in};
use crate::{Error, ErrorKind, json};

/// The members that a reader knows by their names.
pub(crate) trait Known<'a>: Default {
    /// What the answer should be, in errors.
    const WHAT: &'static str;

    /// The member of this name, and a bit to remember it by.
    fn member(&mut self, name: &str) -> Option<(&mut Scalar<'a>, u8)>;
}

/// The members of an answer.
#[derive(Default)]
pub(crate) struct Answer<K> {
    pub(crate) known: K,
    pub(crate) members: Map<String, Value>,
    /// Whether a member came twice.
    pub(crate) repeated: bool,
}

impl<'a, K: Known<'a>> Answer<K> {
    /// Reads the members of the body, in whichever of the known shapes it is. An error in it is told as one.
    pub(crate) fn read(
        &mut self,
        received: Received<'a>,
        tolerated: Deviations,
        found: &mut Deviations,
    ) -> Result<(), Error> {
        let response = received.response;
        match shape(response, tolerated, found)? {
            Shape::Form(body) => self.read_form(body)?,
            Shape::Json(body) => self.read_json(body).map_err(|e| not_json(response, K::WHAT, &e))?,
        }
        self.check(response, tolerated, found)
    }

    /// What the members say, and the body of itself.
    pub(crate) fn check(
        &self,
        response: &http::Response<Vec<u8>>,
        tolerated: Deviations,
        found: &mut Deviations,
    ) -> Result<(), Error> {
        let kind = media_type(response).unwrap_or_default();
        if ![FORM, "application/json"].iter().any(|it| kind.eq_ignore_ascii_case(it)) && !kind.ends_with("+json") {
            tolerated.allow(Deviation::JsonCalledText, found, "the answer does not call itself JSON")?;
        }
        match self.says() {
            Says::Nothing => return Ok(()),
            Says::NoText => {
                return tolerated.allow(Deviation::OddMember, found, "error is no text, and says nothing");
            }
            Says::Error => {}
        }
        tolerated.allow(Deviation::ErrorUnderSuccess, found, "the answer is an error under a status of success")?;
        Err(match server_error_in(&self.members) {
            Some(server) => Error::from_server(ErrorKind::Server, server),
            None => invalid("the answer holds an error that cannot be read"),
        })
    }

    /// Once more after this error, each member of the text of the body by itself: one that cannot be read costs itself
    /// alone. The error stays where the whole is no such answer, or the server has said it.
    #[cold]
    pub(crate) fn read_again(
        &mut self,
        text: &'a mut Text<'_>,
        error: Error,
        received: Received<'_>,
        tolerated: Deviations,
        found: &mut Deviations,
    ) -> Result<(), Error> {
        (*self, *found) = (Self::default(), Deviations::NONE);
        text.mend();
        let json = text.as_str().trim_start_matches('\u{feff}');
        let whole = self.read_each(&Shape::Json(json), found) && !self.repeated;
        if !whole || error.server().is_some() || !tolerated.contains(Deviation::OddMember) {
            return Err(error);
        }
        self.check(received.response, tolerated, found)?;
        let broken = str::from_utf8(received.response.body()).is_err();
        let deviation = if broken { Deviation::BrokenText } else { Deviation::OddMember };
        tolerated.allow(deviation, found, "a member of the answer cannot be read")
    }

    fn read_form(&mut self, body: &'a [u8]) -> Result<(), Error> {
        self.read_pairs(body);
        if self.repeated { Err(invalid("the answer has a member twice")) } else { Ok(()) }
    }

    fn read_pairs(&mut self, body: &'a [u8]) {
        let mut seen = 0;
        for (name, value) in form_urlencoded::parse(body) {
            let again = match self.known.member(&name) {
                Some((member, bit)) => {
                    *member = Scalar::Text(value);
                    let again = seen & bit != 0;
                    seen |= bit;
                    again
                }
                None => self.members.insert(name.into_owned(), Value::String(value.into_owned())).is_some(),
            };
            self.repeated |= again;
        }
    }

    /// Reads each member by itself, so that what is wrong with one costs no other: of one that cannot be read there is
    /// nothing but that it is there, of one that comes twice the last is there. False if the body breaks off or is no
    /// such answer at all; the members before that place are there.
    pub(crate) fn read_each(&mut self, body: &Shape<&'a str>, found: &mut Deviations) -> bool {
        match *body {
            Shape::Form(body) => {
                self.read_pairs(body.as_bytes());
                true
            }
            Shape::Json(body) => {
                let mut json = serde_json::Deserializer::from_str(body);
                json.deserialize_map(Each(self, found)).and_then(|()| json.end()).is_ok()
            }
        }
    }

    fn read_json(&mut self, body: &'a [u8]) -> serde_json::Result<()> {
        let mut json = serde_json::Deserializer::from_slice(body);
        json.deserialize_map(self)?;
        json.end()
    }

    /// Whether `error` says something, or `ok` is false as Slack's.
    fn says(&self) -> Says {
        if self.members.get("ok") == Some(&Value::Bool(false)) {
            return Says::Error;
        }
        let is_empty = match self.members.get("error") {
            None | Some(Value::Null) => return Says::Nothing,
            Some(Value::String(text)) if text.trim().is_empty() => return Says::Nothing,
            Some(Value::String(text)) => is_fine(text),
            Some(Value::Bool(error)) => !error,
            Some(Value::Number(number)) => number.as_f64() == Some(0.0),
            Some(Value::Array(list)) => list.is_empty(),
            Some(Value::Object(members)) => members.is_empty(),
        };
        if is_empty { Says::NoText } else { Says::Error }
    }
}

/// What the member `error` of an answer says.
enum Says {
    Nothing,
    /// It is no text, and means that there is no error: `false`, 0, or a list or an object without members.
    NoText,
    Error,
}

/// A body in one of the known shapes.
pub(crate) enum Shape<B> {
    Json(B),
    Form(B),
}

impl<B> Shape<B> {
    pub(crate) fn map<C>(self, change: impl FnOnce(B) -> C) -> Shape<C> {
        match self {
            Self::Json(body) => Shape::Json(change(body)),
            Self::Form(body) => Shape::Form(change(body)),
        }
    }
}

/// A body as a text; what is none in it is replaced. A copy is wiped.
pub(crate) struct Text<'a>(Cow<'a, str>);

impl<'a> Text<'a> {
    pub(crate) fn of(body: &'a [u8]) -> Self {
        Self(String::from_utf8_lossy(body))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// Mends what writers of JSON get wrong; whether there was something.
    pub(crate) fn mend(&mut self) -> bool {
        let Some(mended) = json::mended(&self.0) else { return false };
        *self = Self(Cow::Owned(mended));
        true
    }
}

impl Drop for Text<'_> {
    fn drop(&mut self) {
        if let Cow::Owned(copy) = &mut self.0 {
            copy.zeroize();
        }
    }
}

/// Which shape a body is in, by what it calls itself.
pub(crate) fn shape<'a>(
    response: &'a http::Response<Vec<u8>>,
    tolerated: Deviations,
    found: &mut Deviations,
) -> Result<Shape<&'a [u8]>, Error> {
    let mut body = response.body().as_slice();
    if let Some(rest) = body.strip_prefix(b"\xef\xbb\xbf") {
        tolerated.allow(Deviation::ByteOrderMark, found, "the answer begins with a byte order mark")?;
        body = rest;
    }
    // Some call a form a text.
    let unlabelled = || tolerated.contains(Deviation::FormBody) && body.starts_with(b"access_token=");
    if !media_type(response).unwrap_or_default().eq_ignore_ascii_case(FORM) && !unlabelled() {
        return Ok(Shape::Json(body));
    }
    tolerated.allow(Deviation::FormBody, found, "the answer is a form and not JSON")?;
    Ok(Shape::Form(body))
}

pub(crate) fn invalid(why: impl Into<Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::InvalidResponse, why)
}

/// Tells a page meant for people from JSON that went wrong. The parser's own words are kept to the place
/// of the fault: they may quote the text.
#[cold]
fn not_json(response: &http::Response<Vec<u8>>, wanted: &str, error: &serde_json::Error) -> Error {
    let what = match media_type(response) {
        _ if response.body().is_empty() => "the answer is empty".to_owned(),
        _ if response.body().starts_with(b"access_token=") => {
            "the answer is a form and not JSON: tolerate Deviation::FormBody".to_owned()
        }
        Some(kind) if kind.eq_ignore_ascii_case("text/html") => {
            format!("the answer is a web page and no {wanted}: is the endpoint right?")
        }
        _ => format!("the answer is no {wanted} in JSON (line {}, column {})", error.line(), error.column()),
    };
    Error::new(ErrorKind::InvalidResponse, what)
}

impl<'de, K: Known<'de>> Visitor<'de> for &mut Answer<K> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut seen = 0;
        while let Some(Name(name)) = map.next_key()? {
            let again = match self.known.member(&name) {
                Some((member, bit)) => {
                    *member = map.next_value()?;
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

/// Reads an object as [`Answer::read_each`] does.
struct Each<'b, K>(&'b mut Answer<K>, &'b mut Deviations);

impl<'de, K: Known<'de>> Visitor<'de> for Each<'_, K> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Self(answer, found) = self;
        let mut seen = 0;
        while let Some(Name(name)) = map.next_key()? {
            let value: &'de RawValue = map.next_value()?;
            if let Some((member, bit)) = answer.known.member(&name) {
                *member = serde_json::from_str(value.get()).unwrap_or(Scalar::Other);
                answer.repeated |= seen & bit != 0;
                seen |= bit;
                continue;
            }
            match serde_json::from_str(value.get()) {
                Ok(value) => answer.repeated |= answer.members.insert(name.into_owned(), value).is_some(),
                Err(_) => *found = found.with(Deviation::OddMember),
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

/// The values that members of an answer have, borrowed from the text where that can be.
#[derive(Default)]
pub(crate) enum Scalar<'a> {
    #[default]
    Null,
    Int(u64),
    Float(f64),
    Text(Cow<'a, str>),
    List(Vec<Cow<'a, str>>),
    Other,
}

impl<'a> Scalar<'a> {
    pub(crate) fn take(&mut self) -> Self {
        std::mem::take(self)
    }

    #[inline]
    pub(crate) fn text(self, name: &'static str) -> Result<Option<Cow<'a, str>>, Error> {
        match self {
            Self::Null => Ok(None),
            Self::Text(text) => Ok(Some(text)),
            _ => Err(Error::new(ErrorKind::InvalidResponse, format!("{name} is no text"))),
        }
    }

    /// A number of seconds, if there is one that can be read.
    pub(crate) fn seconds(self, tolerated: Deviations, found: &mut Deviations) -> Result<Option<u64>, Error> {
        Ok(Some(match self {
            Self::Null => return Ok(None),
            Self::Text(text) if text.trim().is_empty() => return Ok(None),
            Self::Int(seconds) => seconds,
            Self::Float(seconds) if seconds.is_finite() && seconds >= 0.0 => {
                tolerated.allow(Deviation::NumberAsText, found, "a lifetime is no whole number")?;
                seconds as u64
            }
            Self::Text(text) if text.trim().bytes().all(|byte| byte.is_ascii_digit()) => {
                tolerated.allow(Deviation::NumberAsText, found, "a lifetime is a text")?;
                text.trim().parse().unwrap_or(u64::MAX)
            }
            Self::Text(text) if text.trim().parse().is_ok_and(|seconds: f64| seconds.is_finite() && seconds >= 0.0) => {
                tolerated.allow(Deviation::NumberAsText, found, "a lifetime is a text")?;
                text.trim().parse::<f64>().unwrap_or_default() as u64
            }
            _ => {
                // An error here would throw away the refresh token that came along.
                tolerated.allow(Deviation::OddLifetime, found, "a lifetime is no number of seconds")?;
                return Ok(None);
            }
        }))
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
            let Scalar::Text(text) = value else {
                while list.next_element::<de::IgnoredAny>()?.is_some() {}
                return Ok(Scalar::Other);
            };
            texts.push(text);
        }
        Ok(Scalar::List(texts))
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        while map.next_entry::<de::IgnoredAny, de::IgnoredAny>()?.is_some() {}
        Ok(Scalar::Other)
    }
}
