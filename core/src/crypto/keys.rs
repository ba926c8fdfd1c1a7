//! The parts of keys, in the one form that all libraries are given them.

use zeroize::Zeroizing;

use super::algorithm::{Algorithm, Curve, Scheme};
use super::{der, pem};
use crate::Error;

/// The bits of a modulus: less is weak (RFC 7518, section 3.3), more is a way to keep a verifier busy.
const BITS: std::ops::RangeInclusive<usize> = 2048..=8192;

/// A private key.
#[cfg_attr(
    not(any(feature = "aws-lc-rs", feature = "ring", feature = "rust-crypto")),
    expect(dead_code, reason = "without any library")
)]
pub(crate) enum PrivateKey {
    /// An `RSAPrivateKey` in DER (RFC 8017, appendix A.1.2).
    Rsa(Zeroizing<Vec<u8>>),
    /// The number, as wide as a coordinate, and the point in uncompressed form, if it is known.
    Ec { curve: Curve, number: Zeroizing<Vec<u8>>, point: Option<Box<[u8]>> },
    /// The seed.
    Ed25519(Zeroizing<Vec<u8>>),
}

/// A public key.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum PublicKey {
    /// Modulus and exponent, big-endian, without leading zeros.
    Rsa { n: Box<[u8]>, e: Box<[u8]> },
    /// The point in uncompressed form: a 4 and both coordinates.
    Ec { curve: Curve, point: Box<[u8]> },
    /// The point as RFC 8032 writes it.
    Ed25519(Box<[u8]>),
}

const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
const EC: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
const ED25519: &[u8] = &[0x2b, 0x65, 0x70];

impl PrivateKey {
    /// Reads PKCS#8 (RFC 5958), PKCS#1 (RFC 8017) or SEC1 (RFC 5915) in PEM, unencrypted.
    pub(super) fn from_pem(text: &str) -> Result<Self, Error> {
        let block = pem::decode(text, "private key", &["PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY"])?;
        let key = match block.label {
            "PRIVATE KEY" => Self::pkcs8(&block.bytes),
            "RSA PRIVATE KEY" => Some(Self::Rsa(block.bytes)),
            _ => Self::sec1(&block.bytes, None),
        };
        key.ok_or_else(|| Error::config("the private key is not an RSA, P-256, P-384, P-521 or Ed25519 key in DER"))
    }

    /// `OneAsymmetricKey` (RFC 5958, section 2).
    pub(super) fn pkcs8(bytes: &[u8]) -> Option<Self> {
        let mut fields = der::whole(bytes, der::SEQUENCE)?;
        der::take(&mut fields, der::INTEGER)?;
        let mut algorithm = der::take(&mut fields, der::SEQUENCE)?;
        let key = der::take(&mut fields, der::OCTET_STRING)?;
        match der::take(&mut algorithm, der::OID)? {
            RSA => Some(Self::Rsa(Zeroizing::new(key.to_vec()))),
            EC => Self::sec1(key, Some(curve(der::take(&mut algorithm, der::OID)?)?)),
            ED25519 => {
                let seed = der::whole(key, der::OCTET_STRING).filter(|seed| seed.len() == 32)?;
                Some(Self::Ed25519(Zeroizing::new(seed.to_vec())))
            }
            _ => None,
        }
    }

    /// `ECPrivateKey` (RFC 5915, section 3).
    fn sec1(bytes: &[u8], known: Option<Curve>) -> Option<Self> {
        let mut fields = der::whole(bytes, der::SEQUENCE)?;
        der::take(&mut fields, der::INTEGER)?;
        let number = der::take(&mut fields, der::OCTET_STRING)?;
        let named = der::take(&mut fields, 0xa0).and_then(|it| der::whole(it, der::OID)).and_then(curve);
        let point = der::take(&mut fields, 0xa1).and_then(|mut it| der::take_bits(&mut it));
        Self::ec(known.or(named)?, number, point)
    }

    /// A key on a curve. Numbers shorter than a coordinate are filled up, as some programs write them.
    pub(crate) fn ec(curve: Curve, number: &[u8], point: Option<&[u8]>) -> Option<Self> {
        let mut filled = Zeroizing::new(vec![0; curve.width().checked_sub(number.len())?]);
        filled.reserve_exact(number.len());
        filled.extend_from_slice(number);
        let point = match point {
            Some(point) => match PublicKey::ec(curve, point)? {
                PublicKey::Ec { point, .. } => Some(point),
                _ => None,
            },
            None => None,
        };
        Some(Self::Ec { curve, number: filled, point })
    }

    /// An RSA key of its numbers, in the order of RFC 8017, appendix A.1.2: n, e, d, p, q, dP, dQ, qInv.
    pub(crate) fn rsa(numbers: [&[u8]; 8]) -> Self {
        let version = der::write_unsigned(&[]);
        let numbers = numbers.map(der::write_unsigned);
        let mut parts: Vec<&[u8]> = vec![&version];
        parts.extend(numbers.iter().map(|number| number.as_slice()));
        Self::Rsa(der::write(der::SEQUENCE, &parts))
    }

    /// Whether the algorithm is one for this kind of key.
    pub(super) fn fits(&self, algorithm: Algorithm) -> bool {
        match (self, algorithm.scheme()) {
            (Self::Rsa(_), Scheme::Pkcs1(_) | Scheme::Pss(_)) | (Self::Ed25519(_), Scheme::Ed25519) => true,
            (Self::Ec { curve, .. }, Scheme::Ecdsa(wanted)) => *curve == wanted,
            _ => false,
        }
    }

