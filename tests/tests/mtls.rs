//! Clients that present a certificate: to prove that they are themselves, and so that their tokens are good only
//! together with it (RFC 8705).

use grantflow::machine::{FailureKind, Identity, Rules};
use grantflow::source::{Credential, TokenSource as _, Want};
use grantflow::store::{RecordKey, SaveGrant, SharedGrant};
use grantflow::{
    Advice, AuthorizationRequest, BackchannelAuthentication, Client, ClientAuthentication, DeviceAuthorization, Effect,
    Error, ErrorKind, Failure, Introspection, Issuer, Machine as _, Reply, Revocation, ServerMetadata, Step, Token,
    TokenRequest, UserInfo, x5t_s256,
};
use grantflow_tests::demo::REDIRECT;
use grantflow_tests::processes::{Desk, Process, sent};
use grantflow_tests::secure::{Authority, Certificate, params};
use grantflow_tests::server::{Alter, ClientCertificate};
use grantflow_tests::{Fault, Place, Registered, Server, World, canary};
use http::{Request, Response};
use serde_json::{Value, json};

const MTLS: &str = "https://mtls.as.example";
const NAME: &str = "app.example";

fn self_signed() -> Identity {
    Certificate::self_signed("anybody").identity()
}

fn shown(identity: &Identity) -> ClientCertificate {
    ClientCertificate::from_pem(identity.as_pem().unwrap().0).unwrap()
}

/// A client that shows a certificate in each way, and what its server knows of it.
fn clients() -> [(Client, Registered); 2] {
    let (authority, own) = (Authority::new("an authority"), self_signed());
    let registered = Registered::tls_client_auth("app", authority.certificate().shown(), NAME).redirect_uri(REDIRECT);
    let by_authority = ClientAuthentication::tls_client_auth(authority.signs(NAME).identity());
    let registered_itself = Registered::self_signed_tls_client_auth("app", [shown(&own)]).redirect_uri(REDIRECT);
    let by_itself = ClientAuthentication::self_signed_tls_client_auth(own);
    let client = || Client::new("app");
    [(client().authentication(by_authority), registered), (client().authentication(by_itself), registered_itself)]
}

/// A server whose endpoints for certificates are elsewhere.
fn world(registered: Registered) -> World {
    let server = Server::demo().client(registered);
    World::with(server.with(|settings| settings.mtls_origin = Some(MTLS.into())))
}

fn sign_in(world: &mut World, client: &Client) -> Token {
    let request = AuthorizationRequest::new(&world.server().metadata(), client, REDIRECT).scopes("read");
    world.sign_in(request, client).unwrap()
}

/// What the resource says to a token that comes with this certificate.
fn resource(world: &mut World, token: &Token, identity: Option<&Identity>) -> u16 {
    let mut request = Request::get(world.server().address(Place::Resource)).body(Vec::new()).unwrap();
    token.apply(request.headers_mut()).unwrap();
    if let Some(identity) = identity {
        request.extensions_mut().insert(shown(identity));
    }
    let now = world.now.wall;
    match world.server().answer(now, &request).wire {
        grantflow_tests::server::Wire::Whole(response) => response.status().as_u16(),
        other => panic!("{other:?}"),
    }
}

/// The hosts that were asked with a certificate, and those that were asked without.
fn hosts(world: &World) -> [Vec<String>; 2] {
    let host = |sent: &&grantflow_tests::world::Sent| sent.request.uri().host().unwrap().to_owned();
    [true, false].map(|with| world.sent().iter().filter(|sent| sent.identity.is_some() == with).map(host).collect())
}

