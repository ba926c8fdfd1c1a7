//! Sign-ins that need no browser (OpenID Connect CIBA Core 1.0). Modules of the FAPI-CIBA client plan have the suite's names.

use std::time::Duration;

use grantflow::crypto::Algorithm;
use grantflow::machine::FailureKind;
use grantflow::{
    BackchannelAuthentication, BackchannelHeard, Client, ClientAuthentication, Effect, Error, ErrorKind, Failure,
    InstalledApp, Machine as _, PendingBackchannel, Reply, Secret, Step, Token, TokenRequest,
};
use grantflow_tests::canary::hidden_in_error;
use grantflow_tests::demo::batch;
use grantflow_tests::google::jwt_parts;
use grantflow_tests::kms::{Es256, FarKey};
use grantflow_tests::server::{Alter, Consent, RefreshTokens, Settings};
use grantflow_tests::{Fault, IssuerKey, Place, Registered, Server, World, demo};
use serde_json::{Value, json};

const PING: &str = "a-notification-token-of-128-bits";

fn world(change: impl FnOnce(&mut Settings)) -> World {
    let mut world = World::with(Server::demo().with(change));
    world.latency = Duration::ZERO;
    world
}

fn request(world: &mut World) -> BackchannelAuthentication {
    BackchannelAuthentication::new(&world.server().metadata(), &batch()).unwrap()
}

fn begin(world: &mut World) -> Result<PendingBackchannel, Error> {
    let request = request(world).login_hint("alice").binding_message("W4SCT");
    world.run(request.start())
}

fn finish(world: &mut World, pending: PendingBackchannel) -> Result<Token, Error> {
    let polling = pending.poll(&world.server().metadata(), &batch())?;
    world.run(polling)
}

fn sign_in(world: &mut World) -> Result<Token, Error> {
    let pending = begin(world)?;
    finish(world, pending)
}

fn pauses(world: &World) -> Vec<u64> {
    world.slept().iter().map(Duration::as_secs).collect()
}

fn refuse(world: &mut World, place: Place, errors: &[&str]) {
    for error in errors {
        let body = json!({"error": error}).to_string();
        world.server().fail(place, Fault::status(400, &body));
    }
}

#[test]
fn fapi_ciba_id1_client_test() {
    let mut world = world(|_| {});
    let token = sign_in(&mut world).unwrap();
    assert!(token.id_token().is_some() && token.refresh_token().is_some());
    assert_eq!(pauses(&world), [5, 5, 5]);
    let asked = world.server().seen_at(Place::Backchannel)[0].clone();
    assert_eq!(asked.param("scope").as_deref(), Some("openid"));
    assert_eq!(asked.param("login_hint").as_deref(), Some("alice"));
    assert_eq!(asked.param("binding_message").as_deref(), Some("W4SCT"));
    let question = world.server().seen_at(Place::Token)[0].clone();
    assert_eq!(question.param("grant_type").as_deref(), Some("urn:openid:params:grant-type:ciba"));
}

#[test]
fn fapi_ciba_id1_client_test_with_ping() {
    let mut world = world(|settings| settings.backchannel_delay = 2);
    let asked = request(&mut world).login_hint("alice").notification_token(PING);
    let pending = world.run(asked.start()).unwrap();
    let receiver = pending.ping_receiver().unwrap();
    let now = world.now.wall;
    assert!(world.server().pings(now).is_empty());
    world.pass(Duration::from_secs(2));
    let now = world.now.wall;
    let ping = world.server().pings(now).remove(0);
    let bytes = post(&format!("Bearer {}", ping.token), &ping.body);
    // In pieces, as a connection brings them.
    for end in [0, 1, 20, bytes.len() - 1] {
        assert!(matches!(receiver.hear(&bytes[..end]), BackchannelHeard::More), "{end}");
    }
    let BackchannelHeard::Pinged(answer) = receiver.hear(&bytes) else { panic!("no ping") };
    assert!(answer.starts_with(b"HTTP/1.1 204 "));
    let polling = pending.poll(&world.server().metadata(), &batch()).unwrap().at_once();
    assert!(world.run(polling).unwrap().id_token().is_some());
    assert!(pauses(&world).is_empty());
}

