//! Keys: their forms, their limits, and sets of them.

use base64::engine::general_purpose::STANDARD;
use grantflow::ErrorKind;
use grantflow::crypto::{Algorithm, MacAlgorithm, MacKey, SigningKey, VerifyingKey};
use grantflow::jose::{Jwk, JwkSet};

use super::*;

const KEY: &str = include_str!("../../../tests/data/google/private_key.b64");
const JWT: &str = include_str!("../../../tests/data/google/assertion.jwt");

fn pem(label: &str, der: &str) -> String {
    format!("-----BEGIN {label}-----\n{der}\n-----END {label}-----\n")
}

fn forms<'a>(entry: &'a Value, which: &str) -> impl Iterator<Item = (&'a str, String)> {
    let texts = |form: &'a Value| (form[0].as_str().unwrap(), form[1].as_str().unwrap());
    let forms = entry[which].as_array().unwrap().iter().map(texts);
    forms.map(|(label, der)| (label, pem(label, der)))
}

#[test]
fn each_algorithm_signs_and_its_public_key_alone_verifies() {
    let mut seen = 0;
    for algorithm in available() {
        let own = key(algorithm);
        let signature = sign(&own, b"message");
        own.verifying_key().verify(b"message", &signature).unwrap();
        assert!(own.verifying_key().verify(b"massage", &signature).is_err(), "{algorithm}");
        let mut longer = signature.clone();
        longer.push(0);
        for wrong in [&signature[1..], &signature[..signature.len() - 1], &longer, &vec![0; signature.len()], &[]] {
            let error = own.verifying_key().verify(b"message", wrong).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Signature, "{algorithm}");
        }
        for other in available().filter(|other| *other != algorithm) {
            assert!(key(other).verifying_key().verify(b"message", &signature).is_err(), "{algorithm} by {other}");
        }
        seen += 1;
    }
    assert_eq!(seen, if cfg!(feature = "aws-lc-rs") { 10 } else { 9 });
}

#[test]
fn rs256_gives_the_known_signature_from_pkcs8_and_pkcs1() {
    let (message, signature) = JWT.trim().rsplit_once('.').unwrap();
    let der = STANDARD.decode(KEY.split_whitespace().collect::<String>()).unwrap();
    let pkcs1 = pem("RSA PRIVATE KEY", &STANDARD.encode(&der[26..]));
    for pem in [pem("PRIVATE KEY", KEY), pkcs1, pem("PRIVATE KEY", KEY).replace('\n', "\\n")] {
        let key = SigningKey::from_pem(Algorithm::RS256, &pem).unwrap();
        assert_eq!(encode(sign(&key, message.as_bytes())), signature);
        assert_eq!(sign(&key, b""), sign(&key.clone(), b""));
    }
}

#[test]
fn a_key_is_the_same_in_each_of_its_forms() {
    for (algorithm, entry) in all_keys().into_iter().filter(|(algorithm, _)| algorithm.is_available()) {
        let own = SigningKey::from_jwk(algorithm, &secret(&entry["jwk"])).unwrap();
        for (label, text) in forms(&entry, "private") {
            let read =
                SigningKey::from_pem(algorithm, &text).unwrap_or_else(|error| panic!("{algorithm} {label}: {error}"));
            own.verifying_key().verify(b"message", &sign(&read, b"message")).unwrap();
            assert_eq!(read.verifying_key(), own.verifying_key());
            assert!(VerifyingKey::from_pem(algorithm, &text).is_err(), "{algorithm} {label}");
        }
        for (label, text) in forms(&entry, "public") {
            let read =
                VerifyingKey::from_pem(algorithm, &text).unwrap_or_else(|error| panic!("{algorithm} {label}: {error}"));
            assert_eq!(&read, own.verifying_key(), "{algorithm} {label}");
            assert!(SigningKey::from_pem(algorithm, &text).is_err(), "{algorithm} {label}");
        }
        let read = Jwk::from_json(public(&entry["jwk"], json!({})).to_string().as_bytes()).unwrap();
        assert_eq!(read.verifying_key(algorithm).as_ref(), Some(own.verifying_key()));
    }
}

#[test]
fn a_key_of_another_kind_than_its_algorithm_is_refused() {
    for (kind, entry) in all_keys() {
        let rsa = kind == Algorithm::RS256;
        for algorithm in Algorithm::ALL {
            let fits =
                algorithm == kind || (rsa && algorithm.name().contains('S') && !algorithm.name().starts_with('E'));
            let text = forms(&entry, "private").next().unwrap().1;
            let made = SigningKey::from_pem(algorithm, &text);
            assert_eq!(made.is_ok(), fits && algorithm.is_available(), "{algorithm}: {made:?}");
            assert_eq!(
                SigningKey::from_jwk(algorithm, &secret(&entry["jwk"])).is_ok(),
                fits && algorithm.is_available()
            );
            let text = forms(&entry, "public").next().unwrap().1;
            assert_eq!(VerifyingKey::from_pem(algorithm, &text).is_ok(), fits && algorithm.is_available());
        }
    }
}

