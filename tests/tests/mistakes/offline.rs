//! Mistakes that need no network: files, addresses, what servers answer, grants in stores.

use std::path::PathBuf;
use std::time::Duration;

use grantflow::google::{AuthorizedUser, ClientSecrets, DefaultCredentials, GoogleCredential, ServiceAccount};
use grantflow::jose::Jws;
use grantflow::jose::LogoutToken;
use grantflow::machine::{Exited, FailureKind, Os, Platform, Program};
use grantflow::proxy::Proxies;
use grantflow::register::{ClientMetadata, RegisteredClient, Registration};
use grantflow::resource::ProtectedResource;
use grantflow::source::{ProgramToken, TokenSource as _, Want};
use grantflow::store::{RecordKey, SharedGrant, Stored};
use grantflow::{
    AuthorizationRequest, Client, ClientAuthentication, Cx, Endpoint, Error, Failure, Hosts, InstalledApp,
    Introspection, Issuer, Machine, Now, Reply, Revocation, ServerMetadata, Step, Timestamp, Token, TokenRequest,
    UserInfo,
};
use grantflow_tests::demo::{self, REDIRECT, batch, client, signed_in};
use grantflow_tests::google::{bad_private_keys, private_key, service_account_json};
use grantflow_tests::kms::FarKey;
use grantflow_tests::processes::{Process, desk, late};
use grantflow_tests::server::{Alter, Place};
use grantflow_tests::{Fault, Resource, Server, World, at_once};
use serde_json::json;

use super::{Mistake, mistake};

fn world() -> World {
    World::with(Server::demo())
}

fn server() -> ServerMetadata {
    Server::demo().metadata()
}

/// What comes of a file with this content.
fn read<T>(content: &[u8], read: impl Fn(PathBuf) -> T) -> Error
where
    T: Machine,
    T::Output: Sized,
{
    let mut world = World::default();
    world.files.insert("/home/me/key.json".into(), content.to_vec());
    world.run(read("/home/me/key.json".into())).err().expect("the file is wrong")
}

fn missing(path: &str) -> Error {
    World::default().run(ServiceAccount::read(path)).unwrap_err()
}

fn search(name: &'static str, value: &str) -> Error {
    let mut world = World::default();
    world.env.insert(name, value.into());
    world.env.entry("NO_GCE_CHECK").or_insert_with(|| "true".into());
    world.env.entry("GOOGLE_APPLICATION_CREDENTIALS").or_insert_with(|| "/home/me/key.json".into());
    world.files.insert("/home/me/key.json".into(), service_account_json().to_string().into_bytes());
    if matches!(name, "METADATA_SERVER_DETECTION" | "GCE_METADATA_HOST") {
        world.env.remove("GOOGLE_APPLICATION_CREDENTIALS");
        world.env.remove("NO_GCE_CHECK");
    }
    world.run(DefaultCredentials::new(Platform { os: Os::Unix, home: Some("/home/me".into()) })).unwrap_err()
}

fn key_with(name: &str, value: &str) -> Vec<u8> {
    let mut file = service_account_json();
    file[name] = value.into();
    file.to_string().into_bytes()
}

