//! Text that must not leak: [`Secret`], and the wiping of buffers that held one.

use std::fmt;

use subtle::ConstantTimeEq;
use zeroize::Zeroize;

/// A text that must not leak: a client secret, a refresh token, a `code_verifier`.
///
/// `Debug` shows only that there is a text, there is no `Display`, and there is no `PartialEq`:
/// [`matches`](Self::matches) compares in constant time. The memory is wiped on drop.
///
/// ```
/// use grantflow::Secret;
///
/// let secret = Secret::from("GOCSPX-demo");
/// assert_eq!(format!("{secret:?}"), "Secret(..)");
/// assert!(secret.matches("GOCSPX-demo"));
/// assert_eq!(secret.expose(), "GOCSPX-demo");
/// ```
#[derive(Clone)]
pub struct Secret(Box<str>);

impl Secret {
    /// The text itself. The caller must see to it that it does not leak.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether `other` is the same text. The comparison takes the same time wherever they differ.
    pub fn matches(&self, other: &str) -> bool {
        self.0.as_bytes().ct_eq(other.as_bytes()).into()
    }

    /// Whether the text is empty.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl From<&str> for Secret {
    fn from(text: &str) -> Self {
        Self(text.into())
    }
}

impl From<String> for Secret {
    /// Takes the text over. Spare capacity is given back by copying, and the original wiped.
    fn from(mut text: String) -> Self {
        if text.len() == text.capacity() {
            return Self(text.into_boxed_str());
        }
        let secret = Self::from(text.as_str());
        text.zeroize();
        secret
    }
}

impl Drop for Secret {
    // A call in each of the many places that drop one, in the place of the whole.
    #[inline(never)]
    fn drop(&mut self) {
        wipe(&mut std::mem::take(&mut self.0).into_boxed_bytes());
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// Wipes bytes all at once, where `zeroize` writes one by one.
pub(crate) fn wipe(bytes: &mut [u8]) {
    bytes.fill(0);
    // Without it the compiler might leave out what nobody reads.
    zeroize::optimization_barrier(bytes);
}

/// Wipes a buffer, and what it has room for: something longer may have lain there.
pub(crate) fn wipe_buffer(buffer: &mut Vec<u8>) {
    buffer.clear();
    buffer.resize(buffer.capacity(), 0);
    zeroize::optimization_barrier(&**buffer);
    buffer.clear();
}

/// Wipes every text inside a JSON value. Member names are not secrets.
pub(crate) fn wipe_json(value: &mut serde_json::Value) {
    use serde_json::Value;
    match value {
        Value::String(text) => text.zeroize(),
        Value::Array(list) => list.iter_mut().for_each(wipe_json),
        Value::Object(members) => members.values_mut().for_each(wipe_json),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// Serialization of secrets, for the few values that are meant to be stored with theirs. They
/// ask for it field by field: [`Secret`] itself has none.
pub(crate) mod stored {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::Secret;

    pub(crate) fn serialize<S: Serializer>(secret: &Secret, serializer: S) -> Result<S::Ok, S::Error> {
        secret.expose().serialize(serializer)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Secret, D::Error> {
        String::deserialize(deserializer).map(Secret::from)
    }

    pub(crate) mod option {
        use super::*;

        pub(crate) fn serialize<S: Serializer>(secret: &Option<Secret>, serializer: S) -> Result<S::Ok, S::Error> {
            secret.as_ref().map(Secret::expose).serialize(serializer)
        }

        pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Secret>, D::Error> {
            Ok(Option::<String>::deserialize(deserializer)?.map(Secret::from))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matches_only_the_same_text() {
        let secret = Secret::from(String::from("abc"));
        for other in ["", "ab", "abd", "ABC", "abcd"] {
            assert!(!secret.matches(other), "{other}");
        }
        assert!(secret.matches("abc"));
    }

    #[test]
    fn wiping_reaches_every_byte() {
        let mut bytes = *b"a secret";
        wipe(&mut bytes);
        assert_eq!(bytes, [0; 8]);
    }

    #[test]
    fn wiping_reaches_nested_text() {
        let mut value = serde_json::json!({"a": ["x", {"b": "y"}], "n": 1});
        wipe_json(&mut value);
        assert_eq!(value, serde_json::json!({"a": ["", {"b": ""}], "n": 1}));
    }
}
