//! The functions of core.

use std::ffi::OsString;
use std::time::Duration;

use grantflow::authorize::ThirdPartyLogin;
use grantflow::crypto::{Algorithm, SigningKey};
use grantflow::exchange::Request;
use grantflow::google::{
    AuthorizedUser, ClientSecrets, DefaultCredentials, GoogleCredential, MetadataServer, ServiceAccount, TokenInfo,
};
use grantflow::jose::LogoutToken;
use grantflow::loopback::Receiver;
use grantflow::machine::{Exited, FailureKind, Identity, Machine as _, Os, Platform, Program, Reply, Step};
use grantflow::proxy::{Proxies, Proxy};
use grantflow::register::{ClientMetadata, Registration};
use grantflow::source::{Change, Credential, ExchangedToken, GrantState, ProgramToken, TokenSource as _, Want};
use grantflow::store::{LoadGrant, RecordKey, RegistrationInStore, SaveGrant, SharedGrant, Stored};
use grantflow::{
    AuthorizationRequest, BackchannelAuthentication, Challenge, Client, ClientAuthentication, DeviceAuthorization,
    Endpoint, Error, ErrorKind, Failure, Hosts, InstalledApp, Issuer, Revocation, Scopes, Secret, ServerMetadata,
    Timestamp, Token, TokenRequest,
};
use grantflow::{EndSession, FrontChannelLogout};
use grantflow_tests::demo::{self, REDIRECT, client};
use grantflow_tests::google::private_key;
use grantflow_tests::{Server, World, at_once};
use serde_json::json;

use super::{Entry, Seen};

fn world() -> World {
    World::with(Server::demo())
}

fn server() -> ServerMetadata {
    Server::demo().metadata()
}

fn issuer() -> Issuer {
    Issuer::new("https://as.example").unwrap()
}

