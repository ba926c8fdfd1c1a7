//! Keys that pretend servers sign with.

use std::fmt;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use grantflow::crypto::{MacAlgorithm, MacKey};
use ring::rand::SystemRandom;
use ring::rsa::PublicKeyComponents;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _, RSA_PKCS1_SHA256, RsaKeyPair};
use serde_json::{Value, json};

use crate::google::{another_private_key_der, private_key_der};

/// A private key of an issuer's, with its name. Cheap to clone.
#[derive(Clone)]
pub struct IssuerKey {
    kid: Option<String>,
    pair: Arc<Pair>,
}

enum Pair {
    Hs256(Box<MacKey>),
    Rs256(Box<RsaKeyPair>),
    Es256(Box<EcdsaKeyPair>),
}

impl IssuerKey {
    /// A new key for ES256.
    ///
    /// # Panics
    ///
    /// If the system has no randomness.
    pub fn es256(kid: &str) -> Self {
        let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(algorithm, &SystemRandom::new()).expect("randomness");
        let pair = EcdsaKeyPair::from_pkcs8(algorithm, pkcs8.as_ref(), &SystemRandom::new()).expect("a key");
        Self { kid: Some(kid.to_owned()), pair: Arc::new(Pair::Es256(Box::new(pair))) }
    }

    /// The one key for RS256.
    ///
    /// # Panics
    ///
    /// Never: the key is right.
    pub fn rs256(kid: &str) -> Self {
        let pair = RsaKeyPair::from_pkcs8(&private_key_der()).expect("a key");
        Self { kid: Some(kid.to_owned()), pair: Arc::new(Pair::Rs256(Box::new(pair))) }
    }

    /// Another key for RS256.
    ///
    /// # Panics
    ///
    /// Never: the key is right.
    pub fn another_rs256(kid: &str) -> Self {
        let pair = RsaKeyPair::from_pkcs8(&another_private_key_der()).expect("a key");
        Self { kid: Some(kid.to_owned()), pair: Arc::new(Pair::Rs256(Box::new(pair))) }
    }

    /// A client's secret, for HS256. It belongs into no set.
    ///
    /// # Panics
    ///
    /// If it is shorter than 32 bytes.
    pub fn hs256(secret: &str) -> Self {
        let key = MacKey::new(MacAlgorithm::HS256, secret.as_bytes()).expect("32 bytes");
        Self { kid: None, pair: Arc::new(Pair::Hs256(Box::new(key))) }
    }

    /// The same key, without a name.
    pub fn without_kid(&self) -> Self {
        Self { kid: None, ..self.clone() }
    }

    /// The same key, by another name.
    pub fn named(&self, kid: &str) -> Self {
        Self { kid: Some(kid.to_owned()), ..self.clone() }
    }

    /// Its algorithm.
    pub fn algorithm(&self) -> &'static str {
        match &*self.pair {
            Pair::Hs256(_) => "HS256",
            Pair::Rs256(_) => "RS256",
            Pair::Es256(_) => "ES256",
        }
    }

    /// The public key (RFC 7517, section 4).
    pub fn jwk(&self) -> Value {
        let mut jwk = match &*self.pair {
            Pair::Hs256(_) => json!({"kty": "oct"}),
            Pair::Rs256(pair) => {
                let key: PublicKeyComponents<Vec<u8>> = pair.public().into();
                json!({"kty": "RSA", "n": URL_SAFE_NO_PAD.encode(key.n), "e": URL_SAFE_NO_PAD.encode(key.e)})
            }
            Pair::Es256(pair) => {
                let point = pair.public_key().as_ref();
                let (x, y) = (URL_SAFE_NO_PAD.encode(&point[1..33]), URL_SAFE_NO_PAD.encode(&point[33..]));
                json!({"kty": "EC", "crv": "P-256", "x": x, "y": y})
            }
        };
        jwk["use"] = "sig".into();
        jwk["alg"] = self.algorithm().into();
        if let Some(kid) = &self.kid {
            jwk["kid"] = kid.as_str().into();
        }
        jwk
    }

    /// The public key in the form that its library verifies with: PKCS#1, or a point.
    pub fn public(&self) -> Vec<u8> {
        match &*self.pair {
            Pair::Hs256(_) => Vec::new(),
            Pair::Rs256(pair) => pair.public().as_ref().to_vec(),
            Pair::Es256(pair) => pair.public_key().as_ref().to_vec(),
        }
    }

    /// A set of keys (RFC 7517, section 5).
    pub fn set<'a>(keys: impl IntoIterator<Item = &'a Self>) -> Value {
        json!({"keys": keys.into_iter().map(Self::jwk).collect::<Vec<_>>()})
    }

    /// A JWT of these claims, whose header says `typ`, the algorithm, and the key's name.
    pub fn sign(&self, typ: &str, claims: &Value) -> String {
        self.sign_with(&json!({"typ": typ}), claims)
    }

    /// A JWT of these claims, whose header has these members beside the algorithm and the key's name.
    ///
    /// # Panics
    ///
    /// If the key cannot sign.
    pub fn sign_with(&self, header: &Value, claims: &Value) -> String {
        let mut header = header.clone();
        if header.get("alg").is_none() {
            header["alg"] = self.algorithm().into();
        }
        if let Some(kid) = &self.kid
            && header.get("kid").is_none()
        {
            header["kid"] = kid.as_str().into();
        }
        let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", encode(&header), encode(claims));
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(self.signature(signed.as_bytes())))
    }

    /// Its signature of these bytes.
    ///
    /// # Panics
    ///
    /// If the key cannot sign.
    pub fn signature(&self, message: &[u8]) -> Vec<u8> {
        match &*self.pair {
            Pair::Hs256(key) => key.sign(message),
            Pair::Rs256(pair) => {
                let mut signature = vec![0; pair.public().modulus_len()];
                let signing = pair.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), message, &mut signature);
                signing.expect("a signature");
                signature
            }
            Pair::Es256(pair) => pair.sign(&SystemRandom::new(), message).expect("a signature").as_ref().to_vec(),
        }
    }
}

impl fmt::Debug for IssuerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IssuerKey").field("kid", &self.kid).field("algorithm", &self.algorithm()).finish()
    }
}
