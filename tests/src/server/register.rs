//! Clients that register themselves (RFC 7591), and what becomes of their registrations (RFC 7592).

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use grantflow::Timestamp;
use http::{Method, Request, Response, StatusCode, header};
use serde_json::{Map, Value, json};
use url::Url;

use super::{Place, Refusal, Registered, Server, answer, refuse, text};
use crate::jwt::{Jwt, PublicKey};

/// The members that it knows.
const TEXTS: [&str; 24] = [
    "token_endpoint_auth_method",
    "token_endpoint_auth_signing_alg",
    "client_name",
    "client_uri",
    "logo_uri",
    "scope",
    "tos_uri",
    "policy_uri",
    "jwks_uri",
    "software_id",
    "software_version",
    "software_statement",
    "application_type",
    "subject_type",
    "id_token_signed_response_alg",
    "request_object_signing_alg",
    "initiate_login_uri",
    "backchannel_logout_uri",
    "authorization_signed_response_alg",
    "tls_client_auth_subject_dn",
    "backchannel_token_delivery_mode",
    "backchannel_client_notification_endpoint",
    "frontchannel_logout_uri",
    "backchannel_authentication_request_signing_alg",
];
const LISTS: [&str; 7] = [
    "redirect_uris",
    "grant_types",
    "response_types",
    "contacts",
    "post_logout_redirect_uris",
    "authorization_details_types",
    "default_acr_values",
];
const FLAGS: [&str; 5] = [
    "require_pushed_authorization_requests",
    "require_signed_request_object",
    "dpop_bound_access_tokens",
    "tls_client_certificate_bound_access_tokens",
    "backchannel_logout_session_required",
];
/// Those that only the server says (RFC 7592, section 2.2).
const OURS: [&str; 4] =
    ["registration_access_token", "registration_client_uri", "client_secret_expires_at", "client_id_issued_at"];

/// A registration that can be managed.
#[derive(Debug)]
pub(super) struct Managed {
    token: String,
    secret: Option<String>,
    issued: Timestamp,
    metadata: Map<String, Value>,
}

pub(super) type Registrations = BTreeMap<String, Managed>;

impl Server {
    /// RFC 7591, section 3.
    pub(super) fn register(
        &mut self,
        now: Timestamp,
        request: &Request<Vec<u8>>,
    ) -> Result<Response<Vec<u8>>, Refusal> {
        if let Some(wanted) = &self.settings.initial_access_token
            && bearer(request) != Some(wanted)
        {
            return Ok(challenge());
        }
        let metadata = self.described(request)?;
        if metadata.contains_key("client_id") || metadata.contains_key("client_secret") {
            return refuse("invalid_client_metadata", "the server gives client_id and client_secret");
        }
        let client_id = self.fresh("client");
        let secret = needs_secret(&metadata).then(|| self.fresh("a-client-secret-of-many-letters"));
        let token = self.fresh("registration-token");
        self.keep(now, client_id.clone(), Managed { token, secret, issued: now, metadata });
        Ok(answer(StatusCode::CREATED, &self.registration(&client_id)))
    }

    /// RFC 7592, section 2.
    pub(super) fn manage(&mut self, now: Timestamp, request: &Request<Vec<u8>>) -> Result<Response<Vec<u8>>, Refusal> {
        let client_id = request.uri().path().rsplit('/').next().unwrap_or_default().to_owned();
        let shown = bearer(request);
        let Some(managed) = self.registrations.get(&client_id).filter(|it| shown == Some(&it.token)) else {
            return Ok(challenge());
        };
        let (secret, issued) = (managed.secret.clone(), managed.issued);
        let mut metadata = managed.metadata.clone();
        match *request.method() {
            Method::DELETE => {
                self.registrations.remove(&client_id);
                self.clients.retain(|client| client.id != client_id);
                let mut response = text(StatusCode::NO_CONTENT, "");
                response.headers_mut().remove(header::CONTENT_TYPE);
                return Ok(response);
            }
            Method::PUT => {
                metadata = self.described(request)?;
                if metadata.remove("client_id").as_ref().and_then(Value::as_str) != Some(&client_id) {
                    return refuse("invalid_request", "client_id must be there, and stay");
                }
                if metadata.remove("client_secret").is_some_and(|shown| shown.as_str() != secret.as_deref()) {
                    return refuse("invalid_request", "client_secret must stay");
                }
            }
            Method::GET => {}
            _ => return Ok(text(StatusCode::METHOD_NOT_ALLOWED, "wrong method")),
        }
        let token = match self.settings.rotate_registration_tokens {
            true => self.fresh("registration-token"),
            false => shown.unwrap_or_default().to_owned(),
        };
        let secret = secret.or_else(|| needs_secret(&metadata).then(|| self.fresh("a-client-secret-of-many-letters")));
        self.keep(now, client_id.clone(), Managed { token, secret, issued, metadata });
        Ok(answer(StatusCode::OK, &self.registration(&client_id)))
    }

