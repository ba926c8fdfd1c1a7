//! Metadata and the addresses that it may be at.

use grantflow::{Deviation, Deviations, Discovery, ErrorKind, Issuer, ServerMetadata};
use grantflow_tests::server::Place;
use grantflow_tests::{Fault, Server, World};
use serde_json::{Value, json};

use super::{rows, text};

const ISSUER: &str = "https://as.example";
const FIRST: &str = "https://as.example/.well-known/openid-configuration";
const OTHER: &str = "https://as.example/.well-known/oauth-authorization-server";

fn issuer() -> Issuer {
    Issuer::new(ISSUER).unwrap()
}

fn read(document: &Value) -> Result<ServerMetadata, grantflow::Error> {
    ServerMetadata::from_json(document.to_string().as_bytes(), &issuer())
}

#[test]
fn what_is_no_metadata_of_this_issuer_leads_to_the_other_address() {
    for row in rows(include_str!("../../data/odd/discovery.json"), "answers") {
        let status = row["status"].as_u64().unwrap() as u16;
        let fault = Fault::with_type(status, text(&row, "type"), text(&row, "body"));
        let mut world = World::with(Server::demo());
        world.server().fail(Place::OpenIdMetadata, fault.clone());
        let server = world.run(Discovery::new(&issuer())).unwrap_or_else(|error| panic!("{row}: {error}"));
        assert_eq!(server.token().unwrap().as_str(), "https://as.example/token");
        assert_eq!(world.sent().len() as u64, row["requests"].as_u64().unwrap(), "{row}");

        // If there is nothing either, the error tells of both.
        let mut world = World::with(Server::demo().with(|settings| settings.oauth_metadata = false));
        world.server().fail(Place::OpenIdMetadata, fault);
        let error = world.run(Discovery::new(&issuer())).unwrap_err().to_string();
        for part in [text(&row, "says"), FIRST, OTHER, "404"] {
            assert!(error.contains(part), "{part}: {error}");
        }
    }
}