#[test]
fn an_algorithm_that_no_library_has_is_an_error_by_name() {
    let (_, entry) = all_keys().into_iter().find(|(algorithm, _)| *algorithm == Algorithm::ES512).unwrap();
    let made = SigningKey::from_jwk(Algorithm::ES512, &secret(&entry["jwk"]));
    assert_eq!(Algorithm::ES512.is_available(), cfg!(feature = "aws-lc-rs"));
    if let Err(error) = made {
        let has_all = cfg!(feature = "aws-lc-rs");
        assert!(!has_all, "{error}");
        assert!(error.to_string().contains("ES512") && error.to_string().contains("aws-lc-rs"), "{error}");
        assert!(SigningKey::generate(Algorithm::ES512, &mut cx()).unwrap_err().to_string().contains("ES512"));
    }
}

#[test]
fn new_keys_sign_and_differ() {
    for algorithm in available() {
        let mut cx = cx();
        let made = [SigningKey::generate(algorithm, &mut cx), SigningKey::generate(algorithm, &mut cx)];
        if matches!(algorithm.name().as_bytes()[0], b'R' | b'P') {
            assert_eq!(made[0].as_ref().unwrap_err().kind(), ErrorKind::Config);
            continue;
        }
        let [a, b] = made.map(Result::unwrap);
        a.verifying_key().verify(b"message", &sign(&a, b"message")).unwrap();
        assert!(b.verifying_key().verify(b"message", &sign(&a, b"message")).is_err(), "{algorithm}");
        assert_ne!(Jwk::from(a.verifying_key()).thumbprint(), Jwk::from(b.verifying_key()).thumbprint());
    }
}

#[test]
fn weak_and_damaged_private_keys_are_refused() {
    for (der, what) in [
        (include_str!("../../../tests/data/google/short_private_key.b64"), "1024 bits"),
        (include_str!("../../../tests/data/google/ec_private_key.b64"), "an EC key"),
        ("AAECAwQ=", "no key"),
        (&KEY[..770], "half a key"),
    ] {
        for label in ["PRIVATE KEY", "RSA PRIVATE KEY"] {
            let error = SigningKey::from_pem(Algorithm::RS256, &pem(label, der)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config, "{what}: {error}");
        }
    }
}

/// RUSTSEC-2022-0093: a public part of another key would turn signatures into a way to the private one.
#[test]
fn a_private_jwk_with_the_public_part_of_another_key_is_refused() {
    for algorithm in [Algorithm::EdDSA, Algorithm::ES256, Algorithm::ES384] {
        let other = SigningKey::generate(algorithm, &mut cx()).unwrap();
        let other = data(&Jwk::from(other.verifying_key()).to_json());
        let (_, entry) = all_keys().into_iter().find(|(known, _)| *known == algorithm).unwrap();
        let mut mixed = public(&other, json!({}));
        mixed["d"] = entry["jwk"]["d"].clone();
        assert_eq!(
            SigningKey::from_jwk(algorithm, &secret(&mixed)).unwrap_err().kind(),
            ErrorKind::Config,
            "{algorithm}"
        );
    }
}

