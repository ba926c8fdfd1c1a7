//! Content codings of answers, though the request asked for none (RFC 9110, section 8.4).
//!
//! Adapters ask for `identity`. Caches and firewalls on the way compress all the same, and some take the header off
//! that says so. What such an answer holds, a new refresh token perhaps, must not be lost: gzip (RFC 1952) and deflate
//! (RFC 1950 and 1951) are undone, within the limit of the body. Any other coding is an error that names it.

use http::Response;
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH};
use zeroize::{Zeroize, Zeroizing};

use crate::{Error, ErrorKind};

const GZIP: [u8; 2] = [0x1f, 0x8b];

/// Undoes the coding of an answer's body, if it has one.
pub(super) fn undo(response: &mut Response<Vec<u8>>, max: usize) -> Result<(), Error> {
    let named = response.headers().get_all(CONTENT_ENCODING).iter();
    let named: Vec<_> = named.flat_map(|value| value.as_bytes().split(|byte| *byte == b',')).collect();
    let named: Vec<_> = named.iter().map(|name| name.trim_ascii().to_ascii_lowercase()).collect();
    let mut named = named.iter().map(Vec::as_slice).filter(|name| !name.is_empty() && *name != b"identity");
    let body = response.body();
    let name = match (named.next(), named.next()) {
        _ if body.is_empty() => return Ok(()),
        (None, _) if !body.starts_with(&GZIP) => return Ok(()),
        (None, _) => &b"gzip"[..],
        (Some(name), None) => name,
        (Some(_), Some(_)) => b"several of them",
    };
    let plain = match name {
        b"gzip" | b"x-gzip" => gunzip(body, max),
        b"deflate" => inflate_zlib(body, max),
        // A name is the server's word, which may be anything.
        name => Err(Wrong::Unknown(name.escape_ascii().take(32).map(char::from).collect())),
    };
    let mut plain = match plain {
        Ok(plain) => plain,
        // The coding was undone on the way, and the header left.
        Err(Wrong::Damaged | Wrong::Unknown(_)) if body.trim_ascii_start().starts_with(b"{") => return Ok(()),
        Err(wrong) => {
            let coding = match wrong {
                Wrong::Unknown(name) => {
                    format!("the answer came in a content coding that was not asked for and cannot be undone: {name}")
                }
                Wrong::TooLarge => {
                    "the answer, which came in the content coding gzip or deflate, is larger than allowed".into()
                }
                Wrong::Damaged => "the answer came in the content coding gzip or deflate, and is damaged".into(),
            };
            return Err(Error::new(ErrorKind::InvalidResponse, coding).with_status(response.status().as_u16()));
        }
    };
    response.body_mut().zeroize();
    *response.body_mut() = std::mem::take(&mut *plain);
    response.headers_mut().remove(CONTENT_ENCODING);
    response.headers_mut().remove(CONTENT_LENGTH);
    Ok(())
}

#[derive(Debug, PartialEq)]
enum Wrong {
    Damaged,
    TooLarge,
    Unknown(String),
}

type Plain = Zeroizing<Vec<u8>>;

/// Takes so many bytes off the front.
fn take<'a>(bytes: &mut &'a [u8], count: usize) -> Result<&'a [u8], Wrong> {
    let (taken, rest) = bytes.split_at_checked(count).ok_or(Wrong::Damaged)?;
    *bytes = rest;
    Ok(taken)
}

fn number(bytes: &[u8]) -> u32 {
    bytes.iter().rev().fold(0, |sum, byte| (sum << 8) | u32::from(*byte))
}