#[test]
fn every_endpoint_that_a_client_calls_is_shown_its_certificate_where_the_server_asks_for_it() {
    for (client, registered) in clients() {
        let mut world = world(registered);
        let server = world.server().metadata();
        let token = sign_in(&mut world, &client);
        let token = world.run(TokenRequest::refresh(&server, &client, &token).unwrap().exchange()).unwrap();
        world.run(TokenRequest::client_credentials(&server, &client).unwrap().exchange()).unwrap();
        let request = TokenRequest::password(&server, &client, "alice", "wonderland").unwrap();
        world.run(request.exchange()).unwrap();
        let subject = token.access_token().into();
        let request = TokenRequest::token_exchange(&server, &client, &subject, grantflow::token_type::ACCESS_TOKEN);
        world.run(request.unwrap().exchange()).unwrap();
        let code = world.run(DeviceAuthorization::new(&server, &client).unwrap().exchange()).unwrap();
        assert!(world.enter_code(code.verification_uri(), code.user_code()));
        world.run(code.poll(&server, &client).unwrap()).unwrap();
        world.run(Revocation::of(&server, &client, &token).unwrap().exchange()).unwrap();
        let pushed = AuthorizationRequest::new(&server, &client, REDIRECT).scopes("read").push();
        world.sign_in(pushed, &client).unwrap();
        let asked = BackchannelAuthentication::new(&server, &client).unwrap().login_hint("alice");
        let pending = world.run(asked.start()).unwrap();
        world.run(pending.poll(&server, &client).unwrap()).unwrap();
        let seen = world.server().seen().to_vec();
        let posts: Vec<_> = seen.iter().filter(|seen| seen.request.method() == "POST").collect();
        assert!(posts.len() >= 12, "{}", posts.len());
        for place in [Place::Token, Place::Device, Place::Revoke, Place::PushedRequest, Place::Backchannel] {
            assert!(posts.iter().any(|seen| seen.place == place), "{place:?}");
        }
        for seen in posts {
            assert_eq!(seen.param("client_id").as_deref(), Some("app"), "RFC 8705, section 2: {seen:?}");
            assert!(seen.header("authorization").is_none() && seen.param("client_secret").is_none());
            assert_eq!(seen.request.uri().host(), Some("mtls.as.example"));
        }
    }
}

#[test]
fn metadata_is_read_without_a_certificate_and_says_where_it_is_shown() {
    let [(client, registered), _] = clients();
    let mut world = world(registered);
    let source = Credential::client_credentials(Issuer::new("https://as.example").unwrap(), &client);
    world.run(source.mint(&Want::default(), &source.first_state())).unwrap();
    assert_eq!(hosts(&world), [vec!["mtls.as.example"], vec!["as.example"]]);
}

#[test]
fn a_server_without_other_endpoints_is_shown_it_at_its_own() {
    for (client, registered) in clients() {
        let mut world = World::with(Server::demo().client(registered));
        let server = world.server().metadata();
        world.run(TokenRequest::client_credentials(&server, &client).unwrap().exchange()).unwrap();
        // Of several endpoints one may have an alias.
        let alter = |document: &mut Value| {
            document["mtls_endpoint_aliases"] = json!({"revocation_endpoint": "https://mtls.as.example/revoke"});
        };
        world.server().settings.alter_metadata = Alter::by(alter);
        let server = world.server().metadata();
        world.run(TokenRequest::client_credentials(&server, &client).unwrap().exchange()).unwrap();
        assert_eq!(hosts(&world)[0], ["as.example", "as.example"]);
        let request = Revocation::new(&server, &client, &"t".into()).unwrap().exchange();
        assert_eq!(request.request().to_http(&mut world.cx()).unwrap().uri().host(), Some("mtls.as.example"));
    }
}

#[test]
fn a_client_without_a_certificate_goes_where_all_go() {
    let [(_, registered), _] = clients();
    let mut world = world(registered);
    let server = world.server().metadata();
    let request = TokenRequest::client_credentials(&server, &grantflow_tests::demo::batch()).unwrap();
    let token = world.run(request.exchange()).unwrap();
    assert_eq!(hosts(&world), [vec![], vec!["as.example"]]);
    assert_eq!(resource(&mut world, &token, None), 200, "it is bound to nothing");
}

#[test]
fn a_token_is_good_only_together_with_the_certificate_that_it_was_had_with() {
    for (client, registered) in clients() {
        let mut world = world(registered);
        let server = world.server().metadata();
        let token = world.run(TokenRequest::client_credentials(&server, &client).unwrap().exchange()).unwrap();
        let identity = world.sent()[0].identity.clone().unwrap();
        assert_eq!(resource(&mut world, &token, Some(&identity)), 200);
        assert_eq!(resource(&mut world, &token, None), 401);
        assert_eq!(resource(&mut world, &token, Some(&self_signed())), 401);
    }
}

#[test]
fn a_public_clients_refresh_token_is_bound_to_its_certificate_and_a_confidential_client_may_renew_it() {
    let client = |identity: &Identity| grantflow_tests::demo::client().identity(identity.clone());
    let (old, new) = (self_signed(), self_signed());
    let [(_, registered), _] = clients();
    let mut world = world(registered);
    let server = world.server().metadata();
    let token = sign_in(&mut world, &client(&old));
    assert_eq!((resource(&mut world, &token, Some(&old)), resource(&mut world, &token, None)), (200, 401));
    for other in [client(&new), grantflow_tests::demo::client()] {
        let request = TokenRequest::refresh(&server, &other, &token).unwrap();
        assert_eq!(world.run(request.exchange()).unwrap_err().server().unwrap().error(), "invalid_grant");
    }
    let request = TokenRequest::refresh(&server, &client(&old), &token).unwrap();
    world.run(request.exchange()).unwrap();
    // RFC 8705, section 7.1.
    let authority = Authority::new("an authority");
    let registered = Registered::tls_client_auth("app", authority.certificate().shown(), NAME).redirect_uri(REDIRECT);
    let client =
        || Client::new("app").authentication(ClientAuthentication::tls_client_auth(authority.signs(NAME).identity()));
    let mut world = self::world(registered);
    let token = sign_in(&mut world, &client());
    let renewed = client();
    world.run(TokenRequest::refresh(&server, &renewed, &token).unwrap().exchange()).unwrap();
}

