//! Keeping, looking up and deleting a grant, and what a store keeps it as.

use std::time::Duration;

use grantflow::source::{TokenSource, Want};
use grantflow::store::{
    DeleteGrant, LoadGrant, MAX_RECORD, RecordKey, SaveGrant, SavedGrant, SharedGrant, SignOut, StoreReply, Stored,
};
use grantflow::{Advice, Error, ErrorKind, Machine, Reply, Rotation, ServerMetadata, Step, Token};
use grantflow_tests::demo::{client, signed_in};
use grantflow_tests::processes::{Desk, Process, Trip, desk};
use grantflow_tests::server::{Alter, Place, RefreshTokens};
use grantflow_tests::{Fault, Server, World};

const SECOND: Duration = Duration::from_secs(1);

/// A person who has signed in, and nothing in the store.
fn empty() -> (Desk, RecordKey, Token) {
    let mut desk = Desk::new(World::with(Server::demo()));
    let key = RecordKey::new(desk.world.server().metadata().issuer(), &client(), "alice");
    let token = signed_in(&mut desk.world, "read write");
    (desk, key, token)
}

fn want() -> Want {
    Want::access_token("read")
}

fn save(desk: &mut Desk, key: &RecordKey, token: &Token) -> Result<(), Error> {
    desk.run(SaveGrant::new(key.clone(), want(), token))
}

fn load(desk: &mut Desk, key: &RecordKey) -> Result<Option<SavedGrant>, Error> {
    desk.run(LoadGrant::new(key.clone(), want()))
}

fn delete(desk: &mut Desk, key: &RecordKey) -> Result<(), Error> {
    desk.run(DeleteGrant::new(key.clone()))
}

#[test]
fn what_was_saved_is_found_until_it_is_deleted() {
    let (mut desk, key, token) = empty();
    assert!(load(&mut desk, &key).unwrap().is_none());
    save(&mut desk, &key, &token).unwrap();
    assert_eq!(desk.did, ["lease", "load", "save", "release"]);

    let found = load(&mut desk, &key).unwrap().unwrap();
    assert_eq!(desk.did, ["load"]);
    assert_eq!(found.refresh_token.unwrap().expose(), token.refresh_token().unwrap().expose());
    assert_eq!((found.scopes.as_str(), found.rotation), ("read write", Rotation::Unknown));
    let kept = found.token.unwrap();
    assert_eq!((kept.access_token(), kept.expires_at()), (token.access_token(), token.expires_at()));
    assert_eq!((kept.issued_at(), kept.scopes().as_str()), (token.issued_at(), "read write"));
    // Of another want there is none, and after its end neither.
    let other = desk.run(LoadGrant::new(key.clone(), Want::access_token("write"))).unwrap().unwrap();
    assert!(other.token.is_none() && other.refresh_token.unwrap().matches(token.refresh_token().unwrap().expose()));
    desk.world.pass(3600 * SECOND);
    assert!(load(&mut desk, &key).unwrap().unwrap().token.is_none());

    delete(&mut desk, &key).unwrap();
    assert_eq!(desk.did, ["lease", "load", "delete", "release"]);
    assert!(load(&mut desk, &key).unwrap().is_none());
    delete(&mut desk, &key).unwrap();
    assert_eq!(desk.did, ["lease", "load", "release"], "nothing there is no error");
}

fn sign_out(desk: &mut Desk, key: &RecordKey) -> Result<(), Error> {
    let server = desk.world.server().metadata();
    desk.run(SignOut::new(key.clone(), &server, &client()))
}

fn revoked(desk: &mut Desk) -> Vec<String> {
    let seen = desk.world.server().seen_at(Place::Revoke);
    seen.into_iter().filter_map(|seen| seen.param("token")).collect()
}

