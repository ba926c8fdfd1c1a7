//! RS256 by rsa, in pure Rust: for targets that ring cannot be built for.

use rsa::pkcs1::DecodeRsaPrivateKey as _;
use rsa::pkcs8::DecodePrivateKey as _;
use rsa::rand_core::{CryptoRng, Error as RngError, RngCore};
use rsa::traits::PublicKeyParts as _;
use rsa::{Pkcs1v15Sign, RsaPrivateKey};
use sha2::{Digest, Sha256};

use super::key::{Der, Form, failed, refused};
use crate::{Cx, Error};

pub(super) struct Key(RsaPrivateKey);

impl Key {
    pub(super) fn rs256(der: &Der) -> Result<Self, Error> {
        let key = match der.form {
            Form::Pkcs8 => RsaPrivateKey::from_pkcs8_der(&der.bytes).map_err(refused)?,
            Form::Pkcs1 => RsaPrivateKey::from_pkcs1_der(&der.bytes).map_err(refused)?,
        };
        if key.size() < 256 {
            return Err(refused("it is too short"));
        }
        Ok(Self(key))
    }

    /// Always blinded, by the randomness of this call: without blinding, its time would tell of the key.
    pub(super) fn sign(&self, message: &[u8], cx: &mut Cx) -> Result<Vec<u8>, Error> {
        // DigestInfo of SHA-256 (RFC 8017, section 9.2, note 1).
        const PREFIX: [u8; 19] = [
            0x30, 0x31, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01, 0x05, 0x00, 0x04,
            0x20,
        ];
        let scheme = Pkcs1v15Sign { hash_len: Some(32), prefix: PREFIX.into() };
        cx.random::<1>("blinding")?; // an error here rather than in the middle
        self.0.sign_with_rng(&mut Blinding(cx), scheme, &Sha256::digest(message)).map_err(|_| failed())
    }
}

/// The randomness of one call, as this library wants it.
struct Blinding<'a>(&'a mut Cx);

impl RngCore for Blinding<'_> {
    fn next_u32(&mut self) -> u32 {
        rsa::rand_core::impls::next_u32_via_fill(self)
    }
    fn next_u64(&mut self) -> u64 {
        rsa::rand_core::impls::next_u64_via_fill(self)
    }
    fn fill_bytes(&mut self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(32) {
            let random = self.0.random::<32>("blinding").unwrap_or_default();
            for (byte, random) in chunk.iter_mut().zip(random) {
                *byte = random;
            }
        }
    }
    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), RngError> {
        self.fill_bytes(bytes);
        Ok(())
    }
}

impl CryptoRng for Blinding<'_> {}
