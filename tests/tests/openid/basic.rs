//! The modules of the plans Basic, Config, Form Post (code) and Refresh. The suite is the server: each hands out one thing
//! that is wrong, and waits for a request that must not come.

use grantflow::source::{GrantState, Minting as _};
use grantflow::{Discovery, Error, ErrorKind, Issuer, Machine as _, Reply, Step, Token, TokenRequest};
use grantflow_tests::canary::hidden_in_error;
use grantflow_tests::server::{Alter, Consent, RefreshTokens};
use grantflow_tests::{Fault, IssuerKey, Place, World};
use http::Response;
use serde_json::{Value, json};

use super::{HOUR, SECRET, claim, client, ended, refused, request, sign_in, world, world_with};

#[test]
fn oidcc_client_test() {
    let mut world = world();
    let token = sign_in(&mut world).unwrap();
    assert_eq!(token.id_token().unwrap().subject(), "alice");
    assert!(token.deviations().is_empty());
}

#[test]
fn oidcc_client_test_client_secret_basic() {
    let mut world = world();
    sign_in(&mut world).unwrap();
    let sent = world.server().seen_at(Place::Token);
    assert!(sent[0].header("authorization").unwrap().starts_with("Basic "));
    assert!(sent[0].param("client_secret").is_none());
}

#[test]
fn oidcc_client_test_nonce_invalid() {
    refused(claim("nonce", json!("another")), ErrorKind::IdToken, "nonce");
    refused(claim("nonce", json!(null)), ErrorKind::IdToken, "nonce");
}

#[test]
fn oidcc_client_test_invalid_iss() {
    refused(claim("iss", json!("https://as.example/other")), ErrorKind::IdToken, "iss");
}

#[test]
fn oidcc_client_test_missing_sub() {
    refused(claim("sub", json!(null)), ErrorKind::IdToken, "sub");
}

#[test]
fn oidcc_client_test_invalid_aud() {
    refused(claim("aud", json!("another")), ErrorKind::IdToken, "aud");
}

#[test]
fn oidcc_client_test_missing_aud() {
    refused(claim("aud", json!(null)), ErrorKind::IdToken, "aud");
}

#[test]
fn oidcc_client_test_missing_iat() {
    refused(claim("iat", json!(null)), ErrorKind::IdToken, "iat");
}

#[test]
fn oidcc_client_test_kid_absent_single_jwks() {
    sign_in(&mut world_with(|settings| settings.keys = vec![IssuerKey::rs256("x").without_kid()])).unwrap();
    // The key has a name, and the token does not say it.
    let nameless = IssuerKey::rs256("x").without_kid();
    sign_in(&mut world_with(|settings| settings.signs_with = Some(nameless))).unwrap();
}

#[test]
fn oidcc_client_test_kid_absent_multiple_jwks() {
    let mut world = world_with(|settings| {
        let (first, second) = (IssuerKey::es256("a"), IssuerKey::es256("b"));
        settings.signs_with = Some(second.without_kid());
        settings.keys = vec![first, second];
    });
    sign_in(&mut world).unwrap();
    let stranger = world_with(|settings| {
        settings.signs_with = Some(IssuerKey::es256("c").without_kid());
        settings.keys = vec![IssuerKey::es256("a"), IssuerKey::es256("b")];
    });
    refused(stranger, ErrorKind::Signature, "key");
}

#[test]
fn oidcc_client_test_idtoken_sig_rs256() {
    let mut world = world();
    let token = sign_in(&mut world).unwrap();
    let header = token.id_token().unwrap().as_secret().expose().split('.').next().unwrap().to_owned();
    let header = base64::Engine::decode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, header).unwrap();
    assert_eq!(serde_json::from_slice::<serde_json::Value>(&header).unwrap()["alg"], "RS256");
    assert_eq!(world.server().seen_at(Place::Keys).len(), 1);
}

#[test]
fn oidcc_client_test_idtoken_sig_none() {
    let unsigned = world_with(|settings| {
        settings.keys.clear();
        settings.alter_id_header = Alter::set("alg", json!("none"));
    });
    refused(unsigned, ErrorKind::IdToken, "alg none");
}

#[test]
fn oidcc_client_test_invalid_sig_rs256() {
    refused(
        world_with(|settings| settings.signs_with = Some(IssuerKey::another_rs256("rs-1"))),
        ErrorKind::Signature,
        "signature is wrong",
    );
}

#[test]
fn oidcc_client_test_invalid_sig_es256() {
    let forged = world_with(|settings| {
        settings.keys = vec![IssuerKey::es256("es-1")];
        settings.signs_with = Some(IssuerKey::es256("es-1"));
    });
    refused(forged, ErrorKind::Signature, "signature is wrong");
}