pub(crate) fn files() -> Vec<Mistake> {
    let client_file = json!({"installed": {"client_id": "x", "client_secret": "y"}}).to_string();
    let nothing = {
        let mut world = World::default();
        world.env.insert("NO_GCE_CHECK", "true".into());
        world.run(DefaultCredentials::new(Platform { os: Os::Unix, home: Some("/home/me".into()) })).unwrap_err()
    };
    let encrypted = private_key().replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY");
    let with_blank = {
        let client = Client::new("app ").authentication(ClientAuthentication::client_secret_post("s"));
        world().run(TokenRequest::client_credentials(&server(), &client).unwrap().exchange()).unwrap_err()
    };
    vec![
        mistake("the path of a file that is not there", missing("/home/me/kye.json")),
        mistake("quotes as part of the path", missing("\"/home/me/key.json\"")),
        mistake("a path that a shell would have expanded", missing("~/key.json")),
        mistake("the text of a key in the place of its path", missing(&service_account_json().to_string())),
        mistake("an empty file", read(b"", ServiceAccount::read)),
        mistake("a file that is no JSON", read(b"nonsense", ServiceAccount::read)),
        mistake("a web page in the place of a key", read(b"<html>", ServiceAccount::read)),
        mistake("a key in base64", read(b"ewogICJ0eXBlIjogInNlcnZpY2VfYWNjb3VudCI=", ServiceAccount::read)),
        mistake("a key in quotes", read(b"'{\"type\": \"service_account\"}'", ServiceAccount::read)),
        mistake("an OAuth client in the place of a key", read(client_file.as_bytes(), ServiceAccount::read)),
        mistake(
            "a key in the place of an OAuth client",
            read(service_account_json().to_string().as_bytes(), ClientSecrets::read),
        ),
        mistake(
            "a key in the place of a user's credentials",
            read(service_account_json().to_string().as_bytes(), AuthorizedUser::read),
        ),
        mistake("a file of a type that is not known", read(&key_with("type", "impersonated"), GoogleCredential::read)),
        mistake("a key of 1024 bits", read(&key_with("private_key", &bad_private_keys()[0]), ServiceAccount::read)),
        mistake("a key of another kind", read(&key_with("private_key", &bad_private_keys()[1]), ServiceAccount::read)),
        mistake("an encrypted key", read(&key_with("private_key", &encrypted), ServiceAccount::read)),
        mistake(
            "a file that names a server of a stranger",
            read(&key_with("token_uri", "https://evil.example/"), ServiceAccount::read),
        ),
        mistake(
            "GOOGLE_APPLICATION_CREDENTIALS names no file",
            search("GOOGLE_APPLICATION_CREDENTIALS", "/home/me/kye.json"),
        ),
        mistake("no credentials at all", nothing),
        mistake("nonsense in METADATA_SERVER_DETECTION", search("METADATA_SERVER_DETECTION", "maybe")),
        mistake("nonsense in GCE_METADATA_HOST", search("GCE_METADATA_HOST", "http://metadata/")),
        mistake("nonsense in GOOGLE_CLOUD_QUOTA_PROJECT", search("GOOGLE_CLOUD_QUOTA_PROJECT", "my\nproject")),
        mistake("a client id that ends with a blank", with_blank),
    ]
}

/// Why there is no access to a protected resource that nothing is known of but its address.
fn protected(world: World, mut resource: Resource, change: impl FnOnce(&mut Resource)) -> Error {
    change(&mut resource);
    let found = ProtectedResource::new("https://rs.example/mcp").unwrap();
    world.protecting(resource).run(found.find()).unwrap_err()
}

fn resources() -> Vec<Mistake> {
    let resource = || Resource::new("https://rs.example/mcp", "https://as.example");
    let mut without_s256 = world();
    without_s256.server().settings.alter_metadata = Alter::set("code_challenge_methods_supported", json!(["plain"]));
    let another = |resource: &mut Resource| {
        resource.alter_metadata = Alter::set("resource", json!("https://other.example/mcp"));
    };
    let outside = ProtectedResource::new("https://rs.example/mcp").unwrap().check("https://rs.example/admin");
    vec![
        mistake("the metadata of another resource", protected(world(), resource(), another)),
        mistake(
            "a resource that names no authorization server",
            protected(world(), resource(), |resource| resource.servers.clear()),
        ),
        mistake("a resource without a client at its server", protected(world(), resource(), |_| {})),
        mistake("a server that does not say that it takes S256", protected(without_s256, resource(), |_| {})),
        mistake("a request beside the resource", outside.unwrap_err()),
    ]
}

pub(crate) fn addresses() -> Vec<Mistake> {
    let mut all = resources();
    all.extend(addresses_and_clients());
    all
}