/// What a stored grant of this client gives to the same client with another certificate.
fn stored(mut world: World, client: &Client, other: &Client) -> (Desk, Result<(Token, bool), Error>) {
    let metadata = world.server().metadata();
    let record = RecordKey::new(metadata.issuer(), client, "alice");
    let token = sign_in(&mut world, client);
    assert!(token.certificate_thumbprint().is_some(), "the server says that it binds tokens");
    let mut desk = Desk::new(world);
    desk.run(SaveGrant::new(record.clone(), Want::access_token("read"), &token)).unwrap();
    let own = SharedGrant::new(record.clone(), &metadata, client);
    let kept = Process::of(&own).mint(&mut desk).unwrap();
    assert_eq!(kept.access_token(), token.access_token());
    assert_eq!(kept.certificate_thumbprint(), token.certificate_thumbprint());
    let found = Process::of(&SharedGrant::new(record, &metadata, other)).mint(&mut desk);
    (
        desk,
        found.map(|found| {
            let same = found.access_token() == token.access_token();
            (found, same)
        }),
    )
}

#[test]
fn a_stored_grant_is_of_no_use_with_another_certificate() {
    let public = |identity: &Identity| grantflow_tests::demo::client().identity(identity.clone());
    let (old, new) = (self_signed(), self_signed());
    for (other, has) in [(public(&new), "presents another"), (grantflow_tests::demo::client(), "presents none")] {
        let [(_, registered), _] = clients();
        let (mut desk, found) = stored(world(registered), &public(&old), &other);
        let error = found.unwrap_err();
        assert_eq!((error.kind(), error.advice()), (ErrorKind::Config, Some(Advice::FixConfiguration)));
        assert!(error.to_string().contains(has) && error.to_string().contains("alice"), "{error}");
        assert!(sent(&mut desk).is_empty(), "nothing is sent");
    }
    // A confidential client that has a new certificate gets a new token, bound to that (section 7.1).
    let authority = Authority::new("an authority");
    let registered = Registered::tls_client_auth("app", authority.certificate().shown(), NAME).redirect_uri(REDIRECT);
    let client =
        || Client::new("app").authentication(ClientAuthentication::tls_client_auth(authority.signs(NAME).identity()));
    let (mut desk, found) = stored(world(registered), &client(), &client());
    let (token, same) = found.unwrap();
    assert!(!same && token.certificate_thumbprint().is_some());
    assert_eq!(sent(&mut desk).len(), 1);
}

#[test]
fn a_certificate_may_come_along_with_another_authentication() {
    let identity = self_signed();
    let client = grantflow_tests::demo::batch().identity(identity.clone());
    let [(_, registered), _] = clients();
    let mut world = world(registered);
    let server = world.server().metadata();
    let token = world.run(TokenRequest::client_credentials(&server, &client).unwrap().exchange()).unwrap();
    assert_eq!(hosts(&world)[0], ["mtls.as.example"]);
    assert_eq!((resource(&mut world, &token, Some(&identity)), resource(&mut world, &token, None)), (200, 401));
}

#[test]
fn what_asks_about_the_user_presents_the_certificate_too() {
    let aliases = json!({"userinfo_endpoint": "https://mtls.as.example/userinfo"});
    let server = ServerMetadata::new(Issuer::new("https://as.example").unwrap())
        .userinfo_endpoint("https://as.example/userinfo")
        .unwrap();
    let token = Token::bearer("at", grantflow::Timestamp::from_unix(1), None).unwrap();
    let mut world = World::default();
    for (server, expected) in
        [(server.clone(), "as.example"), (server.member("mtls_endpoint_aliases", aliases), "mtls.as.example")]
    {
        let mut exchange = UserInfo::new(&server, &token).unwrap().identity(Identity::named("app")).exchange();
        let Step::Do(Effect::Http(call)) = exchange.resume(&mut world.cx(), Reply::Start) else { panic!() };
        assert_eq!(call.rules(), Rules::V1 | Rules::IDENTITY);
        let call = call.open(Rules::V1 | Rules::IDENTITY).unwrap();
        assert_eq!((call.request.uri().host(), call.identity.clone()), (Some(expected), Some(Identity::named("app"))));
    }
}

