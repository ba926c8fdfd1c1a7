//! Tokens that are bound to a key (RFC 9449): requests that carry them, in each way that an adapter has, and sign-ins.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use grantflow::crypto::{Algorithm, SigningKey};
use grantflow::jose::Jwk;
use grantflow::source::{Credential, Want};
use grantflow::store::DpopKeyInStore;
use grantflow::{Client, DpopKey, TokenType};
use grantflow_tests::kms::{Es256, FarKey, Kms};
use grantflow_tests::server::{Alter, RefreshTokens, Settings};
use grantflow_ureq::grantflow_store::FileStore;
use http::{Request, Response};
use serde_json::json;
use tower_layer::Layer as _;
use tower_service::Service;

use super::*;

/// The status of a request to this address.
type Get = dyn Fn(&str) -> Result<u16, Error>;

/// One way to send requests.
pub(super) struct Way {
    name: &'static str,
    /// Whether it sends a request once more that is asked for so.
    repeats: bool,
    get: Box<Get>,
}

/// The ways of an adapter, by a manager of this credential each.
pub(super) trait Ways {
    fn ways(&self, credential: &dyn Fn() -> Credential, host: SocketAddr) -> Vec<Way>;
}

impl Ways for Blocking {
    fn ways(&self, credential: &dyn Fn() -> Credential, host: SocketAddr) -> Vec<Way> {
        use grantflow_ureq::{Authorize, AuthorizedAgent, TokenManager, ureq};
        fn own(error: ureq::Error) -> Error {
            match error {
                ureq::Error::Other(inner) => *inner.downcast::<Error>().expect("an error of grantflow's"),
                error => panic!("{error:?}"),
            }
        }
        let manager = || TokenManager::new(&self.0, credential(), Want::access_token("read"));
        let agent = || AuthorizedAgent::new(self.0.agent().unwrap(), manager(), [host.to_string()]);
        let (one, once) = (agent(), agent());
        let config = ureq::config::Config::builder().proxy(None).http_status_as_error(false);
        let middleware = config.middleware(Authorize::new(manager(), [host.to_string()])).build().new_agent();
        let status = |response: Result<Response<ureq::Body>, ureq::Error>| Ok(response.map_err(own)?.status().as_u16());
        let request = |url: &str| Request::get(url).body(()).unwrap();
        vec![
            Way { name: "an agent", repeats: true, get: Box::new(move |url| status(one.run(request(url)))) },
            Way {
                name: "an agent, once",
                repeats: false,
                get: Box::new(move |url| status(once.run_once(request(url)))),
            },
            Way { name: "a middleware", repeats: false, get: Box::new(move |url| status(middleware.get(url).call())) },
        ]
    }
}

impl Ways for Async {
    fn ways(&self, credential: &dyn Fn() -> Credential, host: SocketAddr) -> Vec<Way> {
        use grantflow_reqwest::{AuthorizeLayer, AuthorizedClient, AuthorizedError, TokenManager, reqwest};
        fn status(response: Result<reqwest::Response, AuthorizedError>) -> Result<u16, Error> {
            match response {
                Ok(response) => Ok(response.status().as_u16()),
                Err(AuthorizedError::Token(error)) => Err(error),
                Err(AuthorizedError::Http(error)) => panic!("{error:?}"),
            }
        }
        let manager = || TokenManager::new(&self.0, credential(), Want::access_token("read"));
        let client = || AuthorizedClient::new(manager(), [host.to_string()]).unwrap();
        let (one, stream) = (client(), client());
        let client = self.0.client_builder().no_proxy().build().unwrap();
        let layer = || AuthorizeLayer::new(manager(), [host.to_string()]);
        let (twice, once) = (layer().layer(Wire(client.clone())), layer().once().layer(Wire(client)));
        let runtimes = [runtime(), runtime(), runtime(), runtime()];
        let [first, second, third, fourth] = runtimes;
        let request = |url: &str| Request::get(url).body(()).unwrap();
        let told = |error: Box<dyn std::error::Error + Send + Sync>| *error.downcast::<Error>().expect("our own");
        vec![
            Way {
                name: "a client",
                repeats: true,
                get: Box::new(move |url| status(first.block_on(one.send(one.get(url))))),
            },
            Way {
                name: "a client with a stream",
                repeats: false,
                get: Box::new(move |url| {
                    let body = reqwest::Body::wrap("a stream of one part".to_owned());
                    status(second.block_on(stream.send(stream.get(url).body(body))))
                }),
            },
            Way {
                name: "a layer",
                repeats: true,
                get: Box::new(move |url| {
                    let mut service = twice.clone();
                    Ok(third.block_on(service.call(request(url))).map_err(told)?.status().as_u16())
                }),
            },
            Way {
                name: "a layer, once",
                repeats: false,
                get: Box::new(move |url| {
                    let mut service = once.clone();
                    Ok(fourth.block_on(service.call(request(url))).map_err(told)?.status().as_u16())
                }),
            },
        ]
    }
}

