//! The grant: the order of its mints, and what becomes of a refresh token whose answer was lost.

use std::sync::Arc;
use std::time::Duration;

use grantflow::cell::{Acquired, Ticket, TokenCell};
use grantflow::machine::FailureKind;
use grantflow::source::{
    Again, Change, Credential, Grant, GrantState, GrantStatus, Held, Mint, Minting, Outcome, TokenSource, Turn, Want,
};
use grantflow::{
    Advice, Cx, Error, ErrorKind, Failure, Issuer, Machine, Now, Reply, Rotation, Secret, ServerMetadata, Step, Token,
};
use grantflow_tests::server::{Alter, RefreshTokens};
use grantflow_tests::{Fault, Place, Server, World, demo};

use super::{HOUR, SECOND, secs};

/// A world with a person who has signed in, at a server that replaces refresh tokens.
pub(super) fn world() -> (World, Arc<dyn TokenSource>) {
    let rotate = RefreshTokens::Rotate { grace: 30 * SECOND };
    let mut world = World::with(Server::demo().with(|settings| settings.refresh_tokens = rotate));
    let token = demo::signed_in(&mut world, "read write");
    let credential = Credential::signed_in(world.server().metadata(), &demo::client(), &token).unwrap();
    (world, Arc::new(credential))
}

fn client_credentials(server: impl Into<grantflow::source::Server>) -> Arc<dyn TokenSource> {
    Arc::new(Credential::client_credentials(server, &demo::batch()))
}

/// What a turn gives to its want, with `still_valid`.
pub(super) fn mint(
    world: &mut World,
    grant: &Grant<u32>,
    turn: &mut Turn<()>,
    still_valid: bool,
) -> (Result<Token, Error>, Change) {
    match grant.mint(turn, &Want::access_token("read"), world.now, held(world.now, still_valid)) {
        Ok(mut mint) => (world.run(&mut mint), mint.take_change()),
        Err(error) => (Err(error), Change::default()),
    }
}

/// What a want holds that has a good token, or has none.
pub(super) fn held(now: Now, still_valid: bool) -> Held {
    if still_valid { Held::Until(now + HOUR) } else { Held::Nothing }
}

/// Takes a turn, mints and ends the turn.
pub(super) fn refresh(world: &mut World, grant: &mut Grant<u32>, still_valid: bool) -> Result<Token, Error> {
    let (_, mut turn) = grant.begin(0).expect("nobody else has the turn").split();
    let (mut result, change) = mint(world, grant, &mut turn, still_valid);
    assert!(grant.finish(turn, world.now, change, Outcome::from(&mut result)).is_none());
    result
}

fn jobs(turns: impl IntoIterator<Item = Option<Turn<u32>>>) -> Vec<Option<u32>> {
    turns.into_iter().map(|turn| turn.map(|turn| turn.job)).collect()
}

pub(super) fn refresh_token(grant: &Grant<u32>) -> String {
    grant.state().refresh_token().map(Secret::expose).unwrap_or_default().to_owned()
}

pub(super) const LOST: fn() -> Failure = || Failure::maybe_sent(FailureKind::Broken, "the connection broke");

#[test]
fn mints_that_may_change_the_grant_take_turns_in_the_order_in_which_they_came() {
    let (world, source) = world();
    let mut grant = Grant::new(source);
    let mut turn = grant.begin(0).unwrap();
    assert_eq!(jobs((1..10).map(|job| grant.begin(job))), [None; 9]);
    for next in 1..10 {
        assert!(grant.is_busy());
        let mut error = Error::new(ErrorKind::Timeout, "no answer");
        turn = grant.finish(turn.split().1, world.now, Change::default(), Outcome::Failed(&mut error)).unwrap();
        assert_eq!(turn.job, next);
    }
    let mut error = Error::new(ErrorKind::Timeout, "no answer");
    assert!(grant.finish(turn.split().1, world.now, Change::default(), Outcome::Failed(&mut error)).is_none());
    assert!(!grant.is_busy());
}

