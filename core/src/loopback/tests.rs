//! The receiver and the checks around it, as tables.

use std::net::IpAddr;
use std::time::Duration;

use super::*;
use crate::google::ClientSecrets;
use crate::{
    Client, Cx, Effect, ErrorKind, InstalledApp, Issuer, Machine, Now, Reply, ServerMetadata, Step, Timestamp,
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
        ("another path", get(&right.replacen('/', "/x", 1), ""), 404),
        ("a longer path", get(&right.replacen('/', "//", 1), ""), 404),
        ("no query", get("/", ""), 400),
        ("prefetch", with("Sec-Purpose: prefetch\r\n"), 503),
        ("prerender", with("Sec-Purpose: prefetch;prerender\r\n"), 503),
        ("prefetch, quietly", with("sec-purpose: prefetch;anonymous-client-ip\r\n"), 503),
        ("older prefetch", with("Purpose: Prefetch\r\n"), 503),
        ("oldest prefetch", with("X-Moz: prefetch\r\n"), 503),
        ("preview", with("X-Purpose: preview\r\n"), 503),
        ("HEAD", method("HEAD"), 405),
        ("POST", method("POST"), 405),
        ("OPTIONS", method("OPTIONS"), 405),
        ("lower case method", method("get"), 405),
        // DNS rebinding and other sites.
        ("another host", host("Host: evil.example:50123\r\n"), 421),
        ("another name", host("Host: localhost:50123\r\n"), 421),
        ("another port", host("Host: 127.0.0.1:50124\r\n"), 421),
        ("no port", host("Host: 127.0.0.1\r\n"), 421),
        ("a longer host", host("Host: 127.0.0.1:50123.evil.example\r\n"), 421),
        ("empty host", host("Host:\r\n"), 421),
        ("no host", host(""), 421),
        ("two hosts", with("Host: 127.0.0.1:50123\r\n"), 421),
        ("a second, foreign host", with("Host: evil.example\r\n"), 421),
        ("HTTP/1.0 without host", format!("GET {right} HTTP/1.0\r\n\r\n"), 421),
        ("absolute target", get(&format!("http://127.0.0.1:50123{right}"), ""), 421),
        ("foreign absolute target", get(&format!("http://evil.example{right}"), ""), 421),
        ("asterisk", get("*", ""), 421),
        ("foreign origin", with("Origin: https://evil.example\r\n"), 403),
        ("null origin", with("Origin: null\r\n"), 403),
        ("origin over https", with("Origin: https://127.0.0.1:50123\r\n"), 403),
        ("a second, foreign origin", with("Origin: http://127.0.0.1:50123\r\nOrigin: https://evil.example\r\n"), 403),
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
        ("too many fields", with(&"X: y\r\n".repeat(101)), 431),
        ("a head too long", with(&format!("X: {}\r\n", "y".repeat(64 * 1024))), 431),
        ("10,000 short fields", with(&"X:\r\n".repeat(10_000)), 431),
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
        assert_eq!(matches!(heard, Heard::Answered(_)), known, "{host}: {heard:?}");
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
        (right.replace("POST / ", "POST /x "), 404),
        (right.replace("127.0.0.1:50123", "evil.example"), 421),
    ] {
        let (mut receiver, answer) = receiver();
        let heard = receiver.hear(request.as_bytes(), NOW);
        assert!(matches!(heard, Heard::Reply(_)) && !receiver.is_answered(), "{request}: {heard:?}");
        let text = reply(heard, &answer);
        assert!(text.starts_with(&format!("HTTP/1.1 {status} ")), "{request}: {text}");
    }
}

