//! How servers refuse a refresh token.

use grantflow::{Advice, Client, ClientAuthentication, Error, Secret, TokenRequest};
use grantflow_tests::demo::{batch, client};
use grantflow_tests::server::Place;
use grantflow_tests::{Fault, Server, World};
use serde_json::Value;

use super::{rows, text};

fn world(row: &Value) -> World {
    let mut world = World::with(Server::demo());
    let mut fault = Fault::with_type(
        row["status"].as_u64().unwrap() as u16,
        row["type"].as_str().unwrap_or("application/json"),
        text(row, "body"),
    );
    if let Some(challenge) = row["challenge"].as_str() {
        fault = fault.header("www-authenticate", challenge);
    }
    world.refuse.push("Sleep");
    world.server().fail(Place::Token, fault);
    world
}

fn refresh(row: &Value) -> Error {
    let mut world = world(row);
    let request = TokenRequest::refresh_token(&world.server().metadata(), &client(), &Secret::from("rt-1"));
    world.run(request.unwrap().exchange()).unwrap_err()
}

#[test]
fn a_refused_refresh_token_is_recognised_in_every_servers_words() {
    for row in rows(include_str!("../../data/odd/refusals.json"), "answers") {
        let error = refresh(&row);
        let ends = error.advice() == Some(Advice::SignInAgain);
        assert_eq!(ends, row["ends"].as_bool().unwrap(), "{row}: {error}");
        if let Some(code) = row["code"].as_str() {
            assert_eq!(error.server().unwrap().error(), code, "{row}");
        }
        if ends {
            assert!(!error.is_transient() && error.to_string().ends_with("; sign in again"), "{error}");
        }
    }
}

#[test]
fn the_same_words_to_another_request_end_no_grant() {
    for row in rows(include_str!("../../data/odd/refusals.json"), "answers") {
        let mut world = world(&row);
        let request = TokenRequest::client_credentials(&world.server().metadata(), &batch()).unwrap();
        let error = world.run(request.exchange()).unwrap_err();
        let ends = error.advice() == Some(Advice::SignInAgain);
        assert_eq!(ends, row["elsewhere"] == true, "{row}: {error}");
    }
}

#[test]
fn a_basic_user_with_a_colon_is_refused_where_it_is_not_encoded() {
    let basic = ClientAuthentication::client_secret_basic_unencoded("s");
    let mut world = World::with(Server::demo());
    let client = Client::new("urn:demo").authentication(basic);
    let request = TokenRequest::client_credentials(&world.server().metadata(), &client).unwrap();
    let error = world.run(request.exchange()).unwrap_err();
    assert!(world.sent().is_empty() && error.to_string().contains("client_id holds a colon"), "{error}");
}

#[test]
fn a_blank_at_the_end_of_an_id_or_a_secret_is_refused_by_name() {
    type Make = fn(&str) -> ClientAuthentication;
    let post: Make = |secret| ClientAuthentication::client_secret_post(secret);
    let basic: Make = |secret| ClientAuthentication::client_secret_basic(secret);
    for make in [post, basic] {
        for (id, secret, says) in [
            ("batch ", "s3cret", "client_id begins or ends with a blank"),
            (" batch", "s3cret", "client_id begins or ends with a blank"),
            ("batch", "s3cret ", "client_secret begins or ends with a blank"),
            ("batch", "s3cret\n", "client_secret"),
            ("batch\r\n", "s3cret", "client_id"),
            ("", "s3cret", "client_id is empty"),
            ("\"batch\"", "s3cret", "client_id stands in quotes"),
            ("'batch'", "s3cret", "client_id stands in quotes"),
            ("${CLIENT_ID}", "s3cret", "nobody has filled in"),
            ("<your client id>", "s3cret", "nobody has filled in"),
            ("%CLIENT_ID%", "s3cret", "nobody has filled in"),
        ] {
            let mut world = World::with(Server::demo());
            let client = Client::new(id).authentication(make(secret));
            let request = TokenRequest::client_credentials(&world.server().metadata(), &client).unwrap();
            let error = world.run(request.exchange()).unwrap_err().to_string();
            assert!(world.sent().is_empty() && error.contains(says), "{id:?}: {error}");
            assert!(!error.contains("s3cret"), "{error}");
        }
    }
    let mut world = World::with(Server::demo());
    let server = world.server().metadata();
    for token in ["rt-1 ", " rt-1", "rt-1\n"] {
        let request = TokenRequest::refresh_token(&server, &client(), &Secret::from(token));
        let error = request.and_then(|request| world.run(request.exchange())).unwrap_err().to_string();
        assert!(world.sent().is_empty() && error.contains("refresh_token"), "{error}");
    }
}
