//! The claims of a JWT, read strictly: a name that stands twice is refused (RFC 7519, section 4).

use std::fmt;

use serde::de::{self, Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::{Map, Value};

use crate::Timestamp;

/// The claims of a token that was checked (RFC 7519, section 4). `Debug` shows their names.
#[derive(Clone, Default)]
pub struct Claims(Map<String, Value>);

impl Claims {
    /// Wipes the texts, where they are the numbers of a private key.
    pub(crate) fn wipe(&mut self) {
        self.0.values_mut().for_each(crate::secret::wipe_json);
    }

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
