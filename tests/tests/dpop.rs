//! Proofs of possession (RFC 9449): at the token endpoint, at resources, and of grants in stores.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use grantflow::crypto::{Algorithm, SigningKey, VerifyingKey};
use grantflow::dpop::DpopNonces;
use grantflow::jose::{Jwk, Jws};
use std::time::Duration;

use grantflow::source::Want;
use grantflow::store::{DpopKeyInStore, LoadGrant, RecordKey, SaveGrant, SharedGrant, Stored};
use grantflow::{
    Advice, AuthorizationRequest, Client, DeviceAuthorization, DpopKey, ErrorKind, Issuer, Token, TokenRequest,
    TokenType,
};
use grantflow_tests::demo::{REDIRECT, batch, client};
use grantflow_tests::kms::{Es256, FarKey};
use grantflow_tests::processes::{Desk, Process, Trip, kept, sent};
use grantflow_tests::server::{Alter, RefreshTokens, Settings, Wire};
use grantflow_tests::{IssuerKey, Place, Server, World};
use http::{HeaderMap, HeaderName, Method, Request, StatusCode};
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

/// A person who has signed in to a client with the key of the store, which refresh tokens of one use are bound to.
fn desk() -> (Desk, DpopKey, SharedGrant) {
    let rotating = |settings: &mut Settings| settings.refresh_tokens = RefreshTokens::Rotate { grace: Duration::ZERO };
    let mut desk = Desk::new(world(rotating));
    let metadata = desk.world.server().metadata();
    let key = desk.run(DpopKeyInStore::new(metadata.issuer(), &client())).unwrap();
    let client = client().dpop(key.clone());
    let record = RecordKey::new(metadata.issuer(), &client, "alice");
    let token = sign_in(&mut desk.world, &client);
    desk.run(SaveGrant::new(record.clone(), Want::access_token("read"), &token)).unwrap();
    (desk, key, SharedGrant::new(record, &metadata, &client))
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
    // No other origin is shown it.
    let own = world.server().address(Place::Resource);
    assert_eq!(nonces.get(&own.parse().unwrap()), Some("r-2"));
    for other in [
        own.replace("https:", "http:"),
        own.replace("as.example", "api.example"),
        own.replace(".example", ".example:8443"),
    ] {
        assert_eq!(nonces.get(&other.parse().unwrap()), None, "{other}");
    }
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
fn a_device_that_knows_the_nonce_asks_each_question_once() {
    let mut world = world(|settings| settings.dpop_nonce = Some("n-1".into()));
    let client = client().dpop(key(&mut world, Algorithm::ES256));
    let server = world.server().metadata();
    let code = world.run(DeviceAuthorization::new(&server, &client).unwrap().scopes("read").exchange()).unwrap();
    let (uri, user_code) = (code.verification_uri().to_owned(), code.user_code().to_owned());
    let mut polling = code.poll(&server, &client).unwrap();
    // Three questions before the person has entered the code.
    let mut reply = grantflow::Reply::Start;
    let mut asked = 0;
    while asked < 4 {
        let grantflow::Step::Do(effect) = grantflow::Machine::resume(&mut polling, &mut world.cx(), reply) else {
            panic!("it ended");
        };
        asked += usize::from(matches!(effect, grantflow::Effect::Http(_)));
        reply = world.carry_out(effect);
    }
    assert!(world.enter_code(&uri, &user_code));
    let token = loop {
        match grantflow::Machine::resume(&mut polling, &mut world.cx(), reply) {
            grantflow::Step::Do(effect) => reply = world.carry_out(effect),
            grantflow::Step::Done(token) => break token.unwrap(),
        }
    };
    // The nonce was learned at the first of the questions, which was put twice.
    assert_eq!((world.server().seen_at(Place::Token).len(), token.token_type()), (5, &TokenType::DPoP));
}

#[test]
fn a_nonce_is_asked_for_once_and_not_for_ever() {
    // A server whose nonce is another each time that it is shown.
    let mut world = world(|settings| settings.dpop_nonce = Some("n-1".into()));
    let client = batch().dpop(key(&mut world, Algorithm::ES256));
    let server = world.server().metadata();
    let refusal = r#"{"error":"use_dpop_nonce"}"#;
    for nth in 0..9 {
        let nonce = format!("other-{nth}");
        world.server().fail(Place::Token, grantflow_tests::Fault::status(400, refusal).header("dpop-nonce", &nonce));
    }
    let error = world.run(TokenRequest::client_credentials(&server, &client).unwrap().exchange()).unwrap_err();
    assert_eq!(error.server().map(|it| it.error()), Some("use_dpop_nonce"));
    assert_eq!(world.server().seen_at(Place::Token).len(), 2);
}

#[test]
fn a_key_is_made_once_for_all_processes_that_share_a_store() {
    let mut desk = Desk::new(world(|_| {}));
    let issuer = desk.world.server().metadata().issuer().clone();
    let ask = |desk: &mut Desk, issuer: &Issuer, client: &Client| desk.run(DpopKeyInStore::new(issuer, client));
    let first = ask(&mut desk, &issuer, &client()).unwrap();
    assert_eq!(desk.did, ["load", "save"]);
    let second = ask(&mut desk, &issuer, &client()).unwrap();
    assert_eq!((desk.did.as_slice(), &second), (["load"].as_slice(), &first));
    // Another client, and the same one elsewhere, have keys of their own.
    let elsewhere = Issuer::new("https://other.example").unwrap();
    let others = [ask(&mut desk, &issuer, &batch()).unwrap(), ask(&mut desk, &elsewhere, &client()).unwrap()];
    assert!(others.iter().all(|other| *other != first) && others[0] != others[1]);
    // What the server takes decides of which kind it is, as long as there is none.
    let eddsa = DpopKeyInStore::new(&issuer, &Client::new("third")).algorithm(Algorithm::EdDSA);
    assert_eq!(desk.run(eddsa).unwrap().algorithm(), Algorithm::EdDSA);
    let found = DpopKeyInStore::new(&issuer, &Client::new("third"));
    assert_eq!(desk.run(found).unwrap().algorithm(), Algorithm::EdDSA);
}

#[test]
fn of_two_makers_at_the_same_time_both_have_the_key_of_the_first() {
    let mut desk = Desk::new(world(|_| {}));
    let issuer = desk.world.server().metadata().issuer().clone();
    let there = issuer.clone();
    desk.before("save", move |desk| drop(desk.run(DpopKeyInStore::new(&there, &client())).unwrap()));
    let one = desk.run(DpopKeyInStore::new(&issuer, &client())).unwrap();
    assert_eq!(desk.did, ["load", "save", "load"]);
    assert_eq!(desk.run(DpopKeyInStore::new(&issuer, &client())).unwrap(), one);
    // A maker that does not know whether it was the first, and one that died before.
    let other = Issuer::new("https://other.example").unwrap();
    desk.trip("save", Trip::Lose);
    let error = desk.run(DpopKeyInStore::new(&other, &client())).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Store);
    let kept = desk.run(DpopKeyInStore::new(&other, &client())).unwrap();
    assert_eq!(desk.did, ["load"]);
    desk.die_before(DpopKeyInStore::new(&other, &batch()), "save");
    assert_ne!(desk.run(DpopKeyInStore::new(&other, &batch())).unwrap(), kept);
    assert_eq!(desk.did, ["load", "save"]);
}

