//! Where there is no tokio runtime, or one that lacks something, there is one clear error.

mod common;

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::Duration;

use common::call;
use grantflow::source::{Credential, Want};
use grantflow::store::{LoadGrant, RecordKey, Stored};
use grantflow::{Client, Cx, Effect, Error, ErrorKind, Failure, InstalledApp, Issuer, Machine, Reply, Step};
use grantflow_reqwest::{TokenManager, TokenPool, Transport};
use grantflow_store::{AsyncStore, Lease, MemoryStore};
use grantflow_tests::{Front, Server};
use tokio::runtime::{Builder, Runtime};

fn runtime(build: impl Fn(&mut Builder) -> &mut Builder) -> [Runtime; 2] {
    [Builder::new_current_thread(), Builder::new_multi_thread()].map(|mut builder| build(&mut builder).build().unwrap())
}

fn without_time() -> [Runtime; 2] {
    runtime(Builder::enable_io)
}

fn without_io() -> [Runtime; 2] {
    runtime(Builder::enable_time)
}

/// Polls a future where there is no runtime; it must end at once.
fn nowhere<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        std::task::Poll::Ready(value) => value,
        std::task::Poll::Pending => panic!("it waits"),
    }
}

#[track_caller]
fn assert_says<T>(result: Result<T, Error>, says: &str) {
    let error = result.err().expect("it fails");
    assert_eq!(error.kind(), ErrorKind::Misuse, "{error}");
    assert!(error.to_string().contains(says), "{error}");
}

const NONE: &str = "needs a tokio runtime, and there is none";
const TIME: &str = "has no timers: build it with enable_all()";
const IO: &str = "has no I/O: build it with enable_all()";

fn app() -> InstalledApp {
    // Its address needs no look-up, which needs no I/O of tokio's.
    let front = Front::start(Server::demo()).unwrap();
    InstalledApp::new(&front.metadata(), &Client::new("desk")).open_browser(false).show(|_| ())
}

/// A machine that pauses.
struct Pause(bool);

impl Machine for Pause {
    type Output = ();
    fn resume(&mut self, _: &mut Cx, _: Reply) -> Step<()> {
        if std::mem::replace(&mut self.0, true) { Step::Done(Ok(())) } else { Step::Do(Effect::Sleep(Duration::ZERO)) }
    }
}

#[test]
fn a_run_outside_of_a_runtime_is_an_error() {
    let transport = Transport::new().unwrap();
    assert_says(nowhere(transport.run(call("http://127.0.0.1:1/", |call| call))), NONE);
    assert_says(nowhere(transport.run(Pause(false))), NONE);
    let bound = transport.with_store(Arc::new(MemoryStore::new()));
    assert_says(nowhere(bound.run(LoadGrant::new(app().record_key(""), Want::default()))), NONE);
}

#[test]
fn a_run_in_a_runtime_without_time_or_io_is_an_error() {
    let transport = Transport::new().unwrap();
    for (runtimes, says) in [(without_time(), TIME), (without_io(), IO)] {
        for runtime in runtimes {
            // Twice: nothing is broken by it.
            for _ in 0..2 {
                assert_says(runtime.block_on(transport.run(call("http://127.0.0.1:1/", |call| call))), says);
            }
        }
    }
    for runtime in without_time() {
        assert_says(runtime.block_on(transport.run(Pause(false))), TIME);
    }
    // What is not needed may lack.
    for runtime in without_io() {
        runtime.block_on(transport.run(Pause(false))).unwrap();
    }
}

#[test]
fn a_panic_of_the_machine_is_still_one() {
    struct Broken;
    impl Machine for Broken {
        type Output = ();
        fn resume(&mut self, _: &mut Cx, _: Reply) -> Step<()> {
            panic!("the machine is broken")
        }
    }
    let transport = Transport::new().unwrap();
    let [runtime, _] = without_time();
    let run = std::panic::AssertUnwindSafe(|| runtime.block_on(transport.run(Broken)));
    let panic = std::panic::catch_unwind(run).unwrap_err();
    assert_eq!(panic.downcast_ref::<&str>(), Some(&"the machine is broken"));
}

#[test]
fn managers_and_pools_say_what_the_runtime_lacks() {
    let transport = Transport::new().unwrap();
    let credential = || Credential::client_credentials(Issuer::new("https://as.invalid").unwrap(), &Client::new("x"));
    let manager = || TokenManager::new(&transport, credential(), Want::default());
    assert_says(nowhere(manager().token()), NONE);
    assert_says(nowhere(manager().force_refresh()), NONE);
    nowhere(manager().shutdown());
    for runtime in without_time() {
        assert_says(runtime.block_on(manager().token()), TIME);
        runtime.block_on(manager().shutdown());
        let pool = TokenPool::new(&transport);
        pool.add("it", credential()).unwrap();
        assert_says(runtime.block_on(pool.token("it", &Want::default())), TIME);
        runtime.block_on(pool.shutdown());
    }
}

#[test]
fn a_sign_in_says_what_the_runtime_lacks() {
    let transport = Transport::new().unwrap().with_store(Arc::new(MemoryStore::new()));
    for app in [app(), app().device()] {
        assert_says(nowhere(transport.sign_in(&app)), NONE);
        assert_says(nowhere(transport.load_or_sign_in(&app, "")), NONE);
        assert_says(nowhere(transport.sign_out(&app, "")), NONE);
        for (runtimes, says) in [(without_time(), TIME), (without_io(), IO)] {
            for runtime in runtimes {
                assert_says(runtime.block_on(transport.sign_in(&app)), says);
                assert_says(runtime.block_on(transport.load_or_sign_in(&app, "")), says);
            }
        }
    }
}

/// A store that needs timers.
struct Slow;

impl AsyncStore for Slow {
    async fn load(&self, _: &RecordKey) -> Result<Option<Stored>, Failure> {
        tokio::time::sleep(Duration::ZERO).await;
        Ok(None)
    }
    async fn save(&self, _: &RecordKey, _: Option<u64>, _: &Stored) -> Result<bool, Failure> {
        Ok(false)
    }
    async fn delete(&self, _: &RecordKey, _: u64) -> Result<bool, Failure> {
        Ok(false)
    }
    async fn try_lease(&self, _: &RecordKey, time: Duration) -> Result<Option<Lease>, Failure> {
        tokio::time::sleep(time.min(Duration::ZERO)).await;
        Ok(None)
    }
}

#[test]
fn a_store_on_tokio_says_what_the_runtime_lacks() {
    let transport = Transport::new().unwrap().with_async_store(Slow);
    for runtime in without_time() {
        let load = LoadGrant::new(app().record_key(""), Want::default());
        assert_says(runtime.block_on(transport.run(load)), TIME);
        assert_says(runtime.block_on(transport.load_or_sign_in(&app(), "")), TIME);
    }
}