fn endpoint() -> Endpoint {
    Endpoint::new("https://as.example/token").unwrap()
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

fn device_request() -> DeviceAuthorization {
    DeviceAuthorization::new(&server(), &client()).unwrap()
}

fn device(seen: &mut Seen, request: DeviceAuthorization) {
    seen.debug("a request for a device", &request);
    seen.run(&mut world(), request.exchange());
}

/// A registration, and what comes of it.
fn registered(seen: &mut Seen, metadata: ClientMetadata, token: &str) {
    let mut world = World::with(Server::demo().with(|settings| settings.registration = true));
    let server = world.server().metadata();
    seen.debug("metadata", &metadata);
    if let Some(request) = seen.result("a registration", Registration::new(&server, metadata)) {
        let request = request.initial_access_token(token);
        seen.debug("a registration", &request);
        if let Some(registered) = seen.run(&mut world, request.exchange()) {
            seen.debug("a registered client", &registered);
            seen.result("a client", registered.client());
        }
    }
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

fn at_google(seen: &mut Seen, source: &dyn grantflow::source::TokenSource) {
    let mut world = grantflow_tests::google::world();
    seen.run(&mut world, source.mint(&Want::access_token("x"), &source.first_state()));
}

fn file<T: std::fmt::Debug>(seen: &mut Seen, text: &str, read: impl Fn(String) -> Result<T, Error>) {
    seen.result("a file", read(text.to_owned()));
    for name in [
        "client_id",
        "client_secret",
        "refresh_token",
        "client_email",
        "private_key_id",
        "project_id",
        "account",
        "quota_project_id",
        "token_uri",
        "auth_uri",
        "universe_domain",
        "type",
        "private_key",
        "redirect_uris",
        "scopes",
    ] {
        for mut whole in
            [grantflow_tests::google::service_account_json(), grantflow_tests::google::authorized_user_json()]
        {
            whole[name] = text.into();
            seen.result("a file", read(whole.to_string()));
            whole[name] = json!([text]);
            seen.result("a file", read(whole.to_string()));
        }
        let mut inner = json!({"client_id": "x", "client_secret": "y", "redirect_uris": ["http://localhost"],
            "auth_uri": "https://accounts.google.com/o/oauth2/auth", "token_uri": "https://oauth2.googleapis.com/token"});
        inner[name] = text.into();
        seen.result("a file", read(json!({"installed": inner}).to_string()));
        inner[name] = json!({text: text});
        seen.result("a file", read(json!({"web": inner}).to_string()));
    }
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

/// As a host; an address in its place would be another one.
fn as_host(text: &str) -> String {
    if text.contains("//") { text.to_owned() } else { format!("https://{text}") }
}

pub(crate) fn entries() -> Vec<Entry> {
    [addresses(), servers(), requests(), applications(), sources(), google(), values()].into_iter().flatten().collect()
}

fn addresses() -> Vec<Entry> {
    vec![
        Entry {
            names: &["core Issuer::new", "core Issuer::TryFrom<String>"],
            try_it: |text, seen| {
                for text in [
                    text.to_owned(),
                    format!("https://as.example/{text}"),
                    as_host(text),
                    format!("https://as.example/.well-known/{text}"),
                ] {
                    seen.result("an issuer", Issuer::new(text.clone()));
                    if let Some(issuer) = seen.result("an issuer", Issuer::try_from(text)) {
                        seen.run(&mut world(), grantflow::Discovery::new(&issuer));
                        seen.debug("a key", &RecordKey::new(&issuer, &client(), "x"));
                    }
                }
            },
        },
        Entry {
            names: &[
                "core Endpoint::new",
                "core Endpoint::TryFrom<String>",
                "core Endpoint::of_stranger",
                "core Reach::permits_host",
            ],
            try_it: |text, seen| {
                for text in [
                    text.to_owned(),
                    format!("https://as.example/{text}"),
                    format!("https://as.example/?{text}"),
                    as_host(text),
                ] {
                    seen.result("an endpoint", Endpoint::try_from(text.clone()));
                    seen.result("an endpoint", Endpoint::of_stranger(&text));
                    seen.text("nothing", grantflow::machine::Reach::Global.permits_host(&text));
                    if let Some(endpoint) = seen.result("an endpoint", Endpoint::new(&text)) {
                        sent(seen, Request::get("asking", &endpoint));
                    }
                }
            },
        },
        Entry {
            names: &[
                "core Hosts::From<&str>",
                "core Hosts::From<String>",
                "core Hosts::From<&String>",
                "core Hosts::From<&Vec<S>>",
                "core Hosts::FromIterator<S>",
                "core Hosts::check",
            ],
            try_it: |text, seen| {
                let uri = "https://api.example/".parse().unwrap();
                for hosts in [
                    Hosts::from(text),
                    Hosts::from(text.to_owned()),
                    Hosts::from(&text.to_owned()),
                    Hosts::from(&vec![text]),
                    [text].into_iter().collect(),
                    Hosts::from(&[text][..]),
                    Hosts::from(vec![format!("api.example:{text}")]),
                    Hosts::from(format!("*.{text}")),
                ] {
                    seen.debug("hosts", &hosts);
                    seen.result("a check", hosts.check(&uri));
                }
                // What cannot stand in an address does not get there.
                let path = text.replace(['\n', ' '], "~");
                if let Ok(uri) = format!("https://as.example/{path}").parse() {
                    seen.result("a check", Hosts::from("api.example").check(&uri));
                }
            },
        },
        Entry {
            names: &["core Proxy::new"],
            try_it: |text, seen| {
                for text in [
                    text.to_owned(),
                    format!("http://{text}"),
                    format!("http://{text}:{text}@proxy.example:1"),
                    format!("http://proxy.example:{text}"),
                ] {
                    if let Some(proxy) = seen.result("a proxy", Proxy::new(&text)) {
                        seen.text("a proxy", proxy);
                    }
                }
            },
        },
        Entry {
            names: &["core openable"],
            try_it: |text, seen| {
                seen.result("an address", grantflow::loopback::openable(text));
                seen.result("an address", grantflow::loopback::openable(&format!("https://as.example/{text}")));
            },
        },
    ]
}

fn servers() -> Vec<Entry> {
    vec![
        Entry {
            names: &["core ServerMetadata::$name"],
            try_it: |text, seen| {
                seen.result("a server", server().token_endpoint(text));
                seen.result("a server", server().authorization_endpoint(&format!("https://as.example/?{text}")));
                seen.result("a server", server().revocation_endpoint(&format!("https://as.example/#{text}")));
            },
        },
        Entry {
            names: &[
                "core ClientMetadata::$name",
                "core ClientMetadata::scope",
                "core ClientMetadata::client_name_in",
                "core ClientMetadata::member",
                "core ClientMetadata::get",
                "core ClientMetadata::str",
                "core ClientMetadata::list",
                "core ClientMetadata::flag",
                "core Registration::initial_access_token",
            ],
            try_it: |text, seen| {
                let metadata = ClientMetadata::new();
                for metadata in [
                    metadata.clone().redirect_uris([text]),
                    metadata.clone().redirect_uris(["https://app.example/"]).client_name(text),
                    metadata.clone().software_statement(text).scope(text).client_name_in(text, text),
                    metadata.member(text, json!(text)).software_statement("x.y.z"),
                ] {
                    seen.text("nothing", metadata.get(text).is_some() || metadata.str(text).is_some());
                    seen.text("nothing", metadata.list(text).is_some() || metadata.flag(text));
                    registered(seen, metadata.clone(), text);
                    registered(seen, metadata, "initial");
                }
            },
        },
        Entry {
            names: &[
                "core AuthorizationRequest::authorization_details",
                "core InstalledApp::authorization_details",
                "core FinishAuthorization::authorization_details",
                "core TokenRequest::authorization_details",
                "core DeviceAuthorization::authorization_details",
                "core Want::authorization_details",
            ],
            try_it: |text, seen| {
                for details in [json!(text), json!([{"type": text}]), json!([{"type": "payment", text: text}])] {
                    started(seen, code_request().authorization_details(&details));
                    installed(seen, app().authorization_details(&details));
                    asked(seen, Ok(token_request().authorization_details(&details)));
                    wanted(seen, Want::default().authorization_details(&details));
                    device(seen, device_request().authorization_details(&details));
                    let mut world = world();
                    let authorization = world.run(code_request().start()).unwrap();
                    let redirect = world.person(&authorization.url);
                    let finish = authorization.pending.finish(&client(), &redirect).authorization_details(&details);
                    seen.debug("a machine", &finish);
                    seen.run(&mut world, finish);
                }
            },
        },
        Entry {
            names: &[
                "core BackchannelAuthentication::scopes",
                "core BackchannelAuthentication::login_hint",
                "core BackchannelAuthentication::login_hint_token",
                "core BackchannelAuthentication::binding_message",
                "core BackchannelAuthentication::user_code",
                "core BackchannelAuthentication::acr_values",
                "core BackchannelAuthentication::notification_token",
                "core BackchannelAuthentication::authorization_details",
                "core BackchannelAuthentication::extra",
            ],
            try_it: |text, seen| {
                let request = || BackchannelAuthentication::new(&server(), &demo::batch()).unwrap();
                let hinted = || request().login_hint("alice");
                for request in [
                    request().login_hint(text),
                    request().login_hint_token(&text.into()),
                    hinted().scopes(text),
                    hinted().binding_message(text).acr_values(text),
                    hinted().user_code(&text.into()).notification_token(text),
                    hinted().extra(text, text),
                    hinted().authorization_details(&json!([{"type": text}])),
                ] {
                    seen.debug("a request", &request);
                    if let Some(pending) = seen.run(&mut world(), request.start()) {
                        seen.debug("a sign-in", &pending);
                    }
                }
            },
        },
        Entry {
            names: &["core PingReceiver::hear", "core PingReceiver::take"],
            try_it: |text, seen| {
                let request = BackchannelAuthentication::new(&server(), &demo::batch()).unwrap().login_hint("alice");
                let token = "a-notification-token-of-128-bits";
                let pending = seen.run(&mut world(), request.notification_token(token).start()).unwrap();
                let receiver = pending.ping_receiver().unwrap();
                seen.debug("a receiver", &receiver);
                seen.text("a status", receiver.take(Some(text), text.as_bytes()));
                let grantflow::BackchannelHeard::Reply(bytes) = receiver.hear(text.as_bytes()) else { return };
                seen.text("an answer", String::from_utf8_lossy(&bytes));
            },
        },
        Entry {
            names: &["core RecordKey::of_registration", "core RegistrationInStore::label"],
            try_it: |text, seen| {
                seen.text("a key", RecordKey::of_registration(&issuer(), text));
                seen.debug("a machine", &RegistrationInStore::read(&issuer()).label(text));
                seen.run(&mut world(), RegistrationInStore::read(&issuer()).label(text));
            },
        },
        Entry {
            names: &["core ServerMetadata::from_json", "core ServerMetadata::from_json_tolerating"],
            try_it: |text, seen| {
                let issuer = issuer();
                seen.result("a server", ServerMetadata::from_json(text.as_bytes(), &issuer));
                for name in [
                    "issuer",
                    "token_endpoint",
                    "authorization_endpoint",
                    "userinfo_endpoint",
                    "scopes_supported",
                    "code_challenge_methods_supported",
                ] {
                    for value in [json!(text), json!([text]), json!({text: text})] {
                        let mut json =
                            json!({"issuer": "https://as.example", "token_endpoint": "https://as.example/token"});
                        json[name] = value;
                        let json = json.to_string();
                        let tolerated = grantflow::Deviations::NONE;
                        seen.result(
                            "a server",
                            ServerMetadata::from_json_tolerating(json.as_bytes(), &issuer, tolerated),
                        );
                        if let Some(server) =
                            seen.result("a server", ServerMetadata::from_json(json.as_bytes(), &issuer))
                        {
                            asked(seen, TokenRequest::client_credentials(&server, &demo::batch()));
                            started(seen, AuthorizationRequest::new(&server, &client(), REDIRECT).scopes("openid"));
                        }
                    }
                }
            },
        },
        Entry {
            names: &["core ServerMetadata::member", "core ServerMetadata::get"],
            try_it: |text, seen| {
                let server =
                    server().member(text, json!(text)).member("code_challenge_methods_supported", json!([text]));
                seen.debug("a server", &server);
                seen.text("nothing", server.get(text).is_some());
                started(seen, AuthorizationRequest::new(&server, &client(), REDIRECT));
            },
        },
        Entry {
            names: &["core Discovery::issuer_of_tenants"],
            try_it: |text, seen| {
                for text in [text.to_owned(), format!("https://as.example/{{{text}}}")] {
                    let discovery = grantflow::Discovery::new(server().issuer()).issuer_of_tenants(&text);
                    seen.run(&mut world(), discovery);
                }
            },
        },
        Entry {
            names: &["core ServerMetadata::issuer_alias"],
            try_it: |text, seen| {
                let server = server().issuer_alias(text);
                seen.debug("a server", &server);
                started(seen, AuthorizationRequest::new(&server, &client(), REDIRECT).scopes("openid"));
            },
        },
        Entry {
            names: &[
                "core Challenge::is",
                "core Challenge::get",
                "core Challenge::all",
                "core Challenge::bearer",
                "core Challenge::rejects_token",
            ],
            try_it: |text, seen| {
                let mut headers = http::HeaderMap::new();
                if let Ok(value) =
                    format!("Bearer realm=\"{text}\", error=\"{text}\", {text}").replace('\n', "").parse()
                {
                    headers.insert("www-authenticate", value);
                }
                for challenge in Challenge::all(&headers) {
                    seen.debug("a challenge", &challenge);
                    seen.text("nothing", challenge.is(text) || challenge.get(text).is_some());
                }
                seen.text("nothing", "");
            },
        },
    ]
}

fn requests() -> Vec<Entry> {
    vec![
        Entry {
            names: &["core AuthorizationRequest::new"],
            try_it: |text, seen| {
                for uri in [
                    text.to_owned(),
                    format!("http://127.0.0.1/{text}"),
                    format!("https://app.example/?{text}"),
                    format!("com.example:/{text}"),
                ] {
                    started(seen, AuthorizationRequest::new(&server(), &client(), uri));
                }
            },
        },
        Entry {
            names: &[
                "core AuthorizationRequest::scopes",
                "core AuthorizationRequest::prompt",
                "core AuthorizationRequest::login_hint",
                "core AuthorizationRequest::access_type",
                "core AuthorizationRequest::hd",
                "core AuthorizationRequest::resource",
                "core AuthorizationRequest::extra",
                "core AuthorizationRequest::ui_locales",
                "core AuthorizationRequest::acr_values",
                "core AuthorizationRequest::preferred_acr_values",
                "core AuthorizationRequest::claims",
                "core ThirdPartyLogin::read",
                "core EndSession::logout_hint",
                "core EndSession::ui_locales",
                "core EndSession::post_logout_redirect_uri",
                "core PendingLogout::is_answered_by",
                "core LogoutToken::in_form",
                "core FrontChannelLogout::read",
                "core FrontChannelLogout::ends",
                "core ThirdPartyLogin::target_link_uri",
                "core AuthorizationRequest::code_verifier",
            ],
            try_it: |text, seen| {
                started(seen, code_request().scopes(text));
                started(seen, code_request().prompt(text));
                started(seen, code_request().login_hint(text));
                started(seen, code_request().access_type(text));
                started(seen, code_request().hd(text));
                started(seen, code_request().resource(text));
                started(seen, code_request().extra(text, "x"));
                started(seen, code_request().extra(text, "x").extra(text, "x"));
                started(seen, code_request().extra("x", text));
                started(seen, code_request().ui_locales([text]));
                started(seen, code_request().acr_values([text]));
                started(seen, code_request().preferred_acr_values([text]));
                started(seen, code_request().claims(&serde_json::json!({ text: text })));
                started(seen, code_request().claims(&serde_json::json!(text)));
                for name in ["claims", "acr_values", "id_token_hint"] {
                    started(seen, code_request().extra(name, text));
                }
                let form: String = url::form_urlencoded::byte_serialize(text.as_bytes()).collect();
                let at = server().end_session_endpoint("https://as.example/end").unwrap();
                let end = EndSession::new(&at, &client()).unwrap().logout_hint(text).ui_locales(text);
                let end = end.post_logout_redirect_uri(text);
                seen.debug("a sign-out", &end);
                let ending = end.begin(&mut world().cx()).unwrap();
                seen.debug("a sign-out that begins", &ending);
                assert!(!ending.pending.unwrap().is_answered_by(text));
                for query in [text.to_owned(), format!("iss={form}&iss="), format!("logout_token={form}&logout_token=")]
                {
                    seen.result("a logout token", LogoutToken::in_form(&query).map(drop));
                    let front = FrontChannelLogout::read(&query);
                    if let Ok(front) = &front {
                        let _ = front.ends(text, Some(text));
                    }
                    seen.result("a sign-out", front);
                }
                for query in [text.to_owned(), format!("iss={form}&login_hint={form}"), format!("iss={form}&iss=")] {
                    let login = ThirdPartyLogin::read(&query);
                    if let Ok(login) = &login {
                        let _ = login.target_link_uri(text);
                        seen.debug("a login", login);
                        started(seen, code_request().initiated_by(login));
                    }
                    seen.result("a login", login.map(drop));
                }
                started(seen, code_request().code_verifier(text));
            },
        },
        Entry {
            names: &[
                "core PendingAuthorization::finish",
                "core PendingAuthorization::receive",
                "core PendingAuthorization::name_in",
                "core FinishAuthorization::audience",
                "core FinishAuthorization::resource",
                "core FinishAuthorization::extra",
            ],
            try_it: |text, seen| {
                let mut world = world();
                let begin = |world: &mut World| at_once(code_request().start(), &mut world.cx()).unwrap();
                let form: String = url::form_urlencoded::byte_serialize(text.as_bytes()).collect();
                for redirect in [
                    text.to_owned(),
                    format!("state={form}&code={form}"),
                    format!("{REDIRECT}?error={form}&error_description={form}"),
                    format!("state={form}&state={form}"),
                ] {
                    let pending = begin(&mut world).pending;
                    seen.result("a name", grantflow::PendingAuthorization::name_in(&redirect).map(drop));
                    seen.result("an answer", pending.receive(&redirect, world.now.wall));
                    let finish = pending.finish(&client(), &redirect);
                    seen.debug("what finishes", &finish);
                    seen.run(&mut world, finish);
                }
                // The server's own answer, with the state in it.
                for members in [
                    format!("error={form}&error_description={form}&error_uri={form}"),
                    format!("code={form}&iss={form}"),
                    format!("code={form}&iss=https%3A%2F%2Fas.example"),
                ] {
                    let authorization = begin(&mut world);
                    let state = authorization.url.split("state=").nth(1).unwrap().split('&').next().unwrap();
                    let finish = authorization.pending.finish(&client(), &format!("{members}&state={state}"));
                    let finish = finish.audience(text).resource(text).extra(text, text);
                    seen.debug("what finishes", &finish);
                    seen.run(&mut world, finish);
                }
            },
        },
        Entry {
            names: &[
                "core TokenRequest::scopes",
                "core TokenRequest::resource",
                "core TokenRequest::audience",
                "core TokenRequest::extra",
                "core TokenRequest::granted",
            ],
            try_it: |text, seen| {
                asked(seen, Ok(token_request().scopes(text)));
                asked(seen, Ok(token_request().resource(text)));
                asked(seen, Ok(token_request().audience(text)));
                asked(seen, Ok(token_request().extra(text, text).extra(text, text)));
                asked(seen, Ok(token_request().granted(Scopes::from(text))));
            },
        },
        Entry {
            names: &[
                "core TokenRequest::password",
                "core TokenRequest::jwt_bearer",
                "core TokenRequest::refresh_token",
            ],
            try_it: |text, seen| {
                asked(seen, TokenRequest::password(&server(), &client(), text, text));
                asked(seen, TokenRequest::jwt_bearer(&server(), None, &text.into(), Scopes::from(text)));
                asked(seen, TokenRequest::jwt_bearer(&server(), Some(&client()), &text.into(), Scopes::default()));
                asked(seen, TokenRequest::refresh_token(&server(), &client(), &text.into()));
            },
        },
        Entry {
            names: &["core Revocation::new", "core Revocation::token_type_hint"],
            try_it: |text, seen| {
                let request = seen.result("a revocation", Revocation::new(&server(), &client(), &text.into())).unwrap();
                let request = request.token_type_hint(text);
                seen.debug("a revocation", &request);
                seen.run(&mut world(), request.exchange());
            },
        },
        Entry {
            names: &[
                "core DeviceAuthorization::scopes",
                "core DeviceAuthorization::resource",
                "core DeviceAuthorization::extra",
                "core DevicePolling::audience",
                "core DevicePolling::resource",
                "core DevicePolling::extra",
            ],
            try_it: |text, seen| {
                let new = || DeviceAuthorization::new(&server(), &client()).unwrap();
                device(seen, new().scopes(text));
                device(seen, new().resource(text));
                device(seen, new().extra(text, text).extra(text, text));
                let mut world = world();
                let code = || demo::device_code(&mut self::world(), "read").poll(&server(), &client()).unwrap();
                for polling in [code().audience(text), code().resource(text), code().extra(text, text)] {
                    seen.debug("polling", &polling);
                    seen.run(&mut world, polling);
                }
            },
        },
        Entry {
            names: &["core Request::post", "core Request::get", "core Request::new"],
            try_it: |text, seen| {
                // The word is part of the program: only what an address holds may leak.
                for address in [format!("https://as.example/?{text}"), format!("https://as.example/{text}")] {
                    if let Ok(endpoint) = Endpoint::new(&address) {
                        sent(seen, Request::post("asking", &endpoint));
                        sent(seen, Request::get("asking", &endpoint));
                        sent(seen, Request::new("asking", http::Method::PUT, &endpoint));
                    }
                }
                seen.text("nothing", "");
            },
        },
        Entry {
            names: &[
                "core Request::param",
                "core Request::secret",
                "core Request::extra",
                "core Request::header",
                "core Request::secret_header",
                "core Request::keeps_secret",
            ],
            try_it: |text, seen| {
                let new = || Request::post("asking", &endpoint());
                sent(seen, new().param(text, text).param(text, text));
                sent(seen, Request::get("asking", &endpoint()).param(text, text));
                sent(seen, new().secret("token", &text.into()));
                sent(seen, new().extra(text, text).extra(text, text));
                sent(seen, new().extra("x", text).json(&json!({"a": text})).param("y", text));
                sent(seen, new().header(text, text));
                sent(seen, new().header("x-y", text).header("x-y", text));
                sent(seen, new().secret_header("x-y", &text.into()).secret_header("x-y", &text.into()));
                sent(seen, new().secret_header(text, &text.into()));
                sent(seen, new().keeps_secret(&text.into()));
            },
        },
    ]
}

fn applications() -> Vec<Entry> {
    vec![
        Entry {
            names: &[
                "core InstalledApp::scopes",
                "core InstalledApp::redirect_uri",
                "core InstalledApp::host",
                "core InstalledApp::path",
            ],
            try_it: |text, seen| {
                installed(seen, app().scopes(text));
                for uri in [text.to_owned(), format!("http://127.0.0.1:1/{text}"), format!("http://localhost/?{text}")]
                {
                    installed(seen, app().redirect_uri(&uri));
                }
                installed(seen, app().host(text));
                installed(seen, app().path(text));
                installed(seen, app().path(&format!("/{text}")));
            },
        },
        Entry {
            names: &[
                "core InstalledApp::record_key",
                "core RecordKey::new",
                "core InstalledApp::is_covered_by",
                "core SaveGrant::asked",
                "core SharedGrant::asked",
            ],
            try_it: |text, seen| {
                let key = app().record_key(text);
                seen.text("a key", format!("{key} {key:?} {:?} {}", key.for_sign_in(), key.for_sign_in()));
                seen.debug("a key", &RecordKey::new(&issuer(), &Client::new(text), text));
                seen.text("nothing", app().is_covered_by(&Scopes::from(text), &Scopes::from(text)));
                let mut desk = World::default();
                let token = Token::bearer("x", Timestamp::from_unix(1), None).unwrap();
                let save = SaveGrant::new(key.clone(), Want::default(), &token).asked(text);
                seen.debug("saving", &save);
                seen.run(&mut desk, save);
                seen.run(&mut desk, LoadGrant::new(key.clone(), Want::default()));
                let source = SharedGrant::new(key, server(), &client());
                seen.debug("a shared grant", &source);
                seen.run(&mut desk, source.mint(&Want::default(), &source.first_state()));
                let (key, want) = (RecordKey::new(&issuer(), &client(), "x"), Want::default());
                let error = Error::new(ErrorKind::Store, "the store is away");
                if let Ok(source) = SharedGrant::signed_in(key, server(), &client(), &want, &token, error) {
                    let source = source.asked(text);
                    seen.debug("a shared grant", &source);
                    seen.run(&mut desk, source.mint(&want, &source.first_state()));
                }
            },
        },
        Entry {
            names: &[
                "core InstalledApp::prompt_message",
                "core InstalledApp::success_heading",
                "core InstalledApp::success_message",
                "core InstalledApp::browser",
                "core InstalledApp::announce",
            ],
            try_it: |text, seen| {
                installed(seen, app().prompt_message(Some(text)));
                installed(seen, app().prompt_message(Some(text)).open_browser(false));
                installed(seen, app().prompt_message(Some(text)).device());
                installed(seen, app().success_heading(text).success_message(text).browser(text));
                // What is announced is for the person, who gave it.
                let _ = app().announce(text);
            },
        },
        Entry {
            names: &[
                "core InstalledApp::resource",
                "core InstalledApp::token_extra",
                "core InstalledApp::token_audience",
                "core InstalledApp::prompt",
                "core InstalledApp::login_hint",
                "core InstalledApp::extra",
            ],
            try_it: |text, seen| {
                for app in [
                    app().resource(text),
                    app().token_extra(text, text),
                    app().token_audience(text),
                    app().prompt(text),
                    app().login_hint(text),
                    app().extra(text, text),
                ] {
                    seen.debug("a want", &app.want());
                    installed(seen, app.clone());
                    installed(seen, app.device());
                }
            },
        },
        Entry {
            names: &["core Receiver::hear", "core Receiver::paste", "core Receiver::paste_again"],
            try_it: |text, seen| {
                let now = Timestamp::from_unix(1_795_176_000);
                let mut receiver = at_once(app().start(50123), &mut world().cx()).unwrap();
                for request in [
                    text.to_owned(),
                    format!("GET /?code={text} HTTP/1.1\r\nHost: 127.0.0.1:50123\r\n\r\n"),
                    format!("GET /{text} HTTP/1.1\r\nHost: {text}\r\n\r\n"),
                ] {
                    let heard = receiver.hear(request.as_bytes(), now);
                    if let grantflow::loopback::Heard::Reply(page) | grantflow::loopback::Heard::Answered(page) = heard
                    {
                        seen.text("a page", String::from_utf8_lossy(&page));
                    }
                }
                for line in [text.to_owned(), format!("{REDIRECT}?code={text}&state={text}")] {
                    if let Err(error) = receiver.paste(&line, now) {
                        seen.error(&error);
                        seen.text("what to paste", Receiver::paste_again(&line, &error));
                    }
                }
                seen.debug("a receiver", &receiver);
            },
        },
    ]
}

fn sources() -> Vec<Entry> {
    vec![
        Entry {
            names: &[
                "core TokenRequest::token_exchange",
                "core TokenRequest::actor_token",
                "core TokenRequest::requested_token_type",
                "core ExchangedToken::actor_token",
                "core ExchangedToken::requested_token_type",
                "core ExchangedToken::subject_token_type",
            ],
            try_it: |text, seen| {
                let (server, client) = (server(), demo::batch());
                asked(seen, TokenRequest::token_exchange(&server, &client, &text.into(), text));
                let request = || TokenRequest::token_exchange(&server, &client, &"x".into(), "y").unwrap();
                asked(seen, Ok(request().actor_token(&text.into(), text)));
                asked(seen, Ok(request().requested_token_type(text)));
                let base = Credential::client_credentials(server.clone(), &client);
                let source = ExchangedToken::new(base, server.clone(), &client);
                let source = source.subject_token_type(text).actor_token(text, text).requested_token_type(text);
                seen.debug("a source", &source);
                let mint = source.mint(&Want::default(), &source.first_state());
                seen.run(&mut world(), mint);
            },
        },
        Entry {
            names: &[
                "core Client::new",
                "core Client::trusted_audience",
                "core ClientAuthentication::client_secret_basic",
                "core ClientAuthentication::client_secret_basic_unencoded",
                "core ClientAuthentication::client_secret_post",
                "core ClientAuthentication::private_key_jwt_with_legacy_audience",
                "core ClientAuthentication::client_secret_jwt",
                "core ClientAuthentication::client_secret_jwt_with_legacy_audience",
                "core ClientAuthentication::apple",
            ],
            try_it: |text, seen| {
                let signer = || SigningKey::from_pem(Algorithm::RS256, &private_key()).unwrap();
                for authentication in [
                    ClientAuthentication::client_secret_basic(text),
                    ClientAuthentication::client_secret_basic_unencoded(text),
                    ClientAuthentication::client_secret_post(text),
                    ClientAuthentication::private_key_jwt_with_legacy_audience(signer(), text),
                    ClientAuthentication::client_secret_jwt(text),
                    ClientAuthentication::client_secret_jwt(text.repeat(32)),
                    ClientAuthentication::client_secret_jwt_with_legacy_audience(text.repeat(32), text),
                    ClientAuthentication::apple(text, signer()),
                ] {
                    for client in [Client::new(text), Client::new("app").trusted_audience(text), Client::new("app")] {
                        let client = client.authentication(authentication.clone());
                        seen.debug("a client", &client);
                        asked(seen, TokenRequest::client_credentials(&server(), &client));
                        started(seen, AuthorizationRequest::new(&server(), &client, REDIRECT));
                        device(seen, DeviceAuthorization::new(&server(), &client).unwrap());
                        installed(seen, InstalledApp::new(&server(), &client));
                    }
                }
                asked(seen, TokenRequest::password(&server(), &Client::new(text), "a", "b"));
            },
        },
        Entry {
            names: &["core Credential::password", "core Credential::refresh_token"],
            try_it: |text, seen| {
                minted(seen, Credential::password(server(), &client(), text, text), &Want::default());
                minted(seen, Credential::refresh_token(server(), &client(), text), &Want::default());
            },
        },
        Entry {
            names: &["core Change::successor", "core GrantState::new"],
            try_it: |text, seen| {
                seen.debug("a change", &Change::successor(&text.into(), text));
                seen.debug("a state", &GrantState::new(text));
            },
        },
        Entry {
            names: &[
                "core Want::access_token",
                "core Want::id_token",
                "core Want::account",
                "core Want::subject",
                "core Want::audience",
                "core Want::resource",
            ],
            try_it: |text, seen| {
                wanted(seen, Want::access_token(text));
                wanted(seen, Want::access_token("x").self_signed().audience(text));
                wanted(seen, Want::id_token(text));
                wanted(seen, Want::access_token("x").account(text));
                wanted(seen, Want::access_token("x").subject(text));
                wanted(seen, Want::access_token("x").audience(text));
                wanted(seen, Want::access_token("x").resource(text));
            },
        },
    ]
}

fn google() -> Vec<Entry> {
    vec![
        Entry {
            names: &[
                "core AuthorizedUser::from_json",
                "core AuthorizedUser::from_json_with_any_server",
                "core ClientSecrets::from_json",
                "core ClientSecrets::from_json_with_any_server",
                "core GoogleCredential::from_json_of_any_type",
                "core ServiceAccount::from_json",
                "core ServiceAccount::from_json_with_any_server",
            ],
            try_it: |text, seen| {
                file(seen, text, AuthorizedUser::from_json);
                file(seen, text, AuthorizedUser::from_json_with_any_server);
                file(seen, text, ClientSecrets::from_json);
                file(seen, text, ClientSecrets::from_json_with_any_server);
                file(seen, text, GoogleCredential::from_json_of_any_type);
                file(seen, text, ServiceAccount::from_json);
                file(seen, text, ServiceAccount::from_json_with_any_server);
            },
        },
        Entry {
            names: &[
                "core AuthorizedUser::read",
                "core ClientSecrets::read",
                "core GoogleCredential::read",
                "core ServiceAccount::read",
            ],
            try_it: |text, seen| {
                path(seen, text, AuthorizedUser::read);
                path(seen, text, ClientSecrets::read);
                path(seen, text, GoogleCredential::read);
                path(seen, text, ServiceAccount::read);
                for name in [
                    "GOOGLE_APPLICATION_CREDENTIALS",
                    "CLOUDSDK_CONFIG",
                    "GOOGLE_CLOUD_PROJECT",
                    "GOOGLE_CLOUD_QUOTA_PROJECT",
                    "GCE_METADATA_HOST",
                    "METADATA_SERVER_DETECTION",
                    "NO_GCE_CHECK",
                    "APPDATA",
                ] {
                    for os in [Os::Unix, Os::Windows] {
                        let mut world = grantflow_tests::google::world();
                        world.env.insert(name, OsString::from(text));
                        let home = Some(format!("/home/{text}").into());
                        if let Some(found) = seen.run(&mut world, DefaultCredentials::new(Platform { os, home })) {
                            seen.debug("what was found", &found.credential);
                            seen.debug("where", &found.looked);
                            seen.run(
                                &mut world,
                                found.credential.mint(&Want::access_token("x"), &found.credential.first_state()),
                            );
                        }
                        world.google = None;
                        seen.run(&mut world, DefaultCredentials::new(Platform { os, home: None }));
                    }
                }
            },
        },
        Entry {
            names: &[
                "core AuthorizedUser::quota_project",
                "core ServiceAccount::quota_project",
                "core MetadataServer::quota_project",
                "core MetadataServer::host",
            ],
            try_it: |text, seen| {
                let user =
                    AuthorizedUser::from_json(grantflow_tests::google::authorized_user_json().to_string()).unwrap();
                let account =
                    ServiceAccount::from_json(grantflow_tests::google::service_account_json().to_string()).unwrap();
                let (user, account) = (user.quota_project(text), account.quota_project(text));
                let server = MetadataServer::new().quota_project(text);
                for (what, shown) in
                    [("a user", &user as &dyn std::fmt::Debug), ("an account", &account), ("a server", &server)]
                {
                    seen.debug(what, shown);
                }
                at_google(seen, &user);
                at_google(seen, &account);
                at_google(seen, &server);
                for host in [text.to_owned(), format!("{text}:80"), format!("x@{text}")] {
                    if let Some(server) = seen.result("a server", MetadataServer::new().host(&host)) {
                        at_google(seen, &server);
                    }
                }
            },
        },
        Entry {
            names: &["core api_key", "core by_name", "core ServiceAccount::with_signer"],
            try_it: |text, seen| {
                seen.result("a key", grantflow::google::api_key(text));
                let _ = grantflow::google::scopes::by_name(text);
                let account =
                    ServiceAccount::with_signer(text, SigningKey::from_pem(Algorithm::RS256, &private_key()).unwrap());
                seen.debug("an account", &account);
                at_google(seen, &account);
            },
        },
        Entry {
            names: &["core TokenInfo::of_access_token", "core TokenInfo::of_id_token", "core TokenInfo::at"],
            try_it: |text, seen| {
                let token = Secret::from(text);
                let mut world = grantflow_tests::google::world();
                for asking in [
                    TokenInfo::of_access_token(&token),
                    TokenInfo::of_id_token(&token),
                    TokenInfo::at(text, "access_token", &token),
                ] {
                    if let Some(asking) = seen.result("asking", asking) {
                        seen.run(&mut world, asking);
                    }
                }
            },
        },
    ]
}

fn values() -> Vec<Entry> {
    vec![
        Entry {
            names: &["core Proxies::from_env", "core Proxies::of"],
            try_it: |text, seen| {
                for name in ["https_proxy", "ALL_PROXY", "http_proxy", "NO_PROXY"] {
                    let read = |asked| (asked == name).then(|| text.into());
                    if let Some(proxies) = seen.result("proxies", Proxies::from_env(read)) {
                        seen.text(
                            "proxies",
                            format!("{proxies:?}").replace(&super::MARKER.to_lowercase(), super::MARKER),
                        );
                        seen.debug("a proxy", &proxies.of(&"https://as.example/".parse().unwrap()));
                    }
                }
            },
        },
        Entry {
            names: &["core Program::new", "core Program::args", "core Program::env", "core Exited::new"],
            try_it: |text, seen| {
                let program = Program::new(text).args([text]).env(text, text);
                seen.debug("a program", &program);
                let bytes = text.as_bytes().to_vec();
                seen.debug("what it printed", &Exited::new(Some(1), bytes.clone(), bytes.clone()));
                let source = ProgramToken::new(program);
                for (code, stdout) in [(Some(1), Vec::new()), (Some(0), bytes.clone()), (None, bytes.clone())] {
                    let mut mint = source.mint(&Want::default(), &source.first_state());
                    let mut cx = world().cx();
                    seen.debug("an effect", &mint.resume(&mut cx, Reply::Start));
                    let reply = Reply::Exec(Exited::new(code, stdout, bytes.clone()));
                    if let Step::Done(Err(error)) = mint.resume(&mut cx, reply) {
                        seen.error(&error);
                    }
                }
            },
        },
        Entry {
            names: &["core Identity::pem", "core Identity::named", "core x5t_s256"],
            try_it: |text, seen| {
                seen.debug("an identity", &Identity::pem(text, text));
                seen.debug("an identity", &Identity::named(text));
                seen.debug("a thumbprint", &grantflow::x5t_s256(text.as_bytes()));
                let shows = |identity: Identity| Client::new("app").identity(identity);
                seen.debug("a client", &shows(Identity::pem(text, text)));
                let by = ClientAuthentication::tls_client_auth;
                seen.debug("a client", &Client::new("app").authentication(by(Identity::pem(text, text))));
                seen.debug("an authentication", &by(Identity::named(text)));
                let by = ClientAuthentication::self_signed_tls_client_auth;
                seen.debug("an authentication", &by(Identity::pem(text, text)));
            },
        },
        Entry {
            names: &[
                "core Failure::not_sent",
                "core Failure::maybe_sent",
                "core Error::new",
                "core Error::with_source",
                "core Error::within",
            ],
            try_it: |text, seen| {
                // Their makers must give no secret; what looks like one is struck out all the same, unless it is JSON of
                // their own words.
                if text.starts_with('{') {
                    return seen.text("nothing", "");
                }
                let failure = Failure::not_sent(FailureKind::Other, "a reason");
                seen.error(&Error::new(ErrorKind::Config, text.to_owned()));
                seen.error(&Error::new(ErrorKind::Config, "x").within(text));
                seen.text(
                    "an error",
                    Error::new(ErrorKind::Config, "x").with_source(std::io::Error::other(text.to_owned())),
                );
                seen.debug("a failure", &failure);
                for failure in
                    [Failure::not_sent(FailureKind::Other, text), Failure::maybe_sent(FailureKind::Store, text)]
                {
                    seen.text("a failure", &failure);
                    seen.text("an error", Error::from(failure));
                }
            },
        },
        Entry {
            names: &["core Secret::matches", "core Secret::From<&str>", "core Secret::From<String>"],
            try_it: |text, seen| {
                seen.debug("a secret", &Secret::from(text));
                seen.debug("a secret", &Secret::from(text.to_owned()));
                seen.debug("nothing", &Secret::from("x").matches(text));
            },
        },
        Entry {
            names: &[
                "core Claims::get",
                "core Claims::str",
                "core Claims::time",
                "core Claims::bool",
                "core Claims::list",
                "core Token::get",
            ],
            try_it: |text, seen| {
                let token = demo::signed_in(&mut world(), "openid");
                let claims = token.id_token().unwrap().claims();
                seen.text(
                    "nothing",
                    claims.get(text).is_some() || claims.str(text).is_some() || claims.list(text).is_some(),
                );
                seen.text(
                    "nothing",
                    claims.bool(text).is_some() || claims.time(text).is_some() || token.get(text).is_some(),
                );
            },
        },
        Entry {
            names: &["core Token::bearer", "core Token::in_header", "core Token::with_scopes"],
            try_it: |text, seen| {
                let now = Timestamp::from_unix(1_795_176_000);
                seen.result("a token", Token::bearer(text, now, None));
                seen.result("a token", Token::in_header("x-goog-api-key".parse().unwrap(), text, now));
                seen.debug("a token", &Token::bearer("x", now, None).unwrap().with_scopes(Scopes::from(text)));
            },
        },
        Entry {
            names: &[
                "core Scopes::contains",
                "core Scopes::FromIterator<S>",
                "core Scopes::From<&str>",
                "core Scopes::From<String>",
                "core Scopes::From<&String>",
                "core Scopes::From<&Vec<S>>",
            ],
            try_it: |text, seen| {
                for scopes in [
                    Scopes::from(text),
                    Scopes::from(text.to_owned()),
                    Scopes::from(&text.to_owned()),
                    Scopes::from(&vec![text]),
                    [text].into_iter().collect(),
                    Scopes::from(vec![text]),
                    Scopes::from(&[text][..]),
                ] {
                    seen.text("scopes", format!("{scopes} {scopes:?} {scopes:#?} {}", scopes.contains("x")));
                }
            },
        },
        Entry {
            names: &["core Stored::from_bytes"],
            try_it: |text, seen| {
                for bytes in [
                    text.to_owned(),
                    format!("grantflow record {text}"),
                    format!("grantflow record 1 version {text}"),
                    format!("grantflow record 1 version 1 {text}"),
                    format!("grantflow record 1 version 1 0011223344556677\n{text}"),
                ] {
                    seen.result("a record", Stored::from_bytes(bytes.as_bytes()));
                }
            },
        },
        Entry {
            names: &["core Shown::path", "core Shown::name"],
            try_it: |text, seen| {
                for shown in [grantflow::Shown::path(text), grantflow::Shown::name(text)] {
                    seen.text("shown", format!("{shown} {shown:?}"));
                }
            },
        },
        Entry { names: &[], try_it: |_, seen| seen.debug("time", &Duration::ZERO) },
    ]
}
