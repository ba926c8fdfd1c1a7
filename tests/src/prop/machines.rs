//! Any replies to any machine: each ends, says no secret, and knows that it is over.

use std::time::Duration;

use grantflow::crypto::{Algorithm, SigningKey};
use grantflow::google::{
    AccessBoundaryRule, AccessTokenFile, AuthorizedUser, ClientSecrets, DefaultCredentials, Downscoped,
    ExternalAccount, IamSigner, Impersonated, MetadataServer, RegionalAccess, ServiceAccount, TokenInfo, sign_blob,
};
use grantflow::jose::{JwkSet, KeySet};
use grantflow::machine::{Exited, FailureKind, Os, Platform, Program};
use grantflow::register::{ClientMetadata, RegisteredClient, Registration};
use grantflow::resource::ProtectedResource;
use grantflow::source::{
    AssertedToken, Credential, ExchangedToken, Mint, PlatformToken, ProgramToken, TokenSource, Want,
};
use grantflow::store::{
    CountGrants, DeleteGrant, DpopKeyInStore, EndGrants, ListGrants, LoadGrant, Page, RecordKey, RegistrationInStore,
    RewriteGrants, SaveGrant, SharedGrant, SignOut, StoreOp, StoreReply, Stored, Which,
};
use grantflow::{
    AuthorizationRequest, BackchannelAuthentication, Client, ClientAuthentication, Cx, Deviation, Deviations,
    DeviceAuthorization, Discovery, DpopKey, Effect, Endpoint, Error, ErrorKind, Failure, InstalledApp, Introspection,
    Issuer, Machine, Now, Reply, Revocation, Step, Timestamp, Token, TokenExchange, TokenRequest, UserInfo, Verifier,
    token_type,
};
use http::{Response, StatusCode};
use serde_json::json;

use super::{CANARY, Far, NOW, client, device_code, pending, query_value, server, splice};
use crate::canary::{hidden_in_debug, hidden_in_error, shapes};

/// The most steps that any machine may take.
const STEPS: usize = 64;

