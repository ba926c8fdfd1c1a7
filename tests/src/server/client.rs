//! Clients as the pretend server knows them, and how they prove to be themselves.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use grantflow::Timestamp;
use http::{Request, header};
use serde_json::Value;
use url::form_urlencoded;

use super::{ClientCertificate, Refusal, Server, refuse};
use crate::jwt::{Jwt, PublicKey};

/// RFC 7523, section 2.2.
const ASSERTION: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
/// How an assertion says what it is (RFC 10070).
const TYP: &str = "client-authentication+jwt";
/// The longest time that an assertion may be good for, in seconds.
const LONGEST: i64 = 300;
/// The same of Apple's client secrets.
const SIX_MONTHS: i64 = 15_777_000;

/// A registered client.
#[derive(Clone, Debug)]
pub struct Registered {
    pub(super) id: String,
    method: Method,
    redirect_uris: Vec<String>,
    /// The keys that it signs its authorization requests with; without any it sends them as they are.
    request_keys: Vec<PublicKey>,
}

#[derive(Clone, Debug)]
enum Method {
    None,
    Basic(String),
    Post(String),
    PrivateKeyJwt {
        keys: Vec<PublicKey>,
        /// The audience that it wants in the issuer's place, as servers from before RFC 10070.
        legacy: Option<String>,
    },
    /// By a client secret that the key of this team has signed, as at Apple.
    Apple {
        team_id: String,
        key: PublicKey,
    },
    /// By a certificate that this authority has signed, with this common name.
    Tls {
        authority: ClientCertificate,
        name: String,
    },
    /// By one of these certificates.
    SelfSignedTls(Vec<ClientCertificate>),
}

impl Registered {
    /// A public client (`none`).
    pub fn public(id: &str) -> Self {
        Self { id: id.to_owned(), method: Method::None, redirect_uris: Vec::new(), request_keys: Vec::new() }
    }

    /// A client with `client_secret_basic`.
    pub fn basic(id: &str, secret: &str) -> Self {
        Self { method: Method::Basic(secret.to_owned()), ..Self::public(id) }
    }

    /// A client with `client_secret_post`.
    pub fn post(id: &str, secret: &str) -> Self {
        Self { method: Method::Post(secret.to_owned()), ..Self::public(id) }
    }

    /// A client with `private_key_jwt`.
    pub fn private_key_jwt(id: &str, keys: impl IntoIterator<Item = PublicKey>) -> Self {
        let method = Method::PrivateKeyJwt { keys: keys.into_iter().collect(), legacy: None };
        Self { method, ..Self::public(id) }
    }

    /// A client with `client_secret_jwt`.
    pub fn client_secret_jwt(id: &str, secret: &str) -> Self {
        Self::private_key_jwt(id, [PublicKey::Hs256(secret.as_bytes().to_vec())])
    }

    /// A client of this team at Apple, whose secrets are signed by this key.
    pub fn apple(id: &str, team_id: &str, key: PublicKey) -> Self {
        Self { method: Method::Apple { team_id: team_id.to_owned(), key }, ..Self::public(id) }
    }

    /// A client with `tls_client_auth` (RFC 8705, section 2.1), known by its certificate's common name.
    pub fn tls_client_auth(id: &str, authority: ClientCertificate, name: &str) -> Self {
        Self { method: Method::Tls { authority, name: name.to_owned() }, ..Self::public(id) }
    }

    /// A client with `self_signed_tls_client_auth` (RFC 8705, section 2.2).
    pub fn self_signed_tls_client_auth(id: &str, certificates: impl IntoIterator<Item = ClientCertificate>) -> Self {
        Self { method: Method::SelfSignedTls(certificates.into_iter().collect()), ..Self::public(id) }
    }

    /// Wants this audience in assertions, as servers from before RFC 10070 do, and no type of theirs.
    pub fn legacy_audience(mut self, audience: &str) -> Self {
        if let Method::PrivateKeyJwt { legacy, .. } = &mut self.method {
            *legacy = Some(audience.to_owned());
        }
        self
    }

    /// Registers a redirect URI. One of http on a loopback host is good with any port (RFC 8252,
    /// section 7.3); any other must be the same to the character.
    pub fn redirect_uri(mut self, uri: &str) -> Self {
        self.redirect_uris.push(uri.to_owned());
        self
    }

    /// Signs its authorization requests, with this key (RFC 9101, section 10.5), and sends none as it is.
    pub fn request_key(mut self, key: PublicKey) -> Self {
        self.request_keys.push(key);
        self
    }

    pub(super) fn signs_requests(&self) -> bool {
        !self.request_keys.is_empty()
    }

    pub(super) fn signs(&self, jwt: &Jwt) -> bool {
        self.request_keys.iter().any(|key| jwt.is_signed_by(key))
    }

    pub(super) fn allows(&self, redirect_uri: &str) -> bool {
        self.redirect_uris
            .iter()
            .any(|known| known == redirect_uri || Some(known) == without_port(redirect_uri).as_ref())
    }

    pub(super) fn is_public(&self) -> bool {
        matches!(self.method, Method::None)
    }

    /// Whether the client may name itself and show nothing but this certificate, or not even that.
    fn is_shown_by(&self, certificate: Option<&ClientCertificate>, now: Timestamp) -> bool {
        match (&self.method, certificate) {
            (Method::None, _) => true,
            (Method::Tls { authority, name }, Some(shown)) => shown.is_signed_by(authority, name, now),
            (Method::SelfSignedTls(known), Some(shown)) => known.contains(shown),
            _ => false,
        }
    }

