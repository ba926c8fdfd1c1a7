//! Clients that authenticate by a signed assertion (RFC 7523, RFC 10070), by keys that are here or far away.

use std::collections::BTreeSet;
use std::time::Duration;

use grantflow::crypto::{Algorithm, Signer, SigningKey};
use grantflow::exchange::Request;
use grantflow::machine::{FailureKind, Repeat};
use grantflow::{
    Advice, AuthorizationRequest, Client, ClientAuthentication, DeviceAuthorization, Discovery, Endpoint, Error,
    ErrorKind, Failure, Issuer, Now, Revocation, Rotation, ServerMetadata, Token, TokenExchange, TokenRequest,
};
use grantflow_tests::canary::hidden_in_error;
use grantflow_tests::demo::REDIRECT;
use grantflow_tests::google::{jwt_parts, private_key, public_key};
use grantflow_tests::jwt::PublicKey;
use grantflow_tests::kms::{self, Es256, FarKey};
use grantflow_tests::server::{Alter, Seen};
use grantflow_tests::{Fault, Place, Registered, Server, World, canary};
use http::Response;
use serde_json::{Value, json};

const SECOND: Duration = Duration::from_secs(1);
const ISSUER: &str = "https://as.example";

fn registered() -> Registered {
    let keys = [Es256::default().public(), PublicKey::Rs256(public_key())];
    Registered::private_key_jwt("app", keys).redirect_uri(REDIRECT)
}

fn world() -> World {
    World::with(Server::demo().client(registered()))
}

fn rs256() -> SigningKey {
    SigningKey::from_pem(Algorithm::RS256, &private_key()).unwrap().with_key_id("rs-1")
}

fn client(key: impl Signer + 'static) -> Client {
    Client::new("app").authentication(ClientAuthentication::private_key_jwt(key))
}

/// The three kinds of keys, with the algorithm and the `kid` that they say.
fn clients() -> [(Client, &'static str, &'static str); 3] {
    [
        (client(rs256()), "RS256", "rs-1"),
        (client(Es256::default()), "ES256", kms::KEY_ID),
        (client(FarKey::default()), "ES256", kms::KEY_ID),
    ]
}

fn client_credentials(world: &mut World, client: &Client) -> TokenExchange {
    TokenRequest::client_credentials(&world.server().metadata(), client).unwrap().exchange()
}

fn sign_in(world: &mut World, client: &Client) -> Token {
    let request = AuthorizationRequest::new(&world.server().metadata(), client, REDIRECT).scopes("read");
    world.sign_in(request, client).unwrap()
}

fn refresh(world: &mut World, client: &Client, token: &Token) -> TokenExchange {
    let request = TokenRequest::refresh(&world.server().metadata(), client, token).unwrap();
    request.rotation(Rotation::Rotates).exchange()
}

fn claims(seen: &Seen) -> (Value, Value) {
    jwt_parts(&seen.param("client_assertion").expect("an assertion"))
}

#[test]
fn every_endpoint_that_a_client_calls_takes_its_assertion_from_any_key() {
    for (client, algorithm, key_id) in clients() {
        let mut world = world();
        let server = world.server().metadata();
        let token = sign_in(&mut world, &client);
        let exchange = refresh(&mut world, &client, &token);
        world.run(exchange).unwrap();
        let exchange = client_credentials(&mut world, &client);
        world.run(exchange).unwrap();
        world.run(Revocation::new(&server, &client, token.refresh_token().unwrap()).unwrap().exchange()).unwrap();
        let code = world.run(DeviceAuthorization::new(&server, &client).unwrap().scopes("read").exchange()).unwrap();
        assert!(world.enter_code(code.verification_uri(), code.user_code()));
        world.run(code.poll(&server, &client).unwrap()).unwrap();

        let mut ids = BTreeSet::new();
        let places = [Place::Token, Place::Revoke, Place::Device];
        let seen: Vec<_> = world.server().seen().iter().filter(|seen| places.contains(&seen.place)).cloned().collect();
        assert_eq!(seen.len(), 6);
        for seen in &seen {
            let (header, claims) = claims(seen);
            assert_eq!(header, json!({"alg": algorithm, "typ": "client-authentication+jwt", "kid": key_id}));
            assert_eq!(
                (&claims["iss"], &claims["sub"], &claims["aud"]),
                (&json!("app"), &json!("app"), &json!(ISSUER))
            );
            let (iat, exp) = (claims["iat"].as_i64().unwrap(), claims["exp"].as_i64().unwrap());
            assert!((1..=10).contains(&(seen.at.as_unix() - iat)) && exp - seen.at.as_unix() > 60 && exp - iat <= 300);
            assert!(claims["jti"].as_str().unwrap().len() == 22 && claims.as_object().unwrap().len() == 6);
            ids.insert(claims["jti"].to_string());
            assert_eq!((seen.param("client_id").as_deref(), seen.header("authorization")), (Some("app"), None));
        }
        assert_eq!(ids.len(), seen.len(), "none is used twice");
    }
}