/// A service that sends requests as they are.
#[derive(Clone)]
struct Wire(grantflow_reqwest::reqwest::Client);

impl Service<Request<()>> for Wire {
    type Response = Response<()>;
    type Error = grantflow_reqwest::reqwest::Error;
    type Future = std::pin::Pin<Box<dyn Future<Output = Result<Response<()>, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> std::task::Poll<Result<(), Self::Error>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<()>) -> Self::Future {
        let (head, ()) = request.into_parts();
        let request = self.0.request(head.method, head.uri.to_string()).headers(head.headers);
        Box::pin(async move {
            let answer = request.send().await?;
            let mut response = Response::new(());
            (*response.status_mut(), *response.headers_mut()) = (answer.status(), answer.headers().clone());
            Ok(response)
        })
    }
}

fn front(change: impl FnOnce(&mut Settings)) -> Front {
    Front::start(Server::demo().with(|settings| {
        settings.dpop_required = true;
        change(settings);
    }))
    .unwrap()
}

/// A new key that is here.
fn here<A: Adapter>(adapter: &A) -> DpopKey {
    SigningKey::generate(Algorithm::ES256, &mut adapter.cx()).unwrap().into()
}

/// How often the resource and the token endpoint were asked.
fn asked(front: &Front) -> (usize, usize) {
    let server = front.server();
    (server.seen_at(Place::Resource).len(), server.seen_at(Place::Token).len())
}

fn statuses(way: &Way, front: &Front) -> (u16, u16) {
    let url = front.url(Place::Resource) + "?page=2";
    ((way.get)(&url).unwrap(), (way.get)(&url).unwrap())
}

pub(super) fn a_request_with_a_bound_token_proves_its_key_in_every_way<A: Adapter + Ways>() {
    let adapter = A::new();
    let front = front(|settings| settings.dpop_nonce = Some("as-1".into()));
    let client = batch().dpop(here(&adapter));
    let credential = || Credential::client_credentials(front.metadata(), &client);
    for way in adapter.ways(&credential, front.address()) {
        front.server().settings.dpop_resource_nonce = None;
        assert_eq!(statuses(&way, &front), (200, 200), "{}", way.name);
        let before = front.server().seen_at(Place::Resource).len();
        // The server wants a nonce from now on: the request is sent once more with it, where that can be.
        front.server().settings.dpop_resource_nonce = Some("rs-1".into());
        assert_eq!(statuses(&way, &front), (if way.repeats { 200 } else { 401 }, 200), "{}", way.name);
        assert_eq!(front.server().seen_at(Place::Resource).len() - before, if way.repeats { 3 } else { 2 });
        // One that changes with each request is kept from each answer.
        front.server().settings.dpop_resource_nonce = Some("rs-2".into());
        assert_eq!(statuses(&way, &front), (if way.repeats { 200 } else { 401 }, 200), "{}", way.name);
    }
    // Each manager got one token, which none of the refusals was of.
    let tokens = front.server().seen_at(Place::Token).len();
    assert_eq!(tokens, adapter.ways(&credential, front.address()).len() * 2);
}

pub(super) fn a_resource_that_wants_another_nonce_for_ever_is_asked_twice<A: Adapter + Ways>() {
    let adapter = A::new();
    let front = front(|_| {});
    let client = batch().dpop(here(&adapter));
    let credential = || Credential::client_credentials(front.metadata(), &client);
    for way in adapter.ways(&credential, front.address()) {
        assert_eq!((way.get)(&front.url(Place::Resource)).unwrap(), 200);
        let before = asked(&front);
        let expected = if way.repeats { 2 } else { 1 };
        for nth in 0..expected {
            let fault = Fault::with_type(401, "text/plain", "").header("dpop-nonce", &format!("n-{nth}"));
            let fault = fault.header("www-authenticate", "dpop error=\"use_dpop_nonce\"");
            front.server().fail(Place::Resource, fault);
        }
        assert_eq!((way.get)(&front.url(Place::Resource)).unwrap(), 401, "{}", way.name);
        let after = asked(&front);
        assert_eq!((after.0 - before.0, after.1 - before.1), (expected, 0), "{}", way.name);
    }
}

