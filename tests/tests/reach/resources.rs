//! From a protected resource to a sign-in: RFC 9728, and the order and the rules of the Model Context Protocol.

use grantflow::machine::Reach;
use grantflow::resource::{Access, Demand, DemandKind, FindAccess, ProtectedResource};
use grantflow::source::{Credential, PlatformToken};
use grantflow::{
    Client, ClientAuthentication, Deviation, Deviations, Error, ErrorKind, InstalledApp, Issuer, Timestamp, Token,
    token_type,
};
use grantflow_tests::resource::resources_named;
use grantflow_tests::server::Alter;
use grantflow_tests::{Fault, Place, Registered, Resource, Server, World};
use serde_json::json;

pub(super) const REDIRECT: &str = "http://127.0.0.1/callback";
pub(super) const DOCUMENT: &str = "https://tool.example/client.json";
pub(super) const MCP: &str = "https://rs.example/mcp";

/// A server that reads documents of clients.
pub(super) fn server(issuer: &str) -> Server {
    let client = Registered::public(DOCUMENT).redirect_uri(REDIRECT);
    Server::new(issuer).client(client).with(|it| {
        it.alter_metadata = Alter::set("client_id_metadata_document_supported", true.into());
    })
}

pub(super) fn world() -> World {
    World::with(server("https://as.example")).protecting(Resource::new(MCP, "https://as.example"))
}

pub(super) fn mcp() -> ProtectedResource {
    ProtectedResource::mcp(MCP).unwrap().client_document(DOCUMENT)
}

/// A person signs in, to the redirect URI of the tests.
pub(super) fn sign_in(world: &mut World, access: &Access) -> Result<Token, Error> {
    let app: InstalledApp = access.app()?.redirect_uri(REDIRECT);
    let mut receiver = world.run(app.start(8080))?;
    let redirect = world.person(receiver.url());
    receiver.paste(&redirect, world.now.wall)?;
    world.run(receiver.finish())
}

fn demand(world: &mut World, url: &str, token: Option<&Token>) -> Demand {
    let response = world.ask(url, token);
    Demand::read(response.status(), response.headers()).expect("a demand")
}

fn asked(world: &World) -> Vec<String> {
    world.sent().iter().map(|sent| sent.request.uri().to_string()).collect()
}

fn issuer(text: &str) -> Issuer {
    Issuer::new(text).unwrap()
}

#[test]
fn an_address_leads_to_a_token_that_the_resource_takes() {
    let mut world = world();
    let access = world.run(mcp().find()).unwrap();
    assert_eq!(
        asked(&world),
        [
            "https://rs.example/.well-known/oauth-protected-resource/mcp",
            "https://as.example/.well-known/oauth-authorization-server",
        ]
    );
    let token = sign_in(&mut world, &access).unwrap();
    assert!(world.ask(MCP, Some(&token)).status().is_success());
    for place in [Place::Authorize, Place::Token] {
        assert_eq!(resources_named(world.server(), place), [[MCP]], "{place:?}");
    }
    let key = access.app().unwrap().record_key("alice");
    assert_eq!(key.label(), format!("alice\nfor {MCP}"));
    assert!(key.to_string().contains("\"alice\" for https://rs.example/mcp"), "{key}");
}

#[test]
fn metadata_is_looked_for_behind_the_path_and_then_at_the_root() {
    let mut world = world();
    world.resources[0].metadata_at = Some("/.well-known/oauth-protected-resource".into());
    world.run(mcp().find()).unwrap();
    assert_eq!(
        asked(&world)[..2],
        [
            "https://rs.example/.well-known/oauth-protected-resource/mcp",
            "https://rs.example/.well-known/oauth-protected-resource",
        ]
    );
    world.resources[0].metadata_at = None;
    world.documents = None;
    let error = world.run(mcp().find()).unwrap_err();
    assert_eq!(error.status(), Some(404), "{error}");
    // A server that fails has not said that there is none.
    let failing = http::Response::builder().status(500).body(Vec::new()).unwrap();
    world.resources[0].metadata_at = Some("/.well-known/oauth-protected-resource/mcp".into());
    world.resources[0].metadata_answer = Some(failing);
    let error = world.run(mcp().find()).unwrap_err();
    assert_eq!(error.status(), Some(500), "{error}");
    assert!(!asked(&world).last().unwrap().ends_with("oauth-protected-resource"), "{:?}", asked(&world));
}

