//! What a pool costs: a look at one of many wants, the bytes of each, and a new want where the pool is full.

use std::collections::HashMap;
use std::time::Duration;

use cpu_time::ThreadTime;
use grantflow::source::Want;
use tokio::runtime::Runtime;

use crate::harness::{Figures, Work, measure, ratio, table};
use crate::{Made, TOLERANCE, ready};

const NAME: &str = "someone";
/// The most bytes of a want in use, beside its token's text.
const BYTES: u64 = 500;
/// How much longer than in a map of maps a look may take.
const LOOK: f64 = 1.6;
/// How many wants a full pool holds, and how many new ones come.
const FULL: usize = 1_000_000;
const NEW: usize = 2_000_000;
/// The most time of the slowest new want, and of all but one in ten thousand: what other work on the machine adds to a
/// few microseconds. A step through all that there is would take a hundred milliseconds.
const SLOWEST: Duration = Duration::from_millis(5);
const MOST: Duration = Duration::from_micros(250);

pub(crate) fn run(
    runtime: &Runtime,
    blocking: &grantflow_ureq::Transport,
    asynchronous: &grantflow_reqwest::Transport,
    bar: &mut dyn FnMut(bool, &str),
) {
    for count in [1, 1000, 100_000, 1_000_000] {
        // The token's own text is not counted: the most wants have a short one.
        let text = if count > 100_000 { 16 } else { 1024 };
        let wants: Vec<Want> = (0..count).map(|nth| want("scope", nth)).collect();
        // The key of a token is its credential and its want.
        let plain: HashMap<Want, usize> = wants.iter().cloned().enumerate().map(|(nth, want)| (want, nth)).collect();
        let plain = HashMap::from([(NAME.to_owned(), plain)]);
        let pool = grantflow_ureq::TokenPool::new(blocking);
        pool.add(NAME, Made(text)).expect("a new name");
        let bytes = kept(count, text, || wants.iter().for_each(|want| drop(pool.token(NAME, want))));
        let shared = grantflow_reqwest::TokenPool::new(asynchronous);
        shared.add(NAME, Made(text)).expect("a new name");
        let more = kept(count, text, || {
            runtime.block_on(async {
                for want in &wants {
                    drop(shared.token(NAME, want).await);
                }
            });
        });
        let mut step = 0_usize;
        let mut next = move || {
            step = step.wrapping_mul(1_664_525).wrapping_add(1_013_904_223) % count;
            step
        };
        let (mut other, mut third) = (next, next);
        let looks = measure(vec![
            Work::new("ureq", || pool.token(NAME, &wants[next()]).map(drop)),
            Work::new("reqwest", || ready(shared.token(NAME, &wants[other()])).map(drop)),
            Work::new("a map of maps", || plain.get(NAME).and_then(|wants_of| wants_of.get(&wants[third()]))),
        ]);
        println!("{}", table(&format!("a look, {count} wants"), &looks));
        println!("  bytes of each want beside its token's text: ureq {bytes}, reqwest {more}\n");
        if count == 100_000 {
            bar(bytes <= BYTES && more <= BYTES, &format!("more than {BYTES} bytes for each want"));
            for Figures { name, best, allocations, .. } in &looks[..2] {
                let long = ratio(*best, looks[2].best) > LOOK * TOLERANCE;
                bar(!long && *allocations == 0, &format!("{name}: a look takes more than {LOOK} times a map's"));
            }
        }
    }

    println!("a new want in a pool of {FULL} that is full, of {NEW}{:>14} {:>10} {:>10}", "p50", "p99.99", "slowest");
    let pool = grantflow_ureq::TokenManager::builder(blocking).max_wants(FULL).build_pool();
    pool.add(NAME, Made(16)).expect("a new name");
    let times = full(|want| drop(pool.token(NAME, want).expect("a token")));
    assert!(pool.len() <= FULL);
    drop(pool);
    show("ureq", times, bar);
    let pool = grantflow_reqwest::TokenManager::builder(asynchronous).max_wants(FULL).build_pool();
    pool.add(NAME, Made(16)).expect("a new name");
    let times = full(|want| drop(runtime.block_on(pool.token(NAME, want)).expect("a token")));
    assert!(pool.len() <= FULL);
    show("reqwest", times, bar);
}

fn want(kind: &str, nth: usize) -> Want {
    Want::access_token(format!("{kind}-{nth:07}"))
}

/// How long each new want takes of this thread's own time, in order.
fn full(token: impl Fn(&Want)) -> Vec<Duration> {
    (0..FULL).for_each(|nth| token(&want("old", nth)));
    let mut times = Vec::with_capacity(NEW);
    for nth in 0..NEW {
        let want = want("new", nth);
        let start = ThreadTime::now();
        allocation_counter::opt_out(|| token(&want));
        times.push(start.elapsed());
    }
    times.sort_unstable();
    times
}

fn show(name: &str, times: Vec<Duration>, bar: &mut dyn FnMut(bool, &str)) {
    let [p50, most, slowest] = [NEW / 2, NEW / 10_000 * 9_999, NEW - 1].map(|nth| times[nth]);
    println!("  {name:<60} {p50:>10.1?} {most:>10.1?} {slowest:>10.1?}");
    let holds = slowest <= SLOWEST.mul_f64(TOLERANCE) && most <= MOST.mul_f64(TOLERANCE);
    bar(
        holds,
        &format!("{name}: a new want in a full pool takes more than {SLOWEST:?}, or one in 10,000 more than {MOST:?}"),
    );
}

/// How many bytes are kept for each want by what this does, beside the texts of their tokens.
fn kept(count: usize, text: usize, work: impl FnOnce()) -> u64 {
    let all = allocation_counter::measure(work).bytes_current / count as i64;
    u64::try_from(all).unwrap_or(0).saturating_sub((text + "Bearer ".len()) as u64)
}