/// The machines: each is made of a byte that chooses among its kinds, and fed.
const MACHINES: &[fn(Source<'_>, u8)] = &[
    // Tokens.
    |source, _| {
        let (url, pending) = pending();
        let redirect = format!("?code={}&state={}", "c4n4ry-S3cret%2F%2B%3D", query_value(&url, "state"));
        feed(Ok(pending.finish(&secret_client(), &redirect)), source);
    },
    |source, way| feed(refresh(&client(way)), source),
    |source, way| {
        let server = server().refresh_token_rotation(grantflow::Rotation::Never);
        feed(exchange(TokenRequest::refresh_token(&server, &client(way), &CANARY.into())), source);
    },
    |source, way| feed(exchange(TokenRequest::client_credentials(&server(), &client(1 + way % 2))), source),
    |source, way| feed(exchange(TokenRequest::password(&server(), &client(way), "user", CANARY)), source),
    |source, way| feed(Revocation::new(&server(), &client(way), &CANARY.into()).map(Revocation::exchange), source),
    |source, _| feed(Ok(Discovery::new(server().issuer())), source),
    |source, _| feed(Ok(ClientSecrets::read("/etc/client_secret.json")), source),
    |source, way| feed(mint(&Credential::refresh_token(server(), &client(way), CANARY), way), source),
    |source, way| feed(mint(&Credential::password(issuer(), &client(way), "user", CANARY), way), source),
    |source, _| {
        let platform = Platform { os: Os::Unix, home: Some("/home/user".into()) };
        feed(Ok(DefaultCredentials::new(platform)), source);
    },
    |source, way| feed(mint(&MetadataServer::new(), way), source),
    |source, _| feed(TokenInfo::of_access_token(&CANARY.into()), source),
    |source, way| {
        let request = DeviceAuthorization::new(&server(), &client(1 + way % 2));
        feed(request.map(DeviceAuthorization::exchange), source);
    },
    |source, way| {
        let client = client(way % 3);
        let code = device_code(&server(), &client, Response::new(splice(BODIES[14].as_bytes(), "")));
        // As long as the code lives, and that by a clock that goes where it likes.
        let polling = code.and_then(|code| code.poll(&server(), &client));
        feed_within(polling, source, Duration::from_secs(1800 + 12_800));
    },
    |source, way| feed(Ok(InstalledApp::new(&server(), &client(way)).start(50123)), source),
    |source, way| feed(mint(&shared_grant(way), way), source),
    |source, way| {
        let program = Program::new("/bin/get-token").args([CANARY]).env("KEY", CANARY);
        feed(mint(&ProgramToken::new(program), way), source);
    },
    |source, way| {
        let request = TokenRequest::token_exchange(&server(), &client(way), &CANARY.into(), token_type::JWT);
        feed(exchange(request.map(|request| request.actor_token(&CANARY.into(), token_type::JWT))), source);
    },
    |source, way| {
        let middle = ExchangedToken::new(shared_grant(way), server(), &client(way));
        let chain = ExchangedToken::new(middle, server(), &client(way)).actor_token(CANARY, token_type::JWT);
        feed(mint(&chain, way), source);
    },
    |source, way| {
        let request = TokenRequest::jwt_bearer(&server(), Some(&client(way)), &CANARY.into(), "a".into());
        feed(exchange(request), source);
    },
    |source, way| feed(refresh(&client(way)).map(TokenExchange::ahead), source),
    |source, _| {
        // The answer to another request.
        let (url, theirs) = pending();
        let (_, ours) = pending();
        let answer = theirs.receive(&format!("?code=c&state={}", query_value(&url, "state")), NOW);
        feed(answer.map(|answer| ours.finish_with(&secret_client(), answer)), source);
    },
    |source, way| feed(mint(&Credential::refresh_token(issuer(), &client(way), CANARY), way), source),
    |source, way| feed(mint(&Credential::fixed(token()), way), source),
    |source, way| {
        // Google is sent an assertion alone.
        let account = ServiceAccount::with_signer("robot@example.org", Far(way % 2 == 0));
        feed(mint(&account, way), Source(source.0, false));
    },
    |source, way| {
        // What its signer asks for is the signer's own, and has no bound here.
        let account = ServiceAccount::with_signer("robot@example.org", Far(false));
        feed(account.assertion(&want(way), NOW), source);
    },
    |source, way| {
        let user = AuthorizedUser::from_json(authorized_user()).expect("a user");
        feed(mint(&if way % 2 == 0 { user } else { user.quota_project("no project\n") }, way), source);
    },
    |source, way| feed(mint(&ExchangedToken::new(Credential::fixed(token()), issuer(), &client(way)), way), source),
    |source, way| feed(mint(&external_account(way), way), source),
    |source, way| {
        let source_of_all = Impersonated::new(Credential::fixed(token()), "robot@example.org").expect("an address");
        // Not for a subject: what is exchanged then is none of the secrets that are looked for.
        let want = if way % 2 == 0 { Want::access_token("a") } else { Want::id_token("https://api.example") };
        feed(Ok(source_of_all.mint(&want, &source_of_all.first_state())), source);
    },
    |source, _| {
        let rule = AccessBoundaryRule::new("//storage.googleapis.com/projects/_/buckets/b", ["inRole:roles/viewer"]);
        let source_of_all = Downscoped::new(Credential::fixed(token()), [rule]).expect("a boundary");
        feed(mint(&source_of_all, 0), source);
    },
    |source, _| feed(sign_blob("robot@example.org", &token(), b"bytes"), source),
    |source, _| {
        let signer = IamSigner::new(MetadataServer::new(), "robot@example.org");
        feed(signer.map(|signer| ServiceAccount::with_signer("robot@example.org", signer).sign_blob(b"bytes")), source)
    },
    |source, _| {
        let bounded = RegionalAccess::of_service_account(Credential::fixed(token()), "robot@example.org");
        feed(mint(&bounded.expect("an address"), 0), source);
    },
    |source, way| {
        let file = if way % 2 == 0 { AccessTokenFile::of_gcloud() } else { AccessTokenFile::new("/token") };
        feed(mint(&file, 0), source);
    },
    // What is asked besides.
    |source, _| feed(Ok(Discovery::of_stranger(server().issuer())), source),
    |source, way| {
        let server = server().jwks_uri("https://as.example/keys").expect("an address");
        let asking = UserInfo::new(&server, &token());
        let asking = if way % 2 == 0 { asking } else { asking.and_then(|asking| asking.signed(&client(way))) };
        feed(asking.map(UserInfo::exchange), source);
    },
    |source, way| feed(Ok(AuthorizationRequest::new(&server(), &client(way), "http://127.0.0.1:1/").start()), source),
    |source, way| feed(Ok(InstalledApp::new(&server(), &client(way)).host("no host").start(50123)), source),
    |source, way| {
        let server = server().pushed_authorization_request_endpoint("https://as.example/par").expect("an endpoint");
        let request = AuthorizationRequest::new(&server, &client(way), "http://127.0.0.1:1/").scopes("openid");
        let request = if way < 128 { request.sign(Far(way % 2 == 0)) } else { request };
        feed(Ok(if way % 64 < 48 { request.push().start() } else { request.start() }), source);
    },
    // Tokens of others.
    |source, way| {
        let verifier = Verifier::id_tokens(&issuer(), "app");
        let verifier = if way % 2 == 0 { verifier.of_stranger() } else { verifier.jwks_uri("https://as.example/keys") };
        feed(verifier.map(|verifier| verifier.verify(&super::tokens::id_token(CANARY))), source);
    },
    |source, way| {
        let verifier = Verifier::access_tokens(&issuer(), "https://api.example").jwks_uri("https://as.example/keys");
        let old = KeySet::fixed(JwkSet::default());
        let now = Now { wall: NOW, mono: Duration::from_secs(1000) };
        feed(verifier.map(|verifier| verifier.read_keys((way % 2 == 0).then_some(&old), now)), source);
    },
    |source, way| feed(introspection(way).map(|introspection| introspection.of(CANARY)), source),
    // Files and stores.
    |source, _| feed(Ok(AuthorizedUser::read("/etc/user.json")), source),
    |source, way| feed(Ok(LoadGrant::new(key(way), want(way))), source),
    |source, way| feed(Ok(SaveGrant::new(key(way), want(way), &token())), source),
    |source, way| feed(Ok(SignOut::new(key(way), &server(), &client(way))), source),
    |source, way| feed(Ok(DeleteGrant::new(key(way))), source),
    |source, way| feed(Ok(ListGrants::new(Which::label("a"), usize::from(way))), source),
    |source, _| feed(Ok(CountGrants::new(Which::label("a"))), source),
    |source, _| feed(Ok(EndGrants::delete(Which::label("a"))), source),
    |source, way| feed(Ok(EndGrants::sign_out(Which::label("a"), &server(), &client(way))), source),
    |source, _| feed(Ok(RewriteGrants::new(Which::label("a"))), source),
    |source, way| feed(Ok(DpopKeyInStore::new(&issuer(), &client(way))), source),
    // With a proof of the client's key.
    |source, way| feed(refresh(&client(way).dpop(dpop_key())), source),
    // Registrations.
    |source, _| feed(Ok(registration().exchange()), source),
    |source, way| match way % 2 {
        0 => feed(registered().read(), source),
        _ => feed(registered().update(ClientMetadata::new().software_statement("x.y.z")), source),
    },
    |source, way| {
        let issuer = issuer();
        let machine = match way % 5 {
            0 => RegistrationInStore::new(registration()),
            1 => RegistrationInStore::read(&issuer),
            2 => RegistrationInStore::update(&issuer, ClientMetadata::new().software_statement("x.y.z")),
            3 => RegistrationInStore::delete(&issuer),
            _ => RegistrationInStore::keep(registered()),
        };
        feed(Ok(machine), source);
    },
    // A sign-in without a browser.
    |source, way| feed(backchannel(way).map(BackchannelAuthentication::start), source),
    // Protected resources, and tokens of no person.
    |source, way| {
        let client = secret_client().registered_at(issuer());
        let resource = ProtectedResource::mcp("https://as.example/mcp").map(|it| it.client(client));
        feed(
            resource.map(|resource| match way % 3 {
                0 => resource.find(),
                1 => resource.tolerate(Deviations::TOLERATED.with(Deviation::NoResourceMetadata)).find(),
                _ => resource.authorization_server(issuer()).find(),
            }),
            source,
        );
    },
    |source, way| {
        let place = Endpoint::new("https://platform.example/token").expect("an address");
        let platform = match way % 4 {
            0 => PlatformToken::file("/token"),
            1 => PlatformToken::env("TOKEN"),
            2 => PlatformToken::at(&place).secret_header("authorization", &CANARY.into()),
            _ => PlatformToken::at(&place).member("access_token"),
        };
        feed(mint(&AssertedToken::new(platform, server()).client(&client(way)), way), source);
    },
    |source, way| {
        let base = Credential::refresh_token(server(), &client(way), CANARY);
        let kind = token_type::REFRESH_TOKEN;
        let chain =
            AssertedToken::identity_assertion(base, kind, issuer(), &client(way), server(), "https://as.example/mcp");
        feed(mint(&chain, way), source);
    },
];

fn backchannel(way: u8) -> Result<BackchannelAuthentication, Error> {
    let server = server().backchannel_authentication_endpoint("https://as.example/bc")?;
    let request = BackchannelAuthentication::new(&server, &client(1 + way % 2))?.login_hint_token(&CANARY.into());
    Ok(match way % 4 {
        0 | 2 => request,
        other => request.sign(Far(other == 1)),
    })
}

fn registration() -> Registration {
    let server = server().registration_endpoint("https://as.example/register").expect("an endpoint");
    let registration = Registration::new(&server, ClientMetadata::new().redirect_uris(["https://app.example/"]));
    registration.expect("a registration").initial_access_token(CANARY)
}

fn registered() -> RegisteredClient {
    serde_json::from_value(registered_json()).expect("a registered client")
}

fn registered_json() -> serde_json::Value {
    json!({"issuer": "https://as.example", "client_id": "app", "client_secret": CANARY, "asked": {}, "registered": {},
        "registration_access_token": CANARY, "registration_client_uri": "https://as.example/register/app"})
}

/// Any replies to any machine: the first byte chooses the machine, the second one of its kinds, the rest makes the
/// replies.
pub fn any_replies(data: &[u8]) {
    let mut source = Source(data, true);
    let (choice, way) = (usize::from(source.byte()), source.byte());
    MACHINES[choice % MACHINES.len()](source, way);
}

/// How many machines [`any_replies`] chooses among.
pub fn machines() -> usize {
    MACHINES.len()
}

fn issuer() -> Issuer {
    server().issuer().clone()
}

fn secret_client() -> Client {
    Client::new("app").authentication(ClientAuthentication::client_secret_post(CANARY))
}

fn dpop_key() -> DpopKey {
    let now = Now { wall: NOW, mono: Duration::from_secs(1000) };
    SigningKey::generate(Algorithm::ES256, &mut Cx::new(now, [3; 32])).expect("a key").into()
}

fn token() -> Token {
    Token::bearer(CANARY, NOW, Some(NOW + Duration::from_secs(5))).expect("a token")
}

fn key(way: u8) -> RecordKey {
    RecordKey::new(&issuer(), &client(way), "user")
}

fn introspection(way: u8) -> Result<Introspection, Error> {
    let server =
        server().introspection_endpoint("https://as.example/introspect")?.jwks_uri("https://as.example/keys")?;
    let introspection = Introspection::new(&server, &client(1 + way % 2))?;
    if (way / 2).is_multiple_of(2) { Ok(introspection) } else { introspection.signed(&server) }
}

fn shared_grant(way: u8) -> SharedGrant {
    SharedGrant::new(key(way), issuer(), &client(way))
}

fn authorized_user() -> String {
    format!(r#"{{"type":"authorized_user","client_id":"x","client_secret":"{CANARY}","refresh_token":"{CANARY}"}}"#)
}

fn exchange(request: Result<TokenRequest, Error>) -> Result<TokenExchange, Error> {
    request.map(TokenRequest::exchange)
}

fn refresh(client: &Client) -> Result<TokenExchange, Error> {
    exchange(TokenRequest::refresh_token(&server(), client, &CANARY.into()))
}

/// What is wanted: a plain access token, or what not every source has.
fn want(way: u8) -> Want {
    match way / 5 % 8 {
        1 => Want::access_token("a").audience("https://api.example"),
        2 => Want::access_token("a").resource("https://api.example"),
        3 => Want::access_token("a").subject("somebody"),
        4 => Want::access_token("a").account("no account\n"),
        5 => Want::id_token("https://api.example"),
        6 => Want::access_token("a").self_signed(),
        _ => Want::access_token("a"),
    }
}

fn mint(source: &dyn TokenSource, way: u8) -> Result<Mint, Error> {
    Ok(source.mint(&want(way), &source.first_state()))
}

fn feed<M: Machine>(machine: Result<M, Error>, source: Source<'_>) {
    // No pause is longer than a whole exchange may take.
    feed_within(machine, source, Duration::from_secs(30));
}

fn feed_within<M: Machine>(machine: Result<M, Error>, mut source: Source<'_>, longest: Duration) {
    let Ok(mut machine) = machine else { return };
    let steps = STEPS + source.0.len();
    let mut now = Now { wall: NOW, mono: Duration::from_secs(1000) };
    let mut reply = if source.byte() == 255 { source.reply() } else { Reply::Start };
    let begins = matches!(reply, Reply::Start);
    for step in 0..steps {
        let mut cx = Cx::new(now, [source.byte(); 32]);
        match machine.resume(&mut cx, reply) {
            Step::Do(effect) => {
                assert!(begins || step > 0, "it begins without a start: {effect:?}");
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
                return stays_ended(&mut machine, now, source);
            }
        }
    }
    panic!("no end after {steps} steps");
}

/// A machine that has ended is misused by whoever calls it again, whatever the reply.
fn stays_ended<M: Machine>(machine: &mut M, now: Now, mut source: Source<'_>) {
    let replies = [
        Reply::Start,
        Reply::Slept,
        Reply::Refused,
        Reply::Missing,
        Reply::Env(None),
        Reply::Http(Response::new(BODIES[1].into())),
        Reply::File(BODIES[12].into()),
        Reply::Store(StoreReply::Loaded(None)),
        Reply::Store(StoreReply::Saved),
        Reply::Exec(Exited::new(Some(0), b"token".to_vec(), Vec::new())),
        Reply::Failed(Failure::not_sent(FailureKind::Connect, "x")),
        source.reply(),
    ];
    for reply in replies {
        let name = reply.name();
        match machine.resume(&mut Cx::new(now, [0; 32]), reply) {
            Step::Done(Err(error)) if error.kind() == ErrorKind::Misuse => {}
            Step::Done(Err(error)) => panic!("after the end, {name} gives {error:?}"),
            Step::Done(Ok(_)) => panic!("after the end, {name} gives a result once more"),
            Step::Do(effect) => panic!("after the end, {name} makes it ask for {effect:?}"),
        }
    }
}

/// Bytes to decide by, zeros when they are used up; and whether servers are told the secret.
#[derive(Clone, Copy)]
struct Source<'a>(&'a [u8], bool);

/// Bodies that get further than random bytes do. Byte 1 to 3 as in [`splice`].
const BODIES: [&str; 19] = [
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
    "{\"type\":\"service_account\",\"client_email\":\"x\",\"private_key\":\"\u{1}\"}",
    "{\"device_code\":\"\u{1}\",\"user_code\":\"WDJB-MJHT\",\"verification_uri\":\"https://x/\",\"expires_in\":1800}",
    r#"{"issuer":"https://as.example","jwks_uri":"https://as.example/keys"}"#,
    r#"{"keys":[{"kty":"EC","crv":"P-256","x":"AA","y":"AA"},{"kty":"oct","k":"AA"},7]}"#,
    "{\"active\":true,\"sub\":\"\u{1}\",\"scope\":\"a \u{1}\",\"exp\":1795179600}",
    "{\"client_id\":\"x\",\"client_secret\":\"\u{1}\",\"registration_access_token\":\"\u{2}\",\"registration_client_uri\":\"https://x/\"}",
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
            (_, Effect::Http(call)) => {
                let mut response = self.response();
                // A server that was told no secret has none to send back.
                if !self.1 || format!("{call:?}").starts_with("GET ") {
                    let body = String::from_utf8_lossy(response.body()).into_owned();
                    let body = shapes(CANARY).iter().fold(body, |body, shape| body.replace(shape, "x"));
                    *response.body_mut() = body.into();
                }
                Reply::Http(response)
            }
            (_, Effect::Sleep(_)) => Reply::Slept,
            (_, Effect::ReadFile { .. }) => Reply::File(self.bytes()),
            (_, Effect::Env(_)) => Reply::Env(Some("/etc/some-file.json".into()).filter(|_| self.byte() < 128)),
            (_, Effect::Store(StoreOp::List { .. })) => {
                let keys = (0..self.byte() % 3).map(key).collect();
                Reply::Store(StoreReply::Listed(Page { keys, more: self.byte() < 32 }))
            }
            (_, Effect::Store(StoreOp::Count { .. })) => Reply::Store(StoreReply::Counted(u64::from(self.byte()))),
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
            1 => StoreReply::Loaded(Some(self.stored())),
            2 | 3 => StoreReply::Leased(None),
            4 => StoreReply::Busy,
            5 => StoreReply::Conflict,
            6 => StoreReply::Released,
            _ => StoreReply::Saved,
        }
    }

    /// A grant in any state that its record may tell of, with a token for [`want`] perhaps; sometimes any bytes instead.
    fn stored(&mut self) -> Stored {
        let version = 1 + u64::from(self.byte() % 3);
        if self.byte() >= 192 {
            return Stored::new(version, self.bytes());
        }
        let mut moment = |unit: i64| Timestamp::from_unix(NOW.as_unix() + (i64::from(self.byte()) - 128) * unit);
        let token = json!({
            "access_token": CANARY, "issued_at": NOW, "expires_at": moment(60), "scopes": "a", "version": version,
        });
        let intent = json!({"since": moment(60), "deadline": moment(1), "tries": 1});
        let state = self.byte();
        let grant = if state & 1 == 0 { "g" } else { "h" };
        let rotation = ["Unknown", "Never", "Rotates", "Rotates"][usize::from(state >> 1 & 3)];
        let mut record = json!({
            "reader": 1, "key": key(0), "grant": grant, "generation": version, "refresh_token": CANARY, "scopes": "a",
            "rotation": rotation, "staying": state >> 5,
        });
        if state & 8 != 0 {
            record["tokens"] = json!({"[\"access_token\",\"a\",null,null,null,null]": token});
        }
        if state & 16 != 0 {
            record["intent"] = intent;
        }
        Stored::new(version, record.to_string())
    }

    fn failure(&mut self) -> Failure {
        use FailureKind::*;
        let kinds = [Connect, Tls, Broken, Timeout, TooLarge, Forbidden, File, Other];
        let kind = kinds[usize::from(self.byte()) % kinds.len()];
        if self.byte() < 128 { Failure::not_sent(kind, "x") } else { Failure::maybe_sent(kind, "x") }
    }

    fn response(&mut self) -> Response<Vec<u8>> {
        const STATUSES: [u16; 14] = [200, 201, 204, 301, 307, 400, 401, 403, 404, 408, 429, 500, 503, 999];
        let choice = usize::from(self.byte());
        let status = STATUSES[choice % STATUSES.len()];
        // Some documents were kept somewhere for a while.
        let age = if choice < 128 { "" } else { "7" };
        let types = ["application/json", "application/x-www-form-urlencoded", "text/html", ""];
        let content_type = types[usize::from(self.byte()) % types.len()];
        let waits = ["", "", "0", "5", "29", "99999999999", "Fri, 20 Nov 2026 12:00:09 GMT", "x"];
        let retry_after = waits[usize::from(self.byte()) % waits.len()];
        let mut response = Response::new(self.bytes());
        *response.status_mut() = StatusCode::from_u16(status).unwrap_or_default();
        for (name, value) in
            [("content-type", content_type), ("retry-after", retry_after), ("age", age), ("location", "https://x/")]
        {
            if let Ok(value) = value.parse() {
                response.headers_mut().insert(name, value);
            }
        }
        response
    }
}