fn addresses_and_clients() -> Vec<Mistake> {
    let proxy = |name: &'static str, value: &'static str| {
        Proxies::from_env(move |it| (it == name).then(|| value.into())).unwrap_err()
    };
    let redirect = |uri: &str| {
        at_once(AuthorizationRequest::new(&server(), &client(), uri).start(), &mut world().cx()).unwrap_err()
    };
    let hosts = |hosts: &str, uri: &str| Hosts::from(hosts).check(&uri.parse().unwrap()).unwrap_err();
    let app = InstalledApp::new(&server(), &client());
    let begin = |client: Client| {
        let app = InstalledApp::new(&server(), &client).scopes("read");
        at_once(app.start(50_123), &mut world().cx()).map(drop).unwrap_err()
    };
    let secret = |secret: &str| Client::new("app").authentication(ClientAuthentication::client_secret_basic(secret));
    let mut elsewhere = world();
    elsewhere.server().settings.alter_metadata = Alter::set("issuer", json!("https://other.example"));
    let other_issuer = grantflow::Discovery::new(server().issuer());
    let scope = TokenRequest::client_credentials(&server(), &batch()).unwrap().scopes("\"read\"");
    let no_endpoint = ServerMetadata::new(Issuer::new("https://as.example").unwrap());
    let registered: RegisteredClient = serde_json::from_value(json!({
        "issuer": "https://as.example", "client_id": "c", "asked": {"token_endpoint_auth_method": "private_key_jwt"}, "registered": {},
    }))
    .unwrap();
    let registering = server().registration_endpoint("https://as.example/register").unwrap();
    let register = |metadata: ClientMetadata| Registration::new(&registering, metadata).unwrap_err();
    vec![
        mistake("a client to register without a redirect URI", register(ClientMetadata::new())),
        mistake(
            "a client to register with keys twice",
            register(ClientMetadata::new().jwks([]).jwks_uri("https://x/")),
        ),
        mistake("a registered client without its key", registered.client().unwrap_err()),
        mistake("a registration that cannot be managed", registered.read().unwrap_err()),
        mistake("an issuer with http", Issuer::new("http://as.example").unwrap_err()),
        mistake("an issuer without a scheme", Issuer::new("as.example").unwrap_err()),
        mistake(
            "the address of a metadata document as an issuer",
            Issuer::new("https://as.example/.well-known/openid-configuration").unwrap_err(),
        ),
        mistake("an endpoint with a password", Endpoint::new("https://me:secret@as.example/token").unwrap_err()),
        mistake("a redirect URI with http on another host", redirect("http://app.example/callback")),
        mistake(
            "a host of a redirect URI that is not this machine",
            app.clone().host("app.example").addresses().unwrap_err(),
        ),
        mistake("a path with a query", app.clone().path("/callback?x=y").addresses().unwrap_err()),
        mistake(
            "a whole address in the place of a path",
            app.clone().path("http://127.0.0.1:8080/callback").addresses().unwrap_err(),
        ),
        mistake(
            "the redirect URI of a web application for an installed one",
            app.clone().redirect_uri("https://app.example/callback").addresses().unwrap_err(),
        ),
        mistake("an issuer with a query", Issuer::new("https://as.example/?tenant=x").unwrap_err()),
        mistake("a host without a name", hosts("", "https://api.example/")),
        mistake("a request without a host", hosts("api.example", "/v1/data")),
        mistake("the metadata of another server", elsewhere.run(other_issuer).unwrap_err()),
        mistake(
            "an endpoint that the server does not have",
            TokenRequest::client_credentials(&no_endpoint, &batch()).unwrap_err(),
        ),
        mistake("a proxy variable that names no proxy", proxy("HTTPS_PROXY", "ftp://proxy.example")),
        mistake("a proxy variable in quotes", proxy("HTTPS_PROXY", "\"http://proxy.example:3128\"")),
        mistake("a port that was not allowed", hosts("api.example", "https://api.example:8443/")),
        mistake("a sign-in with a client id in quotes", begin(Client::new("\"app\""))),
        mistake("a sign-in with the client id of an empty variable", begin(Client::new(""))),
        mistake("a sign-in with a client id that nobody filled in", begin(Client::new("${CLIENT_ID}"))),
        mistake("a sign-in with the line end of the secret's file", begin(secret("s3cret\n"))),
        mistake(
            "a parameter that the flow sets as an extra one of the token request",
            app.clone().token_extra("code_verifier", "x").addresses().unwrap_err(),
        ),
        mistake("a host that is an address with a path", hosts("https://api.example/v1", "https://api.example/v1/x")),
        mistake("a request to a host that was not allowed", hosts("api.example", "https://api.example.evil.example/")),
        mistake("a request without TLS", hosts("api.example", "http://api.example/")),
        mistake("a scope in quotes", world().run(scope.exchange()).unwrap_err()),
    ]
}

