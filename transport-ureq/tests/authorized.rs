//! Requests that carry a token, at hand-made servers.

mod common;

use std::io::Write as _;
use std::net::SocketAddr;
use std::sync::{Arc, Barrier, Mutex};
use std::thread;

use common::{Server, read_request};
use grantflow_tests::counting::Counting;
use grantflow_ureq::grantflow::google::api_key;
use grantflow_ureq::grantflow::source::{Credential, TokenSource, Want};
use grantflow_ureq::grantflow::{Challenge, Error, ErrorKind, Token};
use grantflow_ureq::ureq::config::Config;
use grantflow_ureq::ureq::{self, Agent, Proxy, SendBody};
use grantflow_ureq::{Authorize, AuthorizedAgent, TokenManager, Transport};
use http::{Request, Response};

fn tokens(last: usize) -> (Counting, TokenManager) {
    let source = Counting::up_to(last);
    (source.clone(), manager(source))
}

fn manager(source: impl TokenSource + 'static) -> TokenManager {
    TokenManager::new(&Transport::new().unwrap(), source, Want::default())
}

/// An agent that would follow redirects, and for which a status is an error.
fn agent() -> Agent {
    Config::builder().proxy(None).build().new_agent()
}

fn api_at(address: SocketAddr, tokens: &TokenManager) -> AuthorizedAgent {
    AuthorizedAgent::new(agent(), tokens.clone(), [address.to_string()])
}

/// What an API was sent.
#[derive(Clone, Default)]
struct Seen(Arc<Mutex<Vec<String>>>);

impl Seen {
    fn all(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }

    /// The values of a header, request by request; several of one request are joined.
    fn header(&self, name: &str) -> Vec<String> {
        let values = |request: &String| {
            let lines = request.split("\r\n\r\n").next().unwrap().lines().filter_map(|line| line.split_once(": "));
            lines
                .filter(|(known, _)| known.eq_ignore_ascii_case(name))
                .map(|(_, value)| value)
                .collect::<Vec<_>>()
                .join(",")
        };
        self.all().iter().map(values).collect()
    }
}

/// An API that accepts this token alone.
fn api(accepted: &'static str) -> (SocketAddr, Seen) {
    answering(move |request| match request.contains(&format!("authorization: Bearer {accepted}\r\n")) {
        true => "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nfine".into(),
        false => "HTTP/1.1 401 Unauthorized\r\nwww-authenticate: Bearer error=\"invalid_token\", scope=\"a b\"\r\n\
                  www-authenticate: Basic realm=\"x\"\r\ncontent-length: 2\r\n\r\nno"
            .into(),
    })
}

fn answering(answer: impl Fn(&str) -> String + Send + Sync + 'static) -> (SocketAddr, Seen) {
    let seen = Seen::default();
    let kept = seen.clone();
    let address = Server::accept(move |mut stream| {
        let request = read_request(&mut stream);
        if request.is_empty() {
            return;
        }
        kept.0.lock().unwrap().push(request.clone());
        // One answer for each connection, and it says so: the next request must not come over this one.
        let _ = stream.write_all(answer(&request).replacen("\r\n", "\r\nconnection: close\r\n", 1).as_bytes());
    });
    (address, seen)
}

fn get(address: SocketAddr) -> Request<()> {
    Request::get(format!("http://{address}/things?q=1")).body(()).unwrap()
}

fn text(response: Response<ureq::Body>) -> String {
    response.into_body().read_to_string().unwrap()
}

/// grantflow's own error inside of ureq's.
fn inner(error: ureq::Error) -> Error {
    match error {
        ureq::Error::Other(inner) => *inner.downcast().expect("an error of grantflow's"),
        error => panic!("{error:?}"),
    }
}

#[test]
fn a_request_carries_the_token_and_what_its_source_wants_besides() {
    let (address, seen) = api("token-1");
    let (source, tokens) = tokens(9);
    let api = api_at(address, &tokens);
    assert_eq!(text(api.run(get(address)).unwrap()), "fine");
    let request = Request::post(format!("http://{address}/")).header("authorization", "Basic mine").body("hello");
    assert_eq!(text(api.run(request.unwrap()).unwrap()), "fine");
    assert_eq!(seen.header("authorization"), ["Bearer token-1"; 2]);
    assert_eq!(seen.header("x-goog-user-project"), ["demo-project"; 2]);
    assert!(seen.all()[1].ends_with("\r\n\r\nhello"));
    assert_eq!(source.minted(), 1);
}

