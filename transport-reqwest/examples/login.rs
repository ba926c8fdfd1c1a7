//! Signs a person in and shows each step that is taken on the way. Then it refreshes the token and revokes it; or,
//! with a store, keeps what was granted for the next time. Without arguments everything happens on this machine.

mod common;

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use common::{Args, Outcome, show};
use grantflow_reqwest::Transport;
use grantflow_reqwest::grantflow::google::ClientSecrets;
use grantflow_reqwest::grantflow::{
    Client, Discovery, Event, InstalledApp, Issuer, Revocation, Secret, ServerMetadata, Token, TokenRequest,
};
use grantflow_reqwest::grantflow_store::{FileStore, read_private, write_private};
use grantflow_tests::{Front, Place, Server, person};

const HELP: &str = "\
Usage:
  login                                        at a pretend server on this machine, where a pretend person consents
  login --client-secrets FILE --scope S        at Google, with the client file from its console
  login --issuer URL --client-id ID [--client-secret S] [--scope S]
                                               at any server that publishes metadata
Options:
  --scope S    what to ask for; may be given several times
  --store DIR  keep what is granted there: the next time nobody is asked
  --no-browser print the URL only
  --paste      the browser is on another machine: take its last address from the terminal
  --help       this text";

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    common::run(common::arguments(HELP, Login::parse), login).await
}

async fn login(args: Login) -> Outcome {
    let steps = AtomicUsize::new(0);
    let transport = Transport::builder()
        .watch(move |event| match event {
            Event::Effect(effect) => println!("  {:2} -> {effect:?}", steps.fetch_add(1, Ordering::Relaxed) + 1),
            Event::Reply(reply) => println!("     <- {reply:?}"),
            _ => {}
        })
        .build()?;

    if let Some(file) = &args.client_secrets {
        println!("Reading the client file");
        let secrets = transport.run(ClientSecrets::read(file)).await?;
        return sign_in(&transport, &args.configure(InstalledApp::google(&secrets)), &args, None).await;
    }
    if let Some(issuer) = &args.issuer {
        let server = metadata(&transport, &Issuer::new(issuer.as_str())?, args.store.as_deref()).await?;
        return sign_in(&transport, &args.configure(InstalledApp::new(&server, &args.client(&server))), &args, None)
            .await;
    }
    let front = Front::start(Server::demo())?;
    println!("A pretend server runs at {}\nReading its metadata", front.issuer());
    let server = transport.run(Discovery::new(&Issuer::new(front.issuer())?)).await?;
    let app = InstalledApp::new(&server, &Client::new("demo")).scopes("openid email read").open_browser(false);
    let app = app.show(|url| {
        println!("A pretend person opens {} and consents", url.split('?').next().unwrap_or_default());
        person::visit_in_background(url);
    });
    let resource = front.url(Place::Resource);
    sign_in(&transport, &app, &args, Some(&resource)).await?;
    if args.store.is_some() {
        println!("\nOnce more, as when the program is started again");
        sign_in(&transport, &app, &args, Some(&resource)).await?;
    }
    Ok(())
}

async fn sign_in(transport: &Transport, app: &InstalledApp, args: &Login, resource: Option<&str>) -> Outcome {
    match &args.store {
        Some(directory) => remember(transport, app, directory, resource).await,
        None => once(transport, app, resource).await,
    }
}

/// Signs in unless it was done before.
async fn remember(transport: &Transport, app: &InstalledApp, directory: &Path, resource: Option<&str>) -> Outcome {
    println!("Looking for what was granted before, in {}", directory.display());
    let store = FileStore::new(directory);
    let tokens = transport.with_store(Arc::new(store)).load_or_sign_in(app, "").await?;
    show(transport, &*tokens.token().await?);
    if app.server().get("issuer").is_some() {
        // So that the next time it need not be asked for.
        write_private(directory.join("metadata.json"), app.server().to_json().as_bytes())?;
    }
    call(resource, &*tokens.token().await?).await
}

/// Signs in, refreshes the token and revokes it, so that nothing is left over.
async fn once(transport: &Transport, app: &InstalledApp, resource: Option<&str>) -> Outcome {
    let (server, client) = (app.server(), app.client());
    println!("Signing in at {}", server.issuer());
    let mut token = transport.sign_in(app).await?;
    show(transport, &token);
    call(resource, &token).await?;
    if token.refresh_token().is_some() {
        println!("Refreshing the token");
        token = transport.run(TokenRequest::refresh(server, client, &token)?.exchange()).await?;
        show(transport, &token);
        call(resource, &token).await?;
    }
    if server.revocation().is_err() {
        println!("The server does not revoke tokens");
        return Ok(());
    }
    println!("Revoking the token");
    let secret = token.refresh_token().cloned().unwrap_or_else(|| Secret::from(token.access_token()));
    transport.run(Revocation::new(server, client, &secret)?.exchange()).await?;
    call(resource, &token).await
}

/// The server's metadata, as an earlier run kept it, or as the server tells it.
async fn metadata(
    transport: &Transport,
    issuer: &Issuer,
    store: Option<&Path>,
) -> Result<ServerMetadata, Box<dyn Error>> {
    let kept = store.and_then(|directory| read_private(directory.join("metadata.json"), 1 << 18).ok()?);
    if let Some(server) = kept.and_then(|json| ServerMetadata::from_json(&json, issuer).ok()) {
        return Ok(server);
    }
    println!("Reading the server's metadata");
    Ok(transport.run(Discovery::new(issuer)).await?)
}

/// Calls what the token protects, by whatever HTTP client the program has: here reqwest.
async fn call(resource: Option<&str>, token: &Token) -> Outcome {
    let Some(url) = resource else { return Ok(()) };
    println!("Calling {url} with the token");
    // A program that has reqwest with its default features needs no such line.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::Client::builder().no_proxy().build()?;
    let answer = client.get(url).header("authorization", token.authorization()?).send().await?;
    println!("  it answers {}: {}", answer.status(), answer.text().await?);
    Ok(())
}

struct Login {
    client_secrets: Option<PathBuf>,
    issuer: Option<String>,
    client_id: Option<String>,
    client_secret: Option<Secret>,
    scopes: Vec<String>,
    store: Option<PathBuf>,
    no_browser: bool,
    paste: bool,
}

impl Login {
    fn parse(args: &mut Args) -> Result<Self, String> {
        let store = args.value("--store")?.map(Into::into);
        let pretend = args.is_empty();
        let parsed = Self {
            client_secrets: args.value("--client-secrets")?.map(Into::into),
            issuer: args.value("--issuer")?,
            client_id: args.value("--client-id")?,
            client_secret: args.value("--client-secret")?.map(Into::into),
            scopes: args.values("--scope")?,
            store,
            no_browser: args.flag("--no-browser"),
            paste: args.flag("--paste"),
        };
        match (&parsed.client_secrets, &parsed.issuer, &parsed.client_id) {
            (Some(_), None, None) if parsed.scopes.is_empty() => Err("Google needs a --scope, such as openid".into()),
            (Some(_), None, None) | (None, Some(_), Some(_)) => Ok(parsed),
            (None, None, None) if pretend => Ok(parsed),
            _ => Err("Give --client-secrets, or --issuer and --client-id, or none of these".into()),
        }
    }

    fn configure(&self, app: InstalledApp) -> InstalledApp {
        app.scopes(self.scopes.join(" ")).paste(self.paste).open_browser(!self.no_browser)
    }

    fn client(&self, server: &ServerMetadata) -> Client {
        common::client(server, self.client_id.as_deref().unwrap_or_default(), self.client_secret.as_ref())
    }
}
