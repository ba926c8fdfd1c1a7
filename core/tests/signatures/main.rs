//! Signatures by whichever libraries this was built with: run with each of the features `ring`, `aws-lc-rs` and
//! `rust-crypto` alone, with each pair, and with all.
#![cfg(any(feature = "ring", feature = "aws-lc-rs", feature = "rust-crypto"))]

mod keys;
mod tokens;
mod vectors;
mod wycheproof;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use grantflow::crypto::{Algorithm, Signer, Signing, SigningKey};
use grantflow::jose::{Jwk, JwkSet};
use grantflow::{Cx, Now, Secret};
use serde_json::{Value, json};

fn cx() -> Cx {
    Cx::new(Now::default(), [7; 32])
}

fn sign(key: &SigningKey, message: &[u8]) -> Vec<u8> {
    match key.sign(message, &mut cx()) {
        Signing::Done(signature) => signature.unwrap(),
        other => panic!("{other:?}"),
    }
}

fn encode(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// A token with this header, as text, signed by this key.
fn token(key: &SigningKey, header: &str, payload: &str) -> String {
    let signed = format!("{}.{}", encode(header), encode(payload));
    let signature = encode(sign(key, signed.as_bytes()));
    format!("{signed}.{signature}")
}

fn data(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

/// Keys in several forms, of each kind.
fn all_keys() -> Vec<(Algorithm, Value)> {
    let entries = data(include_str!("../../../tests/data/jose/keys.json"));
    let algorithm = |entry: &Value| Algorithm::from_name(entry["alg"].as_str().unwrap()).unwrap();
    entries.as_array().unwrap().iter().map(|entry| (algorithm(entry), entry.clone())).collect()
}

/// The private key of this kind.
fn key(algorithm: Algorithm) -> SigningKey {
    let kind = match algorithm.name() {
        name @ ("ES256" | "ES384" | "ES512" | "EdDSA") => name,
        _ => "RS256",
    };
    let entry = all_keys().into_iter().find(|(known, _)| known.name() == kind).unwrap().1;
    SigningKey::from_jwk(algorithm, &secret(&entry["jwk"])).unwrap()
}

fn secret(jwk: &Value) -> Secret {
    jwk.to_string().into()
}

/// The public members of a JWK, with others beside them.
fn public(jwk: &Value, more: Value) -> Value {
    let members =
        jwk.as_object().unwrap().iter().filter(|(name, _)| ["kty", "crv", "n", "e", "x", "y"].contains(&&***name));
    let mut members: serde_json::Map<_, _> = members.map(|(name, value)| (name.clone(), value.clone())).collect();
    members.extend(more.as_object().unwrap().clone());
    Value::Object(members)
}

fn jwk(algorithm: Algorithm, more: Value) -> Value {
    let own: Value = data(&Jwk::from(key(algorithm).verifying_key()).to_json());
    public(&own, more)
}

fn set(keys: &[Value]) -> JwkSet {
    JwkSet::from_json(json!({"keys": keys}).to_string().as_bytes()).unwrap()
}

fn available() -> impl Iterator<Item = Algorithm> {
    Algorithm::ALL.into_iter().filter(|algorithm| algorithm.is_available())
}
