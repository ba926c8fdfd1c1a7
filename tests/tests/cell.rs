//! The cell and the grant's queue in virtual time: who gets a token, and when the next one is had.

use std::time::Duration;

use grantflow::cell::{Acquired, Ticket, TokenCell};
use grantflow::{Now, Timestamp, Token};

const SECOND: Duration = Duration::from_secs(1);

/// Both clocks `after` the beginning.
fn at(after: Duration) -> Now {
    Now { wall: Timestamp::from_unix(1_795_176_000) + after, mono: Duration::from_secs(1000) + after }
}

/// A token that was asked for `sent` after the beginning and lives this long.
fn token(sent: Duration, life: Option<Duration>) -> Token {
    Token::bearer("at", at(sent).wall, life.map(|life| at(sent + life).wall)).unwrap()
}

/// The ticket of a cell that has no token.
fn ticket(cell: &mut TokenCell, now: Now) -> Ticket {
    match cell.acquire(now) {
        Acquired::Refresh(ticket) => ticket,
        other => panic!("no refresh but {other:?}"),
    }
}

#[test]
fn a_token_is_due_at_its_end_at_the_latest_however_short_it_lives() {
    let late = at(Duration::from_secs(99)).wall;
    for (left, token) in [
        (300, token(Duration::ZERO, Some(2 * SECOND))),
        (1, token(Duration::ZERO, Some(2 * SECOND))),
        (10_000, token(Duration::ZERO, Some(10 * SECOND)).with_refresh_after(late)),
    ] {
        let end = token.expires_at().unwrap();
        let left = Duration::from_millis(left);
        let had = Duration::from_millis(end.since(at(Duration::ZERO).wall).as_millis() as u64) - left;
        let mut cell = TokenCell::new(1);
        let ticket = ticket(&mut cell, at(had));
        cell.settle(ticket, at(had), Ok(token));
        assert_eq!(cell.due().0, end, "{left:?}");
        assert_eq!(cell.due().1, at(had).mono + left, "{left:?}");
        assert!(cell.is_fresh(at(had)) && !cell.is_fresh(at(had + left)));
    }
}