#[test]
fn each_try_has_an_assertion_of_its_own() {
    for (client, ..) in clients() {
        // What the server took and whose answer is lost, what it turned away, and what never got there.
        for fault in [Some(Fault::DropAfter), Some(Fault::status(503, "")), None] {
            let mut world = world();
            match fault.clone() {
                Some(fault) => world.server().fail(Place::Token, fault),
                None => world.fail(Failure::not_sent(FailureKind::Connect, "refused")),
            }
            let exchange = client_credentials(&mut world, &client);
            world.run(exchange).unwrap();
            let seen: Vec<_> = world.server().seen_at(Place::Token).into_iter().map(claims).collect();
            assert_eq!(seen.len(), if fault.is_some() { 2 } else { 1 });
            if let [(_, first), (_, second)] = &seen[..] {
                assert_ne!(first["jti"], second["jti"]);
            }
        }
    }
}

/// What can go wrong at a key store, and how often it is then asked.
/// What goes wrong, and how.
type Trouble = (&'static str, fn(&mut World));

fn troubles() -> Vec<Trouble> {
    fn answers(world: &mut World, status: u16, body: &str) {
        let response = || Response::builder().status(status).body(body.as_bytes().to_vec()).unwrap();
        world.kms.faults = (0..9).map(|_| response()).collect();
    }
    vec![
        ("it may have been sent", |world| {
            (0..9).for_each(|_| world.fail(Failure::maybe_sent(FailureKind::Broken, "it broke")));
        }),
        ("no answer", |world| world.fail_after(60 * SECOND, Failure::maybe_sent(FailureKind::Timeout, "too long"))),
        ("tls", |world| world.fail(Failure::not_sent(FailureKind::Tls, "somebody else's certificate"))),
        ("busy", |world| answers(world, 503, "")),
        ("gateway", |world| answers(world, 502, "")),
        ("denied", |world| answers(world, 403, r#"{"error":"permission_denied"}"#)),
        ("a grant of its own", |world| answers(world, 400, r#"{"error":"invalid_grant"}"#)),
        ("a token of its own", |world| answers(world, 401, r#"{"error":"invalid_token"}"#)),
        ("nonsense", |world| answers(world, 200, "<html>")),
    ]
}

#[test]
fn a_key_store_that_fails_says_nothing_about_the_refresh_token() {
    let client = client(FarKey::default());
    for (name, spoil) in troubles() {
        let mut world = world();
        let token = sign_in(&mut world, &client);
        let before = world.server().seen().len();
        spoil(&mut world);
        let exchange = refresh(&mut world, &client, &token);
        let began = world.now.mono;
        let error = world.run(exchange).expect_err(name);
        assert_eq!(error.kind(), ErrorKind::Signing, "{name}: {error}");
        assert!(!error.is_uncertain() && error.advice() != Some(Advice::SignInAgain), "{name}: {error}");
        assert!(error.server().is_none() && error.status().is_none(), "{name}: {error:?}");
        let transient = ["it may have been sent", "no answer", "busy", "gateway"].contains(&name);
        assert_eq!(error.is_transient(), transient, "{name}: {error}");
        assert_eq!(world.server().seen().len(), before, "{name}: nothing was sent");
        assert!(world.now.mono - began <= 30 * SECOND, "{name}: {:?}", world.now.mono - began);
        // The same grant goes on, when the key store does.
        world.kms.faults.clear();
        while world.run(refresh_again(&client, &token)).is_err() {}
        assert_eq!(world.server().seen().len(), before + 1, "{name}");
    }
}

fn refresh_again(client: &Client, token: &Token) -> TokenExchange {
    TokenRequest::refresh(&Server::demo().metadata(), client, token).unwrap().exchange()
}

#[test]
fn what_a_key_store_is_asked_keeps_to_the_time_of_the_exchange() {
    let mut world = world();
    let end = Now { wall: world.now.wall + 4 * SECOND, mono: world.now.mono + 4 * SECOND };
    let exchange = client_credentials(&mut world, &client(FarKey::default()));
    world.run(exchange.total_time(5 * SECOND).start_before(end)).unwrap();
    let [kms, token] = world.sent()[..] else { panic!() };
    assert_eq!(kms.request.uri().host(), Some("kms.example"));
    assert_eq!((kms.timeout, kms.start_before), (5 * SECOND, Some(end)));
    assert_eq!((token.timeout, token.start_before), (5 * SECOND - world.latency, Some(end)));
    // A key store that takes all of it leaves none to send in.
    world.fail_after(60 * SECOND, Failure::maybe_sent(FailureKind::Timeout, "too long"));
    let exchange = client_credentials(&mut world, &client(FarKey::default()));
    let (began, before) = (world.now.mono, world.server().seen().len());
    let error = world.run(exchange.total_time(5 * SECOND)).unwrap_err();
    assert!(error.is_transient() && error.kind() == ErrorKind::Signing, "{error}");
    assert_eq!((world.now.mono - began, world.server().seen().len()), (5 * SECOND, before));
    // After the moment to begin nobody is asked for anything.
    let end = world.now;
    let exchange = client_credentials(&mut world, &client(FarKey::default()));
    let asked = world.kms.asked;
    assert_eq!(world.run(exchange.start_before(end)).unwrap_err().kind(), ErrorKind::Timeout);
    assert_eq!(world.kms.asked, asked);
}

#[test]
fn a_driver_that_refuses_what_a_signer_needs_gets_an_error_of_the_signer() {
    let mut world = world();
    world.refuse = vec!["Http"];
    let exchange = client_credentials(&mut world, &client(FarKey::default()));
    assert_eq!(world.run(exchange).unwrap_err().kind(), ErrorKind::Signing);
}

// --- whom an assertion is for

#[test]
fn the_audience_is_the_issuer_whatever_the_metadata_says() {
    // A server that names another's endpoint as its own gets nothing that is good there (CVE-2025-27370).
    for (name, value) in [
        ("token_endpoint", json!("https://as.example/token")),
        ("aliases", json!(["https://as.example"])),
        ("token_endpoint_auth_audience", json!("https://as.example")),
    ] {
        let evil = Server::new("https://evil.example").with(|s| s.alter_metadata = Alter::set(name, value));
        let mut world = world().and(evil);
        let issuer = Issuer::new("https://evil.example").unwrap();
        let server = world.run(Discovery::new(&issuer)).unwrap();
        let client = client(Es256::default());
        let exchange = TokenRequest::client_credentials(&server, &client).unwrap().exchange();
        let body = exchange.request().to_http(&mut world.cx()).unwrap().into_body();
        let assertion = url::form_urlencoded::parse(&body).find(|(name, _)| name == "client_assertion").unwrap().1;
        assert_eq!(jwt_parts(&assertion).1["aud"], "https://evil.example");
        let error = world.run(exchange).unwrap_err();
        assert!(world.server().seen().iter().all(|seen| seen.place == Place::Token), "{error}");
        assert_eq!(error.server().unwrap().error(), "invalid_client");
    }
}

#[test]
fn an_assertion_is_as_the_example_of_rfc_10070() {
    let vector: Value = serde_json::from_str(include_str!("../data/rfc10070.json")).unwrap();
    let text = |name: &str| vector["claims"][name].as_str().unwrap().to_owned();
    let key = SigningKey::generate(Algorithm::ES256, &mut World::default().cx()).unwrap();
    let key = key.with_key_id(vector["header"]["kid"].as_str().unwrap());
    let client = Client::new(text("iss")).authentication(ClientAuthentication::private_key_jwt(key));
    let server = ServerMetadata::new(Issuer::new(text("aud")).unwrap());
    let server = server.token_endpoint("https://authz.example.net/token").unwrap();
    let exchange = TokenRequest::client_credentials(&server, &client).unwrap().exchange();
    let body = exchange.request().to_http(&mut World::default().cx()).unwrap().into_body();
    let found = url::form_urlencoded::parse(&body).find(|(name, _)| name == "client_assertion").unwrap().1.into_owned();
    let (header, claims) = jwt_parts(&found);
    assert_eq!(header, vector["header"]);
    for (name, value) in vector["claims"].as_object().unwrap() {
        assert_eq!(claims[name], *value, "{name}");
    }
}

fn legacy() -> Client {
    Client::new("app").authentication(ClientAuthentication::private_key_jwt_with_legacy_audience(
        Es256::default(),
        "https://as.example/token",
    ))
}

#[test]
fn a_legacy_audience_is_for_one_server_that_is_named() {
    let here = Issuer::new(ISSUER).unwrap();
    let mut world = World::with(Server::demo().client(registered().legacy_audience("https://as.example/token")));
    let bound = legacy().registered_at(here);
    let exchange = client_credentials(&mut world, &bound);
    world.run(exchange).unwrap();
    let (header, claims) = claims(world.server().seen_at(Place::Token)[0]);
    assert_eq!((&header["typ"], &claims["aud"]), (&json!("JWT"), &json!("https://as.example/token")));
    // At a server that nobody named it would be anybody's.
    let exchange = client_credentials(&mut world, &legacy());
    let error = world.run(exchange).unwrap_err();
    assert!(error.kind() == ErrorKind::Config && error.to_string().contains("registered_at"), "{error}");
    let evil = Issuer::new("https://evil.example").unwrap();
    let evil = ServerMetadata::new(evil).token_endpoint("https://evil.example/token").unwrap();
    assert_eq!(TokenRequest::client_credentials(&evil, &bound).unwrap_err().kind(), ErrorKind::Issuer);
    assert_eq!(world.server().seen().len(), 1);
    // A server of today refuses it.
    let mut world = self::world();
    let exchange = client_credentials(&mut world, &bound);
    assert_eq!(world.run(exchange).unwrap_err().server().unwrap().error(), "invalid_client");
}

// --- what shows

#[test]
fn no_assertion_is_in_any_error() {
    for (client, ..) in clients() {
        for status in [200, 400, 401, 500] {
            let mut world = world();
            let mut exchange = client_credentials(&mut world, &client);
            let mut reply = grantflow::Reply::Start;
            let mut assertions = Vec::new();
            let error = loop {
                use grantflow::{Effect, Machine, Step};
                match exchange.resume(&mut world.cx(), reply) {
                    Step::Do(Effect::Http(call)) if format!("{call:?}").contains("as.example") => {
                        canary::hidden_in_debug("a call", &call, &[]);
                        let call = call.open(grantflow::machine::Rules::V1).unwrap();
                        let sent = url::form_urlencoded::parse(call.request.body())
                            .find(|(name, _)| name == "client_assertion")
                            .map(|(_, value)| value.into_owned());
                        let assertion = sent.unwrap();
                        let body = json!({
                            "error": assertion, "error_description": format!("no: '{assertion}'"),
                            "error_uri": format!("https://x/?{assertion}"),
                        });
                        assertions.push(assertion);
                        let response = Response::builder().status(status).body(body.to_string().into_bytes());
                        reply = grantflow::Reply::Http(response.unwrap());
                    }
                    Step::Do(effect) => reply = world.carry_out(effect),
                    Step::Done(result) => break result.unwrap_err(),
                }
            };
            let signatures: Vec<String> =
                assertions.drain(..).map(|jwt| jwt.rsplit('.').next().unwrap().to_owned()).collect();
            let signatures: Vec<&str> = signatures.iter().map(String::as_str).collect();
            hidden_in_error(&error, &signatures);
        }
        canary::hidden_in_debug("a client", &client, &[kms::TOKEN]);
    }
}

#[test]
fn an_assertion_of_those_who_send_alone_is_in_no_error_either() {
    let mut world = world();
    let server = world.server().metadata();
    let (request, parse) = TokenRequest::client_credentials(&server, &client(rs256())).unwrap().into_parts();
    let sent = request.to_http(&mut world.cx()).unwrap();
    let assertion = url::form_urlencoded::parse(sent.body()).find(|(name, _)| name == "client_assertion").unwrap().1;
    let body = json!({"error": "x", "error_description": assertion}).to_string().into_bytes();
    let (response, now) = (Response::new(body), world.now.wall);
    let error = parse(grantflow::exchange::Received { response: &response, sent: now, now }).0.unwrap_err();
    hidden_in_error(&error, &[assertion.rsplit('.').next().unwrap()]);
    // Each is another; a far key cannot be asked here.
    assert_ne!(sent.body(), request.to_http(&mut world.cx()).unwrap().body());
    let (request, _) = TokenRequest::client_credentials(&server, &client(FarKey::default())).unwrap().into_parts();
    let error = request.to_http(&mut world.cx()).unwrap_err();
    assert!(error.kind() == ErrorKind::Config && error.to_string().contains("Exchange"), "{error}");
    assert!(world.did().is_empty());
}

#[test]
fn without_randomness_nothing_is_signed() {
    let mut world = world();
    let exchange = client_credentials(&mut world, &client(Es256::default()));
    let mut cx = grantflow::Cx::without_entropy(world.now);
    assert_eq!(exchange.request().to_http(&mut cx).unwrap_err().kind(), ErrorKind::Entropy);
}

// --- the pretend server is strict

/// Posts an assertion of these claims, altered: what the server says to it.
fn judged(
    world: &mut World,
    header: &Value,
    claims: &Value,
    key: &Es256,
    extra: &[(&str, &str)],
) -> Result<(), String> {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let signed = format!("{}.{}", encode(header), encode(claims));
    let grantflow::crypto::Signing::Done(Ok(signature)) = key.sign(signed.as_bytes(), &mut world.cx()) else {
        panic!()
    };
    let assertion = format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature));
    let endpoint = Endpoint::new(&world.server().address(Place::Token)).unwrap();
    let mut pairs = vec![
        ("grant_type", "client_credentials"),
        ("client_id", "app"),
        ("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"),
        ("client_assertion", &assertion),
    ];
    for (name, value) in extra {
        pairs.retain(|(other, _)| other != name);
        pairs.push((name, value));
    }
    let request =
        pairs.iter().fold(Request::post("testing", &endpoint), |request, (name, value)| request.param(name, value));
    let result: Result<(), Error> = world.run(request.repeat(Repeat::OnlyIfUnsent).exchange(|_| Ok(())));
    result.map_err(|error| error.server().unwrap().error().to_owned())
}

#[test]
fn the_pretend_server_takes_nothing_but_a_fresh_assertion_of_the_client_for_itself() {
    let (mut world, key) = (world(), Es256::default());
    let now = world.now.wall.as_unix();
    let header = json!({"alg": "ES256", "typ": "client-authentication+jwt", "kid": "es-1"});
    let good = |jti: usize| json!({"iss": "app", "sub": "app", "aud": ISSUER, "jti": format!("{jti:022}"), "iat": now - 10, "exp": now + 60});
    assert_eq!(judged(&mut world, &header, &good(0), &key, &[]), Ok(()));
    let invalid = Err("invalid_client".to_owned());
    assert_eq!(judged(&mut world, &header, &good(0), &key, &[]), invalid, "used before");
    let wrong = [
        ("iss", json!("other")),
        ("iss", json!(null)),
        ("sub", json!("demo")),
        ("sub", json!(null)),
        ("aud", json!("https://as.example/token")),
        ("aud", json!("https://as.example/")),
        ("aud", json!([ISSUER])),
        ("aud", json!(null)),
        ("jti", json!("short")),
        ("jti", json!(null)),
        ("iat", json!(now + 5)),
        ("iat", json!(null)),
        ("exp", json!(now - 1)),
        ("exp", json!(now + 600)),
        ("exp", json!(null)),
        ("nbf", json!(now)),
    ];
    for (nth, (name, value)) in wrong.into_iter().enumerate() {
        let mut claims = good(nth + 1);
        claims[name] = value.clone();
        assert_eq!(judged(&mut world, &header, &claims, &key, &[]), invalid, "{name} {value}");
    }
    for (nth, (name, value)) in [
        ("alg", json!("none")),
        ("alg", json!("RS256")),
        ("typ", json!("JWT")),
        ("typ", json!(null)),
        ("crit", json!(["exp"])),
    ]
    .into_iter()
    .enumerate()
    {
        let mut header = header.clone();
        header[name] = value.clone();
        assert_eq!(judged(&mut world, &header, &good(nth + 100), &key, &[]), invalid, "{name} {value}");
    }
    for (nth, (name, value, error)) in [
        ("client_id", "demo", "invalid_client"),
        ("client_secret", "x", "invalid_request"),
        ("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:saml2-bearer", "invalid_request"),
        ("client_assertion_type", "", "invalid_request"),
        ("client_assertion", "", "invalid_request"),
        ("client_assertion", "a.b", "invalid_client"),
    ]
    .into_iter()
    .enumerate()
    {
        let result = judged(&mut world, &header, &good(nth + 200), &key, &[(name, value)]);
        assert_eq!(result, Err(error.to_owned()), "{name} {value}");
    }
    // Without the client_id, which an assertion makes superfluous.
    assert_eq!(judged(&mut world, &header, &good(300), &key, &[("client_id", "")]), Ok(()));
}

#[test]
fn the_pretend_server_knows_a_clients_keys_and_its_method() {
    // Another key, another client's method, and no assertion at all.
    let mut world =
        World::with(Server::demo().client(Registered::private_key_jwt("app", [PublicKey::Rs256(public_key())])));
    for client in [
        client(Es256::default()),
        client(SigningKey::from_pem(Algorithm::RS256, &grantflow_tests::google::another_private_key()).unwrap()),
        Client::new("batch").authentication(ClientAuthentication::private_key_jwt(rs256())),
        Client::new("unknown").authentication(ClientAuthentication::private_key_jwt(rs256())),
        Client::new("app").authentication(ClientAuthentication::client_secret_post("batch-secret")),
        Client::new("app").authentication(ClientAuthentication::client_secret_basic("batch-secret")),
    ] {
        let exchange = client_credentials(&mut world, &client);
        assert_eq!(world.run(exchange).unwrap_err().server().unwrap().error(), "invalid_client");
    }
    let exchange = client_credentials(&mut world, &client(rs256()));
    world.run(exchange).unwrap();
}

const SECRET: &str = "a secret of more than thirty-two bytes";

#[test]
fn a_secret_signs_in_the_place_of_a_key_and_is_never_sent() {
    let registered = Registered::client_secret_jwt("app", SECRET).redirect_uri(REDIRECT);
    let mut world = World::with(Server::demo().client(registered));
    let server = world.server().metadata();
    let with = |secret: &str| Client::new("app").authentication(ClientAuthentication::client_secret_jwt(secret));
    let client = with(SECRET);
    let token = sign_in(&mut world, &client);
    world.run(Revocation::new(&server, &client, token.refresh_token().unwrap()).unwrap().exchange()).unwrap();
    world.run(DeviceAuthorization::new(&server, &client).unwrap().scopes("read").exchange()).unwrap();
    for place in [Place::Token, Place::Revoke, Place::Device] {
        let seen = world.server().seen_at(place).remove(0).clone();
        let (header, claims) = claims(&seen);
        assert_eq!(header, json!({"alg": "HS256", "typ": "client-authentication+jwt"}));
        assert_eq!((&claims["aud"], &claims["sub"]), (&json!(ISSUER), &json!("app")));
        assert!(seen.param("client_secret").is_none() && seen.header("authorization").is_none());
    }
    // Another secret is none, and a short one is no key: nothing is sent.
    let exchange = client_credentials(&mut world, &with("another secret of more than 32 bytes"));
    assert_eq!(world.run(exchange).unwrap_err().server().unwrap().error(), "invalid_client");
    let before = world.server().seen().len();
    for short in ["", "31 bytes are one too few for it"] {
        let exchange = client_credentials(&mut world, &with(short));
        assert_eq!(world.run(exchange).unwrap_err().kind(), ErrorKind::Config);
    }
    assert_eq!(world.server().seen().len(), before);
}

#[test]
fn a_secrets_legacy_audience_is_for_one_server_that_is_named() {
    let audience = "https://as.example/token";
    let registered = Registered::client_secret_jwt("app", SECRET).legacy_audience(audience);
    let mut world = World::with(Server::demo().client(registered));
    let authentication = ClientAuthentication::client_secret_jwt_with_legacy_audience(SECRET, audience);
    let client = Client::new("app").authentication(authentication);
    let exchange = client_credentials(&mut world, &client);
    assert_eq!(world.run(exchange).unwrap_err().kind(), ErrorKind::Config);
    let exchange = client_credentials(&mut world, &client.registered_at(Issuer::new(ISSUER).unwrap()));
    world.run(exchange).unwrap();
}

#[test]
fn the_best_algorithm_that_the_server_names_is_taken_where_the_caller_names_none() {
    let name = "token_endpoint_auth_signing_alg_values_supported";
    let rsa = || SigningKey::each_from_pem(&private_key()).unwrap();
    assert_eq!(rsa().len(), 6);
    let mut cx = World::default().cx();
    let [es, ed] = [Algorithm::ES256, Algorithm::EdDSA].map(|it| SigningKey::generate(it, &mut cx).unwrap());
    let all = || rsa().into_iter().chain([ed.clone(), es.clone()]);
    let client =
        |keys: Vec<SigningKey>| Client::new("app").authentication(ClientAuthentication::private_key_jwt_of_any(keys));
    for (named, keys, expected) in [
        (json!(["RS256", "EdDSA", "ES256", "PS256", "HS256"]), all().collect::<Vec<_>>(), Some("PS256")),
        (json!(["RS256", "Ed25519", "ES256"]), all().collect(), Some("ES256")),
        (json!(["RS256", "EdDSA"]), all().collect(), Some("EdDSA")),
        (json!(["RS256", "PS384"]), all().collect(), Some("PS384")),
        (json!(["RS512", "RS256"]), all().collect(), Some("RS512")),
        (json!(["RS256"]), all().collect(), Some("RS256")),
        // Without a word of the server's: what all servers know, or what there is.
        (Value::Null, all().collect(), Some("RS256")),
        (Value::Null, vec![ed.clone(), es.clone()], Some("ES256")),
        (json!(["none", "HS256", "ES512"]), all().collect(), None),
    ] {
        let server = Server::demo().with(|settings| settings.alter_metadata = Alter::set(name, named.clone()));
        let mut world = World::with(server.client(registered()));
        let issuer = Issuer::new(ISSUER).unwrap();
        let server = world.run(Discovery::new(&issuer)).unwrap();
        let client = client(keys);
        let algorithm = |request: &Request, world: &mut World| {
            let body = request.to_http(&mut world.cx()).unwrap().into_body();
            let found = url::form_urlencoded::parse(&body).find(|(name, _)| name == "client_assertion").unwrap().1;
            jwt_parts(&found).0["alg"].as_str().unwrap().to_owned()
        };
        let token = Revocation::new(&server, &client, &"rt".into()).map(|it| it.exchange());
        match (TokenRequest::client_credentials(&server, &client).map(TokenRequest::exchange), expected) {
            (Ok(exchange), Some(expected)) => {
                assert_eq!(algorithm(exchange.request(), &mut world), expected, "{named}");
                assert_eq!(algorithm(token.unwrap().request(), &mut world), expected, "{named}");
            }
            (Err(error), None) => {
                assert!(error.kind() == ErrorKind::Config && error.to_string().contains(name), "{error}");
                assert_eq!(token.unwrap_err().kind(), ErrorKind::Config);
            }
            (other, expected) => panic!("{other:?} {expected:?}"),
        }
    }
}

/// A key that is replaced while it is in use.
struct Rotating(std::sync::Arc<std::sync::RwLock<std::sync::Arc<dyn Signer>>>);

impl Signer for Rotating {
    fn algorithm(&self) -> Algorithm {
        self.0.read().unwrap().algorithm()
    }
    fn current(&self) -> Option<std::sync::Arc<dyn Signer>> {
        Some(self.0.read().unwrap().clone())
    }
    fn sign(&self, message: &[u8], cx: &mut grantflow::Cx) -> grantflow::crypto::Signing {
        self.0.read().unwrap().sign(message, cx)
    }
}

#[test]
fn a_key_is_rotated_while_it_is_in_use() {
    let mut world = world();
    let slot = std::sync::Arc::new(std::sync::RwLock::new(std::sync::Arc::new(rs256()) as std::sync::Arc<dyn Signer>));
    let client = client(Rotating(slot.clone()));
    let token = sign_in(&mut world, &client);
    // Another key, kind of key and place of the key, for the same client and a request that was made before.
    let begun = refresh(&mut world, &client, &token);
    *slot.write().unwrap() = std::sync::Arc::new(Es256::default());
    world.run(begun).unwrap();
    *slot.write().unwrap() = std::sync::Arc::new(FarKey::default());
    let exchange = client_credentials(&mut world, &client);
    world.run(exchange).unwrap();
    let seen: Vec<_> = world.server().seen_at(Place::Token).into_iter().map(claims).collect();
    let headers: Vec<_> = seen.iter().map(|(header, _)| (header["alg"].clone(), header["kid"].clone())).collect();
    let es = (json!("ES256"), json!(kms::KEY_ID));
    assert_eq!(headers, [(json!("RS256"), json!("rs-1")), es.clone(), es]);
    assert_eq!(world.kms.asked, 1);
}
