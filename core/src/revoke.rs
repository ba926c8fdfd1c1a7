//! Token revocation (RFC 7009).

use crate::exchange::Request;
use crate::machine::Repeat;
use crate::{Client, Error, Exchange, Secret, ServerMetadata};

/// A request to revoke a token. Revoking a refresh token ends what was granted with it, and mostly
/// its access tokens too; forget both (RFC 7009, section 2.1).
#[derive(Debug)]
pub struct Revocation(Request);

impl Revocation {
    /// Revokes an access or a refresh token.
    pub fn new(server: &ServerMetadata, client: &Client, token: &Secret) -> Result<Self, Error> {
        client.check_issuer(server.issuer())?;
        let request =
            Request::post("revoking the token", server.revocation()?).repeat(Repeat::Freely).secret("token", token);
        let methods = server.get("revocation_endpoint_auth_methods_supported");
        let anonymous = methods.and_then(|list| list.as_array()).is_some_and(|list| list.iter().all(|m| m == "none"));
        Ok(Self(if anonymous { request } else { request.authenticate(client, server.issuer()) }))
    }

    /// Tells the server which kind the token is, to spare it a search: `access_token` or `refresh_token`
    /// (RFC 7009, section 2.1).
    pub fn token_type_hint(self, hint: &str) -> Self {
        Self(self.0.param("token_type_hint", hint))
    }

    /// The machine that revokes it. A token that the server does not know counts as revoked, also where
    /// that is told as the error `invalid_token`, as Google does.
    pub fn exchange(self) -> Exchange<()> {
        self.0.exchange(|_| Ok(())).rescue(|error| match error.server() {
            Some(server) if server.error() == "invalid_token" && error.status() == Some(400) => Ok(()),
            _ => Err(error),
        })
    }
}
