//! What OpenID Connect adds to an authorization request (Core 1.0, section 3.1.2.1), and step-up (RFC 9470).

use std::time::Duration;

use serde_json::Value;

use super::request::AuthorizationRequest;
use crate::jose::{IdToken, unverified_id_token};
use crate::{Challenge, Error};

impl AuthorizationRequest {
    /// Checks the signature of the ID token by the server's keys (OpenID Connect Core 1.0, section 3.1.3.7, rule 6).
    /// Without this, TLS to the token endpoint stands for the signature. The keys are read before the code is redeemed:
    /// if they cannot be read, the code is still good, and the same redirect may be finished later.
    ///
    /// The server's metadata must have a `jwks_uri`. The algorithm is the one that the [client is registered
    /// for](crate::Client::id_token_signed_response_alg).
    pub fn verify_id_token_signature(mut self) -> Self {
        self.verifies = true;
        self
    }

    /// `prompt`: what the server must show, such as `consent`, `select_account` or `login`. With `none` it shows
    /// nothing, and if it would have to, its error says what: see
    /// [`ServerError::interaction`](crate::ServerError::interaction).
    pub fn prompt(self, prompt: &str) -> Self {
        self.extra("prompt", prompt)
    }

    /// `login_hint`: who is expected to sign in.
    pub fn login_hint(self, hint: &str) -> Self {
        self.extra("login_hint", hint)
    }

    /// `ui_locales`: the languages of the user, the best first, as tags of BCP 47 such as `de-CH`.
    pub fn ui_locales<S: AsRef<str>>(self, locales: impl IntoIterator<Item = S>) -> Self {
        self.extra("ui_locales", &joined(locales))
    }

    /// `max_age`: how long ago the user may have signed in, to the second. With `openid`, the ID token's
    /// `auth_time` is checked against it.
    pub fn max_age(mut self, age: Duration) -> Self {
        self.terms.max_age = Some(age.as_secs());
        self
    }

    /// `acr_values`: how the user must sign in, by names that the server gives such ways, the best first. With `openid`,
    /// the ID token's `acr` must be one of them (OpenID Connect Core 1.0, section 3.1.3.7, rule 12).
    pub fn acr_values<S: AsRef<str>>(mut self, values: impl IntoIterator<Item = S>) -> Self {
        let values = joined(values);
        self.terms.acr_values = values.split_whitespace().map(Into::into).collect();
        self.set("acr_values", &values);
        self
    }

    /// As [`acr_values`](Self::acr_values), but takes a sign-in of any way: look at [`IdToken::acr`].
    pub fn preferred_acr_values<S: AsRef<str>>(mut self, values: impl IntoIterator<Item = S>) -> Self {
        self.terms.acr_values.clear();
        self.set("acr_values", &joined(values));
        self
    }

    /// Asks for the sign-in that a resource server demands by `insufficient_user_authentication` (RFC 9470, section 4):
    /// its `acr_values`, `max_age` and `scope`, as far as it names them. A `max_age` that is no number is ignored.
    ///
    /// If the resource server demands the same of the new token again, give up.
    pub fn step_up(self, challenge: &Challenge) -> Self {
        if challenge.error() != Some("insufficient_user_authentication") {
            return self.fail("the challenge does not ask for another sign-in (RFC 9470, section 3)");
        }
        let request = match challenge.acr_values() {
            Some(values) => self.acr_values(values.split_whitespace()),
            None => self,
        };
        let ages = challenge.max_age().map(Duration::from_secs);
        let request = ages.into_iter().fold(request, Self::max_age);
        match challenge.scope() {
            Some(scopes) => request.add_scopes(&scopes),
            None => request,
        }
    }

    /// `claims`: which claims the ID token and the userinfo endpoint are to have (OpenID Connect Core 1.0, section 5.5).
    /// A claim that is essential for the sign-in itself is checked: `acr` with its values, `auth_time`, and `sub` with
    /// its value, of the ID token.
    ///
    /// ```
    /// # use grantflow::{AuthorizationRequest, Client, Issuer, ServerMetadata};
    /// # let server = ServerMetadata::new(Issuer::new("https://as.example")?);
    /// # let request = AuthorizationRequest::new(&server, &Client::new("app"), "https://app.example/callback");
    /// let request = request.claims(&serde_json::json!({
    ///     "userinfo": { "phone_number": null },
    ///     "id_token": { "acr": { "essential": true, "values": ["urn:mace:incommon:iap:silver"] } },
    /// }));
    /// # let _ = request;
    /// # Ok::<(), grantflow::Error>(())
    /// ```
    pub fn claims(mut self, claims: &Value) -> Self {
        let id_token = claims.get("id_token").unwrap_or(&Value::Null);
        if !claims.is_object() || !matches!(id_token, Value::Object(_) | Value::Null) {
            return self.fail("claims is no JSON object of objects (OpenID Connect Core 1.0, section 5.5)");
        }
        let is_essential = |name: &str| id_token.pointer(&format!("/{name}/essential")) == Some(&Value::Bool(true));
        self.terms.auth_time = is_essential("auth_time");
        if is_essential("acr") {
            let acr = id_token.get("acr");
            let one = acr.and_then(|it| it.get("value")).and_then(Value::as_str);
            let several = acr.and_then(|it| it.get("values")).and_then(Value::as_array);
            let several = several.into_iter().flatten().filter_map(Value::as_str);
            self.terms.acr_values = one.into_iter().chain(several).map(Into::into).collect();
        }
        if let Some(subject) = id_token.pointer("/sub/value").and_then(Value::as_str) {
            self.terms.subject = Some(subject.into());
        }
        self.set("claims", &claims.to_string());
        self
    }

