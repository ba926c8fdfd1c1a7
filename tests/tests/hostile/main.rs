//! Known attacks, and what comes of each: mix-up, forged and repeated answers, downgrades, injected
//! characters, redirects. (Leaks: `leaks.rs`; sockets: `adapters/`; ID tokens: `id_token.rs`; bodies: `token_answers.rs`.)

mod astray;

use std::collections::BTreeSet;
use std::time::Duration;

use grantflow::loopback::{Heard, openable};
use grantflow::machine::FailureKind;
use grantflow::{
    Advice, AuthorizationRequest, Client, ClientAuthentication, Discovery, Endpoint, Error, ErrorKind, Failure,
    InstalledApp, Issuer, Revocation, Secret, ServerMetadata, TokenRequest,
};
use grantflow_tests::canary::{hidden, hidden_in_error};
use grantflow_tests::demo::{self, REDIRECT, client};
use grantflow_tests::server::{Alter, Iss};
use grantflow_tests::{Fault, Place, Server, World, at_once};
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
        assert_eq!((error.kind(), world.sent().len()), (ErrorKind::Issuer, 2), "{named}");
    }
}

#[test]
fn a_token_endpoint_that_changes_under_way_gets_no_code() {
    let mut world = world().and(Server::new("https://evil.example"));
    let authorization = at_once(demo::request(world.server(), "read").start(), &mut world.cx()).unwrap();
    let redirect = world.person(&authorization.url);
    world.server().settings.alter_metadata = Alter::set("token_endpoint", json!("https://evil.example/token"));
    let changed = world.run(Discovery::new(&Issuer::new("https://as.example").unwrap())).unwrap();
    assert_eq!(changed.token().unwrap().as_str(), "https://evil.example/token");
    world.run(authorization.pending.finish(&client(), &redirect)).unwrap();
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
            let server = ServerMetadata::from_json(json.as_bytes(), &issuer).unwrap();
            let endpoints = [server.authorization(), server.token(), server.revocation()];
            assert!(endpoints.into_iter().all(|endpoint| endpoint.is_err()), "{name} {address:?}");
        }
        assert!(openable(address).is_err(), "{address:?}");
        assert!(Server::demo().metadata().token_endpoint(address).is_err(), "{address:?}");
    }
    assert!(Endpoint::new("https://as.example/#fragment").is_err());
}

