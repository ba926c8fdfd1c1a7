//! What the standards print.

use grantflow::crypto::{Algorithm, MacAlgorithm, MacKey, SigningKey};
use grantflow::jose::{Jwk, JwkSet, Jws};
use grantflow::{ErrorKind, Secret};

use super::*;

const SIGNATURES: &str = include_str!("../../../tests/data/jose/signatures.json");

#[test]
fn each_signed_token_of_the_standards_verifies_by_its_key_and_by_no_other() {
    let vectors = data(SIGNATURES);
    let mut verified = 0;
    for vector in vectors.as_array().unwrap() {
        let (section, token) = (&vector["section"], vector["token"].as_str().unwrap());
        let jws = Jws::read(token).unwrap();
        let Some(algorithm) = Algorithm::from_name(vector["alg"].as_str().unwrap()) else {
            // HS256 and none are no algorithms with a public key.
            let error = jws.verify(&set(&[]), &Algorithm::ALL).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Signature, "{section}");
            continue;
        };
        let keys =
            set(&[public(&vector["jwk"], vector["jwk"].get("kid").map_or(json!({}), |kid| json!({"kid": kid})))]);
        if !algorithm.is_available() {
            let error = jws.verify(&keys, &Algorithm::ALL).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config, "{section}");
            assert!(error.to_string().contains("ES512 is not known to the library"), "{error}");
            continue;
        }
        let payload = jws.verify(&keys, &Algorithm::ALL).unwrap_or_else(|error| panic!("{section}: {error}"));
        assert_eq!(payload, vector["payload"].as_str().unwrap().as_bytes(), "{section}");
        for other in vectors.as_array().unwrap().iter().filter(|other| other["jwk"]["kty"].is_string()) {
            if other["jwk"] != vector["jwk"] {
                assert!(jws.verify(&set(&[public(&other["jwk"], json!({}))]), &Algorithm::ALL).is_err(), "{section}");
            }
        }
        verified += 1;
    }
    assert_eq!(verified, if Algorithm::ES512.is_available() { 6 } else { 4 });
}

#[test]
fn deterministic_signatures_are_those_that_the_standards_print() {
    let vectors = data(SIGNATURES);
    let mut signed = 0;
    for vector in vectors.as_array().unwrap() {
        let algorithm = match vector["alg"].as_str().unwrap() {
            "RS256" => Algorithm::RS256,
            "EdDSA" => Algorithm::EdDSA,
            _ => continue,
        };
        let key = SigningKey::from_jwk(algorithm, &secret(&vector["jwk"])).unwrap();
        let (message, signature) = vector["token"].as_str().unwrap().rsplit_once('.').unwrap();
        assert_eq!(encode(sign(&key, message.as_bytes())), signature, "{}", vector["section"]);
        signed += 1;
    }
    assert_eq!(signed, 2);
}

#[test]
fn the_request_objects_and_the_assertion_of_rfc_9101_and_rfc_9126_are_reproduced() {
    let vectors = data(include_str!("../../../tests/data/jose/request_objects.json"));
    let vectors = vectors.as_array().unwrap();
    let mut signed = 0;
    for vector in vectors {
        let [section, header, payload, whole] =
            ["section", "header", "payload", "token"].map(|name| vector[name].as_str().unwrap());
        let keys = set(&[public(&vector["jwk"], json!({"kid": vector["jwk"]["kid"]}))]);
        let jws = Jws::read(whole).unwrap();
        assert_eq!((jws.algorithm(), jws.key_id()), (Some(Algorithm::RS256), Some("k2bdc")), "{section}");
        assert_eq!(jws.verify(&keys, &[Algorithm::RS256]).unwrap(), payload.as_bytes(), "{section}");
        assert!(jws.verify(&keys, &[Algorithm::PS256, Algorithm::ES256]).is_err(), "{section}");
        // The two standards have one `kid` for two keys.
        for other in vectors.iter().filter(|other| other["jwk"]["n"] != vector["jwk"]["n"]) {
            let keys = set(&[public(&other["jwk"], json!({"kid": "k2bdc"}))]);
            assert_eq!(jws.verify(&keys, &[Algorithm::RS256]).unwrap_err().kind(), ErrorKind::Signature, "{section}");
        }
        if vector["jwk"]["d"].is_string() {
            let key = SigningKey::from_jwk(Algorithm::RS256, &secret(&vector["jwk"])).unwrap();
            assert_eq!(token(&key, header, payload), whole, "{section}");
            signed += 1;
        }
    }
    assert_eq!((vectors.len(), signed), (3, 2));
}

