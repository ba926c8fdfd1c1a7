//! The cell and the grant in virtual time: who gets a token, and when the next one is had.

mod grant;
mod schedule;
mod unclear;

use std::time::Duration;

use grantflow::cell::{Acquired, Ticket, TokenCell};
use grantflow::{Error, ErrorKind, Now, Timestamp, Token, TokenRequest};
use grantflow_tests::{Fault, Place, Server, World, demo};

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(86_400);
const YEAR: Duration = Duration::from_secs(365 * 86_400);

/// Both clocks this long after the beginning.
fn at(after: Duration) -> Now {
    Now { wall: Timestamp::from_unix(1_795_176_000) + after, mono: 1000 * SECOND + after }
}

fn secs(after: u32) -> Now {
    at(after * SECOND)
}

/// A token that was asked for this long after the beginning and lives so long.
fn token(asked: Duration, life: impl Into<Option<Duration>>) -> Token {
    Token::bearer("at", at(asked).wall, life.into().map(|life| at(asked + life).wall)).unwrap()
}

/// The ticket of a cell without a token.
fn ticket(cell: &mut TokenCell, now: Now) -> Ticket {
    match cell.acquire(now) {
        Acquired::Refresh(ticket) => ticket,
        other => panic!("no refresh but {other:?}"),
    }
}

/// A cell that had this token at the moment it was issued.
fn holding(salt: u64, token: Token) -> TokenCell {
    let mut cell = TokenCell::new(salt);
    let now = Now { wall: token.issued_at(), mono: 1000 * SECOND + token.issued_at().since(secs(0).wall) };
    hold(&mut cell, now, token);
    cell
}

fn hold(cell: &mut TokenCell, now: Now, token: Token) {
    let ticket = cell.force().expect("no flight");
    cell.settle(ticket, now, Ok(token));
}

fn fail(cell: &mut TokenCell, now: Now, error: Error) {
    let ticket = cell.force().expect("no flight");
    cell.settle(ticket, now, Err(error));
}

fn transient() -> Error {
    Error::new(ErrorKind::Timeout, "no answer")
}

/// The error of a token request that is answered so.
fn answered(fault: Fault) -> Error {
    let mut world = World::with(Server::demo());
    let metadata = world.server().metadata();
    for _ in 0..4 {
        world.server().fail(Place::Token, fault.clone());
    }
    world.run(TokenRequest::client_credentials(&metadata, &demo::batch()).unwrap().exchange()).unwrap_err()
}

