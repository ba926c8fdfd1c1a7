//! `client_credentials` of a client that proves itself by a certificate (`tls_client_auth`, RFC 8705), and whose tokens are good
//! only together with it: at a pretend server on this machine, which asks for certificates at endpoints of their own.

use std::process::ExitCode;

use grantflow_tests::command::{Outcome, run};
use grantflow_tests::secure::{Authority, SecureFront};
use grantflow_tests::{Registered, Server};
use grantflow_ureq::grantflow::machine::Identity;
use grantflow_ureq::grantflow::source::{Credential, Want};
use grantflow_ureq::grantflow::{Client, ClientAuthentication, Issuer};
use grantflow_ureq::{AuthorizedAgent, TokenManager, Transport};
use http::Request;

const HELP: &str = "\
Usage:
  mtls      calls a pretend API on this machine, with the client's certificate and without
Options:
  --help    this text";

fn main() -> ExitCode {
    run(HELP, |_| Ok(()), |()| call())
}

fn call() -> Outcome {
    // The server trusts an authority, which has signed the certificates of both sides.
    let authority = Authority::new("an authority of examples");
    let own = authority.signs("batch.example");
    let registered =
        Registered::tls_client_auth("batch-by-certificate", authority.certificate().shown(), "batch.example");
    let front = SecureFront::start(Server::demo().client(registered), &authority)?;
    let issuer = Issuer::new(front.server().issuer())?;
    // `identity_files` reads a certificate again when it is renewed.
    let transport = Transport::builder().root_certificate_pem(authority.certificate().pem.as_bytes());
    let transport = transport.identity("batch", &own.pem, own.key.as_str()).build()?;
    let certificate = Identity::named("batch");
    let client = Client::new("batch-by-certificate");
    let client = client.authentication(ClientAuthentication::tls_client_auth(certificate.clone()));
    let credential = Credential::client_credentials(issuer, &client);
    let tokens = TokenManager::new(&transport, credential, Want::access_token("read"));
    let resource = front.resource();
    let host = resource.split('/').nth(2).unwrap_or_default();
    for (words, agent) in [("with", transport.agent_presenting(&certificate)?), ("without", transport.agent()?)] {
        let api = AuthorizedAgent::new(agent, tokens.clone(), [host]);
        let status = api.run(Request::get(resource.as_str()).body(())?)?.status();
        println!("The API answers {status} to the token {words} the certificate");
    }
    Ok(())
}
