//! What must hold for any bytes: nothing panics, nothing leaks, everything ends. Property tests and fuzz
//! targets call these.
//!
//! Some bytes stand for more than themselves, so that inputs get far: see [`splice`].

use std::time::Duration;

use grantflow::crypto::{Algorithm, Signer, Signing};
use grantflow::exchange::{Received, Request};
use grantflow::google::{ClientSecrets, DefaultCredentials, MetadataServer, TokenInfo};
use grantflow::loopback::{Heard, Receiver, openable};
use grantflow::machine::{Exited, FailureKind, Os, Platform, Program};
use grantflow::source::{Credential, ExchangedToken, ProgramToken, TokenSource, Want};
use grantflow::store::{RecordKey, SharedGrant, StoreReply, Stored};
use grantflow::{
    AuthorizationRequest, Call, Client, ClientAuthentication, Cx, Deviation, Deviations, DeviceAuthorization,
    DeviceCode, Discovery, Effect, Endpoint, Error, ErrorKind, Failure, InstalledApp, Issuer, Machine, Now,
    PendingAuthorization, Reply, Revocation, Secret, ServerMetadata, Step, Timestamp, TokenRequest, token_type,
};
use http::{Response, StatusCode};

use crate::at_once;
use crate::canary::{hidden, hidden_in_debug, hidden_in_error, shapes};

/// The secret that everything here holds and nothing may show.
pub const CANARY: &str = "c4n4ry-S3cret/+=";
/// The same as the password of Basic for the client `app`, in base64.
const BASIC: &str = "YXBwOmM0bjRyeS1TM2NyZXQlMkYlMkIlM0Q=";
/// The most steps that any machine may take.
const STEPS: usize = 64;

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

/// Any replies to any machine: the first byte chooses the machine, the rest makes the replies.
pub fn any_replies(data: &[u8]) {
    let mut source = Source(data);
    let (server, choice, way) = (server(), source.byte(), source.byte());
    let (client, secret) = (client(way), Secret::from(CANARY));
    let issuer = server.issuer().clone();
    let exchange = |request: Result<TokenRequest, Error>| request.map(TokenRequest::exchange);
    match choice % 20 {
        0 => {
            let (url, pending) = pending();
            let redirect = format!("?code={}&state={}", "c4n4ry-S3cret%2F%2B%3D", query_value(&url, "state"));
            let client = Client::new("app").authentication(ClientAuthentication::client_secret_post(CANARY));
            feed(Ok(pending.finish(&client, &redirect)), source);
        }
        1 => feed(exchange(TokenRequest::refresh_token(&server, &client, &secret)), source),
        2 => {
            let server = server.refresh_token_rotation(grantflow::Rotation::Never);
            feed(exchange(TokenRequest::refresh_token(&server, &client, &secret)), source);
        }
        3 => feed(exchange(TokenRequest::client_credentials(&server, &self::client(1 + way % 2))), source),
        4 => feed(exchange(TokenRequest::password(&server, &client, "user", CANARY)), source),
        5 => feed(Revocation::new(&server, &client, &secret).map(Revocation::exchange), source),
        6 => feed(Ok(Discovery::new(&issuer)), source),
        7 => feed(Ok(ClientSecrets::read("/etc/client_secret.json")), source),
        8 => {
            let credential = Credential::refresh_token(issuer, &client, secret);
            feed(Ok(credential.mint(&Want::access_token("a"), &credential.first_state())), source);
        }
        9 => {
            let credential = Credential::password(issuer, &client, "user", CANARY);
            feed(Ok(credential.mint(&Want::access_token("a"), &credential.first_state())), source);
        }
        10 => {
            let platform = Platform { os: Os::Unix, home: Some("/home/user".into()) };
            feed(Ok(DefaultCredentials::new(platform)), source);
        }
        11 => {
            let server = MetadataServer::new();
            feed(Ok(server.mint(&Want::access_token("a"), &server.first_state())), source);
        }
        12 => feed(TokenInfo::of_access_token(&secret), source),
        13 => {
            let client = self::client(1 + way % 2);
            feed(DeviceAuthorization::new(&server, &client).map(DeviceAuthorization::exchange), source);
        }
        18 => {
            let request = TokenRequest::token_exchange(&server, &client, &secret, token_type::JWT);
            feed(exchange(request.map(|request| request.actor_token(&secret, token_type::JWT))), source);
        }
        19 => {
            let stored = SharedGrant::new(RecordKey::new(&issuer, &client, "user"), issuer.clone(), &client);
            let middle = ExchangedToken::new(stored, &server, &client);
            let chain = ExchangedToken::new(middle, &server, &client).actor_token(secret, token_type::JWT);
            feed(Ok(chain.mint(&Want::access_token("a"), &chain.first_state())), source);
        }
        17 => {
            let program = ProgramToken::new(Program::new("/bin/get-token").args([CANARY]).env("KEY", CANARY));
            feed(Ok(program.mint(&Want::access_token("a"), &program.first_state())), source);
        }
        15 => feed(Ok(InstalledApp::new(&server, &client).start(50123)), source),
        14 => {
            let code = device_code(&server, &self::client(way % 3), Response::new(splice(BODIES[14].as_bytes(), "")));
            // As long as the code lives, and that by a clock that goes where it likes.
            let polling = code.and_then(|code| code.poll(&server, &client));
            feed_within(polling, source, STEPS + data.len(), Duration::from_secs(1800 + 12_800));
        }
        _ => {
            let grant = SharedGrant::new(RecordKey::new(&issuer, &client, "user"), issuer, &client);
            feed(Ok(grant.mint(&Want::access_token("a"), &grant.first_state())), source);
        }
    }
}

