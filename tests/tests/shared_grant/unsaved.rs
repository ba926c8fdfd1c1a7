//! A grant in a store that does not take what a refresh or a sign-in brought: it is used, and saved later.

use std::sync::Arc;
use std::time::Duration;

use grantflow::machine::FailureKind;
use grantflow::source::{Change, Grant, Held, Outcome, Want};
use grantflow::store::{DeleteGrant, RecordKey, SaveGrant, SharedGrant, Stored};
use grantflow::{Error, ErrorKind, Failure};
use grantflow_tests::Fault;
use grantflow_tests::demo::{client, signed_in};
use grantflow_tests::processes::{Desk, Process, Trip, desk_with, intent, kept, late, sent};
use grantflow_tests::server::{Alter, Place, RefreshTokens};

use super::SECOND;

#[test]
fn a_save_that_fails_costs_nobody_their_token_and_is_tried_again() {
    let (mut desk, source) = late();
    let mut process = Process::of(&source);
    desk.trip("save", Trip::Pass);
    desk.trip("save", Trip::Fail);
    let token = process.mint(&mut desk).unwrap();
    let error = process.state.save_error().expect("it is on the status").clone();
    assert!(error.kind() == ErrorKind::Store && error.to_string().contains("no space left"), "{error}");
    let unsaved = token.refresh_token().unwrap().expose().to_owned();
    assert!(kept(&desk, &source) != unsaved && intent(&desk, &source).is_some());

    desk.world.pass(10 * SECOND);
    desk.trip("save", Trip::Fail);
    let again = process.mint(&mut desk).unwrap();
    assert_eq!(desk.did, ["lease", "load", "save", "release"]);
    assert_eq!(again.access_token(), token.access_token());
    assert!(process.state.save_error().is_some());

    desk.world.pass(10 * SECOND);
    let again = process.mint(&mut desk).unwrap();
    assert_eq!(desk.did, ["lease", "load", "save", "load", "release"]);
    assert!(process.state.save_error().is_none() && again.refresh_after().is_none());
    assert_eq!((again.access_token(), kept(&desk, &source)), (token.access_token(), unsaved));
    assert!(intent(&desk, &source).is_none() && sent(&mut desk).len() == 1);
}

/// Nobody need ask for a token: its holder saves when it is due, and once more before it ends.
#[test]
fn what_could_not_be_saved_is_saved_without_a_mint_and_ever_more_seldom_tried() {
    let (mut desk, source) = late();
    let mut grant: Grant<()> = Grant::new(Arc::new(source.clone()));
    assert!(grant.save().is_none() && grant.save_due(desk.world.now).is_none());
    let (_, mut turn) = grant.begin(()).unwrap().split();
    let mut mint = grant.mint(&mut turn, &Want::access_token("read"), desk.world.now, Held::Nothing).unwrap();
    assert!(grant.save().is_none(), "a mint under way does it");
    desk.trip("save", Trip::Pass);
    desk.trip("save", Trip::Fail);
    let mut token = desk.run(&mut mint).unwrap();
    assert!(grant.finish(turn, desk.world.now, mint.take_change(), Outcome::Minted(&mut token)).is_none());
    let new = token.refresh_token().unwrap().expose().to_owned();
    assert_ne!(kept(&desk, &source), new);
    let before = sent(&mut desk).len();
    for pause in [5, 10, 20, 40, 80, 160, 300, 300] {
        assert_eq!(grant.save_due(desk.world.now), Some(pause * SECOND));
        desk.world.pass(pause * SECOND);
        assert_eq!(grant.save_due(desk.world.now), Some(Duration::ZERO));
        let (turn, mut saving) = grant.save().unwrap();
        assert!(grant.is_busy() && grant.begin(()).is_none() && grant.save_due(desk.world.now).is_none());
        desk.trip("save", Trip::Fail);
        desk.run(&mut saving).unwrap_err();
        let next = grant.finish(turn, desk.world.now, saving.take_change(), Outcome::Saved).expect("who waited");
        let error = &mut Error::new(ErrorKind::Cancelled, "nobody wants it");
        assert!(grant.finish(next.split().1, desk.world.now, Change::default(), Outcome::Failed(error)).is_none());
        assert!(grant.state().save_error().is_some());
    }
    // There is room for what cannot be had again.
    let (turn, mut saving) = grant.save().unwrap();
    desk.trip("save", Trip::TooLarge);
    desk.run(&mut saving).unwrap();
    assert!(grant.finish(turn, desk.world.now, saving.take_change(), Outcome::Saved).is_none());
    assert!(grant.state().save_error().is_none() && grant.save_due(desk.world.now).is_none());
    assert_eq!((kept(&desk, &source), sent(&mut desk).len()), (new, before));
    assert!(desk.record(source.key())["tokens"].as_object().unwrap().is_empty());
}

