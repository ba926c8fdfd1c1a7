//! Clients that register themselves (RFC 7591), what becomes of their registrations (RFC 7592), and how they are kept.

mod statements;

use std::time::Duration;

use grantflow::crypto::{Algorithm, SigningKey};
use grantflow::jose::Jwk;
use grantflow::register::{ClientMetadata, RegisteredClient, Registration};
use grantflow::store::{RecordKey, RegistrationInStore, Stored};
use grantflow::{
    Advice, AuthorizationRequest, Client, ClientAuthentication, Error, ErrorKind, Issuer, ServerMetadata, Token,
};
use grantflow_tests::canary::hidden_in_error;
use grantflow_tests::demo::REDIRECT;
use grantflow_tests::jwt::PublicKey;
use grantflow_tests::processes::{Desk, Trip};
use grantflow_tests::server::{Alter, Settings, Wire};
use grantflow_tests::{Fault, IssuerKey, Place, Server, World};
use http::{Method, Request, Response, StatusCode};
use serde_json::{Value, json};

use super::{names, start};

fn world(change: impl FnOnce(&mut Settings)) -> World {
    World::with(Server::demo().with(|settings| {
        settings.registration = true;
        change(settings);
    }))
}

fn native() -> ClientMetadata {
    ClientMetadata::new()
        .client_name("Calendar")
        .application_type("native")
        .redirect_uris([REDIRECT])
        .token_endpoint_auth_method("none")
}

fn confidential() -> ClientMetadata {
    ClientMetadata::new().redirect_uris(["https://app.example/callback"]).contacts(["ops@app.example"])
}

fn register(world: &mut World, metadata: ClientMetadata) -> Result<RegisteredClient, Error> {
    let server = world.server().metadata();
    world.run(Registration::new(&server, metadata)?.exchange())
}

fn sign_in(world: &mut World, registered: &RegisteredClient, client: &Client) -> Result<Token, Error> {
    let server = registered.server(&world.server().metadata())?;
    let to = registered.metadata().list("redirect_uris").unwrap()[0].to_owned();
    world.sign_in(AuthorizationRequest::new(&server, client, to).scopes("openid read"), client)
}

fn body(world: &mut World, place: Place) -> Value {
    serde_json::from_slice(world.server().seen_at(place).last().unwrap().request.body()).unwrap()
}

#[test]
fn oidcc_client_test_dynamic_registration() {
    let mut world = world(|_| {});
    let registered = register(&mut world, native().client_name_in("de", "Kalender")).unwrap();
    let seen = world.server().seen_at(Place::Registration)[0].clone();
    assert_eq!(seen.header("content-type"), Some("application/json"));
    assert!(seen.header("authorization").is_none() && seen.header("accept") == Some("application/json"));
    assert_eq!(
        body(&mut world, Place::Registration),
        json!({"client_name": "Calendar", "client_name#de": "Kalender", "application_type": "native",
               "redirect_uris": [REDIRECT], "token_endpoint_auth_method": "none"})
    );
    assert_eq!(registered.changes().count(), 0);
    assert!(registered.client_secret().is_none() && registered.can_be_managed());
    let client = registered.client().unwrap();
    assert!(sign_in(&mut world, &registered, &client).unwrap().id_token().is_some());
}