    /// What kind of key it is, for errors.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Rsa(_) => "an RSA key",
            Self::Ec { curve: Curve::P256, .. } => "a key on P-256",
            Self::Ec { curve: Curve::P384, .. } => "a key on P-384",
            Self::Ec { curve: Curve::P521, .. } => "a key on P-521",
            Self::Ed25519(_) => "an Ed25519 key",
        }
    }

    /// The public numbers of an RSA key.
    pub(super) fn rsa_public(bytes: &[u8]) -> Option<PublicKey> {
        let mut fields = der::whole(bytes, der::SEQUENCE)?;
        der::take(&mut fields, der::INTEGER)?;
        PublicKey::rsa(der::take_unsigned(&mut fields)?, der::take_unsigned(&mut fields)?)
    }
}

impl PublicKey {
    /// Reads a `SubjectPublicKeyInfo`, an `RSAPublicKey`, or the key of a certificate in PEM.
    pub(super) fn from_pem(text: &str) -> Result<Self, Error> {
        let block = pem::decode(text, "key", &["PUBLIC KEY", "RSA PUBLIC KEY", "CERTIFICATE"])?;
        let key = match block.label {
            "PUBLIC KEY" => Self::spki(&block.bytes),
            "RSA PUBLIC KEY" => Self::pkcs1(&block.bytes),
            _ => Self::certificate(&block.bytes),
        };
        key.ok_or_else(|| {
            Error::config("the key is not an RSA key of 2048 to 8192 bits, nor a P-256, P-384, P-521 or Ed25519 key")
        })
    }

    /// `Certificate` (RFC 5280, section 4.1), of which nothing but the key is looked at.
    fn certificate(bytes: &[u8]) -> Option<Self> {
        let mut certificate = der::whole(bytes, der::SEQUENCE)?;
        let mut fields = der::take(&mut certificate, der::SEQUENCE)?;
        // The version, which may be left out; serial number, algorithm, issuer, validity and subject.
        der::take(&mut fields, 0xa0);
        for tag in [der::INTEGER, der::SEQUENCE, der::SEQUENCE, der::SEQUENCE, der::SEQUENCE] {
            der::take(&mut fields, tag)?;
        }
        Self::key_info(der::take(&mut fields, der::SEQUENCE)?)
    }

    /// `SubjectPublicKeyInfo` (RFC 5280, section 4.1).
    fn spki(bytes: &[u8]) -> Option<Self> {
        Self::key_info(der::whole(bytes, der::SEQUENCE)?)
    }

    fn key_info(mut fields: &[u8]) -> Option<Self> {
        let mut algorithm = der::take(&mut fields, der::SEQUENCE)?;
        let bits = der::take_bits(&mut fields)?;
        match der::take(&mut algorithm, der::OID)? {
            RSA => Self::pkcs1(bits),
            EC => Self::ec(curve(der::take(&mut algorithm, der::OID)?)?, bits),
            ED25519 => Self::ed25519(bits),
            _ => None,
        }
    }

    fn pkcs1(bytes: &[u8]) -> Option<Self> {
        let mut fields = der::whole(bytes, der::SEQUENCE)?;
        Self::rsa(der::take_unsigned(&mut fields)?, der::take_unsigned(&mut fields)?)
    }

    /// An RSA key: the exponent is odd, 3 or more, and of 33 bits at the most.
    pub(crate) fn rsa(n: &[u8], e: &[u8]) -> Option<Self> {
        let first = *n.first().filter(|first| **first != 0)?;
        let bits = n.len().checked_mul(8)?.checked_sub(usize::try_from(first.leading_zeros()).ok()?)?;
        let exponent = match e {
            [0, ..] => None,
            [.., last] if e.len() <= 5 && last & 1 == 1 => {
                Some(e.iter().fold(0_u64, |number, byte| (number << 8) | u64::from(*byte)))
            }
            _ => None,
        }?;
        let odd = n.last().is_some_and(|last| last & 1 == 1);
        (BITS.contains(&bits) && odd && (3..1 << 33).contains(&exponent))
            .then(|| Self::Rsa { n: n.into(), e: e.into() })
    }

    /// A point in uncompressed form. Whether it lies on the curve is seen by the library that uses it.
    pub(crate) fn ec(curve: Curve, point: &[u8]) -> Option<Self> {
        let whole = curve.width().checked_mul(2)?.checked_add(1)?;
        (point.len() == whole && point.first() == Some(&4)).then(|| Self::Ec { curve, point: point.into() })
    }

    pub(crate) fn ed25519(point: &[u8]) -> Option<Self> {
        (point.len() == 32).then(|| Self::Ed25519(point.into()))
    }

    /// Whether the algorithm is one for this kind of key.
    pub(crate) fn fits(&self, algorithm: Algorithm) -> bool {
        match (self, algorithm.scheme()) {
            (Self::Rsa { .. }, Scheme::Pkcs1(_) | Scheme::Pss(_)) | (Self::Ed25519(_), Scheme::Ed25519) => true,
            (Self::Ec { curve, .. }, Scheme::Ecdsa(wanted)) => *curve == wanted,
            _ => false,
        }
    }
}

fn curve(oid: &[u8]) -> Option<Curve> {
    Curve::ALL.into_iter().find(|curve| curve.oid() == oid)
}
