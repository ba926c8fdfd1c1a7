//! Runs a simulation: `cargo run --release -p grantflow-tests --bin simulate -- [processes|chains] [--seeds N] [--seed S]`.
//!
//! It is that of a program with many tokens, of `processes` that share a grant, or of `chains` with a thousand wants.
//! `--seeds N` runs the seeds 1 to N (1,000 unless told) on all processors; `--seed S` runs that one alone.

use std::process::ExitCode;
use std::time::Instant;

use grantflow_tests::seeds::{Report, Run, run_all};
use grantflow_tests::{chains, processes, simulation};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let (kind, rest) = match &words[..] {
        [kind @ ("processes" | "chains"), rest @ ..] => (*kind, rest),
        rest => ("", rest),
    };
    let seeds = match rest {
        [] => Some((1, 1000)),
        ["--seeds", number] => number.parse().ok().map(|last| (1, last)),
        ["--seed", number] => number.parse().ok().map(|seed| (seed, seed)),
        _ => None,
    };
    match seeds {
        Some(seeds) if kind == "processes" => simulate(processes::run, seeds),
        Some(seeds) if kind == "chains" => simulate(chains::run, seeds),
        Some(seeds) => simulate(simulation::run, seeds),
        None => {
            eprintln!("usage: simulate [processes|chains] [--seeds N | --seed S]");
            ExitCode::from(2)
        }
    }
}

fn simulate<R: Report>(run: Run<R>, (first, last): (u64, u64)) -> ExitCode {
    let began = Instant::now();
    let runs = run_all(run, first, last);
    let took = began.elapsed().as_secs_f64();
    print!("{}", runs.total);
    println!("{:.1} days", runs.total.time().as_secs_f64() / 86_400.0);
    let (ran, broken) = (runs.ran, runs.broken.len());
    println!("{ran} seeds in {took:.1} s ({:.1} a second), {broken} broke a rule", ran as f64 / took);
    let Some(first) = runs.broken.first() else { return ExitCode::SUCCESS };
    println!("{first:?}");
    for broken in &runs.broken {
        println!("seed {}: {}", broken.seed, broken.why);
    }
    let again = run(first.seed).err();
    let same = again.is_some_and(|again| again.why == first.why && again.report == first.report);
    println!("the first does so again: {}", if same { "yes" } else { "NO" });
    ExitCode::FAILURE
}
