//! Answers that the server signs (JARM). Modules of the FAPI 2.0 Message Signing client plan have the suite's names.

use grantflow::crypto::Algorithm;
use grantflow::machine::FailureKind;
use grantflow::{
    Client, Error, ErrorKind, Failure, InstalledApp, Machine as _, PendingAuthorization, Reply, Step, Token,
};
use grantflow_tests::canary::hidden_in_error;
use grantflow_tests::demo::REDIRECT;
use grantflow_tests::keys::IssuerKey;
use grantflow_tests::server::{Alter, Consent, Settings};
use grantflow_tests::{Place, Server, World};
use serde_json::{Value, json};

use super::{client, names, registered, request, start, value};

fn world(change: impl FnOnce(&mut Settings)) -> World {
    World::with(Server::demo().client(registered()).with(|settings| {
        settings.keys = vec![IssuerKey::rs256("key-1")];
        change(settings);
    }))
}

fn sign_in(world: &mut World, client: &Client) -> Result<Token, Error> {
    let request = request(world, client).signed_response();
    world.sign_in(request, client)
}

/// A server that answers so is refused: with nothing redeemed, no secret in the error, and no state believed.
fn refused(change: impl FnOnce(&mut Settings), kind: ErrorKind, word: &str) {
    let mut world = world(change);
    let client = client().authorization_signed_response_alg(Algorithm::RS256);
    let authorization = {
        let it = request(&mut world, &client).signed_response();
        start(&mut world, it)
    }
    .unwrap();
    let kept = serde_json::to_string(&authorization.pending).unwrap();
    let redirect = world.person(&authorization.url);
    let error = world.run(authorization.pending.finish(&client, &redirect)).unwrap_err();
    assert_eq!(error.kind(), kind, "{error}");
    assert!(error.to_string().contains(word), "{error}");
    let kept: Value = serde_json::from_str(&kept).unwrap();
    hidden_in_error(&error, &[kept["state"].as_str().unwrap(), kept["code_verifier"].as_str().unwrap()]);
    assert!(world.server().seen_at(Place::Token).is_empty());
}

fn claim(name: &'static str, value: Value) -> impl FnOnce(&mut Settings) {
    move |settings| settings.alter_answer_claims = Alter::set(name, value)
}

#[test]
fn fapi2_message_signing_happy_path_with_jarm() {
    let mut world = world(|_| {});
    let client = client().authorization_signed_response_alg(Algorithm::RS256);
    let pushed = request(&mut world, &client).signed_response().push();
    let token = world.sign_in(pushed, &client).unwrap();
    assert!(token.id_token().is_some());
    let form = request(&mut world, &client).signed_response().form_post();
    let authorization = start(&mut world, form).unwrap();
    assert_eq!(value(&authorization.url, "response_mode"), "form_post.jwt");
    let redirect = world.person(&authorization.url);
    assert_eq!(names(&redirect), ["response"]);
    let (_, posted) = redirect.split_once('?').unwrap();
    assert_eq!(PendingAuthorization::name_in(posted).unwrap(), authorization.pending.name());
    world.run(authorization.pending.finish(&client, posted)).unwrap();
}

#[test]
fn fapi2_security_profile_final_client_test_ensure_jarm_without_iss_fails() {
    refused(claim("iss", Value::Null), ErrorKind::InvalidRedirect, "iss");
}

#[test]
fn fapi2_security_profile_final_client_test_ensure_jarm_with_invalid_iss_fails() {
    for iss in ["https://other.example", "https://as.example/", "HTTPS://as.example"] {
        refused(claim("iss", iss.into()), ErrorKind::InvalidRedirect, "another server");
    }
}

#[test]
fn fapi2_security_profile_final_client_test_ensure_jarm_without_aud_fails() {
    refused(claim("aud", Value::Null), ErrorKind::InvalidRedirect, "aud");
}

#[test]
fn fapi2_security_profile_final_client_test_ensure_jarm_with_invalid_aud_fails() {
    for aud in [json!("other"), json!(["other"]), json!(["app", 7]), json!([])] {
        refused(claim("aud", aud), ErrorKind::InvalidRedirect, "aud");
    }
}

#[test]
fn fapi2_security_profile_final_client_test_ensure_jarm_without_exp_fails() {
    for exp in [Value::Null, json!("1795179600"), json!([]), json!(-1)] {
        refused(claim("exp", exp), ErrorKind::InvalidRedirect, "exp");
    }
}

#[test]
fn fapi2_security_profile_final_client_test_ensure_jarm_with_expired_exp_fails() {
    refused(claim("exp", json!(1_795_176_000 - 300)), ErrorKind::Expired, "exp");
}

#[test]
fn fapi2_security_profile_final_client_test_ensure_jarm_with_invalid_sig_fails() {
    refused(
        |settings| settings.signs_with = Some(IssuerKey::another_rs256("key-1")),
        ErrorKind::Signature,
        "signature is wrong",
    );
    // A key that nobody has published, which newer keys are asked for; and an algorithm that is not the registered one.
    refused(|settings| settings.signs_with = Some(IssuerKey::another_rs256("key-2")), ErrorKind::Signature, "no key");
    refused(|settings| settings.keys = vec![IssuerKey::es256("key-1")], ErrorKind::Signature, "algorithm");
}

#[test]
fn fapi2_security_profile_final_client_test_ensure_jarm_signature_is_not_none() {
    for none in ["none", "None", "nOnE"] {
        refused(
            move |settings| {
                settings.keys.clear();
                settings.alter_answer_header = Alter::by(move |header| *header = json!({"alg": none}));
                settings.alter_metadata = Alter::default();
            },
            ErrorKind::Signature,
            "alg",
        );
    }
}

