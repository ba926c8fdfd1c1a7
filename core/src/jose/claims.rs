//! The claims of a JWT, read strictly: a name that stands twice is refused (RFC 7519, section 4).
//!
//! They stay the JSON that they came as, with an index of where each member stands: most of them are never asked for.

use std::fmt;
use std::sync::OnceLock;

use serde::de::{self, Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::{Map, Number, Value};

use super::index::Members;
use crate::Timestamp;

/// The claims of a token that has been checked (RFC 7519, section 4). `Debug` shows their names.
#[derive(Clone, Default)]
pub struct Claims {
    json: String,
    members: Members,
    /// All members as values: made when one is asked for, or from the start where there is no JSON.
    values: OnceLock<Map<String, Value>>,
}

/// The place of a claim that another party makes: see [`Claims::source`]. `Debug` shows the kind.
#[non_exhaustive]
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum ClaimSource<'a> {
    /// In a JWT beside it, signed by the party that makes the claim: verify the JWT by that party's keys, such as with
    /// [`Jws`](super::Jws).
    Aggregated {
        /// The JWT.
        jwt: &'a str,
    },
    /// At an address, which answers with such a JWT. The address comes from the server: a request to it goes where the
    /// server wants.
    Distributed {
        /// The address.
        endpoint: &'a str,
        /// A bearer token for the request, if there is one.
        access_token: Option<&'a str>,
    },
}

impl fmt::Debug for ClaimSource<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Aggregated { .. } => "Aggregated(..)",
            Self::Distributed { .. } => "Distributed(..)",
        })
    }
}

impl Claims {
    /// Reads a JSON object in which no name stands twice.
    pub(crate) fn parse(json: Vec<u8>) -> Option<Self> {
        let json = String::from_utf8(json).ok()?;
        let members = Members::read(&json)?;
        Some(Self { json, members, values: OnceLock::new() })
    }

    /// The JSON of a member, if the members are there as JSON and it stands among them.
    fn raw(&self, name: &str) -> Option<&str> {
        self.members.find(name, &self.json)
    }

    fn values(&self) -> &Map<String, Value> {
        // It was read before: a value that cannot be, such as a number that is too large, costs itself.
        self.values.get_or_init(|| {
            let read = |(name, value): (&str, &str)| Some((name.to_owned(), serde_json::from_str(value).ok()?));
            self.members.iter(&self.json).filter_map(read).collect()
        })
    }

    /// Whether there is such a claim, of whatever value.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.raw(name).is_some() || self.json.is_empty() && self.values().contains_key(name)
    }

    /// Wipes the texts, where they are the numbers of a private key.
    pub(crate) fn wipe(&mut self) {
        zeroize::Zeroize::zeroize(&mut self.json);
        self.members.clear();
        if let Some(values) = self.values.get_mut() {
            values.values_mut().for_each(crate::secret::wipe_json);
        }
    }

    /// A claim by its name.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.values().get(name)
    }

    /// A claim that is a text.
    pub fn str(&self, name: &str) -> Option<&str> {
        match self.raw(name) {
            Some(raw) => match raw.strip_prefix('"')?.strip_suffix('"')? {
                plain if !plain.contains('\\') => Some(plain),
                _ => self.get(name)?.as_str(),
            },
            None if self.json.is_empty() => self.get(name)?.as_str(),
            None => None,
        }
    }

    /// A claim that is a moment: seconds since the epoch, as `exp`, `iat`, `auth_time`.
    pub fn time(&self, name: &str) -> Option<Timestamp> {
        let number: Number = match self.raw(name) {
            Some(raw) => serde_json::from_str(raw).ok()?,
            None if self.json.is_empty() => self.get(name)?.as_number()?.clone(),
            None => return None,
        };
        // A fraction is legal (RFC 7519, section 2); what is beyond any date is not.
        let seconds = number.as_i64().or_else(|| number.as_f64().filter(|s| s.abs() < 1e15).map(|s| s as i64))?;
        (seconds >= 0).then(|| Timestamp::from_unix(seconds))
    }

    /// A claim that is a truth value. Apple and Amazon send it as text, which is understood.
    pub fn bool(&self, name: &str) -> Option<bool> {
        match self.get(name)? {
            Value::Bool(value) => Some(*value),
            Value::String(text) => text.parse().ok(),
            _ => None,
        }
    }

    /// A claim that is a text or a list of texts, as `aud`: all of them. `None` if the claim is missing, empty or holds
    /// anything else.
    pub fn list(&self, name: &str) -> Option<Vec<&str>> {
        if let Some(text) = self.str(name) {
            return Some(vec![text]);
        }
        match self.get(name)? {
            Value::Array(list) if !list.is_empty() => list.iter().map(Value::as_str).collect(),
            _ => None,
        }
    }

    /// The place of a claim that another party makes (OpenID Connect Core 1.0, section 5.6.2). This is data: it is
    /// neither verified nor fetched.
    pub fn source(&self, name: &str) -> Option<ClaimSource<'_>> {
        let source = self.get("_claim_names")?.get(name)?.as_str()?;
        let source = self.get("_claim_sources")?.get(source)?;
        let text = |name: &str| source.get(name).and_then(Value::as_str);
        match (text("JWT"), text("endpoint")) {
            (Some(jwt), None) => Some(ClaimSource::Aggregated { jwt }),
            (None, Some(endpoint)) => Some(ClaimSource::Distributed { endpoint, access_token: text("access_token") }),
            _ => None,
        }
    }

    /// All claims, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.values().iter().map(|(name, value)| (name.as_str(), value))
    }

    /// The claims of an answer that is JSON by itself. What cannot be read costs itself, but no name may stand twice.
    pub(crate) fn read(json: &[u8]) -> Option<Self> {
        let object = crate::json::object(json).ok().filter(|object| !object.twice)?;
        Some(object.members.into())
    }

    /// A claim that is itself an object.
    pub(crate) fn object(&self, name: &str) -> Option<Self> {
        match self.raw(name) {
            Some(raw) => Self::parse(raw.as_bytes().to_vec()),
            None => self.get(name)?.as_object().cloned().map(Self::from),
        }
    }
}

