//! Known attacks, and what comes of each: mix-up, forged and repeated answers, downgrades, injected
//! characters, redirects, leaks. (Sockets: `adapters.rs`; ID tokens: `id_token.rs`; bodies: `token_answers.rs`.)

use std::collections::BTreeSet;
use std::time::Duration;

use grantflow::exchange::Received;
use grantflow::google::ClientSecrets;
use grantflow::loopback::openable;
use grantflow::machine::FailureKind;
use grantflow::{
    AuthorizationRequest, Client, ClientAuthentication, Discovery, Effect, Endpoint, Error, ErrorKind, Event, Failure,
    InstalledApp, Issuer, Machine, Reply, Revocation, Secret, ServerMetadata, Step, TokenRequest,
};
use grantflow_tests::canary::{hidden, hidden_in_debug, hidden_in_error, shapes};
use grantflow_tests::demo::{self, REDIRECT, client};
use grantflow_tests::server::{Alter, Iss};
use grantflow_tests::{Fault, Place, Registered, Server, World};
use serde_json::json;

fn world() -> World {
    World::with(Server::demo())
}

fn query(url: &str) -> Vec<(String, String)> {
    let (_, query) = url.split_once('?').unwrap();
    url::form_urlencoded::parse(query.as_bytes()).into_owned().collect()
}

fn value(url: &str, name: &str) -> Option<String> {
    query(url).into_iter().find(|(key, _)| key == name).map(|(_, value)| value)
}

// --- mix-up and identity of servers

#[test]
fn an_answer_from_another_server_is_refused_before_any_request() {
    for iss in [
        "https://honest.example",
        "https://as.example/",
        "HTTPS://as.example",
        "https://AS.example",
        "https://as.example:443",
        "https://%61s.example",
        "as.example",
    ] {
        let mut world = World::with(Server::demo().with(|settings| settings.iss = Iss::Wrong(iss.into())))
            .and(Server::new("https://honest.example"));
        let request = demo::request(world.server(), "read");
        let error = world.sign_in(request, &client()).unwrap_err();
        assert_eq!((error.kind(), world.sent().len()), (ErrorKind::InvalidRedirect, 0), "{iss}");
    }
    // Not even its error is believed.
    let mut world = World::with(Server::demo().with(|settings| {
        settings.iss = Iss::Wrong("https://honest.example".into());
        settings.consent = grantflow_tests::server::Consent::Deny("access_denied");
    }));
    let request = demo::request(world.server(), "read");
    let error = world.sign_in(request, &client()).unwrap_err();
    assert!(error.kind() == ErrorKind::InvalidRedirect && error.server().is_none());
}

#[test]
fn an_iss_that_is_promised_and_missing_is_refused() {
    for (iss, good) in [(Iss::Right, true), (Iss::Absent, true), (Iss::Stripped, false)] {
        let mut world = World::with(Server::demo().with(|settings| settings.iss = iss.clone()));
        let request = demo::request(world.server(), "read");
        let result = world.sign_in(request, &client());
        assert_eq!(result.is_ok(), good, "{iss:?}");
        assert!(good || world.sent().is_empty());
    }
}

#[test]
fn metadata_that_names_another_issuer_is_of_no_use() {
    for named in ["https://honest.example", "https://as.example/", "https://AS.example", "https://as.example:443"] {
        let mut world = World::with(Server::demo().with(|s| s.alter_metadata = Alter::set("issuer", json!(named))))
            .and(Server::new("https://honest.example"));
        let error = world.run(Discovery::new(&Issuer::new("https://as.example").unwrap())).unwrap_err();
        assert_eq!((error.kind(), world.sent().len()), (ErrorKind::Issuer, 1), "{named}");
    }
}

#[test]
fn a_token_endpoint_that_changes_under_way_gets_no_code() {
    let mut world = world().and(Server::new("https://evil.example"));
    let authorization = demo::request(world.server(), "read").start(&mut world.cx()).unwrap();
    let redirect = world.person(&authorization.url);
    world.server().settings.alter_metadata = Alter::set("token_endpoint", json!("https://evil.example/token"));
    let changed = world.run(Discovery::new(&Issuer::new("https://as.example").unwrap())).unwrap();
    assert_eq!(changed.token().unwrap().as_str(), "https://evil.example/token");
    world.run(authorization.pending.finish(&client(), &redirect, world.now.wall).unwrap().exchange()).unwrap();
    let last = world.sent().last().unwrap().request.uri().to_string();
    assert_eq!(last, "https://as.example/token", "where the authorization request said");
}

