//! Looks for Google's application default credentials, as every Google library does, and gets a token with them.

mod common;

use std::process::ExitCode;

use common::{Args, Outcome, show};
use grantflow_ureq::grantflow::google::{DefaultCredentials, GoogleCredential, scopes};
use grantflow_ureq::grantflow::source::Want;
use grantflow_ureq::{TokenManager, Transport};

const HELP: &str = "\
Usage:
  default_credentials [--scope S] [--trace] [--any-server]
It looks at GOOGLE_APPLICATION_CREDENTIALS, at what `gcloud auth application-default login` wrote (CLOUDSDK_CONFIG
names another folder), and for the metadata server (GCE_METADATA_HOST names another host).
Options:
  --scope S     what the token is for; may be given several times; all of Google Cloud unless told
  --trace       show every place that was looked at
  --any-server  follow whatever server a credential file names; only for files that nobody else can write
  --help        this text";

struct Parsed {
    scopes: Vec<String>,
    trace: bool,
    any_server: bool,
}

fn main() -> ExitCode {
    let parse = |args: &mut Args| {
        let scopes = args.values("--scope")?;
        Ok(Parsed { scopes, trace: args.flag("--trace"), any_server: args.flag("--any-server") })
    };
    common::run(HELP, parse, default_credentials)
}

fn default_credentials(args: Parsed) -> Outcome {
    let transport = Transport::new()?;
    // Without any of these options, `transport.google_default(scopes)` does all this.
    let search = DefaultCredentials::new(transport.platform());
    let found = transport.run(if args.any_server { search.with_any_server() } else { search })?;
    if args.trace {
        println!("Looked at:");
        found.looked.iter().for_each(|looked| println!("  {looked}"));
    }
    let place = found.looked.last().map_or("", |looked| &looked.place);
    println!("Found: {}, by {place}", found.credential.kind());
    match &found.credential {
        GoogleCredential::ServiceAccount(account) => println!("  it is {}", account.email()),
        GoogleCredential::MetadataServer(server) => println!("  it is {}", transport.run(server.email()?)?),
        _ => {}
    }
    println!("Project: {}", found.project_id.as_deref().unwrap_or("none is named"));

    let wanted = if args.scopes.is_empty() { scopes::CLOUD_PLATFORM.to_owned() } else { args.scopes.join(" ") };
    let tokens = TokenManager::new(&transport, found.credential, Want::access_token(wanted));
    show(&transport, &*tokens.token()?);
    Ok(())
}
