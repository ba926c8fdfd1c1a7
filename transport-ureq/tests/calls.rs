//! HTTP calls over real sockets: their rules, and what is told of their failures.

mod common;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

use common::{Server, call, closed_port, once, read_request, whole};
use grantflow_ureq::Transport;
use grantflow_ureq::grantflow::machine::{FailureKind, Reach, Repeat};
use grantflow_ureq::grantflow::{Call, Effect, Error, Failure, Reply};
use ureq::config::Config;

fn fetch(transport: &Transport, call: Call) -> Result<http::Response<Vec<u8>>, Failure> {
    match transport.run(once(Effect::Http(call))).unwrap() {
        Reply::Http(response) => Ok(response),
        Reply::Failed(failure) => Err(failure),
        reply => panic!("{reply:?}"),
    }
}

#[track_caller]
fn assert_fails(transport: &Transport, call: Call, kind: FailureKind, maybe_sent: bool) {
    let failure = fetch(transport, call).unwrap_err();
    assert_eq!((failure.kind(), failure.may_have_been_sent()), (kind, maybe_sent), "{failure}");
    assert!(!whole(&Error::from(failure)).contains("canary"));
}

#[test]
fn an_answer_comes_with_status_headers_and_body_and_the_request_arrives_whole() {
    for (status, body) in [(200, "{\"a\":1}"), (400, "{\"error\":\"x\"}"), (503, ""), (204, "")] {
        let length = if status == 204 { String::new() } else { format!("content-length: {}\r\n", body.len()) };
        let server = Server::saying(format!("HTTP/1.1 {status} X\r\nx-test: yes\r\n{length}\r\n{body}"));
        let response = fetch(&Transport::new().unwrap(), call(&server.url())).unwrap();
        assert_eq!(response.status(), status);
        assert_eq!(response.headers()["x-test"], "yes");
        assert_eq!(response.body(), body.as_bytes());
        let [request] = &server.requests()[..] else { panic!("one request") };
        assert!(request.starts_with("POST /token?query=canary HTTP/1.1\r\n"), "{request}");
        assert!(request.contains("\r\ncontent-type: application/x-www-form-urlencoded\r\n"), "{request}");
        assert!(request.contains("\r\naccept-encoding: identity\r\n"), "{request}");
        assert!(request.contains(concat!("\r\nuser-agent: grantflow-ureq/", env!("CARGO_PKG_VERSION"))), "{request}");
        assert!(request.ends_with("\r\n\r\nsecret=canary"), "{request}");
    }
}

#[test]
fn a_get_is_sent_without_a_body() {
    let server = Server::saying("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}");
    let get = http::Request::get(server.url()).body(Vec::new()).unwrap();
    let get = Call::new(get).with_reach(Reach::Local);
    assert_eq!(fetch(&Transport::new().unwrap(), get).unwrap().body(), b"{}");
    assert!(!server.requests()[0].contains("content-length"), "{:?}", server.requests());
}

#[test]
fn a_redirect_is_an_answer_and_nothing_is_sent_on() {
    let elsewhere = Server::saying("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
    // Not even for a caller whose own configuration follows redirects.
    let eager = Config::builder().max_redirects(10).http_status_as_error(true).build();
    for transport in [Transport::new().unwrap(), Transport::builder().http(eager).build().unwrap()] {
        for status in [301, 302, 303, 307, 308] {
            let location = elsewhere.url();
            let server =
                Server::saying(format!("HTTP/1.1 {status} X\r\nlocation: {location}\r\ncontent-length: 0\r\n\r\n"));
            let response = fetch(&transport, call(&server.url())).unwrap();
            assert_eq!(response.status(), status);
            assert_eq!(server.requests().len(), 1);
        }
    }
    assert_eq!(elsewhere.requests().len(), 0);
}

#[test]
fn a_body_over_its_limit_is_cut_while_it_comes() {
    let endless = |mut stream: TcpStream| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n");
        while stream.write_all(b"400\r\n").and_then(|()| stream.write_all(&[b'x'; 0x400])).is_ok() {
            let _ = stream.write_all(b"\r\n");
        }
    };
    let until_closed = |mut stream: TcpStream| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n");
        while stream.write_all(&[b'x'; 0x400]).is_ok() {}
    };
    let announced = |mut stream: TcpStream| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n");
        let _ = stream.read(&mut [0]);
    };
    let head = |mut stream: TcpStream| {
        while stream.write_all(b"HTTP/1.1 200 OK\r\nx-long: ").and_then(|()| stream.write_all(&[b'x'; 0x400])).is_ok() {
        }
    };
    for server in [Server::start(endless), Server::start(until_closed), Server::start(announced), Server::start(head)] {
        let call = call(&server.url()).with_max_body(50_000);
        assert_fails(&Transport::new().unwrap(), call, FailureKind::TooLarge, true);
    }
}