#[test]
fn a_template_is_no_wildcard() {
    let issuer = Issuer::new("https://login.example/%7Btenantid%7D/v2.0").unwrap();
    for named in ["https://login.example/{tenantid}/v2.0", "https://login.example/some-tenant/v2.0"] {
        let json = json!({"issuer": named}).to_string();
        assert_eq!(ServerMetadata::from_json(json.as_bytes(), &issuer).unwrap_err().kind(), ErrorKind::Issuer);
    }
}

#[test]
fn addresses_that_no_browser_may_open_are_refused_where_they_come_in() {
    for address in [
        "file:///etc/passwd",
        "javascript:alert(1)",
        "data:text/html,x",
        "a:$(calc)",
        "-flag",
        "http://as.example/authorize",
        "http://169.254.169.254/authorize",
        "https://user@as.example/authorize",
        "https://as.example/a\" -x \"",
        "https://as.example/a b",
        "https://as.example/a\nb",
        "//as.example/authorize",
        "",
    ] {
        let issuer = Issuer::new("https://as.example").unwrap();
        for name in ["authorization_endpoint", "token_endpoint", "revocation_endpoint"] {
            let json = json!({"issuer": "https://as.example", name: address}).to_string();
            let error = ServerMetadata::from_json(json.as_bytes(), &issuer).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidResponse, "{name} {address:?}");
        }
        assert!(openable(address).is_err(), "{address:?}");
        assert!(Server::demo().metadata().token_endpoint(address).is_err(), "{address:?}");
    }
    assert!(Endpoint::new("https://as.example/#fragment").is_err());
    for (name, value) in [("token_endpoint", json!(1)), ("authorization_endpoint", json!(["https://as.example/"]))] {
        let json = json!({"issuer": "https://as.example", name: value}).to_string();
        let issuer = Issuer::new("https://as.example").unwrap();
        assert!(ServerMetadata::from_json(json.as_bytes(), &issuer).is_err());
    }
}

#[test]
fn a_url_made_for_the_browser_has_nothing_raw_in_it() {
    let client = Client::new("cli\"ent '$(id)` <b>&x=y#z");
    let request = AuthorizationRequest::new(&Server::demo().metadata(), &client, REDIRECT)
        .scopes("read&redirect_uri=https://evil.example")
        .login_hint("\"; calc & \u{202e}ä\n")
        .extra("custom", "a b+c&state=evil");
    let url = request.start(&mut World::default().cx()).unwrap().url;
    assert!(url.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~:/?&=+%*".contains(&byte)), "{url}");
    assert!(openable(&url).is_ok());
    let pairs = query(&url);
    let names: BTreeSet<_> = pairs.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names.len(), pairs.len(), "nothing is there twice: {pairs:?}");
    assert_eq!(value(&url, "redirect_uri").as_deref(), Some(REDIRECT));
    assert_eq!(value(&url, "scope").as_deref(), Some("read&redirect_uri=https://evil.example"));
}

#[test]
fn fake_punycode_is_another_host() {
    for fake in ["https://xn--example-.com", "https://xn--a-ecp.example", "https://example.com.", "https://EXAMPLE.com"]
    {
        let genuine = Issuer::new("https://example.com").unwrap();
        assert!(Issuer::new(fake).map_or(true, |issuer| issuer != genuine), "{fake}");
        if !fake.contains("EXAMPLE") {
            let same =
                Endpoint::new(fake).is_ok_and(|e| e.as_str() == Endpoint::new("https://example.com").unwrap().as_str());
            assert!(!same, "{fake}");
        }
    }
}

// --- forged, repeated and late answers

