//! Signatures in pure Rust, by the crates of RustCrypto and dalek: for targets that ring cannot be built for.

use ed25519_dalek as ed25519;
use p256::ecdsa::signature::{Signer as _, Verifier as _};
use rsa::pkcs1::DecodeRsaPrivateKey as _;
use rsa::rand_core::{TryCryptoRng, TryRng};
use rsa::traits::{PublicKeyParts as _, SignatureScheme};
use rsa::{BoxedUint, Pkcs1v15Sign, Pss};
use sha2::{Digest, Sha256, Sha384, Sha512};
use zeroize::Zeroizing;

use super::algorithm::{Algorithm, Curve, Hash, Scheme};
use super::keys::{PrivateKey, PublicKey};
use crate::Cx;

pub(super) enum Key {
    Rsa(Box<rsa::PrivateKey>, Scheme),
    P256(Box<p256::ecdsa::SigningKey>),
    P384(Box<p384::ecdsa::SigningKey>),
    Ed25519(Box<ed25519::SigningKey>),
}

pub(super) fn has(algorithm: Algorithm) -> bool {
    algorithm != Algorithm::ES512
}

impl Key {
    /// The error is this library's own words for what is wrong with the key.
    pub(super) fn new(algorithm: Algorithm, key: &PrivateKey) -> Result<Self, String> {
        match (key, algorithm.scheme()) {
            (PrivateKey::Rsa(der), scheme @ (Scheme::Pkcs1(_) | Scheme::Pss(_))) => {
                let key = rsa::PrivateKey::from_pkcs1_der(der).map_err(|e| e.to_string())?;
                if key.size() < 256 {
                    return Err("it is too short".to_owned());
                }
                Ok(Self::Rsa(Box::new(key), scheme))
            }
            (PrivateKey::Ec { curve: Curve::P256, number, point }, Scheme::Ecdsa(_)) => {
                let key = p256::ecdsa::SigningKey::from_slice(number).map_err(|e| e.to_string())?;
                let own = key.verifying_key().to_sec1_point(false);
                matches(point.as_deref(), own.as_bytes()).then(|| Self::P256(Box::new(key))).ok_or_else(mismatch)
            }
            (PrivateKey::Ec { curve: Curve::P384, number, point }, Scheme::Ecdsa(_)) => {
                let key = p384::ecdsa::SigningKey::from_slice(number).map_err(|e| e.to_string())?;
                let own = key.verifying_key().to_sec1_point(false);
                matches(point.as_deref(), own.as_bytes()).then(|| Self::P384(Box::new(key))).ok_or_else(mismatch)
            }
            (PrivateKey::Ed25519(seed), Scheme::Ed25519) => {
                let seed = <[u8; 32]>::try_from(seed.as_slice()).map(Zeroizing::new);
                let seed = seed.map_err(|_| "it is not 32 bytes long".to_owned())?;
                Ok(Self::Ed25519(Box::new(ed25519::SigningKey::from_bytes(&seed))))
            }
            _ => Err("it is of another kind".to_owned()),
        }
    }

    /// An RSA operation is always blinded, by the randomness of this call: without blinding, its time would tell of the
    /// key. ECDSA's nonces are those of RFC 6979.
    pub(super) fn sign(&self, message: &[u8], cx: &mut Cx) -> Option<Vec<u8>> {
        match self {
            Self::Rsa(key, Scheme::Pkcs1(hash)) => {
                let signature = key.sign_with_rng(&mut Random(cx), pkcs1(*hash), &digest(*hash, message));
                signature.ok()
            }
            Self::Rsa(key, Scheme::Pss(hash)) => {
                let digest = digest(*hash, message);
                let random = &mut Random(cx);
                match hash {
                    Hash::Sha256 => key.sign_with_rng(random, Pss::<Sha256>::new_with_salt(32), &digest),
                    Hash::Sha384 => key.sign_with_rng(random, Pss::<Sha384>::new_with_salt(48), &digest),
                    Hash::Sha512 => key.sign_with_rng(random, Pss::<Sha512>::new_with_salt(64), &digest),
                }
                .ok()
            }
            Self::Rsa(..) => None,
            Self::P256(key) => {
                let signature: p256::ecdsa::Signature = key.try_sign(message).ok()?;
                Some(signature.to_bytes().to_vec())
            }
            Self::P384(key) => {
                let signature: p384::ecdsa::Signature = key.try_sign(message).ok()?;
                Some(signature.to_bytes().to_vec())
            }
            Self::Ed25519(key) => Some(key.try_sign(message).ok()?.to_bytes().to_vec()),
        }
    }

    /// The public key, where it is not known from the private one's parts.
    pub(super) fn public(&self) -> Option<PublicKey> {
        match self {
            Self::Rsa(..) => None,
            Self::P256(key) => PublicKey::ec(Curve::P256, key.verifying_key().to_sec1_point(false).as_bytes()),
            Self::P384(key) => PublicKey::ec(Curve::P384, key.verifying_key().to_sec1_point(false).as_bytes()),
            Self::Ed25519(key) => PublicKey::ed25519(key.verifying_key().as_bytes()),
        }
    }
}

fn matches(given: Option<&[u8]>, own: &[u8]) -> bool {
    given.is_none_or(|given| given == own)
}