    pub(super) fn claims_text(self, text: &str) -> Self {
        match serde_json::from_str(text) {
            Ok(claims) => self.claims(&claims),
            Err(_) => self.fail("claims is no JSON object of objects (OpenID Connect Core 1.0, section 5.5)"),
        }
    }

    /// `id_token_hint`: an ID token of an earlier sign-in, which says who is expected; it may have expired. The answer must
    /// be about the same user. It stands in the address that the browser opens.
    pub fn id_token_hint(self, id_token: &IdToken) -> Self {
        self.id_token_hint_text(id_token.as_secret().expose())
    }

    /// The same, of one that was kept as text.
    pub(super) fn id_token_hint_text(mut self, text: &str) -> Self {
        let subject = unverified_id_token(text).ok().and_then(|(_, claims)| claims.str("sub").map(Box::from));
        let Some(subject) = subject else { return self.fail("the id_token_hint is no ID token that can be read") };
        self.terms.subject = Some(subject);
        self.set("id_token_hint", text);
        self
    }

    /// `response_mode=form_post`: the answer comes as a form that the browser posts to the redirect URI (OAuth 2.0 Form
    /// Post Response Mode), and not in an address that lies in histories and logs. Apple wants it where a name or an e-mail
    /// address is asked for. Since another site posts it, the [cookie](super::PendingCookie) of the sign-in is
    /// `SameSite=None`, and an application needs https.
    pub fn form_post(self) -> Self {
        let signed = self.get("response_mode").is_some_and(|mode| mode.ends_with("jwt"));
        self.extra("response_mode", if signed { "form_post.jwt" } else { "form_post" })
    }

    /// `response_mode=jwt`: has the server sign its answer (JWT Secured Authorization Response Mode for OAuth 2.0,
    /// JARM). The signature shows that the answer is unchanged, is of this server, for this client, and of this moment.
    /// An answer that is not signed is refused. The server's metadata must have a `jwks_uri`: the keys are read before
    /// anything in the answer counts. The algorithm is the one that the [client is registered
    /// for](crate::Client::authorization_signed_response_alg). With [`form_post`](Self::form_post) the mode is
    /// `form_post.jwt`.
    ///
    /// An answer that is encrypted besides cannot be read: it is an error that says so.
    pub fn signed_response(self) -> Self {
        let posted = self.get("response_mode").is_some_and(|mode| mode.starts_with("form_post"));
        self.extra("response_mode", if posted { "form_post.jwt" } else { "jwt" })
    }

    /// Takes back what was asked for by one of these setters.
    pub(super) fn withdraw(&mut self, name: &str) {
        match name {
            "acr_values" => self.terms.acr_values.clear(),
            "id_token_hint" => self.terms.subject = None,
            _ => self.terms = crate::jose::SignInTerms { max_age: self.terms.max_age, ..Default::default() },
        }
    }

    /// `prompt=none` stands alone (section 3.1.2.1), and contradicts the demand for a sign-in of this moment.
    pub(super) fn check_prompt(&self) -> Result<(), Error> {
        let prompt = self.get("prompt").unwrap_or_default();
        if !prompt.split_whitespace().any(|it| it == "none") {
            return Ok(());
        }
        if prompt.trim() != "none" {
            return Err(Error::config("prompt=none stands alone"));
        }
        if self.terms.max_age == Some(0) {
            return Err(Error::config("prompt=none and a max_age of zero contradict each other"));
        }
        Ok(())
    }
}

fn joined<S: AsRef<str>>(texts: impl IntoIterator<Item = S>) -> String {
    let mut joined = String::new();
    for text in texts {
        if !joined.is_empty() {
            joined.push(' ');
        }
        joined.push_str(text.as_ref().trim());
    }
    joined
}