#[test]
fn what_is_no_key_is_refused_shown_nowhere_and_never_overwritten() {
    let mut desk = Desk::new(world(|_| {}));
    let issuer = desk.world.server().metadata().issuer().clone();
    let place = RecordKey::of_dpop_key(&issuer, &client());
    let public = r#"{"alg":"ES256","kty":"EC","crv":"P-256","x":"AA","y":"AA"}"#;
    for value in [&b""[..], b"\xff\xfe", b"rt-secret", b"{}", public.as_bytes(), &[b'['; 100_000]] {
        desk.shelf.put(&place, desk.world.now.mono, Some(Stored::new(7, value)));
        let error = desk.run(DpopKeyInStore::new(&issuer, &client())).unwrap_err();
        assert!(error.kind() == ErrorKind::Store && error.to_string().contains("no private key"), "{error}");
        assert!(!format!("{error:?}").contains("rt-secret"), "{error:?}");
        assert_eq!((desk.did.as_slice(), desk.version(&place)), (["load"].as_slice(), 7));
    }
    desk.trip("load", Trip::Refuse);
    let error = desk.run(DpopKeyInStore::new(&issuer, &client())).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
}

#[test]
fn a_bound_grant_in_a_store_is_used_by_all_that_have_its_key() {
    let (mut desk, key, source) = desk();
    let (mut one, mut other) = (Process::of(&source), Process::of(&source));
    let token = one.mint(&mut desk).unwrap();
    assert_eq!((desk.did.as_slice(), token.dpop_key()), (["load"].as_slice(), Some(&key)));
    assert_eq!(resource(&mut desk.world, &token, &mut DpopNonces::default()).0, 200);
    let found = LoadGrant::new(source.key().clone(), Want::access_token("read"));
    assert!(desk.run(found).unwrap().unwrap().token.is_none(), "no client, no key");
    desk.world.pass(Duration::from_secs(3600));
    let token = other.mint(&mut desk).unwrap();
    assert_eq!(resource(&mut desk.world, &token, &mut DpopNonces::default()).0, 200);
    let again = one.mint(&mut desk).unwrap();
    assert_eq!((again.access_token(), again.dpop_key()), (token.access_token(), Some(&key)));
    assert_eq!(sent(&mut desk).len(), 1);
    assert_eq!(desk.record(source.key())["key_binding"], key.thumbprint());
}

