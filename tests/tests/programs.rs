//! Tokens that programs print, in virtual time.

use std::time::Duration;

use grantflow::machine::Program;
use grantflow::source::{ProgramToken, TokenSource, Want};
use grantflow::{Error, ErrorKind, Timestamp, Token};
use grantflow_tests::canary::{hidden_in_debug, hidden_in_error};
use grantflow_tests::{Did, Prints, World};

fn world(prints: Prints) -> World {
    let mut world = World::default();
    world.programs.insert("get-token".into(), prints);
    world
}

fn source() -> ProgramToken {
    ProgramToken::new(Program::new("get-token").args(["--verbose"]).timeout(Duration::from_secs(10)))
}

fn ask(world: &mut World, source: &ProgramToken, want: &Want) -> Result<Token, Error> {
    world.run(source.mint(want, &source.first_state()))
}

fn printed(stdout: &str) -> Result<Token, Error> {
    ask(&mut world(Prints::new(stdout)), &source(), &Want::default())
}

#[test]
fn a_text_is_the_token_and_is_asked_for_again_after_five_minutes() {
    for text in ["ya29.demo", "ya29.demo\n", "\u{feff} ya29.demo\r\n"] {
        let mut world = world(Prints::new(text));
        let token = ask(&mut world, &source(), &Want::access_token("read")).unwrap();
        assert_eq!((token.access_token(), token.expires_at()), ("ya29.demo", None));
        assert_eq!(token.refresh_after(), Some(world.now.wall + Duration::from_secs(300)));
        assert!(matches!(world.did(), [Did::Exec(_)]));
    }
}

#[test]
fn a_text_lives_as_long_as_the_caller_says_counted_from_the_programs_start() {
    let mut world = world(Prints { time: Duration::from_secs(2), ..Prints::new("t") });
    let begun = world.now.wall;
    let token = ask(&mut world, &source().lifetime(Duration::from_secs(600)), &Want::default()).unwrap();
    assert_eq!((token.issued_at(), token.expires_at()), (begun, Some(begun + Duration::from_secs(600))));
}