#[test]
fn oidcc_client_test_invalid_athash() {
    refused(claim("at_hash", json!("77QmUPtjPfzWtF2AnpK9RQ")), ErrorKind::IdToken, "at_hash");
}

#[test]
fn oidcc_client_test_invalid_chash() {
    refused(claim("c_hash", json!("LDktKdoQak3Pk0cnXxCltA")), ErrorKind::IdToken, "c_hash");
}

#[test]
fn oidcc_client_test_form_post() {
    let mut world = world();
    let request = request(&mut world).form_post();
    let authorization = world.run(request.start()).unwrap();
    assert!(authorization.url.contains("&response_mode=form_post"));
    let redirect = world.person(&authorization.url);
    // The page posts what the address of another mode holds.
    let (_, body) = redirect.split_once('?').unwrap();
    let token = world.run(authorization.pending.finish(&client(), body)).unwrap();
    assert_eq!(token.id_token().unwrap().subject(), "alice");
}

#[test]
fn oidcc_client_test_form_post_error() {
    let mut world = world_with(|settings| settings.consent = Consent::Deny("access_denied"));
    let request = request(&mut world).form_post();
    let authorization = world.run(request.start()).unwrap();
    let redirect = world.person(&authorization.url);
    let (_, body) = redirect.split_once('?').unwrap();
    let kept = serde_json::to_value(&authorization.pending).unwrap();
    let error = ended(&mut world, authorization.pending.finish(&client(), body));
    hidden_in_error(&error, &["state", "nonce", "code_verifier"].map(|name| kept[name].as_str().unwrap()));
    assert_eq!(error.kind(), ErrorKind::Authorization);
    assert_eq!(error.server().unwrap().error(), "access_denied");
    assert!(world.sent().is_empty(), "nothing is asked of the server");
}

#[test]
fn oidcc_client_test_discovery_openid_config() {
    let mut world = world();
    let issuer = Issuer::new("https://as.example").unwrap();
    let server = world.run(Discovery::new(&issuer)).unwrap();
    assert_eq!(server.token().unwrap().as_str(), "https://as.example/token");
}

#[test]
fn oidcc_client_test_discovery_jwks_uri_keys() {
    let mut world = world();
    let issuer = Issuer::new("https://as.example").unwrap();
    let server = world.run(Discovery::new(&issuer)).unwrap();
    let request = grantflow::AuthorizationRequest::new(&server, &client(), super::REDIRECT);
    let request = request.scopes("openid").verify_id_token_signature();
    world.sign_in(request, &client()).unwrap();
    assert_eq!(world.server().seen_at(Place::Keys).len(), 1);
}

#[test]
fn oidcc_client_test_discovery_issuer_mismatch() {
    let mut world =
        world_with(|settings| settings.alter_metadata = Alter::set("issuer", json!("https://other.example")));
    let issuer = Issuer::new("https://as.example").unwrap();
    let error = ended(&mut world, Discovery::new(&issuer));
    assert_eq!(error.kind(), ErrorKind::Issuer, "{error}");
    // The one document at its two addresses, and nothing that it names.
    let sent = world.sent();
    assert_eq!(sent.len(), 2);
    assert!(sent.iter().all(|sent| sent.request.uri().path().starts_with("/.well-known/")));
}

#[test]
fn oidcc_client_test_signing_key_rotation() {
    let mut world = world();
    sign_in(&mut world).unwrap();
    // Between two sign-ins the old key goes, and a new one comes.
    world.server().settings.keys = vec![IssuerKey::es256("es-2")];
    sign_in(&mut world).unwrap();
    assert_eq!(world.server().seen_at(Place::Keys).len(), 2);
    world.pass(HOUR * 2);
    sign_in(&mut world).unwrap();
}

#[test]
fn oidcc_client_test_signing_key_rotation_just_before_signing() {
    let mut world = world();
    let request = request(&mut world);
    let authorization = world.run(request.start()).unwrap();
    let redirect = world.person(&authorization.url);
    // The keys are read, and then the server changes its key before it signs.
    let mut rotated = false;
    let token = world.run_while(authorization.pending.finish(&client(), &redirect), |world| {
        if !rotated && world.server().seen_at(Place::Keys).len() == 1 {
            rotated = true;
            world.server().settings.keys = vec![IssuerKey::es256("es-2")];
        }
    });
    assert_eq!(token.unwrap().id_token().unwrap().subject(), "alice");
    assert_eq!(world.server().seen_at(Place::Keys).len(), 2);
    let places: Vec<_> = world.server().seen().iter().map(|seen| seen.place).collect();
    assert_eq!(places, [Place::Authorize, Place::Keys, Place::Token, Place::Keys]);
}

