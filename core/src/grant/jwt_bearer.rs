//! A JWT as an authorization grant (RFC 7523, section 2.1).

use super::TokenRequest;
use crate::machine::Repeat;
use crate::{Client, Error, Scopes, Secret, ServerMetadata};

impl TokenRequest {
    /// A token for a signed assertion (RFC 7523, section 2.1). The client need not authenticate. `asked` holds the
    /// scopes that the assertion asks for, if it does so itself, as Google's do.
    ///
    /// ```
    /// use grantflow::{Error, Scopes, Secret, ServerMetadata, TokenExchange, TokenRequest};
    ///
    /// fn request(server: &ServerMetadata, assertion: &Secret) -> Result<TokenExchange, Error> {
    ///     Ok(TokenRequest::jwt_bearer(server, None, assertion, Scopes::default())?.scopes("read").exchange())
    /// }
    /// ```
    pub fn jwt_bearer(
        server: &ServerMetadata,
        client: Option<&Client>,
        assertion: &Secret,
        asked: Scopes,
    ) -> Result<Self, Error> {
        let (doing, grant_type) = ("exchanging the assertion", "urn:ietf:params:oauth:grant-type:jwt-bearer");
        let request = match client {
            Some(client) => Self::new(doing, grant_type, server, client)?,
            None => Self::anonymous(doing, grant_type, server)?,
        };
        Ok(request.secret("assertion", assertion).granted(asked).repeat(Repeat::Freely))
    }
}
