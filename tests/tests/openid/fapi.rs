//! A client that is held to the FAPI 2.0 Security Profile: the modules of the Foundation's plan for its clients, each as a test of
//! its name, for `private_key_jwt` with DPoP; the other pairs in one; and what is refused where the client is configured.

mod messages;

use grantflow::crypto::{Algorithm, MacAlgorithm, SigningKey};
use grantflow::dpop::DpopNonces;
use grantflow::machine::Identity;
use grantflow::{
    AuthorizationRequest, BackchannelAuthentication, Challenge, Client, ClientAuthentication, DeviceAuthorization,
    Discovery, DpopKey, Error, ErrorKind, Issuer, ServerMetadata, Token, TokenRequest, TokenType,
};
use grantflow_tests::google::{jwt_parts, private_key};
use grantflow_tests::kms::Es256;
use grantflow_tests::secure::Certificate;
use grantflow_tests::server::{Alter, ClientCertificate, Iss, Settings, Wire};
use grantflow_tests::{IssuerKey, Place, Registered, Server, World};
use http::{HeaderMap, Method, Request, StatusCode};
use serde_json::{Value, json};

use super::{REDIRECT, refused_of};

const MTLS: &str = "https://mtls.as.example";

/// A server of the profile, with a nonce for proofs, where this client is registered.
fn world_of(registered: Registered, change: impl FnOnce(&mut Settings)) -> World {
    World::with(Server::demo().client(registered.redirect_uri(REDIRECT)).with(|settings| {
        settings.keys = vec![IssuerKey::es256("es-1")];
        settings.mtls_origin = Some(MTLS.into());
        settings.require_pushed = true;
        settings.alter_metadata = Alter::set("id_token_signing_alg_values_supported", json!(["PS256", "ES256"]));
        settings.dpop_nonce = Some("n-1".into());
        settings.dpop_resource_nonce = Some("r-1".into());
        change(settings);
    }))
}

fn by_key(change: impl FnOnce(&mut Settings)) -> World {
    world_of(Registered::private_key_jwt("bank", [Es256::default().public()]), change)
}

fn key() -> DpopKey {
    SigningKey::generate(Algorithm::ES256, &mut World::default().cx()).unwrap().into()
}

/// The client as it is before it is held to the profile.
fn plain() -> Client {
    Client::new("bank").authentication(ClientAuthentication::private_key_jwt(Es256::default())).dpop(key())
}

fn client(world: &mut World) -> Client {
    plain().fapi2_security_profile(&world.server().metadata()).unwrap()
}

fn request(world: &mut World, client: &Client) -> AuthorizationRequest {
    AuthorizationRequest::new(&world.server().metadata(), client, REDIRECT).scopes("openid email")
}

fn sign_in(world: &mut World, client: &Client) -> Result<Token, Error> {
    let request = request(world, client);
    world.sign_in(request, client)
}

/// What the resource says, and whether it wants to see its nonce.
fn resource(world: &mut World, token: &Token, shown: Option<&Identity>, nonces: &mut DpopNonces) -> (u16, bool) {
    let mut request = Request::get(world.server().address(Place::Resource)).body(Vec::new()).unwrap();
    let (uri, nonce) = (request.uri().clone(), nonces.get(request.uri()).map(str::to_owned));
    let mut cx = world.cx();
    token.authorize(&Method::GET, &uri, request.headers_mut(), nonce.as_deref(), &mut cx).unwrap();
    if let Some(identity) = shown {
        let certificate = ClientCertificate::from_pem(identity.as_pem().unwrap().0).unwrap();
        request.extensions_mut().insert(certificate);
    }
    let now = world.now.wall;
    let Wire::Whole(response) = world.server().answer(now, &request).wire else { panic!("no answer") };
    let again = nonces.learn(&uri, response.status(), response.headers());
    (response.status().as_u16(), again)
}

/// An ID token with this claim set to this is refused, and the error says why.
fn refused(claim: &'static str, value: Value) {
    let mut world = by_key(|settings| {
        settings.dpop_nonce = None;
        settings.alter_id_claims = Alter::set(claim, value);
    });
    let client = client(&mut world);
    let request = request(&mut world, &client);
    refused_of(&mut world, request, &client, ErrorKind::IdToken, claim);
}

