//! Who we talk to: an authorization server's issuer, endpoints and metadata, and their discovery
//! (RFC 8414, OpenID Connect Discovery 1.0).

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use url::{Host, Url};

use crate::authorize::PendingAuthorization;
use crate::exchange::{Received, Request};
use crate::machine::{Reach, ask};
use crate::{Cx, Deviations, Error, ErrorKind, Exchange, Machine, Reply, Rotation, Step};

/// The most bytes of a metadata document.
const MAX_METADATA: usize = 256 * 1024;

/// The identifier of an authorization server, such as `https://accounts.google.com`.
///
/// Two issuers are the same only if their texts are, character by character: no case is folded,
/// no slash trimmed, no default port removed (RFC 8414, section 3.3; RFC 9207, section 2.4).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Issuer(Arc<str>);

impl Issuer {
    /// Takes an https address (http for a loopback one) without user, query and fragment.
    pub fn new(text: impl Into<Arc<str>>) -> Result<Self, Error> {
        let text = text.into();
        let url = checked_url("the issuer", &text)?;
        if url.query().is_some() || text.contains('?') {
            return Err(Error::config("the issuer has a query"));
        }
        Ok(Self(text))
    }

    /// The text, as given.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The issuer of a server of which only an endpoint is known: its origin.
    pub(crate) fn of_origin(address: &str) -> Result<Self, Error> {
        let url = Url::parse(address).map_err(|e| Error::config("it is no absolute address").with_source(e))?;
        Self::new(url.origin().ascii_serialization())
    }

    /// The address of its metadata: `suffix` between host and path (RFC 8414, section 3.1).
    fn inserted(&self, suffix: &str) -> Result<Endpoint, Error> {
        let (scheme, rest) = self.0.split_once("://").unwrap_or(("https", &self.0));
        let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let path = path.strip_suffix('/').unwrap_or(path);
        Endpoint::new(&format!("{scheme}://{host}/.well-known/{suffix}{path}"))
    }

    /// The address of its metadata: `suffix` behind the path (OpenID Connect Discovery, section 4).
    fn appended(&self, suffix: &str) -> Result<Endpoint, Error> {
        let base = self.0.strip_suffix('/').unwrap_or(&self.0);
        Endpoint::new(&format!("{base}/.well-known/{suffix}"))
    }
}

impl TryFrom<String> for Issuer {
    type Error = Error;
    fn try_from(text: String) -> Result<Self, Error> {
        Self::new(text)
    }
}

impl From<Issuer> for String {
    fn from(issuer: Issuer) -> Self {
        issuer.as_str().to_owned()
    }
}

impl fmt::Display for Issuer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Issuer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Issuer({})", self.0)
    }
}

/// An address that requests may be sent to: https, or http on a loopback host; without user
/// information and fragment. A query is kept (RFC 6749, sections 3.1 and 3.2).
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Endpoint {
    address: Arc<str>,
    local: bool,
}

impl Endpoint {
    /// Checks and takes an address.
    pub fn new(address: &str) -> Result<Self, Error> {
        let url = checked_url("the endpoint", address)?;
        Ok(Self { address: url.as_str().into(), local: is_loopback(&url) })
    }

    /// An address of the metadata server, which has no TLS: whoever names another host answers for it.
    pub(crate) fn metadata_server(address: &str) -> Result<Self, Error> {
        let wrong = || Error::config("the metadata server's host is no host, with a port or without");
        // Only a host and a port may stand between `http://` and the next slash.
        let authority = address.strip_prefix("http://").and_then(|rest| rest.split('/').next()).unwrap_or_default();
        let legal = |byte: u8| byte.is_ascii_alphanumeric() || b".-:[]".contains(&byte);
        if authority.is_empty() || !authority.bytes().all(legal) {
            return Err(wrong());
        }
        let url = Url::parse(address).map_err(|e| wrong().with_source(e))?;
        Ok(Self { address: url.as_str().into(), local: true })
    }