#[test]
fn only_the_answer_with_our_state_is_taken() {
    let mut world = world();
    let other = demo::request(world.server(), "read").start(&mut world.cx()).unwrap();
    let authorization = demo::request(world.server(), "read").start(&mut world.cx()).unwrap();
    let (state, foreign) = (value(&authorization.url, "state").unwrap(), value(&other.url, "state").unwrap());
    let upper = state.to_ascii_uppercase();
    let iss = "iss=https%3A%2F%2Fas.example";
    for (redirect, good) in [
        (format!("{REDIRECT}?code=c&state={state}&{iss}"), true),
        (format!("?code=c&state={state}&{iss}"), true),
        (format!("code=c&state={state}&{iss}&unknown=1&unknown=2"), true),
        (format!("{REDIRECT}?code=c&state={state}&{iss}#_=_"), true),
        (format!("code=c&state={foreign}&{iss}"), false),
        (format!("code=c&state={upper}&{iss}"), false),
        (format!("code=c&state={}&{iss}", &state[1..]), false),
        (format!("code=c&state={state}x&{iss}"), false),
        (format!("code=c&state=&{iss}"), false),
        (format!("code=c&{iss}"), false),
        (format!("code=c&state={state}&state={state}&{iss}"), false),
        (format!("code=c&state={foreign}&state={state}&{iss}"), false),
        (format!("code=c&code=d&state={state}&{iss}"), false),
        (format!("code=c&error=x&state={state}&{iss}"), false),
        (format!("code=&state={state}&{iss}"), false),
        (format!("state={state}&{iss}"), false),
        (format!("code=c&state={state}&{iss}&{iss}"), false),
        (format!("error=a&error=b&state={state}&{iss}"), false),
        (format!("error=access_denied&{iss}"), false),
        (format!("error=access_denied&state={foreign}&{iss}"), false),
        (format!("{REDIRECT}#code=c&state={state}&{iss}"), false),
        (format!("code=c&state={state}&{iss}{}", "&x=y".repeat(20_000)), false),
        (String::new(), false),
        ("?".into(), false),
        ("https://".into(), false),
    ] {
        let result = authorization.pending.receive(&redirect, world.now.wall);
        assert_eq!(result.is_ok(), good, "{redirect}: {result:?}");
        if let Err(error) = result {
            assert_eq!(error.kind(), ErrorKind::InvalidRedirect, "{redirect}");
            hidden_in_error(&error, &[&state, &foreign]);
        }
    }
}

#[test]
fn an_answer_that_comes_too_late_is_told_as_such() {
    let mut world = world();
    let lifetime = Duration::from_secs(300);
    let authorization = demo::request(world.server(), "read").lifetime(lifetime).start(&mut world.cx()).unwrap();
    let (redirect, made) = (world.person(&authorization.url), world.now.wall);
    assert_eq!(authorization.pending.expires_at(), made + lifetime);
    assert!(authorization.pending.receive(&redirect, made + lifetime).is_ok());
    let late = made + lifetime + Duration::from_millis(1);
    assert_eq!(authorization.pending.receive(&redirect, late).unwrap_err().kind(), ErrorKind::Expired);
    // A stranger's late answer is a stranger's answer.
    assert_eq!(authorization.pending.receive("code=x&state=y", late).unwrap_err().kind(), ErrorKind::InvalidRedirect);
    // A clock set back in between does not end it.
    assert!(authorization.pending.receive(&redirect, made - Duration::from_secs(3600)).is_ok());
}

#[test]
fn a_second_use_of_an_answer_gets_nothing_and_ends_what_the_first_got() {
    let mut world = world();
    let authorization = demo::request(world.server(), "read").start(&mut world.cx()).unwrap();
    let stored = serde_json::to_string(&authorization.pending).unwrap();
    let redirect = world.person(&authorization.url);
    let first = world.run(authorization.pending.finish(&client(), &redirect, world.now.wall).unwrap().exchange());
    let again: grantflow::PendingAuthorization = serde_json::from_str(&stored).unwrap();
    let error = world.run(again.finish(&client(), &redirect, world.now.wall).unwrap().exchange()).unwrap_err();
    assert_eq!(error.server().unwrap().error(), "invalid_grant");
    let now = world.now.wall;
    assert!(!world.server().accepts(first.unwrap().access_token(), now), "that is why it must be used once");
}

#[test]
fn a_stored_authorization_that_was_tampered_with_leads_nowhere_unsafe() {
    let mut world = world();
    let authorization = demo::request(world.server(), "read").start(&mut world.cx()).unwrap();
    let stored = serde_json::to_value(&authorization.pending).unwrap();
    for (name, value) in [
        ("token_endpoint", json!("http://evil.example/token")),
        ("token_endpoint", json!("javascript:x")),
        ("issuer", json!("not an address")),
        ("issuer", json!("http://evil.example")),
        ("code_verifier", json!(null)),
        ("state", json!(1)),
    ] {
        let mut spoiled = stored.clone();
        assert!(spoiled.get(name).is_some(), "{name} is a member: {stored}");
        spoiled[name] = value.clone();
        assert!(serde_json::from_value::<grantflow::PendingAuthorization>(spoiled).is_err(), "{name} = {value}");
    }
}

