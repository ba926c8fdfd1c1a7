//! Chains: one token of a base for all wants of what is made of it, in virtual time.

mod turns;
mod weeks;

use std::sync::Arc;
use std::time::Duration;

use grantflow::source::{
    AssertedToken, Base, Change, Credential, ExchangedToken, Grant, Held, Outcome, PlatformToken, TokenSource, Want,
};
use grantflow::{Advice, Error, ErrorKind, Secret, Token, token_type};
use grantflow_tests::canary::{hidden_in_debug, hidden_in_error};
use grantflow_tests::demo::{self, batch, client};
use grantflow_tests::processes::{Trip, kept, late};
use grantflow_tests::server::RefreshTokens;
use grantflow_tests::{Fault, Place, Server, World};

/// How often a token was asked for by this grant.
fn asked(world: &mut World, grant_type: &str) -> usize {
    let seen = world.server().seen_at(Place::Token);
    seen.iter().filter(|seen| seen.param("grant_type").is_some_and(|it| it.ends_with(grant_type))).count()
}

/// A server that replaces refresh tokens, and never takes one twice.
fn world() -> World {
    World::with(
        Server::demo().with(|settings| settings.refresh_tokens = RefreshTokens::Rotate { grace: Duration::ZERO }),
    )
}

fn over_a_user(world: &mut World) -> ExchangedToken {
    let token = demo::signed_in(world, "read write");
    let server = world.server().metadata();
    let base = Credential::refresh_token(&server, &client(), token.refresh_token().unwrap().clone());
    ExchangedToken::new(base, &server, &batch())
}

fn want(nth: usize) -> Want {
    Want::access_token("read").audience(if nth.is_multiple_of(2) { "orders" } else { "billing" })
}

/// What a holder does, one mint after another.
struct Holder(Grant<()>);

impl Holder {
    fn new(source: impl TokenSource + 'static) -> Self {
        Self(Grant::new(Arc::new(source)))
    }

    fn once(&mut self, world: &mut World, want: &Want) -> (Result<Token, Error>, bool) {
        let mut turn = self.0.begin(()).expect("nobody else");
        let mut mint = self.0.mint(&mut turn, want, world.now, Held::Nothing).expect("a mint");
        let mut result = world.run(&mut mint);
        let again = grantflow::source::Minting::must_wait(&mint);
        let change = grantflow::source::Minting::take_change(&mut mint);
        assert!(self.0.finish(turn, world.now, change, Outcome::from(&mut result)).is_none());
        (result, again)
    }

    fn token(&mut self, world: &mut World, want: &Want) -> Result<Token, Error> {
        loop {
            match self.once(world, want) {
                (Err(_), true) => {}
                (result, _) => return result,
            }
        }
    }
}

#[test]
fn one_token_of_the_base_serves_all_wants_until_it_comes_due() {
    let mut world = world();
    let source = over_a_user(&mut world);
    let mut holder = Holder::new(source);
    for nth in 0..10 {
        let token = holder.token(&mut world, &want(nth)).unwrap();
        assert_eq!(token.scopes().as_str(), "read");
    }
    assert_eq!((asked(&mut world, "refresh_token"), asked(&mut world, "token-exchange")), (1, 10));
    world.pass(Duration::from_secs(3400));
    for nth in 0..10 {
        holder.token(&mut world, &want(nth)).unwrap();
    }
    assert_eq!((asked(&mut world, "refresh_token"), asked(&mut world, "token-exchange")), (2, 20));
    assert!(holder.0.state().base().unwrap().refresh_token().is_some());
}

#[test]
fn a_mint_by_itself_gets_its_token_in_one_run() {
    let mut world = world();
    let source = over_a_user(&mut world);
    let token = world.run(source.mint(&want(0), &source.first_state())).unwrap();
    assert_eq!(token.issued_token_type(), Some(token_type::ACCESS_TOKEN));
}

#[test]
fn a_base_that_comes_with_a_token_begins_with_it() {
    let mut world = world();
    let token = demo::signed_in(&mut world, "read");
    let server = world.server().metadata();
    let base = Credential::signed_in(&server, &client(), &token).unwrap();
    let mut holder = Holder::new(ExchangedToken::new(base, &server, &batch()));
    holder.token(&mut world, &want(0)).unwrap();
    holder.token(&mut world, &want(1)).unwrap();
    assert_eq!((asked(&mut world, "refresh_token"), asked(&mut world, "token-exchange")), (0, 2));
}

