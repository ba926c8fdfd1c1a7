//! The files that keep users' refresh tokens: gcloud's, and `token.json`.

use std::time::Duration;

use grantflow::google::{AuthorizedUser, GoogleCredential};
use grantflow::source::{Credential, TokenSource, Want};
use grantflow::{ErrorKind, ServerMetadata, TokenRequest};
use grantflow_tests::google::{
    ALICE, CLIENT_ID, CLIENT_SECRET, GRANTED, Place, RAPT, REFRESH_TOKEN, UserTrouble, service_account_json, world,
};
use grantflow_tests::{Fault, canary};
use serde_json::{Value, json};

use super::user::client;
use super::{NOW, user_with};

const TOKEN_JSON: &str = r#"{"token": "ya29.a0demo", "refresh_token": "1//0gDemoRefresh/Token-x_y",
 "token_uri": "https://oauth2.googleapis.com/token",
 "client_id": "1234567890-demo.apps.googleusercontent.com",
 "client_secret": "GOCSPX-demo_secret",
 "scopes": ["openid", "https://www.googleapis.com/auth/userinfo.email"],
 "universe_domain": "googleapis.com", "account": "", "expiry": "2026-11-20T12:59:59Z"}"#;

#[test]
fn a_file_is_checked_member_by_member() {
    for (change, says) in [
        (json!({"type": "service_account"}), "`type` is service_account, and authorized_user is needed"),
        (json!({"type": "external_account"}), "`type` is external_account, and authorized_user is needed"),
        (json!({"type": 1}), "`type` is no text"),
        (json!({"client_id": null}), "`client_id` is missing"),
        (json!({"client_id": {}}), "`client_id` is no text"),
        (json!({"client_secret": 1}), "`client_secret` is no text"),
        (json!({"refresh_token": null}), "`refresh_token` is missing"),
        (json!({"refresh_token": ""}), "`refresh_token` is missing or empty"),
        (json!({"universe_domain": "apis-demo.goog"}), "`universe_domain` is not googleapis.com"),
        (json!({"quota_project_id": 1}), "`quota_project_id` is no text"),
        (json!({"quota_project_id": "\u{7f}"}), "`quota_project_id` fits in no header"),
        (json!({"account": 1}), "`account` is no text"),
        (json!({"scopes": 1}), "`scopes` is no list"),
        (json!({"scopes": ["a", 1]}), "`scopes` holds something that is no text"),
        (json!({"token": "t", "expiry": "tomorrow"}), "`expiry` is no moment in time"),
        (json!({"token": "a b", "expiry": "2026-11-20T12:59:59Z"}), "`token` cannot be used"),
    ] {
        let error = AuthorizedUser::from_json(user_with(change.clone())).unwrap_err();
        assert!(error.kind() == ErrorKind::Config && error.to_string().contains(says), "{change}: {error}");
        canary::hidden("the error", &format!("{error:?}"), &[REFRESH_TOKEN, CLIENT_SECRET]);
    }
    // A loader of any type reads the type first.
    for (kind, says) in [
        ("external_account", "`audience` is missing"),
        ("impersonated_service_account", "`service_account_impersonation_url` is missing"),
        ("gdch_service_account", "`format_version` is missing"),
        ("made_up", "`type` is unknown; service_account, authorized_user, external_account,"),
    ] {
        let error = GoogleCredential::from_json_of_any_type(user_with(json!({"type": kind}))).unwrap_err();
        assert!(error.to_string().contains(says), "{error}");
    }
    let error = GoogleCredential::from_json_of_any_type(user_with(json!({"type": null}))).unwrap_err();
    assert!(error.to_string().contains("`type` is missing"), "{error}");
    assert_eq!(GoogleCredential::from_json_of_any_type(user_with(json!({}))).unwrap().kind(), "authorized_user");
    let key = GoogleCredential::from_json_of_any_type(service_account_json().to_string()).unwrap();
    assert_eq!(key.kind(), "service_account");
}