/// A store that is full when a person signs in costs nobody what they granted.
#[test]
fn a_sign_in_that_cannot_be_saved_is_used_from_memory_and_saved_later() {
    for there in [true, false] {
        let (mut desk, source) = late();
        let token = signed_in(&mut desk.world, "read");
        let (key, want) = (source.key().clone(), Want::access_token("read"));
        let version = desk.version(&key);
        if !there {
            desk.run(DeleteGrant::new(key.clone())).unwrap();
        }
        desk.trip("save", Trip::Fail);
        let error = desk.run(SaveGrant::new(key.clone(), want.clone(), &token)).unwrap_err();
        let metadata = desk.world.server().metadata();
        let source = SharedGrant::signed_in(key, metadata, &client(), &want, &token, error).unwrap();
        let mut grant: Grant<()> = Grant::new(Arc::new(source.clone()));
        assert!(grant.state().save_error().is_some(), "{there}");
        let first = grant.take_first(&Want::default(), desk.world.now).unwrap();
        assert_eq!(first.access_token(), token.access_token(), "{there}");
        let (turn, mut saving) = grant.save().unwrap();
        desk.run(&mut saving).unwrap();
        assert!(grant.finish(turn, desk.world.now, saving.take_change(), Outcome::Saved).is_none());
        assert!(grant.state().save_error().is_none(), "{there}");
        assert_eq!(kept(&desk, &source), token.refresh_token().unwrap().expose(), "{there}");
        assert!(desk.version(source.key()) > version, "{there}: none comes twice");
        desk.world.pass(3600 * SECOND);
        Process::of(&source).mint(&mut desk).unwrap();
    }
}

#[test]
fn an_access_token_that_is_too_large_for_the_record_leaves_room_for_the_refresh_token() {
    let (mut desk, source) = late();
    let large = "x".repeat(20 * 1024);
    desk.world.server().settings.alter_token = Alter::set("access_token", large.into());
    let token = Process::of(&source).mint(&mut desk).unwrap();
    assert_eq!(kept(&desk, &source), token.refresh_token().unwrap().expose());
    assert!(desk.record(source.key()).to_string().len() < 16 * 1024);
}

#[test]
fn a_save_whose_answer_is_lost_counts_as_failed_until_it_is_seen() {
    let (mut desk, source) = late();
    let mut process = Process::of(&source);
    desk.trip("save", Trip::Pass);
    desk.trip("save", Trip::Lose);
    let token = process.mint(&mut desk).unwrap();
    assert!(process.state.save_error().is_some());
    let again = process.mint(&mut desk).unwrap();
    assert_eq!(desk.did, ["lease", "load", "release"], "it is there, and not saved again");
    assert!(process.state.save_error().is_none() && again.access_token() == token.access_token());
}

