//! Users: the refresh of their tokens, and revocation.

use std::collections::BTreeMap;

use grantflow::{Scopes, Timestamp};
use http::{Request, Response};
use serde_json::json;
use url::form_urlencoded;

use super::{Google, Grant, OAuthClient, RAPT, Refusal, UserTrouble, Whose, json_answer, only, refuse, text_answer};

impl Google {
    pub(super) fn refresh(
        &mut self,
        now: Timestamp,
        form: &BTreeMap<String, String>,
    ) -> Result<Response<Vec<u8>>, Refusal> {
        only(form, &["grant_type", "client_id", "client_secret", "refresh_token", "scope", "rapt"])?;
        let client = self.client_of(form)?.id.clone();
        let token = form.get("refresh_token");
        let found = self.grants.iter().position(|grant| Some(&grant.refresh_token) == token);
        let Some(number) = found else { return refuse(400, "invalid_grant", "Bad Request") };
        let grant = self.grants[number].clone();
        if grant.client_id != client {
            return refuse(401, "unauthorized_client", "Unauthorized");
        }
        if grant.revoked {
            return refuse(400, "invalid_grant", "Token has been expired or revoked.");
        }
        self.check_user(&grant, form.get("rapt").map(String::as_str))?;
        let scopes = form.get("scope").map_or(grant.scopes.clone(), |text| Scopes::from(text.as_str()));
        if !scopes.is_subset(&grant.scopes) {
            return refuse(400, "invalid_scope", "Bad Request");
        }
        let mut body = json!({"expires_in": 3599, "scope": scopes.as_str(), "token_type": "Bearer"});
        body["access_token"] = self.hand_out(now, Whose::Grant(number), scopes).into();
        Ok(json_answer(200, &body))
    }

    /// The client, which shows its secret in the body.
    fn client_of(&self, form: &BTreeMap<String, String>) -> Result<&OAuthClient, Refusal> {
        let id = form.get("client_id");
        let Some(client) = self.clients.iter().find(|client| Some(&client.id) == id) else {
            return refuse(401, "invalid_client", "The OAuth client was not found.");
        };
        match (client.gone, &client.secret, form.get("client_secret")) {
            (Some(error), ..) => refuse(401, error, "The OAuth client was deleted or disabled."),
            (None, Some(_), None) => refuse(400, "invalid_request", "client_secret is missing."),
            (None, secret, given) if secret.as_ref() != given => {
                refuse(401, "invalid_client", "The provided client secret is invalid.")
            }
            _ => Ok(client),
        }
    }

    fn check_user(&self, grant: &Grant, rapt: Option<&str>) -> Result<(), Refusal> {
        match self.users.iter().find(|user| user.email == grant.user).map(|user| user.trouble) {
            Some(None) => Ok(()),
            Some(Some(UserTrouble::Reauthentication)) if rapt == Some(RAPT) => Ok(()),
            None | Some(Some(UserTrouble::Deleted)) => refuse(400, "invalid_grant", "Account has been deleted"),
            Some(Some(UserTrouble::AdminPolicy)) => {
                refuse(400, "admin_policy_enforced", "Access to this scope is restricted by an administrator.")
            }
            Some(Some(UserTrouble::Reauthentication)) => Err(Refusal {
                status: 400,
                body: json!({
                    "error": "invalid_grant",
                    "error_description": "reauth related error (invalid_rapt)",
                    "error_uri": "https://support.google.com/a/answer/9368756",
                    "error_subtype": "invalid_rapt",
                }),
            }),
        }
    }

    /// Takes back all that the user granted to the project that the token's client belongs to.
    pub(super) fn revoke(&mut self, now: Timestamp, request: &Request<Vec<u8>>) -> Result<Response<Vec<u8>>, Refusal> {
        let bytes = [request.body(), request.uri().query().unwrap_or_default().as_bytes()];
        let pairs: Vec<(String, String)> =
            bytes.into_iter().flat_map(|bytes| form_urlencoded::parse(bytes).into_owned()).collect();
        let [(name, token)] = &pairs[..] else { return refuse(400, "invalid_request", "Bad Request") };
        if name != "token" {
            return refuse(400, "invalid_request", "Bad Request");
        }
        let alive = |grant: &Grant| grant.refresh_token == *token && !grant.revoked;
        let number = match self.accepted(token, now).map(|access| access.whose.clone()) {
            // It ends by itself and cannot be taken back.
            Some(Whose::Account(..) | Whose::Federated(_)) => return Ok(json_answer(200, &json!({}))),
            Some(Whose::Grant(number)) => Some(number),
            None => self.grants.iter().position(alive),
        };
        let Some(number) = number else { return refuse(400, "invalid_token", "Token expired or revoked") };
        let (user, project) = (self.grants[number].user.clone(), self.project_of(&self.grants[number].client_id));
        for number in 0..self.grants.len() {
            let grant = &self.grants[number];
            if grant.user == user && self.project_of(&grant.client_id) == project {
                self.grants[number].revoked = true;
            }
        }
        Ok(text_answer(200, ""))
    }

    /// The project of a client.
    pub(super) fn project_of(&self, client: &str) -> Option<String> {
        self.clients.iter().find(|known| known.id == client).map(|client| client.project.clone())
    }
}