#[test]
fn a_files_token_uri_is_not_followed_unless_the_file_is_trusted() {
    let text = user_with(json!({"token_uri": "https://attacker.example/token"}));
    for source in [
        Box::new(AuthorizedUser::from_json(&text).unwrap()) as Box<dyn TokenSource>,
        Box::new(GoogleCredential::from_json_of_any_type(&text).unwrap()),
    ] {
        let mut world = world();
        world.mint(&*source, &Want::default()).unwrap();
        assert_eq!(world.sent()[0].request.uri(), "https://oauth2.googleapis.com/token");
    }
    let mut world = world();
    let trusting = AuthorizedUser::from_json_with_any_server(&text).unwrap();
    world.mint(&trusting, &Want::default()).unwrap_err();
    assert_eq!(world.sent()[0].request.uri(), "https://attacker.example/token");
    let cleartext = user_with(json!({"token_uri": "http://attacker.example/token"}));
    AuthorizedUser::from_json_with_any_server(cleartext).unwrap_err();
}

#[test]
fn pythons_token_json_is_read() {
    let user = AuthorizedUser::from_json(TOKEN_JSON).unwrap();
    let token = user.token().unwrap();
    assert_eq!((token.access_token(), token.expires_at()), ("ya29.a0demo", Some(NOW + Duration::from_secs(3599))));
    assert_eq!(user.scopes().as_str(), "openid https://www.googleapis.com/auth/userinfo.email");
    assert_eq!(user.account(), None);
    let state = user.first_state();
    assert!(state.refresh_token().unwrap().matches(REFRESH_TOKEN) && state.scopes() == user.scopes());
    assert!(world().mint(&user, &Want::default()).is_ok());
    let with = |name: &str, value: Value| {
        let mut file: Value = serde_json::from_str(TOKEN_JSON).unwrap();
        file[name] = value;
        AuthorizedUser::from_json(file.to_string()).unwrap()
    };
    for (expiry, end) in [
        (json!("2026-11-20T12:59:59.123456Z"), Some(3599)),
        (json!("2026-11-20T12:59:59"), Some(3599)),
        (json!("2026-11-20T13:59:59+01:00"), Some(3599)),
        // Without an end it counts as expired: there is no token to use.
        (Value::Null, None),
        (json!(""), None),
    ] {
        let ends = with("expiry", expiry.clone()).token().map(|token| token.expires_at().unwrap().since(NOW).as_secs());
        assert_eq!(ends, end, "{expiry}");
    }
    // Scopes are a list, or one text.
    assert_eq!(with("scopes", json!("openid a b")).scopes().as_str(), "openid a b");
    assert!(with("scopes", Value::Null).scopes().is_empty());
    assert_eq!(with("account", json!(ALICE)).account(), Some(ALICE));
    assert_eq!(with("quota_project_id", json!("p")).request_headers()["x-goog-user-project"], "p");
    // What a library has added since is passed over.
    with("trust_boundary", json!({"locations": []}));
}

#[test]
fn the_proof_of_a_reauthentication_is_sent_and_kept() {
    let mut file: Value = serde_json::from_str(TOKEN_JSON).unwrap();
    let mut world = world();
    world.google().user_mut(ALICE).trouble = Some(UserTrouble::Reauthentication);
    world.mint(&AuthorizedUser::from_json(file.to_string()).unwrap(), &Want::default()).unwrap_err();
    file["rapt_token"] = RAPT.into();
    let user = AuthorizedUser::from_json(file.to_string()).unwrap();
    world.mint(&user, &Want::default()).unwrap();
    canary::hidden("the user", &format!("{user:?}"), &[RAPT]);
    let written: Value = serde_json::from_str(user.to_json(&user.first_state(), None).expose()).unwrap();
    assert_eq!(written["rapt_token"], RAPT);
}