#[test]
fn a_resource_server_asks_about_tokens_where_certificates_are_taken() {
    let aliases = json!({"introspection_endpoint": "https://mtls.as.example/introspect"});
    let server = ServerMetadata::new(Issuer::new("https://as.example").unwrap())
        .introspection_endpoint("https://as.example/introspect")
        .unwrap()
        .member("mtls_endpoint_aliases", aliases);
    for (client, _) in clients() {
        let introspection = Introspection::new(&server, &client).unwrap();
        let mut exchange = introspection.of("token");
        let Step::Do(Effect::Http(call)) = exchange.resume(&mut World::default().cx(), Reply::Start) else { panic!() };
        let call = call.open(Rules::V1 | Rules::IDENTITY).unwrap();
        assert_eq!((call.request.uri().host(), call.identity.is_some()), (Some("mtls.as.example"), true));
    }
}

#[test]
fn a_driver_that_cannot_present_certificates_sends_nothing() {
    for (client, registered) in clients() {
        let mut world = world(registered);
        world.rules = Rules::V1 | Rules::START_BEFORE | Rules::GLOBAL;
        let server = world.server().metadata();
        let error = world.run(TokenRequest::client_credentials(&server, &client).unwrap().exchange()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
        assert!(world.server().seen().is_empty() && !error.is_uncertain());
    }
}

#[test]
fn a_certificate_that_the_driver_has_by_name_may_change_from_one_request_to_the_next() {
    let [first, second] = [0; 2].map(|_| self_signed());
    let registered = Registered::self_signed_tls_client_auth("app", [shown(&first), shown(&second)]);
    let named = ClientAuthentication::self_signed_tls_client_auth(Identity::named("own"));
    let (mut world, client) = (world(registered), Client::new("app").authentication(named));
    let server = world.server().metadata();
    let request = || TokenRequest::client_credentials(&server, &client).unwrap().exchange();
    let error = world.run(request()).unwrap_err();
    assert!(!error.is_uncertain() && world.server().seen().is_empty(), "nobody has it: {error}");
    for identity in [first, second] {
        world.identities.insert("own", identity.clone());
        let token = world.run(request()).unwrap();
        assert_eq!(resource(&mut world, &token, Some(&identity)), 200);
    }
}

#[test]
fn the_code_goes_where_the_sign_in_began_and_tries_again_show_the_certificate_too() {
    let [(client, registered), _] = clients();
    let mut world = world(registered);
    let server = world.server().metadata();
    let request = AuthorizationRequest::new(&server, &client, REDIRECT).scopes("read");
    let authorization = world.run(request.start()).unwrap();
    assert!(authorization.url.starts_with("https://as.example/"), "a browser has no certificate of the client's");
    // Kept, and read again.
    let kept = serde_json::to_string(&authorization.pending).unwrap();
    let pending: grantflow::PendingAuthorization = serde_json::from_str(&kept).unwrap();
    let redirect = world.person(&authorization.url);
    world.fail(Failure::not_sent(FailureKind::Connect, "nobody there"));
    world.run(pending.finish(&client, &redirect)).unwrap();
    world.server().fail(Place::Token, Fault::status(503, "{}"));
    world.run(TokenRequest::client_credentials(&server, &client).unwrap().exchange()).unwrap();
    assert_eq!(hosts(&world), [vec!["mtls.as.example"; 4], vec![]]);
}

#[test]
fn mutual_tls_aliases_of_a_stranger_or_on_this_machine_get_nothing() {
    let [(client, _), _] = clients();
    let read = |alias: &str| {
        let server = ServerMetadata::new(Issuer::new("https://as.example").unwrap());
        let server = server.token_endpoint("https://as.example/token").unwrap();
        server.member("mtls_endpoint_aliases", json!({"token_endpoint": alias}))
    };
    for alias in ["http://127.0.0.1/token", "https://localhost/token"] {
        let error = TokenRequest::client_credentials(&read(alias), &client).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidResponse, "{alias}: {error}");
    }
    let stranger = read("https://10.0.0.1/token").of_stranger().unwrap();
    assert!(TokenRequest::client_credentials(&stranger, &client).is_err());
    // One that cannot be used is no reason to go where nobody asks for the certificate.
    let error = TokenRequest::client_credentials(&read("ftp://as.example"), &client).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
    assert!(TokenRequest::client_credentials(&read("ftp://as.example"), &grantflow_tests::demo::batch()).is_ok());
}