    /// The address, in its normal form.
    pub fn as_str(&self) -> &str {
        &self.address
    }

    pub(crate) fn reach(&self) -> Reach {
        if self.local { Reach::Local } else { Reach::Public }
    }
}

impl TryFrom<String> for Endpoint {
    type Error = Error;
    fn try_from(address: String) -> Result<Self, Error> {
        Self::new(&address)
    }
}

impl From<Endpoint> for String {
    fn from(endpoint: Endpoint) -> Self {
        endpoint.as_str().to_owned()
    }
}

/// The address without its query.
impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&crate::error::without_query(&self.address))
    }
}

fn checked_url(what: &str, text: &str) -> Result<Url, Error> {
    let wrong = |why: &str| Error::config(format!("{what} {}: {why}", crate::error::without_query(text)));
    // `Url` would silently drop or mend these.
    if text.bytes().any(|byte| byte <= b' ' || matches!(byte, b'\\' | b'"' | b'<' | b'>' | 0x7f..)) {
        return Err(wrong("it holds a space, a backslash, a quote or a character outside of ASCII"));
    }
    let url = Url::parse(text).map_err(|e| wrong("it is no absolute address").with_source(e))?;
    let secure = match url.scheme() {
        "https" => true,
        "http" => is_loopback(&url),
        _ => false,
    };
    if !secure || !text.contains("://") {
        return Err(wrong("it must be https, or http on a loopback address"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(wrong("it holds a user name or password"));
    }
    if url.fragment().is_some() {
        return Err(wrong("it has a fragment"));
    }
    Ok(url)
}

/// Whether a host is this machine by name or address.
pub(crate) fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback(),
        None => false,
    }
}

/// What is known of an authorization server (RFC 8414, section 2; OpenID Connect Discovery 1.0,
/// section 3): written by hand, read from JSON, or [discovered](Discovery). Cheap to clone.
///
/// ```
/// use grantflow::{Issuer, ServerMetadata};
///
/// let server = ServerMetadata::new(Issuer::new("https://as.example")?)
///     .authorization_endpoint("https://as.example/authorize")?
///     .token_endpoint("https://as.example/token")?;
/// # Ok::<(), grantflow::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct ServerMetadata(Arc<Inner>);

#[derive(Clone)]
struct Inner {
    issuer: Issuer,
    aliases: Arc<[String]>,
    rotation: Rotation,
    tolerated: Deviations,
    authorization_endpoint: Option<Endpoint>,
    token_endpoint: Option<Endpoint>,
    revocation_endpoint: Option<Endpoint>,
    members: Map<String, Value>,
}

impl Inner {
    fn new(issuer: Issuer) -> Self {
        Self {
            issuer,
            aliases: Arc::default(),
            rotation: Rotation::Unknown,
            tolerated: Deviations::TOLERATED,
            authorization_endpoint: None,
            token_endpoint: None,
            revocation_endpoint: None,
            members: Map::new(),
        }
    }
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerMetadata")
            .field("issuer", &self.issuer)
            .field("authorization_endpoint", &self.authorization_endpoint)
            .field("token_endpoint", &self.token_endpoint)
            .field("revocation_endpoint", &self.revocation_endpoint)
            .finish_non_exhaustive()
    }
}

impl ServerMetadata {
    /// A server of which only the issuer is known.
    pub fn new(issuer: Issuer) -> Self {
        Self(Arc::new(Inner::new(issuer)))
    }