#[test]
fn a_body_of_exactly_the_limit_is_taken() {
    for size in [0, 1, 8191, 8192, 8193, 50_000] {
        let chunk = if size == 0 { String::new() } else { format!("{size:x}\r\n{}\r\n", "x".repeat(size)) };
        for answer in [
            format!("HTTP/1.1 200 OK\r\ncontent-length: {size}\r\n\r\n{}", "x".repeat(size)),
            format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{chunk}0\r\n\r\n"),
            format!("HTTP/1.0 200 OK\r\n\r\n{}", "x".repeat(size)),
        ] {
            let server = Server::saying(answer);
            let call = call(&server.url()).with_max_body(size);
            assert_eq!(fetch(&Transport::new().unwrap(), call).unwrap().body().len(), size);
        }
    }
}

#[test]
fn a_body_that_ends_too_soon_is_a_broken_connection() {
    for answer in [
        "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nabc",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nab",
        "HTTP/1.1 200 OK\r\ncontent-le",
    ] {
        assert_fails(&Transport::new().unwrap(), call(&Server::saying(answer).url()), FailureKind::Broken, true);
    }
}

#[test]
fn a_call_ends_by_its_total_time_however_slow_the_server() {
    let silent = Server::start(|mut stream| drop(stream.read(&mut [0])));
    let trickling = Server::start(|mut stream| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n");
        while stream.write_all(b"x").is_ok() {
            thread::sleep(Duration::from_millis(20));
        }
    });
    let slow_head = Server::start(|mut stream| {
        while stream.write_all(b"H").is_ok() {
            thread::sleep(Duration::from_millis(20));
        }
    });
    for server in [silent, trickling, slow_head] {
        let call = call(&server.url()).with_timeout(Duration::from_millis(300));
        let start = Instant::now();
        let failure = fetch(&Transport::new().unwrap(), call).unwrap_err();
        // A head that is no HTTP may be told as such before the time is over.
        assert!(failure.may_have_been_sent());
        assert!(matches!(failure.kind(), FailureKind::Timeout | FailureKind::Other), "{failure}");
        assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
    }
}

#[test]
fn a_refused_connection_was_surely_not_sent() {
    let url = format!("http://{}/", closed_port());
    assert_fails(&Transport::new().unwrap(), call(&url), FailureKind::Connect, false);
}

#[test]
fn a_name_that_does_not_exist_was_surely_not_sent() {
    let call = call("https://does-not-exist.invalid/token?query=canary").with_reach(Reach::Public);
    assert_fails(&Transport::new().unwrap(), call, FailureKind::Connect, false);
}

#[test]
fn a_connection_closed_after_the_request_was_maybe_sent() {
    let server = Server::start(drop);
    assert_fails(&Transport::new().unwrap(), call(&server.url()), FailureKind::Broken, true);
    assert_eq!(server.requests().len(), 1, "not sent a second time");
    // Closed before anything was read: who can know what arrived?
    let url = format!("http://{}/", Server::accept(drop));
    let failure = fetch(&Transport::new().unwrap(), call(&url)).unwrap_err();
    assert!(failure.may_have_been_sent(), "{failure}");
}

#[test]
fn an_answer_that_is_no_http_is_a_failure() {
    for answer in ["SSH-2.0-OpenSSH\r\n\r\n", "HTTP/1.1 abc\r\n\r\n", "\0\0\0\0\r\n\r\n"] {
        let failure = fetch(&Transport::new().unwrap(), call(&Server::saying(answer).url())).unwrap_err();
        assert!(failure.may_have_been_sent(), "{failure}");
    }
}

