//! Key files: every form of the key, every member that can be wrong, and files of enemies.

use std::time::Duration;

use grantflow::google::{GoogleCredential, ServiceAccount};
use grantflow::source::Want;
use grantflow::{Advice, ErrorKind};
use grantflow_tests::World;
use grantflow_tests::google::{bad_private_keys, private_key, private_key_pkcs1};
use serde_json::json;

use super::{CLOUD, JWT, NOW, key_with, whole};

#[test]
fn a_key_file_that_is_wrong_is_told_by_the_member() {
    let [short, ec] = bad_private_keys();
    for (change, says) in [
        (json!({"type": null}), "`type` is missing"),
        (json!({"type": "authorized_user"}), "`type` is authorized_user, and service_account is needed"),
        (json!({"type": "made_up"}), "`type` is made_up"),
        (json!({"type": 1}), "`type` is no text"),
        (json!({"client_email": null}), "`client_email` is missing"),
        (json!({"client_email": ""}), "`client_email` is missing or empty"),
        (json!({"client_email": ["a"]}), "`client_email` is no text"),
        (json!({"private_key": null}), "`private_key` is missing"),
        (json!({"private_key": 7}), "`private_key` is no text"),
        (json!({"private_key": "AAEC"}), "`private_key` cannot be used"),
        (json!({"private_key": short}), "`private_key` cannot be used"),
        (json!({"private_key": ec}), "`private_key` cannot be used"),
        (
            json!({"private_key": "-----BEGIN CERTIFICATE-----\nAAEC\n-----END CERTIFICATE-----"}),
            "`private_key` cannot be used",
        ),
        (json!({"private_key_id": 1}), "`private_key_id` is no text"),
        (json!({"token_uri": 1}), "`token_uri` is no text"),
        (json!({"project_id": {}}), "`project_id` is no text"),
        (json!({"quota_project_id": false}), "`quota_project_id` is no text"),
        (json!({"quota_project_id": "a\nb"}), "`quota_project_id` fits in no header"),
        (json!({"universe_domain": 3}), "`universe_domain` is no text"),
    ] {
        let error = ServiceAccount::from_json(key_with(change.clone())).unwrap_err();
        assert_eq!((error.kind(), error.advice()), (ErrorKind::Config, Some(Advice::FixConfiguration)));
        assert!(error.to_string().starts_with(&format!("the key file: {says}")), "{change}: {error}");
        assert!(!whole(&error).contains("MIIE"), "{error}");
    }
    for text in ["", "[]", "{", "null", "\"service_account\""] {
        let error = ServiceAccount::from_json(text).unwrap_err();
        assert!(error.to_string().contains("the key file is no JSON object"), "{text}: {error}");
    }
    assert!(ServiceAccount::from_json(vec![b' '; 70_000]).unwrap_err().to_string().contains("64 KiB"));
    // Neither of these need be there.
    ServiceAccount::from_json(key_with(json!({"private_key_id": null, "token_uri": null, "project_id": null})))
        .unwrap();
}

#[test]
fn a_hostile_token_uri_is_refused_before_anything_is_sent() {
    for token_uri in [
        "https://attacker.example/token",
        "https://oauth2.googleapis.com.attacker.example/token",
        "https://oauth2.googleapis.com@attacker.example/token",
        "https://attacker.example/?oauth2.googleapis.com",
        "https://attacker.example#oauth2.googleapis.com",
        "https://xoauth2.googleapis.com/token",
        "https://oauth2.googleapis.com.:443@attacker.example/",
        "http://oauth2.googleapis.com/token",
        "http://127.0.0.1:8080/token",
        "https:/oauth2.googleapis.com/token",
        "https://user@oauth2.googleapis.com/token",
        "//oauth2.googleapis.com/token",
        "file:///etc/passwd",
        "token",
    ] {
        let text = key_with(json!({"token_uri": token_uri}));
        for error in [ServiceAccount::from_json(&text).err(), GoogleCredential::from_json_of_any_type(&text).err()] {
            let error = error.unwrap_or_else(|| panic!("{token_uri} was taken"));
            assert!(error.to_string().contains("`token_uri`"), "{token_uri}: {error}");
        }
    }
    // Who trusts the file says so; cleartext leaves this machine for nobody.
    let elsewhere = key_with(json!({"token_uri": "https://token.example/token"}));
    let account = ServiceAccount::from_json_with_any_server(elsewhere).unwrap();
    let mut world = World::default();
    world.mint(&account, &Want::access_token(CLOUD)).unwrap_err();
    assert_eq!(world.sent()[0].request.uri(), "https://token.example/token");
    ServiceAccount::from_json_with_any_server(key_with(json!({"token_uri": "http://token.example/token"})))
        .unwrap_err();
}

#[test]
fn every_form_of_the_key_gives_the_known_assertion() {
    // 21.12: line ends that a shell turned into a backslash and an n, or into spaces.
    let mangled =
        [private_key().replace('\n', "\\n"), private_key().replace('\n', " "), private_key().replace('\n', "\r\n")];
    for key in [private_key(), private_key_pkcs1(), private_key_pkcs1().replace('\n', "\\n")].iter().chain(&mangled) {
        let account = ServiceAccount::from_json(key_with(json!({"private_key": key}))).unwrap();
        let assertion = account.assertion(&Want::access_token(CLOUD), NOW + Duration::from_secs(10)).unwrap();
        assert_eq!(World::default().run(assertion).unwrap().expose(), JWT.trim());
    }
}
