//! The first token with grantflow and ureq: see `start`.

#[path = "../first_token.rs"]
mod first_token;

use grantflow_ureq::grantflow::Error;
use grantflow_ureq::grantflow::google::ServiceAccount;
use grantflow_ureq::grantflow::source::Want;
use grantflow_ureq::{TokenManager, Transport};

fn main() -> Result<(), Error> {
    let transport = Transport::new()?;
    let account = transport.run(ServiceAccount::read(first_token::key_file()).with_any_server())?;
    let tokens = TokenManager::new(&transport, account, Want::access_token(first_token::SCOPE));
    first_token::show(tokens.token()?.access_token());
    Ok(())
}
