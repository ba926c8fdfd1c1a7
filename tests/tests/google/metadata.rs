//! The metadata server, and what else may answer in its place.

use std::time::Duration;

use grantflow::cell::{Acquired, TokenCell};
use grantflow::google::{MetadataServer, TokenInfo, scopes};
use grantflow::machine::{Reach, Repeat};
use grantflow::source::{TokenSource, Want};
use grantflow::{Advice, ErrorKind, Scopes};
use grantflow_tests::google::{Local, Metadata, Place, SERVICE_ACCOUNT, jwt_parts, world};
use grantflow_tests::{Fault, World, canary};

use super::NOW;

const BASE: &str = "http://metadata.google.internal/computeMetadata/v1/";

/// A world on Google Cloud, its metadata server changed.
fn cloud(change: impl FnOnce(&mut Metadata)) -> World {
    let mut metadata = Metadata::new(SERVICE_ACCOUNT);
    change(&mut metadata);
    let mut world = world();
    world.google().local = Local::Server(metadata);
    world
}

fn asked(world: &World) -> Vec<String> {
    world.sent().iter().map(|sent| sent.request.uri().to_string()).collect()
}

#[test]
fn tokens_come_for_a_header_and_nothing_else() {
    let mut world = cloud(|_| {});
    let token = world.mint(&MetadataServer::new(), &Want::default()).unwrap();
    assert!(token.access_token().starts_with("ya29.c."));
    assert_eq!(asked(&world), [format!("{BASE}instance/service-accounts/default/token")]);
    let sent = world.sent()[0].clone();
    assert_eq!((sent.reach, sent.repeat), (Reach::Local, Repeat::Freely)); // 21.15: never through a proxy
    let mut headers: Vec<_> = sent.request.headers().iter().map(|(n, v)| (n.as_str(), v.to_str().unwrap())).collect();
    headers.sort_unstable();
    assert_eq!(headers, [("accept", "application/json"), ("metadata-flavor", "Google")]);
}

#[test]
fn scopes_and_the_account_go_into_the_address() {
    let mut world = cloud(|metadata| metadata.heeds_scopes = true);
    let want = Want::access_token([scopes::CLOUD_PLATFORM, scopes::DEVSTORAGE_READ_ONLY]).account(SERVICE_ACCOUNT);
    let token = world.mint(&MetadataServer::new(), &want).unwrap();
    assert_eq!(
        asked(&world),
        [format!(
            "{BASE}instance/service-accounts/{SERVICE_ACCOUNT}/token?scopes=https%3A%2F%2Fwww.googleapis.com%2Fauth%2F\
             cloud-platform%2Chttps%3A%2F%2Fwww.googleapis.com%2Fauth%2Fdevstorage.read_only"
        )]
    );
    let now = world.now.wall;
    assert_eq!(world.google().scopes_of(token.access_token(), now), Some(&want.scopes()));
}

#[test]
fn a_machines_scopes_limit_its_tokens_whatever_is_asked() {
    // 21.13: nothing in the answer tells; the server does when asked, and tokeninfo.
    let mut world = cloud(|metadata| metadata.scopes = scopes::DEVSTORAGE_READ_ONLY.into());
    let server = MetadataServer::new();
    let token = world.mint(&server, &Want::access_token(scopes::CLOUD_PLATFORM)).unwrap();
    assert_eq!(world.run(server.scopes().unwrap()).unwrap(), Scopes::from(scopes::DEVSTORAGE_READ_ONLY));
    let info = world.run(TokenInfo::of_access_token(&token.access_token().into()).unwrap()).unwrap();
    assert_eq!(info.scopes(), Scopes::from(scopes::DEVSTORAGE_READ_ONLY));
}

