//! An ID token from elsewhere, as other crates verify it: each by keys at hand, which it has parsed before.

use std::collections::HashMap;
use std::str::FromStr as _;

use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use openidconnect::core::{CoreIdToken, CoreIdTokenVerifier, CoreJsonWebKeySet};
use openidconnect::{ClientId, IssuerUrl, Nonce};

use crate::harness::{Figures, Work};
use crate::verified_id_token::{CLIENT, Case, ISSUER};

/// grantflow, the peers, and the signature alone.
pub(crate) fn works(case: Case, algorithm: Algorithm) -> Vec<Work<'static>> {
    let peers = [jsonwebtoken(&case, algorithm), openidconnect(&case)];
    let mut works = case.works();
    works.splice(1..1, peers);
    works
}

/// grantflow is ahead of each peer.
pub(crate) fn is_ahead(figures: &[Figures]) -> bool {
    figures[1..figures.len() - 1].iter().all(|peer| figures[0].best < peer.best)
}

#[derive(serde::Deserialize)]
#[expect(dead_code, reason = "to be read as a program would have them")]
struct Claims {
    iss: String,
    sub: String,
    aud: String,
    exp: i64,
    iat: i64,
    email: Option<String>,
    email_verified: Option<bool>,
    name: Option<String>,
}

fn jsonwebtoken(case: &Case, algorithm: Algorithm) -> Work<'static> {
    let set: JwkSet = serde_json::from_str(&case.keys).unwrap();
    let key = |jwk: &jsonwebtoken::jwk::Jwk| (jwk.common.key_id.clone().unwrap(), DecodingKey::from_jwk(jwk).unwrap());
    let keys: HashMap<_, _> = set.keys.iter().map(key).collect();
    let mut validation = Validation::new(algorithm);
    validation.set_audience(&[CLIENT]);
    validation.set_issuer(&[ISSUER]);
    let token = case.token.clone();
    Work::new("jsonwebtoken 9, ring", move || {
        let key_id = decode_header(&token).unwrap().kid.unwrap();
        decode::<Claims>(&token, &keys[&key_id], &validation).unwrap()
    })
}

fn openidconnect(case: &Case) -> Work<'static> {
    let keys: CoreJsonWebKeySet = serde_json::from_str(&case.keys).unwrap();
    let issuer = IssuerUrl::new(ISSUER.into()).unwrap();
    let verifier = CoreIdTokenVerifier::new_public_client(ClientId::new(CLIENT.into()), issuer, keys);
    let verifier = verifier.set_allowed_algs([
        openidconnect::core::CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha256,
        openidconnect::core::CoreJwsSigningAlgorithm::EcdsaP256Sha256,
    ]);
    let token = case.token.clone();
    Work::new("openidconnect", move || {
        let token = CoreIdToken::from_str(&token).unwrap();
        token.claims(&verifier, |_: Option<&Nonce>| Ok(())).unwrap();
        token
    })
}
