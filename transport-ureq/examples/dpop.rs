//! `client_credentials` with tokens that are bound to a key (DPoP, RFC 9449), which all processes that share a store have
//! in common: at a pretend server on this machine, whose API wants to see its nonce.

use std::process::ExitCode;

use grantflow_tests::command::{Outcome, run};
use grantflow_tests::{Front, Place, Server};
use grantflow_ureq::grantflow::source::{Credential, Want};
use grantflow_ureq::grantflow::store::DpopKeyInStore;
use grantflow_ureq::grantflow::{Client, ClientAuthentication, Issuer};
use grantflow_ureq::grantflow_store::MemoryStore;
use grantflow_ureq::{AuthorizedAgent, TokenManager, Transport};
use http::Request;

const HELP: &str = "\
Usage:
  dpop      calls a pretend API on this machine twice
Options:
  --help    this text";

fn main() -> ExitCode {
    run(HELP, |_| Ok(()), |()| call())
}

fn call() -> Outcome {
    let front = Front::start(Server::demo().with(|settings| {
        settings.dpop_required = true;
        settings.dpop_resource_nonce = Some("a-nonce".into());
    }))?;
    let issuer = Issuer::new(front.issuer())?;
    // A `FileStore` keeps the key for the next process.
    let transport = Transport::new()?.with_store(MemoryStore::new());
    let client = Client::new("batch").authentication(ClientAuthentication::client_secret_basic("batch-secret"));
    let key = transport.run(DpopKeyInStore::new(&issuer, &client))?;
    println!("The key is {}", key.thumbprint());
    let credential = Credential::client_credentials(issuer, &client.dpop(key));
    let tokens = TokenManager::new(&transport, credential, Want::access_token("read"));
    let api = AuthorizedAgent::new(transport.agent()?, tokens, [front.address().to_string()]);
    for _ in 0..2 {
        let response = api.run(Request::get(front.url(Place::Resource)).body(())?)?;
        println!("The API answers {}", response.status());
    }
    println!("It saw {} requests, one of them without its nonce", front.server().seen_at(Place::Resource).len());
    Ok(())
}
