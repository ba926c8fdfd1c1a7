//! The modules of the plans Basic, Config, Form Post (code) and Refresh. The suite is the server: each hands out one thing
//! that is wrong, and waits for a request that must not come.

use grantflow::{Discovery, ErrorKind, Issuer, TokenRequest};
use grantflow_tests::server::Alter;
use grantflow_tests::server::Consent;
use grantflow_tests::{Fault, IssuerKey, Place};
use http::Response;
use serde_json::json;

use super::{HOUR, claim, client, refused, request, sign_in, world, world_with};

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
    let error = world.run(authorization.pending.finish(&client(), body)).unwrap_err();
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
    let error = world.run(Discovery::new(&issuer)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Issuer, "{error}");
    assert!(world.server().seen_at(Place::Authorize).is_empty());
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
    refresh_refused("iss", json!("https://other.example"));
}

#[test]
fn oidcc_client_test_refresh_token_invalid_sub() {
    refresh_refused("sub", json!("bob"));
}

fn refresh_refused(name: &'static str, value: serde_json::Value) {
    let mut world = world();
    let token = sign_in(&mut world).unwrap();
    world.server().settings.alter_id_claims = Alter::set(name, value);
    let server = world.server().metadata();
    let before = world.server().seen().len();
    let error = world.run(TokenRequest::refresh(&server, &client(), &token).unwrap().exchange()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::IdToken, "{error}");
    assert!(error.to_string().contains(name), "{error}");
    assert_eq!(world.server().seen().len(), before + 1, "no request follows");
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