#[test]
fn a_client_shows_neither_its_certificate_nor_the_key() {
    let identity = Identity::pem("c4n4ry-certificate", "c4n4ry-key");
    for authentication in [
        ClientAuthentication::tls_client_auth(identity.clone()),
        ClientAuthentication::self_signed_tls_client_auth(identity.clone()),
        ClientAuthentication::none(),
    ] {
        let client = Client::new("app").identity(identity.clone()).authentication(authentication);
        canary::hidden_in_debug("a client", &client, &["c4n4ry-certificate", "c4n4ry-key"]);
    }
}

#[test]
fn the_vector_of_rfc_8705_holds() {
    let vector: Value = serde_json::from_str(include_str!("../data/rfc8705.json")).unwrap();
    let lines: Vec<_> = vector["certificate"].as_array().unwrap().iter().map(|line| line.as_str().unwrap()).collect();
    let expected = vector["x5t#S256"].as_str().unwrap();
    for newline in ["\n", "\r\n"] {
        let identity = Identity::pem(&lines.join(newline), "its key");
        assert_eq!(identity.x5t_s256().as_deref(), Some(expected));
        assert_eq!(shown(&identity).thumbprint(), expected);
    }
    for pem in ["", "-----BEGIN CERTIFICATE-----", "-----BEGIN CERTIFICATE-----\n%\n-----END CERTIFICATE-----"] {
        assert_eq!(Identity::pem(pem, "").x5t_s256(), None);
    }
    assert_eq!(Identity::named("own").x5t_s256(), None);
    assert_eq!(x5t_s256(b"").len(), 43);
}

// --- the pretend server is strict

/// The status of a token request with these parameters and this certificate.
fn ask(server: &mut Server, host: &str, pairs: &[(&str, &str)], identity: Option<&Identity>) -> u16 {
    let body = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish();
    let mut request = Request::post(format!("{host}/token"))
        .header("content-type", "application/x-www-form-urlencoded")
        .body(body.into_bytes())
        .unwrap();
    if let Some(identity) = identity {
        request.extensions_mut().insert(shown(identity));
    }
    let response: Response<Vec<u8>> = match server.answer(World::default().now.wall, &request).wire {
        grantflow_tests::server::Wire::Whole(response) => response,
        other => panic!("{other:?}"),
    };
    response.status().as_u16()
}

#[test]
fn the_server_takes_the_clients_own_certificate_only_where_it_asks_for_one_and_nothing_beside() {
    let authority = Authority::new("an authority");
    let own = self_signed();
    let mut server = Server::demo()
        .client(Registered::tls_client_auth("app", authority.certificate().shown(), NAME))
        .client(Registered::self_signed_tls_client_auth("other", [shown(&own)]))
        .with(|settings| settings.mtls_origin = Some(MTLS.into()));
    let alone = ("grant_type", "client_credentials");
    let named = |id| [alone, ("client_id", id)];
    let good = authority.signs(NAME).identity();
    assert_eq!(ask(&mut server, MTLS, &named("app"), Some(&good)), 200);
    assert_eq!(ask(&mut server, MTLS, &named("other"), Some(&own)), 200);
    let mut expired = params(NAME);
    expired.not_after = rcgen::date_time_ymd(2026, 11, 19);
    let mut early = params(NAME);
    early.not_before = rcgen::date_time_ymd(2026, 11, 21);
    for (id, identity) in [
        ("app", None),
        ("app", Some(authority.signs("somebody.example").identity())),
        ("app", Some(Authority::new("an authority").signs(NAME).identity())),
        ("app", Some(Authority::new("another").signs(NAME).identity())),
        ("app", Some(authority.signs_with(expired).identity())),
        ("app", Some(authority.signs_with(early).identity())),
        ("app", Some(own.clone())),
        ("other", None),
        ("other", Some(good.clone())),
        ("other", Some(self_signed())),
        ("batch", Some(good.clone())),
        ("nobody", Some(good.clone())),
    ] {
        assert_eq!(ask(&mut server, MTLS, &named(id), identity.as_ref()), 401, "{id} {identity:?}");
    }
    assert_eq!(ask(&mut server, "https://as.example", &named("app"), Some(&good)), 401, "nobody asked for it there");
    assert_eq!(ask(&mut server, MTLS, &[alone], Some(&good)), 400, "the client_id is missing");
    let both = [alone, ("client_id", "app"), ("client_secret", "x")];
    assert_eq!(ask(&mut server, MTLS, &both, Some(&good)), 401, "it shows a secret too");
}
