//! JWTs as pretend servers check them.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256, RSA_PSS_2048_8192_SHA256, UnparsedPublicKey,
};
use serde_json::{Map, Value};

/// A key that signatures are checked with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PublicKey {
    /// For RS256, in PKCS#1.
    Rs256(Vec<u8>),
    /// For PS256, in PKCS#1.
    Ps256(Vec<u8>),
    /// For ES256: a point, uncompressed.
    Es256(Vec<u8>),
    /// For EdDSA: a point.
    Ed25519(Vec<u8>),
    /// For HS256: not public at all, but the secret of a client.
    Hs256(Vec<u8>),
}

/// A JWT taken apart.
pub(crate) struct Jwt {
    pub(crate) header: Map<String, Value>,
    pub(crate) claims: Map<String, Value>,
    signed: Vec<u8>,
    signature: Vec<u8>,
}

impl Jwt {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let parts: Vec<&str> = text.split('.').collect();
        let [header, claims, signature] = parts[..] else { return None };
        let object = |part: &str| serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).ok()?).ok();
        Some(Self {
            header: object(header)?,
            claims: object(claims)?,
            signed: format!("{header}.{claims}").into_bytes(),
            signature: URL_SAFE_NO_PAD.decode(signature).ok()?,
        })
    }

    pub(crate) fn text(&self, claim: &str) -> Option<&str> {
        self.claims.get(claim)?.as_str().filter(|text| !text.is_empty())
    }

    pub(crate) fn seconds(&self, claim: &str) -> Option<i64> {
        self.claims.get(claim)?.as_i64()
    }

    /// Whether this key signed it, by the algorithm that the key is for.
    pub(crate) fn is_signed_by(&self, key: &PublicKey) -> bool {
        let algorithm = self.header.get("alg").and_then(Value::as_str);
        match key {
            PublicKey::Rs256(key) => {
                let key = UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, key);
                algorithm == Some("RS256") && key.verify(&self.signed, &self.signature).is_ok()
            }
            PublicKey::Ps256(key) => {
                let key = UnparsedPublicKey::new(&RSA_PSS_2048_8192_SHA256, key);
                algorithm == Some("PS256") && key.verify(&self.signed, &self.signature).is_ok()
            }
            PublicKey::Ed25519(key) => {
                let key = UnparsedPublicKey::new(&ED25519, key);
                algorithm == Some("EdDSA") && key.verify(&self.signed, &self.signature).is_ok()
            }
            PublicKey::Hs256(secret) => {
                let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
                algorithm == Some("HS256") && hmac::verify(&key, &self.signed, &self.signature).is_ok()
            }
            PublicKey::Es256(key) => {
                let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, key);
                algorithm == Some("ES256") && key.verify(&self.signed, &self.signature).is_ok()
            }
        }
    }
}
