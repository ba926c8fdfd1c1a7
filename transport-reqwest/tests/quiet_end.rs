//! The last manager is dropped while a refresh token that changes is being used: its use is waited for, wherever that
//! happens, and nothing panics on the way. A panic would be the end of a program that aborts on panics.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

use grantflow::TokenRequest;
use grantflow::source::{Credential, Want};
use grantflow_reqwest::{Change, TokenManager, Transport};
use grantflow_tests::server::RefreshTokens;
use grantflow_tests::{Fault, Front, Place, Server, demo};
use tokio::runtime::{Builder, Runtime};
use tokio::task::LocalSet;

static PANICS: AtomicUsize = AtomicUsize::new(0);

fn workers(count: usize) -> Runtime {
    Builder::new_multi_thread().worker_threads(count).enable_all().build().unwrap()
}

/// Drops a manager while its refresh is under way, and says how many new tokens came, and after how long.
fn dropped(runtime: &Runtime, drop_it: impl FnOnce(&Runtime, TokenManager)) -> (usize, Duration) {
    let front = Front::start(Server::demo()).unwrap();
    front.server().settings.refresh_tokens = RefreshTokens::Rotate { grace: Duration::ZERO };
    let transport = Transport::new().unwrap();
    let password = TokenRequest::password(&front.metadata(), &demo::client(), "alice", "wonderland").unwrap();
    let token = runtime.block_on(transport.run(password.scopes("read").exchange())).unwrap();
    let refresh = token.refresh_token().unwrap().clone();
    let source = Credential::refresh_token(front.metadata(), &demo::client(), refresh);
    let told = Arc::new(AtomicUsize::new(0));
    let count = told.clone();
    let builder = TokenManager::builder(&transport).on_change(move |change: &Change| {
        count.fetch_add(usize::from(change.outcome.is_ok()), SeqCst);
    });
    let manager = builder.build(source, Want::access_token("read"));
    front.server().fail(Place::Token, Fault::Delay(Duration::from_millis(400)));
    runtime.block_on(async {
        let waiting = manager.clone();
        let task = tokio::spawn(async move { drop(waiting.token().await) });
        while front.server().seen_at(Place::Token).len() < 2 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        task.abort();
        let _ = task.await;
    });
    let start = Instant::now();
    drop_it(runtime, manager);
    (told.load(SeqCst), start.elapsed())
}

#[test]
fn it_is_waited_for_and_nothing_panics() {
    std::panic::set_hook(Box::new(|info| {
        PANICS.fetch_add(1, SeqCst);
        eprintln!("{info}");
    }));
    type Drops = fn(&Runtime, TokenManager);
    let places: [(&str, Drops); 5] = [
        ("outside of any runtime", |_, manager| drop(manager)),
        ("in the main task", |runtime, manager| runtime.block_on(async move { drop(manager) })),
        ("in a task", |runtime, manager| {
            runtime.block_on(runtime.spawn(async move { drop(manager) })).unwrap();
        }),
        ("in the main task of a LocalSet", |runtime, manager| {
            runtime.block_on(LocalSet::new().run_until(async move { drop(manager) }));
        }),
        ("in a task of a LocalSet", |runtime, manager| {
            let task = async { tokio::task::spawn_local(async move { drop(manager) }).await.unwrap() };
            runtime.block_on(LocalSet::new().run_until(task));
        }),
    ];
    for count in [1, 2, 4] {
        for (place, drop_it) in places {
            let (told, took) = dropped(&workers(count), drop_it);
            assert_eq!(PANICS.load(SeqCst), 0, "{place}, {count} workers");
            assert_eq!(told, 1, "{place}, {count} workers: the new refresh token is lost");
            assert!(took > Duration::from_millis(100) && took < Duration::from_secs(3), "{place}, {count}: {took:?}");
        }
    }
}
