//! Every rule of a call, over real sockets on loopback.

mod common;

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use common::{LONG, Once, call, run_with};
use grantflow::machine::{FailureKind, Reach, Repeat};
use grantflow::{Error, Failure, Now};
use grantflow_reqwest::{Transport, reqwest};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

async fn run(machine: Once) -> Result<http::Response<Vec<u8>>, Failure> {
    run_with(&Transport::new().unwrap(), machine).await
}

/// A server that answers each connection with these bytes, keeps it open if told, and notes what came.
struct Server {
    address: String,
    heard: Arc<Mutex<Vec<String>>>,
}

impl Server {
    async fn new(answer: &str, keep_open: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}/token?query=canary", listener.local_addr().unwrap());
        let heard = Arc::new(Mutex::new(Vec::new()));
        let (answer, notes) = (answer.to_owned(), heard.clone());
        tokio::spawn(async move {
            while let Ok((mut socket, _)) = listener.accept().await {
                let (answer, notes) = (answer.clone(), notes.clone());
                tokio::spawn(async move {
                    let request = hear(&mut socket).await;
                    notes.lock().unwrap().push(request);
                    socket.write_all(answer.as_bytes()).await.unwrap();
                    if keep_open {
                        // Until the other side closes.
                        while socket.read(&mut [0; 64]).await.is_ok_and(|n| n > 0) {}
                        notes.lock().unwrap().push("closed".into());
                    }
                });
            }
        });
        Self { address, heard }
    }

    fn heard(&self) -> Vec<String> {
        self.heard.lock().unwrap().clone()
    }

    async fn hears(&self, what: &str) {
        let wait = async {
            while !self.heard().iter().any(|heard| heard.contains(what)) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(LONG, wait).await.unwrap_or_else(|_| panic!("{what:?} not in {:?}", self.heard()));
    }
}

/// Reads one request with its body, which is always the same form here.
async fn hear(socket: &mut TcpStream) -> String {
    let mut request = Vec::new();
    while !request.ends_with(b"grant_type=canary") {
        let mut buffer = [0; 1024];
        match socket.read(&mut buffer).await.unwrap() {
            0 => break,
            n => request.extend_from_slice(&buffer[..n]),
        }
    }
    String::from_utf8(request).unwrap()
}

fn http(status: &str, headers: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\n{headers}content-length: {}\r\n\r\n{body}", body.len())
}

#[tokio::test]
async fn a_request_and_its_answer_arrive_as_they_are() {
    let headers = "content-encoding: gzip\r\nset-cookie: a=b\r\n";
    let server = Server::new(&http("400 Bad Request", headers, "no gzip"), false).await;
    let transport = Transport::new().unwrap();
    run_with(&transport, call(&server.address, |call| call)).await.unwrap();
    let response = run_with(&transport, call(&server.address, |call| call)).await.unwrap();
    assert_eq!(response.status(), 400);
    assert_eq!(response.headers()["content-encoding"], "gzip");
    assert_eq!(response.body(), b"no gzip");
    let request = server.heard().concat();
    for part in [
        "POST /token?query=canary HTTP/1.1\r\n",
        "accept: application/json\r\n",
        "accept-encoding: identity\r\n",
        "content-type: application/x-www-form-urlencoded\r\n",
        "content-length: 17\r\n",
        "user-agent: grantflow-reqwest/",
    ] {
        assert!(request.contains(part), "{part:?} in {request}");
    }
    for part in ["transfer-encoding", "cookie", "referer"] {
        assert!(!request.contains(part), "{part:?} in {request}");
    }
}

#[tokio::test]
async fn no_redirect_is_followed_and_nothing_sent_on() {
    let target = Server::new(&http("200 OK", "", "{}"), false).await;
    for status in ["301 M", "302 F", "303 S", "307 T", "308 P"] {
        let headers = format!("location: {}\r\n", target.address);
        let server = Server::new(&http(status, &headers, ""), false).await;
        let response = run(call(&server.address, |call| call)).await.unwrap();
        assert_eq!(response.status().as_str(), &status[..3]);
        assert_eq!(server.heard().len(), 1);
    }
    assert_eq!(target.heard(), [""; 0]);
}

