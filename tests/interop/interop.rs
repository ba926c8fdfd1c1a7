//! Both adapters against a real server: everything a program does from its first sign-in to the end.
//! `tests/interop/run` starts the server and this. It ends with an error at the first thing that is wrong.

mod openid;
mod requests;
mod secure;

use std::error::Error as StdError;
use std::process::Command;
use std::sync::Mutex;

use grantflow::crypto::{Algorithm, SigningKey};
use grantflow::{
    Advice, Client, ClientAuthentication, Cx, Discovery, Error, ErrorKind, InstalledApp, Issuer, Machine, Revocation,
    Rotation, Scopes, ServerMetadata, Timestamp, Token, TokenRequest,
};

use grantflow_tests::Front;
use grantflow_tests::google::{another_private_key, private_key};
use grantflow_tests::kms::{Es256, FarKey, Kms};

type Done = Result<(), Box<dyn StdError>>;

/// What both adapters can do, blocking.
trait Adapter {
    fn run<M: Machine + Send>(&self, machine: M) -> Result<M::Output, Error>
    where
        M::Output: Send;
    fn sign_in(&self, app: &InstalledApp) -> Result<Token, Error>;
    fn now(&self) -> Timestamp;
    fn cx(&self) -> Result<Cx, Error>;
}

impl Adapter for grantflow_ureq::Transport {
    fn run<M: Machine + Send>(&self, machine: M) -> Result<M::Output, Error>
    where
        M::Output: Send,
    {
        self.run(machine)
    }
    fn sign_in(&self, app: &InstalledApp) -> Result<Token, Error> {
        self.sign_in(app)
    }
    fn now(&self) -> Timestamp {
        self.now().wall
    }
    fn cx(&self) -> Result<Cx, Error> {
        self.cx()
    }
}

struct Async(grantflow_reqwest::Transport, tokio::runtime::Runtime);

impl Adapter for Async {
    fn run<M: Machine + Send>(&self, machine: M) -> Result<M::Output, Error>
    where
        M::Output: Send,
    {
        self.1.block_on(self.0.run(machine))
    }
    fn sign_in(&self, app: &InstalledApp) -> Result<Token, Error> {
        self.1.block_on(self.0.sign_in(app))
    }
    fn now(&self) -> Timestamp {
        self.0.now().wall
    }
    fn cx(&self) -> Result<Cx, Error> {
        self.0.cx()
    }
}

fn main() -> Done {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [issuer, second, directory] = match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["certificates", directory] => return secure::write_certificates(directory.as_ref()),
        [issuer, second, directory] => [issuer, second, directory],
        _ => return Err("usage: interop certificates DIRECTORY, then interop ISSUER SECOND-ISSUER DIRECTORY".into()),
    };
    let (issuer, second) = (Issuer::new(issuer)?, Issuer::new(second)?);
    let blocking = grantflow_ureq::Transport::new()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let asynchronous = Async(grantflow_reqwest::Transport::new()?, runtime);
    let directory = directory.as_ref();
    // Side by side, since most of it is waiting.
    let [one, other] = std::thread::scope(|scope| {
        let one = scope.spawn(|| {
            let done = suite("ureq", &blocking, &issuer);
            done.and_then(|()| secure::suite::<grantflow_ureq::Transport>("ureq", &second, directory)).map_err(told)
        });
        let other = scope.spawn(|| {
            let done = suite("reqwest", &asynchronous, &issuer);
            done.and_then(|()| secure::suite::<Async>("reqwest", &second, directory)).map_err(told)
        });
        [one.join(), other.join()]
    });
    one.map_err(|_| "a panic")?.map_err(|error| format!("grantflow-ureq: {error}"))?;
    Ok(other.map_err(|_| "a panic")?.map_err(|error| format!("grantflow-reqwest: {error}"))?)
}

/// An error as a text, which goes from one thread to another.
fn told(error: Box<dyn StdError>) -> String {
    error.to_string()
}

fn suite(name: &str, adapter: &(impl Adapter + Sync), issuer: &Issuer) -> Done {
    let step = |what: &str| step(name, what);
    let server = adapter.run(Discovery::new(issuer))?;
    promises_iss(&server)?;
    let client = Client::new("native-app").registered_at(issuer.clone());
    std::thread::scope(|scope| {
        // A device waits for seconds between its questions.
        let devices = ["alice", "nobody"].map(|person| {
            let (server, client) = (&server, &client);
            scope.spawn(move || device(adapter, server, client, person).map_err(told))
        });
        people(name, adapter, &server, &client)?;
        for device in devices {
            device.join().map_err(|_| "a panic")??;
        }
        step("a code that a person enters elsewhere, who says yes or no");
        Ok::<_, Box<dyn StdError>>(())
    })?;
    // One at a time: the keys are those of all.
    static KEYS: Mutex<()> = Mutex::new(());
    let _alone = KEYS.lock().map_err(|_| "a panic")?;
    openid::suite(name, adapter, &server)
}