pub(super) fn a_bound_token_that_is_refused_is_replaced_once_and_a_wrong_proof_is_not_its_fault<A: Adapter + Ways>() {
    let adapter = A::new();
    let front = front(|_| {});
    let client = batch().dpop(here(&adapter));
    let credential = || Credential::client_credentials(front.metadata(), &client);
    let refuse = |error: &str| {
        let fault = Fault::with_type(401, "text/plain", "");
        let fault = fault.header("www-authenticate", &format!("Bearer, DPoP error=\"{error}\""));
        front.server().fail(Place::Resource, fault);
    };
    for way in adapter.ways(&credential, front.address()) {
        assert_eq!((way.get)(&front.url(Place::Resource)).unwrap(), 200);
        let tokens = front.server().seen_at(Place::Token).len();
        refuse("invalid_dpop_proof");
        assert_eq!(statuses(&way, &front), (401, 200), "{}", way.name);
        assert_eq!(front.server().seen_at(Place::Token).len(), tokens, "{}", way.name);
        refuse("invalid_token");
        assert_eq!(statuses(&way, &front), (if way.repeats { 200 } else { 401 }, 200), "{}", way.name);
        assert_eq!(front.server().seen_at(Place::Token).len(), tokens + 1, "{}", way.name);
    }
}

pub(super) fn a_server_that_answers_for_bearers_where_a_key_was_proved_is_refused<A: Adapter + Ways>() {
    let adapter = A::new();
    let front = front(|settings| settings.alter_token = Alter::set("token_type", "Bearer".into()));
    let client = batch().dpop(here(&adapter));
    let credential = || Credential::client_credentials(front.metadata(), &client);
    for way in adapter.ways(&credential, front.address()) {
        let error = (way.get)(&front.url(Place::Resource)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TokenType, "{}: {error}", way.name);
    }
    assert!(front.server().seen_at(Place::Resource).is_empty());
}

pub(super) fn a_key_that_is_far_away_proves_itself_to_resources_too<A: Adapter + Ways>() {
    let adapter = A::new();
    let kms = Front::start(Kms::default()).unwrap();
    let front = front(|_| {});
    let grantflow_tests::jwt::PublicKey::Es256(point) = Es256::default().public() else { panic!("another kind") };
    let encode = |bytes: &[u8]| base64::Engine::encode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, bytes);
    let jwk = json!({"kty": "EC", "crv": "P-256", "x": encode(&point[1..33]), "y": encode(&point[33..])});
    let public = Jwk::from_json(jwk.to_string().as_bytes()).unwrap();
    let client = batch().dpop(DpopKey::new(FarKey::at(&format!("http://{}", kms.address())), &public).unwrap());
    let credential = || Credential::client_credentials(front.metadata(), &client);
    for way in adapter.ways(&credential, front.address()) {
        assert_eq!(statuses(&way, &front), (200, 200), "{}", way.name);
    }
}

pub(super) fn a_sign_in_that_is_kept_is_bound_to_the_key_of_the_store<A: Adapter>() {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("dpop").join(A::NAME);
    let _ = std::fs::remove_dir_all(&folder);
    let front = front(|settings| {
        settings.dpop_nonce = Some("as-1".into());
        settings.refresh_tokens = RefreshTokens::Rotate { grace: Duration::ZERO };
    });
    let asked = Arc::new(AtomicUsize::new(0));
    let app = |client: &Client| {
        let asked = asked.clone();
        let app = InstalledApp::new(&front.metadata(), client).scopes("read").open_browser(false);
        app.timeout(Duration::from_secs(20)).show(move |url| {
            asked.fetch_add(1, SeqCst);
            drop(person::visit_in_background(url));
        })
    };
    let program = || A::with_store(Arc::new(FileStore::new(&folder)));
    let issuer = front.metadata().issuer().clone();
    let mut tokens = Vec::new();
    for _ in 0..3 {
        // A program that has just been started.
        let program = program();
        let client = client().dpop(program.run(DpopKeyInStore::new(&issuer, &client())).unwrap());
        let token = program.load_or_sign_in(&app(&client)).unwrap();
        assert_eq!((token.token_type(), token.dpop_key()), (&TokenType::DPoP, client.dpop_key()));
        tokens.push(token.access_token().to_owned());
    }
    assert_eq!((asked.load(SeqCst), tokens[0] == tokens[1], tokens[1] == tokens[2]), (1, true, true));
    // Without the key the grant is of no use, and the person is not asked behind the program's back.
    let program = program();
    let error = program.load_or_sign_in(&app(&client())).unwrap_err();
    assert_eq!((error.kind(), asked.load(SeqCst)), (ErrorKind::Config, 1), "{error}");
    assert!(error.to_string().contains("DpopKeyInStore"), "{error}");
    // Nor is the key a grant that signing out ends.
    let client = client().dpop(program.run(DpopKeyInStore::new(&issuer, &client())).unwrap());
    program.sign_out(&app(&client)).unwrap();
    let again = program.load_or_sign_in(&app(&client)).unwrap();
    assert_eq!((again.dpop_key(), asked.load(SeqCst)), (client.dpop_key(), 2));
    // Nor does a sign-in need a store.
    let own = grantflow_tests::demo::client().dpop(here(&program));
    let token = program.sign_in(&app(&own)).unwrap();
    assert_eq!((token.dpop_key(), asked.load(SeqCst)), (own.dpop_key(), 3));
}
