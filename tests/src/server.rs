//! A pretend authorization server, a pure function: (state, time, request) to answer.
//!
//! It is strict, so that whatever passes here passes elsewhere: unknown and repeated parameters, a
//! missing PKCE, another content type, a redirect URI that differs by one character are refused.
//! What it hands out depends on nothing but the order of requests.

mod authorize;
mod certificate;
mod ciba;
mod client;
mod device;
mod dpop;
mod exchange;
mod fault;
mod introspect;
mod pushed;
mod register;
mod settings;
mod token;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use grantflow::{Issuer, Scopes, ServerMetadata, Timestamp};
use http::{Method, Request, Response, StatusCode, header};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use url::form_urlencoded;

use crate::keys::IssuerKey;
use ciba::Backchannel;
use device::Device;
use pushed::Pushed;
use register::Registrations;

pub use certificate::ClientCertificate;
pub use ciba::Ping;
pub use client::Registered;
pub use fault::{Answer, Fault, Wire};
pub use settings::{Alter, Consent, Iss, RefreshTokens, Settings};

/// The `grant_type` of RFC 8693, section 2.1.
const TOKEN_EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
/// The parameters by which clients authenticate.
const CLIENT: [&str; 4] = ["client_id", "client_secret", "client_assertion_type", "client_assertion"];
/// The `grant_type` of RFC 8628, section 3.4.
const DEVICE_CODE: &str = "urn:ietf:params:oauth:grant-type:device_code";

/// The server: its settings, what it has handed out, and what it has seen.
#[derive(Debug)]
pub struct Server {
    issuer: String,
    /// How it behaves; may be changed at any time.
    pub settings: Settings,
    clients: Vec<Registered>,
    users: BTreeMap<String, String>,
    grants: Vec<Grant>,
    codes: BTreeMap<String, Code>,
    access: BTreeMap<String, Access>,
    refresh: BTreeMap<String, Refresh>,
    devices: BTreeMap<String, Device>,
    backchannel: BTreeMap<String, Backchannel>,
    pushed: BTreeMap<String, Pushed>,
    registrations: Registrations,
    /// Clients and the `jti` of the assertions that they have used.
    assertions: BTreeSet<(String, String)>,
    /// The `jti` of the proofs that were shown.
    proofs: BTreeSet<String>,
    handed_out: u64,
    faults: VecDeque<(Place, Fault)>,
    seen: Vec<Seen>,
}

/// What a user allowed a client. Its tokens live and die with it.
#[derive(Debug)]
struct Grant {
    client_id: String,
    subject: String,
    scopes: Scopes,
    nonce: Option<String>,
    /// What was granted in detail (RFC 9396).
    details: Option<Value>,
    max_age: bool,
    auth_time: Timestamp,
    revoked: bool,
    /// The thumbprint of the certificate that its refresh tokens are bound to: those of public clients.
    certificate: Option<String>,
    /// The thumbprint of the key that they are bound to (RFC 9449, section 5).
    jkt: Option<String>,
}

#[derive(Debug)]
struct Code {
    /// The thumbprint of the key that it is bound to (RFC 9449, section 10).
    dpop_jkt: Option<String>,
    grant: usize,
    redirect_uri: String,
    challenge: String,
    plain: bool,
    ends: Timestamp,
    used: bool,
}

#[derive(Debug)]
struct Access {
    grant: usize,
    scopes: Scopes,
    ends: Timestamp,
    revoked: bool,
    /// The thumbprint of the certificate that it is bound to.
    certificate: Option<String>,
    /// The thumbprint of the key that it is bound to.
    jkt: Option<String>,
}

#[derive(Debug)]
struct Refresh {
    grant: usize,
    replaced: Option<Timestamp>,
}

