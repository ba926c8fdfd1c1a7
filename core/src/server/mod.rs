//! Authorization servers: issuer, endpoints, metadata, and their discovery (RFC 8414, OpenID Connect Discovery 1.0).

mod address;
mod discovery;
mod endpoints;

use std::fmt;
use std::sync::Arc;

use endpoints::Endpoints;
use serde_json::{Map, Value};

pub use address::{Endpoint, Issuer};
pub use discovery::Discovery;

pub(crate) use address::{Namer, is_loopback, is_loopback_address, is_loopback_host, tenant_parts};

use crate::json::{self, Object};
use crate::{Deviation, Deviations, Error, ErrorKind, Rotation};

/// Google's issuer.
pub(crate) const GOOGLE: &str = "https://accounts.google.com";
/// The keys that Google signs with.
pub(crate) const GOOGLE_KEYS: &str = "https://www.googleapis.com/oauth2/v3/certs";

/// The most bytes of a metadata document.
const MAX_METADATA: usize = 256 * 1024;

/// The metadata of an authorization server (RFC 8414, section 2; OpenID Connect Discovery 1.0, section 3): set by hand,
/// read from JSON, or [discovered](Discovery). Cheap to clone.
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
    /// Who named it.
    namer: Namer,
    /// What was tolerated to read the document.
    found: Deviations,
    endpoints: Endpoints,
    members: Map<String, Value>,
    demands: Demands,
}

/// What the members say of every authorization request and its answer: looked up once.
#[derive(Clone, Copy, Default)]
struct Demands {
    pushed: bool,
    signed: bool,
    iss: bool,
    s256: bool,
    lacks_s256: bool,
    lacks_plain: bool,
}

impl Demands {
    fn read(members: &Map<String, Value>) -> Self {
        let has = |name| members.get(name).is_some_and(is_true);
        let methods = members.get("code_challenge_methods_supported").and_then(Value::as_array);
        let knows = |method| methods.map(|known| known.iter().any(|name| name == method));
        Self {
            pushed: has("require_pushed_authorization_requests"),
            signed: has("require_signed_request_object"),
            iss: has("authorization_response_iss_parameter_supported"),
            s256: knows("S256") == Some(true),
            lacks_s256: knows("S256") == Some(false),
            lacks_plain: knows("plain") == Some(false),
        }
    }
}

impl Inner {
    fn new(issuer: Issuer) -> Self {
        Self {
            issuer,
            aliases: Arc::default(),
            rotation: Rotation::Unknown,
            tolerated: Deviations::TOLERATED,
            revokes_for_anyone: false,
            namer: Namer::Configured,
            found: Deviations::NONE,
            endpoints: Endpoints::default(),
            members: Map::new(),
            demands: Demands::default(),
        }
    }
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("ServerMetadata");
        shown.field("issuer", &self.issuer);
        for (name, endpoint) in self.endpoints.iter() {
            shown.field(name, endpoint);
        }
        shown.finish_non_exhaustive()
    }
}

/// Whether a document names the issuer of these tenants, whatever it calls the tenant.
fn is_of_tenants(named: &str, tenants: &str) -> bool {
    let around = |name| tenant_parts(name).map(|(before, _, after)| (before, after));
    around(named).is_some_and(|named| Some(named) == around(tenants))
}

impl ServerMetadata {
    /// A server of which only the issuer is known.
    pub fn new(issuer: Issuer) -> Self {
        Self(Arc::new(Inner::new(issuer)))
    }