#[test]
fn pythons_token_json_is_written_and_read_again() {
    let user = AuthorizedUser::from_json(TOKEN_JSON).unwrap();
    let written: Value = serde_json::from_str(user.to_json(&user.first_state(), None).expose()).unwrap();
    // Python's library passes over the type, and does not find default credentials without it.
    let mut expected: Value = serde_json::from_str(TOKEN_JSON).unwrap();
    expected["type"] = "authorized_user".into();
    assert_eq!(written, expected);
    // After a refresh: the newest of everything.
    let mut world = world();
    world.google().fail(
        Place::Token,
        Fault::status(200, r#"{"access_token":"ya29.new","expires_in":60,"scope":"openid","token_type":"Bearer","refresh_token":"1//new"}"#),
    );
    let mut state = user.first_state();
    let mut mint = user.mint(&Want::default(), &state);
    let token = world.run(&mut mint).unwrap();
    state.merge(mint.take_change());
    let written = user.to_json(&state, Some(&token));
    let members: Value = serde_json::from_str(written.expose()).unwrap();
    assert_eq!(
        members,
        json!({"type": "authorized_user", "token": "ya29.new", "refresh_token": "1//new",
               "token_uri": "https://oauth2.googleapis.com/token",
               "client_id": CLIENT_ID, "client_secret": CLIENT_SECRET, "scopes": ["openid"],
               "universe_domain": "googleapis.com", "account": "", "expiry": "2026-11-20T12:01:00Z"})
    );
    let again = AuthorizedUser::from_json(written.expose()).unwrap();
    assert!(again.first_state().refresh_token().unwrap().matches("1//new"));
    assert_eq!(again.token().unwrap().access_token(), "ya29.new");
    // Whom Python's library would refuse is not written: its three members are always there.
    for name in ["refresh_token", "client_id", "client_secret"] {
        assert!(members[name].is_string());
    }
}

#[test]
fn who_has_just_signed_in_can_be_kept() {
    let token = |refresh: Option<&str>| {
        let mut world = world();
        let mut body = json!({"access_token": "ya29.a", "expires_in": 3599, "scope": GRANTED, "token_type": "Bearer"});
        refresh.into_iter().for_each(|token| body["refresh_token"] = token.into());
        world.google().fail(Place::Token, Fault::status(200, &body.to_string()));
        let request = TokenRequest::client_credentials(&ServerMetadata::google(), &client()).unwrap();
        world.run(request.exchange()).unwrap()
    };
    let user = AuthorizedUser::signed_in(&client(), &token(Some(REFRESH_TOKEN))).unwrap();
    let kept = AuthorizedUser::from_json(user.to_json(&user.first_state(), None).expose()).unwrap();
    assert!(world().mint(&kept, &Want::default()).is_ok());
    // 21.1: at the second sign-in none comes unless consent is asked again.
    for error in [
        AuthorizedUser::signed_in(&client(), &token(None)).unwrap_err(),
        Credential::signed_in(ServerMetadata::google(), &client(), &token(None)).unwrap_err(),
    ] {
        assert!(
            error.to_string().contains("no refresh token: ask for offline access, and for consent anew,"),
            "{error}"
        );
    }
}

#[test]
fn nothing_shows_a_users_secrets() {
    let secrets = [REFRESH_TOKEN, CLIENT_SECRET, "ya29.a0demo"];
    let user = AuthorizedUser::from_json(TOKEN_JSON).unwrap();
    canary::hidden_in_debug("the user", &user, &secrets);
    canary::hidden_in_debug("the state", &user.first_state(), &secrets);
    canary::hidden_in_debug("the file", &user.to_json(&user.first_state(), None), &secrets);
    let any = GoogleCredential::from_json_of_any_type(user_with(json!({}))).unwrap();
    canary::hidden_in_debug("any credential", &any, &secrets);
    let mut world = world();
    let body = json!({"error": "invalid_grant", "error_description": format!("{REFRESH_TOKEN} of {CLIENT_SECRET}")});
    world.google().fail(Place::Token, Fault::status(400, &body.to_string()));
    let error = world.mint(&user, &Want::default()).unwrap_err();
    canary::hidden_in_debug("an error", &error, &secrets);
}
