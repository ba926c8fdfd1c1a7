//! A grant in a store that loses what was saved last, lags behind, or has little room: what came before is never taken
//! for news.

use std::sync::Arc;
use std::time::Duration;

use grantflow::source::{Grant, Held, Outcome, TokenSource, Want};
use grantflow::store::{LoadGrant, SaveGrant, SharedGrant, Stored, Tags};
use grantflow::{Advice, Error, ErrorKind, Now, Rotation, Token};
use grantflow_tests::Fault;
use grantflow_tests::demo::{client, signed_in};
use grantflow_tests::processes::{Desk, Process, Trip, desk, desk_with, intent, kept, late, sent};
use grantflow_tests::server::{Place, RefreshTokens};

use super::SECOND;

fn want() -> Want {
    Want::access_token("read")
}

#[test]
fn what_the_store_has_lost_is_saved_again_and_what_came_before_is_not_sent() {
    let (mut desk, source) = late();
    let (mut process, key, first) = (Process::of(&source), source.key().clone(), kept(&desk, &source));
    let old = desk.shelf.peek(&key).cloned();
    process.mint(&mut desk).unwrap();
    let second = kept(&desk, &source);
    // Another copy takes over, which lacks that.
    desk.shelf.put(&key, desk.world.now.mono, old);
    assert_eq!(kept(&desk, &source), first);
    desk.world.pass(3600 * SECOND);
    process.mint(&mut desk).unwrap();
    assert_eq!(sent(&mut desk), [first, second]);
    assert!(process.state.save_error().is_none());
}

#[test]
fn a_sign_in_that_the_store_has_lost_is_saved_again_by_who_has_seen_it() {
    let (mut desk, source) = late();
    let (mut process, key) = (Process::of(&source), source.key().clone());
    process.mint(&mut desk).unwrap();
    let old = desk.shelf.peek(&key).cloned();
    let token = signed_in(&mut desk.world, "read");
    desk.run(SaveGrant::new(key.clone(), want(), &token)).unwrap();
    process.mint(&mut desk).unwrap();
    desk.shelf.put(&key, desk.world.now.mono, old);
    desk.world.pass(3600 * SECOND);
    process.mint(&mut desk).unwrap();
    assert_eq!(sent(&mut desk)[1], token.refresh_token().unwrap().expose());
    // One that never saw it takes what is there.
    let (mut desk, source) = late();
    Process::of(&source).mint(&mut desk).unwrap();
}

#[test]
fn a_replica_that_lags_behind_a_sign_in_does_not_bring_the_old_grant_back() {
    let (mut desk, source) = late();
    let key = source.key().clone();
    desk.world.pass(10 * SECOND);
    let token = signed_in(&mut desk.world, "read");
    desk.run(SaveGrant::new(key, want(), &token)).unwrap();
    // It sees the new grant first, and then the old.
    let mut process = Process::of(&source);
    process.mint(&mut desk).unwrap();
    desk.lag = 5 * SECOND;
    desk.world.pass(SECOND);
    process.mint(&mut desk).unwrap_err();
    desk.lag = Duration::ZERO;
    desk.world.pass(3600 * SECOND);
    process.mint(&mut desk).unwrap();
    assert_eq!(sent(&mut desk), [token.refresh_token().unwrap().expose()]);
}

#[test]
fn a_sign_in_that_was_saved_although_that_seemed_to_fail_is_not_saved_over_what_came_of_it() {
    let (mut desk, source) = late();
    let (key, token) = (source.key().clone(), signed_in(&mut desk.world, "read"));
    desk.trip("save", Trip::Lose);
    let error = desk.run(SaveGrant::new(key.clone(), want(), &token)).unwrap_err();
    let metadata = desk.world.server().metadata();
    let unsaved = SharedGrant::signed_in(key, metadata, &client(), &want(), &token, error).unwrap();
    let mut grant: Grant<()> = Grant::new(Arc::new(unsaved));
    desk.world.pass(3600 * SECOND);
    Process::of(&source).mint(&mut desk).unwrap();
    let successor = kept(&desk, &source);
    assert_ne!(successor, token.refresh_token().unwrap().expose());
    let (turn, mut saving) = grant.save().unwrap();
    desk.run(&mut saving).unwrap();
    assert!(grant.finish(turn, desk.world.now, saving.take_change(), Outcome::Saved).is_none());
    assert_eq!((kept(&desk, &source), grant.state().save_error().is_none()), (successor, true));
}