#[test]
fn a_query_of_the_address_stays_in_the_address_of_its_metadata() {
    let mut world = world();
    let resource = ProtectedResource::new("https://rs.example/mcp?tenant=7").unwrap();
    let _ = world.run(resource.discover());
    assert_eq!(asked(&world)[0], "https://rs.example/.well-known/oauth-protected-resource/mcp?tenant=7");
}

#[test]
fn a_challenge_says_where_the_metadata_is_and_which_scopes_are_needed() {
    let mut world = world();
    let rs = &mut world.resources[0];
    (rs.metadata_at, rs.names_metadata) = (
        Some("/.well-known/oauth-protected-resource/elsewhere".into()),
        Some("https://rs.example/.well-known/oauth-protected-resource/elsewhere".into()),
    );
    rs.scopes = Some(vec!["read", "write"]);
    rs.needs = vec![("mcp", "read".into())];
    world.server().settings.scopes = "read write".into();
    let demand = demand(&mut world, MCP, None);
    let access = world.run(mcp().find_for(&demand)).unwrap();
    assert_eq!(asked(&world)[0], "https://rs.example/.well-known/oauth-protected-resource/elsewhere");
    assert_eq!(access.scopes().as_str(), "read");
}

#[test]
fn scopes_are_the_challenges_else_all_that_are_listed_else_none_and_offline_access_where_the_server_has_it() {
    for (needs, listed, at_server, asked) in [
        ("read", Some(vec!["read", "write"]), "read write", "read"),
        ("", Some(vec!["read", "write"]), "read write", "read write"),
        ("", None, "read write", ""),
        ("", None, "read offline_access", "offline_access"),
        ("read", Some(vec!["offline_access"]), "read offline_access", "read offline_access"),
        ("", Some(vec!["read", "offline_access"]), "read", "read"),
    ] {
        let mut world = world();
        world.resources[0].scopes = listed;
        world.resources[0].needs = vec![("mcp", needs.into())];
        world.server().settings.scopes = at_server.into();
        let demand = demand(&mut world, MCP, None);
        let access = world.run(mcp().find_for(&demand)).unwrap();
        assert_eq!(access.scopes().as_str(), asked, "{needs} {at_server}");
    }
}

#[test]
fn a_server_with_a_path_is_asked_in_the_order_of_mcp() {
    let with_path = "https://as.example/tenant1";
    let mut world = World::with(server(with_path).with(|it| it.oauth_metadata = false));
    world = world.protecting(Resource::new(MCP, with_path));
    world.run(mcp().find()).unwrap();
    assert_eq!(
        asked(&world)[1..],
        [
            "https://as.example/.well-known/oauth-authorization-server/tenant1",
            "https://as.example/.well-known/openid-configuration/tenant1",
            "https://as.example/tenant1/.well-known/openid-configuration",
        ]
    );
    let mut world = World::with(server("https://as.example").with(|it| it.oauth_metadata = false));
    world = world.protecting(Resource::new(MCP, "https://as.example"));
    world.run(mcp().find()).unwrap();
    assert_eq!(asked(&world).len(), 3, "no address is asked twice: {:?}", asked(&world));
}

#[test]
fn a_server_that_does_not_say_that_it_takes_s256_is_refused() {
    for methods in [json!(null), json!([]), json!(["plain"])] {
        let mut world = world();
        world.server().settings.alter_metadata = Alter::by(move |document| {
            document["client_id_metadata_document_supported"] = true.into();
            document["code_challenge_methods_supported"] = methods.clone();
        });
        let error = world.run(mcp().find()).unwrap_err();
        assert!(error.to_string().contains("S256"), "{error}");
    }
}

