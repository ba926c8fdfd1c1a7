//! Gets a token of a service account that your default credentials may impersonate: `impersonate EMAIL`.

use grantflow_ureq::grantflow::google::{Impersonated, scopes};
use grantflow_ureq::grantflow::source::Want;
use grantflow_ureq::{TokenManager, Transport};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let email = std::env::args().nth(1).ok_or("usage: impersonate EMAIL")?;
    let transport = Transport::new()?;
    let source = Impersonated::new(transport.google_search()?.credential, &email)?;
    let tokens = TokenManager::new(&transport, source, Want::access_token(scopes::CLOUD_PLATFORM));
    println!("a token of {email} that ends at {:?}", tokens.token()?.expires_at());
    Ok(())
}
