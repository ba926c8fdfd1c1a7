//! What a held token costs: to read, to hold, and for a thousand callers at once. `cargo bench -p grantflow-tests
//! --bench tokens`; with `-- --check` it fails where a bar is broken.

#[path = "../bars/harness.rs"]
mod harness;
mod herd;

use std::collections::HashMap;
use std::hint::black_box;
use std::process::ExitCode;
use std::sync::{Barrier, RwLock};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, SystemTime};

use cpu_time::ThreadTime;
use grantflow::source::{GrantState, Mint, Minting, TokenSource, Want};
use grantflow::{Cx, Machine, Reply, Step, Token};
use harness::{Figures, Work, measure, ratio, table};
use http::HeaderValue;

/// A source that makes its tokens itself, each of 1 KiB and good for an hour.
struct Made;

struct Making;

const TEXT: usize = 1024;

impl TokenSource for Made {
    fn mint(&self, _: &Want, _: &GrantState) -> Mint {
        Box::new(Making)
    }
}

impl Minting for Making {}

impl Machine for Making {
    type Output = Token;
    fn resume(&mut self, cx: &mut Cx, _: Reply) -> Step<Token> {
        let now = cx.now().wall;
        let token = Token::bearer(&"x".repeat(TEXT), now, Some(now + Duration::from_secs(3600)));
        Step::Done(token)
    }
}

/// The outcome of a future that is ready at once.
fn ready<T>(future: impl Future<Output = T>) -> T {
    match std::pin::pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("a fresh token needs no waiting"),
    }
}

fn main() -> ExitCode {
    let check = std::env::args().any(|arg| arg == "--check");
    let mut broken = Vec::new();
    let mut bar = |holds: bool, what: &str| {
        if !holds {
            broken.push(what.to_owned());
        }
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let blocking = grantflow_ureq::Transport::new().expect("a transport");
    let asynchronous = grantflow_reqwest::Transport::new().expect("a transport");

    let ureq = grantflow_ureq::TokenManager::new(&blocking, Made, Want::access_token("read"));
    let reqwest = grantflow_reqwest::TokenManager::new(&asynchronous, Made, Want::access_token("read"));
    ureq.start().expect("a token");
    runtime.block_on(reqwest.start()).expect("a token");
    let end = SystemTime::now() + Duration::from_secs(3600);
    let held = RwLock::new((end, ureq.authorization().expect("a header")));

    let figures = measure(vec![
        Work::new("ureq, borrowed", || ureq.token().map(|token| token.authorization().map(HeaderValue::len))),
        Work::new("reqwest, borrowed", || reqwest.fresh().map(|token| token.authorization().map(HeaderValue::len))),
        Work::new("ureq, owned header", || ureq.authorization()),
        Work::new("reqwest, owned header", || ready(reqwest.authorization())),
        Work::new("ureq, headers", || ureq.headers()),
        Work::new("reqwest, headers", || ready(reqwest.headers())),
        Work::new("reqwest, awaited", || {
            ready(reqwest.token()).map(|token| token.authorization().map(HeaderValue::len))
        }),
        Work::new("RwLock, clock, clone", || {
            let held = held.read().expect("no panic");
            (SystemTime::now() < held.0).then(|| held.1.clone())
        }),
    ]);
    println!("{}", table("a cached token", &figures));
    let floor = figures.last().expect("the floor");
    for (figure, most) in figures.iter().zip([0, 0, 0, 0, 2, 2, 0]) {
        bar(figure.allocations <= most, &format!("{}: more than {most} allocations", figure.name));
    }
    for Figures { name, best, .. } in &figures[..2] {
        bar(ratio(*best, floor.best) < 1.0, &format!("{name}: slower than its floor"));
    }

    for (name, scale) in [
        ("ureq", scaling(&|| drop(black_box(ureq.token())))),
        ("reqwest", scaling(&|| drop(black_box(ready(reqwest.token()))))),
        ("RwLock, clock, clone", scaling(&|| drop(black_box(held.read().map(|held| held.1.clone()))))),
    ] {
        println!("two threads give {scale:.2} times one thread: {name}");
        bar(scale >= 1.8 || name.starts_with("RwLock"), &format!("{name}: two threads give less than 1.8 times one"));
    }

    println!("\n100,000 wants held, bytes each beside the token's own text, and a look at one of them:");
    let wants: Vec<Want> = (0..100_000).map(|nth| Want::access_token(format!("scope-{nth:06}"))).collect();
    // The key of a token is its credential and its want.
    let plain: HashMap<Want, usize> = wants.iter().cloned().enumerate().map(|(nth, want)| (want, nth)).collect();
    let plain = HashMap::from([("someone".to_owned(), plain)]);
    let pool = grantflow_ureq::TokenPool::new(&blocking);
    pool.add("someone", Made).expect("a new name");
    let bytes = kept(|| wants.iter().for_each(|want| drop(pool.token("someone", want))));
    let shared = grantflow_reqwest::TokenPool::new(&asynchronous);
    shared.add("someone", Made).expect("a new name");
    let more = kept(|| {
        runtime.block_on(async {
            for want in &wants {
                drop(shared.token("someone", want).await);
            }
        });
    });
    let mut step = 0_usize;
    let mut next = move || {
        step = (step.wrapping_mul(1_664_525).wrapping_add(1_013_904_223)) % 100_000;
        step
    };
    let mut other = next;
    let mut third = next;
    let looks = measure(vec![
        Work::new("ureq", || pool.token("someone", &wants[next()]).map(drop)),
        Work::new("reqwest", || ready(shared.token("someone", &wants[other()])).map(drop)),
        Work::new("a plain hash map", || plain.get("someone").and_then(|wants_of| wants_of.get(&wants[third()]))),
    ]);
    println!("  ureq {bytes} bytes, reqwest {more} bytes\n{}", table("  a look", &looks));
    bar(bytes <= 400 && more <= 400, "more than 400 bytes for each want");
    for Figures { name, best, .. } in &looks[..2] {
        bar(ratio(*best, looks[2].best) <= 3.0, &format!("{name}: a look takes more than 3 times a hash map's"));
    }

    herd::run(&mut bar);
    broken.iter().for_each(|line| println!("BROKEN: {line}"));
    if check && !broken.is_empty() { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// How many times the work of one thread two threads do, each in the same time of its own processor: less than two
/// where they hinder each other. The best of several rounds, since noise only ever takes.
fn scaling(work: &(dyn Fn() + Sync)) -> f64 {
    const TIMES: u32 = 300_000;
    let busy = |threads: usize| {
        let begin = Barrier::new(threads);
        let times = std::thread::scope(|scope| {
            let one = || {
                begin.wait();
                let start = ThreadTime::now();
                (0..TIMES).for_each(|_| work());
                start.elapsed()
            };
            let all: Vec<_> = (0..threads).map(|_| scope.spawn(one)).collect();
            all.into_iter().map(|thread| thread.join().expect("no panic")).max()
        });
        times.expect("at least one thread")
    };
    let best = |threads| (0..9).map(|_| busy(threads)).min().expect("nine rounds");
    2.0 * best(1).as_secs_f64() / best(2).as_secs_f64()
}

/// How many bytes are kept for each of 100,000 wants by what this does, beside the texts of their tokens.
fn kept(work: impl FnOnce()) -> u64 {
    let all = allocation_counter::measure(work).bytes_current / 100_000;
    u64::try_from(all).unwrap_or(0).saturating_sub((TEXT + "Bearer ".len()) as u64)
}