/// One or several members of gzip, one after another.
#[cold]
fn gunzip(mut bytes: &[u8], max: usize) -> Result<Plain, Wrong> {
    let mut plain = Zeroizing::new(Vec::with_capacity(max));
    while !bytes.is_empty() {
        let head = take(&mut bytes, 10)?;
        let flags = match head {
            [0x1f, 0x8b, 8, flags, ..] if flags & 0xe0 == 0 => *flags,
            _ => return Err(Wrong::Damaged),
        };
        if flags & 4 != 0 {
            let length = number(take(&mut bytes, 2)?);
            take(&mut bytes, usize::try_from(length).unwrap_or(usize::MAX))?;
        }
        // A name, then a comment, each up to a zero.
        for flag in [8, 16] {
            if flags & flag != 0 {
                let end = bytes.iter().position(|byte| *byte == 0).ok_or(Wrong::Damaged)?;
                take(&mut bytes, end.saturating_add(1))?;
            }
        }
        if flags & 2 != 0 {
            take(&mut bytes, 2)?;
        }
        let start = plain.len();
        inflate(&mut bytes, &mut plain, max)?;
        let (check, length) = (number(take(&mut bytes, 4)?), number(take(&mut bytes, 4)?));
        let member = plain.get(start..).unwrap_or_default();
        if check != crc32(member) || usize::try_from(length) != Ok(member.len()) {
            return Err(Wrong::Damaged);
        }
    }
    Ok(plain)
}

/// What `deflate` means (RFC 9110, section 8.4.1.2): the format of zlib. Some send what is inside of that alone.
#[cold]
fn inflate_zlib(bytes: &[u8], max: usize) -> Result<Plain, Wrong> {
    let mut plain = Zeroizing::new(Vec::with_capacity(max));
    let mut rest = bytes;
    let head = take(&mut rest, 2).unwrap_or_default();
    if let [method, _] = head
        && method & 0x0f == 8
        && head.iter().fold(0_u32, |sum, byte| (sum << 8) | u32::from(*byte)) % 31 == 0
    {
        inflate(&mut rest, &mut plain, max)?;
        let check = take(&mut rest, 4)?.iter().fold(0_u32, |sum, byte| (sum << 8) | u32::from(*byte));
        return if check == adler32(&plain) { Ok(plain) } else { Err(Wrong::Damaged) };
    }
    rest = bytes;
    inflate(&mut rest, &mut plain, max)?;
    if rest.is_empty() { Ok(plain) } else { Err(Wrong::Damaged) }
}

fn crc32(bytes: &[u8]) -> u32 {
    let step = |crc: u32, _| if crc & 1 == 1 { (crc >> 1) ^ 0xedb8_8320 } else { crc >> 1 };
    !bytes.iter().fold(u32::MAX, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), step))
}

fn adler32(bytes: &[u8]) -> u32 {
    let (low, high) = bytes.iter().fold((1_u32, 0_u32), |(low, high), byte| {
        let low = low.wrapping_add(u32::from(*byte)) % 65_521;
        (low, high.wrapping_add(low) % 65_521)
    });
    (high << 16) | low
}

/// Bits, the lowest of each byte first.
struct Bits<'a> {
    bytes: &'a [u8],
    byte: u8,
    left: u32,
}

impl Bits<'_> {
    fn bit(&mut self) -> Result<u16, Wrong> {
        if self.left == 0 {
            let (first, rest) = self.bytes.split_first().ok_or(Wrong::Damaged)?;
            (self.byte, self.bytes, self.left) = (*first, rest, 8);
        }
        let bit = self.byte & 1;
        self.byte >>= 1;
        self.left = self.left.saturating_sub(1);
        Ok(bit.into())
    }

    /// A number of so many bits, the lowest first.
    fn number(&mut self, bits: u8) -> Result<u16, Wrong> {
        (0..u32::from(bits)).try_fold(0, |sum, at| Ok(sum | self.bit()?.wrapping_shl(at)))
    }

    fn symbol(&mut self, code: &Code) -> Result<u16, Wrong> {
        // The codes of one length are consecutive, and begin where those of the length before end.
        let (mut value, mut first, mut before) = (0_u16, 0_u16, 0_u16);
        for count in code.counts {
            value = value.wrapping_shl(1) | self.bit()?;
            first = first.wrapping_shl(1);
            let nth = value.wrapping_sub(first);
            if value >= first && nth < count {
                let at = usize::from(before.saturating_add(nth));
                return code.symbols.get(at).copied().ok_or(Wrong::Damaged);
            }
            first = first.wrapping_add(count);
            before = before.saturating_add(count);
        }
        Err(Wrong::Damaged)
    }
}