#[test]
fn what_the_source_wants_is_on_a_request_once_however_often_it_is_authorized() {
    let (_, tokens) = tokens(9);
    let mut request = Request::new(());
    for _ in 0..3 {
        tokens.authorize(&mut request).unwrap();
    }
    assert_eq!(request.headers().get_all("x-goog-user-project").iter().count(), 1);
    assert_eq!(request.headers().len(), 2);
}

#[test]
fn nothing_is_sent_to_others_or_in_cleartext() {
    let (address, seen) = api("token-1");
    let (source, tokens) = tokens(9);
    for (uri, hosts) in [
        (format!("http://{address}/"), vec!["127.0.0.1"]),
        (format!("http://{address}/"), vec!["api.example"]),
        (format!("http://{address}/"), vec![]),
        ("http://api.example/".into(), vec!["api.example"]),
        (format!("http://alice@{address}/"), vec!["*"]),
    ] {
        let api = AuthorizedAgent::new(
            agent(),
            tokens.clone(),
            hosts.into_iter().collect::<grantflow_ureq::grantflow::Hosts>(),
        );
        let request = Request::get(uri.as_str()).body(()).unwrap();
        let error = inner(api.run(request.clone()).unwrap_err());
        assert_eq!(error.kind(), ErrorKind::Config, "{uri}");
        assert_eq!(inner(api.run_once(request).unwrap_err()).kind(), ErrorKind::Config, "{uri}");
    }
    assert!(seen.all().is_empty());
    assert_eq!(source.minted(), 0, "nobody needs a token for that");
}

#[test]
fn a_redirect_is_the_answer_whatever_the_agent_is_told() {
    let (elsewhere, others) = api("token-1");
    let (address, seen) =
        answering(move |_| format!("HTTP/1.1 302 Found\r\nlocation: http://{elsewhere}/\r\ncontent-length: 0\r\n\r\n"));
    let (_, tokens) = tokens(9);
    let hosts = [address.to_string(), elsewhere.to_string()];
    let response = AuthorizedAgent::new(agent(), tokens, hosts).run(get(address)).unwrap();
    assert_eq!(response.status(), 302);
    assert_eq!((seen.all().len(), others.all().len()), (1, 0));
}

#[test]
fn a_request_in_cleartext_goes_through_no_proxy() {
    let (address, seen) = api("token-1");
    let (proxy, proxied) = api("token-1");
    let (_, tokens) = tokens(9);
    let proxy = Proxy::new(&format!("http://{proxy}")).unwrap();
    let agent = Config::builder().proxy(Some(proxy)).build().new_agent();
    AuthorizedAgent::new(agent, tokens, [address.to_string()]).run(get(address)).unwrap();
    assert_eq!((seen.all().len(), proxied.all().len()), (1, 0));
}

#[test]
fn a_refused_request_is_sent_once_more_with_its_body_and_another_token() {
    let (address, seen) = api("token-2");
    let (source, tokens) = tokens(9);
    let request = Request::put(format!("http://{address}/")).header("x-mine", "1").body("hello".to_owned()).unwrap();
    assert_eq!(text(api_at(address, &tokens).run(request).unwrap()), "fine");
    assert_eq!(seen.header("authorization"), ["Bearer token-1", "Bearer token-2"]);
    assert_eq!(seen.header("x-goog-user-project"), ["demo-project"; 2]);
    assert_eq!(seen.header("x-mine"), ["1"; 2]);
    assert!(seen.all().iter().all(|request| request.ends_with("\r\n\r\nhello")));
    assert_eq!((source.minted(), tokens.token().unwrap().access_token()), (2, "token-2"));
}