// --- PKCE and randomness

#[test]
fn pkce_is_always_there_and_never_weakened() {
    let mut world = world();
    let refused = "{\"error\":\"invalid_request\",\"error_description\":\"code_verifier is unknown\"}";
    world.server().fail(Place::Token, Fault::status(400, refused));
    let request = demo::request(world.server(), "read");
    let error = world.sign_in(request, &client()).unwrap_err();
    assert_eq!((error.server().unwrap().error(), world.sent().len()), ("invalid_request", 1), "no second try without");
    for (methods, s256, plain) in [
        (json!(null), true, true),
        (json!(["S256"]), true, false),
        (json!(["plain"]), false, true),
        (json!(["plain", "S256"]), true, true),
        (json!([]), false, false),
    ] {
        let server = Server::demo().metadata().member("code_challenge_methods_supported", methods.clone());
        let request = || AuthorizationRequest::new(&server, &client(), REDIRECT);
        let cx = &mut World::default().cx();
        let started = request().start(cx);
        assert_eq!(started.is_ok(), s256, "{methods}");
        if let Ok(authorization) = started {
            assert_eq!(value(&authorization.url, "code_challenge_method").as_deref(), Some("S256"));
            assert_eq!(value(&authorization.url, "code_challenge").unwrap().len(), 43);
        }
        assert_eq!(request().plain_code_challenge().start(cx).is_ok(), plain, "{methods}");
    }
}

#[test]
fn a_thousand_requests_share_nothing() {
    let (mut world, mut seen) = (world(), BTreeSet::new());
    for _ in 0..1000 {
        let authorization = demo::request(world.server(), "openid").start(&mut world.cx()).unwrap();
        let stored = serde_json::to_value(&authorization.pending).unwrap();
        for name in ["state", "nonce", "code_challenge"] {
            seen.insert(value(&authorization.url, name).unwrap());
        }
        let verifier = stored["code_verifier"].as_str().unwrap();
        assert!(verifier.len() == 43 && !authorization.url.contains(verifier));
        seen.insert(verifier.to_owned());
    }
    assert_eq!(seen.len(), 4000);
}

#[test]
fn without_entropy_nothing_begins() {
    let mut cx = grantflow::Cx::without_entropy(World::default().now);
    let error = demo::request(&Server::demo(), "read").start(&mut cx).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Entropy);
}

#[test]
fn what_makes_the_flow_safe_cannot_be_set_as_an_extra_parameter() {
    let server = Server::demo().metadata();
    for name in [
        "response_type",
        "client_id",
        "redirect_uri",
        "scope",
        "state",
        "nonce",
        "code_challenge",
        "code_challenge_method",
        "request",
        "request_uri",
        "client_secret",
        "",
        "a b",
        "a&b",
        "ä",
    ] {
        let request = AuthorizationRequest::new(&server, &client(), REDIRECT).extra(name, "x");
        assert_eq!(request.start(&mut World::default().cx()).unwrap_err().kind(), ErrorKind::Config, "{name:?}");
    }
    for name in [
        "grant_type",
        "client_id",
        "client_secret",
        "code",
        "code_verifier",
        "refresh_token",
        "username",
        "password",
        "scope",
        "redirect_uri",
        "client_assertion",
        "assertion",
        "token",
    ] {
        let request = TokenRequest::password(&server, &client(), "alice", "x").unwrap().scopes("read").extra(name, "x");
        assert_eq!(request.exchange().request().to_http().unwrap_err().kind(), ErrorKind::Config, "{name}");
    }
}

// --- characters that break out

