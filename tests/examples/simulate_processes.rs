//! Runs the simulation of processes that share a grant:
//! `cargo run --release -p grantflow-tests --example simulate_processes -- [--seeds N] [--seed S]`.
//!
//! `--seeds N` runs the seeds 1 to N (1,000 unless told) on all processors; `--seed S` runs that one alone.

use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use grantflow_tests::processes::{Broken, Report, run};

/// After so many seeds that broke a rule the others are left out.
const ENOUGH: usize = 20;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let seeds = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => Ok((1, 1000)),
        ["--seeds", number] => number.parse().map(|last| (1, last)),
        ["--seed", number] => number.parse().map(|seed| (seed, seed)),
        _ => {
            eprintln!("usage: simulate_processes [--seeds N] [--seed S]");
            return ExitCode::from(2);
        }
    };
    let Ok((first, last)) = seeds else {
        eprintln!("that is no number of seeds");
        return ExitCode::from(2);
    };
    let began = Instant::now();
    let (total, ran, broken) = run_all(first, last);
    let took = began.elapsed().as_secs_f64();
    println!("{total:#?}");
    println!("{:.1} days of shared life", total.time.as_secs_f64() / 86_400.0);
    println!("{ran} seeds in {took:.1} s ({:.1} a second), {} broke a rule", ran as f64 / took, broken.len());
    let Some(first) = broken.first() else { return ExitCode::SUCCESS };
    println!("{first:?}");
    for broken in &broken {
        println!("seed {}: {}", broken.seed, broken.why);
    }
    let again = run(first.seed).err();
    let same = again.is_some_and(|again| again.why == first.why && again.report == first.report);
    println!("the first does so again: {}", if same { "yes" } else { "NO" });
    ExitCode::FAILURE
}

fn run_all(first: u64, last: u64) -> (Report, u64, Vec<Broken>) {
    let next = AtomicU64::new(first);
    let results = Mutex::new((Report::default(), 0, Vec::new()));
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed > last || results.lock().expect("no worker panicked").2.len() >= ENOUGH {
                        return;
                    }
                    let result = run(seed);
                    let mut results = results.lock().expect("no worker panicked");
                    results.1 += 1;
                    match result {
                        Ok(report) => results.0.add(&report),
                        Err(broken) => results.2.push(*broken),
                    }
                }
            });
        }
    });
    let (total, ran, mut broken) = results.into_inner().expect("no worker panicked");
    broken.sort_by_key(|broken| broken.seed);
    (total, ran, broken)
}
