//! Requests that carry a token, at hand-made servers.

#[path = "common/counting.rs"]
mod counting;
#[path = "common/tls_end.rs"]
mod tls_end;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use axum::Router;
use bytes::Bytes;
use counting::{manager, tokens};
use grantflow::google::api_key;
use grantflow::source::{Credential, Want};
use grantflow::{Challenge, ErrorKind, Hosts, Token};
use grantflow_reqwest::reqwest::redirect::Policy;
use grantflow_reqwest::reqwest::{Body, ClientBuilder, Method, Proxy};
use grantflow_reqwest::{AuthorizedClient, AuthorizedError, TokenManager, Transport};
use grantflow_tests::counting::Counting;
use http::request::Parts;
use http::{Response, header};
use tls_end::TlsEnd;

/// What an API was sent.
#[derive(Clone, Default)]
struct Seen(Arc<Mutex<Vec<(Parts, Bytes)>>>);

impl Seen {
    fn len(&self) -> usize {
        self.0.lock().unwrap().len()
    }

    /// The values of a header, request by request; several of one request are joined.
    fn header(&self, name: &str) -> Vec<String> {
        let values = |(parts, _): &(Parts, Bytes)| {
            let all = parts.headers.get_all(name).iter().map(|value| value.to_str().unwrap());
            all.collect::<Vec<_>>().join(",")
        };
        self.0.lock().unwrap().iter().map(values).collect()
    }

    /// Method, path and body of each request.
    fn all(&self) -> Vec<String> {
        let text = |(parts, body): &(Parts, Bytes)| {
            format!("{} {} {}", parts.method, parts.uri.path(), String::from_utf8_lossy(body))
        };
        self.0.lock().unwrap().iter().map(text).collect()
    }
}

async fn answering(answer: impl Fn(&Parts) -> Response<String> + Clone + Send + Sync + 'static) -> (SocketAddr, Seen) {
    let seen = Seen::default();
    let kept = seen.clone();
    let router = Router::new().fallback(move |request: axum::extract::Request| async move {
        let (parts, body) = request.into_parts();
        let body = axum::body::to_bytes(body, 1 << 20).await.unwrap();
        let response = answer(&parts);
        kept.0.lock().unwrap().push((parts, body));
        response
    });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(axum::serve(listener, router).into_future());
    (address, seen)
}

/// An API that accepts this token alone.
async fn api(accepted: &'static str) -> (SocketAddr, Seen) {
    answering(move |parts| {
        let given = parts.headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        if given.and_then(|value| value.strip_prefix("Bearer ")) == Some(accepted) {
            return Response::new("fine".into());
        }
        Response::builder()
            .status(401)
            .header("www-authenticate", "Bearer error=\"invalid_token\", scope=\"a b\"")
            .header("www-authenticate", "Basic realm=\"x\"")
            .body("no".into())
            .unwrap()
    })
    .await
}

fn sent_on(status: u16, to: &str) -> Response<String> {
    Response::builder().status(status).header("location", to).body(String::new()).unwrap()
}

fn api_at(address: SocketAddr, tokens: &TokenManager) -> AuthorizedClient {
    AuthorizedClient::new(tokens.clone(), [address.to_string()]).unwrap()
}

fn url(address: SocketAddr) -> String {
    format!("http://{address}/things?q=1")
}

/// grantflow's own error.
fn inner(error: AuthorizedError) -> grantflow::Error {
    match error {
        AuthorizedError::Token(error) => error,
        AuthorizedError::Http(error) => panic!("{error:?}"),
    }
}

#[tokio::test]
async fn a_request_carries_the_token_and_what_its_source_wants_besides() {
    let (address, seen) = api("token-1").await;
    let (source, tokens) = tokens(9);
    let api = api_at(address, &tokens);
    assert_eq!(api.send(api.get(&url(address))).await.unwrap().text().await.unwrap(), "fine");
    let request = api.post(&url(address)).header("authorization", "Basic mine").body("hello");
    assert_eq!(api.send(request).await.unwrap().text().await.unwrap(), "fine");
    assert_eq!(seen.header("authorization"), ["Bearer token-1"; 2]);
    assert_eq!(seen.header("x-goog-user-project"), ["demo-project"; 2]);
    assert_eq!(seen.all(), ["GET /things ", "POST /things hello"]);
    assert_eq!(source.minted(), 1);
}

#[tokio::test]
async fn nothing_is_sent_to_others_or_in_cleartext() {
    let (address, seen) = api("token-1").await;
    let (source, tokens) = tokens(9);
    for (url, hosts) in [
        (format!("http://{address}/"), vec!["127.0.0.1"]),
        (format!("http://{address}/"), vec!["api.example"]),
        (format!("http://{address}/"), vec![]),
        ("http://api.example/".into(), vec!["api.example"]),
        ("https://api.example@evil.example/".into(), vec!["api.example"]),
        ("https://evil.example\\@api.example/".into(), vec!["api.example"]),
    ] {
        let api = AuthorizedClient::new(tokens.clone(), hosts.into_iter().collect::<Hosts>()).unwrap();
        let error = inner(api.send(api.get(&url)).await.unwrap_err());
        assert_eq!(error.kind(), ErrorKind::Config, "{url}");
    }
    assert_eq!((seen.len(), source.minted()), (0, 0), "nobody needs a token for that");
}

