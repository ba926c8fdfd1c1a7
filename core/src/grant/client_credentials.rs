//! The client credentials grant (RFC 6749, section 4.4): a client acts for itself.

use super::TokenRequest;
use crate::machine::Repeat;
use crate::{Client, Error, ServerMetadata};

impl TokenRequest {
    /// A token for the client itself (RFC 6749, section 4.4). The client must have a way to authenticate.
    ///
    /// ```
    /// use grantflow::{Client, ClientAuthentication, Issuer, ServerMetadata, TokenRequest};
    ///
    /// let server = ServerMetadata::new(Issuer::new("https://as.example")?)
    ///     .token_endpoint("https://as.example/token")?;
    /// let client = Client::new("batch").authentication(ClientAuthentication::client_secret_basic("s3cret"));
    /// let machine = TokenRequest::client_credentials(&server, &client)?.scopes("read").exchange();
    /// # let _ = machine;
    /// # Ok::<(), grantflow::Error>(())
    /// ```
    pub fn client_credentials(server: &ServerMetadata, client: &Client) -> Result<Self, Error> {
        if client.is_public() {
            return Err(Error::config("the client credentials grant needs a client that authenticates"));
        }
        Ok(Self::new("getting a token for the client", "client_credentials", server, client)?.repeat(Repeat::Freely))
    }
}