#[test]
fn what_is_saved_apart_from_a_mint_waits_for_nobody_who_works_on_the_grant() {
    let (mut desk, source) = late();
    let mut grant: Grant<()> = Grant::new(Arc::new(source.clone()));
    let (_, mut turn) = grant.begin(()).unwrap().split();
    let mut mint = grant.mint(&mut turn, &want(), desk.world.now, Held::Nothing).unwrap();
    desk.trip("save", Trip::Pass);
    desk.trip("save", Trip::Fail);
    let mut result = desk.run(&mut mint);
    assert!(grant.finish(turn, desk.world.now, mint.take_change(), Outcome::from(&mut result)).is_none());
    let newest = result.unwrap().refresh_token().unwrap().expose().to_owned();
    desk.lease(source.key(), 999);
    let (turn, mut saving) = grant.save().unwrap();
    desk.run(&mut saving).unwrap();
    assert!(grant.finish(turn, desk.world.now, saving.take_change(), Outcome::Saved).is_none());
    assert_eq!((desk.did.as_slice(), kept(&desk, &source)), (["load", "save"].as_slice(), newest));
}

#[test]
fn access_tokens_give_way_where_the_store_has_no_room_for_them() {
    let (mut desk, source) = late();
    desk.trip("save", Trip::Pass);
    desk.trip("save", Trip::TooLarge);
    let mut process = Process::of(&source);
    let token = process.mint(&mut desk).unwrap();
    assert_eq!(desk.did, ["load", "lease", "load", "save", "http", "save", "load", "save", "release"]);
    assert_eq!(kept(&desk, &source), token.refresh_token().unwrap().expose());
    assert!(desk.record(source.key())["tokens"].as_object().unwrap().is_empty());
    assert!(process.state.save_error().is_none());
    // At a sign-in too.
    let token = signed_in(&mut desk.world, "read");
    desk.trip("save", Trip::TooLarge);
    desk.run(SaveGrant::new(source.key().clone(), want(), &token)).unwrap();
    assert_eq!(kept(&desk, &source), token.refresh_token().unwrap().expose());
    assert!(desk.record(source.key())["tokens"].as_object().unwrap().is_empty());
    // That the refresh token has no room is an error, and known.
    desk.world.pass(3600 * SECOND);
    desk.trip("save", Trip::Pass);
    (0..2).for_each(|_| desk.trip("save", Trip::TooLarge));
    process.mint(&mut desk).unwrap();
    assert!(process.state.save_error().is_some());
}

#[test]
fn what_others_did_by_a_clock_that_is_far_ahead_keeps_nobody_waiting() {
    let (mut desk, source) = late();
    desk.die_before(source.mint(&want(), &source.first_state()), "http");
    let far = desk.world.now.wall.as_unix_millis() + 400 * 86_400_000;
    desk.edit(source.key(), |record| {
        record["intent"]["deadline"] = far.into();
        record["intent"]["tries"] = 2.into();
    });
    let mut process = Process::of(&source);
    let error = process.mint(&mut desk).unwrap_err();
    let rest = error.retry_after().expect("it is told again");
    assert!((30 * SECOND..40 * SECOND).contains(&rest), "{rest:?}");
    desk.world.pass(rest);
    process.mint(&mut desk).unwrap();
    assert!(intent(&desk, &source).is_none());
}

