//! Lists the models of the Gemini API, with a token from Google's default credentials.

use std::process::ExitCode;

use grantflow_tests::command::{Args, Outcome, run};
use grantflow_ureq::grantflow::google::{DefaultCredentials, api_key, scopes};
use grantflow_ureq::grantflow::source::Want;
use grantflow_ureq::grantflow::{Challenge, Hosts};
use grantflow_ureq::{AuthorizedAgent, TokenManager, Transport};
use http::Request;

const BASE_URL: &str = "https://generativelanguage.googleapis.com";
const HELP: &str = "\
Usage:
  gemini [--base-url URL] [--any-server]
A user's credentials (from `gcloud auth application-default login`) need a project to charge: the one in their file, or
the one that GOOGLE_CLOUD_QUOTA_PROJECT names. With GEMINI_API_KEY set, that key is used.
Options:
  --base-url URL  where the API is
  --any-server    follow whatever server a credential file names; only for files that nobody else can write
  --help          this text";

fn main() -> ExitCode {
    let parse = |args: &mut Args| Ok((args.value("--base-url")?, args.flag("--any-server")));
    run(HELP, parse, |(base_url, any_server)| list(base_url.as_deref().unwrap_or(BASE_URL), any_server))
}

fn list(base_url: &str, any_server: bool) -> Outcome {
    let transport = Transport::new()?;
    let tokens = match std::env::var("GEMINI_API_KEY") {
        Ok(key) if !key.is_empty() => TokenManager::new(&transport, api_key(&key)?, Want::default()),
        _ => {
            let search = DefaultCredentials::new(transport.platform());
            let found = transport.run(if any_server { search.with_any_server() } else { search })?;
            TokenManager::new(&transport, found.credential, Want::access_token(scopes::CLOUD_PLATFORM))
        }
    };
    let request = Request::get(format!("{base_url}/v1beta/models")).body(())?;
    let host = request.uri().authority().ok_or("the base URL has no host")?.to_string();
    let api = AuthorizedAgent::new(transport.agent()?, tokens, Hosts::from([host]));
    let mut response = api.run(request)?;
    let body = response.body_mut().read_to_string()?;
    if !response.status().is_success() {
        for challenge in Challenge::all(response.headers()) {
            println!("The API asks for: {challenge:?}");
        }
        return Err(format!("the API answers {}: {body}", response.status()).into());
    }
    let answer: serde_json::Value = serde_json::from_str(&body)?;
    for model in answer["models"].as_array().into_iter().flatten() {
        println!(
            "{}: {}",
            model["name"].as_str().unwrap_or_default(),
            model["displayName"].as_str().unwrap_or_default()
        );
    }
    Ok(())
}