#[test]
fn only_what_may_change_a_grant_is_kept_apart() {
    let issuer = Issuer::new("https://as.example").unwrap();
    let known = ServerMetadata::new(issuer.clone()).token_endpoint("https://as.example/token").unwrap();
    let with = |server: ServerMetadata| -> Arc<dyn TokenSource> {
        Arc::new(Credential::refresh_token(server, &demo::client(), "rt"))
    };
    let habit = |rotation| known.clone().refresh_token_rotation(rotation);
    for (what, source, apart) in [
        ("client credentials", client_credentials(known.clone()), false),
        ("client credentials, to be discovered", client_credentials(issuer), false),
        ("a refresh token of unknown habit", with(known.clone()), true),
        ("a refresh token that is replaced", with(habit(Rotation::Rotates)), true),
        ("a refresh token that stays", with(habit(Rotation::Never)), false),
    ] {
        let mut grant = Grant::new(source);
        let turn = grant.begin(1);
        assert!(turn.is_some(), "{what}");
        assert_eq!((grant.begin(2).is_none(), grant.is_busy()), (apart, apart), "{what}");
    }
}

#[test]
fn two_wants_of_one_grant_never_send_the_same_refresh_token() {
    let (mut world, source) = world();
    let mut grant = Grant::new(source);
    let mut turn = grant.begin(0).unwrap();
    assert_eq!(jobs((1..5).map(|job| grant.begin(job))), [None; 4]);
    loop {
        let (job, mut this) = turn.split();
        let want = Want::access_token(if job % 2 == 0 { "read" } else { "write" });
        let mut mint = grant.mint(&mut this, &want, world.now, Held::Nothing).unwrap();
        let mut token = world.run(&mut mint).unwrap();
        assert_eq!(token.scopes(), &want.scopes());
        let next = grant.finish(this, world.now, mint.take_change(), Outcome::Minted(&mut token));
        // The new one is in the grant before anybody has the token.
        assert!(token.refresh_token().is_some_and(|new| new.matches(&refresh_token(&grant))));
        let Some(next) = next else { break };
        turn = next;
    }
    let sent = world.server().seen_at(Place::Token).into_iter().filter_map(|seen| seen.param("refresh_token"));
    let mut sent: Vec<_> = sent.collect();
    sent.sort_unstable();
    sent.dedup();
    assert_eq!(sent.len(), 5);
}

#[test]
fn nobody_waits_for_another_to_read_the_metadata() {
    let mut world = World::with(Server::demo());
    let mut grant = Grant::new(client_credentials(Issuer::new("https://as.example").unwrap()));
    let turns: Vec<_> = (0..20).map(|job| grant.begin(job).expect("a turn")).collect();
    for turn in turns {
        let (_, mut turn) = turn.split();
        let (mut result, change) = mint(&mut world, &grant, &mut turn, false);
        assert!(grant.finish(turn, world.now, change, Outcome::from(&mut result)).is_none());
        result.unwrap();
    }
    let seen = world.server().seen();
    assert_eq!(seen.len() - seen.iter().filter(|seen| seen.place == Place::Token).count(), 1);
}

#[test]
fn a_fixed_token_that_has_ended_calls_for_another_sign_in() {
    let mut world = World::with(Server::demo());
    let token = Token::bearer("fixed", world.now.wall, Some(world.now.wall + SECOND)).unwrap();
    let mut grant = Grant::new(Arc::new(Credential::fixed(token)));
    assert_eq!(refresh(&mut world, &mut grant, false).unwrap().access_token(), "fixed");
    world.pass(SECOND);
    assert_eq!(refresh(&mut world, &mut grant, false).unwrap_err().advice(), Some(Advice::SignInAgain));
}

#[test]
fn a_token_of_which_the_server_says_nothing_else_has_the_scopes_that_were_granted() {
    let (mut world, source) = world();
    let minted = world.run(source.mint(&Want::default(), &source.first_state())).unwrap();
    assert_eq!(minted.scopes().as_str(), "read write");
}

