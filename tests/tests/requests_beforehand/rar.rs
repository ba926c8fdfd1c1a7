//! Rich authorization requests (RFC 9396), and what servers tell of a grant's end.

use std::time::Duration;

use grantflow::source::Want;
use grantflow::store::{LoadGrant, RecordKey, SaveGrant, SharedGrant};
use grantflow::{ErrorKind, InstalledApp, Token};
use grantflow_tests::google::jwt_parts;
use grantflow_tests::kms::Es256;
use grantflow_tests::processes::{Desk, Process, sent};
use grantflow_tests::server::Alter;
use grantflow_tests::{Place, Server, World};
use serde_json::{Value, json};

use super::{client, registered, request, signing, start, value};

fn details() -> Value {
    json!([{"type": "payment", "actions": ["initiate"], "amount": {"currency": "EUR", "value": "123.50"}},
           {"type": "account", "locations": ["https://api.example/accounts"]}])
}

fn one() -> Value {
    json!([details()[1]])
}

fn world() -> World {
    World::with(Server::demo().client(registered()))
}

fn sign_in(world: &mut World) -> Token {
    let asked = request(world, &client()).authorization_details(&details());
    world.sign_in(asked, &client()).unwrap()
}

#[test]
fn details_go_with_the_request_in_each_of_its_ways_and_come_back_with_the_token() {
    let mut world = world();
    let token = sign_in(&mut world);
    assert_eq!(token.authorization_details().unwrap(), details().as_array().unwrap());
    let pushed = request(&mut world, &client()).authorization_details(&details()).push();
    assert!(world.sign_in(pushed, &client()).unwrap().authorization_details().is_some());
    let sent = world.server().seen_at(Place::PushedRequest)[0].param("authorization_details").unwrap();
    assert_eq!(serde_json::from_str::<Value>(&sent).unwrap(), details());
    // In a signed one they are JSON.
    let mut world = signing(|_| {});
    let signed = request(&mut world, &client()).authorization_details(&details()).sign(Es256::default());
    let url = start(&mut world, signed).unwrap().url;
    assert_eq!(jwt_parts(&value(&url, "request")).1["authorization_details"], details());
    // Some of them, with the code.
    let signed = request(&mut world, &client()).authorization_details(&details()).sign(Es256::default());
    let authorization = start(&mut world, signed).unwrap();
    let redirect = world.person(&authorization.url);
    let finish = authorization.pending.finish(&client(), &redirect).authorization_details(&one());
    assert_eq!(world.run(finish).unwrap().authorization_details().unwrap(), one().as_array().unwrap());
}

#[test]
fn details_that_are_none_are_refused_here_and_those_that_are_unknown_by_the_server() {
    let mut world = world();
    for wrong in
        [json!([]), json!({"type": "payment"}), json!([{"actions": []}]), json!(["payment"]), json!([{"type": ""}])]
    {
        let asked = request(&mut world, &client()).authorization_details(&wrong);
        let error = start(&mut world, asked).unwrap_err();
        assert!(error.kind() == ErrorKind::Config && error.to_string().contains("RFC 9396"), "{error}");
    }
    let asked = request(&mut world, &client()).extra("authorization_details", "no json");
    assert_eq!(start(&mut world, asked).unwrap_err().kind(), ErrorKind::Config);
    let unknown = request(&mut world, &client()).authorization_details(&json!([{"type": "other"}]));
    let error = world.sign_in(unknown, &client()).unwrap_err();
    assert_eq!(error.server().unwrap().error(), "invalid_authorization_details");
}

