//! The functions of the adapters and of the store that they bring.

use std::future::Future;
use std::sync::OnceLock;
use std::sync::mpsc::channel;
use std::time::Duration;

use grantflow::machine::{Os, Platform};
use grantflow::resource::ProtectedResource;
use grantflow::source::{Credential, Want};
use grantflow::store::RecordKey;
use grantflow::{Client, ClientAuthentication, Error, InstalledApp, Issuer, ServerMetadata, Timestamp};
use grantflow_tests::Front;
use grantflow_tests::front::Site;
use grantflow_tests::server::{Answer, Wire};
use grantflow_ureq::grantflow_store::{FileStore, Store as _, read_private, write_private};
use http::{Request, Response};

use super::{Entry, Seen};

/// What one adapter does is done by the other too. Its own module has its names.
macro_rules! both {
    ($run:ident => $body:block) => {{
        {
            use grantflow_ureq as adapter;
            #[allow(unused_macros)]
            macro_rules! $run {
                ($it:expr) => {
                    $it
                };
            }
            $body
        }
        {
            use grantflow_reqwest as adapter;
            #[allow(unused_macros)]
            macro_rules! $run {
                ($it:expr) => {
                    wait($it)
                };
            }
            $body
        }
    }};
}

fn wait<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

/// Nobody listens there.
fn server() -> ServerMetadata {
    let issuer = Issuer::new("http://127.0.0.1:1").unwrap();
    let server = ServerMetadata::new(issuer).token_endpoint("http://127.0.0.1:1/token").unwrap();
    server.authorization_endpoint("http://127.0.0.1:1/authorize").unwrap()
}

/// A resource that takes nobody and describes itself nowhere.
struct Closed;

impl Site for Closed {
    fn move_to(&mut self, _: &str) {}
    fn answer(&mut self, _: Timestamp, _: &Request<Vec<u8>>) -> Answer {
        let response = Response::builder().status(401).header("www-authenticate", "Bearer").body(Vec::new());
        Answer { delay: Duration::ZERO, wire: Wire::Whole(response.unwrap()) }
    }
}

/// Its address. Where nobody listens, that is believed after a few tries alone.
fn closed() -> String {
    static ADDRESS: OnceLock<String> = OnceLock::new();
    let start = || format!("http://{}/", Box::leak(Box::new(Front::start(Closed).unwrap())).address());
    ADDRESS.get_or_init(start).clone()
}

fn credential(secret: &str) -> Credential {
    let client = Client::new("app").authentication(ClientAuthentication::client_secret_post(secret));
    Credential::client_credentials(server(), &client)
}

fn app(text: &str) -> InstalledApp {
    let app = InstalledApp::new(&server(), &Client::new(text)).open_browser(false).show(|_| {});
    app.timeout(Duration::from_millis(1))
}

fn shown<T>(seen: &mut Seen, result: Result<T, Error>) {
    match result {
        Ok(_) => seen.text("nothing", ""),
        Err(error) => seen.error(&error),
    }
}

pub(crate) fn entries() -> Vec<Entry> {
    [store(), transports(), google(), managers(), requests()].into_iter().flatten().collect()
}

fn store() -> Vec<Entry> {
    vec![Entry {
        names: &["store FileStore::new", "store FileStore::default_for", "store read_private", "store write_private"],
        try_it: |text, seen| {
            let folder = tempfile::tempdir().unwrap();
            let key = RecordKey::new(&Issuer::new("https://as.example").unwrap(), &Client::new(text), text);
            // It must not be made where the tests run.
            let paths =
                [text.to_owned(), format!("/proc/self/{text}"), format!("{}/file/{text}", folder.path().display())];
            std::fs::write(folder.path().join("file"), "").unwrap();
            for path in paths {
                let store = FileStore::new(&path);
                seen.debug("a store", &store);
                for result in [store.load(&key).map(drop), store.try_lease(&key, Duration::ZERO).map(drop)] {
                    if let Err(failure) = result {
                        seen.debug("a failure", &failure);
                        seen.error(&failure.into());
                    }
                }
                for failure in [read_private(&path, 9).err(), write_private(&path, b"").err()].into_iter().flatten() {
                    seen.debug("a failure", &failure);
                    seen.error(&failure.into());
                }
            }
            let platform = Platform { os: Os::Unix, home: Some(folder.path().to_owned()) };
            seen.result("a store", FileStore::default_for(text, &platform));
        },
    }]
}

