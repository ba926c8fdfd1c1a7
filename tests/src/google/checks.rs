//! What tokens are good for: `tokeninfo`, `userinfo`, and an API.

use grantflow::{Scopes, Timestamp};
use http::{HeaderValue, Method, Request, Response, header};
use serde_json::{Value, json};
use url::form_urlencoded;

use crate::jwt::Jwt;

use super::{Access, Google, Whose, bearer, json_answer, page};

const EMAIL: &str = "https://www.googleapis.com/auth/userinfo.email";
const PROFILE: &str = "https://www.googleapis.com/auth/userinfo.profile";
/// The project of gcloud's own client, which has no quota to charge.
const GCLOUD_PROJECT: &str = "764086051850";
/// What any of lets the models be listed.
const MODELS: [&str; 4] = [
    "https://www.googleapis.com/auth/cloud-platform",
    "https://www.googleapis.com/auth/generative-language",
    "https://www.googleapis.com/auth/generative-language.retriever",
    "https://www.googleapis.com/auth/generative-language.retriever.readonly",
];

impl Google {
    /// An access token that is good.
    pub(super) fn accepted(&self, token: &str, now: Timestamp) -> Option<&Access> {
        let alive = |access: &&Access| match access.whose {
            Whose::Grant(number) => !self.grants[number].revoked,
            Whose::Account(..) | Whose::Federated(_) => true,
        };
        self.access.get(token).filter(|access| now < access.ends).filter(alive)
    }

    /// The user that a service account's token is good for, other than itself.
    pub fn acts_for(&self, token: &str) -> Option<&str> {
        match &self.access.get(token)?.whose {
            Whose::Account(_, subject) => subject.as_deref(),
            Whose::Grant(number) => Some(&self.grants[*number].user),
            Whose::Federated(_) => None,
        }
    }

    /// The scopes of an access token that is good.
    pub fn scopes_of(&self, token: &str, now: Timestamp) -> Option<&Scopes> {
        self.accepted(token, now).map(|access| &access.scopes)
    }

    pub(super) fn tokeninfo(&self, now: Timestamp, request: &Request<Vec<u8>>) -> Response<Vec<u8>> {
        let bytes = [request.body(), request.uri().query().unwrap_or_default().as_bytes()];
        let mut pairs: Vec<(String, String)> =
            bytes.into_iter().flat_map(|bytes| form_urlencoded::parse(bytes).into_owned()).collect();
        pairs.extend(bearer(request).map(|token| ("access_token".to_owned(), token.to_owned())));
        let found = match &pairs[..] {
            [(name, token)] if name == "access_token" => self.about_access_token(token, now),
            [(name, token)] if name == "id_token" => self.about_id_token(token, now),
            _ => None,
        };
        match found {
            Some(about) => json_answer(200, &about),
            None if self.old_tokeninfo => json_answer(400, &json!({"error_description": "Invalid Value"})),
            None => json_answer(400, &json!({"error": "invalid_token", "error_description": "Invalid Value"})),
        }
    }

    /// Numbers and truth values are texts.
    fn about_access_token(&self, token: &str, now: Timestamp) -> Option<Value> {
        let access = self.accepted(token, now)?;
        let mut about = json!({
            "scope": access.scopes.as_str(),
            "exp": access.ends.as_unix().to_string(),
            "expires_in": access.ends.since(now).as_secs().to_string(),
        });
        let (party, email, number) = match &access.whose {
            Whose::Account(email, _) => {
                let account = self.accounts.iter().find(|account| account.email == *email)?;
                about["access_type"] = "online".into();
                (account.number.clone(), email.clone(), account.number.clone())
            }
            Whose::Grant(number) => {
                let grant = &self.grants[*number];
                about["access_type"] = "offline".into();
                (grant.client_id.clone(), grant.user.clone(), self.number_of(&grant.user)?)
            }
            Whose::Federated(_) => return None,
        };
        about["azp"] = party.clone().into();
        about["aud"] = party.into();
        if access.scopes.contains(EMAIL) {
            about["email"] = email.into();
            about["email_verified"] = "true".into();
        }
        if access.scopes.contains("openid") {
            about["sub"] = number.into();
        }
        Some(about)
    }