#[test]
fn characters_that_no_request_may_hold_are_refused_before_it_is_sent() {
    let server = Server::demo().metadata();
    for bad in ["a\rb", "a\nb", "a\0b", "a\u{7f}b", "ä", "a\u{2028}b", "\u{feff}a"] {
        let mut errors: Vec<Error> = Vec::new();
        let mut check = |request: Result<TokenRequest, Error>| {
            errors.push(request.and_then(|request| request.exchange().request().to_http()).unwrap_err());
        };
        let secret = Secret::from(bad);
        check(TokenRequest::refresh_token(&server, &client(), &secret));
        check(TokenRequest::refresh_token(&server, &Client::new(bad), &"x".into()));
        check(TokenRequest::client_credentials(&server, &demo::batch()).map(|request| request.scopes(bad)));
        for authentication in [
            ClientAuthentication::client_secret_basic(bad),
            ClientAuthentication::client_secret_basic_unencoded(bad),
            ClientAuthentication::client_secret_post(bad),
        ] {
            check(TokenRequest::client_credentials(&server, &Client::new("a").authentication(authentication)));
        }
        let cx = &mut World::default().cx();
        let request = || AuthorizationRequest::new(&server, &client(), REDIRECT);
        errors.push(request().scopes(bad).start(cx).unwrap_err());
        errors.push(request().code_verifier(bad.repeat(20)).start(cx).unwrap_err());
        errors.push(AuthorizationRequest::new(&server, &Client::new(bad), REDIRECT).start(cx).unwrap_err());
        errors.push(
            AuthorizationRequest::new(&server, &client(), format!("https://app.example/{bad}")).start(cx).unwrap_err(),
        );
        let revocation = Revocation::new(&server, &client(), &secret).unwrap().exchange();
        errors.push(revocation.request().to_http().unwrap_err());
        for error in errors {
            assert_eq!(error.kind(), ErrorKind::Config, "{bad:?}: {error}");
            assert!(!error.to_string().chars().any(|c| c.is_control() || c == '\u{2028}'), "{error:?}");
        }
    }
}

#[test]
fn a_code_with_a_line_end_is_not_sent() {
    let mut world = world();
    let authorization = demo::request(world.server(), "read").start(&mut world.cx()).unwrap();
    let state = value(&authorization.url, "state").unwrap();
    let redirect = format!("code=a%0d%0aX-Injected:%201&state={state}&iss=https%3A%2F%2Fas.example");
    let result = authorization.pending.finish(&client(), &redirect, world.now.wall);
    let error = result.and_then(|request| world.run(request.exchange())).unwrap_err();
    assert!(world.sent().is_empty(), "{error}");
    hidden("the error", &error.to_string(), &["X-Injected"]);
}

#[test]
fn a_scope_is_one_value_whatever_it_holds() {
    let server = Server::demo().metadata();
    let request = TokenRequest::client_credentials(&server, &demo::batch()).unwrap().scopes("read&client_id=evil=+%26");
    let body = request.exchange().request().to_http().unwrap().into_body();
    let pairs: Vec<_> = url::form_urlencoded::parse(&body).into_owned().collect();
    assert_eq!(pairs[1], ("scope".into(), "read&client_id=evil=+%26".into()));
    assert_eq!(pairs.len(), 2);
}

// --- redirects and other answers that lead astray

#[test]
fn no_redirect_is_followed_by_anything() {
    for status in [301, 302, 303, 307, 308] {
        for location in ["https://evil.example/token", "http://as.example/token", "https://as.example:444/", "/token"] {
            let mut world = world().and(Server::new("https://evil.example"));
            let token = demo::signed_in(&mut world, "read");
            let (server, before) = (world.server().metadata(), world.sent().len());
            for place in [Place::Token, Place::Revoke, Place::OpenIdMetadata] {
                world.server().fail(place, Fault::status(status, "").header("location", location));
            }
            let refresh = TokenRequest::refresh(&server, &client(), &token).unwrap().exchange();
            let revoke = Revocation::new(&server, &client(), token.refresh_token().unwrap()).unwrap().exchange();
            let discover = Discovery::new(&Issuer::new("https://as.example").unwrap());
            let errors = [
                world.run(refresh).map(drop).unwrap_err(),
                world.run(revoke).unwrap_err(),
                world.run(discover).map(drop).unwrap_err(),
            ];
            assert_eq!(world.sent().len() - before, 3, "{status} {location}");
            for error in errors {
                assert_eq!((error.kind(), error.status()), (ErrorKind::InvalidResponse, Some(status)));
                assert!(error.to_string().contains("redirects") && !error.to_string().contains("evil"), "{error}");
            }
        }
    }
}

#[test]
fn bodies_without_end_are_given_up() {
    for place in [Place::Token, Place::OpenIdMetadata] {
        let mut world = world();
        world.server().fail(place, Fault::Endless);
        let result = match place {
            Place::Token => {
                let server = world.server().metadata();
                world.run(TokenRequest::client_credentials(&server, &demo::batch()).unwrap().exchange()).map(drop)
            }
            _ => world.run(Discovery::new(&Issuer::new("https://as.example").unwrap())).map(drop),
        };
        assert_eq!(result.unwrap_err().kind(), ErrorKind::InvalidResponse);
        assert_eq!(world.sent().len(), 1);
        let max = if place == Place::Token { 1024 * 1024 } else { 256 * 1024 };
        assert_eq!(world.sent()[0].max_body, max);
    }
}