#[test]
fn oidcc_client_test_refresh_token() {
    let mut world = world();
    let token = sign_in(&mut world).unwrap();
    let server = world.server().metadata();
    let again = world.run(TokenRequest::refresh(&server, &client(), &token).unwrap().exchange()).unwrap();
    assert_eq!(again.id_token().unwrap().subject(), "alice");
    assert_ne!(again.access_token(), token.access_token());
}

#[test]
fn oidcc_client_test_refresh_token_invalid_issuer() {
    refresh_refused(json!({}), json!({"iss": "https://other.example"}), "(iss)");
}

#[test]
fn oidcc_client_test_refresh_token_invalid_sub() {
    refresh_refused(json!({}), json!({"sub": "bob"}), "(sub)");
}

/// A sign-in whose ID token has these claims, and a refresh whose ID token has those.
fn refreshed(first: Value, second: Value) -> (World, Result<Token, Error>) {
    let claims = |claims: Value| {
        Alter::by(move |token| {
            for (name, value) in claims.as_object().unwrap() {
                match value {
                    Value::Null => drop(token.as_object_mut().unwrap().remove(name)),
                    value => token[name] = value.clone(),
                }
            }
        })
    };
    let mut world = world_with(|settings| settings.alter_id_claims = claims(first));
    let client = client().trusted_audience("api");
    let server = world.server().metadata().issuer_alias("https://as.example/{tid}");
    let request = grantflow::AuthorizationRequest::new(&server, &client, super::REDIRECT).scopes("openid");
    let token = world.sign_in(request, &client).unwrap();
    world.pass(HOUR * 200);
    world.server().settings.alter_id_claims = claims(second);
    let result = world.run(TokenRequest::refresh(&server, &client, &token).unwrap().exchange());
    (world, result)
}

fn refresh_refused(first: Value, second: Value, why: &str) {
    let (mut world, result) = refreshed(first, second.clone());
    let Err(error) = result else { panic!("{second} was taken") };
    assert_eq!(error.kind(), ErrorKind::IdToken, "{error}");
    assert!(error.to_string().contains(why), "{error} says nothing of {why}");
    hidden_in_error(&error, &[SECRET]);
    assert_eq!(world.server().seen().last().unwrap().place, Place::Token, "no request follows");
    assert_eq!(world.server().seen_at(Place::Token).len(), 2);
}

/// OpenID Connect Core 1.0, section 12.2.
#[test]
fn an_id_token_that_comes_with_a_refresh_is_of_the_same_sign_in() {
    let now = world().now.wall.as_unix();
    let tenant = |tid: &str| json!({"iss": format!("https://as.example/{tid}"), "tid": tid});
    for (first, second, why) in [
        (tenant("t-1"), tenant("t-2"), "(iss)"),
        (tenant("t-1"), json!({}), "(iss)"),
        (json!({"aud": ["web", "api"], "azp": "web"}), json!({}), "(aud)"),
        (json!({}), json!({"nonce": "another"}), "(nonce)"),
        (json!({}), json!({"nonce": 7}), "(nonce)"),
        (json!({"auth_time": now - 100}), json!({"auth_time": now}), "(auth_time)"),
        (json!({}), json!({"iat": now - 1000}), "(iat)"),
    ] {
        refresh_refused(first, second, why);
    }
    for (first, second) in [
        (tenant("t-1"), tenant("t-1")),
        (json!({"aud": ["web", "api"], "azp": "web"}), json!({"aud": ["api", "web"], "azp": "web"})),
        (json!({}), json!({"aud": ["api", "web"], "azp": "web"})),
        (json!({}), json!({"auth_time": now})),
        (json!({"auth_time": now - 100}), json!({"auth_time": now - 100})),
        (json!({"auth_time": now - 100}), json!({"nonce": null})),
        // That of the sign-in once more.
        (json!({}), json!({"iat": now})),
    ] {
        let result = refreshed(first, second.clone()).1;
        assert!(result.is_ok(), "{second}: {result:?}");
    }
}

#[test]
fn a_nonce_of_the_sign_in_is_still_known_after_refreshes_without_one() {
    let mut world = world();
    let first = sign_in(&mut world).unwrap();
    let server = world.server().metadata();
    let nonce = first.id_token().unwrap().claims().str("nonce").unwrap().to_owned();
    let mut token = first;
    for (nonce, good) in [(Value::Null, true), (json!(nonce), true), (json!("another"), false)] {
        world.server().settings.alter_id_claims = Alter::set("nonce", nonce.clone());
        let result = world.run(TokenRequest::refresh(&server, &client(), &token).unwrap().exchange());
        assert_eq!(result.is_ok(), good, "{nonce}: {result:?}");
        token = result.unwrap_or(token);
    }
}

