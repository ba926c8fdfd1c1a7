//! A few seeds of the simulation; `simulate` runs many.

use grantflow_tests::seeds::Report as _;
use grantflow_tests::simulation::{Report, run};

#[test]
fn no_seed_breaks_a_rule_and_everything_that_can_happen_does() {
    let mut total = Report::default();
    for seed in 1..=2 {
        let report = run(seed).unwrap();
        assert!(report.events >= 20_000 && report.time.as_secs() > 14 * 86_400, "seed {seed}: {report:?}");
        total.add(&report);
    }
    let Report { served, failed, waited, refreshes, requests, lost, .. } = total;
    assert!([served, failed, waited, refreshes, requests, lost].iter().all(|count| *count > 0), "{total:?}");
}

#[test]
fn a_seed_replays_to_the_last_event_and_another_differs() {
    let (first, again, other) = (run(5).unwrap(), run(5).unwrap(), run(6).unwrap());
    assert_eq!(first, again);
    assert_ne!(first.digest, other.digest);
}
