//! A thousand callers at once, against a server that takes 200 ms.

use std::time::{Duration, Instant};

use grantflow::source::{Credential, Want};
use grantflow_reqwest::{TokenManager, Transport};
use grantflow_tests::{Fault, Front, Place, Server, demo};

const CALLERS: usize = 1000;
const LATENCY: Duration = Duration::from_millis(200);

/// What a thousand callers met.
struct Met {
    requests: usize,
    median: Duration,
    p99: Duration,
    last: Duration,
}

pub(crate) fn run(bar: &mut dyn FnMut(bool, &str)) {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    println!("1,000 callers, 200 ms latency{:>12} {:>10} {:>10} {:>10}", "requests", "p50", "p99", "last");
    runtime.block_on(async {
        let none = meet(3600, Duration::ZERO).await;
        show("no token yet", &none);
        bar(
            none.requests == 1 && none.last <= LATENCY.mul_f64(1.2),
            "1,000 callers without a token: more than one request, or slow",
        );

        // A token of 8 s is due in its last 2 s.
        let due = meet(8, Duration::from_millis(6500)).await;
        show("due, but good", &due);
        bar(
            due.requests == 1 && due.p99 < LATENCY / 4,
            "1,000 callers with a token that is due: more than one request, or somebody waits",
        );

        let expired = meet(2, Duration::from_millis(2050)).await;
        show("a token of 2 s, just expired", &expired);
        bar(
            expired.requests == 1 && expired.last <= LATENCY.mul_f64(1.2),
            "1,000 callers at expiry: more than one request, or slow",
        );
    });
}

/// Has a token of this life fetched, lets the pause pass without background work, and lets them all come. Without a
/// pause nothing is fetched before.
async fn meet(lifetime: u64, pause: Duration) -> Met {
    let front = Front::start(Server::demo().with(|settings| settings.lifetime = lifetime)).expect("a port");
    let transport = Transport::new().expect("a transport");
    let credential = Credential::client_credentials(front.metadata(), &demo::batch());
    let want = Want::access_token("read");
    let tokens = TokenManager::builder(&transport).background_refresh(false).build(credential, want);
    if pause > Duration::ZERO {
        tokens.start().await.expect("a token");
        tokio::time::sleep(pause).await;
    }
    front.server().fail(Place::Token, Fault::Delay(LATENCY));
    let before = front.server().seen_at(Place::Token).len();
    let callers: Vec<_> = (0..CALLERS)
        .map(|_| {
            let tokens = tokens.clone();
            tokio::spawn(async move {
                let begin = Instant::now();
                tokens.token().await.map(drop).expect("a token");
                begin.elapsed()
            })
        })
        .collect();
    let mut waits = Vec::with_capacity(CALLERS);
    for caller in callers {
        waits.push(caller.await.expect("no panic"));
    }
    waits.sort();
    // What runs in the background ends too.
    tokio::time::sleep(LATENCY + LATENCY).await;
    let requests = front.server().seen_at(Place::Token).len() - before;
    Met { requests, median: waits[CALLERS / 2], p99: waits[CALLERS * 99 / 100], last: waits[CALLERS - 1] }
}

fn show(what: &str, met: &Met) {
    println!("  {what:<28} {:>10} {:>10.1?} {:>10.1?} {:>10.1?}", met.requests, met.median, met.p99, met.last);
}
