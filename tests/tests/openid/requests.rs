//! What a request asks for of the sign-in, and that it is so.

use std::time::Duration;

use grantflow::authorize::ThirdPartyLogin;
use grantflow::{Advice, AuthorizationRequest, Challenge, ErrorKind, Interaction};
use grantflow_tests::canary::hidden_in_error;
use grantflow_tests::server::{Alter, Consent};
use grantflow_tests::{Place, World};
use http::HeaderMap;
use serde_json::{Value, json};

use super::{REDIRECT, client, ended, request, sign_in, world, world_with};

/// A sign-in at a server that sets claims so.
fn answers(ask: impl FnOnce(AuthorizationRequest) -> AuthorizationRequest, claims: Value) -> Result<(), String> {
    let mut world = world_with(|settings| {
        settings.alter_id_claims = Alter::by(move |token| {
            for (name, value) in claims.as_object().unwrap() {
                token[name] = value.clone();
            }
        });
    });
    let request = ask(request(&mut world));
    world.sign_in(request, &client()).map(drop).map_err(|error| {
        assert_eq!(error.kind(), ErrorKind::IdToken, "{error}");
        error.to_string()
    })
}

#[test]
fn acr_is_one_of_those_that_were_asked_for() {
    let silver = |request: AuthorizationRequest| request.acr_values(["gold", "silver"]);
    assert_eq!(answers(silver, json!({"acr": "silver"})), Ok(()));
    for claims in [json!({"acr": "bronze"}), json!({}), json!({"acr": ["silver"]}), json!({"acr": "Silver"})] {
        assert!(answers(silver, claims.clone()).unwrap_err().contains("(acr)"), "{claims}");
    }
    let extra = |request: AuthorizationRequest| request.extra("acr_values", "gold silver");
    assert!(answers(extra, json!({})).is_err(), "by whichever setter");
    assert_eq!(answers(|request| extra(request).extra("acr_values", ""), json!({})), Ok(()));
    let preferred = |request: AuthorizationRequest| request.preferred_acr_values(["gold", "silver"]);
    assert_eq!(answers(preferred, json!({"acr": "bronze"})), Ok(()));
}

#[test]
fn essential_claims_of_the_sign_in_are_checked() {
    let values = json!({"id_token": {"acr": {"essential": true, "values": ["a", "b"]}}});
    for (claims, token, good) in [
        (values.clone(), json!({"acr": "b"}), true),
        (values, json!({"acr": "c"}), false),
        (json!({"id_token": {"acr": {"essential": true, "value": "a"}}}), json!({}), false),
        (json!({"id_token": {"acr": {"values": ["a"]}}}), json!({}), true),
        (json!({"id_token": {"auth_time": {"essential": true}}}), json!({}), false),
        (json!({"id_token": {"auth_time": {"essential": true}}}), json!({"auth_time": 1_795_170_000}), true),
        (json!({"id_token": {"auth_time": null}}), json!({}), true),
        (json!({"id_token": {"sub": {"value": "alice"}}}), json!({}), true),
        (json!({"id_token": {"sub": {"value": "bob"}}}), json!({}), false),
        (json!({"userinfo": {"email": null}}), json!({}), true),
    ] {
        assert_eq!(answers(|request| request.claims(&claims), token.clone()).is_ok(), good, "{claims} {token}");
        let text = claims.to_string();
        assert_eq!(answers(|request| request.extra("claims", &text), token.clone()).is_ok(), good, "{claims} {token}");
    }
    for wrong in [json!([]), json!("x"), json!({"id_token": []})] {
        let mut world = world();
        let request = request(&mut world).claims(&wrong);
        assert_eq!(world.run(request.start()).unwrap_err().kind(), ErrorKind::Config, "{wrong}");
    }
}

