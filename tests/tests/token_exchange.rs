//! Token exchange (RFC 8693) as a request.

use grantflow::{Deviation, Error, ErrorKind, Secret, Token, TokenRequest, TokenType, token_type};
use grantflow_tests::canary::hidden_in_error;
use grantflow_tests::demo::{batch, client};
use grantflow_tests::server::Alter;
use grantflow_tests::{Fault, Place, Server, World};
use serde_json::json;

fn world() -> World {
    World::with(Server::demo())
}

/// An access token of alice, who may read and write.
fn subject(world: &mut World) -> Secret {
    let server = world.server().metadata();
    let request = TokenRequest::password(&server, &client(), "alice", "wonderland").unwrap().scopes("read write");
    world.run(request.exchange()).unwrap().access_token().into()
}

fn request(world: &mut World, subject: &Secret) -> TokenRequest {
    let server = world.server().metadata();
    TokenRequest::token_exchange(&server, &batch(), subject, token_type::ACCESS_TOKEN).unwrap()
}

fn exchange(world: &mut World, with: impl FnOnce(TokenRequest) -> TokenRequest) -> Result<Token, Error> {
    let subject = subject(world);
    let request = with(request(world, &subject));
    world.run(request.exchange())
}

#[test]
fn an_access_token_is_exchanged_for_another_with_all_parameters_of_the_standard() {
    let mut world = world();
    let actor = subject(&mut world);
    let subject = subject(&mut world);
    let request = request(&mut world, &subject)
        .actor_token(&actor, token_type::ACCESS_TOKEN)
        .requested_token_type(token_type::ACCESS_TOKEN)
        .resource("https://orders.example/api")
        .resource("https://orders.example/other")
        .audience("orders")
        .audience("billing")
        .scopes("read");
    let token = world.run(request.exchange()).unwrap();
    assert_eq!(token.issued_token_type(), Some(token_type::ACCESS_TOKEN));
    assert_eq!((token.token_type(), token.scopes().as_str()), (&TokenType::Bearer, "read"));
    assert!(token.authorization().is_ok() && token.refresh_token().is_none());
    let sent = world.sent().last().unwrap().request.body().clone();
    let pairs: Vec<_> = url::form_urlencoded::parse(&sent).map(|(name, value)| format!("{name}={value}")).collect();
    let (subject, actor) = (subject.expose(), actor.expose());
    for expected in [
        "grant_type=urn:ietf:params:oauth:grant-type:token-exchange",
        &format!("subject_token={subject}"),
        "subject_token_type=urn:ietf:params:oauth:token-type:access_token",
        &format!("actor_token={actor}"),
        "actor_token_type=urn:ietf:params:oauth:token-type:access_token",
        "requested_token_type=urn:ietf:params:oauth:token-type:access_token",
        "resource=https://orders.example/api",
        "resource=https://orders.example/other",
        "audience=orders",
        "audience=billing",
        "scope=read",
    ] {
        assert_eq!(pairs.iter().filter(|pair| *pair == expected).count(), 1, "{expected} in {pairs:?}");
    }
}

#[test]
fn without_scopes_the_server_says_which_they_are() {
    assert_eq!(exchange(&mut world(), |request| request).unwrap().scopes().as_str(), "read write");
}

#[test]
fn what_is_no_access_token_goes_into_no_header() {
    for name in ["N_A", "n_a"] {
        let mut world = world();
        world.server().settings.alter_token = Alter::by(move |answer| {
            if answer["token_type"] == "N_A" {
                answer["token_type"] = name.into();
            }
        });
        let token = exchange(&mut world, |request| request.requested_token_type(token_type::JWT)).unwrap();
        assert_eq!(token.token_type(), &TokenType::NotApplicable);
        assert_eq!(token.issued_token_type(), Some(token_type::JWT));
        assert!(token.access_token().starts_with("eyJ"));
        assert_eq!(token.authorization().unwrap_err().kind(), ErrorKind::TokenType);
        let mut headers = http::HeaderMap::new();
        assert_eq!(token.apply(&mut headers).unwrap_err().kind(), ErrorKind::TokenType);
        assert!(headers.is_empty());
    }
}

