//! Hostile resources and what they name: no token and no code leaves for them, nothing private is asked, nothing loops.

use std::net::IpAddr;

use grantflow::machine::Reach;
use grantflow::resource::{Demand, ProtectedResource};
use grantflow::source::{PlatformToken, TokenSource as _};
use grantflow::{Client, Error, ErrorKind, Issuer};
use grantflow_tests::server::Alter;
use grantflow_tests::{Resource, World};
use http::{HeaderMap, Response, StatusCode};
use serde_json::json;

use super::resources::{DOCUMENT, REDIRECT, server};

const MCP: &str = "https://evil.example/mcp";

fn world() -> World {
    World::with(server("https://as.example")).protecting(Resource::new(MCP, "https://as.example"))
}

fn mcp() -> ProtectedResource {
    ProtectedResource::mcp(MCP).unwrap().client_document(DOCUMENT)
}

fn challenge(resource_metadata: &str) -> Demand {
    let value = format!("Bearer resource_metadata=\"{resource_metadata}\"");
    let headers = HeaderMap::from_iter([(http::header::WWW_AUTHENTICATE, value.parse().unwrap())]);
    Demand::read(StatusCode::UNAUTHORIZED, &headers).unwrap()
}

/// How many requests went out, none of which carried anything of the program's.
fn innocent(world: &World) -> usize {
    for sent in world.sent() {
        let request = &sent.request;
        assert!(request.method() == "GET" && request.body().is_empty(), "{request:?}");
        assert!(request.headers().get("authorization").is_none() && sent.max_body <= 256 * 1024, "{request:?}");
    }
    world.sent().len()
}

#[test]
fn a_resource_that_calls_itself_another_gets_no_token_for_it() {
    for resource in [
        "https://honest.example/mcp",
        "https://evil.example/other",
        "https://evil.example/mcp/below",
        "https://evil.example.honest.example/mcp",
        "https://evil.example@honest.example/mcp",
        "http://evil.example/mcp",
        "https://evil.example:8443/mcp",
    ] {
        let mut world = world();
        world.resources[0].alter_metadata = Alter::set("resource", resource.into());
        let error = world.run(mcp().find()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Issuer, "{resource}: {error}");
        assert_eq!(innocent(&world), 1, "{resource}");
    }
}

#[test]
fn a_server_that_calls_itself_another_is_not_used() {
    for named in ["https://honest.example", "https://as.example/", "HTTPS://as.example", "https://as.example:443"] {
        let mut world = world();
        world.server().settings.alter_metadata = Alter::set("issuer", named.into());
        let error = world.run(mcp().find()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Issuer, "{named}: {error}");
        innocent(&world);
    }
}

#[test]
fn nothing_private_is_asked_for_what_a_stranger_names() {
    let private = [
        "http://as.example",
        "https://user:pw@as.example",
        "https://localhost",
        "http://127.0.0.1:8080",
        "https://10.0.0.1",
        "https://172.16.0.1",
        "https://192.168.1.1",
        "https://169.254.169.254",
        "https://0.0.0.0",
        "https://[::1]",
        "https://[fd00::1]",
        "https://[fe80::1]",
        "https://[::ffff:127.0.0.1]",
        "https://2130706433",
        "https://0177.1",
        "https://localhost.",
        "https://metadata.google.internal",
        "file:///etc/passwd",
        "gopher://as.example",
    ];
    for address in private {
        // In a challenge, as an authorization server, as an endpoint of one.
        let mut world = world();
        let error = world.run(mcp().find_for(&challenge(&format!("{address}/x")))).unwrap_err();
        assert_eq!((error.kind(), innocent(&world)), (ErrorKind::Config, 0), "{address}: {error}");

        let mut world = self::world();
        world.resources[0].servers = vec![address.into()];
        let error = world.run(mcp().find()).unwrap_err();
        let known = matches!(error.kind(), ErrorKind::Config | ErrorKind::InvalidResponse);
        assert!(known && innocent(&world) == 1, "{address}: {error}");

        let mut world = self::world();
        world.server().settings.alter_metadata = Alter::set("token_endpoint", format!("{address}/token").into());
        let found = world.run(mcp().find());
        let signed_in = found.and_then(|access| world.run(access.app()?.start(8080)));
        assert!(signed_in.is_err(), "{address}");
        innocent(&world);
    }
}

