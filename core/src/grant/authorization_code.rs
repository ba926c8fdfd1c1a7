//! The authorization code grant's second leg (RFC 6749, section 4.1.3; RFC 7636, section 4.5). Its first
//! is in [`authorize`](crate::authorize).

use super::TokenRequest;
use crate::authorize::{AuthorizationCode, PendingAuthorization};
use crate::jose::{Expected, Occasion};
use crate::{Client, Error, ServerMetadata};

impl TokenRequest {
    /// Redeems a code where and how its authorization request said.
    pub(crate) fn authorization_code(
        pending: PendingAuthorization,
        client: &Client,
        code: &AuthorizationCode,
    ) -> Result<Self, Error> {
        if client.id() != &*pending.client_id {
            return Err(Error::config(format!("the code was asked by the client {}, not this one", pending.client_id)));
        }
        let server = ServerMetadata::recorded(&pending);
        let mut request = Self::new("redeeming the authorization code", "authorization_code", &server, client)?
            .secret("code", &code.0)
            .with(|request| request.param("redirect_uri", &pending.redirect_uri))
            .secret("code_verifier", &pending.code_verifier);
        if pending.scopes.contains("openid") {
            let occasion = Occasion::SignIn { nonce: pending.nonce, max_age: pending.max_age };
            request.asked.id_token = Some(Expected::new(&server, client, occasion));
        }
        request.asked.rotation = server.rotation();
        request.asked.scopes = pending.scopes;
        Ok(request)
    }
}
