//! Signs a person in, shows each step that is taken on the way, refreshes the token and revokes it.
//! Without arguments everything happens on this machine. `--help` tells the rest.

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};

use grantflow_reqwest::Transport;
use grantflow_reqwest::grantflow::google::ClientSecrets;
use grantflow_reqwest::grantflow::{
    Client, ClientAuthentication, Discovery, Event, InstalledApp, Issuer, Revocation, Secret, ServerMetadata, Token,
    TokenRequest,
};
use grantflow_tests::{Front, Place, Server, person};

const HELP: &str = "\
Usage:
  login                                        at a pretend server on this machine, where a pretend person consents
  login --client-secrets FILE --scope S        at Google, with the client file from its console
  login --issuer URL --client-id ID [--client-secret S] [--scope S]
                                               at any server that publishes metadata
Options:
  --scope S    what to ask for; may be given several times
  --paste      the browser is on another machine: take its last address from the terminal
  --help       this text";

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let args = match Args::parse(std::env::args().skip(1)) {
        Ok(Some(args)) => args,
        Ok(None) => {
            println!("{HELP}");
            return ExitCode::SUCCESS;
        }
        Err(message) => {
            eprintln!("{message}\n\n{HELP}");
            return ExitCode::FAILURE;
        }
    };
    let Err(error) = login(args).await else { return ExitCode::SUCCESS };
    let mut text = format!("Error: {error}");
    let mut source = error.source();
    while let Some(inner) = source {
        if !text.contains(&inner.to_string()) {
            text.push_str(&format!("\n  because: {inner}"));
        }
        source = inner.source();
    }
    eprintln!("{text}");
    ExitCode::FAILURE
}

async fn login(args: Args) -> Result<(), Box<dyn Error>> {
    let steps = AtomicUsize::new(0);
    let transport = Transport::builder()
        .watch(move |event| match event {
            Event::Effect(effect) => println!("  {:2} -> {effect:?}", steps.fetch_add(1, Ordering::Relaxed) + 1),
            Event::Reply(reply) => println!("     <- {reply:?}"),
            _ => {}
        })
        .build()?;

    let mut pretend = None;
    let (server, client, app) = if let Some(file) = &args.client_secrets {
        println!("Reading the client file");
        let secrets = transport.run(ClientSecrets::read(file)).await?;
        let app = InstalledApp::google(&secrets).scopes(args.scopes.join(" ")).paste(args.paste);
        (secrets.server().clone(), secrets.client().clone(), app)
    } else if let Some(issuer) = &args.issuer {
        println!("Reading the server's metadata");
        let server = transport.run(Discovery::new(&Issuer::new(issuer.as_str())?)).await?;
        let client = args.client(&server);
        let app = InstalledApp::new(&server, &client).scopes(args.scopes.join(" ")).paste(args.paste);
        (server, client, app)
    } else {
        let front = pretend.insert(Front::start(Server::demo())?);
        println!("A pretend server runs at {}\nReading its metadata", front.issuer());
        let server = transport.run(Discovery::new(&Issuer::new(front.issuer())?)).await?;
        let client = Client::new("demo");
        let app = InstalledApp::new(&server, &client).scopes("openid email read").open_browser(false).show(|url| {
            println!("A pretend person opens {} and consents", url.split('?').next().unwrap_or_default());
            person::visit_in_background(url);
        });
        (server, client, app)
    };

    println!("Signing in at {}", server.issuer());
    let mut token = transport.sign_in(&app).await?;
    show(&transport, &token);

    let resource = pretend.as_ref().map(|front| front.url(Place::Resource));
    call(resource.as_deref(), &token).await?;
    if token.refresh_token().is_some() {
        println!("Refreshing the token");
        token = transport.run(TokenRequest::refresh(&server, &client, &token)?.exchange()).await?;
        show(&transport, &token);
        call(resource.as_deref(), &token).await?;
    }
    revoke(&transport, &server, &client, &token).await?;
    call(resource.as_deref(), &token).await
}