    /// Google, as its own metadata describes it; no request is made. Its ID tokens may name the issuer
    /// without `https://`.
    pub fn google() -> Self {
        let json = serde_json::json!({
            "code_challenge_methods_supported": ["plain", "S256"],
            "token_endpoint_auth_methods_supported": ["client_secret_post", "client_secret_basic"],
            "revocation_endpoint_auth_methods_supported": ["none"],
            "id_token_signing_alg_values_supported": ["RS256"],
        });
        let mut members = json.as_object().cloned().unwrap_or_default();
        let mut endpoints = Endpoints::default();
        for (name, address) in [
            ("authorization_endpoint", "https://accounts.google.com/o/oauth2/v2/auth"),
            ("token_endpoint", "https://oauth2.googleapis.com/token"),
            ("revocation_endpoint", "https://oauth2.googleapis.com/revoke"),
            ("userinfo_endpoint", "https://openidconnect.googleapis.com/v1/userinfo"),
            ("jwks_uri", GOOGLE_KEYS),
            ("device_authorization_endpoint", "https://oauth2.googleapis.com/device/code"),
        ] {
            members.insert(name.to_owned(), address.into());
            endpoints.set(name, Endpoint::known(address));
        }
        Self(Arc::new(Inner {
            aliases: Arc::new(["accounts.google.com".into()]),
            rotation: Rotation::Never,
            revokes_for_anyone: true,
            endpoints,
            members,
            ..Inner::new(Issuer::known(GOOGLE))
        }))
    }

    /// Reads a metadata document, and checks that it is the document of `issuer`.
    ///
    /// A member that cannot be read is left out, and [`deviations`](Self::deviations) says so.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidResponse`] if the text is no metadata document, or names an endpoint on this machine for an
    /// issuer that is elsewhere. [`ErrorKind::Issuer`] if the document names another issuer: it is refused whole (RFC
    /// 8414, section 3.3).
    pub fn from_json(json: &[u8], issuer: &Issuer) -> Result<Self, Error> {
        Self::from_json_tolerating(json, issuer, Deviations::TOLERATED)
    }

    /// Reads a metadata document as [`from_json`](Self::from_json) does, and tolerates these deviations from the
    /// standard, in the server's other answers too (see [`tolerate`](Self::tolerate)).
    pub fn from_json_tolerating(json: &[u8], issuer: &Issuer, tolerated: Deviations) -> Result<Self, Error> {
        Self::read(json, issuer, tolerated, None)
    }

    /// The same, where the document may name the issuer of many tenants.
    fn read(json: &[u8], issuer: &Issuer, tolerated: Deviations, tenants: Option<&str>) -> Result<Self, Error> {
        let invalid =
            |why: &str| Error::new(ErrorKind::InvalidResponse, format!("the metadata document of {issuer}: {why}"));
        if json.len() > MAX_METADATA {
            return Err(invalid("it is larger than 256 KiB"));
        }
        let Object { members, mut found, .. } = json::object(json).map_err(|e| match json.trim_ascii_start() {
            [] => invalid("it is empty"),
            [b'<', ..] => invalid("it is a web page and no JSON object"),
            // The parser's own words may quote the text.
            _ => invalid(&format!("it is no JSON object (line {}, column {})", e.line(), e.column())),
        })?;
        match members.get("issuer").and_then(Value::as_str).filter(|named| !named.is_empty()) {
            Some(named) if named == issuer.as_str() => {}
            Some(named) if tenants.is_some_and(|tenants| is_of_tenants(named, tenants)) => {}
            Some(named) => {
                let named = crate::Shown::name(named);
                return Err(Error::new(
                    ErrorKind::Issuer,
                    format!("the metadata of {issuer} names {named} as its issuer, which must be the same"),
                ));
            }
            None => return Err(invalid("it has no issuer")),
        }
        if members.iter().any(|(name, value)| is_odd(name, value)) {
            found = found.with(Deviation::OddMember);
        }
        let endpoints = Endpoints::read(&members, issuer, tolerated, &mut found)?;
        let demands = Demands::read(&members);
        let aliases = tenants.map(str::to_owned).into_iter().collect();
        let inner = Inner { aliases, endpoints, members, demands, found, tolerated, ..Inner::new(issuer.clone()) };
        Ok(Self(Arc::new(inner)))
    }