#[test]
fn a_bound_grant_is_of_no_use_to_a_client_without_its_key_and_nothing_is_sent() {
    let (mut desk, _, source) = desk();
    desk.world.pass(Duration::from_secs(3600));
    let metadata = desk.world.server().metadata();
    let other = SigningKey::generate(Algorithm::ES256, &mut desk.world.cx()).unwrap();
    for client in [client(), client().dpop(other.into())] {
        let source = SharedGrant::new(source.key().clone(), &metadata, &client);
        let error = Process::of(&source).mint(&mut desk).unwrap_err();
        assert_eq!((error.kind(), error.advice()), (ErrorKind::Config, Some(Advice::FixConfiguration)));
        let has = if client.dpop_key().is_some() { "has another" } else { "has none" };
        assert!(error.to_string().contains(has) && error.to_string().contains("alice"), "{error}");
        assert_eq!(desk.did, ["load"]);
        let load = LoadGrant::new(source.key().clone(), Want::access_token("read")).of(&client);
        assert_eq!(desk.run(load).unwrap_err().kind(), ErrorKind::Config);
    }
    assert!(sent(&mut desk).is_empty());
}

#[test]
fn a_grant_for_bearers_becomes_bound_when_its_client_gets_a_key() {
    let mut desk = Desk::new(World::with(Server::demo()));
    let metadata = desk.world.server().metadata();
    let record = RecordKey::new(metadata.issuer(), &client(), "alice");
    let token = sign_in(&mut desk.world, &client());
    desk.run(SaveGrant::new(record.clone(), Want::access_token("read"), &token)).unwrap();
    let key = desk.run(DpopKeyInStore::new(metadata.issuer(), &client())).unwrap();
    let source = SharedGrant::new(record, &metadata, &client().dpop(key.clone()));
    // The token that anyone could use is not handed out, though it is good.
    let token = Process::of(&source).mint(&mut desk).unwrap();
    assert_eq!((token.dpop_key(), sent(&mut desk).len()), (Some(&key), 1));
    assert_eq!(desk.record(source.key())["key_binding"], key.thumbprint());
    assert_eq!(Process::of(&source).mint(&mut desk).unwrap().access_token(), token.access_token());
}

