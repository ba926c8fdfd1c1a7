//! Signatures by aws-lc-rs.

use std::sync::OnceLock;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature as lib;

use super::algorithm::{Algorithm, Curve, Hash, Scheme};
use super::der;
use super::keys::{PrivateKey, PublicKey};
use crate::Cx;

pub(super) enum Key {
    Rsa(Box<lib::RsaKeyPair>, &'static dyn lib::RsaEncoding),
    Ec(Box<lib::EcdsaKeyPair>, Curve),
    Ed25519(lib::Ed25519KeyPair),
}

pub(super) fn has(_: Algorithm) -> bool {
    true
}

fn ecdsa(curve: Curve) -> (&'static lib::EcdsaSigningAlgorithm, &'static lib::EcdsaVerificationAlgorithm) {
    match curve {
        Curve::P256 => (&lib::ECDSA_P256_SHA256_FIXED_SIGNING, &lib::ECDSA_P256_SHA256_FIXED),
        Curve::P384 => (&lib::ECDSA_P384_SHA384_FIXED_SIGNING, &lib::ECDSA_P384_SHA384_FIXED),
        Curve::P521 => (&lib::ECDSA_P521_SHA512_FIXED_SIGNING, &lib::ECDSA_P521_SHA512_FIXED),
    }
}

impl Key {
    /// The error is this library's own words for what is wrong with the key.
    pub(super) fn new(algorithm: Algorithm, key: &PrivateKey) -> Result<Self, String> {
        let rejected = |error: aws_lc_rs::error::KeyRejected| error.to_string();
        match (key, algorithm.scheme()) {
            (PrivateKey::Rsa(der), Scheme::Pkcs1(hash)) => {
                let encoding: &dyn lib::RsaEncoding = match hash {
                    Hash::Sha256 => &lib::RSA_PKCS1_SHA256,
                    Hash::Sha384 => &lib::RSA_PKCS1_SHA384,
                    Hash::Sha512 => &lib::RSA_PKCS1_SHA512,
                };
                Ok(Self::Rsa(Box::new(lib::RsaKeyPair::from_der(der).map_err(rejected)?), encoding))
            }
            (PrivateKey::Rsa(der), Scheme::Pss(hash)) => {
                let encoding: &dyn lib::RsaEncoding = match hash {
                    Hash::Sha256 => &lib::RSA_PSS_SHA256,
                    Hash::Sha384 => &lib::RSA_PSS_SHA384,
                    Hash::Sha512 => &lib::RSA_PSS_SHA512,
                };
                Ok(Self::Rsa(Box::new(lib::RsaKeyPair::from_der(der).map_err(rejected)?), encoding))
            }
            (PrivateKey::Ec { curve, number, point }, Scheme::Ecdsa(_)) => {
                let (signing, _) = ecdsa(*curve);
                let pair = match point {
                    Some(point) => lib::EcdsaKeyPair::from_private_key_and_public_key(signing, number, point),
                    None => lib::EcdsaKeyPair::from_private_key_der(signing, &sec1(number)),
                };
                Ok(Self::Ec(Box::new(pair.map_err(rejected)?), *curve))
            }
            (PrivateKey::Ed25519(seed), Scheme::Ed25519) => {
                lib::Ed25519KeyPair::from_seed_unchecked(seed).map(Self::Ed25519).map_err(rejected)
            }
            _ => Err("it is of another kind".to_owned()),
        }
    }

    /// aws-lc-rs draws the randomness that blinds an RSA operation, that salts RSASSA-PSS and that makes ECDSA's nonces
    /// itself.
    pub(super) fn sign(&self, message: &[u8], _: &mut Cx) -> Option<Vec<u8>> {
        match self {
            Self::Rsa(pair, encoding) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(*encoding, &SystemRandom::new(), message, &mut signature).ok()?;
                Some(signature)
            }
            Self::Ec(pair, _) => Some(pair.sign(&SystemRandom::new(), message).ok()?.as_ref().to_vec()),
            Self::Ed25519(pair) => Some(pair.sign(message).as_ref().to_vec()),
        }
    }

