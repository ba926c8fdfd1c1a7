//! The sign-in of an installed application, against the pretend server over TCP.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

use grantflow_tests::server::Consent;
use grantflow_tests::{Front, Place, Server, person};
use grantflow_ureq::grantflow::{Client, ErrorKind, InstalledApp, Revocation, TokenRequest};
use grantflow_ureq::{Cancel, Limit, Transport};

fn front() -> Front {
    Front::start(Server::demo()).unwrap()
}

/// An application whose user consents as soon as the URL is shown.
fn app(front: &Front) -> InstalledApp {
    quiet(front).show(|url| drop(person::visit_in_background(url)))
}

fn quiet(front: &Front) -> InstalledApp {
    InstalledApp::new(&front.metadata(), &Client::new("demo"))
        .scopes(["openid", "read"])
        .open_browser(false)
        .timeout(Duration::from_secs(20))
}

/// The port in the authorization URL's redirect URI.
fn redirect_address(url: &str) -> SocketAddr {
    let encoded = url.split("redirect_uri=http%3A%2F%2F").nth(1).unwrap();
    encoded.split("%2F").next().unwrap().split('&').next().unwrap().replace("%3A", ":").parse().unwrap()
}

#[test]
fn a_person_signs_in_and_the_token_is_refreshed_and_revoked() {
    let front = front();
    let (transport, client, server) = (Transport::new().unwrap(), Client::new("demo"), front.metadata());
    let token = transport.sign_in(&app(&front)).unwrap();
    assert_eq!(token.scopes().as_str(), "openid read");
    assert_eq!(token.id_token().unwrap().subject(), "alice");
    let token = transport.run(TokenRequest::refresh(&server, &client, &token).unwrap().exchange()).unwrap();
    let accepted = |front: &Front| front.server().accepts(token.access_token(), transport.now().wall);
    assert!(accepted(&front));
    transport.run(Revocation::new(&server, &client, token.refresh_token().unwrap()).unwrap().exchange()).unwrap();
    assert!(!accepted(&front));
}

#[test]
fn every_loopback_host_and_redirect_path_signs_in() {
    let front = front();
    for host in ["127.0.0.1", "localhost", "[::1]"] {
        if host == "[::1]" && TcpListener::bind("[::1]:0").is_err() {
            continue;
        }
        let app = app(&front).host(host);
        for app in [app.clone(), app.clone().trailing_slash(false), app.path("/callback")] {
            Transport::new().unwrap().sign_in(&app).unwrap();
        }
    }
}

#[test]
fn the_page_that_the_person_sees_is_whole() {
    let front = front();
    let (send, pages) = channel();
    let app = quiet(&front).success_message("All is well.").show(move |url| {
        let (url, send) = (url.to_owned(), send.clone());
        thread::spawn(move || send.send(person::visit(&url).unwrap()).unwrap());
    });
    Transport::new().unwrap().sign_in(&app).unwrap();
    let page = pages.recv().unwrap();
    assert_eq!(page.status, 200);
    assert!(page.body.contains("All is well.") && page.body.trim_end().ends_with("</html>"), "{}", page.body);
}

#[test]
fn what_else_comes_to_the_port_does_not_disturb() {
    let front = front();
    let app = quiet(&front).show(|url| {
        let address = redirect_address(url);
        let url = url.to_owned();
        thread::spawn(move || {
            // More silent connections than are kept, garbage, another path, a wrong state, half a request.
            let mut open: Vec<_> = (0..12).map(|_| TcpStream::connect(address).unwrap()).collect();
            for bytes in ["\0\0garbage\r\n\r\n", "GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n", "GET /?code=a&sta"] {
                let mut stream = TcpStream::connect(address).unwrap();
                stream.write_all(bytes.as_bytes()).unwrap();
                open.push(stream);
            }
            for (target, status) in [("/favicon.ico", 404), ("/?code=a&state=wrong", 400), ("/", 400)] {
                assert_eq!(person::get(&format!("http://{address}{target}")).unwrap().status, status);
            }
            assert_eq!(person::visit(&url).unwrap().status, 200);
            drop(open);
        });
    });
    Transport::new().unwrap().sign_in(&app).unwrap();
}

#[test]
fn the_persons_no_ends_the_sign_in() {
    let front = front();
    front.server().settings.consent = Consent::Deny("access_denied");
    let error = Transport::new().unwrap().sign_in(&app(&front)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Authorization);
    assert_eq!(error.server().unwrap().error(), "access_denied");
    assert!(front.server().seen_at(Place::Token).is_empty());
}

#[test]
fn a_person_who_does_not_come_back_ends_in_a_timeout() {
    let front = front();
    let app = quiet(&front).show(|_| {}).timeout(Duration::from_millis(100));
    let start = Instant::now();
    assert_eq!(Transport::new().unwrap().sign_in(&app).unwrap_err().kind(), ErrorKind::Timeout);
    assert!((Duration::from_millis(100)..Duration::from_secs(3)).contains(&start.elapsed()));
}

#[test]
fn cancelling_ends_the_wait_at_once_and_frees_the_port() {
    let front = front();
    let cancel = Cancel::new();
    let (handle, (send, addresses)) = (cancel.clone(), channel());
    let app = quiet(&front).show(move |url| {
        send.send(redirect_address(url)).unwrap();
        let handle = handle.clone();
        thread::spawn(move || handle.cancel());
    });
    let start = Instant::now();
    let limit = Limit::new().cancel(&cancel);
    let error = Transport::new().unwrap().sign_in_until(&app, &limit).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Cancelled);
    assert!(start.elapsed() < Duration::from_secs(3));
    assert!(TcpStream::connect(addresses.recv().unwrap()).is_err());
    let late = Limit::within(Duration::from_millis(50));
    let error = Transport::new().unwrap().sign_in_until(&quiet(&front).show(|_| {}), &late).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
}

