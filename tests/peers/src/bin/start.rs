//! From the start of a program to the first token of a service account, with grantflow and with others:
//! `cargo build --release --bins && cargo run --release --bin start`; with `-- --check` it fails where a bar is broken.
//!
//! Each library has a program of its own, `start_*`, in the same profile and with its features as they come: all
//! sign by ring. A program reads the key file, signs, gets the token over loopback in cleartext, shows it and ends. The
//! token endpoint is in this process and takes every assertion: padding and `"sub":null`, which Google itself
//! forgives, do not matter here. gcp_auth and yup-oauth2 load the system's root certificates whether or not
//! they are going to be needed; grantflow and ureq do so for their first TLS connection, which this is not.

use std::fmt::Write as _;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use grantflow::Timestamp;
use grantflow_tests::Front;
use grantflow_tests::front::Site;
use grantflow_tests::google::service_account_json;
use grantflow_tests::server::{Answer, Wire};
use http::{Request, Response};

const PROGRAMS: [(&str, &str); 6] = [
    ("grantflow + ureq", "start_grantflow"),
    ("grantflow + reqwest", "start_grantflow_reqwest"),
    ("oauth2 + reqwest, refresh", "start_oauth2_reqwest"),
    ("tame-oauth + ureq", "start_tame_oauth"),
    ("gcp_auth", "start_gcp_auth"),
    ("yup-oauth2", "start_yup_oauth2"),
];
const ROUNDS: usize = 40;
const TOKEN: &str = "ya29.c.c0demo";
/// How much more than `tame-oauth` it may take, of time and of memory. It is meant to take no more time, and 1.15 times
/// the memory, which is nearly all code: both are noise's to exceed by 15 %.
const BAR: [f64; 2] = [1.15, 1.15 * 1.15];
/// How much more than `oauth2` with reqwest, which makes a refresh and a signature by themselves: 1.3 times both, and
/// 15 % of noise on the time.
const ASYNC: [f64; 2] = [1.3 * 1.15, 1.3];
/// How much of what the last two take, at the most. Most of the memory is libc and code that all of them have.
const AHEAD: [f64; 2] = [0.8, 0.95];
/// How often a broken bar is measured again before it counts: noise only ever adds.
const TRIES: usize = 5;

/// A token endpoint that takes everything.
struct Anything;

impl Site for Anything {
    fn move_to(&mut self, _: &str) {}
    fn answer(&mut self, _: Timestamp, _: &Request<Vec<u8>>) -> Answer {
        let body = format!(r#"{{"access_token":"{TOKEN}","expires_in":3599,"token_type":"Bearer"}}"#);
        let response = Response::builder().header("content-type", "application/json; charset=utf-8");
        Answer { delay: Duration::ZERO, wire: Wire::Whole(response.body(body.into_bytes()).unwrap()) }
    }
}

/// The middle of many.
struct Figures {
    time: Duration,
    kilobytes: u64,
}

fn main() -> ExitCode {
    let front = Front::start(Anything).unwrap();
    let mut key = service_account_json();
    key["token_uri"] = format!("http://{}/token", front.address()).into();
    let here = std::env::current_exe().unwrap();
    let directory = here.parent().unwrap();
    let file = directory.join("start key.json");
    std::fs::write(&file, key.to_string()).unwrap();

    let check = std::env::args().any(|arg| arg == "--check");
    let mut broken = Vec::new();
    for _ in 0..if check { TRIES } else { 1 } {
        let figures = measure(|program| start(&directory.join(program), &file));
        println!("{}", table(&figures));
        broken = too_much(&figures);
        if broken.is_empty() {
            break;
        }
    }
    broken.iter().for_each(|line| println!("BROKEN: {line}"));
    if check && !broken.is_empty() { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// Starts each program in turn, so that a noisy neighbour meets them all.
fn measure(start: impl Fn(&str) -> (Duration, u64)) -> [Figures; 6] {
    let mut all = PROGRAMS.map(|_| (Vec::new(), Vec::new()));
    for _ in 0..=ROUNDS {
        for ((_, program), (times, peaks)) in PROGRAMS.into_iter().zip(&mut all) {
            let (time, peak) = start(program);
            times.push(time);
            peaks.push(peak);
        }
    }
    all.map(|(times, peaks)| Figures { time: median(times), kilobytes: median(peaks) })
}

/// The time from start to end of a program, and the most memory it had.
fn start(program: &Path, file: &Path) -> (Duration, u64) {
    let begin = Instant::now();
    let output = Command::new(program).arg(file).output().unwrap_or_else(|e| panic!("{}: {e}", program.display()));
    let time = begin.elapsed();
    let text = String::from_utf8_lossy(&output.stdout);
    let (token, peak) = text.trim().split_once(' ').unwrap_or_default();
    assert!(output.status.success() && token == TOKEN, "{}: {output:?}", program.display());
    (time, peak.parse().unwrap())
}

/// Without the first, which had to be loaded from disk.
fn median<T: Ord + Copy>(mut all: Vec<T>) -> T {
    all.remove(0);
    all.sort();
    all[all.len() / 2]
}

/// What one takes, as a part of what another takes: time and memory.
fn ratios(figures: &[Figures], one: usize, other: usize) -> [f64; 2] {
    let (ours, other) = (&figures[one], &figures[other]);
    [ours.time.as_secs_f64() / other.time.as_secs_f64(), ours.kilobytes as f64 / other.kilobytes as f64]
}

fn table(figures: &[Figures]) -> String {
    let mut text =
        format!("{:<28} {:>10} {:>22} {:>24}\n", "start to first token", "time", "peak memory", "grantflow (ureq) to this");
    for (nth, (name, _)) in PROGRAMS.into_iter().enumerate() {
        let Figures { time, kilobytes } = figures[nth];
        let [slower, larger] = ratios(figures, 0, nth);
        let time = format!("{time:.1?}");
        let _ = writeln!(text, "  {name:<26} {time:>10} {kilobytes:>19} kB {slower:>10.2}x {larger:>10.2}x");
    }
    text
}

fn too_much(figures: &[Figures]) -> Vec<String> {
    let mut broken = Vec::new();
    for (ours, other, bars) in [(0, 3, BAR), (0, 4, AHEAD), (0, 5, AHEAD), (1, 2, ASYNC)] {
        for ((what, ratio), bar) in ["time", "peak memory"].into_iter().zip(ratios(figures, ours, other)).zip(bars) {
            if ratio > bar {
                let [ours, other] = [PROGRAMS[ours].0, PROGRAMS[other].0];
                broken.push(format!("{ours}, {what}: {ratio:.2} times that of {other}, more than {bar:.2}"));
            }
        }
    }
    broken
}
