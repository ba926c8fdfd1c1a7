//! The userinfo endpoint: JSON, signed answers, and claims that others make.

use grantflow::jose::{ClaimSource, Claims};
use grantflow::{Error, ErrorKind, UserInfo};
use grantflow_tests::{Fault, IssuerKey, Place, World};
use http::Response;
use serde_json::{Value, json};

use super::{client, sign_in, world};

/// Asks at a server that answers so, whether or not it is asked for a signed answer.
fn ask(signed: bool, content_type: &str, body: impl FnOnce(&mut World) -> String) -> (World, Result<Claims, Error>) {
    let mut world = world();
    let token = sign_in(&mut world).unwrap();
    let server = world.server().metadata().userinfo_endpoint("https://as.example/elsewhere").unwrap();
    let body = body(&mut world);
    let response = Response::builder().header("content-type", content_type).body(body.into_bytes()).unwrap();
    world.server().fail(Place::Elsewhere, Fault::Answer(response));
    let asking = UserInfo::new(&server, &token).unwrap();
    let asking = if signed { asking.signed(&client()).unwrap() } else { asking };
    let result = world.run(asking.exchange());
    (world, result)
}

fn json_of(claims: Value) -> Result<Claims, Error> {
    ask(false, "application/json", |_| claims.to_string()).1
}

fn signed_of(key: IssuerKey, typ: &str, claims: Value) -> Result<Claims, Error> {
    ask(true, "application/jwt", |_| key.sign(typ, &claims)).1
}

#[test]
fn oidcc_client_test_userinfo_invalid_sub() {
    for claims in [json!({"sub": "bob"}), json!({}), json!({"sub": ""}), json!({"sub": 7})] {
        assert_eq!(json_of(claims.clone()).unwrap_err().kind(), ErrorKind::InvalidResponse, "{claims}");
        let signed = signed_of(IssuerKey::rs256("rs-1"), "JWT", claims.clone());
        assert_eq!(signed.unwrap_err().kind(), ErrorKind::InvalidResponse, "{claims}");
    }
}

#[test]
fn oidcc_client_test_userinfo_bearer_header() {
    let (mut world, result) = ask(false, "application/json", |_| json!({"sub": "alice"}).to_string());
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
    let (mut world, result) = ask(true, "application/jwt", |_| IssuerKey::rs256("rs-1").sign("JWT", &claims));
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
        let error = signed_of(key(), "JWT", wrong).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidResponse, "{name} {value}: {error}");
    }
    for typ in ["at+jwt", "logout+jwt"] {
        assert_eq!(signed_of(key(), typ, good.clone()).unwrap_err().kind(), ErrorKind::InvalidResponse, "{typ}");
    }
    for forged in [IssuerKey::another_rs256("rs-1"), IssuerKey::hs256(super::SECRET)] {
        assert_eq!(signed_of(forged, "JWT", good.clone()).unwrap_err().kind(), ErrorKind::Signature);
    }
}

#[test]
fn an_answer_that_is_not_signed_does_not_pass_for_one_that_was_to_be() {
    let (_, result) = ask(true, "application/json", |_| json!({"sub": "alice"}).to_string());
    assert_eq!(result.unwrap_err().kind(), ErrorKind::InvalidResponse);
    let (_, result) = ask(false, "application/jwt", |_| IssuerKey::rs256("rs-1").sign("JWT", &json!({"sub": "alice"})));
    assert!(result.unwrap_err().to_string().contains("UserInfo::signed"));
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
    let (mut world, result) = ask(false, "application/json", |_| {
        json!({
            "sub": "alice", "_claim_names": {"score": "src2"},
            "_claim_sources": {"src2": {"endpoint": "https://bank.example/claims", "access_token": "secret-of-the-bank"}},
        })
        .to_string()
    });
    let claims = result.unwrap();
    let source = claims.source("score").unwrap();
    assert!(!format!("{source:?} {claims:?}").contains("bank"));
    let ClaimSource::Distributed { endpoint, access_token } = source else { panic!("{source:?}") };
    assert_eq!((endpoint, access_token), ("https://bank.example/claims", Some("secret-of-the-bank")));
    assert_eq!(world.server().seen_at(Place::Elsewhere).len(), 1);
    assert!(world.sent().iter().all(|sent| sent.request.uri().host() == Some("as.example")), "it is not fetched");
}