fn refused_header(value: Value) {
    let mut world = by_key(|settings| {
        settings.dpop_nonce = None;
        settings.alter_id_header = Alter::set("alg", value);
    });
    let client = client(&mut world);
    let request = request(&mut world, &client);
    refused_of(&mut world, request, &client, ErrorKind::IdToken, "alg");
}

/// A redirect that is refused, with no request after it.
fn stray(world: &mut World, change: impl Fn(String) -> String) {
    let client = client(world);
    let authorization = {
        let request = request(world, &client);
        world.run(request.start()).unwrap()
    };
    let redirect = change(world.person(&authorization.url));
    let error = world.run(authorization.pending.finish(&client, &redirect)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidRedirect, "{error}");
    assert!(world.server().seen_at(Place::Token).is_empty());
}

#[test]
fn fapi2_security_profile_final_client_test_happy_path() {
    let mut world = by_key(|_| {});
    let client = client(&mut world);
    let authorization = {
        let request = request(&mut world, &client);
        world.run(request.start()).unwrap()
    };
    let begun = "https://as.example/authorize?client_id=bank&request_uri=urn%3A";
    assert!(authorization.url.starts_with(begun) && !authorization.url.contains("scope"), "{}", authorization.url);
    let redirect = world.person(&authorization.url);
    let token = world.run(authorization.pending.finish(&client, &redirect)).unwrap();
    let mut nonces = DpopNonces::default();
    assert_eq!(resource(&mut world, &token, None, &mut nonces), (401, true));
    assert_eq!(resource(&mut world, &token, None, &mut nonces), (200, false));
    let pushed = world.server().seen_at(Place::PushedRequest).into_iter().next().unwrap().clone();
    assert_eq!(pushed.param("code_challenge_method").as_deref(), Some("S256"));
    assert!(pushed.param("nonce").unwrap().len() <= 64 && pushed.param("dpop_jkt").is_some());
    let token_request = world.server().seen_at(Place::Token).into_iter().next().unwrap().clone();
    for seen in [pushed, token_request] {
        let (_, claims) = jwt_parts(&seen.param("client_assertion").unwrap());
        assert_eq!(claims["aud"], "https://as.example");
        let [iat, exp] = ["iat", "exp"].map(|name| claims[name].as_i64().unwrap());
        let now = world.now.wall.as_unix();
        assert!(iat <= now && now - iat <= 60 && exp - now <= 300, "{iat} {now} {exp}");
    }
}

#[test]
fn fapi2_security_profile_final_client_test_happy_path_no_dpop_nonce() {
    let mut world = by_key(|settings| (settings.dpop_nonce, settings.dpop_resource_nonce) = (None, None));
    let client = client(&mut world);
    let token = sign_in(&mut world, &client).unwrap();
    assert_eq!(resource(&mut world, &token, None, &mut DpopNonces::default()), (200, false));
    assert_eq!(world.server().seen_at(Place::Token).len(), 1);
}

#[test]
fn fapi2_security_profile_final_client_test_discovery_issuer_mismatch() {
    let mut world = by_key(|settings| {
        settings.alter_metadata = Alter::set("issuer", json!("https://other.example"));
    });
    let error = world.run(Discovery::new(&Issuer::new("https://as.example").unwrap())).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Issuer);
}

#[test]
fn fapi2_security_profile_final_client_test_invalid_iss() {
    refused("iss", json!("https://as.example/other"));
}

#[test]
fn fapi2_security_profile_final_client_test_missing_iss() {
    refused("iss", Value::Null);
}

#[test]
fn fapi2_security_profile_final_client_test_invalid_aud() {
    refused("aud", json!("another"));
}

#[test]
fn fapi2_security_profile_final_client_test_missing_aud() {
    refused("aud", Value::Null);
}

#[test]
fn fapi2_security_profile_final_client_test_invalid_secondary_aud() {
    refused("aud", json!(["bank", "another"]));
}

#[test]
fn fapi2_security_profile_final_client_test_valid_aud_as_array() {
    let mut world = by_key(|settings| settings.alter_id_claims = Alter::set("aud", json!(["bank"])));
    let client = client(&mut world);
    sign_in(&mut world, &client).unwrap();
}

