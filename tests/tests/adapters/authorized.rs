//! Requests that carry a token, in each way that an adapter has, and what a refusal makes of the token.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::{Ready, ready};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use grantflow::source::{Credential, Want};
use grantflow::{Error, ErrorKind, Token, TokenRequest};
use grantflow_tests::counting::Counting;
use grantflow_tests::demo::client;
use grantflow_tests::server::RefreshTokens;
use grantflow_tests::{Front, Place, Server};
use http::{HeaderName, HeaderValue, Request, Response};
use tower_layer::Layer as _;
use tower_service::Service;

use super::{Adapter, Async, Blocking};

/// A request, and its status and the reason beside it.
type Get = Box<dyn Fn() -> Result<(u16, Option<Error>), Error>>;

/// One way to send requests with a token.
pub(super) struct Api {
    name: &'static str,
    /// Whether it sends a refused request again by itself.
    repeats: bool,
    /// The answer's status, and why there was no other token if it says so.
    get: Get,
    last_error: Box<dyn Fn() -> Option<Error>>,
}

/// The ways of an adapter. Each has a manager of its own.
pub(super) trait Apis {
    fn apis(&self, source: &dyn Fn() -> Counting, host: SocketAddr) -> Vec<Api>;
    /// A manager and a pool are told that a token was refused that another manager handed out. Their tokens then.
    fn told_of_anothers_refusal(&self, source: &dyn Fn() -> Counting) -> Vec<String>;
    /// What a manager, a pool and a manager whose credential was replaced hand out first, and then by force, for the
    /// credential of each sign-in; the first is beside the token of the sign-in.
    fn first_tokens(&self, sign_in: &dyn Fn() -> (Token, Credential), want: &Want) -> Vec<(Token, [String; 2])>;
}

impl Apis for Blocking {
    fn apis(&self, source: &dyn Fn() -> Counting, host: SocketAddr) -> Vec<Api> {
        use grantflow_ureq::{Authorize, AuthorizedAgent, TokenManager, ureq};
        let manager = || TokenManager::new(&self.0, source(), Want::default());
        let url = format!("http://{host}/");
        let own = |error| match error {
            ureq::Error::Other(inner) => *inner.downcast::<Error>().expect("an error of grantflow's"),
            error => panic!("{error:?}"),
        };
        let answer = |response: Response<ureq::Body>| {
            (response.status().as_u16(), response.extensions().get::<Error>().cloned())
        };
        let (one, other) = (manager(), manager());
        let (one_status, other_status) = (one.clone(), other.clone());
        let agent = AuthorizedAgent::new(self.0.agent().unwrap(), one, [host.to_string()]);
        let config = ureq::config::Config::builder().proxy(None).http_status_as_error(false);
        let middleware = config.middleware(Authorize::new(other, [host.to_string()])).build().new_agent();
        let again = url.clone();
        vec![
            Api {
                name: "an agent",
                repeats: true,
                get: Box::new(move || agent.run(Request::get(&url).body(()).unwrap()).map(answer).map_err(own)),
                last_error: Box::new(move || one_status.status().last_error),
            },
            Api {
                name: "a middleware",
                repeats: false,
                get: Box::new(move || middleware.get(&again).call().map(answer).map_err(own)),
                last_error: Box::new(move || other_status.status().last_error),
            },
        ]
    }

    fn told_of_anothers_refusal(&self, source: &dyn Fn() -> Counting) -> Vec<String> {
        use grantflow_ureq::{TokenManager, TokenPool};
        let pool = TokenPool::new(&self.0);
        pool.add("name", source()).unwrap();
        let managers =
            [TokenManager::new(&self.0, source(), Want::default()), pool.manager("name", Want::default()).unwrap()];
        let other = TokenManager::new(&self.0, source(), Want::default()).token().unwrap();
        let told = managers.iter().map(|manager| {
            assert_eq!(manager.token().unwrap().generation(), other.generation());
            manager.invalidate(&other);
            manager.token().unwrap().access_token().to_owned()
        });
        told.collect()
    }