#[test]
fn json_names_the_token_and_its_end_in_each_of_the_known_ways() {
    let end = Timestamp::from_unix(1_795_179_600);
    for (json, ends) in [
        (r#"{"access_token":"t","token_type":"Bearer","expires_in":3600}"#, Some(end)),
        (r#"{"access_token":"t","expires_in":"3600"}"#, Some(end)),
        (r#"{"token":"t","expiry":"2026-11-20T13:00:00Z"}"#, Some(end)),
        (r#"{"accessToken":"t","expiresOn":"2026-11-20 14:00:00.000000","expires_on":1795179600}"#, Some(end)),
        (
            r#"{"id_token":"t","token_type":"urn:ietf:params:oauth:token-type:id_token","expiration_time":1795179600,"version":1,"success":true}"#,
            Some(end),
        ),
        (r#"{"credential":{"access_token":"t","token_expiry":"2026-11-20T13:00:00Z"},"configuration":{}}"#, Some(end)),
        (r#"{"kind":"ExecCredential","status":{"token":"t","expirationTimestamp":"2026-11-20T13:00:00Z"}}"#, Some(end)),
        (r#"{"token":"t","expires_at":"1795179600"}"#, Some(end)),
        (r#"{"token":"t","expires_at":1795179600.5}"#, Some(end)),
        (r#"{"token":"t"}"#, None),
        (r#"{"token":"t","expiry":null}"#, None),
    ] {
        let token = printed(json).unwrap_or_else(|error| panic!("{json}: {error}"));
        assert_eq!((token.access_token(), token.expires_at()), ("t", ends), "{json}");
    }
}

#[test]
fn what_is_no_token_is_an_error_that_shows_nothing_of_it() {
    for (stdout, says) in [
        ("", "printed no token"),
        (" \n", "printed no token"),
        ("c4n4ry one two", "characters that no header can carry"),
        ("c4n4ry\nsecond line", "characters that no header can carry"),
        (r#"{"access_token":"c4n4ry""#, "JSON that cannot be read"),
        (r#"{"access_token":["c4n4ry"]}"#, "without a token"),
        (r#"{"token":"c4n4ry","token":"c4n4ry"}"#, "a member twice"),
        (r#"{"token":"c4n4ry","expiry":"c4n4ry"}"#, "whose expiry is no moment"),
        (r#"{"token":"c4n4ry","expires_in":-1}"#, "whose expires_in is no moment"),
        (r#"{"token":"c4n4ry","expires_at":1}"#, "has expired"),
        (r#"{"token":"c4n4ry","token_type":"DPoP"}"#, "another type than Bearer"),
        (r#"{"success":false,"code":"401","message":"c4n4ry"}"#, "JSON that is an error"),
        (r#"{"error":"c4n4ry","token":"c4n4ry"}"#, "JSON that is an error"),
    ] {
        let error = printed(stdout).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Program, "{stdout}: {error}");
        assert!(error.to_string().contains(says) && error.to_string().contains("get-token"), "{stdout}: {error}");
        hidden_in_error(&error, &["c4n4ry"]);
    }
    let error = ask(&mut world(Prints::new(vec![0xff, 0xfe])), &source(), &Want::default()).unwrap_err();
    assert!(error.to_string().contains("no text"), "{error}");
}

#[test]
fn a_failure_tells_exit_code_and_standard_error_without_secrets() {
    let key = "c4n4ry-of-the-environment";
    let said = format!("ERROR: reauthentication needed, run gcloud auth login (ya29.c4n4ryc4n4ry0c4n4ry {key})");
    let source = ProgramToken::new(Program::new("get-token").args(["--key", "c4n4ry-argument"]).env("KEY", key));
    hidden_in_debug("a source", &source, &["c4n4ry"]);
    let error = ask(&mut world(Prints::failing(3, said)), &source, &Want::default()).unwrap_err();
    let text = error.to_string();
    assert!(text.contains("get-token ended with exit code 3: ERROR: reauthentication needed"), "{text}");
    assert!(text.contains("run gcloud auth login"), "{text}");
    hidden_in_error(&error, &["c4n4ry"]);
    let killed = Prints { code: None, ..Prints::failing(0, "") };
    let error = ask(&mut world(killed), &source, &Want::default()).unwrap_err();
    assert!(error.to_string().contains("was ended by a signal"), "{error}");
}

#[test]
fn a_program_that_takes_too_long_prints_too_much_or_is_not_there_is_told_as_such() {
    let mut slow = world(Prints { time: Duration::from_secs(11), ..Prints::new("t") });
    let error = ask(&mut slow, &source(), &Want::default()).unwrap_err();
    assert!(error.kind() == ErrorKind::Timeout && error.is_transient(), "{error}");
    assert!(error.to_string().contains("took longer than 10s"), "{error}");
    let error = printed(&"x".repeat(64 * 1024 + 1)).unwrap_err();
    assert!(error.to_string().contains("more than 65536 bytes"), "{error}");
    let error = ask(&mut World::default(), &source(), &Want::default()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Program);
    assert!(error.to_string().contains("cannot be run"), "{error}");
}

#[test]
fn without_leave_no_program_is_run_and_the_error_says_how_to_give_it() {
    let mut world = world(Prints::new("t"));
    world.refuse.push("Exec");
    let error = ask(&mut world, &source(), &Want::default()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.to_string().contains("allow_programs"), "{error}");
}

#[test]
fn a_want_that_the_program_cannot_know_of_is_refused_and_nothing_is_run() {
    let mut world = world(Prints::new("t"));
    for want in
        [Want::id_token("a"), Want::default().subject("a"), Want::default().audience("a"), Want::default().account("a")]
    {
        assert_eq!(ask(&mut world, &source(), &want).unwrap_err().kind(), ErrorKind::Config);
    }
    assert!(world.did().is_empty());
}