#[test]
fn fapi2_security_profile_final_client_test_invalid_null_alg() {
    let mut world = by_key(|settings| {
        settings.dpop_nonce = None;
        settings.keys.clear();
        settings.alter_id_header = Alter::set("alg", json!("none"));
    });
    let client = client(&mut world);
    let request = request(&mut world, &client);
    refused_of(&mut world, request, &client, ErrorKind::IdToken, "alg");
}

#[test]
fn fapi2_security_profile_final_client_test_invalid_alternate_alg() {
    let by_rs256 = |settings: &mut Settings| {
        (settings.dpop_nonce, settings.keys) = (None, vec![IssuerKey::rs256("rs-1")]);
    };
    let mut world = by_key(by_rs256);
    let client = client(&mut world);
    let request = request(&mut world, &client);
    refused_of(&mut world, request, &client, ErrorKind::IdToken, "alg");
    // The client may be registered for one of those that the profile permits.
    let mut world = by_key(|settings| settings.dpop_nonce = None);
    let client = plain().id_token_signed_response_alg(Algorithm::PS256);
    let client = client.fapi2_security_profile(&world.server().metadata()).unwrap();
    let request = self::request(&mut world, &client);
    refused_of(&mut world, request, &client, ErrorKind::IdToken, "alg");
    refused_header(json!("HS256"));
}

#[test]
fn fapi2_security_profile_final_client_test_invalid_expired_exp() {
    let past = World::default().now.wall.as_unix() - 301;
    refused("exp", json!(past));
}

#[test]
fn fapi2_security_profile_final_client_test_invalid_missing_exp() {
    refused("exp", Value::Null);
}

#[test]
fn fapi2_security_profile_final_client_test_invalid_nonce() {
    refused("nonce", json!("another"));
}

#[test]
fn fapi2_security_profile_final_client_test_invalid_missing_nonce() {
    refused("nonce", Value::Null);
}

#[test]
fn fapi2_security_profile_final_client_test_invalid_authorization_response_iss() {
    stray(&mut by_key(|settings| settings.iss = Iss::Wrong("https://other.example".into())), |redirect| redirect);
}

#[test]
fn fapi2_security_profile_final_client_test_remove_authorization_response_iss() {
    stray(&mut by_key(|settings| settings.iss = Iss::Stripped), |redirect| redirect);
}

#[test]
fn fapi2_security_profile_final_client_test_ensure_authorization_response_with_invalid_state_fails() {
    stray(&mut by_key(|_| {}), |redirect| redirect.replace("state=", "state=x"));
}

#[test]
fn fapi2_security_profile_final_client_test_ensure_authorization_response_with_invalid_missing_state_fails() {
    stray(&mut by_key(|_| {}), |redirect| redirect.replace("state=", "other="));
}

#[test]
fn fapi2_security_profile_final_client_test_token_endpoint_response_without_expires_in() {
    let mut world = by_key(|settings| settings.alter_token = Alter::set("expires_in", Value::Null));
    let client = client(&mut world);
    assert_eq!(sign_in(&mut world, &client).unwrap().expires_at(), None);
}

#[test]
fn fapi2_security_profile_final_client_test_token_type_case_insensitivity() {
    let mut world = by_key(|settings| settings.alter_token = Alter::set("token_type", json!("dpOp")));
    let client = client(&mut world);
    assert_eq!(sign_in(&mut world, &client).unwrap().token_type(), &TokenType::DPoP);
}

#[test]
fn fapi2_security_profile_final_client_test_rs_dpop_auth_scheme_case_insensitivity() {
    let uri = "https://api.example/accounts".parse().unwrap();
    let headers = HeaderMap::from_iter([
        (http::header::WWW_AUTHENTICATE, "dPOp error=\"use_dpop_nonce\"".parse().unwrap()),
        ("dpop-nonce".parse().unwrap(), "n-2".parse().unwrap()),
    ]);
    let mut nonces = DpopNonces::default();
    assert!(nonces.learn(&uri, StatusCode::UNAUTHORIZED, &headers));
    assert_eq!(nonces.get(&uri), Some("n-2"));
}