#[test]
fn a_jwk_is_read_strictly() {
    let rsa = jwk(Algorithm::RS256, json!({}));
    let (ec, ed) = (jwk(Algorithm::ES256, json!({})), jwk(Algorithm::EdDSA, json!({})));
    let with = |key: &Value, name: &str, value: Value| {
        let mut key = key.clone();
        key[name] = value;
        key.to_string()
    };
    let (n, x) = (rsa["n"].as_str().unwrap(), ec["x"].as_str().unwrap());
    for wrong in [
        with(&rsa, "e", json!("AQAC")),
        with(&rsa, "e", json!("AQ")),
        with(&rsa, "e", json!("AAEAAQ")),
        with(&rsa, "e", json!("AQAAAAAB")),
        with(&rsa, "e", json!(65537)),
        with(&rsa, "n", json!(format!("AAAA{n}"))),
        with(&rsa, "n", json!(&n[..170])),
        with(&rsa, "n", json!(n.repeat(5))),
        with(&rsa, "n", json!(format!("{n}="))),
        with(&rsa, "n", json!(n.replace(['-', '_'], "+"))),
        with(&rsa, "kty", json!("rsa")),
        with(&rsa, "kty", json!("EC")),
        with(&rsa, "use", json!("enc")),
        with(&rsa, "use", json!(["sig"])),
        with(&rsa, "key_ops", json!(["sign"])),
        with(&rsa, "key_ops", json!("verify")),
        with(&rsa, "alg", json!("ES256")),
        with(&rsa, "alg", json!("HS256")),
        with(&rsa, "alg", json!("none")),
        with(&rsa, "alg", json!("RSA-OAEP")),
        with(&rsa, "kid", json!(7)),
        with(&rsa, "d", json!("AQAB")),
        with(&rsa, "k", json!("AQAB")),
        with(&ec, "crv", json!("P-384")),
        with(&ec, "crv", json!("secp256k1")),
        with(&ec, "x", json!(format!("AA{x}"))),
        with(&ec, "x", json!(&x[..40])),
        with(&ed, "crv", json!("X25519")),
        with(&ed, "x", json!("AQAB")),
        with(&ed, "d", json!("AQAB")),
        r#"{"kty":"oct","k":"AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T"}"#.to_owned(),
        rsa.to_string().replacen('{', r#"{"kid":"a","kid":"b","#, 1),
        format!("[{rsa}]"),
        String::new(),
    ] {
        let error = Jwk::from_json(wrong.as_bytes()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config, "{wrong}");
    }
}

#[test]
fn a_point_beside_its_curve_verifies_nothing() {
    let mut wrong = jwk(Algorithm::ES256, json!({}));
    wrong["y"] = wrong["x"].clone();
    let signature = sign(&key(Algorithm::ES256), b"message");
    let verifying = Jwk::from_json(wrong.to_string().as_bytes()).unwrap().verifying_key(Algorithm::ES256);
    assert!(verifying.is_none_or(|key| key.verify(b"message", &signature).is_err()));
}

#[test]
fn one_bad_key_does_not_spoil_its_set() {
    let good = jwk(Algorithm::RS256, json!({"kid": "good"}));
    let bad = [
        json!(null),
        json!([]),
        json!("text"),
        json!({}),
        json!({"kty": "AKP", "alg": "ML-DSA-44", "pub": "AQAB"}),
        json!({"kty": "oct", "k": "AQAB"}),
        jwk(Algorithm::RS256, json!({"use": "enc"})),
        jwk(Algorithm::RS256, json!({"d": "AQAB"})),
    ];
    let mut keys = bad.to_vec();
    keys.insert(3, good);
    let set = JwkSet::from_json(json!({"keys": keys, "more": 1}).to_string().as_bytes()).unwrap();
    assert_eq!((set.keys().len(), set.left_out()), (1, bad.len()));
    assert_eq!(set.keys()[0].key_id(), Some("good"));
    // One that stands twice, or that has a number beyond all numbers, costs itself too.
    let text = json!({"keys": keys}).to_string().replacen("null", r#"{"kty":"RSA","kty":"EC"},{"a":1e999}"#, 1);
    assert_eq!(JwkSet::from_json(text.as_bytes()).unwrap().left_out(), bad.len() + 1);
}

#[test]
fn a_set_is_bounded_and_an_object_with_keys() {
    for wrong in ["", "[]", "{}", r#"{"keys":{}}"#, r#"{"keys":null}"#, r#"{"keys":[],"keys":[]}"#, "{\"keys\":[]} x"] {
        assert_eq!(JwkSet::from_json(wrong.as_bytes()).unwrap_err().kind(), ErrorKind::InvalidResponse, "{wrong}");
    }
    assert_eq!(JwkSet::from_json(b"\xef\xbb\xbf{\"keys\":[]}").unwrap().keys().len(), 0);
    let many = vec![jwk(Algorithm::EdDSA, json!({})); 250];
    let set = set(&many);
    assert_eq!((set.keys().len(), set.left_out()), (100, 150));
    let huge = json!({"keys": vec![jwk(Algorithm::EdDSA, json!({"more": "x".repeat(6000)})); 100]}).to_string();
    assert!(JwkSet::from_json(huge.as_bytes()).unwrap_err().to_string().contains("512 KiB"));
}

#[test]
fn a_public_key_is_never_taken_for_a_secret() {
    for (_, entry) in all_keys() {
        for (label, text) in forms(&entry, "public").chain(forms(&entry, "private")) {
            for text in [text.clone(), format!("\n {text}")] {
                let error = MacKey::new(MacAlgorithm::HS256, text.as_bytes()).unwrap_err();
                assert!(error.kind() == ErrorKind::Config && error.to_string().contains("PEM"), "{label}: {error}");
            }
        }
        for text in [
            entry["jwk"].to_string(),
            format!(
                "
{:#}",
                public(&entry["jwk"], json!({}))
            ),
        ] {
            let error = MacKey::new(MacAlgorithm::HS512, text.as_bytes()).unwrap_err();
            assert!(error.to_string().contains("JWK"), "{error}");
        }
    }
}
