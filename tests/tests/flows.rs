//! The flows from end to end, in virtual time.

use std::time::{Duration, Instant};

use grantflow::machine::Repeat;
use grantflow::{
    Advice, Client, ClientAuthentication, Discovery, ErrorKind, Issuer, Revocation, Rotation, Scopes, Secret,
    TokenRequest, TokenType,
};
use grantflow_tests::demo::{self, batch, client};
use grantflow_tests::server::{Alter, Consent, Iss, RefreshTokens};
use grantflow_tests::{Fault, Place, Registered, Server, World, at_once};
use serde_json::json;

fn world() -> World {
    World::with(Server::demo())
}

fn world_with(change: impl FnOnce(&mut grantflow_tests::server::Settings)) -> World {
    World::with(Server::demo().with(change))
}

/// What the last request to a place had as a parameter.
fn last(world: &mut World, place: Place, name: &str) -> Option<String> {
    world.server().seen_at(place).last().expect("a request").param(name)
}

#[test]
fn a_person_signs_in_and_gets_what_was_asked() {
    let mut world = world();
    let asked = world.now.wall;
    let request = demo::request(world.server(), "openid email read").login_hint("bob").prompt("consent");
    let token = world.sign_in(request, &client()).unwrap();

    assert_eq!(token.token_type(), &TokenType::Bearer);
    assert_eq!(token.scopes(), &Scopes::from("openid email read"));
    assert_eq!(token.issued_at(), asked, "lifetimes count from when the request was sent");
    assert_eq!(token.expires_at(), Some(asked + Duration::from_secs(3600)));
    assert!(token.refresh_token().is_some() && token.deviations().is_empty());
    assert_eq!(token.authorization().unwrap().to_str().unwrap(), format!("Bearer {}", token.access_token()));
    let id_token = token.id_token().unwrap();
    assert_eq!((id_token.issuer(), id_token.subject()), ("https://as.example", "bob"));
    assert_eq!(id_token.verified_email(), Some("bob@example.com"));

    let now = world.now.wall;
    assert!(world.server().accepts(token.access_token(), now));
    assert_eq!(world.server().seen().len(), 2, "one look at the browser's page, one request for the token");
    assert_eq!(last(&mut world, Place::Token, "redirect_uri").as_deref(), Some(demo::REDIRECT));
    let sent = world.sent()[0];
    assert_eq!(
        (sent.repeat, sent.request.headers()["accept"].as_bytes()),
        (Repeat::OnlyIfUnsent, &b"application/json"[..])
    );
}

#[test]
fn without_openid_there_is_no_nonce_and_no_id_token() {
    let mut world = world();
    let token = demo::signed_in(&mut world, "read");
    assert!(token.id_token().is_none());
    assert_eq!(last(&mut world, Place::Authorize, "nonce"), None);
}

#[test]
fn plain_pkce_works_where_it_is_asked_by_name() {
    let mut world = world();
    let request = demo::request(world.server(), "read").plain_code_challenge();
    world.sign_in(request, &client()).unwrap();
    let challenge = last(&mut world, Place::Authorize, "code_challenge").unwrap();
    assert_eq!(last(&mut world, Place::Token, "code_verifier"), Some(challenge));
}

#[test]
fn a_given_code_verifier_is_used() {
    let mut world = world();
    let verifier = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
    let request = demo::request(world.server(), "read").code_verifier(verifier);
    world.sign_in(request, &client()).unwrap();
    assert_eq!(last(&mut world, Place::Token, "code_verifier").as_deref(), Some(verifier));
}

#[test]
fn every_client_authentication_signs_in() {
    let redirect = "https://app.example/callback";
    let odd = "p@ss word+%&=:~*";
    for (registered, authentication) in [
        (Registered::public("web app:1"), ClientAuthentication::none()),
        (Registered::basic("web app:1", odd), ClientAuthentication::client_secret_basic(odd)),
        (Registered::post("web app:1", odd), ClientAuthentication::client_secret_post(odd)),
    ] {
        let mut world = World::with(Server::new("https://as.example").client(registered.redirect_uri(redirect)));
        let client = Client::new("web app:1").authentication(authentication);
        let server = world.server().metadata();
        let request = grantflow::AuthorizationRequest::new(&server, &client, redirect).scopes("openid");
        let token = world.sign_in(request, &client).unwrap();
        let token = world.run(TokenRequest::refresh(&server, &client, &token).unwrap().exchange()).unwrap();
        let revocation = Revocation::new(&server, &client, token.refresh_token().unwrap()).unwrap();
        world.run(revocation.exchange()).unwrap();
        assert!(!{
            let now = world.now.wall;
            world.server().accepts(token.access_token(), now)
        });
    }
}

