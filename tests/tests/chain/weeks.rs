//! Weeks of a chain with many wants and failures at every step; `simulate chains` runs more of both.

use std::time::Duration;

use grantflow_tests::chains::{Plan, Weather, google, run_plan};

const DAY: Duration = Duration::from_secs(86_400);

#[test]
fn a_thousand_wants_take_one_token_of_the_base_per_life_of_it() {
    let report = run_plan(1, Plan { wants: 1000, time: DAY / 4, pause: 240, weather: Weather::default() }).unwrap();
    assert!(report.base >= 6 && report.base <= report.lives && report.excuses == 0, "{report:?}");
    assert!(report.failures == 0 && report.longest < Duration::from_secs(2), "{report:?}");
}

#[test]
fn in_weeks_of_failures_the_base_is_used_no_more_than_it_must_be_and_nobody_waits_for_long() {
    let weather = Weather { lost: 200, broken: 30, busy: 30, slow: 25, ended: 400 };
    let report = run_plan(1, Plan { wants: 15, time: 14 * DAY, pause: 240, weather }).unwrap();
    assert!(report.excuses > 0 && report.failures > 0, "{report:?}");
}

#[test]
fn a_thousand_tenants_of_googles_chain_of_three_take_one_token_of_each_step_per_life_of_it() {
    let report = google::run_plan(1, Plan { wants: 1000, time: DAY / 16, pause: 240, weather: Weather::default() });
    let report = report.unwrap();
    assert!(report.base >= 2 && report.base <= report.lives && report.excuses == 0, "{report:?}");
    assert!(report.middle >= 2 && report.middle <= report.lives && report.failures == 0, "{report:?}");
}

#[test]
fn in_weeks_of_failures_googles_chain_uses_no_step_more_than_it_must() {
    let weather = Weather { lost: 200, broken: 30, busy: 30, slow: 25, ended: 400 };
    let report = google::run_plan(1, Plan { wants: 10, time: 3 * DAY, pause: 240, weather }).unwrap();
    assert!(report.excuses > 0, "{report:?}");
}
