//! A few seeds of the simulation of processes that share a grant; `simulate processes` runs many.

use grantflow_tests::processes::{Report, run};
use grantflow_tests::seeds::Report as _;

#[test]
fn no_seed_breaks_a_rule_and_everything_that_can_happen_does() {
    let mut total = Report::default();
    for seed in 1..=24 {
        let report = run(seed).unwrap();
        assert!(report.time.as_secs() >= 1800 && report.served > 0, "seed {seed}: {report:?}");
        total.add(&report);
    }
    let Report { shared, sent, recoveries, recovered, unsaved, saved_later, ended, refused, lost, .. } = total;
    let counts = [shared, sent, recoveries, recovered, unsaved, saved_later, ended, refused, lost];
    assert!(counts.iter().all(|count| *count > 0), "{total:?}");
    // Processes die and are stopped in the middle of everything.
    for what in ["load", "lease", "save", "release", "Http", "Sleep"] {
        for when in ["before it is sent", "before it is done", "after it is done"] {
            assert!(total.deaths.contains_key(&(what, when)), "nobody died: {what}, {when}");
            assert!(total.stops.contains_key(&(what, when)), "nobody was stopped: {what}, {when}");
        }
    }
}

#[test]
fn a_seed_replays_to_the_last_event_and_another_differs() {
    let (first, again, other) = (run(5).unwrap(), run(5).unwrap(), run(6).unwrap());
    assert_eq!(first, again);
    assert_ne!(first.digest, other.digest);
}