#[test]
fn signing_out_revokes_what_lies_there_and_deletes_it_under_one_lease() {
    let (mut desk, key, token) = empty();
    save(&mut desk, &key, &token).unwrap();
    sign_out(&mut desk, &key).unwrap();
    assert_eq!(desk.did, ["lease", "load", "http", "delete", "release"]);
    assert_eq!(revoked(&mut desk), [token.refresh_token().unwrap().expose()]);
    assert!(load(&mut desk, &key).unwrap().is_none());
    sign_out(&mut desk, &key).unwrap();
    assert_eq!(desk.did, ["lease", "load", "release"], "nothing there is no error");

    // A server that does not revoke.
    save(&mut desk, &key, &token).unwrap();
    let server = ServerMetadata::new(desk.world.server().metadata().issuer().clone());
    desk.run(SignOut::new(key.clone(), &server, &client())).unwrap();
    assert_eq!(desk.did, ["lease", "load", "delete", "release"]);
}

#[test]
fn the_lease_of_a_sign_out_holds_as_long_as_the_revocation_may_take() {
    let (mut desk, key, token) = empty();
    desk.shelf.expiring = true;
    save(&mut desk, &key, &token).unwrap();
    let there = key.clone();
    desk.before("http", move |desk| {
        let late = desk.world.now.mono + 30 * SECOND;
        assert!(desk.shelf.leased_by(&there, late).is_some());
    });
    sign_out(&mut desk, &key).unwrap();
}

#[test]
fn what_cannot_be_revoked_or_read_is_kept() {
    let (mut desk, key, token) = empty();
    save(&mut desk, &key, &token).unwrap();
    (0..4).for_each(|_| desk.world.server().fail(Place::Revoke, Fault::status(503, "")));
    let error = sign_out(&mut desk, &key).unwrap_err();
    assert!(error.is_transient() && load(&mut desk, &key).unwrap().is_some(), "{error}");

    let torn = Stored::new(desk.version(&key) + 1, b"torn".to_vec());
    desk.shelf.put(&key, desk.world.now.mono, Some(torn));
    assert_eq!(sign_out(&mut desk, &key).unwrap_err().kind(), ErrorKind::Store);
    assert_eq!(desk.did, ["lease", "load", "release"]);
    assert!(desk.shelf.peek(&key).is_some());
}

#[test]
fn what_is_saved_while_somebody_signs_out_is_revoked_too() {
    let (mut desk, key, first) = empty();
    save(&mut desk, &key, &first).unwrap();
    let there = key.clone();
    let second = signed_in(&mut desk.world, "read");
    let newer = second.refresh_token().unwrap().expose().to_owned();
    desk.before("delete", move |desk| desk.edit(&there, |record| record["refresh_token"] = newer.into()));
    sign_out(&mut desk, &key).unwrap();
    assert_eq!(desk.did, ["lease", "load", "http", "delete", "load", "http", "delete", "release"]);
    assert_eq!(revoked(&mut desk), [&first, &second].map(|token| token.refresh_token().unwrap().expose()));
    assert!(desk.shelf.peek(&key).is_none());
}

#[test]
fn a_new_sign_in_replaces_what_lay_there_whatever_it_was() {
    let (mut desk, key, token) = empty();
    for value in [b"torn".to_vec(), b"{}".to_vec(), Vec::new()] {
        let version = desk.version(&key) + 1;
        let stored = Stored::new(version, value);
        desk.shelf.put(&key, desk.world.now.mono, Some(stored));
        let error = load(&mut desk, &key).unwrap_err();
        assert!(error.kind() == ErrorKind::Store && error.to_string().contains("cannot be read"), "{error}");
        assert!(error.to_string().contains(&key.name()), "{error}");
        save(&mut desk, &key, &token).unwrap();
        assert!(load(&mut desk, &key).unwrap().is_some() && desk.version(&key) > version);
    }
}

#[test]
fn no_version_comes_twice_even_if_the_grant_was_deleted() {
    let (mut desk, source) = desk();
    let key = source.key().clone();
    // A process that was stopped in the middle of its work.
    desk.world.pass(3600 * SECOND);
    desk.world.server().settings.refresh_tokens = RefreshTokens::Rotate { grace: Duration::ZERO };
    desk.trip("save", Trip::Pass);
    let late = key.clone();
    let (sender, receiver) = std::sync::mpsc::channel();
    desk.before("save", move |desk| {
        let version = desk.version(&late);
        desk.shelf.forget_leases();
        delete(desk, &late).unwrap();
        // The person signs in again, as often as it takes.
        for _ in 0..4 {
            let token = signed_in(&mut desk.world, "read");
            save(desk, &late, &token).unwrap();
            assert!(desk.version(&late) > version);
        }
        sender.send(desk.record(&late)).unwrap();
    });
    desk.run(source.mint(&want(), &source.first_state())).unwrap();
    assert_eq!(desk.record(&key), receiver.recv().unwrap(), "what is newer was not overwritten");
}

