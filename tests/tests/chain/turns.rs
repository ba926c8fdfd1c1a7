//! What becomes of the base of a chain whose turns are torn off, refused, begun anew, or run beside a save.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use grantflow::source::{
    Credential, ExchangedToken, Grant, GrantState, GrantStatus, Held, Mint, Minting, Outcome, Server as Known,
    TokenSource, Turn, Want,
};
use grantflow::store::SharedGrant;
use grantflow::{Cx, Error, ErrorKind, Machine, Reply, Step, Token};
use grantflow_tests::demo::{self, batch, client};
use grantflow_tests::processes::{Desk, Trip, kept, late};
use grantflow_tests::{Fault, Place};

use super::{Holder, asked, over_a_user, want, world};

/// A chain over a grant in a store that takes the intent of the next refresh, and not what comes of it.
fn over_a_full_store() -> (Desk, SharedGrant, ExchangedToken) {
    let (mut desk, shared) = late();
    let server = desk.world.server().metadata();
    let chain = ExchangedToken::new(shared.clone(), &server, &batch()).base_want(Want::access_token("read"));
    desk.trip("save", Trip::Pass);
    desk.trip("save", Trip::Fail);
    (desk, shared, chain)
}

/// Mints in this turn and ends it; returns the next one.
fn mint<J>(desk: &mut Desk, grant: &mut Grant<J>, mut turn: Turn<()>) -> Option<Turn<J>> {
    let mut mint = grant.mint(&mut turn, &want(0), desk.world.now, Held::Nothing).unwrap();
    let mut result = desk.run(&mut mint);
    let next = grant.finish(turn, desk.world.now, mint.take_change(), Outcome::from(&mut result));
    result.unwrap();
    next
}

fn save(desk: &mut Desk, grant: &mut Grant<()>) {
    let (turn, mut saving) = grant.save().expect("it is not saved");
    desk.run(&mut saving).unwrap();
    assert!(grant.finish(turn, desk.world.now, saving.take_change(), Outcome::Saved).is_none());
}

#[test]
fn what_the_base_got_is_not_lost_with_a_chain_that_is_torn_off_before_it_is_saved() {
    for depth in [1, 2] {
        let (mut desk, shared, mut chain) = over_a_full_store();
        if depth == 2 {
            let server = desk.world.server().metadata();
            chain = ExchangedToken::new(chain, &server, &batch()).base_want(want(0));
        }
        let mut grant = Grant::<()>::new(Arc::new(chain));
        let mut turn = grant.begin(()).unwrap();
        let mut torn = grant.mint(&mut turn, &want(1), desk.world.now, Held::Nothing).unwrap();
        let used = kept(&desk, &shared);
        desk.die_before(&mut torn, "release");
        assert!(grant.finish(turn, desk.world.now, torn.take_change(), Outcome::Abandoned).is_none());
        assert!(grant.state().save_error().is_some() && kept(&desk, &shared) == used, "{depth}");
        save(&mut desk, &mut grant);
        assert_ne!(kept(&desk, &shared), used, "{depth}");
        // It goes on with that.
        let turn = grant.begin(()).unwrap();
        assert!(mint(&mut desk, &mut grant, turn).is_none());
        assert_eq!(asked(&mut desk.world, "refresh_token"), 1, "{depth}");
    }
}

#[test]
fn a_chain_that_is_torn_off_leaves_a_doubt_only_if_its_base_has_sent_something() {
    for discovers in [true, false] {
        let mut world = world();
        let token = demo::signed_in(&mut world, "read write");
        let metadata = world.server().metadata();
        let server = if discovers { Known::from(metadata.issuer()) } else { Known::from(&metadata) };
        let base = Credential::refresh_token(server, &client(), token.refresh_token().unwrap().clone());
        let mut grant = Grant::<()>::new(Arc::new(ExchangedToken::new(base, &metadata, &batch())));
        let mut turn = grant.begin(()).unwrap();
        let mut torn = grant.mint(&mut turn, &want(0), world.now, Held::Nothing).unwrap();
        // It asks for the metadata, or shows the refresh token.
        assert!(matches!(torn.resume(&mut world.cx(), Reply::Start), Step::Do(_)));
        assert!(grant.finish(turn, world.now, torn.take_change(), Outcome::Abandoned).is_none());
        assert_eq!(grant.status() == GrantStatus::Settled, discovers, "{:?}", grant.status());
    }
}