    /// The document as JSON, to be kept and [read](Self::from_json) again without a request. It lacks what no document
    /// says: aliases, rotation, tolerated deviations, and whether the server is [a stranger](Self::of_stranger).
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
        Value::Object(members).to_string()
    }

    /// A server of which only what a token request needs is known.
    pub(crate) fn recorded(
        issuer: &Issuer,
        aliases: &Arc<[String]>,
        token_endpoint: &Endpoint,
        jwks_uri: Option<&Endpoint>,
        rotation: Rotation,
        tolerated: Deviations,
    ) -> Self {
        let mut endpoints = Endpoints::default();
        endpoints.set("token_endpoint", token_endpoint.clone());
        if let Some(jwks_uri) = jwks_uri {
            endpoints.set("jwks_uri", jwks_uri.clone());
        }
        let aliases = aliases.clone();
        Self(Arc::new(Inner { aliases, rotation, tolerated, endpoints, ..Inner::new(issuer.clone()) }))
    }

    fn edit(&mut self) -> &mut Inner {
        Arc::make_mut(&mut self.0)
    }

    /// Sets any member of the document, such as `authorization_response_iss_parameter_supported`. An endpoint that
    /// cannot be used is an error where it is needed.
    pub fn member(mut self, name: &str, value: Value) -> Self {
        let inner = self.edit();
        inner.endpoints.write(name, &value, inner.namer);
        inner.members.insert(name.to_owned(), value);
        inner.demands = Demands::read(&inner.members);
        self
    }

    /// Accepts another spelling of the issuer in ID tokens. In redirects only the issuer itself is accepted.
    pub fn issuer_alias(mut self, alias: impl Into<String>) -> Self {
        let aliases = &mut self.edit().aliases;
        *aliases = aliases.iter().cloned().chain([alias.into()]).collect();
        self
    }

    /// Sets whether the server replaces refresh tokens, where that is known.
    pub fn refresh_token_rotation(mut self, rotation: Rotation) -> Self {
        self.edit().rotation = rotation;
        self
    }

    /// Sets which deviations from the standard to tolerate from this server; [`Deviations::TOLERATED`] by default.
    pub fn tolerate(mut self, deviations: Deviations) -> Self {
        self.edit().tolerated = deviations;
        self
    }

    /// The same server as a stranger: one that the program's configuration has not chosen. Requests to its endpoints,
    /// those that are set later included, go to global addresses alone
    /// ([`Reach::Global`](crate::machine::Reach::Global)).
    ///
    /// # Errors
    ///
    /// Of kind [`ErrorKind::InvalidResponse`] if an endpoint is known to be on a private network or on this machine:
    /// see [`Reach::permits_host`](crate::machine::Reach::permits_host).
    pub fn of_stranger(self) -> Result<Self, Error> {
        self.named_by(Namer::Stranger)
    }

    /// The same server, as this one names it.
    pub(crate) fn named_by(mut self, namer: Namer) -> Result<Self, Error> {
        if namer != Namer::Configured {
            let inner = self.edit();
            inner.namer = namer;
            inner.endpoints = std::mem::take(&mut inner.endpoints).named_by(namer, &inner.issuer)?;
        }
        Ok(self)
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

    /// Whether any holder of a token may revoke it, without saying who asks.
    pub(crate) fn revokes_for_anyone(&self) -> bool {
        self.0.revokes_for_anyone
    }

    pub(crate) fn tolerated(&self) -> Deviations {
        self.0.tolerated
    }

    /// The deviations that were tolerated in the document.
    pub fn deviations(&self) -> Deviations {
        self.0.found
    }

    /// The same server with the endpoints that it has for clients that present a certificate (`mtls_endpoint_aliases`,
    /// RFC 8705, section 5); where it has none, with the usual ones. This is for requests of your own: a
    /// [`Client`](crate::Client) that presents a certificate uses these endpoints by itself.
    ///
    /// # Errors
    ///
    /// If such an endpoint leads to this machine, and the issuer does not.
    pub fn with_mtls_endpoint_aliases(&self) -> Result<Self, Error> {
        let Some(Value::Object(aliases)) = self.get("mtls_endpoint_aliases") else { return Ok(self.clone()) };
        let mut server = self.clone();
        let inner = server.edit();
        let aliases = Endpoints::read(aliases, &inner.issuer, inner.tolerated, &mut inner.found)?;
        let aliases = aliases.named_by(inner.namer, &inner.issuer)?;
        inner.endpoints = std::mem::take(&mut inner.endpoints).replaced_by(aliases);
        Ok(server)
    }

    fn need(&self, name: &str) -> Result<&Endpoint, Error> {
        let issuer = self.issuer();
        match self.0.endpoints.get(name) {
            Some(Ok(endpoint)) => Ok(endpoint),
            Some(Err(why)) => {
                Err(Error::config(format!("the {name} of {issuer} cannot be used")).with_source(why.clone()))
            }
            None => Err(Error::config(format!(
                "the {name} of {issuer} is not known: read its metadata (`Discovery`), or name it; some servers have none"
            ))),
        }
    }

    /// A member of the document by its name, as the server wrote it.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.0.members.get(name)
    }

    /// The algorithms that a member of this name lists, if it does.
    pub(crate) fn algorithms(&self, name: &str) -> Option<Vec<&str>> {
        let listed = self.get(name)?.as_array()?.iter().filter_map(Value::as_str).collect::<Vec<_>>();
        Some(listed).filter(|listed| !listed.is_empty())
    }

    /// Whether a member of this name is true.
    pub(crate) fn says(&self, name: &str) -> bool {
        self.get(name).is_some_and(is_true)
    }

    /// Its endpoints that can be used, by their names.
    pub(crate) fn endpoints(&self) -> impl Iterator<Item = (&'static str, &Endpoint)> {
        self.0.endpoints.iter()
    }

    /// Whether every authorization response of this server carries `iss` (RFC 9207, section 3).
    pub(crate) fn promises_iss(&self) -> bool {
        self.0.demands.iss
    }

    /// Whether it takes pushed authorization requests alone (RFC 9126, section 5).
    pub(crate) fn demands_pushed_requests(&self) -> bool {
        self.0.demands.pushed
    }

    /// Whether it takes signed authorization requests alone (RFC 9101, section 10.5).
    pub(crate) fn demands_signed_requests(&self) -> bool {
        self.0.demands.signed
    }

    /// Whether the server says that it knows the PKCE method S256 (RFC 8414, section 2).
    pub(crate) fn knows_s256(&self) -> bool {
        self.0.demands.s256
    }

    /// Whether the server says which PKCE methods it knows, and S256, or `plain`, is not among them.
    pub(crate) fn lacks_code_challenge_method(&self, plain: bool) -> bool {
        if plain { self.0.demands.lacks_plain } else { self.0.demands.lacks_s256 }
    }
}

/// Whether a member is true. A word in a text is one: the check that it allows is not given up for a quote.
fn is_true(value: &Value) -> bool {
    match value {
        Value::Bool(is) => *is,
        Value::String(text) => text.trim().eq_ignore_ascii_case("true"),
        _ => false,
    }
}

/// Whether a member is of another type than its name says: `..._supported` is a list, or true or false (RFC 8414,
/// section 2). Null and an empty text count as missing.
fn is_odd(name: &str, value: &Value) -> bool {
    let is_flag = name.ends_with("_parameter_supported");
    match value {
        _ if !name.ends_with("s_supported") && !is_flag => false,
        Value::Null => false,
        Value::String(text) => !text.trim().is_empty(),
        Value::Array(_) => is_flag,
        Value::Bool(_) => false,
        _ => true,
    }
}
