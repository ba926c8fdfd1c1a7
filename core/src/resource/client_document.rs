//! Client ID metadata documents (draft-ietf-oauth-client-id-metadata-document-01): the `client_id` is the address of a
//! document that describes the client, which is registered nowhere.

use std::fmt;

use serde_json::{Map, Value};
use url::Url;

use crate::authorize::check_redirect_uri;
use crate::json;
use crate::{Error, ErrorKind, Shown};

/// The size in bytes that servers must read of such a document (section 6.6).
pub const MAX_CLIENT_DOCUMENT: usize = 5 * 1024;

/// The document that describes a client, at the address that is its `client_id`. Serve it as `application/json`, with
/// status 200 and without a redirect, as the example `axum_api` of `grantflow-reqwest` does.
///
/// ```
/// use grantflow::resource::ClientDocument;
///
/// let document = ClientDocument::new("https://tool.example.org/oauth/client.json", "Tool")?
///     .redirect_uris(["http://127.0.0.1/callback", "http://[::1]/callback"]);
/// let json = document.to_json()?;
/// assert!(ClientDocument::from_json(json.as_bytes(), "https://tool.example.org/oauth/client.json").is_ok());
/// # Ok::<(), grantflow::Error>(())
/// ```
///
/// Servers must accept any port of a loopback redirect URI (RFC 8252, section 7.3). Some compare it character by
/// character: for these, list one with a port, and sign in on that port.
#[derive(Clone, PartialEq)]
pub struct ClientDocument(Map<String, Value>);

/// Shows the names of the members.
impl fmt::Debug for ClientDocument {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ClientDocument").field(&self.0.keys().map(|name| Shown::name(name)).collect::<Vec<_>>()).finish()
    }
}

impl ClientDocument {
    /// A document of the public client at this address, with this name for people and the grants `authorization_code`
    /// and `refresh_token`.
    ///
    /// # Errors
    ///
    /// If no client can have this address for its `client_id` (section 3): it must be https, with a path, without dot
    /// segments, fragment, user name and query.
    pub fn new(address: &str, client_name: &str) -> Result<Self, Error> {
        check_address(address)?;
        let members = serde_json::json!({
            "client_id": address,
            "client_name": client_name,
            "grant_types": ["authorization_code", "refresh_token"],
            "response_types": ["code"],
            "token_endpoint_auth_method": "none",
        });
        Ok(Self(members.as_object().cloned().unwrap_or_default()))
    }

    /// Sets the redirect URIs: at least one.
    pub fn redirect_uris<S: AsRef<str>>(self, uris: impl IntoIterator<Item = S>) -> Self {
        let uris: Vec<_> = uris.into_iter().map(|uri| Value::from(uri.as_ref())).collect();
        self.member("redirect_uris", uris.into())
    }

    /// Has the client authenticate by `private_key_jwt`, with the keys that are at this address.
    pub fn jwks_uri(self, address: &str) -> Self {
        self.member("token_endpoint_auth_method", "private_key_jwt".into()).member("jwks_uri", address.into())
    }

    /// Sets any member of client metadata (RFC 7591, section 2); null removes it.
    pub fn member(mut self, name: &str, value: Value) -> Self {
        match value {
            Value::Null => drop(self.0.remove(name)),
            value => drop(self.0.insert(name.to_owned(), value)),
        }
        self
    }

