//! How a person signs in at the server of a protected resource: with a browser, by a device's code, and in the way that the
//! resource demands.

use grantflow::register::ClientMetadata;
use grantflow::resource::{Access, Demand, ProtectedResource};
use grantflow::{Client, Error, ErrorKind, Issuer, Token};
use grantflow_tests::resource::resources_named;
use grantflow_tests::server::Alter;
use grantflow_tests::{Fault, Place, Resource, Server, World};
use http::header::WWW_AUTHENTICATE;
use http::{HeaderMap, Response, StatusCode};
use serde_json::{Value, json};

use super::resources::{MCP, mcp, server, sign_in, world};

const STEP_UP: &str = r#"Bearer error="insufficient_user_authentication", acr_values="gold silver", max_age="60""#;

fn demand(challenge: &str) -> Demand {
    let headers = HeaderMap::from_iter([(WWW_AUTHENTICATE, challenge.parse().unwrap())]);
    Demand::read(StatusCode::UNAUTHORIZED, &headers).unwrap()
}

/// A person enters the code that a device shows.
fn sign_in_by_device(world: &mut World, access: &Access) -> Result<Token, Error> {
    let app = access.app()?;
    let request = app.device_authorization()?.expect("a device");
    let code = world.run(request.exchange())?;
    assert!(world.enter_code(code.verification_uri(), code.user_code()));
    world.run(app.poll(code)?)
}

fn of_devices(alter: impl Fn(&mut Value) + Send + Sync + 'static) -> World {
    let mut world = world();
    let settings = &mut world.server().settings;
    settings.extra_params = vec!["resource", "acr_values", "max_age", "code_challenge", "code_challenge_method"];
    settings.alter_metadata = Alter::by(move |document| {
        document["client_id_metadata_document_supported"] = true.into();
        alter(document);
    });
    world
}

#[test]
fn a_device_is_shown_a_code_and_its_server_need_not_take_s256() {
    let mut world = of_devices(|document| document["code_challenge_methods_supported"] = Value::Null);
    assert!(world.run(mcp().find()).is_err(), "a browser's sign-in needs it");
    let access = world.run(mcp().app(|app| app.device()).scopes("read").find()).unwrap();
    let token = sign_in_by_device(&mut world, &access).unwrap();
    assert!(world.ask(MCP, Some(&token)).status().is_success());
    assert_eq!(token.scopes().as_str(), "read offline_access");
    for place in [Place::Device, Place::Token] {
        assert_eq!(resources_named(world.server(), place), [[MCP]], "{place:?}");
    }
}

#[test]
fn a_server_that_gives_no_codes_is_none_for_devices_and_another_is_tried() {
    let mut resource = Resource::new(MCP, "https://one.example");
    resource.servers.push("https://two.example".into());
    let mut world = World::with(server("https://one.example").with(|it| {
        it.alter_metadata = Alter::by(|document| {
            document["client_id_metadata_document_supported"] = true.into();
            document["device_authorization_endpoint"] = Value::Null;
        });
    }));
    world = world.and(server("https://two.example")).protecting(resource);
    let device = || mcp().app(|app| app.device());
    let access = world.run(device().find()).unwrap();
    assert_eq!(access.server().issuer().as_str(), "https://two.example");
    world.resources[0].servers.pop();
    world.documents = None;
    let error = world.run(device().find()).unwrap_err();
    assert!(error.to_string().contains("device_authorization_endpoint"), "{error}");
}

/// A server where clients register themselves, and what it was told.
fn registered(resource: &ProtectedResource) -> (Access, Value) {
    registered_where(resource, |_| {})
}

fn registered_where(
    resource: &ProtectedResource,
    alter: impl Fn(&mut Value) + Send + Sync + 'static,
) -> (Access, Value) {
    let mut world = World::with(Server::new("https://as.example").with(|it| {
        it.alter_metadata = Alter::by(move |document| {
            document["registration_endpoint"] = "https://as.example/register".into();
            alter(document);
        });
    }));
    world = world.protecting(Resource::new(MCP, "https://as.example"));
    let answer = json!({"client_id": "made-here", "token_endpoint_auth_method": "none"});
    let answer = Response::builder().status(201).body(answer.to_string().into_bytes()).unwrap();
    world.server().fail(Place::Registration, Fault::Answer(answer));
    let access = world.run(resource.find()).unwrap();
    (access, serde_json::from_slice(world.sent().last().unwrap().request.body()).unwrap())
}

fn registering(name: &str) -> ProtectedResource {
    ProtectedResource::mcp(MCP).unwrap().register(ClientMetadata::new().client_name(name))
}

