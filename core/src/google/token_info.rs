//! Google's information about a token (`tokeninfo`). For debugging: Google may throttle it.

use std::time::Duration;

use crate::exchange::{Request, error_under_success};
use crate::jose::Claims;
use crate::machine::Repeat;
use crate::server::Endpoint;
use crate::{Error, ErrorKind, Exchange, Scopes, Secret, ServerError, Timestamp};

const ENDPOINT: &str = "https://oauth2.googleapis.com/tokeninfo";

/// Google's information about an access token or an ID token that is good.
#[derive(Clone, Debug)]
pub struct TokenInfo {
    claims: Claims,
    expires_at: Option<Timestamp>,
}

impl TokenInfo {
    /// The machine that asks about an access token. If the token is not good, it ends with an error of kind
    /// [`ErrorKind::Server`] with the code `invalid_token`.
    pub fn of_access_token(token: &Secret) -> Result<Exchange<Self>, Error> {
        Self::of("access_token", token, ENDPOINT)
    }

    /// The machine that asks about an ID token of Google's.
    pub fn of_id_token(token: &Secret) -> Result<Exchange<Self>, Error> {
        Self::of("id_token", token, ENDPOINT)
    }

    /// The machine that asks at another address: `kind` is `access_token` or `id_token`.
    pub fn at(endpoint: &str, kind: &'static str, token: &Secret) -> Result<Exchange<Self>, Error> {
        Self::of(kind, token, endpoint)
    }

    /// The token goes in the body: addresses are logged.
    fn of(kind: &'static str, token: &Secret, endpoint: &str) -> Result<Exchange<Self>, Error> {
        let request = Request::post("asking about the token", &Endpoint::new(endpoint)?).repeat(Repeat::Freely);
        let exchange = request.secret(kind, token).exchange(|received| {
            let claims = Claims::read(received.response.body())
                .ok_or_else(|| Error::new(ErrorKind::InvalidResponse, "the answer is no JSON object"))?;
            error_under_success(received.response.body()).map_or(Ok(()), Err)?;
            let seconds = |name| claims.str(name).map_or_else(|| claims.get(name)?.as_u64(), |text| text.parse().ok());
            let expires_at = match (seconds("exp"), seconds("expires_in")) {
                (Some(exp), _) => i64::try_from(exp).ok().map(Timestamp::from_unix),
                (None, Some(left)) => Some(received.sent + Duration::from_secs(left)),
                (None, None) => None,
            };
            Ok(Self { claims, expires_at })
        });
        Ok(exchange.rescue(|error| match (error.status(), error.server()) {
            // It was seen to answer so without a code.
            (Some(400), None) => Err(Error::from_server(ErrorKind::Server, ServerError::invalid_token())
                .with_status(400)
                .during("asking about the token", None)),
            _ => Err(error),
        }))
    }

    /// All members of the answer. Numbers and truth values are texts here.
    pub fn claims(&self) -> &Claims {
        &self.claims
    }

    /// The client that the token is for (`aud`).
    pub fn audience(&self) -> Option<&str> {
        self.claims.str("aud").or_else(|| self.claims.str("audience"))
    }

    /// The scopes of the token.
    pub fn scopes(&self) -> Scopes {
        self.claims.str("scope").map(Scopes::from).unwrap_or_default()
    }

    /// When the token expires.
    pub fn expires_at(&self) -> Option<Timestamp> {
        self.expires_at
    }

    /// The user (`sub`).
    pub fn subject(&self) -> Option<&str> {
        self.claims.str("sub").or_else(|| self.claims.str("user_id"))
    }

    /// The user's address, if it is verified.
    pub fn verified_email(&self) -> Option<&str> {
        let verified = self.claims.bool("email_verified").or_else(|| self.claims.bool("verified_email"));
        self.claims.str("email").filter(|_| verified == Some(true))
    }
}