/// What comes of a request for a token when the server does this, as often as it is asked.
fn fault(fault: Fault) -> Error {
    let mut world = world();
    for _ in 0..4 {
        world.server().fail(Place::Token, fault.clone());
    }
    world.run(TokenRequest::client_credentials(&server(), &batch()).unwrap().exchange()).unwrap_err()
}

/// What comes of a code when the server says this.
fn code(says: &str) -> Error {
    let mut world = world();
    let authorization = at_once(demo::request(world.server(), "openid").start(), &mut world.cx()).unwrap();
    let redirect = world.person(&authorization.url);
    world.server().fail(Place::Token, Fault::status(400, says));
    world.run(authorization.pending.finish(&client(), &redirect)).unwrap_err()
}

/// What comes of a redirect, of which `change` makes another one.
fn redirect(later: Duration, change: impl Fn(String) -> String) -> Error {
    let mut world = world();
    let authorization = at_once(demo::request(world.server(), "openid").start(), &mut world.cx()).unwrap();
    let redirect = change(world.person(&authorization.url));
    world.pass(later);
    world.run(authorization.pending.finish(&client(), &redirect)).unwrap_err()
}

fn refresh(says: &str) -> Error {
    let mut world = world();
    let token = signed_in(&mut world, "read");
    world.server().fail(Place::Token, Fault::status(400, says));
    world.run(TokenRequest::refresh(&server(), &client(), &token).unwrap().exchange()).unwrap_err()
}

fn device(says: &str) -> Error {
    let mut world = world();
    let code = demo::device_code(&mut world, "read");
    world.server().fail(Place::Token, Fault::status(400, says));
    world.run(code.poll(&server(), &client()).unwrap()).unwrap_err()
}

fn at_google(description: &str) -> Error {
    let mut world = grantflow_tests::google::world();
    let account = ServiceAccount::from_json(service_account_json().to_string()).unwrap();
    let says = json!({"error": "invalid_grant", "error_description": description}).to_string();
    world.google().fail(grantflow_tests::google::Place::Token, Fault::status(400, &says));
    world.mint(&account, &Want::access_token("x")).unwrap_err()
}

fn failed(failure: Failure) -> Error {
    let mut world = world();
    (0..4).for_each(|_| world.fail(failure.clone()));
    world.run(TokenRequest::client_credentials(&server(), &batch()).unwrap().exchange()).unwrap_err()
}

