//! Signatures of ID tokens from the token endpoint, and who else such a token may be for.

use grantflow::crypto::{Algorithm, MacAlgorithm};
use grantflow::{
    AuthorizationRequest, Client, ClientAuthentication, Discovery, ErrorKind, Issuer, ServerMetadata, TokenRequest,
};
use grantflow_tests::server::{Alter, Settings};
use grantflow_tests::{IssuerKey, Place, World};
use serde_json::{Value, json};

use super::{REDIRECT, SECRET, client, refused_of, request, world, world_with};

/// A server that signs by the client's secret.
fn by_secret(secret: &str) -> World {
    world_with(|settings| settings.signs_with = Some(IssuerKey::hs256(secret)))
}

fn plain_request(world: &mut World, client: &Client) -> AuthorizationRequest {
    AuthorizationRequest::new(&world.server().metadata(), client, REDIRECT).scopes("openid email")
}

#[test]
fn oidcc_client_test_invalid_sig_hs256() {
    let client = client().id_token_signed_by_secret(MacAlgorithm::HS256);
    let mut world = by_secret("another-secret-of-at-least-32-bytes");
    let request = plain_request(&mut world, &client);
    refused_of(&mut world, request, &client, ErrorKind::Signature, "signature is wrong");
}

#[test]
fn an_id_token_by_the_clients_secret_is_verified_without_a_key() {
    let client = client().id_token_signed_by_secret(MacAlgorithm::HS256);
    let mut world = by_secret(SECRET);
    let request = plain_request(&mut world, &client).verify_id_token_signature();
    let token = world.sign_in(request, &client).unwrap();
    assert_eq!(token.id_token().unwrap().subject(), "alice");
    assert!(world.server().seen_at(Place::Keys).is_empty());
    // At a refresh, too.
    let server = world.server().metadata();
    world.run(TokenRequest::refresh(&server, &client, &token).unwrap().exchange()).unwrap();
    world.server().settings.signs_with = Some(IssuerKey::hs256("another-secret-of-at-least-32-bytes"));
    let error = world.run(TokenRequest::refresh(&server, &client, &token).unwrap().exchange()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Signature, "{error}");
}

#[test]
fn a_public_key_is_no_secret_and_a_secret_no_public_key() {
    // Registered for the secret, and signed by a key of the server's.
    let by_mac = client().id_token_signed_by_secret(MacAlgorithm::HS256);
    let mut world = world();
    let request = plain_request(&mut world, &by_mac);
    refused_of(&mut world, request, &by_mac, ErrorKind::Signature, "alg");
    // Registered for a key, and signed by the secret, which the server's key could be taken for.
    for client in [client(), client().id_token_signed_response_alg(Algorithm::RS256)] {
        let mut world = by_secret(SECRET);
        let request = plain_request(&mut world, &client).verify_id_token_signature();
        let authorization = world.run(request.start()).unwrap();
        let redirect = world.person(&authorization.url);
        let error = world.run(authorization.pending.finish(&client, &redirect)).unwrap_err();
        assert!(error.to_string().contains("alg"), "{error}");
    }
}

#[test]
fn a_secret_that_is_too_short_or_missing_is_told_before_the_code_is_used() {
    let short = Client::new("web").authentication(ClientAuthentication::client_secret_basic("short"));
    for client in [short, Client::new("web")] {
        let client = client.id_token_signed_by_secret(MacAlgorithm::HS256);
        let mut world = by_secret(SECRET);
        let request = plain_request(&mut world, &client);
        let authorization = world.run(request.start()).unwrap();
        let redirect = world.person(&authorization.url);
        let error = world.run(authorization.pending.finish(&client, &redirect)).unwrap_err();
        assert_eq!((error.kind(), world.sent().len()), (ErrorKind::Config, 0), "{error}");
    }
}

#[test]
fn an_algorithm_that_the_client_is_not_registered_for_is_refused_with_and_without_the_signature() {
    let client = client().id_token_signed_response_alg(Algorithm::ES256);
    for verifies in [false, true] {
        let mut world = world();
        let mut request = plain_request(&mut world, &client);
        if verifies {
            request = request.verify_id_token_signature();
        }
        refused_of(&mut world, request, &client, ErrorKind::IdToken, "alg");
    }
}

#[test]
fn further_audiences_are_taken_by_name_and_from_the_right_party_alone() {
    let trusting = client().trusted_audience("https://api.example").trusted_audience("project-7");
    let by_mac = trusting.clone().id_token_signed_by_secret(MacAlgorithm::HS256);
    type Case<'a> = (&'a Client, Value, Value, &'a str);
    let cases: &[Case<'_>] = &[
        (&trusting, json!(["web", "https://api.example"]), json!("web"), ""),
        (&trusting, json!(["project-7", "https://api.example", "web"]), json!("web"), ""),
        (&trusting, json!("web"), json!(null), ""),
        (&trusting, json!(["web", "https://api.example"]), json!(null), "azp"),
        (&trusting, json!(["web", "https://api.example"]), json!("project-7"), "azp"),
        (&trusting, json!(["web", "https://api.example/"]), json!("web"), "not trusted"),
        (&trusting, json!(["web", "project-7", "other"]), json!("web"), "not trusted"),
        (&trusting, json!(["https://api.example"]), json!("web"), "another client"),
        (&by_mac, json!(["web", "https://api.example"]), json!("web"), "for several"),
    ];
    for (client, aud, azp, why) in cases {
        let (aud2, azp2) = (aud.clone(), azp.clone());
        let mut world = world_with(|settings| {
            settings.alter_id_claims = Alter::by(move |claims| {
                claims["aud"] = aud2.clone();
                match &azp2 {
                    Value::Null => drop(claims.as_object_mut().unwrap().remove("azp")),
                    azp => claims["azp"] = azp.clone(),
                }
            });
            if why.contains("several") {
                settings.signs_with = Some(IssuerKey::hs256(SECRET));
            }
        });
        let request = plain_request(&mut world, client);
        match (world.sign_in(request, client), *why) {
            (Ok(token), "") => {
                // It holds at a refresh, too.
                let server = world.server().metadata();
                world.run(TokenRequest::refresh(&server, client, &token).unwrap().exchange()).unwrap();
            }
            (Err(error), why) if !why.is_empty() && error.to_string().contains(why) => {}
            (result, _) => panic!("{aud} {azp}: {result:?}, and not {why:?}"),
        }
    }
}

