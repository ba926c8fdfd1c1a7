//! A small fleet in virtual time; `simulate fleet` has a large one.

use std::time::Duration;

use grantflow_tests::fleet::{self, Away, Size};

const SMALL: Size = Size { grants: 10, each: 2 };
const MINUTE: usize = 60;

fn minutes(minutes: u64) -> Duration {
    Duration::from_secs(60 * minutes)
}

#[test]
fn a_grant_on_two_machines_is_refreshed_once_per_life_of_a_token() {
    let account = fleet::run(SMALL, 1, minutes(120), None);
    let sum = |count: fn(&fleet::Second) -> u64| account.seconds.iter().map(count).sum::<u64>();
    let refreshes = sum(|second| second.refreshes);
    assert_eq!((account.reused, sum(|second| second.requests)), (0, refreshes));
    // Two or three lives, of 55 minutes each.
    assert!((2 * 10..=3 * 10).contains(&refreshes), "{refreshes}");
    assert!(account.seconds.iter().all(|second| second.without == 0));
    // Each machine looks once, and who refreshes looks under its lease again; an intent and a result are saved.
    let (saves, loads) = (sum(|second| second.saves), sum(|second| second.loads));
    assert!(saves.abs_diff(2 * refreshes) <= 2 && loads <= 4 * refreshes, "{refreshes}, {saves}, {loads}");
}

#[test]
fn what_is_away_for_long_costs_no_grant_and_each_want_is_served_when_it_is_back() {
    for (what, time) in [(Away::Store, 5), (Away::Issuer, 10)] {
        let (from, back) = (minutes(10), minutes(10 + time));
        let account = fleet::run(SMALL, 2, back + minutes(30), Some((what, from, back)));
        let drained = account.drained(back.as_secs() as usize);
        assert_eq!(account.reused, 0, "{what:?}");
        assert!(drained.is_some_and(|seconds| seconds <= 3 * MINUTE), "{what:?}: {drained:?}");
    }
}