    /// What a client tells of itself.
    fn described(&self, request: &Request<Vec<u8>>) -> Result<Map<String, Value>, Refusal> {
        let wrong = |why| refuse("invalid_client_metadata", why);
        if request.headers().get(header::CONTENT_TYPE).is_none_or(|kind| kind != "application/json") {
            return refuse("invalid_request", "it is no JSON");
        }
        let Ok(mut metadata) = serde_json::from_slice::<Map<String, Value>>(request.body()) else {
            return refuse("invalid_request", "it is no JSON object");
        };
        for (name, value) in &metadata {
            let plain = name.split('#').next().unwrap_or_default();
            let right = match value {
                Value::String(text) => {
                    (TEXTS.contains(&plain) || matches!(plain, "client_id" | "client_secret")) && !text.is_empty()
                }
                Value::Array(list) => {
                    LISTS.contains(&plain) && list.iter().all(|it| it.as_str().is_some_and(|it| !it.is_empty()))
                }
                Value::Bool(_) => FLAGS.contains(&plain),
                Value::Object(_) => plain == "jwks",
                Value::Number(_) => plain == "default_max_age",
                Value::Null => false,
            };
            if OURS.contains(&plain) || !right {
                return wrong("a member is unknown, of another type or empty");
            }
        }
        if let Some(statement) = metadata.get("software_statement").and_then(Value::as_str) {
            let Some(jwt) = Jwt::parse(statement) else { return refuse("invalid_software_statement", "it is no JWT") };
            let key = self.settings.software_key.as_ref();
            if jwt.text("iss").is_none() {
                return refuse("invalid_software_statement", "it does not say who vouches (iss)");
            }
            if !key.is_some_and(|key| jwt.is_signed_by(key)) {
                return refuse("unapproved_software_statement", "nobody that this server trusts has signed it");
            }
            // What it says wins (RFC 7591, section 2.3).
            for (name, value) in jwt.claims.into_iter().filter(|(name, _)| !matches!(&**name, "iss" | "iat" | "exp")) {
                metadata.insert(name, value);
            }
        }
        self.check(&metadata)?;
        Ok(metadata)
    }

    fn check(&self, metadata: &Map<String, Value>) -> Result<(), Refusal> {
        let wrong = |why| refuse("invalid_client_metadata", why);
        let text = |name: &str| metadata.get(name).and_then(Value::as_str);
        let list = |name: &str| {
            metadata
                .get(name)
                .and_then(Value::as_array)
                .map(|list| list.iter().filter_map(Value::as_str).collect::<Vec<_>>())
        };
        let native = match text("application_type") {
            None | Some("web") => false,
            Some("native") => true,
            Some(_) => return wrong("another application_type"),
        };
        let redirect_uris = list("redirect_uris").unwrap_or_default();
        for uri in &redirect_uris {
            let Ok(url) = Url::parse(uri) else { return refuse("invalid_redirect_uri", "it is no address") };
            let loopback = matches!(url.host_str(), Some("127.0.0.1" | "[::1]" | "localhost"));
            let right = match url.scheme() {
                "https" => true,
                "http" => native && loopback,
                _ => native,
            };
            if !right || url.fragment().is_some() {
                return refuse("invalid_redirect_uri", "not for this application_type, or with a fragment");
            }
        }
        let grants = list("grant_types").unwrap_or_else(|| vec!["authorization_code"]);
        let responses = list("response_types")
            .unwrap_or_else(|| if grants.contains(&"authorization_code") { vec!["code"] } else { vec![] });
        if grants.contains(&"authorization_code") && redirect_uris.is_empty() {
            return refuse("invalid_redirect_uri", "one is needed");
        }
        if grants.contains(&"authorization_code") != responses.contains(&"code")
            || responses.iter().any(|it| *it != "code")
        {
            return wrong("grant_types and response_types do not fit");
        }
        let has_keys = match (metadata.get("jwks"), text("jwks_uri")) {
            (Some(_), Some(_)) => return wrong("jwks and jwks_uri together"),
            (Some(set), None) => {
                if keys(set).is_none() {
                    return wrong("a key of jwks cannot be used, or is no public one");
                }
                true
            }
            (None, uri) => uri.is_some(),
        };
        let signs = metadata.get("require_signed_request_object") == Some(&true.into());
        match text("token_endpoint_auth_method") {
            None | Some("none" | "client_secret_basic" | "client_secret_post") if !signs || has_keys => Ok(()),
            Some("private_key_jwt") if has_keys => Ok(()),
            _ => wrong("a method that is not known, or needs keys"),
        }
    }