#[test]
fn a_client_authenticates_as_it_was_registered_and_not_as_it_asked_to() {
    let mut world = world(|settings| {
        settings.client_secret_lifetime = Some(3600);
        settings.alter_registration = Alter::by(|body| {
            body["contacts"] = Value::Null;
            body["grant_types"] = json!(["refresh_token", "authorization_code"]);
        });
    });
    let metadata = confidential()
        .token_endpoint_auth_method("client_secret_post")
        .grant_types(["authorization_code", "refresh_token"])
        .scope("read openid");
    let registered = register(&mut world, metadata).unwrap();
    // The order of a list says nothing.
    let changes: Vec<_> = registered.changes().map(|change| (change.name, change.registered)).collect();
    assert_eq!(changes, [("contacts", None)]);
    assert!(
        !registered.is_expired(world.now.wall) && registered.is_expired(world.now.wall + Duration::from_secs(3600))
    );
    let client = registered.client().unwrap();
    sign_in(&mut world, &registered, &client).unwrap();
    assert!(world.server().seen_at(Place::Token)[0].param("client_secret").is_some());
    // A method that was changed is told, and obeyed.
    world.server().settings.alter_registration = Alter::set("token_endpoint_auth_method", "none".into());
    let changed = register(&mut world, confidential().token_endpoint_auth_method("client_secret_basic")).unwrap();
    assert_eq!(changed.changes().next().unwrap().registered, Some(&json!("none")));
    let basic = ClientAuthentication::client_secret_basic("x");
    let error = changed.client_with(basic).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.to_string().contains("none") && error.to_string().contains("client_secret_basic"), "{error}");
}

#[test]
fn what_was_registered_for_a_client_is_demanded_of_its_requests() {
    let mut world = world(|_| {});
    let jwk = SigningKey::generate_jwk(Algorithm::ES256, &mut world.cx()).unwrap();
    let key = SigningKey::from_jwk(Algorithm::ES256, &jwk).unwrap();
    let metadata = confidential()
        .token_endpoint_auth_method("private_key_jwt")
        .token_endpoint_auth_signing_alg(Algorithm::ES256)
        .id_token_signed_response_alg(Algorithm::RS256)
        .jwks([Jwk::from(key.verifying_key())])
        .require_pushed_authorization_requests(true)
        .require_signed_request_object(true);
    let registered = register(&mut world, metadata).unwrap();
    let error = registered.client().unwrap_err();
    assert!(error.to_string().contains("client_with") && error.kind() == ErrorKind::Config, "{error}");
    let client = registered.client_with(ClientAuthentication::private_key_jwt(key.clone())).unwrap();
    let server = registered.server(&world.server().metadata()).unwrap();
    let request = AuthorizationRequest::new(&server, &client, "https://app.example/callback").scopes("read");
    assert_eq!(start(&mut world, request.clone()).unwrap_err().kind(), ErrorKind::Config);
    let url = start(&mut world, request.sign(key)).unwrap().url;
    assert_eq!(names(&url), ["client_id", "request_uri"]);
    assert!(world.person(&url).contains("code="));
}

#[test]
fn an_initial_access_token_and_a_software_statement_are_shown_and_not_told() {
    const TOKEN: &str = "initial-token-c4n4ry";
    let mut world = world(|settings| settings.initial_access_token = Some(TOKEN.into()));
    let server = world.server().metadata();
    let refused = register(&mut world, native()).unwrap_err();
    assert_eq!((refused.server().unwrap().error(), refused.status()), ("invalid_token", Some(401)));
    let registration = Registration::new(&server, native()).unwrap().initial_access_token(TOKEN);
    assert!(!format!("{registration:?}").contains(TOKEN));
    world.run(registration.exchange()).unwrap();
    let wrong = Registration::new(&server, native()).unwrap().initial_access_token(format!("{TOKEN}x"));
    hidden_in_error(&world.run(wrong.exchange()).unwrap_err(), &[TOKEN]);

    world.server().settings.initial_access_token = None;
    let statement = "eyJhbGciOiJub25lIn0.eyJpc3MiOiJtZSJ9.";
    let error = register(&mut world, native().software_statement(statement)).unwrap_err();
    assert_eq!(error.server().unwrap().error(), "unapproved_software_statement");
    hidden_in_error(&error, &[statement]);
    let error = register(&mut world, native().software_statement("no jwt")).unwrap_err();
    assert_eq!(error.server().unwrap().error(), "invalid_software_statement");
    let error = register(&mut world, confidential().redirect_uris([REDIRECT])).unwrap_err();
    assert_eq!((error.server().unwrap().error(), error.kind()), ("invalid_redirect_uri", ErrorKind::Server));
    let error = register(&mut world, native().member("unheard_of", json!({}))).unwrap_err();
    assert_eq!(error.server().unwrap().error(), "invalid_client_metadata");
}