#[test]
fn an_id_token_is_a_bare_text_called_html() {
    let mut world = cloud(|_| {});
    let want = Want::id_token("https://demo-abc123-uc.a.run.app/x?y=z");
    let token = world.mint(&MetadataServer::new(), &want).unwrap();
    assert_eq!(
        asked(&world),
        [format!(
            "{BASE}instance/service-accounts/default/identity?audience=https%3A%2F%2Fdemo-abc123-uc.a.run.app%2Fx%3Fy%3Dz\
             &format=full"
        )]
    );
    let (_, claims) = jwt_parts(token.access_token());
    assert_eq!(
        (&claims["aud"], &claims["email"]),
        (&"https://demo-abc123-uc.a.run.app/x?y=z".into(), &SERVICE_ACCOUNT.into())
    );
    assert!(claims["google"]["compute_engine"].is_object());
    assert_eq!(token.expires_at().unwrap().as_unix(), claims["exp"].as_i64().unwrap());
}

#[test]
fn it_tells_of_account_project_and_universe() {
    let server = MetadataServer::new();
    for (universe, expected) in
        [(None, "googleapis.com"), (Some(""), "googleapis.com"), (Some("apis-demo.goog"), "apis-demo.goog")]
    {
        let mut world = cloud(|metadata| metadata.universe = universe.map(str::to_owned));
        assert_eq!(world.run(server.universe_domain().unwrap()).unwrap(), expected);
        assert_eq!(asked(&world), [format!("{BASE}universe/universe-domain")]);
        assert_eq!(world.run(server.email().unwrap()).unwrap(), SERVICE_ACCOUNT);
        assert_eq!(world.run(server.project_id().unwrap()).unwrap(), "demo-project");
    }
}

#[test]
fn wants_that_it_cannot_fulfil_are_refused_before_any_request() {
    for (want, why) in [
        (Want::access_token("a").self_signed(), "no key here to sign with"),
        (Want::access_token("a").subject("alice@example.com"), "without subject"),
        (Want::access_token("a").resource("https://a.example"), "without subject or resource"),
        (Want::access_token("a").audience("https://a.example"), "no audience"),
        (Want::id_token(""), "needs an audience"),
        (Want::access_token("a").account("../../x"), "no e-mail address"),
        (Want::access_token("a").account("a?b=c"), "no e-mail address"),
        (Want::access_token("a\"b"), "a quote"),
    ] {
        let mut world = cloud(|_| {});
        let error = world.mint(&MetadataServer::new(), &want).unwrap_err();
        assert!(error.kind() == ErrorKind::Config && error.to_string().contains(why), "{want:?}: {error}");
        assert!(world.did().is_empty());
    }
}

#[test]
fn a_machine_without_an_account_is_told_so() {
    for want in [Want::default(), Want::id_token("https://a.example"), Want::default().account("b@example.com")] {
        let mut world = cloud(|metadata| metadata.email = None);
        let error = world.mint(&MetadataServer::new(), &want).unwrap_err();
        assert_eq!((error.status(), error.advice()), (Some(404), Some(Advice::FixConfiguration)));
        assert!(error.to_string().contains("attach one to this machine"), "{error}");
        assert_eq!(world.sent().len(), 1);
    }
}

#[test]
fn what_answers_in_its_place_is_not_believed() {
    // 21.15: a portal, or a proxy that lets nobody through.
    let server = MetadataServer::new();
    for status in [200, 302, 403, 511] {
        let mut world = world();
        world.google().local = Local::Portal(status);
        for want in [Want::default(), Want::id_token("https://a.example")] {
            assert!(world.mint(&server, &want).is_err(), "{status} {want:?}");
        }
        for exchange in [server.email(), server.project_id(), server.universe_domain()] {
            assert!(world.run(exchange.unwrap()).is_err(), "{status}");
        }
        assert!(world.run(server.scopes().unwrap()).is_err());
    }
    // A refusal of theirs says nothing of this machine's account, nor of its universe.
    for status in [400, 403, 404] {
        let mut world = world();
        world.google().local = Local::Portal(status);
        let error = world.mint(&server, &Want::default()).unwrap_err();
        assert_eq!((error.kind(), error.status()), (ErrorKind::InvalidResponse, Some(status)));
        assert!(error.to_string().contains("no Metadata-Flavor: Google"), "{error}");
        world.run(server.universe_domain().unwrap()).unwrap_err();
    }
    // Not even with a token in its hand, or the right header of the wrong flavor.
    let token = r#"{"access_token":"ya29.bogus","expires_in":3600,"token_type":"Bearer"}"#;
    for fault in [Fault::status(200, token), Fault::status(200, token).header("metadata-flavor", "Vanilla")] {
        let mut world = world();
        world.google().fail(Place::Metadata, fault);
        let error = world.mint(&server, &Want::default()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidResponse);
        assert!(error.to_string().contains("no Metadata-Flavor: Google"), "{error}");
    }
}

