//! Looks for Google's application default credentials, as every Google library does, and gets a token with them.

use std::process::ExitCode;

use grantflow_tests::command::{DefaultCredentialsArgs, Outcome, run, show};
use grantflow_ureq::grantflow::google::GoogleCredential;
use grantflow_ureq::{TokenManager, Transport};

fn main() -> ExitCode {
    run(DefaultCredentialsArgs::HELP, DefaultCredentialsArgs::parse, default_credentials)
}

fn default_credentials(args: DefaultCredentialsArgs) -> Outcome {
    let transport = Transport::new()?;
    // Without any of the options, `transport.google_default(scopes)` does all this.
    let found = transport.run(args.search(transport.platform()))?;
    args.tell(&found);
    match &found.credential {
        GoogleCredential::ServiceAccount(account) => println!("  it is {}", account.email()),
        GoogleCredential::MetadataServer(server) => println!("  it is {}", transport.run(server.email()?)?),
        _ => {}
    }
    let tokens = TokenManager::new(&transport, found.credential, args.want());
    show(&*tokens.token()?, transport.now().wall);
    Ok(())
}