/// A part of the server, by what it is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// `/.well-known/openid-configuration`
    OpenIdMetadata,
    /// `/.well-known/oauth-authorization-server`
    OAuthMetadata,
    /// `/jwks`
    Keys,
    /// `/authorize`
    Authorize,
    /// `/register`: where clients register themselves (RFC 7591).
    Registration,
    /// What is behind that: a registration of its own for each client (RFC 7592).
    Managed,
    /// `/par`: where authorization requests are left (RFC 9126).
    PushedRequest,
    /// `/bc-authorize`: where a sign-in begins that needs no browser (CIBA).
    Backchannel,
    /// `/device_authorization`: where a device gets its codes.
    Device,
    /// `/device`: where a person enters the code that a device shows.
    Verification,
    /// `/token`
    Token,
    /// `/revoke`
    Revoke,
    /// `/introspect`
    Introspect,
    /// `/resource`: what access tokens are good for.
    Resource,
    /// Any other path.
    Elsewhere,
}

/// A request as the server saw it.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Where it went.
    pub place: Place,
    /// When.
    pub at: Timestamp,
    /// All of it.
    pub request: Request<Vec<u8>>,
}

impl Seen {
    /// A parameter of its form or query.
    pub fn param(&self, name: &str) -> Option<String> {
        self.params(name).into_iter().next()
    }

    /// A parameter of its form or query, each time that it is there.
    pub fn params(&self, name: &str) -> Vec<String> {
        let bytes = match self.place {
            Place::Authorize | Place::Verification => self.request.uri().query().unwrap_or_default().as_bytes(),
            _ => self.request.body(),
        };
        form_urlencoded::parse(bytes).filter(|(key, _)| key == name).map(|(_, value)| value.into_owned()).collect()
    }

    /// A header's text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.request.headers().get(name)?.to_str().ok()
    }
}

impl Server {
    /// A server of this issuer, without clients and users.
    pub fn new(issuer: &str) -> Self {
        Self {
            issuer: issuer.to_owned(),
            settings: Settings::default(),
            clients: Vec::new(),
            users: BTreeMap::new(),
            grants: Vec::new(),
            codes: BTreeMap::new(),
            access: BTreeMap::new(),
            refresh: BTreeMap::new(),
            pushed: BTreeMap::new(),
            registrations: Registrations::new(),
            devices: BTreeMap::new(),
            backchannel: BTreeMap::new(),
            assertions: BTreeSet::new(),
            proofs: BTreeSet::new(),
            handed_out: 0,
            faults: VecDeque::new(),
            seen: Vec::new(),
        }
    }

    /// A server with a public client `demo` on any loopback port, a confidential one `batch` with the
    /// secret `batch-secret` (`client_secret_basic`), and a user `alice` with the password `wonderland`.
    pub fn demo() -> Self {
        let demo = ["http://127.0.0.1", "http://localhost", "http://[::1]"].into_iter().fold(
            Registered::public("demo"),
            |client, host| {
                client.redirect_uri(host).redirect_uri(&format!("{host}/")).redirect_uri(&format!("{host}/callback"))
            },
        );
        Self::new("https://as.example")
            .client(demo)
            .client(Registered::basic("batch", "batch-secret"))
            .user("alice", "wonderland")
    }

    /// Registers a client.
    pub fn client(mut self, client: Registered) -> Self {
        self.clients.push(client);
        self
    }

    /// Adds a user, for the password grant.
    pub fn user(mut self, name: &str, password: &str) -> Self {
        self.users.insert(name.to_owned(), password.to_owned());
        self
    }

    /// Changes its settings.
    pub fn with(mut self, change: impl FnOnce(&mut Settings)) -> Self {
        change(&mut self.settings);
        self
    }

    /// The issuer, as it names itself.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// Moves it to another origin, such as `http://127.0.0.1:8080`; the issuer's path stays.
    pub fn move_to(&mut self, origin: &str) {
        self.issuer = format!("{origin}{}", self.path());
    }

    /// Scheme, host and port of the issuer.
    pub fn origin(&self) -> &str {
        &self.issuer[..self.issuer.len() - self.path().len()]
    }