/// A sign-in by device, at a server that may be asked once a second.
fn device(front: &Front) -> InstalledApp {
    front.server().settings.device_interval = Some(1);
    quiet(front).device()
}

#[test]
fn a_person_without_a_browser_here_enters_a_code_elsewhere() {
    let front = front();
    let app = device(&front)
        .show_code(|code| drop(person::enter_code_in_background(code.verification_uri(), code.user_code())));
    let token = Transport::new().unwrap().sign_in(&app).unwrap();
    assert_eq!((token.scopes().as_str(), token.id_token().unwrap().subject()), ("openid read", "alice"));
    assert!(front.server().seen_at(Place::Authorize).is_empty());
    front.server().settings.consent = Consent::Deny("access_denied");
    let error = Transport::new().unwrap().sign_in(&app).unwrap_err();
    assert_eq!((error.kind(), error.server().unwrap().error()), (ErrorKind::Server, "access_denied"));
    let error = Transport::new().unwrap().sign_in(&device(&front).timeout(Duration::ZERO)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Expired);
}

#[test]
fn cancelling_ends_the_wait_for_a_code_at_once() {
    let front = front();
    let cancel = Cancel::new();
    let handle = cancel.clone();
    let app = device(&front).show_code(move |_| {
        let handle = handle.clone();
        thread::spawn(move || handle.cancel());
    });
    front.server().settings.device_interval = Some(10);
    let start = Instant::now();
    let error = Transport::new().unwrap().sign_in_until(&app, &Limit::new().cancel(&cancel)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Cancelled);
    let late = Limit::within(Duration::from_millis(100));
    let error = Transport::new().unwrap().sign_in_until(&app.show_code(|_| {}), &late).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert!(start.elapsed() < Duration::from_secs(5) && front.server().seen_at(Place::Token).is_empty());
}

#[test]
fn a_port_that_is_taken_is_an_error_with_its_cause() {
    let front = front();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let app = app(&front).port(taken.local_addr().unwrap().port());
    let error = Transport::new().unwrap().sign_in(&app).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Loopback);
    let source = std::error::Error::source(&error).unwrap().downcast_ref::<std::io::Error>().unwrap();
    assert_eq!(source.kind(), std::io::ErrorKind::AddrInUse);
}

#[test]
fn localhost_is_not_shared_with_whoever_holds_its_other_address() {
    let Ok(holder) = TcpListener::bind("[::1]:0") else { return };
    let port = holder.local_addr().unwrap().port();
    let front = front();
    let app = app(&front).host("localhost").port(port);
    let error = Transport::new().unwrap().sign_in(&app).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Loopback);
    assert!(front.server().seen().is_empty());
}

#[cfg(unix)]
#[test]
fn a_named_browser_gets_the_url_as_its_only_argument() {
    use std::os::unix::fs::PermissionsExt as _;
    let front = front();
    let directory = std::path::Path::new(env!("CARGO_TARGET_TMPDIR"));
    let (program, seen) = (directory.join("browser"), directory.join("browser-saw"));
    std::fs::write(&program, format!("#!/bin/sh\necho \"$# $1\" > {}.part\nmv {0}.part {0}\n", seen.display()))
        .unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    let _ = std::fs::remove_file(&seen);
    let (send, shown) = channel();
    let person = seen.clone();
    let app = quiet(&front).open_browser(true).browser(program.to_str().unwrap()).show(move |url| {
        send.send(url.to_owned()).unwrap();
        let person = person.clone();
        thread::spawn(move || {
            while !person.exists() {
                thread::sleep(Duration::from_millis(5));
            }
            let said = std::fs::read_to_string(&person).unwrap();
            person::visit(said.trim().strip_prefix("1 ").unwrap()).unwrap();
        });
    });
    Transport::new().unwrap().sign_in(&app).unwrap();
    assert_eq!(std::fs::read_to_string(&seen).unwrap().trim(), format!("1 {}", shown.recv().unwrap()));
}

#[test]
fn without_a_browser_and_without_a_word_nobody_can_sign_in() {
    // The standard input of this test may be a terminal: then the person is asked there.
    if std::io::IsTerminal::is_terminal(&std::io::stdin()) {
        return;
    }
    let front = front();
    let mute = quiet(&front).prompt_message(None);
    let app = mute.clone().open_browser(true).browser("grantflow-no-such-browser");
    for app in [mute, app.clone()] {
        let error = Transport::new().unwrap().sign_in(&app).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Loopback, "{error}");
    }
    // One whose URL was shown waits on: it may be opened by hand.
    let app = app.show(|url| drop(person::visit_in_background(url)));
    Transport::new().unwrap().sign_in(&app).unwrap();
}

#[test]
fn the_answer_may_come_while_another_connection_stays_open() {
    let front = front();
    let (send, done) = channel();
    let app = quiet(&front).show(move |url| {
        let (address, url, send) = (redirect_address(url), url.to_owned(), send.clone());
        thread::spawn(move || {
            let mut idle = TcpStream::connect(address).unwrap();
            person::visit(&url).unwrap();
            // Closed when the sign-in is over.
            idle.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
            send.send(matches!(idle.read(&mut [0]), Ok(0) | Err(_))).unwrap();
        });
    });
    Transport::new().unwrap().sign_in(&app).unwrap();
    assert!(done.recv().unwrap());
}