#[tokio::test]
async fn a_redirect_to_elsewhere_is_the_answer_and_nobody_there_hears_of_it() {
    let (elsewhere, others) = api("token-1").await;
    let (address, seen) = answering(move |_| sent_on(302, &format!("http://{elsewhere}/"))).await;
    let (_, tokens) = tokens(9);
    // Whatever the builder says.
    let builder = |builder: ClientBuilder| builder.redirect(Policy::limited(5));
    let api = AuthorizedClient::with_builder(tokens, [address.to_string()], builder).unwrap();
    let response = api.send(api.get(&url(address))).await.unwrap();
    assert_eq!(response.status(), 302);
    assert_eq!((seen.len(), others.len()), (1, 0));
}

#[tokio::test]
async fn a_redirect_within_the_hosts_is_followed_with_the_token() {
    let (other, others) = api("token-1").await;
    for (status, method, arrives) in [
        (301, Method::GET, "GET /b "),
        (302, Method::POST, "GET /b "),
        (303, Method::PUT, "GET /b "),
        (307, Method::POST, "POST /b hello"),
        (308, Method::PUT, "PUT /b hello"),
    ] {
        let (address, seen) = answering(move |parts| match parts.uri.path() {
            "/a" => sent_on(status, &format!("http://{other}/b")),
            _ => sent_on(307, "a"),
        })
        .await;
        let (source, tokens) = tokens(9);
        let hosts = [address.to_string(), other.to_string()];
        let api = AuthorizedClient::new(tokens, hosts).unwrap();
        let request = api.request(method.clone(), &format!("http://{address}/first")).header("cookie", "a=b");
        let request = if method == Method::GET { request } else { request.body("hello") };
        let response = api.send(request).await.unwrap();
        assert_eq!(response.status(), 200, "{status}");
        assert_eq!(seen.header("authorization"), ["Bearer token-1"; 2]);
        assert_eq!((others.all().last().unwrap().as_str(), source.minted()), (arrives, 1), "{status}");
        assert_eq!(others.header("authorization").last().unwrap(), "Bearer token-1");
        assert_eq!(others.header("cookie").last().unwrap(), "", "it was for the first");
        assert_eq!(others.header("host").last().unwrap(), &other.to_string());
    }
}

#[tokio::test]
async fn redirects_come_to_an_end() {
    let (address, seen) = answering(|_| sent_on(302, "/again")).await;
    let (_, tokens) = tokens(9);
    let api = api_at(address, &tokens);
    assert_eq!(api.send(api.get(&url(address))).await.unwrap().status(), 302);
    assert_eq!(seen.len(), 11);
}

#[tokio::test]
async fn a_request_in_cleartext_goes_through_no_proxy() {
    let (address, seen) = api("token-1").await;
    let (proxy, proxied) = api("token-1").await;
    let (_, tokens) = tokens(9);
    let builder = |builder: ClientBuilder| builder.proxy(Proxy::all(format!("http://{proxy}")).unwrap());
    let api = AuthorizedClient::with_builder(tokens, [address.to_string()], builder).unwrap();
    api.send(api.get(&url(address))).await.unwrap();
    assert_eq!((seen.len(), proxied.len()), (1, 0));
}

#[tokio::test]
async fn a_refused_request_is_sent_once_more_with_its_body_and_another_token() {
    let (address, seen) = api("token-2").await;
    let (source, tokens) = tokens(9);
    let api = api_at(address, &tokens);
    let request = api.request(Method::PUT, &url(address)).header("x-mine", "1").body("hello");
    assert_eq!(api.send(request).await.unwrap().text().await.unwrap(), "fine");
    assert_eq!(seen.header("authorization"), ["Bearer token-1", "Bearer token-2"]);
    assert_eq!(seen.header("x-goog-user-project"), ["demo-project"; 2]);
    assert_eq!(seen.header("x-mine"), ["1"; 2]);
    assert_eq!(seen.all(), ["PUT /things hello"; 2]);
    assert_eq!((source.minted(), tokens.token().await.unwrap().access_token()), (2, "token-2"));
}

#[tokio::test]
async fn a_second_refusal_is_the_answer_with_what_the_server_asks_for() {
    let (address, seen) = api("no token at all").await;
    let (source, tokens) = tokens(9);
    let api = api_at(address, &tokens);
    let response = api.send(api.get(&url(address))).await.unwrap();
    assert_eq!(response.status(), 401);
    let challenges = Challenge::all(response.headers());
    assert_eq!(challenges.iter().map(Challenge::scheme).collect::<Vec<_>>(), ["Bearer", "Basic"]);
    assert_eq!(challenges[0].error(), Some("invalid_token"));
    assert_eq!(challenges[0].scope().unwrap().as_str(), "a b");
    assert_eq!((seen.len(), source.minted()), (2, 2));
    // Tokens do not seem to be the matter.
    assert_eq!(api.send(api.get(&url(address))).await.unwrap().status(), 401);
    assert_eq!((seen.len(), source.minted()), (3, 2));
}

