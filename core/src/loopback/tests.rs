//! The receiver and the checks around it, as tables.

mod app;

use std::net::IpAddr;
use std::time::Duration;

use super::*;
use crate::exchange::FORM;
use crate::{
    Advice, Client, Cx, Effect, ErrorKind, InstalledApp, Issuer, Machine, Now, Reply, ServerMetadata, Step, Timestamp,
};

/// The parts of a right answer.
pub(super) struct Answer {
    pub(super) state: String,
}

const CODE: &str = "4/0Ademo-Code_xyz";
const NOW: Timestamp = Timestamp::from_unix(0);

impl Answer {
    pub(super) fn query(&self) -> String {
        format!("state={}&code={CODE}&scope=email%20https://www.googleapis.com/auth/x&authuser=0", self.state)
    }

    pub(super) fn url(&self) -> String {
        format!("http://127.0.0.1:50123/?{}", self.query())
    }

    pub(super) fn request(&self) -> String {
        get(&format!("/?{}", self.query()), "")
    }
}

fn get(target: &str, fields: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: 127.0.0.1:50123\r\n{fields}\r\n")
}

fn server() -> ServerMetadata {
    ServerMetadata::new(Issuer::new("https://as.example").unwrap())
        .authorization_endpoint("https://as.example/authorize")
        .and_then(|server| server.token_endpoint("https://as.example/token"))
        .unwrap()
}

fn app() -> InstalledApp {
    InstalledApp::new(&server(), &Client::new("native-app"))
}

fn cx() -> Cx {
    Cx::new(Now::default(), [7; 32])
}

/// Whether it sends the code to the token endpoint.
fn redeems(receiver: Receiver) -> bool {
    matches!(receiver.finish().resume(&mut cx(), Reply::Start), Step::Do(Effect::Http(_)))
}

fn at_once<M: Machine>(mut machine: M, cx: &mut Cx) -> Result<M::Output, Error> {
    match machine.resume(cx, Reply::Start) {
        Step::Done(result) => result,
        Step::Do(effect) => panic!("it asks for {effect:?}"),
    }
}

fn start(app: &InstalledApp, port: u16) -> (Receiver, Answer) {
    let receiver = at_once(app.start(port), &mut cx()).unwrap();
    let url = Url::parse(receiver.url()).unwrap();
    let state = url.query_pairs().find(|(name, _)| name == "state").unwrap().1.into_owned();
    (receiver, Answer { state })
}

pub(super) fn receiver() -> (Receiver, Answer) {
    start(&app(), 50123)
}

/// The reply's text, after checking what every reply must be.
fn reply(heard: Heard, answer: &Answer) -> String {
    let (Heard::Reply(bytes) | Heard::Answered(bytes)) = heard else { panic!("it wants more") };
    let text = String::from_utf8(bytes).unwrap();
    if text.is_empty() {
        return text;
    }
    for secret in [CODE, "Ademo-Code", &answer.state] {
        assert!(!text.contains(secret), "{text}");
    }
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    for line in [
        "Content-Type: text/html; charset=utf-8",
        "Referrer-Policy: no-referrer",
        "Cache-Control: no-store",
        "X-Content-Type-Options: nosniff",
        "Connection: close",
    ] {
        assert!(head.lines().any(|other| other == line), "{line}");
    }
    assert!(head.contains("\r\nContent-Security-Policy: default-src 'none'; style-src 'sha256-"));
    let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: ")).unwrap();
    assert!(body.is_empty() || length == body.len().to_string());
    text
}