#[test]
fn what_a_software_statement_says_wins_over_what_is_said_beside_it_and_is_told() {
    let party = IssuerKey::es256("party");
    let mut world = world(|settings| settings.software_key = Some(PublicKey::Es256(party.public())));
    let claims = json!({"iss": "https://party.example", "software_id": "calendar", "client_name": "The party's"});
    let statement = party.sign("JWT", &claims);
    let registered = register(&mut world, native().software_statement(&statement)).unwrap();
    assert_eq!(registered.changes().map(|change| change.name).collect::<Vec<_>>(), ["client_name"]);
    let found = ["client_name", "software_id", "software_statement"].map(|name| registered.metadata().str(name));
    assert_eq!(found, [Some("The party's"), Some("calendar"), Some(&*statement)]);
    sign_in(&mut world, &registered, &registered.client().unwrap()).unwrap();
    let strangers = IssuerKey::es256("party").sign("JWT", &claims);
    let error = register(&mut world, native().software_statement(&strangers)).unwrap_err();
    assert_eq!(error.server().unwrap().error(), "unapproved_software_statement");
}

#[test]
fn what_no_server_can_register_is_refused_before_anything_is_sent() {
    let mut world = world(|_| {});
    let private = json!({"keys": [{"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA", "d": "c4n4ry"}]});
    for (metadata, word) in [
        (ClientMetadata::new(), "redirect_uris"),
        (ClientMetadata::new().grant_types(["refresh_token", "authorization_code"]), "redirect_uris"),
        (native().redirect_uris(["https://app.example/#x"]), "fragment"),
        (native().redirect_uris(["javascript:alert(1)"]), "redirect URI"),
        (native().redirect_uris(["http://app.example/"]), "loopback"),
        (native().jwks_uri("https://app.example/jwks").member("jwks", json!({"keys": []})), "jwks"),
        (native().member("jwks", private), "private"),
        (native().member("client_id", "mine".into()), "client_id"),
        (native().member("registration_access_token", "mine".into()), "registration_access_token"),
    ] {
        let error = register(&mut world, metadata).unwrap_err();
        assert_eq!((error.kind(), error.advice()), (ErrorKind::Config, Some(Advice::FixConfiguration)), "{error}");
        assert!(error.to_string().contains(word), "{error}");
        hidden_in_error(&error, &["c4n4ry"]);
    }
    let none = ServerMetadata::new(Issuer::new("https://as.example").unwrap());
    assert_eq!(Registration::new(&none, native()).unwrap_err().kind(), ErrorKind::Config);
    assert!(world.sent().is_empty());
    // What needs no redirect needs none; a statement may tell of one.
    let batch = ClientMetadata::new().grant_types(["client_credentials"]).response_types([""; 0]);
    register(&mut world, batch).unwrap();
    assert!(Registration::new(&world.server().metadata(), ClientMetadata::new().software_statement("x.y.z")).is_ok());
}