    /// Google, as its own metadata describes it; no request is made. Its ID tokens may name the issuer
    /// without `https://`.
    pub fn google() -> Self {
        let known = |address: &'static str| Some(Endpoint { address: address.into(), local: false });
        let json = serde_json::json!({
            "jwks_uri": "https://www.googleapis.com/oauth2/v3/certs",
            "userinfo_endpoint": "https://openidconnect.googleapis.com/v1/userinfo",
            "device_authorization_endpoint": "https://oauth2.googleapis.com/device/code",
            "code_challenge_methods_supported": ["plain", "S256"],
            "token_endpoint_auth_methods_supported": ["client_secret_post", "client_secret_basic"],
            "revocation_endpoint_auth_methods_supported": ["none"],
            "id_token_signing_alg_values_supported": ["RS256"],
        });
        Self(Arc::new(Inner {
            aliases: Arc::new(["accounts.google.com".into()]),
            rotation: Rotation::Never,
            authorization_endpoint: known("https://accounts.google.com/o/oauth2/v2/auth"),
            token_endpoint: known("https://oauth2.googleapis.com/token"),
            revocation_endpoint: known("https://oauth2.googleapis.com/revoke"),
            members: json.as_object().cloned().unwrap_or_default(),
            ..Inner::new(Issuer("https://accounts.google.com".into()))
        }))
    }

    /// Reads a metadata document and checks that it is `issuer`'s own. A document that names another
    /// issuer is refused whole (RFC 8414, section 3.3).
    pub fn from_json(json: &[u8], issuer: &Issuer) -> Result<Self, Error> {
        let invalid =
            |why: &str| Error::new(ErrorKind::InvalidResponse, format!("the metadata document of {issuer}: {why}"));
        if json.len() > MAX_METADATA {
            return Err(invalid("it is larger than 256 KiB"));
        }
        let json = json.strip_prefix(b"\xef\xbb\xbf").unwrap_or(json);
        let members: Map<String, Value> =
            serde_json::from_slice(json).map_err(|e| invalid("it is no JSON object").with_source(e))?;
        match members.get("issuer").and_then(Value::as_str) {
            Some(named) if named == issuer.as_str() => {}
            Some(named) => {
                let named = crate::error::printable(named, 200);
                return Err(Error::new(ErrorKind::Issuer, format!("the metadata of {issuer} names {named}")));
            }
            None => return Err(invalid("it has no issuer")),
        }
        let endpoint = |name: &str| match members.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(address)) => {
                Endpoint::new(address).map(Some).map_err(|e| invalid(&format!("{name} is wrong")).with_source(e))
            }
            Some(_) => Err(invalid(&format!("{name} is no text"))),
        };
        Ok(Self(Arc::new(Inner {
            authorization_endpoint: endpoint("authorization_endpoint")?,
            token_endpoint: endpoint("token_endpoint")?,
            revocation_endpoint: endpoint("revocation_endpoint")?,
            members,
            ..Inner::new(issuer.clone())
        })))
    }

    /// The server as an authorization request recorded it: endpoints that change in between do not
    /// matter to what is under way.
    pub(crate) fn recorded(pending: &PendingAuthorization) -> Self {
        Self(Arc::new(Inner {
            aliases: pending.issuer_aliases.clone(),
            rotation: pending.rotation,
            tolerated: pending.tolerated,
            token_endpoint: Some(pending.token_endpoint.clone()),
            ..Inner::new(pending.issuer.clone())
        }))
    }

    fn edit(&mut self) -> &mut Inner {
        Arc::make_mut(&mut self.0)
    }

    /// Sets `authorization_endpoint`.
    pub fn authorization_endpoint(mut self, address: &str) -> Result<Self, Error> {
        self.edit().authorization_endpoint = Some(Endpoint::new(address)?);
        Ok(self)
    }

    /// Sets `token_endpoint`.
    pub fn token_endpoint(mut self, address: &str) -> Result<Self, Error> {
        self.edit().token_endpoint = Some(Endpoint::new(address)?);
        Ok(self)
    }

    /// Sets `revocation_endpoint`.
    pub fn revocation_endpoint(mut self, address: &str) -> Result<Self, Error> {
        self.edit().revocation_endpoint = Some(Endpoint::new(address)?);
        Ok(self)
    }

    /// Sets any other member, such as `authorization_response_iss_parameter_supported`.
    pub fn member(mut self, name: &str, value: Value) -> Self {
        self.edit().members.insert(name.to_owned(), value);
        self
    }

    /// Accepts another spelling of the issuer in ID tokens. In redirects the issuer itself stays the only one.
    pub fn issuer_alias(mut self, alias: impl Into<String>) -> Self {
        let aliases = &mut self.edit().aliases;
        *aliases = aliases.iter().cloned().chain([alias.into()]).collect();
        self
    }

    /// Says what the server does with refresh tokens, where that is known.
    pub fn refresh_token_rotation(mut self, rotation: Rotation) -> Self {
        self.edit().rotation = rotation;
        self
    }

    /// Says which deviations from the standard to tolerate from this server;
    /// [`Deviations::TOLERATED`] unless told.
    pub fn tolerate(mut self, deviations: Deviations) -> Self {
        self.edit().tolerated = deviations;
        self
    }

    /// The issuer.
    pub fn issuer(&self) -> &Issuer {
        &self.0.issuer
    }

    pub(crate) fn issuer_aliases(&self) -> Arc<[String]> {
        self.0.aliases.clone()
    }

    pub(crate) fn rotation(&self) -> Rotation {
        self.0.rotation
    }

    pub(crate) fn tolerated(&self) -> Deviations {
        self.0.tolerated
    }

    /// Where the user is sent to sign in. An error if the server has none.
    pub fn authorization(&self) -> Result<&Endpoint, Error> {
        self.need(self.0.authorization_endpoint.as_ref(), "authorization_endpoint")
    }

    /// Where tokens are had. An error if the server has none.
    pub fn token(&self) -> Result<&Endpoint, Error> {
        self.need(self.0.token_endpoint.as_ref(), "token_endpoint")
    }

    /// Where tokens are revoked. An error if the server has none.
    pub fn revocation(&self) -> Result<&Endpoint, Error> {
        self.need(self.0.revocation_endpoint.as_ref(), "revocation_endpoint")
    }

    fn need<'a>(&self, endpoint: Option<&'a Endpoint>, name: &str) -> Result<&'a Endpoint, Error> {
        endpoint.ok_or_else(|| Error::config(format!("{} is known without a {name}", self.0.issuer)))
    }

    /// A member of the document by its name, as the server wrote it.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.0.members.get(name)
    }

    /// Whether every authorization response of this server carries `iss` (RFC 9207, section 3).
    pub(crate) fn promises_iss(&self) -> bool {
        self.get("authorization_response_iss_parameter_supported") == Some(&Value::Bool(true))
    }

    /// Whether the server says which PKCE methods it knows, and `method` is not among them.
    pub(crate) fn lacks_code_challenge_method(&self, method: &str) -> bool {
        match self.get("code_challenge_methods_supported") {
            Some(Value::Array(known)) => !known.iter().any(|name| name == method),
            _ => false,
        }
    }
}

