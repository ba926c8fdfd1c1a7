//! A web application that signs people in, with all it has to remember in encrypted cookies.
//!
//! Without arguments it runs beside a pretend server, and a pretend browser signs in.
//! `--client-secrets FILE` serves on <http://localhost:8080> with Google, for a client of the kind "web
//! application" whose redirect URIs have `http://localhost:8080/callback`.

use std::collections::BTreeMap;
use std::error::Error;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{FromRef, RawQuery, State};
use axum::http::{HeaderMap, HeaderName, StatusCode, header};
use axum::response::{AppendHeaders, Html, IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use axum_extra::extract::PrivateCookieJar;
use axum_extra::extract::cookie::{Cookie, Key, SameSite};
use grantflow_reqwest::Transport;
use grantflow_reqwest::grantflow::authorize::PendingCookie;
use grantflow_reqwest::grantflow::crypto::{SealingKey, SealingKeys};
use grantflow_reqwest::grantflow::google::ClientSecrets;
use grantflow_reqwest::grantflow::{
    self, AuthorizationRequest, Client, ClientAuthentication, ErrorKind, PendingAuthorization, ServerMetadata,
};
use grantflow_tests::command::{Args, run_async};
use grantflow_tests::{Front, Registered, Server};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use url::Url;

const HELP: &str = "\
Usage:
  axum_sign_in                        beside a pretend server on this machine, where a pretend browser signs in
  axum_sign_in --client-secrets FILE  at Google, with the client file from its console; open http://localhost:8080
Options:
  --help       this text";
/// The cookie of who is signed in.
const USER: &str = "user";
/// How long a sign-in may take.
const LIFETIME: Duration = Duration::from_secs(600);

#[derive(Clone)]
struct App {
    transport: Transport,
    server: ServerMetadata,
    client: Client,
    redirect_uri: Arc<str>,
    /// They encrypt the cookies of sign-ins under way. Those that are kept outlive a restart, and serve several processes.
    sealing: SealingKeys,
    /// It encrypts the cookie of who is signed in.
    key: Key,
}

impl FromRef<App> for Key {
    fn from_ref(app: &App) -> Self {
        app.key.clone()
    }
}

fn router(app: App) -> Router {
    Router::new()
        .route("/", get(home))
        .route("/login", get(login))
        .route("/callback", get(callback))
        .route("/logout", post(logout))
        .with_state(app)
}

/// A cookie for this application's own pages, which no script and no other site gets at. `Lax` lets it
/// through when the server sends the person back.
fn cookie(app: &App, name: String, value: String, path: &'static str) -> Cookie<'static> {
    Cookie::build((name, value))
        .path(path)
        .http_only(true)
        .same_site(SameSite::Lax)
        .secure(app.redirect_uri.starts_with("https:"))
        .build()
}

fn forget(name: String, path: &'static str) -> Cookie<'static> {
    Cookie::build(name).path(path).build()
}

async fn home(jar: PrivateCookieJar) -> Response {
    match jar.get(USER) {
        Some(user) => page(
            StatusCode::OK,
            &format!(
                "<p>Signed in as {}.</p><form method=post action=/logout><button>Sign out</button></form>",
                escape(user.value())
            ),
        ),
        None => page(StatusCode::OK, "<p>Not signed in.</p><p><a href=/login>Sign in</a></p>"),
    }
}

/// Each sign-in has a cookie of its own, so that two tabs of a browser can sign in at once.
async fn login(State(app): State<App>) -> Result<impl IntoResponse, Failed> {
    let request = AuthorizationRequest::new(&app.server, &app.client, app.redirect_uri.clone())
        .scopes(["openid", "email"])
        .lifetime(LIFETIME);
    let authorization = app.transport.run(request.start()).await?;
    let cookie = authorization.pending.to_cookie(&app.sealing, &mut app.transport.cx()?)?;
    Ok((AppendHeaders([(header::SET_COOKIE, cookie.set())]), Redirect::to(&authorization.url)))
}

/// Where the server sends the person back to. Whatever comes of it, what was pending is over.
async fn callback(
    State(app): State<App>,
    headers: HeaderMap,
    jar: PrivateCookieJar,
    RawQuery(query): RawQuery,
) -> Response {
    let query = query.unwrap_or_default();
    let forget = match PendingCookie::forget(&app.redirect_uri, &query) {
        Ok(forget) => AppendHeaders([(header::SET_COOKIE, forget)]),
        Err(error) => return Failed::from(error).into_response(),
    };
    match finish(&app, &headers, &query).await {
        // Away from this address, which holds the code.
        Ok(user) => (forget, jar.add(cookie(&app, USER.into(), user, "/")), Redirect::to("/")).into_response(),
        Err(failed) => (forget, failed).into_response(),
    }
}

/// Checks the answer, gets the token and says who signed in.
async fn finish(app: &App, headers: &HeaderMap, query: &str) -> Result<String, Failed> {
    let cookies = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let cookies = cookies.collect::<Vec<_>>().join("; ");
    let now = app.transport.now().wall;
    let pending = PendingAuthorization::from_cookies(&app.sealing, query, &cookies, now)?;
    // A refresh token, if the application asks for one, belongs in its database.
    let token = app.transport.run(pending.finish(&app.client, query)).await?;
    let id_token = token.id_token().ok_or_else(|| Failed::new("the server does not say who this is"))?;
    // A user is known by issuer and subject together. An e-mail address may change hands.
    let user = format!("{} of {}", id_token.subject(), id_token.issuer());
    Ok(match id_token.verified_email() {
        Some(email) => format!("{email} ({user})"),
        None => user,
    })
}

async fn logout(jar: PrivateCookieJar) -> (PrivateCookieJar, Redirect) {
    (jar.remove(forget(USER.into(), "/")), Redirect::to("/"))
}

/// An error as a page.
struct Failed(StatusCode, String);

impl Failed {
    fn new(message: &str) -> Self {
        Self(StatusCode::BAD_REQUEST, message.to_owned())
    }
}

impl From<grantflow::Error> for Failed {
    fn from(error: grantflow::Error) -> Self {
        let status = match error.kind() {
            ErrorKind::Authorization | ErrorKind::InvalidRedirect | ErrorKind::Expired => StatusCode::BAD_REQUEST,
            _ => StatusCode::BAD_GATEWAY,
        };
        Self(status, error.to_string())
    }
}

impl IntoResponse for Failed {
    fn into_response(self) -> Response {
        let Self(status, message) = self;
        page(status, &format!("<p>The sign-in failed: {}.</p><p><a href=/login>Try again</a></p>", escape(&message)))
    }
}

fn page(status: StatusCode, body: &str) -> Response {
    const HEADERS: [(HeaderName, &str); 3] = [
        (header::CACHE_CONTROL, "no-store"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CONTENT_SECURITY_POLICY, "default-src 'none'; form-action 'self'; frame-ancestors 'none'"),
    ];
    (status, HEADERS, Html(format!("<!doctype html><meta charset=utf-8><title>Sign in</title>{body}"))).into_response()
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;").replace('\'', "&#39;")
}

#[tokio::main]
async fn main() -> ExitCode {
    let parse = |args: &mut Args| args.value("--client-secrets");
    run_async(HELP, parse, async |file: Option<String>| match file {
        Some(file) => google(&file).await,
        None => demo().await,
    })
    .await
}

/// A service reads them from where it keeps its secrets.
fn sealing_keys() -> Result<SealingKeys, Box<dyn Error>> {
    Ok(SealingKeys::new(SealingKey::new("1", &Key::generate().master()[..32])?))
}

async fn google(file: &str) -> Result<(), Box<dyn Error>> {
    let transport = Transport::new()?;
    let secrets = transport.run(ClientSecrets::read(file)).await?;
    let redirect_uri = "http://localhost:8080/callback";
    if !secrets.redirect_uris().iter().any(|known| known == redirect_uri) {
        return Err(
            format!("{redirect_uri} is not among the client's redirect URIs: add it and get the file anew").into()
        );
    }
    let listener = TcpListener::bind("127.0.0.1:8080").await?;
    let (server, client) = (secrets.server().clone(), secrets.client().clone());
    println!("Open http://localhost:8080/");
    let (sealing, key) = (sealing_keys()?, Key::generate());
    let app = App { transport, server, client, redirect_uri: redirect_uri.into(), sealing, key };
    Ok(axum::serve(listener, router(app)).await?)
}

/// The application beside a pretend server, visited by a pretend browser.
async fn demo() -> Result<(), Box<dyn Error>> {
    let registered = Registered::post("web-app", "its-secret").redirect_uri("http://localhost/callback");
    let front = Front::start(Server::new("https://as.example").client(registered))?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let origin = format!("http://localhost:{}", listener.local_addr()?.port());
    println!("A pretend server runs at {}, the application at {origin}", front.issuer());
    let app = App {
        transport: Transport::new()?,
        server: front.metadata(),
        client: Client::new("web-app").authentication(ClientAuthentication::client_secret_post("its-secret")),
        redirect_uri: format!("{origin}/callback").into(),
        sealing: sealing_keys()?,
        key: Key::generate(),
    };
    tokio::spawn(axum::serve(listener, router(app)).into_future());

    let mut browser = Browser::default();
    println!("A person comes by");
    browser.open("GET", &format!("{origin}/")).await?.says("Not signed in")?;
    println!("They sign in, and consent at the server");
    browser.open("GET", &format!("{origin}/login")).await?.says("Signed in as")?;
    println!("The redirect opened once more, as from the history, is of no use");
    let redirect = browser.history.iter().find(|url| url.contains("/callback")).cloned().unwrap_or_default();
    browser.open("GET", &redirect).await?.says("no sign-in is under way")?;
    println!("They begin in one tab, sign in in another, and go on in the first");
    let (_, first) = browser.step("GET", &Url::parse(&format!("{origin}/login"))?).await?;
    browser.open("GET", &format!("{origin}/login")).await?.says("Signed in as")?;
    browser.open("GET", first.ok_or("no redirect")?.as_str()).await?.says("Signed in as")?;
    println!("They are still signed in");
    browser.open("GET", &format!("{origin}/")).await?.says("Signed in as")?;
    println!("They sign out");
    browser.open("POST", &format!("{origin}/logout")).await?.says("Not signed in")
}

/// As much of a browser as this needs: redirects, and the cookies of each site.
#[derive(Default)]
struct Browser {
    cookies: BTreeMap<(String, String), String>,
    history: Vec<String>,
}

struct Page(String);

impl Page {
    fn says(&self, text: &str) -> Result<(), Box<dyn Error>> {
        let body = self.0.split("\r\n\r\n").nth(1).unwrap_or_default();
        let words = body.split('<').filter_map(|part| part.split('>').nth(1)).filter(|words| !words.is_empty());
        println!("  the page says: {}", words.skip(1).collect::<Vec<_>>().join(" | "));
        if body.contains(text) { Ok(()) } else { Err(format!("the page does not say {text:?}").into()) }
    }

    fn headers<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        let head = self.0.split("\r\n\r\n").next().unwrap_or_default();
        let fields = head.lines().filter_map(|line| line.split_once(": "));
        fields.filter(move |(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }
}

impl Browser {
    async fn open(&mut self, method: &str, url: &str) -> Result<Page, Box<dyn Error>> {
        let (mut method, mut url) = (method, Url::parse(url)?);
        for _ in 0..10 {
            match self.step(method, &url).await? {
                (page, None) => return Ok(page),
                (_, Some(next)) => (method, url) = ("GET", next),
            }
        }
        Err("sent on too often".into())
    }

    /// One page, and where it sends the browser on to.
    async fn step(&mut self, method: &str, url: &Url) -> Result<(Page, Option<Url>), Box<dyn Error>> {
        let site = url.authority().to_owned();
        println!("  {method} http://{site}{}", url.path());
        let page = self.fetch(method, url).await?;
        for cookie in page.headers("set-cookie") {
            let (name, rest) = cookie.split_once('=').unwrap_or((cookie, ""));
            let value = rest.split(';').next().unwrap_or_default();
            let shown = name.get(..16).unwrap_or(name);
            println!("    cookie {shown}: {}", if value.is_empty() { "forgotten" } else { "kept, encrypted" });
            self.cookies.insert((site.clone(), name.to_owned()), value.to_owned());
        }
        self.history.push(url.to_string());
        let next = page.headers("location").next().map(|location| url.join(location)).transpose()?;
        Ok((page, next))
    }

    async fn fetch(&self, method: &str, url: &Url) -> Result<Page, Box<dyn Error>> {
        let site = url.authority();
        let target = &url[url::Position::BeforePath..url::Position::AfterQuery];
        let cookies = self.cookies.iter().filter(|((of, _), value)| of == site && !value.is_empty());
        let cookies: Vec<_> = cookies.map(|((_, name), value)| format!("{name}={value}")).collect();
        let mut stream = TcpStream::connect(site).await?;
        let head = format!("{method} {target} HTTP/1.1\r\nHost: {site}\r\nCookie: {}\r\n", cookies.join("; "));
        stream.write_all(format!("{head}Content-Length: 0\r\nConnection: close\r\n\r\n").as_bytes()).await?;
        let mut page = String::new();
        stream.read_to_string(&mut page).await?;
        Ok(Page(page))
    }
}