#[test]
fn a_lost_answer_is_followed_by_one_try_and_then_by_one_in_need() {
    // At once while the server's grace may be open; the server has acted, and forgives.
    let (mut world, source) = world();
    let mut grant = Grant::new(source.clone());
    let first = refresh_token(&grant);
    world.server().fail(Place::Token, Fault::DropAfter);
    assert!(refresh(&mut world, &mut grant, true).unwrap_err().is_uncertain());
    assert_eq!(refresh_token(&grant), first);
    world.pass(29 * SECOND);
    refresh(&mut world, &mut grant, true).unwrap();
    assert_ne!(refresh_token(&grant), first);

    // Later only when there is nothing to lose.
    let (mut world, source) = self::world();
    let mut grant = Grant::new(source);
    world.fail(LOST());
    assert!(refresh(&mut world, &mut grant, true).unwrap_err().is_uncertain());
    world.pass(31 * SECOND);
    let requests = world.sent().len();
    for _ in 0..10 {
        let error = refresh(&mut world, &mut grant, true).unwrap_err();
        assert_eq!((error.kind(), error.is_transient()), (ErrorKind::Timeout, true));
        world.pass(60 * SECOND);
    }
    assert_eq!(world.sent().len(), requests);
    refresh(&mut world, &mut grant, false).unwrap();

    // It worked, and nothing is held against it any more.
    assert_eq!(grant.status(), GrantStatus::Settled);
}

/// However often nobody knows what became of a refresh token, only its server ends the grant.
#[test]
fn unclear_answers_end_no_grant_and_are_followed_by_ever_longer_pauses() {
    let (mut world, source) = world();
    let mut grant = Grant::new(source);
    let kept = refresh_token(&grant);
    world.server().fail(Place::Token, Fault::status(502, ""));
    assert!(refresh(&mut world, &mut grant, true).unwrap_err().is_uncertain());
    let mut pauses = Vec::new();
    for nth in 0..12 {
        world.server().fail(Place::Token, Fault::status(502, ""));
        let error = refresh(&mut world, &mut grant, false).unwrap_err();
        assert!(error.is_uncertain() && !error.ends_grant(), "{nth}: {error:?}");
        // The person may be asked only after an hour and five uses.
        let since = pauses.iter().sum::<Duration>();
        let hopeless = nth >= 3 && since >= HOUR;
        assert_eq!(error.advice() == Some(Advice::SignInAgain), hopeless, "{nth}: {error:?}");
        let sent = world.sent().len();
        let told = refresh(&mut world, &mut grant, false).unwrap_err();
        let pause = told.retry_after().expect("how long it rests");
        assert!(!told.is_uncertain() && told.kind() == error.kind(), "{nth}: {told:?}");
        world.pass(pause - SECOND);
        refresh(&mut world, &mut grant, false).unwrap_err();
        assert_eq!(world.sent().len(), sent, "{nth}");
        world.pass(SECOND);
        pauses.push(pause);
    }
    assert!(pauses.is_sorted(), "{pauses:?}");
    assert!(pauses[0] >= 30 * SECOND && pauses[11] == 900 * SECOND, "{pauses:?}");
    assert!(matches!(grant.status(), GrantStatus::Unclear { tries: 13, used: false, .. }));
    assert_eq!(refresh_token(&grant), kept);
    refresh(&mut world, &mut grant, false).unwrap();
    assert_ne!(refresh_token(&grant), kept);
}

#[test]
fn a_wall_clock_that_is_set_back_does_not_keep_a_grant_from_being_tried() {
    let (mut world, source) = world();
    let mut grant = Grant::new(source);
    for _ in 0..2 {
        world.fail(LOST());
        refresh(&mut world, &mut grant, false).unwrap_err();
    }
    world.now.wall = world.now.wall - 24 * HOUR;
    world.now.mono += 60 * SECOND;
    refresh(&mut world, &mut grant, false).unwrap();
}

