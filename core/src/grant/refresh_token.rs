//! The refresh token grant (RFC 6749, section 6).

use super::TokenRequest;
use crate::exchange::{Refusable, unpadded};
use crate::jose::{Expected, Occasion};
use crate::machine::Repeat;
use crate::{Client, Error, Rotation, Scopes, Secret, ServerMetadata, Token};

impl TokenRequest {
    /// A new token by the refresh token that came with `token`. The scopes of `token` and its server's rotation stay
    /// known. If an ID token comes, it must be of the same sign-in (OpenID Connect Core 1.0, section 12.2): of the same
    /// issuer, user and audience, with the same `auth_time` and no other `nonce`.
    ///
    /// The new token holds the refresh token to use from then on, a new one or the old one.
    ///
    /// # Errors
    ///
    /// If `token` has no refresh token, or is of another server, or if the client is registered at another server.
    pub fn refresh(server: &ServerMetadata, client: &Client, token: &Token) -> Result<Self, Error> {
        token.check_issuer(server.issuer())?;
        let mut request =
            Self::refresh_token(server, client, token.need_refresh_token()?)?.granted(token.scopes().clone());
        if let Some(id_token) = token.id_token() {
            let occasion = Occasion::Refresh(id_token.origin());
            request.asked.id_token = Some(Expected::new(server, client, occasion)?);
        }
        Ok(match token.rotation() {
            Rotation::Unknown => request,
            known => request.rotation(known),
        })
    }

    /// A new token by a refresh token that the program has kept.
    pub fn refresh_token(server: &ServerMetadata, client: &Client, refresh_token: &Secret) -> Result<Self, Error> {
        if refresh_token.is_empty() {
            return Err(Error::config("the refresh token is empty"));
        }
        unpadded("refresh_token", refresh_token.expose())?;
        let mut request = Self::new("refreshing the token", "refresh_token", server, client)?
            .secret("refresh_token", refresh_token)
            .with(|request| request.refuses(Refusable::RefreshToken));
        request.asked.refresh_token = Some(refresh_token.clone());
        Ok(request.rotation(server.rotation()))
    }

    /// Sets the granted scopes: those of the new token, if the server does not name others.
    pub fn granted(mut self, scopes: Scopes) -> Self {
        self.asked.scopes = scopes;
        self
    }

    /// Sets whether the server replaces refresh tokens, as far as that is known. Only if it never replaces them is a
    /// request that may have arrived sent again.
    pub fn rotation(mut self, rotation: Rotation) -> Self {
        self.asked.rotation = rotation;
        self.repeat(match rotation {
            Rotation::Never => Repeat::Freely,
            Rotation::Unknown | Rotation::Rotates => Repeat::OnlyIfUnsent,
        })
    }
}
