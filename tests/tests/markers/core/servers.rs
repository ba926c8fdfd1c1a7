//! Addresses, and what is known of servers.

use grantflow::exchange::Request;
use grantflow::proxy::Proxy;
use grantflow::register::{ClientMetadata, Registration};
use grantflow::store::{RecordKey, RegistrationInStore};
use grantflow::{AuthorizationRequest, Challenge, Endpoint, Hosts, Issuer, ServerMetadata, TokenRequest};
use grantflow_tests::demo::{self, REDIRECT, client};
use grantflow_tests::{Server, World};
use serde_json::json;

use super::{asked, issuer, sent, server, started, world};
use crate::{Entry, Seen};

/// As a host; an address in its place would be another one.
fn as_host(text: &str) -> String {
    if text.contains("//") { text.to_owned() } else { format!("https://{text}") }
}

/// A registration, and what comes of it.
fn registered(seen: &mut Seen, metadata: ClientMetadata, token: &str) {
    let mut world = World::with(Server::demo().with(|settings| settings.registration = true));
    let server = world.server().metadata();
    seen.debug("metadata", &metadata);
    if let Some(request) = seen.result("a registration", Registration::new(&server, metadata)) {
        let request = request.initial_access_token(token);
        seen.debug("a registration", &request);
        if let Some(registered) = seen.run(&mut world, request.exchange()) {
            seen.debug("a registered client", &registered);
            seen.result("a client", registered.client());
        }
    }
}

pub(super) fn entries() -> Vec<Entry> {
    [addresses(), servers()].into_iter().flatten().collect()
}

fn addresses() -> Vec<Entry> {
    vec![
        Entry {
            names: &["core Issuer::new", "core Issuer::TryFrom<String>"],
            try_it: |text, seen| {
                for text in [
                    text.to_owned(),
                    format!("https://as.example/{text}"),
                    as_host(text),
                    format!("https://as.example/.well-known/{text}"),
                ] {
                    seen.result("an issuer", Issuer::new(text.clone()));
                    if let Some(issuer) = seen.result("an issuer", Issuer::try_from(text)) {
                        seen.run(&mut world(), grantflow::Discovery::new(&issuer));
                        seen.debug("a key", &RecordKey::new(&issuer, &client(), "x"));
                    }
                }
            },
        },
        Entry {
            names: &[
                "core Endpoint::new",
                "core Endpoint::TryFrom<String>",
                "core Endpoint::of_stranger",
                "core Reach::permits_host",
            ],
            try_it: |text, seen| {
                for text in [
                    text.to_owned(),
                    format!("https://as.example/{text}"),
                    format!("https://as.example/?{text}"),
                    as_host(text),
                ] {
                    seen.result("an endpoint", Endpoint::try_from(text.clone()));
                    seen.result("an endpoint", Endpoint::of_stranger(&text));
                    seen.text("nothing", grantflow::machine::Reach::Global.permits_host(&text));
                    if let Some(endpoint) = seen.result("an endpoint", Endpoint::new(&text)) {
                        sent(seen, Request::get("asking", &endpoint));
                    }
                }
            },
        },
        Entry {
            names: &[
                "core Hosts::From<&str>",
                "core Hosts::From<String>",
                "core Hosts::From<&String>",
                "core Hosts::From<&Vec<S>>",
                "core Hosts::FromIterator<S>",
                "core Hosts::check",
            ],
            try_it: |text, seen| {
                let uri = "https://api.example/".parse().unwrap();
                for hosts in [
                    Hosts::from(text),
                    Hosts::from(text.to_owned()),
                    Hosts::from(&text.to_owned()),
                    Hosts::from(&vec![text]),
                    [text].into_iter().collect(),
                    Hosts::from(&[text][..]),
                    Hosts::from(vec![format!("api.example:{text}")]),
                    Hosts::from(format!("*.{text}")),
                ] {
                    seen.debug("hosts", &hosts);
                    seen.result("a check", hosts.check(&uri));
                }
                // What cannot stand in an address does not get there.
                let path = text.replace(['\n', ' '], "~");
                if let Ok(uri) = format!("https://as.example/{path}").parse() {
                    seen.result("a check", Hosts::from("api.example").check(&uri));
                }
            },
        },
        Entry {
            names: &["core Proxy::new"],
            try_it: |text, seen| {
                for text in [
                    text.to_owned(),
                    format!("http://{text}"),
                    format!("http://{text}:{text}@proxy.example:1"),
                    format!("http://proxy.example:{text}"),
                ] {
                    if let Some(proxy) = seen.result("a proxy", Proxy::new(&text)) {
                        seen.text("a proxy", proxy);
                    }
                }
            },
        },
        Entry {
            names: &["core openable"],
            try_it: |text, seen| {
                seen.result("an address", grantflow::loopback::openable(text));
                seen.result("an address", grantflow::loopback::openable(&format!("https://as.example/{text}")));
            },
        },
    ]
}

