//! The layer for whatever speaks tower, around a service that is a function.

#[path = "common/counting.rs"]
mod counting;

use std::future::{Ready, poll_fn, ready};
use std::io;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use counting::{manager, tokens};
use grantflow::google::api_key;
use grantflow::{Error, ErrorKind};
use grantflow_reqwest::{Again, Authorize, AuthorizeLayer, TokenManager};
use http::{Request, Response};
use tower_layer::Layer as _;
use tower_service::Service;

/// Accepts one token. It panics if it is called without having been polled ready, as tower's services may.
struct Api {
    accepts: &'static str,
    seen: Arc<Mutex<Vec<(http::request::Parts, String)>>>,
    ready: bool,
}

/// A copy is not ready because the first one was.
impl Clone for Api {
    fn clone(&self) -> Self {
        Self { accepts: self.accepts, seen: self.seen.clone(), ready: false }
    }
}

/// A body that cannot be copied.
struct Stream(String);

impl From<Stream> for String {
    fn from(stream: Stream) -> Self {
        stream.0
    }
}

impl<B: Into<String>> Service<Request<B>> for Api {
    type Response = Response<()>;
    type Error = io::Error;
    type Future = Ready<io::Result<Response<()>>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.ready = true;
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        assert!(std::mem::take(&mut self.ready), "it was not asked whether it is ready");
        let (parts, body) = request.into_parts();
        let given = parts.headers.get("authorization").map(|value| value.to_str().unwrap().to_owned());
        let accepted = given.is_some_and(|value| value == format!("Bearer {}", self.accepts));
        self.seen.lock().unwrap().push((parts, body.into()));
        ready(Ok(Response::builder().status(if accepted { 200 } else { 401 }).body(()).unwrap()))
    }
}

impl Api {
    fn new(accepts: &'static str) -> Self {
        Self { accepts, seen: Arc::default(), ready: false }
    }

    /// A header and the body of each request.
    fn seen(&self, name: &str) -> Vec<(String, String)> {
        let seen = self.seen.lock().unwrap();
        let header = |parts: &http::request::Parts| {
            parts.headers.get(name).map(|value| value.to_str().unwrap().to_owned()).unwrap_or_default()
        };
        seen.iter().map(|(parts, body)| (header(parts), body.clone())).collect()
    }
}

fn layer(tokens: &TokenManager) -> AuthorizeLayer {
    AuthorizeLayer::new(tokens.clone(), ["api.example"])
}

fn post(uri: &str) -> Request<String> {
    Request::post(uri).body("hello".to_owned()).unwrap()
}

async fn send<B: Into<String> + Send + 'static, C: Again<B>>(
    service: &mut Authorize<Api, C>,
    request: Request<B>,
) -> Result<u16, Box<dyn std::error::Error + Send + Sync>> {
    poll_fn(|cx| Service::<Request<B>>::poll_ready(service, cx)).await?;
    Ok(service.call(request).await?.status().as_u16())
}

fn pair(token: &str) -> (String, String) {
    (format!("Bearer {token}"), "hello".into())
}

#[tokio::test]
async fn each_request_carries_the_token_and_what_its_source_wants_besides() {
    let (source, tokens) = tokens(9);
    let api = Api::new("token-1");
    let mut service = layer(&tokens).layer(api.clone());
    for _ in 0..3 {
        assert_eq!(send(&mut service, post("https://api.example/a")).await.unwrap(), 200);
    }
    assert_eq!(api.seen("authorization"), [pair("token-1"), pair("token-1"), pair("token-1")]);
    assert_eq!(api.seen("x-goog-user-project")[0].0, "demo-project");
    assert_eq!(source.minted(), 1);
}

#[tokio::test]
async fn a_refused_request_is_sent_once_more_with_its_body_and_another_token() {
    let (source, tokens) = tokens(9);
    let api = Api::new("token-2");
    let mut service = layer(&tokens).layer(api.clone());
    assert_eq!(send(&mut service, post("https://api.example/a")).await.unwrap(), 200);
    assert_eq!(api.seen("authorization"), [pair("token-1"), pair("token-2")]);
    assert_eq!(source.minted(), 2);
    // Not a third time.
    let (_, tokens) = counting::tokens(9);
    let api = Api::new("no token at all");
    assert_eq!(send(&mut layer(&tokens).layer(api.clone()), post("https://api.example/a")).await.unwrap(), 401);
    assert_eq!(api.seen("authorization").len(), 2);
    // Without another token, the refusal is the answer.
    let (_, tokens) = counting::tokens(1);
    let api = Api::new("token-2");
    assert_eq!(send(&mut layer(&tokens).layer(api.clone()), post("https://api.example/a")).await.unwrap(), 401);
    assert_eq!(api.seen("authorization"), [pair("token-1")]);
}

#[tokio::test]
async fn a_body_that_cannot_be_copied_is_sent_once_and_the_next_request_has_another_token() {
    let (source, tokens) = tokens(9);
    let api = Api::new("token-2");
    let mut service = layer(&tokens).once().layer(api.clone());
    let post = || Request::post("https://api.example/a").body(Stream("hello".into())).unwrap();
    assert_eq!(send(&mut service, post()).await.unwrap(), 401);
    assert_eq!(send(&mut service, post()).await.unwrap(), 200);
    assert_eq!(api.seen("authorization"), [pair("token-1"), pair("token-2")]);
    assert_eq!(source.minted(), 2);
}

#[tokio::test]
async fn nothing_is_sent_to_others_or_in_cleartext() {
    let (source, tokens) = tokens(9);
    let api = Api::new("token-1");
    let mut service = layer(&tokens).layer(api.clone());
    for uri in ["https://other.example/", "http://api.example/", "https://api.example@other.example/", "/a"] {
        let error = send(&mut service, post(uri)).await.unwrap_err();
        assert_eq!(error.downcast_ref::<Error>().unwrap().kind(), ErrorKind::Config, "{uri}");
    }
    assert_eq!((api.seen("authorization").len(), source.minted()), (0, 0));
}

#[tokio::test]
async fn an_api_key_goes_into_its_own_header() {
    let api = Api::new("");
    let mut service = layer(&manager(api_key("AIzaSyDemo-key_0123456789").unwrap())).layer(api.clone());
    send(&mut service, post("https://api.example/a")).await.unwrap();
    let seen = api.seen("x-goog-api-key");
    assert_eq!(seen[0].0, "AIzaSyDemo-key_0123456789");
    assert_eq!(api.seen("authorization")[0].0, "");
}