    fn first_tokens(&self, sign_in: &dyn Fn() -> (Token, Credential), want: &Want) -> Vec<(Token, [String; 2])> {
        use grantflow_ureq::{TokenManager, TokenPool};
        let (token, credential) = sign_in();
        let one = (token, TokenManager::new(&self.0, credential, want.clone()));
        let pool = TokenPool::new(&self.0);
        let (token, credential) = sign_in();
        pool.add("name", credential).unwrap();
        let two = (token, pool.manager("name", want.clone()).unwrap());
        let (token, credential) = sign_in();
        let replaced = TokenManager::new(&self.0, Counting::up_to(9), want.clone());
        replaced.start().unwrap();
        replaced.replace(credential);
        let text = |token: grantflow_ureq::TokenRef| token.access_token().to_owned();
        let ask = |(token, manager): (Token, TokenManager)| {
            let tokens = [text(manager.token().unwrap()), text(manager.force_refresh().unwrap())];
            (token, tokens)
        };
        [one, two, (token, replaced)].into_iter().map(ask).collect()
    }
}

impl Apis for Async {
    fn apis(&self, source: &dyn Fn() -> Counting, host: SocketAddr) -> Vec<Api> {
        use grantflow_reqwest::{AuthorizeLayer, AuthorizedClient, AuthorizedError, TokenManager};
        let manager = || TokenManager::new(&self.0, source(), Want::default());
        let url = format!("http://{host}/");
        let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (one, other) = (manager(), manager());
        let (one_status, other_status) = (one.clone(), other.clone());
        let client = AuthorizedClient::new(one, [host.to_string()]).unwrap();
        let service = AuthorizeLayer::new(other, [host.to_string()]).layer(Wire(host));
        let (first, second, again) = (runtime(), runtime(), url.clone());
        vec![
            Api {
                name: "a client",
                repeats: true,
                get: Box::new(move || match first.block_on(client.send(client.get(&url))) {
                    Ok(response) => Ok((response.status().as_u16(), response.extensions().get::<Error>().cloned())),
                    Err(AuthorizedError::Token(error)) => Err(error),
                    Err(AuthorizedError::Http(error)) => panic!("{error:?}"),
                }),
                last_error: Box::new(move || one_status.status().last_error),
            },
            Api {
                name: "a layer",
                repeats: true,
                get: Box::new(move || {
                    let mut service = service.clone();
                    let request = Request::get(&again).body(()).unwrap();
                    match second.block_on(service.call(request)) {
                        Ok(response) => Ok((response.status().as_u16(), response.extensions().get::<Error>().cloned())),
                        Err(error) => Err(*error.downcast::<Error>().expect("an error of grantflow's")),
                    }
                }),
                last_error: Box::new(move || other_status.status().last_error),
            },
        ]
    }

    fn told_of_anothers_refusal(&self, source: &dyn Fn() -> Counting) -> Vec<String> {
        use grantflow_reqwest::{TokenManager, TokenPool};
        let pool = TokenPool::new(&self.0);
        pool.add("name", source()).unwrap();
        let managers =
            [TokenManager::new(&self.0, source(), Want::default()), pool.manager("name", Want::default()).unwrap()];
        self.1.block_on(async {
            let other = TokenManager::new(&self.0, source(), Want::default()).token().await.unwrap();
            let mut told = Vec::new();
            for manager in managers {
                assert_eq!(manager.token().await.unwrap().generation(), other.generation());
                manager.invalidate(&other);
                told.push(manager.token().await.unwrap().access_token().to_owned());
            }
            told
        })
    }

    fn first_tokens(&self, sign_in: &dyn Fn() -> (Token, Credential), want: &Want) -> Vec<(Token, [String; 2])> {
        use grantflow_reqwest::{TokenManager, TokenPool};
        let (token, credential) = sign_in();
        let one = (token, TokenManager::new(&self.0, credential, want.clone()));
        let pool = TokenPool::new(&self.0);
        let (token, credential) = sign_in();
        pool.add("name", credential).unwrap();
        let two = (token, pool.manager("name", want.clone()).unwrap());
        let (token, credential) = sign_in();
        let replaced = TokenManager::new(&self.0, Counting::up_to(9), want.clone());
        self.1.block_on(replaced.start()).unwrap();
        replaced.replace(credential);
        let text = |token: grantflow_reqwest::TokenRef| token.access_token().to_owned();
        self.1.block_on(async {
            let mut tokens = Vec::new();
            for (token, manager) in [one, two, (token, replaced)] {
                let first = text(manager.token().await.unwrap());
                tokens.push((token, [first, text(manager.force_refresh().await.unwrap())]));
            }
            tokens
        })
    }
}

