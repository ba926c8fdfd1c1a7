//! A credential in the place of a former one of the same stored grant: what that one knew, and what its last mint brings.

use std::sync::Arc;

use grantflow::source::{Grant, GrantStatus, Held, Mint, Minting as _, Outcome, Turn, Want};
use grantflow::{Error, Token};
use grantflow_tests::Fault;
use grantflow_tests::processes::{Desk, desk_with, kept, late, sent};
use grantflow_tests::server::{Place, RefreshTokens};

use super::SECOND;

fn begin(desk: &Desk, grant: &mut Grant<()>, held: Held) -> (Turn<()>, Mint) {
    let (_, mut turn) = grant.begin(()).expect("nobody else has the turn").split();
    let mint = grant.mint(&mut turn, &Want::access_token("read"), desk.world.now, held).unwrap();
    (turn, mint)
}

fn end(desk: &mut Desk, grant: &mut Grant<()>, (turn, mut mint): (Turn<()>, Mint)) -> Result<Token, Error> {
    let mut result = desk.run(&mut mint);
    assert!(grant.finish(turn, desk.world.now, mint.take_change(), Outcome::from(&mut result)).is_none());
    result
}

fn ask(desk: &mut Desk, grant: &mut Grant<()>, held: Held) -> Result<Token, Error> {
    let begun = begin(desk, grant, held);
    end(desk, grant, begun)
}

fn refuse(desk: &mut Desk) {
    desk.world.server().fail(Place::Token, Fault::status(400, r#"{"error":"invalid_grant"}"#));
}

#[test]
fn what_was_refused_is_not_sent_again_by_the_credential_that_takes_the_place_of_another() {
    let (mut desk, source) = late();
    desk.world.pass(10 * SECOND);
    let mut grant = Grant::new(Arc::new(source.clone()));
    refuse(&mut desk);
    ask(&mut desk, &mut grant, Held::Nothing).unwrap_err();
    grant.replace(Arc::new(source));
    let error = ask(&mut desk, &mut grant, Held::Nothing).unwrap_err();
    assert!(error.ends_grant() && sent(&mut desk).len() == 1, "{error}");
}

#[test]
fn what_the_store_has_lost_is_known_to_the_credential_that_takes_the_place_of_another() {
    for under_way in [false, true] {
        let (mut desk, source) = late();
        let (key, first) = (source.key().clone(), kept(&desk, &source));
        let old = desk.shelf.peek(&key).cloned();
        let mut grant = Grant::new(Arc::new(source.clone()));
        let begun = begin(&desk, &mut grant, Held::Nothing);
        if under_way {
            grant.replace(Arc::new(source.clone()));
        }
        end(&mut desk, &mut grant, begun).unwrap();
        if !under_way {
            grant.replace(Arc::new(source.clone()));
        }
        let second = kept(&desk, &source);
        desk.shelf.put(&key, desk.world.now.mono, old);
        desk.world.pass(3600 * SECOND);
        ask(&mut desk, &mut grant, Held::Nothing).unwrap();
        assert_eq!(sent(&mut desk), [first, second], "{under_way}");
    }
}

/// It read a higher version, before another copy of the store took over, which counts from less.
#[test]
fn what_a_former_turn_has_read_is_not_newer_for_its_version() {
    let (mut desk, source) = late();
    let (key, first) = (source.key().clone(), kept(&desk, &source));
    let old = desk.shelf.peek(&key).cloned();
    let mut grant = Grant::new(Arc::new(source.clone()));
    (0..5).for_each(|_| desk.edit(&key, |_| {}));
    let (turn, mut mint) = begin(&desk, &mut grant, Held::Nothing);
    desk.die_before(&mut mint, "lease");
    grant.replace(Arc::new(source.clone()));
    desk.shelf.put(&key, desk.world.now.mono, old.clone());
    ask(&mut desk, &mut grant, Held::Nothing).unwrap();
    let second = kept(&desk, &source);
    assert!(grant.finish(turn, desk.world.now, mint.take_change(), Outcome::Abandoned).is_none());
    // That copy loses the new refresh token in its turn.
    desk.shelf.put(&key, desk.world.now.mono, old);
    desk.world.pass(3600 * SECOND);
    ask(&mut desk, &mut grant, Held::Nothing).unwrap();
    assert_eq!(sent(&mut desk), [first, second]);
}

#[test]
fn a_refusal_that_a_former_turn_only_remembers_does_not_count_once_the_refresh_token_was_taken() {
    let (mut desk, source) = desk_with(|settings| settings.refresh_tokens = RefreshTokens::Stay);
    let mut grant = Grant::new(Arc::new(source.clone()));
    desk.world.pass(3400 * SECOND);
    refuse(&mut desk);
    ask(&mut desk, &mut grant, Held::Nothing).expect("the token that is good does");
    assert_eq!(grant.status(), GrantStatus::Refused { early: true });
    let former = begin(&desk, &mut grant, Held::Nothing);
    grant.replace(Arc::new(source));
    desk.world.pass(300 * SECOND);
    ask(&mut desk, &mut grant, Held::Nothing).unwrap();
    end(&mut desk, &mut grant, former).unwrap();
    assert_eq!(grant.status(), GrantStatus::Settled);
    // The next is asked for when it is due, and not only at the end of this one.
    desk.world.pass(3400 * SECOND);
    ask(&mut desk, &mut grant, Held::Nothing).unwrap();
    assert_eq!(sent(&mut desk).len(), 3);
}

#[test]
fn of_two_refusals_of_one_refresh_token_the_one_that_did_not_come_early_counts() {
    for (known, told) in [(false, false), (false, true), (true, false), (true, true)] {
        let (mut desk, source) = late();
        desk.edit(source.key(), |record| record["tokens"] = serde_json::json!({}));
        let mut grant = Grant::new(Arc::new(source.clone()));
        let good = desk.world.now + 60 * SECOND;
        let held = |early: bool| if early { Held::Until(good) } else { Held::Nothing };
        let former = begin(&desk, &mut grant, held(told));
        grant.replace(Arc::new(source));
        refuse(&mut desk);
        ask(&mut desk, &mut grant, held(known)).unwrap_err();
        assert_eq!(grant.status(), GrantStatus::Refused { early: known }, "{known} {told}");
        refuse(&mut desk);
        end(&mut desk, &mut grant, former).unwrap_err();
        assert_eq!(grant.status(), GrantStatus::Refused { early: known && told }, "{known} {told}");
        assert_eq!(sent(&mut desk).len(), 2, "{known} {told}");
    }
}