/// A code of Huffman's: how many symbols have codes of 1, 2, ... 15 bits, and the symbols in the order of their codes.
struct Code {
    counts: [u16; 15],
    symbols: Vec<u16>,
}

impl Code {
    fn new(lengths: &[u8]) -> Result<Self, Wrong> {
        let (mut counts, mut symbols) = ([0_u16; 15], Vec::with_capacity(lengths.len()));
        // How many codes of the length are not taken yet.
        let mut free = 1_u32;
        for (length, count) in (1..).zip(&mut counts) {
            let those = (0..).zip(lengths).filter(|(_, has)| **has == length).map(|(symbol, _)| symbol);
            let had = symbols.len();
            symbols.extend(those);
            *count = u16::try_from(symbols.len().saturating_sub(had)).map_err(|_| Wrong::Damaged)?;
            free = free.saturating_mul(2).checked_sub(u32::from(*count)).ok_or(Wrong::Damaged)?;
        }
        Ok(Self { counts, symbols })
    }
}

/// For symbols from 257 on: the length that they stand for, and how many bits are added to it.
const LENGTHS: [(u16, u8); 29] = [
    (3, 0),
    (4, 0),
    (5, 0),
    (6, 0),
    (7, 0),
    (8, 0),
    (9, 0),
    (10, 0),
    (11, 1),
    (13, 1),
    (15, 1),
    (17, 1),
    (19, 2),
    (23, 2),
    (27, 2),
    (31, 2),
    (35, 3),
    (43, 3),
    (51, 3),
    (59, 3),
    (67, 4),
    (83, 4),
    (99, 4),
    (115, 4),
    (131, 5),
    (163, 5),
    (195, 5),
    (227, 5),
    (258, 0),
];
/// The same for distances.
const DISTANCES: [(u16, u8); 30] = [
    (1, 0),
    (2, 0),
    (3, 0),
    (4, 0),
    (5, 1),
    (7, 1),
    (9, 2),
    (13, 2),
    (17, 3),
    (25, 3),
    (33, 4),
    (49, 4),
    (65, 5),
    (97, 5),
    (129, 6),
    (193, 6),
    (257, 7),
    (385, 7),
    (513, 8),
    (769, 8),
    (1025, 9),
    (1537, 9),
    (2049, 10),
    (3073, 10),
    (4097, 11),
    (6145, 11),
    (8193, 12),
    (12289, 12),
    (16385, 13),
    (24577, 13),
];
/// The order in which the lengths of the code of lengths come.
const ORDER: [usize; 19] = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];

/// RFC 1951: the blocks up to the last one. What follows is left in `bytes`.
fn inflate(bytes: &mut &[u8], plain: &mut Vec<u8>, max: usize) -> Result<(), Wrong> {
    let start = plain.len();
    let mut bits = Bits { bytes, byte: 0, left: 0 };
    loop {
        let last = bits.bit()? == 1;
        match bits.number(2)? {
            0 => stored(&mut bits, plain, max)?,
            1 => {
                let lengths: Vec<u8> = (0..288)
                    .map(|symbol| match symbol {
                        0..144 | 280.. => 8,
                        144..256 => 9,
                        _ => 7,
                    })
                    .collect();
                coded(&mut bits, plain, start, max, &Code::new(&lengths)?, &Code::new(&[5; 30])?)?;
            }
            2 => {
                let (symbols, distances) = codes(&mut bits)?;
                coded(&mut bits, plain, start, max, &symbols, &distances)?;
            }
            _ => return Err(Wrong::Damaged),
        }
        if last {
            *bytes = bits.bytes;
            return Ok(());
        }
    }
}

fn stored(bits: &mut Bits<'_>, plain: &mut Vec<u8>, max: usize) -> Result<(), Wrong> {
    // It begins with the next whole byte.
    bits.left = 0;
    let (length, inverse) = (number(take(&mut bits.bytes, 2)?), number(take(&mut bits.bytes, 2)?));
    if length != inverse ^ 0xffff {
        return Err(Wrong::Damaged);
    }
    let stored = take(&mut bits.bytes, usize::try_from(length).unwrap_or(usize::MAX))?;
    if stored.len() > max.saturating_sub(plain.len()) {
        return Err(Wrong::TooLarge);
    }
    plain.extend_from_slice(stored);
    Ok(())
}