#[test]
fn only_the_answer_itself_ends_the_wait() {
    let (_, answer) = receiver();
    let (state, right) = (&answer.state, format!("/?{}", answer.query()));
    let with = |fields: &str| get(&right, fields);
    let host = |fields: &str| format!("GET {right} HTTP/1.1\r\n{fields}\r\n");
    let method = |method: &str| with("").replacen("GET", method, 1);
    let query = |query: &str| get(&format!("/?{query}"), "");
    for (name, request, status) in [
        // What browsers do besides.
        ("favicon", get("/favicon.ico", ""), 404),
        ("no query", get("/", ""), 400),
        ("prefetch", with("Sec-Purpose: prefetch\r\n"), 503),
        ("prerender", with("Sec-Purpose: prefetch;prerender\r\n"), 503),
        ("prefetch, quietly", with("sec-purpose: prefetch;anonymous-client-ip\r\n"), 503),
        ("older prefetch", with("Purpose: Prefetch\r\n"), 503),
        ("oldest prefetch", with("X-Moz: prefetch\r\n"), 503),
        ("preview", with("X-Purpose: preview\r\n"), 503),
        ("HEAD", method("HEAD"), 405),
        ("POST of something else", method("POST").replace("state=", "state=x"), 405),
        ("OPTIONS", method("OPTIONS"), 405),
        ("lower case method", method("get"), 405),
        ("another path", get("/x?code=1&state=2", ""), 404),
        // DNS rebinding and other sites.
        ("another host", get("/?code=1&state=2", "").replace("127.0.0.1", "evil.example"), 421),
        ("another host, posted", method("POST").replace("127.0.0.1", "evil.example").replace("state=", "state=x"), 421),
        ("no host", "GET / HTTP/1.1\r\n\r\n".into(), 421),
        ("asterisk", get("*", ""), 421),
        ("foreign absolute target", get("http://evil.example/?code=1&state=2", ""), 421),
        ("foreign origin", get("/?code=1&state=2", "Origin: https://evil.example\r\n"), 403),
        // Answers to something else.
        ("wrong state", query(&format!("code={CODE}&state=x{state}")), 400),
        ("state cut short", query(&format!("code={CODE}&state={}", &state[..42])), 400),
        ("no state", query(&format!("code={CODE}")), 400),
        ("empty state", query(&format!("code={CODE}&state=")), 400),
        ("two states", query(&format!("code={CODE}&state={state}&state=x")), 400),
        ("error without state", query("error=access_denied"), 400),
        ("error with a wrong state", query("error=access_denied&state=x"), 400),
        // What is no request.
        ("garbage", "\0\u{1}\u{2}\r\n\r\n".into(), 400),
        ("another protocol", "SSH-2.0-OpenSSH_9.6\r\n".into(), 400),
        ("HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".into(), 400),
        ("HTTP/0.9", "GET /\r\n".into(), 400),
        ("a folded field", with("X: a\r\n b\r\n"), 400),
        ("a space before the colon", host("Host : 127.0.0.1:50123\r\n"), 400),
        ("a control character", with("X: a\0b\r\n"), 400),
        ("too many fields", get("/", &"X: y\r\n".repeat(101)), 431),
        ("a head too long", get("/", &format!("X: {}\r\n", "y".repeat(64 * 1024))), 431),
        ("a line without end", "GET /".to_owned() + &"x".repeat(64 * 1024), 431),
        ("empty lines without end", "\r\n".repeat(32 * 1024), 431),
    ] {
        let (mut receiver, _) = receiver();
        let heard = receiver.hear(request.as_bytes(), NOW);
        assert!(matches!(heard, Heard::Reply(_)) && !receiver.is_answered(), "{name}: {heard:?}");
        let text = reply(heard, &answer);
        assert!(text.starts_with(&format!("HTTP/1.1 {status} ")), "{name}: {text}");
        assert_eq!(text.ends_with("\r\n\r\n"), name == "HEAD", "{name}");
        assert_eq!(text.contains("\r\nAllow: GET, POST\r\n"), status == 405, "{name}");
        assert!(!text.contains("access_denied") && !text.contains("evil"), "{name} is echoed");
        let heard = receiver.hear(answer.request().as_bytes(), NOW);
        assert!(matches!(heard, Heard::Answered(_)), "{name}, then the answer: {heard:?}");
    }
}

