//! When a token comes due, when a failure is over, and what clocks do to both.

use std::time::Duration;

use grantflow::Now;
use grantflow::cell::{Acquired, TokenCell};

use super::*;

#[test]
fn tokens_come_due_in_proportion_to_their_life_and_at_most_five_minutes_early() {
    let second = |seconds: f64| Duration::from_secs_f64(seconds);
    for (life, margin, earliest, latest) in [
        (second(2.0), None, 1.4, 1.5),
        (second(10.0), None, 7.0, 7.5),
        (second(60.0), None, 42.0, 45.0),
        (HOUR, None, 3240.0, 3300.0),
        (DAY, None, 86_040.0, 86_100.0),
        (second(10.0), Some(second(2.0)), 7.6, 8.0),
        (second(10.0), Some(second(60.0)), 4.0, 5.0),
        (HOUR, Some(second(600.0)), 2880.0, 3000.0),
        (HOUR, Some(second(0.0)), 3600.0, 3600.0),
        (DAY, Some(second(3600.0)), 82_080.0, 82_800.0),
    ] {
        for salt in 0..200 {
            let mut cell = TokenCell::new(salt);
            cell = margin.into_iter().fold(cell, TokenCell::margin);
            hold(&mut cell, secs(0), token(Duration::ZERO, life));
            let (wall, mono) = cell.due();
            let (wall, mono) = (wall.since(secs(0).wall).as_secs_f64(), (mono - 1000 * SECOND).as_secs_f64());
            assert!((earliest - 0.01..=latest + 0.01).contains(&mono), "{life:?} {margin:?}: due after {mono} s");
            assert!((wall - mono).abs() < 0.01, "{wall} {mono}");
        }
    }
}

#[test]
fn a_token_is_due_at_its_end_at_the_latest_however_short_it_lives() {
    let late = secs(99).wall;
    for (left, token) in [
        (300, token(Duration::ZERO, 2 * SECOND)),
        (1, token(Duration::ZERO, 2 * SECOND)),
        (10_000, token(Duration::ZERO, 10 * SECOND).with_refresh_after(late)),
    ] {
        let end = token.expires_at().unwrap();
        let left = Duration::from_millis(left);
        let had = at(end.since(secs(0).wall) - left);
        let mut cell = TokenCell::new(1);
        hold(&mut cell, had, token);
        assert_eq!(cell.due(), (end, had.mono + left), "{left:?}");
        assert!(cell.is_fresh(had) && !cell.is_fresh(at(end.since(secs(0).wall))));
    }
}

#[test]
fn a_token_that_took_long_to_come_is_not_due_the_moment_it_is_there() {
    for (life, late) in [(10, 8), (10, 9), (60, 59), (3600, 3590)] {
        let mut cell = TokenCell::new(1);
        hold(&mut cell, secs(late), token(Duration::ZERO, life * SECOND));
        let wait = cell.next_wake(secs(late)).unwrap();
        let left = (life - late) * SECOND;
        assert!(wait >= SECOND.min(left) && wait >= left / 4, "{life} {late}: {wait:?}");
    }
}

#[test]
fn a_token_that_its_source_will_not_replace_yet_is_left_alone_until_then() {
    let mut cell = holding(1, token(Duration::ZERO, HOUR).with_refresh_after(secs(1000).wall));
    assert_eq!(cell.due(), (secs(1000).wall, secs(1000).mono));
    assert_eq!(name(&cell.acquire(secs(999))), "fresh");
    assert_eq!(name(&cell.acquire(secs(1000))), "due, and a ticket");
    // However near that is, and however small the hurry.
    for (after, due) in [(10_000, 10_000), (10, 1000)] {
        let after = secs(0).wall + Duration::from_millis(after);
        let cell = holding(1, token(Duration::ZERO, HOUR).with_refresh_after(after));
        assert_eq!(cell.due().1 - secs(0).mono, Duration::from_millis(due));
    }
}

#[test]
fn the_same_token_handed_out_again_is_asked_for_some_twenty_times_and_not_in_a_loop() {
    // As a metadata server does, which should have another one 5 minutes before the end, but has not.
    let same = || token(Duration::ZERO, HOUR).with_refresh_after(secs(3300).wall);
    let mut cell = holding(1, same());
    let (mut now, mut asked) = (Duration::ZERO, Vec::new());
    while let Some(wait) = cell.next_wake(at(now)) {
        now += wait;
        match cell.acquire(at(now)) {
            Acquired::Due(_, Some(ticket)) => {
                asked.push(now.as_secs());
                cell.settle(ticket, at(now), Ok(same()));
            }
            Acquired::Refresh(_) => break,
            other => panic!("{other:?}"),
        }
        assert!(asked.len() < 100, "{asked:?}");
    }
    assert_eq!(asked[..3], [3300, 3375, 3431]);
    assert!((15..30).contains(&asked.len()) && now == HOUR, "{asked:?}");
}

