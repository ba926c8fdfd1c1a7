//! As much of DER as keys are written in: nested values with a tag and a length (X.690, sections 8 and 10).

use zeroize::Zeroizing;

pub(super) const INTEGER: u8 = 0x02;
pub(super) const BIT_STRING: u8 = 0x03;
pub(super) const OCTET_STRING: u8 = 0x04;
pub(super) const OID: u8 = 0x06;
pub(super) const SEQUENCE: u8 = 0x30;

/// Takes a value of this tag off the front of `bytes`. `None` if there is another, or it is cut off.
pub(super) fn take<'a>(bytes: &mut &'a [u8], tag: u8) -> Option<&'a [u8]> {
    let (&found, rest) = bytes.split_first()?;
    if found != tag {
        return None;
    }
    let (&first, mut rest) = rest.split_first()?;
    let length = match first {
        0..=0x7f => usize::from(first),
        0x81..=0x83 => {
            let (digits, behind) = rest.split_at_checked(usize::from(first & 0x7f))?;
            rest = behind;
            digits.iter().fold(0_usize, |length, digit| (length << 8) | usize::from(*digit))
        }
        _ => return None,
    };
    let (value, behind) = rest.split_at_checked(length)?;
    *bytes = behind;
    Some(value)
}

/// The one value of this tag that `bytes` are.
pub(super) fn whole(mut bytes: &[u8], tag: u8) -> Option<&[u8]> {
    take(&mut bytes, tag).filter(|_| bytes.is_empty())
}

/// Takes a number that is not negative, without leading zeros.
pub(super) fn take_unsigned<'a>(bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
    let value = take(bytes, INTEGER)?;
    match value {
        [] | [0x80..=0xff, ..] => None,
        [0, rest @ ..] => Some(rest),
        _ => Some(value),
    }
}

/// Takes the bits of a bit string of whole bytes.
pub(super) fn take_bits<'a>(bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
    match take(bytes, BIT_STRING)? {
        [0, bits @ ..] => Some(bits),
        _ => None,
    }
}

/// Writes a value: the parts one behind another.
pub(super) fn write(tag: u8, parts: &[&[u8]]) -> Zeroizing<Vec<u8>> {
    let length = parts.iter().fold(0_usize, |sum, part| sum.saturating_add(part.len()));
    let mut bytes = Zeroizing::new(Vec::with_capacity(length.saturating_add(5)));
    bytes.push(tag);
    let [.., a, b, c] = length.to_be_bytes();
    match (a, b, c) {
        (0, 0, 0..=0x7f) => bytes.push(c),
        (0, 0, _) => bytes.extend([0x81, c]),
        (0, _, _) => bytes.extend([0x82, b, c]),
        _ => bytes.extend([0x83, a, b, c]),
    }
    parts.iter().for_each(|part| bytes.extend_from_slice(part));
    bytes
}

/// Writes a number that is not negative.
pub(super) fn write_unsigned(value: &[u8]) -> Zeroizing<Vec<u8>> {
    let zeros = value.iter().take_while(|byte| **byte == 0).count();
    let digits = value.get(zeros..).unwrap_or_default();
    let sign: &[u8] = if digits.first().is_none_or(|first| *first >= 0x80) { &[0] } else { &[] };
    write(INTEGER, &[sign, digits])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again_at_every_length() {
        for length in [0, 1, 127, 128, 255, 256, 65_535, 65_536] {
            let value = vec![7; length];
            let bytes = write(OCTET_STRING, &[&value]);
            assert_eq!(whole(&bytes, OCTET_STRING), Some(&value[..]), "{length}");
            assert_eq!(whole(&bytes, SEQUENCE), None);
            assert_eq!(whole(&bytes[..bytes.len() - 1], OCTET_STRING), None);
        }
        for number in [&[1][..], &[0x7f], &[0x80], &[0xff, 0]] {
            let bytes = write_unsigned(number);
            assert_eq!(take_unsigned(&mut &bytes[..]), Some(number));
        }
        assert_eq!(*write_unsigned(&[0, 0, 5]), [2, 1, 5]);
        assert_eq!(*write_unsigned(&[]), [2, 1, 0]);
    }

    #[test]
    fn lengths_that_lie_and_negative_numbers_are_refused() {
        for bytes in [&[][..], &[0x30], &[0x30, 1], &[0x30, 0x80, 0], &[0x30, 0x84, 0, 0, 0, 0], &[0x30, 0x82, 1]] {
            assert_eq!(whole(bytes, SEQUENCE), None, "{bytes:?}");
        }
        for bytes in [&[2, 0][..], &[2, 1, 0x80]] {
            assert_eq!(take_unsigned(&mut &bytes[..]), None, "{bytes:?}");
        }
        assert_eq!(take_bits(&mut &[3, 2, 4, 0][..]), None);
    }
}