#[test]
fn clients_are_those_of_their_servers() {
    let client = |id: &str, at: &str| {
        let client = Client::new(id).authentication(ClientAuthentication::client_secret_basic("s3cret"));
        client.registered_at(issuer(at))
    };
    let plain = || ProtectedResource::mcp(MCP).unwrap();
    let found =
        |resource: ProtectedResource| world().run(resource.find()).and_then(|it| Ok(it.client()?.id().to_owned()));
    // Registered before, then by a document.
    assert_eq!(found(mcp().client(client("own", "https://as.example"))).unwrap(), "own");
    assert_eq!(found(mcp().client(client("own", "https://other.example"))).unwrap(), DOCUMENT);
    // The resource has moved to another server than the one that a client is registered at.
    let error = found(plain().client(client("own", "https://other.example"))).unwrap_err();
    assert!(error.kind() == ErrorKind::Config && error.to_string().contains("https://other.example"), "{error}");
    let error = found(plain()).unwrap_err();
    assert!(error.to_string().contains("ProtectedResource::client"), "{error}");
    let error = found(plain().client(Client::new("own"))).unwrap_err();
    assert!(error.to_string().contains("registered_at"), "{error}");
    assert!(found(plain().client_document("https://tool.example")).is_err());
}

#[test]
fn of_several_servers_the_chosen_one_comes_first_and_one_that_cannot_be_used_is_passed_over() {
    let resource = || {
        let mut resource = Resource::new(MCP, "https://one.example");
        resource.servers.push("https://two.example".into());
        resource
    };
    let world = || World::with(server("https://one.example")).and(server("https://two.example")).protecting(resource());
    let at = |access: Access| access.server().issuer().to_string();
    assert_eq!(at(world().run(mcp().find()).unwrap()), "https://one.example");
    let chosen = mcp().authorization_server(issuer("https://two.example"));
    assert_eq!(at(world().run(chosen.find()).unwrap()), "https://two.example");
    let client = Client::new("own").registered_at(issuer("https://two.example"));
    assert_eq!(at(world().run(mcp().client(client).find()).unwrap()), "https://two.example");
    let mut broken = world();
    broken.server().settings.alter_metadata = Alter::set("issuer", "https://two.example".into());
    assert_eq!(at(broken.run(mcp().find()).unwrap()), "https://two.example");
    let mut none = world();
    none.resources[0].servers.clear();
    assert!(none.run(mcp().find()).unwrap_err().to_string().contains("no authorization server"));
}

#[test]
fn a_resource_above_the_address_is_taken_where_that_is_tolerated() {
    let mut world = world();
    world.resources[0].alter_metadata = Alter::set("resource", "https://rs.example".into());
    let strict = ProtectedResource::new(MCP).unwrap().client_document(DOCUMENT);
    let error = world.run(strict.find()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Issuer, "{error}");
    let access = world.run(mcp().find()).unwrap();
    assert!(access.metadata().deviations().contains(Deviation::ResourceAbove));
    // It is asked for by the name that it gives itself, to the letter.
    assert_eq!(access.want().wanted_resources().collect::<Vec<_>>(), ["https://rs.example"]);
}

#[test]
fn a_resource_without_metadata_is_one_of_mcp_of_2025_03_26_only_by_name() {
    let mut resource = Resource::new(MCP, "https://rs.example");
    (resource.metadata_at, resource.names_metadata) = (None, None);
    let mut world = World::with(server("https://rs.example")).protecting(resource);
    assert!(world.run(mcp().find()).is_err());
    let deviations = Deviations::TOLERATED.with(Deviation::NoResourceMetadata);
    let old = || mcp().tolerate(deviations).client(Client::new("own").registered_at(issuer("https://rs.example")));
    let access = world.run(old().find()).unwrap();
    assert_eq!(access.server().issuer().as_str(), "https://rs.example");
    let settings = &mut world.server().settings;
    (settings.oauth_metadata, settings.openid_metadata) = (false, false);
    world.documents = None;
    let access = world.run(old().find()).unwrap();
    assert_eq!(access.server().token().unwrap().as_str(), "https://rs.example/token");
}

#[test]
fn what_is_asked_for_after_a_challenge_joins_what_was_asked_before() {
    let mut world = world();
    world.resources[0].needs = vec![("mcp", "read".into()), ("files", "write".into())];
    world.server().settings.scopes = "read write".into();
    let first = demand(&mut world, MCP, None);
    let access = world.run(mcp().find_for(&first)).unwrap();
    let token = sign_in(&mut world, &access).unwrap();
    let more = demand(&mut world, "https://rs.example/mcp/files", Some(&token));
    assert_eq!((more.kind(), more.scopes().as_str()), (DemandKind::Scope, "write"));
    let access = world.run(mcp().find_for(&more)).unwrap().and_scopes(access.scopes());
    assert_eq!(access.scopes().as_str(), "write read");
    let token = sign_in(&mut world, &access).unwrap();
    assert!(world.ask("https://rs.example/mcp/files", Some(&token)).status().is_success());
    // A grant that has what is needed does, whatever else would be asked for.
    let app = access.app().unwrap();
    assert!(app.is_covered_by(&"write".into(), &"write".into()) && !app.is_covered_by(&"read".into(), &"read".into()));
}