#[test]
fn fapi2_security_profile_final_client_refresh_token_test() {
    let mut world = by_key(|settings| settings.dpop_resource_nonce = None);
    let client = client(&mut world);
    let token = sign_in(&mut world, &client).unwrap();
    let headers =
        HeaderMap::from_iter([(http::header::WWW_AUTHENTICATE, "DPoP error=\"invalid_token\"".parse().unwrap())]);
    assert!(Challenge::rejects_token(StatusCode::UNAUTHORIZED, &headers, &token));
    let server = world.server().metadata();
    let token = world.run(TokenRequest::refresh(&server, &client, &token).unwrap().exchange()).unwrap();
    assert_eq!(resource(&mut world, &token, None, &mut DpopNonces::default()), (200, false));
}

#[test]
fn each_pair_of_authentication_and_binding_signs_in() {
    let (own, other) = (Certificate::self_signed("bank.example"), Certificate::self_signed("bank.example").identity());
    let certified = Registered::self_signed_tls_client_auth("bank", [own.shown()]);
    let by_certificate = ClientAuthentication::self_signed_tls_client_auth(own.identity());
    let keyed = Registered::private_key_jwt("bank", [Es256::default().public()]);
    let assertion = || ClientAuthentication::private_key_jwt(Es256::default());
    for (registered, method, bound) in [
        (keyed.clone(), assertion(), true),
        (keyed, assertion(), false),
        (certified.clone(), by_certificate.clone(), true),
        (certified, by_certificate, false),
    ] {
        let mut world = world_of(registered, |settings| settings.dpop_resource_nonce = None);
        let client = Client::new("bank").authentication(method);
        let client = if bound { client.dpop(key()) } else { client.identity(own.identity()) };
        let client = client.fapi2_security_profile(&world.server().metadata()).unwrap();
        let token = sign_in(&mut world, &client).unwrap();
        assert_eq!(token.dpop_key().is_some(), bound);
        let nonces = &mut DpopNonces::default();
        assert_eq!(resource(&mut world, &token, Some(&own.identity()), nonces).0, 200);
        if !bound {
            assert_eq!(resource(&mut world, &token, Some(&other), nonces).0, 401);
        }
    }
}

/// The error of a client that cannot be held to the profile, at a server whose metadata has this member instead.
fn cannot(client: Client, member: Option<(&str, Value)>, why: &str) {
    let server = by_key(|_| {}).server().metadata();
    let server = member.into_iter().fold(server, |server, (name, value)| server.member(name, value));
    let error = client.fapi2_security_profile(&server).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.to_string().contains(why), "{error} says nothing of {why:?}");
}

#[test]
fn a_client_that_lacks_what_the_profile_demands_is_refused_where_it_is_configured() {
    use ClientAuthentication as By;
    let own = || Client::new("bank").dpop(key());
    for method in [By::none(), By::client_secret_basic("s"), By::client_secret_post("s"), By::client_secret_jwt("s")] {
        cannot(own().authentication(method), None, "private_key_jwt or by a certificate");
    }
    let legacy = By::private_key_jwt_with_legacy_audience(Es256::default(), "https://as.example/token");
    cannot(own().authentication(legacy), None, "legacy audience");
    let rs256 = || SigningKey::from_pem(Algorithm::RS256, &private_key()).unwrap();
    cannot(own().authentication(By::private_key_jwt(rs256())), None, "assertions are signed by PS256");
    cannot(own().authentication(By::private_key_jwt_of_any([rs256()])), None, "none of the client's keys");
    cannot(plain().dpop(rs256().into()), None, "DPoP proofs are signed by PS256");
    let unbound = Client::new("bank").authentication(By::private_key_jwt(Es256::default()));
    cannot(unbound, None, "set Client::dpop or Client::identity");
    cannot(plain().id_token_signed_response_alg(Algorithm::RS256), None, "ID tokens are signed by PS256");
    cannot(plain().authorization_signed_response_alg(Algorithm::RS256), None, "answers are signed by PS256");
    cannot(plain().id_token_signed_by_secret(MacAlgorithm::HS256), None, "not by the client's secret");
    let elsewhere = plain().registered_at(Issuer::new("https://other.example").unwrap());
    let server = by_key(|_| {}).server().metadata();
    assert_eq!(elsewhere.fapi2_security_profile(&server).unwrap_err().kind(), ErrorKind::Issuer);
    // Of several keys those are taken that the profile permits.
    let several: [Box<dyn Fn() -> SigningKey>; 2] =
        [Box::new(rs256), Box::new(|| SigningKey::generate(Algorithm::ES256, &mut World::default().cx()).unwrap())];
    let of_any = By::private_key_jwt_of_any(several.iter().map(|key| key()));
    own().authentication(of_any).fapi2_security_profile(&server).unwrap();
}