#[test]
fn odd_answers_cost_what_is_odd_and_a_registration_is_never_sent_twice() {
    let mut world = world(|_| {});
    let secret = "s3cr3t-c4n4ry";
    let said = |status: u16, body: Value| {
        let response = Response::builder().status(status).header("content-type", "application/json");
        Fault::Answer(response.body(body.to_string().into_bytes()).unwrap())
    };
    let whole = json!({"client_id": "c", "client_secret": secret, "client_secret_expires_at": "1795179600",
        "client_id_issued_at": 1795176000.0, "registration_access_token": "t", "redirect_uris": [REDIRECT], "x": null,
        "registration_client_uri": "https://as.example/register/c"});
    world.server().fail(Place::Registration, said(200, whole.clone()));
    let registered = register(&mut world, native()).unwrap();
    assert_eq!(registered.client_secret_expires_at().unwrap().as_unix(), 1_795_179_600);
    assert_eq!(registered.client_id_issued_at().unwrap().as_unix(), 1_795_176_000);
    assert!(registered.can_be_managed() && !format!("{registered:?}").contains(secret));
    assert!(registered.metadata().get("client_secret").is_none() && registered.metadata().get("x").is_none());
    // An address on this machine, or none that can be used: it cannot be managed, and no token goes there.
    for address in ["http://127.0.0.1:8080/register/c", "file:///etc/passwd", "", "http://as.example/c"] {
        let mut odd = whole.clone();
        odd["registration_client_uri"] = address.into();
        odd["client_secret_expires_at"] = json!(0);
        world.server().fail(Place::Registration, said(201, odd));
        let registered = register(&mut world, native()).unwrap();
        assert!(!registered.can_be_managed() && registered.client_secret_expires_at().is_none(), "{address}");
        assert_eq!(registered.read().unwrap_err().kind(), ErrorKind::Config);
    }
    for (answer, kind) in [
        (said(201, json!({"client_secret": secret})), ErrorKind::InvalidResponse),
        (said(201, json!({"client_id": "", "client_secret": secret})), ErrorKind::InvalidResponse),
        (said(201, json!([secret])), ErrorKind::InvalidResponse),
        (said(200, json!({"error": "invalid_client_metadata"})), ErrorKind::Server),
        (Fault::DropAfter, ErrorKind::Transport),
        (said(502, json!({})), ErrorKind::Http),
    ] {
        let before = world.server().seen_at(Place::Registration).len();
        world.server().fail(Place::Registration, answer);
        let error = register(&mut world, native()).unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        hidden_in_error(&error, &[secret]);
        assert_eq!(world.server().seen_at(Place::Registration).len(), before + 1);
    }
    // A secret that is promised and missing.
    let mut without = whole;
    without["client_secret"] = Value::Null;
    without["token_endpoint_auth_method"] = "client_secret_post".into();
    world.server().fail(Place::Registration, said(201, without));
    let error = register(&mut world, native()).unwrap().client().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidResponse);
}

#[test]
fn a_registration_is_read_changed_and_deleted_and_its_token_replaced_by_each_newer_one() {
    let mut world = world(|settings| settings.rotate_registration_tokens = true);
    let first = register(&mut world, confidential()).unwrap();
    let token = |world: &mut World| {
        world.server().seen_at(Place::Managed).last().unwrap().header("authorization").unwrap().to_owned()
    };
    let second = world.run(first.read().unwrap()).unwrap();
    let one = token(&mut world);
    assert_eq!(second.client_id(), first.client_id());
    let third = world.run(second.update(confidential().client_name("Renamed")).unwrap()).unwrap();
    let two = token(&mut world);
    assert!(one != two && one.starts_with("Bearer "));
    let sent = body(&mut world, Place::Managed);
    assert_eq!((&sent["client_name"], &sent["client_id"]), (&json!("Renamed"), &json!(third.client_id())));
    assert!(third.client_secret().unwrap().matches(sent["client_secret"].as_str().unwrap()));
    assert_eq!(third.metadata().str("client_name"), Some("Renamed"));
    assert_eq!(third.asked(), &confidential().client_name("Renamed"));
    // The one before is of no use any more.
    let stale = world.run(second.read().unwrap()).unwrap_err();
    assert_eq!(stale.server().unwrap().error(), "invalid_token");
    // It can be kept as text in between.
    let third: RegisteredClient = serde_json::from_str(&serde_json::to_string(&third).unwrap()).unwrap();
    world.run(third.delete().unwrap()).unwrap();
    assert_eq!(world.server().seen_at(Place::Managed).last().unwrap().request.method(), Method::DELETE);
    assert_eq!(world.run(third.read().unwrap()).unwrap_err().status(), Some(401));
    let client = third.client().unwrap();
    let signing_in = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| sign_in(&mut world, &third, &client)));
    assert!(signing_in.is_err(), "the server knows the client no longer");
}