#[test]
fn whoever_has_the_lease_is_waited_for_but_not_for_ever() {
    for nth in 0..3 {
        let work = |desk: &mut Desk, key: &RecordKey, token: &Token| match nth {
            0 => save(desk, key, token),
            1 => sign_out(desk, key),
            _ => delete(desk, key),
        };
        let (mut desk, key, token) = empty();
        save(&mut desk, &key, &token).unwrap();
        desk.lease(&key, 999);
        let began = desk.world.now.mono;
        let version = desk.version(&key);
        let error = work(&mut desk, &key, &token).unwrap_err();
        let took = desk.world.now.mono - began;
        assert!(error.kind() == ErrorKind::Timeout && error.is_transient(), "{nth}: {error}");
        assert!((90 * SECOND..91 * SECOND).contains(&took) && desk.version(&key) == version, "{nth}: {took:?}");
        (0..9).for_each(|_| desk.trip("sleep", Trip::Pass));
        desk.before("sleep", |desk| desk.shelf.give_back(999));
        work(&mut desk, &key, &token).unwrap();
        assert_eq!(desk.did.iter().filter(|did| **did == "sleep").count(), 10, "{nth}");
        // The lease for asking a person to sign in is another one.
        desk.lease(&key.for_sign_in(), 999);
        work(&mut desk, &key, &token).unwrap();
        assert!(!desk.did.contains(&"sleep"), "{nth}");
    }
}

#[test]
fn a_conflict_means_to_look_again_but_not_for_ever() {
    for (word, nothing) in [("save", false), ("save", true), ("delete", false)] {
        let (mut desk, source) = desk();
        let key = source.key().clone();
        let token = signed_in(&mut desk.world, "read");
        let work = |desk: &mut Desk| if word == "save" { save(desk, &key, &token) } else { delete(desk, &key) };
        let other = key.clone();
        desk.before(word, move |desk| {
            let now = desk.world.now.mono;
            if nothing { desk.shelf.put(&other, now, None) } else { desk.edit(&other, |_| {}) }
        });
        work(&mut desk).unwrap();
        assert_eq!(desk.did, ["lease", "load", word, "load", word, "release"]);
        assert_eq!(desk.shelf.peek(&key).is_some(), word == "save");

        save(&mut desk, &key, &token).unwrap();
        for _ in 0..1000 {
            let other = key.clone();
            desk.before(word, move |desk| desk.edit(&other, |_| {}));
        }
        let error = work(&mut desk).unwrap_err();
        assert!(error.kind() == ErrorKind::Store && error.is_transient(), "{word}: {error}");
        assert!(desk.did.len() < 200 && desk.did.last() == Some(&"release"), "{word}");
    }
}

#[test]
fn what_fails_is_an_error_and_the_lease_goes_back() {
    for word in ["lease", "load", "save", "delete"] {
        for lost in [false, true] {
            let (mut desk, source) = desk();
            let key = source.key().clone();
            let token = signed_in(&mut desk.world, "read");
            desk.trip(word, if lost { Trip::Lose } else { Trip::Fail });
            let result = if word == "delete" { delete(&mut desk, &key) } else { save(&mut desk, &key, &token) };
            assert_eq!(result.unwrap_err().kind(), ErrorKind::Store, "{word}");
            assert_eq!(desk.did.last(), Some(if word == "lease" { &"lease" } else { &"release" }), "{word}");
        }
    }
    // A lease that cannot be given back is no reason to doubt what was done.
    let (mut desk, key, token) = empty();
    desk.trip("release", Trip::Lose);
    save(&mut desk, &key, &token).unwrap();
}

