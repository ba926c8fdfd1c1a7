//! Keys and signatures: what is read is what was written, and nothing else verifies.

use std::sync::OnceLock;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use grantflow::PendingAuthorization;
use grantflow::crypto::{Algorithm, SealingKey, SealingKeys, Signer as _, Signing, SigningKey, VerifyingKey};
use grantflow::jose::{Jwk, JwkSet, Jws};
use serde_json::{Map, Value, json};

use super::{CANARY, cx, splice};
use crate::canary::{hidden_in_debug, hidden_in_error};

/// A set of keys: of any bytes, and of a key whose numbers and name the bytes are. What was read is written and read
/// again, and is the same.
pub fn key_set(data: &[u8]) {
    match JwkSet::from_json(&splice(data, "")) {
        Ok(set) => set.keys().iter().for_each(again),
        Err(error) => hidden_in_error(&error, &[CANARY]),
    }
    let Some((&choice, bytes)) = data.split_first() else { return };
    let number = |length: usize| {
        let mut number: Vec<u8> =
            bytes.iter().copied().cycle().take(if bytes.is_empty() { 0 } else { length }).collect();
        number.iter_mut().for_each(|byte| *byte |= choice & 1);
        number
    };
    let encode = |bytes: Vec<u8>| URL_SAFE_NO_PAD.encode(bytes);
    let name = String::from_utf8_lossy(bytes);
    let mut key = match choice / 2 % 4 {
        0 => json!({"kty": "RSA", "n": encode(number(256)), "e": encode(number(3))}),
        1 => json!({"kty": "EC", "crv": "P-256", "x": encode(number(32)), "y": encode(number(32))}),
        2 => json!({"kty": "EC", "crv": "P-384", "x": encode(number(48)), "y": encode(number(48))}),
        _ => json!({"kty": "OKP", "crv": "Ed25519", "x": encode(number(32))}),
    };
    key["kid"] = name.as_ref().into();
    let set = JwkSet::from_json(json!({"keys": [key, {"kty": name, "crv": name, "use": name}]}).to_string().as_bytes());
    let set = set.expect("an object with keys");
    for read in set.keys() {
        assert_eq!(read.key_id(), Some(&*name));
        assert_eq!(serde_json::from_str::<Value>(&read.to_json()).expect("JSON"), key);
        again(read);
    }
}

fn again(key: &Jwk) {
    let written = Jwk::from_json(key.to_json().as_bytes()).expect("what we have written");
    assert!(&written == key && written.thumbprint() == key.thumbprint() && key.thumbprint().len() == 43);
    for algorithm in Algorithm::ALL {
        let Some(key) = key.verifying_key(algorithm) else { continue };
        assert!(key.algorithm() == algorithm && key.verify(b"message", &[0; 64]).is_err());
    }
}

/// Keys in PEM and as private JWK, of any bytes. Those that are read sign, and none is shown.
pub fn private_key(data: &[u8]) {
    let text = String::from_utf8_lossy(&splice(data, "")).into_owned();
    let labels = ["PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY", "PUBLIC KEY", "RSA PUBLIC KEY", "CERTIFICATE"];
    let encoded = STANDARD.encode(data);
    let texts = labels.iter().map(|label| format!("-----BEGIN {label}-----\n{encoded}\n-----END {label}-----\n"));
    for pem in texts.chain([text.clone()]) {
        for algorithm in [Algorithm::RS256, Algorithm::ES256, Algorithm::ES384, Algorithm::EdDSA] {
            match SigningKey::from_pem(algorithm, &pem) {
                Ok(key) => signs(&key),
                Err(error) => hidden_in_error(&error, &[CANARY]),
            }
            if let Ok(key) = VerifyingKey::from_pem(algorithm, &pem) {
                again(&Jwk::from(&key));
            }
        }
    }
    for algorithm in [Algorithm::PS256, Algorithm::ES256, Algorithm::EdDSA] {
        match SigningKey::from_jwk(algorithm, &text.as_str().into()) {
            Ok(key) => signs(&key),
            Err(error) => hidden_in_error(&error, &[CANARY]),
        }
    }
}