#[test]
fn an_answer_that_does_not_say_what_it_is_is_refused_or_tolerated_by_name() {
    for value in [json!(null), json!(""), json!(7)] {
        let mut world = world();
        let odd = value.clone();
        world.server().settings.alter_token = Alter::by(move |answer| {
            if answer["issued_token_type"].is_string() {
                answer["issued_token_type"] = odd.clone();
            }
        });
        let error = exchange(&mut world, |request| request).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidResponse, "{value}");
        assert!(error.to_string().contains("issued_token_type"), "{error}");
        let subject = subject(&mut world);
        let server = world.server().metadata();
        let tolerated = grantflow::Deviations::TOLERATED.with(Deviation::NoIssuedTokenType);
        let server = server.tolerate(tolerated);
        let request = TokenRequest::token_exchange(&server, &batch(), &subject, token_type::ACCESS_TOKEN).unwrap();
        let token = world.run(request.exchange()).unwrap();
        assert!(token.deviations().contains(Deviation::NoIssuedTokenType), "{value}");
    }
}

#[test]
fn a_refresh_token_that_comes_along_is_handed_out() {
    let mut world = world();
    world.server().settings.alter_token = Alter::set("refresh_token", json!("rt"));
    let token = exchange(&mut world, |request| request).unwrap();
    assert!(token.refresh_token().is_some_and(|refresh_token| refresh_token.matches("rt")));
}

#[test]
fn what_the_server_refuses_is_told_in_its_words() {
    type Change = fn(TokenRequest) -> TokenRequest;
    let cases: [(Change, &str); 4] = [
        (|request| request.audience("elsewhere"), "invalid_target"),
        (|request| request.scopes("read profile"), "invalid_scope"),
        (|request| request.requested_token_type(token_type::SAML2), "invalid_request"),
        (|request| request.actor_token(&"stale".into(), token_type::ACCESS_TOKEN), "invalid_request"),
    ];
    for (change, code) in cases {
        let error = exchange(&mut world(), change).unwrap_err();
        assert_eq!(error.server().map(|server| server.error().to_owned()).as_deref(), Some(code), "{error}");
    }
    let mut world = world();
    let request = request(&mut world, &"stale".into());
    let error = world.run(request.exchange()).unwrap_err();
    assert_eq!(error.server().unwrap().error(), "invalid_request");
}

#[test]
fn what_cannot_be_asked_is_an_error_and_nothing_is_sent() {
    let mut world = world();
    let server = world.server().metadata();
    let secret = Secret::from("c4n4ry");
    for (token, kind) in [("", token_type::JWT), ("c4n4ry", "")] {
        let error = TokenRequest::token_exchange(&server, &batch(), &token.into(), kind).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
    }
    let exchange = || request(&mut World::with(Server::demo()), &secret);
    let refresh = || TokenRequest::refresh_token(&server, &client(), &secret).unwrap();
    for request in [
        exchange().actor_token(&secret, ""),
        exchange().actor_token(&"".into(), token_type::JWT),
        refresh().actor_token(&secret, token_type::JWT),
        refresh().requested_token_type(token_type::JWT),
        exchange().extra("subject_token", "other"),
        exchange().extra("requested_token_type", "other"),
    ] {
        let error = world.run(request.exchange()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config, "{error}");
        hidden_in_error(&error, &["c4n4ry"]);
    }
    assert!(world.sent().is_empty());
}

#[test]
fn an_exchange_is_sent_again_and_no_error_shows_its_tokens() {
    let mut world = world();
    world.server().fail(Place::Token, Fault::status(503, ""));
    let server = world.server().metadata();
    let words = r#"{"error":"invalid_request","error_description":"bad c4n4ry-subject by c4n4ry-actor"}"#;
    world.server().fail(Place::Token, Fault::with_type(400, "application/json", words));
    let request = TokenRequest::token_exchange(&server, &batch(), &"c4n4ry-subject".into(), token_type::JWT).unwrap();
    let error = world.run(request.actor_token(&"c4n4ry-actor".into(), token_type::JWT).exchange()).unwrap_err();
    assert_eq!(world.sent().len(), 2);
    hidden_in_error(&error, &["c4n4ry-subject", "c4n4ry-actor"]);
}