#[test]
fn metadata_that_is_no_metadata_is_told_as_such() {
    let issuer = Issuer::new("https://as.example").unwrap();
    let deep = format!("{{\"issuer\":\"https://as.example\",\"x\":{}{}}}", "[".repeat(100_000), "]".repeat(100_000));
    let large = format!("{{\"issuer\":\"https://as.example\",\"x\":\"{}\"}}", "x".repeat(256 * 1024));
    for text in [
        "",
        "null",
        "[]",
        "\"https://as.example\"",
        "{}",
        "{\"issuer\":1}",
        "{\"issuer\":null}",
        "<html>",
        &deep,
        &large,
    ] {
        let error = ServerMetadata::from_json(text.as_bytes(), &issuer).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidResponse, "{}", &text[..text.len().min(40)]);
    }
    assert!(ServerMetadata::from_json("\u{feff}{\"issuer\":\"https://as.example\"}".as_bytes(), &issuer).is_ok());
}

// --- leaks

const CANARIES: [&str; 6] = [
    "c4n4ry-cl1ent-s3cret/+=",
    "c4n4ry-passw0rd &%",
    "c4n4ry-r3fresh",
    "c4n4ry-acc3ss",
    "c4n4ry-verif1er",
    "c4n4ry-c0de",
];

/// Everything public that holds a secret, by its `Debug`.
#[test]
fn no_public_type_shows_a_secret() {
    let [client_secret, password, refresh, access, verifier, code] = CANARIES;
    let verifier = verifier.repeat(3);
    let secrets = [client_secret, password, refresh, access, &verifier, code];
    let shown = |what: &str, value: &dyn std::fmt::Debug| hidden_in_debug(what, value, &secrets);
    let mut world = World::with(
        Server::new("https://as.example")
            .client(Registered::post("app", client_secret).redirect_uri(REDIRECT))
            .user("alice", password),
    );
    world.server().settings.alter_token = Alter::by(move |answer| {
        answer["access_token"] = access.into();
        answer["refresh_token"] = refresh.into();
        answer["unknown_secret"] = code.into();
    });
    world.server().settings.alter_id_claims = Alter::set("at_hash", json!(null));
    for authentication in [
        ClientAuthentication::client_secret_post(client_secret),
        ClientAuthentication::client_secret_basic(client_secret),
        ClientAuthentication::client_secret_basic_unencoded(client_secret),
    ] {
        shown("an authentication", &authentication);
        shown("a client", &Client::new("app").authentication(authentication));
    }
    let client = Client::new("app").authentication(ClientAuthentication::client_secret_post(client_secret));
    let server = world.server().metadata();
    shown("a server", &server);
    shown("a secret", &Secret::from(client_secret));
    shown("a context", &world.cx());

    let request = AuthorizationRequest::new(&server, &client, REDIRECT).scopes("openid").code_verifier(&*verifier);
    let request = request.login_hint("c4n4ry-h1nt").extra("id_token_hint", access);
    shown("an authorization request", &request);
    hidden_in_debug("an authorization request", &request, &["c4n4ry-h1nt"]);
    let authorization = request.start(&mut world.cx()).unwrap();
    hidden("the URL", &authorization.url, &[client_secret, password, refresh, &verifier, code]);
    let state = value(&authorization.url, "state").unwrap();
    let nonce = value(&authorization.url, "nonce").unwrap();
    hidden_in_debug("an authorization", &authorization, &[&*verifier, &*state, &*nonce, "c4n4ry-h1nt"]);
    let redirect = format!("code={code}&state={state}&iss=https%3A%2F%2Fas.example");
    shown("a code", &authorization.pending.receive(&redirect, world.now.wall).unwrap());
    let request = authorization.pending.finish(&client, &redirect, world.now.wall).unwrap();
    shown("a token request", &request);
    let mut exchange = request.exchange();
    shown("an exchange", &exchange);
    shown("a request", exchange.request());
    let step = exchange.resume(&mut world.cx(), Reply::Start);
    shown("a step", &step);
    let Step::Do(effect) = step else { panic!() };
    shown("an event", &Event::Effect(&effect));
    let Effect::Http(call) = &effect else { panic!() };
    assert!(String::from_utf8_lossy(call.request.body()).contains(code), "it is in there");
    shown("a call", call);

    let token = world.run(TokenRequest::password(&server, &client, "alice", password).unwrap().exchange()).unwrap();
    assert_eq!((token.access_token(), token.refresh_token().unwrap().expose()), (access, refresh));
    shown("a token", &token);
    shown("a header", token.authorization().unwrap());
    shown("a refresh", &TokenRequest::refresh(&server, &client, &token).unwrap());
    shown("a password", &TokenRequest::password(&server, &client, "alice", password).unwrap());
    shown("a revocation", &Revocation::new(&server, &client, token.refresh_token().unwrap()).unwrap());
    let mut response = http::Response::new(format!("{{\"access_token\":\"{access}\"}}").into_bytes());
    response.headers_mut().insert("set-cookie", access.parse().unwrap());
    shown("an answer", &Received { response: &response, sent: world.now.wall, now: world.now.wall });
    let reply = Reply::Http(response);
    shown("a reply", &reply);
    shown("an event", &Event::Reply(&reply));
    shown("a file", &Reply::File(client_secret.into()));
    shown("a variable", &Reply::Env(Some(client_secret.into())));

    let file = json!({"web": {"client_id": "app", "client_secret": client_secret,
        "auth_uri": "https://accounts.google.com/o/oauth2/auth", "token_uri": "https://oauth2.googleapis.com/token"}});
    let secrets_file = ClientSecrets::from_json(file.to_string()).unwrap();
    shown("a client file", &secrets_file);
    let app = InstalledApp::google(&secrets_file).port(50123).login_hint("alice");
    shown("an installed application", &app);
    let receiver = app.start(50123, &mut world.cx()).unwrap();
    hidden_in_debug("a receiver", &receiver, &[&value(receiver.url(), "state").unwrap()]);
}