#[test]
fn the_authentication_code_of_the_standard_verifies_by_its_secret_alone() {
    let vectors = data(SIGNATURES);
    let vector = &vectors[0];
    let secret = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(vector["jwk"]["k"].as_str().unwrap()).unwrap();
    let jws = Jws::read(vector["token"].as_str().unwrap()).unwrap();
    let mac = |algorithm| MacKey::new(algorithm, &secret).unwrap();
    let payload = jws.verify_mac(&mac(MacAlgorithm::HS256)).unwrap();
    assert_eq!(payload, vector["payload"].as_str().unwrap().as_bytes());
    for wrong in
        [mac(MacAlgorithm::HS384), mac(MacAlgorithm::HS512), MacKey::new(MacAlgorithm::HS256, &[7; 32]).unwrap()]
    {
        assert_eq!(jws.verify_mac(&wrong).unwrap_err().kind(), ErrorKind::Signature);
    }
    for length in [0, 31] {
        assert_eq!(MacKey::new(MacAlgorithm::HS256, &secret[..length]).unwrap_err().kind(), ErrorKind::Config);
    }
}

#[test]
fn thumbprints_are_those_of_the_standards() {
    let vectors = data(include_str!("../../../tests/data/jose/thumbprints.json"));
    for vector in vectors.as_array().unwrap() {
        let more = json!({"kid": "a", "use": "sig", "key_ops": ["verify"], "x5t": "ignored"});
        for more in [json!({}), more] {
            let key = Jwk::from_json(public(&vector["jwk"], more).to_string().as_bytes()).unwrap();
            assert_eq!(key.thumbprint(), vector["thumbprint"].as_str().unwrap(), "{}", vector["section"]);
        }
    }
    let first = Jwk::from_json(public(&vectors[0]["jwk"], json!({})).to_string().as_bytes()).unwrap();
    let uri = "urn:ietf:params:oauth:jwk-thumbprint:sha-256:NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs";
    assert_eq!(first.thumbprint_uri(), uri); // RFC 9278, section 5
}

#[test]
fn the_id_tokens_of_openid_connect_verify() {
    let vectors = data(include_str!("../../../tests/data/jose/id_tokens.json"));
    let keys = set(&[vectors["jwk"].clone()]);
    for vector in vectors["tokens"].as_array().unwrap() {
        let token = vector["token"].as_str().unwrap();
        let payload = Jws::read(token).unwrap().verify(&keys, &[Algorithm::RS256]).unwrap();
        assert!(data(std::str::from_utf8(&payload).unwrap())["sub"] == "248289761001", "{}", vector["section"]);
        // Another letter anywhere, and it verifies no more.
        for (at, letter) in token.char_indices().filter(|(at, letter)| at % 61 == 0 && *letter != '.') {
            let mut changed = token.to_owned();
            changed.replace_range(at..=at, if letter == 'A' { "B" } else { "A" });
            assert!(Jws::read(&changed).and_then(|jws| jws.verify(&keys, &[Algorithm::RS256])).is_err(), "{at}");
        }
    }
}

#[test]
fn a_key_that_is_written_as_json_is_read_again_and_is_the_same() {
    for algorithm in available() {
        let own = key(algorithm).with_key_id("k-1");
        let written = Jwk::from(own.verifying_key()).to_json();
        let read = Jwk::from_json(written.as_bytes()).unwrap();
        assert_eq!(read, Jwk::from(own.verifying_key()), "{algorithm}");
        assert_eq!(read.verifying_key(algorithm).as_ref(), Some(own.verifying_key()));
        let keys: JwkSet = [read].into_iter().collect();
        let token = token(&own, &format!(r#"{{"alg":"{algorithm}"}}"#), "{}");
        assert_eq!(Jws::read(&token).unwrap().verify(&keys, &[algorithm]).unwrap(), b"{}");
    }
    let secret = Secret::from(r#"{"kty":"oct","k":"AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T"}"#);
    for algorithm in Algorithm::ALL {
        assert!(SigningKey::from_jwk(algorithm, &secret).is_err());
    }
}