/// A device gets its code, which this person enters.
fn device(adapter: &impl Adapter, server: &ServerMetadata, client: &Client, person: &str) -> Done {
    let device = InstalledApp::new(server, client).scopes("openid email").login_hint(person).show_code(|code| {
        let (address, code) = (code.verification_uri().to_owned(), code.user_code().to_owned());
        std::thread::spawn(move || enter_code(&address, &code).unwrap_or_else(|error| eprintln!("{error}")));
    });
    match adapter.sign_in(&device) {
        Ok(token) => check(token.id_token().is_some_and(|it| it.subject() == person), "this person entered the code"),
        Err(error) if person == "nobody" => {
            check(error.server().is_some_and(|server| server.error() == "access_denied"), "the device is told")
        }
        Err(error) => Err(error.into()),
    }
}

/// People who sign in with a browser, and a program that is one itself.
fn people(name: &str, adapter: &impl Adapter, server: &ServerMetadata, client: &Client) -> Done {
    let (step, issuer) = (|what: &str| step(name, what), server.issuer());
    let app = app(server, client);
    let token = adapter.sign_in(&app.clone().login_hint("alice"))?;
    signed_in(adapter, &token, issuer)?;
    step("signed in: code, PKCE, iss, nonce, ID token");

    let [second, third] = refresh_twice(adapter, server, client, &token)?;
    step("refreshed twice, each refresh token good for one use");

    let secret = third.refresh_token().ok_or("no refresh token")?;
    adapter.run(Revocation::new(server, client, secret)?.token_type_hint("refresh_token").exchange())?;
    refused(adapter.run(TokenRequest::refresh(server, client, &third)?.exchange()))?;
    adapter.run(Revocation::new(server, client, secret)?.exchange())?;
    step("revoked: refused afterwards, and revoking again does no harm");

    let token = adapter.sign_in(&app.clone().login_hint("bob"))?;
    let rotated = adapter.run(TokenRequest::refresh(server, client, &token)?.exchange())?;
    refused(adapter.run(TokenRequest::refresh(server, client, &token)?.exchange()))?;
    refused(adapter.run(TokenRequest::refresh(server, client, &rotated)?.exchange()))?;
    check(second.id_token().is_some_and(|id_token| id_token.subject() == "alice"), "alice stays alice")?;
    step("a used refresh token, used again, ends the whole grant");

    let error = adapter.sign_in(&app.login_hint("nobody")).expect_err("the person said no");
    check(error.kind() == ErrorKind::Authorization, "the server's own error comes out")?;
    check(error.server().is_some_and(|server| server.error() == "access_denied"), "and says which one it is")?;
    step("a person who says no");

    let batch = Client::new("batch")
        .authentication(ClientAuthentication::client_secret_basic("a secret of: letters+signs %20/~"));
    let token = adapter.run(TokenRequest::client_credentials(server, &batch)?.scopes("read").exchange())?;
    check(token.scopes() == &Scopes::from("read") && token.refresh_token().is_none(), "a token for the client")?;
    let wrong = Client::new("batch").authentication(ClientAuthentication::client_secret_basic("wrong"));
    let error = adapter.run(TokenRequest::client_credentials(server, &wrong)?.exchange()).expect_err("a wrong secret");
    check(error.server().is_some_and(|server| server.error() == "invalid_client"), "invalid_client")?;
    step("client credentials, with a right and a wrong secret");

    signing(adapter, server)?;
    step("private_key_jwt: RS256 and ES256, by keys that are here and far away; another key is refused");
    Ok(())
}

/// Clients that sign assertions: each gets a token, has it revoked, and its key is its own.
fn signing(adapter: &impl Adapter, server: &ServerMetadata) -> Done {
    let rs256 = || SigningKey::from_pem(Algorithm::RS256, &private_key()).map(|key| key.with_key_id("rs-1"));
    let kms = Front::start(Kms::default())?;
    let far = FarKey::at(&format!("http://{}", kms.address()));
    for (id, method) in [
        ("signing-RS256", ClientAuthentication::private_key_jwt(rs256()?)),
        ("signing-ES256", ClientAuthentication::private_key_jwt(Es256::default())),
        ("signing-ES256", ClientAuthentication::private_key_jwt(far)),
    ] {
        let client = Client::new(id).authentication(method);
        let token = adapter.run(TokenRequest::client_credentials(server, &client)?.scopes("read").exchange())?;
        check(token.scopes() == &Scopes::from("read"), "a token for the client")?;
        adapter.run(Revocation::new(server, &client, &token.access_token().into())?.exchange())?;
    }
    check(kms.server().asked == 2, "the far key signed each request")?;
    let other = SigningKey::from_pem(Algorithm::RS256, &another_private_key())?.with_key_id("rs-1");
    let client = Client::new("signing-RS256").authentication(ClientAuthentication::private_key_jwt(other));
    let error = adapter.run(TokenRequest::client_credentials(server, &client)?.exchange()).expect_err("another key");
    check(error.server().is_some_and(|server| server.error() == "invalid_client"), "invalid_client")
}