/// Says what the token is good for. The token itself is not shown.
fn show(transport: &Transport, token: &Token) {
    println!("A token is here, for the scopes: {}", token.scopes().as_str());
    match token.expires_at() {
        Some(end) => println!("  it ends at {end}, in {} s", end.since(transport.now().wall).as_secs()),
        None => println!("  the server does not say when it ends"),
    }
    println!("  it {} a refresh token", if token.refresh_token().is_some() { "has" } else { "has no" });
    if let Some(id_token) = token.id_token() {
        println!("  the user is {} of {}", id_token.subject(), id_token.issuer());
    }
}

/// Calls what the token protects, by whatever HTTP client the program has: here reqwest.
async fn call(resource: Option<&str>, token: &Token) -> Result<(), Box<dyn Error>> {
    let Some(url) = resource else { return Ok(()) };
    println!("Calling {url} with the token");
    // A program that has reqwest with its default features needs no such line.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::Client::builder().no_proxy().build()?;
    let answer = client.get(url).header("authorization", token.authorization()?).send().await?;
    println!("  it answers {}: {}", answer.status(), answer.text().await?);
    Ok(())
}

/// Ends what was granted, so that nothing is left over.
async fn revoke(
    transport: &Transport,
    server: &ServerMetadata,
    client: &Client,
    token: &Token,
) -> Result<(), Box<dyn Error>> {
    if server.revocation().is_err() {
        println!("The server does not revoke tokens");
        return Ok(());
    }
    println!("Revoking the token");
    let secret = token.refresh_token().cloned().unwrap_or_else(|| Secret::from(token.access_token()));
    transport.run(Revocation::new(server, client, &secret)?.exchange()).await?;
    Ok(())
}

#[derive(Default)]
struct Args {
    client_secrets: Option<PathBuf>,
    issuer: Option<String>,
    client_id: Option<String>,
    client_secret: Option<Secret>,
    scopes: Vec<String>,
    paste: bool,
}

impl Args {
    /// The arguments, or `None` if help is wanted.
    fn parse(mut given: impl Iterator<Item = String>) -> Result<Option<Self>, String> {
        let mut args = Self::default();
        while let Some(name) = given.next() {
            let mut value = || given.next().ok_or_else(|| format!("{name} needs a value"));
            match &*name {
                "--help" | "-h" => return Ok(None),
                "--client-secrets" => args.client_secrets = Some(value()?.into()),
                "--issuer" => args.issuer = Some(value()?),
                "--client-id" => args.client_id = Some(value()?),
                "--client-secret" => args.client_secret = Some(value()?.into()),
                "--scope" => args.scopes.push(value()?),
                "--paste" => args.paste = true,
                _ => return Err(format!("There is no argument {name}")),
            }
        }
        match (&args.client_secrets, &args.issuer, &args.client_id) {
            (Some(_), None, None) if args.scopes.is_empty() => Err("Google needs a --scope, such as openid".into()),
            (Some(_), None, None) | (None, Some(_), Some(_)) => Ok(Some(args)),
            (None, None, None) if args.scopes.is_empty() && args.client_secret.is_none() && !args.paste => {
                Ok(Some(args))
            }
            _ => Err("Give --client-secrets, or --issuer and --client-id, or nothing".into()),
        }
    }

    /// The client, with its secret in the way that the server takes it.
    fn client(&self, server: &ServerMetadata) -> Client {
        let client = Client::new(self.client_id.clone().unwrap_or_default());
        let methods = server.get("token_endpoint_auth_methods_supported").and_then(|list| list.as_array());
        let knows = |method| methods.is_some_and(|list| list.iter().any(|known| known == method));
        match self.client_secret.clone() {
            None => client,
            Some(secret) if knows("client_secret_post") && !knows("client_secret_basic") => {
                client.authentication(ClientAuthentication::client_secret_post(secret))
            }
            Some(secret) => client.authentication(ClientAuthentication::client_secret_basic(secret)),
        }
    }
}
