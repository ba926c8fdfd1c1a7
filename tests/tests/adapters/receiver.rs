//! The sign-in of an installed application, among browsers and strangers.

use super::*;

pub(crate) fn the_receiver_survives_whatever_browsers_and_strangers_do<A: Adapter>() {
    let front = Front::start(Server::demo()).unwrap();
    let (token, page) = sign_in(&A::new(), app(&front), |url| {
        let (at, state) = (port(&url), value(&url, "state"));
        let get = |target: &str| raw(at, format!("GET {target} HTTP/1.1\r\nHost: {at}\r\n\r\n").as_bytes());
        let with = |head: &str| raw(at, format!("{head}\r\n\r\n").replace("PORT", &at.port().to_string()).as_bytes());
        let (right, other) = (format!("/?code=stolen&state={state}"), "/?code=stolen&state=another-tabs-state");
        for (case, answer, status) in [
            ("favicon", get("/favicon.ico"), "404"),
            ("no query", get("/"), "400"),
            ("a second tab", get("/?code=x&state=another-tabs-state"), "400"),
            ("an error with another state", get("/?error=access_denied&state=wrong"), "400"),
            ("an error without state", get("/?error=access_denied"), "400"),
            ("state twice", get(&format!("{right}&state={state}")), "400"),
            ("HEAD", with(&format!("HEAD {right} HTTP/1.1\r\nHost: 127.0.0.1:PORT")), "405"),
            ("POST", with(&format!("POST {other} HTTP/1.1\r\nHost: 127.0.0.1:PORT\r\nContent-Length: 0")), "405"),
            ("a wrong Host", with(&format!("GET {other} HTTP/1.1\r\nHost: evil.example:PORT")), "421"),
            ("a Host without port", with(&format!("GET {other} HTTP/1.1\r\nHost: 127.0.0.1")), "421"),
            ("no Host", with(&format!("GET {other} HTTP/1.1")), "421"),
            (
                "two Hosts",
                with(&format!("GET {other} HTTP/1.1\r\nHost: 127.0.0.1:PORT\r\nHost: 127.0.0.1:PORT")),
                "421",
            ),
            (
                "absolute form",
                with(&format!("GET http://127.0.0.1:PORT{other} HTTP/1.1\r\nHost: 127.0.0.1:PORT")),
                "400",
            ),
            (
                "another's absolute form",
                with(&format!("GET http://evil.example:PORT{other} HTTP/1.1\r\nHost: 127.0.0.1:PORT")),
                "421",
            ),
            (
                "a foreign Origin",
                with(&format!("GET {other} HTTP/1.1\r\nHost: 127.0.0.1:PORT\r\nOrigin: https://evil.example")),
                "403",
            ),
            (
                "a prefetch",
                with(&format!("GET {right} HTTP/1.1\r\nHost: 127.0.0.1:PORT\r\nSec-Purpose: prefetch")),
                "503",
            ),
            ("garbage", raw(at, b"\0\xff\0\r\n\r\n"), "400"),
            ("a TLS ClientHello", raw(at, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"), ""),
        ] {
            assert!(answer.starts_with(if status.is_empty() { "" } else { "HTTP/1.1 " }), "{case}: {answer}");
            assert_eq!(answer.get(9..12).unwrap_or_default(), status, "{case}");
            hidden(case, &answer, &[&state, "stolen"]);
            assert_eq!(case == "HEAD", answer.starts_with("HTTP") && answer.ends_with("\r\n\r\n"), "{case}: {answer}");
        }
        drop(TcpStream::connect(at).unwrap());
        let half = TcpStream::connect(at).unwrap();
        half.shutdown(Shutdown::Write).unwrap();
        assert!(TcpListener::bind(at).is_err(), "the port is taken");
        person::visit(&url).unwrap()
    });
    assert_eq!((page.status, token.unwrap().scopes().as_str()), (200, "openid email read"));
    assert_eq!(front.server().seen_at(Place::Token).len(), 1, "no stolen code was tried");
}

pub(crate) fn the_receiver_survives_more_connections_than_it_holds<A: Adapter>() {
    let front = Front::start(Server::demo()).unwrap();
    let (token, took) = sign_in(&A::new(), app(&front), |url| {
        let at = port(&url);
        let idle: Vec<_> = (0..40).map(|_| TcpStream::connect(at).unwrap()).collect();
        let began = Instant::now();
        assert_eq!(person::visit(&url).unwrap().status, 200);
        drop(idle);
        began.elapsed()
    });
    token.unwrap();
    assert!(took < Duration::from_secs(5), "{took:?}");
}

pub(crate) fn the_receiver_survives_those_that_never_finish<A: Adapter>() {
    let front = Front::start(Server::demo()).unwrap();
    let (token, ()) = sign_in(&A::new(), app(&front), |url| {
        let at = port(&url);
        // One byte at a time.
        let mut slow: Vec<_> = (0..4).map(|_| TcpStream::connect(at).unwrap()).collect();
        for byte in b"GET /?code=" {
            slow.iter_mut().for_each(|stream| stream.write_all(&[*byte]).unwrap());
            std::thread::sleep(Duration::from_millis(5));
        }
        // A head without end.
        let answer = raw(at, format!("GET / HTTP/1.1\r\nHost: {at}\r\nX: {}", "x".repeat(70_000)).as_bytes());
        assert!(answer.starts_with("HTTP/1.1 431"), "{answer}");
        let many = "X: y\r\n".repeat(200);
        let answer = raw(at, format!("GET / HTTP/1.1\r\nHost: {at}\r\n{many}\r\n").as_bytes());
        assert!(answer.starts_with("HTTP/1.1 431"), "{answer}");
        assert_eq!(person::visit(&url).unwrap().status, 200);
    });
    token.unwrap();
}

pub(crate) fn the_receiver_is_reached_from_this_machine_only<A: Adapter>() {
    // The address that this machine has towards others; nothing is sent to find out.
    let outside = UdpSocket::bind("0.0.0.0:0").and_then(|socket| {
        socket.connect("192.0.2.1:9")?;
        socket.local_addr()
    });
    let front = Front::start(Server::demo()).unwrap();
    let (token, ()) = sign_in(&A::new(), app(&front), move |url| {
        let at = port(&url);
        assert!(at.ip().is_loopback() && at.port() != 0);
        if let Ok(outside) = outside.as_ref().map(SocketAddr::ip).map_err(|e| e.kind())
            && !outside.is_loopback()
        {
            let elsewhere = SocketAddr::new(outside, at.port());
            assert!(TcpStream::connect_timeout(&elsewhere, Duration::from_secs(2)).is_err(), "{elsewhere}");
        }
        person::visit(&url).unwrap();
    });
    token.unwrap();
}

pub(crate) fn the_page_tells_success_and_keeps_quiet_about_the_code<A: Adapter>() {
    let front = Front::start(Server::demo()).unwrap();
    let app = app(&front).success_message("The backup starts <now>.");
    let (token, (page, url)) = sign_in(&A::new(), app, |url| (person::visit(&url).unwrap(), url));
    token.unwrap();
    assert!(page.body.contains("The backup starts &lt;now&gt;."), "{}", page.body);
    hidden("the page", &page.body, &[&value(&url, "state"), &value(&page.url, "code")]);
    assert_eq!(page.header("referrer-policy"), Some("no-referrer"));
    assert_eq!(page.header("cache-control"), Some("no-store"));
    assert!(page.header("content-security-policy").is_some_and(|policy| policy.contains("default-src 'none'")));
    for word in ["<script", "src=", "http:", "https:", "@import"] {
        assert!(!page.body.contains(word), "{word}");
    }
}

pub(crate) fn the_servers_error_is_shown_and_ends_the_sign_in<A: Adapter>() {
    let front =
        Front::start(Server::demo().with(|settings| settings.consent = Consent::Deny("access_denied"))).unwrap();
    let (result, page) = sign_in(&A::new(), app(&front), |url| person::visit(&url).unwrap());
    let error = result.unwrap_err();
    assert_eq!((error.kind(), error.server().unwrap().error()), (ErrorKind::Authorization, "access_denied"));
    assert!(page.body.contains("access_denied") && page.body.contains("the user said no"), "{}", page.body);
    let (result, page) = sign_in(&A::new(), app(&front), |url| {
        let iss = url::form_urlencoded::byte_serialize(url.split("/authorize").next().unwrap().as_bytes())
            .collect::<String>();
        let state = value(&url, "state");
        let target = format!("/?error=x&error_description=%3Cscript%3Ealert(1)%3C/script%3E&state={state}&iss={iss}");
        person::visit(&format!("http://{}{target}", port(&url))).unwrap()
    });
    assert_eq!(result.unwrap_err().server().unwrap().error(), "x");
    assert!(!page.body.contains("<script") && page.body.contains("&lt;script"), "{}", page.body);
}

pub(crate) fn every_redirect_uri_of_an_installed_application_works<A: Adapter>() {
    let front = Front::start(Server::demo()).unwrap();
    let free = { TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port() };
    let mut cases: Vec<(InstalledApp, String)> = vec![
        (app(&front), "http://127.0.0.1:PORT/".into()),
        (app(&front).trailing_slash(false), "http://127.0.0.1:PORT".into()),
        (app(&front).path("/callback"), "http://127.0.0.1:PORT/callback".into()),
        (app(&front).host("localhost"), "http://localhost:PORT/".into()),
        (app(&front).port(free), format!("http://127.0.0.1:{free}/")),
    ];
    if TcpListener::bind("[::1]:0").is_ok() {
        cases.push((app(&front).host("[::1]"), "http://[::1]:PORT/".into()));
    }
    for (app, expected) in cases {
        let (token, url) = sign_in(&A::new(), app, |url| {
            person::visit(&url).unwrap();
            url
        });
        token.unwrap();
        let uri = value(&url, "redirect_uri");
        assert_eq!(uri, expected.replace("PORT", &port(&url).port().to_string()));
        let sent = front.server().seen_at(Place::Token).last().unwrap().param("redirect_uri");
        assert_eq!(sent.as_deref(), Some(&*uri), "the same in both legs");
    }
}

pub(crate) fn nobody_signs_in<A: Adapter>() {
    let front = Front::start(Server::demo()).unwrap();
    let began = Instant::now();
    let (result, at) = sign_in(&A::new(), app(&front).timeout(Duration::from_millis(300)), |url| port(&url));
    assert_eq!(result.unwrap_err().kind(), ErrorKind::Timeout);
    assert!(began.elapsed() >= Duration::from_millis(250) && began.elapsed() < Duration::from_secs(5));
    assert!(TcpStream::connect(at).is_err(), "nobody listens any more");
    // A port that is taken is told, not waited for.
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let app = app(&front).port(taken.local_addr().unwrap().port()).show(|_| panic!("there is nothing to show"));
    assert_eq!(A::new().sign_in(&app).unwrap_err().kind(), ErrorKind::Loopback);
}

pub(crate) fn what_the_token_is_for_goes_into_the_token_request<A: Adapter>() {
    let front = Front::start(Server::demo()).unwrap();
    let app = app(&front).token_audience("https://api.example").login_hint("bob").prompt("consent");
    let (token, _) = sign_in(&A::new(), app, |url| person::visit(&url).unwrap());
    assert_eq!(token.unwrap().id_token().unwrap().subject(), "bob");
    let server = front.server();
    assert_eq!(server.seen_at(Place::Token)[0].param("audience").as_deref(), Some("https://api.example"));
    assert_eq!(server.seen_at(Place::Authorize)[0].param("prompt").as_deref(), Some("consent"));
}

pub(crate) fn a_form_that_the_servers_page_posts_is_the_answer<A: Adapter>() {
    let front = Front::start(Server::demo()).unwrap();
    let issuer = front.issuer();
    let (token, page) = sign_in(&A::new(), app(&front), move |url| post(&url, &person::answer(&url).unwrap(), &issuer));
    assert!(page.starts_with("HTTP/1.1 200 OK"), "{page}");
    token.unwrap();
}

pub(crate) fn an_answer_that_comes_in_a_wrong_way_ends_the_sign_in_at_once_and_says_why<A: Adapter>() {
    for (path, host, more, why) in [
        ("/", "evil.example", String::new(), "the host \"evil.example\""),
        ("/callback", "HOST", String::new(), "its path is /callback"),
        ("/", "HOST", format!("Cookie: {}\r\n", "c=1; ".repeat(14_000)), "longer than 64 KiB"),
    ] {
        let front = Front::start(Server::demo()).unwrap();
        let began = Instant::now();
        let (token, page) = sign_in(&A::new(), app(&front), move |url| {
            let (at, state) = (port(&url), value(&url, "state"));
            let host = host.replace("HOST", &at.to_string());
            raw(at, format!("GET {path}?code=c&state={state} HTTP/1.1\r\nHost: {host}\r\n{more}\r\n").as_bytes())
        });
        let error = token.unwrap_err();
        assert!(page.contains("Sign-in failed") && began.elapsed() < Duration::from_secs(10), "{page}");
        assert_eq!((error.kind(), front.server().seen_at(Place::Token).len()), (ErrorKind::InvalidRedirect, 0));
        assert!(error.to_string().contains(why), "{error}");
    }
}

pub(crate) fn an_answer_that_names_another_server_ends_the_sign_in_at_once<A: Adapter>() {
    let front = Front::start(Server::demo()).unwrap();
    let began = Instant::now();
    let (token, page) = sign_in(&A::new(), app(&front), |url| {
        let (at, state) = (port(&url), value(&url, "state"));
        let target = format!("/?code=c&state={state}&iss=https%3A%2F%2Fwww.vendor.example");
        raw(at, format!("GET {target} HTTP/1.1\r\nHost: {at}\r\n\r\n").as_bytes())
    });
    let error = token.unwrap_err();
    assert!(page.contains("Sign-in failed") && began.elapsed() < Duration::from_secs(10));
    assert_eq!((error.kind(), front.server().seen_at(Place::Token).len()), (ErrorKind::InvalidRedirect, 0));
    assert!(error.to_string().contains("https://www.vendor.example"), "{error}");
}
