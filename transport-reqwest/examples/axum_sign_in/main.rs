//! A web application that signs people in and out, at two servers: the page `docs/sessions.md` says why each step is as it is.
//!
//! Without arguments it runs beside two pretend servers, of which one posts its answers, and pretend browsers sign in.
//! `--client-secrets FILE` serves on <http://localhost:8080> with Google, for a client of the kind "web
//! application" whose redirect URIs have `http://localhost:8080/callback/google`.

mod app;
mod browser;
mod sessions;

use std::error::Error;
use std::process::ExitCode;
use std::sync::Arc;

use axum::Router;
use axum::extract::RawQuery;
use axum::response::Redirect;
use axum::routing::get;
use axum_extra::extract::cookie::Key;
use grantflow_reqwest::Transport;
use grantflow_reqwest::grantflow::crypto::{SealingKey, SealingKeys};
use grantflow_reqwest::grantflow::google::ClientSecrets;
use grantflow_reqwest::grantflow::store::{CountGrants, Which};
use grantflow_reqwest::grantflow::{Client, ClientAuthentication, Issuer};
use grantflow_reqwest::grantflow_store::MemoryStore;
use grantflow_tests::command::{Args, run_async};
use grantflow_tests::front::wall_clock;
use grantflow_tests::server::Alter;
use grantflow_tests::{Front, IssuerKey, Registered, Server};
use serde_json::json;
use tokio::net::TcpListener;
use url::{Url, form_urlencoded};

use crate::app::{App, Provider, router};
use crate::browser::Browser;

const HELP: &str = "\
Usage:
  axum_sign_in                        beside two pretend servers on this machine, where pretend browsers sign in
  axum_sign_in --client-secrets FILE  at Google, with the client file from its console; open http://localhost:8080
Options:
  --help       this text";
/// The application's own address, in the demonstration: a proxy in front of it speaks TLS.
const ORIGIN: &str = "https://app.example";

#[tokio::main]
async fn main() -> ExitCode {
    let parse = |args: &mut Args| args.value("--client-secrets");
    run_async(HELP, parse, async |file: Option<String>| match file {
        Some(file) => google(&file).await,
        None => demo().await,
    })
    .await
}

fn application(
    origin: &str,
    transport: Transport,
    providers: impl Into<Arc<[Provider]>>,
) -> Result<App, Box<dyn Error>> {
    // A service reads its keys from where it keeps its secrets.
    let sealing = SealingKeys::new(SealingKey::new("1", &Key::generate().master()[..32])?);
    Ok(App {
        origin: origin.into(),
        transport: transport.with_store(MemoryStore::new()),
        providers: providers.into(),
        sealing,
        key: Key::generate(),
        sessions: Default::default(),
        replays: Default::default(),
    })
}

async fn google(file: &str) -> Result<(), Box<dyn Error>> {
    let transport = Transport::new()?;
    let secrets = transport.run(ClientSecrets::read(file)).await?;
    let redirect_uri = "http://localhost:8080/callback/google";
    if !secrets.redirect_uris().iter().any(|known| known == redirect_uri) {
        return Err(
            format!("{redirect_uri} is not among the client's redirect URIs: add it and get the file anew").into()
        );
    }
    let listener = TcpListener::bind("127.0.0.1:8080").await?;
    let (server, client) = (secrets.server().clone(), secrets.client().clone());
    let google =
        Provider { name: "google".into(), server, client, redirect_uri: redirect_uri.into(), form_post: false };
    let app = application("http://localhost:8080", transport, [google])?;
    println!("Open http://localhost:8080/");
    Ok(axum::serve(listener, router(app)).await?)
}

/// A pretend server, its key, and what the application knows of it.
fn server(name: &str, form_post: bool, end_session: &str) -> Result<(Front, IssuerKey, Provider), Box<dyn Error>> {
    let (redirect_uri, key) = (format!("{ORIGIN}/callback/{name}"), IssuerKey::es256(name));
    let registered = Registered::post("web-app", "its-secret").redirect_uri(&redirect_uri);
    let front = Front::start(Server::new("https://as.example").client(registered).with(|settings| {
        settings.keys = vec![key.clone()];
        settings.alter_id_claims = Alter::set("sid", json!("session-1"));
    }))?;
    let server = front.metadata().end_session_endpoint(end_session)?;
    let client = Client::new("web-app").authentication(ClientAuthentication::client_secret_post("its-secret"));
    Ok((front, key, Provider { name: name.into(), server, client, redirect_uri, form_post }))
}

/// The server's page of signing out: it sends the browser back.
async fn end_session(RawQuery(query): RawQuery) -> Redirect {
    let query = query.unwrap_or_default();
    let get =
        |wanted| form_urlencoded::parse(query.as_bytes()).find(|(name, _)| name == wanted).map(|(_, value)| value);
    let back = (get("id_token_hint"), get("post_logout_redirect_uri"), get("state"));
    match back {
        (Some(_), Some(back), Some(state)) => Redirect::to(&format!("{back}?state={state}")),
        _ => Redirect::to("about:blank"),
    }
}

