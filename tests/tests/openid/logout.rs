//! Signing out: at the server, and because the server says so.

use std::time::Duration;

use grantflow::crypto::{Algorithm, MacAlgorithm};
use grantflow::jose::LogoutToken;
use grantflow::store::Which;
use grantflow::{
    Client, EndSession, Error, ErrorKind, FrontChannelLogout, Issuer, LogoutReplays, ServerMetadata, Verifier,
};
use grantflow_tests::server::Alter;
use grantflow_tests::{IssuerKey, Place, World};
use serde_json::{Value, json};

use super::{SECRET, client, ended, sign_in, world, world_with};

const EVENT: &str = "http://schemas.openid.net/event/backchannel-logout";

/// The claims of a logout token for `web`, of this moment.
fn claims(world: &World) -> Value {
    let now = world.now.wall.as_unix();
    json!({
        "iss": "https://as.example", "aud": "web", "iat": now, "exp": now + 120, "jti": "1", "sub": "alice", "sid": "s-1",
        "events": { EVENT: {} },
    })
}

fn changed(mut claims: Value, name: &str, value: Value) -> Value {
    match value {
        Value::Null => drop(claims.as_object_mut().unwrap().remove(name)),
        value => claims[name] = value,
    }
    claims
}

fn verify(world: &mut World, client: &Client, token: &str) -> Result<LogoutToken, Error> {
    let body = format!("logout_token={token}");
    let token = LogoutToken::in_form(&body)?;
    let verifier = Verifier::logout_tokens_of(&world.server().metadata(), client)?;
    world.run(verifier.verify(token.expose()))
}

/// A logout token that is refused, by an error of this kind that says this: the machine is over, asks for nothing but keys,
/// and shows neither the token nor a secret. No user is signed out.
fn refused_token(world: &mut World, client: &Client, token: &str, kind: ErrorKind, why: &str) {
    let verifier = Verifier::logout_tokens_of(&world.server().metadata(), client).unwrap();
    let error = ended(world, verifier.verify(token));
    assert_eq!(error.kind(), kind, "{error}");
    assert!(error.to_string().contains(why), "{error} says nothing of {why}");
    grantflow_tests::canary::hidden_in_error(&error, &[token, SECRET]);
    assert!(world.server().seen().iter().all(|seen| seen.place == Place::Keys), "the keys apart, nothing is asked for");
}

/// The logout token of the server's own key with a claim changed.
fn refused(name: &str, value: Value, why: &str) {
    let mut world = world();
    let claims = changed(claims(&world), name, value);
    let token = IssuerKey::rs256("rs-1").sign("logout+jwt", &claims);
    refused_token(&mut world, &client(), &token, ErrorKind::LogoutToken, why);
}

#[test]
fn oidcc_client_test_rp_backchannel_rpinitlogout() {
    for (key, typ) in [(IssuerKey::rs256("rs-1"), "logout+jwt"), (IssuerKey::rs256("rs-1"), "JWT")] {
        let mut world = world();
        let token = key.sign(typ, &claims(&world));
        let logout = verify(&mut world, &client(), &token).unwrap();
        assert_eq!((logout.subject(), logout.session(), logout.id()), (Some("alice"), Some("s-1"), "1"));
        let issuer = Issuer::new("https://as.example").unwrap();
        assert_eq!(logout.grants().unwrap(), Which::session(&issuer, "s-1"));
    }
}

#[test]
fn oidcc_client_test_rp_backchannel_rpinitlogout_alg_none() {
    let mut world = world();
    let token = IssuerKey::rs256("rs-1").sign_with(&json!({"alg": "none", "typ": "logout+jwt"}), &claims(&world));
    let unsigned = format!("{}.", token.rsplit_once('.').unwrap().0);
    for token in [token, unsigned] {
        refused_token(&mut world, &client(), &token, ErrorKind::Signature, "alg none");
    }
}

#[test]
fn oidcc_client_test_rp_backchannel_rpinitlogout_wrong_alg() {
    let mut world = world();
    let token = IssuerKey::rs256("rs-1").sign("logout+jwt", &claims(&world));
    let client = client().id_token_signed_response_alg(Algorithm::ES256);
    refused_token(&mut world, &client, &token, ErrorKind::Signature, "alg");
    let forged = IssuerKey::another_rs256("rs-1").sign("logout+jwt", &claims(&world));
    refused_token(&mut world, &self::client(), &forged, ErrorKind::Signature, "signature");
}

#[test]
fn oidcc_client_test_rp_backchannel_rpinitlogout_no_event() {
    refused("events", json!(null), "events");
    refused("events", json!({}), "events");
}