#[test]
fn a_second_refusal_is_the_answer_with_what_the_server_asks_for() {
    let (address, seen) = api("no token at all");
    let (source, tokens) = tokens(9);
    let api = api_at(address, &tokens);
    let response = api.run(get(address)).unwrap();
    assert_eq!(response.status(), 401);
    let challenges = Challenge::all(response.headers());
    assert_eq!(challenges.iter().map(Challenge::scheme).collect::<Vec<_>>(), ["Bearer", "Basic"]);
    assert_eq!(challenges[0].error(), Some("invalid_token"));
    assert_eq!(challenges[0].scope().unwrap().as_str(), "a b");
    assert_eq!((seen.all().len(), source.minted()), (2, 2));
    // Tokens do not seem to be the matter.
    assert_eq!(api.run(get(address)).unwrap().status(), 401);
    assert_eq!((seen.all().len(), source.minted()), (3, 2));
}

#[test]
fn many_that_are_refused_at_once_share_one_refresh() {
    const THREADS: usize = 8;
    let (address, seen) = api("token-2");
    let (source, tokens) = tokens(9);
    tokens.start().unwrap();
    let (api, barrier) = (api_at(address, &tokens), Barrier::new(THREADS));
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                barrier.wait();
                assert_eq!(api.run(get(address)).unwrap().status(), 200);
            });
        }
    });
    assert_eq!(source.minted(), 2);
    let sent = seen.header("authorization");
    assert_eq!(sent.iter().filter(|value| *value == "Bearer token-2").count(), THREADS);
    assert!(sent.len() <= 2 * THREADS);
}

#[test]
fn without_another_token_the_refusal_is_the_answer() {
    let (address, seen) = api("token-2");
    let (source, tokens) = tokens(1);
    assert_eq!(api_at(address, &tokens).run(get(address)).unwrap().status(), 401);
    assert_eq!((seen.all().len(), source.minted()), (1, 2));
    // One that is handed out again would be refused again.
    let fixed =
        manager(Credential::fixed(Token::bearer("token-1", Transport::new().unwrap().now().wall, None).unwrap()));
    assert_eq!(api_at(address, &fixed).run(get(address)).unwrap().status(), 401);
    assert_eq!(seen.all().len(), 2);
}

#[test]
fn a_body_that_can_be_read_once_is_sent_once_and_the_next_request_has_another_token() {
    let (address, seen) = api("token-2");
    let (source, tokens) = tokens(9);
    let api = api_at(address, &tokens);
    let post = || {
        let body = SendBody::from_owned_reader(std::io::Cursor::new("hello"));
        Request::post(format!("http://{address}/")).header("content-length", "5").body(body).unwrap()
    };
    assert_eq!(api.run_once(post()).unwrap().status(), 401);
    assert_eq!(api.run_once(post()).unwrap().status(), 200);
    assert_eq!(seen.header("authorization"), ["Bearer token-1", "Bearer token-2"]);
    assert!(seen.all()[1].ends_with("hello"));
    assert_eq!(source.minted(), 2);
}

#[test]
fn an_error_without_a_token_sends_nothing_and_is_grantflows_own() {
    let (address, seen) = api("token-1");
    let (_, tokens) = tokens(0);
    let error = inner(api_at(address, &tokens).run(get(address)).unwrap_err());
    assert_eq!(error.kind(), ErrorKind::Transport);
    assert!(seen.all().is_empty());
}

#[test]
fn an_api_key_goes_into_its_own_header() {
    let (address, seen) = answering(|_| "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n".into());
    let tokens = manager(api_key("AIzaSyDemo-key_0123456789").unwrap());
    api_at(address, &tokens).run(get(address)).unwrap();
    assert_eq!(seen.header("x-goog-api-key"), ["AIzaSyDemo-key_0123456789"]);
    assert_eq!(seen.header("authorization"), [""]);
    // On a redirect that an agent follows by itself it would go along.
    let agent =
        Config::builder().proxy(None).middleware(Authorize::new(tokens, [address.to_string()])).build().new_agent();
    assert_eq!(inner(agent.get(format!("http://{address}/")).call().unwrap_err()).kind(), ErrorKind::TokenType);
    assert_eq!(seen.all().len(), 1);
}

