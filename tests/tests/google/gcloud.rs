//! What gcloud has: its program, and the file that it may be told to use.

use std::path::PathBuf;
use std::time::Duration;

use grantflow::google::{AccessTokenFile, gcloud};
use grantflow::machine::{Os, Platform};
use grantflow::source::{GrantState, TokenSource as _, Want};
use grantflow::{Effect, ErrorKind, Machine as _, Reply, Step};
use grantflow_tests::google::world;
use grantflow_tests::{Did, Prints};
use serde_json::json;

use super::{CLOUD, NOW, whole};

fn platform(os: Os) -> Platform {
    Platform { os, home: None }
}

#[test]
fn gclouds_helper_tells_the_token_and_its_end() {
    let mut world = world();
    let printed = json!({
        "configuration": {"active_configuration": "default", "properties": {"core": {"account": "alice@example.com"}}},
        "credential": {"access_token": "ya29.gcloud", "id_token": "e30.e30.", "token_expiry": "2026-11-20T13:00:00Z"},
        "sentinels": {"config_sentinel": "/home/me/.config/gcloud/config_sentinel"}
    });
    world.programs.insert("gcloud".into(), Prints::new(printed.to_string()));
    let token = world.mint(&gcloud(&platform(Os::Unix)), &Want::access_token(CLOUD)).unwrap();
    assert_eq!((token.access_token(), token.expires_at()), ("ya29.gcloud", Some(NOW + Duration::from_secs(3600))));
    let mut mint = gcloud(&platform(Os::Windows)).mint(&Want::default(), &GrantState::default());
    let Step::Do(Effect::Exec(program)) = mint.resume(&mut world.cx(), Reply::Start) else { panic!("no program") };
    assert_eq!(program.path().to_str(), Some("gcloud.cmd"));
}

#[test]
fn the_token_of_a_file_is_used_and_read_again() {
    let mut world = world();
    world.files.insert("/run/token".into(), b"\xef\xbb\xbfya29.first\r\n".to_vec());
    world.env.insert("CLOUDSDK_AUTH_ACCESS_TOKEN_FILE", "/run/token".into());
    for source in [AccessTokenFile::new("/run/token"), AccessTokenFile::of_gcloud()] {
        let token = world.mint(&source, &Want::access_token(CLOUD)).unwrap();
        assert_eq!((token.access_token(), token.expires_at()), ("ya29.first", None));
        assert_eq!(token.refresh_after(), Some(NOW + Duration::from_secs(300)));
    }
    world.files.insert("/run/token".into(), b"ya29.second".to_vec());
    let token = world.mint(&AccessTokenFile::of_gcloud(), &Want::default()).unwrap();
    assert_eq!(token.access_token(), "ya29.second");
    let read =
        world.did().iter().filter(|did| matches!(did, Did::ReadFile(path) if path.to_str() == Some("/run/token")));
    assert!(read.count() == 3 && world.sent().is_empty());
}

#[test]
fn a_file_without_a_token_is_named() {
    let mut world = world();
    let error = world.mint(&AccessTokenFile::of_gcloud(), &Want::default()).unwrap_err();
    assert!(whole(&error).contains("CLOUDSDK_AUTH_ACCESS_TOKEN_FILE is not set"), "{}", whole(&error));
    let source = AccessTokenFile::new("/run/token");
    for (content, why) in [
        (None, "there is no such file"),
        (Some(&b" \n"[..]), "it holds no token"),
        (Some(b"\xff\xfe"), "it is no text"),
        (Some(b"c4n4ry one c4n4ry two"), "it holds no token"),
    ] {
        match content {
            Some(content) => drop(world.files.insert("/run/token".into(), content.to_vec())),
            None => drop(world.files.remove(&PathBuf::from("/run/token"))),
        }
        let error = world.mint(&source, &Want::default()).unwrap_err();
        let told = format!("{} {error:?}", whole(&error));
        assert_eq!(error.kind(), ErrorKind::File, "{told}");
        assert!(told.contains(why) && told.contains("/run/token") && !told.contains("c4n4ry"), "{told}");
    }
    let error = world.mint(&source, &Want::id_token("https://run.example")).unwrap_err();
    assert!(error.to_string().contains("learns of no want"), "{error}");
}