#[tokio::test]
async fn a_body_over_the_limit_is_cut_and_one_at_the_limit_is_whole() {
    let chunked = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
    let endless = format!("{chunked}{}", "5\r\n12345\r\n".repeat(1000));
    let whole = format!("{chunked}5\r\n12345\r\n0\r\n\r\n");
    let until_close = "HTTP/1.1 200 OK\r\n\r\n123456";
    for (answer, keep_open, fits) in [
        (http("200 OK", "", "12345"), false, true),
        (http("200 OK", "", "123456"), false, false),
        (whole, true, true),
        (endless, true, false),
        (until_close.into(), false, false),
        ("HTTP/1.1 200 OK\r\ncontent-length: 9223372036854775807\r\n\r\n".into(), true, false),
    ] {
        let server = Server::new(&answer, keep_open).await;
        let result = run(call(&server.address, |call| call.with_max_body(5))).await;
        match result {
            Ok(response) if fits => assert_eq!(response.body(), b"12345"),
            Err(failure) if !fits => {
                assert_eq!(failure.kind(), FailureKind::TooLarge);
                assert!(failure.may_have_been_sent());
            }
            result => panic!("{result:?} for {answer:.80}"),
        }
    }
}

#[tokio::test]
async fn the_total_time_ends_a_silent_server_and_a_slow_body() {
    for answer in ["", "HTTP/1.1 200 OK\r\n", "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n1234"] {
        let server = Server::new(answer, true).await;
        let start = Instant::now();
        let failure =
            run(call(&server.address, |call| call.with_timeout(Duration::from_millis(200)))).await.unwrap_err();
        assert!((200..2000).contains(&start.elapsed().as_millis()));
        assert_eq!(failure.kind(), FailureKind::Timeout);
        assert!(failure.may_have_been_sent());
        server.hears("closed").await;
    }
}

#[tokio::test]
async fn who_refuses_was_not_sent_anything() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}/?query=canary", listener.local_addr().unwrap());
    drop(listener);
    let failure = run(call(&address, |call| call)).await.unwrap_err();
    assert_eq!(failure.kind(), FailureKind::Connect);
    assert!(!failure.may_have_been_sent());
    assert!(failure.to_string().contains("refused"), "{failure}");
    assert!(!format!("{failure:?}").contains("canary"), "{failure:?}");
}

#[tokio::test]
async fn a_name_that_is_not_found_was_not_sent_anything() {
    let failure = run(call("https://no-such-host.invalid/", |call| call)).await.unwrap_err();
    assert_eq!(failure.kind(), FailureKind::Connect);
    assert!(!failure.may_have_been_sent());
}

#[tokio::test]
async fn a_connection_that_closes_after_the_request_may_have_been_sent_it() {
    for answer in ["", "HTTP/1.1 200", "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n1234"] {
        let server = Server::new(answer, false).await;
        let failure = run(call(&server.address, |call| call)).await.unwrap_err();
        assert_eq!(failure.kind(), FailureKind::Broken, "{failure}");
        assert!(failure.may_have_been_sent());
        assert!(!format!("{failure:?}").contains("canary"), "{failure:?}");
        assert_eq!(server.heard().len(), 1, "it is not sent again");
    }
}

#[tokio::test]
async fn a_server_that_speaks_no_tls_was_not_sent_anything() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("https://{}/", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        socket.write_all(b"this is not TLS, and never will be").await.unwrap();
        let _ = socket.read(&mut [0; 4096]).await.unwrap();
    });
    let failure = run(call(&address, |call| call)).await;
    let failure = failure.unwrap_err();
    assert_eq!(failure.kind(), FailureKind::Tls, "{failure}");
    assert!(!failure.may_have_been_sent());
}

