//! What to remember until the user is back, and the redirect's answer.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use url::form_urlencoded;

use crate::secret::stored;
use crate::server::{Endpoint, Issuer};
use crate::token::{Deviations, Rotation};
use crate::{Client, Error, ErrorKind, Scopes, Secret, ServerError, Timestamp, TokenRequest};

/// The longest redirect to read.
const MAX_REDIRECT: usize = 64 * 1024;

/// An authorization under way: what was sent, and where its answer may go. It is made before the
/// user leaves and checked against when they come back.
///
/// It is opaque and can be serialized, for a session at the server or an encrypted cookie. It holds
/// secrets: whoever reads it can finish the sign-in, and whoever can write it can choose the server.
/// Keep it bound to the browser that began, use it once, then delete it.
#[derive(Serialize, Deserialize)]
pub struct PendingAuthorization {
    pub(super) version: u8,
    #[serde(with = "stored")]
    pub(super) state: Secret,
    #[serde(with = "stored::option")]
    pub(crate) nonce: Option<Secret>,
    #[serde(with = "stored")]
    pub(crate) code_verifier: Secret,
    pub(crate) issuer: Issuer,
    pub(crate) issuer_aliases: Arc<[String]>,
    pub(super) iss_required: bool,
    pub(crate) token_endpoint: Endpoint,
    pub(crate) client_id: Arc<str>,
    pub(crate) redirect_uri: Arc<str>,
    pub(crate) scopes: Scopes,
    pub(crate) max_age: Option<u64>,
    pub(crate) rotation: Rotation,
    pub(crate) tolerated: Deviations,
    pub(super) made_at: Timestamp,
    pub(super) lifetime: Duration,
}

/// An authorization code that came with the right `state` and from the right server.
pub struct AuthorizationCode(pub(crate) Secret);

impl fmt::Debug for AuthorizationCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AuthorizationCode(..)")
    }
}

impl PendingAuthorization {
    /// Reads what came back and makes of it the request for a token, to the server where this began.
    ///
    /// `redirect` is the whole URL, its query, or the body of a form post (`response_mode=form_post`).
    /// `client` is the one that began. `now` is the wall clock's time.
    ///
    /// # Errors
    ///
    /// As [`receive`](Self::receive), and [`ErrorKind::Config`] for another client.
    pub fn finish(self, client: &Client, redirect: &str, now: Timestamp) -> Result<TokenRequest, Error> {
        let code = self.receive(redirect, now)?;
        self.redeem(client, &code)
    }

    /// Reads what came back and checks it, without using this up: something that is no answer to this
    /// request may come first.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidRedirect`] if it is not the answer to this request, [`ErrorKind::Expired`] if
    /// it comes too late, [`ErrorKind::Authorization`] if it is the server's own error.
    pub fn receive(&self, redirect: &str, now: Timestamp) -> Result<AuthorizationCode, Error> {
        let wrong = |why| Err(not_the_answer(why));
        let answer = Answer::parse(redirect)?;
        // RFC 6749, section 4.1.2.
        match &answer.state {
            Some(state) if self.state.matches(state.expose()) => {}
            Some(_) => return wrong("it belongs to another authorization request (state)"),
            None => return wrong("it has no state"),
        }
        // RFC 9207, section 2.4: before anything else in it is believed.
        match &answer.iss {
            Some(iss) if iss != self.issuer.as_str() => return wrong("it comes from another server (iss)"),
            None if self.iss_required => return wrong("it does not say which server it comes from (iss)"),
            _ => {}
        }
        if now.since(self.made_at) > self.lifetime {
            return Err(Error::new(ErrorKind::Expired, "the sign-in took longer than allowed"));
        }
        match (answer.code, answer.error) {
            (Some(code), None) => Ok(AuthorizationCode(code)),
            (None, Some(error)) => {
                let secrets = [&self.state, &self.code_verifier].map(Secret::clone);
                Err(Error::from_server(ErrorKind::Authorization, error).strike_out(&secrets))
            }
            (Some(_), Some(_)) => wrong("it has both a code and an error"),
            (None, None) => wrong("it has neither a code nor an error"),
        }
    }

    /// Makes the request for a token of a code that was [received](Self::receive).
    pub fn redeem(self, client: &Client, code: &AuthorizationCode) -> Result<TokenRequest, Error> {
        TokenRequest::authorization_code(self, client, code)
    }

    /// The redirect URI that was sent, with its real port.
    pub fn redirect_uri(&self) -> &str {
        &self.redirect_uri
    }

    /// The server that was asked.
    pub fn issuer(&self) -> &Issuer {
        &self.issuer
    }

    /// The moment after which no answer is taken any more.
    pub fn expires_at(&self) -> Timestamp {
        self.made_at + self.lifetime
    }
}

impl fmt::Debug for PendingAuthorization {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PendingAuthorization")
            .field("issuer", &self.issuer)
            .field("client_id", &self.client_id)
            .field("redirect_uri", &self.redirect_uri)
            .field("scopes", &self.scopes)
            .field("made_at", &self.made_at)
            .finish_non_exhaustive()
    }
}

fn not_the_answer(why: &'static str) -> Error {
    Error::new(ErrorKind::InvalidRedirect, why).during("reading what came to the redirect URI", None)
}

/// The parameters of an authorization response (RFC 6749, sections 4.1.2 and 4.1.2.1; RFC 9207).
#[derive(Default)]
struct Answer {
    state: Option<Secret>,
    iss: Option<String>,
    code: Option<Secret>,
    error: Option<ServerError>,
}

impl Answer {
    fn parse(redirect: &str) -> Result<Self, Error> {
        if redirect.len() > MAX_REDIRECT {
            return Err(not_the_answer("it is longer than 64 KiB"));
        }
        let redirect = redirect.trim();
        let query = redirect.split_once('?').map_or(redirect, |(_, query)| query);
        let query = query.split('#').next().unwrap_or_default();
        let (mut answer, mut description, mut uri, mut subtype, mut error) = (Self::default(), None, None, None, None);
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            let again = match &*name {
                "state" => answer.state.replace(value.into_owned().into()).is_some(),
                "code" => answer.code.replace(value.into_owned().into()).is_some(),
                "iss" => answer.iss.replace(value.into_owned()).is_some(),
                "error" => error.replace(value.into_owned()).is_some(),
                "error_description" => description.replace(value.into_owned()).is_some(),
                "error_uri" => uri.replace(value.into_owned()).is_some(),
                "error_subtype" => subtype.replace(value.into_owned()).is_some(),
                _ => false,
            };
            // RFC 6749, section 3.1.
            if again {
                return Err(not_the_answer("it has a parameter twice"));
            }
        }
        answer.state = answer.state.filter(|state| !state.is_empty());
        answer.code = answer.code.filter(|code| !code.is_empty());
        answer.error = error.map(|error| ServerError {
            error,
            error_description: description,
            error_uri: uri,
            error_subtype: subtype,
        });
        Ok(answer)
    }
}
