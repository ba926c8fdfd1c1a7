//! Each flow over a real socket, and what every request keeps to.

use super::*;

pub(super) fn a_person_signs_in_refreshes_and_revokes<A: Adapter>() {
    let front = Front::start(Server::demo()).unwrap();
    front.server().settings.refresh_tokens = RefreshTokens::Rotate { grace: Duration::ZERO };
    let adapter = A::new();
    let (token, page) = sign_in(&adapter, app(&front), |url| person::visit(&url).unwrap());
    let token = token.unwrap();
    assert_eq!((page.status, token.id_token().unwrap().subject()), (200, "alice"));
    let resource = |token: &Token| {
        let request =
            http::Request::get(front.url(Place::Resource)).header("authorization", token.authorization().unwrap());
        let now = grantflow_tests::front::wall_clock();
        match front.server().answer(now, &request.body(Vec::new()).unwrap()).wire {
            grantflow_tests::server::Wire::Whole(response) => response.status().as_u16(),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(resource(&token), 200);
    let server = front.metadata();
    let fresh = adapter.run(TokenRequest::refresh(&server, &client(), &token).unwrap().exchange()).unwrap();
    assert!(!fresh.refresh_token().unwrap().matches(token.refresh_token().unwrap().expose()));
    assert_eq!(resource(&fresh), 200);
    let revocation = Revocation::new(&server, &client(), fresh.refresh_token().unwrap()).unwrap();
    adapter.run(revocation.exchange()).unwrap();
    assert_eq!(resource(&fresh), 401);
    let error = adapter.run(TokenRequest::refresh(&server, &client(), &fresh).unwrap().exchange()).unwrap_err();
    assert_eq!(error.server().unwrap().error(), "invalid_grant");
}

pub(super) fn clients_and_passwords_get_tokens<A: Adapter>() {
    let front = Front::start(Server::demo()).unwrap();
    let (adapter, server) = (A::new(), front.metadata());
    let token = adapter.run(TokenRequest::client_credentials(&server, &batch()).unwrap().scopes("read").exchange());
    assert_eq!(token.unwrap().scopes().as_str(), "read");
    let request = TokenRequest::password(&server, &client(), "alice", "wonderland").unwrap();
    assert!(adapter.run(request.exchange()).unwrap().refresh_token().is_some());
    let seen = front.server().seen()[0].clone();
    assert!(seen.header("user-agent").is_some_and(|name| name.starts_with("grantflow-")), "{seen:?}");
    assert_eq!(seen.header("accept"), Some("application/json"));
    assert_eq!(seen.header("referer"), None);
}

pub(super) fn metadata_is_discovered<A: Adapter>() {
    for issuer in ["https://x.example", "https://x.example/", "https://x.example/a/b"] {
        let front = Front::start(Server::new(issuer)).unwrap();
        let issuer = Issuer::new(front.issuer()).unwrap();
        for openid in [true, false] {
            front.server().settings.openid_metadata = openid;
            let found = A::new().run(Discovery::new(&issuer)).unwrap();
            assert_eq!(found.token().unwrap().as_str(), front.url(Place::Token));
        }
        let other = Issuer::new(format!("{}/other", issuer.as_str().trim_end_matches('/'))).unwrap();
        assert_eq!(A::new().run(Discovery::openid(&other)).unwrap_err().status(), Some(404));
    }
}

// --- hostile servers

pub(super) fn client_credentials<A: Adapter>(adapter: &A, server: &ServerMetadata) -> Result<Token, Error> {
    let request = TokenRequest::client_credentials(server, &batch()).unwrap();
    adapter.run(request.exchange().total_time(Duration::from_secs(5)))
}

pub(super) fn no_redirect_is_followed<A: Adapter>() {
    let (front, other) = (Front::start(Server::demo()).unwrap(), Front::start(Server::demo()).unwrap());
    let adapter = A::new();
    for status in [301, 302, 303, 307, 308] {
        for location in [other.url(Place::Token), front.url(Place::Token), "/token".into()] {
            front.server().fail(Place::Token, Fault::status(status, "").header("location", &location));
            let error = client_credentials(&adapter, &front.metadata()).unwrap_err();
            assert_eq!((error.kind(), error.status()), (ErrorKind::InvalidResponse, Some(status)));
        }
    }
    assert_eq!((front.server().seen().len(), other.connections()), (15, 0), "one request for each, and none further");
    let issuer = Issuer::new(front.issuer()).unwrap();
    let fault = Fault::status(302, "").header("location", &other.url(Place::OpenIdMetadata));
    front.server().fail(Place::OpenIdMetadata, fault);
    assert_eq!(adapter.run(Discovery::openid(&issuer)).unwrap_err().kind(), ErrorKind::InvalidResponse);
    assert_eq!(other.connections(), 0);
}

pub(super) fn bodies_are_cut_at_their_limit_while_they_are_read<A: Adapter>() {
    let front = Front::start(Server::demo()).unwrap();
    let adapter = A::new();
    let large = |size: usize| Fault::status(200, &format!("{{\"x\":\"{}\"}}", "x".repeat(size)));
    for fault in [Fault::Endless, large(1024 * 1024)] {
        let (began, name) = (Instant::now(), format!("{fault:?}").chars().take(20).collect::<String>());
        front.server().fail(Place::Token, fault);
        let error = client_credentials(&adapter, &front.metadata()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidResponse, "{name}: {error}");
        assert!(!error.is_transient() && began.elapsed() < Duration::from_secs(4), "{name}: {:?}", began.elapsed());
    }
    let issuer = Issuer::new(front.issuer()).unwrap();
    front.server().fail(Place::OpenIdMetadata, large(256 * 1024));
    assert_eq!(adapter.run(Discovery::new(&issuer)).unwrap_err().kind(), ErrorKind::InvalidResponse);
    // As much as is allowed is taken.
    let body =
        format!("{{\"access_token\":\"t\",\"token_type\":\"Bearer\",\"x\":\"{}\"}}", "x".repeat(1024 * 1024 - 53));
    assert!(body.len() <= 1024 * 1024 && body.len() > 1024 * 1024 - 10);
    front.server().fail(Place::Token, Fault::status(200, &body));
    client_credentials(&adapter, &front.metadata()).unwrap();
}

pub(super) fn the_total_time_ends_whatever_drags_on<A: Adapter>() {
    let front = Front::start(Server::demo()).unwrap();
    let (adapter, server) = (A::new(), front.metadata());
    let total = Duration::from_millis(700);
    for fault in [Fault::Delay(Duration::from_secs(60)), Fault::Drip(Duration::from_millis(100))] {
        front.server().fail(Place::Token, fault.clone());
        let machine = TokenRequest::client_credentials(&server, &batch()).unwrap().exchange().total_time(total);
        let began = Instant::now();
        let error = adapter.run(machine).unwrap_err();
        let took = began.elapsed();
        assert_eq!(error.kind(), ErrorKind::Timeout, "{fault:?}: {error:?}");
        assert!(took >= Duration::from_millis(600) && took < Duration::from_secs(3), "{fault:?}: {took:?}");
        assert!(error.is_transient());
    }
    // A server that takes connections and says nothing at all.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let server = server.token_endpoint(&format!("http://{}/token", silent.local_addr().unwrap())).unwrap();
    let machine = TokenRequest::client_credentials(&server, &batch()).unwrap().exchange().total_time(total);
    assert_eq!(adapter.run(machine).unwrap_err().kind(), ErrorKind::Timeout);
}

pub(super) fn what_surely_was_not_sent_and_what_may_have_been_are_told_apart<A: Adapter>() {
    let front = Front::start(Server::demo()).unwrap();
    let free = { TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap() };
    let refresh = |server: &ServerMetadata| {
        TokenRequest::refresh_token(server, &client(), &"some-token".into())
            .unwrap()
            .exchange()
            .total_time(Duration::from_secs(3))
    };
    // Nobody listens: not sent, so it is tried again even though it must not arrive twice.
    let events = Arc::new(Mutex::new(Vec::new()));
    let adapter = A::watched({
        let events = events.clone();
        move |event| events.lock().unwrap().push(event)
    });
    let nobody = front.metadata().token_endpoint(&format!("http://{free}/token")).unwrap();
    let error = adapter.run(refresh(&nobody)).unwrap_err();
    assert!(error.kind() == ErrorKind::Transport && !error.is_uncertain(), "{error:?}");
    let tries = events.lock().unwrap().iter().filter(|event| event.contains("POST")).count();
    assert!(tries > 1, "{tries}");
    // The connection breaks after the request: it may have arrived, and is not repeated.
    for fault in [Fault::DropBefore, Fault::DropAfter, Fault::Truncate] {
        let before = front.server().seen().len();
        front.server().fail(Place::Token, fault.clone());
        let error = adapter.run(refresh(&front.metadata())).unwrap_err();
        assert!(error.kind() == ErrorKind::Transport && error.is_uncertain(), "{fault:?}: {error:?}");
        assert_eq!(front.server().seen().len() - before, 1, "{fault:?}");
        // What may arrive twice is repeated.
        front.server().fail(Place::Token, fault);
        client_credentials(&adapter, &front.metadata()).unwrap();
        assert_eq!(front.server().seen().len() - before, 3);
    }
}

pub(super) fn a_code_whose_answer_is_lost_is_not_sent_again<A: Adapter>() {
    let front = Front::start(Server::demo()).unwrap();
    let adapter = A::new();
    let request = AuthorizationRequest::new(&front.metadata(), &client(), demo::REDIRECT).scopes("read");
    let authorization = adapter.run(request.start()).unwrap();
    let redirect = person::answer(&authorization.url).unwrap();
    front.server().fail(Place::Token, Fault::DropAfter);
    let error = adapter.run(authorization.pending.finish(&client(), &redirect)).unwrap_err();
    assert_eq!((error.kind(), front.server().seen_at(Place::Token).len()), (ErrorKind::Transport, 1));
}

pub(super) fn calls_that_must_not_be_repeated_go_on_fresh_connections<A: Adapter>() {
    let front = Front::start(Server::demo()).unwrap();
    let (adapter, server) = (A::new(), front.metadata());
    let request = TokenRequest::password(&server, &client(), "alice", "wonderland").unwrap();
    let mut token = adapter.run(request.exchange()).unwrap();
    for round in 0..5 {
        // Whatever is pooled goes stale, just before or some time ago.
        front.hang_up();
        let before = front.connections();
        token = adapter.run(TokenRequest::refresh(&server, &client(), &token).unwrap().exchange()).unwrap();
        assert_eq!(front.connections() - before, 1, "round {round}");
    }
}

/// Something that listens and answers whatever comes as a server without TLS does.
pub(super) fn cleartext_server() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let _ = (&stream).write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
            let _ = stream.shutdown(Shutdown::Write);
            let _ = (&stream).read_to_end(&mut Vec::new());
        }
    });
    address
}

