//! The request of a client that registers itself (RFC 7591, section 3.1).

use std::fmt;

use zeroize::Zeroizing;

use super::{ClientMetadata, RegisteredClient};
use crate::exchange::Request;
use crate::machine::{Reach, Repeat};
use crate::{Endpoint, Error, Exchange, Issuer, Secret, ServerMetadata};

/// The most bytes of an answer.
pub(super) const MAX_ANSWER: usize = 256 * 1024;

/// A request to register a client at a server.
///
/// ```
/// use grantflow::register::{ClientMetadata, Registration};
/// use grantflow::{Client, Error, Machine, ServerMetadata};
///
/// # fn run<M: Machine>(_: M) -> Result<M::Output, Error> { Err(Error::new(grantflow::ErrorKind::Config, "")) }
/// fn client(server: &ServerMetadata) -> Result<(Client, ServerMetadata), Error> {
///     let metadata = ClientMetadata::new()
///         .client_name("Calendar")
///         .redirect_uris(["https://calendar.example/callback"])
///         .token_endpoint_auth_method("client_secret_basic");
///     let registered = run(Registration::new(server, metadata)?.exchange())?;
///     for change in registered.changes() {
///         println!("the server has changed {}", change.name);
///     }
///     Ok((registered.client()?, registered.server(server)?))
/// }
/// ```
#[derive(Clone)]
pub struct Registration {
    server: ServerMetadata,
    endpoint: Endpoint,
    metadata: ClientMetadata,
    initial_access_token: Option<Secret>,
}

impl Registration {
    /// A request to register a client with this metadata.
    ///
    /// # Errors
    ///
    /// If the server's metadata has no `registration_endpoint`; if no server can register the client's metadata: it has
    /// both `jwks` and `jwks_uri`, a private key, a redirect URI that no client may have, or none where one is needed.
    pub fn new(server: &ServerMetadata, metadata: ClientMetadata) -> Result<Self, Error> {
        metadata.check()?;
        let endpoint = server.registration()?.clone();
        Ok(Self { server: server.clone(), endpoint, metadata, initial_access_token: None })
    }

    /// Sets the access token of the request, for servers that do not let every client register (RFC 7591, section 3).
    pub fn initial_access_token(mut self, token: impl Into<Secret>) -> Self {
        self.initial_access_token = Some(token.into());
        self
    }

    /// The server that the request is for.
    pub fn issuer(&self) -> &Issuer {
        self.server.issuer()
    }

    pub(crate) fn server(&self) -> &ServerMetadata {
        &self.server
    }

    pub(crate) fn metadata(&self) -> &ClientMetadata {
        &self.metadata
    }

    /// The machine that registers the client. It sends the request once, unless that surely did not arrive: two
    /// requests would register two clients.
    pub fn exchange(self) -> Exchange<RegisteredClient> {
        let Self { server, endpoint, metadata, initial_access_token } = self;
        let request = Request::post(DOING, &endpoint).repeat(Repeat::OnlyIfUnsent).max_body(MAX_ANSWER);
        let request = request.json(&metadata);
        let request = initial_access_token.iter().fold(request, bearer);
        let (issuer, global) = (server.issuer().clone(), endpoint.reach() == Reach::Global);
        request.exchange(move |received| RegisteredClient::parse(received, &issuer, global, &metadata))
    }
}

const DOING: &str = "registering the client";

/// Shows a token as its bearer (RFC 6750, section 2.1).
pub(super) fn bearer(request: Request, token: &Secret) -> Request {
    let mut value = Zeroizing::new(String::with_capacity(token.expose().len().saturating_add(7)));
    value.push_str("Bearer ");
    value.push_str(token.expose());
    request.secret_header("authorization", &Secret::from(value.as_str()))
}

/// Shows whose it is and what is told.
impl fmt::Debug for Registration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registration")
            .field("issuer", self.issuer())
            .field("metadata", &self.metadata)
            .finish_non_exhaustive()
    }
}