impl From<Map<String, Value>> for Claims {
    fn from(members: Map<String, Value>) -> Self {
        Self { json: String::new(), members: Members::default(), values: members.into() }
    }
}

impl fmt::Debug for Claims {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut names: Vec<_> = match self.json.is_empty() {
            true => self.values().keys().map(String::as_str).collect(),
            false => self.members.iter(&self.json).map(|(name, _)| name).collect(),
        };
        names.sort_unstable();
        f.debug_set().entries(names).finish()
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
                Ok(members.into())
            }
        }
        deserializer.deserialize_map(Object)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(json: &str) -> Option<Claims> {
        Claims::parse(json.as_bytes().to_vec())
    }

    #[test]
    fn the_index_says_what_the_values_say() {
        let json = r#" {"a": "x", "b\u0062" : "y\n", "c":[ "1" , "2"], "d":-1.5e0, "e":17, "f":true,"g":"false",
            "h":{"i":"j"}, "k":null, "ü":"ü", "l":9e999, "m":"\"", "n":"" } "#;
        let claims = parse(json).unwrap();
        for (name, text) in [("a", "x"), ("bb", "y\n"), ("ü", "ü"), ("m", "\""), ("n", ""), ("g", "false")] {
            assert_eq!(claims.str(name), Some(text), "{name}");
            assert_eq!(claims.list(name), Some(vec![text]), "{name}");
        }
        for name in ["c", "d", "e", "f", "h", "k", "l", "b", ""] {
            assert_eq!(claims.str(name), None, "{name}");
        }
        assert_eq!(claims.list("c"), Some(vec!["1", "2"]));
        assert_eq!(claims.time("e"), Some(Timestamp::from_unix(17)));
        for name in ["a", "d", "k", "l", "g", "zz"] {
            assert_eq!(claims.time(name), None, "{name}");
        }
        assert_eq!((claims.bool("f"), claims.bool("g"), claims.bool("e")), (Some(true), Some(false), None));
        assert_eq!(claims.object("h").unwrap().str("i"), Some("j"));
        assert!(claims.object("a").is_none() && claims.has("l") && !claims.has("b"));
        // A number that no type holds is there, and has no value.
        assert_eq!(claims.iter().count(), 12);
        let clone = claims.clone();
        assert_eq!(clone.str("a"), Some("x"));
    }

    #[test]
    fn a_name_that_stands_twice_is_refused_however_it_is_written() {
        assert!(parse(r#"{"a":1,"b":2,"\u0061":3}"#).is_none());
        assert!(parse(r#"{"a":1,"b":2,"b":2}"#).is_none());
        let many: Vec<_> = (0..100).map(|n| format!(r#""n{n}":{n}"#)).collect();
        assert!(parse(&format!("{{{}}}", many.join(","))).is_some());
        assert!(parse(&format!("{{{},\"n7\":1}}", many.join(","))).is_none());
    }

    #[test]
    fn what_is_no_object_is_refused() {
        for json in ["", "[]", "\"x\"", "{", "{}x", r#"{"a"}"#, r#"{"a":}"#, r#"{"a":1,}"#, "{\"a\":\"\u{1}\"}"] {
            assert!(parse(json).is_none(), "{json}");
        }
        assert!(Claims::parse(b"{\"a\":\"\xff\"}".to_vec()).is_none());
        assert!(parse("{}").is_some_and(|claims| !claims.has("a") && claims.get("a").is_none()));
        let deep = format!("{{\"a\":{}}}", "[".repeat(10_000));
        assert!(parse(&deep).is_none());
    }
}