#[test]
fn a_refusal_is_judged_by_what_was_good_when_the_use_began() {
    let (mut desk, source) = desk();
    let mut process = Process::of(&source);
    desk.world.pass(3595 * SECOND);
    desk.world.server().fail(Place::Token, Fault::status(400, r#"{"error":"invalid_grant"}"#));
    // The answer comes when the token has ended, and the store fails then.
    (0..2).for_each(|_| desk.trip("load", Trip::Pass));
    desk.before("load", |desk| desk.world.pass(60 * SECOND));
    desk.trip("save", Trip::Pass);
    desk.trip("save", Trip::Fail);
    let error = process.mint(&mut desk).unwrap_err();
    assert!(!error.ends_grant(), "{error}");
    // It is asked once more, and goes on.
    process.mint(&mut desk).unwrap();
    assert_eq!(sent(&mut desk).len(), 2);
}

/// A mint of a grant, for a want that holds this.
pub(super) fn ask(desk: &mut Desk, grant: &mut Grant<()>, held: Held) -> Result<Token, Error> {
    let (_, mut turn) = grant.begin(()).expect("nobody else has the turn").split();
    let mut mint = grant.mint(&mut turn, &want(), desk.world.now, held)?;
    let mut result = desk.run(&mut mint);
    assert!(grant.finish(turn, desk.world.now, mint.take_change(), Outcome::from(&mut result)).is_none());
    result
}

fn refuse(desk: &mut Desk) {
    desk.world.server().fail(Place::Token, Fault::status(400, r#"{"error":"invalid_grant"}"#));
}

#[test]
fn what_was_handed_out_and_reached_nobody_is_handed_out_again() {
    let (mut desk, source) = desk();
    let mut grant = Grant::new(Arc::new(source));
    let first = ask(&mut desk, &mut grant, Held::Nothing).unwrap();
    // The cell was cleared meanwhile, or another took its place.
    let again = ask(&mut desk, &mut grant, Held::Nothing).unwrap();
    assert_eq!((again.access_token(), sent(&mut desk).len()), (first.access_token(), 0));
    // What a server refused is not.
    let another = ask(&mut desk, &mut grant, Held::Rejected).unwrap();
    assert_ne!(another.access_token(), first.access_token());
}

#[test]
fn who_is_refused_another_token_than_the_good_one_they_hold_is_told_so_and_the_refusal_is_early() {
    let (mut desk, source) = desk();
    let mut grant = Grant::new(Arc::new(source));
    let first = ask(&mut desk, &mut grant, Held::Nothing).unwrap();
    // A caller who wants another long before its end, and asks again.
    let end = desk.world.now + 3600 * SECOND;
    refuse(&mut desk);
    for _ in 0..2 {
        let error = ask(&mut desk, &mut grant, Held::Until(end)).unwrap_err();
        assert_eq!((error.ends_grant(), error.advice()), (false, Some(Advice::TryLater)), "{error}");
        assert!(error.retry_after().is_some_and(|time| time > 3600 * SECOND), "{error}");
    }
    // It does for who holds nothing.
    let left = ask(&mut desk, &mut grant, Held::Nothing).unwrap();
    assert_eq!((left.access_token(), sent(&mut desk).len()), (first.access_token(), 1));
    desk.world.pass(3606 * SECOND);
    ask(&mut desk, &mut grant, Held::Until(end)).unwrap();
}

#[test]
fn a_refusal_is_early_to_who_holds_a_good_token_though_it_was_final_to_who_held_none() {
    let (mut desk, source) = desk();
    let (key, tokens) = (source.key().clone(), desk.record(source.key())["tokens"].clone());
    let mut grant = Grant::new(Arc::new(source));
    desk.edit(&key, |record| record["tokens"] = serde_json::json!({}));
    refuse(&mut desk);
    assert!(ask(&mut desk, &mut grant, Held::Nothing).unwrap_err().ends_grant());
    // A replica shows what lay there before.
    desk.edit(&key, |record| record["tokens"] = tokens);
    ask(&mut desk, &mut grant, Held::Nothing).unwrap();
    let end = desk.world.now + 3600 * SECOND;
    let error = ask(&mut desk, &mut grant, Held::Until(end)).unwrap_err();
    assert_eq!((error.ends_grant(), error.advice()), (false, Some(Advice::TryLater)), "{error}");
    assert_eq!(sent(&mut desk).len(), 1);
}

#[test]
fn who_holds_the_good_token_of_a_grant_whose_fate_is_open_is_not_handed_it_again() {
    let (mut desk, source) = desk();
    let mut grant = Grant::new(Arc::new(source));
    let first = ask(&mut desk, &mut grant, Held::Nothing).unwrap();
    let end = desk.world.now + 3600 * SECOND;
    // At once while the grace time may last, and then not as long as the token is good.
    for uses in [1, 2, 2] {
        desk.world.server().fail(Place::Token, Fault::DropBefore);
        let error = ask(&mut desk, &mut grant, Held::Until(end)).unwrap_err();
        assert_eq!((error.ends_grant(), sent(&mut desk).len()), (false, uses), "{error}");
        desk.world.pass(SECOND);
    }
    let left = ask(&mut desk, &mut grant, Held::Nothing).unwrap();
    assert_eq!(left.access_token(), first.access_token());
}

#[test]
fn a_refusal_while_another_token_is_held_that_is_good_is_early() {
    let (mut desk, source) = desk();
    let (key, tokens) = (source.key().clone(), desk.record(source.key())["tokens"].clone());
    let mut grant = Grant::new(Arc::new(source));
    desk.edit(&key, |record| record["tokens"] = serde_json::json!({}));
    // Somebody else's token lies there when the server has refused ours.
    (0..2).for_each(|_| desk.trip("load", Trip::Pass));
    desk.before("load", move |desk| desk.edit(&key, |record| record["tokens"] = tokens));
    refuse(&mut desk);
    let end = desk.world.now + 60 * SECOND;
    ask(&mut desk, &mut grant, Held::Until(end)).unwrap();
    desk.world.pass(3606 * SECOND);
    ask(&mut desk, &mut grant, Held::Until(end)).unwrap();
    assert_eq!(sent(&mut desk).len(), 2);
}

#[test]
fn a_token_that_has_ended_by_one_clock_is_not_handed_out_again_for_want_of_a_better() {
    let (mut desk, source) = desk();
    let mut grant = Grant::new(Arc::new(source));
    ask(&mut desk, &mut grant, Held::Nothing).unwrap();
    let end = Now { wall: desk.world.now.wall + 3600 * SECOND, mono: desk.world.now.mono };
    desk.world.pass(10 * SECOND);
    refuse(&mut desk);
    let error = ask(&mut desk, &mut grant, Held::Until(end)).unwrap_err();
    assert!(error.ends_grant(), "{error}");
}

#[test]
fn a_refusal_is_remembered_when_a_replica_shows_an_older_grant_meanwhile() {
    let (mut desk, source) = desk();
    let (key, mut process) = (source.key().clone(), Process::of(&source));
    desk.world.pass(10 * SECOND);
    let token = signed_in(&mut desk.world, "read");
    desk.run(SaveGrant::new(key, want(), &token)).unwrap();
    desk.world.pass(3606 * SECOND);
    refuse(&mut desk);
    assert!(process.mint(&mut desk).unwrap_err().ends_grant());
    desk.lag = 3611 * SECOND;
    desk.trip("load", Trip::Pass);
    desk.before("load", |desk| desk.lag = Duration::ZERO);
    assert!(process.mint(&mut desk).unwrap_err().ends_grant());
    assert_eq!(sent(&mut desk), [token.refresh_token().unwrap().expose()]);
}

#[test]
fn a_record_that_only_a_newer_release_may_touch_is_left_as_it_is() {
    for odd in [false, true] {
        let (mut desk, source) = late();
        desk.edit(source.key(), |record| {
            record["reader"] = 2.into();
            if odd {
                record["refresh_token"] = 7.into();
            }
        });
        let there = desk.record(source.key());
        let error = Process::of(&source).mint(&mut desk).unwrap_err();
        assert!(error.kind() == ErrorKind::Store && error.to_string().contains("newer release"), "{error}");
        assert_eq!((desk.record(source.key()), sent(&mut desk).len()), (there, 0));
    }
    // What is only added is no hindrance.
    let (mut desk, source) = late();
    desk.edit(source.key(), |record| record["added"] = 1.into());
    Process::of(&source).mint(&mut desk).unwrap();
}

#[test]
fn a_refresh_token_that_stays_is_learned_in_the_record_until_a_successor_comes() {
    let (mut desk, source) = desk_with(|settings| settings.refresh_tokens = RefreshTokens::Stay);
    let rotation = |desk: &mut grantflow_tests::processes::Desk| {
        let found = desk.run(LoadGrant::new(source.key().clone(), want())).unwrap();
        found.expect("it is there").rotation
    };
    for nth in 0..5 {
        assert_eq!(rotation(&mut desk), Rotation::Unknown, "{nth}");
        desk.world.pass(3600 * SECOND);
        Process::of(&source).mint(&mut desk).unwrap();
        assert_eq!(desk.did, ["load", "lease", "load", "save", "http", "save", "release"], "{nth}");
    }
    assert_eq!(rotation(&mut desk), Rotation::Never);
    // No intent is written down any more, unless nobody knows what came of a use.
    desk.world.pass(3600 * SECOND);
    Process::of(&source).mint(&mut desk).unwrap();
    assert_eq!(desk.did, ["load", "lease", "load", "http", "save", "release"]);
    desk.world.pass(3600 * SECOND);
    desk.world.server().fail(Place::Token, Fault::DropBefore);
    Process::of(&source).mint(&mut desk).unwrap_err();
    assert_eq!(intent(&desk, &source).map(|(tries, _)| tries), Some(1));
    desk.world.server().settings.refresh_tokens = RefreshTokens::Rotate { grace: 60 * SECOND };
    Process::of(&source).mint(&mut desk).unwrap();
    assert_eq!(rotation(&mut desk), Rotation::Rotates);
}

#[test]
fn a_record_says_by_its_tags_whose_it_is_and_keeps_that() {
    let (mut desk, source) = desk();
    let token = signed_in(&mut desk.world, "openid read");
    let subject = token.id_token().unwrap().subject().to_owned();
    desk.run(SaveGrant::new(source.key().clone(), want(), &token)).unwrap();
    let tags = Tags::new(source.key().issuer(), Some(&subject), None);
    assert_eq!(desk.shelf.peek(source.key()).unwrap().tags, tags);
    desk.world.pass(3600 * SECOND);
    Process::of(&source).mint(&mut desk).unwrap();
    assert_eq!(desk.shelf.peek(source.key()).unwrap().tags, tags);
}

#[test]
fn what_was_saved_late_or_although_that_seemed_to_fail_is_saved_again_when_the_store_has_lost_it() {
    // Of the second it lies there already.
    for (trip, did) in [(Trip::Fail, ["load", "save"].as_slice()), (Trip::Lose, ["load"].as_slice())] {
        let (mut desk, source) = late();
        let (mut grant, key) = (Grant::new(Arc::new(source.clone())), source.key().clone());
        let old = desk.shelf.peek(&key).cloned();
        desk.trip("save", Trip::Pass);
        desk.trip("save", trip);
        ask(&mut desk, &mut grant, Held::Nothing).unwrap();
        let (turn, mut saving) = grant.save().unwrap();
        desk.run(&mut saving).unwrap();
        assert!(grant.finish(turn, desk.world.now, saving.take_change(), Outcome::Saved).is_none());
        assert_eq!(desk.did, did);
        let newest = kept(&desk, &source);
        desk.shelf.put(&key, desk.world.now.mono, old);
        desk.world.pass(3600 * SECOND);
        ask(&mut desk, &mut grant, Held::Nothing).unwrap();
        assert_eq!(sent(&mut desk)[1], newest, "{did:?}");
    }
}

#[test]
fn a_token_that_ended_on_its_way_is_not_taken_for_the_one_that_its_want_holds() {
    let (mut desk, source) = desk_with(|settings| settings.lifetime = 20);
    let mut grant = Grant::new(Arc::new(source));
    let first = ask(&mut desk, &mut grant, Held::Nothing).unwrap();
    let held = Held::Until(desk.world.now + 20 * SECOND);
    desk.world.pass(25 * SECOND);
    desk.before("http", |desk| desk.world.pass(21 * SECOND));
    let second = ask(&mut desk, &mut grant, held).unwrap();
    assert!(second.is_expired(desk.world.now.wall) && second.access_token() != first.access_token());
    // Its server takes it for valid yet, and refuses to give another.
    refuse(&mut desk);
    let error = ask(&mut desk, &mut grant, held).unwrap_err();
    assert_eq!((error.ends_grant(), error.advice()), (false, Some(Advice::TryLater)), "{error}");
    desk.world.pass(5 * SECOND);
    ask(&mut desk, &mut grant, held).unwrap();
}

#[test]
fn a_token_that_comes_with_a_version_that_was_there_before_is_another_one() {
    let (mut desk, source) = late();
    let (mut grant, key) = (Grant::new(Arc::new(source.clone())), source.key().clone());
    let first = desk.version(&key);
    (0..5).for_each(|_| desk.edit(&key, |_| {}));
    ask(&mut desk, &mut grant, Held::Nothing).unwrap();
    // Another copy has taken over, and counts from an older version; what it lacked was saved once more.
    let record = desk.shelf.peek(&key).cloned().unwrap();
    desk.shelf.put(&key, desk.world.now.mono, Some(Stored::new(first + 1, record.value.to_vec())));
    let held = Held::Until(desk.world.now + 3600 * SECOND);
    desk.world.pass(3600 * SECOND);
    let another = Process::of(&source).mint(&mut desk).unwrap();
    assert!(desk.version(&key) < record.version);
    let token = ask(&mut desk, &mut grant, held).unwrap();
    assert_eq!((token.access_token(), sent(&mut desk).len()), (another.access_token(), 2));
}
