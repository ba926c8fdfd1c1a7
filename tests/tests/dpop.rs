//! Proofs of possession (RFC 9449): at the token endpoint, at resources, and of grants in stores.

use grantflow::crypto::{Algorithm, SigningKey, VerifyingKey};
use grantflow::dpop::DpopNonces;
use grantflow::jose::{Jwk, Jws};
use grantflow::{
    AuthorizationRequest, Client, DeviceAuthorization, DpopKey, ErrorKind, Token, TokenRequest, TokenType,
};
use grantflow_tests::demo::{REDIRECT, batch, client};
use grantflow_tests::kms::{Es256, FarKey};
use grantflow_tests::server::{Alter, Settings, Wire};
use grantflow_tests::{Place, Server, World};
use http::{HeaderMap, Method, Request};
use serde_json::{Value, json};

fn world(change: impl FnOnce(&mut Settings)) -> World {
    World::with(Server::demo().with(|settings| {
        settings.dpop_required = true;
        change(settings);
    }))
}

fn key(world: &mut World, algorithm: Algorithm) -> DpopKey {
    SigningKey::generate(algorithm, &mut world.cx()).unwrap().into()
}

fn sign_in(world: &mut World, client: &Client) -> Token {
    let request = AuthorizationRequest::new(&world.server().metadata(), client, REDIRECT).scopes("read");
    world.sign_in(request, client).unwrap()
}