/// The codes of a block that brings its own.
fn codes(bits: &mut Bits<'_>) -> Result<(Code, Code), Wrong> {
    let symbols = usize::from(bits.number(5)?).saturating_add(257);
    let distances = usize::from(bits.number(5)?).saturating_add(1);
    let given = usize::from(bits.number(4)?).saturating_add(4);
    let mut first = [0; 19];
    for at in ORDER.into_iter().take(given) {
        let length = u8::try_from(bits.number(3)?).map_err(|_| Wrong::Damaged)?;
        *first.get_mut(at).ok_or(Wrong::Damaged)? = length;
    }
    let first = Code::new(&first)?;
    let all = symbols.saturating_add(distances);
    let mut lengths: Vec<u8> = Vec::with_capacity(all);
    while lengths.len() < all {
        let (length, repeat) = match bits.symbol(&first)? {
            16 => (*lengths.last().ok_or(Wrong::Damaged)?, bits.number(2)?.saturating_add(3)),
            17 => (0, bits.number(3)?.saturating_add(3)),
            18 => (0, bits.number(7)?.saturating_add(11)),
            length => (u8::try_from(length).map_err(|_| Wrong::Damaged)?, 1),
        };
        lengths.extend(std::iter::repeat_n(length, repeat.into()));
    }
    if lengths.len() > all {
        return Err(Wrong::Damaged);
    }
    let (symbols, distances) = lengths.split_at_checked(symbols).ok_or(Wrong::Damaged)?;
    Ok((Code::new(symbols)?, Code::new(distances)?))
}

