//! The authorization endpoint (RFC 6749, section 4.1; RFC 7636; RFC 9207). The user answers at once.

use std::time::Duration;

use grantflow::{Scopes, Timestamp};
use http::{Request, Response, StatusCode, header};
use serde_json::{Value, json};
use url::Url;

use super::{Code, Consent, Iss, Refusal, Server, refuse, text};

pub(super) const KNOWN: [&str; 20] = [
    "response_type",
    "client_id",
    "redirect_uri",
    "scope",
    "state",
    "code_challenge",
    "code_challenge_method",
    "nonce",
    "prompt",
    "login_hint",
    "access_type",
    "include_granted_scopes",
    "max_age",
    "acr_values",
    "claims",
    "ui_locales",
    "id_token_hint",
    "dpop_jkt",
    "authorization_details",
    // Who is sent back posts what the address holds, if it is `form_post`.
    "response_mode",
];

/// How long a code is good for.
const CODE: Duration = Duration::from_secs(60);

impl Server {
    pub(super) fn authorize(&mut self, now: Timestamp, request: &Request<Vec<u8>>) -> Response<Vec<u8>> {
        let query = request.uri().query().unwrap_or_default();
        // Without a client and its redirect URI there is nowhere to send the user back to.
        let params = match self.requested(now, query) {
            Ok(params) => params,
            Err(why) => return text(StatusCode::BAD_REQUEST, why),
        };
        let get = |name: &str| params.get(name).map(String::as_str);
        let client = self.clients.iter().find(|client| Some(&*client.id) == get("client_id"));
        let (Some(client), Some(redirect_uri)) = (client, get("redirect_uri")) else {
            return text(StatusCode::BAD_REQUEST, "the client is unknown, or there is no redirect_uri");
        };
        if !client.allows(redirect_uri) {
            return text(StatusCode::BAD_REQUEST, "the redirect_uri is not registered");
        }
        let client_id = client.id.clone();
        let answer = self.decide(now, &client_id, redirect_uri, &get);
        let Ok(mut url) = Url::parse(redirect_uri) else {
            return text(StatusCode::BAD_REQUEST, "the redirect_uri is no address");
        };
        let mut pairs = match answer {
            Ok(code) => vec![("code", code)],
            Err(refusal) => {
                vec![("error", refusal.error.to_owned()), ("error_description", refusal.description.to_owned())]
            }
        };
        pairs.extend(get("state").map(|state| ("state", state.to_owned())));
        match get("response_mode") {
            Some("jwt" | "query.jwt" | "form_post.jwt") => {
                let response = self.signed_answer(now, &client_id, pairs);
                url.query_pairs_mut().append_pair("response", &response);
            }
            None | Some("query" | "form_post") => {
                match &self.settings.iss {
                    Iss::Right => pairs.push(("iss", self.issuer.clone())),
                    Iss::Wrong(issuer) => pairs.push(("iss", issuer.clone())),
                    Iss::Absent | Iss::Stripped => {}
                }
                url.query_pairs_mut().extend_pairs(pairs);
            }
            Some(_) => return text(StatusCode::BAD_REQUEST, "another response_mode"),
        }
        let mut response = text(StatusCode::FOUND, "");
        response.headers_mut().insert(header::LOCATION, url.as_str().parse().expect("an address"));
        response
    }

    /// An answer as a JWT (JARM, section 2.1).
    fn signed_answer(&self, now: Timestamp, client_id: &str, pairs: Vec<(&str, String)>) -> String {
        let mut claims = json!({"iss": self.issuer, "aud": client_id, "exp": now.as_unix() + 600});
        for (name, value) in pairs {
            claims[name] = value.into();
        }
        let mut header = json!({"alg": "RS256", "kid": "1"});
        self.settings.alter_answer_header.apply(&mut header);
        self.settings.alter_answer_claims.apply(&mut claims);
        self.signed(&header, &claims)
    }

    /// The code, or why there is none.
    fn decide<'a>(
        &mut self,
        now: Timestamp,
        client_id: &str,
        redirect_uri: &str,
        get: &impl Fn(&str) -> Option<&'a str>,
    ) -> Result<String, Refusal> {
        if get("response_type") != Some("code") {
            return refuse("unsupported_response_type", "only code");
        }
        let (plain, challenge) = match (get("code_challenge_method"), get("code_challenge")) {
            (Some("S256"), Some(challenge)) if challenge.len() == 43 => (false, challenge.to_owned()),
            (Some("plain"), Some(challenge)) if (43..=128).contains(&challenge.len()) => (true, challenge.to_owned()),
            _ => return refuse("invalid_request", "PKCE is needed, with S256 or plain by name"),
        };
        if get("state").is_none_or(|state| state.len() < 20) {
            return refuse("invalid_request", "a state that nobody can guess is needed");
        }
        let asked = Scopes::from(get("scope").unwrap_or_default());
        if !asked.is_subset(&self.settings.scopes) {
            return refuse("invalid_scope", "a scope is unknown");
        }
        let details = match get("authorization_details").map(|text| self.details(text)) {
            Some(Ok(details)) => Some(details),
            Some(Err(refusal)) => return Err(refusal),
            None => None,
        };
        let nonce = get("nonce").map(str::to_owned);
        if asked.contains("openid") != nonce.is_some() {
            return refuse("invalid_request", "a nonce is needed with openid, and without it there must be none");
        }
        let scopes = self.consent(asked)?;
        let subject = get("login_hint").unwrap_or(&self.settings.subject).to_owned();
        let grant = self.grant(now, client_id, subject, scopes);
        self.grants[grant].nonce = nonce;
        self.grants[grant].details = details;
        self.grants[grant].max_age = get("max_age").is_some();
        let dpop_jkt = get("dpop_jkt").map(str::to_owned);
        if dpop_jkt.as_ref().is_some_and(|jkt| jkt.len() != 43) {
            return refuse("invalid_request", "dpop_jkt is no SHA-256 thumbprint");
        }
        let code = self.fresh("code");
        let redirect_uri = redirect_uri.to_owned();
        let ends = now + CODE;
        let kept = Code { dpop_jkt, grant, redirect_uri, challenge, plain, ends, used: false };
        self.codes.insert(code.clone(), kept);
        Ok(code)
    }

    /// What is asked for in detail, each of a type that it knows (RFC 9396, section 5).
    pub(super) fn details(&self, text: &str) -> Result<Value, Refusal> {
        let Ok(Value::Array(all)) = serde_json::from_str(text) else {
            return refuse("invalid_authorization_details", "it is no array");
        };
        let known = |each: &Value| {
            let kind = each.get("type").and_then(Value::as_str);
            kind.is_some_and(|kind| self.settings.details.contains(&kind)) && each.get("forbidden").is_none()
        };
        if all.is_empty() || !all.iter().all(known) {
            return refuse("invalid_authorization_details", "a type is unknown, or a member is not allowed");
        }
        Ok(all.into())
    }

    /// What the user allows of what was asked.
    pub(super) fn consent(&self, asked: Scopes) -> Result<Scopes, Refusal> {
        match &self.settings.consent {
            Consent::Grant => Ok(asked),
            Consent::Narrow(scopes) => Ok(asked.iter().filter(|scope| scopes.contains(scope)).collect()),
            Consent::Deny(error) => refuse(error, "the user said no"),
        }
    }
}
