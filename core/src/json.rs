//! JSON objects as servers really send them: a member that cannot be read does not spoil the whole.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserializer as _, MapAccess, Visitor};
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use zeroize::Zeroizing;

use crate::{Deviation, Deviations};

/// An object, and what was tolerated to read it.
#[derive(Default)]
pub(crate) struct Object {
    pub(crate) members: Map<String, Value>,
    pub(crate) found: Deviations,
    /// A name stands twice; the last value was taken.
    pub(crate) twice: bool,
}

/// Reads an object. A byte order mark is passed over, bytes that are not UTF-8 are replaced by U+FFFD, and a
/// member is left out if nothing but its own value is wrong: a lone surrogate, a number beyond all numbers, too
/// many levels.
///
/// # Errors
///
/// Where the text as a whole is no object.
pub(crate) fn object(bytes: &[u8]) -> Result<Object, serde_json::Error> {
    let rest = bytes.strip_prefix(b"\xef\xbb\xbf");
    let mark = if rest.is_some() { Deviations::NONE.with(Deviation::ByteOrderMark) } else { Deviations::NONE };
    let bytes = rest.unwrap_or(bytes);
    let error = match read(bytes, Reader { each: false, found: mark }) {
        Ok(object) => return Ok(object),
        Err(error) => error,
    };
    // The first error tells the place in what was sent.
    let (text, mut found) = match String::from_utf8_lossy(bytes) {
        Cow::Borrowed(text) => (Zeroizing::new(text.to_owned()), mark),
        Cow::Owned(text) => (Zeroizing::new(text), mark.with(Deviation::BrokenText)),
    };
    let mended = mended(&text).map(Zeroizing::new);
    if mended.is_some() {
        found = found.with(Deviation::OddMember);
    }
    read(mended.as_ref().unwrap_or(&text).as_bytes(), Reader { each: true, found }).map_err(|_| error)
}

/// The text without what writers of JSON get wrong within a value, if there is some: a control character in a text
/// becomes U+FFFD, and a number that JSON does not have (`NaN`, `Infinity`) becomes `null`.
#[cold]
pub(crate) fn mended(text: &str) -> Option<String> {
    // As long as it can become: text that moves leaves copies of secrets behind.
    let mut mended = String::with_capacity(text.len().saturating_mul('\u{fffd}'.len_utf8()));
    let (mut rest, mut in_text, mut changed) = (text, false, false);
    while let Some(c) = rest.chars().next() {
        let length = match c {
            '\\' if in_text => rest.chars().take(2).map(char::len_utf8).sum(),
            '"' => {
                in_text = !in_text;
                1
            }
            _ if in_text && c.is_ascii_control() && c != '\u{7f}' => {
                (rest, changed) = (rest.get(1..)?, true);
                mended.push('\u{fffd}');
                continue;
            }
            'N' | 'I' | '-' if !in_text => {
                match ["NaN", "Infinity", "-Infinity", "-NaN"].iter().find_map(|it| rest.strip_prefix(it)) {
                    Some(behind) => {
                        (rest, changed) = (behind, true);
                        mended.push_str("null");
                        continue;
                    }
                    None => 1,
                }
            }
            other => other.len_utf8(),
        };
        let (taken, behind) = rest.split_at_checked(length)?;
        mended.push_str(taken);
        rest = behind;
    }
    if changed {
        return Some(mended);
    }
    zeroize::Zeroize::zeroize(&mut mended);
    None
}

fn read(bytes: &[u8], reader: Reader) -> serde_json::Result<Object> {
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let object = json.deserialize_map(reader)?;
    json.end()?;
    Ok(object)
}

/// Reads the members, all at once or each by itself.
struct Reader {
    each: bool,
    found: Deviations,
}

impl<'de> Visitor<'de> for Reader {
    type Value = Object;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Object, A::Error> {
        let mut object = Object { found: self.found, ..Object::default() };
        while let Some(name) = map.next_key::<String>()? {
            let value = if self.each {
                let text: &RawValue = map.next_value()?;
                let Ok(value) = serde_json::from_str(text.get()) else {
                    object.found = object.found.with(Deviation::OddMember);
                    continue;
                };
                value
            } else {
                map.next_value()?
            };
            object.twice |= object.members.insert(name, value).is_some();
        }
        Ok(object)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_member_that_cannot_be_read_costs_itself() {
        let deep = format!(r#"{{"a":"b","c":{}{}}}"#, "[".repeat(200), "]".repeat(200));
        for (json, found) in [
            (&br#"{"a":"b","c":"d"}"#[..], &[][..]),
            (b"\xef\xbb\xbf{\"a\":\"b\"}", &[Deviation::ByteOrderMark]),
            (b"{\"a\":\"b\",\"c\":\"\xe9\"}", &[Deviation::BrokenText]),
            (br#"{"a":"b","c":"\ud800"}"#, &[Deviation::OddMember]),
            (br#"{"c":1e999,"a":"b"}"#, &[Deviation::OddMember]),
            (br#"{"c":NaN,"d":[-Infinity,{"e":Infinity}],"a":"b"}"#, &[Deviation::OddMember]),
            (b"{\"c\":\"two\nlines \\\" NaN\",\"a\":\"b\"}", &[Deviation::OddMember]),
            (deep.as_bytes(), &[Deviation::OddMember]),
        ] {
            let object = object(json).unwrap();
            assert_eq!(object.members.get("a"), Some(&Value::from("b")));
            assert_eq!(object.found.iter().collect::<Vec<_>>(), found);
            assert!(!object.twice);
        }
        assert!(object(br#"{"a":1,"a":2}"#).unwrap().twice);
    }

    #[test]
    fn what_is_no_object_is_an_error_at_its_place() {
        for (json, column) in [("", 0), ("[]", 0), ("{\"a\":}", 6), ("{\"a\":1} x", 9), ("{'a':1}", 2), ("<html>", 1)] {
            assert_eq!(object(json.as_bytes()).err().map(|error| error.column()), Some(column), "{json}");
        }
    }
}