fn transports() -> Vec<Entry> {
    vec![Entry {
        names: &[
            "ureq Builder::proxy",
            "ureq Builder::root_certificate_pem",
            "ureq Builder::user_agent",
            "ureq Builder::identity",
            "ureq Builder::identity_files",
            "reqwest Builder::proxy",
            "reqwest Builder::root_certificate_pem",
            "reqwest Builder::user_agent",
            "reqwest Builder::identity",
            "reqwest Builder::identity_files",
        ],
        try_it: |text, seen| {
            both!(run => {
                let builder = adapter::Transport::builder;
                for builder in [builder().proxy(text), builder().proxy(&format!("http://{text}")), builder().root_certificate_pem(text.as_bytes()), builder().user_agent(text), builder().identity(text, text, text), builder().identity_files(text, text, text)] {
                    seen.debug("a builder", &builder);
                    if let Some(transport) = seen.result("a transport", builder.build()) {
                        // A proxy is not used for this machine; elsewhere, what is no host is not found.
                        let server = ServerMetadata::new(Issuer::new("https://as.invalid").unwrap());
                        let server = server.token_endpoint("https://as.invalid/token").unwrap();
                        let request = grantflow::TokenRequest::client_credentials(&server, &Client::new("x").authentication(ClientAuthentication::client_secret_post("y")));
                        shown(seen, run!(transport.run(request.unwrap().exchange().total_time(Duration::from_millis(50)))));
                    }
                }
            });
        },
    }]
}

fn google() -> Vec<Entry> {
    vec![Entry {
        names: &[
            "ureq Google::token",
            "ureq Transport::google_default",
            "ureq Transport::google_file",
            "ureq Transport::google_json",
            "ureq Transport::google_service_account",
            "ureq Transport::google_metadata_server",
            "reqwest Google::token",
            "reqwest Transport::google_default",
            "reqwest Transport::google_file",
            "reqwest Transport::google_json",
            "reqwest Transport::google_service_account",
            "reqwest Transport::google_metadata_server",
        ],
        try_it: |text, seen| {
            both!(run => {
                let (sender, events) = channel();
                let watch = move |event: grantflow::Event<'_>| drop(sender.send(format!("{event:?}")));
                let transport = adapter::Transport::builder().watch(watch).build().unwrap();
                // The search itself is tried in core: scopes go the way of a want.
                for path in [text.to_owned(), format!("/etc/{text}")] {
                    seen.result("tokens", run!(transport.google_file(path.clone(), text)));
                    seen.result("tokens", run!(transport.google_service_account(path, text)));
                }
                seen.result("tokens", transport.google_json(text, text));
                let key = grantflow_tests::google::service_account_json().to_string();
                seen.result("tokens", transport.google_json(key, text));
                events.try_iter().for_each(|event| seen.text("an event", event));
            });
        },
    }]
}

fn managers() -> Vec<Entry> {
    vec![
        Entry {
            names: &[
                "ureq TokenPool::add",
                "ureq TokenPool::remove",
                "ureq TokenPool::replace",
                "ureq TokenPool::manager",
                "ureq TokenPool::token",
                "ureq TokenPool::grant_state",
                "reqwest TokenPool::add",
                "reqwest TokenPool::remove",
                "reqwest TokenPool::replace",
                "reqwest TokenPool::manager",
                "reqwest TokenPool::token",
                "reqwest TokenPool::grant_state",
            ],
            try_it: |text, seen| {
                let transport = grantflow_ureq::Transport::new().unwrap();
                let pool = grantflow_ureq::TokenPool::new(&transport);
                shown(seen, pool.manager(text, Want::default()));
                shown(seen, pool.token(text, &Want::default()));
                shown(seen, pool.grant_state(text));
                pool.add(text, credential(text)).unwrap();
                pool.replace(text, credential(text)).unwrap();
                seen.debug("a pool", &pool);
                seen.debug("a state", &pool.grant_state(text).unwrap());
                let manager = pool.manager(text, Want::access_token(text)).unwrap();
                seen.debug("a manager", &manager);
                pool.remove(text);
                shown(seen, manager.token());
                wait(async {
                    let transport = grantflow_reqwest::Transport::new().unwrap();
                    let pool = grantflow_reqwest::TokenPool::new(&transport);
                    shown(seen, pool.manager(text, Want::default()));
                    shown(seen, pool.token(text, &Want::default()).await);
                    shown(seen, pool.grant_state(text));
                    pool.add(text, credential(text)).unwrap();
                    pool.replace(text, credential(text)).unwrap();
                    seen.debug("a pool", &pool);
                    let manager = pool.manager(text, Want::access_token(text)).unwrap();
                    seen.debug("a manager", &manager);
                    pool.remove(text);
                    shown(seen, manager.token().await);
                });
            },
        },
        Entry {
            names: &[
                "ureq Transport::load_or_sign_in",
                "ureq Transport::load_or_sign_in_until",
                "ureq Transport::load_or_sign_in_to",
                "reqwest Transport::load_or_sign_in_to",
                "ureq Transport::sign_out",
                "reqwest Transport::load_or_sign_in",
                "reqwest Transport::sign_out",
            ],
            try_it: |text, seen| {
                let folder = tempfile::tempdir().unwrap();
                let store = FileStore::new(folder.path().join("grants"));
                both!(run => {
                    let transport = adapter::Transport::new().unwrap();
                    shown(seen, run!(transport.load_or_sign_in(&app("x"), text)));
                    let transport = transport.with_store(std::sync::Arc::new(store.clone()));
                    for app in [app("x"), app(text)] {
                        shown(seen, run!(transport.load_or_sign_in(&app, text)));
                        shown(seen, run!(transport.sign_out(&app, text)));
                    }
                    let resource = ProtectedResource::new(&closed()).unwrap();
                    shown(seen, run!(transport.load_or_sign_in_to(&resource, text)));
                    seen.debug("a transport", &transport);
                });
            },
        },
    ]
}

