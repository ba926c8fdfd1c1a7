//! The first token with tame-oauth and ureq: see `start`.

#[path = "../first_token.rs"]
mod first_token;

use tame_oauth::gcp::{ServiceAccountInfo, ServiceAccountProvider, TokenOrRequest, TokenProvider as _};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let info = ServiceAccountInfo::deserialize(std::fs::read(first_token::key_file())?)?;
    let provider = ServiceAccountProvider::new(info)?;
    let TokenOrRequest::Request { request, scope_hash, .. } = provider.get_token(&[first_token::SCOPE])? else {
        return Err("there is no token yet".into());
    };
    let (parts, mut body) = ureq::agent().run(request)?.into_parts();
    let response = http::Response::from_parts(parts, body.read_to_vec()?);
    first_token::show(&provider.parse_token_response(scope_hash, response)?.access_token);
    Ok(())
}
