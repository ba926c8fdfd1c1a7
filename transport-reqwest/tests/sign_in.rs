//! The sign-in of an installed application, at a pretend server and with a pretend person.

use std::net::{Ipv4Addr, TcpListener};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use grantflow::{Client, Error, ErrorKind, InstalledApp, Issuer, ServerMetadata, Token};
use grantflow_reqwest::Transport;
use grantflow_tests::server::Consent;
use grantflow_tests::{Front, Place, Server, person};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

const LONG: Duration = Duration::from_secs(10);

fn app(front: &Front) -> InstalledApp {
    InstalledApp::new(&front.metadata(), &Client::new("demo"))
        .scopes(["openid", "email"])
        .open_browser(false)
        .timeout(LONG)
}

/// A server that nobody asks.
fn nobody() -> InstalledApp {
    let server = ServerMetadata::new(Issuer::new("https://as.invalid").unwrap())
        .authorization_endpoint("https://as.invalid/authorize")
        .and_then(|server| server.token_endpoint("https://as.invalid/token"));
    InstalledApp::new(&server.unwrap(), &Client::new("demo")).open_browser(false).timeout(LONG)
}

/// Keeps the URL that is shown.
#[derive(Clone, Default)]
struct Shown(Arc<Mutex<Option<String>>>);

impl Shown {
    fn on(&self, app: InstalledApp) -> InstalledApp {
        let shown = self.0.clone();
        app.show(move |url| *shown.lock().unwrap() = Some(url.to_owned()))
    }

