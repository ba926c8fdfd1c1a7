//! The first token with gcp_auth: see `start`.

#[path = "../first_token.rs"]
mod first_token;

use gcp_auth::{CustomServiceAccount, Error, TokenProvider as _};

fn main() -> Result<(), Error> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let account = CustomServiceAccount::from_file(first_token::key_file())?;
        first_token::show(account.token(&[first_token::SCOPE]).await?.as_str());
        Ok(())
    })
}