#[test]
fn the_middleware_serves_its_hosts_and_leaves_all_others_alone() {
    let (elsewhere, others) = answering(|_| "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nelse".into());
    let (address, seen) = answering(move |request| match request.starts_with("GET /away") {
        true => format!("HTTP/1.1 302 Found\r\nlocation: http://{elsewhere}/\r\ncontent-length: 0\r\n\r\n"),
        false => "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nhere".into(),
    });
    let (source, tokens) = tokens(9);
    let agent =
        Config::builder().proxy(None).middleware(Authorize::new(tokens, [address.to_string()])).build().new_agent();
    let get = |url: String| agent.get(url).call().unwrap().into_body().read_to_string().unwrap();
    assert_eq!(get(format!("http://{elsewhere}/")), "else");
    assert_eq!(source.minted(), 0);
    assert_eq!(get(format!("http://{address}/")), "here");
    assert_eq!(get(format!("http://{address}/away")), "else");
    assert_eq!(seen.header("authorization"), ["Bearer token-1"; 2]);
    assert_eq!(others.header("authorization"), [""; 2], "also when sent on from an allowed host");
}

#[test]
fn the_middlewares_next_request_after_a_refusal_has_another_token() {
    let (address, seen) = api("token-2");
    for error in [true, false] {
        let (_, tokens) = tokens(9);
        let config = Config::builder().proxy(None).http_status_as_error(error);
        let agent = config.middleware(Authorize::new(tokens, [address.to_string()])).build().new_agent();
        let call = || match agent.get(format!("http://{address}/")).call() {
            Ok(response) => response.status().as_u16(),
            Err(ureq::Error::StatusCode(status)) => status,
            Err(other) => panic!("{other}"),
        };
        assert_eq!((call(), call()), (401, 200));
    }
    assert_eq!(seen.header("authorization"), ["Bearer token-1", "Bearer token-2"].repeat(2));
}

#[test]
fn the_transports_agent_follows_no_redirect_and_takes_a_status_as_an_answer() {
    let (address, seen) = answering(|request| match request.starts_with("GET /things") {
        true => "HTTP/1.1 302 Found\r\nlocation: /elsewhere\r\ncontent-length: 0\r\n\r\n".into(),
        false => "HTTP/1.1 500 Oh\r\ncontent-length: 0\r\n\r\n".into(),
    });
    let transport = Transport::builder().user_agent("mine/1").build().unwrap();
    let agent = transport.agent().unwrap();
    assert_eq!(agent.run(get(address)).unwrap().status(), 302);
    assert_eq!(agent.get(format!("http://{address}/")).call().unwrap().status(), 500);
    assert_eq!(seen.header("user-agent"), ["mine/1"; 2]);
}

/// Only on Linux: other platforms' verifiers do not take certificates that are good for a hundred years.
#[cfg(target_os = "linux")]
#[test]
fn the_transports_agent_speaks_tls_with_the_transports_roots() {
    use rustls::pki_types::pem::PemObject as _;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};
    use rustls::{ServerConfig, ServerConnection, StreamOwned};

    let chain = CertificateDer::from_pem_slice(include_bytes!("tls/localhost.pem")).unwrap();
    let key = PrivateKeyDer::from_pem_slice(include_bytes!("tls/localhost.key.pem")).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()));
    let config = config.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
    let config = Arc::new(config.with_single_cert(vec![chain], key).unwrap());
    let seen = Seen::default();
    let kept = seen.clone();
    let address = Server::accept(move |stream| {
        let mut stream = StreamOwned::new(ServerConnection::new(config.clone()).unwrap(), stream);
        let request = read_request(&mut stream);
        if !request.is_empty() {
            kept.0.lock().unwrap().push(request);
            stream.write_all(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\n{}").unwrap();
            stream.conn.send_close_notify();
            stream.flush().unwrap();
        }
    });
    let (_, tokens) = tokens(9);
    let host = format!("localhost:{}", address.port());
    let request = || Request::get(format!("https://{host}/")).body(()).unwrap();
    let transport = Transport::builder().root_certificate_pem(include_bytes!("tls/root.pem")).build().unwrap();
    let api = AuthorizedAgent::new(transport.agent().unwrap(), tokens.clone(), [&host]);
    assert_eq!(api.run(request()).unwrap().status(), 200);
    assert_eq!(seen.header("authorization"), ["Bearer token-1"]);
    let stranger = Transport::new().unwrap().agent().unwrap();
    AuthorizedAgent::new(stranger, tokens, [&host]).run(request()).unwrap_err();
    assert_eq!(seen.all().len(), 1);
}
