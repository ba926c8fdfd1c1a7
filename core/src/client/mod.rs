//! The client: its identifier, and how it authenticates.

mod assertion;
mod certificate;
mod fapi;
mod id_tokens;
mod known;

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

pub(crate) use assertion::Assertion;
pub use certificate::x5t_s256;
pub(crate) use fapi::{FAPI_ALGORITHMS, check_algorithm, lacks};
pub(crate) use id_tokens::{IdTokens, SignedBy};

use assertion::{AppleKey, AssertionKey, AssertionKeys, AssertionSecret};

use crate::crypto::{Algorithm, MacAlgorithm, Signer};
use crate::dpop::{DpopKey, Proofs};
use crate::machine::Identity;
use crate::server::{Issuer, ServerMetadata};
use crate::{Error, ErrorKind, Secret};

/// What a server's metadata say that binds tokens to certificates (RFC 8705, section 3.3).
pub(crate) const CERTIFICATE_BOUND: &str = "tls_client_certificate_bound_access_tokens";

/// A client as registered at an authorization server: its identifier, and how it authenticates (RFC 6749, section 2).
/// Cheap to clone.
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
    /// The same as a form holds it.
    encoded_id: Arc<str>,
    method: Method,
    /// Whether a server can know this id and its secret.
    checked: Result<(), Error>,
    issuer: Option<Issuer>,
    /// The certificate that it presents, where it authenticates by none.
    identity: Option<Identity>,
    /// What its ID tokens are like.
    id_tokens: IdTokens,
    /// What makes the proofs of its token requests.
    dpop: Option<Proofs>,
    /// Whether it is held to the FAPI 2.0 Security Profile.
    fapi: bool,
    /// Whether its authorization requests, and their answers, must be signed.
    message_signing: bool,
}

/// The method by which a client authenticates at the endpoints that it calls itself. The constructors have the names
/// that are registered for `token_endpoint_auth_method` (RFC 7591, section 2).
#[derive(Clone, Debug)]
pub struct ClientAuthentication(Method);

#[derive(Clone, Debug)]
pub(crate) enum Method {
    None,
    Basic { secret: Secret, raw: bool },
    Post(Secret),
    PrivateKeyJwt(AssertionKey),
    PrivateKeyJwtOfAny(AssertionKeys),
    SecretJwt(AssertionSecret),
    Apple(AppleKey),
    TlsClientAuth(Identity),
    SelfSignedTlsClientAuth(Identity),
}