#[test]
fn a_refused_token_of_the_base_is_dropped_once_and_the_caller_notices_nothing() {
    for answer in [
        None,
        Some(Fault::status(400, r#"{"error":"invalid_grant"}"#)),
        Some(Fault::status(400, r#"{"error":"invalid_token"}"#)),
        Some(Fault::status(401, "")),
    ] {
        let mut world = world();
        let source = over_a_user(&mut world);
        let mut holder = Holder::new(source);
        holder.token(&mut world, &want(0)).unwrap();
        match answer {
            Some(answer) => world.server().fail(Place::Token, answer),
            None => world.server().end_access_tokens(),
        }
        holder.token(&mut world, &want(1)).unwrap();
        assert_eq!((asked(&mut world, "refresh_token"), asked(&mut world, "token-exchange")), (2, 3));
        holder.token(&mut world, &want(0)).unwrap();
        assert_eq!(asked(&mut world, "refresh_token"), 2);
    }
}

#[test]
fn a_server_that_refuses_every_token_costs_the_base_two_and_no_more() {
    let mut world = world();
    let token = demo::signed_in(&mut world, "read");
    let server = world.server().metadata();
    let base = Credential::refresh_token(&server, &client(), token.refresh_token().unwrap().clone());
    let source = ExchangedToken::new(base, &server, &batch()).subject_token_type(token_type::SAML2);
    let mut holder = Holder::new(source);
    for _ in 0..50 {
        let error = holder.token(&mut world, &want(0)).unwrap_err();
        assert_eq!(error.server().unwrap().error(), "invalid_request");
        assert_ne!(error.advice(), Some(Advice::SignInAgain), "{error}");
        world.pass(Duration::from_secs(50));
    }
    assert_eq!(asked(&mut world, "refresh_token"), 2);
}

/// The assertions that the server was shown.
fn assertions(world: &mut World) -> Vec<String> {
    world.server().seen_at(Place::Token).iter().filter_map(|seen| seen.param("assertion")).collect()
}

#[test]
fn a_refused_token_that_the_base_gives_again_is_not_shown_again_by_the_same_mint() {
    const GOOD: &str = r#"{"access_token":"at-1","token_type":"Bearer","expires_in":3600}"#;
    let refusal = || Fault::status(400, r#"{"error":"invalid_grant"}"#);
    let mut world = world();
    let server = world.server().metadata();
    let fixed = Token::bearer("of-a-platform", world.now.wall, None).unwrap();
    let mut holder = Holder::new(AssertedToken::new(Credential::fixed(fixed), &server));
    for nth in 1..=3 {
        world.server().fail(Place::Token, refusal());
        let error = holder.token(&mut world, &Want::default()).unwrap_err();
        assert_eq!(error.server().unwrap().error(), "invalid_grant");
        assert_eq!(error.advice(), Some(Advice::FixConfiguration), "{error}");
        assert_eq!(assertions(&mut world).len(), nth);
    }
    // It may have been the server's fault, and counts as good again.
    for _ in 0..2 {
        world.server().fail(Place::Token, Fault::status(200, GOOD));
        holder.token(&mut world, &Want::default()).unwrap();
    }
    world.pass(Duration::from_secs(100));
    world.server().fail(Place::Token, refusal());
    assert!(holder.token(&mut world, &Want::default()).is_err());
    assert_eq!(assertions(&mut world).len(), 6);

    // One that has changed is shown at once.
    let mut world = self::world();
    let mut holder = Holder::new(AssertedToken::new(PlatformToken::file("/token"), &server));
    world.files.insert("/token".into(), "first".into());
    world.server().fail(Place::Token, Fault::status(200, GOOD));
    holder.token(&mut world, &Want::default()).unwrap();
    world.files.insert("/token".into(), "second".into());
    world.server().fail(Place::Token, refusal());
    world.server().fail(Place::Token, Fault::status(200, GOOD));
    holder.token(&mut world, &Want::default()).unwrap();
    assert_eq!(assertions(&mut world), ["first", "first", "second"]);
}

#[test]
fn a_client_that_the_server_does_not_know_says_nothing_of_the_bases_token() {
    let mut world = world();
    let source = over_a_user(&mut world);
    let mut holder = Holder::new(source);
    holder.token(&mut world, &want(0)).unwrap();
    world.server().fail(Place::Token, Fault::status(401, r#"{"error":"invalid_client"}"#));
    assert!(holder.token(&mut world, &want(0)).is_err());
    holder.token(&mut world, &want(0)).unwrap();
    assert_eq!(asked(&mut world, "refresh_token"), 1);
}

#[test]
fn a_base_that_has_come_to_its_end_ends_the_chain_and_is_not_asked_again() {
    let mut world = world();
    let source = over_a_user(&mut world);
    let mut holder = Holder::new(source);
    world.server().fail(Place::Token, Fault::status(400, r#"{"error":"invalid_grant"}"#));
    for _ in 0..3 {
        let error = holder.token(&mut world, &want(0)).unwrap_err();
        assert_eq!(error.advice(), Some(Advice::SignInAgain), "{error}");
        world.pass(Duration::from_secs(100));
    }
    assert_eq!((asked(&mut world, "refresh_token"), asked(&mut world, "token-exchange")), (1, 0));
}

#[test]
fn while_the_base_fails_its_old_token_does_as_long_as_it_is_good() {
    let mut world = world();
    let source = over_a_user(&mut world);
    let mut holder = Holder::new(source);
    holder.token(&mut world, &want(0)).unwrap();
    world.pass(Duration::from_secs(3400));
    world.server().fail(Place::Token, Fault::status(503, ""));
    holder.token(&mut world, &want(1)).unwrap();
    let tried = asked(&mut world, "refresh_token");
    holder.token(&mut world, &want(0)).unwrap();
    assert_eq!(asked(&mut world, "refresh_token"), tried, "the pause is kept");
}

#[test]
fn what_the_base_got_is_kept_whatever_becomes_of_the_rest() {
    let mut world = world();
    let source = over_a_user(&mut world);
    let mut grant = Grant::<()>::new(Arc::new(source));
    let mut turn = grant.begin(()).unwrap();
    let mut mint = grant.mint(&mut turn, &want(0), world.now, Held::Nothing).unwrap();
    // The base's answer is here, and the run is given up before that of the exchange.
    let mut reply = grantflow::Reply::Start;
    for _ in 0..2 {
        let mut cx = world.cx();
        let grantflow::Step::Do(effect) = grantflow::Machine::resume(&mut mint, &mut cx, reply) else { panic!() };
        reply = world.carry_out(effect);
    }
    assert!(grant.is_delicate());
    let change = grantflow::source::Minting::take_change(&mut mint);
    drop(mint);
    let _nobody_waits = grant.finish(turn, world.now, change, Outcome::Abandoned);
    let mut holder = Holder(grant);
    holder.token(&mut world, &want(0)).unwrap();
    assert_eq!(asked(&mut world, "refresh_token"), 1);
    world.pass(Duration::from_secs(3500));
    holder.token(&mut world, &want(0)).unwrap();
    assert_eq!(asked(&mut world, "refresh_token"), 2);
}

#[test]
fn a_chain_of_three_has_one_token_at_each_step() {
    let mut world = world();
    let middle = over_a_user(&mut world).base_want(Want::default());
    let server = world.server().metadata();
    let top = ExchangedToken::new(middle, &server, &batch()).base_want(Want::access_token("read").audience("billing"));
    let mut holder = Holder::new(top);
    for _ in 0..5 {
        holder.token(&mut world, &want(0)).unwrap();
    }
    assert_eq!((asked(&mut world, "refresh_token"), asked(&mut world, "token-exchange")), (1, 1 + 5));
    world.server().end_access_tokens();
    holder.token(&mut world, &want(0)).unwrap();
    let (base, exchanges) = (asked(&mut world, "refresh_token"), asked(&mut world, "token-exchange"));
    assert_eq!(base, 2, "each step drops its token, once");
    holder.token(&mut world, &want(0)).unwrap();
    assert_eq!((asked(&mut world, "refresh_token"), asked(&mut world, "token-exchange")), (base, exchanges + 1));
    let state = holder.0.state();
    assert!(state.base().unwrap().base().unwrap().refresh_token().is_some());
}

#[test]
fn a_base_in_a_store_is_used_once_for_all_processes_and_what_is_not_saved_is_told() {
    let (mut desk, shared) = late();
    let server = desk.world.server().metadata();
    let chain = || ExchangedToken::new(shared.clone(), &server, &batch()).base_want(Want::access_token("read"));
    let mut states = [chain().first_state(), chain().first_state()];
    for state in &mut states {
        for nth in 0..3 {
            let mut mint = chain().mint(&want(nth), state);
            desk.run(&mut mint).unwrap();
            state.merge(grantflow::source::Minting::take_change(&mut mint));
        }
        assert!(state.save_error().is_none());
    }
    assert_eq!((asked(&mut desk.world, "refresh_token"), asked(&mut desk.world, "token-exchange")), (1, 6));
    // The next one cannot be saved: it is in use all the same, and looked through.
    let (mut desk, shared) = late();
    let server = desk.world.server().metadata();
    let chain = ExchangedToken::new(shared, &server, &batch()).base_want(Want::access_token("read"));
    let mut state = chain.first_state();
    desk.trip("save", Trip::Pass);
    desk.trip("save", Trip::Fail);
    let mut mint = chain.mint(&want(0), &state);
    desk.run(&mut mint).unwrap();
    state.merge(grantflow::source::Minting::take_change(&mut mint));
    assert!(state.save_error().is_some() && state.base().unwrap().save_error().is_some());
}

#[test]
fn what_the_base_of_a_chain_could_not_save_is_saved_without_a_mint_however_far_down_it_is() {
    for depth in [1, 2] {
        let (mut desk, shared) = late();
        let server = desk.world.server().metadata();
        let mut chain = ExchangedToken::new(shared.clone(), &server, &batch()).base_want(Want::access_token("read"));
        if depth == 2 {
            chain = ExchangedToken::new(chain, &server, &batch()).base_want(want(0));
        }
        let mut grant: Grant<()> = Grant::new(Arc::new(chain));
        assert!(grant.save().is_none() && grant.save_due(desk.world.now).is_none());
        desk.trip("save", Trip::Pass);
        desk.trip("save", Trip::Fail);
        let mut turn = grant.begin(()).unwrap();
        let mut mint = grant.mint(&mut turn, &want(1), desk.world.now, Held::Nothing).unwrap();
        let mut result = desk.run(&mut mint);
        let change = grantflow::source::Minting::take_change(&mut mint);
        assert!(grant.finish(turn, desk.world.now, change, Outcome::from(&mut result)).is_none());
        let before = kept(&desk, &shared);
        assert!(grant.save_due(desk.world.now).is_some_and(|due| due <= Duration::from_secs(5)), "{depth}");
        for fails in [true, false] {
            if fails {
                desk.trip("save", Trip::Fail);
            }
            let (turn, mut saving) = grant.save().unwrap();
            assert_eq!(desk.run(&mut saving).is_err(), fails);
            assert!(grant.finish(turn, desk.world.now, saving.take_change(), Outcome::Saved).is_none());
            assert_eq!(
                (grant.state().save_error().is_some(), kept(&desk, &shared) == before),
                (fails, fails),
                "{depth}"
            );
        }
        assert!(grant.save().is_none() && grant.save_due(desk.world.now).is_none());
        assert_eq!(asked(&mut desk.world, "refresh_token"), 1);
    }
}

#[test]
fn a_late_answer_for_a_former_chain_of_the_same_grant_is_kept() {
    let mut world = world();
    let source = over_a_user(&mut world);
    let mut grant = Grant::<()>::new(Arc::new(source.clone()));
    let mut turn = grant.begin(()).unwrap();
    let mut mint = grant.mint(&mut turn, &want(0), world.now, Held::Nothing).unwrap();
    let mut result = world.run(&mut mint);
    grant.replace(Arc::new(source));
    let change = grantflow::source::Minting::take_change(&mut mint);
    let _nobody_waits = grant.finish(turn, world.now, change, Outcome::from(&mut result));
    Holder(grant).token(&mut world, &want(0)).unwrap();
    assert_eq!(asked(&mut world, "refresh_token"), 2);
}

#[test]
fn a_want_that_a_chain_has_no_use_for_costs_no_token_of_the_base() {
    let mut world = world();
    let source = over_a_user(&mut world);
    for want in [Want::id_token("a"), Want::default().subject("bob"), Want::default().account("bob")] {
        let error = world.run(source.mint(&want, &source.first_state())).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
    }
    assert_eq!(asked(&mut world, "refresh_token"), 0);
}

#[test]
fn neither_the_chain_nor_its_state_changes_and_errors_show_a_token() {
    let mut world = world();
    let server = world.server().metadata();
    let source =
        ExchangedToken::new(Credential::refresh_token(&server, &client(), "c4n4ry-refresh"), &server, &batch())
            .actor_token(Secret::from("c4n4ry-actor"), token_type::JWT);
    let secrets = ["c4n4ry-refresh", "c4n4ry-actor", "c4n4ry-access"];
    for _ in 0..2 {
        let words = r#"{"access_token":"c4n4ry-access","token_type":"Bearer","expires_in":3600}"#;
        world.server().fail(Place::Token, Fault::status(200, words));
        let words = r#"{"error":"invalid_request","error_description":"c4n4ry-access of c4n4ry-actor is bad"}"#;
        world.server().fail(Place::Token, Fault::status(400, words));
    }
    let state = source.first_state();
    let mut mint = source.mint(&want(0), &state);
    let error = world.run(&mut mint).unwrap_err();
    let change: Change = grantflow::source::Minting::take_change(&mut mint);
    hidden_in_error(&error, &secrets);
    hidden_in_debug("a source", &source, &secrets);
    hidden_in_debug("a base", &Base::from(source.clone()), &secrets);
    hidden_in_debug("a change", &change, &secrets);
    let mut after = state.clone();
    after.merge(change);
    hidden_in_debug("a state", &after, &secrets);
}