/// What the resource says, and whether it wants a nonce.
fn resource(world: &mut World, token: &Token, nonces: &mut DpopNonces) -> (u16, bool) {
    let mut request = Request::get(world.server().address(Place::Resource) + "?page=2").body(Vec::new()).unwrap();
    let (uri, nonce) = (request.uri().clone(), nonces.get(request.uri()).map(str::to_owned));
    let mut cx = world.cx();
    token.authorize(&Method::GET, &uri, request.headers_mut(), nonce.as_deref(), &mut cx).unwrap();
    let now = world.now.wall;
    match world.server().answer(now, &request).wire {
        Wire::Whole(response) => {
            let again = nonces.learn(&uri, response.status(), response.headers());
            (response.status().as_u16(), again)
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn each_grant_is_bound_and_each_request_has_a_proof_of_its_own() {
    for algorithm in [Algorithm::ES256, Algorithm::EdDSA] {
        let mut world = world(|settings| settings.dpop_nonce = Some("n-1".into()));
        let dpop = key(&mut world, algorithm);
        let (client, server) = (client().dpop(dpop.clone()), world.server().metadata());
        let token = sign_in(&mut world, &client);
        assert_eq!((token.token_type(), token.dpop_key()), (&TokenType::DPoP, Some(&dpop)));
        // Without a nonce, and once more with it.
        assert_eq!(world.server().seen_at(Place::Token).len(), 2);
        let refreshed = world.run(TokenRequest::refresh(&server, &client, &token).unwrap().exchange()).unwrap();
        let batch = batch().dpop(dpop.clone());
        let own = world.run(TokenRequest::client_credentials(&server, &batch).unwrap().exchange()).unwrap();
        let code = world.run(DeviceAuthorization::new(&server, &client).unwrap().scopes("read").exchange()).unwrap();
        assert!(world.enter_code(code.verification_uri(), code.user_code()));
        let device = world.run(code.poll(&server, &client).unwrap()).unwrap();
        for token in [token, refreshed, own, device] {
            assert_eq!(resource(&mut world, &token, &mut DpopNonces::default()), (200, false));
            let error = token.apply(&mut HeaderMap::new()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::TokenType);
        }
    }
}

#[test]
fn a_public_clients_refresh_token_is_of_no_use_with_another_key_or_without_one() {
    let mut world = world(|settings| settings.dpop_required = false);
    let (own, other) = (key(&mut world, Algorithm::ES256), key(&mut world, Algorithm::ES256));
    let token = sign_in(&mut world, &client().dpop(own));
    let server = world.server().metadata();
    for client in [client(), client().dpop(other)] {
        let error = world.run(TokenRequest::refresh(&server, &client, &token).unwrap().exchange()).unwrap_err();
        assert_eq!(error.server().map(|it| it.error()), Some("invalid_grant"));
    }
}

#[test]
fn a_code_is_redeemed_with_the_key_that_it_was_asked_with_or_not_at_all() {
    let mut world = world(|_| {});
    let (own, other) = (key(&mut world, Algorithm::ES256), key(&mut world, Algorithm::ES256));
    let begun = client().dpop(own.clone());
    for wrong in [client(), client().dpop(other)] {
        let request = AuthorizationRequest::new(&world.server().metadata(), &begun, REDIRECT).scopes("read");
        let authorization = world.run(request.start()).unwrap();
        assert!(authorization.url.contains(&format!("&dpop_jkt={}", own.thumbprint())));
        let redirect = world.person(&authorization.url);
        let error = world.run(authorization.pending.finish(&wrong, &redirect)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
    }
    assert!(world.server().seen_at(Place::Token).is_empty());
}

#[test]
fn a_token_for_bearers_is_refused_where_a_bound_one_was_demanded() {
    for kind in [json!("Bearer"), json!("mac"), Value::Null] {
        let mut world = world(|settings| settings.alter_token = Alter::set("token_type", kind.clone()));
        let client = batch().dpop(key(&mut world, Algorithm::ES256));
        let server = world.server().metadata();
        let error = world.run(TokenRequest::client_credentials(&server, &client).unwrap().exchange()).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::TokenType | ErrorKind::InvalidResponse), "{error}");
    }
    let mut world = world(|settings| settings.alter_token = Alter::set("token_type", json!("dPOP")));
    let client = batch().dpop(key(&mut world, Algorithm::ES256));
    let server = world.server().metadata();
    world.run(TokenRequest::client_credentials(&server, &client).unwrap().exchange()).unwrap();
}

#[test]
fn a_server_that_takes_other_algorithms_is_asked_nothing() {
    let mut world = world(|settings| settings.dpop_algorithms = vec!["PS256", "EdDSA"]);
    let client = batch().dpop(key(&mut world, Algorithm::ES256));
    let server = world.server().metadata();
    assert_eq!(TokenRequest::client_credentials(&server, &client).unwrap_err().kind(), ErrorKind::Config);
}

#[test]
fn a_resources_nonce_is_kept_for_its_origin_and_replaced_by_the_next() {
    let mut world = world(|settings| settings.dpop_resource_nonce = Some("r-1".into()));
    let client = client().dpop(key(&mut world, Algorithm::ES256));
    let (token, mut nonces) = (sign_in(&mut world, &client), DpopNonces::default());
    assert_eq!(resource(&mut world, &token, &mut nonces), (401, true));
    assert_eq!(resource(&mut world, &token, &mut nonces), (200, false));
    world.server().settings.dpop_resource_nonce = Some("r-2".into());
    assert_eq!(resource(&mut world, &token, &mut nonces), (401, true));
    assert_eq!(resource(&mut world, &token, &mut nonces), (200, false));
}

#[test]
fn a_key_that_is_far_away_signs_through_the_machines_alone() {
    let mut world = world(|_| {});
    let point = match Es256::default().public() {
        grantflow_tests::jwt::PublicKey::Es256(point) => point,
        other => panic!("{other:?}"),
    };
    let encode = |bytes: &[u8]| base64::Engine::encode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, bytes);
    let jwk = json!({"kty": "EC", "crv": "P-256", "x": encode(&point[1..33]), "y": encode(&point[33..])});
    let far = DpopKey::new(FarKey::default(), &Jwk::from_json(jwk.to_string().as_bytes()).unwrap()).unwrap();
    let token = sign_in(&mut world, &client().dpop(far));
    let uri = world.server().address(Place::Resource).parse().unwrap();
    let mut cx = world.cx();
    let error = token.authorize(&Method::GET, &uri, &mut HeaderMap::new(), None, &mut cx).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    let proof = world.run(token.prove(&Method::GET, &uri, None).unwrap()).unwrap();
    assert!(proof.is_sensitive());
    let mut request = Request::get(uri).body(Vec::new()).unwrap();
    token.apply_with_proof(request.headers_mut(), proof).unwrap();
    let now = world.now.wall;
    assert!(matches!(world.server().answer(now, &request).wire, Wire::Whole(answer) if answer.status() == 200));
    // Its proof is good once.
    assert!(matches!(world.server().answer(now, &request).wire, Wire::Whole(answer) if answer.status() == 401));
}

#[test]
fn the_vectors_of_rfc_9449_hold() {
    let vector: Value = serde_json::from_str(include_str!("../data/rfc9449.json")).unwrap();
    let jwk = Jwk::from_json(vector["jwk"].to_string().as_bytes()).unwrap();
    assert_eq!(jwk.thumbprint(), vector["jkt"]);
    let _: VerifyingKey = jwk.verifying_key(Algorithm::ES256).unwrap();
    let keys = [jwk].into_iter().collect();
    for proof in vector["proofs"].as_array().unwrap() {
        let jwt = proof["jwt"].as_str().unwrap();
        let claims = Jws::read(jwt).unwrap().verify(&keys, &[Algorithm::ES256]).unwrap();
        assert_eq!(serde_json::from_slice::<Value>(&claims).unwrap(), proof["claims"]);
    }
}
