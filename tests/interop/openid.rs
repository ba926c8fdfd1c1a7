//! Signatures of each kind, rotation of keys, signed userinfo, and signing out.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use grantflow::crypto::{Algorithm, MacAlgorithm};
use grantflow::jose::{IdToken, LogoutToken};
use grantflow::{
    AuthorizationRequest, Client, ClientAuthentication, EndSession, Error, ErrorKind, ServerMetadata, Token, UserInfo,
    Verifier,
};

use super::{Adapter, Done, check, step};

const CALLBACK: &str = "http://127.0.0.1:9/callback";
const SIGNED_OUT: &str = "http://127.0.0.1:9/signed-out";
pub(crate) const SECRET: &str = "the secret of a client, longer than 32 bytes";

pub(crate) fn suite(name: &str, adapter: &impl Adapter, server: &ServerMetadata) -> Done {
    let step = |what: &str| step(name, what);
    let program = name;
    let algorithms = [
        ("RS256", Some(Algorithm::RS256)),
        ("PS256", Some(Algorithm::PS256)),
        ("ES256", Some(Algorithm::ES256)),
        ("ES384", Some(Algorithm::ES384)),
        ("EdDSA", Some(Algorithm::EdDSA)),
        ("HS256", None),
    ];
    for (name, algorithm) in algorithms {
        let client = client(name, algorithm);
        let browser = Browser::new(&format!("{program}-{name}"));
        let token = browser.sign_in(adapter, server, &client)?;
        let id_token = token.id_token().ok_or("no ID token")?;
        check(header(id_token)?["alg"] == name, "the ID token is signed as the client is registered")?;
        let asking = UserInfo::new(server, &token)?;
        let asking = if algorithm.is_some() { asking.signed(&client)? } else { asking };
        let claims = adapter.run(asking.exchange())?;
        check(claims.str("email") == Some("alice@example.com"), "userinfo")?;
        browser.sign_out(adapter, server, &client, id_token, name)?;
        // Another algorithm is not taken, whatever the server signs with.
        let other = if name == "ES256" { Algorithm::RS256 } else { Algorithm::ES256 };
        let error = browser.sign_in(adapter, server, &self::client(name, Some(other))).expect_err("another algorithm");
        check(matches!(error.kind(), ErrorKind::Signature | ErrorKind::IdToken), &format!("refused for it: {error}"))?;
    }
    step("ID tokens by RS256, PS256, ES256, ES384, EdDSA and HS256, userinfo signed by the same");
    step("signed out at the server, which sends a logout token");
    rotation(name, adapter, server)?;
    step("keys rotated: with the old ones kept, and without");
    Ok(())
}

fn client(name: &str, algorithm: Option<Algorithm>) -> Client {
    let client = Client::new(format!("openid-{name}"));
    let client = client.authentication(ClientAuthentication::client_secret_basic(SECRET));
    match algorithm {
        Some(algorithm) => client.id_token_signed_response_alg(algorithm),
        None => client.id_token_signed_by_secret(MacAlgorithm::HS256),
    }
}

/// A token by an old key is good as long as the server has the key, and a new key is found at the first sign-in.
fn rotation(name: &str, adapter: &impl Adapter, server: &ServerMetadata) -> Done {
    let client = client("ES256", Some(Algorithm::ES256));
    let verifier = Verifier::id_tokens_of(server, &client)?.any_nonce();
    let browser = Browser::new(&format!("{name}-rotation"));
    let sign_in = || -> Result<(IdToken, String), Box<dyn std::error::Error>> {
        let id_token = browser.sign_in(adapter, server, &client)?.id_token().ok_or("no ID token")?.clone();
        let key = header(&id_token)?["kid"].as_str().unwrap_or_default().to_owned();
        Ok((id_token, key))
    };
    let verify = |id_token: &IdToken| adapter.run(verifier.verify(id_token.as_secret().expose()));
    let rotate = |how: &str| browser.curl(&["--request", "POST", &format!("{}/rotate/{how}", server.issuer())]);

    let (first, first_key) = sign_in()?;
    rotate("keep")?;
    let (second, second_key) = sign_in()?;
    check(first_key != second_key, "another key")?;
    verify(&first)?;
    verify(&second)?;
    rotate("drop")?;
    let (third, third_key) = sign_in()?;
    check(third_key != second_key, "another key once more")?;
    verify(&third)?;
    for old in [&first, &second] {
        check(verify(old).is_err_and(|error| error.kind() == ErrorKind::Signature), "the old keys are gone")?;
    }
    Ok(())
}