    /// The public key, where it is not known from the private one's parts.
    pub(super) fn public(&self) -> Option<PublicKey> {
        use lib::KeyPair as _;
        match self {
            Self::Rsa(..) => None,
            Self::Ec(pair, curve) => PublicKey::ec(*curve, pair.public_key().as_ref()),
            Self::Ed25519(pair) => PublicKey::ed25519(pair.public_key().as_ref()),
        }
    }
}

/// `ECPrivateKey` (RFC 5915, section 3) of the number alone.
fn sec1(number: &[u8]) -> zeroize::Zeroizing<Vec<u8>> {
    let version = der::write_unsigned(&[1]);
    der::write(der::SEQUENCE, &[&version, &der::write(der::OCTET_STRING, &[number])])
}

/// A new key, in PKCS#8. Only for curves.
pub(super) fn generate(algorithm: Algorithm, _: &mut Cx) -> Option<zeroize::Zeroizing<Vec<u8>>> {
    let random = SystemRandom::new();
    let document = match algorithm.scheme() {
        Scheme::Ecdsa(curve) => lib::EcdsaKeyPair::generate_pkcs8(ecdsa(curve).0, &random),
        Scheme::Ed25519 => lib::Ed25519KeyPair::generate_pkcs8(&random),
        Scheme::Pkcs1(_) | Scheme::Pss(_) => return None,
    };
    Some(zeroize::Zeroizing::new(document.ok()?.as_ref().to_vec()))
}

/// A public key, ready to verify: parsed once, since that takes as long as some verifications do.
pub(super) enum Verifier {
    /// An `RSAPublicKey` in DER, parsed for each algorithm that it was asked for, of PKCS#1 v1.5 and of PSS.
    Rsa(Vec<u8>, Box<[OnceLock<Option<lib::ParsedPublicKey>>; 6]>),
    Ec(Curve, Box<lib::ParsedPublicKey>),
    Ed25519(Box<lib::ParsedPublicKey>),
}

impl Verifier {
    pub(super) fn new(key: &PublicKey) -> Option<Self> {
        let parse = |by, bytes: &[u8]| lib::ParsedPublicKey::new(by, bytes).ok().map(Box::new);
        Some(match key {
            PublicKey::Rsa { n, e } => {
                let der = der::write(der::SEQUENCE, &[&der::write_unsigned(n), &der::write_unsigned(e)]);
                Self::Rsa(der.to_vec(), Box::default())
            }
            PublicKey::Ec { curve, point } => Self::Ec(*curve, parse(ecdsa(*curve).1, point)?),
            PublicKey::Ed25519(point) => Self::Ed25519(parse(&lib::ED25519, point)?),
        })
    }

    pub(super) fn verify(&self, algorithm: Algorithm, message: &[u8], signature: &[u8]) -> bool {
        let key = match (self, algorithm.scheme()) {
            (Self::Rsa(der, parsed), scheme) => {
                let (nth, by): (_, &'static lib::RsaParameters) = match scheme {
                    Scheme::Pkcs1(Hash::Sha256) => (0, &lib::RSA_PKCS1_2048_8192_SHA256),
                    Scheme::Pkcs1(Hash::Sha384) => (1, &lib::RSA_PKCS1_2048_8192_SHA384),
                    Scheme::Pkcs1(Hash::Sha512) => (2, &lib::RSA_PKCS1_2048_8192_SHA512),
                    Scheme::Pss(Hash::Sha256) => (3, &lib::RSA_PSS_2048_8192_SHA256),
                    Scheme::Pss(Hash::Sha384) => (4, &lib::RSA_PSS_2048_8192_SHA384),
                    Scheme::Pss(Hash::Sha512) => (5, &lib::RSA_PSS_2048_8192_SHA512),
                    Scheme::Ecdsa(_) | Scheme::Ed25519 => return false,
                };
                let parse = || lib::ParsedPublicKey::new(by, der).ok();
                parsed.get(nth).and_then(|parsed| parsed.get_or_init(parse).as_ref())
            }
            (Self::Ec(curve, key), Scheme::Ecdsa(wanted)) if *curve == wanted => Some(&**key),
            (Self::Ed25519(key), Scheme::Ed25519) => Some(&**key),
            _ => None,
        };
        key.is_some_and(|key| key.verify_sig(message, signature).is_ok())
    }
}