    async fn url(&self) -> url::Url {
        loop {
            if let Some(url) = &*self.0.lock().unwrap() {
                return url.parse().unwrap();
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// Host and port of the redirect URI.
    async fn authority(&self) -> String {
        let url = self.url().await;
        let redirect = url.query_pairs().find(|(name, _)| name == "redirect_uri").unwrap().1.into_owned();
        url::Url::parse(&redirect).unwrap().authority().to_owned()
    }
}

async fn sign_in(app: &InstalledApp) -> Result<Token, Error> {
    Transport::new().unwrap().sign_in(app).await
}

#[tokio::test]
async fn a_person_signs_in_whatever_the_host() {
    for host in ["127.0.0.1", "localhost", "[::1]"] {
        let front = Front::start(Server::demo()).unwrap();
        let seen = Arc::new(Mutex::new(None));
        let browser = seen.clone();
        let app = app(&front).host(host).success_message("Back to <work>").show(move |url| {
            *browser.lock().unwrap() = Some(person::visit_in_background(url));
        });
        let token = sign_in(&app).await.unwrap();
        assert_eq!(token.scopes().as_str(), "openid email");
        let page = seen.lock().unwrap().take().unwrap().join().unwrap().unwrap();
        assert_eq!(page.status, 200);
        assert!(page.body.contains("Back to &lt;work&gt;"), "{}", page.body);
        assert!(page.url.starts_with(&format!("http://{host}:")), "{}", page.url);
    }
}

#[tokio::test]
async fn a_crowd_at_the_port_does_not_keep_the_answer_out() {
    let front = Front::start(Server::demo()).unwrap();
    let shown = Shown::default();
    let app = shown.on(app(&front));
    let signing = tokio::spawn(async move { sign_in(&app).await });
    let authority = shown.authority().await;
    // Silent ones, slow ones, ones that leave, and some that ask for something else.
    let mut crowd = Vec::new();
    for number in 0..30 {
        let mut socket = TcpStream::connect(&authority).await.unwrap();
        let words: &[u8] = [&b""[..], b"GET / HT", b"\x16\x03\x01", b"GET /favicon.ico HTTP/1.1\r\n\r\n"][number % 4];
        socket.write_all(words).await.unwrap();
        if number % 5 > 0 {
            crowd.push(socket);
        }
    }
    let mut icon = TcpStream::connect(&authority).await.unwrap();
    let request = format!("GET /favicon.ico HTTP/1.1\r\nHost: {authority}\r\n\r\n");
    icon.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    icon.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 404 "), "{answer}");
    assert!(!signing.is_finished());
    let browser = person::visit_in_background(shown.url().await.as_str());
    signing.await.unwrap().unwrap();
    assert_eq!(browser.join().unwrap().unwrap().status, 200);
}

#[tokio::test]
async fn a_burst_of_connections_does_not_take_the_place_of_the_browsers() {
    let front = Front::start(Server::demo()).unwrap();
    let shown = Shown::default();
    let app = shown.on(app(&front).host("localhost"));
    let signing = tokio::spawn(async move { sign_in(&app).await });
    let redirect: url::Url = person::answer(shown.url().await.as_str()).unwrap().parse().unwrap();
    let authority = redirect.authority().to_owned();
    // All of them come before the sign-in looks again.
    let mut browser = std::net::TcpStream::connect(&authority).unwrap();
    let target = &redirect[url::Position::BeforePath..];
    std::io::Write::write_all(&mut browser, format!("GET {target} HTTP/1.1\r\nHost: {authority}\r\n\r\n").as_bytes())
        .unwrap();
    let crowd: Vec<_> = (0..40).map(|_| std::net::TcpStream::connect(&authority).unwrap()).collect();
    signing.await.unwrap().unwrap();
    assert_eq!(crowd.len(), 40);
}

#[tokio::test]
async fn the_servers_error_ends_the_sign_in() {
    let shown = Shown::default();
    let app = shown.on(nobody());
    let signing = tokio::spawn(async move { sign_in(&app).await });
    let url = shown.url().await;
    let state = url.query_pairs().find(|(name, _)| name == "state").unwrap().1.into_owned();
    let redirect = format!("http://{}/?error=access_denied&state=", shown.authority().await);
    let visit = |url: String| tokio::task::spawn_blocking(move || person::visit(&url));
    assert_eq!(visit(format!("{redirect}wrong")).await.unwrap().unwrap().status, 400);
    assert!(!signing.is_finished());
    let page = visit(format!("{redirect}{state}"));
    let error = signing.await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Authorization);
    assert_eq!(error.server().unwrap().error(), "access_denied");
    assert!(page.await.unwrap().unwrap().body.contains("access_denied"));
}

#[tokio::test]
async fn nobody_comes_in_time() {
    let start = Instant::now();
    let app = nobody().prompt_message(None).timeout(Duration::from_millis(200));
    let error = sign_in(&app).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert!((200..2000).contains(&start.elapsed().as_millis()));
}

/// A sign-in by device, at a server that may be asked once a second.
fn device(front: &Front) -> InstalledApp {
    front.server().settings.device_interval = Some(1);
    app(front).device()
}

#[tokio::test]
async fn a_person_without_a_browser_here_enters_a_code_elsewhere() {
    let front = Front::start(Server::demo()).unwrap();
    let app = device(&front)
        .show_code(|code| drop(person::enter_code_in_background(code.verification_uri(), code.user_code())));
    let token = sign_in(&app).await.unwrap();
    assert_eq!((token.scopes().as_str(), token.id_token().unwrap().subject()), ("openid email", "alice"));
    assert!(front.server().seen_at(Place::Authorize).is_empty());
    front.server().settings.consent = Consent::Deny("access_denied");
    let error = sign_in(&app).await.unwrap_err();
    assert_eq!((error.kind(), error.server().unwrap().error()), (ErrorKind::Server, "access_denied"));
    let error = sign_in(&device(&front).timeout(Duration::ZERO)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Expired);
}

#[tokio::test]
async fn dropping_the_wait_for_a_code_ends_it() {
    let front = Front::start(Server::demo()).unwrap();
    let shown = Arc::new(tokio::sync::Notify::new());
    let tell = shown.clone();
    let app = device(&front).show_code(move |_| tell.notify_one());
    let signing = tokio::spawn(async move { sign_in(&app).await });
    shown.notified().await;
    while front.server().seen_at(Place::Token).is_empty() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    signing.abort();
    assert!(signing.await.unwrap_err().is_cancelled());
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert_eq!(front.server().seen_at(Place::Token).len(), 1, "nobody asks any more");
}

#[tokio::test]
async fn a_port_that_is_taken_is_an_error() {
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = taken.local_addr().unwrap().port();
    for host in ["127.0.0.1", "localhost"] {
        let error = sign_in(&nobody().host(host).port(port)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Loopback, "{error}");
    }
}

#[tokio::test]
async fn dropping_the_sign_in_frees_its_port() {
    let shown = Shown::default();
    let app = shown.on(nobody());
    let signing = tokio::spawn(async move { sign_in(&app).await });
    let authority = shown.authority().await;
    let mut open = TcpStream::connect(&authority).await.unwrap();
    open.write_all(b"GET / HT").await.unwrap();
    signing.abort();
    assert!(signing.await.unwrap_err().is_cancelled());
    assert_eq!(open.read(&mut [0; 8]).await.unwrap_or(0), 0, "it is closed");
    TcpStream::connect(&authority).await.unwrap_err();
}

#[cfg(unix)]
#[tokio::test]
async fn a_browser_of_this_name_is_given_the_url() {
    use std::os::unix::fs::PermissionsExt;
    let path = std::env::temp_dir().join(format!("grantflow-reqwest-browser-{}", std::process::id()));
    let seen = path.with_extension("seen");
    std::fs::write(&path, format!("#!/bin/sh\nprintf %s \"$*\" > {0}.new; mv {0}.new {0}\n", seen.display())).unwrap();
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o700)).unwrap();
    let shown = Shown::default();
    let app = shown.on(nobody()).open_browser(true).browser(path.to_str().unwrap());
    let signing = tokio::spawn(async move { sign_in(&app).await });
    let url = shown.url().await;
    let start = Instant::now();
    while !seen.exists() && start.elapsed() < LONG {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(std::fs::read_to_string(&seen).unwrap(), url.as_str());
    signing.abort();
    for file in [path, seen] {
        std::fs::remove_file(file).unwrap();
    }
}

#[test]
fn the_future_is_send() {
    fn send<T: Send>(_: T) {}
    send(Transport::new().unwrap().sign_in(&nobody()));
}