fn feed<M: Machine>(machine: Result<M, Error>, source: Source<'_>) {
    // No pause is longer than a whole exchange may take.
    feed_within(machine, source, STEPS, Duration::from_secs(30));
}

fn feed_within<M: Machine>(machine: Result<M, Error>, mut source: Source<'_>, steps: usize, longest: Duration) {
    let Ok(mut machine) = machine else { return };
    let (mut reply, mut now) = (Reply::Start, Now { wall: NOW, mono: Duration::from_secs(1000) });
    if source.byte() == 255 {
        reply = source.reply();
    }
    for _ in 0..steps {
        let mut cx = Cx::new(now, [source.byte(); 32]);
        match machine.resume(&mut cx, reply) {
            Step::Do(effect) => {
                hidden_in_debug("an effect", &effect, &[CANARY]);
                if let Effect::Sleep(time) = &effect {
                    assert!(*time < longest, "{time:?}");
                    now.mono += *time;
                }
                now.mono += Duration::from_millis(u64::from(source.byte()) * 50);
                // The wall clock may go where it likes.
                now.wall = Timestamp::from_unix(NOW.as_unix() + i64::from(source.byte()) * 100 - 12_800);
                reply = source.reply_to(&effect);
                hidden_in_debug("a reply", &reply, &[CANARY]);
            }
            Step::Done(result) => {
                if let Err(error) = result {
                    hidden_in_error(&error, &[CANARY]);
                }
                let again = machine.resume(&mut Cx::new(now, [0; 32]), source.reply());
                let misuse = matches!(&again, Step::Done(Err(error)) if error.kind() == ErrorKind::Misuse);
                assert!(misuse, "a call after the end");
                return;
            }
        }
    }
    panic!("no end after {steps} steps");
}

/// Bytes to decide by; zeros when they are used up.
#[derive(Clone, Copy)]
struct Source<'a>(&'a [u8]);

/// Bodies that get further than random bytes do. Byte 1 to 3 as in [`splice`].
const BODIES: [&str; 15] = [
    "",
    r#"{"access_token":"t","token_type":"Bearer","expires_in":3600,"refresh_token":"r","scope":"a"}"#,
    r#"{"access_token":"t","token_type":"Bearer","id_token":"eyJhbGciOiJSUzI1NiJ9.e30.c2ln"}"#,
    "{\"error\":\"invalid_grant\",\"error_description\":\"bad \u{1} \u{2} \u{3}\",\"error_uri\":\"https://x/?\u{2}\"}",
    "{\"error\":\"\u{1}\",\"error_description\":\"\u{1}\u{1}\"}",
    "{\"error\":{\"message\":\"\u{1}\",\"type\":\"\u{2}\"}}",
    "error=\u{2}&error_description=\u{2}",
    r#"{"issuer":"https://as.example","token_endpoint":"https://as.example/token","authorization_endpoint":"https://as.example/a"}"#,
    "{\"issuer\":\"https://as.example\",\"token_endpoint\":\"javascript:\u{1}\"}",
    "{\"installed\":{\"client_id\":\"x\",\"client_secret\":\"\u{1}\",\"auth_uri\":\"https://accounts.google.com/a\",\"token_uri\":\"https://oauth2.googleapis.com/token\"}}",
    "{\"installed\":{\"client_id\":\"\u{1}\",\"client_secret\":\"\u{1}\",\"auth_uri\":\"http://x/?\u{1}\"}}",
    "<html>\u{1}",
    "{\"type\":\"authorized_user\",\"client_id\":\"x\",\"client_secret\":\"\u{1}\",\"refresh_token\":\"\u{1}\"}",
    "grantflow record 1 version 1 0011223344556677\n{\"refresh_token\":\"\u{1}\"}",
    "{\"device_code\":\"\u{1}\",\"user_code\":\"WDJB-MJHT\",\"verification_uri\":\"https://x/\",\"expires_in\":1800}",
];

