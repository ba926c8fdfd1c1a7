//! Runs a simulation: `cargo run --release -p grantflow-tests --bin simulate -- [processes|chains|google] [--seeds N] [--seed S]`.
//!
//! It is that of a program with many tokens, of `processes` that share a grant, of `chains` with a thousand
//! wants, or of `google`'s chain of three.
//! `--seeds N` runs the seeds 1 to N (1,000 unless told) on all processors; `--seed S` runs that one alone.
//!
//! `simulate -- fleet [--grants N]` lets a fleet serve so many people (1,000,000 unless told), each by two machines, and a fiftieth
//! of them while the store is away for ten minutes, and the issuer for an hour: the figures of `docs/scale.md`.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use grantflow_tests::fleet::{self, Away, Size};
use grantflow_tests::seeds::{Report, Run, run_all};
use grantflow_tests::{chains, processes, simulation};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    if let ["fleet", rest @ ..] = &words[..] {
        let grants = match rest {
            [] => Some(1_000_000),
            ["--grants", number] => number.parse().ok(),
            _ => None,
        };
        return grants.map_or_else(usage, fleet);
    }
    let (kind, rest) = match &words[..] {
        [kind @ ("processes" | "chains" | "google"), rest @ ..] => (*kind, rest),
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
        Some(seeds) if kind == "google" => simulate(chains::google::run, seeds),
        Some(seeds) => simulate(simulation::run, seeds),
        None => usage(),
    }
}

fn usage() -> ExitCode {
    eprintln!("usage: simulate [processes|chains|google] [--seeds N | --seed S] | simulate fleet [--grants N]");
    ExitCode::from(2)
}

fn fleet(grants: usize) -> ExitCode {
    const MINUTE: usize = 60;
    let seconds = |seconds: usize| Duration::from_secs(seconds as u64);
    let size = |grants| Size { grants, each: 2 };
    // By then each token has been replaced by one of the fleet's own.
    let (from, to) = (70 * MINUTE, 80 * MINUTE);
    let account = fleet::run(size(grants), 1, seconds(to + 1), None);
    println!("{grants} grants, each in use on two machines; ten minutes:\n{}", account.part(from..to));
    let (mean, peak) = account.of(from..to, |second| second.refreshes);
    println!("the most refreshes of a second are {:.2} times the mean", peak as f64 / mean);
    let mut good = peak as f64 <= 3.0 * mean && account.reused == 0;
    let few = grants / 50;
    for (what, away) in [(Away::Store, 10 * MINUTE), (Away::Issuer, 60 * MINUTE)] {
        let back = from + away;
        let end = back + 120 * MINUTE;
        let account = fleet::run(size(few), 2, seconds(end + 1), Some((what, seconds(from), seconds(back))));
        println!("{few} grants, {what:?} away for {} minutes; meanwhile:\n{}", away / MINUTE, account.part(from..back));
        println!("the first minute after that:\n{}", account.part(back..back + MINUTE));
        println!("the two hours after that:\n{}", account.part(back..end));
        println!(
            "until each want has a token again: {:?} s; refresh tokens reused: {}",
            account.drained(back),
            account.reused
        );
        good &= account.reused == 0 && account.drained(back).is_some();
    }
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
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
