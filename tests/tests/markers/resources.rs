//! Protected resources, and tokens of no person.

use grantflow::resource::{ClientDocument, Demand, Demands, ProtectedResource, ResourceMetadata};
use grantflow::source::{AssertedToken, Credential, PlatformToken, TokenSource as _, Want};
use grantflow::{Client, Deviation, Deviations, Issuer, Secret, Timestamp, Token, token_type};
use grantflow_tests::{Resource, Server, World};
use http::{HeaderMap, StatusCode};
use serde_json::json;

use super::{Entry, Seen};

const ADDRESS: &str = "https://tool.example/client.json";
const MCP: &str = "https://rs.example/mcp";

fn world() -> World {
    World::with(Server::demo()).protecting(Resource::new(MCP, "https://as.example"))
}

fn issuer() -> Issuer {
    Issuer::new("https://as.example").unwrap()
}

/// A resource, what is found of it, and how a person would sign in.
fn found(seen: &mut Seen, resource: ProtectedResource) {
    seen.debug("a resource", &resource);
    let mut world = world();
    let Some(access) = seen.run(&mut world, resource.find()) else { return };
    seen.debug("access", &access);
    seen.debug("a want", &access.want());
    if let Some(app) = seen.result("an application", access.app()) {
        seen.debug("a key", &app.record_key(""));
        seen.text("a key", app.record_key(""));
        seen.run(&mut world, app.start(8080));
    }
}

fn resource() -> ProtectedResource {
    ProtectedResource::mcp(MCP).unwrap().client(Client::new("demo").registered_at(issuer()))
}

fn document(seen: &mut Seen, document: ClientDocument) {
    seen.debug("a document", &document);
    seen.result("nothing", document.to_json().map(drop));
}

pub(crate) fn entries() -> Vec<Entry> {
    vec![
        Entry {
            names: &[
                "core ProtectedResource::new",
                "core ProtectedResource::mcp",
                "core ProtectedResource::client_document",
                "core ProtectedResource::scopes",
                "core ProtectedResource::holds",
                "core ProtectedResource::check",
                "core InstalledApp::beside",
                "core Access::and_scopes",
                "core RecordKey::for_resource",
            ],
            try_it: |text, seen| {
                for made in [ProtectedResource::new(text), ProtectedResource::mcp(text)] {
                    if let Some(resource) = seen.result("a resource", made) {
                        seen.run(&mut world(), resource.find());
                    }
                }
                found(seen, resource().client_document(text));
                found(seen, resource().scopes(text));
                seen.debug("a word", &resource().holds(text));
                seen.result("nothing", resource().check(text));
                let access = world().run(resource().find()).unwrap().and_scopes(&text.into());
                seen.debug("access", &access);
                seen.debug("an application", &access.app().unwrap().beside(&text.into()));
                let key = access.app().unwrap().record_key("").for_resource(text);
                seen.debug("a key", &key);
                seen.text("a key", &key);
            },
        },
        Entry {
            names: &[
                "core ResourceMetadata::from_json",
                "core ResourceMetadata::from_json_tolerating",
                "core ResourceMetadata::get",
            ],
            try_it: |text, seen| {
                let whole = json!({"resource": text, "authorization_servers": [text, "https://as.example"],
                    "scopes_supported": [text], text: text})
                .to_string();
                let tolerated = Deviations::TOLERATED.with(Deviation::ResourceAbove);
                for json in [text, &whole] {
                    let read = ResourceMetadata::from_json(json.as_bytes(), text);
                    if let Some(metadata) = seen.result("metadata", read) {
                        seen.debug("a word", &metadata.get(text).is_some());
                    }
                    seen.result("metadata", ResourceMetadata::from_json_tolerating(json.as_bytes(), MCP, tolerated));
                }
            },
        },
        Entry {
            names: &["core Demand::read", "core Demands::judge", "core Demands::not_met"],
            try_it: |text, seen| {
                let Ok(value) = format!("Bearer error=\"insufficient_scope\", scope=\"{text}\", acr_values=\"{text}\", resource_metadata=\"{text}\"").parse() else {
                    return seen.debug("nothing", &());
                };
                let headers = HeaderMap::from_iter([(http::header::WWW_AUTHENTICATE, value)]);
                let demand = Demand::read(StatusCode::FORBIDDEN, &headers);
                seen.debug("a demand", &demand);
                let mut demands = Demands::new();
                seen.debug("a demand", &demands.judge(world().now, text, StatusCode::FORBIDDEN, &headers, None));
                demands.not_met(text);
                seen.debug("demands", &demands);
                if let Some(demand) = demand {
                    seen.run(&mut world(), resource().find_for(&demand));
                }
            },
        },
        Entry {
            names: &[
                "core ClientDocument::new",
                "core ClientDocument::from_json",
                "core ClientDocument::redirect_uris",
                "core ClientDocument::jwks_uri",
                "core ClientDocument::member",
                "core ClientDocument::get",
            ],
            try_it: |text, seen| {
                seen.result("a document", ClientDocument::new(text, "Tool"));
                seen.result("a document", ClientDocument::from_json(text.as_bytes(), ADDRESS));
                let sound = || ClientDocument::new(ADDRESS, text).unwrap().redirect_uris(["http://127.0.0.1/"]);
                for changed in
                    [sound().redirect_uris([text]), sound().jwks_uri(text), sound().member(text, text.into())]
                {
                    seen.debug("a word", &changed.get(text).is_some());
                    document(seen, changed);
                }
            },
        },
        Entry {
            names: &[
                "core PlatformToken::env",
                "core PlatformToken::file",
                "core PlatformToken::secret_header",
                "core PlatformToken::member",
            ],
            try_it: |text, seen| {
                let at = grantflow::Endpoint::new("https://as.example/token").unwrap();
                let mut world = World::with(Server::demo());
                world.files.insert(text.into(), text.into());
                world.env.insert("PLATFORM_TOKEN", text.into());
                for source in [
                    PlatformToken::file(text),
                    PlatformToken::file(text).member(text),
                    PlatformToken::env("PLATFORM_TOKEN"),
                    PlatformToken::at(&at).secret_header("authorization", &Secret::from(text)),
                    PlatformToken::at(&at).secret_header(text, &Secret::from(text)).member(text),
                ] {
                    seen.debug("a source", &source);
                    seen.run(&mut world, source.mint(&Want::default(), &source.first_state()));
                }
            },
        },
        Entry {
            names: &["core AssertedToken::identity_assertion", "core Access::identity_assertion"],
            try_it: |text, seen| {
                let Ok(token) = Token::bearer(text, Timestamp::from_unix(1_795_176_000), None) else {
                    return seen.debug("nothing", &());
                };
                let base = || Credential::fixed(token.clone());
                let client = Client::new("demo");
                let own = AssertedToken::identity_assertion(base(), text, issuer(), &client, issuer(), text);
                let access = world().run(resource().find()).unwrap();
                let found = access.identity_assertion(base(), token_type::ID_TOKEN, issuer(), &client);
                for source in [own, found] {
                    seen.debug("a source", &source);
                    seen.run(&mut world(), source.mint(&Want::default(), &source.first_state()));
                }
            },
        },
    ]
}
