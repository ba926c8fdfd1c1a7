//! What Google says of tokens, and their end: tokeninfo, userinfo, revocation.

use std::time::Duration;

use grantflow::google::{AuthorizedUser, TokenInfo, scopes};
use grantflow::source::Want;
use grantflow::{Advice, ErrorKind, Revocation, Scopes, Secret, ServerMetadata, Token, UserInfo};
use grantflow_tests::google::{
    ALICE, CLIENT_ID, CLIENT_SECRET, GRANTED, OAuthClient, Place, REFRESH_TOKEN, SERVICE_ACCOUNT, User, world,
};
use grantflow_tests::{Fault, World, canary};
use serde_json::{Value, json};

use super::user::client;
use super::{NOW, account, user, user_with};

#[test]
fn tokeninfo_reads_numbers_that_are_texts() {
    // 21.28, 21.36
    let mut world = world();
    let token = world.mint(&user(), &Want::default()).unwrap();
    world.pass(Duration::from_secs(100));
    let secret = Secret::from(token.access_token());
    let info = world.run(TokenInfo::of_access_token(&secret).unwrap()).unwrap();
    assert_eq!(info.audience(), Some(CLIENT_ID));
    assert_eq!(info.scopes(), Scopes::from(GRANTED));
    // Google counts from when it made the token, we from when we asked for it.
    assert!(info.expires_at().unwrap().since(token.expires_at().unwrap()) <= Duration::from_secs(1));
    assert_eq!((info.verified_email(), info.subject()), (Some(ALICE), Some("110000000000000000001")));
    assert_eq!(info.claims().str("access_type"), Some("offline"));
    // The token is in the body, and so in no log of addresses.
    let sent = world.sent().last().unwrap().request.clone();
    assert_eq!((sent.method().as_str(), sent.uri().query()), ("POST", None));
    // Without a scope for it, no address.
    let token = world.mint(&user().scopes_at_refresh(), &Want::access_token(scopes::CLOUD_PLATFORM)).unwrap();
    let info = world.run(TokenInfo::of_access_token(&token.access_token().into()).unwrap()).unwrap();
    assert_eq!((info.verified_email(), info.subject()), (None, None));
    canary::hidden_in_debug("tokeninfo", &info, &[token.access_token()]);
}

#[test]
fn tokeninfo_of_an_id_token_gives_its_claims() {
    let mut world = world();
    let token = world.mint(&account(), &Want::id_token("https://a.example")).unwrap();
    let info = world.run(TokenInfo::of_id_token(&token.access_token().into()).unwrap()).unwrap();
    assert_eq!((info.audience(), info.verified_email()), (Some("https://a.example"), Some(SERVICE_ACCOUNT)));
    assert_eq!(info.expires_at(), token.expires_at());
    assert_eq!(info.claims().str("alg"), Some("RS256"));
}

#[test]
fn tokeninfo_of_the_first_version_is_understood() {
    let mut world = world();
    let body = json!({"issued_to": CLIENT_ID, "audience": CLIENT_ID, "user_id": "7", "scope": "openid", "expires_in": 3599,
                      "email": ALICE, "verified_email": true, "access_type": "offline"});
    world.google().fail(Place::TokenInfo, Fault::status(200, &body.to_string()));
    let info = world.run(TokenInfo::of_access_token(&"ya29.x".into()).unwrap()).unwrap();
    assert_eq!((info.audience(), info.subject(), info.verified_email()), (Some(CLIENT_ID), Some("7"), Some(ALICE)));
    assert_eq!(info.expires_at(), Some(NOW + Duration::from_secs(3599)));
}

#[test]
fn a_token_that_is_not_good_is_invalid_token_in_either_shape() {
    for old in [false, true] {
        let mut world = world();
        world.google().old_tokeninfo = old;
        for exchange in [TokenInfo::of_access_token(&"ya29.no".into()), TokenInfo::of_id_token(&"a.b.c".into())] {
            let error = world.run(exchange.unwrap()).unwrap_err();
            assert_eq!((error.kind(), error.status()), (ErrorKind::Server, Some(400)));
            assert_eq!((error.server().unwrap().error(), error.advice()), ("invalid_token", Some(Advice::SignInAgain)));
        }
        assert_eq!(world.sent().len(), 2);
    }
    let mut world = world();
    let token = world.mint(&user(), &Want::default()).unwrap();
    world.pass(Duration::from_secs(3600));
    world.run(TokenInfo::of_access_token(&token.access_token().into()).unwrap()).unwrap_err();
}

#[test]
fn userinfo_tells_of_the_user() {
    let mut world = world();
    let token = world.mint(&user(), &Want::default()).unwrap();
    let google = ServerMetadata::google();
    let ask = |token: &Token| UserInfo::new(&google, token).unwrap().exchange();
    let claims = world.run(ask(&token)).unwrap();
    assert_eq!((claims.str("sub"), claims.str("email")), (Some("110000000000000000001"), Some(ALICE)));
    assert_eq!((claims.bool("email_verified"), claims.get("name")), (Some(true), None));
    let error = world.run(ask(&Token::bearer("ya29.no", NOW, None).unwrap())).unwrap_err();
    assert_eq!((error.status(), error.server().unwrap().error()), (Some(401), "invalid_request"));
}

#[test]
fn one_revocation_ends_all_that_was_granted_to_the_project() {
    // 21.29
    let mut world = world();
    let google = world.google.take().unwrap();
    world.google = Some(
        google
            .client(OAuthClient::new("sibling", None, "1234567890"))
            .client(OAuthClient::new("stranger", None, "another-project"))
            .user(User::new("bob@example.com", "2"))
            .grant("r-sibling", "sibling", ALICE, "openid")
            .grant("r-stranger", "stranger", ALICE, "openid")
            .grant("r-bob", CLIENT_ID, "bob@example.com", "openid"),
    );
    let refresh = |world: &mut World, id: &str, token: &str| {
        let changes = json!({"client_id": id, "refresh_token": token,
                             "client_secret": if id == CLIENT_ID { json!(CLIENT_SECRET) } else { Value::Null }});
        world.mint(&AuthorizedUser::from_json(user_with(changes)).unwrap(), &Want::default())
    };
    let token = refresh(&mut world, CLIENT_ID, REFRESH_TOKEN).unwrap();
    let revoke = |token: &str| Revocation::new(&ServerMetadata::google(), &client(), &token.into()).unwrap().exchange();
    world.run(revoke(token.access_token())).unwrap();
    // No client authentication goes along.
    assert_eq!(world.google().seen_at(Place::Revoke)[0].form(), [("token".into(), token.access_token().into())]);
    for (id, refresh_token, alive) in [
        (CLIENT_ID, REFRESH_TOKEN, false),
        ("sibling", "r-sibling", false),
        ("stranger", "r-stranger", true),
        (CLIENT_ID, "r-bob", true),
    ] {
        let result = refresh(&mut world, id, refresh_token);
        assert_eq!(result.is_ok(), alive, "{refresh_token}: {result:?}");
    }
    // What is revoked already is revoked.
    world.run(revoke(REFRESH_TOKEN)).unwrap();
    world.run(revoke("never-there")).unwrap();
}
