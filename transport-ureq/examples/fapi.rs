//! A person signs in to a client that is held to the FAPI 2.0 Security Profile, and to its Message Signing: what it lacks it is told
//! before anything is sent. At a pretend server on this machine, over TLS.

use std::process::ExitCode;

use grantflow_tests::command::{Outcome, run};
use grantflow_tests::google::ec_private_key;
use grantflow_tests::kms::Es256;
use grantflow_tests::secure::{Authority, SecureFront};
use grantflow_tests::{IssuerKey, Registered, Server};
use grantflow_ureq::Transport;
use grantflow_ureq::grantflow::crypto::{Algorithm, SigningKey};
use grantflow_ureq::grantflow::store::DpopKeyInStore;
use grantflow_ureq::grantflow::{AuthorizationRequest, Client, ClientAuthentication, Discovery, Issuer};
use grantflow_ureq::grantflow_store::MemoryStore;

const HELP: &str = "\
Usage:
  fapi      signs a person in at a pretend bank on this machine
Options:
  --help    this text";
const REDIRECT: &str = "https://app.example/callback";

fn main() -> ExitCode {
    run(HELP, |_| Ok(()), |()| sign_in())
}

fn sign_in() -> Outcome {
    // The bank knows the public key, which assertions and requests are signed by.
    let public = Es256::default().public();
    let registered = Registered::private_key_jwt("app", [public.clone()]).request_key(public).redirect_uri(REDIRECT);
    let authority = Authority::new("an authority of examples");
    let bank = Server::demo().client(registered).with(|settings| {
        settings.keys = vec![IssuerKey::es256("1")];
        settings.require_pushed = true;
        settings.dpop_required = true;
    });
    let front = SecureFront::start(bank, &authority)?;
    let transport = Transport::builder().root_certificate_pem(authority.certificate().pem.as_bytes()).build()?;
    let transport = transport.with_store(MemoryStore::new());
    let issuer = Issuer::new(front.server().issuer())?;
    let server = transport.run(Discovery::new(&issuer))?;

    let key = SigningKey::from_pem(Algorithm::ES256, &ec_private_key())?;
    let client = Client::new("app");
    if let Err(error) = client.clone().fapi2_security_profile(&server) {
        println!("Not yet: {error}");
    }
    let client = client.authentication(ClientAuthentication::private_key_jwt(key.clone()));
    let proof = transport.run(DpopKeyInStore::new(&issuer, &client))?;
    let client = client.dpop(proof).authorization_signed_response_alg(Algorithm::ES256);
    let client = client.fapi2_security_profile(&server)?.fapi2_message_signing(&server)?;

    let request = AuthorizationRequest::new(&server, &client, REDIRECT).scopes("openid read");
    let authorization = transport.run(request.sign(key).signed_response().start())?;
    let redirect = front.person(&authorization.url);
    let token = transport.run(authorization.pending.finish(&client, &redirect))?;
    println!("A token of the type {:?} is here, for the scopes: {}", token.token_type(), token.scopes());
    Ok(())
}