#[test]
fn a_driver_without_a_store_is_told_so() {
    let (mut desk, key, token) = empty();
    for nth in 0..3 {
        desk.trip(if nth == 2 { "load" } else { "lease" }, Trip::Refuse);
        let error = match nth {
            0 => save(&mut desk, &key, &token),
            1 => delete(&mut desk, &key),
            _ => load(&mut desk, &key).map(drop),
        };
        let error = error.unwrap_err();
        assert!(
            error.kind() == ErrorKind::Unsupported && error.to_string().contains("bound to a store"),
            "{nth}: {error}"
        );
    }
}

/// A grant of a server that gives no refresh token, kept under the default want.
fn without_refresh_token() -> (Desk, SharedGrant, Token) {
    let mut desk = Desk::new(World::with(Server::demo().with(|s| s.refresh_tokens = RefreshTokens::None)));
    let metadata = desk.world.server().metadata();
    let key = RecordKey::new(metadata.issuer(), &client(), "alice");
    let token = signed_in(&mut desk.world, "read");
    desk.run(SaveGrant::new(key.clone(), Want::default(), &token)).unwrap();
    (desk, SharedGrant::new(key, &metadata, &client()), token)
}

#[test]
fn a_token_without_a_refresh_token_is_handed_out_to_its_end_and_never_refreshed() {
    let (mut desk, source, token) = without_refresh_token();
    let sent = desk.world.sent().len();
    for pass in [0, 3400, 199] {
        desk.world.pass(pass * SECOND);
        let minted = desk.run(source.mint(&Want::default(), &source.first_state())).unwrap();
        assert_eq!((minted.access_token(), minted.refresh_after()), (token.access_token(), token.expires_at()));
        assert_eq!(desk.did, ["load"]);
    }
    desk.world.pass(SECOND);
    let error = desk.run(source.mint(&Want::default(), &source.first_state())).unwrap_err();
    assert_eq!((error.kind(), error.advice()), (ErrorKind::NotSignedIn, Some(Advice::SignInAgain)));
    assert_eq!(desk.did, ["load", "lease", "load", "release"]);
    let other = desk.run(source.mint(&Want::access_token("read"), &source.first_state())).unwrap_err();
    assert_eq!(other.kind(), ErrorKind::NotSignedIn);
    assert_eq!(desk.world.sent().len(), sent, "nothing is asked");
}

#[test]
fn a_token_without_a_refresh_token_that_was_refused_is_forgotten() {
    let (mut desk, source, _) = without_refresh_token();
    let found = |desk: &mut Desk| desk.run(LoadGrant::new(source.key().clone(), Want::default())).unwrap().unwrap();
    let mut process = Process::of(&source);
    process.want = Want::default();
    process.mint(&mut desk).unwrap();
    // Another want has none, and that says nothing about this one.
    assert!(
        desk.run(source.mint(&Want::access_token("x"), &process.state)).is_err() && found(&mut desk).token.is_some()
    );
    let error = process.mint(&mut desk).unwrap_err();
    assert_eq!((error.kind(), desk.did.last()), (ErrorKind::NotSignedIn, Some(&"release")));
    assert!(found(&mut desk).token.is_none());
}

#[test]
fn a_token_that_no_header_can_carry_is_kept_with_a_refresh_token_alone() {
    for refresh_tokens in [RefreshTokens::None, RefreshTokens::Stay] {
        let mut desk = Desk::new(World::with(Server::demo().with(|s| s.refresh_tokens = refresh_tokens)));
        let key = RecordKey::new(desk.world.server().metadata().issuer(), &client(), "alice");
        desk.world.server().settings.alter_token = Alter::set("token_type", "DPoP".into());
        let token = signed_in(&mut desk.world, "read");
        let saved = save(&mut desk, &key, &token);
        assert_eq!(saved.is_ok(), refresh_tokens == RefreshTokens::Stay);
        assert_eq!((desk.shelf.peek(&key).is_some(), desk.did.last()), (saved.is_ok(), Some(&"release")));
        if let Err(error) = saved {
            assert!(error.kind() == ErrorKind::Config && error.to_string().contains("offline access"), "{error}");
        }
    }
}