#[test]
fn a_server_that_goes_back_to_bearer_tokens_is_refused_and_its_new_refresh_token_kept() {
    let (mut desk, _, source) = desk();
    desk.world.pass(Duration::from_secs(3600));
    let old = kept(&desk, &source);
    desk.world.server().settings.alter_token = Alter::set("token_type", json!("Bearer"));
    let mut process = Process::of(&source);
    let error = process.mint(&mut desk).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TokenType, "{error}");
    let new = kept(&desk, &source);
    assert!(new != old && sent(&mut desk) == [old]);
    desk.world.server().settings.alter_token = Alter::default();
    assert_eq!(process.mint(&mut desk).unwrap().token_type(), &TokenType::DPoP);
}

/// What the token endpoint and the resource of the pretend server say to this proof: nothing, or the error.
fn judged(world: &mut World, place: Place, token: &Token, proofs: &[String]) -> Option<String> {
    let address = world.server().address(place);
    let request = match place {
        Place::Token => {
            let body = b"grant_type=client_credentials&scope=read".to_vec();
            let request = Request::post(address).header("content-type", "application/x-www-form-urlencoded");
            request.header("authorization", "Basic YmF0Y2g6YmF0Y2gtc2VjcmV0").body(body)
        }
        _ => Request::get(address).header("authorization", format!("DPoP {}", token.access_token())).body(Vec::new()),
    };
    let mut request = request.unwrap();
    for proof in proofs {
        request.headers_mut().append("dpop", proof.parse().unwrap());
    }
    let now = world.now.wall;
    let Wire::Whole(response) = world.server().answer(now, &request).wire else { panic!("no answer") };
    if response.status() == 200 {
        return None;
    }
    let challenges = grantflow::Challenge::all(response.headers());
    let told = challenges.iter().find_map(|challenge| challenge.error().map(str::to_owned));
    let body = serde_json::from_slice::<Value>(response.body()).unwrap_or_default();
    Some(told.or_else(|| body["error"].as_str().map(str::to_owned)).expect("an error"))
}

