//! Signed tokens as attackers make them, and as servers do while they change their keys.

use grantflow::crypto::{Algorithm, MacAlgorithm, MacKey};
use grantflow::jose::{JwkSet, Jws};
use grantflow::{Error, ErrorKind};

use super::*;

fn verify(token: &str, keys: &JwkSet) -> Result<Vec<u8>, Error> {
    Jws::read(token)?.verify(keys, &Algorithm::ALL)
}

fn refused(token: &str, keys: &JwkSet, why: &str) {
    let error = verify(token, keys).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Signature, "{error}");
    assert!(error.to_string().contains(why), "{why}: {error}");
}

#[test]
fn a_token_without_a_signature_is_refused_however_it_is_spelled() {
    let keys = set(&[jwk(Algorithm::RS256, json!({}))]);
    for alg in ["none", "None", "NONE", "nOnE"] {
        for signature in ["", "AAAA"] {
            let header = encode(format!(r#"{{"alg":"{alg}"}}"#));
            refused(&format!("{header}.e30.{signature}"), &keys, "alg none");
        }
    }
}

#[test]
fn a_code_by_the_public_key_as_its_secret_is_no_signature() {
    let keys = set(&[jwk(Algorithm::RS256, json!({}))]);
    for (_, entry) in all_keys() {
        let forms = entry["public"].as_array().unwrap().iter();
        let mut secrets: Vec<_> = forms.map(|form| form[1].as_str().unwrap().as_bytes().to_vec()).collect();
        secrets.push(jwk(Algorithm::RS256, json!({})).to_string().into_bytes());
        for secret in secrets {
            let Ok(mac) = MacKey::new(MacAlgorithm::HS256, &secret) else { continue };
            let signed = format!("{}.e30", encode(r#"{"alg":"HS256"}"#));
            let token = format!("{signed}.{}", encode(mac.sign(signed.as_bytes())));
            refused(&token, &keys, "not allowed");
            assert_eq!(Jws::read(&token).unwrap().verify_mac(&mac).unwrap(), b"{}");
        }
    }
    // And a signature is no code.
    let mac = MacKey::new(MacAlgorithm::HS256, &[7; 32]).unwrap();
    let token = token(&key(Algorithm::RS256), r#"{"alg":"RS256"}"#, "{}");
    assert!(Jws::read(&token).unwrap().verify_mac(&mac).unwrap_err().to_string().contains("not allowed"));
}

#[test]
fn an_algorithm_that_the_caller_did_not_allow_is_refused() {
    for algorithm in available() {
        let keys = set(&[jwk(algorithm, json!({}))]);
        let token = token(&key(algorithm), &format!(r#"{{"alg":"{algorithm}"}}"#), "{}");
        for allowed in Algorithm::ALL {
            let verified = Jws::read(&token).unwrap().verify(&keys, &[allowed]);
            assert_eq!(verified.is_ok(), allowed == algorithm, "{algorithm} by {allowed}");
        }
        assert!(Jws::read(&token).unwrap().verify(&keys, &[]).is_err());
    }
}

#[test]
fn a_key_that_is_for_one_algorithm_verifies_no_other() {
    for (signed, of_key) in [("PS256", "RS256"), ("RS256", "PS256"), ("RS512", "RS256"), ("RS256", "RS384")] {
        let algorithm = Algorithm::from_name(signed).unwrap();
        let token = token(&key(algorithm), &format!(r#"{{"alg":"{signed}"}}"#), "{}");
        refused(&token, &set(&[jwk(algorithm, json!({"alg": of_key}))]), "no key");
        assert!(verify(&token, &set(&[jwk(algorithm, json!({"alg": signed}))])).is_ok());
        assert!(verify(&token, &set(&[jwk(algorithm, json!({}))])).is_ok());
        // What the header says counts for nothing where the signature is another's.
        let lie = super::token(&key(algorithm), &format!(r#"{{"alg":"{of_key}"}}"#), "{}");
        assert!(verify(&lie, &set(&[jwk(algorithm, json!({}))])).is_err());
    }
    let token = token(&key(Algorithm::ES256), r#"{"alg":"ES256"}"#, "{}");
    refused(&token, &set(&[jwk(Algorithm::ES384, json!({}))]), "no key");
}

#[test]
fn both_names_of_ed25519_are_one() {
    for (header, of_key) in [("EdDSA", "Ed25519"), ("Ed25519", "EdDSA"), ("Ed25519", "Ed25519")] {
        let token = token(&key(Algorithm::EdDSA), &format!(r#"{{"alg":"{header}"}}"#), "{}");
        assert_eq!(verify(&token, &set(&[jwk(Algorithm::EdDSA, json!({"alg": of_key}))])).unwrap(), b"{}");
    }
}

#[test]
fn a_key_in_the_header_or_an_address_of_one_is_never_looked_at() {
    let own = key(Algorithm::ES256);
    let jwk = jwk(Algorithm::ES256, json!({}));
    for (name, value) in [
        ("jwk", jwk.clone()),
        ("jku", json!("https://attacker.example/keys")),
        ("x5u", json!("https://attacker.example/cert")),
        ("x5c", json!(["AAAA"])),
    ] {
        let header = json!({"alg": "ES256", name: value}).to_string();
        let token = token(&own, &header, "{}");
        refused(&token, &set(&[]), "no key");
        let other = super::jwk(Algorithm::ES384, json!({}));
        refused(&token, &set(&[other]), "no key");
        // Where its key is known anyway, the member is passed over.
        assert!(verify(&token, &set(std::slice::from_ref(&jwk))).is_ok(), "{name}");
    }
}

#[test]
fn extensions_are_refused_and_so_is_a_header_that_is_none() {
    let own = key(Algorithm::ES256);
    let keys = set(&[jwk(Algorithm::ES256, json!({}))]);
    for header in [
        r#"{"alg":"ES256","crit":["bork"],"bork":1}"#,
        r#"{"alg":"ES256","crit":["exp"],"exp":1363284000}"#,
        r#"{"alg":"ES256","crit":[]}"#,
        r#"{"alg":"ES256","crit":"x"}"#,
        r#"{"alg":"ES256","crit":["alg"]}"#,
        r#"{"alg":"ES256","crit":null}"#,
        r#"{"alg":"ES256","b64":false}"#,
        r#"{"alg":"ES256","b64":false,"crit":["b64"]}"#,
        r#"{"alg":"ES256","zip":"DEF"}"#,
        r#"{"alg":"ES256","alg":"ES256"}"#,
        r#"{"alg":"none","alg":"ES256"}"#,
        r#"{"alg":["ES256"]}"#,
        r#"{"alg":null}"#,
        r#"{}"#,
        r#"{"alg":"es256"}"#,
        r#"{"alg":"ES256 "}"#,
        r#"{"alg":"ES256","kid":7}"#,
        r#"{"alg":"ES256","kid":null}"#,
        r#"{"alg":"ES256","typ":7}"#,
        r#"["ES256"]"#,
        r#""ES256""#,
        "",
        "{",
    ] {
        let error = verify(&token(&own, header, "{}"), &keys).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Signature, "{header}: {error}");
    }
    let long = json!({"alg": "ES256", "kid": "k".repeat(513)}).to_string();
    refused(&token(&own, &long, "{}"), &keys, "kid");
    let path = json!({"alg": "ES256", "kid": "../../dev/null"}).to_string();
    refused(&token(&own, &path, "{}"), &keys, "no key");
}

#[test]
fn base64url_is_read_strictly_and_what_is_signed_is_what_came() {
    let own = key(Algorithm::ES256);
    let keys = set(&[jwk(Algorithm::ES256, json!({}))]);
    let token = token(&own, r#"{"alg":"ES256"}"#, r#"{"sub":"a"}"#);
    assert!(verify(&token, &keys).is_ok());
    let (signed, signature) = token.rsplit_once('.').unwrap();
    for wrong in [
        format!("{token}="),
        format!("{token}\n"),
        format!(" {token}"),
        format!("{token}.").replace("..", "."),
        format!("{signed}.{signature}A"),
        format!("{signed}="),
        format!("{signed}.{}", &signature[1..]),
        format!("{signed}."),
        signed.to_owned(),
        format!("{signed}.{}", signature.repeat(20)),
        format!("{}.{signature}", signed.replacen('.', "=.", 1)),
        format!("{}.{signature}", signed.replacen('.', ".\u{e4}", 1)),
        String::new(),
        ".".to_owned(),
        "..".to_owned(),
        "...".to_owned(),
    ] {
        assert_eq!(verify(&wrong, &keys).unwrap_err().kind(), ErrorKind::Signature, "{wrong}");
    }
    // A last letter with bits that count for nothing is another spelling of the same bytes.
    let last = signature.chars().last().unwrap();
    let spelled = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let next = spelled.chars().nth(spelled.find(last).unwrap() + 1).unwrap();
    assert!(verify(&format!("{signed}.{}{next}", &signature[..signature.len() - 1]), &keys).is_err());
}

#[test]
fn what_is_huge_costs_nothing() {
    let keys = set(&[jwk(Algorithm::ES256, json!({}))]);
    refused(&".".repeat(10 << 20), &keys, "64 KiB");
    refused(&".".repeat(60 << 10), &keys, "three parts");
    refused(&"A".repeat(60 << 10), &keys, "three parts");
    let deep = format!("{}.e30.AAAA", encode(format!(r#"{{"alg":{}"#, "[".repeat(20_000))));
    refused(&deep, &keys, "no JSON object");
}

#[test]
fn an_encrypted_token_is_told_by_name() {
    let header = encode(r#"{"alg":"RSA-OAEP","enc":"A256GCM","zip":"DEF","p2c":2147483648}"#);
    refused(&format!("{header}.a.b.c.d"), &set(&[]), "encrypted (JWE)");
}

#[test]
fn ecdsa_with_zeros_or_in_der_is_refused() {
    let keys = set(&[jwk(Algorithm::ES256, json!({}))]);
    let signed = format!("{}.e30", encode(r#"{"alg":"ES256"}"#));
    let mut der = vec![0x30, 0x44, 0x02, 0x20];
    der.extend([1; 32]);
    der.extend([0x02, 0x20]);
    der.extend([1; 32]);
    for signature in [vec![0; 64], vec![0; 63], vec![1; 65], vec![0xff; 64], der] {
        refused(&format!("{signed}.{}", encode(signature)), &keys, "no key");
    }
}

#[test]
fn kid_names_the_key_and_without_it_each_that_fits_is_tried() {
    let (old, new) = (key(Algorithm::ES256), SigningKey::generate(Algorithm::ES256, &mut cx()).unwrap());
    let named = |key: &SigningKey, more: Value| public(&data(&Jwk::from(key.verifying_key()).to_json()), more);
    let (a, b) = (named(&old, json!({"kid": "a"})), named(&new, json!({"kid": "b"})));
    let with = |key: &SigningKey, kid: &str| token(key, &json!({"alg": "ES256", "kid": kid}).to_string(), "{}");
    let without = |key: &SigningKey| token(key, r#"{"alg":"ES256"}"#, "{}");
    let both = set(&[a.clone(), b.clone()]);
    assert!(verify(&with(&old, "a"), &both).is_ok());
    assert!(verify(&with(&new, "b"), &both).is_ok());
    refused(&with(&new, "a"), &both, "wrong");
    refused(&with(&old, "c"), &both, "no key");
    refused(&with(&old, "A"), &both, "no key");
    // Without kid: one key, several, and none that vouches, since it may be newer than the set.
    assert!(verify(&without(&old), &set(std::slice::from_ref(&a))).is_ok());
    assert!(verify(&without(&new), &both).is_ok());
    refused(&without(&new), &set(std::slice::from_ref(&a)), "no key");
    // A key without kid is not the one that is named.
    refused(&with(&old, "a"), &set(&[named(&old, json!({}))]), "no key");
    // The same kid twice, on keys of the same kind and of others.
    let decoys = [jwk(Algorithm::RS256, json!({"kid": "b"})), named(&old, json!({"kid": "b"})), b.clone()];
    assert!(verify(&with(&new, "b"), &set(&decoys)).is_ok());
    // A key that is not for signatures does not vouch, whatever its name.
    let enc = named(&old, json!({"kid": "a", "use": "enc"}));
    refused(&with(&old, "a"), &set(&[enc, b.clone()]), "no key");
    // No more than eight are tried.
    let cx = |seed| Cx::new(Now::default(), [seed; 32]);
    let others = (8..16).map(|seed| SigningKey::generate(Algorithm::ES256, &mut cx(seed)).unwrap());
    let mut many: Vec<_> = others.map(|key| named(&key, json!({}))).collect();
    many.push(b);
    refused(&without(&new), &set(&many), "no key");
    assert!(verify(&without(&new), &set(&many[1..])).is_ok());
}

#[test]
fn the_type_is_a_media_type() {
    for (typ, is) in [
        ("at+jwt", true),
        ("AT+JWT", true),
        ("application/at+jwt", true),
        ("Application/AT+jwt", true),
        ("text/at+jwt", false),
        ("application/x/at+jwt", false),
        ("jwt", false),
        ("", false),
    ] {
        let token = token(&key(Algorithm::EdDSA), &json!({"alg": "EdDSA", "typ": typ}).to_string(), "{}");
        assert_eq!(Jws::read(&token).unwrap().is_of_type("at+jwt"), is, "{typ}");
    }
}

#[test]
fn debug_shows_nothing_of_what_is_signed() {
    let token = token(&key(Algorithm::EdDSA), r#"{"alg":"EdDSA","kid":"canary"}"#, r#"{"sub":"canary"}"#);
    let shown = format!("{:?}", Jws::read(&token).unwrap());
    assert_eq!(shown, "Jws { alg: Some(EdDSA), .. }");
    let mac = MacKey::new(MacAlgorithm::HS256, b"canary-canary-canary-canary-canary").unwrap();
    assert!(!format!("{mac:?}").contains("canary"));
}