/// An account of another platform, by a source of each kind.
fn external_account(way: u8) -> ExternalAccount {
    const JWT: &str = "urn:ietf:params:oauth:token-type:jwt";
    let (kind, source) = match way % 6 {
        0 => (JWT, json!({"file": "/token", "format": {"type": "json", "subject_token_field_name": "access_token"}})),
        1 => (JWT, json!({"url": "https://platform.example/token", "headers": {"authorization": CANARY}})),
        2 => (JWT, json!({"executable": {"command": "/bin/get-token", "output_file": "/token.json"}})),
        3 => (JWT, json!({"certificate": {"use_default_certificate_config": true, "trust_chain_path": "/chain"}})),
        4 => (
            ExternalAccount::AWS,
            json!({"environment_id": "aws1", "url": "http://169.254.169.254/latest/meta-data/iam/security-credentials",
                   "region_url": "http://169.254.169.254/latest/meta-data/placement/availability-zone",
                   "imdsv2_session_token_url": "http://169.254.169.254/latest/api/token"}),
        ),
        _ => (ExternalAccount::AWS, json!({"environment_id": "aws1"})),
    };
    let audience = "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/pool/providers/p";
    let file = json!({"type": "external_account", "audience": audience, "subject_token_type": kind, "credential_source": source});
    ExternalAccount::from_json_with_any_source(file.to_string()).expect("a file").client(&secret_client())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_record_of_the_fuzzer_is_read_and_some_lead_to_a_use_and_some_to_a_token() {
        let (mut tokens, mut uses) = (0, 0);
        for state in 0..=u8::MAX {
            for end in [0, 255] {
                let mut machine = mint(&shared_grant(1), 0).expect("a mint");
                let mut resume = |reply| {
                    let now = Now { wall: NOW, mono: Duration::from_secs(1000) };
                    machine.resume(&mut Cx::new(now, [7; 32]), reply)
                };
                let Step::Do(Effect::Store(StoreOp::Load { .. })) = resume(Reply::Start) else { panic!("no load") };
                let stored = Source(&[0, 0, end, end, 0, state], true).stored();
                match resume(Reply::Store(StoreReply::Loaded(Some(stored)))) {
                    Step::Done(Ok(token)) => {
                        assert_eq!(token.access_token(), CANARY);
                        tokens += 1;
                    }
                    Step::Done(Err(error)) => panic!("{state} {end}: {error}"),
                    Step::Do(_) => uses += 1,
                }
            }
        }
        assert!(tokens > 60 && uses > 60, "{tokens} {uses}");
    }
}
