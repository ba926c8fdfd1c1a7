//! The grants (RFC 6749, section 4), one file each, all of which make a [`TokenRequest`].

mod authorization_code;
pub(crate) mod ciba;
mod client_credentials;
pub(crate) mod device;
mod exchange;
mod jwt_bearer;
mod password;
mod refresh_token;
mod signature;
mod token_exchange;

use std::sync::Arc;

use serde_json::Value;

use crate::exchange::{Received, Request, at_refresh};
use crate::machine::{Identity, Repeat};
use crate::source::{Change, Want};
use crate::token::{Answered, Asked};
use crate::{Client, Error, Scopes, Secret, ServerMetadata, Token};

use signature::CheckSignature;

pub use exchange::TokenExchange;
pub use token_exchange::token_type;

/// A request to a token endpoint. Each grant has its constructor:
///
/// | grant | constructor | sent again when it may have arrived |
/// |---|---|---|
/// | [RFC 6749, section 4.1](https://www.rfc-editor.org/rfc/rfc6749#section-4.1) | [`PendingAuthorization::finish`](crate::PendingAuthorization::finish), a machine of its own | never: a code is good for one use |
/// | [section 6](https://www.rfc-editor.org/rfc/rfc6749#section-6) | [`TokenRequest::refresh`] | only if the server does not [rotate](crate::Rotation) |
/// | [section 4.4](https://www.rfc-editor.org/rfc/rfc6749#section-4.4) | [`TokenRequest::client_credentials`] | freely |
/// | [RFC 7523, section 2.1](https://www.rfc-editor.org/rfc/rfc7523#section-2.1) | [`TokenRequest::jwt_bearer`] | freely |
/// | [RFC 8693](https://www.rfc-editor.org/rfc/rfc8693) | [`TokenRequest::token_exchange`] | freely |
/// | [RFC 8628](https://www.rfc-editor.org/rfc/rfc8628) | [`DeviceCode::poll`](crate::DeviceCode::poll) | never: the next question comes after a pause |
/// | [CIBA](https://openid.net/specs/openid-client-initiated-backchannel-authentication-core-1_0.html) | [`PendingBackchannel::poll`](crate::PendingBackchannel::poll) | never: the next question comes after a pause |
/// | [section 4.3](https://www.rfc-editor.org/rfc/rfc6749#section-4.3) | [`TokenRequest::password`] | freely |
///
/// [`exchange`](Self::exchange) makes it a machine.
#[derive(Debug)]
pub struct TokenRequest {
    request: Request,
    asked: Asked,
    verifies: bool,
}

impl TokenRequest {
    fn new(doing: &'static str, grant_type: &str, server: &ServerMetadata, client: &Client) -> Result<Self, Error> {
        client.check_issuer(server.issuer())?;
        client.check_own_profile()?;
        let server = &*client.endpoints_of(server)?;
        let mut request = Self::anonymous(doing, grant_type, server)?;
        if let Some(proofs) = client.proofs() {
            client.check_dpop(server)?;
            request = request.with(|request| request.part(Arc::new(proofs.clone())));
            request.asked.dpop = Some(proofs.key().clone());
        }
        request.asked.certificate = client.bound_certificate(server);
        let client = &*client.at(server)?;
        Ok(request.with(|request| request.authenticate(client, server.issuer())))
    }

    /// A request of nobody: what it asks by says who asks.
    fn anonymous(doing: &'static str, grant_type: &str, server: &ServerMetadata) -> Result<Self, Error> {
        Ok(Self {
            request: Request::post(doing, server.token()?).param("grant_type", grant_type),
            asked: Asked { issuer: Some(server.issuer().clone()), tolerated: server.tolerated(), ..Asked::default() },
            verifies: false,
        })
    }

    fn with(mut self, change: impl FnOnce(Request) -> Request) -> Self {
        self.request = change(self.request);
        self
    }

    fn repeat(self, repeat: Repeat) -> Self {
        self.with(|request| request.repeat(repeat))
    }

    pub(crate) fn secret(self, name: &'static str, value: &Secret) -> Self {
        self.with(|request| request.secret(name, value))
    }

    /// Asks for these scopes (RFC 6749, section 3.3). A refresh can only ask for fewer than were granted.
    pub fn scopes(mut self, scopes: impl Into<Scopes>) -> Self {
        self.asked.scopes = scopes.into();
        let scopes = self.asked.scopes.clone();
        self.with(|request| match scopes.check() {
            Ok(()) => request.param("scope", scopes.as_str()),
            Err(error) => request.fail(error),
        })
    }

    /// Adds a resource that the token is for, by its address; may be called several times (RFC 8707, section 2.2).
    pub fn resource(self, resource: &str) -> Self {
        self.with(|request| match check_resource(resource) {
            Ok(()) => request.param("resource", resource),
            Err(error) => request.fail(error),
        })
    }

    /// Adds what the token is for, by the name that the server gives it; may be called several times.
    pub fn audience(self, audience: &str) -> Self {
        self.with(|request| request.param("audience", audience))
    }

    /// `authorization_details`: what the token is to be good for, in detail, as an array of objects with a `type` each (RFC 9396,
    /// section 6). [`Token::authorization_details`] tells what was granted.
    pub fn authorization_details(self, details: &Value) -> Self {
        self.details_text(&details.to_string())
    }

