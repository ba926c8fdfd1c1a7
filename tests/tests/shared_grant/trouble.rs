//! A grant in a store, shared by processes: what goes wrong, and what becomes of it.

use std::sync::Arc;
use std::time::Duration;

use grantflow::cell::{Acquired, TokenCell};
use grantflow::machine::FailureKind;
use grantflow::source::{Change, Grant, GrantStatus, Held, Mint, Minting as _, Outcome, TokenSource, Waiting, Want};
use grantflow::store::{SaveGrant, SharedGrant};
use grantflow::{Advice, Cx, Error, ErrorKind, Failure, Machine, Reply, ServerMetadata, Step, Token};
use grantflow_tests::Fault;
use grantflow_tests::demo::{client, signed_in};
use grantflow_tests::processes::{Desk, Process, Trip, desk, desk_with, intent, kept, late, sent};
use grantflow_tests::server::{Place, RefreshTokens};

use super::{REFRESHED, SECOND, millis};

/// A mint, and what it waits for after each of its steps.
struct Watched<'a>(&'a mut Mint, Vec<Option<Waiting>>);

impl Machine for Watched<'_> {
    type Output = Token;

    fn resume(&mut self, cx: &mut Cx, reply: Reply) -> Step<Token> {
        let step = self.0.resume(cx, reply);
        self.1.push(self.0.waiting());
        step
    }
}

#[test]
fn a_mint_says_that_it_waits_for_another_process_or_the_use_of_a_dead_one_and_until_when() {
    let (mut desk, source) = late();
    desk.die_before(source.mint(&Want::access_token("read"), &source.first_state()), "http");
    let began = desk.world.now.wall;
    desk.world.pass(10 * SECOND);
    let mut grant = Grant::new(Arc::new(source));
    let (_, mut turn) = grant.begin(()).unwrap().split();
    let mut mint = grant.mint(&mut turn, &Want::access_token("read"), desk.world.now, Held::Nothing).unwrap();
    let mut watched = Watched(&mut mint, Vec::new());
    desk.run(&mut watched).unwrap();
    let until = Some(Waiting::Use { until: began + 30 * SECOND });
    let told: Vec<_> = watched.1.iter().copied().skip_while(Option::is_none).collect();
    assert_eq!(told[..2], [until, until], "while it sleeps, and when it looks again");
    assert!(told[2..].iter().all(Option::is_none), "not when it goes on: {told:?}");
    // The holder of the turn notes it; with the turn it ends.
    grant.wait_for(until);
    assert_eq!(grant.waiting(), until);
    grant.finish(turn, desk.world.now, mint.take_change(), Outcome::Abandoned);
    assert_eq!(grant.waiting(), None);
}