/// Bytes, and copies of earlier bytes.
fn coded(
    bits: &mut Bits<'_>,
    plain: &mut Vec<u8>,
    start: usize,
    max: usize,
    symbols: &Code,
    distances: &Code,
) -> Result<(), Wrong> {
    let room = |plain: &Vec<u8>| max.saturating_sub(plain.len());
    let meant = |bits: &mut Bits<'_>, table: &[(u16, u8)], symbol: u16| {
        let (base, more) = *table.get(usize::from(symbol)).ok_or(Wrong::Damaged)?;
        Ok(usize::from(base).saturating_add(bits.number(more)?.into()))
    };
    loop {
        match bits.symbol(symbols)? {
            256 => return Ok(()),
            byte @ 0..256 => {
                if room(plain) == 0 {
                    return Err(Wrong::TooLarge);
                }
                plain.extend(u8::try_from(byte));
            }
            symbol => {
                let length = meant(bits, &LENGTHS, symbol.saturating_sub(257))?;
                let distance = bits.symbol(distances)?;
                let distance = meant(bits, &DISTANCES, distance)?;
                if length > room(plain) {
                    return Err(Wrong::TooLarge);
                }
                let from = plain.len().checked_sub(distance).filter(|from| *from >= start).ok_or(Wrong::Damaged)?;
                for at in (from..).take(length) {
                    let byte = *plain.get(at).ok_or(Wrong::Damaged)?;
                    plain.push(byte);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Made by zlib 1.3 from [`text`]: level 9, level 0, with fixed codes alone, raw, and two members of gzip.
    const LEVEL_9: &[u8] = include_bytes!("../../tests/coding/level9.gz");
    const ZLIB: &[u8] = include_bytes!("../../tests/coding/level9.zlib");
    const RAW: &[u8] = include_bytes!("../../tests/coding/fixed.raw");
    const STORED: &[u8] = include_bytes!("../../tests/coding/stored.gz");
    const MEMBERS: &[u8] = include_bytes!("../../tests/coding/members.gz");
    const MAX: usize = 1 << 16;

    fn text() -> Vec<u8> {
        let words = ["access_token", "refresh_token", "Bearer", "scope", "0", "ü"];
        let mut text = String::from("{\"a\":\"");
        for at in 0..3000_usize {
            text.push_str(words[at * at % 7 % 6]);
            text.push_str(&(at * 7919 % 1009).to_string());
        }
        text.push_str("\"}");
        text.into_bytes()
    }

    fn answer(coding: &str, body: &[u8]) -> Response<Vec<u8>> {
        let mut response = Response::new(body.to_vec());
        if !coding.is_empty() {
            response.headers_mut().insert(CONTENT_ENCODING, coding.parse().unwrap());
        }
        response
    }

    #[test]
    fn gzip_and_deflate_are_undone_however_they_are_made_and_labelled() {
        for (coding, body) in [
            ("gzip", LEVEL_9),
            ("GZIP", LEVEL_9),
            (" x-gzip ", LEVEL_9),
            ("identity, gzip", LEVEL_9),
            ("", LEVEL_9),
            ("identity", LEVEL_9),
            ("gzip", STORED),
            ("gzip", MEMBERS),
            ("deflate", ZLIB),
            ("deflate", RAW),
        ] {
            let mut response = answer(coding, body);
            undo(&mut response, MAX).unwrap();
            assert!(*response.body() == text(), "{coding}");
            assert!(!response.headers().contains_key(CONTENT_ENCODING), "{coding}");
        }
    }

    #[test]
    fn what_is_plain_stays_as_it_is_whatever_its_label() {
        for (coding, body) in
            [("", "{}"), ("identity", "{}"), ("gzip", "{\"a\":1}"), ("br", " {}"), ("deflate", "{}"), ("gzip", "")]
        {
            let mut response = answer(coding, body.as_bytes());
            undo(&mut response, MAX).unwrap();
            assert_eq!(response.body(), body.as_bytes(), "{coding}");
        }
    }

    #[test]
    fn another_coding_is_named_and_only_so_much_of_its_name_is_shown() {
        for (coding, shown) in [("br", ": br"), ("zstd", ": zstd"), ("gzip, gzip", ": several"), ("\"\\", "\\\"\\\\")] {
            let error = undo(&mut answer(coding, b"\x0b\x01\x80x"), MAX).unwrap_err();
            assert!(error.to_string().contains(shown), "{error}");
        }
        let error = undo(&mut answer(&"x".repeat(1000), b"\x0b"), MAX).unwrap_err();
        assert!(error.to_string().len() < 200, "{error}");
    }

    #[test]
    fn no_more_is_undone_than_is_allowed() {
        let size = text().len();
        for body in [LEVEL_9, STORED, MEMBERS] {
            assert_eq!(gunzip(body, size - 1), Err(Wrong::TooLarge));
            assert_eq!(gunzip(body, size).unwrap().len(), size);
        }
        let error = undo(&mut answer("gzip", LEVEL_9), size - 1).unwrap_err();
        assert!(error.to_string().contains("larger than allowed"), "{error}");
    }

    #[test]
    fn damaged_bytes_are_an_error_and_nothing_panics() {
        // All of head and end, and some of what lies between.
        let places = |length: usize| (0..length).filter(move |at| *at < 64 || *at + 16 > length || at % 997 == 0);
        for body in [LEVEL_9, STORED, MEMBERS] {
            for at in places(body.len()) {
                let mut damaged = body.to_vec();
                damaged[at] ^= 1 << (at % 8);
                // Some fields say nothing of the content: the time, how it was made, a name.
                assert!(gunzip(&damaged, MAX).map_or(true, |plain| *plain == text()), "byte {at}");
            }
        }
        for at in places(LEVEL_9.len()) {
            assert_eq!(gunzip(&LEVEL_9[..at], MAX).is_ok(), at == 0, "{at}");
        }
        for at in places(ZLIB.len()) {
            let mut damaged = ZLIB.to_vec();
            damaged[at] ^= 1 << (at % 8);
            assert!(inflate_zlib(&damaged, MAX).map_or(true, |plain| *plain == text()), "byte {at}");
            assert!(inflate_zlib(&ZLIB[..at], MAX).is_err(), "{at}");
        }
    }
}
