//! Signs a person in and shows each step that is taken on the way. Then it refreshes the token and revokes it; or,
//! with a store, keeps what was granted for the next time. Without arguments everything happens on this machine.

use std::error::Error;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use grantflow_reqwest::Transport;
use grantflow_reqwest::grantflow::google::ClientSecrets;
use grantflow_reqwest::grantflow::{
    Client, Discovery, Event, InstalledApp, Issuer, Revocation, ServerMetadata, Token, TokenRequest,
};
use grantflow_reqwest::grantflow_store::{FileStore, read_private, write_private};
use grantflow_tests::command::{LoginArgs, Outcome, run_async, show};
use grantflow_tests::{Front, Place, Server, person};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    run_async(LoginArgs::HELP, LoginArgs::parse, login).await
}

async fn login(args: LoginArgs) -> Outcome {
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

async fn sign_in(transport: &Transport, app: &InstalledApp, args: &LoginArgs, resource: Option<&str>) -> Outcome {
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
    show(&*tokens.token().await?, transport.now().wall);
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
    show(&token, transport.now().wall);
    call(resource, &token).await?;
    if token.refresh_token().is_some() {
        println!("Refreshing the token");
        token = transport.run(TokenRequest::refresh(server, client, &token)?.exchange()).await?;
        show(&token, transport.now().wall);
        call(resource, &token).await?;
    }
    if server.revocation().is_err() {
        println!("The server does not revoke tokens");
        return Ok(());
    }
    println!("Revoking the token");
    transport.run(Revocation::of(server, client, &token)?.exchange()).await?;
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
