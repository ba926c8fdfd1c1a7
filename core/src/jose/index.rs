//! Where the members of a JSON object stand in its text, for objects of which most members are never asked for.
//!
//! The usual shape, as issuers write their tokens, is read in one go. Any other, such as one with blanks or escapes, is
//! read from the start by `serde_json`, which alone says what is refused.

use std::collections::BTreeSet;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

/// Up to this many names are compared each with each.
const FEW: usize = 32;

/// The members of a JSON object, by where they stand. No name stands twice.
#[derive(Clone, Default)]
pub(super) struct Members(Vec<Member>);

#[derive(Clone)]
struct Member {
    name: Name,
    value: Span,
}

#[derive(Clone)]
enum Name {
    Plain(Span),
    /// One that is written with an escape.
    Escaped(Box<str>),
}

/// A part of the JSON, which is less than 4 GiB long.
#[derive(Clone, Copy)]
struct Span {
    start: u32,
    end: u32,
}

impl Members {
    /// Reads an object in which no name stands twice.
    pub(super) fn read(json: &str) -> Option<Self> {
        let members = Self(Cursor { json: json.as_bytes(), at: 0 }.usual(json).or_else(|| any(json))?);
        members.are_unique(json).then_some(members)
    }

    fn are_unique(&self, json: &str) -> bool {
        if self.0.len() > FEW {
            let mut names = BTreeSet::new();
            return self.0.iter().all(|member| names.insert(member.name.in_text(json)));
        }
        let mut rest = self.0.as_slice();
        while let [first, others @ ..] = rest {
            let name = first.name.in_text(json);
            if others.iter().any(|other| other.name.is(name, json)) {
                return false;
            }
            rest = others;
        }
        true
    }

    /// The JSON of a member's value.
    #[inline]
    pub(super) fn find<'a>(&self, name: &str, json: &'a str) -> Option<&'a str> {
        let member = self.0.iter().find(|member| member.name.is(name, json))?;
        Some(member.value.in_text(json))
    }

    /// Names and the JSON of their values, as they stand.
    pub(super) fn iter<'a>(&'a self, json: &'a str) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.0.iter().map(|member| (member.name.in_text(json), member.value.in_text(json)))
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}

impl Span {
    fn new(start: usize, end: usize) -> Self {
        let index = |at: usize| u32::try_from(at).unwrap_or(u32::MAX);
        Self { start: index(start), end: index(end) }
    }

    /// Where this part of `json` stands in it.
    fn of(part: &str, json: &str) -> Self {
        let start = (part.as_ptr() as usize).wrapping_sub(json.as_ptr() as usize);
        Self::new(start, start.wrapping_add(part.len()))
    }

    fn len(self) -> usize {
        self.end.saturating_sub(self.start) as usize
    }

    fn in_text(self, json: &str) -> &str {
        json.get(self.start as usize..self.end as usize).unwrap_or_default()
    }
}

impl Name {
    /// Names are short, and mostly differ in length or in the first letters: to call a function costs more.
    #[inline]
    fn is(&self, name: &str, json: &str) -> bool {
        match self {
            Self::Plain(span) => {
                let own = || json.as_bytes().get(span.start as usize..span.end as usize).unwrap_or_default();
                span.len() == name.len() && own().iter().eq(name.as_bytes())
            }
            Self::Escaped(own) => **own == *name,
        }
    }

    fn in_text<'a>(&'a self, json: &'a str) -> &'a str {
        match self {
            Self::Plain(span) => span.in_text(json),
            Self::Escaped(name) => name,
        }
    }
}

/// Reads the usual shape: no blanks, no escapes, and whole numbers alone. `None` says nothing but that it is another.
struct Cursor<'a> {
    json: &'a [u8],
    at: usize,
}

impl Cursor<'_> {
    fn usual(mut self, json: &str) -> Option<Vec<Member>> {
        let mut members = Vec::with_capacity(16);
        self.eat(b'{')?;
        loop {
            self.eat(b'"')?;
            let name = Name::Plain(self.text()?);
            self.eat(b':')?;
            members.push(Member { name, value: self.value(json)? });
            match self.next()? {
                b',' => {}
                b'}' => return (self.at == self.json.len()).then_some(members),
                _ => return None,
            }
        }
    }

    fn next(&mut self) -> Option<u8> {
        let byte = *self.json.get(self.at)?;
        self.at = self.at.saturating_add(1);
        Some(byte)
    }

    fn eat(&mut self, wanted: u8) -> Option<()> {
        (self.next()? == wanted).then_some(())
    }

    /// The rest of a text, without the quote behind it.
    fn text(&mut self) -> Option<Span> {
        let start = self.at;
        let end = start.saturating_add(plain(self.json.get(start..)?));
        self.at = end;
        self.eat(b'"')?;
        Some(Span::new(start, end))
    }

    fn value(&mut self, json: &str) -> Option<Span> {
        let start = self.at;
        match self.next()? {
            b'"' => drop(self.text()?),
            b'1'..=b'9' => {
                while self.json.get(self.at).is_some_and(u8::is_ascii_digit) {
                    self.at = self.at.saturating_add(1);
                }
            }
            b't' => self.word("rue")?,
            b'f' => self.word("alse")?,
            b'n' => self.word("ull")?,
            b'[' | b'{' => {
                let mut values = serde_json::Deserializer::from_str(json.get(start..)?).into_iter::<&RawValue>();
                values.next()?.ok()?;
                self.at = start.saturating_add(values.byte_offset());
            }
            _ => return None,
        }
        Some(Span::new(start, self.at))
    }

    fn word(&mut self, rest: &str) -> Option<()> {
        self.json.get(self.at..)?.starts_with(rest.as_bytes()).then_some(())?;
        self.at = self.at.saturating_add(rest.len());
        Some(())
    }
}