    /// Whether this is the client's secret, in the body.
    fn has_secret(&self, given: &str, issuer: &str, now: Timestamp) -> bool {
        match &self.method {
            Method::Post(secret) => secret == given,
            Method::Apple { team_id, key } => Jwt::parse(given).is_some_and(|jwt| {
                let (iat, exp) = (jwt.seconds("iat").unwrap_or(i64::MAX), jwt.seconds("exp").unwrap_or_default());
                let now = now.as_unix();
                let times = iat <= now && now < exp && exp - iat <= SIX_MONTHS;
                let names = (jwt.text("iss"), jwt.text("sub"), jwt.text("aud"));
                let kid = jwt.header.get("kid").is_some_and(Value::is_string);
                jwt.is_signed_by(key) && times && kid && names == (Some(team_id), Some(&self.id), Some(issuer))
            }),
            _ => false,
        }
    }

    /// Whether an assertion is this client's, for this server and this moment (RFC 7523, section 3; RFC 10070).
    fn accepts(&self, jwt: &Jwt, issuer: &str, now: Timestamp) -> Result<(), &'static str> {
        let Method::PrivateKeyJwt { keys, legacy } = &self.method else {
            return Err("the client authenticates in another way");
        };
        let (typ, audience) = match legacy {
            Some(audience) => ("JWT", &**audience),
            None => (TYP, issuer),
        };
        let header = |name: &str| jwt.header.get(name).and_then(Value::as_str);
        let now = now.as_unix();
        let (Some(iat), Some(exp)) = (jwt.seconds("iat"), jwt.seconds("exp")) else {
            return Err("iat and exp are needed");
        };
        if jwt.header.keys().any(|name| !matches!(&**name, "alg" | "typ" | "kid")) || header("typ") != Some(typ) {
            return Err("another type, or an unknown member of the header");
        }
        if !keys.iter().any(|key| jwt.is_signed_by(key)) {
            return Err("no key of the client has signed it");
        }
        if jwt.text("iss") != Some(&self.id) || jwt.text("sub") != Some(&self.id) {
            return Err("iss and sub must be the client_id");
        }
        // One text: a list could name others who may use it too.
        if jwt.text("aud") != Some(audience) {
            return Err("it is for somebody else");
        }
        if iat > now || now >= exp || exp - iat > LONGEST || jwt.claims.contains_key("nbf") {
            return Err("it is from the future, has expired, or is good for too long");
        }
        if jwt.text("jti").is_none_or(|jti| jti.len() < 22) {
            return Err("jti must hold 128 random bits");
        }
        Ok(())
    }
}

impl Server {
    /// Checks what the request says of the client: by its one method and no other.
    pub(super) fn authenticate(
        &mut self,
        now: Timestamp,
        request: &Request<Vec<u8>>,
        params: &BTreeMap<String, String>,
    ) -> Result<Registered, Refusal> {
        let (in_body, secret) = (params.get("client_id"), params.get("client_secret"));
        let (kind, assertion) = (params.get("client_assertion_type"), params.get("client_assertion"));
        let find = |id: &str| self.clients.iter().find(|client| client.id == id);
        let (client, right) = match (request.headers().get(header::AUTHORIZATION), in_body, secret, assertion) {
            (Some(_), Some(_), ..)
            | (Some(_), _, Some(_), _)
            | (Some(_), .., Some(_))
            | (None, _, Some(_), Some(_)) => {
                return refuse("invalid_request", "the client authenticates in two ways");
            }
            (.., None) if kind.is_some() => return refuse("invalid_request", "there is no client_assertion"),
            (None, id, None, Some(jwt)) => {
                let id = id.cloned();
                return self.authenticate_by_assertion(now, kind.map(String::as_str), id, jwt);
            }
            (Some(value), None, None, None) => {
                let Some((id, given)) = value.to_str().ok().and_then(basic) else {
                    return refuse("invalid_client", "the Authorization header cannot be read");
                };
                let client = find(&id);
                (client, client.is_some_and(|c| matches!(&c.method, Method::Basic(secret) if *secret == given)))
            }
            (None, Some(id), Some(given), None) => {
                let client = find(id);
                (client, client.is_some_and(|client| client.has_secret(given, &self.issuer, now)))
            }
            (None, Some(id), None, None) => {
                let client = find(id);
                let certificate = self.certificate(request);
                (client, client.is_some_and(|client| client.is_shown_by(certificate, now)))
            }
            (None, None, ..) => return refuse("invalid_request", "the client is not named"),
        };
        match client {
            Some(client) if right => Ok(client.clone()),
            _ => refuse("invalid_client", "the client is unknown, or authenticates wrongly"),
        }
    }

    /// RFC 7523, section 3. Each assertion is good for one use.
    fn authenticate_by_assertion(
        &mut self,
        now: Timestamp,
        kind: Option<&str>,
        id: Option<String>,
        jwt: &str,
    ) -> Result<Registered, Refusal> {
        if kind != Some(ASSERTION) {
            return refuse("invalid_request", "another client_assertion_type");
        }
        let Some(jwt) = Jwt::parse(jwt) else { return refuse("invalid_client", "the assertion is no JWT") };
        let named = jwt.text("sub").map(str::to_owned);
        if id.is_some() && id != named {
            return refuse("invalid_client", "the assertion is another client's");
        }
        let Some(client) = self.clients.iter().find(|client| Some(&client.id) == named.as_ref()) else {
            return refuse("invalid_client", "the client is unknown");
        };
        if let Err(why) = client.accepts(&jwt, &self.issuer, now) {
            return refuse("invalid_client", why);
        }
        let client = client.clone();
        let used = (client.id.clone(), jwt.text("jti").unwrap_or_default().to_owned());
        if !self.assertions.insert(used) {
            return refuse("invalid_client", "the assertion was used before");
        }
        Ok(client)
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