/// A service that writes requests to a socket.
#[derive(Clone)]
struct Wire(SocketAddr);

impl Service<Request<()>> for Wire {
    type Response = Response<()>;
    type Error = Infallible;
    type Future = Ready<Result<Response<()>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<()>) -> Self::Future {
        let mut stream = TcpStream::connect(self.0).unwrap();
        let token = request.headers()["authorization"].to_str().unwrap();
        write!(stream, "GET / HTTP/1.1\r\nhost: {}\r\nauthorization: {token}\r\n\r\n", self.0).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let mut lines = answer.lines();
        let status: u16 = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let mut response = Response::builder().status(status).body(()).unwrap();
        for (name, value) in lines.filter_map(|line| line.split_once(": ")) {
            let value = HeaderValue::from_str(value).unwrap();
            response.headers_mut().append(HeaderName::from_bytes(name.as_bytes()).unwrap(), value);
        }
        ready(Ok(response))
    }
}

/// A resource that gives these answers, head by head, and then 200; and the tokens that it was shown.
fn resource(answers: &[&'static str]) -> (SocketAddr, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let (kept, mut answers) = (seen.clone(), VecDeque::from(answers.to_vec()));
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                match stream.read(&mut byte) {
                    Ok(1) => request.push(byte[0]),
                    _ => break,
                }
            }
            let request = String::from_utf8(request).unwrap();
            let Some((_, token)) = request.split_once("Bearer ") else { continue };
            kept.lock().unwrap().push(token.lines().next().unwrap_or_default().to_owned());
            let head = answers.pop_front().unwrap_or("200 OK");
            let _ = write!(stream, "HTTP/1.1 {head}\r\nconnection: close\r\ncontent-length: 0\r\n\r\n");
        }
    });
    (address, seen)
}

pub(super) fn a_refusal_that_is_not_of_the_token_goes_to_the_caller_and_the_token_stays<A: Adapter + Apis>() {
    let adapter = A::new();
    for head in [
        "403 Forbidden\r\nwww-authenticate: Bearer error=\"insufficient_scope\", scope=\"write\"",
        "401 Unauthorized\r\nwww-authenticate: Bearer error=\"insufficient_scope\"",
        "401 Unauthorized\r\nwww-authenticate: Bearer error=\"insufficient_user_authentication\", max_age=\"5\"",
        "401 Unauthorized\r\nwww-authenticate: Basic realm=\"x\", bearer realm=\"y\", error=insufficient_user_authentication",
        "401 Unauthorized\r\nwww-authenticate: Bearer\r\nwww-authenticate: DPoP error=\"use_dpop_nonce\"",
        "403 Forbidden",
    ] {
        let (address, _) = resource(&[]);
        for nth in 0..adapter.apis(&|| Counting::up_to(9), address).len() {
            let source = Counting::up_to(9);
            let (address, seen) = resource(&[head]);
            let api = adapter.apis(&|| source.clone(), address).remove(nth);
            let what = format!("{}: {head}", api.name);
            let (status, reason) = (api.get)().unwrap();
            assert!(head.starts_with(&status.to_string()) && reason.is_none(), "{what}: {status} {reason:?}");
            assert_eq!((api.get)().unwrap().0, 200, "{what}");
            assert_eq!(seen.lock().unwrap()[..], ["token-1", "token-1"], "{what}");
            assert_eq!(source.minted(), 1, "{what}");
        }
    }
}

pub(super) fn a_refusal_of_the_token_is_answered_by_one_other<A: Adapter + Apis>() {
    let adapter = A::new();
    for head in [
        "401 Unauthorized",
        "401 Unauthorized\r\nwww-authenticate: Bearer error=\"invalid_token\"",
        "403 Forbidden\r\nwww-authenticate: Bearer error=\"invalid_token\"",
        "401 Unauthorized\r\nwww-authenticate: DPoP error=\"use_dpop_nonce\", Bearer error=\"invalid_token\"",
        // A value that breaks the grammar says nothing.
        "401 Unauthorized\r\nwww-authenticate: Bearer error=\"insufficient_scope",
    ] {
        let (address, _) = resource(&[]);
        for nth in 0..adapter.apis(&|| Counting::up_to(9), address).len() {
            let source = Counting::up_to(9);
            let (address, seen) = resource(&[head]);
            let api = adapter.apis(&|| source.clone(), address).remove(nth);
            let what = format!("{}: {head}", api.name);
            let (status, reason) = (api.get)().unwrap();
            assert_eq!((status == 200, reason.is_none()), (api.repeats, true), "{what}: {status}");
            if !api.repeats {
                assert_eq!((api.get)().unwrap().0, 200, "{what}");
            }
            assert_eq!(seen.lock().unwrap()[..], ["token-1", "token-2"], "{what}");
            assert_eq!(source.minted(), 2, "{what}");
        }
    }
}