#[test]
fn a_server_that_is_not_ready_yet_is_asked_again() {
    // 21.14
    let mut world = cloud(|metadata| metadata.ready_from = NOW + Duration::from_secs(2));
    world.mint(&MetadataServer::new(), &Want::default()).unwrap();
    assert!(world.sent().len() > 2 && world.now.wall.since(NOW) < Duration::from_secs(5));
    for status in [500, 503, 504, 429] {
        let mut world = cloud(|_| {});
        world.google().fail(Place::Metadata, Fault::html(status));
        world.mint(&MetadataServer::new(), &Want::default()).unwrap();
        assert_eq!(world.sent().len(), 2);
    }
}

/// Uses a token every `step`, for a day; says how often the server was asked, and the shortest time that any
/// token in use had left.
fn day(world: &mut World, want: &Want, step: Duration) -> (usize, Duration) {
    let (source, mut cell) = (MetadataServer::new(), TokenCell::new(7));
    let mut shortest = Duration::MAX;
    let end = world.now.wall + Duration::from_secs(24 * 3600);
    while world.now.wall < end {
        let token = match cell.acquire(world.now) {
            Acquired::Fresh(token) | Acquired::Due(token, None) => token,
            Acquired::Due(_, Some(ticket)) | Acquired::Refresh(ticket) => {
                let result = world.mint(&source, want);
                cell.settle(ticket, world.now, result);
                cell.held().expect("a token").clone()
            }
            other => panic!("{other:?}"),
        };
        shortest = shortest.min(token.token.expires_at().unwrap().since(world.now.wall));
        world.pass(step);
    }
    (world.google().metadata_mints(), shortest)
}

#[test]
fn a_days_tokens_cost_about_one_request_an_hour() {
    // 21.26, 21.38: the server hands out the same token until 5 minutes, or 4, before its end.
    for margin in [300, 240] {
        for step in [Duration::from_millis(900), Duration::from_secs(7)] {
            let mut world = cloud(|metadata| metadata.margin = Duration::from_secs(margin));
            let (requests, shortest) = day(&mut world, &Want::default(), step);
            assert!((25..=27).contains(&requests), "{margin} {step:?}: {requests}");
            assert!(shortest > Duration::from_secs(200), "{margin} {step:?}: {shortest:?}");
        }
    }
}

#[test]
fn even_a_server_that_keeps_tokens_to_their_last_second_meets_no_storm() {
    let mut world = cloud(|metadata| metadata.margin = Duration::ZERO);
    let (requests, shortest) = day(&mut world, &Want::default(), Duration::from_secs(1));
    assert!(requests < 24 * 30, "{requests}");
    assert!(shortest <= Duration::from_secs(2));
}

#[test]
fn a_token_that_begins_with_little_left_is_used_and_asked_for_again_in_time() {
    // 21.26: the server's token was made by somebody else, long before.
    let mut world = cloud(|_| {});
    world.mint(&MetadataServer::new(), &Want::default()).unwrap();
    world.pass(Duration::from_secs(3200));
    let token = world.mint(&MetadataServer::new(), &Want::default()).unwrap();
    let left = token.expires_at().unwrap().since(world.now.wall);
    assert!((390..=399).contains(&left.as_secs()), "{left:?}");
    let asked_again = token.refresh_after().unwrap();
    assert_eq!(token.expires_at().unwrap().since(asked_again), Duration::from_secs(225));
}