impl Method {
    /// Its name (RFC 7591, section 2).
    fn name(&self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Basic { .. } => "client_secret_basic",
            Self::Post(_) | Self::Apple(_) => "client_secret_post",
            Self::PrivateKeyJwt(_) | Self::PrivateKeyJwtOfAny(_) => "private_key_jwt",
            Self::SecretJwt(_) => "client_secret_jwt",
            Self::TlsClientAuth(_) => "tls_client_auth",
            Self::SelfSignedTlsClientAuth(_) => "self_signed_tls_client_auth",
        }
    }

    /// The algorithm of its assertions, where it is known before the server is.
    fn algorithm(&self) -> Option<Algorithm> {
        match self {
            Self::PrivateKeyJwt(key) => key.algorithm(),
            _ => None,
        }
    }
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
    /// [remote](Signer). Its audience is the server's issuer alone (RFC 10070), so that no other server can use it.
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

    /// `private_key_jwt` with several keys. The client signs by the key whose algorithm is the best of those that the
    /// server's metadata names (`token_endpoint_auth_signing_alg_values_supported`): PS256, ES256, EdDSA, others, and
    /// RS256 last.
    ///
    /// ```
    /// use grantflow::crypto::SigningKey;
    /// use grantflow::{Client, ClientAuthentication, Error};
    ///
    /// fn client(pem: &str) -> Result<Client, Error> {
    ///     let keys = SigningKey::each_from_pem(pem)?;
    ///     Ok(Client::new("web-app").authentication(ClientAuthentication::private_key_jwt_of_any(keys)))
    /// }
    /// ```
    pub fn private_key_jwt_of_any<S: Signer + 'static>(signers: impl IntoIterator<Item = S>) -> Self {
        let signers = signers.into_iter().map(|signer| Arc::new(signer) as Arc<dyn Signer>);
        Self(Method::PrivateKeyJwtOfAny(AssertionKeys::new(signers)))
    }

    /// `client_secret_jwt`: an assertion by HS256 with the secret (RFC 7523, section 2.2; OpenID Connect Core 1.0,
    /// section 9). The secret itself is not sent. It must have at least 32 bytes (RFC 7518, section 3.2): a shorter one
    /// is an error where it is used. The audience is the issuer alone, as with
    /// [`private_key_jwt`](Self::private_key_jwt).
    pub fn client_secret_jwt(secret: impl Into<Secret>) -> Self {
        Self(Method::SecretJwt(AssertionSecret { secret: secret.into(), legacy: None }))
    }

    /// `client_secret_jwt` for a server that wants another audience than the issuer: see
    /// [`private_key_jwt_with_legacy_audience`](Self::private_key_jwt_with_legacy_audience).
    pub fn client_secret_jwt_with_legacy_audience(secret: impl Into<Secret>, audience: impl Into<Arc<str>>) -> Self {
        Self(Method::SecretJwt(AssertionSecret { secret: secret.into(), legacy: Some(audience.into()) }))
    }

    /// Apple's client secret: a JWT that is signed by ES256 with the key that Apple gave to the team `team_id`, and
    /// sent as `client_secret` in the body. The key must have a name, its `key_id`. Each try makes a new secret that
    /// lives for two minutes; Apple would take one for six months, which would have to be renewed, and could be lost.
    /// The secret goes to `https://appleid.apple.com` alone: at any other server, which could use it at Apple, it is an
    /// error of kind [`ErrorKind::Issuer`].
    ///
    /// ```
    /// use grantflow::crypto::{Algorithm, SigningKey};
    /// use grantflow::{Client, ClientAuthentication, Error};
    ///
    /// fn client(p8: &str) -> Result<Client, Error> {
    ///     let key = SigningKey::from_pem(Algorithm::ES256, p8)?.with_key_id("ABC123DEFG");
    ///     Ok(Client::new("com.example.web").authentication(ClientAuthentication::apple("DEF123GHIJ", key)))
    /// }
    /// ```
    pub fn apple(team_id: impl Into<Arc<str>>, signer: impl Signer + 'static) -> Self {
        Self(Method::Apple(AppleKey { team_id: team_id.into(), signer: Arc::new(signer) }))
    }

    /// `tls_client_auth`: a client certificate that is signed by an authority which the server trusts, and whose
    /// subject is registered for the client (RFC 8705, section 2.1). It needs a driver that obeys
    /// [`Rules::IDENTITY`](crate::machine::Rules::IDENTITY): another driver sends nothing.
    ///
    /// A server may have other endpoints for clients that present a certificate; they are used where its metadata names
    /// them (section 5). Access tokens may be good only together with the certificate (section 3).
    ///
    /// ```
    /// use grantflow::machine::Identity;
    /// use grantflow::{Client, ClientAuthentication};
    ///
    /// // The driver's builder has the files: `identity_files("web-app", "tls.crt", "tls.key")`.
    /// let client = Client::new("web-app")
    ///     .authentication(ClientAuthentication::tls_client_auth(Identity::named("web-app")));
    /// # let _ = client;
    /// ```
    pub fn tls_client_auth(identity: Identity) -> Self {
        Self(Method::TlsClientAuth(identity))
    }

    /// `self_signed_tls_client_auth`: as [`tls_client_auth`](Self::tls_client_auth), with a certificate that is itself
    /// registered, in the client's JWK set, and needs no authority (RFC 8705, section 2.2).
    pub fn self_signed_tls_client_auth(identity: Identity) -> Self {
        Self(Method::SelfSignedTlsClientAuth(identity))
    }

    /// The name of the method, as it is registered for `token_endpoint_auth_method` (RFC 7591, section 2).
    pub fn name(&self) -> &'static str {
        self.0.name()
    }
}

