//! What must hold for any bytes: nothing panics, nothing leaks, everything ends. Property tests and fuzz
//! targets call these.
//!
//! Some bytes stand for more than themselves, so that inputs get far: see [`splice`].

mod keys;
mod machines;
mod tokens;

use std::time::Duration;

use grantflow::authorize::ThirdPartyLogin;
use grantflow::crypto::{Algorithm, Signer, Signing};
use grantflow::exchange::{Received, Request};
use grantflow::google::ClientSecrets;
use grantflow::loopback::{Heard, Receiver, openable};
use grantflow::{
    AuthorizationRequest, Call, Client, ClientAuthentication, Cx, Deviation, Deviations, DeviceAuthorization,
    DeviceCode, Effect, Endpoint, Error, ErrorKind, FrontChannelLogout, InstalledApp, Issuer, Machine, Now,
    PendingAuthorization, Reply, Secret, ServerMetadata, Step, Timestamp, TokenRequest,
};
use http::Response;
pub use keys::{jws, key_set, private_key, sealed};
pub use machines::{any_replies, machines};
pub use tokens::{introspection_answer, presented_token, signed_token};
use url::Url;

use crate::at_once;
use crate::canary::{hidden, hidden_in_debug, hidden_in_error, shapes};

/// The secret that everything here holds and nothing may show.
pub const CANARY: &str = "c4n4ry-S3cret/+=";
/// The same as the password of Basic for the client `app`, in base64.
const BASIC: &str = "YXBwOmM0bjRyeS1TM2NyZXQlMkYlMkIlM0Q=";

const NOW: Timestamp = Timestamp::from_unix(1_795_176_000);

fn cx() -> Cx {
    Cx::new(Now { wall: NOW, mono: Duration::from_secs(1000) }, [7; 32])
}

fn server() -> ServerMetadata {
    let issuer = Issuer::new("https://as.example").expect("an issuer");
    let endpoint = |server: Result<ServerMetadata, _>| server.expect("an endpoint");
    let server = endpoint(ServerMetadata::new(issuer).authorization_endpoint("https://as.example/authorize"));
    let server = endpoint(server.token_endpoint("https://as.example/token"));
    let server = endpoint(server.revocation_endpoint("https://as.example/revoke"));
    server.member("device_authorization_endpoint", "https://as.example/device".into())
}

fn client(way: u8) -> Client {
    Client::new("app").authentication(match way % 5 {
        0 => ClientAuthentication::none(),
        1 => ClientAuthentication::client_secret_basic(CANARY),
        2 => ClientAuthentication::client_secret_post(CANARY),
        3 => ClientAuthentication::private_key_jwt(Far(false)),
        _ => ClientAuthentication::private_key_jwt(Far(true)),
    })
}

/// Signs in a key store that is shown the secret, or after asking for this and that for as long as anybody answers.
#[derive(Clone, Copy, Debug)]
struct Far(bool);

impl Signer for Far {
    fn algorithm(&self) -> Algorithm {
        Algorithm::ES256
    }
    fn sign(&self, message: &[u8], _: &mut Cx) -> Signing {
        if self.0 {
            return Signing::Remote(Box::new(Asking(0)));
        }
        let endpoint = Endpoint::new("https://kms.example/sign").expect("an address");
        let request = Request::post("signing", &endpoint)
            .secret_header("authorization", &format!("Bearer {CANARY}").into())
            .json(&serde_json::json!({"message": message}));
        Signing::Remote(Box::new(request.exchange(|received| Ok(received.response.body().clone()))))
    }
}

/// A signer of somebody's who asks too much, and does not know when it is over.
struct Asking(u32);