#[test]
fn a_days_id_tokens_cost_little_more() {
    let mut world = cloud(|_| {});
    let (requests, shortest) = day(&mut world, &Want::id_token("https://a.example"), Duration::from_secs(5));
    assert!((25..=24 * 3).contains(&requests), "{requests}");
    assert!(shortest > Duration::from_secs(60), "{shortest:?}");
}

#[test]
fn it_may_be_at_another_host_and_nowhere_in_a_path() {
    let mut world = cloud(|_| {});
    let server = MetadataServer::new().host("169.254.169.254").unwrap();
    world.mint(&server, &Want::default()).unwrap();
    assert!(asked(&world)[0].starts_with("http://169.254.169.254/computeMetadata/"));
    for host in ["", "a/b", "user@host", "host?x", "host#x", "a b", "http://host", "[::1", "host:99999"] {
        assert!(MetadataServer::new().host(host).is_err(), "{host}");
    }
}

#[test]
fn the_quota_project_and_no_secret_is_shown() {
    let server = MetadataServer::new().quota_project("demo-project");
    assert_eq!(server.request_headers()["x-goog-user-project"], "demo-project");
    let mut world = cloud(|_| {});
    let token = world.mint(&server, &Want::default()).unwrap();
    assert!(!world.sent()[0].request.headers().contains_key("x-goog-user-project"));
    canary::hidden_in_debug("server and token", &(&server, &token), &[token.access_token()]);
}

fn found(world: &mut World) -> Result<grantflow::google::Found, grantflow::Error> {
    world.run(grantflow::google::DefaultCredentials::new(grantflow::machine::Platform {
        os: grantflow::machine::Os::Unix,
        home: None,
    }))
}

#[test]
fn what_it_is_asked_for_by_a_certificate_is_told_by_name() {
    const AGENT: &str = "/var/run/secrets/workload-spiffe-credentials/certificates.pem";
    let mode = "GCE_METADATA_MTLS_MODE";
    for (name, value, why) in [
        (mode, "strict", "demands a metadata server that is asked by mTLS"),
        (mode, "STRICT", "demands a metadata server that is asked by mTLS"),
        (mode, "always", "is none of strict, none and default"),
        ("GOOGLE_API_ENABLE_RUNTIME_BOUND_TOKEN", "True", "agent identity"),
    ] {
        let mut world = cloud(|_| {});
        world.env.insert(name, value.into());
        world.env.insert("K_SERVICE", "demo".into());
        let error = found(&mut world).unwrap_err();
        assert!(error.kind() == ErrorKind::Config && error.to_string().contains(why), "{error}");
        assert!(error.to_string().contains(name) && world.sent().is_empty(), "{error}");
        // Where another credential is found, it is nothing to it.
        world.env.insert("GOOGLE_APPLICATION_CREDENTIALS", "/key.json".into());
        world.files.insert("/key.json".into(), grantflow_tests::google::service_account_json().to_string().into());
        found(&mut world).unwrap();
    }
    for (mode, bound, told) in
        [("none", None, true), ("default", Some("yes"), false), ("", Some("false"), false), ("None", None, true)]
    {
        let mut world = cloud(|_| {});
        world.env.insert("GCE_METADATA_MTLS_MODE", mode.into());
        world.env.extend(bound.map(|bound| ("GOOGLE_API_ENABLE_RUNTIME_BOUND_TOKEN", bound.into())));
        world.env.insert("K_SERVICE", "demo".into());
        world.files.insert(AGENT.into(), b"-----BEGIN CERTIFICATE-----".to_vec());
        let looked = found(&mut world).unwrap().looked.pop().unwrap();
        assert_eq!(looked.result.contains("this is an agent identity"), told, "{looked}");
    }
}
