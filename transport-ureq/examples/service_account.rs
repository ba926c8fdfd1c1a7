//! Gets a token of a service account, by its key file.

use std::process::ExitCode;

use grantflow_tests::command::{Args, Outcome, run, show};
use grantflow_ureq::grantflow::google::ServiceAccount;
use grantflow_ureq::grantflow::source::Want;
use grantflow_ureq::{TokenManager, Transport};

const HELP: &str = "\
Usage:
  service_account FILE --scope S               an access token from the token endpoint
  service_account FILE --scope S --subject U   the same on behalf of a user (domain-wide delegation)
  service_account FILE --audience A            an access token that the key signs itself; no request is made
  service_account FILE --audience A --id-token an ID token for that audience
Options:
  --scope S     what the token is for; may be given several times
  --any-server  follow whatever server the file names; only for files that nobody else can write
  --help        this text";

struct Parsed {
    file: String,
    want: Want,
    any_server: bool,
}

fn main() -> ExitCode {
    run(HELP, parse, service_account)
}

fn parse(args: &mut Args) -> Result<Parsed, String> {
    let (scopes, audience, subject) = (args.values("--scope")?, args.value("--audience")?, args.value("--subject")?);
    let want = match (audience, args.flag("--id-token")) {
        (Some(audience), true) if scopes.is_empty() => Want::id_token(&audience),
        (Some(audience), false) if scopes.is_empty() => Want::default().self_signed().audience(&audience),
        (None, false) if !scopes.is_empty() => Want::access_token(scopes.join(" ")),
        _ => return Err("Give either --scope, or --audience with or without --id-token".into()),
    };
    let want = subject.into_iter().fold(want, |want, subject| want.subject(&subject));
    let any_server = args.flag("--any-server");
    Ok(Parsed { file: args.unnamed().ok_or("Give the key file")?, want, any_server })
}

fn service_account(args: Parsed) -> Outcome {
    let transport = Transport::new()?;
    let reading = ServiceAccount::read(&args.file);
    let account = transport.run(if args.any_server { reading.with_any_server() } else { reading })?;
    println!("{} of project {}", account.email(), account.project_id().unwrap_or("(none is named)"));
    let tokens = TokenManager::new(&transport, account, args.want);
    show(&*tokens.token()?, transport.now().wall);
    Ok(())
}