#[test]
fn c_hash_is_checked_where_it_comes() {
    use base64::Engine as _;
    use sha2::{Digest as _, Sha256};
    let mut world = world();
    let request = request(&mut world);
    let authorization = world.run(request.start()).unwrap();
    let redirect = world.person(&authorization.url);
    let code = redirect.split(['?', '&']).find_map(|part| part.strip_prefix("code=")).unwrap();
    let hash = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(&Sha256::digest(code)[..16]);
    world.server().settings.alter_id_claims = Alter::set("c_hash", json!(hash));
    assert!(world.run(authorization.pending.finish(&client(), &redirect)).is_ok());
}

#[test]
fn tenants_are_named_by_their_own_issuer_alone() {
    let tenant = "8eaef023-2b34-4da1-9baa-8bc8c9d6a490";
    let issuer_of = |tid: &str| format!("https://login.microsoftonline.com/{tid}/v2.0");
    let every = "https://login.microsoftonline.com/{tid}/v2.0";
    for (alias, iss, tid, good) in [
        (every, issuer_of(tenant), tenant, true),
        (every, issuer_of("other"), tenant, false),
        (every, issuer_of("{tid}"), tenant, false),
        (every, issuer_of("a/b"), "a/b", false),
        (every, "https://as.example".to_owned(), tenant, true),
        (&issuer_of(tenant), issuer_of(tenant), tenant, true),
        (&issuer_of(tenant), issuer_of("other"), "other", false),
    ] {
        let tid = tid.to_owned();
        let iss2 = iss.clone();
        let mut world = world_with(|settings| {
            settings.alter_id_claims = Alter::by(move |claims| {
                claims["iss"] = json!(iss2);
                claims["tid"] = json!(tid);
            });
        });
        let server: ServerMetadata = world.server().metadata().issuer_alias(alias);
        let request = AuthorizationRequest::new(&server, &client(), REDIRECT).scopes("openid");
        assert_eq!(world.sign_in(request, &client()).is_ok(), good, "{alias} {iss}");
    }
}

/// As Entra's `common` and `organizations` are.
#[test]
fn the_document_of_many_tenants_is_taken_where_it_is_named_and_each_signs_in_at_its_own_issuer() {
    let shared = |issuer: &'static str| {
        move |settings: &mut Settings| {
            settings.alter_metadata = Alter::set("issuer", json!(issuer));
            settings.alter_id_claims = Alter::by(|claims| {
                claims["iss"] = json!("https://as.example/t-1/v2.0");
                claims["tid"] = json!("t-1");
            });
        }
    };
    let issuer = Issuer::new("https://as.example").unwrap();
    let discover = |world: &mut World, template: &str| world.run(Discovery::new(&issuer).issuer_of_tenants(template));
    let mut world = world_with(shared("https://as.example/{tenantid}/v2.0"));
    assert_eq!(world.run(Discovery::new(&issuer)).unwrap_err().kind(), ErrorKind::Issuer);
    for other in ["https://as.example/{tid}", "https://as.example/{tid}/v1.0", "https://evil.example/{tid}/v2.0"] {
        assert_eq!(discover(&mut world, other).unwrap_err().kind(), ErrorKind::Issuer, "{other}");
    }
    let sent = world.sent().len();
    assert_eq!(discover(&mut world, "https://as.example/v2.0").unwrap_err().kind(), ErrorKind::Config);
    assert_eq!(world.sent().len(), sent, "nothing is asked for a name without a tenant");

    let server = discover(&mut world, "https://as.example/{tid}/v2.0").unwrap();
    assert_eq!(server.issuer(), &issuer);
    let request =
        || AuthorizationRequest::new(&server, &client(), REDIRECT).scopes("openid").verify_id_token_signature();
    world.sign_in(request(), &client()).unwrap();
    for (iss, tid) in [("https://as.example/t-1/v2.0", "t-2"), ("https://as.example/{tenantid}/v2.0", "{tenantid}x")] {
        world.server().settings.alter_id_claims = Alter::by(move |claims| {
            claims["iss"] = json!(iss);
            claims["tid"] = json!(tid);
        });
        assert_eq!(world.sign_in(request(), &client()).unwrap_err().kind(), ErrorKind::IdToken, "{iss}");
    }
    // The document of one issuer is none of many tenants.
    let mut world = world_with(shared("https://as.example/t-1/v2.0"));
    assert_eq!(discover(&mut world, "https://as.example/{tid}/v2.0").unwrap_err().kind(), ErrorKind::Issuer);
}