/// Gets a server's metadata from the address that its issuer determines.
///
/// ```text
/// OpenID ─404─▶ OAuth ─▶ done
/// ```
#[derive(Debug)]
pub struct Discovery {
    current: Result<Exchange<ServerMetadata>, Error>,
    next: Option<Exchange<ServerMetadata>>,
}

impl Discovery {
    /// From `/.well-known/openid-configuration`, and where there is none, from
    /// `/.well-known/oauth-authorization-server`.
    pub fn new(issuer: &Issuer) -> Self {
        let mut discovery = Self::openid(issuer);
        discovery.next = Self::oauth(issuer).current.ok();
        discovery
    }

    /// Only from `/.well-known/openid-configuration` (OpenID Connect Discovery 1.0, section 4).
    pub fn openid(issuer: &Issuer) -> Self {
        Self::at(issuer, issuer.appended("openid-configuration"))
    }

    /// Only from `/.well-known/oauth-authorization-server` (RFC 8414, section 3).
    pub fn oauth(issuer: &Issuer) -> Self {
        Self::at(issuer, issuer.inserted("oauth-authorization-server"))
    }

    fn at(issuer: &Issuer, endpoint: Result<Endpoint, Error>) -> Self {
        let exchange = |endpoint| {
            let issuer = issuer.clone();
            Request::get("reading the server's metadata", &endpoint)
                .max_body(MAX_METADATA)
                .exchange(move |received: Received<'_>| ServerMetadata::from_json(received.response.body(), &issuer))
        };
        Self { current: endpoint.map(exchange), next: None }
    }
}

impl Machine for Discovery {
    type Output = ServerMetadata;

