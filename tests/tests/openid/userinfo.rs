//! The userinfo endpoint: JSON, signed answers, and claims that others make.

use grantflow::jose::{ClaimSource, Claims};
use grantflow::{AskUserInfo, Error, ErrorKind, UserInfo};
use grantflow_tests::canary::hidden_in_error;
use grantflow_tests::{Fault, IssuerKey, Place, World};
use http::Response;
use serde_json::{Value, json};

use super::{client, ended, sign_in, world};

/// A question to a server that answers so, whether or not it is asked for a signed answer.
fn asking(signed: bool, content_type: &str, body: &str) -> (World, AskUserInfo, String) {
    let mut world = world();
    let token = sign_in(&mut world).unwrap();
    let server = world.server().metadata().userinfo_endpoint("https://as.example/elsewhere").unwrap();
    let response = Response::builder().header("content-type", content_type).body(body.into()).unwrap();
    world.server().fail(Place::Elsewhere, Fault::Answer(response));
    let asking = UserInfo::new(&server, &token).unwrap();
    let asking = if signed { asking.signed(&client()).unwrap() } else { asking };
    (world, asking.exchange(), token.access_token().to_owned())
}

fn ask(signed: bool, content_type: &str, body: &str) -> (World, Result<Claims, Error>) {
    let (mut world, asking, _) = asking(signed, content_type, body);
    let result = world.run(asking);
    (world, result)
}

fn json_of(claims: Value) -> Result<Claims, Error> {
    ask(false, "application/json", &claims.to_string()).1
}

fn signed_of(key: IssuerKey, typ: &str, claims: Value) -> Result<Claims, Error> {
    ask(true, "application/jwt", &key.sign(typ, &claims)).1
}

/// An answer that is refused, by an error of this kind: the machine is over, asks for nothing more but keys, and shows
/// neither the access token nor the answer.
fn refused(signed: bool, content_type: &str, body: &str, kind: ErrorKind) -> Error {
    let (mut world, asking, token) = asking(signed, content_type, body);
    let error = ended(&mut world, asking);
    assert_eq!(error.kind(), kind, "{error}");
    let seen = world.server().seen();
    let asked = seen.iter().position(|seen| seen.place == Place::Elsewhere).unwrap();
    assert!(seen[asked + 1..].iter().all(|seen| seen.place == Place::Keys), "a request follows");
    hidden_in_error(&error, &[&token, body]);
    error
}

fn refused_json(claims: &Value) {
    refused(false, "application/json", &claims.to_string(), ErrorKind::InvalidResponse);
}

fn refused_signed(key: &IssuerKey, typ: &str, claims: &Value, kind: ErrorKind) {
    refused(true, "application/jwt", &key.sign(typ, claims), kind);
}

#[test]
fn oidcc_client_test_userinfo_invalid_sub() {
    for claims in [json!({"sub": "bob"}), json!({"name": "Bob"}), json!({"sub": ""}), json!({"sub": 7})] {
        refused_json(&claims);
        refused_signed(&IssuerKey::rs256("rs-1"), "JWT", &claims, ErrorKind::InvalidResponse);
    }
}

