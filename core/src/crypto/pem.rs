//! Keys as texts in PEM (RFC 7468).

use base64::engine::general_purpose::STANDARD;
use base64::{Engine as _, decoded_len_estimate};
use zeroize::Zeroizing;

use crate::Error;

/// The longest PEM text of a key.
const MAX: usize = 32 * 1024;

/// A block of a PEM text.
pub(super) struct Block {
    pub(super) label: &'static str,
    pub(super) bytes: Zeroizing<Vec<u8>>,
}

/// Takes the first block with one of these labels out of a PEM text. `what` names the key in errors.
pub(super) fn decode(pem: &str, what: &str, labels: &[&'static str]) -> Result<Block, Error> {
    let wrong = |why: &str| Error::config(format!("the {what} {why}"));
    if pem.len() > MAX {
        return Err(wrong("is longer than 32 KiB"));
    }
    let mended = mend(pem);
    let mut rest = mended.as_str();
    let mut other = None;
    loop {
        let Some((_, begun)) = rest.split_once("-----BEGIN ") else {
            return Err(match other {
                None => wrong("is no PEM text: it has no line -----BEGIN"),
                Some("ENCRYPTED PRIVATE KEY") => wrong("is encrypted; give it decrypted"),
                Some(label) if label.ends_with("PUBLIC KEY") => wrong("is a public key"),
                Some("CERTIFICATE") => wrong("is a certificate"),
                Some(label) if label.ends_with("PRIVATE KEY") => wrong(
                    "is a private key of a kind that is not taken here; PKCS#8, PKCS#1 and SEC1 are for private keys",
                ),
                Some(_) => wrong("is of a kind that is not understood"),
            });
        };
        let (label, body) =
            begun.split_once("-----").ok_or_else(|| wrong("is no PEM text: its first line breaks off"))?;
        let end = format!("-----END {label}-----");
        let Some(known) = labels.iter().find(|known| **known == label) else {
            other.get_or_insert(label);
            rest = body;
            continue;
        };
        let (body, _) = body.split_once(&*end).ok_or_else(|| wrong("is no PEM text: it has no last line"))?;
        if body.contains("Proc-Type:") {
            return Err(wrong("is encrypted; give it decrypted"));
        }
        let mut base64 = Zeroizing::new(String::with_capacity(body.len()));
        base64.extend(body.split_ascii_whitespace());
        let mut bytes = Zeroizing::new(vec![0; decoded_len_estimate(base64.len())]);
        let length = STANDARD.decode_slice(base64.as_bytes(), &mut bytes);
        bytes.truncate(length.map_err(|_| wrong("is no PEM text: its lines are not base64"))?);
        return Ok(Block { label: known, bytes });
    }
}

/// The text with its line ends: shells and environment files turn them into a backslash and an n.
fn mend(pem: &str) -> Zeroizing<String> {
    let mut mended = Zeroizing::new(String::with_capacity(pem.len()));
    for (nth, line) in pem.split("\\n").enumerate() {
        mended.push_str(if nth > 0 { "\n" } else { "" });
        mended.extend(line.split("\\r"));
    }
    mended
}

#[cfg(test)]
mod tests {
    use super::*;

    const LABELS: [&str; 3] = ["PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY"];

    #[test]
    fn takes_keys_as_shells_leave_them() {
        for (pem, label) in [
            ("-----BEGIN PRIVATE KEY-----\nAAEC\nAwQ=\n-----END PRIVATE KEY-----\n", "PRIVATE KEY"),
            ("-----BEGIN PRIVATE KEY-----\r\nAAEC\r\nAwQ=\r\n-----END PRIVATE KEY-----", "PRIVATE KEY"),
            ("-----BEGIN PRIVATE KEY-----\\r\\nAAEC\\nAwQ=\\n-----END PRIVATE KEY-----\\n", "PRIVATE KEY"),
            ("text before\n-----BEGIN RSA PRIVATE KEY-----\nAAEC AwQ=\n-----END RSA PRIVATE KEY-----", LABELS[1]),
            (
                "-----BEGIN EC PARAMETERS-----\nBggq\n-----END EC PARAMETERS-----\n\
                 -----BEGIN EC PRIVATE KEY-----\nAAECAwQ=\n-----END EC PRIVATE KEY-----",
                LABELS[2],
            ),
        ] {
            let block = decode(pem, "private key", &LABELS).unwrap_or_else(|error| panic!("{pem}: {error}"));
            assert_eq!((block.bytes.as_slice(), block.label), (&[0, 1, 2, 3, 4][..], label));
        }
    }

    #[test]
    fn says_what_is_wrong_and_shows_no_key() {
        for (pem, why) in [
            ("", "no line -----BEGIN"),
            ("AAECAwQ=", "no line -----BEGIN"),
            ("-----BEGIN PRIVATE KEY-----\nAAEC", "no last line"),
            ("-----BEGIN PRIVATE KEY", "first line breaks off"),
            ("-----BEGIN PRIVATE KEY-----\nA*B\n-----END PRIVATE KEY-----", "not base64"),
            ("-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAEC\n-----END ENCRYPTED PRIVATE KEY-----", "encrypted"),
            (
                "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\nAAEC\n-----END RSA PRIVATE KEY-----",
                "is encrypted",
            ),
            ("-----BEGIN CERTIFICATE-----\nAAEC\n-----END CERTIFICATE-----", "certificate"),
            ("-----BEGIN PUBLIC KEY-----\nAAEC\n-----END PUBLIC KEY-----", "public key"),
            ("-----BEGIN DSA PRIVATE KEY-----\nAAEC\n-----END DSA PRIVATE KEY-----", "not taken here"),
            ("-----BEGIN X-----\nAAEC\n-----END X-----", "not understood"),
            (&"-".repeat(MAX + 1), "32 KiB"),
        ] {
            let error = decode(pem, "private key", &LABELS).err().map(|error| error.to_string()).unwrap_or_default();
            assert!(error.contains(why), "{error}");
            assert!(!error.contains("AAEC"), "{error}");
        }
    }
}