#[test]
fn how_a_user_must_sign_in_is_asked_of_the_server() {
    let mut world = world();
    let headers = http::HeaderMap::from_iter([(
        http::header::WWW_AUTHENTICATE,
        r#"Bearer error="insufficient_user_authentication", acr_values="gold", max_age="5""#.parse().unwrap(),
    )]);
    let demand = Demand::read(http::StatusCode::UNAUTHORIZED, &headers).unwrap();
    let access = world.run(mcp().find_for(&demand)).unwrap();
    let receiver = world.run(access.app().unwrap().start(8080)).unwrap();
    assert!(receiver.url().contains("&max_age=5") && receiver.url().contains("acr_values=gold"), "{}", receiver.url());
}

#[test]
fn a_resource_that_moves_to_another_server_takes_nothing_along() {
    let mut world = World::with(server("https://one.example")).and(server("https://two.example"));
    world = world.protecting(Resource::new(MCP, "https://one.example"));
    let access = world.run(mcp().find()).unwrap();
    let token = sign_in(&mut world, &access).unwrap();
    world.resources[0].servers = vec!["https://two.example".into()];
    let moved = demand(&mut world, MCP, Some(&token));
    assert_eq!(moved.kind(), DemandKind::Token);
    // A refusal may mean that the metadata has changed: the kept one does not count.
    let new = world.run(mcp().find_for(&moved)).unwrap();
    assert_eq!(new.server().issuer().as_str(), "https://two.example");
    assert_ne!(new.app().unwrap().record_key(""), access.app().unwrap().record_key(""));
    // Neither does a token, nor a refresh token, go to the new server.
    let refresh = grantflow::TokenRequest::refresh(new.server(), new.client().unwrap(), &token).err();
    assert_eq!(refresh.map(|error| error.kind()), Some(ErrorKind::Issuer));
}

#[test]
fn a_loopback_resource_may_name_servers_on_this_machine_and_no_other_private_ones() {
    let (rs, at) = ("http://127.0.0.1:8001/mcp", "http://localhost:8002");
    let world = |issuer: &str| World::with(server(issuer)).protecting(Resource::new(rs, issuer));
    let local = || ProtectedResource::mcp(rs).unwrap().client_document(DOCUMENT);
    let mut near = world(at);
    let access = near.run(local().find()).unwrap();
    assert_eq!(access.server().token().unwrap().reach(), Reach::Local);
    for private in ["https://10.0.0.1", "https://vault.internal", "https://[fd00::1]"] {
        let mut world = world(private);
        let error = world.run(local().find()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config, "{private}: {error}");
        assert_eq!(asked(&world).len(), 1, "{private}");
    }
    let mut inside = world(at);
    inside.server().settings.alter_metadata = Alter::set("token_endpoint", "https://10.0.0.1/token".into());
    assert!(inside.run(local().find()).is_err());
}

#[test]
fn an_intranets_resource_reaches_the_servers_that_the_program_has_chosen() {
    let (rs, at) = ("https://10.0.0.5/mcp", "https://10.0.0.6");
    let world = || World::with(server(at)).protecting(Resource::new(rs, at));
    let find = |resource: ProtectedResource| -> FindAccess { resource.client_document(DOCUMENT).find() };
    assert!(world().run(find(ProtectedResource::mcp(rs).unwrap())).is_err());
    let chosen = ProtectedResource::mcp(rs).unwrap().authorization_server(issuer(at));
    assert_eq!(world().run(find(chosen)).unwrap().server().token().unwrap().reach(), Reach::Public);
}

