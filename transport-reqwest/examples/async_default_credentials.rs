//! Looks for Google's application default credentials, as every Google library does, and gets a token with them.

use std::process::ExitCode;

use grantflow_reqwest::grantflow::google::GoogleCredential;
use grantflow_reqwest::{TokenManager, Transport};
use grantflow_tests::command::{DefaultCredentialsArgs, Outcome, run_async, show};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    run_async(DefaultCredentialsArgs::HELP, DefaultCredentialsArgs::parse, default_credentials).await
}

async fn default_credentials(args: DefaultCredentialsArgs) -> Outcome {
    let transport = Transport::new()?;
    // Without any of the options, `transport.google_default(scopes)` does all this.
    let found = transport.run(args.search(transport.platform())).await?;
    args.tell(&found);
    match &found.credential {
        GoogleCredential::ServiceAccount(account) => println!("  it is {}", account.email()),
        GoogleCredential::MetadataServer(server) => println!("  it is {}", transport.run(server.email()?).await?),
        _ => {}
    }
    let tokens = TokenManager::new(&transport, found.credential, args.want());
    show(&*tokens.token().await?, transport.now().wall);
    Ok(())
}