#[test]
fn the_users_no_comes_as_the_servers_error() {
    for (error, advice) in [
        ("access_denied", Some(Advice::SignInAgain)),
        ("login_required", Some(Advice::SignInAgain)),
        ("temporarily_unavailable", Some(Advice::TryLater)),
        ("invalid_scope", Some(Advice::FixConfiguration)),
        ("made_up", None),
    ] {
        let mut world = world_with(|settings| settings.consent = Consent::Deny(error));
        let request = demo::request(world.server(), "read");
        let told = world.sign_in(request, &client()).unwrap_err();
        assert_eq!((told.kind(), told.server().unwrap().error()), (ErrorKind::Authorization, error));
        assert_eq!(told.advice(), advice);
        assert!(world.sent().is_empty());
    }
}

#[test]
fn what_the_user_leaves_out_is_missing_from_the_scopes() {
    let mut world = world_with(|settings| settings.consent = Consent::Narrow(Scopes::from("read")));
    let token = demo::signed_in(&mut world, "read write");
    assert_eq!(token.scopes(), &Scopes::from("read"));
    assert_eq!(Scopes::from("read write").missing_from(token.scopes()).as_str(), "write");
}

#[test]
fn a_pending_authorization_survives_a_session_store() {
    let mut world = world();
    let authorization = at_once(demo::request(world.server(), "openid").start(), &mut world.cx()).unwrap();
    let stored = serde_json::to_string(&authorization.pending).unwrap();
    let redirect = world.person(&authorization.url);
    let pending: grantflow::PendingAuthorization = serde_json::from_str(&stored).unwrap();
    assert!(world.run(pending.finish(&client(), &redirect)).unwrap().id_token().is_some());
}

#[test]
fn an_endpoint_with_a_query_keeps_it() {
    let mut world = world_with(|settings| settings.extra_params.push("tenant"));
    let server = world.server().metadata().authorization_endpoint("https://as.example/authorize?tenant=a%20b").unwrap();
    let request = grantflow::AuthorizationRequest::new(&server, &client(), demo::REDIRECT).scopes("read");
    world.sign_in(request, &client()).unwrap();
    assert_eq!(last(&mut world, Place::Authorize, "tenant").as_deref(), Some("a b"));
}

// --- refresh

#[test]
fn a_refresh_keeps_replaces_and_learns() {
    let rotate = RefreshTokens::Rotate { grace: Duration::ZERO };
    for (habit, known, same, learned) in [
        (RefreshTokens::Stay, Rotation::Unknown, true, Rotation::Unknown),
        (RefreshTokens::Repeat, Rotation::Unknown, true, Rotation::Unknown),
        (RefreshTokens::Stay, Rotation::Never, true, Rotation::Never),
        (rotate, Rotation::Unknown, false, Rotation::Rotates),
        (rotate, Rotation::Never, false, Rotation::Rotates),
    ] {
        let mut world = world_with(|settings| settings.refresh_tokens = habit);
        let server = world.server().metadata().refresh_token_rotation(known);
        let request = grantflow::AuthorizationRequest::new(&server, &client(), demo::REDIRECT).scopes("openid read");
        let first = world.sign_in(request, &client()).unwrap();
        let old = first.refresh_token().unwrap().expose().to_owned();
        let second = world.run(TokenRequest::refresh(&server, &client(), &first).unwrap().exchange()).unwrap();
        let new = second.refresh_token().unwrap();
        assert_eq!(new.matches(&old), same, "{habit:?} {known:?}");
        assert_eq!(second.rotation(), learned, "{habit:?} {known:?}");
        assert_ne!(second.access_token(), first.access_token());
        assert_eq!(second.scopes(), first.scopes(), "what is not said again stays");
        assert_eq!(second.id_token().unwrap().subject(), "alice");
        // And what was learned holds at the next.
        let third = world.run(TokenRequest::refresh(&server, &client(), &second).unwrap().exchange()).unwrap();
        assert_eq!((third.rotation(), third.refresh_token().is_some()), (learned, true));
        let expected = if learned == Rotation::Never { Repeat::Freely } else { Repeat::OnlyIfUnsent };
        assert_eq!(world.sent().last().unwrap().repeat, expected);
    }
}