#[test]
fn an_answer_that_came_in_a_wrong_way_ends_the_wait_with_the_reason() {
    let (_, answer) = receiver();
    let right = format!("/?{}", answer.query());
    let with = |fields: &str| get(&right, fields);
    let host = |fields: &str| format!("GET {right} HTTP/1.1\r\n{fields}\r\n");
    for (name, request, status, why) in [
        ("another host", host("Host: evil.example:50123\r\n"), 421, "it was sent to the host"),
        ("another name", host("Host: localhost:50123\r\n"), 421, "it was sent to the host"),
        ("another port", host("Host: 127.0.0.1:50124\r\n"), 421, "it was sent to the host"),
        ("no port", host("Host: 127.0.0.1\r\n"), 421, "it was sent to the host"),
        ("a longer host", host("Host: 127.0.0.1:50123.evil.example\r\n"), 421, "it was sent to the host"),
        ("empty host", host("Host:\r\n"), 421, "it was sent to the host"),
        ("no host", host(""), 421, "it was sent to the host"),
        ("two hosts", with("Host: 127.0.0.1:50123\r\n"), 421, "it was sent to the host"),
        ("a second, foreign host", with("Host: evil.example\r\n"), 421, "it was sent to the host"),
        ("HTTP/1.0 without host", format!("GET {right} HTTP/1.0\r\n\r\n"), 421, "it was sent to the host"),
        ("foreign absolute target", get(&format!("http://evil.example{right}"), ""), 421, "it was sent to the host"),
        ("foreign origin", with("Origin: https://evil.example\r\n"), 403, "the script of a page"),
        ("null origin", with("Origin: null\r\n"), 403, "the script of a page"),
        ("origin over https", with("Origin: https://127.0.0.1:50123\r\n"), 403, "the script of a page"),
        (
            "a second, foreign origin",
            with("Origin: http://127.0.0.1:50123\r\nOrigin: https://evil.example\r\n"),
            403,
            "the script of a page",
        ),
        ("another path", get(&right.replacen('/', "/x", 1), ""), 404, "its path is /"),
        ("a longer path", get(&right.replacen('/', "//", 1), ""), 404, "its path is /"),
        ("too many fields", with(&"X: y\r\n".repeat(101)), 431, "longer than 64 KiB"),
        ("a head too long", with(&format!("X: {}\r\n", "y".repeat(64 * 1024))), 431, "longer than 64 KiB"),
        ("10,000 short fields", with(&"X:\r\n".repeat(10_000)), 431, "longer than 64 KiB"),
    ] {
        let (mut receiver, _) = receiver();
        let heard = receiver.hear(request.as_bytes(), NOW);
        assert!(matches!(heard, Heard::Answered(_)), "{name}: {heard:?}");
        let text = reply(heard, &answer);
        assert!(text.starts_with(&format!("HTTP/1.1 {status} ")) && text.contains("<h1>Sign-in failed</h1>"), "{text}");
        assert!(!text.contains("evil"), "{name} is echoed");
        assert!(reply(receiver.hear(answer.request().as_bytes(), NOW), &answer).contains(" 410 "), "it is over");
        let error = at_once(receiver.finish(), &mut cx()).unwrap_err();
        assert_eq!((error.kind(), error.advice()), (ErrorKind::InvalidRedirect, Some(Advice::SignInAgain)));
        let text = error.to_string();
        assert!(text.contains(why) && text.contains("http://127.0.0.1:50123/"), "{name}: {text}");
        assert!(!text.contains(CODE) && !text.contains(&answer.state), "{text}");
    }
}

#[test]
fn what_comes_ahead_of_the_answer_is_told_if_the_answer_does_not_follow() {
    let (_, answer) = receiver();
    let right = answer.request();
    for (request, why) in [
        (right.replacen("GET", "HEAD", 1), "its method is HEAD"),
        (right.replacen("GET", "OPTIONS", 1), "its method is OPTIONS"),
        (get(&format!("/?{}", answer.query()), "Sec-Purpose: prefetch\r\n"), "before the address was opened"),
    ] {
        let (mut receiver, _) = receiver();
        assert!(matches!(receiver.hear(request.as_bytes(), NOW), Heard::Reply(_)) && !receiver.is_answered());
        let error = at_once(receiver.finish(), &mut cx()).unwrap_err();
        assert!(error.kind() == ErrorKind::Timeout && error.to_string().contains(why), "{error}");
    }
}