#[test]
fn the_pretend_servers_check_all_that_section_4_3_of_rfc_9449_names() {
    let signing = IssuerKey::es256("dpop").without_kid();
    let other = IssuerKey::es256("other").without_kid();
    let mut jwk = signing.jwk();
    jwk.as_object_mut().unwrap().retain(|name, _| !matches!(&**name, "use" | "alg"));
    let mut world = world(|settings| {
        settings.dpop_nonce = Some("n-1".into());
        settings.dpop_resource_nonce = Some("n-1".into());
    });
    // A token that is bound to the key which the proofs here are by.
    let point = [
        &[4][..],
        &[jwk["x"].as_str(), jwk["y"].as_str()].map(|it| URL_SAFE_NO_PAD.decode(it.unwrap()).unwrap()).concat(),
    ]
    .concat();
    assert_eq!(point, signing.public());
    let server = world.server().metadata();
    let mut nth = 0;
    let mut proof = |world: &mut World, place: Place, token: Option<&Token>, alter: &dyn Fn(&mut Value, &mut Value)| {
        nth += 1;
        let method = if place == Place::Token { "POST" } else { "GET" };
        let mut header = json!({"typ": "dpop+jwt", "alg": "ES256", "jwk": jwk});
        let mut claims = json!({
            "jti": format!("a-proof-of-tests-{nth:08}"), "htm": method, "htu": world.server().address(place),
            "iat": world.now.wall.as_unix(), "nonce": "n-1",
        });
        if let Some(token) = token {
            let digest = <sha2::Sha256 as sha2::Digest>::digest(token.access_token());
            claims["ath"] = URL_SAFE_NO_PAD.encode(digest).into();
        }
        alter(&mut header, &mut claims);
        (header, claims)
    };
    let key = DpopKey::new(BySigning(signing.clone()), &Jwk::from_json(jwk.to_string().as_bytes()).unwrap()).unwrap();
    let token = world.run(TokenRequest::client_credentials(&server, &batch().dpop(key)).unwrap().exchange()).unwrap();
    type Change = Box<dyn Fn(&mut Value, &mut Value)>;
    let claim = |name: &'static str, value: Value| -> Change {
        Box::new(move |_, claims| {
            claims[name] = value.clone();
            claims.as_object_mut().unwrap().retain(|_, value| !value.is_null());
        })
    };
    let member =
        |name: &'static str, value: Value| -> Change { Box::new(move |header, _| header[name] = value.clone()) };
    let now = world.now.wall.as_unix();
    let private = Value::from(URL_SAFE_NO_PAD.encode([7; 32]));
    let wrong = "invalid_dpop_proof";
    let table: Vec<(&str, Change, &str)> = vec![
        ("3: a claim is missing: jti", claim("jti", Value::Null), wrong),
        ("3: htm", claim("htm", Value::Null), wrong),
        ("3: htu", claim("htu", Value::Null), wrong),
        ("3: iat", claim("iat", Value::Null), wrong),
        ("4: typ", member("typ", json!("JWT")), wrong),
        ("5: alg none", member("alg", json!("none")), wrong),
        ("5: alg symmetric", member("alg", json!("HS256")), wrong),
        ("5: alg not supported", member("alg", json!("ES384")), wrong),
        (
            "6: the signature is of another key",
            Box::new({
                let jwk = other.jwk();
                move |header, _| {
                    for name in ["x", "y"] {
                        header["jwk"][name] = jwk[name].clone();
                    }
                }
            }),
            wrong,
        ),
        ("7: a private key", Box::new(move |header, _| header["jwk"]["d"] = private.clone()), wrong),
        ("8: htm", claim("htm", json!("PUT")), wrong),
        ("9: htu", claim("htu", json!("https://as.example/other")), wrong),
        ("9: htu of another host", claim("htu", json!("https://other.example/token")), wrong),
        ("10: nonce", claim("nonce", json!("n-0")), "use_dpop_nonce"),
        ("10: no nonce", claim("nonce", Value::Null), "use_dpop_nonce"),
        ("11: too old", claim("iat", json!(now - 61)), wrong),
        ("11: from the future", claim("iat", json!(now + 3)), wrong),
        ("11.1: a short jti", claim("jti", json!("short")), wrong),
        ("12: ath of another token", claim("ath", json!("fUHyO2r2Z3DZ53EsNrWBb0xWXoaNy59IiKCAqksmQEo")), wrong),
        ("a claim that none has", claim("extra", json!(1)), wrong),
    ];
    for place in [Place::Token, Place::Resource] {
        let shown = (place == Place::Resource).then_some(&token);
        let mut sign = |world: &mut World, change: &dyn Fn(&mut Value, &mut Value)| {
            let (header, claims) = proof(world, place, shown, change);
            signing.sign_with(&header, &claims)
        };
        let good = sign(&mut world, &|_, _| {});
        let (one, two) = (sign(&mut world, &|_, _| {}), sign(&mut world, &|_, _| {}));
        assert_eq!(judged(&mut world, place, &token, std::slice::from_ref(&good)), None, "{place:?}");
        assert_eq!(judged(&mut world, place, &token, &[good]).as_deref(), Some(wrong), "11.1: shown twice");
        assert_eq!(judged(&mut world, place, &token, &[one, two]).as_deref(), Some(wrong), "1: two headers");
        assert_eq!(judged(&mut world, place, &token, &["no JWT".into()]).as_deref(), Some(wrong), "2: no JWT");
        assert_eq!(judged(&mut world, place, &token, &[]).as_deref(), Some(wrong), "1: no header");
        for (why, change, error) in &table {
            let proof = sign(&mut world, change);
            assert_eq!(judged(&mut world, place, &token, &[proof]).as_deref(), Some(*error), "{why} at {place:?}");
        }
    }
    // 12: the token is bound to another key than the proof is by.
    let (mut header, claims) = proof(&mut world, Place::Resource, Some(&token), &|_, _| {});
    for name in ["x", "y"] {
        header["jwk"][name] = other.jwk()[name].clone();
    }
    let by_other = other.sign_with(&header, &claims);
    assert_eq!(judged(&mut world, Place::Resource, &token, &[by_other]).as_deref(), Some("invalid_token"));
}