#[test]
fn a_refresh_token_that_was_surely_used_is_sent_once_more_in_the_grace_time_and_is_lost_then() {
    let (mut world, source) = world();
    let mut grant = Grant::new(Arc::new(Credential::refresh_token(
        demo_metadata().refresh_token_rotation(Rotation::Rotates),
        &demo::client(),
        source.first_state().refresh_token().unwrap().expose(),
    )));
    for _ in 0..2 {
        world.server().fail(Place::Token, Fault::html(200));
        assert!(refresh(&mut world, &mut grant, false).unwrap_err().is_uncertain());
    }
    let sent = world.sent().len();
    let error = refresh(&mut world, &mut grant, false).unwrap_err();
    assert!(!error.ends_grant() && error.retry_after().is_some(), "{error:?}");
    world.pass(30 * SECOND);
    for _ in 0..3 {
        let error = refresh(&mut world, &mut grant, false).unwrap_err();
        assert!(error.kind() == ErrorKind::GrantLost && error.ends_grant(), "{error:?}");
    }
    assert_eq!(world.sent().len(), sent);
}

#[test]
fn a_refusal_counts_for_all_wants_and_one_that_came_early_only_as_long_as_there_is_a_token() {
    let refuse = |world: &mut World| {
        let refusal = Fault::status(400, r#"{"error":"invalid_grant"}"#);
        world.server().fail(Place::Token, refusal);
    };
    let (mut world, source) = world();
    let mut grant = Grant::new(source.clone());
    refuse(&mut world);
    let error = refresh(&mut world, &mut grant, true).unwrap_err();
    let wait = error.retry_after().expect("it may be tried again");
    assert!(!error.ends_grant() && wait > HOUR && wait <= HOUR + 5 * SECOND, "{error:?}");
    let sent = world.sent().len();
    assert!(!refresh(&mut world, &mut grant, true).unwrap_err().ends_grant());
    assert_eq!(world.sent().len(), sent);
    refresh(&mut world, &mut grant, false).unwrap();

    refuse(&mut world);
    assert!(refresh(&mut world, &mut grant, false).unwrap_err().ends_grant());
    let sent = world.sent().len();
    for _ in 0..3 {
        assert!(refresh(&mut world, &mut grant, true).unwrap_err().ends_grant());
        world.pass(HOUR);
    }
    assert_eq!((world.sent().len(), grant.status()), (sent, GrantStatus::Refused { early: false }));
    // Another sign-in, and all is forgotten.
    let token = demo::signed_in(&mut world, "read");
    grant.replace(Arc::new(Credential::signed_in(demo_metadata(), &demo::client(), &token).unwrap()));
    refresh(&mut world, &mut grant, false).unwrap();
}

/// Another answer may have the same words, and is about something else.
#[test]
fn a_refusal_by_the_host_of_the_metadata_ends_no_grant() {
    let (mut world, source) = world();
    let token = source.first_state().refresh_token().unwrap().clone();
    let credential = Credential::refresh_token(demo_metadata().issuer().clone(), &demo::client(), token);
    let mut grant = Grant::new(Arc::new(credential));
    for place in [Place::OpenIdMetadata, Place::OAuthMetadata] {
        world.server().fail(place, Fault::status(400, r#"{"error":"invalid_grant"}"#));
    }
    let error = refresh(&mut world, &mut grant, false).unwrap_err();
    assert!(!error.ends_grant() && error.advice() != Some(Advice::SignInAgain), "{error:?}");
    world.pass(HOUR);
    refresh(&mut world, &mut grant, false).unwrap();
}

#[test]
fn a_server_that_never_replaces_refresh_tokens_is_known_after_some_refreshes_until_it_does() {
    let (mut world, _) = world();
    world.server().settings.refresh_tokens = RefreshTokens::Stay;
    let token = demo::signed_in(&mut world, "read write").refresh_token().unwrap().clone();
    let mut grant = Grant::new(Arc::new(Credential::refresh_token(demo_metadata(), &demo::client(), token)));
    for _ in 0..5 {
        assert_eq!(grant.state().rotation(), Rotation::Unknown);
        refresh(&mut world, &mut grant, false).unwrap();
    }
    assert_eq!(grant.state().rotation(), Rotation::Never);
    // Mints go side by side; one of which nobody knows the outcome is still no reason to send it on and on.
    let (first, second) = (grant.begin(1).unwrap(), grant.begin(2).unwrap());
    for turn in [first, second] {
        let (_, mut turn) = turn.split();
        world.server().fail(Place::Token, Fault::DropAfter);
        let (mut result, change) = mint(&mut world, &grant, &mut turn, true);
        let _ = grant.finish(turn, world.now, change, Outcome::from(&mut result));
    }
    assert!(matches!(grant.status(), GrantStatus::Unclear { .. }), "{:?}", grant.status());
    world.pass(40 * SECOND);
    refresh(&mut world, &mut grant, false).unwrap();
    world.server().settings.refresh_tokens = RefreshTokens::Rotate { grace: 30 * SECOND };
    refresh(&mut world, &mut grant, false).unwrap();
    assert_eq!(grant.state().rotation(), Rotation::Rotates);
}

#[test]
fn a_second_use_does_not_go_out_late_because_something_else_took_long() {
    let (mut world, source) = world();
    let mut grant = Grant::new(source);
    world.fail(LOST());
    refresh(&mut world, &mut grant, true).unwrap_err();
    world.pass(29 * SECOND);
    // It is in time, but there is no connection until it is not.
    let used = world.server().seen_at(Place::Token).len();
    world.fail_after(2 * SECOND, Failure::not_sent(FailureKind::Connect, "nobody answers"));
    assert!(!refresh(&mut world, &mut grant, true).unwrap_err().is_uncertain());
    assert_eq!(world.server().seen_at(Place::Token).len(), used);
    // That was no use: the recovery attempt is still there when it is needed, however late.
    world.fail_after(2 * SECOND, Failure::not_sent(FailureKind::Connect, "nobody answers"));
    refresh(&mut world, &mut grant, false).unwrap();
}

#[test]
fn only_what_may_have_used_up_the_refresh_token_counts() {
    type Go = fn(&mut World, &mut Grant<u32>);
    fn failing(world: &mut World, grant: &mut Grant<u32>, failure: Failure) {
        world.fail(failure.clone());
        (0..3).for_each(|_| world.fail(failure.clone()));
        refresh(world, grant, false).unwrap_err();
    }
    let ways: [(&str, Go, bool); 5] = [
        (
            "no connection",
            |world, grant| {
                failing(world, grant, Failure::not_sent(FailureKind::Connect, "nobody answers"));
            },
            false,
        ),
        (
            "a refusal",
            |world, grant| {
                world.server().fail(Place::Token, Fault::status(400, r#"{"error":"invalid_scope"}"#));
                refresh(world, grant, false).unwrap_err();
            },
            false,
        ),
        (
            "a gateway's error",
            |world, grant| {
                world.server().fail(Place::Token, Fault::status(502, ""));
                refresh(world, grant, false).unwrap_err();
            },
            true,
        ),
        (
            "an answer that cannot be read",
            |world, grant| {
                world.server().fail(Place::Token, Fault::html(200));
                refresh(world, grant, false).unwrap_err();
            },
            true,
        ),
        (
            "torn off",
            |world, grant| {
                let (_, mut turn) = grant.begin(0).unwrap().split();
                let mut mint = grant.mint(&mut turn, &Want::access_token("read"), world.now, Held::Nothing).unwrap();
                assert!(matches!(mint.resume(&mut Cx::without_entropy(world.now), Reply::Start), Step::Do(_)));
                let change = mint.take_change();
                assert!(grant.finish(turn, world.now, change, Outcome::Abandoned).is_none());
            },
            true,
        ),
    ];
    for (what, go, counts) in ways {
        let (mut world, source) = world();
        let mut grant = Grant::new(source);
        go(&mut world, &mut grant);
        go(&mut world, &mut grant);
        let tries = match grant.status() {
            GrantStatus::Unclear { tries, .. } => tries,
            _ => 0,
        };
        assert_eq!(tries, if counts { 2 } else { 0 }, "{what}");
        assert!(!grant.is_busy(), "{what}");
    }
}

#[test]
fn a_mint_that_cannot_change_the_grant_leaves_no_doubt_behind() {
    let stays = demo_metadata().refresh_token_rotation(Rotation::Never);
    let sources: [Arc<dyn TokenSource>; 2] =
        [client_credentials(demo_metadata()), Arc::new(Credential::refresh_token(stays, &demo::client(), "rt"))];
    for source in sources {
        let mut grant: Grant<u32> = Grant::new(source);
        for _ in 0..5 {
            let (_, mut turn) = grant.begin(0).unwrap().split();
            assert!(grant.mint(&mut turn, &Want::access_token("read"), secs(0), Held::Nothing).is_ok());
            assert!(grant.finish(turn, secs(0), Change::default(), Outcome::Abandoned).is_none());
        }
        let (_, mut turn) = grant.begin(0).unwrap().split();
        assert!(grant.mint(&mut turn, &Want::access_token("read"), secs(90), held(secs(90), true)).is_ok());
    }
}

pub(super) fn demo_metadata() -> ServerMetadata {
    Server::demo().metadata()
}

#[test]
fn a_habit_of_replacing_refresh_tokens_is_learned_and_kept() {
    let (mut world, _) = world();
    let first = world.sent().len();
    let token = demo::signed_in(&mut world, "read write");
    let old = token.refresh_token().unwrap().clone();
    let credential = Credential::refresh_token(demo_metadata(), &demo::client(), old.expose());
    let mut grant = Grant::new(Arc::new(credential));
    assert_eq!(grant.state().rotation(), Rotation::Unknown);
    refresh(&mut world, &mut grant, false).unwrap();
    assert_eq!(grant.state().rotation(), Rotation::Rotates);
    assert!(!old.matches(&refresh_token(&grant)) && world.sent().len() > first);
    // An answer without a refresh token leaves the one that is there.
    let kept = refresh_token(&grant);
    world.server().settings.alter_token = Alter::set("refresh_token", serde_json::Value::Null);
    refresh(&mut world, &mut grant, false).unwrap();
    assert_eq!(refresh_token(&grant), kept);
}

#[test]
fn a_replaced_credential_neither_waits_for_the_former_nor_learns_from_it() {
    type End = fn(&mut Grant<u32>, Turn<()>, Token, Change) -> Option<Turn<u32>>;
    let ends: [(&str, End); 3] = [
        ("minted", |grant, turn, mut token, change| grant.finish(turn, secs(0), change, Outcome::Minted(&mut token))),
        ("abandoned", |grant, turn, _, change| grant.finish(turn, secs(0), change, Outcome::Abandoned)),
        ("failed", |grant, turn, _, change| {
            let mut error = Error::new(ErrorKind::Transport, "no answer");
            grant.finish(turn, secs(0), change, Outcome::Failed(&mut error))
        }),
    ];
    for (what, end) in ends {
        let (mut world, source) = world();
        let mut grant = Grant::new(source);
        let (_, mut former) = grant.begin(1).unwrap().split();
        let (former_result, change) = mint(&mut world, &grant, &mut former, false);

        let token = demo::signed_in(&mut world, "read");
        let metadata = demo_metadata();
        grant.replace(Arc::new(Credential::signed_in(metadata, &demo::client(), &token).unwrap()));
        let new = token.refresh_token().unwrap();
        let error = grant.mint(&mut former, &Want::access_token("read"), world.now, Held::Nothing).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::Cancelled, "{what}");

        let current = grant.begin(2).expect("it waits for nobody");
        assert_eq!(jobs([grant.begin(3), grant.begin(4)]), [None, None], "{what}");
        // The former's end gives nobody a turn beside the current one, and changes nothing.
        assert!(end(&mut grant, former, former_result.unwrap(), change).is_none(), "{what}");
        assert!(grant.is_busy() && new.matches(&refresh_token(&grant)), "{what}");
        let (_, mut turn) = current.split();
        let (mut result, change) = mint(&mut world, &grant, &mut turn, false);
        let third = grant.finish(turn, world.now, change, Outcome::from(&mut result)).unwrap();
        assert_eq!(third.job, 3, "{what}: first come, first served");
        let mut error = Error::new(ErrorKind::Transport, "no answer");
        assert_eq!(
            jobs([grant.finish(third.split().1, world.now, Change::default(), Outcome::Failed(&mut error))]),
            [Some(4)],
            "{what}"
        );
    }
}

#[test]
fn debug_shows_no_refresh_token() {
    let (_, source) = world();
    let grant: Grant<u32> = Grant::new(source);
    assert!(!format!("{grant:?}").contains(&refresh_token(&grant)));
    assert!(Duration::ZERO < SECOND && !refresh_token(&grant).is_empty());
}

#[test]
fn the_token_of_a_sign_in_is_handed_out_once_to_a_want_that_is_for_just_that() {
    let mut world = World::with(Server::demo());
    let token = demo::signed_in(&mut world, "read write");
    let now = world.now;
    let credential = Credential::signed_in(world.server().metadata(), &demo::client(), &token).unwrap();
    let mut grant = Grant::<u32>::new(Arc::new(credential.clone()));
    for other in ["read", "read write more"].map(Want::access_token) {
        assert!(grant.take_first(&other, now).is_none(), "{other:?}");
    }
    assert!(grant.take_first(&Want::access_token("read write").subject("s"), now).is_none());
    let first = grant.take_first(&Want::access_token("write read"), now).unwrap();
    assert_eq!(first.access_token(), token.access_token());
    assert!(grant.take_first(&Want::default(), now).is_none(), "twice");
    // Another sign-in brings another; one that has ended is not handed out.
    grant.replace(Arc::new(credential));
    assert!(grant.take_first(&Want::default(), now + HOUR).is_none());
}

/// A source of one's own that cannot mint, and says when to try again.
struct Stubborn(Again);

impl TokenSource for Stubborn {
    fn mint(&self, _: &Want, _: &GrantState) -> Mint {
        Box::new(Refusing)
    }
    fn first_state(&self) -> GrantState {
        GrantState::new("a ticket")
    }
    fn may_change(&self, _: &GrantState) -> bool {
        true
    }
    fn again(&self, error: &Error) -> Again {
        assert_eq!(error.kind(), ErrorKind::Transport);
        self.0
    }
}

struct Refusing;

impl Machine for Refusing {
    type Output = Token;
    fn resume(&mut self, _: &mut Cx, _: Reply) -> Step<Token> {
        Step::Done(Err(Error::new(ErrorKind::Transport, "no")))
    }
}

impl Minting for Refusing {}

#[test]
fn a_source_says_what_is_final_and_the_cell_obeys() {
    for (again, in_a_minute, in_an_hour) in [
        (Again::Usual, "refresh", "refresh"),
        (Again::After(HOUR), "failed", "refresh"),
        (Again::Never, "failed", "failed"),
    ] {
        let mut grant = Grant::new(Arc::new(Stubborn(again)));
        let mut cell = TokenCell::new(1);
        let Acquired::Refresh(ticket) = cell.acquire(secs(0)) else { panic!() };
        let (_, mut turn) = grant.begin(0).unwrap().split();
        let mut mint = grant.mint(&mut turn, &Want::default(), secs(0), Held::Nothing).unwrap();
        let Step::Done(mut result) = mint.resume(&mut Cx::without_entropy(secs(0)), Reply::Start) else { panic!() };
        assert!(grant.finish(turn, secs(0), mint.take_change(), Outcome::from(&mut result)).is_none());
        assert_eq!(result.as_ref().is_err_and(Error::ends_grant), again == Again::Never);
        cell.settle(ticket, secs(0), result);
        for (after, then) in [(61, in_a_minute), (3600, in_an_hour)] {
            let acquired = cell.acquire(secs(after));
            assert_eq!(super::name(&acquired), then, "{again:?} after {after} s");
            if let Acquired::Refresh(ticket) = acquired {
                cell.abandon(ticket);
            }
        }
        // Another want of a grant that has ended asks nothing either.
        let (_, mut turn) = grant.begin(0).unwrap().split();
        let minted = grant.mint(&mut turn, &Want::access_token("x"), secs(1), Held::Nothing);
        assert_eq!(minted.is_err(), again == Again::Never);
    }
}

#[test]
fn a_turn_that_was_taken_back_is_one_of_unknown_outcome_and_what_it_still_brings_is_kept() {
    let (mut world, source) = world();
    let mut grant = Grant::new(source);
    assert!(grant.overtake(world.now).is_none(), "nobody has it");
    let (_, mut left) = grant.begin(0).unwrap().split();
    let mut mint = grant.mint(&mut left, &Want::access_token("read"), world.now, Held::Nothing).unwrap();
    assert_eq!(jobs([grant.begin(1), grant.begin(2)]), [None; 2]);
    let first = refresh_token(&grant);
    // It reaches the server, whose answer nobody reads for now.
    let mut late = world.run(&mut mint).unwrap();
    let (job, mut turn) = grant.overtake(world.now).expect("the next one's turn").split();
    assert_eq!((job, refresh_token(&grant)), (1, first));
    // The grant knows that a use is open: with a token that is good, it waits when the time of grace is over.
    let late_now = world.now + 31 * SECOND;
    let wait = grant.mint(&mut turn, &Want::default(), late_now, held(late_now, true)).err().map(|error| error.kind());
    assert_eq!(wait, Some(ErrorKind::Timeout));
    // Now the answer is read: the refresh token goes over the one that it was had with, and no turn ends with it.
    assert!(grant.finish(left, world.now, mint.take_change(), Outcome::Minted(&mut late)).is_none());
    assert!(late.refresh_token().is_some_and(|new| new.matches(&refresh_token(&grant))));
    let mut none = Error::new(ErrorKind::Cancelled, "nobody wants it");
    let next =
        grant.finish(turn, world.now, Change::default(), Outcome::Failed(&mut none)).expect("the last one's turn");
    assert!(grant.is_busy());
    let (result, change) = mint_with(&mut world, &grant, next);
    assert!(result.is_ok() && !change.is_empty());
}

fn mint_with(world: &mut World, grant: &Grant<u32>, turn: Turn<u32>) -> (Result<Token, Error>, Change) {
    mint(world, grant, &mut turn.split().1, false)
}

#[test]
fn who_was_refused_a_token_because_the_one_that_is_held_is_good_asks_again_when_that_is_rejected() {
    let (mut world, source) = world();
    let (mut grant, mut cell) = (Grant::new(source), TokenCell::new(1));
    let mut go = |world: &mut World, cell: &mut TokenCell, ticket: Ticket| {
        let (_, mut turn) = grant.begin(0).expect("nobody else has the turn").split();
        let mut mint = grant.mint(&mut turn, &Want::access_token("read"), world.now, cell.holds()).unwrap();
        let mut result = world.run(&mut mint);
        assert!(grant.finish(turn, world.now, mint.take_change(), Outcome::from(&mut result)).is_none());
        cell.settle(ticket, world.now, result);
    };
    let ticket = super::ticket(&mut cell, world.now);
    go(&mut world, &mut cell, ticket);
    // The person has taken the grant back, which looks as if the server refuses early refreshes.
    for _ in 0..2 {
        world.server().fail(Place::Token, Fault::status(400, r#"{"error":"invalid_grant"}"#));
    }
    let ticket = cell.force().unwrap();
    go(&mut world, &mut cell, ticket);
    assert!(!cell.error().unwrap().ends_grant());
    let Acquired::Fresh(held) = cell.acquire(world.now) else { panic!("{cell:?}") };
    // A resource server refuses the token too: nobody waits for its end.
    world.pass(SECOND);
    assert!(cell.reject(held.generation, world.now));
    let ticket = super::ticket(&mut cell, world.now);
    go(&mut world, &mut cell, ticket);
    assert!(cell.error().unwrap().ends_grant());
}