#[test]
fn another_grant_is_not_taken_for_this_one() {
    let (mut desk, source) = desk();
    let other = RecordKey::new(desk.world.server().metadata().issuer(), &client(), "bob");
    let found = desk.shelf.peek(source.key()).cloned();
    desk.shelf.put(&other, desk.world.now.mono, found);
    let error = load(&mut desk, &other).unwrap_err();
    assert!(error.kind() == ErrorKind::Store && error.to_string().contains("another one"), "{error}");
    desk.edit(source.key(), |record| record["key_binding"] = "thumbprint".into());
    let bound = LoadGrant::new(source.key().clone(), Want::access_token("read")).of(&client());
    let error = desk.run(bound).unwrap_err();
    assert!(error.kind() == ErrorKind::Config && error.to_string().contains("bound to a DPoP key"), "{error}");
}

#[test]
fn replies_that_do_not_fit_are_misuse() {
    let (mut desk, key, token) = empty();
    let replies: [fn() -> Reply; 4] =
        [|| Reply::Slept, || Reply::Store(StoreReply::Busy), || Reply::Missing, || Reply::Store(StoreReply::Released)];
    for (nth, reply) in replies.into_iter().enumerate() {
        let mut saving = SaveGrant::new(key.clone(), want(), &token);
        let mut loading = LoadGrant::new(key.clone(), want());
        let mut cx = desk.world.cx();
        assert!(matches!(saving.resume(&mut cx, Reply::Start), Step::Do(_)));
        assert!(matches!(loading.resume(&mut cx, Reply::Start), Step::Do(_)));
        let Step::Done(Err(error)) = loading.resume(&mut cx, reply()) else { panic!("{nth}") };
        assert_eq!(error.kind(), ErrorKind::Misuse);
        if nth != 1 {
            let Step::Done(Err(error)) = saving.resume(&mut cx, reply()) else { panic!("{nth}") };
            assert_eq!(error.kind(), ErrorKind::Misuse);
            let Step::Done(Err(error)) = saving.resume(&mut cx, Reply::Start) else { panic!("{nth}") };
            assert_eq!(error.kind(), ErrorKind::Misuse);
        }
    }
}

#[test]
fn a_record_in_one_piece_comes_back_and_anything_else_is_refused() {
    for (version, value) in [(0, &b""[..]), (1, b"{}"), (u64::MAX, b"line\nline\n\0\xff")] {
        let stored = Stored::new(version, value.to_vec());
        let back = Stored::from_bytes(stored.to_bytes()).unwrap();
        assert_eq!((back.version, &back.value[..]), (version, value));
        assert!(!format!("{stored:?}").contains("line"));
    }
    // Of all that can be cut off, lost or changed, nothing goes unseen.
    let whole = Stored::new(12, br#"{"refresh_token":"rt-1"}"#).to_bytes();
    for at in 0..whole.len() {
        let mut changed = whole.clone();
        changed[at] ^= 1;
        let mut longer = whole.to_vec();
        longer.insert(at, b'0');
        for bytes in [&whole[..at], &changed, &longer, &[&whole[..at], &vec![0; whole.len() - at]].concat()] {
            assert!(Stored::from_bytes(bytes.to_vec()).is_err(), "{:?}", String::from_utf8_lossy(bytes));
        }
    }
    let large = Stored::new(1, vec![b' '; MAX_RECORD]);
    for (bytes, word) in [
        (&b""[..], "no record"),
        (b"{\"refresh_token\":\"x\"}", "no record"),
        (b"grantflow record 2 version 1\n{}", "newer release"),
        (b"grantflow record 1 version 1", "torn"),
        (b"grantflow record 1 version 1\n{}", "torn"),
        (b"grantflow record 1 version  0011223344556677\n{}", "no number"),
        (b"grantflow record 1 version x 0011223344556677\n{}", "no number"),
        (b"grantflow record 1 version 18446744073709551616 0011223344556677\n{}", "no number"),
        (b"grantflow record 1 version -1 0011223344556677\n{}", "no number"),
        (b"grantflow record 1 version 1 0011223344556677\n{}", "damaged"),
        (&large.to_bytes(), "larger"),
    ] {
        let error = Stored::from_bytes(bytes.to_vec()).unwrap_err();
        assert!(error.kind() == ErrorKind::Store && error.to_string().contains(word), "{word}: {error}");
        // What a newer program can read must not be deleted.
        assert_eq!(error.to_string().contains("delete it"), word != "newer release", "{error}");
    }
}
