//! Authorization requests that do not come as they are: left at the server before (PAR, RFC 9126), signed (JAR, RFC 9101).

use std::collections::BTreeMap;
use std::time::Duration;

use grantflow::Timestamp;
use http::{Request, Response, StatusCode, header};
use serde_json::{Value, json};

use super::authorize::KNOWN;
use super::token::{Params, form};
use super::{CLIENT, Refusal, Registered, Server, answer, params, refuse};
use crate::jwt::Jwt;

/// How a request object says what it is (RFC 9101, section 10.8).
const TYP: &str = "oauth-authz-req+jwt";
/// The longest time that a request object may be good for, in seconds.
const LONGEST: i64 = 3600;
/// How the names of pushed requests begin (RFC 9126, section 2.2).
const PREFIX: &str = "urn:ietf:params:oauth:request_uri:";

/// A request that was left here.
#[derive(Debug)]
pub(super) struct Pushed {
    client_id: String,
    params: Params,
    ends: Timestamp,
}

impl Server {
    fn request_names(&self) -> Vec<&'static str> {
        KNOWN.into_iter().chain(self.settings.extra_params.iter().copied()).collect()
    }

    /// RFC 9126, section 2.
    pub(super) fn push(&mut self, now: Timestamp, request: &Request<Vec<u8>>) -> Result<Response<Vec<u8>>, Refusal> {
        let known = [&CLIENT[..], &["request"], &self.request_names()].concat();
        let mut params = form(request, &known)?;
        // Beside a client that authenticates by the header it is a parameter of the request (section 2.1).
        let mut shown = params.clone();
        if request.headers().contains_key(header::AUTHORIZATION) {
            shown.remove("client_id");
        }
        let client = self.authenticate(now, request, &shown)?;
        if params.get("client_id").is_none_or(|id| *id != client.id) {
            return refuse("invalid_request", "client_id is a parameter of the request");
        }
        params.retain(|name, _| name == "client_id" || !CLIENT.contains(&&**name));
        if let Some(object) = params.remove("request") {
            if params.len() > 1 {
                return refuse("invalid_request", "all parameters belong into the request object");
            }
            params = self.object(now, &client, &object)?;
        } else if client.signs_requests() {
            return refuse("invalid_request", "this client signs its requests");
        }
        if params.get("redirect_uri").is_none_or(|uri| !client.allows(uri)) {
            return refuse("invalid_request", "the redirect_uri is not registered");
        }
        let lifetime = self.settings.pushed_lifetime;
        let request_uri = self.fresh(PREFIX);
        let ends = now + Duration::from_secs(lifetime);
        self.pushed.insert(request_uri.clone(), Pushed { client_id: client.id, params, ends });
        let mut body = json!({"request_uri": request_uri, "expires_in": lifetime});
        self.settings.alter_pushed.apply(&mut body);
        Ok(answer(StatusCode::CREATED, &body))
    }

    /// The parameters of the request that a user comes with.
    pub(super) fn requested(&mut self, now: Timestamp, query: &str) -> Result<Params, &'static str> {
        let names = self.request_names();
        let known = [&["request", "request_uri"][..], &names].concat();
        let found = params(query.as_bytes(), &known).map_err(|_| "a parameter is unknown, empty or repeated")?;
        let only = |allowed: &[&str]| found.keys().all(|name| allowed.contains(&&**name));
        let client = self.clients.iter().find(|client| Some(&client.id) == found.get("client_id")).cloned();
        let client = client.ok_or("the client is unknown")?;
        if let Some(request_uri) = found.get("request_uri") {
            if !only(&["client_id", "request_uri"]) {
                return Err("only client_id and request_uri go with a request that was pushed");
            }
            // It is good for one visit.
            let pushed = self.pushed.remove(request_uri).ok_or("the request_uri is unknown, or was used")?;
            return match pushed.client_id == client.id && now < pushed.ends {
                true => Ok(pushed.params),
                false => Err("the request_uri is another client's, or has expired"),
            };
        }
        if self.settings.require_pushed {
            return Err("requests must be pushed");
        }
        match found.get("request") {
            // What OpenID Connect Core 1.0, section 6.1, wants besides is the same as in the object.
            Some(object) if only(&["client_id", "request", "response_type", "scope"]) => {
                let params = self.object(now, &client, object).map_err(|refusal| refusal.description)?;
                let same = |name: &str| {
                    found.get(name).is_none_or(|value| {
                        params.get(name).is_some_and(|own| own.split(' ').any(|part| part == value))
                    })
                };
                if same("response_type") && same("scope") { Ok(params) } else { Err("it says something else") }
            }
            Some(_) => Err("all parameters belong into the request object"),
            None if client.signs_requests() => Err("this client signs its requests"),
            None => Ok(found),
        }
    }

    /// RFC 9101, sections 4 to 6.
    fn object(&self, now: Timestamp, client: &Registered, text: &str) -> Result<Params, Refusal> {
        let wrong = |why| refuse("invalid_request_object", why);
        let Some(jwt) = Jwt::parse(text) else { return wrong("it is no JWT") };
        let now = now.as_unix();
        if jwt.header.get("typ").and_then(Value::as_str) != Some(TYP) {
            return wrong("another type");
        }
        if !client.signs(&jwt) {
            return wrong("no key of the client has signed it");
        }
        if jwt.text("iss") != Some(&client.id) || jwt.text("client_id") != Some(&client.id) {
            return wrong("iss and client_id must be the client_id");
        }
        if jwt.text("aud") != Some(self.issuer()) {
            return wrong("it is for somebody else");
        }
        let (Some(nbf), Some(exp)) = (jwt.seconds("nbf"), jwt.seconds("exp")) else {
            return wrong("nbf and exp are needed");
        };
        if nbf > now || exp <= now || exp - nbf > LONGEST {
            return wrong("it is from the future, has expired, or is good for too long");
        }
        let names = self.request_names();
        let mut found = BTreeMap::new();
        for (name, value) in &jwt.claims {
            let value = match (&**name, value) {
                ("iss" | "aud" | "nbf" | "iat" | "exp", _) => continue,
                ("max_age", Value::Number(number)) => number.to_string(),
                ("claims" | "authorization_details", value @ (Value::Object(_) | Value::Array(_))) => value.to_string(),
                ("resource", Value::Array(_)) => continue,
                ("resource", Value::String(_)) => continue,
                ("max_age" | "claims" | "authorization_details", _) => return wrong("a claim of another type"),
                (name, Value::String(text)) if names.contains(&name) && !text.is_empty() => text.clone(),
                _ => return wrong("a claim is unknown, or of another type"),
            };
            found.insert(name.clone(), value);
        }
        Ok(found)
    }
}
