//! The authorization endpoint (RFC 6749, section 4.1; RFC 7636; RFC 9207). The user answers at once.

use std::time::Duration;

use grantflow::{Scopes, Timestamp};
use http::{Request, Response, StatusCode, header};
use url::Url;

use super::{Code, Consent, Iss, Refusal, Server, refuse, text};

pub(super) const KNOWN: [&str; 19] = [
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
        match answer {
            Ok(code) => url.query_pairs_mut().append_pair("code", &code),
            Err(refusal) => url
                .query_pairs_mut()
                .append_pair("error", refusal.error)
                .append_pair("error_description", refusal.description),
        };
        if let Some(state) = get("state") {
            url.query_pairs_mut().append_pair("state", state);
        }
        match &self.settings.iss {
            Iss::Right => drop(url.query_pairs_mut().append_pair("iss", &self.issuer)),
            Iss::Wrong(issuer) => drop(url.query_pairs_mut().append_pair("iss", issuer)),
            Iss::Absent | Iss::Stripped => {}
        }
        let mut response = text(StatusCode::FOUND, "");
        response.headers_mut().insert(header::LOCATION, url.as_str().parse().expect("an address"));
        response
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
        let nonce = get("nonce").map(str::to_owned);
        if asked.contains("openid") != nonce.is_some() {
            return refuse("invalid_request", "a nonce is needed with openid, and without it there must be none");
        }
        let scopes = self.consent(asked)?;
        let subject = get("login_hint").unwrap_or(&self.settings.subject).to_owned();
        let grant = self.grant(now, client_id, subject, scopes);
        self.grants[grant].nonce = nonce;
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

    /// What the user allows of what was asked.
    pub(super) fn consent(&self, asked: Scopes) -> Result<Scopes, Refusal> {
        match &self.settings.consent {
            Consent::Grant => Ok(asked),
            Consent::Narrow(scopes) => Ok(asked.iter().filter(|scope| scopes.contains(scope)).collect()),
            Consent::Deny(error) => refuse(error, "the user said no"),
        }
    }
}
