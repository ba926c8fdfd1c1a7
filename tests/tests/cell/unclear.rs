//! What becomes of a refresh token whose use has no known end, in the cases that differ by one detail.

use std::sync::Arc;
use std::time::Duration;

use grantflow::machine::FailureKind;
use grantflow::source::{
    Change, Credential, Grant, GrantState, GrantStatus, Held, Mint, Minting, Outcome, TokenSource, Want,
};
use grantflow::{Advice, Cx, Effect, ErrorKind, Failure, Machine, Now, Reply, Rotation, Secret, Step, Token};
use grantflow_tests::server::RefreshTokens;
use grantflow_tests::{Fault, Place, World, demo};

use super::grant::{LOST, demo_metadata, mint, refresh, refresh_token, world};
use super::{HOUR, SECOND, secs};

/// A grant at a server that is known to have this habit with refresh tokens.
fn grant_of(rotation: Rotation) -> (World, Grant<u32>) {
    let (world, source) = world();
    let first = source.first_state().refresh_token().unwrap().clone();
    let server = demo_metadata().refresh_token_rotation(rotation);
    (world, Grant::new(Arc::new(Credential::refresh_token(server, &demo::client(), first))))
}

fn refuse(world: &mut World) {
    world.server().fail(Place::Token, Fault::status(400, r#"{"error":"invalid_grant"}"#));
}

/// Begins two turns that run beside one another, and mints with what each want holds.
fn side_by_side(world: &mut World, grant: &mut Grant<u32>, holds: [bool; 2], faults: [Fault; 2]) {
    let turns = [1, 2].map(|job| grant.begin(job).expect("nobody waits").split().1);
    let mut ended = Vec::new();
    for ((mut turn, still_valid), fault) in turns.into_iter().zip(holds).zip(faults) {
        world.server().fail(Place::Token, fault);
        let (result, change) = mint(world, grant, &mut turn, still_valid);
        ended.push((turn, result, change));
    }
    for (turn, mut result, change) in ended {
        assert!(grant.finish(turn, world.now, change, Outcome::from(&mut result)).is_none());
    }
}

#[test]
fn a_refresh_token_is_lost_when_the_grace_time_after_the_first_sure_use_is_over() {
    // A second sure use begins no other time of grace.
    let (mut world, mut grant) = grant_of(Rotation::Rotates);
    for _ in 0..2 {
        world.server().fail(Place::Token, Fault::html(200));
        refresh(&mut world, &mut grant, false).unwrap_err();
        world.pass(15 * SECOND);
    }
    assert_eq!(refresh(&mut world, &mut grant, false).unwrap_err().kind(), ErrorKind::GrantLost);

    // That the use before was none for sure does not matter.
    let (mut world, mut grant) = grant_of(Rotation::Rotates);
    for (fault, used) in [(Fault::status(502, ""), false), (Fault::html(200), true)] {
        world.server().fail(Place::Token, fault);
        refresh(&mut world, &mut grant, false).unwrap_err();
        assert!(matches!(grant.status(), GrantStatus::Unclear { used: it, .. } if it == used), "{:?}", grant.status());
    }
    world.pass(31 * SECOND);
    assert_eq!(refresh(&mut world, &mut grant, false).unwrap_err().kind(), ErrorKind::GrantLost);

    // Nor is it used up where nobody knows that the server replaces refresh tokens.
    let (mut world, mut grant) = grant_of(Rotation::Unknown);
    world.server().fail(Place::Token, Fault::html(200));
    refresh(&mut world, &mut grant, false).unwrap_err();
    assert!(matches!(grant.status(), GrantStatus::Unclear { used: false, .. }));
}

#[test]
fn one_that_was_surely_used_is_not_sent_when_the_grace_time_is_over_though_there_is_no_token() {
    let (mut world, mut grant) = grant_of(Rotation::Rotates);
    world.server().fail(Place::Token, Fault::html(200));
    refresh(&mut world, &mut grant, false).unwrap_err();
    world.pass(29 * SECOND);
    let used = world.server().seen_at(Place::Token).len();
    world.fail_after(2 * SECOND, Failure::not_sent(FailureKind::Connect, "nobody answers"));
    refresh(&mut world, &mut grant, false).unwrap_err();
    assert_eq!(world.server().seen_at(Place::Token).len(), used);
}

#[test]
fn a_pause_is_over_when_either_clock_says_so_and_an_hour_when_both_do() {
    type Pass = fn(&mut Now, Duration);
    let (wall, mono): (Pass, Pass) = (|now, time| now.wall = now.wall + time, |now, time| now.mono += time);
    for pass in [wall, mono] {
        let (mut world, mut grant) = grant_of(Rotation::Unknown);
        for nth in 0..8 {
            world.fail(LOST());
            let sent = world.sent().len();
            let error = refresh(&mut world, &mut grant, false).unwrap_err();
            assert_eq!(world.sent().len(), sent + 1, "{nth}: {error:?}");
            assert_ne!(error.advice(), Some(Advice::SignInAgain), "{nth}");
            pass(&mut world.now, 901 * SECOND);
        }
    }
}

#[test]
fn an_hour_without_five_uses_is_no_reason_to_sign_in_again() {
    let (mut world, mut grant) = grant_of(Rotation::Unknown);
    for _ in 0..3 {
        world.fail(LOST());
        assert_ne!(refresh(&mut world, &mut grant, false).unwrap_err().advice(), Some(Advice::SignInAgain));
        world.pass(2 * HOUR);
    }
}

#[test]
fn a_want_whose_token_has_ended_is_one_without() {
    let (mut world, mut grant) = grant_of(Rotation::Unknown);
    world.fail(LOST());
    refresh(&mut world, &mut grant, true).unwrap_err();
    world.pass(HOUR);
    let (_, mut turn) = grant.begin(0).unwrap().split();
    assert!(grant.mint(&mut turn, &Want::default(), world.now, Held::Until(world.now)).is_ok());
}

/// It has ended while the answer was on its way.
#[test]
fn a_refusal_came_early_if_the_token_was_good_when_the_refresh_began() {
    let (mut world, mut grant) = grant_of(Rotation::Unknown);
    let (_, mut turn) = grant.begin(0).unwrap().split();
    let begun = world.now;
    let mut mint = grant.mint(&mut turn, &Want::default(), begun, Held::Until(begun + SECOND)).unwrap();
    refuse(&mut world);
    let mut result = world.run(&mut mint);
    let late = world.now + 10 * SECOND;
    assert!(grant.finish(turn, late, mint.take_change(), Outcome::from(&mut result)).is_none());
    assert_eq!(grant.status(), GrantStatus::Refused { early: true });
    assert!(!result.unwrap_err().ends_grant());
}

#[test]
fn what_runs_beside_a_refused_mint_does_not_take_the_refusal_back() {
    let refusal = || Fault::status(400, r#"{"error":"invalid_grant"}"#);
    // With a good token it would be an early one.
    let (mut world, mut grant) = grant_of(Rotation::Never);
    side_by_side(&mut world, &mut grant, [false, true], [refusal(), refusal()]);
    assert_eq!(grant.status(), GrantStatus::Refused { early: false });
    // An unclear one: where a habit was learned, those run side by side too.
    let (mut world, mut grant) = grant_of(Rotation::Unknown);
    world.server().settings.refresh_tokens = RefreshTokens::Stay;
    for _ in 0..5 {
        refresh(&mut world, &mut grant, false).unwrap();
    }
    side_by_side(&mut world, &mut grant, [false, false], [refusal(), Fault::status(502, "")]);
    assert_eq!(grant.status(), GrantStatus::Refused { early: false });
}

#[test]
fn mints_follow_one_another_again_when_the_fate_of_a_refresh_token_that_stays_is_open() {
    let (mut world, mut grant) = grant_of(Rotation::Unknown);
    world.server().settings.refresh_tokens = RefreshTokens::Stay;
    for _ in 0..5 {
        refresh(&mut world, &mut grant, false).unwrap();
    }
    assert_eq!(grant.state().rotation(), Rotation::Never);
    world.fail(LOST());
    refresh(&mut world, &mut grant, false).unwrap_err();
    assert!(grant.begin(1).is_some() && grant.begin(2).is_none());
}

#[test]
fn no_habit_is_learned_of_a_credential_without_a_refresh_token() {
    let (mut world, _) = world();
    let mut grant = Grant::new(Arc::new(Credential::client_credentials(demo_metadata(), &demo::batch())));
    for _ in 0..9 {
        refresh(&mut world, &mut grant, false).unwrap();
    }
    assert_eq!(grant.state().rotation(), Rotation::Unknown);
}

/// A source of one's own, whose mints say nothing of what they sent.
struct Own;

impl Machine for Own {
    type Output = Token;
    fn resume(&mut self, _: &mut Cx, _: Reply) -> Step<Token> {
        Step::Do(Effect::Sleep(SECOND))
    }
}

impl Minting for Own {}

impl TokenSource for Own {
    fn mint(&self, _: &Want, _: &GrantState) -> Mint {
        Box::new(Own)
    }
    fn first_state(&self) -> GrantState {
        GrantState::new("first")
    }
    fn may_change(&self, _: &GrantState) -> bool {
        true
    }
}

#[test]
fn an_answer_with_a_successor_settles_the_grant_whatever_else_became_of_the_mint() {
    for given_up in [false, true] {
        let (mut world, mut grant) = grant_of(Rotation::Unknown);
        for change in [None, Some("new")] {
            let (_, mut turn) = grant.begin(0).unwrap().split();
            world.fail(LOST());
            let (result, _) = mint(&mut world, &grant, &mut turn, false);
            let mut error = result.unwrap_err();
            let outcome = if given_up { Outcome::Abandoned } else { Outcome::Failed(&mut error) };
            let used = grant.state().refresh_token().unwrap().clone();
            let change = change.map(|new| Change::successor(&used, new)).unwrap_or_default();
            let settles = !change.is_empty();
            assert!(grant.finish(turn, world.now, change, outcome).is_none());
            assert_eq!(grant.status() == GrantStatus::Settled, settles, "{:?}", grant.status());
        }
        assert_eq!(refresh_token(&grant), "new");
    }
}

#[test]
fn a_mint_that_is_given_up_before_it_sent_anything_leaves_no_doubt_behind() {
    let (_, source) = world();
    let token = source.first_state().refresh_token().unwrap().clone();
    let issuer = demo_metadata().issuer().clone();
    let credential = Credential::refresh_token(issuer, &demo::client(), token);
    let mut grant: Grant<u32> = Grant::new(Arc::new(credential));
    let (_, mut turn) = grant.begin(0).unwrap().split();
    let mut mint = grant.mint(&mut turn, &Want::default(), secs(0), Held::Nothing).unwrap();
    // It asks for the metadata.
    drop(mint.resume(&mut Cx::new(secs(0), [7; 32]), Reply::Start));
    assert!(grant.finish(turn, secs(1), mint.take_change(), Outcome::Abandoned).is_none());
    assert_eq!(grant.status(), GrantStatus::Settled);
}

#[test]
fn a_successor_goes_over_the_refresh_token_that_it_came_for_and_over_no_other() {
    let secret = |text: &str| Secret::from(text);
    let mut state = GrantState::new("first");
    let mut merge = |used: &str, new: &str| {
        state.merge(Change::successor(&secret(used), new));
        state.refresh_token().unwrap().expose().to_owned()
    };
    assert_eq!(merge("first", "second"), "second");
    assert_eq!(merge("another", "x"), "second");
    // Of two that came for the same one, the later request's holds.
    assert_eq!(merge("first", "third"), "third");
    assert!(Change::successor(&secret("same"), "same").is_empty());
    // A source may name its first one itself.
    let mut state = GrantState::default();
    state.merge(Change::successor(&secret("of its own"), "first"));
    assert!(state.refresh_token().unwrap().matches("first"));
}

#[test]
fn the_successor_of_an_earlier_use_does_not_go_over_that_of_a_later_one() {
    let (mut world, source) = world();
    let mut grant = Grant::<u32>::new(source);
    let (_, mut left) = grant.begin(0).unwrap().split();
    let mut earlier = grant.mint(&mut left, &Want::default(), world.now, Held::Nothing).unwrap();
    let mut late = world.run(&mut earlier).unwrap();
    assert!(grant.begin(1).is_none());
    world.pass(SECOND);
    let (_, mut turn) = grant.overtake(world.now).unwrap().split();
    // The server forgives the second use, and answers it anew.
    let (mut result, change) = mint(&mut world, &grant, &mut turn, false);
    assert!(grant.finish(turn, world.now, change, Outcome::from(&mut result)).is_none());
    let newest = refresh_token(&grant);
    assert!(!late.refresh_token().unwrap().matches(&newest));
    assert!(grant.finish(left, world.now, earlier.take_change(), Outcome::Minted(&mut late)).is_none());
    assert_eq!(refresh_token(&grant), newest);
}

#[test]
fn a_mint_that_does_not_say_whether_it_sent_anything_may_have_done_so() {
    let mut grant = Grant::<u32>::new(Arc::new(Own));
    let (_, mut turn) = grant.begin(0).unwrap().split();
    let mut mint = grant.mint(&mut turn, &Want::default(), secs(0), Held::Nothing).unwrap();
    assert!(grant.finish(turn, secs(0), mint.take_change(), Outcome::Abandoned).is_none());
    assert!(matches!(grant.status(), GrantStatus::Unclear { tries: 1, .. }), "{:?}", grant.status());
}
