//! What the background leaves behind: nothing. Alone in its process, since it counts threads.
#![cfg(target_os = "linux")]

use std::time::{Duration, Instant};
use std::{fs, thread};

use grantflow_tests::demo::batch;
use grantflow_tests::{Fault, Front, Place, Server};
use grantflow_ureq::grantflow::source::{Credential, Want};
use grantflow_ureq::{ManagerBuilder, TokenManager, Transport};

/// The names of our threads in this process.
fn threads() -> Vec<String> {
    let tasks = fs::read_dir("/proc/self/task").unwrap();
    // A thread may be gone between these two lines.
    let names = tasks.filter_map(|task| fs::read_to_string(task.unwrap().path().join("comm")).ok());
    names.map(|name| name.trim().to_owned()).filter(|name| name.starts_with("grantflow")).collect()
}

/// A thread has its name, and is gone, a moment after it began and ended.
fn soon(expected: &[&str]) {
    let start = Instant::now();
    while threads() != expected {
        assert!(start.elapsed() < Duration::from_millis(300), "{:?}, not {expected:?}", threads());
    }
}

fn eventually(what: &str, so: impl Fn() -> bool) {
    let start = Instant::now();
    while !so() {
        assert!(start.elapsed() < Duration::from_secs(5), "{what}: not within 5 s");
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn one_thread_serves_all_managers_and_ends_with_the_last() {
    let front = Front::start(Server::demo().with(|settings| settings.lifetime = 2)).unwrap();
    let requests = || front.server().seen_at(Place::Token).len();
    let transport = Transport::new().unwrap();
    let builder = || -> ManagerBuilder { TokenManager::builder(&transport).margin(Duration::from_secs(60)) };
    let credential = || Credential::client_credentials(front.metadata(), &batch());
    let want = || Want::access_token("read");

    let off = builder().background_refresh(false).build(credential(), want());
    off.token().unwrap();
    off.force_refresh().unwrap();
    let lazy = builder().build(credential(), want());
    soon(&[]);

    let pool = builder().build_pool();
    pool.add("batch", credential()).unwrap();
    lazy.start().unwrap();
    lazy.token().unwrap();
    for scopes in ["read", "write", "email"] {
        let manager = pool.manager("batch", Want::access_token(scopes)).unwrap();
        manager.start().unwrap();
        manager.token().unwrap();
    }
    soon(&["grantflow-timer"]);
    let before = requests();
    eventually("the refreshes", || requests() == before + 4);
    eventually("the end of the threads that refreshed", || threads() == ["grantflow-timer"]);

    drop(pool);
    soon(&["grantflow-timer"]);
    drop(lazy.clone());
    drop(lazy);
    soon(&[]);

    // Another one begins anew; a refresh under way that can be had again does not keep it.
    let again = builder().build(credential(), want());
    again.start().unwrap();
    again.token().unwrap();
    soon(&["grantflow-timer"]);
    front.server().fail(Place::Token, Fault::Delay(Duration::from_millis(700)));
    let before = requests();
    eventually("a refresh", || requests() > before);
    again.shutdown();
    soon(&["grantflow-mint"]);
    eventually("its end", || threads().is_empty());
    drop((again, off));
}