fn signs(key: &SigningKey) {
    let Signing::Done(Ok(signature)) = key.sign(b"message", &mut cx()) else { panic!("a key that cannot sign") };
    key.verifying_key().verify(b"message", &signature).expect("its own signature");
    hidden_in_debug("a key", key, &[CANARY]);
}

/// A token whose header has these members beside its algorithm, of this payload: it verifies, unless its header asks
/// for what is not understood. And any text as a token, which nobody has signed. The header ends at the first `\n`.
pub fn jws(data: &[u8]) {
    static KEY: OnceLock<(SigningKey, JwkSet)> = OnceLock::new();
    let (key, keys) = KEY.get_or_init(|| {
        let key = SigningKey::generate(Algorithm::EdDSA, &mut cx()).expect("a key");
        let keys = [Jwk::from(key.verifying_key())].into_iter().collect();
        (key, keys)
    });
    let text = String::from_utf8_lossy(data);
    if let Ok(jws) = Jws::read(&text) {
        assert!(jws.verify(keys, &Algorithm::ALL).is_err(), "nobody has signed it");
    }
    let at = data.iter().position(|byte| *byte == b'\n').unwrap_or(data.len());
    let (header, payload) = data.split_at(at);
    let Ok(mut members) = serde_json::from_slice::<Map<String, Value>>(header) else { return };
    members.entry("alg").or_insert("EdDSA".into());
    let is_text = |name| members.get(name).is_none_or(Value::is_string);
    let alg = members["alg"].as_str();
    // The key has no name.
    let good = matches!(alg, Some("EdDSA" | "Ed25519"))
        && is_text("typ")
        && ["crit", "b64", "zip", "kid"].into_iter().all(|name| !members.contains_key(name));
    let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    let signed = format!("{}.{}", encode(Value::from(members.clone()).to_string().as_bytes()), encode(payload));
    let Signing::Done(Ok(signature)) = key.sign(signed.as_bytes(), &mut cx()) else { panic!("no signature") };
    let token = format!("{signed}.{}", encode(&signature));
    let verified = Jws::read(&token).and_then(|jws| jws.verify(keys, &[Algorithm::EdDSA]));
    match verified {
        Ok(read) => assert!(good && read == payload),
        Err(error) => {
            assert!(!good || token.len() > 65_536, "{error}");
            hidden_in_error(&error, &[CANARY]);
        }
    }
}

/// Any bytes as something sealed, and as a cookie, which nobody has sealed; and as a message: it comes back, for its
/// purpose and whole.
pub fn sealed(data: &[u8]) {
    let key: Vec<u8> = (0..32).collect();
    let keys = SealingKeys::new(SealingKey::new("a key", &key).expect("a key"));
    assert!(keys.open(b"a purpose", data).is_err(), "nobody has sealed it");
    let text = String::from_utf8_lossy(data);
    let redirect = "https://app.example/callback?code=c&state=a-state";
    let name = PendingAuthorization::name_in(redirect).expect("there is a state");
    for header in [text.as_ref(), &format!("pending-{name}={}", URL_SAFE_NO_PAD.encode(data))] {
        let found = PendingAuthorization::from_cookies(&keys, redirect, header, cx().now().wall);
        assert!(found.is_err(), "nobody has sealed it");
    }
    let sealed = keys.seal(b"a purpose", data, &mut cx()).expect("it can be sealed");
    assert_eq!(keys.open(b"a purpose", &sealed).expect("it is whole").as_slice(), data);
    assert!(keys.open(b"another", &sealed).is_err(), "it is for another purpose");
    let at = data.first().map_or(0, |byte| usize::from(*byte)) % sealed.len();
    let mut changed = sealed;
    changed[at] ^= 1 << (data.len() % 8);
    assert!(keys.open(b"a purpose", &changed).is_err(), "it was changed");
}