fn servers() -> Vec<Entry> {
    vec![
        Entry {
            names: &["core ServerMetadata::$name"],
            try_it: |text, seen| {
                seen.result("a server", server().token_endpoint(text));
                seen.result("a server", server().authorization_endpoint(&format!("https://as.example/?{text}")));
                seen.result("a server", server().revocation_endpoint(&format!("https://as.example/#{text}")));
            },
        },
        Entry {
            names: &[
                "core ClientMetadata::$name",
                "core ClientMetadata::scope",
                "core ClientMetadata::client_name_in",
                "core ClientMetadata::member",
                "core ClientMetadata::get",
                "core ClientMetadata::str",
                "core ClientMetadata::list",
                "core ClientMetadata::flag",
                "core Registration::initial_access_token",
            ],
            try_it: |text, seen| {
                let metadata = ClientMetadata::new();
                for metadata in [
                    metadata.clone().redirect_uris([text]),
                    metadata.clone().redirect_uris(["https://app.example/"]).client_name(text),
                    metadata.clone().software_statement(text).scope(text).client_name_in(text, text),
                    metadata.member(text, json!(text)).software_statement("x.y.z"),
                ] {
                    seen.text("nothing", metadata.get(text).is_some() || metadata.str(text).is_some());
                    seen.text("nothing", metadata.list(text).is_some() || metadata.flag(text));
                    registered(seen, metadata.clone(), text);
                    registered(seen, metadata, "initial");
                }
            },
        },
        Entry {
            names: &["core RecordKey::of_registration", "core RegistrationInStore::label"],
            try_it: |text, seen| {
                seen.text("a key", RecordKey::of_registration(&issuer(), text));
                seen.debug("a machine", &RegistrationInStore::read(&issuer()).label(text));
                seen.run(&mut world(), RegistrationInStore::read(&issuer()).label(text));
            },
        },
        Entry {
            names: &["core ServerMetadata::from_json", "core ServerMetadata::from_json_tolerating"],
            try_it: |text, seen| {
                let issuer = issuer();
                seen.result("a server", ServerMetadata::from_json(text.as_bytes(), &issuer));
                for name in [
                    "issuer",
                    "token_endpoint",
                    "authorization_endpoint",
                    "userinfo_endpoint",
                    "scopes_supported",
                    "code_challenge_methods_supported",
                ] {
                    for value in [json!(text), json!([text]), json!({text: text})] {
                        let mut json =
                            json!({"issuer": "https://as.example", "token_endpoint": "https://as.example/token"});
                        json[name] = value;
                        let json = json.to_string();
                        let tolerated = grantflow::Deviations::NONE;
                        seen.result(
                            "a server",
                            ServerMetadata::from_json_tolerating(json.as_bytes(), &issuer, tolerated),
                        );
                        if let Some(server) =
                            seen.result("a server", ServerMetadata::from_json(json.as_bytes(), &issuer))
                        {
                            asked(seen, TokenRequest::client_credentials(&server, &demo::batch()));
                            started(seen, AuthorizationRequest::new(&server, &client(), REDIRECT).scopes("openid"));
                        }
                    }
                }
            },
        },
        Entry {
            names: &["core ServerMetadata::member", "core ServerMetadata::get"],
            try_it: |text, seen| {
                let server =
                    server().member(text, json!(text)).member("code_challenge_methods_supported", json!([text]));
                seen.debug("a server", &server);
                seen.text("nothing", server.get(text).is_some());
                started(seen, AuthorizationRequest::new(&server, &client(), REDIRECT));
            },
        },
        Entry {
            names: &["core Discovery::issuer_of_tenants"],
            try_it: |text, seen| {
                for text in [text.to_owned(), format!("https://as.example/{{{text}}}")] {
                    let discovery = grantflow::Discovery::new(server().issuer()).issuer_of_tenants(&text);
                    seen.run(&mut world(), discovery);
                }
            },
        },
        Entry {
            names: &["core ServerMetadata::issuer_alias"],
            try_it: |text, seen| {
                let server = server().issuer_alias(text);
                seen.debug("a server", &server);
                started(seen, AuthorizationRequest::new(&server, &client(), REDIRECT).scopes("openid"));
            },
        },
        Entry {
            names: &[
                "core Challenge::is",
                "core Challenge::get",
                "core Challenge::all",
                "core Challenge::bearer",
                "core Challenge::rejects_token",
            ],
            try_it: |text, seen| {
                let mut headers = http::HeaderMap::new();
                if let Ok(value) =
                    format!("Bearer realm=\"{text}\", error=\"{text}\", {text}").replace('\n', "").parse()
                {
                    headers.insert("www-authenticate", value);
                }
                for challenge in Challenge::all(&headers) {
                    seen.debug("a challenge", &challenge);
                    seen.text("nothing", challenge.is(text) || challenge.get(text).is_some());
                }
                seen.text("nothing", "");
            },
        },
    ]
}