#[tokio::test]
async fn many_that_are_refused_at_once_share_one_refresh() {
    const TASKS: usize = 8;
    let (address, seen) = api("token-2").await;
    let (source, tokens) = tokens(9);
    tokens.start().await.unwrap();
    let api = api_at(address, &tokens);
    let tasks: Vec<_> = (0..TASKS)
        .map(|_| {
            let api = api.clone();
            tokio::spawn(async move { api.send(api.get(&url(address))).await.unwrap().status() })
        })
        .collect();
    for task in tasks {
        assert_eq!(task.await.unwrap(), 200);
    }
    assert_eq!(source.minted(), 2);
    let sent = seen.header("authorization");
    assert_eq!(sent.iter().filter(|value| *value == "Bearer token-2").count(), TASKS);
    assert!(sent.len() <= 2 * TASKS);
}

#[tokio::test]
async fn without_another_token_the_refusal_is_the_answer() {
    let (address, seen) = api("token-2").await;
    let (source, tokens) = tokens(1);
    let api = api_at(address, &tokens);
    assert_eq!(api.send(api.get(&url(address))).await.unwrap().status(), 401);
    assert_eq!((seen.len(), source.minted()), (1, 2));
    // One that is handed out again would be refused again.
    let token = Token::bearer("token-1", Transport::new().unwrap().now().wall, None).unwrap();
    let api = api_at(address, &manager(Credential::fixed(token)));
    assert_eq!(api.send(api.get(&url(address))).await.unwrap().status(), 401);
    assert_eq!(seen.len(), 2);
}

/// A body that comes once.
struct Stream(Option<Bytes>);

impl http_body::Body for Stream {
    type Data = Bytes;
    type Error = Infallible;
    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.take().map(|bytes| Ok(http_body::Frame::data(bytes))))
    }
}

#[tokio::test]
async fn a_stream_is_sent_once_and_the_next_request_has_another_token() {
    let (address, seen) = api("token-2").await;
    let (source, tokens) = tokens(9);
    let api = api_at(address, &tokens);
    let post = || api.post(&url(address)).body(Body::wrap(Stream(Some("hello".into()))));
    assert_eq!(api.send(post()).await.unwrap().status(), 401);
    assert_eq!(api.send(post()).await.unwrap().status(), 200);
    assert_eq!(seen.header("authorization"), ["Bearer token-1", "Bearer token-2"]);
    assert_eq!((seen.all(), source.minted()), (vec!["POST /things hello".to_owned(); 2], 2));
}

#[tokio::test]
async fn an_error_without_a_token_sends_nothing_and_is_grantflows_own() {
    let (address, seen) = api("token-1").await;
    let (_, tokens) = tokens(0);
    let api = api_at(address, &tokens);
    let error = api.send(api.get(&url(address))).await.unwrap_err();
    assert!(error.to_string().contains("there are no more"), "{error}");
    assert_eq!(inner(error).kind(), ErrorKind::Transport);
    assert_eq!(seen.len(), 0);
}

#[tokio::test]
async fn an_api_key_goes_into_its_own_header_and_to_its_hosts_alone() {
    let (elsewhere, others) = answering(|_| Response::default()).await;
    let (address, seen) = answering(move |parts| match parts.uri.path() {
        "/away" => sent_on(307, &format!("http://{elsewhere}/")),
        _ => Response::default(),
    })
    .await;
    let api = api_at(address, &manager(api_key("AIzaSyDemo-key_0123456789").unwrap()));
    assert_eq!(api.send(api.get(&url(address))).await.unwrap().status(), 200);
    assert_eq!(api.send(api.get(&format!("http://{address}/away"))).await.unwrap().status(), 307);
    assert_eq!(seen.header("x-goog-api-key"), ["AIzaSyDemo-key_0123456789"; 2]);
    assert_eq!(seen.header("authorization"), [""; 2]);
    assert_eq!(others.len(), 0);
}

#[tokio::test]
async fn over_tls_a_host_of_its_own_name_gets_the_token_and_may_not_send_it_on_in_cleartext() {
    let (address, seen) = answering(|parts| match parts.uri.path() {
        "/away" => sent_on(302, "http://api.example/"),
        _ => Response::default(),
    })
    .await;
    let tls = TlsEnd::new(&["api.example"], address).await;
    // The client trusts whom its tokens' transport trusts.
    let tokens = TokenManager::new(&tls.transport(), Counting::up_to(9), Want::default());
    let api = AuthorizedClient::with_builder(tokens, ["api.example"], |builder| tls.find("api.example", builder));
    let api = api.unwrap();
    assert_eq!(api.send(api.get("https://api.example/x")).await.unwrap().status(), 200);
    assert_eq!(api.send(api.get("https://api.example/away")).await.unwrap().status(), 302);
    assert_eq!(seen.header("authorization"), ["Bearer token-1"; 2]);
}
