//! What an installed application is told and makes of it.

use super::*;
use crate::google::ClientSecrets;

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

#[test]
fn an_answer_on_its_way_through_a_proxy_is_taken_and_https_is_named() {
    let (mut receiver, answer) = receiver();
    for foreign in ["http://127.0.0.1:1", "https://127.0.0.1:50123", "http://127.0.0.1:50123@evil.example"] {
        let request = get(&format!("{foreign}/?code=c&state=s"), "");
        assert!(matches!(receiver.hear(request.as_bytes(), NOW), Heard::Reply(_)), "{foreign}");
    }
    let whole = get(&format!("http://127.0.0.1:50123/?{}", answer.query()), "");
    assert!(matches!(receiver.hear(whole.as_bytes(), NOW), Heard::Answered(_)));
    assert!(redeems(receiver));

    let (mut receiver, _) = start(&app(), 50123);
    assert!(matches!(receiver.hear(b"\x16\x03\x01\x02", NOW), Heard::Reply(page) if page.is_empty()));
    let error = at_once(receiver.finish(), &mut cx()).unwrap_err();
    assert!(error.kind() == ErrorKind::Timeout && error.to_string().contains("a browser asked for https"), "{error}");
}