    fn details_text(self, details: &str) -> Self {
        self.with(|request| match check_details(details) {
            Ok(()) => request.param("authorization_details", details),
            Err(error) => request.fail(error),
        })
    }

    /// What a want names: scopes, audience, resource.
    pub(crate) fn wanted(self, want: &Want) -> Self {
        let scopes = want.scopes();
        let request = if scopes.is_empty() { self } else { self.scopes(scopes) };
        request.wanted_for(want)
    }

    /// The same without scopes.
    pub(crate) fn wanted_for(self, want: &Want) -> Self {
        let request = want.wanted_audience().into_iter().fold(self, Self::audience);
        let request = want.wanted_authorization_details().into_iter().fold(request, Self::details_text);
        want.wanted_resources().fold(request, Self::resource)
    }

    /// Adds a parameter of the server's own. Parameters of grants and of client authentication cannot be set by this.
    pub fn extra(self, name: &str, value: &str) -> Self {
        self.with(|request| request.extra(name, value))
    }

    /// Shows this certificate with the request: see [`Request::identity`].
    pub(crate) fn identity(self, identity: Identity) -> Self {
        self.with(|request| request.identity(identity))
    }

    /// Checks the signature of the ID token that comes with a [`refresh`](Self::refresh) by the server's keys, as
    /// [`AuthorizationRequest::verify_id_token_signature`](crate::AuthorizationRequest::verify_id_token_signature) does
    /// at the sign-in. The keys are read before the refresh token is used, but an error of kind
    /// [`ErrorKind::Signature`](crate::ErrorKind::Signature) comes after that: the refresh token to use from then on is
    /// in the exchange's [`take_change`](crate::source::Minting::take_change).
    ///
    /// The server's metadata must have a `jwks_uri`. A refresh that brings no ID token, or that expects none, is no
    /// error.
    pub fn verify_id_token_signature(mut self) -> Self {
        self.verifies = true;
        self
    }

    /// The machine that sends the request and reads the token.
    pub fn exchange(self) -> TokenExchange {
        let Self { mut request, asked, verifies } = self;
        let mut signature = None;
        if let Some(expected) = asked.id_token.as_ref().filter(|_| verifies) {
            match expected.keys() {
                Ok(None) => {}
                Ok(Some(jwks_uri)) => {
                    let (algorithms, aliases) = (expected.algorithms(), expected.aliases.clone());
                    signature = Some(Box::new(CheckSignature::new(jwks_uri, algorithms, aliases)));
                }
                Err(error) => request = request.fail(error),
            }
        }
        let exchange = request.exchange(move |received| {
            let mut answered = asked.parse(received)?;
            if let Ok(token) = &answered.outcome {
                answered.successor = asked.successor(token);
            }
            Ok(answered)
        });
        TokenExchange::new(exchange, signature)
    }

    /// The request and its parse function, for a caller that sends requests in its own way.
    ///
    /// The function takes answers with status 2xx. A token holds the refresh token to use from then on. With an error
    /// comes the successor of the refresh token that was used, if the answer had one: keep it whatever the error is.
    /// The function checks no [signatures](Self::verify_id_token_signature) of ID tokens: a request that demands one is
    /// an error.
    pub fn into_parts(self) -> (Request, impl Fn(Received<'_>) -> (Result<Token, Error>, Change) + Send + 'static) {
        let Self { mut request, asked, verifies } = self;
        if verifies {
            request =
                request.fail(Error::config("the signature of an ID token is checked by TokenRequest::exchange alone"));
        }
        let secrets = request.secrets().to_vec();
        let parse = move |received: Received<'_>| match asked.parse(received) {
            Ok(Answered { outcome, successor }) => {
                let change = successor.map(|(used, new)| Change::successor(&used, new)).unwrap_or_default();
                (outcome.map_err(|error| error.strike_out(&secrets)), change)
            }
            Err(error) => {
                let refresh = asked.refresh_token.is_some();
                let error = if refresh { at_refresh(error, received.response) } else { error };
                (Err(error.strike_out(&secrets)), Change::default())
            }
        };
        (request, parse)
    }
}

/// Whether this is an array of objects that have a `type` each (RFC 9396, section 2).
pub(crate) fn check_details(details: &str) -> Result<(), Error> {
    let is_typed =
        |each: &Value| each.get("type").is_some_and(|kind| kind.as_str().is_some_and(|kind| !kind.is_empty()));
    match serde_json::from_str(details) {
        Ok(Value::Array(all)) if !all.is_empty() && all.iter().all(is_typed) => Ok(()),
        _ => Err(Error::config(
            "authorization_details is no JSON array of objects that have a type each (RFC 9396, section 2)",
        )),
    }
}

/// Whether this may name a protected resource (RFC 8707, section 2: an absolute URI without a fragment). Some servers
/// take identifiers that are no URI, so that only what no URI holds is refused.
pub(crate) fn check_resource(resource: &str) -> Result<(), Error> {
    if resource.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#') {
        return Ok(());
    }
    Err(Error::config("the resource holds a fragment, a space or a character outside of ASCII (RFC 8707, section 2)"))
}