#[test]
fn a_signed_answer_of_one_audience_in_a_list_is_taken_and_its_error_is_told_after_its_signature_was_checked() {
    let mut world = world(claim("aud", json!(["app"])));
    sign_in(&mut world, &client()).unwrap();
    world.server().settings.consent = Consent::Deny("access_denied");
    let error = sign_in(&mut world, &client()).unwrap_err();
    assert_eq!((error.kind(), error.server().unwrap().error()), (ErrorKind::Authorization, "access_denied"));
    // What a stranger says in the server's name is not told.
    world.server().settings.signs_with = Some(IssuerKey::another_rs256("key-1"));
    let error = sign_in(&mut world, &client()).unwrap_err();
    assert!(error.kind() == ErrorKind::Signature && error.server().is_none(), "{error}");
}

#[test]
fn keys_are_read_before_a_signed_answer_counts_and_once_for_it_and_the_id_token() {
    let mut world = world(|_| {});
    let asked = request(&mut world, &client()).signed_response().verify_id_token_signature();
    world.sign_in(asked, &client()).unwrap();
    let places: Vec<_> = world.server().seen().iter().map(|seen| seen.place).collect();
    assert_eq!(places, [Place::Authorize, Place::Keys, Place::Token]);
    world.documents = None;
    // Keys that cannot be had cost no code: the same answer may be finished later.
    let authorization = {
        let it = request(&mut world, &client()).signed_response();
        start(&mut world, it)
    }
    .unwrap();
    let redirect = world.person(&authorization.url);
    let kept = serde_json::to_string(&authorization.pending).unwrap();
    (0..4).for_each(|_| world.fail(Failure::not_sent(FailureKind::Connect, "no route")));
    let error = world.run(authorization.pending.finish(&client(), &redirect)).unwrap_err();
    assert!(error.is_transient(), "{error}");
    let again: PendingAuthorization = serde_json::from_str(&kept).unwrap();
    world.run(again.finish(&client(), &redirect)).unwrap();
}

#[test]
fn a_plain_answer_in_the_place_of_a_signed_one_is_refused_and_so_is_the_reverse() {
    let mut world = world(|_| {});
    let signed = {
        let it = request(&mut world, &client()).signed_response();
        start(&mut world, it)
    }
    .unwrap();
    let state = value(&signed.url, "state");
    let now = world.now.wall;
    let plain = format!("{REDIRECT}?code=c&state={state}&iss=https%3A%2F%2Fas.example");
    let error = signed.pending.receive(&plain, now).unwrap_err();
    assert!(error.kind() == ErrorKind::InvalidRedirect && error.to_string().contains("not signed"), "{error}");
    let plain = {
        let it = request(&mut world, &client());
        start(&mut world, it)
    }
    .unwrap();
    let state = value(&plain.url, "state");
    world.server().settings.alter_answer_claims = Alter::set("state", state.into());
    let other = {
        let it = request(&mut world, &client()).signed_response();
        start(&mut world, it)
    }
    .unwrap();
    let redirect = world.person(&other.url);
    let error = plain.pending.receive(&redirect, now).unwrap_err();
    assert!(error.to_string().contains("no signed answer was asked for"), "{error}");
    // Of another request, of none, twice, and what is no JWT at all.
    assert!(other.pending.receive(&redirect, now).is_err());
    for odd in ["response=", "response=a.b.c", "response=x&response=y", "response=eyJhbGciOiJSUzI1NiJ9.e30.AA"] {
        assert_eq!(other.pending.receive(odd, now).unwrap_err().kind(), ErrorKind::InvalidRedirect, "{odd}");
    }
}

#[test]
fn an_encrypted_answer_is_told_by_name() {
    let mut world = world(|_| {});
    let signed = {
        let it = request(&mut world, &client()).signed_response();
        start(&mut world, it)
    }
    .unwrap();
    let error = signed.pending.receive("?response=eyJhbGciOiJSU0EtT0FFUCJ9.AA.AA.AA.AA", world.now.wall).unwrap_err();
    assert!(error.to_string().contains("encrypted (JWE)"), "{error}");
}

#[test]
fn an_installed_application_takes_signed_answers_and_waits_over_those_of_strangers() {
    let mut world = world(|_| {});
    let app = InstalledApp::new(&world.server().metadata(), &client()).scopes("openid").signed_response();
    let mut receiver = world.run(app.start(50123)).unwrap();
    let redirect = world.person(receiver.url());
    let now = world.now.wall;
    let stray = "response=eyJhbGciOiJSUzI1NiJ9.eyJzdGF0ZSI6Im90aGVyIn0.AA";
    assert!(receiver.paste(stray, now).is_err() && !receiver.is_answered());
    receiver.paste(&redirect, now).unwrap();
    world.run(receiver.finish()).unwrap();
}

#[test]
fn a_signed_answer_without_keys_is_refused_when_it_is_asked_for() {
    let mut world = world(|settings| settings.alter_metadata = Alter::set("jwks_uri", Value::Null));
    let asked = request(&mut world, &client()).signed_response();
    assert_eq!(start(&mut world, asked).unwrap_err().kind(), ErrorKind::Config);
    let mut machine = request(&mut world, &client()).extra("response_mode", "fragment.jwt").start();
    let Step::Done(Err(error)) = machine.resume(&mut world.cx(), Reply::Start) else { panic!("it goes on") };
    assert!(error.to_string().contains("response_mode"), "{error}");
}
