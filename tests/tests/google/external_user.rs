//! Users of a workforce, whose refresh token STS replaces at each use.

use std::time::Duration;

use grantflow::ErrorKind;
use grantflow::google::ExternalUser;
use grantflow::source::{Grant, TokenSource, Want};
use grantflow_tests::World;
use grantflow_tests::google::{Place, world};
use serde_json::{Value, json};

use super::{CLOUD, NOW, whole, with};

fn file() -> Value {
    json!({
        "type": "external_account_authorized_user",
        "audience": "//iam.googleapis.com/locations/global/workforcePools/demo-workforce/providers/demo-oidc",
        "client_id": "demo-client", "client_secret": "demo-secret", "refresh_token": "demo/refresh+token=",
        "token_url": "https://sts.googleapis.com/v1/oauthtoken",
        "token_info_url": "https://sts.googleapis.com/v1/introspect",
        "revoke_url": "https://sts.googleapis.com/v1/revoke",
        "quota_project_id": "demo-project", "universe_domain": "googleapis.com",
    })
}

fn user() -> ExternalUser {
    ExternalUser::from_json(file().to_string()).unwrap()
}

fn with_user() -> World {
    let mut world = world();
    world.google().workforce_user = Some(("demo-client".into(), "demo-secret".into(), "demo/refresh+token=".into()));
    world
}

#[test]
fn the_refresh_is_the_documented_one_and_its_successor_is_used_next() {
    let mut world = with_user();
    let (user, want) = (user(), Want::access_token(CLOUD));
    let mut state = user.first_state();
    for _ in 0..3 {
        let mut mint = user.mint(&want, &state);
        assert!(world.run(&mut mint).unwrap().access_token().starts_with("ya29.d."));
        state.merge(mint.take_change());
    }
    let seen = world.google().seen_at(Place::Workforce)[0].request.clone();
    assert_eq!(seen.body(), b"grant_type=refresh_token&refresh_token=demo%2Frefresh%2Btoken%3D");
    assert_eq!(seen.headers()["authorization"], "Basic ZGVtby1jbGllbnQ6ZGVtby1zZWNyZXQ=");
    let newest = world.google().workforce_refresh_token().unwrap().to_owned();
    assert!(state.refresh_token().unwrap().matches(&newest));
    // Uses follow one another.
    assert!(user.may_change(&state));
}

#[test]
fn a_token_in_the_file_is_used_as_long_as_it_is_good() {
    let mut changes = json!({"token": "ya29.d.first", "expiry": "2026-11-20T13:00:00Z", "scopes": [CLOUD]});
    let first = ExternalUser::from_json(with(file(), &changes).to_string()).unwrap();
    assert_eq!(first.first_token().unwrap().expires_at(), Some(NOW + Duration::from_secs(3600)));
    let mut grant = Grant::<()>::new(std::sync::Arc::new(first));
    assert_eq!(grant.take_first(&Want::access_token(CLOUD), with_user().now).unwrap().access_token(), "ya29.d.first");
    changes["expiry"] = "soon".into();
    let error = ExternalUser::from_json(with(file(), &changes).to_string()).unwrap_err();
    assert!(whole(&error).contains("`expiry` is no moment"));
}

#[test]
fn a_token_without_anything_to_refresh_it_with_serves_until_it_ends() {
    let nothing = json!({"client_id": null, "client_secret": null, "refresh_token": null});
    let changes = json!({"token": "ya29.d.static", "expiry": "2026-11-20T13:00:00Z"});
    let mut world = with_user();
    for file in [
        with(with(file(), &nothing), &changes),
        with(with(file(), &nothing), &with(changes.clone(), &json!({"token_url": null}))),
    ] {
        let user = ExternalUser::from_json(file.to_string()).unwrap();
        assert!(user.client().is_none());
        for want in [Want::access_token(CLOUD), Want::default()] {
            assert_eq!(world.mint(&user, &want).unwrap().access_token(), "ya29.d.static");
        }
        assert!(world.sent().is_empty());
        let mut later = with_user();
        later.pass(Duration::from_secs(3600));
        let error = later.mint(&user, &Want::access_token(CLOUD)).unwrap_err();
        assert_eq!(error.advice(), Some(grantflow::Advice::SignInAgain), "{error}");
    }
    // Half of what a refresh needs is a slip, and neither is nothing.
    let half = with(with(file(), &json!({"client_secret": null})), &changes);
    assert!(whole(&ExternalUser::from_json(half.to_string()).unwrap_err()).contains("`client_secret` is missing"));
    assert!(ExternalUser::from_json(with(file(), &nothing).to_string()).is_err());
}

#[test]
fn a_file_from_elsewhere_sends_the_refresh_token_nowhere_else() {
    for (name, value) in [
        ("token_url", json!("https://evil.example/v1/oauthtoken")),
        ("token_url", json!("https://sts.googleapis.com/v1/token")),
        ("revoke_url", json!("https://evil.example/v1/revoke")),
        ("token_info_url", json!("https://evil.example/v1/introspect")),
        ("universe_domain", json!("evil.example")),
        ("refresh_token", Value::Null),
        ("client_id", Value::Null),
        ("client_secret", Value::Null),
        ("type", json!("authorized_user")),
    ] {
        let error = ExternalUser::from_json(with(file(), &json!({name: value})).to_string()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(whole(&error).contains(&format!("`{name}`")), "{name}: {}", whole(&error));
    }
    let changes = json!({"token_url": "https://sts.cloud.example/v1/oauthtoken"});
    assert!(ExternalUser::from_json_with_any_server(with(file(), &changes).to_string()).is_ok());
}
