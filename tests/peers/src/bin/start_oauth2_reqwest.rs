//! The first token with oauth2 and reqwest: see `start`. It knows no service accounts: it refreshes, and signs as often
//! as the others do, by ring itself.

#[path = "../first_token.rs"]
mod first_token;

use base64::Engine as _;
use oauth2::basic::BasicClient;
use oauth2::{ClientId, RefreshToken, TokenResponse as _, TokenUrl, reqwest};
use ring::rand::SystemRandom;
use ring::signature::{RSA_PKCS1_SHA256, RsaKeyPair};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let account: serde_json::Value = serde_json::from_slice(&std::fs::read(first_token::key_file())?)?;
        let text = |name: &str| account[name].as_str().unwrap_or_default().to_owned();
        let pem: String = text("private_key").lines().filter(|line| !line.starts_with('-')).collect();
        let key = RsaKeyPair::from_pkcs8(&base64::engine::general_purpose::STANDARD.decode(pem)?)?;
        let mut signature = vec![0; key.public().modulus_len()];
        key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), &[b'x'; 400], &mut signature)?;

        let http = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build()?;
        let client = BasicClient::new(ClientId::new("demo".into())).set_token_uri(TokenUrl::new(text("token_uri"))?);
        let token = client.exchange_refresh_token(&RefreshToken::new("1//demo".into())).request_async(&http).await?;
        first_token::show(token.access_token().secret());
        Ok(())
    })
}