#[test]
fn a_token_for_a_registration_is_not_lost_with_an_answer_that_is_of_no_use() {
    let mut world = world(|settings| settings.rotate_registration_tokens = true);
    let first = register(&mut world, native()).unwrap();
    world.server().settings.alter_registration = Alter::set("client_id", "another".into());
    let mut update = first.update(native().client_name("Renamed")).unwrap();
    let error = world.run(&mut update).unwrap_err();
    assert!(error.kind() == ErrorKind::InvalidResponse && error.to_string().contains("client_id"), "{error}");
    let newest = update.newest().clone();
    world.server().settings.alter_registration = Alter::default();
    assert!(world.run(first.read().unwrap()).is_err());
    assert_eq!(world.run(newest.read().unwrap()).unwrap().metadata().str("client_name"), Some("Renamed"));
}

#[test]
fn a_registered_client_is_used_at_no_other_server() {
    let mut world = world(|_| {}).and(Server::new("https://other.example"));
    let registered = register(&mut world, native()).unwrap();
    let other = Server::new("https://other.example").metadata();
    assert_eq!(registered.server(&other).unwrap_err().kind(), ErrorKind::Issuer);
    let client = registered.client().unwrap();
    let request = AuthorizationRequest::new(&other, &client, REDIRECT);
    assert_eq!(start(&mut world, request).unwrap_err().kind(), ErrorKind::Issuer);
}

/// A desk, and what registers a client there.
fn desk(change: impl FnOnce(&mut Settings)) -> (Desk, Registration, RecordKey) {
    let mut desk = Desk::new(world(change));
    let server = desk.world.server().metadata();
    let key = RecordKey::of_registration(server.issuer(), "");
    (desk, Registration::new(&server, confidential()).unwrap(), key)
}

fn requests(desk: &mut Desk) -> usize {
    desk.world.server().seen_at(Place::Registration).len() + desk.world.server().seen_at(Place::Managed).len()
}

#[test]
fn a_registration_in_a_store_is_made_once_for_all_that_share_it() {
    let (mut desk, registration, key) = desk(|_| {});
    let first = desk.run(RegistrationInStore::new(registration.clone())).unwrap();
    assert_eq!(desk.did, ["load", "lease", "load", "http", "save", "release"]);
    let again = desk.run(RegistrationInStore::new(registration.clone())).unwrap();
    assert_eq!((desk.did.as_slice(), again.client_id()), (["load"].as_slice(), first.client_id()));
    let labelled = desk.run(RegistrationInStore::new(registration.clone()).label("second")).unwrap();
    assert_ne!(labelled.client_id(), first.client_id());
    assert_eq!(requests(&mut desk), 2);
    // Of two at the same time, the second has what the first made.
    desk.run(RegistrationInStore::delete(key.issuer())).unwrap();
    let other = registration.clone();
    desk.before("lease", move |desk| drop(desk.run(RegistrationInStore::new(other)).unwrap()));
    let one = desk.run(RegistrationInStore::new(registration.clone())).unwrap();
    assert_eq!(desk.did, ["load", "lease", "load", "release"]);
    assert_eq!(desk.run(RegistrationInStore::new(registration)).unwrap().client_id(), one.client_id());
}

#[test]
fn a_registration_in_a_store_follows_what_the_client_tells_of_itself_and_its_secret() {
    let (mut desk, registration, _) = desk(|settings| {
        settings.rotate_registration_tokens = true;
        settings.client_secret_lifetime = Some(3600);
    });
    let server = desk.world.server().metadata();
    let first = desk.run(RegistrationInStore::new(registration)).unwrap();
    let renamed = Registration::new(&server, confidential().client_name("Renamed")).unwrap();
    for _ in 0..2 {
        let second = desk.run(RegistrationInStore::new(renamed.clone())).unwrap();
        assert_eq!((second.client_id(), second.metadata().str("client_name")), (first.client_id(), Some("Renamed")));
    }
    assert_eq!(requests(&mut desk), 2);
    // The server gives no new secret at a change: another client is registered.
    desk.world.pass(Duration::from_secs(3700));
    let third = desk.run(RegistrationInStore::new(renamed.clone())).unwrap();
    assert_eq!(desk.did, ["load", "lease", "load", "http", "http", "save", "release"]);
    assert_ne!(third.client_id(), first.client_id());
    // The server has forgotten the client.
    let read = desk.run(RegistrationInStore::read(server.issuer())).unwrap();
    desk.world.run(read.delete().unwrap()).unwrap();
    let other = Registration::new(&server, confidential()).unwrap();
    let fourth = desk.run(RegistrationInStore::new(other)).unwrap();
    assert_ne!(fourth.client_id(), third.client_id());
}