    /// What follows the origin: empty, or a path.
    fn path(&self) -> &str {
        let host = self.issuer.find("://").map_or(0, |at| at + 3);
        let end = self.issuer[host..].find('/').map_or(self.issuer.len(), |at| host + at);
        &self.issuer[end..]
    }

    /// The address of a place: the issuer, and its name behind.
    pub fn address(&self, place: Place) -> String {
        let base = self.issuer.strip_suffix('/').unwrap_or(&self.issuer);
        let path = self.path().strip_suffix('/').unwrap_or(self.path());
        match place {
            Place::OpenIdMetadata => format!("{base}/.well-known/openid-configuration"),
            Place::OAuthMetadata => format!("{}/.well-known/oauth-authorization-server{path}", self.origin()),
            Place::Keys => format!("{base}/jwks"),
            Place::Authorize => format!("{base}/authorize"),
            Place::Registration => format!("{base}/register"),
            Place::Managed => format!("{base}/register/"),
            Place::PushedRequest => format!("{base}/par"),
            Place::Backchannel => format!("{base}/bc-authorize"),
            Place::Device => format!("{base}/device_authorization"),
            Place::Verification => format!("{base}/device"),
            Place::Token => format!("{base}/token"),
            Place::Revoke => format!("{base}/revoke"),
            Place::Introspect => format!("{base}/introspect"),
            Place::Resource => format!("{base}/resource"),
            Place::Elsewhere => format!("{base}/elsewhere"),
        }
    }

    /// What its discovery document would tell, without asking it.
    pub fn metadata(&self) -> ServerMetadata {
        let issuer = Issuer::new(self.issuer.as_str()).expect("the issuer is an address");
        ServerMetadata::from_json(self.document().to_string().as_bytes(), &issuer).expect("its document is right")
    }

    /// Lets something go wrong at the next request to this place. Called several times, several requests
    /// go wrong, one after another.
    pub fn fail(&mut self, place: Place, fault: Fault) {
        self.faults.push_back((place, fault));
    }

    /// Nothing goes wrong any more.
    pub fn heal(&mut self) {
        self.faults.clear();
    }

    /// Every request so far, in order.
    pub fn seen(&self) -> &[Seen] {
        &self.seen
    }

    /// The requests to one place so far.
    pub fn seen_at(&self, place: Place) -> Vec<&Seen> {
        self.seen.iter().filter(|seen| seen.place == place).collect()
    }

    /// Whether an access token would be accepted at the resource.
    pub fn accepts(&self, access_token: &str, now: Timestamp) -> bool {
        self.access
            .get(access_token)
            .is_some_and(|access| !access.revoked && !self.grants[access.grant].revoked && now < access.ends)
    }

    /// The scopes of an access token that would be accepted at the resource.
    pub fn scopes_of(&self, access_token: &str, now: Timestamp) -> Option<Scopes> {
        self.accepts(access_token, now).then(|| self.access[access_token].scopes.clone())
    }

    /// Takes a request and answers it, with whatever fault was asked for.
    pub fn answer(&mut self, now: Timestamp, request: &Request<Vec<u8>>) -> Answer {
        let place = self.place(request.uri().path());
        self.seen.push(Seen { place, at: now, request: request.clone() });
        let fault = self.faults.iter().position(|(at, _)| *at == place).and_then(|nth| self.faults.remove(nth));
        let (mut delay, mut wire) = (Duration::ZERO, None);
        match fault.map(|(_, fault)| fault) {
            None => {}
            Some(Fault::Answer(response)) => wire = Some(Wire::Whole(response)),
            Some(Fault::Delay(time)) => delay = time,
            Some(Fault::DropBefore) => wire = Some(Wire::Dropped),
            Some(Fault::DropAfter) => {
                self.handle(place, now, request);
                wire = Some(Wire::Dropped);
            }
            Some(Fault::Truncate) => wire = Some(Wire::Truncated(self.handle(place, now, request))),
            Some(Fault::Endless) => wire = Some(Wire::Endless),
            Some(Fault::Drip(pause)) => wire = Some(Wire::Dripping(self.handle(place, now, request), pause)),
        }
        Answer { delay, wire: wire.unwrap_or_else(|| Wire::Whole(self.handle(place, now, request))) }
    }