#[test]
fn a_device_registers_no_redirect_and_the_grant_that_it_uses() {
    let (access, told) = registered(&registering("TV").app(|app| app.device()));
    let grant = "urn:ietf:params:oauth:grant-type:device_code";
    assert_eq!((&told["grant_types"], &told["response_types"]), (&json!([grant, "refresh_token"]), &json!([])));
    assert!(told.get("redirect_uris").is_none() && told["application_type"] == "native", "{told}");
    assert!(access.app().unwrap().device_authorization().unwrap().is_some());
}

#[test]
fn a_program_registers_without_a_secret_or_for_the_way_to_show_it_that_the_server_lists_first() {
    for (listed, method) in [
        (json!(["client_secret_post", "client_secret_basic"]), "client_secret_post"),
        (json!(["private_key_jwt", "client_secret_basic", "client_secret_post"]), "client_secret_basic"),
        (json!(["client_secret_post", "none"]), "none"),
        (Value::Null, "client_secret_basic"),
    ] {
        let lists = listed.clone();
        let alter = move |document: &mut Value| document["token_endpoint_auth_methods_supported"] = lists.clone();
        let (_, told) = registered_where(&registering("Tool"), alter);
        assert_eq!(told["token_endpoint_auth_method"], method, "{listed}");
    }
}

#[test]
fn programs_that_may_wait_at_the_same_time_register_other_ports_each_its_own() {
    let uri = |name: &str| registered(&registering(name)).1["redirect_uris"].clone();
    assert_eq!(uri("Tool"), uri("Tool"));
    assert_ne!(uri("Tool"), uri("Another"));
    let (_, told) = registered(&registering("Tool").app(|app| app.port(8765)));
    assert_eq!(told["redirect_uris"], json!(["http://127.0.0.1:8765/"]));
}

#[test]
fn the_sign_in_that_a_resource_demands_is_checked_where_there_is_an_id_token() {
    for (acr, auth_time, taken) in [
        (json!("gold"), 0, true),
        (json!("silver"), -60, true),
        (json!("bronze"), 0, false),
        (Value::Null, 0, false),
        (json!(["gold"]), 0, false),
        (json!("gold"), -3600, false),
    ] {
        let alter = |world: &mut World| {
            let (acr, at) = (acr.clone(), world.now.wall.as_unix() + auth_time);
            world.server().settings.alter_id_claims = Alter::by(move |claims| {
                (claims["acr"], claims["auth_time"]) = (acr.clone(), at.into());
            });
        };
        let resource = || mcp().scopes("openid read");
        let (mut by_browser, mut by_device) = (world(), of_devices(|_| {}));
        alter(&mut by_browser);
        alter(&mut by_device);
        let access = by_browser.run(resource().find_for(&demand(STEP_UP))).unwrap();
        let browser = sign_in(&mut by_browser, &access);
        let access = by_device.run(resource().app(|app| app.device()).find_for(&demand(STEP_UP))).unwrap();
        let device = sign_in_by_device(&mut by_device, &access);
        for (way, found) in [("browser", browser), ("device", device)] {
            assert_eq!(found.is_ok(), taken, "{way}: {acr} {auth_time}: {found:?}");
            assert!(found.is_ok() || found.unwrap_err().kind() == ErrorKind::IdToken, "{way}");
        }
    }
}

#[test]
fn a_server_that_is_down_is_passed_over_unless_it_was_chosen_or_had_access() {
    let mut world = World::with(server("https://one.example")).and(server("https://two.example"));
    let mut resource = Resource::new(MCP, "https://one.example");
    resource.servers.push("https://two.example".into());
    world = world.protecting(resource);
    let issuer = || Issuer::new("https://one.example").unwrap();
    let before = world.run(mcp().find()).unwrap();
    assert_eq!(*before.server().issuer(), issuer());
    world.documents = None;
    let down = |world: &mut World, resource: &dyn Fn() -> grantflow::resource::FindAccess| {
        let down = Fault::status(503, "");
        for place in [Place::OAuthMetadata, Place::OpenIdMetadata].into_iter().cycle().take(40) {
            world.server().fail(place, down.clone());
        }
        let found = world.run(resource());
        world.server().heal();
        found.map(|access| access.server().issuer().to_string())
    };
    assert_eq!(down(&mut world, &|| mcp().find()).unwrap(), "https://two.example");
    let client = || Client::new("own").registered_at(issuer());
    let again = demand("Bearer");
    for wanted in [
        &(|| mcp().authorization_server(issuer()).find()) as &dyn Fn() -> grantflow::resource::FindAccess,
        &|| mcp().client(client()).find(),
        &|| mcp().find_again(&again, &before),
    ] {
        let error = down(&mut world, wanted).unwrap_err();
        assert!(error.is_transient() && error.status() == Some(503), "{error}");
    }
}