#[test]
fn nothing_is_sent_once_the_time_to_begin_has_passed() {
    let server = Server::saying("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
    let transport = Transport::new().unwrap();
    let late = call(&server.url()).with_start_before(transport.now());
    assert_fails(&transport, late, FailureKind::Timeout, false);
    assert!(server.requests().is_empty());
    let early = call(&server.url()).with_start_before(transport.now() + Duration::from_secs(60));
    assert_eq!(fetch(&transport, early).unwrap().status(), 200);
}

#[test]
fn cleartext_to_a_public_address_is_refused_before_the_network_is_touched() {
    let server = Server::saying("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
    let call = call(&server.url()).with_reach(Reach::Public);
    assert_fails(&Transport::new().unwrap(), call, FailureKind::Forbidden, false);
    assert!(server.requests().is_empty());
}

#[test]
fn a_proxy_is_used_for_public_addresses_and_never_for_loopback() {
    let server = Server::saying("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
    let proxy = Server::saying("HTTP/1.1 502 Bad Gateway\r\ncontent-length: 0\r\n\r\n");
    let address = format!("http://{}", proxy.address);
    let configured = Config::builder().proxy(Some(ureq::Proxy::new(&address).unwrap())).build();
    for transport in
        [Transport::builder().proxy(&address).build().unwrap(), Transport::builder().http(configured).build().unwrap()]
    {
        let before = proxy.requests().len();
        assert_eq!(fetch(&transport, call(&server.url())).unwrap().status(), 200);
        assert_eq!(proxy.requests().len(), before);
        let public = call("https://as.example/token?query=canary").with_reach(Reach::Public);
        // The proxy refuses: the request itself was never written.
        let failure = fetch(&transport, public).unwrap_err();
        assert_eq!((failure.kind(), failure.may_have_been_sent()), (FailureKind::Connect, false), "{failure}");
        assert!(failure.to_string().contains(&format!("through the proxy http://{}: ", proxy.address)), "{failure}");
        assert!(!whole(&Error::from(failure)).contains("canary"));
        let asked = proxy.requests().pop().unwrap();
        assert!(asked.starts_with("CONNECT as.example:443 HTTP/1.1\r\n") && !asked.contains("canary"), "{asked}");
    }
}

/// The environment of this process cannot be changed safely, so the test runs itself in another one.
#[test]
fn a_proxy_of_the_environment_is_used_for_public_addresses_and_never_for_loopback() {
    if let Ok(url) = std::env::var("GRANTFLOW_TEST_URL") {
        let transport = Transport::new().unwrap();
        assert_eq!(fetch(&transport, call(&url)).unwrap().status(), 200);
        let public = call("https://as.example/token?query=canary").with_reach(Reach::Public);
        return assert_fails(&transport, public, FailureKind::Connect, false);
    }
    let server = Server::saying("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
    let proxy = Server::saying("HTTP/1.1 502 Bad Gateway\r\ncontent-length: 0\r\n\r\n");
    let mut child = std::process::Command::new(std::env::current_exe().unwrap());
    for name in ["ALL_PROXY", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "http_proxy", "https_proxy"] {
        child.env(name, format!("http://{}", proxy.address));
    }
    for name in ["NO_PROXY", "no_proxy"] {
        child.env_remove(name);
    }
    let name = "a_proxy_of_the_environment_is_used_for_public_addresses_and_never_for_loopback";
    let child = child.env("GRANTFLOW_TEST_URL", server.url()).args(["--exact", name]).output().unwrap();
    assert!(child.status.success(), "{child:?}");
    assert_eq!(server.requests().len(), 1);
    let [asked] = &proxy.requests()[..] else { panic!("{:?}", proxy.requests()) };
    assert!(asked.starts_with("CONNECT as.example:443 "), "{asked}");
}

#[test]
fn each_call_has_a_connection_of_its_own() {
    let (tell, told) = channel();
    let tell = Arc::new(std::sync::Mutex::new(tell));
    let address = Server::accept(move |mut stream| {
        tell.lock().unwrap().send(()).unwrap();
        while !read_request(&mut stream).is_empty() {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
        }
    });
    let transport = Transport::new().unwrap();
    for repeat in [Repeat::Freely, Repeat::OnlyIfUnsent, Repeat::OnlyIfUnsent] {
        fetch(&transport, call(&format!("http://{address}/")).with_repeat(repeat)).unwrap();
    }
    assert_eq!(told.try_iter().count(), 3);
}

#[test]
fn a_builder_says_what_it_cannot_use() {
    for builder in [
        Transport::builder().proxy("no proxy"),
        Transport::builder().user_agent("a\nb"),
        Transport::builder().root_certificate_pem(b"nothing"),
    ] {
        let error = builder.build().unwrap_err();
        assert_eq!(error.kind(), grantflow_ureq::grantflow::ErrorKind::Config, "{error}");
    }
}

#[test]
fn a_user_agent_of_the_callers_own_is_sent() {
    let server = Server::saying("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
    let configured = Config::builder().user_agent("theirs").build();
    for (builder, name) in [
        (Transport::builder().user_agent("mine"), "mine"),
        (Transport::builder().http(configured.clone()), "theirs"),
        (Transport::builder().http(configured).user_agent("mine"), "mine"),
    ] {
        fetch(&builder.build().unwrap(), call(&server.url())).unwrap();
        let request = server.requests().pop().unwrap();
        assert!(request.contains(&format!("\r\nuser-agent: {name}\r\n")), "{request}");
    }
}
