//! The refresh token grant (RFC 6749, section 6).

use super::TokenRequest;
use crate::exchange::{Refusable, unpadded};
use crate::jose::{Expected, Occasion};
use crate::machine::Repeat;
use crate::{Client, Error, Rotation, Scopes, Secret, ServerMetadata, Token};

impl TokenRequest {
    /// A new token by the refresh token that came with `token`. What is known of `token` holds on: its
    /// scopes, the habit of its server, and the sign-in, of which another ID token must be if one comes (OpenID Connect Core
    /// 1.0, section 12.2): of the same issuer, user and audience, with the same `auth_time` and no other `nonce`.
    ///
    /// The new token has the refresh token to use from then on, be it a new one or the old.
    ///
    /// # Errors
    ///
    /// If `token` came without a refresh token, or from another server, or if the client is registered at another.
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

    /// A new token by a refresh token that was kept.
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

    /// What was granted: the scopes of the new token, if the server does not say otherwise.
    pub fn granted(mut self, scopes: Scopes) -> Self {
        self.asked.scopes = scopes;
        self
    }

    /// What is known of the server's habit with refresh tokens. Only if it never replaces them is the
    /// request sent again when it may have arrived.
    pub fn rotation(mut self, rotation: Rotation) -> Self {
        self.asked.rotation = rotation;
        self.repeat(match rotation {
            Rotation::Never => Repeat::Freely,
            Rotation::Unknown | Rotation::Rotates => Repeat::OnlyIfUnsent,
        })
    }
}
