//! Private keys in PEM (RFC 7468).

use base64::engine::general_purpose::STANDARD;
use base64::{Engine as _, decoded_len_estimate};
use zeroize::Zeroizing;

use super::key::{Der, Form};
use crate::Error;

/// The longest PEM text of a key.
const MAX: usize = 32 * 1024;

/// Takes the first private key out of a PEM text.
pub(super) fn decode(pem: &str) -> Result<Der, Error> {
    let wrong = |why| Error::config(format!("the private key {why}"));
    if pem.len() > MAX {
        return Err(wrong("is longer than 32 KiB"));
    }
    // Shells and environment files turn line ends into a backslash and an n.
    let mut mended = Zeroizing::new(String::with_capacity(pem.len()));
    for (nth, line) in pem.split("\\n").enumerate() {
        mended.push_str(if nth > 0 { "\n" } else { "" });
        mended.extend(line.split("\\r"));
    }
    let begin = "-----BEGIN ";
    let (_, rest) = mended.split_once(begin).ok_or_else(|| wrong("is no PEM text: it has no line -----BEGIN"))?;
    let (label, rest) = rest.split_once("-----").ok_or_else(|| wrong("is no PEM text: its first line breaks off"))?;
    let form = match label {
        "PRIVATE KEY" => Form::Pkcs8,
        "RSA PRIVATE KEY" => Form::Pkcs1,
        "ENCRYPTED PRIVATE KEY" => return Err(wrong("is encrypted; give it decrypted")),
        "PUBLIC KEY" | "RSA PUBLIC KEY" | "CERTIFICATE" => return Err(wrong("is a public key or a certificate")),
        _ => return Err(wrong("is of a kind that is not understood; PKCS#8 and PKCS#1 are")),
    };
    let end = format!("-----END {label}-----");
    let (body, _) = rest.split_once(&*end).ok_or_else(|| wrong("is no PEM text: it has no last line"))?;
    let mut base64 = Zeroizing::new(String::with_capacity(body.len()));
    base64.extend(body.split_ascii_whitespace());
    let mut bytes = Zeroizing::new(vec![0; decoded_len_estimate(base64.len())]);
    let length = STANDARD.decode_slice(base64.as_bytes(), &mut bytes);
    bytes.truncate(length.map_err(|_| wrong("is no PEM text: its lines are not base64"))?);
    Ok(Der { bytes, form })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_keys_as_shells_leave_them() {
        for (pem, form) in [
            ("-----BEGIN PRIVATE KEY-----\nAAEC\nAwQ=\n-----END PRIVATE KEY-----\n", Form::Pkcs8),
            ("-----BEGIN PRIVATE KEY-----\r\nAAEC\r\nAwQ=\r\n-----END PRIVATE KEY-----", Form::Pkcs8),
            ("-----BEGIN PRIVATE KEY-----\\nAAEC\\nAwQ=\\n-----END PRIVATE KEY-----\\n", Form::Pkcs8),
            ("text before\n-----BEGIN RSA PRIVATE KEY-----\nAAEC AwQ=\n-----END RSA PRIVATE KEY-----", Form::Pkcs1),
        ] {
            let der = decode(pem).unwrap_or_else(|error| panic!("{pem}: {error}"));
            assert_eq!((der.bytes.as_slice(), der.form), (&[0, 1, 2, 3, 4][..], form));
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
            ("-----BEGIN CERTIFICATE-----\nAAEC\n-----END CERTIFICATE-----", "certificate"),
            ("-----BEGIN EC PRIVATE KEY-----\nAAEC\n-----END EC PRIVATE KEY-----", "not understood"),
            (&"-".repeat(MAX + 1), "32 KiB"),
        ] {
            let error = decode(pem).err().map(|error| error.to_string()).unwrap_or_default();
            assert!(error.contains(why), "{error}");
            assert!(!error.contains("AAEC"), "{error}");
        }
    }
}
