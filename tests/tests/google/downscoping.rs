//! Tokens that are good for less than the credential they come from.

use std::time::Duration;

use grantflow::google::{AccessBoundaryRule, Downscoped, Impersonated};
use grantflow::source::Want;
use grantflow::{Error, ErrorKind, Token};
use grantflow_tests::google::{ALICE, Place, SERVICE_ACCOUNT, world};

use super::{CLOUD, NOW, account, user};

const BUCKET: &str = "//storage.googleapis.com/projects/_/buckets/demo-bucket";
const VIEWER: &str = "inRole:roles/storage.objectViewer";

fn rule() -> AccessBoundaryRule {
    AccessBoundaryRule::new(BUCKET, [VIEWER])
        .condition("resource.name.startsWith('projects/_/buckets/demo-bucket/objects/public/')")
}

#[test]
fn the_request_is_the_documented_one() {
    let mut world = world();
    let token = world.mint(&Downscoped::new(user(), [rule()]).unwrap(), &Want::default()).unwrap();
    assert!(token.access_token().starts_with("ya29.dr."));
    let sent = world.sent().last().unwrap().request.clone();
    assert_eq!(sent.uri(), "https://sts.googleapis.com/v1/token");
    let mut pairs: Vec<_> = String::from_utf8(sent.body().clone()).unwrap().split('&').map(str::to_owned).collect();
    pairs.sort_unstable();
    assert_eq!(
        pairs[..3],
        [
            "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Atoken-exchange",
            "options=%7B%22accessBoundary%22%3A%7B%22accessBoundaryRules%22%3A%5B%7B%22availablePermissions%22%3A%5B%22inRole%3Aroles%2Fstorage.objectViewer%22%5D%2C%22availableResource%22%3A%22%2F%2Fstorage.googleapis.com%2Fprojects%2F_%2Fbuckets%2Fdemo-bucket%22%2C%22availabilityCondition%22%3A%7B%22expression%22%3A%22resource.name.startsWith%28%27projects%2F_%2Fbuckets%2Fdemo-bucket%2Fobjects%2Fpublic%2F%27%29%22%7D%7D%5D%7D%7D",
            "requested_token_type=urn%3Aietf%3Aparams%3Aoauth%3Atoken-type%3Aaccess_token",
        ]
    );
    assert!(
        pairs[3].starts_with("subject_token=ya29.") && pairs[4].starts_with("subject_token_type=") && pairs.len() == 5
    );
}

#[test]
fn it_ends_when_the_answer_says_or_else_with_the_token_that_it_comes_of() {
    let mut world = world();
    // The answer says it of a user's.
    let of_user = world.mint(&Downscoped::new(user(), [rule()]).unwrap(), &Want::default()).unwrap();
    assert!(of_user.expires_at().unwrap() <= NOW + Duration::from_secs(3600));
    // And not of a service account's.
    let of_account = world.mint(&Downscoped::new(account(), [rule()]).unwrap(), &Want::default()).unwrap();
    let own = world.mint(&account(), &Want::access_token(CLOUD)).unwrap();
    let end = |token: &Token| token.expires_at().unwrap();
    assert!(end(&of_account) <= end(&own) && end(&own).since(end(&of_account)) < Duration::from_secs(2));
}

#[test]
fn a_chain_of_three_uses_one_token_of_each_for_all() {
    let mut world = world();
    world.google().impersonators = vec![(ALICE.into(), SERVICE_ACCOUNT.into())];
    let middle = Impersonated::new(user(), SERVICE_ACCOUNT).unwrap();
    let source = Downscoped::new(middle, [rule()]).unwrap();
    assert!(world.mint(&source, &Want::default()).is_ok());
    for (place, times) in [(Place::Token, 1), (Place::Iam, 1), (Place::Sts, 1)] {
        assert_eq!(world.google().seen_at(place).len(), times, "{place:?}");
    }
}

#[test]
fn rules_that_say_nothing_are_refused() {
    for (rules, told) in [
        (vec![], "1 to 10 rules"),
        (vec![rule(); 11], "1 to 10 rules"),
        (vec![AccessBoundaryRule::new("", [VIEWER])], "no resource"),
        (vec![AccessBoundaryRule::new(BUCKET, [""; 0])], "no permission"),
        (vec![AccessBoundaryRule::new(BUCKET, ["roles/storage.objectViewer"])], "begins with inRole:"),
        (vec![AccessBoundaryRule::new(BUCKET, [VIEWER]).title("t")], "no expression"),
    ] {
        let error = Downscoped::new(user(), rules).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.to_string().contains(told), "{error}");
    }
    let mut world = world();
    for want in [Want::access_token(CLOUD), Want::id_token("x"), Want::default().subject(ALICE)] {
        let source = Downscoped::new(user(), [rule()]).unwrap();
        assert_eq!(world.mint(&source, &want).unwrap_err().kind(), ErrorKind::Config, "{want:?}");
    }
    assert!(Downscoped::new(user(), [rule()]).unwrap().with_universe_domain("a/b").is_err());
    assert!(world.did().is_empty());
}

#[test]
fn the_rules_may_be_those_of_a_want() {
    let mut world = world();
    let bucket = |tenant: &str| format!("//storage.googleapis.com/projects/_/buckets/demo-{tenant}");
    let source = Downscoped::by_want(user(), move |want| match want.wanted_audience() {
        Some("nobody") => Ok(vec![]),
        Some(tenant) => Ok(vec![AccessBoundaryRule::new(&bucket(tenant), [VIEWER])]),
        None => Err(Error::new(ErrorKind::Config, "a tenant is needed")),
    })
    .unwrap();
    for tenant in ["blue", "red"] {
        assert!(world.mint(&source, &Want::default().audience(tenant)).is_ok());
        let sent = world.google().seen_at(Place::Sts).last().unwrap().param("options").unwrap();
        assert!(sent.contains(&format!("demo-{tenant}")), "{sent}");
        assert_eq!(world.google().seen_at(Place::Sts).last().unwrap().param("audience"), None);
    }
    let sent = world.sent().len();
    for (want, told) in [
        (Want::default().audience("nobody"), "1 to 10 rules"),
        (Want::default(), "a tenant is needed"),
        (Want::access_token(CLOUD).audience("blue"), "without scopes"),
        (Want::id_token("blue"), "without scopes"),
        (Want::default().audience("blue").subject(ALICE), "without scopes"),
    ] {
        let error = world.mint(&source, &want).unwrap_err();
        assert!(error.to_string().contains(told) && world.sent().len() == sent, "{want:?}: {error}");
    }
}