#[test]
fn a_fleet_does_not_refresh_in_step() {
    let mut due: Vec<_> = (0..1000).map(|salt| holding(salt, token(Duration::ZERO, HOUR)).due().1).collect();
    due.sort_unstable();
    let spread = due[999] - due[0];
    let most = due.iter().map(|one| due.iter().filter(|other| one.abs_diff(**other) < SECOND / 2).count()).max();
    assert!(spread > 55 * SECOND, "{spread:?}");
    assert!(most < Some(50), "{most:?} in one second");
    // Nor does one cell come due at the same distance each time.
    let mut cell = holding(1, token(Duration::ZERO, HOUR));
    let first = cell.due().1;
    hold(&mut cell, secs(0), token(Duration::ZERO, HOUR));
    assert_ne!(cell.due().1, first);
}

/// How long a cell without a token refuses to try, from now on.
fn pause_of(cell: &mut TokenCell, now: Duration) -> Duration {
    let may_try = |cell: &mut TokenCell, wait: Duration| match cell.acquire(at(now + wait)) {
        Acquired::Refresh(ticket) => {
            cell.abandon(ticket);
            true
        }
        Acquired::Failed(_) => false,
        other => panic!("{other:?}"),
    };
    let (mut low, mut high) = (0, 100_000_000_u64);
    while low < high {
        let middle = low.midpoint(high);
        if may_try(cell, Duration::from_millis(middle)) { high = middle } else { low = middle + 1 }
    }
    Duration::from_millis(low)
}

#[test]
fn pauses_after_failures_double_are_jittered_and_end_at_a_minute() {
    let mut first = Vec::new();
    for salt in 0..100 {
        let (mut cell, mut now) = (TokenCell::new(salt), Duration::ZERO);
        for longest in [1, 2, 4, 8, 16, 32, 60, 60, 60] {
            fail(&mut cell, at(now), transient());
            let pause = pause_of(&mut cell, now);
            assert!((longest * SECOND / 2..=longest * SECOND).contains(&pause), "{longest}: {pause:?}");
            now += pause;
            first.push((longest, pause));
        }
        hold(&mut cell, at(now), token(now, SECOND));
        fail(&mut cell, at(now + SECOND), transient());
        assert!(pause_of(&mut cell, now + SECOND) <= SECOND, "a success makes the next pause short again");
    }
    for longest in [1, 8, 60] {
        let mut pauses: Vec<_> = first.iter().filter(|(l, _)| *l == longest).map(|(_, pause)| pause).collect();
        pauses.sort_unstable();
        pauses.dedup();
        assert!(pauses.len() > 30, "{longest}: {pauses:?}");
    }
}

#[test]
fn a_server_that_asks_to_wait_is_left_in_peace_for_an_hour_at_most() {
    for (asked, low, high) in [(0, 0.5, 1.0), (45, 45.0, 45.0), (120, 120.0, 120.0), (3600, 3600.0, 3600.0)] {
        let mut cell = TokenCell::new(1);
        fail(&mut cell, secs(0), asks_to_wait(asked));
        let pause = pause_of(&mut cell, Duration::ZERO).as_secs_f64();
        assert!((low..=high).contains(&pause), "{asked}: {pause}");
    }
    for asked in [7200, 1_000_000_000] {
        let mut cell = TokenCell::new(1);
        fail(&mut cell, secs(0), asks_to_wait(asked));
        assert_eq!(pause_of(&mut cell, Duration::ZERO), HOUR);
    }
}

#[test]
fn a_token_that_ended_while_the_machine_slept_is_seen_as_ended() {
    // The monotonic clock stood while the lid was closed.
    let mut cell = holding(1, token(Duration::ZERO, HOUR));
    let woken = Now { wall: at(8 * HOUR).wall, mono: secs(10).mono };
    assert!(!cell.is_fresh(woken) && cell.valid(woken).is_none());
    assert_eq!(name(&cell.acquire(woken)), "refresh");
    // It went on, and so did the pause after a failure.
    let mut cell = holding(1, token(Duration::ZERO, HOUR));
    fail(&mut cell, secs(10), transient());
    assert_eq!(name(&cell.acquire(at(8 * HOUR))), "refresh");
    // Only a little passed by one clock: still valid, and due.
    let mut cell = holding(1, token(Duration::ZERO, HOUR));
    let woken = Now { wall: secs(3400).wall, mono: secs(10).mono };
    assert_eq!((cell.next_wake(woken), name(&cell.acquire(woken))), (Some(Duration::ZERO), "due, and a ticket"));
}