#[test]
fn the_requests_parameters_are_those_that_were_set() {
    let mut world = world();
    let request = request(&mut world)
        .ui_locales(["de-CH", "fr"])
        .acr_values(["gold"])
        .max_age(Duration::from_secs(60))
        .prompt("login")
        .claims(&json!({"userinfo": {"email": null}}));
    let url = world.run(request.start()).unwrap().url;
    let url = url::Url::parse(&url).unwrap();
    let get =
        |name: &str| url.query_pairs().filter(|(key, _)| key == name).map(|(_, v)| v.into_owned()).collect::<Vec<_>>();
    assert_eq!(get("ui_locales"), ["de-CH fr"]);
    assert_eq!(get("acr_values"), ["gold"]);
    assert_eq!(get("max_age"), ["60"]);
    assert_eq!(get("prompt"), ["login"]);
    assert_eq!(get("claims"), [r#"{"userinfo":{"email":null}}"#]);
}

#[test]
fn an_id_token_as_a_hint_says_who_is_expected() {
    let mut world = world();
    let first = sign_in(&mut world).unwrap();
    let hint = first.id_token().unwrap();
    let silent = request(&mut world).prompt("none").id_token_hint(hint);
    assert_eq!(world.sign_in(silent, &client()).unwrap().id_token().unwrap().subject(), "alice");
    // Somebody else is at the browser meanwhile.
    world.server().settings.subject = "bob".into();
    for silent in [
        request(&mut world).prompt("none").id_token_hint(hint),
        request(&mut world).prompt("none").extra("id_token_hint", hint.as_secret().expose()),
    ] {
        let error = world.sign_in(silent, &client()).unwrap_err();
        assert_eq!((error.kind(), error.advice()), (ErrorKind::IdToken, Some(Advice::SignInAgain)), "{error}");
        assert!(error.to_string().contains("(sub)"), "{error}");
    }
    let wrong = request(&mut world).extra("id_token_hint", "no token");
    assert_eq!(world.run(wrong.start()).unwrap_err().kind(), ErrorKind::Config);
}

#[test]
fn prompt_none_says_what_the_user_would_have_to_do() {
    for (code, interaction) in [
        ("login_required", Some(Interaction::Login)),
        ("account_selection_required", Some(Interaction::AccountSelection)),
        ("consent_required", Some(Interaction::Consent)),
        ("interaction_required", Some(Interaction::Other)),
        ("access_denied", None),
    ] {
        let mut world = world_with(|settings| settings.consent = Consent::Deny(code));
        let silent = request(&mut world).prompt("none");
        let error = world.sign_in(silent, &client()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Authorization);
        assert_eq!(error.server().unwrap().interaction(), interaction, "{code}");
        assert_eq!(error.advice(), Some(Advice::SignInAgain), "{code}");
        assert!(world.server().seen_at(Place::Token).is_empty());
    }
}

#[test]
fn prompt_none_stands_alone() {
    let mut world = world();
    for request in [
        request(&mut world).prompt("none login"),
        request(&mut world).extra("prompt", "consent none"),
        request(&mut world).prompt("none").max_age(Duration::ZERO),
    ] {
        assert_eq!(world.run(request.start()).unwrap_err().kind(), ErrorKind::Config);
    }
    let alone = request(&mut world).prompt("none").max_age(Duration::from_secs(1));
    assert!(world.run(alone.start()).is_ok());
}

fn challenge(value: &str) -> Challenge {
    let mut headers = HeaderMap::new();
    headers.insert("www-authenticate", value.parse().unwrap());
    Challenge::bearer(&headers).unwrap()
}

#[test]
fn a_step_up_asks_for_what_the_resource_server_wants_and_checks_it() {
    // RFC 9470, section 3.
    let mut world = world();
    for (value, acr_values, max_age) in [
        (r#"Bearer error="insufficient_user_authentication", acr_values="myACR""#, Some("myACR"), None),
        (r#"Bearer error="insufficient_user_authentication", max_age="5""#, None, Some("5")),
        (r#"Bearer error="insufficient_user_authentication", max_age=5"#, None, Some("5")),
        (r#"Bearer error="insufficient_user_authentication", max_age="-5", acr_values="a b""#, Some("a b"), None),
        (r#"Bearer error="insufficient_user_authentication", max_age="soon""#, None, None),
    ] {
        let url = world_url(&mut world, value).unwrap();
        let get = |name: &str| url.query_pairs().find(|(key, _)| key == name).map(|(_, value)| value.into_owned());
        assert_eq!(get("acr_values").as_deref(), acr_values, "{value}");
        assert_eq!(get("max_age").as_deref(), max_age, "{value}");
    }
    let scoped = r#"Bearer error="insufficient_user_authentication", acr_values="a", scope="openid write""#;
    let url = world_url(&mut world, scoped).unwrap();
    assert!(url.query_pairs().any(|(name, value)| name == "scope" && value == "openid email write"), "{url}");
    for other in [r#"Bearer error="insufficient_scope", acr_values="a""#, "Bearer realm=\"x\""] {
        assert_eq!(world_url(&mut world, other).unwrap_err().kind(), ErrorKind::Config);
    }
    let step_up = challenge(r#"Bearer error="insufficient_user_authentication", acr_values="myACR""#);
    assert!(answers(|request| request.step_up(&step_up), json!({})).unwrap_err().contains("(acr)"));
    assert_eq!(answers(|request| request.step_up(&step_up), json!({"acr": "myACR"})), Ok(()));
}

fn world_url(world: &mut World, value: &str) -> Result<url::Url, grantflow::Error> {
    let request = request(world).step_up(&challenge(value));
    world.run(request.start()).map(|authorization| url::Url::parse(&authorization.url).unwrap())
}

#[test]
fn oidcc_client_test_3rd_party_init_login() {
    let mut world = world();
    let server = world.server().metadata();
    let login = ThirdPartyLogin::read("iss=https%3A%2F%2Fas.example&login_hint=carol").unwrap();
    assert!(login.is_for(server.issuer()));
    let request = AuthorizationRequest::new(&server, &client(), REDIRECT).scopes("openid").initiated_by(&login);
    // A sign-in like any other, with a state, a nonce and a verifier of its own.
    let token = world.sign_in(request, &client()).unwrap();
    assert_eq!(token.id_token().unwrap().subject(), "carol");
}

#[test]
fn a_third_party_chooses_no_server_that_is_not_known() {
    let mut world = world();
    let server = world.server().metadata();
    for iss in ["https://evil.example", "https://as.example/", "HTTPS://AS.example", ""] {
        let login = ThirdPartyLogin::read(&format!("iss={iss}")).unwrap();
        assert!(!login.is_for(server.issuer()), "{iss}");
        let request = AuthorizationRequest::new(&server, &client(), REDIRECT).initiated_by(&login);
        let error = ended(&mut world, request.start());
        assert_eq!(error.kind(), ErrorKind::Issuer, "{iss}");
        hidden_in_error(&error, &[super::SECRET]);
        assert!(world.sent().is_empty(), "{iss}");
    }
    for wrong in ["", "login_hint=x", "iss=a&iss=b", "iss=a&target_link_uri=b&target_link_uri=b", &"x".repeat(20_000)] {
        assert_eq!(ThirdPartyLogin::read(wrong).unwrap_err().kind(), ErrorKind::InvalidRedirect);
    }
}

#[test]
fn a_third_party_sends_nobody_elsewhere_after_the_sign_in() {
    for (target, good) in [
        ("https://app.example/inbox?x=1", true),
        ("https://app.example:443/", true),
        ("https://app.example", true),
        ("http://app.example/", false),
        ("https://app.example:8443/", false),
        ("https://app.example.evil.example/", false),
        ("https://app.example@evil.example/", false),
        ("https://user@app.example/", false),
        ("https://evil.example/https://app.example/", false),
        ("https://app.example\\@evil.example/", false),
        ("//evil.example/", false),
        ("/inbox", false),
        ("javascript:alert(1)", false),
        ("https://app.example/\r\nSet-Cookie: x", false),
    ] {
        let query: String = url::form_urlencoded::Serializer::new(String::new())
            .append_pair("iss", "https://as.example")
            .append_pair("target_link_uri", target)
            .finish();
        let login = ThirdPartyLogin::read(&query).unwrap();
        assert_eq!(login.target_link_uri("https://app.example"), good.then_some(target), "{target}");
    }
}