#[test]
fn the_answer_is_known_however_it_is_dressed() {
    let right = |answer: &Answer, fields: &str| get(&format!("/?{}", answer.query()), fields);
    let chromium = "Connection: keep-alive\r\nsec-ch-ua: \"Chromium\";v=\"140\"\r\nUpgrade-Insecure-Requests: 1\r\n\
        User-Agent: Mozilla/5.0\r\nAccept: text/html\r\nSec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: navigate\r\n\
        Sec-Fetch-User: ?1\r\nSec-Fetch-Dest: document\r\nAccept-Encoding: gzip\r\nCookie: a=b\r\n";
    for fields in ["", chromium, "Origin: http://127.0.0.1:50123\r\n", "X-Purpose: none\r\n", "Sec-Purpose: \r\n"] {
        let (mut receiver, answer) = receiver();
        let heard = receiver.hear(right(&answer, fields).as_bytes(), NOW);
        assert!(matches!(heard, Heard::Answered(_)), "{fields}: {heard:?}");
        let text = reply(heard, &answer);
        assert!(text.starts_with("HTTP/1.1 200 OK\r\n") && text.contains("You may close this window"));
        assert!(redeems(receiver));
    }
    let (mut receiver, answer) = receiver();
    let request = answer.request();
    for end in 0..request.len() {
        assert!(matches!(receiver.hear(&request.as_bytes()[..end], NOW), Heard::More), "{end}");
    }
    let bare_lines = request.replace("\r\n", "\n");
    assert!(matches!(receiver.hear(bare_lines.as_bytes(), NOW), Heard::Answered(_)));
}

#[test]
fn the_host_is_the_redirect_uris_own() {
    for (app, port, host, known) in [
        (app(), 50123, "127.0.0.1:50123", true),
        (app().host("localhost"), 50123, "localhost:50123", true),
        (app().host("localhost"), 50123, "LOCALHOST:50123", true),
        (app().host("localhost"), 50123, "127.0.0.1:50123", false),
        (app().host("::1"), 50123, "[::1]:50123", true),
        (app().host("[::1]"), 50123, "[::1]:50123", true),
        (app().host("[::1]"), 50123, "::1:50123", false),
        (app().host("localhost"), 80, "localhost", true),
        (app().host("localhost"), 80, "localhost:80", true),
        (app().host("localhost"), 80, "evil.example", false),
        (app().bind_beyond_loopback(IpAddr::from([0, 0, 0, 0])), 50123, "0.0.0.0:50123", false),
        (app().bind_beyond_loopback(IpAddr::from([0, 0, 0, 0])), 50123, "127.0.0.1:50123", true),
    ] {
        let (mut receiver, answer) = start(&app, port);
        let request = format!("GET /?{} HTTP/1.1\r\nHost: {host}\r\n\r\n", answer.query());
        let heard = receiver.hear(request.as_bytes(), NOW);
        assert_eq!(reply(heard, &answer).starts_with("HTTP/1.1 200 "), known, "{host}");
        assert_eq!(redeems(receiver), known, "{host}");
    }
}

#[test]
fn tls_gets_no_words_and_is_closed() {
    let (mut receiver, answer) = receiver();
    assert_eq!(reply(receiver.hear(&[0x16, 3, 1, 2, 0, 1], NOW), &answer), "");
    assert!(matches!(receiver.hear(b"", NOW), Heard::More));
}

#[test]
fn an_error_with_the_right_state_ends_the_wait_and_is_shown_escaped() {
    let (mut receiver, answer) = receiver();
    let query = format!(
        "error=access_denied&error_description=%3Cscript%3Ealert(1)%3C/script%3E%0d%0aX:+y&error_uri=https://evil.example&state={}",
        answer.state
    );
    let heard = receiver.hear(get(&format!("/?{query}"), "").as_bytes(), NOW);
    assert!(matches!(heard, Heard::Answered(_)), "{heard:?}");
    let text = reply(heard, &answer);
    assert!(text.starts_with("HTTP/1.1 200 OK\r\n") && text.contains("<h1>Sign-in failed</h1>"));
    assert!(text.contains("<code>access_denied</code>"));
    assert!(text.contains("&lt;script&gt;alert(1)&lt;/script&gt;X: y"), "{text}");
    assert!(!text.contains("<script") && !text.contains("evil.example"));
    let error = at_once(receiver.finish(), &mut cx()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Authorization);
    assert_eq!(error.server().unwrap().error(), "access_denied");
}

#[test]
fn a_late_answer_ends_the_wait_with_an_error() {
    let (mut receiver, answer) = start(&app().timeout(Duration::from_secs(60)), 50123);
    let heard = receiver.hear(answer.request().as_bytes(), NOW + Duration::from_secs(61));
    assert!(reply(heard, &answer).contains("It took longer than allowed."));
    assert_eq!(at_once(receiver.finish(), &mut cx()).unwrap_err().kind(), ErrorKind::Expired);
}

#[test]
fn no_answer_is_a_timeout() {
    assert_eq!(at_once(receiver().0.finish(), &mut cx()).unwrap_err().kind(), ErrorKind::Timeout);
}