/// The loopback application, with curl for a browser: it follows redirects and keeps cookies.
fn app(server: &ServerMetadata, client: &Client) -> InstalledApp {
    InstalledApp::new(server, client).scopes("openid offline_access email").prompt("consent").open_browser(false).show(
        |url| {
            let browser = ["--silent", "--location", "--max-time", "20", "--cookie", "", "--output", "/dev/null", url];
            let spawned = Command::new("curl").args(browser).spawn();
            spawned.map(drop).unwrap_or_else(|error| eprintln!("curl does not start: {error}"));
        },
    )
}

/// The person opens the page, enters the code and confirms it.
fn enter_code(address: &str, user_code: &str) -> Done {
    let cookies = std::env::temp_dir().join(format!("grantflow-interop-{}-{user_code}", std::process::id()));
    let curl = |args: &[&str]| -> Result<String, Box<dyn StdError>> {
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--location", "--max-time", "20"]).arg("--cookie").arg(&cookies).arg("--cookie-jar");
        Ok(String::from_utf8(curl.arg(&cookies).args(args).output()?.stdout)?)
    };
    let page = curl(&[address])?;
    let secret = page.split("name=\"xsrf\" value=\"").nth(1).and_then(|rest| rest.split('"').next());
    let secret = format!("xsrf={}", secret.ok_or("the page has no form for the code")?);
    curl(&[address, "--data", &secret, "--data", &format!("user_code={user_code}"), "--data", "confirm=yes"])?;
    Ok(std::fs::remove_file(cookies)?)
}

fn promises_iss(server: &ServerMetadata) -> Done {
    let promised = server.get("authorization_response_iss_parameter_supported");
    check(promised.is_some_and(|value| value == true), "the server promises iss, which makes it required")
}

fn signed_in(adapter: &impl Adapter, token: &Token, issuer: &Issuer) -> Done {
    let id_token = token.id_token().ok_or("no ID token")?;
    check(id_token.issuer() == issuer.as_str() && id_token.subject() == "alice", "the ID token is alice's")?;
    check(id_token.claims().str("nonce").is_some(), "the ID token has the nonce")?;
    check(id_token.verified_email() == Some("alice@example.com"), "the ID token has the e-mail address")?;
    check(!token.is_expired(adapter.now()) && token.expires_at().is_some(), "the token is fresh")?;
    check(token.scopes() == &Scopes::from("openid offline_access email"), "all was granted")?;
    check(token.deviations().is_empty(), "the server keeps to the standard")
}

fn refresh_twice(
    adapter: &impl Adapter,
    server: &ServerMetadata,
    client: &Client,
    first: &Token,
) -> Result<[Token; 2], Box<dyn StdError>> {
    let second = adapter.run(TokenRequest::refresh(server, client, first)?.exchange())?;
    let third = adapter.run(TokenRequest::refresh(server, client, &second)?.exchange())?;
    for (old, new) in [(first, &second), (&second, &third)] {
        let [Some(old_refresh), Some(new_refresh)] = [old, new].map(Token::refresh_token) else {
            return Err("a refresh token is missing".into());
        };
        check(!old_refresh.matches(new_refresh.expose()), "the refresh token is replaced")?;
        check(old.access_token() != new.access_token(), "the access token is another")?;
        check(new.rotation() == Rotation::Rotates, "rotation is noticed")?;
    }
    Ok([second, third])
}

fn refused(result: Result<Token, Error>) -> Done {
    let error = result.err().ok_or("a refresh token that has ended still works")?;
    check(error.server().is_some_and(|server| server.error() == "invalid_grant"), "invalid_grant")?;
    check(error.advice() == Some(Advice::SignInAgain), "it says to sign in again")
}

fn check(holds: bool, what: &str) -> Done {
    if holds { Ok(()) } else { Err(format!("not so: {what}").into()) }
}

fn step(name: &str, what: &str) {
    println!("{name:<8} {what}");
}
