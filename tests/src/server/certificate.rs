//! Client certificates, as the pretend server sees and reads them (RFC 5280, section 4.1; RFC 8705).

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use grantflow::Timestamp;
use http::Request;
use ring::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};
use sha2::{Digest, Sha256};

/// The certificate that a client has presented in the handshake: an extension of its request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCertificate(Vec<u8>);

impl ClientCertificate {
    /// From DER.
    pub fn new(der: &[u8]) -> Self {
        Self(der.to_vec())
    }

    /// The first one of a PEM text.
    pub fn from_pem(pem: &str) -> Option<Self> {
        let (_, rest) = pem.split_once("-----BEGIN CERTIFICATE-----")?;
        let (base64, _) = rest.split_once("-----END CERTIFICATE-----")?;
        let base64: String = base64.split_whitespace().collect();
        STANDARD.decode(base64).ok().map(Self)
    }

    /// The one of a request, if a certificate came with it.
    pub(crate) fn of(request: &Request<Vec<u8>>) -> Option<&Self> {
        request.extensions().get()
    }

    /// `x5t#S256` (RFC 8705, section 3.1).
    pub fn thumbprint(&self) -> String {
        URL_SAFE_NO_PAD.encode(Sha256::digest(&self.0))
    }

    /// Whether this authority has signed it, for this name as its common name, and it is good now.
    pub(crate) fn is_signed_by(&self, authority: &Self, name: &str, now: Timestamp) -> bool {
        let (Some(own), Some(signer)) = (Fields::of(&self.0), Fields::of(&authority.0)) else { return false };
        let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, signer.key);
        let now: String = now.to_string().chars().filter(char::is_ascii_digit).take(14).collect();
        own.issuer == signer.subject
            && key.verify(own.signed, own.signature).is_ok()
            && common_name(own.subject) == Some(name.as_bytes())
            && own.from <= now
            && now <= own.until
    }
}

struct Fields<'a> {
    signed: &'a [u8],
    issuer: &'a [u8],
    subject: &'a [u8],
    /// Of 14 digits.
    from: String,
    until: String,
    key: &'a [u8],
    signature: &'a [u8],
}

impl<'a> Fields<'a> {
    fn of(der: &'a [u8]) -> Option<Self> {
        let (mut all, rest) = element(der, 0x30)?;
        if !rest.is_empty() {
            return None;
        }
        let before = all;
        let mut fields = take(&mut all, 0x30)?;
        let signed = &before[..before.len() - all.len()];
        take(&mut all, 0x30)?;
        // After the number of unused bits.
        let signature = take(&mut all, 0x03)?.get(1..)?;
        if fields.first() == Some(&0xa0) {
            take(&mut fields, 0xa0)?;
        }
        take(&mut fields, 0x02)?;
        take(&mut fields, 0x30)?;
        let issuer = take(&mut fields, 0x30)?;
        let mut validity = take(&mut fields, 0x30)?;
        let (from, until) = (time(&mut validity)?, time(&mut validity)?);
        let subject = take(&mut fields, 0x30)?;
        let mut info = take(&mut fields, 0x30)?;
        take(&mut info, 0x30)?;
        let key = take(&mut info, 0x03)?.get(1..)?;
        Some(Self { signed, issuer, subject, from, until, key, signature })
    }
}

/// The content of an element with this tag, and what follows it.
fn element(der: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let [found, length, rest @ ..] = der else { return None };
    let (length, rest) = match *length {
        short @ ..=0x7f => (usize::from(short), rest),
        0x81 => (usize::from(*rest.first()?), rest.get(1..)?),
        0x82 => (usize::from(u16::from_be_bytes([*rest.first()?, *rest.get(1)?])), rest.get(2..)?),
        _ => return None,
    };
    if *found == tag { rest.split_at_checked(length) } else { None }
}

fn take<'a>(der: &mut &'a [u8], tag: u8) -> Option<&'a [u8]> {
    let (content, rest) = element(der, tag)?;
    *der = rest;
    Some(content)
}

/// A `UTCTime` or a `GeneralizedTime`.
fn time(der: &mut &[u8]) -> Option<String> {
    let (century, text) = match der.first()? {
        0x17 => {
            let text = take(der, 0x17)?;
            (if text.first()? < &b'5' { "20" } else { "19" }, text)
        }
        _ => ("", take(der, 0x18)?),
    };
    Some(format!("{century}{}", std::str::from_utf8(text).ok()?.strip_suffix('Z')?))
}

/// The common name within a subject (RFC 4519, section 2.3).
fn common_name(mut subject: &[u8]) -> Option<&[u8]> {
    while let Some(mut part) = take(&mut subject, 0x31) {
        let mut pair = take(&mut part, 0x30)?;
        if take(&mut pair, 0x06)? == [0x55, 0x04, 0x03] {
            return [0x0c, 0x13].into_iter().find_map(|tag| Some(element(pair, tag)?.0));
        }
    }
    None
}