#[test]
fn an_id_token_and_its_claims_show_only_names() {
    let mut world =
        World::with(Server::demo().with(|s| s.alter_id_claims = Alter::set("email", json!("c4n4ry@x.example"))));
    let token = demo::signed_in(&mut world, "openid email");
    let id_token = token.id_token().unwrap();
    let text = id_token.as_secret().expose();
    for value in [id_token as &dyn std::fmt::Debug, id_token.claims(), &token] {
        hidden_in_debug("an ID token", value, &[text, "c4n4ry@x.example"]);
    }
}

#[test]
fn no_error_shows_what_a_server_sends_back() {
    let [client_secret, password, refresh, ..] = CANARIES;
    for secret in [client_secret, password, refresh] {
        for shape in shapes(secret).into_iter().take(2) {
            // In the middle, at both ends, with a character inside that no terminal shows.
            let split = format!("{}\u{200b}{}", &shape[..5], &shape[5..]);
            let texts = [shape.clone(), format!("before {shape} after {shape}"), "x".repeat(495) + &shape, split];
            for text in texts {
                for body in [
                    json!({"error": "invalid_grant", "error_description": text}),
                    json!({"error": text}),
                    json!({"error": "x", "error_uri": format!("https://x.example/?{text}")}),
                    json!({"error": {"message": text, "type": text}}),
                    json!({"error": "invalid_grant", "error_subtype": text}),
                    json!(text),
                    json!({"access_token": 1, "echo": text}),
                ] {
                    for status in [200, 400, 500] {
                        leak_nothing(secret, status, "application/json", &body.to_string());
                    }
                }
                leak_nothing(secret, 400, "text/html", &format!("<p>{text}"));
                let form: String = url::form_urlencoded::byte_serialize(text.as_bytes()).collect();
                let form = format!("error=invalid_grant&error_description={form}");
                leak_nothing(secret, 400, "application/x-www-form-urlencoded", &form);
            }
        }
    }
}

/// A request that holds the secret gets this answer; its error must not hold it.
fn leak_nothing(secret: &str, status: u16, content_type: &str, body: &str) {
    let mut world = world();
    let server = world.server().metadata();
    let by_secret = [
        ClientAuthentication::client_secret_post(secret),
        ClientAuthentication::client_secret_basic(secret),
        ClientAuthentication::client_secret_basic_unencoded(secret),
    ]
    .map(|authentication| TokenRequest::client_credentials(&server, &Client::new("a").authentication(authentication)));
    let others = [
        TokenRequest::password(&server, &client(), "alice", secret),
        TokenRequest::refresh_token(&server, &client(), &secret.into()),
    ];
    for request in by_secret.into_iter().chain(others) {
        for _ in 0..4 {
            world.server().fail(Place::Token, Fault::with_type(status, content_type, body));
        }
        let error = world.run(request.unwrap().exchange()).unwrap_err();
        let texts = error.server().map(|server| format!("{server:?} {server}")).unwrap_or_default();
        hidden("the server's words", &texts, &[secret]);
        hidden_in_error(&error, &[secret]);
        world = self::world();
    }
}