    fn place(&self, path: &str) -> Place {
        use Place::*;
        let all = [
            OpenIdMetadata,
            OAuthMetadata,
            Keys,
            Authorize,
            Registration,
            PushedRequest,
            Backchannel,
            Device,
            Verification,
            Token,
            Revoke,
            Introspect,
            Resource,
        ];
        let found = all.into_iter().find(|place| self.address(*place)[self.origin().len()..] == *path);
        let managed = &self.address(Managed)[self.origin().len()..];
        found.or(path.starts_with(managed).then_some(Managed)).unwrap_or(Elsewhere)
    }

    fn handle(&mut self, place: Place, now: Timestamp, request: &Request<Vec<u8>>) -> Response<Vec<u8>> {
        let method = match place {
            Place::Managed => request.method().clone(),
            Place::Registration
            | Place::Backchannel
            | Place::PushedRequest
            | Place::Device
            | Place::Token
            | Place::Revoke
            | Place::Introspect => Method::POST,
            _ => Method::GET,
        };
        if request.method() != method {
            return text(StatusCode::METHOD_NOT_ALLOWED, "wrong method");
        }
        match place {
            Place::OpenIdMetadata if self.settings.openid_metadata => answer(StatusCode::OK, &self.document()),
            Place::OAuthMetadata if self.settings.oauth_metadata => answer(StatusCode::OK, &self.document()),
            Place::Keys => self.publish_keys(),
            Place::Authorize => self.authorize(now, request),
            Place::Registration | Place::Managed if !self.settings.registration => {
                text(StatusCode::NOT_FOUND, "nothing here")
            }
            Place::Registration => self.register(now, request).unwrap_or_else(Refusal::into_response),
            Place::Managed => self.manage(now, request).unwrap_or_else(Refusal::into_response),
            Place::PushedRequest => self.push(now, request).unwrap_or_else(Refusal::into_response),
            Place::Backchannel => self.begin_backchannel(now, request).unwrap_or_else(Refusal::into_response),
            Place::Device => self.authorize_device(now, request).unwrap_or_else(Refusal::into_response),
            Place::Verification => self.verify_device(now, request),
            Place::Token => {
                let response = self.token(now, request).unwrap_or_else(Refusal::into_response);
                Self::give_nonce(response, self.settings.dpop_nonce.as_deref())
            }
            Place::Revoke => self.revoke(now, request).unwrap_or_else(Refusal::into_response),
            Place::Introspect => self.introspect(now, request).unwrap_or_else(Refusal::into_response),
            Place::Resource => {
                let response = self.resource(now, request);
                Self::give_nonce(response, self.settings.dpop_resource_nonce.as_deref())
            }
            _ => text(StatusCode::NOT_FOUND, "nothing here"),
        }
    }

    /// Its keys (RFC 7517, section 5).
    fn publish_keys(&self) -> Response<Vec<u8>> {
        let mut response = answer(StatusCode::OK, &IssuerKey::set(&self.settings.keys));
        response.headers_mut().remove(header::CACHE_CONTROL);
        if let Some(value) = self.settings.keys_cache_control {
            response.headers_mut().insert(header::CACHE_CONTROL, value.parse().expect("a header value"));
        }
        response
    }

    /// A JWT of its own.
    fn signed(&self, header: &Value, claims: &Value) -> String {
        match self.settings.signs_with.as_ref().or(self.settings.keys.first()) {
            Some(key) => {
                // What is said of a key is the key's own, unless something else was wanted.
                let mut header = header.clone();
                if header["kid"] == "1" && header["alg"] == "RS256" {
                    header.as_object_mut().expect("an object").retain(|name, _| !matches!(&**name, "kid" | "alg"));
                }
                key.sign_with(&header, claims)
            }
            None => token::jwt(header, claims),
        }
    }