#[test]
fn what_the_base_could_not_save_outlives_a_chain_that_is_replaced() {
    let (mut desk, shared, chain) = over_a_full_store();
    let mut grant = Grant::<()>::new(Arc::new(chain.clone()));
    let turn = grant.begin(()).unwrap();
    assert!(mint(&mut desk, &mut grant, turn).is_none());
    let used = kept(&desk, &shared);
    grant.replace(Arc::new(chain));
    assert!(grant.state().save_error().is_some());
    save(&mut desk, &mut grant);
    assert_ne!(kept(&desk, &shared), used);
}

#[test]
fn mints_with_a_good_token_of_the_base_do_not_wait_for_its_save() {
    let (mut desk, _, chain) = over_a_full_store();
    let mut grant = Grant::<u32>::new(Arc::new(chain));
    let (_, turn) = grant.begin(0).unwrap().split();
    assert!(grant.begin(1).is_none() && grant.begin(2).is_none());
    let first = mint(&mut desk, &mut grant, turn).expect("the next one's turn");
    let (saves, mut saving) = grant.save().expect("it is not saved");
    let waited = grant.next_turn().expect("one that waited for the first mint");
    let new = grant.begin(3).expect("one that comes now");
    for turn in [first, waited, new] {
        let (_, turn) = turn.split();
        assert!(!turn.is_exclusive() && mint(&mut desk, &mut grant, turn).is_none());
    }
    assert!(grant.is_busy());
    desk.run(&mut saving).unwrap();
    assert!(grant.finish(saves, desk.world.now, saving.take_change(), Outcome::Saved).is_none());
    assert!(grant.state().save_error().is_none() && !grant.is_busy());
    assert_eq!(asked(&mut desk.world, "refresh_token"), 1);
}

/// That token is of another grant than the one that has ended.
#[test]
fn the_refusal_of_a_base_is_final_though_the_want_of_the_chain_holds_a_good_token() {
    let mut world = world();
    let source = over_a_user(&mut world);
    let mut grant = Grant::<()>::new(Arc::new(source));
    let mut turn = grant.begin(()).unwrap();
    let held = Held::Until(world.now + Duration::from_secs(3600));
    let mut mint = grant.mint(&mut turn, &want(0), world.now, held).unwrap();
    world.server().fail(Place::Token, Fault::status(400, r#"{"error":"invalid_grant"}"#));
    let mut result = world.run(&mut mint);
    assert!(grant.finish(turn, world.now, mint.take_change(), Outcome::from(&mut result)).is_none());
    let error = result.unwrap_err();
    assert!(error.ends_grant() && error.retry_after().is_none(), "{error:?}");
    assert_eq!(grant.status(), GrantStatus::Refused { early: false });
}

#[test]
fn after_a_refusal_of_the_bases_token_the_very_next_turn_replaces_it() {
    let mut world = world();
    let source = over_a_user(&mut world);
    let mut holder = Holder::new(source);
    holder.token(&mut world, &want(0)).unwrap();
    world.server().end_access_tokens();
    let (result, again) = holder.once(&mut world, &want(0));
    assert!(result.is_err() && again);
    let (result, again) = holder.once(&mut world, &want(0));
    assert!(!again, "{result:?}");
    result.unwrap();
}

/// A source whose mints always ask for a turn of their own.
struct Waiting(Arc<AtomicU32>);

impl TokenSource for Waiting {
    fn mint(&self, _: &Want, _: &GrantState) -> Mint {
        assert!(self.0.fetch_add(1, Ordering::Relaxed) < 100, "it does not end");
        Box::new(Waits)
    }
}

struct Waits;

impl Machine for Waits {
    type Output = Token;
    fn resume(&mut self, _: &mut Cx, _: Reply) -> Step<Token> {
        Step::Done(Err(Error::new(ErrorKind::Timeout, "not beside others")))
    }
}

impl Minting for Waits {
    fn must_wait(&self) -> bool {
        true
    }
}

#[test]
fn a_base_that_always_asks_for_a_turn_of_its_own_begins_anew_three_times_and_no_more() {
    let mut world = world();
    let mints = Arc::<AtomicU32>::default();
    let server = world.server().metadata();
    let source = ExchangedToken::new(Waiting(mints.clone()), &server, &batch());
    let error = world.run(source.mint(&want(0), &source.first_state())).unwrap_err();
    assert_eq!((error.kind(), mints.load(Ordering::Relaxed)), (ErrorKind::Timeout, 1 + 3));
}
