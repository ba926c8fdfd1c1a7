//! The authorization code flow's first leg (RFC 6749, section 4.1; RFC 7636; OpenID Connect Core 1.0,
//! section 3.1): a URL to send the user to, and what to remember until the user is back.
//!
//! ```text
//! AuthorizationRequest ─start─▶ Authorization { url, pending }
//!                                               │      ▲ the user signs in, and a redirect comes back
//!                    PendingAuthorization ◀─────┘      │
//!                             │ finish(redirect) ◀─────┘
//!                             ▼
//!                        TokenRequest ─exchange─▶ Token
//! ```

mod pending;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};

pub use pending::{AuthorizationCode, PendingAuthorization};

use crate::exchange::{is_reserved, vschar};
use crate::secret::wipe;
use crate::server::is_loopback_host;
use crate::{Client, Cx, Error, Scopes, Secret, ServerMetadata};

/// How long an authorization may take unless told.
const LIFETIME: Duration = Duration::from_secs(600);

/// What to ask of the user, on the way to a URL. PKCE with S256 and `state` are always there, a `nonce`
/// whenever `openid` is asked.
///
/// ```
/// use grantflow::{AuthorizationRequest, Client, Cx, Issuer, Now, ServerMetadata};
///
/// let server = ServerMetadata::new(Issuer::new("https://as.example")?)
///     .authorization_endpoint("https://as.example/authorize")?
///     .token_endpoint("https://as.example/token")?;
/// let client = Client::new("web-app");
/// # let mut cx = Cx::new(Now::default(), [7; 32]);
/// let authorization = AuthorizationRequest::new(&server, &client, "https://app.example/callback")
///     .scopes(["openid", "email"])
///     .prompt("consent")
///     .start(&mut cx)?;
/// assert!(authorization.url.starts_with("https://as.example/authorize?response_type=code&"));
/// // Send the user to `authorization.url`, keep `authorization.pending` in their session.
/// # Ok::<(), grantflow::Error>(())
/// ```
#[derive(Clone)]
pub struct AuthorizationRequest {
    server: ServerMetadata,
    client: Client,
    redirect_uri: Arc<str>,
    scopes: Scopes,
    code_verifier: Option<Secret>,
    plain: bool,
    max_age: Option<u64>,
    lifetime: Duration,
    extras: Vec<(String, String)>,
    error: Option<Error>,
}

/// Shows of the extra parameters only the names: a hint says who the user is.
impl fmt::Debug for AuthorizationRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let extras: Vec<_> = self.extras.iter().map(|(name, _)| name.as_str()).collect();
        f.debug_struct("AuthorizationRequest")
            .field("server", &self.server)
            .field("client", &self.client)
            .field("redirect_uri", &self.redirect_uri)
            .field("scopes", &self.scopes)
            .field("extras", &extras)
            .finish_non_exhaustive()
    }
}

/// A URL for the user's browser and the memory that belongs to it.
pub struct Authorization {
    /// Where to send the user. It holds no secret, but says who is asked for what: it is not for logs.
    pub url: String,
    /// What the answer is checked against.
    pub pending: PendingAuthorization,
}

/// Shows the URL without its query.
impl fmt::Debug for Authorization {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authorization")
            .field("url", &crate::error::without_query(&self.url))
            .field("pending", &self.pending)
            .finish()
    }
}

impl AuthorizationRequest {
    /// Asks on behalf of `client`; the user comes back to `redirect_uri`, which must be registered at
    /// the server: https, http on a loopback host, or a private scheme with a dot in it (RFC 8252,
    /// section 7).
    pub fn new(server: &ServerMetadata, client: &Client, redirect_uri: impl Into<Arc<str>>) -> Self {
        Self {
            server: server.clone(),
            client: client.clone(),
            redirect_uri: redirect_uri.into(),
            scopes: Scopes::default(),
            code_verifier: None,
            plain: false,
            max_age: None,
            lifetime: LIFETIME,
            extras: Vec::new(),
            error: None,
        }
    }

    /// Asks for these scopes (RFC 6749, section 3.3).
    pub fn scopes(mut self, scopes: impl Into<Scopes>) -> Self {
        self.scopes = scopes.into();
        self
    }

    /// `prompt`: what the server must show, such as `consent`, `select_account`, `login` or `none`.
    pub fn prompt(self, prompt: &str) -> Self {
        self.extra("prompt", prompt)
    }

    /// `login_hint`: who is expected to sign in.
    pub fn login_hint(self, hint: &str) -> Self {
        self.extra("login_hint", hint)
    }

    /// `access_type`: `offline` gets a refresh token from Google.
    pub fn access_type(self, access_type: &str) -> Self {
        self.extra("access_type", access_type)
    }

    /// `include_granted_scopes`: the token is to cover what was granted to Google web clients before.
    pub fn include_granted_scopes(self, include: bool) -> Self {
        self.extra("include_granted_scopes", if include { "true" } else { "false" })
    }

    /// `hd`: the Google Workspace domain to offer accounts of. Check the ID token's `hd` afterwards.
    pub fn hd(self, domain: &str) -> Self {
        self.extra("hd", domain)
    }