pub(super) fn without_another_token_the_refusal_stays_the_answer_and_says_why<A: Adapter + Apis>() {
    let adapter = A::new();
    let (address, _) = resource(&[]);
    for nth in 0..adapter.apis(&|| Counting::up_to(9), address).len() {
        let (address, seen) = resource(&["401 Unauthorized"]);
        let api = adapter.apis(&|| Counting::up_to(1), address).remove(nth);
        let (status, reason) = (api.get)().unwrap();
        assert_eq!(status, 401, "{}", api.name);
        if api.repeats {
            let reason = reason.unwrap_or_else(|| panic!("{}: no reason", api.name));
            assert_eq!(reason.kind(), ErrorKind::Transport, "{}: {reason}", api.name);
        } else {
            // It has not asked for another yet.
            assert_eq!((api.get)().unwrap_err().kind(), ErrorKind::Transport, "{}", api.name);
        }
        assert_eq!((api.last_error)().map(|error| error.kind()), Some(ErrorKind::Transport), "{}", api.name);
        assert_eq!(seen.lock().unwrap()[..], ["token-1"], "{}", api.name);
    }
}

pub(super) fn the_refusal_of_another_managers_token_rejects_nothing<A: Adapter + Apis>() {
    assert_eq!(A::new().told_of_anothers_refusal(&|| Counting::up_to(9)), ["token-1", "token-1"]);
}

pub(super) fn a_manager_begins_with_the_token_of_the_sign_in<A: Adapter + Apis>() {
    for (want, begins) in [
        (Want::default(), true),
        (Want::access_token("write read"), true),
        // For these a token of their own is due.
        (Want::access_token("read"), false),
        (Want::access_token("read write").audience("x"), false),
    ] {
        let front = Front::start(Server::demo().with(|settings| {
            settings.refresh_tokens = RefreshTokens::Rotate { grace: std::time::Duration::ZERO };
            settings.extra_params = vec!["audience"];
        }))
        .unwrap();
        let (adapter, server) = (A::new(), front.metadata());
        let sign_in = || {
            let request = TokenRequest::password(&server, &client(), "alice", "wonderland").unwrap();
            let token = adapter.run(request.scopes("read write").exchange()).unwrap();
            (token.clone(), Credential::signed_in(&server, &client(), &token).unwrap())
        };
        let tokens = adapter.first_tokens(&sign_in, &want);
        for (nth, (token, [first, forced])) in tokens.iter().enumerate() {
            assert_eq!(first == token.access_token(), begins, "{want:?}, {nth}");
            assert_ne!(first, forced, "{want:?}, {nth}");
        }
        let sent = front.server().seen_at(Place::Token).len();
        assert_eq!(sent, tokens.len() * if begins { 2 } else { 3 }, "{want:?}: a refresh token was used for nothing");
    }
}

pub(super) fn a_token_of_a_sign_in_that_has_ended_is_not_handed_out<A: Adapter + Apis>() {
    let front = Front::start(Server::demo().with(|settings| settings.lifetime = 1)).unwrap();
    let (adapter, server) = (A::new(), front.metadata());
    let sign_in = || {
        let request = TokenRequest::password(&server, &client(), "alice", "wonderland").unwrap();
        let token = adapter.run(request.scopes("read").exchange()).unwrap();
        (token.clone(), Credential::signed_in(&server, &client(), &token).unwrap())
    };
    let late = || {
        let signed_in = sign_in();
        std::thread::sleep(std::time::Duration::from_millis(1100));
        signed_in
    };
    for (token, [first, _]) in adapter.first_tokens(&late, &Want::default()) {
        assert_ne!(first, token.access_token());
    }
}
