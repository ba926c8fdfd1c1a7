//! A protected API: only requests with a good access token reach it, each route with the scopes that it needs.
//!
//! It plays all the parts itself: a pretend authorization server, the API, and clients with good and with other tokens. The site
//! of one of them serves the document that describes it to servers where it is not registered.

use std::error::Error;
use std::process::ExitCode;

use axum::extract::Extension;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::routing::{get, post};
use axum::{Json, Router};
use grantflow_reqwest::grantflow::jose::AccessToken;
use grantflow_reqwest::grantflow::resource::ClientDocument;
use grantflow_reqwest::grantflow::{
    Challenge, Client, ClientAuthentication, Introspection, Issuer, Protection, Token, TokenRequest, Verifier,
};
use grantflow_reqwest::{ProtectLayer, TokenVerifier, Transport};
use grantflow_tests::{Front, IssuerKey, Server};
use serde_json::{Value, json};
use tokio::net::TcpListener;

/// The routes: what each wants of a token is a layer around it.
fn router(protect: impl Fn(Protection) -> ProtectLayer, resource: &str) -> Router {
    let metadata = format!("{resource}/.well-known/oauth-protected-resource");
    let wants = |scopes: &str| protect(Protection::new().realm("notes").scopes(scopes).resource_metadata(&metadata));
    Router::new()
        .route("/notes", get(notes).layer(wants("read")))
        .route("/notes", post(write).layer(wants("read write")))
}

/// Whose notes they are stands in the token that was verified.
async fn notes(Extension(token): Extension<AccessToken>) -> Json<Value> {
    Json(json!({"notes of": token.subject()}))
}

async fn write() -> StatusCode {
    StatusCode::CREATED
}

/// RFC 9728: where clients learn which server gives tokens for this API.
fn described(resource: &str, issuer: &str) -> Router {
    let metadata =
        json!({"resource": resource, "authorization_servers": [issuer], "scopes_supported": ["read", "write"]});
    Router::new().route("/.well-known/oauth-protected-resource", get(move || async move { Json(metadata) }))
}

/// The address of a client's document, which is its `client_id`. What speaks TLS stands in front of this program.
const CLIENT: &str = "https://notes.example/oauth/client.json";

/// Where a client describes itself, so that it need be registered nowhere: as JSON, with status 200, without a redirect.
fn describing_a_client() -> Result<Router, Box<dyn Error>> {
    let document = ClientDocument::new(CLIENT, "Notes")?.redirect_uris(["http://127.0.0.1/", "http://[::1]/"]);
    let answer = ([(CONTENT_TYPE, "application/json")], document.to_json()?);
    Ok(Router::new().route("/oauth/client.json", get(move || async move { answer })))
}

/// Serves an API on any free port, and says where.
async fn serve(router: Router, listener: TcpListener) {
    drop(axum::serve(listener, router).await);
}

async fn main_() -> Result<(), Box<dyn Error>> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let resource = format!("http://{}", listener.local_addr()?);
    let front = Front::start(Server::demo().with(|settings| {
        settings.keys = vec![IssuerKey::es256("2026-11")];
        settings.jwt_access_tokens = true;
        settings.resource = resource.clone();
    }))?;
    let transport = Transport::new()?;

    // Tokens that are JWTs, by the keys that the issuer publishes.
    let tokens = Verifier::access_tokens(&Issuer::new(front.issuer())?, &resource);
    let tokens = TokenVerifier::new(&transport, tokens);
    tokens.start().await?;
    let by_keys = router(|protection| ProtectLayer::new(&tokens, protection), &resource);
    tokio::spawn(serve(by_keys.merge(described(&resource, &front.issuer())), listener));

    // The same API beside it, which asks the server about each token.
    let client = Client::new("batch").authentication(ClientAuthentication::client_secret_basic("batch-secret"));
    let introspection = Introspection::new(&front.metadata(), &client)?.audience(&resource);
    let asking = router(|protection| ProtectLayer::introspecting(&transport, &introspection, protection), &resource);
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let other = format!("http://{}", listener.local_addr()?);
    tokio::spawn(serve(asking, listener));

    let http = transport.client_builder().build()?;
    // What an authorization server does with the `client_id` of such a client.
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let site = format!("http://{}", listener.local_addr()?);
    tokio::spawn(serve(describing_a_client()?, listener));
    let answer = http.get(format!("{site}/oauth/client.json")).send().await?;
    if answer.status() != 200 || answer.headers()[CONTENT_TYPE] != "application/json" {
        return Err("the client's document is not served as one".into());
    }
    println!("-- {:?}", ClientDocument::from_json(&answer.bytes().await?, CLIENT)?);

    for api in [&resource, &other] {
        println!("-- {api}");
        let token = |scopes: &'static str| {
            let request =
                TokenRequest::client_credentials(&front.metadata(), &client).map(|it| it.scopes(scopes).exchange());
            let transport = &transport;
            async move { transport.run(request?).await }
        };
        let (reader, writer) = (token("read").await?, token("read write").await?);
        let forged = Token::bearer("eyJhbGciOiJub25lIn0.e30.", transport.now().wall, None)?;
        for (what, write, token, expected) in [
            ("no token", false, None, (401, None)),
            ("a forged token", false, Some(&forged), (401, Some("invalid_token"))),
            ("a reader reads", false, Some(&reader), (200, None)),
            ("a reader writes", true, Some(&reader), (403, Some("insufficient_scope"))),
            ("a writer writes", true, Some(&writer), (201, None)),
        ] {
            let address = format!("{api}/notes");
            let mut request = if write { http.post(address) } else { http.get(address) };
            if let Some(token) = token {
                request = request.header("authorization", token.authorization()?.clone());
            }
            let answer = request.send().await?;
            let challenge = Challenge::bearer(answer.headers());
            let error = challenge.as_ref().and_then(Challenge::error).map(str::to_owned);
            println!("{what}: {} {}", answer.status(), error.as_deref().unwrap_or_default());
            if (answer.status().as_u16(), error.as_deref()) != expected {
                return Err(format!("{what}: {expected:?} was expected").into());
            }
            if expected.0 == 401 {
                let metadata = challenge.as_ref().and_then(Challenge::resource_metadata).unwrap_or_default();
                let described: Value = serde_json::from_slice(&http.get(metadata).send().await?.bytes().await?)?;
                if described["authorization_servers"][0] != front.issuer().as_str() {
                    return Err("the API does not say where tokens are had".into());
                }
            }
        }
    }
    Ok(())
}

#[tokio::main]
async fn main() -> ExitCode {
    match main_().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
