//! Clients as the pretend server knows them, and how they prove to be themselves.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{Request, header};
use url::form_urlencoded;

use super::{Refusal, refuse};

/// A registered client.
#[derive(Clone, Debug)]
pub struct Registered {
    pub(super) id: String,
    method: Method,
    redirect_uris: Vec<String>,
}

#[derive(Clone, Debug)]
enum Method {
    None,
    Basic(String),
    Post(String),
}

impl Registered {
    /// A public client (`none`).
    pub fn public(id: &str) -> Self {
        Self { id: id.to_owned(), method: Method::None, redirect_uris: Vec::new() }
    }

    /// A client with `client_secret_basic`.
    pub fn basic(id: &str, secret: &str) -> Self {
        Self { method: Method::Basic(secret.to_owned()), ..Self::public(id) }
    }

    /// A client with `client_secret_post`.
    pub fn post(id: &str, secret: &str) -> Self {
        Self { method: Method::Post(secret.to_owned()), ..Self::public(id) }
    }

    /// Registers a redirect URI. One of http on a loopback host is good with any port (RFC 8252,
    /// section 7.3); any other must be the same to the character.
    pub fn redirect_uri(mut self, uri: &str) -> Self {
        self.redirect_uris.push(uri.to_owned());
        self
    }

    pub(super) fn allows(&self, redirect_uri: &str) -> bool {
        self.redirect_uris
            .iter()
            .any(|known| known == redirect_uri || Some(known) == without_port(redirect_uri).as_ref())
    }

    pub(super) fn is_public(&self) -> bool {
        matches!(self.method, Method::None)
    }

    /// Checks what the request says of the client: by its one method and no other.
    pub(super) fn authenticate<'a>(
        clients: &'a [Self],
        request: &Request<Vec<u8>>,
        params: &BTreeMap<String, String>,
    ) -> Result<&'a Self, Refusal> {
        let (in_body, secret) = (params.get("client_id"), params.get("client_secret"));
        let find = |id: &str| clients.iter().find(|client| client.id == id);
        let (client, right) = match (request.headers().get(header::AUTHORIZATION), in_body, secret) {
            (Some(_), Some(_), _) | (Some(_), _, Some(_)) => {
                return refuse("invalid_request", "the client authenticates in two ways");
            }
            (Some(value), None, None) => {
                let Some((id, given)) = value.to_str().ok().and_then(basic) else {
                    return refuse("invalid_client", "the Authorization header cannot be read");
                };
                let client = find(&id);
                (client, client.is_some_and(|c| matches!(&c.method, Method::Basic(secret) if *secret == given)))
            }
            (None, Some(id), Some(given)) => {
                let client = find(id);
                (client, client.is_some_and(|c| matches!(&c.method, Method::Post(secret) if secret == given)))
            }
            (None, Some(id), None) => {
                let client = find(id);
                (client, client.is_some_and(Self::is_public))
            }
            (None, None, _) => return refuse("invalid_request", "the client is not named"),
        };
        match client {
            Some(client) if right => Ok(client),
            _ => refuse("invalid_client", "the client is unknown, or authenticates wrongly"),
        }
    }
}

/// Id and secret of a Basic header, each form-encoded (RFC 6749, section 2.3.1).
fn basic(value: &str) -> Option<(String, String)> {
    let decoded = STANDARD.decode(value.strip_prefix("Basic ")?).ok()?;
    let (id, secret) = std::str::from_utf8(&decoded).ok()?.split_once(':')?;
    let decode = |text: &str| {
        let mut pairs = form_urlencoded::parse(text.as_bytes());
        pairs.next().map(|(name, _)| name.into_owned()).unwrap_or_default()
    };
    Some((decode(id), decode(secret)))
}

/// A loopback redirect URI without its port.
fn without_port(uri: &str) -> Option<String> {
    let host =
        ["http://127.0.0.1", "http://localhost", "http://[::1]"].into_iter().find(|host| uri.starts_with(host))?;
    let port_and_path = uri[host.len()..].strip_prefix(':')?;
    let path = port_and_path.trim_start_matches(|c: char| c.is_ascii_digit());
    (path.is_empty() || path.starts_with('/')).then(|| format!("{host}{path}"))
}