/// A refresh token was refused.
fn invalid_grant() -> Error {
    let mut world = World::with(Server::demo());
    let metadata = world.server().metadata();
    world.server().fail(Place::Token, Fault::status(400, r#"{"error":"invalid_grant"}"#));
    let request = TokenRequest::refresh_token(&metadata, &demo::client(), &"rt".into());
    world.run(request.unwrap().exchange()).unwrap_err()
}

fn asks_to_wait(seconds: u32) -> Error {
    let error = answered(Fault::status(429, "").header("retry-after", &seconds.to_string()));
    assert_eq!(error.retry_after(), Some(seconds * SECOND));
    error
}

fn name(acquired: &Acquired) -> &'static str {
    match acquired {
        Acquired::Fresh(_) => "fresh",
        Acquired::Due(_, Some(_)) => "due, and a ticket",
        Acquired::Due(_, None) => "due",
        Acquired::Refresh(_) => "refresh",
        Acquired::Wait => "wait",
        Acquired::Failed(_) => "failed",
    }
}

#[test]
fn a_cell_answers_by_what_it_holds_and_by_what_is_under_way() {
    type Hold = fn(&mut TokenCell);
    let an_hour: Hold = |cell| hold(cell, secs(0), token(Duration::ZERO, HOUR));
    let rejected: Hold = |cell| {
        hold(cell, secs(0), token(Duration::ZERO, HOUR));
        assert!(cell.reject(1, secs(0)));
    };
    let held: [(&str, Hold, u32, [&str; 3]); 8] = [
        ("valid, not due", an_hour, 10, ["fresh", "fresh", "fresh"]),
        ("valid, just not due", an_hour, 3239, ["fresh", "fresh", "fresh"]),
        ("valid, due", an_hour, 3300, ["due, and a ticket", "due", "due"]),
        ("valid, for one more second", an_hour, 3599, ["due, and a ticket", "due", "due"]),
        ("expired", an_hour, 3600, ["refresh", "wait", "failed"]),
        ("rejected", rejected, 10, ["refresh", "wait", "failed"]),
        ("nothing", |_| {}, 10, ["refresh", "wait", "failed"]),
        ("no end", |cell| hold(cell, secs(0), token(Duration::ZERO, None)), u32::MAX, ["fresh"; 3]),
    ];
    for (what, begin, after, [may_try, in_flight, failing]) in held {
        let now = secs(after);
        let cell = || {
            let mut cell = TokenCell::new(7);
            begin(&mut cell);
            cell
        };
        assert_eq!(name(&cell().acquire(now)), may_try, "{what}");

        let mut flying = cell();
        let ticket = flying.force();
        assert!(ticket.is_some() && flying.is_refreshing());
        assert_eq!(name(&flying.acquire(now)), in_flight, "{what}, in flight");

        for (why, error) in [("failing", transient()), ("failed for good", invalid_grant())] {
            let mut failing_cell = cell();
            fail(&mut failing_cell, now, error);
            assert_eq!(name(&failing_cell.acquire(now)), failing, "{what}, {why}");
            assert_eq!(failing_cell.held().is_some(), cell().held().is_some(), "{what}, {why}");
            assert!(failing_cell.error().is_some());
        }

        let mut past = cell();
        fail(&mut past, Now { mono: now.mono - SECOND, ..now }, transient());
        assert_eq!(name(&past.acquire(now)), may_try, "{what}, after the pause");
    }
}

#[test]
fn whoever_takes_a_ticket_is_alone_until_it_is_back() {
    let mut cell = TokenCell::new(1);
    let first = ticket(&mut cell, secs(0));
    for _ in 0..1000 {
        assert_eq!(name(&cell.acquire(secs(0))), "wait");
    }
    assert!(cell.force().is_none());
    cell.settle(first, secs(1), Ok(token(Duration::ZERO, HOUR)));
    assert_eq!(name(&cell.acquire(secs(1))), "fresh");
    assert!(!cell.is_refreshing());
    let forced = cell.force();
    assert!(forced.is_some() && cell.force().is_none());
    assert_eq!(name(&cell.acquire(secs(1))), "fresh");
    assert_eq!(name(&cell.acquire(secs(3400))), "due");
}

#[test]
fn a_failure_reaches_all_at_once_with_its_reason_and_never_replaces_a_valid_token() {
    let mut cell = TokenCell::new(1);
    fail(&mut cell, secs(0), asks_to_wait(60));
    for _ in 0..10 {
        let Acquired::Failed(error) = cell.acquire(secs(1)) else { panic!("not failed") };
        assert_eq!(error.retry_after(), Some(60 * SECOND));
    }
    let mut cell = holding(1, token(Duration::ZERO, HOUR));
    fail(&mut cell, secs(3400), transient());
    assert_eq!(name(&cell.acquire(secs(3400))), "due");
    assert_eq!(cell.error().map(Error::kind), Some(ErrorKind::Timeout));
    let Acquired::Due(held, Some(ticket)) = cell.acquire(secs(3402)) else { panic!("no ticket") };
    assert_eq!(held.generation, 1);
    cell.settle(ticket, secs(3402), Ok(token(3402 * SECOND, HOUR)));
    assert!(cell.error().is_none());
    assert_eq!(cell.held().map(|held| held.generation), Some(2));
}

#[test]
fn a_token_that_has_ended_already_is_a_failure_like_any_other() {
    let mut cell = TokenCell::new(1);
    for after in [10, 20] {
        hold(&mut cell, secs(after), token(Duration::ZERO, 10 * SECOND));
        assert!(cell.held().is_none());
        assert_eq!(cell.error().map(Error::kind), Some(ErrorKind::InvalidResponse));
        assert_eq!(name(&cell.acquire(secs(after))), "failed");
    }
    assert_eq!(name(&cell.acquire(secs(22))), "refresh");
}

#[test]
fn what_failed_for_good_is_never_tried_again_until_the_credential_is_another_one() {
    for error in [invalid_grant(), Error::new(ErrorKind::GrantLost, "lost")] {
        let mut cell = TokenCell::new(1);
        fail(&mut cell, secs(0), error.clone());
        for after in [Duration::ZERO, HOUR, 10 * YEAR] {
            assert_eq!(name(&cell.acquire(at(after))), "failed", "{error}");
            assert_eq!(cell.next_wake(at(after)), None);
        }
        cell.clear();
        assert!(cell.error().is_none());
        assert_eq!(name(&cell.acquire(secs(1))), "refresh");

        // What is valid is served to its end, and no background refresh hammers the server.
        let mut cell = holding(1, token(Duration::ZERO, HOUR));
        fail(&mut cell, secs(3300), error);
        assert_eq!((name(&cell.acquire(secs(3599))), cell.next_wake(secs(3599))), ("due", None));
        assert_eq!(name(&cell.acquire(secs(3600))), "failed");
        // Somebody may insist, and it may work.
        hold(&mut cell, secs(3600), token(HOUR, HOUR));
        assert_eq!(name(&cell.acquire(secs(3600))), "fresh");
    }
}

#[test]
fn what_must_be_mended_is_tried_again_when_a_caller_asks_and_not_in_the_background() {
    for code in ["invalid_client", "unauthorized_client", "invalid_scope", "invalid_target"] {
        let error = answered(Fault::status(401, &format!(r#"{{"error":"{code}"}}"#)));
        let mut cell = holding(1, token(Duration::ZERO, HOUR));
        fail(&mut cell, secs(3300), error.clone());
        // The token that is valid is served, and nobody's server is hammered.
        assert_eq!((name(&cell.acquire(secs(3300))), cell.next_wake(secs(3300))), ("due", None), "{code}");
        // The configuration may have been mended: whoever asks finds out.
        assert!(matches!(cell.acquire(secs(3310)), Acquired::Due(_, Some(_))), "{code}");
        let mut cell = TokenCell::new(1);
        fail(&mut cell, secs(0), error);
        assert_eq!(name(&cell.acquire(secs(10))), "refresh", "{code}");
    }
    // What passes by itself is tried again unasked.
    let mut cell = holding(1, token(Duration::ZERO, HOUR));
    fail(&mut cell, secs(3300), transient());
    assert!(cell.next_wake(secs(3300)).is_some());
}

#[test]
fn a_refused_token_is_given_to_nobody_again_and_an_older_ones_refusal_is_stale() {
    let mut cell = holding(1, token(Duration::ZERO, HOUR));
    hold(&mut cell, secs(10), token(10 * SECOND, HOUR));
    for (generation, another, then) in
        [(1, true, "fresh"), (3, false, "fresh"), (0, true, "fresh"), (2, true, "refresh")]
    {
        assert_eq!(cell.reject(generation, secs(20)), another, "generation {generation}");
        let acquired = cell.acquire(secs(20));
        assert_eq!(name(&acquired), then, "generation {generation}");
        if let Acquired::Refresh(ticket) = acquired {
            cell.abandon(ticket);
        }
    }
    // The same refusal again, from another caller, is no news.
    assert!(cell.reject(2, secs(20)));
    assert!(cell.valid(secs(20)).is_none() && !cell.is_fresh(secs(20)) && cell.next_wake(secs(20)).is_none());
    let ticket = ticket(&mut cell, secs(20));
    assert!(cell.reject(2, secs(21)));
    cell.settle(ticket, secs(21), Ok(token(20 * SECOND, HOUR)));
    // A late refusal of the one before does not touch it.
    assert!(cell.reject(2, secs(30)));
    assert_eq!(name(&cell.acquire(secs(30))), "fresh");
}

#[test]
fn a_server_that_refuses_every_token_is_not_asked_for_more_and_more() {
    let mut cell = holding(1, token(Duration::ZERO, HOUR));
    let mut minted = Vec::new();
    for second in 0..3600 {
        let Acquired::Fresh(held) = cell.acquire(secs(second)) else { panic!("no token") };
        if cell.reject(held.generation, secs(second)) {
            minted.push(second);
            let ticket = ticket(&mut cell, secs(second));
            cell.settle(ticket, secs(second), Ok(token(second * SECOND, 2 * HOUR)));
        }
    }
    assert_eq!(minted[..8], [0, 1, 3, 7, 15, 31, 63, 123]);
    assert!(minted.len() < 70, "{minted:?}");
    // Long after, a refusal is believed at once, twice in a row only after a second.
    for (after, believed) in [(10_000, true), (10_000, false), (10_001, true)] {
        let generation = cell.held().map(|held| held.generation).unwrap();
        assert_eq!(cell.reject(generation, secs(after)), believed, "{after}");
        if believed {
            hold(&mut cell, secs(after), token(after * SECOND, 2 * HOUR));
        }
    }
}

#[test]
fn an_abandoned_refresh_leads_to_another_at_once() {
    let mut cell = TokenCell::new(1);
    for _ in 0..10 {
        let ticket = ticket(&mut cell, secs(0));
        assert_eq!(name(&cell.acquire(secs(0))), "wait");
        cell.abandon(ticket);
        assert!(cell.error().is_none() && !cell.is_refreshing());
    }
    // A pause is kept as it was.
    fail(&mut cell, secs(0), asks_to_wait(60));
    let forced = cell.force().unwrap();
    cell.abandon(forced);
    assert_eq!((name(&cell.acquire(secs(59))), name(&cell.acquire(secs(60)))), ("failed", "refresh"));
}

#[test]
fn whoever_insists_gets_a_ticket_in_any_pause_but_no_second_one() {
    for error in [transient(), asks_to_wait(3600), invalid_grant()] {
        let mut cell = TokenCell::new(1);
        fail(&mut cell, secs(0), error);
        let ticket = cell.force().unwrap();
        assert!(cell.force().is_none());
        assert_eq!(name(&cell.acquire(secs(0))), "wait");
        cell.settle(ticket, secs(1), Ok(token(SECOND, HOUR)));
        assert_eq!(name(&cell.acquire(secs(1))), "fresh");
    }
}

#[test]
fn what_a_former_credential_brings_is_ignored() {
    type End = fn(&mut TokenCell, Ticket);
    let ends: [(&str, End); 3] = [
        ("a token", |cell, ticket| cell.settle(ticket, secs(1), Ok(token(Duration::ZERO, HOUR)))),
        ("a failure", |cell, ticket| cell.settle(ticket, secs(1), Err(invalid_grant()))),
        ("nothing", |cell, ticket| cell.abandon(ticket)),
    ];
    for (what, end) in ends {
        let mut cell = holding(1, token(Duration::ZERO, HOUR));
        let old = cell.force().unwrap();
        cell.clear();
        assert!(cell.held().is_none() && cell.next_wake(secs(1)).is_none());
        let new = ticket(&mut cell, secs(1));
        end(&mut cell, old);
        assert!(cell.held().is_none() && cell.error().is_none() && cell.is_refreshing(), "{what}");
        cell.settle(new, secs(2), Ok(token(SECOND, HOUR)));
        // Generations go on: a refusal of the former credential's token is not this one's.
        assert_eq!(cell.held().map(|held| held.generation), Some(2));
        assert!(cell.reject(1, secs(2)));
        assert_eq!(name(&cell.acquire(secs(2))), "fresh", "{what}");
    }
}

#[test]
fn refusals_of_a_former_credentials_tokens_do_not_count_against_another() {
    let mut cell = holding(1, token(Duration::ZERO, HOUR));
    for second in [0, 1, 3, 7] {
        let generation = cell.held().map(|held| held.generation).unwrap();
        assert!(cell.reject(generation, secs(second)));
        hold(&mut cell, secs(second), token(Duration::ZERO, HOUR));
    }
    cell.clear();
    // One that comes late, before anything has come of the other.
    assert!(cell.reject(5, secs(8)));
    hold(&mut cell, secs(8), token(8 * SECOND, HOUR));
    assert!(cell.reject(5, secs(8)));
    assert_eq!(name(&cell.acquire(secs(8))), "fresh");
    assert!(cell.reject(6, secs(8)));
    assert_eq!(name(&cell.acquire(secs(8))), "refresh");
}
