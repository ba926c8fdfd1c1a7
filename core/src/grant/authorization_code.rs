//! The authorization code grant's token request (RFC 6749, section 4.1.3; RFC 7636, section 4.5). The steps before it
//! are in [`authorize`](crate::authorize).

use super::TokenRequest;
use crate::jose::{Expected, Occasion, SignIn};
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

    /// Adds the code, which the ID token may name (`c_hash`).
    pub(crate) fn code(mut self, code: &Secret) -> Self {
        if let Some(Expected { occasion: Occasion::SignIn(asked), .. }) = &mut self.asked.id_token {
            asked.code = Some(code.clone());
        }
        self.secret("code", code)
    }

    /// Says what the person was asked to grant, and with `openid` among it, what their ID token must say.
    pub(crate) fn signing_in(
        mut self,
        (server, client): (&ServerMetadata, &Client),
        scopes: &Scopes,
        asked: SignIn,
    ) -> Result<Self, Error> {
        if scopes.contains("openid") {
            self.asked.id_token = Some(Expected::new(server, client, Occasion::SignIn(Box::new(asked)))?);
        }
        Ok(self.granted(scopes.clone()))
    }
}