#[test]
fn what_could_not_be_saved_goes_over_what_others_wrote_about_the_refresh_token_that_it_replaced() {
    // Another process has the old refresh token only. It cannot be told, and says so in the record.
    let failures: [fn(&mut Desk); 2] = [
        |desk| desk.world.server().fail(Place::Token, Fault::DropBefore),
        |desk| desk.world.fail(Failure::not_sent(FailureKind::Tls, "no")),
    ];
    for (nth, failure) in failures.into_iter().enumerate() {
        let (mut desk, source) = late();
        let mut process = Process::of(&source);
        desk.trip("save", Trip::Pass);
        desk.trip("save", Trip::Fail);
        let token = process.mint(&mut desk).unwrap();
        let used = kept(&desk, &source);
        desk.world.pass(60 * SECOND);
        failure(&mut desk);
        let version = desk.version(source.key());
        Process::of(&source).mint(&mut desk).unwrap_err();
        assert!(desk.version(source.key()) > version && kept(&desk, &source) == used, "{nth}");

        let again = process.mint(&mut desk).unwrap();
        assert_eq!(again.access_token(), token.access_token(), "{nth}");
        assert_eq!(kept(&desk, &source), token.refresh_token().unwrap().expose(), "{nth}");
        assert!(intent(&desk, &source).is_none() && process.state.save_error().is_none(), "{nth}");
        let theirs = Process::of(&source).mint(&mut desk).unwrap();
        assert_eq!((theirs.access_token(), &*desk.did), (token.access_token(), ["load"].as_slice()), "{nth}");
    }
}

#[test]
fn what_could_not_be_saved_gives_way_where_refresh_tokens_stay() {
    let (mut desk, source) = desk_with(|settings| settings.refresh_tokens = RefreshTokens::Repeat);
    desk.world.pass(3600 * SECOND);
    let mut process = Process::of(&source);
    desk.trip("save", Trip::Pass);
    desk.trip("save", Trip::Fail);
    process.mint(&mut desk).unwrap();
    desk.world.pass(60 * SECOND);
    let newer = Process::of(&source).mint(&mut desk).unwrap();
    let token = process.mint(&mut desk).unwrap();
    assert_eq!((token.access_token(), &*desk.did), (newer.access_token(), ["lease", "load", "release"].as_slice()));
}

#[test]
fn what_could_not_be_saved_outlives_another_look_for_a_sign_in() {
    for before in [true, false] {
        let (mut desk, source) = late();
        let mut grant: Grant<()> = Grant::new(Arc::new(source.clone()));
        desk.trip("save", Trip::Pass);
        desk.trip("save", Trip::Fail);
        let (now, want) = (desk.world.now, Want::access_token("read"));
        let (_, mut turn) = grant.begin(()).unwrap().split();
        let mut mint = grant.mint(&mut turn, &want, now, Held::Nothing).unwrap();
        let mut token = desk.run(&mut mint).unwrap();
        if before {
            grant.replace(Arc::new(source.clone()));
        }
        assert!(grant.finish(turn, now, mint.take_change(), Outcome::Minted(&mut token)).is_none());
        if !before {
            grant.replace(Arc::new(source.clone()));
        }
        assert!(grant.state().save_error().is_some(), "{before}");
        // It is for this grant only.
        let key = RecordKey::new(desk.world.server().metadata().issuer(), &client(), "bob");
        let another = SharedGrant::new(key, desk.world.server().metadata(), &client());
        grant.replace(Arc::new(another));
        assert!(grant.state().save_error().is_none(), "{before}");
    }
}

#[test]
fn what_could_not_be_saved_is_not_given_up_for_what_a_former_turn_remembers() {
    let (mut desk, source) = late();
    let mut grant: Grant<()> = Grant::new(Arc::new(source.clone()));
    let (now, want) = (desk.world.now, Want::access_token("read"));
    let (_, mut former) = grant.begin(()).unwrap().split();
    let mut former_mint = grant.mint(&mut former, &want, now, Held::Nothing).unwrap();
    let mut first = desk.run(&mut former_mint).unwrap();
    grant.replace(Arc::new(source.clone()));
    let (_, mut turn) = grant.begin(()).unwrap().split();
    desk.world.pass(3600 * SECOND);
    desk.trip("save", Trip::Pass);
    desk.trip("save", Trip::Fail);
    let mut mint = grant.mint(&mut turn, &want, now, Held::Nothing).unwrap();
    let mut second = desk.run(&mut mint).unwrap();
    assert!(grant.finish(turn, now, mint.take_change(), Outcome::Minted(&mut second)).is_none());
    assert!(grant.finish(former, now, former_mint.take_change(), Outcome::Minted(&mut first)).is_none());
    assert!(grant.state().save_error().is_some());
}