/// The application beside pretend servers, visited by pretend browsers.
async fn demo() -> Result<(), Box<dyn Error>> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let end = format!("http://{}/end_session", listener.local_addr()?);
    tokio::spawn(axum::serve(listener, Router::new().route("/end_session", get(end_session))).into_future());
    let ((one, key, provider), (_two, _, other)) = (server("one", false, &end)?, server("two", true, &end)?);
    let app = application(ORIGIN, Transport::new()?, [provider, other])?;
    let (transport, issuer) = (app.transport.clone(), Issuer::new(one.issuer())?);
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let mut browser = Browser::new((ORIGIN, listener.local_addr()?));
    let mut another = browser.clone();
    tokio::spawn(axum::serve(listener, router(app)).into_future());
    let at = |path: &str| format!("{ORIGIN}{path}");

    println!("A person comes by");
    browser.open(&at("/")).await?.says("Not signed in")?;
    println!("They sign in, and consent at the server");
    browser.open(&at("/login/one")).await?.says("Signed in as")?;
    println!("The redirect opened once more, as from the history, is of no use");
    let redirect = browser.history.iter().find(|url| url.contains("/callback")).cloned().unwrap_or_default();
    browser.open(&redirect).await?.says("no sign-in is under way")?;
    println!("They begin in one tab, sign in in another, and go on in the first");
    let first = browser.begin(&at("/login/one")).await?;
    browser.open(&at("/login/one")).await?.says("Signed in as")?;
    browser.open(first.as_str()).await?.says("Signed in as")?;
    println!("They are still signed in");
    browser.open(&at("/")).await?.says("Signed in as")?;

    println!("The other server posts its answer, with which the cookie of the sign-in comes alone");
    browser.open(&at("/login/two")).await?.says("Signed in as")?;
    println!("A portal has a sign-in begin");
    let portal = form_urlencoded::byte_serialize(one.issuer().as_bytes()).collect::<String>();
    browser.open(&at(&format!("/login?iss={portal}"))).await?.says("Signed in as")?;
    println!("An answer that somebody else was meant to get is of no use to another browser");
    let asked = browser.begin(&at("/login/one")).await?;
    let answer = browser.begin(asked.as_str()).await?;
    another.open(answer.as_str()).await?.says("no sign-in is under way in this browser")?;
    println!("Nor is one that is carried to the redirect URI of another server");
    let carried = answer.as_str().replace("/callback/one", "/callback/two");
    browser.open(&carried).await?.says("the redirect URI of another server")?;

    println!("They sign in in another browser too, and sign out in the first, also at the server");
    another.open(&at("/login/one")).await?.says("Signed in as")?;
    browser.press(&at("/logout")).await?.says("Signed out here and at the server")?;
    browser.open(&at("/")).await?.says("Not signed in")?;
    another.open(&at("/")).await?.says("Signed in as")?;
    println!("They sign out everywhere");
    browser.open(&at("/login/one")).await?.says("Signed in as")?;
    let grants = || CountGrants::new(Which::subject(&issuer, "alice"));
    println!("  grants that are kept: {}", transport.run(grants()).await?);
    browser.press(&at("/logout/everywhere")).await?.says("Signed out here and at the server")?;
    another.open(&at("/")).await?.says("Not signed in")?;
    if transport.run(grants()).await? > 0 {
        return Err("a grant is left".into());
    }

    println!("The server ends a session by the back channel, once");
    browser.open(&at("/login/one")).await?.says("Signed in as")?;
    let now = wall_clock().as_unix();
    let logout_token = key.sign(
        "logout+jwt",
        &json!({
            "iss": one.issuer(), "aud": "web-app", "iat": now, "exp": now + 120, "jti": "1", "sid": "session-1",
            "events": { "http://schemas.openid.net/event/backchannel-logout": {} },
        }),
    );
    let tell = async |token: &str| -> Result<u16, Box<dyn Error>> {
        let url = format!("http://{}/backchannel-logout/one", browser.proxied.1);
        let request = transport.client_builder().build()?.post(Url::parse(&url)?);
        let request = request.header("content-type", "application/x-www-form-urlencoded");
        Ok(request.body(format!("logout_token={token}")).send().await?.status().as_u16())
    };
    let answers = [tell(&logout_token).await?, tell(&logout_token).await?, tell("no.logout.token").await?];
    println!("  the application answers {answers:?}: to the token, to the same once more, to no token");
    if answers != [200, 400, 400] || transport.run(grants()).await? > 0 {
        return Err("the back channel".into());
    }
    browser.open(&at("/")).await?.says("Not signed in")?;
    println!("It ends another by the front channel, in a frame, where no cookie comes along");
    browser.open(&at("/login/one")).await?.says("Signed in as")?;
    browser.frame(&at(&format!("/frontchannel-logout?iss={portal}&sid=another"))).await?;
    browser.open(&at("/")).await?.says("Signed in as")?;
    browser.frame(&at(&format!("/frontchannel-logout?iss={portal}&sid=session-1"))).await?;
    browser.open(&at("/")).await?.says("Not signed in")
}
