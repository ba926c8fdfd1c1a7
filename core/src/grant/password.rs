//! The resource owner password credentials grant (RFC 6749, section 4.3).

use super::TokenRequest;
use crate::client::lacks;
use crate::exchange::Refusable;
use crate::machine::Repeat;
use crate::{Client, Error, Secret, ServerMetadata};

impl TokenRequest {
    /// A token for a user whose password is known (RFC 6749, section 4.3). Use this only where a server offers nothing
    /// else: RFC 9700, section 2.4, forbids it.
    pub fn password(
        server: &ServerMetadata,
        client: &Client,
        username: &str,
        password: impl Into<Secret>,
    ) -> Result<Self, Error> {
        let password = password.into();
        if client.is_fapi() {
            return Err(lacks("no user's password is used"));
        }
        // Unicode, but for line ends (RFC 6749, appendix A.15 and A.16).
        if [username, password.expose()].iter().any(|text| text.is_empty() || text.contains(['\r', '\n'])) {
            return Err(Error::config("the user name or the password is empty or holds a line end"));
        }
        Ok(Self::new("getting a token by password", "password", server, client)?
            .with(|request| {
                request.param("username", username).unicode_secret("password", &password).refuses(Refusable::Password)
            })
            .repeat(Repeat::Freely))
    }
}
