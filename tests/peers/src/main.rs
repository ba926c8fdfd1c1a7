//! grantflow beside `oauth2` and `openidconnect`, and beside Google's crates, with the harness and the work of the
//! benches: `cargo run --release` in this folder; with `-- --check` it fails where a bar is broken. Whole programs are
//! compared by `start`.

#[path = "../../benches/bars/authorize.rs"]
mod authorize;
mod exchange;
#[path = "../../benches/bars/harness.rs"]
mod harness;
mod id_token;
#[path = "../../benches/bars/service_account_assertion.rs"]
#[allow(dead_code, reason = "its bar is a matter of the bench")]
mod service_account_assertion;
#[path = "../../benches/bars/token_answer.rs"]
mod token_answer;
#[path = "../../benches/bars/verified_id_token.rs"]
#[allow(dead_code, reason = "its bar is a matter of the bench")]
mod verified_id_token;

use std::process::ExitCode;

use grantflow::{AuthorizationRequest, Client, Cx, Now, ServerMetadata};
use grantflow_tests::google::{KEY_ID, SERVICE_ACCOUNT, private_key, service_account_json};
use harness::{Work, measure, table};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use oauth2::basic::{BasicClient, BasicTokenResponse};
use oauth2::{AuthUrl, ClientId, CsrfToken, PkceCodeChallenge, RedirectUrl, Scope};
use openidconnect::core::{CoreAuthenticationFlow, CoreClient, CoreJsonWebKeySet, CoreTokenResponse};
use openidconnect::{IssuerUrl, Nonce};
use tame_oauth::gcp::{ServiceAccountInfo, ServiceAccountProvider, TokenOrRequest, TokenProvider as _};

const AUTH_URL: &str = "https://accounts.google.com/o/oauth2/v2/auth";
const CLIENT_ID: &str = "1234567890-demo.apps.googleusercontent.com";

/// How often a broken bar is measured again before it counts: noise only ever adds.
const TRIES: usize = 3;

fn main() -> ExitCode {
    let check = std::env::args().any(|arg| arg == "--check");
    let [grantflow, floor] = pair(authorize::works());
    let works = vec![grantflow, with_system_entropy(), oauth2_url(), openidconnect_url(), floor];
    println!("{}", table("authorization URL", &measure(works)));

    let body = token_answer::body();
    let [grantflow, floor] = pair(token_answer::plain());
    println!("{}", table("token answer", &measure(answers(grantflow, &body.to_string(), floor))));

    let mut body = token_answer::body();
    body["id_token"] = token_answer::id_token("n-0S6_WzA2Mj").into();
    let [grantflow, floor] = pair(token_answer::with_id_token());
    println!("{}", table("token answer with ID token", &measure(answers(grantflow, &body.to_string(), floor))));
    println!(
        "grantflow checks the ID token's claims; oauth2 leaves it out, openidconnect only parses it. The peers'\n\
         entropy is a generator in the process; grantflow's first line has its 32 bytes given, the second asks the system.\n"
    );

    let [grantflow, floor] = pair(service_account_assertion::works());
    let works = vec![grantflow, jsonwebtoken(), tame_oauth(), gcp_auth_signature(), floor];
    println!("{}", table("service account assertion", &measure(works)));
    println!(
        "All sign with ring. jsonwebtoken and tame-oauth parse the key for every signature, tame-oauth makes the form too,\n\
         and gcp_auth lets nobody but itself ask for more than the signature. yup-oauth2 can be asked for neither: it has the\n\
         same steps as gcp_auth, and is beside the others where whole programs are compared.\n"
    );

    let body = token_answer::body().to_string();
    let figures = (0..TRIES).map(|_| measure(exchange::works(&body))).inspect(|figures| {
        println!("{}", table(exchange::NAME, figures));
    });
    if !check { figures.take(1).for_each(drop); } else if !figures.into_iter().any(|figures| exchange::holds(&figures)) {
        println!("BROKEN: {}: more time or allocations than it may have", exchange::NAME);
        return ExitCode::FAILURE;
    }

    for (name, case, algorithm) in [
        ("ID token verified by RS256", verified_id_token::Case::rs256 as fn() -> _, Algorithm::RS256),
        ("ID token verified by ES256", verified_id_token::Case::es256, Algorithm::ES256),
    ] {
        let mut figures = (0..TRIES).map(|_| measure(id_token::works(case(), algorithm))).inspect(|figures| {
            println!("{}", table(name, figures));
        });
        if !figures.any(|figures| !check || id_token::is_ahead(&figures)) {
            println!("BROKEN: {name}: not ahead of each peer");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

fn pair(works: Vec<Work<'static>>) -> [Work<'static>; 2] {
    works.try_into().unwrap_or_else(|_| panic!("grantflow and its floor"))
}

fn with_system_entropy() -> Work<'static> {
    let (server, client) = (ServerMetadata::google(), Client::new(CLIENT_ID));
    Work::new("grantflow, system entropy", move || {
        let mut seed = [0; 32];
        getrandom::fill(&mut seed).unwrap();
        let request = AuthorizationRequest::new(&server, &client, authorize::REDIRECT_URI).scopes(authorize::SCOPES);
        grantflow_tests::at_once(request.start(), &mut Cx::new(Now::default(), seed)).unwrap()
    })
}

fn oauth2_url() -> Work<'static> {
    let client = BasicClient::new(ClientId::new(CLIENT_ID.into()))
        .set_auth_uri(AuthUrl::new(AUTH_URL.into()).unwrap())
        .set_redirect_uri(RedirectUrl::new(authorize::REDIRECT_URI.into()).unwrap());
    Work::new("oauth2 (no nonce)", move || {
        let (challenge, verifier) = PkceCodeChallenge::new_random_sha256();
        let scopes = authorize::SCOPES.split(' ').map(|scope| Scope::new(scope.into()));
        let request = client.authorize_url(CsrfToken::new_random).add_scopes(scopes);
        (request.set_pkce_challenge(challenge).url(), verifier)
    })
}

fn openidconnect_url() -> Work<'static> {
    let issuer = IssuerUrl::new("https://accounts.google.com".into()).unwrap();
    let client = CoreClient::new(ClientId::new(CLIENT_ID.into()), issuer, CoreJsonWebKeySet::new(Vec::new()))
        .set_auth_uri(AuthUrl::new(AUTH_URL.into()).unwrap())
        .set_redirect_uri(RedirectUrl::new(authorize::REDIRECT_URI.into()).unwrap());
    Work::new("openidconnect", move || {
        let (challenge, verifier) = PkceCodeChallenge::new_random_sha256();
        // It adds `openid` by itself.
        let scopes = authorize::SCOPES.split(' ').skip(1).map(|scope| Scope::new(scope.into()));
        let flow = CoreAuthenticationFlow::AuthorizationCode;
        let request = client.authorize_url(flow, CsrfToken::new_random, Nonce::new_random).add_scopes(scopes);
        (request.set_pkce_challenge(challenge).url(), verifier)
    })
}