#[test]
fn what_a_former_turn_could_not_save_is_not_given_up_for_what_one_remembers_that_began_without_it() {
    let (mut desk, source) = late();
    let mut grant: Grant<()> = Grant::new(Arc::new(source.clone()));
    let (now, want) = (desk.world.now, Want::access_token("read"));
    let (_, mut former) = grant.begin(()).unwrap().split();
    let mut former_mint = grant.mint(&mut former, &want, now, Held::Nothing).unwrap();
    desk.trip("save", Trip::Pass);
    desk.trip("save", Trip::Fail);
    let mut token = desk.run(&mut former_mint).unwrap();
    grant.replace(Arc::new(source.clone()));
    let (_, mut turn) = grant.begin(()).unwrap().split();
    let mut mint = grant.mint(&mut turn, &want, now, Held::Nothing).unwrap();
    desk.die_before(&mut mint, "lease");
    assert!(grant.finish(former, now, former_mint.take_change(), Outcome::Minted(&mut token)).is_none());
    assert!(grant.finish(turn, now, mint.take_change(), Outcome::Abandoned).is_none());
    assert!(grant.state().save_error().is_some());
    let (turn, mut saving) = grant.save().unwrap();
    desk.run(&mut saving).unwrap();
    assert!(grant.finish(turn, now, saving.take_change(), Outcome::Saved).is_none());
    assert_eq!(kept(&desk, &source), token.refresh_token().unwrap().expose());
}

#[test]
fn what_could_not_be_saved_is_saved_over_a_record_that_a_replica_shows_as_it_was() {
    let (mut desk, source) = late();
    let mut process = Process::of(&source);
    desk.trip("save", Trip::Pass);
    desk.trip("save", Trip::Fail);
    let token = process.mint(&mut desk).unwrap();
    desk.lag = 60 * SECOND;
    desk.before("save", |desk| desk.lag = Duration::ZERO);
    process.mint(&mut desk).unwrap();
    assert_eq!(desk.did, ["lease", "load", "save", "load", "save", "load", "release"]);
    assert_eq!(kept(&desk, &source), token.refresh_token().unwrap().expose());
}

/// It is of the same refresh token: only its version tells which is newer.
#[test]
fn what_could_not_be_saved_of_a_refresh_token_that_stays_is_not_given_up_for_what_a_replica_has_shown() {
    let (mut desk, source) = desk_with(|settings| settings.refresh_tokens = RefreshTokens::Stay);
    desk.world.pass(3600 * SECOND);
    let mut process = Process::of(&source);
    desk.trip("save", Trip::Pass);
    desk.trip("save", Trip::Fail);
    let token = process.mint(&mut desk).unwrap();
    desk.lag = 60 * SECOND;
    desk.before("save", |desk| desk.lag = Duration::ZERO);
    let again = process.mint(&mut desk).unwrap();
    assert_eq!(desk.did, ["lease", "load", "save", "load", "save", "load", "release"]);
    assert_eq!((again.access_token(), sent(&mut desk).len()), (token.access_token(), 1));
    assert!(intent(&desk, &source).is_none() && process.state.save_error().is_none());
}

#[test]
fn what_could_not_be_saved_does_not_come_back_to_a_store_where_somebody_has_signed_out() {
    let (mut desk, source) = late();
    let mut grant: Grant<()> = Grant::new(Arc::new(source.clone()));
    let (_, mut turn) = grant.begin(()).unwrap().split();
    let mut mint = grant.mint(&mut turn, &Want::access_token("read"), desk.world.now, Held::Nothing).unwrap();
    desk.trip("save", Trip::Pass);
    desk.trip("save", Trip::Fail);
    let mut token = desk.run(&mut mint).unwrap();
    assert!(grant.finish(turn, desk.world.now, mint.take_change(), Outcome::Minted(&mut token)).is_none());
    desk.run(DeleteGrant::new(source.key().clone())).unwrap();
    let (turn, mut saving) = grant.save().unwrap();
    desk.run(&mut saving).unwrap();
    assert!(grant.finish(turn, desk.world.now, saving.take_change(), Outcome::Saved).is_none());
    assert_eq!((desk.did.as_slice(), desk.shelf.peek(source.key()).is_none()), (["load"].as_slice(), true));
    assert!(grant.state().save_error().is_none());
}