/// How many bytes come before the first that ends a text, begins an escape or may not stand in one.
fn plain(text: &[u8]) -> usize {
    const ONES: u64 = u64::MAX / 255;
    // The lowest mark is right; those above it may be wrong, by what is borrowed.
    let below = |word: u64, least: u8| word.wrapping_sub(ONES.wrapping_mul(u64::from(least))) & !word & (ONES << 7);
    let (chunks, _) = text.as_chunks::<8>();
    let mut passed: usize = 0;
    for chunk in chunks {
        let word = u64::from_le_bytes(*chunk);
        let is = |byte: u8| below(word ^ ONES.wrapping_mul(u64::from(byte)), 1);
        let marks = below(word, b' ') | is(b'"') | is(b'\\');
        if marks != 0 {
            return passed.saturating_add(marks.trailing_zeros() as usize / 8);
        }
        passed = passed.saturating_add(8);
    }
    let rest = text.get(passed..).unwrap_or_default();
    passed.saturating_add(rest.iter().take_while(|byte| !matches!(byte, b'"' | b'\\' | ..b' ')).count())
}

/// Reads any object.
fn any(json: &str) -> Option<Vec<Member>> {
    let mut reader = serde_json::Deserializer::from_str(json);
    let members = reader.deserialize_map(Index(json)).ok()?;
    reader.end().ok()?;
    Some(members)
}

struct Index<'a>(&'a str);

impl<'de> Visitor<'de> for Index<'de> {
    type Value = Vec<Member>;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Vec<Member>, A::Error> {
        let mut members = Vec::with_capacity(16);
        while let Some(name) = map.next_key_seed(ReadName(self.0))? {
            let value: &RawValue = map.next_value()?;
            members.push(Member { name, value: Span::of(value.get(), self.0) });
        }
        Ok(members)
    }
}

/// Reads a name.
struct ReadName<'a>(&'a str);

impl<'de> DeserializeSeed<'de> for ReadName<'de> {
    type Value = Name;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Name, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for ReadName<'de> {
    type Value = Name;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }
    fn visit_borrowed_str<E>(self, name: &'de str) -> Result<Name, E> {
        Ok(Name::Plain(Span::of(name, self.0)))
    }
    fn visit_str<E>(self, name: &str) -> Result<Name, E> {
        Ok(Name::Escaped(name.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usual(json: &str) -> Option<Vec<Member>> {
        Cursor { json: json.as_bytes(), at: 0 }.usual(json)
    }

    /// Names and values.
    fn told(members: Option<Vec<Member>>, json: &str) -> Option<Vec<(String, String)>> {
        let owned = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
        Some(Members(members?).iter(json).map(owned).collect())
    }

    #[test]
    fn the_usual_shape_is_read_in_one_go() {
        for json in [
            r#"{"alg":"RS256","kid":"55c188a83546fc188e515766ef7c3b4fbb6ab7b6","typ":"JWT"}"#,
            r#"{"aud":["a","b \"c\" "],"exp":1795179600,"v":true,"w":false,"n":null,"o":{"p":[1.5e3,{}]},"":"ü"}"#,
            "{\"ü\":\"\u{1f600}\",\"a\":\"\"}",
        ] {
            assert!(usual(json).is_some(), "{json}");
        }
    }

    /// Each text with one change at each place: what the quick reader takes, `serde_json` takes in the same way.
    #[test]
    fn the_quick_reader_takes_nothing_that_the_other_refuses_or_reads_otherwise() {
        let texts = [
            r#"{"alg":"RS256","n":17,"b":true,"c":[1,"]"],"d":{"e":"}"},"f":null,"0123456789abcdef":"0123456789abcde"}"#,
            r#"{"ü":"ä€","g":false,"h":10,"h":1}"#,
        ];
        let mut taken = 0;
        for text in texts {
            for at in 0..=text.len() {
                let (Some(before), Some(after)) = (text.get(..at), text.get(at..)) else { continue };
                let rest = after.chars().next().map_or("", |first| &after[first.len_utf8()..]);
                let puts =
                    ["", " ", "\n", "\0", "\u{1f}", "\u{7f}", "\"", "\\", "{", "}", "[", "]", ",", ":", "-", "0", "1"];
                for put in puts.into_iter().chain([".", "e", "t", "true", "nul", "ü", "\u{ff}", "{}", "[]", "\"a\":1,"])
                {
                    for json in
                        [format!("{before}{put}{after}"), format!("{before}{put}{rest}"), format!("{before}{put}")]
                    {
                        if let Some(quick) = told(usual(&json), &json) {
                            assert_eq!(Some(quick), told(any(&json), &json), "{json}");
                            taken += 1;
                        }
                    }
                }
            }
        }
        assert!(taken > 1000, "{taken}");
    }

    #[test]
    fn plain_text_ends_at_the_first_byte_that_is_none() {
        for byte in 0..=u8::MAX {
            let ends = byte < b' ' || matches!(byte, b'"' | b'\\');
            for at in 0..20 {
                let mut text = [b'x'; 20];
                text[at] = byte;
                assert_eq!(plain(&text), if ends { at } else { 20 }, "{byte} at {at}");
                // What stands before has no say, nor has what comes after.
                text.fill(0xff);
                text[at] = byte;
                text[19] = b'"';
                assert_eq!(plain(&text), if ends { at } else { 19 }, "{byte} at {at}");
            }
        }
        assert_eq!(plain(b""), 0);
    }
}
