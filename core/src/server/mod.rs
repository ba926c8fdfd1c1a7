//! Who we talk to: an authorization server's issuer, endpoints and metadata, and their discovery
//! (RFC 8414, OpenID Connect Discovery 1.0).

mod address;
mod discovery;

use std::fmt;
use std::sync::Arc;

use serde_json::{Map, Value};

pub use address::{Endpoint, Issuer};
pub use discovery::Discovery;

pub(crate) use address::{is_loopback, is_loopback_host};

use crate::authorize::PendingAuthorization;
use crate::{Deviations, Error, ErrorKind, Rotation};

/// The most bytes of a metadata document.
const MAX_METADATA: usize = 256 * 1024;

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
    revokes_for_anyone: bool,
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
            revokes_for_anyone: false,
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
        let known = |address| Some(Endpoint::known(address));
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
            revokes_for_anyone: true,
            authorization_endpoint: known("https://accounts.google.com/o/oauth2/v2/auth"),
            token_endpoint: known("https://oauth2.googleapis.com/token"),
            revocation_endpoint: known("https://oauth2.googleapis.com/revoke"),
            members: json.as_object().cloned().unwrap_or_default(),
            ..Inner::new(Issuer::known("https://accounts.google.com"))
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

    /// The document, to be kept and [read](Self::from_json) again without asking the server. What no document
    /// says is not in it: aliases, rotation, what to tolerate.
    ///
    /// ```
    /// use grantflow::{Issuer, ServerMetadata};
    ///
    /// let issuer = Issuer::new("https://as.example")?;
    /// let server = ServerMetadata::new(issuer.clone()).token_endpoint("https://as.example/token")?;
    /// let again = ServerMetadata::from_json(server.to_json().as_bytes(), &issuer)?;
    /// assert_eq!(again.token()?.as_str(), "https://as.example/token");
    /// # Ok::<(), grantflow::Error>(())
    /// ```
    pub fn to_json(&self) -> String {
        let mut members = self.0.members.clone();
        members.insert("issuer".to_owned(), self.issuer().as_str().into());
        for (name, endpoint) in [
            ("authorization_endpoint", &self.0.authorization_endpoint),
            ("token_endpoint", &self.0.token_endpoint),
            ("revocation_endpoint", &self.0.revocation_endpoint),
        ] {
            if let Some(endpoint) = endpoint {
                members.insert(name.to_owned(), endpoint.as_str().into());
            }
        }
        Value::Object(members).to_string()
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

    /// Whether whoever has a token may revoke it, without saying who asks.
    pub(crate) fn revokes_for_anyone(&self) -> bool {
        self.0.revokes_for_anyone
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