impl Machine for Asking {
    type Output = Vec<u8>;
    fn resume(&mut self, _: &mut Cx, reply: Reply) -> Step<Vec<u8>> {
        self.0 += 1;
        match (self.0 % 4, reply) {
            (_, Reply::File(signature)) => Step::Done(Ok(signature)),
            (0, _) if self.0 > 8 => Step::Done(Err(Error::new(ErrorKind::GrantLost, "no key"))),
            (0, _) => Step::Do(Effect::Env("KEY")),
            (1, _) => Step::Do(Effect::Sleep(Duration::from_secs(u64::from(self.0) * 9))),
            (2, _) => Step::Do(Effect::ReadFile { path: "/key".into(), max: 10 }),
            _ => {
                let request = http::Request::post("https://kms.example/").body(Vec::new()).expect("a request");
                Step::Do(Effect::Http(Call::new(request).with_timeout(Duration::from_secs(600))))
            }
        }
    }
}

/// Puts the secret where byte 1 stands, the same form-encoded for 2, as Basic for 3, `with` for 4.
pub fn splice(data: &[u8], with: &str) -> Vec<u8> {
    let encoded: String = url::form_urlencoded::byte_serialize(CANARY.as_bytes()).collect();
    let mut spliced = Vec::with_capacity(data.len() + 64);
    for byte in data {
        match byte {
            1 => spliced.extend_from_slice(CANARY.as_bytes()),
            2 => spliced.extend_from_slice(encoded.as_bytes()),
            3 => spliced.extend_from_slice(BASIC.as_bytes()),
            4 => spliced.extend_from_slice(with.as_bytes()),
            byte => spliced.push(*byte),
        }
    }
    spliced
}

/// An answer whose first byte chooses how it calls itself and what is tolerated, and the rest is the body.
fn answer(data: &[u8]) -> Option<(u8, Response<Vec<u8>>, Deviations)> {
    let (&choice, body) = data.split_first()?;
    let mut response = Response::new(splice(body, ""));
    let types = ["application/json", "text/plain", "application/x-www-form-urlencoded", ""];
    if let Ok(value) = types[usize::from(choice) % 4].parse() {
        response.headers_mut().insert("content-type", value);
    }
    let lenient = [Deviation::FormBody, Deviation::ZeroMeansNever, Deviation::OddTokenType, Deviation::NoIdToken]
        .into_iter()
        .fold(Deviations::TOLERATED, Deviations::with);
    Some((choice, response, [Deviations::NONE, Deviations::TOLERATED, lenient][usize::from(choice / 4) % 3]))
}

/// A token endpoint's answer. The first byte chooses how it calls itself and what is tolerated, the rest is the body.
pub fn token_answer(data: &[u8]) {
    let Some((choice, response, tolerated)) = answer(data) else { return };
    let server = server().tolerate(tolerated);
    let request = TokenRequest::refresh_token(&server, &client(choice), &Secret::from(CANARY)).expect("a request");
    let (_, parse) = request.into_parts();
    match parse(Received { response: &response, sent: NOW, now: NOW }).0 {
        Ok(token) => {
            assert!(!token.access_token().is_empty() && token.access_token().bytes().all(|b| matches!(b, 0x20..=0x7e)));
            assert!(token.expires_at().is_none_or(|end| end >= NOW), "nothing ends before it began");
            assert!(token.refresh_token().is_some(), "there was one before");
            assert!(tolerated != Deviations::NONE || token.deviations().is_empty());
            let _ = format!("{token:?}");
        }
        Err(error) => hidden_in_error(&error, &[CANARY]),
    }
}

/// A device authorization endpoint's answer, chosen by its bytes as [`token_answer`]'s.
pub fn device_answer(data: &[u8]) {
    let Some((choice, response, tolerated)) = answer(data) else { return };
    // A server that was told no secret has none to send back.
    match device_code(&server().tolerate(tolerated), &client(1 + choice % 2), response) {
        Ok(code) => {
            assert!(!code.user_code().is_empty() && !code.user_code().contains(char::is_control));
            for address in [Some(code.verification_uri()), code.verification_uri_complete()].into_iter().flatten() {
                openable(address).expect("an address for a person");
            }
            assert!(code.interval() >= Duration::from_secs(1) && code.expires_at() > NOW + code.interval());
            assert!(tolerated != Deviations::NONE || code.deviations().is_empty());
            let _ = format!("{code:?}");
        }
        Err(error) => hidden_in_error(&error, &[CANARY]),
    }
}

