//! A web application whose requests nobody can read, change or forge: signed (JAR), left at the server before (PAR), with a signed
//! answer (JARM); and which asks in detail for what it may do (RAR). At a pretend server on this machine.

use std::process::ExitCode;

use grantflow_tests::command::{Outcome, run};
use grantflow_tests::google::ec_private_key;
use grantflow_tests::kms::Es256;
use grantflow_tests::{Front, IssuerKey, Place, Registered, Server, person};
use grantflow_ureq::grantflow::crypto::{Algorithm, SigningKey};
use grantflow_ureq::grantflow::source::{Credential, Want};
use grantflow_ureq::grantflow::{AuthorizationRequest, Client, ClientAuthentication, Discovery, Issuer};
use grantflow_ureq::{TokenManager, Transport};

const HELP: &str = "\
Usage:
  signed_requests   signs a person in at a pretend server on this machine
Options:
  --help            this text";
const REDIRECT: &str = "https://app.example/callback";

fn main() -> ExitCode {
    run(HELP, |_| Ok(()), |()| sign_in())
}

fn sign_in() -> Outcome {
    // The server knows the public key.
    let registered =
        Registered::basic("app", "app-secret").redirect_uri(REDIRECT).request_key(Es256::default().public());
    let front =
        Front::start(Server::demo().client(registered).with(|settings| settings.keys = vec![IssuerKey::es256("1")]))?;
    let transport = Transport::new()?;
    let server = transport.run(Discovery::new(&Issuer::new(front.issuer())?))?;

    let client = Client::new("app").authentication(ClientAuthentication::client_secret_basic("app-secret"));
    let client = client.authorization_signed_response_alg(Algorithm::ES256);
    let key = SigningKey::from_pem(Algorithm::ES256, &ec_private_key())?;
    let details = serde_json::json!([
        {"type": "payment", "instructedAmount": {"currency": "EUR", "amount": "123.50"}},
        {"type": "account"}
    ]);
    let request = AuthorizationRequest::new(&server, &client, REDIRECT).scopes("openid read");
    let request = request.sign(key).push().signed_response().authorization_details(&details);
    let authorization = transport.run(request.start())?;
    println!("The browser gets {}", authorization.url);
    let redirect = person::answer(&authorization.url)?;
    println!("It comes back with {}...", redirect.chars().take(60).collect::<String>());
    let token = transport.run(authorization.pending.finish(&client, &redirect))?;
    println!("Granted are {} details", token.authorization_details().map_or(0, <[_]>::len));

    // Tokens for some of it.
    let credential = Credential::signed_in(server, &client, &token)?;
    let want = Want::access_token("read").authorization_details(&serde_json::json!([{"type": "account"}]));
    let less = TokenManager::new(&transport, credential, want).token()?;
    println!("Another token has {}", less.authorization_details().map_or(0, <[_]>::len));
    let pushed = front.server().seen_at(Place::PushedRequest)[0].param("request").unwrap_or_default();
    println!("The server was left a signed request of {} bytes", pushed.len());
    Ok(())
}