#[test]
fn what_the_token_is_for_is_said_wherever_it_is_asked() {
    let app = app().resource("https://a.example/").resource("https://b.example/").token_extra("custom", "x y");
    let (mut receiver, answer) = start(&app, 50123);
    let pairs = |text: &[u8], wanted: &str| -> Vec<String> {
        let pairs = url::form_urlencoded::parse(text).into_owned();
        pairs.filter(|(name, _)| name == wanted).map(|(_, value)| value).collect()
    };
    let query = receiver.url().split_once('?').unwrap().1.to_owned();
    assert_eq!(pairs(query.as_bytes(), "resource"), ["https://a.example/", "https://b.example/"]);
    receiver.hear(answer.request().as_bytes(), NOW);
    let Step::Do(Effect::Http(call)) = receiver.finish().resume(&mut cx(), Reply::Start) else { panic!("no request") };
    let call = call.open(crate::machine::Rules::V1).unwrap();
    assert_eq!(pairs(call.request.body(), "resource"), ["https://a.example/", "https://b.example/"]);
    assert_eq!(pairs(call.request.body(), "custom"), ["x y"]);
    assert!(pairs(query.as_bytes(), "custom").is_empty());
    let want = app.token_audience("api").want();
    assert_eq!(
        want,
        crate::source::Want::default().audience("api").resource("https://b.example/").resource("https://a.example/")
    );
    assert_ne!(want, crate::source::Want::default().audience("api"));
}

#[test]
fn the_audience_goes_into_the_token_request() {
    for (app, expected) in
        [(app(), None), (app().token_audience(""), None), (app().token_audience("api://x"), Some("api://x"))]
    {
        let (mut receiver, answer) = start(&app, 50123);
        receiver.hear(answer.request().as_bytes(), NOW);
        let Step::Do(Effect::Http(call)) = receiver.finish().resume(&mut cx(), Reply::Start) else {
            panic!("it asks for something else");
        };
        let call = call.open(crate::machine::Rules::V1).unwrap();
        let form: Vec<_> = url::form_urlencoded::parse(call.request.body()).collect();
        let value = |name: &str| form.iter().find(|(known, _)| known == name).map(|(_, value)| &**value);
        assert_eq!(value("audience"), expected);
        assert_eq!(value("code"), Some(CODE));
        assert_eq!(value("redirect_uri"), Some("http://127.0.0.1:50123/"));
    }
}

#[test]
fn the_redirect_uri_and_the_addresses_follow_the_setters() {
    let any = IpAddr::from([0, 0, 0, 0]);
    for (app, uri, addresses) in [
        (app(), "http://127.0.0.1:50123/", vec!["127.0.0.1:0"]),
        (app().trailing_slash(false), "http://127.0.0.1:50123", vec!["127.0.0.1:0"]),
        (app().host("::1"), "http://[::1]:50123/", vec!["[::1]:0"]),
        (app().host("localhost"), "http://localhost:50123/", vec!["127.0.0.1:0", "[::1]:0"]),
        (app().host("127.0.0.2").port(50123), "http://127.0.0.2:50123/", vec!["127.0.0.2:50123"]),
        (app().path("/oauth2callback"), "http://127.0.0.1:50123/oauth2callback", vec!["127.0.0.1:0"]),
        (app().path("callback"), "http://127.0.0.1:50123/callback", vec!["127.0.0.1:0"]),
        (app().path("@evil.example/"), "http://127.0.0.1:50123/@evil.example/", vec!["127.0.0.1:0"]),
        (app().path(""), "http://127.0.0.1:50123/", vec!["127.0.0.1:0"]),
        (app().redirect_uri("http://localhost"), "http://localhost:50123", vec!["127.0.0.1:0", "[::1]:0"]),
        (
            app().redirect_uri("http://localhost/cb?a=b"),
            "http://localhost:50123/cb?a=b",
            vec!["127.0.0.1:0", "[::1]:0"],
        ),
        (app().redirect_uri("http://[::1]/"), "http://[::1]:50123/", vec!["[::1]:0"]),
        (app().path("/a/").trailing_slash(false), "http://127.0.0.1:50123/a", vec!["127.0.0.1:0"]),
        (app().host("localhost").bind_beyond_loopback(any), "http://localhost:50123/", vec!["0.0.0.0:0"]),
        (
            app().redirect_uri("http://localhost:50123"),
            "http://localhost:50123",
            vec!["127.0.0.1:50123", "[::1]:50123"],
        ),
        (app().redirect_uri("http://127.0.0.1:50123/cb?a=b"), "http://127.0.0.1:50123/cb?a=b", vec!["127.0.0.1:50123"]),
        (app().redirect_uri("http://127.0.0.1/cb").port(0), "http://127.0.0.1:50123/cb", vec!["127.0.0.1:0"]),
    ] {
        let bound: Vec<_> = app.addresses().unwrap().iter().map(ToString::to_string).collect();
        assert_eq!(bound, addresses, "{uri}");
        let (receiver, _) = start(&app, 50123);
        assert_eq!(receiver.redirect_uri(), uri);
    }
    for own in ["http://localhost:80", "http://localhost:80/cb"] {
        let (receiver, _) = start(&app().redirect_uri(own), 80);
        assert_eq!(receiver.redirect_uri(), own);
    }
    let (receiver, _) = start(&google("web", &["http://localhost"]), 80);
    assert_eq!(receiver.redirect_uri(), "http://localhost", "a web client's is compared character by character");
}