pub(super) fn no_secure_connection_is_told_as_such<A: Adapter>() {
    let server = Server::demo().metadata().token_endpoint(&format!("https://{}/token", cleartext_server())).unwrap();
    let error = client_credentials(&A::new(), &server).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Transport, "{error:?}");
    assert!(!error.is_uncertain() && !error.is_transient(), "{error:?}");
    assert!(error.to_string().contains("no secure connection"), "{error}");
}

pub(super) fn a_proxy_is_never_used_for_this_machine<A: Adapter>() {
    let front = Front::start(Server::demo()).unwrap();
    client_credentials(&A::with_proxy("http://127.0.0.1:9"), &front.metadata()).unwrap();
}

/// In a process of its own, since the environment is one for all tests.
#[test]
fn a_proxy_that_the_environment_names_is_never_used_for_this_machine() {
    let names = ["http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"];
    let output = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "ureq::clients_and_passwords_get_tokens", "reqwest::clients_and_passwords_get_tokens"])
        .envs(names.map(|name| (name, "http://127.0.0.1:9")))
        .env_remove("no_proxy")
        .env_remove("NO_PROXY")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("2 passed"), "{text}");
}

pub(super) fn nothing_that_is_watched_shows_a_secret<A: Adapter>() {
    let front = Front::start(Server::demo().user("bob", "c4n4ry-passw0rd/+")).unwrap();
    let events = Arc::new(Mutex::new(String::new()));
    let adapter = A::watched({
        let events = events.clone();
        move |event| events.lock().unwrap().push_str(&(event + "\n"))
    });
    let server = front.metadata().token_endpoint(&(front.url(Place::Token) + "?k=c4n4ry-k3y")).unwrap();
    let request =
        |server: &ServerMetadata| TokenRequest::password(server, &client(), "bob", "c4n4ry-passw0rd/+").unwrap();
    let token = adapter.run(request(&front.metadata()).exchange()).unwrap();
    let (access, refresh) = (token.access_token(), token.refresh_token().unwrap().expose());
    let secrets = [access, refresh, "c4n4ry-passw0rd/+", "c4n4ry-k3y"];
    adapter.run(TokenRequest::refresh(&front.metadata(), &client(), &token).unwrap().exchange()).unwrap();
    // The front refuses a query at the token endpoint; a server that is not there comes next.
    hidden_in_error(&adapter.run(request(&server).exchange()).unwrap_err(), &secrets);
    let free = { TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap() };
    for address in [format!("http://{free}/token?k=c4n4ry-k3y"), format!("https://{free}/token?k=c4n4ry-k3y")] {
        let nobody = front.metadata().token_endpoint(&address).unwrap();
        let machine = request(&nobody).exchange().total_time(Duration::from_millis(300));
        hidden_in_error(&adapter.run(machine).unwrap_err(), &secrets);
    }
    let address = format!("https://{}/token?k=c4n4ry-k3y", cleartext_server());
    let cleartext = front.metadata().token_endpoint(&address).unwrap();
    hidden_in_error(&adapter.run(request(&cleartext).exchange()).unwrap_err(), &secrets);
    for fault in [Fault::Endless, Fault::DropAfter, Fault::Truncate, Fault::html(200)] {
        front.server().fail(Place::Token, fault);
        let machine = TokenRequest::refresh(&front.metadata(), &client(), &token).unwrap().exchange();
        hidden_in_error(&adapter.run(machine).unwrap_err(), &secrets);
    }
    let events = events.lock().unwrap();
    assert!(events.lines().count() > 10 && events.contains("POST http://127.0.0.1"), "{events}");
    hidden("a watched event", &events, &secrets);
    hidden_in_debug("a token", &token, &secrets);
}

pub(super) fn no_cookie_is_kept<A: Adapter>() {
    let front = Front::start(Server::demo()).unwrap();
    let adapter = A::new();
    let body = r#"{"access_token":"t","token_type":"Bearer"}"#;
    front.server().fail(Place::Token, Fault::status(200, body).header("set-cookie", "session=1; Path=/"));
    client_credentials(&adapter, &front.metadata()).unwrap();
    client_credentials(&adapter, &front.metadata()).unwrap();
    assert_eq!(front.server().seen()[1].header("cookie"), None);
}