#[test]
fn a_token_that_changes_with_each_use_outlives_what_gets_in_the_way() {
    let (mut desk, registration, key) = desk(|settings| settings.rotate_registration_tokens = true);
    let issuer = key.issuer().clone();
    desk.run(RegistrationInStore::new(registration.clone())).unwrap();
    let reads = |desk: &mut Desk| desk.run(RegistrationInStore::read(&Issuer::new("https://as.example").unwrap()));
    // A store that fails for a while, that loses its answer, that another process wrote to, and a useless answer of the server.
    desk.trip("save", Trip::Fail);
    desk.trip("save", Trip::Lose);
    assert!(reads(&mut desk).unwrap().save_error().is_none());
    assert!(reads(&mut desk).unwrap().save_error().is_none());
    desk.before("save", |desk| {
        let key = RecordKey::of_registration(&Issuer::new("https://as.example").unwrap(), "");
        let version = desk.version(&key) + 1;
        desk.shelf.put(&key, desk.world.now.mono, Some(Stored::new(version, "x")));
    });
    assert!(reads(&mut desk).unwrap().save_error().is_none());
    desk.world.server().settings.alter_registration = Alter::set("client_id", "another".into());
    assert_eq!(reads(&mut desk).unwrap_err().kind(), ErrorKind::InvalidResponse);
    desk.world.server().settings.alter_registration = Alter::default();
    assert!(reads(&mut desk).is_ok());
    // A store that never works again: it is handed out, says so, and can be kept later.
    (0..5).for_each(|_| desk.trip("save", Trip::Fail));
    let unsaved = reads(&mut desk).unwrap();
    assert_eq!(unsaved.save_error().unwrap().kind(), ErrorKind::Store);
    assert!(reads(&mut desk).is_err(), "the one in the store was used up");
    desk.run(RegistrationInStore::keep(unsaved)).unwrap();
    assert!(reads(&mut desk).unwrap().save_error().is_none());
    let updated = desk.run(RegistrationInStore::update(&issuer, confidential().client_name("New"))).unwrap();
    assert_eq!(updated.metadata().str("client_name"), Some("New"));
    desk.run(RegistrationInStore::delete(&issuer)).unwrap();
    let error = reads(&mut desk).unwrap_err();
    assert!(error.kind() == ErrorKind::Store && error.to_string().contains("as.example"), "{error}");
}

#[test]
fn a_registration_of_another_server_or_of_no_form_that_is_known_is_refused_and_kept() {
    let (mut desk, registration, key) = desk(|_| {});
    desk.run(RegistrationInStore::new(registration.clone())).unwrap();
    let planted = desk.shelf.peek(&key).unwrap().clone();
    let other = RecordKey::of_registration(&Issuer::new("https://other.example").unwrap(), "");
    desk.shelf.put(&other, desk.world.now.mono, Some(planted));
    let error = desk.run(RegistrationInStore::read(other.issuer())).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Issuer);
    for value in ["", "{}", "s3cret", r#"{"reader":2,"client":{}}"#] {
        desk.shelf.put(&key, desk.world.now.mono, Some(Stored::new(7, value)));
        let error = desk.run(RegistrationInStore::new(registration.clone())).unwrap_err();
        assert_eq!((error.kind(), desk.version(&key)), (ErrorKind::Store, 7), "{error}");
        assert!(!error.to_string().contains("s3cret"), "{error}");
    }
    desk.trip("load", Trip::Refuse);
    assert_eq!(desk.run(RegistrationInStore::new(registration)).unwrap_err().kind(), ErrorKind::Unsupported);
}

