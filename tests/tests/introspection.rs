//! Resource servers: introspection, plain and signed, and what they tell those whom they refuse.

use std::time::Duration;

use grantflow::jose::{AccessToken, JwkSet, KeySet, Verdict};
use grantflow::{
    Challenge, Client, ClientAuthentication, Error, ErrorKind, Introspection, Issuer, Protection, Refusal,
    TokenRequest, Verifier,
};
use grantflow_tests::demo::{self, batch};
use grantflow_tests::server::Alter;
use grantflow_tests::{Fault, IssuerKey, Place, Server, World};
use http::{HeaderMap, StatusCode, Uri};
use serde_json::{Value, json};

const API: &str = "https://api.example";

/// A world with a server, the access token of a person there, and an introspection of its own.
fn world() -> (World, String, Introspection) {
    let mut world = World::with(Server::demo().with(|settings| settings.keys = vec![IssuerKey::es256("a")]));
    let token = demo::signed_in(&mut world, "read write").access_token().to_owned();
    let introspection = Introspection::new(&world.server().metadata(), &batch()).unwrap().audience(API);
    (world, token, introspection)
}

#[test]
fn a_server_is_asked_about_each_token_and_says_what_it_is_good_for() {
    let (mut world, token, introspection) = world();
    let signed = introspection.clone().signed(&world.server().metadata()).unwrap();
    for introspection in [introspection, signed] {
        let good = world.run(introspection.of(&token)).unwrap();
        assert_eq!(
            (good.subject(), good.client_id(), good.scopes().as_str()),
            (Some("alice"), Some("demo"), "read write")
        );
        assert!(good.expires_at().unwrap() > world.now.wall && good.issuer() == Some("https://as.example"));
        let error = world.run(introspection.of("another-token")).unwrap_err();
        assert_eq!((error.kind(), error.is_transient()), (ErrorKind::AccessToken, false), "{error}");
        assert!(!format!("{error} {error:?} {good:?} {introspection:?}").contains(&token));
    }
    let (mut world, token, introspection) = self::world();
    let revocation =
        grantflow::Revocation::new(&world.server().metadata(), &Client::new("demo"), &token.as_str().into());
    world.run(introspection.of(&token)).unwrap();
    world.run(revocation.unwrap().exchange()).unwrap();
    assert_eq!(world.run(introspection.of(&token)).unwrap_err().kind(), ErrorKind::AccessToken);
}

#[test]
fn only_the_literal_word_that_a_token_is_active_is_believed() {
    let (mut world, token, introspection) = world();
    let signed = introspection.clone().signed(&world.server().metadata()).unwrap();
    let past = world.now.wall.as_unix() - 61;
    for (name, value, kind) in [
        ("active", json!("true"), ErrorKind::InvalidResponse),
        ("active", json!(1), ErrorKind::InvalidResponse),
        ("active", Value::Null, ErrorKind::InvalidResponse),
        ("active", json!(false), ErrorKind::AccessToken),
        ("aud", json!("https://other.example"), ErrorKind::AccessToken),
        ("aud", Value::Null, ErrorKind::AccessToken),
        ("iss", json!("https://other.example"), ErrorKind::AccessToken),
        ("iss", json!(7), ErrorKind::AccessToken),
        ("exp", json!(past), ErrorKind::AccessToken),
        ("exp", json!("9999999999"), ErrorKind::AccessToken),
        ("nbf", json!(past + 200), ErrorKind::AccessToken),
    ] {
        for introspection in [&introspection, &signed] {
            world.server().settings.alter_introspection = Alter::set(name, value.clone());
            let error = world.run(introspection.of(&token)).unwrap_err();
            assert_eq!(error.kind(), kind, "{name} {value}: {error}");
        }
    }
    world.server().settings.alter_introspection = Alter::set("aud", json!(["x", API]));
    world.run(introspection.of(&token)).unwrap();
}

