//! Regional access boundaries: looked up where a program asks for it, and no token waits or fails for one.

use std::sync::Arc;
use std::time::Duration;

use grantflow::google::{ExternalAccount, MetadataServer, RegionalAccess, SubjectToken};
use grantflow::source::{Change, Grant, Held, Outcome, Want};
use grantflow::{Token, token_type};
use grantflow_tests::google::{Local, Metadata, Place, Provider, SERVICE_ACCOUNT, Takes, world};
use grantflow_tests::{Fault, World};

use super::{CLOUD, account};

const HEADER: &str = "x-allowed-locations";

fn bounded() -> World {
    let mut world = world();
    let google = world.google();
    google.boundaries.insert(format!("projects/-/serviceAccounts/{SERVICE_ACCOUNT}"), "0xA30".into());
    google.local = Local::Server(Metadata::new(SERVICE_ACCOUNT));
    world
}

fn header(token: &Token) -> Option<String> {
    let mut headers = http::HeaderMap::new();
    token.apply(&mut headers).unwrap();
    headers.get(HEADER).map(|value| value.to_str().unwrap().to_owned())
}

fn of_account() -> RegionalAccess {
    RegionalAccess::of_service_account(account(), SERVICE_ACCOUNT).unwrap()
}

#[test]
fn tokens_carry_the_boundary_of_their_account_or_pool() {
    let mut world = bounded();
    let token = world.mint(&of_account(), &Want::access_token(CLOUD)).unwrap();
    assert_eq!(header(&token).as_deref(), Some("0xA30"));
    let lookup = world.sent()[1].clone();
    let uri = format!(
        "https://iamcredentials.googleapis.com/v1/projects/-/serviceAccounts/{SERVICE_ACCOUNT}/allowedLocations"
    );
    assert_eq!((lookup.request.method().as_str(), lookup.request.uri().to_string()), ("GET", uri));
    let shown = format!("Bearer {}", token.access_token());
    assert_eq!(lookup.request.headers()["authorization"], shown);
    let machine = RegionalAccess::of_service_account(MetadataServer::new(), SERVICE_ACCOUNT).unwrap();
    assert!(header(&world.mint(&machine, &Want::default()).unwrap()).is_some());

    for (name, audience) in [
        (
            "projects/123/locations/global/workloadIdentityPools/pool",
            "//iam.googleapis.com/projects/123/locations/global/workloadIdentityPools/pool/providers/p",
        ),
        (
            "locations/global/workforcePools/staff",
            "//iam.googleapis.com/locations/global/workforcePools/staff/providers/p",
        ),
    ] {
        let google = world.google();
        google.boundaries.insert(name.into(), "0x7".into());
        let (audience, subject_token_type) = (audience.to_owned(), token_type::JWT.to_owned());
        google.providers.push(Provider {
            audience: audience.clone(),
            subject_token_type,
            takes: Takes::Token("subject".into()),
            client: None,
        });
        let own = || Ok(SubjectToken::new("subject"));
        let external = ExternalAccount::new(&audience, token_type::JWT, own).unwrap();
        let source = RegionalAccess::of_pool(external, &audience).unwrap();
        assert_eq!(header(&world.mint(&source, &Want::access_token(CLOUD)).unwrap()).as_deref(), Some("0x7"), "{name}");
    }
}

#[test]
fn a_lookup_that_fails_costs_the_header_and_no_token() {
    let mut world = bounded();
    for fault in [
        Fault::status(403, "no"),
        Fault::status(200, "<html>"),
        Fault::Delay(Duration::from_secs(60)),
        Fault::DropBefore,
    ] {
        for _ in 0..4 {
            world.google().fail(Place::Iam, fault.clone());
        }
        let began = world.now.wall;
        let token = world.mint(&of_account(), &Want::access_token(CLOUD)).unwrap();
        assert_eq!(header(&token), None, "{fault:?}");
        assert!(world.now.wall.since(began) <= Duration::from_secs(4), "{fault:?}");
        world = bounded();
    }
    // What stands for no boundary is none, and an ID token has none.
    for encoded in ["0x0", "", "a\nb"] {
        world.google().boundaries.values_mut().for_each(|it| *it = encoded.into());
        assert_eq!(header(&world.mint(&of_account(), &Want::access_token(CLOUD)).unwrap()), None);
    }
    let sent = world.sent().len();
    world.mint(&of_account(), &Want::id_token("https://run.example")).unwrap();
    assert_eq!(world.sent().len(), sent + 1);
    // What is wrong with the credential is told as ever.
    world.google().account_mut(SERVICE_ACCOUNT).keys.clear();
    assert!(world.mint(&of_account(), &Want::access_token(CLOUD)).is_err());
}

#[test]
fn it_goes_beside_the_quota_project() {
    let mut world = bounded();
    let source = RegionalAccess::of_service_account(account().quota_project("charged"), SERVICE_ACCOUNT).unwrap();
    let mut grant = Grant::new(Arc::new(source));
    let mut turn = grant.begin(()).unwrap();
    let mut mint = grant.mint(&mut turn, &Want::access_token(CLOUD), world.now, Held::Nothing).unwrap();
    let mut result = world.run(&mut mint);
    grant.finish(turn, world.now, Change::default(), Outcome::from(&mut result));
    let token = result.unwrap();
    let mut headers = http::HeaderMap::new();
    token.apply(&mut headers).unwrap();
    assert!(headers[HEADER] == "0xA30" && headers["x-goog-user-project"] == "charged", "{headers:?}");
}

#[test]
fn what_has_no_boundary_is_refused() {
    for audience in [
        "",
        "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/../providers/p",
        "//iam.googleapis.com/projects/1/x/providers/p",
    ] {
        assert!(RegionalAccess::of_pool(account(), audience).is_err(), "{audience}");
    }
    for email in ["", "a/b", "a@b:allowedLocations"] {
        assert!(RegionalAccess::of_service_account(account(), email).is_err(), "{email}");
    }
}