fn answers<'a>(grantflow: Work<'a>, body: &'a str, floor: Work<'a>) -> Vec<Work<'a>> {
    let oauth2 = || serde_json::from_slice::<BasicTokenResponse>(body.as_bytes()).unwrap();
    let openidconnect = || serde_json::from_slice::<CoreTokenResponse>(body.as_bytes()).unwrap();
    vec![grantflow, Work::new("oauth2", oauth2), Work::new("openidconnect", openidconnect), floor]
}

fn jsonwebtoken() -> Work<'static> {
    #[derive(serde::Serialize)]
    struct Claims<'a> {
        iss: &'a str,
        scope: &'a str,
        aud: &'a str,
        iat: i64,
        exp: i64,
    }
    let key = EncodingKey::from_rsa_pem(private_key().as_bytes()).unwrap();
    let mut header = Header::new(Algorithm::RS256);
    header.kid = Some(KEY_ID.into());
    Work::new("jsonwebtoken 9", move || {
        let (iat, exp) = (1_795_176_000, 1_795_179_600);
        let aud = "https://oauth2.googleapis.com/token";
        let claims = Claims { iss: SERVICE_ACCOUNT, scope: service_account_assertion::SCOPE, aud, iat, exp };
        jsonwebtoken::encode(&header, &claims, &key).unwrap()
    })
}

fn tame_oauth() -> Work<'static> {
    let info = ServiceAccountInfo::deserialize(service_account_json().to_string()).unwrap();
    // It has no token yet, and never gets one.
    let provider = ServiceAccountProvider::new(info).unwrap();
    Work::new("tame-oauth", move || match provider.get_token(&[service_account_assertion::SCOPE]).unwrap() {
        TokenOrRequest::Request { request, .. } => request,
        TokenOrRequest::Token(_) => panic!("a token from nowhere"),
    })
}

fn gcp_auth_signature() -> Work<'static> {
    let account = gcp_auth::CustomServiceAccount::from_json(&service_account_json().to_string()).unwrap();
    let message = [b'x'; 400];
    Work::new("gcp_auth, signature alone", move || account.signer().sign(&message).unwrap())
}