fn requests() -> Vec<Entry> {
    vec![Entry {
        names: &[
            "ureq AuthorizedAgent::new",
            "ureq Authorize::new",
            "reqwest AuthorizedClient::new",
            "reqwest AuthorizedClient::with_builder",
            "reqwest AuthorizedClient::request",
            "reqwest AuthorizedClient::get",
            "reqwest AuthorizedClient::post",
            "reqwest AuthorizeLayer::new",
            "ureq ResourceAgent::new",
            "ureq ResourceAgent::asking",
            "ureq ResourceAgent::run_as",
            "reqwest ResourceClient::new",
            "reqwest ResourceClient::asking",
            "reqwest ResourceClient::request",
            "reqwest ResourceClient::get",
            "reqwest ResourceClient::post",
            "reqwest ResourceClient::send_as",
        ],
        try_it: |text, seen| {
            let transport = grantflow_ureq::Transport::new().unwrap();
            let resource = || ProtectedResource::new(&closed()).unwrap().client_document(text);
            for agent in [
                grantflow_ureq::ResourceAgent::new(&transport, resource(), text).unwrap(),
                grantflow_ureq::ResourceAgent::asking(&transport, resource(), text, |_| true).unwrap(),
            ] {
                seen.debug("an agent", &agent);
                let request = Request::get(closed()).body(()).unwrap();
                let error = agent.run_as(text, request).unwrap_err();
                seen.text("an error", format!("{error} {error:?}"));
            }
            let tokens = grantflow_ureq::TokenManager::new(&transport, credential(text), Want::default());
            let agent = grantflow_ureq::AuthorizedAgent::new(transport.agent().unwrap(), tokens.clone(), text);
            seen.debug("an agent", &agent);
            let request = http::Request::get("https://api.example/").body(()).unwrap();
            if let Err(error) = agent.run(request) {
                seen.text("an error", format!("{error} {error:?}"));
            }
            seen.debug("a middleware", &grantflow_ureq::Authorize::new(tokens, text));
            wait(async {
                let transport = grantflow_reqwest::Transport::new().unwrap();
                let tokens = grantflow_reqwest::TokenManager::new(&transport, credential(text), Want::default());
                let client = grantflow_reqwest::AuthorizedClient::new(tokens.clone(), text).unwrap();
                seen.debug("a client", &client);
                seen.debug("a layer", &grantflow_reqwest::AuthorizeLayer::new(tokens.clone(), text));
                for url in [text.to_owned(), format!("https://api.example/{text}")] {
                    for request in [client.get(&url), client.post(&url), client.request(http::Method::PUT, &url)] {
                        if let Err(error) = client.send(request).await {
                            seen.text("an error", format!("{error} {error:?} {error:#?}"));
                        }
                    }
                }
                for client in [
                    grantflow_reqwest::ResourceClient::new(&transport, resource(), text).unwrap(),
                    grantflow_reqwest::ResourceClient::asking(&transport, resource(), text, |_| true).unwrap(),
                ] {
                    seen.debug("a client", &client);
                    for url in [text, &closed()] {
                        for request in [client.get(url), client.post(url), client.request(http::Method::PUT, url)] {
                            if let Err(error) = client.send_as(text, request).await {
                                seen.text("an error", format!("{error} {error:?} {error:#?}"));
                            }
                        }
                    }
                }
                let adjusted = grantflow_reqwest::AuthorizedClient::with_builder(tokens, "x", |it| it);
                seen.debug("a client", &adjusted.unwrap());
            });
        },
    }]
}