#[test]
fn what_is_no_token_is_not_sent_and_what_goes_wrong_is_no_word_about_the_token() {
    let (mut world, token, introspection) = world();
    let before = world.sent().len();
    for text in ["", " ", "a b", "a\r\nb", "ä", "=", &"x".repeat(65 * 1024)] {
        assert_eq!(world.run(introspection.of(text)).unwrap_err().kind(), ErrorKind::AccessToken);
    }
    assert_eq!(world.sent().len(), before);
    for fault in [Fault::status(200, "[]"), Fault::status(200, r#"{"active":true,"active":true}"#), Fault::html(200)] {
        world.server().fail(Place::Introspect, fault);
        assert_eq!(world.run(introspection.of(&token)).unwrap_err().kind(), ErrorKind::InvalidResponse);
    }
    for _ in 0..4 {
        world.server().fail(Place::Introspect, Fault::DropBefore);
    }
    assert!(world.run(introspection.of(&token)).unwrap_err().is_transient());
    let stranger = Client::new("batch").authentication(ClientAuthentication::client_secret_basic("wrong"));
    let stranger = Introspection::new(&world.server().metadata(), &stranger).unwrap();
    assert_eq!(world.run(stranger.of(&token)).unwrap_err().server().unwrap().error(), "invalid_client");
    let seen = world.server().seen_at(Place::Introspect)[0].clone();
    assert_eq!(seen.param("token_type_hint").as_deref(), Some("access_token"));
}

#[test]
fn a_signed_answer_is_taken_only_as_one_and_only_by_whom_it_is_for() {
    let (mut world, token, introspection) = world();
    let server = world.server().metadata();
    let signed = introspection.clone().signed(&server).unwrap();
    let key = world.server().settings.keys[0].clone();
    let now = world.now.wall.as_unix();
    let claims = json!({"iss": "https://as.example", "aud": "batch", "iat": now,
        "token_introspection": {"active": true, "aud": API, "sub": "alice"}});
    let mut answer = |introspection: &Introspection, content: &str, body: String| {
        let response = http::Response::builder().header("content-type", content).body(body.into_bytes()).unwrap();
        world.server().fail(Place::Introspect, Fault::Answer(response));
        world.run(introspection.of(&token)).map_err(|error| error.to_string())
    };
    let jwt = "application/token-introspection+jwt";
    let with = |name: &str, value: Value| {
        let mut claims = claims.clone();
        claims[name] = value;
        key.sign("token-introspection+jwt", &claims)
    };
    answer(&signed, jwt, with("x", json!(1))).unwrap();
    answer(&signed, jwt, with("aud", json!(API))).unwrap();
    for (body, why) in [
        (key.sign("JWT", &claims), "typ"),
        (key.sign("at+jwt", &claims), "typ"),
        (with("iss", json!("https://x.example")), "iss"),
        (with("aud", json!("somebody")), "aud"),
        (with("iat", json!(now - 3600)), "iat"),
        (with("iat", json!(now + 3600)), "iat"),
        (with("exp", json!(now + 3600)), "exp"),
        (with("sub", json!("alice")), "sub"),
        (with("token_introspection", json!("x")), "nothing of the token"),
        (IssuerKey::es256("a").sign("token-introspection+jwt", &claims), "signature"),
        ("x".into(), "three parts"),
    ] {
        let error = answer(&signed, jwt, body).unwrap_err();
        assert!(error.contains(why), "{why}: {error}");
    }
    assert!(
        answer(&signed, "application/json", claims["token_introspection"].to_string()).unwrap_err().contains("is not")
    );
    assert!(answer(&introspection, jwt, with("x", json!(1))).unwrap_err().contains("not asked for"));
}

// --- what a request must bring

fn headers(values: &[&str]) -> HeaderMap {
    let values = values.iter().map(|value| (http::header::AUTHORIZATION, value.parse().unwrap()));
    let mut headers = HeaderMap::new();
    for (name, value) in values {
        headers.append(name, value);
    }
    headers
}

fn told(refusal: &Refusal) -> (u16, Option<Challenge>) {
    (refusal.status().as_u16(), Challenge::bearer(refusal.headers()))
}

#[test]
fn a_token_is_read_from_one_header_and_from_nowhere_else() {
    let protection =
        Protection::new().realm("a \"b\"\\").scopes("read").resource_metadata("https://api.example/.well-known/x");
    let (plain, query) = (Uri::from_static("/notes?x=1"), Uri::from_static("/notes?x=1&access_token=t"));
    for value in ["Bearer t", "bearer t", "BEARER  t.-_~+/=="] {
        let headers = headers(&[value]);
        assert!(protection.token(&headers, &plain).unwrap().starts_with('t'));
        assert_eq!(protection.token(&headers, &query).unwrap_err().error(), Some("invalid_request"));
    }
    for (values, status, error) in [
        (&[][..], 401, None),
        (&["Basic eDp5"], 401, None),
        (&["DPoP t"], 401, None),
        (&["Bearer"], 400, Some("invalid_request")),
        (&["Bearer "], 400, Some("invalid_request")),
        (&["Bearer a b"], 400, Some("invalid_request")),
        (&["Bearer a,b"], 400, Some("invalid_request")),
        (&["Bearer t", "Bearer t"], 400, Some("invalid_request")),
        (&["Bearer t", "Basic eDp5"], 400, Some("invalid_request")),
    ] {
        let refusal = protection.token(&headers(values), &plain).unwrap_err();
        let (told, challenge) = told(&refusal);
        let challenge = challenge.expect("a challenge");
        assert_eq!((told, challenge.error()), (status, error), "{values:?}");
        assert_eq!(
            (challenge.realm(), challenge.resource_metadata()),
            (Some("a b"), Some("https://api.example/.well-known/x"))
        );
        // Whoever only needs a token is told which.
        assert_eq!(challenge.scope().is_some(), status == 401);
    }
    let refusal = protection.token(&headers(&[]), &query).unwrap_err();
    assert_eq!(refusal.status(), StatusCode::BAD_REQUEST);
}

fn access_token(changes: &[(&str, Value)]) -> AccessToken {
    let (key, now) = (IssuerKey::es256("a"), World::default().now);
    let seconds = now.wall.as_unix();
    let mut claims = json!({"iss": "https://as.example", "aud": API, "sub": "alice", "client_id": "demo", "jti": "1",
        "iat": seconds, "exp": seconds + 3600, "scope": "read write"});
    changes.iter().for_each(|(name, value)| claims[*name] = value.clone());
    let keys = JwkSet::from_json(IssuerKey::set([&key]).to_string().as_bytes()).unwrap();
    let verifier = Verifier::access_tokens(&Issuer::new("https://as.example").unwrap(), API);
    match verifier.verify_with(&key.sign("at+jwt", &claims), &KeySet::fixed(keys), now) {
        Verdict::Done(result) => result.unwrap(),
        Verdict::Ask(error) => panic!("{error}"),
    }
}

#[test]
fn a_good_token_must_be_good_for_what_is_asked() {
    let now = World::default().now.wall;
    let seconds = now.as_unix();
    let hour = Duration::from_secs(3600);
    let plain = Protection::new();
    plain.check(&access_token(&[]), now).unwrap();
    plain.clone().scopes("write read").check(&access_token(&[]), now).unwrap();
    let refusal = plain.clone().scopes("read admin").check(&access_token(&[]), now).unwrap_err();
    let (status, challenge) = told(&refusal);
    let challenge = challenge.unwrap();
    assert_eq!(
        (status, challenge.error(), challenge.scope().unwrap().as_str()),
        (403, Some("insufficient_scope"), "read admin")
    );
    // RFC 9470.
    let strong = plain.clone().acr_values(["gold", "silver"]).max_age(hour);
    for (acr, auth_time, good) in [
        (json!("silver"), json!(seconds - 3600), true),
        (json!("silver"), json!(seconds - 3601), false),
        (json!("silver"), json!(seconds + 3600), false),
        (json!("bronze"), json!(seconds), false),
        (Value::Null, json!(seconds), false),
        (json!("gold"), Value::Null, false),
    ] {
        let result = strong.check(&access_token(&[("acr", acr.clone()), ("auth_time", auth_time.clone())]), now);
        assert_eq!(result.is_ok(), good, "{acr} {auth_time}");
        if let Err(refusal) = result {
            let (status, challenge) = told(&refusal);
            let challenge = challenge.unwrap();
            assert_eq!((status, challenge.error()), (401, Some("insufficient_user_authentication")));
            assert_eq!((challenge.acr_values(), challenge.max_age()), (Some("gold silver"), Some(3600)));
        }
    }
    // A token that is bound to a key is no bearer token.
    let bound = access_token(&[("cnf", json!({"jkt": "x"}))]);
    let refusal = plain.check(&bound, now).unwrap_err();
    assert_eq!((refusal.status().as_u16(), refusal.error()), (401, Some("invalid_token")));
    plain.binding_is_checked_elsewhere().check(&bound, now).unwrap();
}

#[test]
fn a_refusal_tells_whether_the_token_or_the_server_is_at_fault() {
    let protection = Protection::new().scopes("read");
    let refused = protection.refuse(&Error::new(ErrorKind::AccessToken, "the access token \"x\" has\nended (exp)"));
    let (status, challenge) = told(&refused);
    let challenge = challenge.unwrap();
    assert_eq!((status, challenge.error()), (401, Some("invalid_token")));
    assert_eq!(challenge.error_description(), Some("the access token x hasended (exp)"));
    assert!(Challenge::rejects_token(StatusCode::UNAUTHORIZED, refused.headers(), &token()));
    assert_eq!(told(&protection.refuse(&Error::new(ErrorKind::Signature, "no"))).0, 401);
    // The keys cannot be had, or this server's own registration is wrong: nothing about the token.
    let (status, challenge) = told(&protection.refuse(&Error::new(ErrorKind::Timeout, "no answer")));
    assert!(status == 503 && challenge.is_none());
    assert_eq!(protection.refuse(&Error::new(ErrorKind::Timeout, "")).headers()["retry-after"], "1");
    let (status, challenge) = told(&protection.refuse(&Error::new(ErrorKind::Config, "wrong")));
    assert!(status == 500 && challenge.is_none());
    assert_eq!(refused.into_response("no").body(), &"no");
}

fn token() -> grantflow::Token {
    let mut world = World::with(Server::demo());
    let server = world.server().metadata();
    world.run(TokenRequest::client_credentials(&server, &batch()).unwrap().exchange()).unwrap()
}