    /// What it signs ID tokens by; without keys, that is what it says.
    fn algorithms(&self) -> Vec<&'static str> {
        let mut all: Vec<_> = self.settings.keys.iter().map(IssuerKey::algorithm).collect();
        all.dedup();
        if all.is_empty() { vec!["RS256"] } else { all }
    }

    /// The metadata document.
    fn document(&self) -> Value {
        let mut document = json!({
            "issuer": self.issuer,
            "authorization_endpoint": self.address(Place::Authorize),
            "device_authorization_endpoint": self.address(Place::Device),
            "pushed_authorization_request_endpoint": self.address(Place::PushedRequest),
            "backchannel_authentication_endpoint": self.address(Place::Backchannel),
            "backchannel_token_delivery_modes_supported": ["poll", "ping"],
            "token_endpoint": self.address(Place::Token),
            "revocation_endpoint": self.address(Place::Revoke),
            "introspection_endpoint": self.address(Place::Introspect),
            "jwks_uri": self.address(Place::Keys),
            "response_types_supported": ["code"],
            "response_modes_supported": ["query", "form_post", "jwt", "query.jwt", "form_post.jwt"],
            "authorization_signing_alg_values_supported": ["RS256", "ES256"],
            "authorization_details_types_supported": self.settings.details,
            "grant_types_supported": [
                "authorization_code", "refresh_token", "client_credentials", "password", DEVICE_CODE, TOKEN_EXCHANGE, ciba::GRANT_TYPE,
            ],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": self.algorithms(),
            "token_endpoint_auth_methods_supported": [
                "none", "client_secret_basic", "client_secret_post", "private_key_jwt", "client_secret_jwt",
                "tls_client_auth", "self_signed_tls_client_auth",
            ],
            "token_endpoint_auth_signing_alg_values_supported": ["RS256", "ES256"],
            "code_challenge_methods_supported": ["S256", "plain"],
            "dpop_signing_alg_values_supported": self.settings.dpop_algorithms,
            "scopes_supported": self.settings.scopes.iter().collect::<Vec<_>>(),
            "authorization_response_iss_parameter_supported": self.settings.iss != Iss::Absent,
        });
        if let Some(origin) = &self.settings.mtls_origin {
            let alias = |place| format!("{origin}{}", &self.address(place)[self.origin().len()..]);
            document["tls_client_certificate_bound_access_tokens"] = true.into();
            document["mtls_endpoint_aliases"] = json!({
                "token_endpoint": alias(Place::Token),
                "revocation_endpoint": alias(Place::Revoke),
                "device_authorization_endpoint": alias(Place::Device),
                "backchannel_authentication_endpoint": alias(Place::Backchannel),
                "pushed_authorization_request_endpoint": alias(Place::PushedRequest),
            });
        }
        if self.settings.require_pushed {
            document["require_pushed_authorization_requests"] = true.into();
        }
        if self.settings.registration {
            document["registration_endpoint"] = self.address(Place::Registration).into();
        }
        self.settings.alter_metadata.apply(&mut document);
        document
    }

    /// RFC 6750: what an access token is good for.
    fn resource(&mut self, now: Timestamp, request: &Request<Vec<u8>>) -> Response<Vec<u8>> {
        let challenge = |value: &'static str| {
            let mut response = text(StatusCode::UNAUTHORIZED, "a token is needed");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, value.parse().expect("a header value"));
            response
        };
        let values: Vec<_> = request.headers().get_all(header::AUTHORIZATION).iter().collect();
        let bound = |value: &str| Some(value.strip_prefix("DPoP ")?.to_owned());
        if let [value] = values[..]
            && let Some(token) = value.to_str().ok().and_then(bound)
        {
            return self.bound_resource(now, request, &token);
        }
        let token = match values[..] {
            [value] => value.to_str().ok().and_then(|value| value.strip_prefix("Bearer ")),
            _ => return challenge("Bearer realm=\"resource\""),
        };
        match token {
            // Together with the certificate that it is bound to (RFC 8705, section 3).
            Some(token) if self.accepts(token, now) && self.access[token].is_held_by(request) => {
                let access = &self.access[token];
                let grant = &self.grants[access.grant];
                answer(StatusCode::OK, &json!({"sub": grant.subject, "scope": access.scopes.as_str()}))
            }
            _ => challenge("Bearer realm=\"resource\", error=\"invalid_token\""),
        }
    }

    /// The certificate that came with a request, where this server asks for one.
    fn certificate<'a>(&self, request: &'a Request<Vec<u8>>) -> Option<&'a ClientCertificate> {
        let mtls = self.settings.mtls_origin.as_deref().and_then(|origin| origin.split_once("://"));
        match (mtls, request.uri().authority()) {
            (Some((_, mtls)), Some(asked)) if asked != mtls => None,
            _ => ClientCertificate::of(request),
        }
    }

    /// A text that was never handed out before; it says what it is for.
    fn fresh(&mut self, what: &str) -> String {
        self.handed_out += 1;
        let digest = Sha256::digest(format!("{} {what} {}", self.path(), self.handed_out));
        format!("{what}-{}-{}", self.handed_out, URL_SAFE_NO_PAD.encode(&digest[..18]))
    }
}

