//! Sign-ins that need no browser (OpenID Connect CIBA Core 1.0). The person decides by themselves after a while.

use std::time::Duration;

use grantflow::{Scopes, Timestamp};
use http::{Request, Response, StatusCode};
use serde_json::{Value, json};

use super::token::{Params, form};
use super::{CLIENT, RefreshTokens, Refusal, Registered, Server, answer, refuse};
use crate::jwt::Jwt;

/// Section 10.1.
pub(super) const GRANT_TYPE: &str = "urn:openid:params:grant-type:ciba";
const FIVE: Duration = Duration::from_secs(5);
const KNOWN: [&str; 10] = [
    "scope",
    "login_hint",
    "login_hint_token",
    "id_token_hint",
    "binding_message",
    "user_code",
    "acr_values",
    "requested_expiry",
    "client_notification_token",
    "authorization_details",
];

/// A sign-in that waits for a person.
#[derive(Debug)]
pub(super) struct Backchannel {
    client_id: String,
    scopes: Scopes,
    subject: String,
    decides: Timestamp,
    ends: Timestamp,
    interval: Duration,
    asked: Timestamp,
    used: bool,
    notification_token: Option<String>,
}

/// What the server posts to a client's notification endpoint (section 10.2).
#[derive(Clone, Debug)]
pub struct Ping {
    /// What stands behind `Bearer`.
    pub token: String,
    /// The body.
    pub body: String,
}

impl Server {
    /// Section 7.
    pub(super) fn begin_backchannel(
        &mut self,
        now: Timestamp,
        request: &Request<Vec<u8>>,
    ) -> Result<Response<Vec<u8>>, Refusal> {
        let known = [&CLIENT[..], &KNOWN, &["request"], &self.settings.extra_params[..]].concat();
        let mut params = form(request, &known)?;
        let client = self.authenticate(now, request, &params)?;
        if client.is_public() {
            return refuse("unauthorized_client", "the client is public");
        }
        params.retain(|name, _| !CLIENT.contains(&&**name));
        if let Some(object) = params.remove("request") {
            if !params.is_empty() {
                return refuse("invalid_request", "all parameters belong into the signed request");
            }
            params = self.signed_backchannel(now, &client, &object)?;
        } else if client.signs_requests() {
            return refuse("invalid_request", "this client signs its requests");
        }
        let hints = ["login_hint", "login_hint_token", "id_token_hint"]
            .into_iter()
            .filter(|hint| params.contains_key(*hint))
            .count();
        let scopes = self.known_scopes(&params)?;
        if hints != 1 || !scopes.contains("openid") {
            return refuse("invalid_request", "one hint is needed, and openid");
        }
        if params.get("login_hint").is_some_and(|hint| hint != "alice") {
            return refuse("unknown_user_id", "nobody is called so");
        }
        if let Some(hint) = params.get("id_token_hint")
            && Jwt::parse(hint).is_none_or(|jwt| jwt.text("iss") != Some(self.issuer()))
        {
            return refuse("invalid_request", "the id_token_hint is not of this server");
        }
        if params.get("login_hint_token").is_some_and(|token| token == "a-hint-of-last-year") {
            return refuse("expired_login_hint_token", "it has expired");
        }
        if params.get("binding_message").is_some_and(|message| message.len() > 20) {
            return refuse("invalid_binding_message", "it is too long to be shown");
        }
        let token = params.get("client_notification_token").cloned();
        if token.as_ref().is_some_and(|token| token.len() < 22) {
            return refuse("invalid_request", "the client_notification_token can be guessed");
        }
        let auth_req_id = self.fresh("auth");
        let life = params.get("requested_expiry").and_then(|text| text.parse().ok()).unwrap_or(600);
        let mut body = json!({"auth_req_id": auth_req_id, "expires_in": life});
        if let Some(interval) = self.settings.backchannel_interval {
            body["interval"] = interval.into();
        }
        let waiting = Backchannel {
            client_id: client.id,
            scopes,
            subject: self.settings.subject.clone(),
            decides: now + Duration::from_secs(self.settings.backchannel_delay),
            ends: now + Duration::from_secs(life),
            interval: self.settings.backchannel_interval.map_or(FIVE, Duration::from_secs),
            asked: now,
            used: false,
            notification_token: token,
        };
        self.backchannel.insert(auth_req_id, waiting);
        self.settings.alter_backchannel.apply(&mut body);
        Ok(answer(StatusCode::OK, &body))
    }