#[test]
fn a_refresh_may_ask_for_less() {
    let mut world = world();
    let first = demo::signed_in(&mut world, "read write");
    let server = world.server().metadata();
    let less = TokenRequest::refresh(&server, &client(), &first).unwrap().scopes("read").exchange();
    assert_eq!(world.run(less).unwrap().scopes(), &Scopes::from("read"));
    let more = TokenRequest::refresh(&server, &client(), &first).unwrap().scopes("read email").exchange();
    assert_eq!(world.run(more).unwrap_err().server().unwrap().error(), "invalid_scope");
}

#[test]
fn a_used_refresh_token_ends_the_family_and_the_advice_is_to_sign_in() {
    let mut world = world_with(|s| s.refresh_tokens = RefreshTokens::Rotate { grace: Duration::from_secs(30) });
    let first = demo::signed_in(&mut world, "read");
    let server = world.server().metadata();
    let refresh = |token| TokenRequest::refresh(&server, &client(), token).unwrap().exchange();
    world.run(refresh(&first)).unwrap();
    let second = world.run(refresh(&first)).expect("within the grace time the old one is still good");
    world.pass(Duration::from_secs(31));
    let error = world.run(refresh(&first)).unwrap_err();
    assert_eq!(error.server().unwrap().error(), "invalid_grant");
    assert_eq!((error.advice(), error.is_transient()), (Some(Advice::SignInAgain), false));
    let error = world.run(refresh(&second)).unwrap_err();
    assert_eq!(error.server().unwrap().error(), "invalid_grant", "the whole family is gone");
}

#[test]
fn a_kept_refresh_token_is_enough() {
    let mut world = world();
    let token = demo::signed_in(&mut world, "read");
    let (server, kept) = (world.server().metadata(), token.refresh_token().unwrap().clone());
    let request = TokenRequest::refresh_token(&server, &client(), &kept).unwrap().granted(Scopes::from("read"));
    let fresh = world.run(request.exchange()).unwrap();
    assert_eq!(fresh.scopes(), &Scopes::from("read"));
    assert!(fresh.refresh_token().unwrap().matches(kept.expose()));
}

#[test]
fn without_a_refresh_token_nothing_is_sent() {
    let mut world = world_with(|settings| settings.refresh_tokens = RefreshTokens::None);
    let token = demo::signed_in(&mut world, "read");
    let server = world.server().metadata();
    let error = TokenRequest::refresh(&server, &client(), &token).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(TokenRequest::refresh_token(&server, &client(), &Secret::from("")).is_err());
}

// --- revocation

#[test]
fn a_revoked_refresh_token_takes_its_access_tokens_along() {
    let mut world = world();
    let token = demo::signed_in(&mut world, "read");
    let (server, now) = (world.server().metadata(), world.now.wall);
    assert!(world.server().accepts(token.access_token(), now));
    let revocation = Revocation::new(&server, &client(), token.refresh_token().unwrap()).unwrap();
    world.run(revocation.token_type_hint("refresh_token").exchange()).unwrap();
    assert!(!world.server().accepts(token.access_token(), now));
    assert_eq!(last(&mut world, Place::Revoke, "token_type_hint").as_deref(), Some("refresh_token"));
    let error = world.run(TokenRequest::refresh(&server, &client(), &token).unwrap().exchange()).unwrap_err();
    assert_eq!(error.server().unwrap().error(), "invalid_grant");
}

#[test]
fn an_access_token_is_revoked_alone() {
    let mut world = world();
    let token = demo::signed_in(&mut world, "read");
    let server = world.server().metadata();
    let revocation = Revocation::new(&server, &client(), &token.access_token().into()).unwrap();
    world.run(revocation.exchange()).unwrap();
    let now = world.now.wall;
    assert!(!world.server().accepts(token.access_token(), now));
    world.run(TokenRequest::refresh(&server, &client(), &token).unwrap().exchange()).unwrap();
}