impl Access {
    /// Whether it is bound to no key, and the certificate came along that it is bound to, if it is to one.
    fn is_held_by(&self, request: &Request<Vec<u8>>) -> bool {
        let shown = ClientCertificate::of(request).map(ClientCertificate::thumbprint);
        self.jkt.is_none() && (self.certificate.is_none() || self.certificate == shown)
    }
}

/// A refusal of a token or revocation request (RFC 6749, section 5.2).
#[derive(Debug)]
struct Refusal {
    status: StatusCode,
    error: &'static str,
    description: &'static str,
}

fn refuse<T>(error: &'static str, description: &'static str) -> Result<T, Refusal> {
    let status = if error == "invalid_client" { StatusCode::UNAUTHORIZED } else { StatusCode::BAD_REQUEST };
    Err(Refusal { status, error, description })
}

impl Refusal {
    fn into_response(self) -> Response<Vec<u8>> {
        let body = json!({"error": self.error, "error_description": self.description});
        let mut response = answer(self.status, &body);
        if self.status == StatusCode::UNAUTHORIZED {
            let challenge = "Basic realm=\"token\"".parse().expect("a header value");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
        }
        response
    }
}

/// The parameters of a form or query, each at most once (RFC 6749, section 3.1) and each known.
fn params(bytes: &[u8], known: &[&str]) -> Result<BTreeMap<String, String>, Refusal> {
    let mut found = BTreeMap::new();
    for (name, value) in form_urlencoded::parse(bytes) {
        // RFC 8707, section 2, lets these repeat.
        let may_repeat = matches!(&*name, "resource" | "audience");
        if !known.contains(&&*name) && !may_repeat {
            return refuse("invalid_request", "a parameter is unknown");
        }
        if value.is_empty() {
            return refuse("invalid_request", "a parameter is empty");
        }
        if found.insert(name.into_owned(), value.into_owned()).is_some() && !may_repeat {
            return refuse("invalid_request", "a parameter is repeated");
        }
    }
    Ok(found)
}

fn answer(status: StatusCode, body: &Value) -> Response<Vec<u8>> {
    let mut response = text(status, &body.to_string());
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
    response
}

fn text(status: StatusCode, body: &str) -> Response<Vec<u8>> {
    let mut response = Response::new(body.as_bytes().to_vec());
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, header::HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(header::CACHE_CONTROL, header::HeaderValue::from_static("no-store"));
    response
}