impl Client {
    /// A public client with this `client_id`.
    pub fn new(id: impl Into<Arc<str>>) -> Self {
        Self(Arc::new(Inner::new(id.into(), Method::None)))
    }

    /// Sets how the client authenticates.
    pub fn authentication(mut self, authentication: ClientAuthentication) -> Self {
        Arc::make_mut(&mut self.0).authenticate(authentication.0);
        self
    }

    /// Presents this certificate at each endpoint that the client calls itself, also if the client authenticates in
    /// another way or not at all. Its tokens are then good only together with the certificate (RFC 8705, sections 3 and
    /// 4). A client that [authenticates](ClientAuthentication::tls_client_auth) by a certificate presents that one.
    pub fn identity(mut self, identity: Identity) -> Self {
        Arc::make_mut(&mut self.0).identity = Some(identity);
        self
    }

    /// Binds the client's tokens to this key (RFC 9449). Each token request of the client shows a proof, for a code, a
    /// device, a refresh or the client itself. Authorization codes are bound too (`dpop_jkt`, section 10), and so are
    /// the refresh tokens of a public client. A bearer token in the answer is refused.
    ///
    /// A grant that was given to one key is of no use with another: see [`DpopKey`].
    pub fn dpop(mut self, key: DpopKey) -> Self {
        Arc::make_mut(&mut self.0).dpop = Some(Proofs::of_key(&key));
        self
    }

    /// The key that the client's tokens are bound to.
    pub fn dpop_key(&self) -> Option<&DpopKey> {
        self.proofs().map(Proofs::key)
    }

    pub(crate) fn proofs(&self) -> Option<&Proofs> {
        self.0.dpop.as_ref()
    }

    /// Whether that server, as far as it says, takes proofs of the client's key (RFC 9449, section 5.1).
    pub(crate) fn check_dpop(&self, server: &ServerMetadata) -> Result<(), Error> {
        let Some(key) = self.dpop_key() else { return Ok(()) };
        let Some(named) = server.algorithms("dpop_signing_alg_values_supported") else { return Ok(()) };
        let own = key.algorithm();
        if named.into_iter().any(|name| Algorithm::from_name(name) == Some(own)) {
            return Ok(());
        }
        Err(Error::config(format!("the server takes no DPoP proofs by {own} (dpop_signing_alg_values_supported)")))
    }

    /// Binds the client to the server that it is registered at: at any other server it is an error of kind
    /// [`ErrorKind::Issuer`], and nothing is sent. Set it wherever metadata is discovered.
    pub fn registered_at(mut self, issuer: Issuer) -> Self {
        Arc::make_mut(&mut self.0).issuer = Some(issuer);
        self
    }

    /// `id_token_signed_response_alg`: the algorithm that the client is registered for (OpenID Connect Dynamic Client
    /// Registration 1.0, section 2). An ID token by any other algorithm is refused (Core 1.0, section 3.1.3.7, rule 7).
    /// By default every algorithm with a public key is taken.
    pub fn id_token_signed_response_alg(mut self, algorithm: Algorithm) -> Self {
        Arc::make_mut(&mut self.0).id_tokens.signed = Some(SignedBy::Key(algorithm));
        self
    }

    /// `authorization_signed_response_alg`: the algorithm of signed authorization answers that the client is registered
    /// for (JARM, section 3). An answer by any other algorithm is refused. By default every algorithm with a public key
    /// is taken.
    pub fn authorization_signed_response_alg(mut self, algorithm: Algorithm) -> Self {
        Arc::make_mut(&mut self.0).id_tokens.answers = Some(algorithm);
        self
    }

