//! Token exchange (RFC 8693): one token for another, such as one of another kind, for another audience, or on behalf of
//! another user.

use super::TokenRequest;
use crate::exchange::Request;
use crate::machine::Repeat;
use crate::{Client, Error, Secret, ServerMetadata};

/// Identifiers of kinds of tokens (RFC 8693, section 3).
pub mod token_type {
    /// An access token of the server that exchanges it.
    pub const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";
    /// A refresh token of the server that exchanges it.
    pub const REFRESH_TOKEN: &str = "urn:ietf:params:oauth:token-type:refresh_token";
    /// An ID token (OpenID Connect Core 1.0, section 2).
    pub const ID_TOKEN: &str = "urn:ietf:params:oauth:token-type:id_token";
    /// A SAML 1.1 assertion in base64url.
    pub const SAML1: &str = "urn:ietf:params:oauth:token-type:saml1";
    /// A SAML 2.0 assertion in base64url.
    pub const SAML2: &str = "urn:ietf:params:oauth:token-type:saml2";
    /// An assertion about a user, for the server of another domain (draft-ietf-oauth-identity-assertion-authz-grant,
    /// section 3).
    pub const ID_JAG: &str = "urn:ietf:params:oauth:token-type:id-jag";
    /// A JWT of any kind.
    pub const JWT: &str = "urn:ietf:params:oauth:token-type:jwt";
}

impl TokenRequest {
    /// Another token for `subject_token`, which is of the kind `subject_token_type` (RFC 8693, section 2.1): see
    /// [`token_type`]. [`audience`](Self::audience), [`resource`](Self::resource) and [`scopes`](Self::scopes) say what
    /// the new token is for.
    ///
    /// [`Token::issued_token_type`](crate::Token::issued_token_type) is the type of the new token. One that is no
    /// access token has the type [`TokenType::NotApplicable`](crate::TokenType::NotApplicable), and no header takes it.
    ///
    /// ```
    /// use grantflow::{Client, ClientAuthentication, Issuer, Secret, ServerMetadata, TokenRequest, token_type};
    ///
    /// # let server = ServerMetadata::new(Issuer::new("https://as.example")?).token_endpoint("https://as.example/token")?;
    /// # let client = Client::new("batch").authentication(ClientAuthentication::client_secret_basic("s3cret"));
    /// let subject_token = Secret::from("the token of a user who called this service");
    /// let request = TokenRequest::token_exchange(&server, &client, &subject_token, token_type::ACCESS_TOKEN)?
    ///     .audience("orders")
    ///     .scopes("orders.read");
    /// let machine = request.exchange();
    /// # let _ = machine;
    /// # Ok::<(), grantflow::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// If the token or its type is empty, or if the client is registered at another server. The subject token may be
    /// any server's.
    pub fn token_exchange(
        server: &ServerMetadata,
        client: &Client,
        subject_token: &Secret,
        subject_token_type: &str,
    ) -> Result<Self, Error> {
        Self::token_exchange_of(server, Some(client), subject_token, subject_token_type)
    }

    /// The same of a client that need not say who it is.
    pub(crate) fn token_exchange_of(
        server: &ServerMetadata,
        client: Option<&Client>,
        subject_token: &Secret,
        subject_token_type: &str,
    ) -> Result<Self, Error> {
        if subject_token.is_empty() || subject_token_type.is_empty() {
            return Err(Error::config("the subject token or its type is empty (RFC 8693, section 2.1)"));
        }
        let (doing, grant_type) = ("exchanging a token", "urn:ietf:params:oauth:grant-type:token-exchange");
        let request = match client {
            Some(client) => Self::new(doing, grant_type, server, client)?,
            None => Self::anonymous(doing, grant_type, server)?,
        };
        let mut request = request
            .secret("subject_token", subject_token)
            .with(|request| request.param("subject_token_type", subject_token_type))
            .repeat(Repeat::Freely);
        request.asked.token_exchange = true;
        Ok(request)
    }

    /// Sets who acts for the subject of a [`token_exchange`](Self::token_exchange), by a token of that party and its
    /// kind (RFC 8693, section 2.1).
    pub fn actor_token(self, actor_token: &Secret, actor_token_type: &str) -> Self {
        if actor_token.is_empty() || actor_token_type.is_empty() {
            return self
                .with(|it| it.fail(Error::config("the actor token or its type is empty (RFC 8693, section 2.1)")));
        }
        self.secret("actor_token", actor_token)
            .of_token_exchange(|request| request.param("actor_token_type", actor_token_type))
    }

    /// Sets the kind of token that a [`token_exchange`](Self::token_exchange) asks for: see [`token_type`]. By default
    /// the server chooses.
    pub fn requested_token_type(self, kind: &str) -> Self {
        self.of_token_exchange(|request| request.param("requested_token_type", kind))
    }

    fn of_token_exchange(self, change: impl FnOnce(Request) -> Request) -> Self {
        if self.asked.token_exchange {
            return self.with(change);
        }
        self.with(|request| request.fail(Error::config("only a token exchange has an actor and a requested type")))
    }
}
