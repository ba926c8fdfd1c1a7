//! Token revocation (RFC 7009).

use crate::exchange::{Received, Request, error_under_success};
use crate::machine::Repeat;
use crate::{Client, Error, Exchange, Secret, ServerMetadata, Token};

/// A request to revoke a token. The revocation of a refresh token ends its grant, and mostly the grant's access tokens
/// too; forget both (RFC 7009, section 2.1).
#[derive(Debug)]
pub struct Revocation(Request);

impl Revocation {
    /// Revokes the grant of this token: by its refresh token, or by the access token if there is none.
    ///
    /// # Errors
    ///
    /// If the server's metadata has no `revocation_endpoint`, or if the token or the client is another server's.
    pub fn of(server: &ServerMetadata, client: &Client, token: &Token) -> Result<Self, Error> {
        token.check_issuer(server.issuer())?;
        Ok(match token.refresh_token() {
            Some(refresh_token) => Self::new(server, client, refresh_token)?.token_type_hint("refresh_token"),
            None => Self::new(server, client, &token.access_token().into())?.token_type_hint("access_token"),
        })
    }

    /// Revokes an access or a refresh token of which nothing else is known.
    ///
    /// # Errors
    ///
    /// If the server's metadata has no `revocation_endpoint`, or the client is registered at another server.
    pub fn new(server: &ServerMetadata, client: &Client, token: &Secret) -> Result<Self, Error> {
        client.check_issuer(server.issuer())?;
        let server = &*client.endpoints_of(server)?;
        let request =
            Request::post("revoking the token", server.revocation()?).repeat(Repeat::Freely).secret("token", token);
        let methods = server.get("revocation_endpoint_auth_methods_supported");
        let public = methods.and_then(|list| list.as_array()).is_some_and(|list| list.iter().all(|m| m == "none"));
        Ok(Self(match public {
            _ if server.revokes_for_anyone() => request,
            // The server checks whose the token is by the name alone (RFC 7009, section 2.1).
            true => request.authenticate(&client.without_authentication(), server.issuer()),
            false => request.authenticate(&*client.at(server)?, server.issuer()),
        }))
    }

    /// Tells the server the kind of the token, to spare it a search: `access_token` or `refresh_token` (RFC 7009,
    /// section 2.1).
    pub fn token_type_hint(self, hint: &str) -> Self {
        Self(self.0.param("token_type_hint", hint))
    }

    /// The machine that revokes the token. A token that the server does not know counts as revoked, also if the server
    /// reports it as the error `invalid_token`, as Google does.
    pub fn exchange(self) -> Exchange<()> {
        let said = |received: Received<'_>| error_under_success(received.response.body()).map_or(Ok(()), Err);
        self.0.exchange(said).rescue(|error| match error.server() {
            Some(server) if server.error() == "invalid_token" && matches!(error.status(), Some(200 | 400)) => Ok(()),
            _ => Err(error),
        })
    }
}