#[test]
fn the_pretend_server_registers_nothing_that_is_not_as_it_should_be() {
    let mut world = world(|_| {});
    let post = |world: &mut World, kind: &str, body: Value| {
        let request = Request::post(world.server().address(Place::Registration)).header("content-type", kind);
        let now = world.now.wall;
        match world.server().answer(now, &request.body(body.to_string().into_bytes()).unwrap()).wire {
            Wire::Whole(response) => {
                (response.status(), serde_json::from_slice::<Value>(response.body()).unwrap_or_default())
            }
            other => panic!("{other:?}"),
        }
    };
    let good = json!({"redirect_uris": ["https://app.example/"]});
    let json = "application/json";
    assert_eq!(post(&mut world, json, good.clone()).0, StatusCode::CREATED);
    assert_eq!(post(&mut world, "text/plain", good.clone()).0, StatusCode::BAD_REQUEST);
    for (name, value) in [
        ("redirect_uris", json!([])),
        ("redirect_uris", json!(["http://127.0.0.1/"])),
        ("redirect_uris", json!(["https://app.example/#x"])),
        ("redirect_uris", json!("https://app.example/")),
        ("application_type", json!("other")),
        ("token_endpoint_auth_method", json!("private_key_jwt")),
        ("token_endpoint_auth_method", json!("magic")),
        ("grant_types", json!(["client_credentials"])),
        ("response_types", json!(["code", "token"])),
        ("jwks", json!({"keys": [{"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA"}]})),
        ("client_id", json!("mine")),
        ("registration_access_token", json!("mine")),
        ("client_name", json!("")),
        ("client_name", json!(null)),
        ("other", json!("x")),
    ] {
        let mut wrong = good.clone();
        wrong[name] = value;
        if name == "response_types" || name == "grant_types" {
            wrong["redirect_uris"] = json!(["https://app.example/"]);
        }
        let wrong = if name == "grant_types" {
            json!({"grant_types": ["client_credentials"], "response_types": ["code"]})
        } else {
            wrong
        };
        assert_eq!(post(&mut world, json, wrong.clone()).0, StatusCode::BAD_REQUEST, "{wrong}");
    }
    let (_, body) = post(&mut world, json, good.clone());
    let manage = |world: &mut World, method: Method, token: &str, body: Value| {
        let uri = format!("{}/{}", world.server().address(Place::Registration), body["client_id"].as_str().unwrap());
        let request = Request::builder().method(method).uri(uri).header("content-type", "application/json");
        let request = request.header("authorization", format!("Bearer {token}"));
        let now = world.now.wall;
        match world.server().answer(now, &request.body(body.to_string().into_bytes()).unwrap()).wire {
            Wire::Whole(response) => response.status().as_u16(),
            other => panic!("{other:?}"),
        }
    };
    let token = body["registration_access_token"].as_str().unwrap();
    let id = &body["client_id"];
    let put = json!({"client_id": id, "redirect_uris": ["https://app.example/"]});
    assert_eq!(manage(&mut world, Method::PUT, token, put.clone()), 200);
    assert_eq!(manage(&mut world, Method::PUT, "other", put.clone()), 401);
    assert_eq!(manage(&mut world, Method::POST, token, put.clone()), 405);
    let mut wrong = put.clone();
    wrong["client_secret"] = "another".into();
    assert_eq!(manage(&mut world, Method::PUT, token, wrong), 400);
    let mut wrong = put.clone();
    wrong["registration_client_uri"] = body["registration_client_uri"].clone();
    assert_eq!(manage(&mut world, Method::PUT, token, wrong), 400);
    assert_eq!(manage(&mut world, Method::DELETE, token, put.clone()), 204);
    assert_eq!(manage(&mut world, Method::GET, token, put), 401);
}