pub(crate) fn answers() -> Vec<Mistake> {
    let later = Duration::from_secs(3600);
    let denied = |uri: String| {
        let state = uri.split("state=").nth(1).unwrap().split('&').next().unwrap().to_owned();
        format!("{REDIRECT}?error=access_denied&state={state}&iss=https%3A%2F%2Fas.example")
    };
    let other_state = |uri: String| uri.replace("state=", "state=x");
    let nonce = {
        let mut world = world();
        world.server().settings.alter_id_claims = Alter::set("nonce", json!("another"));
        let request = demo::request(world.server(), "openid");
        world.sign_in(request, &client()).unwrap_err()
    };
    let no_scope = {
        let mut world = grantflow_tests::google::world();
        let account = ServiceAccount::from_json(service_account_json().to_string()).unwrap();
        world.mint(&account, &Want::default()).unwrap_err()
    };
    let quoted = {
        let client = Client::new("\"app\"").authentication(ClientAuthentication::client_secret_post("s"));
        world().run(TokenRequest::client_credentials(&server(), &client).unwrap().exchange()).unwrap_err()
    };
    vec![
        mistake("a client id in quotes", quoted),
        mistake("something else in the place of a signed token", Jws::read("ya29.token").unwrap_err()),
        mistake("no scope for a service account", no_scope),
        mistake("a wrong client secret", fault(Fault::status(401, r#"{"error":"invalid_client"}"#))),
        mistake("a scope that the server does not have", fault(Fault::status(400, r#"{"error":"invalid_scope"}"#))),
        mistake("a grant that the client may not use", fault(Fault::status(400, r#"{"error":"unauthorized_client"}"#))),
        mistake("a redirect URI that is not registered", code(r#"{"error":"redirect_uri_mismatch"}"#)),
        mistake("a code that was used", code(r#"{"error":"invalid_grant","error_description":"the code was used"}"#)),
        mistake(
            "a refresh token that was revoked",
            refresh(r#"{"error":"invalid_grant","error_description":"Token has been expired or revoked."}"#),
        ),
        mistake(
            "a clock that is off",
            at_google("Invalid JWT: Token must be a short-lived token (60 minutes) and in a reasonable timeframe"),
        ),
        mistake("a service account that was deleted", at_google("Invalid grant: account not found")),
        mistake("a token endpoint that is a web page", fault(Fault::html(200))),
        mistake("a token endpoint that is a page that is not found", fault(Fault::html(404))),
        mistake(
            "a token endpoint that redirects",
            fault(Fault::status(307, "").header("location", "https://as.example/t")),
        ),
        mistake("a server that is down", fault(Fault::status(503, ""))),
        mistake("a server that is busy", fault(Fault::status(429, "").header("retry-after", "60"))),
        mistake("an answer without a token", fault(Fault::status(200, "{}"))),
        mistake("a sign-in that took too long", redirect(later, |uri| uri)),
        mistake("a redirect of another sign-in", redirect(Duration::ZERO, other_state)),
        mistake("a person who does not consent", redirect(Duration::ZERO, denied)),
        mistake("an ID token of another sign-in", nonce),
        mistake("a code of a device that has ended", device(r#"{"error":"expired_token"}"#)),
        mistake(
            "a server that nobody reaches",
            failed(Failure::not_sent(FailureKind::Connect, "the name as.example is not known")),
        ),
        mistake(
            "a certificate that nobody known has signed",
            failed(Failure::not_sent(FailureKind::Tls, "invalid peer certificate: UnknownIssuer")),
        ),
        mistake(
            "a server that does not answer",
            failed(Failure::maybe_sent(FailureKind::Timeout, "no answer in time")),
        ),
    ]
}

pub(crate) fn grants() -> Vec<Mistake> {
    let lost = {
        let (mut desk, source) = late();
        // That the server replaces refresh tokens is known by its first refresh.
        Process::of(&source).mint(&mut desk).unwrap();
        desk.world.pass(Duration::from_secs(3600));
        // An answer, so that the refresh token was surely used, and no token in it.
        desk.world.server().fail(Place::Token, Fault::html(200));
        Process::of(&source).mint(&mut desk).unwrap_err();
        desk.world.pass(Duration::from_secs(60));
        Process::of(&source).mint(&mut desk).unwrap_err()
    };
    let busy = {
        let (mut desk, source) = late();
        desk.lease(source.key(), 999);
        Process::of(&source).mint(&mut desk).unwrap_err()
    };
    let nobody = {
        let (mut desk, _) = desk();
        let key = RecordKey::new(server().issuer(), &client(), "bob");
        Process::of(&SharedGrant::new(key, server(), &client())).mint(&mut desk).unwrap_err()
    };
    let now = Timestamp::from_unix(1_795_176_000);
    let with_proof = {
        let mut world = world();
        world.server().settings.alter_token = Alter::set("token_type", json!("DPoP"));
        let token = world.run(TokenRequest::client_credentials(&server(), &batch()).unwrap().exchange()).unwrap();
        token.authorization().unwrap_err()
    };
    let random = AuthorizationRequest::new(&server(), &client(), REDIRECT);
    let mut without = Cx::without_entropy(Now::default());
    let entropy = match random.start().resume(&mut without, Reply::Start) {
        Step::Done(result) => result.unwrap_err(),
        Step::Do(_) => panic!("it needs randomness first"),
    };
    let mut ended = TokenRequest::client_credentials(&server(), &batch()).unwrap().exchange();
    let misuse = match ended.resume(&mut world().cx(), Reply::Slept) {
        Step::Done(result) => result.err().unwrap(),
        Step::Do(_) => panic!("it did not begin"),
    };
    let mut refusing = world();
    refusing.refuse.push("Http");
    let refused = refusing.run(TokenRequest::client_credentials(&server(), &batch()).unwrap().exchange()).unwrap_err();
    let signing = {
        let mut world = world();
        let denied =
            || http::Response::builder().status(403).body(br#"{"error":"permission_denied"}"#.to_vec()).unwrap();
        world.kms.faults = (0..9).map(|_| denied()).collect();
        let client = Client::new("app").authentication(ClientAuthentication::private_key_jwt(FarKey::default()));
        world.run(TokenRequest::client_credentials(&server(), &client).unwrap().exchange()).unwrap_err()
    };
    let program = {
        let source = ProgramToken::new(Program::new("gcloud").args(["auth", "print-access-token"]));
        let (mut mint, mut world) = (source.mint(&Want::default(), &source.first_state()), world());
        let Step::Do(_) = mint.resume(&mut world.cx(), Reply::Start) else { panic!("it asks for the program") };
        let said = Exited::new(Some(1), Vec::new(), b"You do not currently have an active account selected.".to_vec());
        match mint.resume(&mut world.cx(), Reply::Exec(said)) {
            Step::Done(result) => result.err().unwrap(),
            Step::Do(_) => panic!("it has ended"),
        }
    };
    let stranger = Issuer::new("https://other.example").unwrap();
    let token = Token::bearer("x", now, None).unwrap();
    let no_userinfo = UserInfo::new(&ServerMetadata::new(stranger.clone()), &token).unwrap_err();
    let no_revocation = Revocation::new(&ServerMetadata::new(stranger), &client(), &"x".into()).unwrap_err();
    let unknown = {
        let mut world = world();
        let server = world.server().metadata().introspection_endpoint("https://as.example/introspect").unwrap();
        world.run(Introspection::new(&server, &batch()).unwrap().of("opaque-token-of-elsewhere")).unwrap_err()
    };
    vec![
        mistake("a token that its server does not know", unknown),
        mistake("a request to sign out without a token", LogoutToken::in_form("").unwrap_err()),
        mistake("a refresh token that may have been used", lost),
        mistake("another process that does not end", busy),
        mistake("an account that nobody has signed in to", nobody),
        mistake("a record that is damaged", Stored::from_bytes(b"nonsense".to_vec()).unwrap_err()),
        mistake("a record of a newer release", Stored::from_bytes(b"grantflow record 2 x".to_vec()).unwrap_err()),
        mistake("a token with a proof as a bearer token", with_proof),
        mistake("a driver that gives no seed", entropy),
        mistake("a machine that gets the wrong reply", misuse),
        mistake("a driver that makes no requests", refused),
        mistake("a server without userinfo", no_userinfo),
        mistake("a server without revocation", no_revocation),
        mistake("a key store that denies the signature", signing),
        mistake("a program that prints no token", program),
    ]
}
