//! A program that calls an API as itself (client credentials): the server is known by its issuer alone, such as
//! a realm of Keycloak, and a manager sees to the token. Without arguments everything happens on this machine.

use std::error::Error;
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use grantflow_tests::command::{Args, Outcome, run};
use grantflow_tests::{Front, Place, Registered, Server};
use grantflow_ureq::grantflow::source::{Credential, Want};
use grantflow_ureq::grantflow::{Client, ClientAuthentication, Issuer, Secret};
use grantflow_ureq::{Change, TokenManager, Transport};

const HELP: &str = "\
Usage:
  client_credentials                           at a pretend server on this machine, whose tokens live for 4 s
  client_credentials --issuer URL --client-id ID --client-secret S [--scope S]
                                               at any server that publishes metadata, such as
                                               --issuer https://keycloak.example/realms/demo
Options:
  --scope S  what the token is for; may be given several times
  --help     this text";

fn main() -> ExitCode {
    run(HELP, Parsed::parse, |args| args.map_or_else(pretend, |args| real(&args)))
}

/// The manager, which tells of each token that it gets. Its first token is fetched here, so that a wrong
/// secret ends the program where it begins.
fn manager(args: &Parsed) -> Result<TokenManager, Box<dyn Error>> {
    let authentication = ClientAuthentication::client_secret_basic(args.client_secret.clone());
    let client = Client::new(&*args.client_id).authentication(authentication);
    let credential = Credential::client_credentials(Issuer::new(&*args.issuer)?, &client);
    let manager =
        TokenManager::builder(&Transport::new()?).on_change(tell).build(credential, Want::access_token(&*args.scope));
    manager.start()?;
    Ok(manager)
}

fn tell(change: &Change) {
    match &change.outcome {
        Ok(issued) => println!("  token {} is here", issued.generation),
        Err(error) => println!("  a refresh failed: {error}"),
    }
}

fn real(args: &Parsed) -> Outcome {
    println!("Getting a token at {}", args.issuer);
    let manager = manager(args)?;
    show(&manager);
    println!("Getting another before the first ends");
    manager.force_refresh()?;
    show(&manager);
    Ok(())
}

fn pretend() -> Outcome {
    let server = Server::new("https://keycloak.example/realms/demo")
        .client(Registered::basic("batch", "batch-secret"))
        .with(|settings| settings.lifetime = 4);
    let front = Front::start(server)?;
    let args = Parsed {
        issuer: front.issuer(),
        client_id: "batch".into(),
        client_secret: "batch-secret".into(),
        scope: "read".into(),
    };
    println!("Getting a token at {}, a pretend server", args.issuer);
    let manager = manager(&args)?;
    show(&manager);

    println!("Calling the API for 6 s: no call waits, and none has a token that ended");
    for _ in 0..12 {
        call(&manager, &front.url(Place::Resource))?;
        thread::sleep(Duration::from_millis(500));
    }
    let server = front.server();
    let count = |place| server.seen_at(place).len();
    let (metadata, tokens) = (count(Place::OpenIdMetadata) + count(Place::OAuthMetadata), count(Place::Token));
    println!("The server saw {metadata} request for its metadata and {tokens} for tokens");
    Ok(())
}

fn show(manager: &TokenManager) {
    let status = manager.status();
    match (status.expires_at, status.next_refresh) {
        (Some(end), Some(next)) => println!("  it ends at {end}, and is refreshed at {next} if it is in use"),
        _ => println!("  the server does not say when it ends"),
    }
}

/// One call of an API, by whatever HTTP client the program has: here ureq. After a 401 the token is another
/// one.
fn call(manager: &TokenManager, url: &str) -> Outcome {
    let agent = ureq::Agent::config_builder().http_status_as_error(false).proxy(None).build().new_agent();
    for _ in 0..2 {
        let token = manager.token()?;
        let status = agent.get(url).header("authorization", token.authorization()?).call()?.status();
        println!("  the API answers {status} to token {}", token.generation());
        if status != 401 || !manager.invalidate(&token) {
            break;
        }
    }
    Ok(())
}

struct Parsed {
    issuer: String,
    client_id: String,
    client_secret: Secret,
    scope: String,
}

impl Parsed {
    /// The arguments, or `None` if there are none.
    fn parse(args: &mut Args) -> Result<Option<Self>, String> {
        let pretend = args.is_empty();
        let (issuer, id, secret) =
            (args.value("--issuer")?, args.value("--client-id")?, args.value("--client-secret")?);
        let scope = args.values("--scope")?.join(" ");
        match (issuer, id, secret) {
            (Some(issuer), Some(client_id), Some(secret)) => {
                Ok(Some(Self { issuer, client_id, client_secret: secret.into(), scope }))
            }
            (None, None, None) if pretend => Ok(None),
            _ => Err("Give --issuer, --client-id and --client-secret, or nothing".into()),
        }
    }
}