#[test]
fn what_cannot_be_used_is_refused_before_the_browser_opens() {
    for (name, app) in [
        ("a foreign host", app().host("app.example")),
        ("every interface", app().host("0.0.0.0")),
        ("host and port", app().host("127.0.0.1:80")),
        ("no host", app().host("")),
        ("a printed prompt without the address", app().open_browser(false).prompt_message(Some("Sign in!"))),
        ("a response mode that never gets here", app().extra("response_mode", "fragment")),
        ("a backslash", app().path("\\evil")),
        ("a path with a query", app().path("/cb?a=b")),
        ("a path with a fragment", app().path("/cb#a")),
        ("a path with a space", app().path("/a b")),
        ("a path with dots", app().path("/a/../b")),
        ("a path with a line break", app().path("/a\r\nb")),
        ("https on loopback", app().redirect_uri("https://localhost:8080/")),
        ("a foreign redirect URI", app().redirect_uri("http://app.example/")),
    ] {
        if !name.starts_with("a response mode") {
            assert_eq!(app.addresses().expect_err(name).kind(), ErrorKind::Config, "{name}");
        }
        assert_eq!(at_once(app.start(50123), &mut cx()).expect_err(name).kind(), ErrorKind::Config, "{name}");
    }
    for reserved in ["state", "redirect_uri", "code_challenge", "scope", "response_type"] {
        let error = at_once(app().extra(reserved, "x").start(50123), &mut cx()).expect_err(reserved);
        assert_eq!(error.kind(), ErrorKind::Config, "{reserved}");
    }
}

fn google(kind: &str, redirect_uris: &[&str]) -> InstalledApp {
    let file = serde_json::json!({ kind: {
        "client_id": "1234567890-demo.apps.googleusercontent.com",
        "client_secret": "GOCSPX-demo_secret",
        "auth_uri": "https://accounts.google.com/o/oauth2/auth",
        "token_uri": "https://oauth2.googleapis.com/token",
        "redirect_uris": redirect_uris,
    }});
    InstalledApp::google(&ClientSecrets::from_json(file.to_string()).unwrap())
}

#[test]
fn google_clients_use_what_their_file_registers() {
    let remote = "https://app.example.com/oauth2callback";
    for (app, uri) in [
        (google("installed", &["http://localhost"]), "http://127.0.0.1:50123/"),
        (google("web", &[remote, "http://localhost:50123/"]), "http://localhost:50123/"),
        (google("web", &["http://localhost.evil.example/", "http://127.0.0.1:50123/cb"]), "http://127.0.0.1:50123/cb"),
        (google("web", &[remote]).port(50123), "http://127.0.0.1:50123/"),
    ] {
        app.addresses().unwrap();
        let (receiver, _) = start(&app, 50123);
        assert_eq!(receiver.redirect_uri(), uri);
        assert!(receiver.url().contains("&access_type=offline"));
    }
    let error = google("web", &[remote]).addresses().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
}