fn post(authorization: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!("POST /cb HTTP/1.1\r\nHost: x\r\nAuthorization: {authorization}\r\nContent-Length: {length}\r\n\r\n{body}")
        .into_bytes()
}

#[test]
fn fapi_ciba_id1_client_ping_with_invalid_bearer_token_test() {
    let mut world = world(|_| {});
    let asked = request(&mut world).login_hint("alice").notification_token(PING);
    let pending = world.run(asked.start()).unwrap();
    let receiver = pending.ping_receiver().unwrap();
    world.pass(Duration::from_secs(12));
    let now = world.now.wall;
    let body = world.server().pings(now).remove(0).body;
    let right = format!("Bearer {PING}");
    for (bytes, status) in [
        (post("Bearer another-token-of-128-bits-xx", &body), "401"),
        (post(&format!("Basic {PING}"), &body), "401"),
        (post("Bearer ", &body), "401"),
        (post(&right, "{}"), "400"),
        (post(&right, r#"{"auth_req_id":"other"}"#), "400"),
        (post(&right, "no json"), "400"),
        (b"GET /cb HTTP/1.1\r\n\r\n".to_vec(), "405"),
        (b"POST /cb HTTP/1.1\r\n\r\n".to_vec(), "411"),
        (b"POST /cb HTTP/1.1\r\nContent-Length: 99999999\r\n\r\n".to_vec(), "413"),
        (b"\x16\x03\x01 no http at all".to_vec(), "400"),
        (vec![b'x'; 20_000], "400"),
    ] {
        let BackchannelHeard::Reply(answer) = receiver.hear(&bytes) else {
            panic!("{}", String::from_utf8_lossy(&bytes))
        };
        let answer = String::from_utf8(answer).unwrap();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")) && !answer.contains(PING), "{answer}");
    }
    assert!(world.server().seen_at(Place::Token).is_empty() && !format!("{receiver:?}{pending:?}").contains(PING));
}

#[test]
fn fapi_ciba_id1_client_respects_interval_test() {
    let mut world = world(|settings| {
        settings.backchannel_interval = Some(31);
        settings.backchannel_delay = 40;
    });
    sign_in(&mut world).unwrap();
    assert_eq!(pauses(&world), [31, 31]);
}

#[test]
fn fapi_ciba_id1_client_slow_down_test() {
    let mut world = world(|_| {});
    let pending = begin(&mut world).unwrap();
    refuse(&mut world, Place::Token, &["slow_down", "authorization_pending"]);
    finish(&mut world, pending).unwrap();
    assert_eq!(pauses(&world), [5, 10, 10]);
}

/// The server ends it by this error, after which nothing is asked any more.
fn ends(place: Place, error: &str) {
    let mut world = world(|_| {});
    let pending = if place == Place::Token { Some(begin(&mut world).unwrap()) } else { None };
    refuse(&mut world, place, &[error]);
    let told = match pending {
        Some(pending) => finish(&mut world, pending).unwrap_err(),
        None => begin(&mut world).unwrap_err(),
    };
    assert_eq!((told.kind(), told.server().unwrap().error()), (ErrorKind::Server, error), "{told}");
    assert_eq!(world.server().seen_at(place).len(), 1);
}

#[test]
fn fapi_ciba_id1_client_invalid_access_denied_test() {
    ends(Place::Token, "access_denied");
    let mut world = world(|settings| settings.consent = Consent::Deny("access_denied"));
    assert_eq!(sign_in(&mut world).unwrap_err().server().unwrap().error(), "access_denied");
}

#[test]
fn fapi_ciba_id1_client_invalid_expired_token_test() {
    ends(Place::Token, "expired_token");
    // Here too, though the server says nothing.
    let mut world = world(|settings| settings.backchannel_delay = 10_000);
    let asked = request(&mut world).login_hint("alice").requested_expiry(Duration::from_secs(12));
    let pending = world.run(asked.start()).unwrap();
    let error = finish(&mut world, pending).unwrap_err();
    assert!(error.kind() == ErrorKind::Expired && error.to_string().contains("has not decided in time"), "{error}");
    assert_eq!(world.server().seen_at(Place::Token).len(), 2);
}

#[test]
fn fapi_ciba_id1_client_invalid_request_test() {
    ends(Place::Backchannel, "invalid_request");
}

#[test]
fn fapi_ciba_id1_client_invalid_unknown_user_id_test() {
    ends(Place::Backchannel, "unknown_user_id");
}

#[test]
fn fapi_ciba_id1_client_invalid_id_token_hint_test() {
    ends(Place::Backchannel, "invalid_id_token_hint");
}

#[test]
fn fapi_ciba_id1_client_invalid_expired_id_token_hint_test() {
    ends(Place::Backchannel, "expired_id_token_hint");
}

fn lacks(member: &'static str) {
    let mut world = world(|settings| settings.alter_backchannel = Alter::set(member, Value::Null));
    let error = begin(&mut world).unwrap_err();
    assert!(error.kind() == ErrorKind::InvalidResponse && error.to_string().contains(member), "{error}");
    assert_eq!(world.sent().len(), 1);
}

#[test]
fn fapi_ciba_id1_client_invalid_missing_authreqid_test() {
    lacks("auth_req_id");
}

#[test]
fn fapi_ciba_id1_client_invalid_missing_expiresin_test() {
    lacks("expires_in");
}

#[test]
fn fapi_ciba_id1_client_no_scope_in_token_endpoint_response_test() {
    let mut world = world(|settings| settings.alter_token = Alter::set("expires_in", Value::Null));
    let token = sign_in(&mut world).unwrap();
    assert!(token.expires_at().is_none() && token.scopes().contains("openid"));
}

#[test]
fn fapi_ciba_id1_client_refresh_token_test() {
    let mut world = world(|settings| settings.refresh_tokens = RefreshTokens::Rotate { grace: Duration::ZERO });
    let first = sign_in(&mut world).unwrap();
    let server = world.server().metadata();
    let refresh = |token: &Token| TokenRequest::refresh(&server, &batch(), token).unwrap().exchange();
    let second = world.run(refresh(&first)).unwrap();
    let third = world.run(refresh(&second)).unwrap();
    let used: Vec<_> = [&first, &second, &third].map(|token| token.refresh_token().unwrap().expose().to_owned()).into();
    assert!(used[0] != used[1] && used[1] != used[2], "{used:?}");
    let now = world.now.wall;
    assert!(world.server().accepts(third.access_token(), now));
}

/// A sign-in at a server that signs its ID tokens, whose signature is checked.
fn verified(change: impl FnOnce(&mut Settings)) -> (World, Result<Token, Error>) {
    let mut world = world(|settings| {
        settings.keys = vec![IssuerKey::es256("es-1")];
        change(settings);
    });
    let pending = begin(&mut world).unwrap();
    let polling = pending.poll(&world.server().metadata(), &batch()).unwrap().verify_id_token_signature();
    let token = world.run(polling);
    (world, token)
}

/// The ID token is refused, for what the error says, and no more is asked.
fn refused(change: impl FnOnce(&mut Settings), kind: ErrorKind, word: &str) {
    let (mut world, token) = verified(change);
    let error = token.unwrap_err();
    assert!(error.kind() == kind && error.to_string().contains(word), "{error}");
    hidden_in_error(&error, &["batch-secret"]);
    assert_eq!(world.server().seen_at(Place::Token).len(), 3);
}

fn refused_claim(name: &'static str, value: Value) {
    refused(|settings| settings.alter_id_claims = Alter::set(name, value), ErrorKind::IdToken, name);
}

#[test]
fn fapi_ciba_id1_client_invalid_iss_test() {
    refused_claim("iss", json!("https://as.example/other"));
}

#[test]
fn fapi_ciba_id1_client_invalid_missing_iss_test() {
    refused_claim("iss", Value::Null);
}

#[test]
fn fapi_ciba_id1_client_invalid_aud_test() {
    refused_claim("aud", json!("another"));
}

#[test]
fn fapi_ciba_id1_client_invalid_secondary_aud_test() {
    refused_claim("aud", json!(["batch", "another"]));
}

#[test]
fn fapi_ciba_id1_client_invalid_missing_aud_test() {
    refused_claim("aud", Value::Null);
}

#[test]
fn fapi_ciba_id1_client_valid_aud_as_array_test() {
    let (_, token) = verified(|settings| settings.alter_id_claims = Alter::set("aud", json!(["batch"])));
    assert!(token.unwrap().id_token().is_some());
}

#[test]
fn fapi_ciba_id1_client_invalid_missing_exp_test() {
    refused_claim("exp", Value::Null);
}

#[test]
fn fapi_ciba_id1_client_invalid_expired_exp_test() {
    refused_claim("exp", json!(World::default().now.wall.as_unix() - 301));
}

#[test]
fn fapi_ciba_id1_client_invalid_iat_is_week_in_past_test() {
    refused_claim("iat", json!(World::default().now.wall.as_unix() - 7 * 86_400));
}

#[test]
fn fapi_ciba_id1_client_invalid_null_alg_test() {
    refused(|settings| settings.alter_id_header = Alter::set("alg", json!("none")), ErrorKind::IdToken, "alg none");
}

#[test]
fn fapi_ciba_id1_client_invalid_alternate_alg_test() {
    let mut world = world(|settings| settings.keys = vec![IssuerKey::rs256("rs-1")]);
    let client = batch().id_token_signed_response_alg(Algorithm::ES256);
    let pending = begin(&mut world).unwrap();
    let polling = pending.poll(&world.server().metadata(), &client).unwrap();
    let error = world.run(polling).unwrap_err();
    assert!(error.kind() == ErrorKind::IdToken && error.to_string().contains("alg"), "{error}");
}

#[test]
fn fapi_ciba_id1_client_invalid_signature_test() {
    let forged = |settings: &mut Settings| settings.signs_with = Some(IssuerKey::es256("es-1"));
    refused(forged, ErrorKind::Signature, "signature is wrong");
    refused(|settings| settings.signs_with = Some(IssuerKey::es256("es-2")), ErrorKind::Signature, "no key");
}

#[test]
fn keys_are_read_once_and_before_the_first_question_and_only_where_they_are_asked_for() {
    let (mut world, token) = verified(|_| {});
    assert!(token.unwrap().id_token().is_some());
    let places = |world: &mut World| world.server().seen().iter().map(|seen| seen.place).collect::<Vec<_>>();
    let expected = [Place::Backchannel, Place::Keys, Place::Token, Place::Token, Place::Token];
    assert_eq!(places(&mut world), expected);
    // Keys that cannot be read cost no token: they are read at the next question.
    let mut world = self::world(|settings| settings.keys = vec![IssuerKey::es256("es-1")]);
    let pending = begin(&mut world).unwrap();
    (0..4).for_each(|_| world.server().fail(Place::Keys, Fault::status(503, "")));
    let polling = pending.poll(&world.server().metadata(), &batch()).unwrap().verify_id_token_signature();
    assert!(world.run(polling).unwrap().id_token().is_some());
    // A device's code the same.
    let server = world.server().metadata();
    let app = InstalledApp::new(&server, &demo::client()).scopes("openid").device().verify_id_token_signature();
    let code = world.run(app.device_authorization().unwrap().unwrap().exchange()).unwrap();
    assert!(world.enter_code(code.verification_uri(), code.user_code()));
    assert!(world.run(app.poll(code.clone()).unwrap()).unwrap().id_token().is_some());
    world.server().settings.signs_with = Some(IssuerKey::es256("es-1"));
    let code = world.run(app.device_authorization().unwrap().unwrap().exchange()).unwrap();
    assert!(world.enter_code(code.verification_uri(), code.user_code()));
    assert_eq!(world.run(app.poll(code).unwrap()).unwrap_err().kind(), ErrorKind::Signature);
}

#[test]
fn a_sign_in_that_is_cancelled_asks_no_more_and_may_be_taken_up_again_until_it_ends() {
    let mut world = world(|_| {});
    let pending = begin(&mut world).unwrap();
    let server = world.server().metadata();
    // Dropped while it waits, and with a question under way.
    for questions in [0, 1] {
        let before = world.server().seen_at(Place::Token).len();
        let mut polling = pending.clone().poll(&server, &batch()).unwrap();
        let mut reply = Reply::Start;
        loop {
            let Step::Do(effect) = polling.resume(&mut world.cx(), reply) else { panic!("it has ended") };
            if matches!(effect, Effect::Http(_)) == (questions == 1) {
                break;
            }
            reply = world.carry_out(effect);
        }
        drop(polling);
        world.pass(Duration::from_secs(60));
        assert_eq!(world.server().seen_at(Place::Token).len(), before, "nothing goes on");
    }
    // The person has decided meanwhile.
    finish(&mut world, pending.clone()).unwrap();
    // Used up, it is over; and one that was never taken up ends at the server by itself.
    assert_eq!(finish(&mut world, pending).unwrap_err().server().unwrap().error(), "invalid_grant");
    let late = begin(&mut world).unwrap();
    world.pass(late.expires_at().since(world.now.wall));
    let before = world.server().seen_at(Place::Token).len();
    assert_eq!(finish(&mut world, late).unwrap_err().kind(), ErrorKind::Expired);
    assert_eq!(world.server().seen_at(Place::Token).len(), before);
}

#[test]
fn a_token_that_names_the_person_goes_with_the_request_signed_or_not_and_is_shown_nowhere() {
    const HINT: &str = "c4n4ry-hint-token";
    let key = Es256::default();
    let registered = Registered::basic("app", "app-secret").request_key(key.public());
    let signing = Client::new("app").authentication(ClientAuthentication::client_secret_basic("app-secret"));
    let mut world = World::with(Server::demo().client(registered));
    let server = world.server().metadata();
    for (client, signs) in [(batch(), false), (signing, true)] {
        let asked = BackchannelAuthentication::new(&server, &client).unwrap().login_hint_token(&Secret::from(HINT));
        let asked = if signs { asked.sign(key.clone()) } else { asked };
        assert!(!format!("{asked:?}").contains(HINT));
        let pending = world.run(asked.start()).unwrap();
        let seen = world.server().seen_at(Place::Backchannel).last().copied().unwrap().clone();
        let hint = match seen.param("request") {
            Some(object) => jwt_parts(&object).1["login_hint_token"].as_str().map(str::to_owned),
            None => seen.param("login_hint_token"),
        };
        assert_eq!(hint.as_deref(), Some(HINT));
        world.run(pending.poll(&server, &client).unwrap()).unwrap();
        let body = json!({"error": "expired_login_hint_token", "error_description": HINT}).to_string();
        world.server().fail(Place::Backchannel, Fault::status(400, &body));
        let again = BackchannelAuthentication::new(&server, &client).unwrap().login_hint_token(&Secret::from(HINT));
        let again = if signs { again.sign(key.clone()) } else { again };
        let error = world.run(again.start()).unwrap_err();
        assert_eq!(error.server().unwrap().error(), "expired_login_hint_token");
        hidden_in_error(&error, &[HINT]);
    }
}

#[test]
fn a_signed_request_holds_all_of_it_by_a_key_that_is_here_or_far_away() {
    let client = Client::new("app").authentication(ClientAuthentication::client_secret_basic("app-secret"));
    let registered = Registered::basic("app", "app-secret").request_key(Es256::default().public());
    let mut world = World::with(Server::demo().client(registered));
    let server = world.server().metadata();
    for far in [false, true] {
        let asked = BackchannelAuthentication::new(&server, &client).unwrap().login_hint("alice").binding_message("1");
        let asked = asked.requested_expiry(Duration::from_secs(60)).notification_token(PING);
        let asked = if far { asked.sign(FarKey::default()) } else { asked.sign(Es256::default()) };
        let pending = world.run(asked.start()).unwrap();
        world.run(pending.poll(&server, &client).unwrap()).unwrap();
        let seen = world.server().seen_at(Place::Backchannel).last().unwrap().param("request").unwrap();
        let claims = jwt_parts(&seen).1;
        assert_eq!((&claims["iss"], &claims["aud"]), (&json!("app"), &json!("https://as.example")));
        assert_eq!((&claims["requested_expiry"], &claims["scope"]), (&json!(60), &json!("openid")));
    }
    let plain = BackchannelAuthentication::new(&server, &client).unwrap().login_hint("alice");
    assert_eq!(world.run(plain.start()).unwrap_err().server().unwrap().error(), "invalid_request");
}

#[test]
fn what_cannot_be_asked_is_refused_before_anything_is_sent() {
    let mut world = world(|_| {});
    let id_token = demo::signed_in(&mut world, "openid").id_token().unwrap().clone();
    let before = world.sent().len();
    let hinted = |world: &mut World| request(world).login_hint("alice");
    for (asked, word) in [
        (request(&mut world), "exactly one"),
        (hinted(&mut world).login_hint_token(&Secret::from("x")), "exactly one"),
        (hinted(&mut world).id_token_hint(&id_token), "exactly one"),
        (hinted(&mut world).scopes("read"), "openid"),
        (hinted(&mut world).notification_token("short"), "client_notification_token"),
        (hinted(&mut world).notification_token("with a blank in it and long enough"), "client_notification_token"),
        (hinted(&mut world).authorization_details(&json!({})), "RFC 9396"),
        (hinted(&mut world).extra("client_secret", "x"), "client_secret"),
    ] {
        let error = world.run(asked.start()).unwrap_err();
        assert!(error.kind() == ErrorKind::Config && error.to_string().contains(word), "{error}");
    }
    assert_eq!(world.sent().len(), before);
    let hint = request(&mut world).id_token_hint(&id_token);
    world.run(hint.start()).unwrap();
    let expired = request(&mut world).login_hint_token(&Secret::from("a-hint-of-last-year"));
    let error = world.run(expired.start()).unwrap_err();
    assert_eq!(error.server().unwrap().error(), "expired_login_hint_token");
    let long = hinted(&mut world).binding_message(&"x".repeat(21));
    assert_eq!(world.run(long.start()).unwrap_err().server().unwrap().error(), "invalid_binding_message");
}

#[test]
fn a_person_is_asked_once_and_only_by_the_client_and_server_that_began() {
    let mut world = world(|_| {});
    world.fail(Failure::maybe_sent(FailureKind::Timeout, "no answer"));
    let error = begin(&mut world).unwrap_err();
    hidden_in_error(&error, &["batch-secret"]);
    assert_eq!(world.sent().len(), 1);
    let pending = begin(&mut world).unwrap();
    let server = world.server().metadata();
    let error = pending.clone().poll(&server, &demo::client()).unwrap_err();
    assert!(error.kind() == ErrorKind::Config && error.to_string().contains("batch"), "{error}");
    let other = Server::new("https://other.example").metadata();
    assert_eq!(pending.poll(&other, &batch()).unwrap_err().kind(), ErrorKind::Issuer);
    // A public client may not ask so.
    let public = BackchannelAuthentication::new(&server, &demo::client()).unwrap().login_hint("alice");
    assert_eq!(world.run(public.start()).unwrap_err().server().unwrap().error(), "unauthorized_client");
}