#[test]
fn a_name_that_leads_into_the_private_network_is_not_asked() {
    let at: IpAddr = "10.0.0.1".parse().unwrap();
    let mut world = world();
    world.addresses.insert("as.example".into(), vec![at]);
    let error = world.run(mcp().find()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
    assert!(world.server().seen().is_empty());
    let mut world = self::world();
    world.addresses.insert("elsewhere.example".into(), vec![at]);
    assert!(world.run(mcp().find_for(&challenge("https://elsewhere.example/x"))).is_err());
    // The name may lead elsewhere once the person has signed in: also the code goes to a global address alone.
    let mut world = self::world();
    let access = world.run(mcp().find()).unwrap();
    let app = access.app().unwrap().redirect_uri(REDIRECT);
    let mut receiver = world.run(app.start(8080)).unwrap();
    let redirect = world.person(receiver.url());
    receiver.paste(&redirect, world.now.wall).unwrap();
    world.addresses.insert("as.example".into(), vec![at]);
    assert!(world.run(receiver.finish()).is_err());
    assert!(world.sent().iter().skip(1).all(|sent| sent.reach == Reach::Global));
    assert!(world.server().seen_at(grantflow_tests::Place::Token).is_empty());
}

fn answered(answer: Response<Vec<u8>>) -> (Error, usize) {
    let mut world = world();
    world.resources[0].metadata_answer = Some(answer);
    let error = world.run(mcp().find()).unwrap_err();
    (error, innocent(&world))
}

#[test]
fn redirects_are_not_followed() {
    for status in [301, 302, 303, 307, 308] {
        let answer = Response::builder().status(status).header("location", "https://169.254.169.254/").body(Vec::new());
        let (error, asked) = answered(answer.unwrap());
        assert!(asked <= 2, "{status}: {error}");
    }
}

#[test]
fn documents_that_are_none_are_refused() {
    let metadata = |body: String| Response::new(body.into_bytes());
    for body in [
        String::new(),
        "<html>".into(),
        "[]".into(),
        "{}".into(),
        json!({"resource": 7}).to_string(),
        json!({"resource": ["https://evil.example/mcp"]}).to_string(),
        "[".repeat(100_000),
        format!("{{\"resource\": \"{MCP}\", \"x\": \"{}\"}}", "x".repeat(300_000)),
        json!({"resource": MCP}).to_string(),
        json!({"resource": MCP, "authorization_servers": "https://as.example"}).to_string(),
    ] {
        let (error, asked) = answered(metadata(body.clone()));
        assert!(asked <= 2, "{}: {error}", &body[..body.len().min(40)]);
    }
}

#[test]
fn many_servers_are_not_all_asked() {
    let mut world = world();
    world.resources[0].servers = (0..1000).map(|n| format!("https://as{n}.example")).collect();
    assert!(world.run(mcp().find()).is_err());
    let hosts: std::collections::BTreeSet<_> =
        world.sent().iter().map(|sent| sent.request.uri().host().unwrap().to_owned()).collect();
    assert!(hosts.len() <= 5, "{hosts:?}");
    innocent(&world);
}

#[test]
fn what_proves_a_workload_is_shown_to_no_server_that_the_program_has_not_named() {
    let issuer = |text: &str| Issuer::new(text).unwrap();
    let client = |at: &str| Client::new("workload").registered_at(issuer(at));
    let platform = |resource: ProtectedResource| {
        resource.source(|access| Ok(access.assertion(PlatformToken::file("/token")).client(&Client::new("workload"))))
    };
    let plain = || ProtectedResource::mcp(MCP).unwrap();
    for (resource, shown) in [
        (plain(), false),
        (plain().client_document(DOCUMENT), false),
        (plain().client(client("https://honest.example")), false),
        (plain().authorization_server(issuer("https://honest.example")), false),
        (plain().client(client("https://as.example")), true),
        (plain().authorization_server(issuer("https://as.example")), true),
    ] {
        let mut world = world();
        world.files.insert("/token".into(), "e30.e30.x".into());
        let found = world.run(platform(resource).find());
        let minted = found.and_then(|access| {
            let source = access.source()?.expect("a source");
            world.run(source.mint(&access.want(), &source.first_state())).map(drop)
        });
        let sent = world.sent();
        let posted = sent.iter().any(|sent| sent.request.method() == "POST");
        assert_eq!(posted, shown, "{minted:?}");
        if !shown {
            let error = minted.unwrap_err();
            let words = error.to_string();
            assert!(error.kind() == ErrorKind::Config && words.contains("authorization_server"), "{error}");
        }
    }
}