#[test]
fn a_timeout_tells_why_what_came_was_not_the_answer() {
    let (mut receiver, answer) = receiver();
    let query = answer.query().replace("state=", "state=x");
    assert!(matches!(receiver.hear(get(&format!("/?{query}"), "").as_bytes(), NOW), Heard::Reply(_)));
    let error = at_once(receiver.finish(), &mut cx()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert!(error.to_string().contains("not the answer: it belongs to another authorization request"), "{error}");
}

#[test]
fn an_answer_with_the_right_state_that_cannot_be_used_ends_the_wait_at_once() {
    for (more, why) in [
        ("&iss=https://other.example", "its iss is https://other.example, and https://as.example was asked"),
        ("&code=another", "a parameter twice"),
        ("&error=access_denied", "both a code and an error"),
        ("?state=", "neither a code nor an error"),
        ("?error=access_denied&iss=https://other.example&state=", "its iss is https://other.example"),
    ] {
        let (mut receiver, answer) = receiver();
        let query = if more.starts_with('?') {
            format!("{more}{}", answer.state)
        } else {
            format!("?{}{more}", answer.query())
        };
        let heard = receiver.hear(get(&format!("/{query}"), "").as_bytes(), NOW);
        assert!(matches!(heard, Heard::Answered(_)), "{more}: {heard:?}");
        assert!(reply(heard, &answer).contains("<h1>Sign-in failed</h1>"));
        let error = at_once(receiver.finish(), &mut cx()).unwrap_err();
        assert!(error.kind() == ErrorKind::InvalidRedirect && error.to_string().contains(why), "{error}");
    }
}

#[test]
fn the_first_answer_counts_and_a_second_changes_nothing() {
    let (mut receiver, answer) = receiver();
    receiver.hear(answer.request().as_bytes(), NOW);
    for query in [answer.query(), format!("error=access_denied&state={}", answer.state)] {
        let heard = receiver.hear(get(&format!("/?{query}"), "").as_bytes(), NOW);
        assert!(matches!(heard, Heard::Reply(_)));
        assert!(reply(heard, &answer).starts_with("HTTP/1.1 410 "));
        assert_eq!(receiver.paste(&query, NOW).unwrap_err().kind(), ErrorKind::InvalidRedirect);
    }
    assert!(redeems(receiver));
}

#[test]
fn a_pasted_address_needs_the_state_too() {
    for wrong in ["", "\n", CODE, "https://evil.example/?code=x&state=y", "http://127.0.0.1:50123/?code=x"] {
        let (mut receiver, _) = receiver();
        assert_eq!(receiver.paste(wrong, NOW).unwrap_err().kind(), ErrorKind::InvalidRedirect, "{wrong}");
        let own = receiver.url().to_owned();
        assert_eq!(receiver.paste(&own, NOW).unwrap_err().kind(), ErrorKind::InvalidRedirect, "the URL to open");
        assert!(!receiver.is_answered());
    }
    let (_, answer) = receiver();
    let hash = format!("{CODE}#{}", answer.state);
    for right in [
        hash.clone(),
        format!(" \"{hash}\"\n"),
        format!("<{}>", answer.url()),
        answer.url(),
        format!("  {}\r\n", answer.url()),
        answer.query(),
        format!("?{}", answer.query()),
    ] {
        let (mut receiver, _) = receiver();
        receiver.paste(&right, NOW).unwrap();
        assert!(redeems(receiver), "{right}");
    }
    let (mut receiver, answer) = receiver();
    receiver.paste(&format!("error=access_denied&state={}", answer.state), NOW).unwrap();
    assert_eq!(at_once(receiver.finish(), &mut cx()).unwrap_err().kind(), ErrorKind::Authorization);
}

#[test]
fn a_posted_form_is_the_answer_too() {
    let (_, answer) = receiver();
    let post = |body: &str, fields: &str| {
        format!("POST / HTTP/1.1\r\nHost: 127.0.0.1:50123\r\nOrigin: https://as.example\r\n{fields}\r\n{body}")
    };
    let form = "Content-Type: application/x-www-form-urlencoded; charset=utf-8\r\n";
    let with_length = |body: &str| post(body, &format!("{form}Content-Length: {}\r\n", body.len()));
    let right = with_length(&answer.query());
    for end in 0..right.len() {
        let heard = receiver().0.hear(&right.as_bytes()[..end], NOW);
        assert!(matches!(heard, Heard::More), "{end} of {}: {heard:?}", right.len());
    }
    let (mut receiver_, _) = receiver();
    let heard = receiver_.hear(right.as_bytes(), NOW);
    assert!(matches!(heard, Heard::Answered(_)), "{heard:?}");
    assert!(reply(heard, &answer).contains("<h1>Sign-in received</h1>"));
    assert!(redeems(receiver_));
    for (request, status) in [
        (with_length(&answer.query().replace("state=", "state=x")), 400),
        (with_length(""), 400),
        (post(&answer.query(), form), 400),
        (post(&answer.query(), &format!("{form}Content-Length: 5\r\nContent-Length: 6\r\n")), 400),
        (post(&answer.query(), &format!("{form}Content-Length: -1\r\n")), 400),
        (post(&answer.query(), &format!("{form}Content-Length: 70000\r\n")), 431),
        (post(&answer.query(), "Content-Type: application/json\r\nContent-Length: 5\r\n"), 403),
    ] {
        let (mut receiver, answer) = receiver();
        let heard = receiver.hear(request.as_bytes(), NOW);
        assert!(matches!(heard, Heard::Reply(_)) && !receiver.is_answered(), "{request}: {heard:?}");
        let text = reply(heard, &answer);
        assert!(text.starts_with(&format!("HTTP/1.1 {status} ")), "{request}: {text}");
    }
}

#[test]
fn a_posted_answer_that_came_in_a_wrong_way_ends_the_wait_too() {
    let (_, answer) = receiver();
    let form = format!("Content-Type: {FORM}\r\nContent-Length: {}\r\n", answer.query().len());
    let right = get("/", &form).replace("GET", "POST") + &answer.query();
    for (request, why) in [
        (right.replace("POST / ", "POST /x "), "its path is /x"),
        (right.replace("127.0.0.1:50123", "evil.example"), "the host \"evil.example\""),
    ] {
        let (mut receiver, _) = receiver();
        assert!(matches!(receiver.hear(request.as_bytes(), NOW), Heard::Answered(_)), "{request}");
        let error = at_once(receiver.finish(), &mut cx()).unwrap_err();
        assert!(error.to_string().contains(why), "{error}");
    }
}

#[test]
fn a_browser_that_was_sent_on_with_what_it_posted_there_has_the_answer_in_its_target() {
    let (_, answer) = receiver();
    let post = |fields: &str, body: &str| {
        let target = format!("/?{}", answer.query());
        get(&target, &format!("{fields}Content-Length: {}\r\n", body.len())).replacen("GET", "POST", 1) + body
    };
    for request in [
        post(&format!("Origin: null\r\nContent-Type: {FORM}\r\n"), "user=alice&password=x&allow=yes"),
        post("Content-Type: multipart/form-data; boundary=x\r\n", "--x--"),
        post("", ""),
    ] {
        let (mut receiver, _) = receiver();
        assert!(matches!(receiver.hear(request.as_bytes(), NOW), Heard::Answered(_)), "{request}");
        assert!(redeems(receiver));
    }
}

#[test]
fn no_bytes_make_it_panic_or_wait_for_ever_or_believe_a_wrong_state() {
    let (mut receiver, answer) = receiver();
    let wrong = answer.request().replace(&answer.state, &"A".repeat(43));
    let mut seed = 42_u64;
    let mut random = |below: usize| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) as usize % below
    };
    for _ in 0..5_000 {
        let mut bytes = wrong.clone().into_bytes();
        for _ in 0..=random(4) {
            let place = random(bytes.len());
            match random(4) {
                0 => bytes[place] = random(256) as u8,
                1 => bytes.truncate(place.max(1)),
                2 => bytes.insert(place, b"\r\n :/?&=%\0"[random(10)]),
                _ => bytes.extend_from_within(place..),
            }
        }
        let heard = receiver.hear(&bytes, NOW);
        assert!(!matches!(heard, Heard::Answered(_)), "{}", String::from_utf8_lossy(&bytes));
        bytes.resize(64 * 1024, b'x');
        assert!(matches!(receiver.hear(&bytes, NOW), Heard::Reply(_)), "{}", String::from_utf8_lossy(&bytes));
    }
}
