//! The authorization code grant's token request (RFC 6749, section 4.1.3; RFC 7636, section 4.5). What comes before it
//! is in [`authorize`](crate::authorize).

use super::TokenRequest;
use crate::jose::{Expected, Occasion};
use crate::{Client, Error, Scopes, Secret, ServerMetadata};

impl TokenRequest {
    /// Redeems a code, which is added when it is there, where and how its authorization request said.
    pub(crate) fn authorization_code(
        server: &ServerMetadata,
        client: &Client,
        redirect_uri: &str,
        code_verifier: &Secret,
    ) -> Result<Self, Error> {
        let mut request = Self::new("redeeming the authorization code", "authorization_code", server, client)?
            .with(|request| request.param("redirect_uri", redirect_uri))
            .secret("code_verifier", code_verifier);
        request.asked.rotation = server.rotation();
        Ok(request)
    }

    /// Says what the person was asked to grant, and with `openid` among it, what their ID token must say.
    pub(crate) fn signing_in(
        mut self,
        (server, client): (&ServerMetadata, &Client),
        scopes: &Scopes,
        nonce: Option<&Secret>,
        max_age: Option<u64>,
    ) -> Self {
        if scopes.contains("openid") {
            let occasion = Occasion::SignIn { nonce: nonce.cloned(), max_age };
            self.asked.id_token = Some(Expected::new(server, client, occasion));
        }
        self.granted(scopes.clone())
    }
}
