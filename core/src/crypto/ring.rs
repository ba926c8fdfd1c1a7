//! Signatures by ring.

use ring::rand::SystemRandom;
use ring::signature as lib;

use super::algorithm::{Algorithm, Curve, Hash, Scheme};
use super::keys::{PrivateKey, PublicKey};
use crate::Cx;

pub(super) enum Key {
    Rsa(Box<lib::RsaKeyPair>, &'static dyn lib::RsaEncoding),
    Ec(Box<lib::EcdsaKeyPair>, Curve),
    Ed25519(lib::Ed25519KeyPair),
}

pub(super) fn has(algorithm: Algorithm) -> bool {
    algorithm != Algorithm::ES512
}

fn ecdsa(curve: Curve) -> Option<(&'static lib::EcdsaSigningAlgorithm, &'static lib::EcdsaVerificationAlgorithm)> {
    match curve {
        Curve::P256 => Some((&lib::ECDSA_P256_SHA256_FIXED_SIGNING, &lib::ECDSA_P256_SHA256_FIXED)),
        Curve::P384 => Some((&lib::ECDSA_P384_SHA384_FIXED_SIGNING, &lib::ECDSA_P384_SHA384_FIXED)),
        Curve::P521 => None,
    }
}

impl Key {
    /// The error is this library's own words for what is wrong with the key.
    pub(super) fn new(algorithm: Algorithm, key: &PrivateKey) -> Result<Self, String> {
        let rejected = |error: ring::error::KeyRejected| error.to_string();
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
                let (signing, _) = ecdsa(*curve).ok_or("ring has no P-521")?;
                let point = point.as_deref().ok_or("it lacks its public part, which ring wants")?;
                let random = SystemRandom::new();
                let pair = lib::EcdsaKeyPair::from_private_key_and_public_key(signing, number, point, &random);
                Ok(Self::Ec(Box::new(pair.map_err(rejected)?), *curve))
            }
            (PrivateKey::Ed25519(seed), Scheme::Ed25519) => {
                lib::Ed25519KeyPair::from_seed_unchecked(seed).map(Self::Ed25519).map_err(rejected)
            }
            _ => Err("it is of another kind".to_owned()),
        }
    }

    /// ring draws the randomness that blinds an RSA operation, that salts RSASSA-PSS and that makes ECDSA's nonces
    /// itself.
    pub(super) fn sign(&self, message: &[u8], _: &mut Cx) -> Option<Vec<u8>> {
        match self {
            Self::Rsa(pair, encoding) => {
                let mut signature = vec![0; pair.public().modulus_len()];
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

/// A new key, in PKCS#8. Only for curves.
pub(super) fn generate(algorithm: Algorithm, _: &mut Cx) -> Option<zeroize::Zeroizing<Vec<u8>>> {
    let random = SystemRandom::new();
    let document = match algorithm.scheme() {
        Scheme::Ecdsa(curve) => lib::EcdsaKeyPair::generate_pkcs8(ecdsa(curve)?.0, &random),
        Scheme::Ed25519 => lib::Ed25519KeyPair::generate_pkcs8(&random),
        Scheme::Pkcs1(_) | Scheme::Pss(_) => return None,
    };
    Some(zeroize::Zeroizing::new(document.ok()?.as_ref().to_vec()))
}

/// A public key, ready to verify.
pub(super) struct Verifier(PublicKey);

impl Verifier {
    pub(super) fn new(key: &PublicKey) -> Option<Self> {
        Some(Self(key.clone()))
    }

    pub(super) fn verify(&self, algorithm: Algorithm, message: &[u8], signature: &[u8]) -> bool {
        let verified = match (&self.0, algorithm.scheme()) {
            (PublicKey::Rsa { n, e }, Scheme::Pkcs1(hash)) => {
                let parameters = match hash {
                    Hash::Sha256 => &lib::RSA_PKCS1_2048_8192_SHA256,
                    Hash::Sha384 => &lib::RSA_PKCS1_2048_8192_SHA384,
                    Hash::Sha512 => &lib::RSA_PKCS1_2048_8192_SHA512,
                };
                lib::RsaPublicKeyComponents { n, e }.verify(parameters, message, signature)
            }
            (PublicKey::Rsa { n, e }, Scheme::Pss(hash)) => {
                let parameters = match hash {
                    Hash::Sha256 => &lib::RSA_PSS_2048_8192_SHA256,
                    Hash::Sha384 => &lib::RSA_PSS_2048_8192_SHA384,
                    Hash::Sha512 => &lib::RSA_PSS_2048_8192_SHA512,
                };
                lib::RsaPublicKeyComponents { n, e }.verify(parameters, message, signature)
            }
            (PublicKey::Ec { curve, point }, Scheme::Ecdsa(wanted)) if *curve == wanted => match ecdsa(*curve) {
                Some((_, verifying)) => lib::UnparsedPublicKey::new(verifying, point).verify(message, signature),
                None => return false,
            },
            (PublicKey::Ed25519(point), Scheme::Ed25519) => {
                lib::UnparsedPublicKey::new(&lib::ED25519, point).verify(message, signature)
            }
            _ => return false,
        };
        verified.is_ok()
    }
}