#[test]
fn a_server_that_does_not_say_what_the_profile_demands_is_refused_where_its_client_is_configured() {
    for (member, value) in [
        ("pushed_authorization_request_endpoint", Value::Null),
        ("authorization_response_iss_parameter_supported", json!(false)),
        ("code_challenge_methods_supported", json!(["plain"])),
        ("code_challenge_methods_supported", Value::Null),
        ("token_endpoint_auth_methods_supported", json!(["client_secret_basic"])),
        ("token_endpoint_auth_signing_alg_values_supported", json!(["RS256"])),
        ("id_token_signing_alg_values_supported", json!(["RS256", "HS256"])),
        ("dpop_signing_alg_values_supported", Value::Null),
        ("dpop_signing_alg_values_supported", json!(["RS256"])),
    ] {
        cannot(plain(), Some((member, value)), member);
    }
    let registered = plain().id_token_signed_response_alg(Algorithm::EdDSA);
    cannot(registered, None, "does not take EdDSA (id_token_signing_alg_values_supported)");
    let certificate = ClientAuthentication::tls_client_auth(Certificate::self_signed("bank").identity());
    let certified = Client::new("bank").authentication(certificate);
    let member = "tls_client_certificate_bound_access_tokens";
    cannot(certified.clone(), Some((member, json!(false))), member);
    // In cleartext, which only a server on this machine may be reached in, and not by the profile.
    let local = ServerMetadata::new(Issuer::new("http://127.0.0.1:8080").unwrap());
    let error = certified.fapi2_security_profile(&local).unwrap_err();
    assert!(error.to_string().contains("https alone"), "{error}");
}

#[test]
fn a_setter_that_takes_back_what_the_profile_demands_is_an_error_where_the_client_is_used() {
    let mut world = by_key(|_| {});
    let server = world.server().metadata();
    let secret = ClientAuthentication::client_secret_basic("s3cret");
    for weaker in
        [client(&mut world).authentication(secret), client(&mut world).id_token_signed_response_alg(Algorithm::RS256)]
    {
        assert_eq!(TokenRequest::client_credentials(&server, &weaker).unwrap_err().kind(), ErrorKind::Config);
        let request = request(&mut world, &weaker);
        assert_eq!(world.run(request.start()).unwrap_err().kind(), ErrorKind::Config);
    }
    let client = client(&mut world);
    let rs256 = SigningKey::from_pem(Algorithm::RS256, &private_key()).unwrap();
    let silent = AuthorizationRequest::new(
        &server.clone().member("authorization_response_iss_parameter_supported", Value::Null),
        &client,
        REDIRECT,
    );
    for request in
        [request(&mut world, &client).plain_code_challenge(), request(&mut world, &client).sign(rs256), silent]
    {
        assert_eq!(world.run(request.start()).unwrap_err().kind(), ErrorKind::Config);
    }
    assert_eq!(TokenRequest::password(&server, &client, "alice", "wonderland").unwrap_err().kind(), ErrorKind::Config);
    // Where there is no browser too.
    let secret = || client.clone().authentication(ClientAuthentication::client_secret_basic("s3cret"));
    assert_eq!(DeviceAuthorization::new(&server, &secret()).unwrap_err().kind(), ErrorKind::Config);
    let Err(error) = BackchannelAuthentication::new(&server, &secret()) else { panic!("a secret is taken") };
    assert_eq!(error.kind(), ErrorKind::Config);
    let rs256 = SigningKey::from_pem(Algorithm::RS256, &private_key()).unwrap();
    let asked = BackchannelAuthentication::new(&server, &client).unwrap().login_hint("alice").sign(rs256);
    let error = world.run(asked.start()).unwrap_err();
    assert!(error.kind() == ErrorKind::Config && error.to_string().contains("RS256"), "{error}");
    assert!(world.server().seen().is_empty());
}