    fn keep(&mut self, _: Timestamp, client_id: String, managed: Managed) {
        let text = |name: &str| managed.metadata.get(name).and_then(Value::as_str);
        let secret = managed.secret.clone().unwrap_or_default();
        let keys = managed.metadata.get("jwks").and_then(keys).unwrap_or_default();
        let mut client = match text("token_endpoint_auth_method") {
            Some("none") => Registered::public(&client_id),
            Some("client_secret_post") => Registered::post(&client_id, &secret),
            Some("private_key_jwt") => Registered::private_key_jwt(&client_id, keys.clone()),
            _ => Registered::basic(&client_id, &secret),
        };
        let uris = managed.metadata.get("redirect_uris").and_then(Value::as_array);
        for uri in uris.into_iter().flatten().filter_map(Value::as_str) {
            client = client.redirect_uri(uri);
        }
        if managed.metadata.get("require_signed_request_object") == Some(&true.into()) {
            client = keys.into_iter().fold(client, Registered::request_key);
        }
        self.clients.retain(|known| known.id != client_id);
        self.clients.push(client);
        self.registrations.insert(client_id, managed);
    }

    /// What it says of a registration (RFC 7591, section 3.2.1).
    fn registration(&self, client_id: &str) -> Value {
        let Managed { token, secret, issued, metadata } = &self.registrations[client_id];
        let mut body = json!({
            "client_id": client_id,
            "client_id_issued_at": issued.as_unix(),
            "registration_access_token": token,
            "registration_client_uri": format!("{}/{client_id}", self.address(Place::Registration)),
            "token_endpoint_auth_method": "client_secret_basic",
            "grant_types": ["authorization_code"],
        });
        let members = body.as_object_mut().expect("an object");
        members.extend(metadata.clone());
        if let Some(secret) = secret {
            members.insert("client_secret".into(), secret.as_str().into());
            let life = self.settings.client_secret_lifetime;
            let ends = life.map_or(0, |life| issued.as_unix() + life);
            members.insert("client_secret_expires_at".into(), ends.into());
        }
        self.settings.alter_registration.apply(&mut body);
        body
    }
}

fn needs_secret(metadata: &Map<String, Value>) -> bool {
    let method = metadata.get("token_endpoint_auth_method").and_then(Value::as_str);
    matches!(method, None | Some("client_secret_basic" | "client_secret_post"))
}

/// The token of an `Authorization` header, if there is one such header.
fn bearer(request: &Request<Vec<u8>>) -> Option<&str> {
    let mut values = request.headers().get_all(header::AUTHORIZATION).iter();
    let (value, None) = (values.next()?, values.next()) else { return None };
    value.to_str().ok()?.strip_prefix("Bearer ")
}

/// RFC 6750, section 3.
fn challenge() -> Response<Vec<u8>> {
    let mut response = text(StatusCode::UNAUTHORIZED, "a token is needed");
    let value = "Bearer error=\"invalid_token\"".parse().expect("a header value");
    response.headers_mut().insert(header::WWW_AUTHENTICATE, value);
    response
}

/// The keys of a set, each of them for ES256.
fn keys(set: &Value) -> Option<Vec<PublicKey>> {
    let keys = set.get("keys")?.as_array()?.iter().map(|key| {
        let text = |name: &str| key.get(name).and_then(Value::as_str);
        let coordinate = |name: &str| URL_SAFE_NO_PAD.decode(text(name)?).ok().filter(|bytes| bytes.len() == 32);
        let right = text("kty") == Some("EC") && text("crv") == Some("P-256") && key.get("d").is_none();
        let point = [vec![4], coordinate("x")?, coordinate("y")?].concat();
        right.then_some(PublicKey::Es256(point))
    });
    keys.collect()
}