/// A key of the pretend servers, as a client's.
struct BySigning(IssuerKey);

impl grantflow::crypto::Signer for BySigning {
    fn algorithm(&self) -> Algorithm {
        Algorithm::ES256
    }
    fn sign(&self, message: &[u8], _: &mut grantflow::Cx) -> grantflow::crypto::Signing {
        grantflow::crypto::Signing::Done(Ok(self.0.signature(message)))
    }
}

#[test]
fn a_resource_that_takes_proofs_by_other_algorithms_costs_no_token() {
    let mut world = world(|_| {});
    let client = batch().dpop(key(&mut world, Algorithm::ES256));
    let server = world.server().metadata();
    let token = world.run(TokenRequest::client_credentials(&server, &client).unwrap().exchange()).unwrap();
    let rejects = |challenge: &str| {
        let headers = HeaderMap::from_iter([(http::header::WWW_AUTHENTICATE, challenge.parse().unwrap())]);
        grantflow::Challenge::rejects_token(StatusCode::UNAUTHORIZED, &headers, &token)
    };
    for (challenge, expected) in [
        ("DPoP algs=\"PS256 EdDSA\"", false),
        ("Bearer, dpop algs=\"PS256\"", false),
        ("DPoP algs=\"\"", false),
        ("DPoP algs=\"PS256 ES256\"", true),
        ("DPoP realm=\"x\"", true),
        // The server looked at the token all the same.
        ("DPoP algs=\"PS256\", error=\"invalid_token\"", true),
    ] {
        assert_eq!(rejects(challenge), expected, "{challenge}");
    }
    let headers =
        HeaderMap::from_iter([(http::header::WWW_AUTHENTICATE, "DPoP algs=\"PS256 EdDSA\"".parse().unwrap())]);
    assert_eq!(grantflow::Challenge::all(&headers)[0].algs().collect::<Vec<_>>(), ["PS256", "EdDSA"]);
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

    // What its server says of the key, and what a proof says of the token.
    let payload = vector["bound_token"].as_str().unwrap().split('.').nth(1).unwrap();
    let bound: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap();
    assert_eq!(bound["cnf"]["jkt"], vector["jkt"]);
    let access_token = vector["access_token"].clone();
    let alter = Alter::by(move |answer| {
        answer["access_token"] = access_token.clone();
        answer["token_type"] = "DPoP".into();
    });
    let mut world = world(|settings| settings.alter_token = alter);
    let client = client().dpop(key(&mut world, Algorithm::ES256));
    let token = sign_in(&mut world, &client);
    let mut nonces = DpopNonces::default();
    let uri = "https://resource.example.org/protectedresource".parse().unwrap();
    for nonce in vector["nonces"].as_array().unwrap().iter().filter_map(Value::as_str) {
        let told = HeaderMap::from_iter([
            ("www-authenticate".parse().unwrap(), "DPoP error=\"use_dpop_nonce\"".parse().unwrap()),
            ("dpop-nonce".parse::<HeaderName>().unwrap(), nonce.parse().unwrap()),
        ]);
        assert!(nonces.learn(&uri, StatusCode::UNAUTHORIZED, &told));
        let mut headers = HeaderMap::new();
        token.authorize(&Method::GET, &uri, &mut headers, nonces.get(&uri), &mut world.cx()).unwrap();
        let proof = headers["dpop"].to_str().unwrap().split('.').nth(1).unwrap().to_owned();
        let claims: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(proof).unwrap()).unwrap();
        assert_eq!((&claims["ath"], claims["nonce"].as_str()), (&vector["ath"], Some(nonce)));
    }
}
