//! What a refresh brought is kept, whatever is wrong with the rest of its answer: by the exchange, by a credential in
//! use, by the store.

use std::sync::Arc;
use std::time::Duration;

use grantflow::source::{Credential, Grant, Held, Minting as _, Outcome, Want};
use grantflow::{Deviation, Deviations, Error, ErrorKind, Rotation, Token, TokenRequest, TokenType};
use grantflow_tests::demo::{self, client};
use grantflow_tests::processes::{Process, Trip, intent, kept, late, sent};
use grantflow_tests::server::RefreshTokens;
use grantflow_tests::{Fault, Place, Server, World};

const JSON: &str = "application/json";
const FORM: &str = "application/x-www-form-urlencoded";

/// What the server answers with to a use of `old-one`.
struct Answer {
    what: &'static str,
    content_type: &'static str,
    body: Vec<u8>,
    /// The deviation that is told with the token; an error if there is none.
    told: Option<Deviation>,
}

fn with(what: &'static str, members: &str, told: Option<Deviation>) -> Answer {
    let body = format!(r#"{{"access_token":"new-access","refresh_token":"rt-new"{members}}}"#);
    Answer { what, content_type: JSON, body: body.into(), told }
}

fn raw(what: &'static str, content_type: &'static str, body: impl Into<Vec<u8>>) -> Answer {
    Answer { what, content_type, body: body.into(), told: None }
}

/// Answers with a new refresh token, `rt-new`, and something odd.
fn answers() -> Vec<Answer> {
    use Deviation::{BrokenText, NoTokenType, OddLifetime, OddMember, OddScope};
    let bearer = |what, members: &str, told| with(what, &format!(r#","token_type":"Bearer"{members}"#), Some(told));
    let deep = format!(r#","x":{}{}"#, "[".repeat(1000), "]".repeat(1000));
    let long = "x".repeat(64 * 1024 + 1);
    let mut broken = bearer("a name in Latin-1", r#","name":"J?rg""#, BrokenText);
    broken.body.iter_mut().filter(|byte| **byte == b'?').for_each(|byte| *byte = 0xf6);
    vec![
        broken,
        bearer("a scope that is a number", r#","scope":0"#, OddScope),
        bearer("a scope that is an object", r#","scope":{"read":true}"#, OddScope),
        bearer("a list of scopes with a hole", r#","scope":["read",null]"#, OddScope),
        bearer("a list of lists", r#","scope":[["read"]]"#, OddScope),
        bearer("a scope with half a character", r#","scope":"\ud800""#, OddScope),
        bearer("a lifetime beyond all numbers", r#","expires_in":1e309"#, OddLifetime),
        bearer("a lifetime that is a list", r#","expires_in":[3600]"#, OddLifetime),
        bearer("an odd lifetime of the refresh token", r#","refresh_token_expires_in":-1e999"#, OddLifetime),
        with("a type that is a number", r#","token_type":1"#, Some(NoTokenType)),
        with("no type", r#","token_type":null"#, Some(NoTokenType)),
        bearer("a number of another's beyond all numbers", r#","x":1e400"#, OddMember),
        bearer("another's half of a character", r#","name":"\udc00""#, OddMember),
        bearer("a depth without end", &deep, OddMember),
        with("no access token", r#","access_token":null"#, None),
        raw("none at all", JSON, r#"{"refresh_token":"rt-new","token_type":"Bearer"}"#),
        raw("an access token that is a number", JSON, r#"{"access_token":1,"refresh_token":"rt-new"}"#),
        raw("an empty one", JSON, r#"{"access_token":"","refresh_token":"rt-new"}"#),
        raw("one that fits in no header", JSON, r#"{"access_token":"a\nb","refresh_token":"rt-new"}"#),
        raw("one that is too long", JSON, format!(r#"{{"access_token":"{long}","refresh_token":"rt-new"}}"#)),
        with("an access token twice", r#","access_token":"other""#, None),
        with("a member twice", r#","x":1,"x":2"#, None),
        with("a scope twice", r#","scope":"a","scope":"b""#, None),
        with("an error beside it", r#","error":"invalid_grant""#, None),
        with("an error that passes beside it", r#","error":"temporarily_unavailable""#, None),
        bearer("an error that is none", r#","error":{}"#, OddMember),
        raw("an answer that breaks off", JSON, r#"{"refresh_token":"rt-new","access_token":"new-acc"#),
        raw("one that breaks off at once", JSON, r#"{"refresh_token":"rt-new""#),
        raw("something behind it", JSON, r#"{"access_token":"a","refresh_token":"rt-new"} <!-- -->"#),
        raw("a comma too many", JSON, r#"{"access_token":"a","refresh_token":"rt-new",}"#),
        raw("a form, which is not tolerated", FORM, "access_token=a&refresh_token=rt-new&token_type=bearer"),
        raw("a form with a member twice", FORM, "refresh_token=rt-new&access_token=a&access_token=b"),
    ]
}

fn fault(answer: &Answer) -> Fault {
    let mut fault = Fault::with_type(200, answer.content_type, "");
    if let Fault::Answer(response) = &mut fault {
        response.body_mut().clone_from(&answer.body);
    }
    fault
}

fn judge(answer: &Answer, result: &Result<Token, Error>) {
    let what = answer.what;
    match (result, answer.told) {
        (Ok(token), Some(deviation)) => {
            assert!(token.deviations().contains(deviation), "{what}: {:?}", token.deviations());
            assert_eq!((token.access_token(), token.scopes().as_str()), ("new-access", "read write"), "{what}");
            assert_eq!(token.token_type(), &TokenType::Bearer, "{what}");
        }
        (Err(error), None) => {
            assert!(!error.is_uncertain(), "{what}: the use has an answer: {error}");
            let shown = format!("{error} {error:?}");
            assert!(
                !shown.contains("rt-new") && !shown.contains("new-access") && !shown.contains("old-one"),
                "{shown}"
            );
        }
        (result, told) => panic!("{what}: {result:?}, and not {told:?}"),
    }
}

#[test]
fn an_exchange_tells_the_new_refresh_token_whatever_is_odd_beside_it() {
    for answer in answers() {
        let mut world = World::with(Server::demo());
        world.server().fail(Place::Token, fault(&answer));
        let request = TokenRequest::refresh_token(&world.server().metadata(), &client(), &"old-one".into()).unwrap();
        let mut exchange = request.granted("read write".into()).exchange();
        let result = world.run(&mut exchange);
        judge(&answer, &result);
        let change = exchange.take_change();
        assert!(change.refresh_token().is_some_and(|new| new.matches("rt-new")), "{}", answer.what);
        assert!(exchange.take_change().is_empty());
        assert_eq!(world.sent().len(), 1, "{}: the old one is not sent again", answer.what);
        assert!(!format!("{change:?}").contains("rt-new"));
    }
}

#[test]
fn whoever_sends_a_request_themselves_is_told_too() {
    for answer in answers() {
        let server = Server::demo().metadata();
        let request = TokenRequest::refresh_token(&server, &client(), &"old-one".into()).unwrap();
        let (_, parse) = request.granted("read write".into()).into_parts();
        let Fault::Answer(response) = fault(&answer) else { panic!("an answer") };
        let now = World::with(Server::demo()).now.wall;
        let (result, change) = parse(grantflow::exchange::Received { response: &response, sent: now, now });
        judge(&answer, &result);
        let new = result.as_ref().map_or(change.refresh_token(), |token| token.refresh_token());
        assert!(new.is_some_and(|new| new.matches("rt-new")), "{}", answer.what);
    }
}

#[test]
fn a_credential_goes_on_with_the_refresh_token_that_came_beside_something_odd() {
    for answer in answers() {
        let rotate = RefreshTokens::Rotate { grace: Duration::ZERO };
        let mut world = World::with(Server::demo().with(|settings| settings.refresh_tokens = rotate));
        let token = demo::signed_in(&mut world, "read write");
        let credential = Credential::signed_in(world.server().metadata(), &client(), &token).unwrap();
        let mut grant: Grant<()> = Grant::new(Arc::new(credential));
        world.server().fail(Place::Token, fault(&answer));
        let (_, mut turn) = grant.begin(()).unwrap().split();
        let mut mint = grant.mint(&mut turn, &Want::default(), world.now, Held::Nothing).unwrap();
        let mut result = world.run(&mut mint);
        judge(&answer, &result);
        assert!(grant.finish(turn, world.now, mint.take_change(), Outcome::from(&mut result)).is_none());
        assert!(grant.state().refresh_token().unwrap().matches("rt-new"), "{}", answer.what);
        assert_eq!(grant.state().rotation(), Rotation::Rotates, "{}", answer.what);
    }
}

#[test]
fn the_store_has_the_refresh_token_that_came_beside_something_odd() {
    for answer in answers() {
        let (mut desk, source) = late();
        desk.world.server().fail(Place::Token, fault(&answer));
        let mut process = Process::of(&source);
        let result = process.mint(&mut desk);
        assert_eq!(result.is_ok(), answer.told.is_some(), "{}: {result:?}", answer.what);
        assert_eq!(kept(&desk, &source), "rt-new", "{}", answer.what);
        assert_eq!(intent(&desk, &source), None, "{}: the use has ended", answer.what);
        // Another process goes on with it.
        let _ = Process::of(&source).mint(&mut desk);
        desk.world.pass(Duration::from_secs(7200));
        let _ = Process::of(&source).mint(&mut desk);
        assert!(sent(&mut desk).iter().skip(1).all(|sent| sent == "rt-new"), "{}", answer.what);
    }
}

#[test]
fn what_came_beside_an_error_and_cannot_be_saved_is_saved_later() {
    let body = r#"{"refresh_token":"rt-new","token_type":"Bearer"}"#;
    let (mut desk, source) = late();
    desk.world.server().fail(Place::Token, Fault::status(200, body));
    desk.trip("save", Trip::Pass);
    desk.trip("save", Trip::Fail);
    let mut process = Process::of(&source);
    assert_eq!(process.mint(&mut desk).unwrap_err().kind(), ErrorKind::InvalidResponse);
    assert!(kept(&desk, &source) != "rt-new" && process.state.save_error().is_some());
    let _ = process.mint(&mut desk);
    assert_eq!(kept(&desk, &source), "rt-new");
    assert!(process.state.save_error().is_none());
}

#[test]
fn what_is_odd_is_an_error_where_it_is_not_tolerated_and_costs_no_refresh_token() {
    for answer in answers() {
        let mut world = World::with(Server::demo());
        world.server().fail(Place::Token, fault(&answer));
        let server = world.server().metadata().tolerate(Deviations::NONE);
        let request = TokenRequest::refresh_token(&server, &client(), &"old-one".into()).unwrap();
        let mut exchange = request.exchange();
        let error = world.run(&mut exchange).unwrap_err();
        assert!(!error.is_uncertain(), "{}", answer.what);
        assert!(exchange.take_change().refresh_token().is_some_and(|new| new.matches("rt-new")), "{}", answer.what);
    }
}

#[test]
fn a_refresh_token_that_cannot_be_used_is_left_out_and_told() {
    let long = format!("\"{}\"", "x".repeat(64 * 1024 + 1));
    for odd in ["1", "[\"rt\"]", "true", "\"a\\nb\"", "\"\\ud800\"", &*long] {
        let mut world = World::with(Server::demo());
        let body = format!(r#"{{"access_token":"t","token_type":"Bearer","refresh_token":{odd}}}"#);
        world.server().fail(Place::Token, Fault::status(200, &body));
        let request = TokenRequest::refresh_token(&world.server().metadata(), &client(), &"old-one".into()).unwrap();
        let mut exchange = request.exchange();
        let token = world.run(&mut exchange).unwrap();
        assert!(token.deviations().contains(Deviation::OddRefreshToken), "{odd}");
        assert!(token.refresh_token().unwrap().matches("old-one") && exchange.take_change().is_empty(), "{odd}");
    }
}

#[test]
fn an_answer_without_a_new_refresh_token_settles_the_use_though_it_is_no_good() {
    for (body, uncertain) in [
        (r#"{"access_token":"a\nb","token_type":"Bearer"}"#, false),
        (r#"{"access_token":"a","token_type":"Bearer","refresh_token":"old-one","x":1,"x":1}"#, true),
        (r#"{"access_token":"a\nb","token_type":"Bearer","refresh_token":7}"#, true),
        (r#"{"token_type":"Bearer"}"#, true),
        (r#"{"access_token":"a","token_typ"#, true),
        ("", true),
        ("<html>", true),
    ] {
        let mut world = World::with(Server::demo());
        world.server().fail(Place::Token, Fault::status(200, body));
        let request = TokenRequest::refresh_token(&world.server().metadata(), &client(), &"old-one".into()).unwrap();
        let mut exchange = request.exchange();
        let error = world.run(&mut exchange).unwrap_err();
        assert_eq!(error.is_uncertain(), uncertain, "{body}: {error}");
        assert!(exchange.take_change().is_empty(), "{body}");
    }
}

#[test]
fn a_token_for_a_key_keeps_the_refresh_token_that_came_with_it() {
    for token_type in ["DPoP", "mac"] {
        let body = format!(r#"{{"access_token":"t","token_type":"{token_type}","refresh_token":"rt-new"}}"#);
        let (mut desk, source) = late();
        desk.world.server().fail(Place::Token, Fault::status(200, &body));
        let token = Process::of(&source).mint(&mut desk).unwrap();
        assert!(token.authorization().is_err());
        assert_eq!(kept(&desk, &source), "rt-new", "{token_type}");
    }
}

#[test]
fn an_id_token_of_another_user_is_an_error_and_the_refresh_token_is_kept() {
    let mut world = World::with(Server::demo());
    let token = demo::signed_in(&mut world, "openid read");
    let body = r#"{"access_token":"t","token_type":"Bearer","refresh_token":"rt-new","id_token":"a.b.c"}"#;
    world.server().fail(Place::Token, Fault::status(200, body));
    let mut exchange = TokenRequest::refresh(&world.server().metadata(), &client(), &token).unwrap().exchange();
    let error = world.run(&mut exchange).unwrap_err();
    assert_eq!((error.kind(), error.is_uncertain()), (ErrorKind::IdToken, false));
    assert!(exchange.take_change().refresh_token().is_some_and(|new| new.matches("rt-new")));
}

#[test]
fn what_the_server_sends_back_is_struck_out_beside_a_new_refresh_token_too() {
    let body = r#"{"refresh_token":"rt-new","error":"odd","error_description":"old-one is no good"}"#;
    let mut world = World::with(Server::demo());
    world.server().fail(Place::Token, Fault::status(200, body));
    let request = TokenRequest::refresh_token(&world.server().metadata(), &client(), &"old-one".into()).unwrap();
    let mut exchange = request.exchange();
    let error = world.run(&mut exchange).unwrap_err();
    assert!(
        error.to_string().contains("*** is no good") && error.to_string().contains("refreshing the token"),
        "{error}"
    );
    assert_eq!(error.status(), Some(200));
    assert!(!exchange.take_change().is_empty());
}

/// A run that is given up after the answer came has not lost what the answer brought.
#[test]
fn a_run_that_ends_while_the_answer_is_saved_tells_what_it_brought() {
    let (mut desk, source) = late();
    let mut grant: Grant<()> = Grant::new(Arc::new(source.clone()));
    let (_, mut turn) = grant.begin(()).unwrap().split();
    let mut mint = grant.mint(&mut turn, &Want::access_token("read"), desk.world.now, Held::Nothing).unwrap();
    desk.trip("save", Trip::Pass);
    desk.trip("save", Trip::Fail);
    desk.die_before(&mut mint, "release");
    assert!(grant.finish(turn, desk.world.now, mint.take_change(), Outcome::Abandoned).is_none());
    let before = sent(&mut desk).len();
    let (_, mut turn) = grant.begin(()).unwrap().split();
    let mut mint = grant.mint(&mut turn, &Want::access_token("read"), desk.world.now, Held::Nothing).unwrap();
    let token = desk.run(&mut mint).unwrap();
    assert_eq!(sent(&mut desk).len(), before, "what came before is saved, and no refresh token used");
    assert!(token.refresh_token().unwrap().matches(&kept(&desk, &source)));
    assert!(grant.finish(turn, desk.world.now, mint.take_change(), Outcome::Minted(&mut token.clone())).is_none());
    assert!(grant.state().save_error().is_none());
}