#[test]
fn a_wall_clock_that_is_set_never_makes_a_token_last_longer_than_it_lives() {
    for back in [HOUR, DAY, 30 * YEAR] {
        let mut cell = holding(1, token(Duration::ZERO, HOUR));
        let set_back = |after: u32| Now { wall: secs(after).wall - back, mono: secs(after).mono };
        assert_eq!(name(&cell.acquire(set_back(10))), "fresh");
        assert!(cell.next_wake(set_back(10)).unwrap() <= HOUR);
        assert_eq!((cell.next_wake(set_back(3300)), cell.is_fresh(set_back(3300))), (Some(Duration::ZERO), false));
        let Acquired::Due(_, Some(ticket)) = cell.acquire(set_back(3300)) else { panic!("not due") };
        let now = set_back(3300);
        let next = Token::bearer("at", now.wall, Some(now.wall + HOUR)).unwrap();
        cell.settle(ticket, now, Ok(next));
        assert_eq!(name(&cell.acquire(set_back(3301))), "fresh");
        // The clock is right again.
        assert_eq!(name(&cell.acquire(secs(3302))), if back < HOUR { "fresh" } else { "refresh" });
    }
    for forth in [2 * HOUR, 30 * YEAR] {
        let mut cell = holding(1, token(Duration::ZERO, HOUR));
        let set_forth = |after: u32| Now { wall: secs(after).wall + forth, mono: secs(after).mono };
        assert_eq!(name(&cell.acquire(set_forth(10))), "refresh");
    }
}

#[test]
fn a_wall_clock_that_is_set_changes_no_pause() {
    for by in [-(30 * 365 * 86_400), -60, 60, 30 * 365 * 86_400_i64] {
        let mut cell = TokenCell::new(1);
        fail(&mut cell, secs(0), asks_to_wait(100));
        let now = |after| Now { wall: Timestamp::from_unix(secs(after).wall.as_unix() + by), ..secs(after) };
        assert_eq!((name(&cell.acquire(now(99))), name(&cell.acquire(now(100)))), ("failed", "refresh"), "{by}");
    }
}

#[test]
fn the_next_wake_is_when_a_refresh_in_the_background_makes_sense() {
    let an_hour = || holding(1, token(Duration::ZERO, HOUR).with_refresh_after(secs(3000).wall));
    let mut cell = TokenCell::new(1);
    assert_eq!(cell.next_wake(secs(0)), None, "nothing is held: it is minted when somebody asks");
    assert_eq!(holding(1, token(Duration::ZERO, None)).next_wake(secs(0)), None, "no end");
    fail(&mut cell, secs(0), transient());
    assert_eq!(cell.next_wake(secs(0)), None, "nothing is held, and it fails");

    let mut cell = an_hour();
    for (after, wake) in [(0, Some(3000)), (2999, Some(1)), (3000, Some(0)), (3599, Some(0)), (3600, None)] {
        assert_eq!(cell.next_wake(secs(after)), wake.map(|wake| wake * SECOND), "after {after} s");
    }
    fail(&mut cell, secs(2950), asks_to_wait(100));
    for (after, wake) in [(2960, 90), (3040, 10), (3050, 0), (3060, 0)] {
        assert_eq!(cell.next_wake(secs(after)), Some(wake * SECOND), "failing, after {after} s");
    }
    fail(&mut cell, secs(2000), asks_to_wait(100));
    assert_eq!(cell.next_wake(secs(2001)), Some(999 * SECOND), "the pause is over before the token is due");
    let flight = cell.force();
    assert_eq!((flight.is_some(), cell.next_wake(secs(3100))), (true, None), "somebody refreshes already");
    let mut cell = an_hour();
    assert!(cell.reject(1, secs(1)));
    assert_eq!(cell.next_wake(secs(3100)), None, "rejected");
}

#[test]
fn a_token_that_is_due_is_served_without_asking_as_long_as_that_changes_nothing() {
    let soon = 3000 * SECOND;
    let mut cell = holding(1, token(Duration::ZERO, HOUR).with_refresh_after(at(soon).wall));
    assert_eq!(cell.serves_for(secs(0)), Some(soon));
    // Whoever asks next gets the ticket.
    assert_eq!(cell.serves_for(at(soon)), None);
    let Acquired::Due(_, Some(ticket)) = cell.acquire(at(soon)) else { panic!("not due") };
    assert_eq!(cell.serves_for(at(soon)), Some(HOUR - soon));
    assert_eq!(cell.serves_for(at(HOUR)), None);
    // By either clock, whichever shows the end first.
    let set_back = Now { wall: secs(0).wall, mono: at(soon).mono };
    let ahead = Now { wall: at(soon).wall, mono: secs(0).mono };
    assert_eq!([set_back, ahead].map(|now| cell.serves_for(now)), [Some(HOUR - soon); 2]);
    cell.abandon(ticket);
    assert_eq!(cell.serves_for(at(soon)), None);
    // After a failure, until it may be tried again.
    fail(&mut cell, at(soon), asks_to_wait(20));
    assert_eq!(cell.serves_for(at(soon + 5 * SECOND)), Some(15 * SECOND));
    assert_eq!(cell.serves_for(at(soon + 20 * SECOND)), None);
    let late = HOUR - 5 * SECOND;
    fail(&mut cell, at(late), asks_to_wait(20));
    assert_eq!(cell.serves_for(at(late)), Some(5 * SECOND), "it ends before that");
    // A refused one is no token at all.
    let mut cell = holding(1, token(Duration::ZERO, HOUR));
    assert!(cell.reject(1, secs(1)));
    assert_eq!(cell.serves_for(secs(1)), None);
    // One that never ends is never due.
    let cell = holding(1, token(Duration::ZERO, None));
    assert!(cell.serves_for(at(30 * YEAR)) > Some(YEAR));
}
