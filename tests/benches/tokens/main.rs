//! What a held token costs: to read, to hold, and for a thousand callers at once. `cargo bench -p grantflow-tests
//! --bench tokens`; with `-- --check` it fails where a bar is broken.

mod crowd;
#[path = "../bars/harness.rs"]
mod harness;
mod herd;
mod pool;

use std::hint::black_box;
use std::process::ExitCode;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Barrier, RwLock};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, SystemTime};

use cpu_time::ThreadTime;
use grantflow::source::{GrantState, Mint, Minting, TokenSource, Want};
use grantflow::{Cx, Effect, Machine, Reply, Step, Token};
use harness::{Figures, Work, measure, ratio, table};
use http::HeaderValue;

/// By how much a time may be above its bar, on a machine that has other work too.
const TOLERANCE: f64 = 1.15;
/// How much of its floor a borrowed read may take.
const READ: f64 = 0.75;

/// A source that makes its tokens itself, good for an hour, each of so many bytes.
struct Made(usize);

impl TokenSource for Made {
    fn mint(&self, _: &Want, _: &GrantState) -> Mint {
        Box::new(Making { text: self.0, due: None })
    }
}

/// A source whose first token is soon due, and whose second never comes.
#[derive(Default)]
struct Stuck(AtomicBool);

impl TokenSource for Stuck {
    fn mint(&self, _: &Want, _: &GrantState) -> Mint {
        match self.0.swap(true, Relaxed) {
            false => Box::new(Making { text: TEXT, due: Some(DUE) }),
            true => Box::new(Sleeping),
        }
    }
}

struct Making {
    text: usize,
    due: Option<Duration>,
}

struct Sleeping;

const TEXT: usize = 1024;
/// When the token of [`Stuck`] is due.
const DUE: Duration = Duration::from_secs(1);

impl Minting for Making {}
impl Minting for Sleeping {}

impl Machine for Making {
    type Output = Token;
    fn resume(&mut self, cx: &mut Cx, _: Reply) -> Step<Token> {
        let now = cx.now().wall;
        let token = Token::bearer(&"x".repeat(self.text), now, Some(now + Duration::from_secs(3600)));
        let due = |token: Token| self.due.into_iter().fold(token, |token, due| token.with_refresh_after(now + due));
        Step::Done(token.map(due))
    }
}

impl Machine for Sleeping {
    type Output = Token;
    fn resume(&mut self, _: &mut Cx, _: Reply) -> Step<Token> {
        Step::Do(Effect::Sleep(Duration::from_secs(3600)))
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
    reads(&runtime, &blocking, &asynchronous, &mut bar);
    pool::run(&runtime, &blocking, &asynchronous, &mut bar);
    herd::run(&mut bar);
    crowd::run(&runtime, &blocking, &asynchronous);
    broken.iter().for_each(|line| println!("BROKEN: {line}"));
    if check && !broken.is_empty() { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// A token that is held: fresh, and due while the next one is being fetched.
fn reads(
    runtime: &tokio::runtime::Runtime,
    blocking: &grantflow_ureq::Transport,
    asynchronous: &grantflow_reqwest::Transport,
    bar: &mut dyn FnMut(bool, &str),
) {
    let want = Want::access_token("read");
    let ureq = grantflow_ureq::TokenManager::new(blocking, Made(TEXT), want.clone());
    let reqwest = grantflow_reqwest::TokenManager::new(asynchronous, Made(TEXT), want.clone());
    let due_ureq = grantflow_ureq::TokenManager::new(blocking, Stuck::default(), want.clone());
    let due_reqwest = grantflow_reqwest::TokenManager::new(asynchronous, Stuck::default(), want);
    for manager in [&ureq, &due_ureq] {
        manager.start().expect("a token");
    }
    runtime.block_on(async {
        for manager in [&reqwest, &due_reqwest] {
            manager.start().await.expect("a token");
        }
        tokio::time::sleep(DUE * 2).await;
        due_reqwest.token().await.expect("a token that is due");
    });
    due_ureq.token().expect("a token that is due");
    assert!(due_ureq.status().refreshing && due_reqwest.status().refreshing);
    let end = SystemTime::now() + Duration::from_secs(3600);
    let held = RwLock::new((end, ureq.authorization().expect("a header")));

    let figures = measure(vec![
        Work::new("ureq, borrowed", || ureq.token().map(|token| token.authorization().map(HeaderValue::len))),
        Work::new("reqwest, borrowed", || reqwest.fresh().map(|token| token.authorization().map(HeaderValue::len))),
        Work::new("ureq, due", || due_ureq.token().map(|token| token.authorization().map(HeaderValue::len))),
        Work::new("reqwest, due", || due_reqwest.fresh().map(|token| token.authorization().map(HeaderValue::len))),
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
    for (figure, most) in figures.iter().zip([0, 0, 0, 0, 0, 0, 2, 2, 0]) {
        bar(figure.allocations <= most, &format!("{}: more than {most} allocations", figure.name));
    }
    for Figures { name, best, .. } in &figures[..4] {
        bar(ratio(*best, floor.best) <= READ * TOLERANCE, &format!("{name}: more than {READ} of its floor"));
    }

    for (name, scale) in [
        ("ureq", scaling(&|| drop(black_box(ureq.token())))),
        ("reqwest", scaling(&|| drop(black_box(ready(reqwest.token()))))),
        ("ureq, due, being refreshed", scaling(&|| drop(black_box(due_ureq.token())))),
        ("reqwest, due, being refreshed", scaling(&|| drop(black_box(ready(due_reqwest.token()))))),
        ("RwLock, clock, clone", scaling(&|| drop(black_box(held.read().map(|held| held.1.clone()))))),
    ] {
        println!("two threads give {scale:.2} times one thread: {name}");
        bar(scale >= 1.8 || name.starts_with("RwLock"), &format!("{name}: two threads give less than 1.8 times one"));
    }
    println!();
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
