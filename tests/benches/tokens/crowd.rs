//! A new token where many threads have read at the same time: what showing it to all of them costs.

use std::hint::black_box;
use std::sync::Barrier;
use std::thread;

use grantflow::source::Want;
use tokio::runtime::Runtime;

use crate::Made;
use crate::harness::{Work, measure, table};

pub(crate) fn run(
    runtime: &Runtime,
    blocking: &grantflow_ureq::Transport,
    asynchronous: &grantflow_reqwest::Transport,
) {
    let ureq = grantflow_ureq::TokenManager::new(blocking, Made(16), Want::default());
    let reqwest = grantflow_reqwest::TokenManager::new(asynchronous, Made(16), Want::default());
    ureq.start().expect("a token");
    runtime.block_on(reqwest.start()).expect("a token");
    for crowd in [1, 100, 1000, 10_000] {
        let all = Barrier::new(crowd);
        let read = || {
            black_box((ureq.token().map(drop), reqwest.fresh().map(drop))).1.expect("a token");
            all.wait();
        };
        thread::scope(|scope| {
            for _ in 0..crowd {
                let thread = thread::Builder::new().stack_size(64 * 1024);
                thread.spawn_scoped(scope, read).expect("a thread");
            }
        });
        let figures = measure(vec![
            Work::new("ureq", || ureq.force_refresh().map(drop)),
            Work::new("reqwest", || runtime.block_on(reqwest.force_refresh()).map(drop)),
        ]);
        println!("{}", table(&format!("a new token, {crowd} threads"), &figures));
    }
}
