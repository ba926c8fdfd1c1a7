//! The claims of a JWT, read strictly: a name that stands twice is refused (RFC 7519, section 4).

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::de::{self, Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::{Map, Value};

use crate::{Error, ErrorKind, Timestamp};

/// The longest JWT to read.
const MAX_JWT: usize = 64 * 1024;

/// The claims of a token that was checked (RFC 7519, section 4). `Debug` shows their names.
#[derive(Clone, Default)]
pub struct Claims(Map<String, Value>);

impl Claims {
    /// A claim by its name.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name)
    }

    /// A claim that is a text.
    pub fn str(&self, name: &str) -> Option<&str> {
        self.get(name)?.as_str()
    }

    /// A claim that is a moment: seconds since the epoch, as `exp`, `iat`, `auth_time`.
    pub fn time(&self, name: &str) -> Option<Timestamp> {
        match self.get(name)? {
            Value::Number(number) => {
                let seconds = number.as_i64().or_else(|| {
                    // A fraction is legal (RFC 7519, section 2); what is beyond any date is not.
                    number.as_f64().filter(|s| s.abs() < 1e15).map(|s| s as i64)
                })?;
                (seconds >= 0).then(|| Timestamp::from_unix(seconds))
            }
            _ => None,
        }
    }

    /// A claim that is a truth value. Apple and Amazon send it as text, which is understood.
    pub fn bool(&self, name: &str) -> Option<bool> {
        match self.get(name)? {
            Value::Bool(value) => Some(*value),
            Value::String(text) => text.parse().ok(),
            _ => None,
        }
    }

    /// A claim that is a text or a list of texts, as `aud`: all of them. `None` if it is missing, empty
    /// or holds anything else.
    pub fn list(&self, name: &str) -> Option<Vec<&str>> {
        match self.get(name)? {
            Value::String(text) => Some(vec![text]),
            Value::Array(list) if !list.is_empty() => list.iter().map(Value::as_str).collect(),
            _ => None,
        }
    }

    /// All names and values, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value))
    }
}

impl Claims {
    /// The claims of an answer that is JSON by itself. What cannot be read costs itself, but no name may stand twice.
    pub(crate) fn read(json: &[u8]) -> Option<Self> {
        let object = crate::json::object(json).ok().filter(|object| !object.twice)?;
        Some(Self(object.members))
    }
}

impl fmt::Debug for Claims {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl<'de> Deserialize<'de> for Claims {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Claims;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Claims, A::Error> {
                let mut members = Map::new();
                while let Some((name, value)) = map.next_entry::<String, Value>()? {
                    if members.insert(name, value).is_some() {
                        return Err(de::Error::custom("a member twice"));
                    }
                }
                Ok(Claims(members))
            }
        }
        deserializer.deserialize_map(Object)
    }
}

/// The parts of a JWT in compact form (RFC 7515, section 7.1), decoded and not checked in any way.
pub(crate) struct Decoded {
    pub(crate) header: Claims,
    pub(crate) claims: Claims,
}

/// Takes a JWT apart. Size and number of parts are looked at before anything is decoded.
pub(crate) fn decode(jwt: &str) -> Result<Decoded, Error> {
    let invalid = |why: &'static str| Error::new(ErrorKind::IdToken, why);
    if jwt.len() > MAX_JWT {
        return Err(invalid("the token is longer than 64 KiB"));
    }
    if jwt.split('.').nth(4).is_some() {
        // RFC 7516, section 3.1: a JWE in compact form has five parts.
        let why = "the token is encrypted (JWE), which is not supported: register the client for signed tokens alone";
        return Err(invalid(why).with_advice(crate::Advice::FixConfiguration));
    }
    let mut parts = jwt.split('.');
    let (Some(header), Some(payload), Some(_signature), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(invalid("the token has not the three parts of a JWT"));
    };
    let object = |part: &str, why| -> Result<Claims, Error> {
        let bytes = URL_SAFE_NO_PAD.decode(part).map_err(|_| invalid(why))?;
        serde_json::from_slice(&bytes).map_err(|_| invalid(why))
    };
    Ok(Decoded {
        header: object(header, "the token's header is no JSON object in base64url, or has a member twice")?,
        claims: object(payload, "the token's claims are no JSON object in base64url, or have a member twice")?,
    })
}
