//! How far requests may go, and with which certificate: what a stranger's document led to stays on the Internet.

mod people;
mod resources;
mod strangers;

use grantflow::exchange::Request;
use grantflow::machine::{Identity, Reach, Rules};
use grantflow::{
    AuthorizationRequest, Discovery, Endpoint, Error, ErrorKind, Issuer, PendingAuthorization, Revocation,
    ServerMetadata, TokenRequest,
};
use grantflow_tests::secure::Certificate;
use grantflow_tests::{Server, World, demo};

fn issuer(text: &str) -> Issuer {
    Issuer::new(text).unwrap()
}

fn stranger(world: &mut World) -> Result<ServerMetadata, Error> {
    world.run(Discovery::of_stranger(&issuer("https://as.example")))
}

#[test]
fn what_a_stranger_led_to_is_global_to_its_last_endpoint() {
    let mut world = World::with(Server::demo());
    let server = stranger(&mut world).unwrap();
    let client = demo::client();
    let request = AuthorizationRequest::new(&server, &client, demo::REDIRECT);
    let authorization = world.run(request.scopes("openid email").start()).unwrap();
    let redirect = world.person(&authorization.url);
    // Also if the sign-in ends in another process.
    let kept = serde_json::to_string(&authorization.pending).unwrap();
    let pending: PendingAuthorization = serde_json::from_str(&kept).unwrap();
    let token = world.run(pending.finish(&client, &redirect)).unwrap();
    let token = world.run(TokenRequest::refresh(&server, &client, &token).unwrap().exchange()).unwrap();
    world.run(Revocation::new(&server, &client, token.refresh_token().unwrap()).unwrap().exchange()).unwrap();
    let reaches: Vec<_> = world.sent().iter().map(|sent| (sent.request.uri().path().to_owned(), sent.reach)).collect();
    assert!(reaches.len() >= 4 && reaches.iter().all(|(_, reach)| *reach == Reach::Global), "{reaches:?}");

    let server = server.userinfo_endpoint("https://as.example/later").unwrap();
    let server = server.member("jwks_uri", "https://as.example/keys".into());
    let aliases = serde_json::json!({"token_endpoint": "https://mtls.as.example/token"});
    let server = server.member("mtls_endpoint_aliases", aliases).with_mtls_endpoint_aliases().unwrap();
    for endpoint in [server.userinfo(), server.jwks(), server.token(), server.authorization()] {
        assert_eq!(endpoint.unwrap().reach(), Reach::Global);
    }
    assert_eq!(server.token().unwrap().as_str(), "https://mtls.as.example/token");
    assert!(server.clone().token_endpoint("http://127.0.0.1/token").is_err());
    let server = server.member("jwks_uri", "https://192.168.0.1/keys".into());
    assert!(server.jwks().is_err());
    let inside = serde_json::json!({"token_endpoint": "https://10.0.0.1/token"});
    assert!(server.member("mtls_endpoint_aliases", inside).with_mtls_endpoint_aliases().is_err());
}

#[test]
fn what_a_configured_issuer_names_may_be_on_a_private_network() {
    let mut world = World::with(Server::new("https://10.1.2.3"));
    let server = world.run(Discovery::new(&issuer("https://10.1.2.3"))).unwrap();
    assert_eq!(server.token().unwrap().reach(), Reach::Public);
}

#[test]
fn a_private_issuer_that_a_stranger_names_is_refused_and_nothing_is_sent() {
    for text in [
        "http://localhost:8080",
        "https://localhost",
        "https://id.localhost",
        "https://10.0.0.1",
        "https://169.254.169.254",
        "https://[::1]",
        "https://[64:ff9b::a00:1]",
        "https://2130706433",
        "https://vault.internal",
    ] {
        let mut world = World::with(Server::new(text));
        let error = world.run(Discovery::of_stranger(&issuer(text))).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config, "{text}: {error}");
        assert!(world.sent().is_empty(), "{text}");
    }
}

#[test]
fn a_strangers_document_that_names_a_private_endpoint_is_refused_whole() {
    for address in [
        "http://127.0.0.1:8080/token",
        "https://localhost/token",
        "https://192.168.1.1/token",
        "https://[fd00:ec2::254]/token",
        "https://metadata.google.internal/token",
    ] {
        let json = serde_json::json!({"issuer": "https://as.example", "token_endpoint": address}).to_string();
        let tolerated = grantflow::Deviations::TOLERATED.with(grantflow::Deviation::LoopbackEndpoint);
        let read = ServerMetadata::from_json_tolerating(json.as_bytes(), &issuer("https://as.example"), tolerated);
        let error = read.unwrap().of_stranger().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidResponse, "{address}: {error}");
        assert!(error.to_string().contains("token_endpoint"), "{error}");
    }
}

#[test]
fn a_name_is_judged_by_all_that_it_leads_to() {
    for (addresses, reached) in [
        (vec!["8.8.8.8"], true),
        (vec!["10.0.0.1"], false),
        (vec!["::ffff:127.0.0.1", "fd00::1", "169.254.169.254"], false),
        (vec!["10.0.0.1", "2001:4860:4860::8888"], true),
        (vec![], false),
    ] {
        let mut world = World::with(Server::demo());
        let addresses: Vec<_> = addresses.iter().map(|address| address.parse().unwrap()).collect();
        world.addresses.insert("as.example".to_owned(), addresses.clone());
        assert_eq!(stranger(&mut world).is_ok(), reached, "{addresses:?}");
        assert_eq!(world.server().seen().is_empty(), !reached, "{addresses:?}");
        let configured = world.run(Discovery::new(&issuer("https://as.example")));
        assert_eq!(configured.is_ok(), !addresses.is_empty(), "{addresses:?}");
    }
}

#[test]
fn metadata_that_was_read_for_a_configured_issuer_answers_no_stranger() {
    let mut world = World::with(Server::demo());
    world.run(Discovery::new(&issuer("https://as.example"))).unwrap();
    world.addresses.insert("as.example".to_owned(), vec!["10.0.0.1".parse().unwrap()]);
    assert!(stranger(&mut world).is_err());
}

#[test]
fn a_driver_that_does_not_know_how_to_stay_global_sends_nothing_for_a_stranger() {
    let mut world = World::with(Server::demo());
    world.rules = Rules::V1 | Rules::START_BEFORE;
    let error = stranger(&mut world).unwrap_err();
    assert!(error.kind() == ErrorKind::Unsupported && error.to_string().contains("GLOBAL"), "{error}");
    assert!(world.server().seen().is_empty());
}

#[test]
fn a_request_carries_the_certificate_that_it_is_to_present() {
    let request = |address: &str| {
        Request::post("getting a token", &Endpoint::new(address).unwrap())
            .param("grant_type", "client_credentials")
            .identity(Identity::named("card"))
            .exchange(|_| Ok(()))
    };
    let mut world = World::with(Server::demo()).and(Server::new("http://127.0.0.1:8080"));
    world.identities.insert("card", Certificate::self_signed("a card").identity());
    drop(world.run(request("https://as.example/token")));
    let sent = world.sent();
    assert_eq!(sent[0].identity.as_ref().and_then(Identity::name), Some("card"));
    assert_eq!(world.server().seen().len(), 1);
    let error = world.run(request("http://127.0.0.1:8080/token")).unwrap_err();
    assert!(error.to_string().contains("https alone"), "{error}");
}
