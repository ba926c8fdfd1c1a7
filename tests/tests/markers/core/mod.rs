//! The functions of core.

mod applications;
mod requests;
mod servers;
mod sources;
mod values;

use grantflow::exchange::Request;
use grantflow::google::{MetadataServer, ServiceAccount};
use grantflow::source::{Credential, TokenSource as _, Want};
use grantflow::{
    AuthorizationRequest, DeviceAuthorization, Error, InstalledApp, Issuer, ServerMetadata, Timestamp, TokenRequest,
};
use grantflow_tests::demo::{self, REDIRECT, client};
use grantflow_tests::{Server, World, at_once};

use crate::{Entry, Seen};

fn world() -> World {
    World::with(Server::demo())
}

fn server() -> ServerMetadata {
    Server::demo().metadata()
}

fn issuer() -> Issuer {
    Issuer::new("https://as.example").unwrap()
}

fn code_request() -> AuthorizationRequest {
    AuthorizationRequest::new(&server(), &client(), REDIRECT)
}

/// A request for a code, and what comes of it.
fn started(seen: &mut Seen, request: AuthorizationRequest) {
    seen.debug("a request", &request);
    seen.result("an authorization", at_once(request.start(), &mut world().cx()));
}

fn app() -> InstalledApp {
    InstalledApp::new(&server(), &client()).scopes("openid")
}

/// An application, its sign-in, and its page.
fn installed(seen: &mut Seen, app: InstalledApp) {
    seen.debug("an application", &app);
    seen.result("addresses", app.addresses());
    seen.result("a device", app.device_authorization().map(drop));
    if let Some(mut receiver) = seen.result("a receiver", at_once(app.start(50123), &mut world().cx())) {
        let _ = receiver.hear(b"GET /?x HTTP/1.1\r\nHost: x\r\n\r\n", Timestamp::from_unix(1_795_176_000));
        seen.debug("a receiver", &receiver);
    }
}

/// A request for a token, and what comes of it.
fn asked(seen: &mut Seen, request: Result<TokenRequest, Error>) {
    if let Some(request) = seen.result("a request for a token", request) {
        seen.run(&mut world(), request.exchange());
    }
}

fn token_request() -> TokenRequest {
    TokenRequest::client_credentials(&server(), &demo::batch()).unwrap()
}

fn device(seen: &mut Seen, request: DeviceAuthorization) {
    seen.debug("a request for a device", &request);
    seen.run(&mut world(), request.exchange());
}

/// A request of one's own.
fn sent(seen: &mut Seen, request: Request) {
    seen.debug("a request", &request);
    seen.run(&mut world(), request.exchange(|_| Ok(())));
}

fn minted(seen: &mut Seen, credential: Credential, want: &Want) {
    seen.debug("a credential", &credential);
    let mint = credential.mint(want, &credential.first_state());
    seen.run(&mut world(), mint);
}

/// A want, at a credential of each kind, and as part of what a store keeps.
fn wanted(seen: &mut Seen, want: Want) {
    seen.debug("a want", &want);
    minted(seen, Credential::client_credentials(server(), &demo::batch()), &want);
    minted(seen, Credential::refresh_token(server(), &client(), "r"), &want);
    let account = ServiceAccount::from_json(grantflow_tests::google::service_account_json().to_string()).unwrap();
    let mut world = grantflow_tests::google::world();
    seen.run(&mut world, account.mint(&want, &account.first_state()));
    seen.run(&mut world, MetadataServer::new().mint(&want, &MetadataServer::new().first_state()));
}

/// A path with such a name; nothing lies there.
pub(crate) fn path<M>(seen: &mut Seen, text: &str, read: impl Fn(String) -> M)
where
    M: grantflow::Machine + std::fmt::Debug,
{
    for path in [text.to_owned(), format!("/etc/{text}"), format!("\"{text}\"")] {
        seen.debug("what reads a file", &read(path.clone()));
        seen.run(&mut World::default(), read(path));
    }
}

pub(crate) fn entries() -> Vec<Entry> {
    let all = [servers::entries(), requests::entries(), applications::entries(), sources::entries(), values::entries()];
    all.into_iter().flatten().collect()
}