#[test]
fn what_counts_as_revoked() {
    let unknown = Secret::from("unknown-token");
    let invalid_token = r#"{"error":"invalid_token","error_description":"Token expired or revoked"}"#;
    for (fault, revoked) in [
        (None, true),
        (Some(Fault::status(200, "")), true),
        (Some(Fault::status(204, "")), true),
        (Some(Fault::html(200)), true),
        (Some(Fault::status(400, invalid_token)), true),
        (Some(Fault::status(401, invalid_token)), false),
        (Some(Fault::status(400, r#"{"error":"unsupported_token_type"}"#)), false),
        (Some(Fault::status(401, r#"{"error":"invalid_client"}"#)), false),
        (Some(Fault::status(404, "")), false),
        (Some(Fault::status(302, "").header("location", "https://as.example/")), false),
    ] {
        let mut world = world();
        let server = world.server().metadata();
        if let Some(fault) = fault.clone() {
            world.server().fail(Place::Revoke, fault);
        }
        let result = world.run(Revocation::new(&server, &client(), &unknown).unwrap().exchange());
        assert_eq!(result.is_ok(), revoked, "{fault:?}: {result:?}");
        assert_eq!(world.sent().len(), 1);
    }
    let mut world = world_with(|settings| settings.revoke_like_google = true);
    let server = world.server().metadata();
    world.run(Revocation::new(&server, &client(), &unknown).unwrap().exchange()).unwrap();
}

#[test]
fn googles_revocation_gets_the_token_alone() {
    let server = grantflow::ServerMetadata::google();
    let client = Client::new("x").authentication(ClientAuthentication::client_secret_post("s3cret"));
    let exchange = Revocation::new(&server, &client, &"tok".into()).unwrap().exchange();
    assert_eq!(exchange.request().to_http(&mut World::default().cx()).unwrap().body(), b"token=tok");
}

// --- client credentials and password

#[test]
fn a_client_gets_a_token_for_itself() {
    let mut world = world();
    let server = world.server().metadata();
    let request = TokenRequest::client_credentials(&server, &batch()).unwrap().scopes("read");
    let token = world.run(request.resource("https://api.example/a").resource("https://api.example/b").exchange());
    let token = token.unwrap();
    assert_eq!((token.scopes().as_str(), token.refresh_token().is_none()), ("read", true));
    assert_eq!(last(&mut world, Place::Token, "client_id"), None, "the header alone says who it is");
    let error = TokenRequest::client_credentials(&server, &client()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config, "a public client cannot prove itself");
}

#[test]
fn a_wrong_client_secret_is_told_as_the_servers_error() {
    let mut world = world();
    let server = world.server().metadata();
    let wrong = Client::new("batch").authentication(ClientAuthentication::client_secret_basic("wrong-secret"));
    let error = world.run(TokenRequest::client_credentials(&server, &wrong).unwrap().exchange()).unwrap_err();
    assert_eq!((error.kind(), error.status()), (ErrorKind::Server, Some(401)));
    assert_eq!(error.server().unwrap().error(), "invalid_client");
    assert_eq!((error.advice(), world.sent().len()), (Some(Advice::FixConfiguration), 1), "never tried another way");
}

#[test]
fn a_password_gets_a_token() {
    let mut world = World::with(Server::demo().user("älice", "wörd & löng=+%"));
    let server = world.server().metadata();
    let request = |user, password| TokenRequest::password(&server, &client(), user, password);
    let token = world.run(request("älice", "wörd & löng=+%").unwrap().scopes("read").exchange()).unwrap();
    assert!(token.refresh_token().is_some());
    let error = world.run(request("alice", "looking-glass").unwrap().exchange()).unwrap_err();
    assert_eq!(error.server().unwrap().error(), "invalid_grant");
    for (user, password) in [("", "x"), ("x", ""), ("x\ny", "x"), ("x", "y\r")] {
        assert_eq!(request(user, password).unwrap_err().kind(), ErrorKind::Config);
    }
}

// --- discovery

#[test]
fn discovery_finds_every_kind_of_issuer() {
    for issuer in
        ["https://as.example", "https://as.example/", "https://as.example/tenant", "https://as.example:8443/a/b/"]
    {
        for (openid, oauth, requests) in [(true, true, 1), (true, false, 1), (false, true, 2)] {
            let server = Server::new(issuer).with(|settings| {
                settings.openid_metadata = openid;
                settings.oauth_metadata = oauth;
            });
            let mut world = World::with(server);
            let expected = world.server().metadata();
            let found = world.run(Discovery::new(&Issuer::new(issuer).unwrap())).unwrap();
            assert_eq!(found.token().unwrap().as_str(), expected.token().unwrap().as_str());
            assert_eq!(found.get("scopes_supported"), expected.get("scopes_supported"));
            assert_eq!(world.sent().len(), requests, "{issuer}");
        }
    }
}

#[test]
fn one_kind_of_discovery_asks_one_address() {
    let issuer = Issuer::new("https://as.example/t").unwrap();
    for (discovery, place) in
        [(Discovery::openid(&issuer), Place::OpenIdMetadata), (Discovery::oauth(&issuer), Place::OAuthMetadata)]
    {
        let mut world = World::with(Server::new("https://as.example/t"));
        world.run(discovery).unwrap();
        assert_eq!(world.server().seen_at(place).len(), 1);
        let mut world = World::with(Server::new("https://as.example/t").with(|settings| {
            settings.openid_metadata = false;
            settings.oauth_metadata = false;
        }));
        let again = match place {
            Place::OpenIdMetadata => Discovery::openid(&issuer),
            _ => Discovery::oauth(&issuer),
        };
        assert_eq!(world.run(again).unwrap_err().status(), Some(404));
        assert_eq!(world.sent().len(), 1);
    }
}

#[test]
fn a_discovered_server_signs_people_in() {
    let mut world = world();
    let server = world.run(Discovery::new(&Issuer::new("https://as.example").unwrap())).unwrap();
    let client = client().registered_at(server.issuer().clone());
    let request = grantflow::AuthorizationRequest::new(&server, &client, demo::REDIRECT).scopes("openid");
    let authorization = at_once(request.start(), &mut world.cx()).unwrap();
    let redirect = world.person(&authorization.url);
    assert!(redirect.contains("&iss=https%3A%2F%2Fas.example"));
    assert!(world.run(authorization.pending.finish(&client, &redirect)).unwrap().id_token().is_some());
}

#[test]
fn a_client_is_never_shown_to_another_server() {
    let elsewhere = Client::new("demo").registered_at(Issuer::new("https://other.example").unwrap());
    let (server, secret) = (Server::demo().metadata(), Secret::from("x"));
    let kinds = [
        at_once(
            grantflow::AuthorizationRequest::new(&server, &elsewhere, demo::REDIRECT).start(),
            &mut World::default().cx(),
        )
        .map(drop),
        TokenRequest::refresh_token(&server, &elsewhere, &secret).map(drop),
        TokenRequest::password(&server, &elsewhere, "a", "b").map(drop),
        Revocation::new(&server, &elsewhere, &secret).map(drop),
    ];
    for result in kinds {
        assert_eq!(result.unwrap_err().kind(), ErrorKind::Issuer);
    }
}

// --- time

#[test]
fn a_sign_in_takes_no_real_time_whatever_it_waits() {
    let mut fastest = Duration::MAX;
    for _ in 0..50 {
        let mut world = world();
        let busy = Fault::status(503, "").header("retry-after", "7");
        world.server().fail(Place::OpenIdMetadata, busy);
        world.server().fail(Place::OpenIdMetadata, Fault::Delay(Duration::from_secs(9)));
        world.server().fail(Place::Token, Fault::Delay(Duration::from_secs(20)));
        let (began, start) = (world.now, Instant::now());
        let server = world.run(Discovery::new(&Issuer::new("https://as.example").unwrap())).unwrap();
        let request = grantflow::AuthorizationRequest::new(&server, &client(), demo::REDIRECT).scopes("openid email");
        let token = world.sign_in(request, &client()).unwrap();
        fastest = fastest.min(start.elapsed());
        assert!(token.id_token().is_some() && world.now.mono - began.mono > Duration::from_secs(36));
    }
    println!("discovery and sign-in, 36 virtual seconds: {fastest:?}");
    assert!(fastest < Duration::from_millis(if cfg!(debug_assertions) { 10 } else { 1 }), "{fastest:?}");
}

#[test]
fn the_server_may_keep_quiet_about_itself() {
    let mut world = world_with(|settings| {
        settings.iss = Iss::Absent;
        settings.alter_metadata = Alter::set("code_challenge_methods_supported", json!(null));
    });
    assert!(demo::signed_in(&mut world, "openid").id_token().is_some());
}