#[tokio::test]
async fn cleartext_goes_to_no_public_address() {
    let server = Server::new(&http("200 OK", "", "{}"), false).await;
    let failure = run(call(&server.address, |call| call.with_reach(Reach::Public))).await.unwrap_err();
    assert_eq!(failure.kind(), FailureKind::Forbidden);
    assert!(!failure.may_have_been_sent());
    assert_eq!(server.heard(), [""; 0]);
}

#[tokio::test]
async fn nothing_begins_once_the_moment_to_begin_has_passed() {
    let server = Server::new(&http("200 OK", "", "{}"), false).await;
    let failure = run(call(&server.address, |call| call.with_start_before(Now::default()))).await;
    let failure = failure.unwrap_err();
    assert_eq!(failure.kind(), FailureKind::Timeout);
    assert!(!failure.may_have_been_sent());
    assert_eq!(server.heard(), [""; 0]);
}

/// Finds every name at 127.0.0.1, after a while.
struct Slow(Duration);

impl reqwest::dns::Resolve for Slow {
    fn resolve(&self, _: reqwest::dns::Name) -> reqwest::dns::Resolving {
        let time = self.0;
        Box::pin(async move {
            tokio::time::sleep(time).await;
            Ok(Box::new(std::iter::once(([127, 0, 0, 1u8], 0u16).into())) as reqwest::dns::Addrs)
        })
    }
}

fn slow(time: Duration) -> Transport {
    let http = move || reqwest::Client::builder().dns_resolver(Arc::new(Slow(time)));
    Transport::builder().http(http).build().unwrap()
}

#[tokio::test]
async fn the_moment_to_begin_may_pass_while_connecting() {
    let server = Server::new(&http("200 OK", "", "{}"), false).await;
    let transport = slow(Duration::from_millis(300));
    let address = server.address.replace("127.0.0.1", "localhost");
    let soon = transport.now() + Duration::from_millis(150);
    let failure = run_with(&transport, call(&address, |call| call.with_start_before(soon))).await.unwrap_err();
    assert_eq!(failure.kind(), FailureKind::Timeout);
    assert!(!failure.may_have_been_sent());
    assert_eq!(failure.to_string(), "it took too long: the time to begin has passed");
    // The connection was made, and not a byte written to it.
    server.hears("").await;
    assert_eq!(server.heard(), [""]);
    let later = transport.now() + LONG;
    run_with(&transport, call(&address, |call| call.with_start_before(later))).await.unwrap();
}

#[tokio::test]
async fn a_timeout_before_there_is_a_connection_was_not_sent_anything() {
    let transport = slow(LONG);
    let machine = call("http://localhost:1/", |call| call.with_timeout(Duration::from_millis(100)));
    let failure = run_with(&transport, machine).await.unwrap_err();
    assert_eq!(failure.kind(), FailureKind::Timeout);
    assert!(!failure.may_have_been_sent());

    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("https://{}/", silent.local_addr().unwrap());
    let transport = Transport::builder().connect_timeout(Duration::from_millis(100)).build().unwrap();
    let failure = run_with(&transport, call(&address, |call| call)).await.unwrap_err();
    assert_eq!(failure.kind(), FailureKind::Timeout, "{failure}");
    assert!(!failure.may_have_been_sent());
}

#[tokio::test]
async fn a_proxy_is_used_for_public_addresses_and_never_for_this_machine() {
    let proxy = Server::new("HTTP/1.1 403 Forbidden\r\n\r\n", false).await;
    let server = Server::new(&http("200 OK", "", "{}"), false).await;
    let address: http::Uri = proxy.address.parse().unwrap();
    let address = format!("http://user:pass@{}", address.authority().unwrap());
    let asked = address.clone();
    let theirs = move || reqwest::Client::builder().proxy(reqwest::Proxy::all(&asked).unwrap());
    let known = format!("through the proxy http://{}: ", address.rsplit('@').next().unwrap());
    for (builder, way) in [
        (Transport::builder().proxy(&address), &*known),
        (Transport::builder().http(theirs), "through a proxy of the program's own HTTP client: "),
    ] {
        let transport = builder.build().unwrap();
        run_with(&transport, call(&server.address, |call| call)).await.unwrap();
        assert_eq!(proxy.heard(), [""; 0]);
        let machine =
            call("https://as.invalid/token?query=canary", |call| call.with_timeout(Duration::from_millis(300)));
        let failure = run_with(&transport, machine).await.unwrap_err();
        assert!(!failure.may_have_been_sent(), "the tunnel was never there");
        assert!(failure.to_string().contains(way) && !failure.to_string().contains("pass"), "{failure}");
        proxy.hears("CONNECT as.invalid:443 ").await;
        assert!(!proxy.heard().concat().contains("canary"));
        proxy.heard.lock().unwrap().clear();
    }
}