#[test]
fn no_error_shows_the_query_of_an_address() {
    let mut world = world();
    let endpoint = "https://as.example/elsewhere?api_key=c4n4ry-k3y";
    let server = world.server().metadata().token_endpoint(endpoint).unwrap();
    let machine = || TokenRequest::client_credentials(&server, &demo::batch()).unwrap().exchange();
    hidden_in_debug("a server", &server, &["c4n4ry-k3y"]);
    hidden_in_debug("an exchange", &machine(), &["c4n4ry-k3y"]);
    for failure in [None, Some(Failure::not_sent(FailureKind::Tls, "handshake"))] {
        failure.into_iter().for_each(|failure| world.fail(failure));
        let error = world.run(machine()).unwrap_err();
        assert!(error.to_string().contains("https://as.example/elsewhere"), "{error}");
        hidden_in_error(&error, &["c4n4ry-k3y"]);
    }
    for address in
        ["https://user:c4n4ry-k3y@as.example/", "http://as.example/?c4n4ry-k3y", "https://as.example/#c4n4ry-k3y"]
    {
        hidden_in_error(&Endpoint::new(address).unwrap_err(), &["c4n4ry-k3y"]);
        hidden_in_error(&Issuer::new(address).unwrap_err(), &["c4n4ry-k3y"]);
        let request = AuthorizationRequest::new(&Server::demo().metadata(), &client(), address);
        hidden_in_error(&request.start(&mut World::default().cx()).unwrap_err(), &["c4n4ry-k3y"]);
    }
}

#[test]
fn no_client_file_error_shows_its_content() {
    for file in [
        r#"{"installed":{"client_secret":"c4n4ry-s3cret"}}"#,
        r#"{"installed":{"client_id":["c4n4ry-s3cret"],"client_secret":"c4n4ry-s3cret"}}"#,
        r#"{"installed":"c4n4ry-s3cret"}"#,
        r#"{"installed":{"client_id":"x","client_secret":{"a":"c4n4ry-s3cret"},"auth_uri":"https://accounts.google.com/","token_uri":"https://oauth2.googleapis.com/token"}}"#,
        r#"{"web":{"client_id":"x","client_secret":"c4n4ry-s3cret","auth_uri":"https://evil.example/?c4n4ry-s3cret","token_uri":"https://oauth2.googleapis.com/token"}}"#,
        r#"{"type":"service_account","private_key":"c4n4ry-s3cret"}"#,
        r#"{"c4n4ry-s3cret"#,
        r#"c4n4ry-s3cret"#,
        r#"["c4n4ry-s3cret"]"#,
    ] {
        hidden_in_error(&ClientSecrets::from_json(file).unwrap_err(), &["c4n4ry-s3cret"]);
    }
}

/// Compiles only if the type has not the trait: else the call is ambiguous.
macro_rules! assert_not_impl {
    ($($type:ty: $trait:path),*) => {$({
        trait Ambiguous<A> { fn check() {} }
        impl<T: ?Sized> Ambiguous<()> for T {}
        struct Marker;
        impl<T: ?Sized + $trait> Ambiguous<Marker> for T {}
        <$type as Ambiguous<_>>::check();
    })*};
}

#[test]
fn secrets_are_neither_compared_nor_printed_nor_stored_by_accident() {
    assert_not_impl!(
        Secret: PartialEq,
        Secret: std::fmt::Display,
        Secret: serde::Serialize,
        Secret: AsRef<str>,
        grantflow::Token: serde::Serialize,
        grantflow::Token: std::fmt::Display,
        grantflow::jose::IdToken: serde::Serialize,
        Client: serde::Serialize,
        ClientSecrets: serde::Serialize,
        grantflow::Cx: Clone,
        grantflow::PendingAuthorization: Clone
    );
    assert!(Secret::from("abc").matches("abc") && !Secret::from("abc").matches("abd"));
}