impl Source<'_> {
    fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    fn bytes(&mut self) -> Vec<u8> {
        let choice = usize::from(self.byte());
        if let Some(body) = BODIES.get(choice) {
            return splice(body.as_bytes(), "");
        }
        let length = (choice - BODIES.len()).min(self.0.len());
        let (taken, rest) = self.0.split_at(length);
        self.0 = rest;
        splice(taken, "")
    }

    /// A reply that fits the effect, mostly.
    fn reply_to(&mut self, effect: &Effect) -> Reply {
        match (self.byte(), effect) {
            (0..32, Effect::Http(_)) => Reply::Slept,
            (0..32, _) => self.reply(),
            (32..40, _) => Reply::Refused,
            (40..80, _) => Reply::Failed(self.failure()),
            // A server that was told no secret has none to send back.
            (_, Effect::Http(call)) if format!("{call:?}").starts_with("GET ") => {
                let mut response = self.response();
                let body = String::from_utf8_lossy(response.body()).into_owned();
                *response.body_mut() = shapes(CANARY).iter().fold(body, |body, shape| body.replace(shape, "x")).into();
                Reply::Http(response)
            }
            (_, Effect::Http(_)) => Reply::Http(self.response()),
            (_, Effect::Sleep(_)) => Reply::Slept,
            (_, Effect::ReadFile { .. }) => Reply::File(self.bytes()),
            (_, Effect::Env(_)) => Reply::Env(Some("/etc/some-file.json".into()).filter(|_| self.byte() < 128)),
            (_, Effect::Store(_)) => Reply::Store(self.store_reply()),
            (_, Effect::Exec(_)) => Reply::Exec(self.exited()),
            _ => Reply::Refused,
        }
    }

    /// What a program printed, perhaps the secret on standard error.
    fn exited(&mut self) -> Exited {
        let code = Some(i32::from(self.byte() % 3)).filter(|code| *code < 2);
        let stdout = self.bytes();
        Exited::new(code, stdout, self.bytes())
    }

    fn reply(&mut self) -> Reply {
        match self.byte() % 9 {
            0 => Reply::Refused,
            1 => Reply::Start,
            2 => Reply::Http(self.response()),
            3 => Reply::Slept,
            4 => Reply::Env(Some("some value".into())),
            5 => Reply::File(self.bytes()),
            6 => Reply::Missing,
            8 => Reply::Exec(self.exited()),
            _ => Reply::Failed(self.failure()),
        }
    }

    fn store_reply(&mut self) -> StoreReply {
        match self.byte() % 8 {
            0 => StoreReply::Loaded(None),
            1 => StoreReply::Loaded(Stored::from_bytes(&self.bytes()).ok()),
            2 | 3 => StoreReply::Leased(None),
            4 => StoreReply::Busy,
            5 => StoreReply::Conflict,
            6 => StoreReply::Released,
            _ => StoreReply::Saved,
        }
    }

    fn failure(&mut self) -> Failure {
        use FailureKind::*;
        let kinds = [Connect, Tls, Broken, Timeout, TooLarge, Forbidden, File, Other];
        let kind = kinds[usize::from(self.byte()) % kinds.len()];
        if self.byte() < 128 { Failure::not_sent(kind, "x") } else { Failure::maybe_sent(kind, "x") }
    }

    fn response(&mut self) -> Response<Vec<u8>> {
        const STATUSES: [u16; 14] = [200, 201, 204, 301, 307, 400, 401, 403, 404, 408, 429, 500, 503, 999];
        let status = STATUSES[usize::from(self.byte()) % STATUSES.len()];
        let types = ["application/json", "application/x-www-form-urlencoded", "text/html", ""];
        let content_type = types[usize::from(self.byte()) % types.len()];
        let waits = ["", "", "0", "5", "29", "99999999999", "Fri, 20 Nov 2026 12:00:09 GMT", "x"];
        let retry_after = waits[usize::from(self.byte()) % waits.len()];
        let mut response = Response::new(self.bytes());
        *response.status_mut() = StatusCode::from_u16(status).unwrap_or_default();
        for (name, value) in [("content-type", content_type), ("retry-after", retry_after), ("location", "https://x/")]
        {
            if let Ok(value) = value.parse() {
                response.headers_mut().insert(name, value);
            }
        }
        response
    }
}
