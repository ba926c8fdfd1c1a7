//! Runs as a whole: limits, cancelling, watching, and the effects that are not HTTP.

mod common;

use std::io::Read as _;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use common::{Forever, Server, call, once};
use grantflow_ureq::grantflow::machine::FailureKind;
use grantflow_ureq::grantflow::{Effect, ErrorKind, Reply};
use grantflow_ureq::{Cancel, Limit, Transport};

const SOON: Duration = Duration::from_millis(100);

fn after<T: Send + 'static>(time: Duration, act: impl FnOnce() -> T + Send + 'static) {
    thread::spawn(move || {
        thread::sleep(time);
        act();
    });
}

#[test]
fn cancelling_wakes_a_sleeping_run() {
    let (transport, cancel) = (Transport::new().unwrap(), Cancel::new());
    let handle = cancel.clone();
    after(SOON, move || handle.cancel());
    let start = Instant::now();
    let error =
        transport.run_until(once(Effect::Sleep(Duration::from_secs(600))), &Limit::new().cancel(&cancel)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Cancelled);
    assert!(start.elapsed() < Duration::from_secs(5));
}

#[test]
fn cancelling_cuts_a_request_under_way() {
    // Nothing is answered, or a body without a length begins: cut, it must not pass for a whole one.
    for answer in ["", "HTTP/1.1 200 OK\r\n\r\naccess_token=a"] {
        let server = Server::start(move |mut stream| {
            std::io::Write::write_all(&mut stream, answer.as_bytes()).unwrap();
            let _ = stream.read(&mut [0]);
        });
        let (transport, cancel) = (Transport::new().unwrap(), Cancel::new());
        let handle = cancel.clone();
        after(SOON, move || handle.cancel());
        let slow = call(&server.url()).with_timeout(Duration::from_secs(600));
        let start = Instant::now();
        let error = transport.run_until(once(Effect::Http(slow)), &Limit::new().cancel(&cancel)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Cancelled);
        assert!(start.elapsed() < Duration::from_secs(5));
        assert_eq!(server.requests().len(), 1);
    }
}

#[test]
fn a_cancelled_handle_ends_a_run_before_its_first_effect() {
    let server = Server::saying("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
    let cancel = Cancel::new();
    cancel.cancel();
    let limit = Limit::new().cancel(&cancel);
    let error = Transport::new().unwrap().run_until(once(Effect::Http(call(&server.url()))), &limit).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Cancelled);
    assert!(server.requests().is_empty());
}

#[test]
fn a_deadline_ends_a_sleep_a_request_and_a_machine_without_end() {
    let silent = Server::start(|mut stream| drop(stream.read(&mut [0])));
    let transport = Transport::new().unwrap();
    let url = silent.url();
    let at = format!("passed at the request POST http://{}/token", silent.address);
    let effects: [(_, Box<dyn FnMut() -> Effect>); 3] = [
        ("passed in a pause before the next request", Box::new(|| Effect::Sleep(Duration::MAX))),
        (&*at, Box::new(move || Effect::Http(call(&url)))),
        ("passed before the variable PATH was read", Box::new(|| Effect::Env("PATH"))),
    ];
    for (name, effect) in effects {
        let start = Instant::now();
        let error = transport.run_until(Forever(effect), &Limit::within(SOON)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Timeout, "{name}");
        assert!(error.to_string().contains(name) && !error.to_string().contains("canary"), "{error}");
        assert!((SOON..Duration::from_secs(3)).contains(&start.elapsed()), "{name}: {:?}", start.elapsed());
    }
}

#[test]
fn a_result_that_is_there_is_handed_out_whatever_the_limit() {
    let cancel = Cancel::new();
    let handle = cancel.clone();
    let server = Server::start(move |mut stream| {
        std::io::Write::write_all(&mut stream, b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}").unwrap();
    });
    let transport = Transport::builder()
        .watch(move |event| {
            if matches!(event, grantflow_ureq::grantflow::Event::Reply(_)) {
                handle.cancel();
            }
        })
        .build()
        .unwrap();
    let effect = Effect::Http(call(&server.url()));
    let reply = transport.run_until(once(effect), &Limit::new().cancel(&cancel)).unwrap();
    assert!(matches!(reply, Reply::Http(_)), "{reply:?}");
    assert!(cancel.is_cancelled());
}

#[test]
fn a_watcher_sees_effects_and_replies_without_secrets() {
    let server = Server::saying("HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\ncanary");
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = seen.clone();
    let transport =
        Transport::builder().watch(move |event| log.lock().unwrap().push(format!("{event:?}"))).build().unwrap();
    transport.run(once(Effect::Http(call(&server.url())))).unwrap();
    let seen = seen.lock().unwrap();
    assert_eq!(seen.len(), 2);
    assert!(seen[0].starts_with("Effect(Http(POST http://127.0.0.1"), "{seen:?}");
    assert_eq!(seen[1], "Reply(Http(200, 6 bytes))");
    assert!(!seen.concat().contains("canary"));
}

#[test]
fn environment_variables_are_read() {
    let transport = Transport::new().unwrap();
    let read = |name| match transport.run(once(Effect::Env(name))).unwrap() {
        Reply::Env(value) => value,
        reply => panic!("{reply:?}"),
    };
    assert_eq!(read("PATH"), std::env::var_os("PATH"));
    assert_eq!(read("GRANTFLOW_TEST_NOT_SET"), None);
}

#[test]
fn files_are_read_up_to_their_limit() {
    let transport = Transport::new().unwrap();
    let directory = std::path::Path::new(env!("CARGO_TARGET_TMPDIR"));
    let path = directory.join("ten-bytes");
    std::fs::write(&path, b"0123456789").unwrap();
    let read =
        |path: &std::path::Path, max| transport.run(once(Effect::ReadFile { path: path.to_owned(), max })).unwrap();
    for max in [10, 11, usize::MAX] {
        assert!(matches!(read(&path, max), Reply::File(content) if content == b"0123456789"));
    }
    let kind = |reply| match reply {
        Reply::Failed(failure) => failure.kind(),
        reply => panic!("{reply:?}"),
    };
    assert_eq!(kind(read(&path, 9)), FailureKind::TooLarge);
    assert_eq!(kind(read(directory, 9)), FailureKind::File);
    assert!(matches!(read(&directory.join("no-such-file"), 9), Reply::Missing));
}

#[test]
fn contexts_differ_and_clocks_go_on() {
    let transport = Transport::new().unwrap();
    let (mut one, mut other) = (transport.cx().unwrap(), transport.cx().unwrap());
    assert_ne!(one.random::<32>("state").unwrap(), other.random::<32>("state").unwrap());
    let before = transport.now();
    thread::sleep(Duration::from_millis(5));
    assert!(transport.now().mono > before.mono);
    assert!(transport.now().wall.as_unix() > 1_700_000_000);
}

#[test]
fn transports_and_handles_go_to_other_threads() {
    fn shared<T: Clone + Send + Sync + 'static>() {}
    shared::<Transport>();
    shared::<Cancel>();
    shared::<Limit>();
}