#[test]
fn the_prompt_is_printed_shown_or_neither() {
    let url = "https://as.example/authorize";
    assert_eq!(app().announce(url).unwrap(), format!("Open this URL in your browser to sign in:\n{url}"));
    assert_eq!(app().prompt_message(Some("Go: {url} ({url})")).announce(url).unwrap(), format!("Go: {url} ({url})"));
    assert_eq!(app().prompt_message(None).announce(url), None);
    assert_eq!(app().prompt_message(Some("")).announce(url), None);
    let (sender, shown) = std::sync::mpsc::channel();
    assert_eq!(app().show(move |url| sender.send(url.to_owned()).unwrap()).announce(url), None);
    assert_eq!(shown.recv().unwrap(), url);
}

#[test]
fn the_success_message_is_escaped() {
    let app = app().success_message("<b>\"Done\" & gone</b>").success_heading("Angemeldet <3");
    let (mut receiver, answer) = start(&app, 50123);
    let text = reply(receiver.hear(answer.request().as_bytes(), NOW), &answer);
    assert!(text.contains("&lt;b&gt;&quot;Done&quot; &amp; gone&lt;/b&gt;"), "{text}");
    assert!(text.contains("<title>Angemeldet &lt;3</title>") && !text.contains("Sign-in received"), "{text}");
}

#[test]
fn debug_shows_no_secret() {
    let app = google("installed", &[]).login_hint("someone@example.com");
    let (mut receiver, answer) = start(&app, 50123);
    receiver.hear(answer.request().as_bytes(), NOW);
    let shown = format!("{app:?} {receiver:?}");
    for secret in ["GOCSPX", "someone", CODE, &answer.state] {
        assert!(!shown.contains(secret), "{shown}");
    }
}

/// Requests cut, doubled and scratched at random places, by a linear congruential generator.
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

#[test]
fn only_plain_https_and_loopback_addresses_are_opened() {
    for good in [
        "https://as.example/authorize?response_type=code&scope=a+b&redirect_uri=http%3A%2F%2F127.0.0.1%3A1%2F",
        "https://as.example/#/device",
        "https://[2001:db8::1]/",
        "http://127.0.0.1:8080/authorize",
        "http://localhost/authorize",
        "http://[::1]:8080/",
    ] {
        assert!(openable(good).is_ok(), "{good}");
    }
    for bad in [
        "",
        "-flag",
        "--new-window=https://as.example/",
        "file:///etc/passwd",
        "javascript:alert(1)",
        "a:$(calc)",
        "data:text/html,x",
        "vbscript:x",
        "ms-settings:",
        "/authorize",
        "as.example/authorize",
        "https:as.example",
        "https:///as.example",
        "HTTPS://as.example",
        "http://as.example/",
        "http://localhost.evil.example/",
        "http://127.0.0.1.evil.example/",
        "http://0.0.0.0/",
        "http://[::]/",
        "https://user@as.example/",
        "https://as.example@evil.example/",
        "https://as.example/a b",
        " https://as.example/",
        "https://as.example/\"&calc&\"",
        "https://as.example/'x'",
        "https://as.example/`id`",
        "https://as.example/<x>",
        "https://as.example/a|b",
        "https://as.example/a^b",
        "https://as.example/{x}",
        "https://as.example\\evil",
        "https://as.example/\n-flag",
        "https://as.example/\0",
        "https://as.example/\u{7f}",
        "https://as.exämple/",
        "https://",
    ] {
        let error = openable(bad).expect_err(bad);
        assert_eq!(error.kind(), ErrorKind::Config, "{bad}");
    }
}
