//! Gets a token of Google's for what another platform says of this program: `external_account FILE [--scope S]`.
//! The file is what `gcloud iam workload-identity-pools create-cred-config` writes.

use grantflow_ureq::grantflow::google::{ExternalAccount, scopes};
use grantflow_ureq::grantflow::source::Want;
use grantflow_ureq::{TokenManager, Transport};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::args().nth(1).ok_or("usage: external_account FILE")?;
    // The file says what is read, asked or run: it must be one that you trust.
    let transport = Transport::builder().allow_programs().build()?;
    let account = transport.run(ExternalAccount::read(path).with_any_source())?;
    let tokens = TokenManager::new(&transport, account, Want::access_token(scopes::CLOUD_PLATFORM));
    println!("a token that ends at {:?}", tokens.token()?.expires_at());
    Ok(())
}
