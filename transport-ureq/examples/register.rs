//! A program that registers itself at a server (RFC 7591), once for all that share its store, signs a person in, and manages its
//! registration (RFC 7592). At a pretend server on this machine.

use std::process::ExitCode;

use grantflow_tests::command::{Outcome, run};
use grantflow_tests::{Front, Place, Server, person};
use grantflow_ureq::Transport;
use grantflow_ureq::grantflow::register::{ClientMetadata, Registration};
use grantflow_ureq::grantflow::store::RegistrationInStore;
use grantflow_ureq::grantflow::{Discovery, InstalledApp, Issuer};
use grantflow_ureq::grantflow_store::MemoryStore;

const HELP: &str = "\
Usage:
  register   registers itself at a pretend server on this machine
Options:
  --help     this text";

fn main() -> ExitCode {
    run(HELP, |_| Ok(()), |()| register())
}

fn register() -> Outcome {
    // Each use of the registration's token brings another one.
    let front = Front::start(Server::demo().with(|settings| {
        settings.registration = true;
        settings.rotate_registration_tokens = true;
    }))?;
    // A `FileStore` keeps it for the next process.
    let transport = Transport::new()?.with_store(MemoryStore::new());
    let issuer = Issuer::new(front.issuer())?;
    let server = transport.run(Discovery::new(&issuer))?;
    let metadata = ClientMetadata::new().client_name("Calendar");
    let metadata =
        metadata.application_type("native").redirect_uris(["http://127.0.0.1/"]).token_endpoint_auth_method("none");
    for start in ["first", "second"] {
        let registration = Registration::new(&server, metadata.clone())?;
        let registered = transport.run(RegistrationInStore::new(registration))?;
        println!("At the {start} start it is {}", registered.client_id());
        for change in registered.changes() {
            println!("  the server has changed {}", change.name);
        }
        let app =
            InstalledApp::new(&registered.server(&server)?, &registered.client()?).scopes("read").open_browser(false);
        let token = transport.sign_in(&app.show(|url| drop(person::visit_in_background(url))))?;
        println!("  a person has signed in: {}", token.scopes());
    }
    let changed = transport.run(RegistrationInStore::update(&issuer, metadata.client_name("Diary")))?;
    println!("Its name is {} now", changed.metadata().str("client_name").unwrap_or_default());
    transport.run(RegistrationInStore::delete(&issuer))?;
    let server = front.server();
    let (made, managed) = (server.seen_at(Place::Registration).len(), server.seen_at(Place::Managed).len());
    println!("It was registered {made} time, managed {managed} times, and is deleted");
    Ok(())
}