    /// `max_age`: how long ago the user may have signed in, to the second. With `openid`, the ID token's
    /// `auth_time` is checked against it.
    pub fn max_age(mut self, age: Duration) -> Self {
        self.max_age = Some(age.as_secs());
        self.extra("max_age", &age.as_secs().to_string())
    }

    /// Sets any other parameter; given twice, the later value holds. Those that make the flow safe cannot
    /// be set by this.
    pub fn extra(mut self, name: &str, value: &str) -> Self {
        if is_reserved(name) || matches!(name, "scope" | "request" | "request_uri") {
            self.error.get_or_insert(Error::config(format!("the parameter {name} cannot be set as an extra one")));
        }
        // RFC 6749, section 8.2.
        if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte)) {
            self.error.get_or_insert(Error::config("the name of a parameter holds more than letters, digits and -._"));
        }
        self.extras.retain(|(known, _)| known != name);
        if !value.is_empty() {
            self.extras.push((name.to_owned(), value.to_owned()));
        }
        self
    }

    /// Uses this `code_verifier` (RFC 7636, section 4.1: 43 to 128 letters, digits or `-._~`) instead of
    /// a random one. It must be good for this one request only.
    pub fn code_verifier(mut self, verifier: impl Into<Secret>) -> Self {
        self.code_verifier = Some(verifier.into());
        self
    }

    /// Sends the verifier itself as the challenge (`plain`), which protects less. Only for servers that
    /// cannot do S256.
    pub fn plain_code_challenge(mut self) -> Self {
        self.plain = true;
        self
    }

    /// How long the user may take; 10 minutes unless told.
    pub fn lifetime(mut self, time: Duration) -> Self {
        self.lifetime = time;
        self
    }

    /// Draws state, verifier and nonce, and makes the URL.
    pub fn start(self, cx: &mut Cx) -> Result<Authorization, Error> {
        let Self { server, client, redirect_uri, scopes, code_verifier, plain, max_age, lifetime, extras, error } =
            self;
        if let Some(error) = error {
            return Err(error);
        }
        client.check_issuer(server.issuer())?;
        vschar("client_id", client.id())?;
        check_redirect_uri(&redirect_uri)?;
        scopes.check()?;
        let method = if plain { "plain" } else { "S256" };
        if server.lacks_code_challenge_method(method) {
            return Err(Error::config(format!("the server does not know the PKCE method {method}")));
        }
        let code_verifier = match code_verifier {
            Some(verifier) => check_verifier(verifier)?,
            None => token(cx, "pkce verifier")?,
        };
        let state = token(cx, "state")?;
        let nonce = if scopes.contains("openid") { Some(token(cx, "nonce")?) } else { None };
        let mut digest = [0; 43];
        let challenge = if plain { code_verifier.expose() } else { s256(&code_verifier, &mut digest) };

        let endpoint = server.authorization()?.as_str();
        let length = endpoint.len().saturating_add(redirect_uri.len()).saturating_add(scopes.as_str().len());
        let mut url = String::with_capacity(length.saturating_add(512));
        url.push_str(endpoint);
        url.push_str(if endpoint.contains('?') { "&" } else { "?" });
        url.push_str("response_type=code&client_id=");
        push_encoded(&mut url, client.id());
        url.push_str("&redirect_uri=");
        push_encoded(&mut url, &redirect_uri);
        if !scopes.is_empty() {
            url.push_str("&scope=");
            push_encoded(&mut url, scopes.as_str());
        }
        for part in ["&state=", state.expose(), "&code_challenge=", challenge, "&code_challenge_method=", method] {
            url.push_str(part);
        }
        if let Some(nonce) = &nonce {
            url.push_str("&nonce=");
            url.push_str(nonce.expose());
        }
        for (name, value) in &extras {
            ["&", name, "="].into_iter().for_each(|part| url.push_str(part));
            push_encoded(&mut url, value);
        }
        let pending = PendingAuthorization {
            version: 1,
            state,
            nonce,
            code_verifier,
            issuer: server.issuer().clone(),
            issuer_aliases: server.issuer_aliases(),
            iss_required: server.promises_iss(),
            token_endpoint: server.token()?.clone(),
            client_id: client.shared_id(),
            redirect_uri,
            scopes,
            max_age,
            rotation: server.rotation(),
            tolerated: server.tolerated(),
            made_at: cx.now().wall,
            lifetime,
        };
        Ok(Authorization { url, pending })
    }
}

/// Form-encodes a value. What needs no encoding, which is most of it, is copied in long runs.
fn push_encoded(url: &mut String, value: &str) {
    let mut done: usize = 0;
    for (at, byte) in value.bytes().enumerate() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'*' | b'-' | b'.' | b'_') {
            continue;
        }
        url.push_str(value.get(done..at).unwrap_or_default());
        match byte {
            b' ' => url.push('+'),
            _ => [b'%', hex(byte >> 4), hex(byte & 15)].into_iter().for_each(|byte| url.push(char::from(byte))),
        }
        done = at.saturating_add(1);
    }
    url.push_str(value.get(done..).unwrap_or_default());
}

