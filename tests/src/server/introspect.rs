//! Introspection (RFC 7662), with signed answers for those who ask for them (RFC 9701).

use grantflow::Timestamp;
use http::{Request, Response, StatusCode, header};
use serde_json::{Value, json};

use super::token::form;
use super::{CLIENT, Refusal, Server, answer, refuse};

/// The media type of a signed answer.
const SIGNED: &str = "application/token-introspection+jwt";

impl Server {
    pub(super) fn introspect(
        &mut self,
        now: Timestamp,
        request: &Request<Vec<u8>>,
    ) -> Result<Response<Vec<u8>>, Refusal> {
        let params = form(request, &[&CLIENT[..], &["token", "token_type_hint"]].concat())?;
        let client = self.authenticate(now, request, &params)?;
        if client.is_public() {
            return refuse("invalid_client", "a public client may not ask about tokens");
        }
        let Some(token) = params.get("token") else { return refuse("invalid_request", "token is needed") };
        let mut said = match self.access.get(token).filter(|_| self.accepts(token, now)) {
            Some(access) => self.describe(access),
            None => json!({"active": false}),
        };
        self.settings.alter_introspection.apply(&mut said);
        let signs = request.headers().get(header::ACCEPT).is_some_and(|accept| accept == SIGNED);
        if !signs {
            return Ok(answer(StatusCode::OK, &said));
        }
        let Some(key) = self.settings.keys.first() else { return refuse("invalid_request", "there is no key") };
        let claims = json!({
            "iss": self.issuer, "aud": client.id, "iat": now.as_unix(), "token_introspection": said,
        });
        let mut response = Response::new(key.sign("token-introspection+jwt", &claims).into_bytes());
        response.headers_mut().insert(header::CONTENT_TYPE, SIGNED.parse().expect("a media type"));
        Ok(response)
    }

    fn describe(&self, access: &super::Access) -> Value {
        let grant = &self.grants[access.grant];
        json!({
            "active": true, "scope": access.scopes.as_str(), "client_id": grant.client_id, "sub": grant.subject,
            "exp": access.ends.as_unix(), "iat": grant.auth_time.as_unix(), "iss": self.issuer,
            "aud": self.settings.resource, "token_type": "Bearer", "auth_time": grant.auth_time.as_unix(),
        })
    }
}