    /// By which algorithm authorization answers are signed, if that is known.
    pub(crate) fn authorization_signed_response(&self) -> Option<Algorithm> {
        self.0.id_tokens.answers
    }

    /// Says that the client is registered for ID tokens that are signed by its own secret (`HS256`; OpenID Connect Core
    /// 1.0, section 3.1.3.7, rule 8). Their signatures are always checked, since no key must be read for it. See
    /// [`id_token_signed_response_alg`](Self::id_token_signed_response_alg).
    ///
    /// The client must [authenticate](Self::authentication) by a secret that is long enough for the algorithm (RFC
    /// 7518, section 3.2). Otherwise it is an error of kind [`ErrorKind::Config`] where an ID token is asked for.
    pub fn id_token_signed_by_secret(mut self, algorithm: MacAlgorithm) -> Self {
        Arc::make_mut(&mut self.0).id_tokens.signed = Some(SignedBy::Secret(algorithm));
        self
    }

    /// Accepts ID tokens that name this audience besides the client (`aud`), if they say that this client asked for
    /// them (`azp`; rules 3 to 5): for servers that name a project or an API too. Call it once for each further
    /// audience.
    pub fn trusted_audience(mut self, audience: &str) -> Self {
        Arc::make_mut(&mut self.0).id_tokens.audiences.push(audience.into());
        self
    }

    /// The `client_id`.
    pub fn id(&self) -> &str {
        &self.0.id
    }

    /// The same without its proof, except for the certificate that it presents.
    pub(crate) fn without_authentication(&self) -> Self {
        let identity = self.presents().cloned();
        Self(Arc::new(Inner { identity, ..Inner::new(self.shared_id(), Method::None) }))
    }

    /// What its ID tokens are like.
    pub(crate) fn id_tokens(&self) -> &IdTokens {
        &self.0.id_tokens
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
            Method::None
            | Method::PrivateKeyJwt(_)
            | Method::PrivateKeyJwtOfAny(_)
            | Method::Apple(_)
            | Method::TlsClientAuth(_)
            | Method::SelfSignedTlsClientAuth(_) => None,
            Method::Basic { secret, .. } | Method::Post(secret) => Some(secret),
            Method::SecretJwt(key) => Some(key.secret()),
        }
    }

    /// The certificate that it presents.
    pub(crate) fn presents(&self) -> Option<&Identity> {
        match &self.0.method {
            Method::TlsClientAuth(identity) | Method::SelfSignedTlsClientAuth(identity) => Some(identity),
            _ => self.0.identity.as_ref(),
        }
    }

    /// The thumbprint of the certificate that this server binds its tokens to, if both are known.
    pub(crate) fn bound_certificate(&self, server: &ServerMetadata) -> Option<Box<str>> {
        let identity = self.presents()?;
        if !server.says(CERTIFICATE_BOUND) {
            return None;
        }
        identity.x5t_s256().map(Into::into)
    }

    /// The same with the one of its keys that it uses at this server.
    pub(crate) fn at(&self, server: &ServerMetadata) -> Result<Cow<'_, Self>, Error> {
        let Method::PrivateKeyJwtOfAny(keys) = &self.0.method else { return Ok(Cow::Borrowed(self)) };
        let mut client = self.clone();
        Arc::make_mut(&mut client.0).authenticate(Method::PrivateKeyJwt(keys.at(server)?.clone()));
        Ok(Cow::Owned(client))
    }

    /// The server with the endpoints that it has for this client: those of `mtls_endpoint_aliases` if it presents a
    /// certificate (RFC 8705, section 5).
    pub(crate) fn endpoints_of<'a>(&self, server: &'a ServerMetadata) -> Result<Cow<'a, ServerMetadata>, Error> {
        match self.presents() {
            Some(_) => server.with_mtls_endpoint_aliases().map(Cow::Owned),
            None => Ok(Cow::Borrowed(server)),
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
            .field("identity", &self.0.identity)
            .field("dpop", &self.dpop_key())
            .finish_non_exhaustive()
    }
}