    fn about_id_token(&self, token: &str, now: Timestamp) -> Option<Value> {
        self.id_tokens.get(token).filter(|ends| now < **ends)?;
        let jwt = Jwt::parse(token)?;
        let text = |value: &Value| value.as_str().map_or(value.to_string(), str::to_owned);
        let all = jwt.claims.iter().chain(&jwt.header);
        Some(Value::Object(all.map(|(name, value)| (name.clone(), text(value).into())).collect()))
    }

    pub(super) fn userinfo(&self, now: Timestamp, request: &Request<Vec<u8>>) -> Response<Vec<u8>> {
        let known = || {
            let access = self.accepted(bearer(request)?, now)?;
            let Whose::Grant(number) = access.whose else { return None };
            let email = self.grants[number].user.clone();
            access.scopes.contains("openid").then_some(())?;
            let mut about = json!({"sub": self.number_of(&email)?});
            if access.scopes.contains(EMAIL) {
                about["email"] = email.into();
                about["email_verified"] = true.into();
            }
            if access.scopes.contains(PROFILE) {
                about["name"] = "Alice Example".into();
            }
            Some(about)
        };
        match known() {
            Some(about) => json_answer(200, &about),
            None => json_answer(401, &json!({"error": "invalid_request", "error_description": "Invalid Credentials"})),
        }
    }

    fn number_of(&self, email: &str) -> Option<String> {
        self.users.iter().find(|user| user.email == email).map(|user| user.number.clone())
    }

    /// The models of the Gemini API: for an API key, or a token with one of the scopes; a user's must name a
    /// project to charge.
    pub(super) fn models(&self, now: Timestamp, request: &Request<Vec<u8>>) -> Response<Vec<u8>> {
        if request.method() != Method::GET {
            return page(http::StatusCode::NOT_FOUND);
        }
        let key = request.headers().get("x-goog-api-key").and_then(|value| value.to_str().ok());
        let models = json!({"models": [{"name": "models/gemini-demo", "displayName": "Gemini Demo"}]});
        let token = match (bearer(request), key) {
            (None, Some(super::API_KEY)) => return json_answer(200, &models),
            (Some(token), None) => token,
            _ => return api_error(401, "UNAUTHENTICATED", "CREDENTIALS_MISSING", ""),
        };
        let access = self.accepted(token, now);
        let own = || self.self_signed(token, "https://generativelanguage.googleapis.com", now);
        let Some(scopes) = access.map(|access| access.scopes.clone()).or_else(own) else {
            return api_error(401, "UNAUTHENTICATED", "", ", error=\"invalid_token\"");
        };
        if !MODELS.iter().any(|scope| scopes.contains(scope)) {
            let listed = Scopes::from(MODELS);
            let challenge = format!(", error=\"insufficient_scope\", scope=\"{listed}\"");
            return api_error(403, "PERMISSION_DENIED", "ACCESS_TOKEN_SCOPE_INSUFFICIENT", &challenge);
        }
        let charged = request.headers().get("x-goog-user-project").and_then(|value| value.to_str().ok());
        let of_a_user = access.is_some_and(|access| matches!(access.whose, Whose::Grant(_)));
        match charged {
            Some(project) if !self.projects.iter().any(|known| known == project) => {
                api_error(403, "PERMISSION_DENIED", "USER_PROJECT_DENIED", "")
            }
            None if of_a_user => api_error(403, "PERMISSION_DENIED", "SERVICE_DISABLED", ""),
            _ => json_answer(200, &models),
        }
    }
}

/// An error as Google's APIs tell it.
fn api_error(status: u16, code: &str, reason: &str, challenge: &str) -> Response<Vec<u8>> {
    let details = match reason {
        "" => json!([]),
        reason => json!([{"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": reason,
                          "domain": "googleapis.com", "metadata": {"consumer": format!("projects/{GCLOUD_PROJECT}")}}]),
    };
    let error = json!({"code": status, "message": "the request was refused", "status": code, "details": details});
    let mut response = json_answer(status, &json!({ "error": error }));
    if status == 401 || !challenge.is_empty() {
        let value = format!("Bearer realm=\"https://accounts.google.com/\"{challenge}");
        let value = HeaderValue::from_str(&value).expect("a header value");
        response.headers_mut().insert(header::WWW_AUTHENTICATE, value);
    }
    response
}
