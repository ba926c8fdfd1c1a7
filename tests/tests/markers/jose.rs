//! Keys, and tokens that are signed.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use grantflow::crypto::{Algorithm, MacAlgorithm, MacKey, SigningKey, VerifyingKey};
use grantflow::dpop::DpopNonces;
use grantflow::jose::{Jwk, JwkSet, Jws};
use grantflow::{DpopKey, Secret, TokenRequest};
use grantflow_tests::google::private_key;
use grantflow_tests::{Server, World, demo};
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri};
use serde_json::json;

use super::Entry;

pub(crate) fn entries() -> Vec<Entry> {
    vec![
        Entry {
            names: &[
                "core SigningKey::from_pem",
                "core SigningKey::each_from_pem",
                "core SigningKey::with_key_id",
                "core VerifyingKey::from_pem",
                "core VerifyingKey::verify",
            ],
            try_it: |text, seen| {
                for label in ["PRIVATE KEY", "PUBLIC KEY", "CERTIFICATE", "X"] {
                    for pem in [text.to_owned(), format!("-----BEGIN {label}-----\n{text}\n-----END {label}-----")] {
                        seen.result("a key", SigningKey::from_pem(Algorithm::RS256, &pem));
                        seen.result("keys", SigningKey::each_from_pem(&pem));
                        seen.result("a key", VerifyingKey::from_pem(Algorithm::RS256, &pem));
                    }
                }
                let key = SigningKey::from_pem(Algorithm::RS256, &private_key()).unwrap().with_key_id(text);
                seen.debug("a key", &key);
                seen.result("nothing", key.verifying_key().verify(text.as_bytes(), text.as_bytes()));
            },
        },
        Entry {
            names: &[
                "core Token::authorize",
                "core Token::prove",
                "core Token::apply_with_proof",
                "core DpopNonces::learn",
                "core DpopNonces::get",
            ],
            try_it: |text, seen| {
                let mut world = World::with(Server::demo());
                let key = SigningKey::generate(Algorithm::ES256, &mut world.cx()).unwrap();
                let client = demo::batch().dpop(DpopKey::from(key));
                let request = TokenRequest::client_credentials(&world.server().metadata(), &client).unwrap();
                let token = world.run(request.exchange()).unwrap();
                let uris = [format!("https://api.example/{text}?{text}"), format!("https://{text}/"), text.to_owned()];
                for uri in uris.iter().filter_map(|uri| uri.parse::<Uri>().ok()).chain(["/".parse().unwrap()]) {
                    let (mut headers, mut nonces) = (HeaderMap::new(), DpopNonces::default());
                    if let Ok(value) = HeaderValue::from_str(text) {
                        headers.insert("dpop-nonce", value);
                    }
                    let asks = nonces.learn(&uri, StatusCode::UNAUTHORIZED, &headers);
                    seen.text("nonces", format!("{nonces:?} {asks}"));
                    let nonce = nonces.get(&uri).map(str::to_owned);
                    let mut cx = world.cx();
                    seen.result(
                        "headers",
                        token.authorize(&Method::GET, &uri, &mut headers, nonce.as_deref(), &mut cx),
                    );
                    let prove = token.prove(&Method::GET, &uri, nonce.as_deref()).unwrap();
                    seen.debug("a proof under way", &prove);
                    if let Some(proof) = seen.run(&mut world, prove) {
                        seen.result("headers", token.apply_with_proof(&mut headers, proof));
                    }
                    seen.debug("a token", &token);
                }
            },
        },
        Entry {
            names: &["core Algorithm::from_name", "core MacKey::new", "core MacKey::sign", "core MacKey::verify"],
            try_it: |text, seen| {
                seen.debug("an algorithm", &Algorithm::from_name(text));
                seen.result("a secret", MacKey::new(MacAlgorithm::HS256, text.as_bytes()));
                let key = seen.result("a secret", MacKey::new(MacAlgorithm::HS256, text.repeat(32).as_bytes()));
                let code = key.map(|key| (key.sign(text.as_bytes()), key.verify(text.as_bytes(), text.as_bytes())));
                seen.debug("a code", &code);
            },
        },
        Entry {
            names: &["core Jwk::from_json", "core JwkSet::from_json", "core SigningKey::from_jwk"],
            try_it: |text, seen| {
                let x = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";
                for key in [
                    json!(text),
                    json!({"kty": text}),
                    json!({"kty": "EC", "crv": text, "x": text, "y": text, "d": text}),
                    json!({"kty": "RSA", "n": text, "e": text}),
                    json!({"kty": "OKP", "crv": "Ed25519", "x": x, "kid": text}),
                    json!({"kty": "OKP", "crv": "Ed25519", "x": x, "alg": text, "use": text}),
                    json!({"kty": "OKP", "crv": "Ed25519", "x": x, "kid": text, "d": x}),
                    json!({"kty": "OKP", "crv": "Ed25519", "x": x, text: text}),
                ] {
                    seen.result("a key", Jwk::from_json(key.to_string().as_bytes()));
                    seen.result("a key", SigningKey::from_jwk(Algorithm::EdDSA, &Secret::from(key.to_string())));
                    seen.result("keys", JwkSet::from_json(json!({"keys": [key]}).to_string().as_bytes()));
                }
                seen.result("keys", JwkSet::from_json(text.as_bytes()));
                seen.result("a key", Jwk::from_json(text.as_bytes()));
            },
        },
        Entry {
            names: &["core Jws::read", "core Jws::is_of_type"],
            try_it: |text, seen| {
                let token = |header: serde_json::Value| {
                    let encode = |text: &str| URL_SAFE_NO_PAD.encode(text);
                    format!("{}.{}.{}", encode(&header.to_string()), encode(text), encode(text))
                };
                for token in [
                    text.to_owned(),
                    format!("{text}.{text}.{text}"),
                    token(json!({"alg": text})),
                    token(json!({"alg": "RS256", "kid": text, "typ": text})),
                    token(json!({"alg": "RS256", "crit": [text]})),
                ] {
                    let Some(jws) = seen.result("a token", Jws::read(&token)) else { continue };
                    seen.debug("nothing", &jws.is_of_type("jwt"));
                    seen.result("a payload", jws.verify(&JwkSet::default(), &Algorithm::ALL));
                    let secret = MacKey::new(MacAlgorithm::HS256, &[7; 32]).unwrap();
                    seen.result("a payload", jws.verify_mac(&secret));
                }
            },
        },
    ]
}