#[test]
fn a_url_made_for_the_browser_has_nothing_raw_in_it() {
    let client = Client::new("cli\"ent '$(id)` <b>&x=y#z");
    let request = AuthorizationRequest::new(&Server::demo().metadata(), &client, REDIRECT)
        .scopes("read&redirect_uri=https://evil.example")
        .login_hint("\"; calc & \u{202e}ä\n")
        .extra("custom", "a b+c&state=evil");
    let url = at_once(request.start(), &mut World::default().cx()).unwrap().url;
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
    let other = at_once(demo::request(world.server(), "read").start(), &mut world.cx()).unwrap();
    let authorization = at_once(demo::request(world.server(), "read").start(), &mut world.cx()).unwrap();
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
        (format!("{REDIRECT}#code=c&state={state}&{iss}"), true),
        (format!("{REDIRECT}#code=c&state={foreign}&{iss}"), false),
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
fn the_receiver_waits_on_over_a_state_in_another_case() {
    let mut world = world();
    let app = InstalledApp::new(&world.server().metadata(), &client()).scopes("read");
    let mut receiver = world.run(app.start(50123)).unwrap();
    let (state, now) = (value(receiver.url(), "state").unwrap(), world.now.wall);
    let mut is_answered_by = |state: &str| {
        let target = format!("/?code=c&state={state}&iss=https%3A%2F%2Fas.example");
        let request = format!("GET {target} HTTP/1.1\r\nHost: 127.0.0.1:50123\r\n\r\n");
        matches!(receiver.hear(request.as_bytes(), now), Heard::Answered(_))
    };
    for other in [state.to_ascii_uppercase(), state.to_ascii_lowercase()] {
        assert!(other != state && !is_answered_by(&other));
    }
    assert!(is_answered_by(&state));
}

#[test]
fn an_answer_that_comes_too_late_is_told_as_such() {
    let mut world = world();
    let lifetime = Duration::from_secs(300);
    let authorization =
        at_once(demo::request(world.server(), "read").lifetime(lifetime).start(), &mut world.cx()).unwrap();
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
    let authorization = at_once(demo::request(world.server(), "read").start(), &mut world.cx()).unwrap();
    let stored = serde_json::to_string(&authorization.pending).unwrap();
    let redirect = world.person(&authorization.url);
    let first = world.run(authorization.pending.finish(&client(), &redirect));
    let again: grantflow::PendingAuthorization = serde_json::from_str(&stored).unwrap();
    let error = world.run(again.finish(&client(), &redirect)).unwrap_err();
    assert_eq!(error.server().unwrap().error(), "invalid_grant");
    let now = world.now.wall;
    assert!(!world.server().accepts(first.unwrap().access_token(), now), "that is why it must be used once");
}

#[test]
fn a_stored_authorization_that_was_tampered_with_leads_nowhere_unsafe() {
    let mut world = world();
    let authorization = at_once(demo::request(world.server(), "read").start(), &mut world.cx()).unwrap();
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

/// What is compared by `==` may be compared byte by byte.
#[test]
fn a_secret_is_compared_in_constant_time_alone() {
    struct Probe<T>(std::marker::PhantomData<T>);
    impl<T: PartialEq> Probe<T> {
        fn is_comparable(&self) -> bool {
            true
        }
    }
    trait Otherwise {
        fn is_comparable(&self) -> bool {
            false
        }
    }
    impl<T> Otherwise for Probe<T> {}
    assert!(Probe(std::marker::PhantomData::<String>).is_comparable());
    assert!(!Probe(std::marker::PhantomData::<grantflow::Secret>).is_comparable());
    assert!(!Probe(std::marker::PhantomData::<grantflow::PendingAuthorization>).is_comparable());
    let secret = grantflow::Secret::from("state");
    assert!(secret.matches("state"));
    for other in ["", "stat", "State", "states", "statf"] {
        assert!(!secret.matches(other), "{other}");
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
        let started = at_once(request().start(), cx);
        assert_eq!(started.is_ok(), s256, "{methods}");
        if let Ok(authorization) = started {
            assert_eq!(value(&authorization.url, "code_challenge_method").as_deref(), Some("S256"));
            assert_eq!(value(&authorization.url, "code_challenge").unwrap().len(), 43);
        }
        assert_eq!(at_once(request().plain_code_challenge().start(), cx).is_ok(), plain, "{methods}");
    }
}

/// Its server may have it.
#[test]
fn a_code_whose_answer_got_lost_is_not_sent_again() {
    for fault in [Fault::DropAfter, Fault::DropBefore, Fault::Truncate, Fault::status(500, ""), Fault::status(502, "")]
    {
        let mut world = world();
        let request = demo::request(world.server(), "read");
        let authorization = world.run(request.start()).unwrap();
        let redirect = world.person(&authorization.url);
        world.server().fail(Place::Token, fault.clone());
        let error = world.run(authorization.pending.finish(&client(), &redirect)).unwrap_err();
        let code = value(&redirect, "code").unwrap();
        hidden_in_error(&error, &[&code]);
        assert_eq!((world.sent().len(), error.advice()), (1, Some(Advice::SignInAgain)), "{fault:?}: {error}");
    }
    // What never left this machine is sent once more.
    let mut world = world();
    let request = demo::request(world.server(), "read");
    let authorization = world.run(request.start()).unwrap();
    let redirect = world.person(&authorization.url);
    world.fail(Failure::not_sent(FailureKind::Connect, "refused"));
    world.run(authorization.pending.finish(&client(), &redirect)).unwrap();
    assert_eq!(world.server().seen_at(Place::Token).len(), 1);
}

#[test]
fn a_thousand_requests_share_nothing() {
    let (mut world, mut seen) = (world(), BTreeSet::new());
    for _ in 0..1000 {
        let authorization = at_once(demo::request(world.server(), "openid").start(), &mut world.cx()).unwrap();
        let stored = serde_json::to_value(&authorization.pending).unwrap();
        for name in ["state", "nonce", "code_challenge"] {
            let value = value(&authorization.url, name).unwrap();
            assert_eq!(value.len(), 43, "{name} has 32 bytes");
            seen.insert(value);
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
    let error = at_once(demo::request(&Server::demo(), "read").start(), &mut cx).unwrap_err();
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
        assert_eq!(
            at_once(request.start(), &mut World::default().cx()).unwrap_err().kind(),
            ErrorKind::Config,
            "{name:?}"
        );
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
        assert_eq!(
            request.exchange().request().to_http(&mut World::default().cx()).unwrap_err().kind(),
            ErrorKind::Config,
            "{name}"
        );
    }
}

// --- characters that break out

#[test]
fn characters_that_no_request_may_hold_are_refused_before_it_is_sent() {
    let server = Server::demo().metadata();
    for bad in ["a\rb", "a\nb", "a\0b", "a\u{7f}b", "ä", "a\u{2028}b", "\u{feff}a"] {
        let mut errors: Vec<Error> = Vec::new();
        let mut check = |request: Result<TokenRequest, Error>| {
            errors.push(
                request
                    .and_then(|request| request.exchange().request().to_http(&mut World::default().cx()))
                    .unwrap_err(),
            );
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
        errors.push(at_once(request().scopes(bad).start(), cx).unwrap_err());
        errors.push(at_once(request().code_verifier(bad.repeat(20)).start(), cx).unwrap_err());
        errors.push(at_once(AuthorizationRequest::new(&server, &Client::new(bad), REDIRECT).start(), cx).unwrap_err());
        errors.push(
            at_once(AuthorizationRequest::new(&server, &client(), format!("https://app.example/{bad}")).start(), cx)
                .unwrap_err(),
        );
        let revocation = Revocation::new(&server, &client(), &secret).unwrap().exchange();
        errors.push(revocation.request().to_http(&mut World::default().cx()).unwrap_err());
        for error in errors {
            assert_eq!(error.kind(), ErrorKind::Config, "{bad:?}: {error}");
            assert!(!error.to_string().chars().any(|c| c.is_control() || c == '\u{2028}'), "{error:?}");
        }
    }
}

#[test]
fn a_code_with_a_line_end_is_not_sent() {
    let mut world = world();
    let authorization = at_once(demo::request(world.server(), "read").start(), &mut world.cx()).unwrap();
    let state = value(&authorization.url, "state").unwrap();
    let redirect = format!("code=a%0d%0aX-Injected:%201&state={state}&iss=https%3A%2F%2Fas.example");
    let error = world.run(authorization.pending.finish(&client(), &redirect)).unwrap_err();
    assert!(world.sent().is_empty(), "{error}");
    hidden("the error", &error.to_string(), &["X-Injected"]);
}

#[test]
fn a_scope_is_one_value_whatever_it_holds() {
    let server = Server::demo().metadata();
    let request = TokenRequest::client_credentials(&server, &demo::batch()).unwrap().scopes("read&client_id=evil=+%26");
    let body = request.exchange().request().to_http(&mut World::default().cx()).unwrap().into_body();
    let pairs: Vec<_> = url::form_urlencoded::parse(&body).into_owned().collect();
    assert_eq!(pairs[1], ("scope".into(), "read&client_id=evil=+%26".into()));
    assert_eq!(pairs.len(), 2);
}