#[test]
fn the_record_and_the_wants_key_have_the_details() {
    let mut desk = Desk::new(world());
    let server = desk.world.server().metadata();
    let key = RecordKey::new(server.issuer(), &client(), "alice");
    let token = sign_in(&mut desk.world);
    let all = Want::access_token("");
    desk.run(SaveGrant::new(key.clone(), all.clone(), &token)).unwrap();
    let saved = desk.run(LoadGrant::new(key.clone(), all)).unwrap().unwrap();
    assert_eq!(saved.authorization_details, Some(details()));
    assert_eq!(saved.token.unwrap().authorization_details().unwrap(), details().as_array().unwrap());
    // A token for some of them is another one, whatever the order of their members, and is asked for so.
    let narrow = Want::access_token("").authorization_details(&one());
    assert!(desk.run(LoadGrant::new(key.clone(), narrow.clone())).unwrap().unwrap().token.is_none());
    let turned = r#"[{"locations":["https://api.example/accounts"],"type":"account"}]"#;
    assert_eq!(narrow, Want::access_token("").authorization_details(&serde_json::from_str(turned).unwrap()));
    let source = SharedGrant::new(key.clone(), &server, &client());
    let mut process = Process::of(&source);
    process.want = narrow.clone();
    let token = process.mint(&mut desk).unwrap();
    assert_eq!(token.authorization_details().unwrap(), one().as_array().unwrap());
    assert_eq!(sent(&mut desk).len(), 1);
    let kept = desk.run(LoadGrant::new(key, narrow)).unwrap().unwrap().token.unwrap();
    assert_eq!(
        (kept.access_token(), kept.authorization_details()),
        (token.access_token(), token.authorization_details())
    );
    let app = InstalledApp::new(&server, &client()).authorization_details(&one());
    assert_eq!(app.want().wanted_authorization_details(), Some(&*one().to_string()));
}

#[test]
fn when_a_grant_ends_is_read_kept_and_shown() {
    let mut desk = Desk::new(world());
    let server = desk.world.server().metadata();
    let key = RecordKey::new(server.issuer(), &client(), "alice");
    desk.world.server().settings.alter_token = Alter::by(|body| {
        body["refresh_token_timeout"] = 7200.into();
        body["authorization_expires_in"] = "10800".into();
    });
    let token = sign_in(&mut desk.world);
    let begin = token.issued_at();
    let hours = |hours: u64| Duration::from_secs(hours * 3600);
    assert_eq!(token.refresh_token_timeout(), Some(hours(2)));
    assert_eq!(token.authorization_expires_at(), Some(begin + hours(3)));
    assert_eq!(token.signs_out_at(), Some(begin + hours(2)));
    // In a terminal, where it may be kept quiet.
    let end = begin + hours(2);
    let app = InstalledApp::new(&server, &client()).scopes("openid read");
    let told = app.after_sign_in(&token).unwrap();
    assert_eq!(told, format!("This sign-in signs out on {end}, or later if it is used before."));
    assert_eq!(app.clone().prompt_message(None).after_sign_in(&token), None);
    let wider = app.scopes("openid read write").after_sign_in(&token).unwrap();
    assert!(wider.contains("it lacks write") && wider.ends_with(&told), "{wider}");
    let want = Want::access_token("openid read");
    desk.run(SaveGrant::new(key.clone(), want.clone(), &token)).unwrap();
    let saved = desk.run(LoadGrant::new(key.clone(), want.clone())).unwrap().unwrap();
    assert_eq!((saved.signs_out_at, saved.authorization_expires_at), (Some(begin + hours(2)), Some(begin + hours(3))));
    // A refresh begins the idle time anew, and the end of it all stays, though the server says neither again.
    desk.world.server().settings.alter_token = Alter::default();
    desk.world.pass(hours(1) + Duration::from_secs(1));
    let source = SharedGrant::new(key.clone(), &server, &client());
    let mut process = Process::of(&source);
    process.want = want.clone();
    process.mint(&mut desk).unwrap();
    let saved = desk.run(LoadGrant::new(key, want)).unwrap().unwrap();
    assert_eq!((saved.signs_out_at, saved.authorization_expires_at), (Some(begin + hours(3)), Some(begin + hours(3))));
    // Where use changes nothing, that is told; and nothing is, where the server says nothing.
    let app = InstalledApp::new(&server, &client()).scopes("openid read");
    for (name, more) in
        [("authorization_expires_in", "."), ("refresh_token_expires_in", ", or later if it is used before.")]
    {
        let mut world = world();
        world.server().settings.alter_token = Alter::set(name, 7200.into());
        let token = sign_in(&mut world);
        let told = format!("This sign-in signs out on {}{more}", token.issued_at() + hours(2));
        assert_eq!(app.after_sign_in(&token), Some(told));
    }
    assert_eq!(app.after_sign_in(&sign_in(&mut world())), None);
    // What is odd costs itself.
    for odd in [json!(-1), json!("soon"), json!([]), Value::Null] {
        desk.world.server().settings.alter_token = Alter::set("authorization_expires_in", odd.clone());
        let token = sign_in(&mut desk.world);
        assert_eq!((token.authorization_expires_at(), token.signs_out_at()), (None, None), "{odd}");
    }
}