#[test]
fn oidcc_client_test_rp_backchannel_rpinitlogout_wrong_event() {
    refused("events", json!({"http://schemas.openid.net/event/another": {}}), "events");
    refused("events", json!({ EVENT: "x" }), "events");
    refused("events", json!([EVENT]), "events");
}

#[test]
fn oidcc_client_test_rp_backchannel_rpinitlogout_with_nonce() {
    refused("nonce", json!("n"), "nonce");
}

#[test]
fn oidcc_client_test_rp_backchannel_rpinitlogout_wrong_aud() {
    refused("aud", json!("another"), "aud");
    refused("aud", json!(null), "aud");
}

#[test]
fn oidcc_client_test_rp_backchannel_rpinitlogout_wrong_iss() {
    refused("iss", json!("https://as.example/"), "iss");
    refused("iss", json!(null), "iss");
}

#[test]
fn a_logout_token_is_whole_and_of_this_moment() {
    let now = world().now.wall.as_unix();
    for (name, value, why) in [
        ("jti", json!(null), "jti"),
        ("jti", json!(""), "jti"),
        ("exp", json!(null), "exp"),
        ("exp", json!(now - 61), "expired"),
        ("iat", json!(null), "iat"),
        ("iat", json!(now + 61), "future"),
        ("iat", json!(now - 661), "too old"),
        ("sub", json!(7), "sub"),
        ("sid", json!(""), "sid"),
    ] {
        refused(name, value, why);
    }
    let mut world = world();
    for (typ, good) in [("JWT", true), ("logout+JWT", true), ("at+jwt", false), ("dpop+jwt", false)] {
        let token = IssuerKey::rs256("rs-1").sign(typ, &claims(&world));
        assert_eq!(verify(&mut world, &client(), &token).is_ok(), good, "{typ}");
    }
    let neither = changed(changed(claims(&world), "sub", json!(null)), "sid", json!(null));
    let error = verify(&mut world, &client(), &IssuerKey::rs256("rs-1").sign("logout+jwt", &neither)).unwrap_err();
    assert!(error.to_string().contains("neither"), "{error}");
}

#[test]
fn a_logout_token_by_the_clients_secret_is_taken_from_clients_that_are_registered_so() {
    let mut world = world();
    let token = IssuerKey::hs256(SECRET).sign("logout+jwt", &claims(&world));
    let by_mac = client().id_token_signed_by_secret(MacAlgorithm::HS256);
    assert!(verify(&mut world, &by_mac, &token).is_ok());
    assert_eq!(verify(&mut world, &client(), &token).unwrap_err().kind(), ErrorKind::Signature);
    let forged = IssuerKey::hs256("another-secret-of-at-least-32-bytes").sign("logout+jwt", &claims(&world));
    assert_eq!(verify(&mut world, &by_mac, &forged).unwrap_err().kind(), ErrorKind::Signature);
}

#[test]
fn a_logout_token_counts_once() {
    let (mut world, mut replays) = (world(), LogoutReplays::default());
    let key = IssuerKey::rs256("rs-1");
    let token = key.sign("logout+jwt", &claims(&world));
    let first = verify(&mut world, &client(), &token).unwrap();
    replays.take(&first, world.now.wall).unwrap();
    world.pass(Duration::from_secs(100));
    let error = replays.take(&first, world.now.wall).unwrap_err();
    assert_eq!((error.kind(), error.is_transient()), (ErrorKind::LogoutToken, false), "{error}");
    let other = changed(claims(&world), "jti", json!("2"));
    let other = verify(&mut world, &client(), &key.sign("logout+jwt", &other)).unwrap();
    replays.take(&other, world.now.wall).unwrap();
}

#[test]
fn a_logout_token_ends_its_own_session_and_without_one_all_of_the_user() {
    let mut world = world_with(|settings| settings.alter_id_claims = Alter::set("sid", json!("s-1")));
    let token = sign_in(&mut world).unwrap();
    let id_token = token.id_token().unwrap();
    let key = IssuerKey::rs256("rs-1");
    for (sub, sid, ends) in [
        (json!("alice"), json!("s-1"), true),
        (json!(null), json!("s-1"), true),
        (json!("alice"), json!(null), true),
        (json!("alice"), json!("s-2"), false),
        (json!("bob"), json!("s-1"), false),
        (json!("bob"), json!(null), false),
    ] {
        let claims = changed(changed(claims(&world), "sub", sub.clone()), "sid", sid.clone());
        let logout = verify(&mut world, &client(), &key.sign("logout+jwt", &claims)).unwrap();
        assert_eq!(logout.ends(id_token), ends, "{sub} {sid}");
    }
}

