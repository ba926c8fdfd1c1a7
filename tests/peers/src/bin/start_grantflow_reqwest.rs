//! The first token with grantflow and reqwest: see `start`.

#[path = "../first_token.rs"]
mod first_token;

use grantflow_reqwest::grantflow::Error;
use grantflow_reqwest::grantflow::google::ServiceAccount;
use grantflow_reqwest::grantflow::source::Want;
use grantflow_reqwest::{TokenManager, Transport};

fn main() -> Result<(), Error> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let transport = Transport::new()?;
        let account = transport.run(ServiceAccount::read(first_token::key_file()).with_any_server()).await?;
        let tokens = TokenManager::new(&transport, account, Want::access_token(first_token::SCOPE));
        first_token::show(tokens.token().await?.access_token());
        Ok(())
    })
}
