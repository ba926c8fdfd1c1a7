//! The whole of `load_creds.py` from Google's OAuth quickstart in one call: the first time it opens a browser, the
//! next time nobody is asked. Without arguments everything happens on this machine.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use grantflow_tests::command::{Args, Outcome, run, show};
use grantflow_tests::server::Alter;
use grantflow_tests::{Front, Server, person};
use grantflow_ureq::Transport;
use grantflow_ureq::grantflow::google::{ClientSecrets, scopes};
use grantflow_ureq::grantflow::store::LoadGrant;
use grantflow_ureq::grantflow::{Client, InstalledApp};
use grantflow_ureq::grantflow_store::FileStore;

const HELP: &str = "\
Usage:
  load_or_sign_in                              at a pretend server on this machine, twice
  load_or_sign_in --client-secrets FILE        at Google, with the client file from its console
Options:
  --store DIR  where to keep what is granted; where the system wants such things unless told
  --sign-out   revoke and forget what is kept
  --help       this text";

struct Parsed {
    client_secrets: Option<PathBuf>,
    store: Option<PathBuf>,
    sign_out: bool,
}

fn main() -> ExitCode {
    let parse = |args: &mut Args| {
        let client_secrets = args.value("--client-secrets")?.map(Into::into);
        Ok(Parsed { client_secrets, store: args.value("--store")?.map(Into::into), sign_out: args.flag("--sign-out") })
    };
    run(HELP, parse, |args| match &args.client_secrets {
        Some(file) => google(file, &args),
        None => pretend(&args),
    })
}

fn google(file: &PathBuf, args: &Parsed) -> Outcome {
    let transport = Transport::new()?;
    let secrets = transport.run(ClientSecrets::read(file))?;
    let app = InstalledApp::google(&secrets).scopes(scopes::GENERATIVE_LANGUAGE_RETRIEVER);
    let store = match &args.store {
        Some(directory) => FileStore::new(directory),
        None => FileStore::default_for("grantflow-load-or-sign-in", &transport.platform())?,
    };
    let transport = transport.with_store(Arc::new(store));
    if args.sign_out {
        return Ok(transport.sign_out(&app, "")?);
    }
    let tokens = transport.load_or_sign_in(&app, "")?;
    show(&*tokens.token()?, transport.now().wall);
    Ok(())
}

fn pretend(args: &Parsed) -> Outcome {
    let own = std::env::temp_dir().join(format!("grantflow-load-or-sign-in-{}", std::process::id()));
    let directory = args.store.as_ref().unwrap_or(&own);
    // It lets people stay signed in for a week.
    let week = Alter::set("authorization_expires_in", (7 * 24 * 3600).into());
    let front = Front::start(Server::demo().with(|settings| settings.alter_token = week))?;
    let app = InstalledApp::new(&front.metadata(), &Client::new("demo")).scopes("openid read");
    let app = app.open_browser(false).show(|url| {
        println!("  a pretend person consents in their browser");
        person::visit_in_background(url);
    });
    for time in ["The first time", "The second time"] {
        println!("{time}:");
        let before = front.server().seen().len();
        // As if the program had just been started.
        let transport = Transport::new()?.with_store(Arc::new(FileStore::new(directory)));
        let tokens = transport.load_or_sign_in(&app, "")?;
        show(&*tokens.token()?, transport.now().wall);
        println!("  the server saw {} requests", front.server().seen().len() - before);
        let kept = transport.run(LoadGrant::new(app.record_key(""), app.want()))?;
        if let Some(end) = kept.and_then(|kept| kept.signs_out_at) {
            println!("  signs out on {end}");
        }
    }
    println!("Signing out");
    Transport::new()?.with_store(Arc::new(FileStore::new(directory))).sign_out(&app, "")?;
    if args.store.is_none() {
        std::fs::remove_dir_all(own)?;
    }
    Ok(())
}
