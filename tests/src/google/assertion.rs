//! Assertions of service accounts: checked in the order that Google was seen to check them in.

use std::collections::BTreeMap;

use grantflow::{Scopes, Timestamp};
use http::Response;
use serde_json::{Value, json};

use crate::jwt::{Jwt, PublicKey};

use super::{Account, Google, Place, Refusal, Whose, json_answer, only, refuse};

const WINDOW: &str = "Invalid JWT: Token must be a short-lived token (60 minutes) and in a reasonable timeframe. \
                      Check your iat and exp values in the JWT claim.";
const UNAUTHORIZED: &str = "Client is unauthorized to retrieve access tokens using this method, or client not \
                            authorized for any of the scopes requested.";

/// Whether one of the account's keys signed it: the one it names, if it names one.
fn is_signed_by(jwt: &Jwt, account: &Account) -> bool {
    let named = jwt.header.get("kid").and_then(Value::as_str);
    let keys = account.keys.iter().filter(|(id, _)| named.is_none_or(|named| named == id));
    keys.into_iter().any(|(_, key)| jwt.is_signed_by(&PublicKey::Rs256(key.clone())))
}

/// Whether it is good at this moment, and for an hour at most.
fn is_timely(jwt: &Jwt, now: Timestamp) -> bool {
    let (now, iat, exp) = (now.as_unix(), jwt.seconds("iat"), jwt.seconds("exp"));
    iat.zip(exp).is_some_and(|(iat, exp)| iat <= now && now < exp && exp - iat <= 3600)
}

impl Google {
    pub(super) fn jwt_bearer(
        &mut self,
        now: Timestamp,
        form: &BTreeMap<String, String>,
    ) -> Result<Response<Vec<u8>>, Refusal> {
        let assertion = form.get("assertion").and_then(|text| Jwt::parse(text));
        let Some(jwt) = assertion else { return refuse(400, "invalid_request", "Bad Request") };
        let account = self.signer_of(&jwt, now)?;
        self.check_claims(&jwt, now)?;
        if form.contains_key("scope") {
            let why = "Invalid downscoping, scopes should not be specified as a request parameter.";
            return refuse(400, "invalid_scope", why);
        }
        only(form, &["grant_type", "assertion"])?;
        let scopes = jwt.text("scope").map(Scopes::from).unwrap_or_default();
        let subject = self.check_subject(&jwt, &account, &scopes)?;
        if let Some(audience) = jwt.text("target_audience") {
            let id_token = self.id_token(now, audience, &account.email, None);
            return Ok(json_answer(200, &json!({"id_token": id_token})));
        }
        if !scopes.is_subset(&self.scopes) {
            let id_token = self.id_token(now, scopes.as_str(), &account.email, None);
            return Ok(json_answer(200, &json!({"id_token": id_token})));
        }
        let token = self.hand_out(now, Whose::Account(account.email, subject), scopes);
        Ok(json_answer(200, &json!({"access_token": token, "expires_in": 3599, "token_type": "Bearer"})))
    }

    /// Signature, then `iss`.
    fn signer_of(&self, jwt: &Jwt, now: Timestamp) -> Result<Account, Refusal> {
        let known = |account: &&Account| now >= account.known_from;
        let Some(signer) = self.accounts.iter().find(|account| is_signed_by(jwt, account)) else {
            return refuse(400, "invalid_grant", "Invalid JWT Signature.");
        };
        match Some(signer).filter(known).filter(|account| jwt.text("iss") == Some(&account.email)) {
            Some(account) => Ok(account.clone()),
            None => refuse(400, "invalid_grant", "Invalid grant: account not found"),
        }
    }

    /// Times, then what is asked for, then `aud`.
    fn check_claims(&self, jwt: &Jwt, now: Timestamp) -> Result<(), Refusal> {
        if jwt.seconds("iat").is_none() {
            return refuse(400, "invalid_grant", "Invalid JWT: iat (issued at) is not set.");
        }
        if jwt.seconds("exp").is_none() {
            return refuse(400, "invalid_grant", "Invalid JWT: exp (expiration time) is not set.");
        }
        if !is_timely(jwt, now) {
            return refuse(400, "invalid_grant", WINDOW);
        }
        if jwt.text("scope").is_some() == jwt.text("target_audience").is_some() {
            return refuse(400, "invalid_scope", "Invalid OAuth scope or ID token audience provided.");
        }
        if jwt.text("aud") != Some(&self.address(Place::Token)) {
            return refuse(400, "invalid_grant", "Invalid JWT: Failed audience check.");
        }
        Ok(())
    }

    /// Whom the account acts for. It may do so in the scopes that an administrator allowed it, all of them.
    fn check_subject(&self, jwt: &Jwt, account: &Account, scopes: &Scopes) -> Result<Option<String>, Refusal> {
        let Some(subject) = jwt.claims.get("sub") else { return Ok(None) };
        let Some(subject) = subject.as_str().filter(|subject| subject.contains('@')) else {
            return refuse(400, "invalid_grant", "Not a valid email");
        };
        if subject == account.email {
            return Ok(None);
        }
        if !self.users.iter().any(|user| user.email == subject) {
            return refuse(400, "invalid_grant", "Invalid email or User ID");
        }
        if !scopes.is_subset(&account.delegated) {
            return refuse(401, "unauthorized_client", UNAUTHORIZED);
        }
        Ok(Some(subject.to_owned()))
    }

    /// What a token that a service account signed itself is good for, at an API of this origin.
    pub(super) fn self_signed(&self, text: &str, origin: &str, now: Timestamp) -> Option<Scopes> {
        let jwt = Jwt::parse(text)?;
        let account = self.signer_of(&jwt, now).ok()?;
        if !is_timely(&jwt, now) || jwt.text("sub") != Some(&account.email) {
            return None;
        }
        match (jwt.text("scope"), jwt.text("aud")) {
            (Some(scope), None) => Some(scope.into()),
            (None, Some(audience)) if audience == format!("{origin}/") => Some(CLOUD_PLATFORM.into()),
            _ => None,
        }
    }
}

const CLOUD_PLATFORM: &str = "https://www.googleapis.com/auth/cloud-platform";