/// A daemon that was refused goes on when somebody signs in anew, in whatever process.
#[test]
fn who_was_refused_looks_at_the_record_again_and_sends_nothing_until_another_refresh_token_is_there() {
    let (mut desk, source) = late();
    desk.world.pass(10 * SECOND);
    let mut process = Process::of(&source);
    desk.world.server().fail(Place::Token, Fault::status(400, r#"{"error":"invalid_grant"}"#));
    let error = process.mint(&mut desk).unwrap_err();
    assert!(error.ends_grant() && error.retry_after() == Some(5 * SECOND), "{error:?}");
    assert_eq!(process.state.status(), GrantStatus::Refused { early: false });
    for _ in 0..3 {
        let again = process.mint(&mut desk).unwrap_err();
        assert!(again.ends_grant() && again.to_string() == error.to_string(), "{again:?}");
        assert_eq!((desk.did.clone(), sent(&mut desk).len()), (vec!["load"], 1));
    }
    // A restart may try once: a refusal is never written.
    assert!(intent(&desk, &source).is_none());
    let mut cell = TokenCell::new(1);
    let Acquired::Refresh(ticket) = cell.acquire(desk.world.now) else { panic!("there is none") };
    cell.settle(ticket, desk.world.now, Err(error));
    assert!(matches!(cell.acquire(desk.world.now + 4 * SECOND), Acquired::Failed(_)));
    assert!(matches!(cell.acquire(desk.world.now + 5 * SECOND), Acquired::Refresh(_)));
    let token = signed_in(&mut desk.world, "read");
    desk.run(SaveGrant::new(source.key().clone(), Want::access_token("read"), &token)).unwrap();
    assert_eq!(process.mint(&mut desk).unwrap().access_token(), token.access_token());
    assert_eq!(process.state.status(), GrantStatus::Settled);
}

/// Neither kills nor answers that never came end a grant; they only make the pauses longer.
#[test]
fn processes_that_die_before_they_send_anything_sign_nobody_out() {
    let (mut desk, source) = late();
    for _ in 0..6 {
        let mut mint = source.mint(&Want::access_token("read"), &source.first_state());
        desk.die_before(&mut mint, "http");
        desk.world.pass(1800 * SECOND);
    }
    Process::of(&source).mint(&mut desk).unwrap();
    assert_eq!(sent(&mut desk).len(), 1);
}

#[test]
fn a_result_goes_over_what_others_wrote_while_its_holder_was_stopped() {
    let (mut desk, source) = late();
    let key = source.key().clone();
    desk.trip("save", Trip::Pass);
    desk.before("save", move |desk| {
        desk.edit(&key, |record| record["intent"] = serde_json::json!({ "since": 0, "tries": 2, "deadline": 0 }));
    });
    let token = Process::of(&source).mint(&mut desk).unwrap();
    assert_eq!(desk.did, ["load", "lease", "load", "save", "http", "save", "load", "save", "release"]);
    assert_eq!(kept(&desk, &source), token.refresh_token().unwrap().expose());
    assert_eq!(intent(&desk, &source), None);
}

#[test]
fn a_refusal_is_not_forgotten_for_what_a_former_turn_remembers_and_one_that_it_was_told_counts() {
    for told in [false, true] {
        let (mut desk, source) = late();
        desk.world.pass(10 * SECOND);
        let mut grant: Grant<()> = Grant::new(Arc::new(source.clone()));
        let (now, want) = (desk.world.now, Want::access_token("read"));
        let refuse = Fault::status(400, r#"{"error":"invalid_grant"}"#);
        let (_, mut former) = grant.begin(()).unwrap().split();
        let mut former_mint = grant.mint(&mut former, &want, now, Held::Nothing).unwrap();
        if told {
            desk.world.server().fail(Place::Token, refuse.clone());
            desk.run(&mut former_mint).unwrap_err();
        } else {
            desk.die_before(&mut former_mint, "lease");
        }
        grant.replace(Arc::new(source.clone()));
        if !told {
            let (_, mut turn) = grant.begin(()).unwrap().split();
            let mut mint = grant.mint(&mut turn, &want, now, Held::Nothing).unwrap();
            desk.world.server().fail(Place::Token, refuse);
            let mut error = desk.run(&mut mint).unwrap_err();
            assert!(grant.finish(turn, now, mint.take_change(), Outcome::Failed(&mut error)).is_none());
        }
        assert!(grant.finish(former, now, former_mint.take_change(), Outcome::Abandoned).is_none());
        let (_, mut turn) = grant.begin(()).unwrap().split();
        let mut mint = grant.mint(&mut turn, &want, now, Held::Nothing).unwrap();
        let error = desk.run(&mut mint).unwrap_err();
        assert_eq!((error.advice(), sent(&mut desk).len()), (Some(Advice::SignInAgain), 1), "{told}");
    }
}

#[test]
fn a_token_that_was_refused_does_not_come_back_from_a_replica() {
    for refresh_tokens in [RefreshTokens::Rotate { grace: Duration::ZERO }, RefreshTokens::Stay] {
        let (mut desk, source) = desk_with(|settings| settings.refresh_tokens = refresh_tokens);
        let mut process = Process::of(&source);
        let first = process.mint(&mut desk).unwrap();
        desk.world.pass(60 * SECOND);
        let second = process.mint(&mut desk).unwrap();
        desk.lag = 30 * SECOND;
        desk.before("lease", |desk| desk.lag = Duration::ZERO);
        let third = process.mint(&mut desk).unwrap();
        assert!(third.access_token() != first.access_token() && third.access_token() != second.access_token());
    }
}

#[test]
fn who_asked_before_anybody_had_signed_in_finds_the_grant_that_came_since() {
    let (mut desk, source) = late();
    let there = desk.shelf.peek(source.key()).cloned();
    desk.shelf.put(source.key(), desk.world.now.mono, None);
    let (mut process, mut cell) = (Process::of(&source), TokenCell::new(1));
    let Acquired::Refresh(ticket) = cell.acquire(desk.world.now) else { panic!("there is none") };
    let error = process.mint(&mut desk).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotSignedIn);
    cell.settle(ticket, desk.world.now, Err(error));
    assert!(matches!(cell.acquire(desk.world.now), Acquired::Failed(_)));
    desk.shelf.put(source.key(), desk.world.now.mono, there);
    desk.world.pass(60 * SECOND);
    assert!(matches!(cell.acquire(desk.world.now), Acquired::Refresh(_)));
    process.mint(&mut desk).unwrap();
}

#[test]
fn a_mint_that_was_torn_off_is_what_the_record_says_of_it_and_no_more() {
    let (mut desk, source) = late();
    let mut grant: Grant<()> = Grant::new(Arc::new(source.clone()));
    let (now, want) = (desk.world.now, Want::access_token("read"));
    for _ in 0..3 {
        let (_, turn) = grant.begin(()).unwrap().split();
        assert!(grant.is_delicate(), "whoever ends waits for it");
        assert!(grant.finish(turn, now, Change::default(), Outcome::Abandoned).is_none());
    }
    let (_, mut turn) = grant.begin(()).unwrap().split();
    desk.run(grant.mint(&mut turn, &want, now, Held::Nothing).unwrap()).unwrap();
}

#[test]
fn invalid_grant_means_that_another_process_won_if_there_is_a_newer_record() {
    let (mut desk, source) = late();
    // While the request is under way, the person signs in again, and the server ends the old grant.
    let key = source.key().clone();
    let gone = Fault::status(400, r#"{"error":"invalid_grant"}"#);
    desk.before("http", move |desk| {
        let token = signed_in(&mut desk.world, "read");
        let want = Want::access_token("read");
        desk.shelf.forget_leases();
        desk.run(SaveGrant::new(key, want, &token)).unwrap();
        desk.world.server().fail(Place::Token, gone);
    });
    let token = Process::of(&source).mint(&mut desk).unwrap();
    assert_eq!(desk.did, ["load", "lease", "load", "save", "http", "load", "release"]);
    assert_eq!(token.refresh_token().unwrap().expose(), kept(&desk, &source));

    // What is newer has ended too: it is refreshed.
    let (mut desk, source) = late();
    let key = source.key().clone();
    desk.before("http", move |desk| {
        let newer = signed_in(&mut desk.world, "read");
        desk.edit(&key, |record| {
            record["refresh_token"] = newer.refresh_token().unwrap().expose().into();
            record["intent"] = serde_json::Value::Null;
        });
        desk.world.server().fail(Place::Token, Fault::status(400, r#"{"error":"invalid_grant"}"#));
    });
    let token = Process::of(&source).mint(&mut desk).unwrap();
    assert_eq!(desk.did, ["load", "lease", "load", "save", "http", "load", "save", "http", "save", "release"]);
    assert_eq!(token.refresh_token().unwrap().expose(), kept(&desk, &source));
}

#[test]
fn a_refresh_token_that_was_refused_is_not_sent_again_because_others_tried_it_too() {
    let (mut desk, source) = late();
    desk.world.pass(10 * SECOND);
    let key = source.key().clone();
    desk.world.server().fail(Place::Token, Fault::status(400, r#"{"error":"invalid_grant"}"#));
    desk.before("http", move |desk| desk.edit(&key, |record| record["intent"]["tries"] = 2.into()));
    let error = Process::of(&source).mint(&mut desk).unwrap_err();
    assert_eq!((error.kind(), sent(&mut desk).len()), (ErrorKind::Server, 1), "{:?}", desk.did);
    assert_eq!(intent(&desk, &source), None);
    // What others wrote is no reason to leave the tokens of a grant that ended.
    assert_eq!(desk.record(source.key())["tokens"], serde_json::json!({}));
}

#[test]
fn an_old_record_from_a_replica_is_not_taken_for_what_somebody_else_got() {
    let (mut desk, source) = late();
    Process::of(&source).mint(&mut desk).unwrap();
    desk.world.pass(3600 * SECOND);
    let invalid = Fault::status(400, r#"{"error":"invalid_grant"}"#);
    desk.before("http", |desk| {
        desk.world.server().fail(Place::Token, invalid);
        desk.lag = 5400 * SECOND;
    });
    let error = Process::of(&source).mint(&mut desk).unwrap_err();
    assert_eq!((error.kind(), sent(&mut desk).len()), (ErrorKind::Server, 2), "{:?}", desk.did);
}

#[test]
fn invalid_grant_otherwise_is_final_and_the_record_is_kept() {
    let (mut desk, source) = late();
    desk.world.pass(10 * SECOND);
    desk.world.server().fail(Place::Token, Fault::status(400, r#"{"error":"invalid_grant"}"#));
    let old = kept(&desk, &source);
    let error = Process::of(&source).mint(&mut desk).unwrap_err();
    assert_eq!((error.kind(), error.advice()), (ErrorKind::Server, Some(Advice::SignInAgain)));
    assert_eq!(desk.did, ["load", "lease", "load", "save", "http", "load", "save", "release"]);
    assert_eq!(kept(&desk, &source), old);
    // The store cannot be read just then: the server's word stands.
    let (mut desk, source) = late();
    desk.world.server().fail(Place::Token, Fault::status(400, r#"{"error":"invalid_grant"}"#));
    (0..2).for_each(|_| desk.trip("load", Trip::Pass));
    desk.trip("load", Trip::Fail);
    let error = Process::of(&source).mint(&mut desk).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Server);
}

#[test]
fn the_access_tokens_of_a_grant_that_ended_are_handed_out_no_more() {
    let (mut desk, source) = desk();
    let mut process = Process::of(&source);
    process.mint(&mut desk).unwrap();
    // A resource server refuses it, and so the process asks for another.
    desk.world.server().fail(Place::Token, Fault::status(400, r#"{"error":"invalid_grant"}"#));
    process.mint(&mut desk).unwrap_err();
    let began = desk.world.now.mono;
    desk.world.server().fail(Place::Token, Fault::status(400, r#"{"error":"invalid_grant"}"#));
    let error = Process::of(&source).mint(&mut desk).unwrap_err();
    assert_eq!(error.advice(), Some(Advice::SignInAgain), "the next process is told, and not given that token");
    assert!(desk.world.now.mono - began < SECOND, "and need not wait for it");
}

#[test]
fn an_answer_that_never_arrives_leaves_the_intent_and_one_more_attempt_at_once() {
    for (what, grace, kind) in [("grace", 120, None), ("no grace", 0, Some(ErrorKind::Server))] {
        let (mut desk, source) = late();
        desk.world.server().settings.refresh_tokens = RefreshTokens::Rotate { grace: grace * SECOND };
        desk.world.server().fail(Place::Token, Fault::DropAfter);
        let (old, since) = (kept(&desk, &source), millis(desk.world.now.wall));
        let error = Process::of(&source).mint(&mut desk).unwrap_err();
        assert!(error.is_uncertain() && error.is_transient(), "{what}: {error:?}");
        assert_eq!(intent(&desk, &source).unwrap().0, 1, "{what}");
        assert_eq!(kept(&desk, &source), old, "{what}");
        // Another process tries once more, and so finds out.
        let result = Process::of(&source).mint(&mut desk);
        assert_eq!(result.as_ref().err().map(Error::kind), kind, "{what}");
        assert_eq!(sent(&mut desk), [old.clone(), old.clone()], "{what}");
        if kind.is_none() {
            assert!(intent(&desk, &source).is_none() && kept(&desk, &source) != old);
        }
        // Within the grace window that servers have.
        assert!(millis(desk.world.now.wall) - since <= 60_000, "{what}");
    }
}

#[test]
fn the_recovery_does_not_wait_for_a_use_that_is_known_to_be_over() {
    let (mut desk, source) = late();
    desk.world.server().settings.refresh_tokens = RefreshTokens::Rotate { grace: 10 * SECOND };
    desk.world.server().fail(Place::Token, Fault::DropAfter);
    Process::of(&source).mint(&mut desk).unwrap_err();
    Process::of(&source).mint(&mut desk).unwrap();
    assert_eq!(desk.did, REFRESHED);
}

#[test]
fn a_newcomer_waits_until_a_use_is_over_whose_process_died() {
    // Whether the server has seen it or not. Where leases end by themselves, it may only be stopped; and where they
    // do not, its request may still be on its way.
    for expiring in [true, false] {
        let (mut desk, source) = late();
        desk.shelf.expiring = expiring;
        desk.die_before(source.mint(&Want::access_token("read"), &source.first_state()), "http");
        assert_eq!(intent(&desk, &source).unwrap().0, 1);
        desk.shelf.forget_leases();
        let slept = desk.world.slept().len();
        let token = Process::of(&source).mint(&mut desk).unwrap();
        assert_eq!(desk.did, ["load", "lease", "load", "sleep", "load", "save", "http", "save", "release"]);
        let slept = desk.world.slept()[slept];
        assert!((29 * SECOND..=30 * SECOND).contains(&slept), "{slept:?}");
        assert_eq!((sent(&mut desk).len(), token.refresh_token().unwrap().expose()), (1, &*kept(&desk, &source)));
    }
}

#[test]
fn a_lease_without_time_to_wait_and_use_it_is_given_back_at_once() {
    // Another's use may go on for 30 s; then 15 s are needed for ours, and 10 s to save what comes of it.
    for (lease, enough) in [(60, true), (56, true), (54, false), (50, false), (41, false)] {
        let (mut desk, source) = late();
        desk.shelf.expiring = true;
        desk.die_before(source.mint(&Want::access_token("read"), &source.first_state()), "http");
        desk.shelf.forget_leases();
        desk.shelf.longest = Some(lease * SECOND);
        match Process::of(&source).mint(&mut desk) {
            Ok(_) => assert!(enough, "{lease}"),
            Err(error) => assert_eq!((error.kind(), enough), (ErrorKind::Timeout, false), "{lease}: {error}"),
        }
        assert_eq!(desk.did == ["load", "lease", "load", "release"], !enough, "{lease}: {:?}", desk.did);
    }
}

#[test]
fn patience_includes_the_wait_for_another_s_use() {
    let (mut desk, source) = late();
    desk.shelf.expiring = true;
    desk.die_before(source.mint(&Want::access_token("read"), &source.first_state()), "http");
    let began = desk.world.now.mono;
    let key = source.key().clone();
    desk.before("sleep", move |desk| {
        desk.world.pass(80 * SECOND);
        desk.shelf.forget_leases();
        // A use that began just now, by a clock that is ahead.
        desk.edit(&key, |record| record["intent"]["deadline"] = i64::MAX.into());
    });
    let error = Process::of(&source).mint(&mut desk).unwrap_err();
    assert_eq!((error.kind(), sent(&mut desk).len()), (ErrorKind::Timeout, 0), "{error}");
    assert!(desk.world.now.mono - began < 90 * SECOND);
}

#[test]
fn a_process_that_asks_a_little_early_keeps_its_token_when_the_grace_window_has_closed() {
    let (mut desk, source) = desk();
    let mut process = Process::of(&source);
    let held = process.mint(&mut desk).unwrap();
    desk.world.pass(3170 * SECOND);
    desk.die_before(source.mint(&Want::access_token("read"), &process.state), "http");
    // Cells come due up to 6 minutes before the end.
    desk.world.pass(75 * SECOND);
    let token = process.mint(&mut desk).unwrap();
    assert_eq!(token.access_token(), held.access_token(), "{:?}", desk.did);
    assert!(sent(&mut desk).is_empty());
}

#[test]
fn with_a_valid_token_left_the_recovery_is_tried_while_the_grace_window_may_be_open_and_else_later() {
    // The token is due, and has 5 minutes left.
    for (later, did) in [
        (31, [&REFRESHED[..4], &REFRESHED[4..]].concat()),
        (59, REFRESHED.to_vec()),
        (61, vec!["load", "lease", "load", "release"]),
        (290, vec!["load", "lease", "load", "release"]),
        (301, REFRESHED.to_vec()),
    ] {
        let (mut desk, source) = desk();
        desk.world.pass(3300 * SECOND);
        desk.die_before(source.mint(&Want::access_token("read"), &source.first_state()), "http");
        desk.world.pass(later * SECOND);
        let mut process = Process::of(&source);
        let token = process.mint(&mut desk).unwrap();
        assert_eq!(desk.did, did, "{later} s later");
        let now = desk.world.now.wall;
        assert!(!token.is_expired(now), "{later} s later");
        assert_eq!(intent(&desk, &source).is_some(), !did.contains(&"http"));
    }
}

#[test]
fn a_token_that_was_refused_is_not_what_is_left() {
    let (mut desk, source) = desk();
    let mut process = Process::of(&source);
    let refused = process.mint(&mut desk).unwrap();
    desk.die_before(source.mint(&Want::access_token("read"), &process.state), "http");
    desk.world.pass(300 * SECOND);
    let token = process.mint(&mut desk).unwrap();
    assert_ne!(token.access_token(), refused.access_token());
    assert!(desk.did.contains(&"http"));
}

#[test]
fn after_two_uses_without_an_end_it_rests_and_is_tried_on() {
    let (mut desk, source) = late();
    for _ in 0..2 {
        desk.world.server().fail(Place::Token, Fault::DropBefore);
        assert!(Process::of(&source).mint(&mut desk).unwrap_err().is_uncertain());
    }
    let there = desk.record(source.key());
    let error = Process::of(&source).mint(&mut desk).unwrap_err();
    assert!(!error.ends_grant() && error.retry_after().is_some_and(|time| time >= 29 * SECOND), "{error:?}");
    assert_eq!((desk.did.clone(), sent(&mut desk).len()), (vec!["load", "lease", "load", "release"], 2));
    assert_eq!(desk.record(source.key()), there);
    // A person signs in, and it is as new.
    let token = signed_in(&mut desk.world, "read");
    desk.run(SaveGrant::new(source.key().clone(), Want::access_token("read"), &token)).unwrap();
    desk.world.pass(3600 * SECOND);
    Process::of(&source).mint(&mut desk).unwrap();
}

#[test]
fn a_failure_that_is_certain_takes_the_intent_back_and_costs_no_attempt() {
    let faults: [fn(&mut Desk); 3] = [
        |desk| desk.world.server().fail(Place::Token, Fault::status(400, r#"{"error":"invalid_client"}"#)),
        |desk| desk.world.server().fail(Place::Token, Fault::status(403, "")),
        |desk| (0..4).for_each(|_| desk.world.fail(Failure::not_sent(FailureKind::Connect, "refused"))),
    ];
    for (nth, fault) in faults.into_iter().enumerate() {
        let (mut desk, source) = late();
        for _ in 0..4 {
            fault(&mut desk);
            let error = Process::of(&source).mint(&mut desk).unwrap_err();
            assert!(!error.is_uncertain(), "{nth}: {error:?}");
            assert_eq!(intent(&desk, &source), None, "{nth}");
        }
        // Not even of a recovery.
        desk.world.server().fail(Place::Token, Fault::DropBefore);
        Process::of(&source).mint(&mut desk).unwrap_err();
        for _ in 0..3 {
            fault(&mut desk);
            desk.world.pass(30 * SECOND);
            Process::of(&source).mint(&mut desk).unwrap_err();
            let (attempts, deadline) = intent(&desk, &source).unwrap();
            assert_eq!(attempts, 1, "{nth}");
            assert!(deadline <= millis(desk.world.now.wall), "{nth}: nobody waits for what has not happened");
        }
        Process::of(&source).mint(&mut desk).unwrap();
    }
}

#[test]
fn a_request_that_cannot_even_be_made_costs_no_attempt() {
    let (mut desk, source) = late();
    let unknown = ServerMetadata::new(desk.world.server().metadata().issuer().clone());
    let broken = SharedGrant::new(source.key().clone(), unknown, &client());
    for _ in 0..3 {
        let error = Process::of(&broken).mint(&mut desk).unwrap_err();
        assert_eq!((error.kind(), intent(&desk, &source)), (ErrorKind::Config, None), "{error}");
    }
    Process::of(&source).mint(&mut desk).unwrap();
}

#[test]
fn an_intent_that_was_written_although_the_store_failed_is_taken_back() {
    for uses in [0, 1] {
        let (mut desk, source) = late();
        for _ in 0..uses {
            desk.world.server().fail(Place::Token, Fault::DropBefore);
            Process::of(&source).mint(&mut desk).unwrap_err();
        }
        for _ in 0..3 {
            desk.trip("save", Trip::Lose);
            let error = Process::of(&source).mint(&mut desk).unwrap_err();
            assert!(error.kind() == ErrorKind::Store && sent(&mut desk).len() == uses, "{uses}: {error}");
            // What an earlier use left behind stays.
            assert_eq!(intent(&desk, &source).map_or(0, |intent| intent.0), uses as u64);
            desk.world.pass(60 * SECOND);
        }
        Process::of(&source).mint(&mut desk).unwrap();
    }
}

#[test]
fn what_somebody_wrote_after_the_store_had_failed_is_not_taken_for_an_intent() {
    let (mut desk, source) = late();
    let (key, newer) = (source.key().clone(), signed_in(&mut desk.world, "read"));
    let theirs = newer.clone();
    desk.trip("save", Trip::Fail);
    (0..2).for_each(|_| desk.trip("load", Trip::Pass));
    desk.before("load", move |desk| {
        desk.edit(&key, |record| record["refresh_token"] = theirs.refresh_token().unwrap().expose().into());
    });
    Process::of(&source).mint(&mut desk).unwrap_err();
    assert_eq!(kept(&desk, &source), newer.refresh_token().unwrap().expose());
}

#[test]
fn a_holder_that_was_stopped_past_its_lease_sends_nothing_and_overwrites_nothing() {
    // Stopped before it sends: another one takes over, and what it got stays.
    let (mut desk, source) = late();
    desk.shelf.expiring = true;
    let mut other = Process::of(&source);
    desk.before("http", move |desk| {
        desk.world.pass(100 * SECOND);
        other.mint(desk).unwrap();
    });
    let error = Process::of(&source).mint(&mut desk).unwrap_err();
    assert!(error.kind() == ErrorKind::Timeout && !error.is_uncertain(), "{error:?}");
    assert_eq!((sent(&mut desk).len(), intent(&desk, &source)), (1, None));

    // Stopped before it saves: the same.
    let (mut desk, source) = late();
    desk.shelf.expiring = true;
    desk.world.server().settings.refresh_tokens = RefreshTokens::Rotate { grace: 600 * SECOND };
    let mut other = Process::of(&source);
    let shared = source.clone();
    desk.trip("save", Trip::Pass);
    desk.before("save", move |desk| {
        desk.world.pass(100 * SECOND);
        let theirs = other.mint(desk).unwrap();
        assert_eq!(kept(desk, &shared), theirs.refresh_token().unwrap().expose());
    });
    let mut process = Process::of(&source);
    let ours = process.mint(&mut desk).unwrap();
    assert_ne!(ours.refresh_token().unwrap().expose(), kept(&desk, &source));
    let token = process.mint(&mut desk).unwrap();
    assert_eq!(
        (desk.did.as_slice(), token.refresh_token().unwrap().expose()),
        (["load"].as_slice(), &*kept(&desk, &source))
    );
}

#[test]
fn a_store_that_fails_is_an_error_and_no_refresh_token_is_used() {
    for (nth, (word, trip)) in [("load", Trip::Fail), ("lease", Trip::Lose), ("save", Trip::Fail), ("save", Trip::Lose)]
        .into_iter()
        .enumerate()
    {
        let (mut desk, source) = late();
        desk.trip(word, trip);
        let error = Process::of(&source).mint(&mut desk).map(drop).unwrap_err();
        assert!(error.kind() == ErrorKind::Store && sent(&mut desk).is_empty(), "{nth}: {error}");
        desk.shelf.forget_leases();
        Process::of(&source).mint(&mut desk).unwrap();
    }
}

#[test]
fn clocks_that_differ_delay_nobody_for_longer_than_a_use_takes() {
    for expiring in [false, true] {
        for ahead in [3600, 30 * 86_400] {
            let (mut desk, source) = late();
            desk.shelf.expiring = expiring;
            let right = desk.world.now.wall;
            desk.world.now.wall = right + ahead * SECOND;
            desk.die_before(source.mint(&Want::access_token("read"), &source.first_state()), "http");
            desk.world.now.wall = right;
            let began = desk.world.now.mono;
            let mut process = Process::of(&source);
            // With whatever pauses the cell makes.
            let got = (0..10).any(|_| {
                let got = process.mint(&mut desk).is_ok();
                desk.world.pass(if got { Duration::ZERO } else { 10 * SECOND });
                got
            });
            let took = desk.world.now.mono - began;
            assert!(got && took <= 150 * SECOND, "{expiring}, {ahead} s: {took:?}");
        }
    }
}

#[test]
fn neither_the_machine_nor_what_it_leaves_shows_a_secret() {
    let (mut desk, source) = late();
    desk.trip("save", Trip::Pass);
    desk.trip("save", Trip::Fail);
    let mut process = Process::of(&source);
    let token = process.mint(&mut desk).unwrap();
    let shown = format!("{:?} {:?} {:?} {:?}", source, process.state, desk.shelf.peek(source.key()), token);
    assert!(!shown.contains("rt-") && !shown.contains("at-"), "{shown}");
}