fn header(id_token: &IdToken) -> Result<serde_json::Value, Box<dyn std::error::Error>> {
    let header = id_token.as_secret().expose().split('.').next().unwrap_or_default();
    Ok(serde_json::from_slice(&URL_SAFE_NO_PAD.decode(header)?)?)
}

/// curl, with a file of cookies.
pub(crate) struct Browser {
    cookies: PathBuf,
    authority: Option<PathBuf>,
}

impl Drop for Browser {
    fn drop(&mut self) {
        drop(std::fs::remove_file(&self.cookies));
    }
}

impl Browser {
    fn new(name: &str) -> Self {
        let file = format!("grantflow-interop-{}-{name}", std::process::id());
        Self { cookies: std::env::temp_dir().join(file), authority: None }
    }

    /// One that trusts this authority.
    pub(crate) fn trusting(name: &str, authority: PathBuf) -> Self {
        let mut browser = Self::new(name);
        browser.authority = Some(authority);
        browser
    }

    /// The page, and in its last line its address. Nobody is at the addresses of the application.
    pub(crate) fn curl(&self, args: &[&str]) -> Result<(String, String), Box<dyn std::error::Error>> {
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--location", "--max-time", "20", "--write-out", "\n%{url_effective}"]);
        curl.arg("--cookie").arg(&self.cookies).arg("--cookie-jar").arg(&self.cookies);
        if let Some(authority) = &self.authority {
            curl.arg("--cacert").arg(authority);
        }
        let text = String::from_utf8(curl.args(args).output()?.stdout)?;
        let (page, address) = text.rsplit_once('\n').ok_or("curl says nothing")?;
        Ok((page.to_owned(), address.to_owned()))
    }

    fn sign_in(&self, adapter: &impl Adapter, server: &ServerMetadata, client: &Client) -> Result<Token, Error> {
        let request = AuthorizationRequest::new(server, client, CALLBACK).scopes("openid email");
        let authorization = adapter.run(request.verify_id_token_signature().start())?;
        let (_, redirect) = self.curl(&[&authorization.url]).unwrap_or_default();
        adapter.run(authorization.pending.finish(client, &redirect))
    }

    fn sign_out(
        &self,
        adapter: &impl Adapter,
        server: &ServerMetadata,
        client: &Client,
        id_token: &IdToken,
        name: &str,
    ) -> Done {
        let end = EndSession::new(server, client)?.id_token_hint(id_token).post_logout_redirect_uri(SIGNED_OUT);
        let ending = end.begin(&mut adapter.cx()?)?;
        let (page, _) = self.curl(&[&ending.url])?;
        let value = |name: &str| page.split_once(name).and_then(|(_, rest)| rest.split('"').next());
        let action = value("action=\"").ok_or("the page has no form")?;
        let xsrf = format!("xsrf={}", value("name=\"xsrf\" value=\"").ok_or("the form has no secret")?);
        let (_, back) = self.curl(&[action, "--data", &xsrf, "--data", "logout=yes"])?;
        let pending = ending.pending.ok_or("nothing is kept")?;
        check(back.starts_with(SIGNED_OUT) && pending.is_answered_by(&back), "the browser is back")?;
        let mut form = String::new();
        for _ in 0..40 {
            form = self.curl(&[&format!("{}/seen/{name}", server.issuer())])?.0;
            if !form.is_empty() {
                break;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        let text = LogoutToken::in_form(&form)?;
        let verifier = Verifier::logout_tokens_of(server, client)?;
        let logout = adapter.run(verifier.verify(text.expose()))?;
        check(logout.ends(id_token) && logout.session().is_some(), "it ends this session")
    }
}
