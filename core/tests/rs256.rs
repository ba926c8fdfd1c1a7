//! RS256 is deterministic: whichever library signs, the same key and message give the same signature.
//! Run with each of the features `ring`, `aws-lc-rs` and `rust-crypto` alone.
#![cfg(any(feature = "ring", feature = "aws-lc-rs", feature = "rust-crypto"))]

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use grantflow::crypto::{Algorithm, Signer, Signing, SigningKey};
use grantflow::{Cx, ErrorKind, Now};

const KEY: &str = include_str!("../../tests/data/google/private_key.b64");
const JWT: &str = include_str!("../../tests/data/google/assertion.jwt");

fn pem(label: &str, der: &str) -> String {
    format!("-----BEGIN {label}-----\n{der}\n-----END {label}-----\n")
}

fn sign(key: &SigningKey, message: &[u8]) -> Vec<u8> {
    match key.sign(message, &mut Cx::new(Now::default(), [7; 32])) {
        Signing::Done(signature) => signature.unwrap(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn pkcs8_and_pkcs1_give_the_known_signature() {
    let (message, signature) = JWT.trim().rsplit_once('.').unwrap();
    let der = STANDARD.decode(KEY.split_whitespace().collect::<String>()).unwrap();
    let pkcs1 = pem("RSA PRIVATE KEY", &STANDARD.encode(&der[26..]));
    for pem in [pem("PRIVATE KEY", KEY), pkcs1, pem("PRIVATE KEY", KEY).replace('\n', "\\n")] {
        let key = SigningKey::from_pem(Algorithm::RS256, &pem).unwrap();
        assert_eq!(URL_SAFE_NO_PAD.encode(sign(&key, message.as_bytes())), signature);
        assert_eq!(sign(&key, b""), sign(&key.clone(), b""));
    }
}

#[test]
fn keys_that_are_too_weak_or_of_another_kind_are_refused() {
    for (der, what) in [
        (include_str!("../../tests/data/google/short_private_key.b64"), "1024 bits"),
        (include_str!("../../tests/data/google/ec_private_key.b64"), "an EC key"),
        ("AAECAwQ=", "no key"),
        (&KEY[..770], "half a key"),
    ] {
        for label in ["PRIVATE KEY", "RSA PRIVATE KEY"] {
            let error = SigningKey::from_pem(Algorithm::RS256, &pem(label, der)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config, "{what}: {error}");
        }
    }
}
