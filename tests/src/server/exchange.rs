//! Token exchange (RFC 8693): access tokens of this server for other tokens of it.

use grantflow::{Scopes, Timestamp, token_type};
use serde_json::{Value, json};

use super::token::{Params, jwt};
use super::{Refusal, Registered, Server, refuse};

/// The parameters of section 2.1; `audience` and `resource` are known everywhere.
pub(super) const PARAMS: [&str; 6] =
    ["subject_token", "subject_token_type", "actor_token", "actor_token_type", "requested_token_type", "scope"];

impl Server {
    pub(super) fn exchange(&mut self, now: Timestamp, client: &Registered, params: &Params) -> Result<Value, Refusal> {
        if client.is_public() {
            return refuse("unauthorized_client", "the client is public");
        }
        let param = |name: &str| params.get(name).map(String::as_str);
        let (Some(subject_token), Some(subject_token_type)) = (param("subject_token"), param("subject_token_type"))
        else {
            return refuse("invalid_request", "subject_token and subject_token_type are needed");
        };
        let (subject, granted) = self.party(now, subject_token, subject_token_type)?;
        let actor = match (param("actor_token"), param("actor_token_type")) {
            (None, None) => None,
            (Some(token), Some(kind)) => Some(self.party(now, token, kind)?.0),
            _ => return refuse("invalid_request", "actor_token and actor_token_type come together"),
        };
        if param("audience").is_some_and(|audience| !self.settings.audiences.contains(&audience)) {
            return refuse("invalid_target", "no such audience");
        }
        if param("resource").is_some_and(|it| it.contains('#') || !it.contains("://")) {
            return refuse("invalid_target", "the resource is no absolute URI without a fragment");
        }
        let scopes = param("scope").map_or_else(|| granted.clone(), Scopes::from);
        if !scopes.is_subset(&granted) {
            return refuse("invalid_scope", "more than the subject token has");
        }
        let requested = param("requested_token_type").unwrap_or(token_type::ACCESS_TOKEN);
        let mut body = match requested {
            token_type::ACCESS_TOKEN => {
                let grant = self.grant(now, &client.id, subject, scopes.clone());
                self.access(now, grant, None)
            }
            token_type::JWT => {
                let mut claims = json!({"iss": self.issuer, "sub": subject, "exp": now.as_unix() + 300});
                if let Some(actor) = actor {
                    claims["act"] = json!({"sub": actor});
                }
                json!({"access_token": jwt(&json!({"alg": "RS256"}), &claims), "token_type": "N_A", "expires_in": 300})
            }
            _ => return refuse("invalid_request", "no such requested_token_type"),
        };
        body["issued_token_type"] = requested.into();
        if param("scope").is_none() {
            body["scope"] = scopes.as_str().into();
        }
        self.settings.alter_token.apply(&mut body);
        Ok(body)
    }

    /// Whose token this is, and what it is good for. One that is no good is `invalid_request` (section 2.2.2).
    fn party(&self, now: Timestamp, token: &str, kind: &str) -> Result<(String, Scopes), Refusal> {
        if kind != token_type::ACCESS_TOKEN {
            return refuse("invalid_request", "no such kind of subject token is taken");
        }
        let found = self.access.get(token).filter(|access| now < access.ends && !access.revoked);
        match found.map(|access| (&self.grants[access.grant], &access.scopes)) {
            Some((grant, scopes)) if !grant.revoked => Ok((grant.subject.clone(), scopes.clone())),
            _ => refuse("invalid_request", "the token is unknown, has expired, or is revoked"),
        }
    }

    /// How many tokens and codes it has handed out.
    pub fn handed_out(&self) -> u64 {
        self.handed_out
    }

    /// Forgets what it has seen, for runs that are long.
    pub fn forget_seen(&mut self) {
        self.seen.clear();
    }

    /// Ends all access tokens that are there, and no refresh token.
    pub fn end_access_tokens(&mut self) {
        self.access.values_mut().for_each(|access| access.revoked = true);
    }
}