#[test]
fn a_server_s_request_has_one_logout_token() {
    for body in ["", "logout_token", "x=y", "logout_token=a&logout_token=b", &"x".repeat(70_000)] {
        match LogoutToken::in_form(body) {
            Ok(token) => assert_eq!(token.expose(), "", "{body}"),
            Err(error) => assert_eq!(error.kind(), ErrorKind::LogoutToken),
        }
    }
    assert_eq!(LogoutToken::in_form("x=y&logout_token=a.b.c").unwrap().expose(), "a.b.c");
}

fn server(world: &mut World) -> ServerMetadata {
    world.server().metadata().end_session_endpoint("https://as.example/end_session").unwrap()
}

/// The address of a sign-out with everything, and what is kept.
fn ending(world: &mut World) -> (url::Url, grantflow::PendingLogout) {
    let token = sign_in(world).unwrap();
    let server = server(world);
    let end = EndSession::new(&server, &client())
        .unwrap()
        .id_token_hint(token.id_token().unwrap())
        .logout_hint("alice")
        .ui_locales("de")
        .post_logout_redirect_uri("https://app.example/signed-out")
        .begin(&mut world.cx())
        .unwrap();
    let shown = format!("{end:?}");
    assert!(!shown.contains("ey"), "{shown}");
    (url::Url::parse(&end.url).unwrap(), end.pending.unwrap())
}

#[test]
fn oidcc_client_test_rp_init_logout() {
    let mut world = world();
    let (url, pending) = ending(&mut world);
    let names: Vec<_> = url.query_pairs().map(|(name, _)| name.into_owned()).collect();
    assert_eq!(names, ["client_id", "id_token_hint", "logout_hint", "ui_locales", "post_logout_redirect_uri", "state"]);
    let state = url.query_pairs().find(|(name, _)| name == "state").unwrap().1.into_owned();
    assert!(pending.is_answered_by(&format!("state={state}")));
    assert!(pending.is_answered_by(&format!("https://app.example/signed-out?state={state}")));
    // It may be kept meanwhile.
    let kept = serde_json::to_string(&pending).unwrap();
    let pending: grantflow::PendingLogout = serde_json::from_str(&kept).unwrap();
    assert!(pending.is_answered_by(&format!("state={state}")));
    assert_ne!(ending(&mut world).0, url, "each has a state of its own");
}

#[test]
fn oidcc_client_test_rp_init_logout_other_state() {
    let mut world = world();
    let (url, pending) = ending(&mut world);
    let state = url.query_pairs().find(|(name, _)| name == "state").unwrap().1.into_owned();
    for other in ["state=other".to_owned(), format!("state={state}&state={state}"), format!("state={state}x")] {
        assert!(!pending.is_answered_by(&other), "{other}");
    }
}

#[test]
fn oidcc_client_test_rp_init_logout_no_state() {
    let mut world = world();
    let (_, pending) = ending(&mut world);
    for none in ["", "?", "state=", "x=y"] {
        assert!(!pending.is_answered_by(none), "{none}");
    }
    let server = server(&mut world);
    let end = EndSession::new(&server, &client()).unwrap().begin(&mut world.cx()).unwrap();
    assert!(end.pending.is_none(), "where nobody comes back, nothing is kept");
    assert_eq!(end.url, "https://as.example/end_session?client_id=web");
}

#[test]
fn oidcc_client_test_rp_frontchannel_rpinitlogout() {
    let named = FrontChannelLogout::read("iss=https%3A%2F%2Fas.example&sid=s-1").unwrap();
    assert!(named.ends("https://as.example", Some("s-1")));
    assert_eq!(named.session(), Some(("https://as.example", "s-1")));
    for (issuer, session) in
        [("https://as.example", Some("s-2")), ("https://as.example", None), ("https://other.example", Some("s-1"))]
    {
        assert!(!named.ends(issuer, session), "{issuer} {session:?}");
    }
}

#[test]
fn oidcc_client_test_rp_frontchannel_opinitlogout() {
    let bare = FrontChannelLogout::read("").unwrap();
    assert!(bare.ends("https://as.example", Some("s-1")) && bare.ends("https://as.example", None));
    assert_eq!(bare.session(), None);
    for wrong in ["iss=a", "sid=a", "iss=a&iss=a&sid=b", "iss=a&sid=b&sid=b"] {
        assert_eq!(FrontChannelLogout::read(wrong).unwrap_err().kind(), ErrorKind::LogoutToken, "{wrong}");
    }
}

#[test]
fn a_logout_token_is_verified_by_keys_that_were_read_for_it() {
    let mut world = world();
    let token = IssuerKey::rs256("rs-1").sign("logout+jwt", &claims(&world));
    verify(&mut world, &client(), &token).unwrap();
    assert_eq!(world.server().seen_at(Place::Keys).len(), 1);
}
