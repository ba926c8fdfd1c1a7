//! The first token with yup-oauth2: see `start`.

#[path = "../first_token.rs"]
mod first_token;

use yup_oauth2::{ServiceAccountAuthenticator, read_service_account_key};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let key = read_service_account_key(first_token::key_file()).await?;
        let tokens = ServiceAccountAuthenticator::builder(key).build().await?;
        first_token::show(tokens.token(&[first_token::SCOPE]).await?.token().unwrap_or_default());
        Ok(())
    })
}