/// The store has gone back, and another process has written what is newer under a version that was there before.
#[test]
fn what_could_not_be_saved_does_not_go_over_a_version_that_comes_a_second_time() {
    let (mut desk, source) = late();
    let mut grant: Grant<()> = Grant::new(Arc::new(source.clone()));
    let (_, mut turn) = grant.begin(()).unwrap().split();
    let mut mint = grant.mint(&mut turn, &Want::access_token("read"), desk.world.now, Held::Nothing).unwrap();
    let first = desk.moment().truth;
    desk.world.pass(SECOND);
    desk.trip("save", Trip::Pass);
    desk.trip("save", Trip::Fail);
    let mut token = desk.run(&mut mint).unwrap();
    assert!(grant.finish(turn, desk.world.now, mint.take_change(), Outcome::Minted(&mut token)).is_none());
    let there = desk.version(source.key());
    desk.world.pass(10 * SECOND);
    desk.shelf.fall_back(desk.moment().truth, first);
    desk.world.pass(10 * SECOND);
    desk.edit(source.key(), |record| {
        record["refresh_token"] = "what another got".into();
        record["generation"] = 5.into();
    });
    assert_eq!(desk.version(source.key()), there);
    desk.lag = 5 * SECOND;
    desk.before("save", |desk| desk.lag = Duration::ZERO);
    let (turn, mut saving) = grant.save().unwrap();
    desk.run(&mut saving).unwrap();
    assert!(grant.finish(turn, desk.world.now, saving.take_change(), Outcome::Saved).is_none());
    assert_eq!((&*kept(&desk, &source), desk.did.len()), ("what another got", 3), "{:?}", desk.did);
    assert!(grant.state().save_error().is_none());
}

#[test]
fn a_store_that_fails_between_two_tries_to_save_costs_nobody_the_result() {
    let (mut desk, source) = late();
    let mut process = Process::of(&source);
    let key = source.key().clone();
    desk.trip("save", Trip::Pass);
    desk.before("save", move |desk| desk.edit(&key, |record| record["remark"] = 1.into()));
    (0..2).for_each(|_| desk.trip("load", Trip::Pass));
    desk.trip("load", Trip::Fail);
    let token = process.mint(&mut desk).unwrap();
    assert_eq!(desk.did, ["load", "lease", "load", "save", "http", "save", "load", "release"]);
    assert!(process.state.save_error().is_some());
    process.mint(&mut desk).unwrap();
    assert_eq!((sent(&mut desk).len(), &*kept(&desk, &source)), (1, token.refresh_token().unwrap().expose()));
}

#[test]
fn a_record_that_keeps_changing_costs_nobody_what_could_not_be_saved() {
    let (mut desk, source) = late();
    let mut process = Process::of(&source);
    desk.trip("save", Trip::Pass);
    for nth in 0..33 {
        let key = source.key().clone();
        desk.before("save", move |desk| desk.edit(&key, |record| record["remark"] = nth.into()));
    }
    let token = process.mint(&mut desk).unwrap();
    assert!(process.state.save_error().is_some_and(|error| error.is_transient()));
    let again = process.mint(&mut desk).unwrap();
    assert_eq!(again.access_token(), token.access_token());
    assert_eq!((sent(&mut desk).len(), &*kept(&desk, &source)), (1, token.refresh_token().unwrap().expose()));
}

#[test]
fn to_be_asked_again_in_order_to_save_does_not_mean_that_a_token_was_refused() {
    let (mut desk, source) = late();
    let mut process = Process::of(&source);
    desk.trip("save", Trip::Pass);
    desk.trip("save", Trip::Lose);
    let token = process.mint(&mut desk).unwrap();
    // Another process has got another token since, and has the lease just now.
    let mut other = Process::of(&source);
    other.want = Want::access_token("write");
    other.mint(&mut desk).unwrap();
    let key = source.key().clone();
    desk.before("lease", move |desk| desk.lease(&key, 99));
    desk.before("sleep", |desk| desk.shelf.give_back(99));
    desk.world.pass(10 * SECOND);
    for _ in 0..2 {
        let again = process.mint(&mut desk).unwrap();
        assert_eq!(again.access_token(), token.access_token(), "{:?}", desk.did);
        assert!(!desk.did.contains(&"http"), "{:?}", desk.did);
        if again.refresh_after().is_none() {
            return;
        }
    }
    panic!("it goes on asking");
}