    /// Section 7.1.1.
    fn signed_backchannel(&self, now: Timestamp, client: &Registered, object: &str) -> Result<Params, Refusal> {
        let wrong = |why| refuse("invalid_request", why);
        let Some(jwt) = Jwt::parse(object) else { return wrong("the request is no JWT") };
        if !client.signs(&jwt) {
            return wrong("no key of the client has signed it");
        }
        if jwt.text("iss") != Some(&client.id) || jwt.text("aud") != Some(self.issuer()) {
            return wrong("iss must be the client_id, and aud this server");
        }
        let now = now.as_unix();
        let (Some(iat), Some(nbf), Some(exp)) = (jwt.seconds("iat"), jwt.seconds("nbf"), jwt.seconds("exp")) else {
            return wrong("iat, nbf and exp are needed");
        };
        if iat > now || nbf > now || exp <= now || exp - nbf > 3600 || jwt.text("jti").is_none_or(|jti| jti.len() < 22)
        {
            return wrong("it is from the future, has expired, is good for too long, or has no jti");
        }
        let mut params = Params::new();
        for (name, value) in &jwt.claims {
            let value = match (&**name, value) {
                ("iss" | "aud" | "iat" | "nbf" | "exp" | "jti", _) => continue,
                ("requested_expiry", Value::Number(number)) => number.to_string(),
                ("authorization_details", Value::Array(_)) => value.to_string(),
                ("requested_expiry" | "authorization_details", _) => return wrong("a claim of another type"),
                (name, Value::String(text)) if KNOWN.contains(&name) && !text.is_empty() => text.clone(),
                _ => return wrong("a claim is unknown, or of another type"),
            };
            params.insert(name.clone(), value);
        }
        Ok(params)
    }

    /// Section 10.1.
    pub(super) fn poll_backchannel(
        &mut self,
        now: Timestamp,
        client: &Registered,
        params: &Params,
    ) -> Result<Value, Refusal> {
        let Some(id) = params.get("auth_req_id") else { return refuse("invalid_request", "auth_req_id is needed") };
        let Some(waiting) = self.backchannel.get_mut(id) else { return refuse("invalid_grant", "no such auth_req_id") };
        if waiting.client_id != client.id || waiting.used {
            return refuse("invalid_grant", "the auth_req_id is another client's, or was used before");
        }
        if now >= waiting.ends {
            return refuse("expired_token", "the auth_req_id has expired");
        }
        // Who was pinged may ask at once.
        let pinged = waiting.notification_token.is_some() && now >= waiting.decides;
        if now.since(std::mem::replace(&mut waiting.asked, now)) < waiting.interval && !pinged {
            waiting.interval += FIVE;
            return refuse("slow_down", "asked too soon");
        }
        if now < waiting.decides {
            return refuse("authorization_pending", "nobody has decided yet");
        }
        waiting.used = true;
        let (client_id, subject, scopes) = (waiting.client_id.clone(), waiting.subject.clone(), waiting.scopes.clone());
        let scopes = self.consent(scopes)?;
        let grant = self.grant(now, &client_id, subject, scopes);
        let mut body = self.access(now, grant, None);
        if self.settings.refresh_tokens != RefreshTokens::None {
            body["refresh_token"] = self.new_refresh_token(grant).into();
        }
        self.finish(now, grant, None, body)
    }

    /// The pings that are due.
    pub fn pings(&self, now: Timestamp) -> Vec<Ping> {
        let due = self.backchannel.iter().filter(|(_, waiting)| now >= waiting.decides && !waiting.used);
        due.filter_map(|(id, waiting)| {
            Some(Ping { token: waiting.notification_token.clone()?, body: json!({"auth_req_id": id}).to_string() })
        })
        .collect()
    }
}
