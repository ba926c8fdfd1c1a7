//! Sign in with Apple: a client secret that is signed, an answer that is posted, a name that is told once, truth values as
//! texts.

use grantflow::crypto::{Algorithm, SigningKey};
use grantflow::{AuthorizationRequest, Client, ClientAuthentication, ErrorKind, TokenRequest};
use grantflow_tests::kms::Es256;
use grantflow_tests::server::Alter;
use grantflow_tests::{IssuerKey, Place, Registered, Server, World};
use serde_json::{Value, json};

use super::REDIRECT;

const APPLE: &str = "https://appleid.apple.com";

/// Apple, and a client of the team `DEF123GHIJ`.
fn apple() -> (World, Client) {
    let key = Es256::default();
    let registered = Registered::apple("com.example.web", "DEF123GHIJ", key.public()).redirect_uri(REDIRECT);
    let world = World::with(Server::new(APPLE).client(registered).with(|settings| {
        settings.keys = vec![IssuerKey::rs256("apple")];
        settings.scopes = "openid name email".into();
        settings.alter_id_claims = Alter::by(|claims| {
            claims["email"] = json!("alice@privaterelay.appleid.com");
            claims["email_verified"] = json!("true");
            claims["is_private_email"] = json!("true");
        });
    }));
    let client = Client::new("com.example.web").authentication(ClientAuthentication::apple("DEF123GHIJ", key));
    (world, client)
}

#[test]
fn a_sign_in_with_apple_has_a_signed_secret_a_posted_answer_and_a_name_that_is_told_once() {
    let (mut world, client) = apple();
    let server = world.server().metadata();
    let request = AuthorizationRequest::new(&server, &client, REDIRECT).scopes("openid name email");
    let request = request.form_post().verify_id_token_signature();
    let authorization = world.run(request.start()).unwrap();
    let redirect = world.person(&authorization.url);
    let user = r#"{"name":{"firstName":"Alice","lastName":"Liddell"},"email":"alice@privaterelay.appleid.com"}"#;
    let user: String = url::form_urlencoded::byte_serialize(user.as_bytes()).collect();
    let body = format!("{}&user={user}", redirect.split_once('?').unwrap().1);
    let answer = authorization.pending.receive(&body, world.now.wall).unwrap();
    let told: Value = serde_json::from_str(answer.get("user").unwrap()).unwrap();
    assert_eq!(told["name"]["firstName"], "Alice");
    let token = world.run(authorization.pending.finish_with(&client, answer)).unwrap();
    let id_token = token.id_token().unwrap();
    assert_eq!(id_token.verified_email(), Some("alice@privaterelay.appleid.com"));
    assert_eq!(id_token.claims().bool("is_private_email"), Some(true));

    let refresh = TokenRequest::refresh(&server, &client, &token).unwrap().verify_id_token_signature();
    world.run(refresh.exchange()).unwrap();
    let sent = world.server().seen_at(Place::Token);
    let secrets: Vec<_> = sent.iter().filter_map(|seen| seen.param("client_secret")).collect();
    assert_eq!(secrets.len(), 2);
    assert_ne!(secrets[0], secrets[1], "each request has one of its own");
    assert!(sent.iter().all(|seen| seen.param("client_assertion").is_none() && seen.header("authorization").is_none()));
}

#[test]
fn a_client_secret_for_apple_is_shown_to_no_other_server() {
    let (_, client) = apple();
    let mut world = World::with(Server::demo());
    let server = world.server().metadata();
    let request = TokenRequest::client_credentials(&server, &client).unwrap();
    let error = world.run(request.exchange()).unwrap_err();
    assert_eq!((error.kind(), world.sent().len()), (ErrorKind::Issuer, 0), "{error}");
}

#[test]
fn a_key_that_apple_would_not_take_is_told_before_anything_is_sent() {
    let (mut world, _) = apple();
    let nameless = SigningKey::generate(Algorithm::ES256, &mut world.cx()).unwrap();
    let other = SigningKey::generate(Algorithm::EdDSA, &mut world.cx()).unwrap().with_key_id("ABC123DEFG");
    for key in [nameless, other] {
        let client = Client::new("com.example.web").authentication(ClientAuthentication::apple("DEF123GHIJ", key));
        let server = world.server().metadata();
        let request = TokenRequest::client_credentials(&server, &client).unwrap();
        let error = world.run(request.exchange()).unwrap_err();
        assert_eq!((error.kind(), world.sent().len()), (ErrorKind::Config, 0), "{error}");
    }
}