/// What comes of this answer.
fn device_code(server: &ServerMetadata, client: &Client, answer: Response<Vec<u8>>) -> Result<DeviceCode, Error> {
    let mut exchange = DeviceAuthorization::new(server, client)?.exchange();
    let Step::Do(_) = exchange.resume(&mut cx(), Reply::Start) else { panic!("no request") };
    match exchange.resume(&mut cx(), Reply::Http(answer)) {
        Step::Done(result) => result,
        Step::Do(effect) => panic!("an answer is the end: {effect:?}"),
    }
}

/// The URL that an authorization request of [`prop`](self) makes, and what it remembers.
fn pending() -> (String, PendingAuthorization) {
    let request = AuthorizationRequest::new(&server(), &client(1), "http://127.0.0.1:50123/").scopes("openid");
    let authorization = at_once(request.code_verifier("verifier-c4n4ry".repeat(3)).start(), &mut cx()).expect("a URL");
    (authorization.url, authorization.pending)
}

fn query_value(url: &str, name: &str) -> String {
    let (_, query) = url.split_once('?').unwrap_or_default();
    let mut pairs = url::form_urlencoded::parse(query.as_bytes());
    pairs.find(|(key, _)| key == name).map(|(_, value)| value.into_owned()).unwrap_or_default()
}

/// What came to the redirect URI. Byte 4 is the right `state`.
pub fn redirect(data: &[u8]) {
    let (url, pending) = pending();
    let state = query_value(&url, "state");
    let text = String::from_utf8_lossy(&splice(data, &state)).into_owned();
    sent_by_strangers(&text);
    match pending.receive(&text, NOW) {
        Ok(code) => {
            assert!(text.contains(&state), "believed without the state: {text:?}");
            hidden_in_debug("a code", &code, &[CANARY]);
        }
        Err(error) => {
            let known = [ErrorKind::InvalidRedirect, ErrorKind::Authorization];
            assert!(known.contains(&error.kind()), "{error:?}");
            assert!(error.kind() != ErrorKind::Authorization || text.contains(&state), "a stranger's error: {text:?}");
            // A fuzzer learns what is looked for, and writes the other shapes of the state into its input itself.
            let shown = format!("{error} {error:?}");
            assert!(!shown.contains(&state), "the error shows the state: {shown}");
            hidden_in_error(&error, &[&"verifier-c4n4ry".repeat(3)]);
        }
    }
}

/// What another site sends a browser to this one with: the begin of a sign-in, or the end of a session.
fn sent_by_strangers(text: &str) {
    if let Ok(login) = ThirdPartyLogin::read(text) {
        let page = login.target_link_uri("https://app.example");
        let here = Url::parse("https://app.example/login").expect("an address");
        let own = |page: &str| here.join(page).is_ok_and(|page| page.host_str() == Some("app.example"));
        assert!(page.is_none_or(own), "a page of another site: {page:?}");
        let _ = login.is_for(server().issuer());
    }
    if let Ok(logout) = FrontChannelLogout::read(text) {
        let ends_any = logout.ends("https://as.example", None);
        assert!(!ends_any || logout.ends("https://other.example", Some("s")), "one that names no session ends any");
    }
}