#[test]
fn what_could_not_be_saved_is_in_use_although_the_record_cannot_be_read_any_more() {
    let (mut desk, source) = late();
    let mut process = Process::of(&source);
    desk.trip("save", Trip::Pass);
    desk.trip("save", Trip::Fail);
    let token = process.mint(&mut desk).unwrap();
    let torn = Stored::new(desk.version(source.key()) + 1, b"torn".to_vec());
    desk.shelf.put(source.key(), desk.world.now.mono, Some(torn));
    let again = process.mint(&mut desk).unwrap();
    assert_eq!((again.access_token(), desk.did.contains(&"save")), (token.access_token(), false));
    assert_eq!(process.state.save_error().map(Error::kind), Some(ErrorKind::Store));
}

#[test]
fn a_new_sign_in_ends_the_wish_to_save_what_it_replaced_even_if_the_lease_cannot_be_had() {
    let (mut desk, source) = late();
    let mut process = Process::of(&source);
    desk.trip("save", Trip::Pass);
    desk.trip("save", Trip::Fail);
    process.mint(&mut desk).unwrap();
    let newer = signed_in(&mut desk.world, "read");
    desk.run(SaveGrant::new(source.key().clone(), Want::access_token("read"), &newer)).unwrap();
    desk.lease(source.key(), 99);
    let token = process.mint(&mut desk).unwrap();
    assert_eq!((token.access_token(), &*desk.did), (newer.access_token(), ["lease", "sleep", "load"].as_slice()));
    assert!(process.state.save_error().is_none() && token.refresh_after().is_none());
}

#[test]
fn the_token_of_a_new_sign_in_is_another_than_the_one_that_it_kept_from_being_saved() {
    let (mut desk, source) = late();
    let (key, newer) = (source.key().clone(), signed_in(&mut desk.world, "read"));
    let theirs = newer.clone();
    desk.trip("save", Trip::Pass);
    desk.before("save", move |desk| {
        desk.shelf.forget_leases();
        desk.run(SaveGrant::new(key, Want::access_token("read"), &theirs)).unwrap();
    });
    let mut process = Process::of(&source);
    assert_ne!(process.mint(&mut desk).unwrap().access_token(), newer.access_token());
    let token = process.mint(&mut desk).unwrap();
    assert_eq!((token.access_token(), &*desk.did), (newer.access_token(), ["load"].as_slice()));
}

#[test]
fn what_could_not_be_saved_never_overwrites_what_is_newer() {
    let spoils: [fn(&mut Desk, &SharedGrant); 2] = [
        |desk, source| {
            let token = signed_in(&mut desk.world, "read");
            desk.run(SaveGrant::new(source.key().clone(), Want::access_token("read"), &token)).unwrap();
        },
        |desk, source| desk.shelf.put(source.key(), desk.world.now.mono, None),
    ];
    for (nth, spoil) in spoils.into_iter().enumerate() {
        let (mut desk, source) = late();
        let mut process = Process::of(&source);
        desk.trip("save", Trip::Pass);
        desk.trip("save", Trip::Fail);
        process.mint(&mut desk).unwrap();
        spoil(&mut desk, &source);
        let there = (nth == 0).then(|| kept(&desk, &source));
        match (there, process.mint(&mut desk)) {
            (Some(there), Ok(token)) => assert_eq!(token.refresh_token().unwrap().expose(), there),
            (None, Err(error)) => assert_eq!(error.kind(), ErrorKind::NotSignedIn, "{error}"),
            (_, other) => panic!("{nth}: {other:?}"),
        }
        assert!(!desk.did.contains(&"save"), "{nth}: {:?}", desk.did);
    }
}