#[test]
fn oidcc_client_test_userinfo_bearer_header() {
    let (mut world, result) = ask(false, "application/json", r#"{"sub":"alice"}"#);
    assert_eq!(result.unwrap().str("sub"), Some("alice"));
    let seen = world.server().seen_at(Place::Elsewhere);
    assert!(seen[0].header("authorization").unwrap().starts_with("Bearer "));
    assert_eq!(seen[0].request.uri().query(), None, "no token in an address");
}

#[test]
fn oidcc_client_test_scope_userinfo_claims() {
    let address = json!({"locality": "Zug", "country": "CH"});
    let claims = json_of(json!({
        "sub": "alice", "name": "Alice", "email": "alice@example.com", "email_verified": true,
        "phone_number": "+41 41 000 00 00", "address": address, "updated_at": 1_795_000_000, "birthdate": null,
    }))
    .unwrap();
    assert_eq!((claims.str("email"), claims.bool("email_verified")), (Some("alice@example.com"), Some(true)));
    assert_eq!(claims.get("address"), Some(&address));
    assert!(claims.time("updated_at").is_some() && claims.str("birthdate").is_none());
}

#[test]
fn oidcc_client_test_userinfo_signed() {
    let claims = json!({"sub": "alice", "iss": "https://as.example", "aud": "web", "email": "alice@example.com"});
    let (mut world, result) = ask(true, "application/jwt", &IssuerKey::rs256("rs-1").sign("JWT", &claims));
    assert_eq!(result.unwrap().str("email"), Some("alice@example.com"));
    assert_eq!(world.server().seen_at(Place::Elsewhere)[0].header("accept"), Some("application/jwt"));
}

#[test]
fn a_signed_answer_is_of_this_server_for_this_client_and_signed_by_its_key() {
    let good = json!({"sub": "alice", "iss": "https://as.example", "aud": ["web"]});
    let key = || IssuerKey::rs256("rs-1");
    assert!(signed_of(key(), "JWT", good.clone()).is_ok());
    assert!(signed_of(key(), "JWT", json!({"sub": "alice"})).is_ok(), "both should be there and need not be");
    for (name, value) in [
        ("iss", json!("https://other.example")),
        ("iss", json!(7)),
        ("aud", json!("another")),
        ("aud", json!([])),
        ("exp", json!(1)),
        ("nbf", json!(9_999_999_999_i64)),
    ] {
        let mut wrong = good.clone();
        wrong[name] = value.clone();
        refused_signed(&key(), "JWT", &wrong, ErrorKind::InvalidResponse);
    }
    for typ in ["at+jwt", "logout+jwt"] {
        refused_signed(&key(), typ, &good, ErrorKind::InvalidResponse);
    }
    for forged in [IssuerKey::another_rs256("rs-1"), IssuerKey::hs256(super::SECRET)] {
        refused_signed(&forged, "JWT", &good, ErrorKind::Signature);
    }
}

#[test]
fn an_answer_that_is_not_signed_does_not_pass_for_one_that_was_to_be() {
    let claims = json!({"sub": "alice"});
    refused(true, "application/json", &claims.to_string(), ErrorKind::InvalidResponse);
    let unasked = IssuerKey::rs256("rs-1").sign("JWT", &claims);
    let error = refused(false, "application/jwt", &unasked, ErrorKind::InvalidResponse);
    assert!(error.to_string().contains("UserInfo::signed"), "{error}");
}

#[test]
fn oidcc_client_test_aggregated_claims() {
    let claims = json_of(json!({
        "sub": "alice",
        "_claim_names": {"address": "src1", "score": "src2", "lost": "src3", "odd": 7},
        "_claim_sources": {
            "src1": {"JWT": "a.b.c"},
            "src2": {"endpoint": "https://bank.example/claims", "access_token": "secret-of-the-bank"},
        },
    }))
    .unwrap();
    assert!(matches!(claims.source("address"), Some(ClaimSource::Aggregated { jwt: "a.b.c" })));
    for none in ["lost", "odd", "email"] {
        assert!(claims.source(none).is_none(), "{none}");
    }
}

#[test]
fn oidcc_client_test_distributed_claims() {
    let answer = json!({
        "sub": "alice", "_claim_names": {"score": "src2"},
        "_claim_sources": {"src2": {"endpoint": "https://bank.example/claims", "access_token": "secret-of-the-bank"}},
    });
    let (mut world, result) = ask(false, "application/json", &answer.to_string());
    let claims = result.unwrap();
    let source = claims.source("score").unwrap();
    assert!(!format!("{source:?} {claims:?}").contains("bank"));
    let ClaimSource::Distributed { endpoint, access_token } = source else { panic!("{source:?}") };
    assert_eq!((endpoint, access_token), ("https://bank.example/claims", Some("secret-of-the-bank")));
    assert_eq!(world.server().seen_at(Place::Elsewhere).len(), 1);
    assert!(world.sent().iter().all(|sent| sent.request.uri().host() == Some("as.example")), "it is not fetched");
}