    /// A member by its name.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name)
    }

    /// The `client_id`, which is the document's address.
    pub fn client_id(&self) -> &str {
        self.text("client_id").unwrap_or_default()
    }

    /// The document as JSON, to be served.
    ///
    /// # Errors
    ///
    /// If servers would refuse it: see [`from_json`](Self::from_json).
    pub fn to_json(&self) -> Result<String, Error> {
        self.check().map_err(Error::config)?;
        let json = Value::Object(self.0.clone()).to_string();
        if json.len() > MAX_CLIENT_DOCUMENT {
            return Err(Error::config("the client's document is larger than the 5 KiB that servers must read"));
        }
        Ok(json)
    }

    /// Reads the document that was found at an address, as a server does (sections 3 and 4).
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidResponse`] if the text is no such document: it is larger than 5 KiB, has another `client_id`
    /// than the address, has a secret or a method that needs one, has no redirect URIs, or has one that no client may
    /// have.
    pub fn from_json(json: &[u8], address: &str) -> Result<Self, Error> {
        let invalid = |why: &str| Error::new(ErrorKind::InvalidResponse, format!("the client's document: {why}"));
        check_address(address)?;
        if json.len() > MAX_CLIENT_DOCUMENT {
            return Err(invalid("it is larger than 5 KiB"));
        }
        let read = json::object(json).map_err(|_| invalid("it is no JSON object"))?;
        if read.twice {
            return Err(invalid("it has a member twice"));
        }
        let document = Self(read.members);
        if document.client_id() != address {
            return Err(invalid("its client_id is not its address"));
        }
        document.check().map_err(invalid)?;
        Ok(document)
    }

    fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name)?.as_str().filter(|text| !text.is_empty())
    }

    fn check(&self) -> Result<(), &'static str> {
        if self.0.contains_key("client_secret") || self.0.contains_key("client_secret_expires_at") {
            return Err("it has a secret, and everybody can read it (section 4.1)");
        }
        match self.text("token_endpoint_auth_method") {
            Some("none" | "tls_client_auth" | "self_signed_tls_client_auth") => {}
            Some("private_key_jwt") if self.0.contains_key("jwks") != self.0.contains_key("jwks_uri") => {}
            Some("private_key_jwt") => return Err("it needs the client's keys: one of jwks and jwks_uri"),
            _ => return Err("it needs a token_endpoint_auth_method without a shared secret (section 4.1)"),
        }
        self.text("client_name").ok_or("it has no client_name")?;
        let uris = self.0.get("redirect_uris").and_then(Value::as_array).filter(|uris| !uris.is_empty());
        for uri in uris.ok_or("it has no redirect_uris")? {
            let sound = uri.as_str().is_some_and(|uri| check_redirect_uri(uri).is_ok());
            if !sound {
                return Err("it has a redirect URI that no client may have");
            }
        }
        let private = |key: &Value| key.get("d").is_some() || key.get("k").is_some();
        match self.0.get("jwks").and_then(|jwks| jwks.get("keys")?.as_array()) {
            Some(keys) if keys.iter().any(private) => Err("it has a private key, and everybody can read it"),
            _ => Ok(()),
        }
    }
}

/// Whether a client may have this address for its `client_id` (section 3).
pub(super) fn check_address(address: &str) -> Result<(), Error> {
    let wrong = |why: &str| {
        let shown = Shown::name(address);
        Error::config(format!("the address of the client's document {shown:?}: {why}"))
    };
    let url = Url::parse(address).map_err(|e| wrong("it is no absolute address").with_source(e))?;
    if url.scheme() != "https" || url.as_str() != address {
        return Err(wrong("it must be https, and written as a URL writes it: it is compared letter by letter"));
    }
    if url.path() == "/" {
        return Err(wrong("it has no path"));
    }
    if !url.username().is_empty() || url.password().is_some() || url.fragment().is_some() || url.query().is_some() {
        return Err(wrong("it has a user name, a query or a fragment"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADDRESS: &str = "https://tool.example/client.json";

    fn document() -> ClientDocument {
        ClientDocument::new(ADDRESS, "Tool").unwrap().redirect_uris(["http://127.0.0.1/callback"])
    }

    #[test]
    fn an_address_is_a_client_id_only_as_a_url_writes_it() {
        for address in [ADDRESS, "https://tool.example:8443/a/b"] {
            assert!(check_address(address).is_ok(), "{address}");
        }
        for address in [
            "https://tool.example",
            "https://tool.example/",
            "http://tool.example/client.json",
            "http://127.0.0.1/client.json",
            "https://tool.example/a/../client.json",
            "https://tool.example/./client.json",
            "https://TOOL.example/client.json",
            "https://tool.example:443/client.json",
            "https://user@tool.example/client.json",
            "https://tool.example/client.json#x",
            "https://tool.example/client.json?x",
            "tool",
            "",
        ] {
            assert!(check_address(address).is_err(), "{address}");
        }
    }

    #[test]
    fn a_document_that_servers_would_refuse_is_not_served_and_not_read() {
        let sound = document();
        let again = ClientDocument::from_json(sound.to_json().unwrap().as_bytes(), ADDRESS).unwrap();
        assert_eq!(again, sound);
        let keys = |key: Value| serde_json::json!({ "keys": [key] });
        for wrong in [
            document().member("client_secret", "s3cret".into()),
            document().member("token_endpoint_auth_method", "client_secret_basic".into()),
            document().member("token_endpoint_auth_method", Value::Null),
            document().member("token_endpoint_auth_method", "private_key_jwt".into()),
            document().jwks_uri("https://tool.example/jwks").member("jwks", keys(Value::Null)),
            document().member("jwks", keys(serde_json::json!({"kty": "EC", "d": "x"}))),
            document().redirect_uris([] as [&str; 0]),
            document().redirect_uris(["http://tool.example/callback"]),
            document().member("redirect_uris", "http://127.0.0.1/".into()),
            document().member("client_name", Value::Null),
            document().member("logo_uri", "x".repeat(MAX_CLIENT_DOCUMENT).into()),
        ] {
            assert!(wrong.to_json().is_err(), "{wrong:?}");
            let json = Value::Object(wrong.0.clone()).to_string();
            assert!(ClientDocument::from_json(json.as_bytes(), ADDRESS).is_err(), "{wrong:?}");
        }
        let json = sound.to_json().unwrap();
        assert!(ClientDocument::from_json(json.as_bytes(), "https://tool.example/other.json").is_err());
        assert!(document().jwks_uri("https://tool.example/jwks").to_json().is_ok());
    }
}
