//! Who we are: the client's identifier, and how it proves it.

mod assertion;

use std::fmt;
use std::sync::Arc;

pub(crate) use assertion::Assertion;

use assertion::AssertionKey;

use crate::crypto::Signer;
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
    PrivateKeyJwt(AssertionKey),
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

    /// `private_key_jwt`: an assertion that is signed anew for each try (RFC 7523, section 2.2), by a key that may be
    /// [far away](Signer). It is good for the server's issuer alone (RFC 10070), so that no other server can use it.
    ///
    /// ```
    /// use grantflow::crypto::Signer;
    /// use grantflow::{Client, ClientAuthentication};
    ///
    /// fn client(key: impl Signer + 'static) -> Client {
    ///     Client::new("web-app").authentication(ClientAuthentication::private_key_jwt(key))
    /// }
    /// ```
    pub fn private_key_jwt(signer: impl Signer + 'static) -> Self {
        Self(Method::PrivateKeyJwt(AssertionKey::new(Arc::new(signer))))
    }

    /// `private_key_jwt` for a server that takes an assertion only if it names another audience than the issuer,
    /// such as the token endpoint. The client must be [registered at](Client::registered_at) one server: at any
    /// other its assertions could be taken and used at this one (CVE-2025-27370, CVE-2025-27371). Never take the
    /// audience from a server's metadata.
    pub fn private_key_jwt_with_legacy_audience(signer: impl Signer + 'static, audience: impl Into<Arc<str>>) -> Self {
        Self(Method::PrivateKeyJwt(AssertionKey::legacy(Arc::new(signer), audience.into())))
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
            Method::None | Method::PrivateKeyJwt(_) => None,
            Method::Basic { secret, .. } | Method::Post(secret) => Some(secret),
        }
    }

    pub(crate) fn issuer(&self) -> Option<&Issuer> {
        self.0.issuer.as_ref()
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
        f.debug_struct("Client")
            .field("id", &crate::Shown::name(&self.0.id))
            .field("method", &self.0.method)
            .finish_non_exhaustive()
    }
}