fn mismatch() -> String {
    "its public part belongs to another key".to_owned()
}

/// A new key. Only for curves.
pub(super) fn generate(algorithm: Algorithm, cx: &mut Cx) -> Option<PrivateKey> {
    // Of numbers below the order of a curve nearly all are: a second try is all but never made.
    for _ in 0..8 {
        let number = Zeroizing::new(cx.random::<48>("key").ok()?);
        let key = match algorithm.scheme() {
            Scheme::Ed25519 => PrivateKey::Ed25519(Zeroizing::new(number.get(..32)?.to_vec())),
            Scheme::Ecdsa(curve) => PrivateKey::ec(curve, number.get(..curve.width())?, None)?,
            Scheme::Pkcs1(_) | Scheme::Pss(_) => return None,
        };
        if Key::new(algorithm, &key).is_ok() {
            return Some(key);
        }
    }
    None
}

/// A public key, ready to verify.
pub(super) enum Verifier {
    Rsa(Box<rsa::PublicKey>),
    P256(Box<p256::ecdsa::VerifyingKey>),
    P384(Box<p384::ecdsa::VerifyingKey>),
    Ed25519(Box<ed25519::VerifyingKey>),
}

impl Verifier {
    pub(super) fn new(key: &PublicKey) -> Option<Self> {
        Some(match key {
            PublicKey::Rsa { n, e } => {
                let (n, e) = (BoxedUint::from_be_slice_vartime(n), BoxedUint::from_be_slice_vartime(e));
                Self::Rsa(Box::new(rsa::PublicKey::new_with_size_limits(n, e, 2048..=8192).ok()?))
            }
            PublicKey::Ec { curve: Curve::P256, point } => {
                Self::P256(Box::new(p256::ecdsa::VerifyingKey::from_sec1_bytes(point).ok()?))
            }
            PublicKey::Ec { curve: Curve::P384, point } => {
                Self::P384(Box::new(p384::ecdsa::VerifyingKey::from_sec1_bytes(point).ok()?))
            }
            PublicKey::Ec { curve: Curve::P521, .. } => return None,
            PublicKey::Ed25519(point) => {
                let point = <&[u8; 32]>::try_from(&**point).ok()?;
                Self::Ed25519(Box::new(ed25519::VerifyingKey::from_bytes(point).ok()?))
            }
        })
    }

    pub(super) fn verify(&self, algorithm: Algorithm, message: &[u8], signature: &[u8]) -> bool {
        match (self, algorithm.scheme()) {
            (Self::Rsa(key), Scheme::Pkcs1(hash)) => key.verify(pkcs1(hash), &digest(hash, message), signature).is_ok(),
            (Self::Rsa(key), Scheme::Pss(hash)) => {
                let digest = digest(hash, message);
                match hash {
                    Hash::Sha256 => key.verify(Pss::<Sha256>::new_with_salt(32), &digest, signature),
                    Hash::Sha384 => key.verify(Pss::<Sha384>::new_with_salt(48), &digest, signature),
                    Hash::Sha512 => key.verify(Pss::<Sha512>::new_with_salt(64), &digest, signature),
                }
                .is_ok()
            }
            (Self::P256(key), Scheme::Ecdsa(Curve::P256)) => {
                p256::ecdsa::Signature::from_slice(signature).is_ok_and(|it| key.verify(message, &it).is_ok())
            }
            (Self::P384(key), Scheme::Ecdsa(Curve::P384)) => {
                p384::ecdsa::Signature::from_slice(signature).is_ok_and(|it| key.verify(message, &it).is_ok())
            }
            (Self::Ed25519(key), Scheme::Ed25519) => {
                ed25519::Signature::from_slice(signature).is_ok_and(|it| key.verify_strict(message, &it).is_ok())
            }
            _ => false,
        }
    }
}

fn pkcs1(hash: Hash) -> impl SignatureScheme {
    match hash {
        Hash::Sha256 => Pkcs1v15Sign::new::<Sha256>(),
        Hash::Sha384 => Pkcs1v15Sign::new::<Sha384>(),
        Hash::Sha512 => Pkcs1v15Sign::new::<Sha512>(),
    }
}

fn digest(hash: Hash, message: &[u8]) -> Vec<u8> {
    match hash {
        Hash::Sha256 => Sha256::digest(message).to_vec(),
        Hash::Sha384 => Sha384::digest(message).to_vec(),
        Hash::Sha512 => Sha512::digest(message).to_vec(),
    }
}

/// The randomness of one call, as these libraries want it.
struct Random<'a>(&'a mut Cx);

impl TryRng for Random<'_> {
    type Error = crate::Error;

    fn try_next_u32(&mut self) -> Result<u32, crate::Error> {
        Ok(u32::from_le_bytes(self.0.random("signature")?))
    }

    fn try_next_u64(&mut self) -> Result<u64, crate::Error> {
        Ok(u64::from_le_bytes(self.0.random("signature")?))
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), crate::Error> {
        for chunk in bytes.chunks_mut(32) {
            let random = Zeroizing::new(self.0.random::<32>("signature")?);
            chunk.iter_mut().zip(random.iter()).for_each(|(byte, random)| *byte = *random);
        }
        Ok(())
    }
}

impl TryCryptoRng for Random<'_> {}
