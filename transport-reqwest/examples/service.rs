//! A service whose handlers share one token manager. They call a protected resource and never think of
//! tokens.
//!
//! ```text
//! cargo run -p grantflow-reqwest --example service
//! ```
//!
//! The authorization server and the resource are pretend ones, in this process. The service makes some
//! requests to itself, prints what happened, and ends.

use std::error::Error;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use grantflow_reqwest::grantflow::source::{Credential, Want};
use grantflow_reqwest::grantflow::{Client, ClientAuthentication, Issuer};
use grantflow_reqwest::{TokenManager, Transport, reqwest};
use grantflow_tests::{Fault, Front, Place, Server};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

/// What handlers share. All of it is cheap to clone.
#[derive(Clone)]
struct Service {
    tokens: TokenManager,
    http: reqwest::Client,
    resource: String,
}

/// `GET /`: what the resource says.
async fn handler(State(service): State<Service>) -> Result<String, (StatusCode, String)> {
    service.call().await.map_err(|error| (StatusCode::BAD_GATEWAY, error.to_string()))
}

impl Service {
    async fn call(&self) -> Result<String, Box<dyn Error + Send + Sync>> {
        let mut token = self.tokens.token().await?;
        let mut answer = self.send(token.authorization()?).await?;
        // A token may be revoked before its end. This one is then not used again, and another tried, once.
        if answer.status() == StatusCode::UNAUTHORIZED && self.tokens.invalidate(&token) {
            println!("  token {} was refused; once more with another", token.generation());
            token = self.tokens.token().await?;
            answer = self.send(token.authorization()?).await?;
        }
        println!("  the resource answered {} to token {}", answer.status(), token.generation());
        Ok(answer.error_for_status()?.text().await?)
    }

    async fn send(&self, authorization: &reqwest::header::HeaderValue) -> reqwest::Result<reqwest::Response> {
        self.http.get(&self.resource).header("authorization", authorization).send().await
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    // The pretend server, whose tokens live for 3 seconds.
    let front = Front::start(Server::demo().with(|settings| settings.lifetime = 3))?;

    // All that a service does for its tokens. `start` fails here if there are none to be had.
    let client = Client::new("batch").authentication(ClientAuthentication::client_secret_basic("batch-secret"));
    let credential = Credential::client_credentials(Issuer::new(front.issuer())?, &client);
    let tokens = TokenManager::builder(&Transport::new()?)
        .on_change(|change| match &change.outcome {
            Ok(issued) => println!("  token {} until {:?}", issued.generation, issued.token.expires_at()),
            Err(error) => println!("  no new token: {error}"),
        })
        .build(credential, Want::access_token("read"));
    println!("start");
    tokens.start().await?;

    // The service itself.
    let http = http_client()?;
    let service = Service { tokens: tokens.clone(), http: http.clone(), resource: front.url(Place::Resource) };
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let own = format!("http://{}/", listener.local_addr()?);
    tokio::spawn(axum::serve(listener, Router::new().route("/", get(handler)).with_state(service)).into_future());
    let ask = async || http.get(&own).send().await?.error_for_status()?.text().await;

    println!("five requests at once");
    let mut requests = JoinSet::new();
    for _ in 0..5 {
        let request = http.get(&own).send();
        requests.spawn(async move { request.await?.error_for_status() });
    }
    requests.join_all().await.into_iter().collect::<Result<Vec<_>, _>>()?;

    println!("a while later: the token was in use, and is refreshed before its end");
    let mut changes = tokens.subscribe();
    tokio::time::timeout(Duration::from_secs(10), changes.next()).await?;
    println!("  {}", ask().await?);

    println!("the resource refuses the token");
    front.server().fail(Place::Resource, Fault::status(401, "{}").header("www-authenticate", "Bearer"));
    println!("  {}", ask().await?);

    println!("end");
    tokens.shutdown().await;
    let server = front.server();
    let (resource, token) = (server.seen_at(Place::Resource).len(), server.seen_at(Place::Token).len());
    println!("  {resource} requests to the resource, {token} for a token");
    if (resource, token) == (8, 3) { Ok(()) } else { Err("8 and 3 were expected".into()) }
}

/// The service's own HTTP client. reqwest needs to be told whose TLS to use.
fn http_client() -> Result<reqwest::Client, Box<dyn Error + Send + Sync>> {
    // It fails if there is one already, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    Ok(reqwest::Client::builder().timeout(Duration::from_secs(10)).build()?)
}