/// Bytes of a connection to the loopback receiver. Byte 4 is the right `state`, byte 5 the right head.
pub fn loopback_request(data: &[u8]) {
    let app = || at_once(InstalledApp::new(&server(), &client(0)).start(50123), &mut cx()).expect("a receiver");
    let receiver: Receiver = app();
    let state = query_value(receiver.url(), "state");
    let mut bytes = Vec::new();
    for part in splice(data, &state).split_inclusive(|byte| *byte == 5) {
        match part.split_last() {
            Some((5, before)) => {
                bytes.extend_from_slice(before);
                bytes.extend_from_slice(b" HTTP/1.1\r\nHost: 127.0.0.1:50123\r\n\r\n");
            }
            _ => bytes.extend_from_slice(part),
        }
    }
    let mut over = false;
    // However the bytes come in pieces.
    for end in [bytes.len() / 3, bytes.len() / 2, bytes.len().saturating_sub(1), bytes.len()] {
        let mut receiver = app();
        let page = match receiver.hear(&bytes[..end], NOW) {
            Heard::More => {
                assert!(end < 64 * 1024, "it reads on for ever");
                assert!(!over, "what was judged is not open again");
                continue;
            }
            Heard::Reply(page) => page,
            Heard::Answered(page) => {
                assert!(String::from_utf8_lossy(&bytes).contains(&state), "believed without the state");
                page
            }
        };
        over = true;
        let page = String::from_utf8(page).expect("a page is UTF-8");
        hidden("the page", &page, &[&state]);
        assert!(page.is_empty() || page.starts_with("HTTP/1.1 "), "{page}");
        assert!(!page.contains("<script") && !page.to_ascii_lowercase().contains("\nlocation:"), "{page}");
    }
}

/// A metadata document. Byte 4 is the right issuer.
pub fn metadata(data: &[u8]) {
    let issuer = Issuer::new("https://as.example").expect("an issuer");
    match ServerMetadata::from_json(&splice(data, issuer.as_str()), &issuer) {
        Err(error) => assert!(matches!(error.kind(), ErrorKind::InvalidResponse | ErrorKind::Issuer), "{error:?}"),
        Ok(server) => {
            assert_eq!(server.issuer(), &issuer);
            for endpoint in [server.authorization(), server.token(), server.revocation()].into_iter().flatten() {
                let address = endpoint.as_str();
                assert!(address.starts_with("https://") || address.starts_with("http://"), "{address}");
                assert!(address.bytes().all(|byte| matches!(byte, 0x21..=0x7e)), "{address:?}");
            }
            let request = AuthorizationRequest::new(&server, &client(0), "http://127.0.0.1:50123/").scopes("openid");
            if let Ok(authorization) = at_once(request.start(), &mut cx()) {
                let _ = openable(&authorization.url);
                assert!(authorization.url.contains("code_challenge_method=S256"));
            }
        }
    }
}

/// A client file of Google's.
pub fn client_file(data: &[u8]) {
    let file = splice(data, "https://oauth2.googleapis.com/token");
    match ClientSecrets::from_json(&file) {
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::Config);
            if !secret_in_an_address(&file) {
                hidden_in_error(&error, &[CANARY]);
            }
        }
        Ok(secrets) => {
            assert!(!secrets.client().id().is_empty());
            for endpoint in [secrets.server().authorization(), secrets.server().token()].into_iter().flatten() {
                let host = endpoint.as_str().split('/').nth(2).unwrap_or_default();
                assert!(host.ends_with(".googleapis.com") || host == "accounts.google.com", "{host}");
            }
            let _ = format!("{secrets:?}");
        }
    }
    let _ = ClientSecrets::from_json_with_any_server(&file).map(|secrets| format!("{secrets:?}"));
}

/// Whether a client file holds the secret where nobody keeps one: errors show addresses, less their query.
fn secret_in_an_address(file: &[u8]) -> bool {
    let file = file.strip_prefix(b"\xef\xbb\xbf").unwrap_or(file);
    let file: serde_json::Value = serde_json::from_slice(file).unwrap_or_default();
    let places = ["web", "installed"].into_iter().flat_map(|kind| ["auth_uri", "token_uri"].map(|name| (kind, name)));
    let mut addresses = places.filter_map(|(kind, name)| file[kind][name].as_str());
    addresses.any(|address| shapes(CANARY).iter().any(|shape| address.contains(shape)))
}