#[test]
fn the_error_of_two_addresses_is_of_the_kind_that_tells_most() {
    for (first, other, kind, transient) in [
        (Fault::status(404, ""), Fault::status(404, ""), ErrorKind::Http, false),
        (Fault::status(404, ""), Fault::status(200, "{}"), ErrorKind::InvalidResponse, false),
        (Fault::status(200, "{}"), Fault::status(404, ""), ErrorKind::InvalidResponse, false),
        (Fault::status(200, r#"{"issuer":"https://x.example"}"#), Fault::html(200), ErrorKind::Issuer, false),
        (Fault::status(404, ""), Fault::status(200, r#"{"issuer":"https://x.example"}"#), ErrorKind::Issuer, false),
        (Fault::status(403, ""), Fault::status(503, ""), ErrorKind::Http, true),
    ] {
        let mut world = World::with(Server::demo());
        world.refuse.push("Sleep");
        world.server().fail(Place::OpenIdMetadata, first);
        world.server().fail(Place::OAuthMetadata, other);
        let error = world.run(Discovery::new(&issuer())).unwrap_err();
        assert_eq!((error.kind(), error.is_transient(), world.sent().len()), (kind, transient, 2), "{error}");
    }
}

#[test]
fn a_server_that_is_busy_is_not_asked_at_its_other_address() {
    for status in [429, 503] {
        let mut world = World::with(Server::demo());
        world.refuse.push("Sleep");
        world.server().fail(Place::OpenIdMetadata, Fault::status(status, ""));
        let error = world.run(Discovery::new(&issuer())).unwrap_err();
        assert!(error.is_transient() && world.sent().len() == 1, "{error}");
    }
}

#[test]
fn a_pasted_address_of_a_metadata_document_is_refused_with_the_issuer_to_write() {
    for (pasted, instead) in [
        ("https://as.example/.well-known/openid-configuration", "the issuer is https://as.example, as"),
        ("https://as.example/realms/demo/.well-known/openid-configuration", "is https://as.example/realms/demo, as"),
        ("https://as.example/.well-known/oauth-authorization-server/realms/demo", "https://as.example/realms/demo, as"),
        ("https://as.example/.well-known/oauth-authorization-server", "the issuer is https://as.example, as"),
    ] {
        let error = Issuer::new(pasted).unwrap_err();
        assert!(error.kind() == ErrorKind::Config && error.to_string().contains(instead), "{error}");
    }
}

#[test]
fn an_endpoint_that_cannot_be_used_costs_itself_alone() {
    let good = json!({"issuer": ISSUER, "token_endpoint": "https://as.example/token"});
    for bad in [json!(7), json!(["https://as.example/x"]), json!("not an address"), json!("ftp://as.example/x")] {
        for name in ["userinfo_endpoint", "revocation_endpoint", "jwks_uri", "end_session_endpoint"] {
            let mut document = good.clone();
            document[name] = bad.clone();
            let server = read(&document).unwrap();
            assert!(server.token().is_ok() && server.deviations().contains(Deviation::OddMember), "{document}");
            assert_eq!(server.get(name), Some(&bad));
            let endpoint = match name {
                "userinfo_endpoint" => server.userinfo(),
                "revocation_endpoint" => server.revocation(),
                "jwks_uri" => server.jwks(),
                _ => server.end_session(),
            };
            let error = endpoint.unwrap_err().to_string();
            assert!(error.contains(&format!("the {name} of https://as.example cannot be used: ")), "{error}");
        }
    }
    // Empty is missing.
    for empty in [json!(""), json!(" "), Value::Null] {
        let mut document = good.clone();
        document["userinfo_endpoint"] = empty;
        let server = read(&document).unwrap();
        assert!(server.deviations().is_empty());
        assert!(
            server
                .userinfo()
                .unwrap_err()
                .to_string()
                .contains("the userinfo_endpoint of https://as.example is not known")
        );
    }
}

#[test]
fn a_member_that_is_no_text_at_all_does_not_spoil_the_document() {
    for (member, found) in [
        (&b"\"op_tos_uri\":\"https://as.example/\xfcber\""[..], Deviation::BrokenText),
        (br#""service_documentation":"\udc00""#, Deviation::OddMember),
        (br#""x":1e4000"#, Deviation::OddMember),
    ] {
        let mut document = br#"{"issuer":"https://as.example","token_endpoint":"https://as.example/token","#.to_vec();
        document.extend_from_slice(member);
        document.push(b'}');
        let server = ServerMetadata::from_json(&document, &issuer()).unwrap();
        assert!(server.token().is_ok() && server.deviations().contains(found));
    }
}

#[test]
fn a_member_of_another_type_is_told_and_a_promise_in_a_text_is_kept() {
    let with = |name: &str, value: Value| {
        read(&json!({"issuer": ISSUER, "token_endpoint": "https://as.example/token",
            "authorization_endpoint": "https://as.example/authorize", name: value}))
        .unwrap()
    };
    let odd = Deviations::NONE.with(Deviation::OddMember);
    for (name, value, found) in [
        ("scopes_supported", json!("a b"), odd),
        ("code_challenge_methods_supported", json!({"S256": true}), odd),
        ("token_endpoint_auth_methods_supported", json!(7), odd),
        ("authorization_response_iss_parameter_supported", json!("true"), odd),
        ("authorization_response_iss_parameter_supported", json!(["true"]), odd),
        ("scopes_supported", json!(""), Deviations::NONE),
        ("scopes_supported", json!(null), Deviations::NONE),
        ("scopes_supported", json!(["a"]), Deviations::NONE),
        ("claims_parameter_supported", json!(false), Deviations::NONE),
        ("backchannel_logout_supported", json!(true), Deviations::NONE),
    ] {
        assert_eq!(with(name, value.clone()).deviations(), found, "{name} {value}");
    }
    // Whoever promises `iss`, in whatever type, is held to it (RFC 9207, section 2.4).
    for (promise, held) in [(json!("true"), true), (json!(true), true), (json!("false"), false), (json!(1), false)] {
        let server = with("authorization_response_iss_parameter_supported", promise.clone());
        let client = grantflow_tests::demo::client();
        let request = grantflow::AuthorizationRequest::new(&server, &client, "http://127.0.0.1/callback");
        let mut world = World::default();
        let authorization = world.run(request.start()).unwrap();
        let query = authorization.url.split_once('?').unwrap().1;
        let state = url::form_urlencoded::parse(query.as_bytes()).find(|(name, _)| name == "state").unwrap().1;
        let answer = authorization.pending.receive(&format!("code=c&state={state}"), world.now.wall);
        assert_eq!(answer.is_err(), held, "{promise}: {answer:?}");
    }
}

#[test]
fn a_document_from_elsewhere_names_no_endpoint_on_this_machine() {
    let names = ["token_endpoint", "authorization_endpoint", "userinfo_endpoint", "jwks_uri", "registration_endpoint"];
    for name in names {
        for address in ["http://127.0.0.1:6379/", "http://localhost/x", "https://[::1]:8443/", "http://127.1.2.3/"] {
            let document = json!({"issuer": ISSUER, name: address});
            let error = read(&document).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidResponse, "{document}");
            assert!(error.to_string().contains(&format!("names a {name} on this machine")), "{error}");
            let tolerated = Deviations::TOLERATED.with(Deviation::LoopbackEndpoint);
            let json = document.to_string();
            let server = ServerMetadata::from_json_tolerating(json.as_bytes(), &issuer(), tolerated).unwrap();
            assert_eq!(server.deviations(), Deviations::NONE.with(Deviation::LoopbackEndpoint));
            // An issuer on this machine may, and so may whoever writes it by hand.
            let local = Issuer::new("http://localhost:9000").unwrap();
            let document = json!({"issuer": local.as_str(), name: address});
            ServerMetadata::from_json(document.to_string().as_bytes(), &local).unwrap();
        }
    }
    assert!(ServerMetadata::new(issuer()).token_endpoint("http://127.0.0.1:8080/token").unwrap().token().is_ok());
    let aliases = json!({"issuer": ISSUER, "mtls_endpoint_aliases": {"token_endpoint": "http://localhost/"}});
    assert!(read(&aliases).unwrap().with_mtls_endpoint_aliases().is_err());
}

#[test]
fn every_endpoint_has_its_name_and_clients_with_a_certificate_their_own() {
    let at = |path: &str| format!("https://as.example/{path}");
    let server = read(&json!({
        "issuer": ISSUER,
        "authorization_endpoint": at("a"), "token_endpoint": at("t"), "revocation_endpoint": at("r"),
        "introspection_endpoint": at("i"), "userinfo_endpoint": at("u"), "jwks_uri": at("k"),
        "device_authorization_endpoint": at("d"), "pushed_authorization_request_endpoint": at("p"),
        "backchannel_authentication_endpoint": at("b"), "registration_endpoint": at("g"),
        "end_session_endpoint": at("e"),
        "mtls_endpoint_aliases": {"token_endpoint": "https://mtls.as.example/t", "userinfo_endpoint": 1},
    }))
    .unwrap();
    let path = |endpoint: Result<&grantflow::Endpoint, _>| endpoint.unwrap().as_str().to_owned();
    for (found, expected) in [
        (server.authorization(), "a"),
        (server.token(), "t"),
        (server.revocation(), "r"),
        (server.introspection(), "i"),
        (server.userinfo(), "u"),
        (server.jwks(), "k"),
        (server.device_authorization(), "d"),
        (server.pushed_authorization_request(), "p"),
        (server.backchannel_authentication(), "b"),
        (server.registration(), "g"),
        (server.end_session(), "e"),
    ] {
        assert_eq!(path(found), at(expected));
    }
    let mutual = server.with_mtls_endpoint_aliases().unwrap();
    assert_eq!(path(mutual.token()), "https://mtls.as.example/t");
    assert_eq!(path(mutual.revocation()), at("r"));
    assert!(mutual.userinfo().is_err(), "named there, and cannot be used");
    // What is written is read again.
    let again = ServerMetadata::from_json(server.to_json().as_bytes(), &issuer()).unwrap();
    assert_eq!(path(again.pushed_authorization_request()), at("p"));
}