#[tokio::test]
async fn calls_to_this_machine_go_on_connections_of_their_own() {
    for repeat in [Repeat::Freely, Repeat::OnlyIfUnsent] {
        let server = Server::new(&http("200 OK", "", "{}"), true).await;
        let transport = Transport::new().unwrap();
        for _ in 0..3 {
            run_with(&transport, call(&server.address, |call| call.with_repeat(repeat))).await.unwrap();
            server.hears("closed").await;
            server.heard.lock().unwrap().clear();
        }
    }
}

#[tokio::test]
async fn what_a_caller_sets_cannot_undo_what_keeps_calls_safe() {
    let target = Server::new(&http("200 OK", "", "{}"), false).await;
    let server = Server::new(&http("307 T", &format!("location: {}\r\n", target.address), ""), false).await;
    let theirs = || {
        let retry = reqwest::retry::for_host("127.0.0.1").classify_fn(|answer| answer.retryable());
        reqwest::Client::builder().redirect(reqwest::redirect::Policy::limited(5)).retry(retry).user_agent("theirs")
    };
    let transport = Transport::builder().http(theirs).build().unwrap();
    assert_eq!(run_with(&transport, call(&server.address, |call| call)).await.unwrap().status(), 307);
    assert_eq!(target.heard(), [""; 0]);
    assert_eq!(server.heard().len(), 1);
    assert!(server.heard()[0].contains("user-agent: theirs\r\n"));
}

#[tokio::test]
async fn dropping_the_future_closes_the_connection() {
    for answer in ["", "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n1234"] {
        let server = Server::new(answer, true).await;
        let running = tokio::spawn(run(call(&server.address, |call| call)));
        server.hears("grant_type=canary").await;
        tokio::time::sleep(Duration::from_millis(20)).await;
        running.abort();
        server.hears("closed").await;
    }
}

#[tokio::test]
async fn a_watcher_sees_each_effect_and_reply_without_a_secret() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let notes = seen.clone();
    let transport = Transport::builder().watch(move |event| notes.lock().unwrap().push(format!("{event:?}")));
    let server = Server::new(&http("200 OK", "", "canary"), false).await;
    run_with(&transport.build().unwrap(), call(&server.address, |call| call)).await.unwrap();
    let seen = seen.lock().unwrap();
    assert!(seen[0].starts_with("Effect(Http(POST http://127.0.0.1:"), "{seen:?}");
    assert_eq!(seen[1..], ["Reply(Http(200, 6 bytes))"]);
    assert!(!seen.concat().contains("canary"), "{seen:?}");
}

#[tokio::test]
async fn what_cannot_be_used_is_said_when_building() {
    for (builder, says) in [
        (Transport::builder().proxy("not an address"), "proxy"),
        (Transport::builder().root_certificate_pem(b"nothing"), "none in the PEM"),
        (Transport::builder().user_agent("a\nb"), "the user agent"),
    ] {
        let error: Error = builder.build().unwrap_err();
        assert_eq!(error.kind(), grantflow::ErrorKind::Config);
        assert!(error.to_string().contains(says), "{error}");
    }
}

#[test]
fn the_future_is_send() {
    fn send<T: Send>(_: T) {}
    let transport = Transport::new().unwrap();
    send(transport.run(call("http://localhost/", |call| call)));
    fn sync<T: Send + Sync + Clone>(_: T) {}
    sync(transport);
}