    fn resume(&mut self, cx: &mut Cx, mut reply: Reply) -> Step<ServerMetadata> {
        loop {
            let exchange = match &mut self.current {
                Ok(exchange) => exchange,
                Err(error) => return Step::Done(Err(error.clone())),
            };
            let result = ask!(exchange, cx, reply);
            match (result, self.next.take()) {
                (Err(error), Some(next)) if matches!(error.status(), Some(404 | 405 | 410)) => {
                    self.current = Ok(next);
                }
                (result, _) => return Step::Done(result),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_metadata_where_the_standards_put_it() {
        for (issuer, oauth, openid) in [
            ("https://example.com", "/.well-known/oauth-authorization-server", "/.well-known/openid-configuration"),
            ("https://example.com/", "/.well-known/oauth-authorization-server", "/.well-known/openid-configuration"),
            (
                "https://example.com/issuer1",
                "/.well-known/oauth-authorization-server/issuer1",
                "/issuer1/.well-known/openid-configuration",
            ),
            (
                "https://example.com/a/b/",
                "/.well-known/oauth-authorization-server/a/b",
                "/a/b/.well-known/openid-configuration",
            ),
        ] {
            let issuer = Issuer::new(issuer).unwrap();
            let found = [issuer.inserted("oauth-authorization-server"), issuer.appended("openid-configuration")];
            let found = found.map(|endpoint| endpoint.unwrap().as_str().replace("https://example.com", ""));
            assert_eq!(found, [oauth, openid]);
        }
        let issuer = Issuer::new("https://example.com:8443/t").unwrap();
        assert_eq!(
            issuer.inserted("oauth-authorization-server").unwrap().as_str(),
            "https://example.com:8443/.well-known/oauth-authorization-server/t"
        );
    }

    #[test]
    fn refuses_addresses_that_lead_elsewhere_than_they_look() {
        for address in [
            "http://as.example/token",
            "ftp://as.example",
            "file:///etc/passwd",
            "javascript:alert(1)",
            "https:/as.example",
            "https://user@as.example",
            "https://user:pw@as.example",
            "https://as.example#x",
            "https://as.example\\@evil.example",
            "https://as.exa mple",
            "https://as.example/\n",
            "https://as.example/\"",
            "https://bücher.example",
            "http://127.0.0.1.evil.example",
            "http://localhost.evil.example",
            "a:$(calc)",
            "-flag",
            "",
        ] {
            assert!(Endpoint::new(address).is_err(), "{address}");
            assert!(Issuer::new(address).is_err(), "{address}");
        }
        for address in ["http://127.0.0.1:8080/t", "http://[::1]/t", "http://localhost:1/t", "https://as.example/t?x=y"]
        {
            assert!(Endpoint::new(address).is_ok(), "{address}");
        }
        assert!(Issuer::new("https://as.example?x").is_err());
    }

    #[test]
    fn metadata_of_another_issuer_is_refused_whole() {
        let issuer = Issuer::new("https://as.example").unwrap();
        for named in [
            "https://as.example/",
            "HTTPS://as.example",
            "https://AS.example",
            "https://as.example:443",
            "https://%61s.example",
            "https://evil.example",
        ] {
            let json = serde_json::json!({"issuer": named, "token_endpoint": "https://as.example/token"});
            let error = ServerMetadata::from_json(json.to_string().as_bytes(), &issuer).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Issuer, "{named}");
        }
    }
}
