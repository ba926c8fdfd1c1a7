//! What the record, and the process that wrote it, know of a use without a known end; and of a refusal that came early.

use std::sync::Arc;
use std::time::Duration;

use grantflow::cell::TokenCell;
use grantflow::source::{Grant, GrantStatus, Held, TokenSource, Want};
use grantflow::{Advice, ErrorKind, Now};
use grantflow_tests::Fault;
use grantflow_tests::processes::{Desk, Process, desk, desk_with, intent, kept, late, sent};
use grantflow_tests::server::{Alter, Place, RefreshTokens};

use super::lineage::ask;
use super::{REFRESHED, SECOND};

const HOUR: Duration = Duration::from_secs(3600);

fn fail(desk: &mut Desk, status: u16) {
    desk.world.server().fail(Place::Token, Fault::status(status, ""));
}

fn refuse(desk: &mut Desk) {
    desk.world.server().fail(Place::Token, Fault::status(400, r#"{"error":"invalid_grant"}"#));
}

#[test]
fn after_an_hour_and_five_uses_the_advice_is_to_sign_in_again_and_the_grant_is_tried_on() {
    let (mut desk, source) = late();
    for nth in 1..=8 {
        fail(&mut desk, 502);
        // Each is another process: what they go by is in the record.
        let mut process = Process::of(&source);
        let error = process.mint(&mut desk).unwrap_err();
        let hopeless = nth >= 5 && (nth - 1) * 901 >= 3600;
        assert_eq!(error.advice() == Some(Advice::SignInAgain), hopeless, "{nth}: {error:?}");
        assert_eq!((intent(&desk, &source).unwrap().0, sent(&mut desk).len()), (nth, nth as usize));
        if nth > 1 {
            let told = process.mint(&mut desk).unwrap_err();
            assert_eq!(told.advice() == Some(Advice::SignInAgain), hopeless, "{nth}: {told:?}");
            assert!(told.retry_after().is_some() && sent(&mut desk).len() == nth as usize, "{nth}: {told:?}");
        }
        desk.world.pass(901 * SECOND);
    }
    Process::of(&source).mint(&mut desk).unwrap();
}

#[test]
fn a_later_unclear_use_does_not_make_it_less_sure_that_one_was_used() {
    let (mut desk, source) = late();
    let mut process = Process::of(&source);
    process.mint(&mut desk).unwrap();
    desk.world.pass(HOUR);
    desk.world.server().fail(Place::Token, Fault::html(200));
    process.mint(&mut desk).unwrap_err();
    fail(&mut desk, 502);
    process.mint(&mut desk).unwrap_err();
    let uses = sent(&mut desk).len();
    desk.world.pass(31 * SECOND);
    assert_eq!(process.mint(&mut desk).unwrap_err().kind(), ErrorKind::GrantLost);
    assert_eq!(sent(&mut desk).len(), uses);
}

#[test]
fn a_pause_is_over_by_the_clock_that_goes_on_when_the_other_is_set_back() {
    let (mut desk, source) = late();
    desk.world.pass(HOUR);
    let mut process = Process::of(&source);
    for _ in 0..2 {
        fail(&mut desk, 502);
        process.mint(&mut desk).unwrap_err();
    }
    // The access token that lies there has ended all the same.
    desk.world.now.wall = desk.world.now.wall - 1800 * SECOND;
    desk.world.now.mono += 60 * SECOND;
    process.mint(&mut desk).unwrap();
    assert_eq!(desk.did, REFRESHED);
    assert_eq!(sent(&mut desk).len(), 3);
}

/// The machine slept between its look at the record and the lease: only one of its clocks went on.
#[test]
fn the_use_of_a_dead_process_is_over_when_the_wall_clock_says_so() {
    let (mut desk, source) = late();
    desk.die_before(source.mint(&Want::access_token("read"), &source.first_state()), "http");
    desk.before("lease", |desk| desk.world.now.wall = desk.world.now.wall + 31 * SECOND);
    Process::of(&source).mint(&mut desk).unwrap();
    assert_eq!(desk.did, REFRESHED);
}

#[test]
fn a_use_that_the_store_has_lost_together_with_its_refresh_token_is_counted_all_the_same() {
    let (mut desk, source) = late();
    let (mut process, key) = (Process::of(&source), source.key().clone());
    let old = desk.shelf.peek(&key).cloned();
    process.mint(&mut desk).unwrap();
    let newest = kept(&desk, &source);
    desk.world.pass(HOUR);
    fail(&mut desk, 502);
    process.mint(&mut desk).unwrap_err();
    desk.world.pass(31 * SECOND);
    desk.shelf.put(&key, desk.world.now.mono, old);
    fail(&mut desk, 502);
    process.mint(&mut desk).unwrap_err();
    assert_eq!((sent(&mut desk).len(), kept(&desk, &source)), (3, newest));
    assert_eq!(intent(&desk, &source).map(|(tries, _)| tries), Some(2));
}

#[test]
fn an_early_refusal_is_forgotten_when_the_refresh_token_is_taken_though_it_stays_the_same() {
    let (mut desk, source) = desk_with(|settings| settings.refresh_tokens = RefreshTokens::Stay);
    let mut process = Process::of(&source);
    desk.world.pass(3400 * SECOND);
    refuse(&mut desk);
    process.mint(&mut desk).expect("the token that is good does");
    desk.world.pass(300 * SECOND);
    let first = process.mint(&mut desk).unwrap();
    desk.world.pass(3400 * SECOND);
    let second = process.mint(&mut desk).unwrap();
    assert!(second.access_token() != first.access_token() && sent(&mut desk).len() == 3);
}

#[test]
fn access_tokens_of_many_wants_take_no_more_room_than_all_of_them_may() {
    let (mut desk, source) = late();
    desk.world.server().settings.alter_token = Alter::set("access_token", "x".repeat(15 * 1024).into());
    for nth in 0..8 {
        let mut process = Process::of(&source);
        process.want = Want::access_token("read").audience(&format!("https://api-{nth}.example"));
        process.mint(&mut desk).unwrap();
        assert!(desk.record(source.key()).to_string().len() < 80 * 1024, "{nth}");
    }
    assert_eq!(desk.record(source.key())["tokens"].as_object().unwrap().len(), 4);
}

#[test]
fn what_was_refused_is_not_asked_for_by_the_background() {
    let (mut desk, source) = desk();
    let mut cell = TokenCell::new(1);
    let token = Process::of(&source).mint(&mut desk).unwrap();
    let ticket = cell.force().unwrap();
    cell.settle(ticket, desk.world.now, Ok(token));
    let mut other = Process::of(&source);
    desk.world.pass(HOUR - 10 * SECOND);
    desk.edit(source.key(), |record| record["tokens"] = serde_json::json!({}));
    refuse(&mut desk);
    let error = other.mint(&mut desk).unwrap_err();
    // Who asks again looks at the record again.
    assert!(error.ends_grant() && error.retry_after() == Some(5 * SECOND), "{error:?}");
    let ticket = cell.force().unwrap();
    cell.settle(ticket, desk.world.now, Err(error));
    assert!(cell.valid(desk.world.now).is_some() && cell.next_wake(desk.world.now).is_none());
    assert!(!kept(&desk, &source).is_empty());
}

#[test]
fn a_refusal_is_early_if_the_token_was_good_when_the_mint_began_though_not_when_the_use_did() {
    let (mut desk, source) = late();
    desk.world.pass(10 * SECOND);
    let mut grant = Grant::new(Arc::new(source));
    let held = Held::Until(desk.world.now + SECOND);
    // The lease takes its time.
    desk.before("lease", |desk| desk.world.pass(10 * SECOND));
    refuse(&mut desk);
    let error = ask(&mut desk, &mut grant, held).unwrap_err();
    assert!(!error.ends_grant() && error.retry_after() == Some(Duration::ZERO), "{error:?}");
    assert_eq!(grant.status(), GrantStatus::Refused { early: true });
    // What is said is done: the server is asked once more.
    ask(&mut desk, &mut grant, held).unwrap();
    assert_eq!(sent(&mut desk).len(), 2);
}

#[test]
fn an_early_refusal_whose_answer_comes_late_costs_nobody_their_access_token() {
    let (mut desk, source) = desk();
    let good = Process::of(&source).mint(&mut desk).unwrap();
    let mut grant = Grant::new(Arc::new(source.clone()));
    let (_, mut turn) = grant.begin(()).unwrap().split();
    let held = Held::Until(desk.world.now + SECOND);
    let mut mint = grant.mint(&mut turn, &Want::access_token("write"), desk.world.now, held).unwrap();
    desk.before("http", |desk| desk.world.pass(10 * SECOND));
    refuse(&mut desk);
    assert!(!desk.run(&mut mint).unwrap_err().ends_grant());
    // Other wants have theirs yet.
    let theirs = Process::of(&source).mint(&mut desk).unwrap();
    assert_eq!((theirs.access_token(), sent(&mut desk).len()), (good.access_token(), 1));
}

#[test]
fn after_an_early_refusal_nothing_is_sent_while_the_server_may_take_the_ended_token_for_valid() {
    let (mut desk, source) = desk();
    let mut grant = Grant::new(Arc::new(source));
    let token = ask(&mut desk, &mut grant, Held::Nothing).unwrap();
    let (end, now) = (token.expires_at().unwrap(), desk.world.now);
    let left = end.since(now.wall);
    let held = Held::Until(Now { wall: end, mono: now.mono + left });
    refuse(&mut desk);
    ask(&mut desk, &mut grant, held).unwrap_err();
    desk.world.pass(end.since(desk.world.now.wall) + 2 * SECOND);
    let error = ask(&mut desk, &mut grant, held).unwrap_err();
    assert_eq!((error.retry_after(), sent(&mut desk).len()), (Some(3 * SECOND), 1), "{error:?}");
    desk.world.pass(3 * SECOND);
    ask(&mut desk, &mut grant, held).unwrap();
}

#[test]
fn an_unclear_use_is_not_written_down_where_another_process_found_that_refresh_tokens_stay() {
    let (mut desk, source) = late();
    let key = source.key().clone();
    desk.before("lease", move |desk| desk.edit(&key, |record| record["rotation"] = "Never".into()));
    fail(&mut desk, 502);
    let error = Process::of(&source).mint(&mut desk).unwrap_err();
    assert!(error.is_uncertain(), "{error:?}");
    assert_eq!(
        (desk.did.as_slice(), intent(&desk, &source)),
        (["load", "lease", "load", "http", "release"].as_slice(), None)
    );
}
