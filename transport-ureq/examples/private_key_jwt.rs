//! `client_credentials` of a client that has no secret: it signs an assertion by its own key for each request
//! (`private_key_jwt`, RFC 7523), at a pretend server on this machine.

use std::process::ExitCode;

use grantflow_tests::command::{Outcome, run};
use grantflow_tests::kms::Es256;
use grantflow_tests::{Front, Place, Registered, Server};
use grantflow_ureq::grantflow::crypto::{Algorithm, SigningKey};
use grantflow_ureq::grantflow::source::{Credential, Want};
use grantflow_ureq::grantflow::{Client, ClientAuthentication, Issuer};
use grantflow_ureq::{TokenManager, Transport};

const HELP: &str = "\
Usage:
  private_key_jwt   gets a token at a pretend server on this machine
Options:
  --help            this text";

fn main() -> ExitCode {
    run(HELP, |_| Ok(()), |()| token())
}

fn token() -> Outcome {
    // The server knows the public key.
    let registered = Registered::private_key_jwt("batch-by-key", [Es256::default().public()]);
    let front = Front::start(Server::demo().client(registered))?;
    let issuer = Issuer::new(front.issuer())?;
    let transport = Transport::new()?;
    let key = SigningKey::from_pem(Algorithm::ES256, &grantflow_tests::google::ec_private_key())?;
    let client = Client::new("batch-by-key").authentication(ClientAuthentication::private_key_jwt(key));
    let credential = Credential::client_credentials(issuer, &client);
    let tokens = TokenManager::new(&transport, credential, Want::access_token("read"));
    println!("A token is here, for the scopes: {}", tokens.token()?.scopes());
    let sent = front.server().seen_at(Place::Token).last().and_then(|seen| seen.param("client_assertion"));
    println!("The server saw an assertion of {} bytes, and no secret", sent.unwrap_or_default().len());
    Ok(())
}