/// The digit for a value below 16.
fn hex(value: u8) -> u8 {
    value.wrapping_add(if value < 10 { b'0' } else { b'A' - 10 })
}

/// 32 random bytes as 43 characters.
fn token(cx: &mut Cx, label: &'static str) -> Result<Secret, Error> {
    let mut bytes = cx.random::<32>(label)?;
    let text = URL_SAFE_NO_PAD.encode(bytes.as_slice());
    wipe(&mut bytes);
    Ok(text.into())
}

/// The S256 challenge (RFC 7636, section 4.2).
fn s256<'a>(verifier: &Secret, buffer: &'a mut [u8; 43]) -> &'a str {
    let digest = Sha256::digest(verifier.expose());
    // 32 bytes are always 43 characters.
    let _ = URL_SAFE_NO_PAD.encode_slice(digest, buffer);
    std::str::from_utf8(buffer).unwrap_or_default()
}

fn check_verifier(verifier: Secret) -> Result<Secret, Error> {
    let unreserved = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    let text = verifier.expose();
    if (43..=128).contains(&text.len()) && text.bytes().all(unreserved) {
        return Ok(verifier);
    }
    Err(Error::config("the code_verifier is not 43 to 128 letters, digits or -._~"))
}

/// Looks at the text itself and mends nothing: what is sent is what was registered.
fn check_redirect_uri(uri: &str) -> Result<(), Error> {
    let wrong = |why: &str| Err(Error::config(format!("the redirect URI {}: {why}", crate::error::without_query(uri))));
    let illegal = |byte| matches!(byte, 0..=b' ' | b'"' | b'#' | b'<' | b'>' | b'\\' | 0x7f..);
    if uri.bytes().fold(false, |found, byte| found | illegal(byte)) {
        return wrong("it holds a fragment, a space, a backslash, a quote or a character outside of ASCII");
    }
    let secure = uri.strip_prefix("https://");
    let Some(rest) = secure.or_else(|| uri.strip_prefix("http://")) else {
        return match uri.split_once(':') {
            Some((scheme, _)) if is_private_scheme(scheme) => Ok(()),
            _ => wrong("it must be https, http on a loopback address, or a private scheme with a dot"),
        };
    };
    let end = rest.bytes().position(|byte| matches!(byte, b'/' | b'?')).unwrap_or(rest.len());
    let authority = rest.get(..end).unwrap_or_default();
    let port = authority.bytes().rev().take_while(u8::is_ascii_digit).count();
    let (host, port) = authority.split_at_checked(authority.len().saturating_sub(port)).unwrap_or_default();
    let host = match host.strip_suffix(':') {
        Some(host) => host,
        None if port.is_empty() => host,
        None => authority,
    };
    if host.is_empty() || host.contains('@') || host.contains(':') && !host.ends_with(']') {
        return wrong("it has no host, a user name, or a port that is no number");
    }
    if secure.is_none() && !is_loopback_host(host) {
        return wrong("http is only for loopback addresses");
    }
    Ok(())
}

/// Whether this is a scheme of an application's own, by a domain name of its maker (RFC 8252, section 7.1).
fn is_private_scheme(scheme: &str) -> bool {
    scheme.starts_with(|first: char| first.is_ascii_alphabetic())
        && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
        && scheme.contains('.')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;

    #[test]
    fn redirect_uris_lead_to_https_to_this_machine_or_to_an_application() {
        for uri in [
            "https://app.example/callback",
            "https://app.example:8443?x=1",
            "http://127.0.0.1:53682/",
            "http://127.0.0.9/",
            "http://localhost",
            "http://[::1]:1/",
            "http://[::1]/callback",
            "com.example.app:/oauth2redirect",
        ] {
            assert!(check_redirect_uri(uri).is_ok(), "{uri}");
        }
        for uri in [
            "",
            "/callback",
            "https:///callback",
            "https://user@app.example/",
            "https://app.example:80x/",
            "https://app.example/#part",
            "https://app.example/a b",
            "https://app.example\\@evil.example/",
            "https://app.exämple/",
            "http://app.example/",
            "http://127.0.0.1.evil.example/",
            "http://127.0.0.1@evil.example/",
            "http://127.0.0.1:80@evil.example/",
            "http://[::2]/",
            "http://localhost.evil.example/",
            "myapp:/callback",
            "javascript:alert(1.0)",
            "1com.example:/callback",
            "urn:ietf:wg:oauth:2.0:oob",
        ] {
            assert_eq!(check_redirect_uri(uri).unwrap_err().kind(), ErrorKind::Config, "{uri}");
        }
    }

    #[test]
    fn values_are_form_encoded() {
        for value in ["", "plain-._*", "a b+c/d?e&f=g%", "ä€\u{1f600}x", " ", "~"] {
            let mut text = String::new();
            push_encoded(&mut text, value);
            assert_eq!(text, url::form_urlencoded::byte_serialize(value.as_bytes()).collect::<String>());
        }
    }
}