#[test]
fn tokens_of_no_person_are_for_the_resource_and_name_no_scope_that_nobody_asked_for() {
    let secret = ClientAuthentication::client_secret_basic("s3cret");
    let client = Client::new("batch").authentication(secret).registered_at(issuer("https://as.example"));
    let sent = |resource: ProtectedResource, platform: &str| {
        let mut world = world();
        world.files.insert("/token".into(), platform.into());
        let access = world.run(resource.find()).unwrap();
        let source = access.source().unwrap().unwrap();
        let _ = world.run(source.mint(&access.want(), &source.first_state()));
        let form = |sent: &grantflow_tests::world::Sent| String::from_utf8(sent.request.body().clone()).unwrap();
        world.sent().into_iter().filter(|sent| sent.request.method() == "POST").map(form).collect::<Vec<_>>()
    };
    let resource = || ProtectedResource::mcp(MCP).unwrap().client(client.clone());
    let mcp = "resource=https%3A%2F%2Frs.example%2Fmcp";
    assert_eq!(
        sent(resource().source(Access::client_credentials), ""),
        [format!("grant_type=client_credentials&{mcp}")]
    );

    let platform = |access: &Access| Ok(access.assertion(PlatformToken::file("/token")));
    let grant = "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer";
    assert_eq!(sent(resource().source(platform), "e30.e30.x\n"), [format!("{grant}&assertion=e30.e30.x&{mcp}")]);
    assert!(sent(resource().source(platform), " ").is_empty());
    let expired = "e30.eyJleHAiOjF9.x";
    assert!(sent(resource().source(platform), expired).is_empty(), "one that has expired is not shown");

    let idp = Client::new("idp-client");
    let company = move |access: &Access| {
        let id_token = Token::bearer("id-token", Timestamp::from_unix(1_795_176_000), None)?;
        let base = Credential::fixed(id_token);
        Ok(access.identity_assertion(base, token_type::ID_TOKEN, issuer("https://as.example"), &idp))
    };
    let forms = sent(resource().source(company), "");
    let exchange = "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Atoken-exchange&client_id=idp-client&subject_token=id-token";
    let kinds =
        "requested_token_type=urn%3Aietf%3Aparams%3Aoauth%3Atoken-type%3Aid-jag&audience=https%3A%2F%2Fas.example";
    assert!(forms[0].starts_with(exchange) && forms[0].ends_with(&format!("{kinds}&{mcp}")), "{forms:?}");
}

#[test]
fn a_client_registers_itself_where_none_is_known_and_once_as_long_as_access_lasts() {
    use grantflow::register::ClientMetadata;
    let mut world = World::with(Server::new("https://as.example").with(|it| {
        it.alter_metadata = Alter::set("registration_endpoint", "https://as.example/register".into());
    }));
    world = world.protecting(Resource::new(MCP, "https://as.example"));
    let answer = json!({"client_id": "made-here", "token_endpoint_auth_method": "none"});
    let answer = http::Response::builder().status(201).body(answer.to_string().into_bytes()).unwrap();
    world.server().fail(Place::Registration, Fault::Answer(answer));
    let resource = || ProtectedResource::mcp(MCP).unwrap().register(ClientMetadata::new().client_name("Tool"));
    let access = world.run(resource().find()).unwrap();
    assert_eq!(access.client().unwrap().id(), "made-here");
    let told: serde_json::Value = serde_json::from_slice(world.sent().last().unwrap().request.body()).unwrap();
    assert_eq!((&told["application_type"], &told["client_name"]), (&json!("native"), &json!("Tool")));
    assert_eq!(told["grant_types"], json!(["authorization_code", "refresh_token"]));
    // The sign-in comes back to what was registered, to the letter.
    let receiver =
        world.run(access.app().unwrap().start(access.app().unwrap().addresses().unwrap()[0].port())).unwrap();
    assert_eq!(told["redirect_uris"], json!([receiver.redirect_uri()]));
    // Nothing answers a second registration.
    let headers = http::HeaderMap::from_iter([(
        http::header::WWW_AUTHENTICATE,
        r#"Bearer error="insufficient_scope", scope="write""#.parse().unwrap(),
    )]);
    let demand = Demand::read(http::StatusCode::FORBIDDEN, &headers).unwrap();
    let again = world.run(resource().find_again(&demand, &access)).unwrap();
    assert_eq!((again.client().unwrap().id(), again.scopes().as_str()), ("made-here", "write offline_access"));
    assert_eq!(again.app().unwrap().record_key(""), access.app().unwrap().record_key(""));
    let error = world.run(ProtectedResource::mcp(MCP).unwrap().find()).unwrap_err();
    assert!(error.to_string().contains("ProtectedResource::register"), "{error}");
}
