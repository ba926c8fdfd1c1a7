//! Runs the simulation: `cargo run --release -p grantflow-tests --bin simulate -- [--seeds N] [--seed S]`.
//!
//! `--seeds N` runs the seeds 1 to N (1,000 unless told) on all processors; `--seed S` runs that one alone.

use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use grantflow_tests::simulation::{Broken, Report, run};

/// After so many seeds that broke a rule the others are left out.
const ENOUGH: usize = 20;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (first, last) = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => (1, Ok(1000)),
        ["--seeds", number] => (1, number.parse()),
        ["--seed", number] => (number.parse().unwrap_or(1), number.parse()),
        _ => {
            eprintln!("usage: simulate [--seeds N] [--seed S]");
            return ExitCode::from(2);
        }
    };
    let Ok(last) = last else {
        eprintln!("that is no number of seeds");
        return ExitCode::from(2);
    };
    let began = Instant::now();
    let (total, broken) = run_all(first, last);
    let took = began.elapsed();
    print(&total, last - first + 1, took);
    if broken.is_empty() {
        return ExitCode::SUCCESS;
    }
    for broken in &broken {
        println!("seed {}: {}", broken.seed, broken.why);
    }
    let first = &broken[0];
    println!("{first:?}");
    let again = run(first.seed).err();
    let same = again.is_some_and(|again| (again.why == first.why) && again.report == first.report);
    println!("{} seeds broke a rule; the first does so again: {}", broken.len(), if same { "yes" } else { "NO" });
    ExitCode::FAILURE
}

fn run_all(first: u64, last: u64) -> (Report, Vec<Broken>) {
    let next = AtomicU64::new(first);
    let results = Mutex::new((Report::default(), Vec::new()));
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    let enough = results.lock().expect("no worker panicked").1.len() >= ENOUGH;
                    if seed > last || enough {
                        return;
                    }
                    let result = run(seed);
                    let mut results = results.lock().expect("no worker panicked");
                    match result {
                        Ok(report) => results.0.add(&report),
                        Err(broken) => results.1.push(*broken),
                    }
                }
            });
        }
    });
    let (total, mut broken) = results.into_inner().expect("no worker panicked");
    broken.sort_by_key(|broken| broken.seed);
    (total, broken)
}

fn print(total: &Report, seeds: u64, took: Duration) {
    let rate = seeds as f64 / took.as_secs_f64();
    println!("{seeds} seeds in {:.1} s ({rate:.1} a second)", took.as_secs_f64());
    println!("{total:#?}");
    println!("{:.1} years", total.time.as_secs_f64() / 86_400.0 / 365.25);
}
