//! Who we are: the client's identifier, and how it proves it.

use std::fmt;
use std::sync::Arc;

use crate::server::Issuer;
use crate::{Error, ErrorKind, Secret};

/// A client as registered at an authorization server: its identifier and how it authenticates
/// (RFC 6749, section 2). Cheap to clone.
///
/// ```
/// use grantflow::{Client, ClientAuthentication};
///
/// let public = Client::new("native-app");
/// let confidential = Client::new("web-app").authentication(
///     ClientAuthentication::client_secret_basic("s3cret"),
/// );
/// # let _ = (public, confidential);
/// ```
#[derive(Clone)]
pub struct Client(Arc<Inner>);

#[derive(Clone)]
struct Inner {
    id: Arc<str>,
    method: Method,
    issuer: Option<Issuer>,
}

/// How a client proves to be itself at the endpoints it calls directly, by the names registered for
/// `token_endpoint_auth_method` (RFC 7591, section 2).
#[derive(Clone, Debug)]
pub struct ClientAuthentication(Method);

#[derive(Clone, Debug)]
pub(crate) enum Method {
    None,
    Basic { secret: Secret, raw: bool },
    Post(Secret),
}

impl ClientAuthentication {
    /// `none`: a public client, which sends only its `client_id`. The default.
    pub fn none() -> Self {
        Self(Method::None)
    }

    /// `client_secret_basic`: HTTP Basic of the form-encoded id and secret (RFC 6749, section 2.3.1).
    /// A space is sent as `%20`, which every server understands.
    pub fn client_secret_basic(secret: impl Into<Secret>) -> Self {
        Self(Method::Basic { secret: secret.into(), raw: false })
    }

    /// `client_secret_basic` without the form encoding, for servers that do not decode it. It differs
    /// only for ids and secrets that hold more than letters, digits and `*-._`.
    pub fn client_secret_basic_unencoded(secret: impl Into<Secret>) -> Self {
        Self(Method::Basic { secret: secret.into(), raw: true })
    }

    /// `client_secret_post`: id and secret in the body.
    pub fn client_secret_post(secret: impl Into<Secret>) -> Self {
        Self(Method::Post(secret.into()))
    }
}

impl Client {
    /// A public client with this `client_id`.
    pub fn new(id: impl Into<Arc<str>>) -> Self {
        Self(Arc::new(Inner { id: id.into(), method: Method::None, issuer: None }))
    }

    /// Sets how it authenticates.
    pub fn authentication(mut self, authentication: ClientAuthentication) -> Self {
        Arc::make_mut(&mut self.0).method = authentication.0;
        self
    }

    /// Binds it to the server it is registered at: used with any other, it is an error of kind
    /// [`ErrorKind::Issuer`], and nothing is sent. Worth setting wherever metadata is discovered.
    pub fn registered_at(mut self, issuer: Issuer) -> Self {
        Arc::make_mut(&mut self.0).issuer = Some(issuer);
        self
    }

    /// The `client_id`.
    pub fn id(&self) -> &str {
        &self.0.id
    }

    pub(crate) fn is_public(&self) -> bool {
        matches!(self.0.method, Method::None)
    }

    pub(crate) fn shared_id(&self) -> Arc<str> {
        self.0.id.clone()
    }

    pub(crate) fn method(&self) -> &Method {
        &self.0.method
    }

    pub(crate) fn secret(&self) -> Option<&Secret> {
        match &self.0.method {
            Method::None => None,
            Method::Basic { secret, .. } | Method::Post(secret) => Some(secret),
        }
    }

    /// Whether this client's credentials may be shown to that server.
    pub(crate) fn check_issuer(&self, issuer: &Issuer) -> Result<(), Error> {
        match &self.0.issuer {
            Some(own) if own != issuer => {
                Err(Error::new(ErrorKind::Issuer, format!("the client is registered at {own} and not at {issuer}")))
            }
            _ => Ok(()),
        }
    }
}

/// Shows the id and the method, not the secret.
impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("id", &self.0.id).field("method", &self.0.method).finish_non_exhaustive()
    }
}