#[test]
fn the_signature_of_an_id_token_that_comes_with_a_refresh_is_checked_where_that_is_asked_for() {
    let rotating = || world_with(|settings| settings.refresh_tokens = RefreshTokens::Rotate { grace: HOUR });
    let refresh = |world: &mut World, token: &Token| {
        let server = world.server().metadata();
        TokenRequest::refresh(&server, &client(), token).unwrap().verify_id_token_signature().exchange()
    };
    // By the server's key, and by a newer one that is read as it is met.
    let mut world = rotating();
    let token = sign_in(&mut world).unwrap();
    let exchange = refresh(&mut world, &token);
    let token = world.run(exchange).unwrap();
    let before = world.server().seen().len();
    world.server().settings.keys = vec![IssuerKey::es256("es-2")];
    let exchange = refresh(&mut world, &token);
    let token = world.run(exchange).unwrap();
    let places: Vec<_> = world.server().seen()[before..].iter().map(|seen| seen.place).collect();
    assert_eq!(places, [Place::Token, Place::Keys], "the keys that were read before are asked first");

    // A forged one is refused, and the refresh token that came along is not lost.
    for (forged, why) in [(IssuerKey::es256("es-2"), "signature is wrong"), (IssuerKey::another_rs256("x"), "no key")] {
        world.server().settings.signs_with = Some(forged);
        let mut exchange = refresh(&mut world, &token);
        let mut reply = Reply::Start;
        let error = loop {
            match exchange.resume(&mut world.cx(), reply) {
                Step::Do(effect) => reply = world.carry_out(effect),
                Step::Done(result) => break result.unwrap_err(),
            }
        };
        assert_eq!(error.kind(), ErrorKind::Signature, "{error}");
        assert!(error.to_string().contains(why), "{error}");
        let mut state = GrantState::new(token.refresh_token().unwrap().clone());
        state.merge(exchange.take_change());
        let used = token.refresh_token().unwrap().expose();
        assert!(!state.refresh_token().unwrap().matches(used), "the next refresh token is told");
        let Step::Done(Err(over)) = exchange.resume(&mut world.cx(), Reply::Start) else { panic!("it goes on") };
        assert_eq!(over.kind(), ErrorKind::Misuse);
    }

    // Keys that cannot be had cost no refresh token; a server without keys is told, and nothing is sent.
    let down = || Fault::Answer(Response::builder().status(503).body(Vec::new()).unwrap());
    let mut world = rotating();
    let token = sign_in(&mut world).unwrap();
    world.pass(HOUR * 25);
    (0..8).for_each(|_| world.server().fail(Place::Keys, down()));
    let exchange = refresh(&mut world, &token);
    assert!(world.run(exchange).unwrap_err().is_transient());
    assert_eq!(world.server().seen_at(Place::Token).len(), 1, "the code's request alone");
    let server = grantflow::ServerMetadata::new(Issuer::new("https://as.example").unwrap());
    let server = server.token_endpoint("https://as.example/token").unwrap();
    let request = TokenRequest::refresh(&server, &client(), &token).unwrap().verify_id_token_signature();
    assert_eq!(world.run(request.exchange()).unwrap_err().kind(), ErrorKind::Config);
    assert_eq!(world.server().seen_at(Place::Token).len(), 1);
}

#[test]
fn a_host_of_keys_that_is_down_costs_no_sign_in() {
    let mut world = world();
    let down = || Fault::Answer(Response::builder().status(503).body(Vec::new()).unwrap());
    (0..8).for_each(|_| world.server().fail(Place::Keys, down()));
    let request = request(&mut world);
    let authorization = world.run(request.start()).unwrap();
    let redirect = world.person(&authorization.url);
    let kept = serde_json::to_string(&authorization.pending).unwrap();
    let error = world.run(authorization.pending.finish(&client(), &redirect)).unwrap_err();
    assert!(error.is_transient(), "{error}");
    assert!(world.server().seen_at(Place::Token).is_empty(), "the code is not redeemed");
    // Later, by the same redirect.
    world.pass(std::time::Duration::from_secs(20));
    world.server().heal();
    let pending: grantflow::PendingAuthorization = serde_json::from_str(&kept).unwrap();
    assert!(world.run(pending.finish(&client(), &redirect)).is_ok());
}
