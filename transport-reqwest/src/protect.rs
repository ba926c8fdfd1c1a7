//! A layer for servers that speak [`tower_service::Service`], such as axum: only requests with a good token pass.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use grantflow::jose::AccessToken;
use grantflow::{Error, Introspection, Protection, Refusal};
use http::{Request, Response};
use tower_layer::Layer;
use tower_service::Service;

use crate::{TokenVerifier, Transport};

/// A layer that lets only requests pass whose bearer token meets the demands of a [`Protection`]. The [`AccessToken`]
/// is then among the request's extensions. The layer answers any other request with a challenge (RFC 6750, RFC 9470,
/// RFC 9728) and an empty body; the reason of the refusal is a [`grantflow::Error`] among the answer's extensions, for
/// the log.
///
/// ```
/// use grantflow::{Issuer, Protection, Verifier};
/// use grantflow_reqwest::{ProtectLayer, TokenVerifier, Transport};
///
/// let tokens = Verifier::access_tokens(&Issuer::new("https://as.example")?, "https://api.example");
/// let tokens = TokenVerifier::new(&Transport::new()?, tokens);
/// let layer = ProtectLayer::new(&tokens, Protection::new().scopes("notes.read"));
/// // With axum: Router::new().route("/notes", get(notes)).layer(layer)
/// # let _ = layer;
/// # Ok::<(), grantflow::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct ProtectLayer {
    check: Check,
    protection: Arc<Protection>,
}

/// Who says whether a token is good.
#[derive(Clone, Debug)]
enum Check {
    Keys(TokenVerifier<AccessToken>),
    Server(Transport, Arc<Introspection>),
}

impl ProtectLayer {
    /// A layer for access tokens that are JWTs (RFC 9068).
    pub fn new(tokens: &TokenVerifier<AccessToken>, protection: Protection) -> Self {
        Self { check: Check::Keys(tokens.clone()), protection: Arc::new(protection) }
    }

    /// A layer for access tokens about which it asks the authorization server (RFC 7662), each time.
    pub fn introspecting(transport: &Transport, introspection: &Introspection, protection: Protection) -> Self {
        let check = Check::Server(transport.clone(), Arc::new(introspection.clone()));
        Self { check, protection: Arc::new(protection) }
    }
}

impl Check {
    async fn verify(&self, token: &str) -> Result<AccessToken, Error> {
        match self {
            Self::Keys(verifier) => verifier.verify(token).await,
            Self::Server(transport, introspection) => transport.run(introspection.of(token)).await,
        }
    }

    fn now(&self) -> grantflow::Timestamp {
        match self {
            Self::Keys(verifier) => verifier.transport().now().wall,
            Self::Server(transport, _) => transport.now().wall,
        }
    }
}

impl<S> Layer<S> for ProtectLayer {
    type Service = Protect<S>;
    fn layer(&self, inner: S) -> Protect<S> {
        Protect { inner, layer: self.clone() }
    }
}

/// A service that only requests with a good token reach.
#[derive(Clone, Debug)]
pub struct Protect<S> {
    inner: S,
    layer: ProtectLayer,
}

impl<S, B, R> Service<Request<B>> for Protect<S>
where
    S: Service<Request<B>, Response = Response<R>> + Clone + Send + 'static,
    S::Future: Send,
    B: Send + 'static,
    R: Default,
{
    type Response = Response<R>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<R>, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        // The one that was polled ready is used, and a copy is left for the next call.
        let next = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, next);
        let layer = self.layer.clone();
        Box::pin(async move {
            let refused = match layer.admit(request).await {
                Ok(request) => return inner.call(request).await,
                Err(refused) => *refused,
            };
            let mut response = refused.refusal.into_response(R::default());
            if let Some(error) = refused.error {
                response.extensions_mut().insert(error);
            }
            Ok(response)
        })
    }
}

/// A request that does not pass.
struct Refused {
    refusal: Refusal,
    /// Why its token could not be verified.
    error: Option<Error>,
}

impl From<Refusal> for Box<Refused> {
    fn from(refusal: Refusal) -> Self {
        Self::new(Refused { refusal, error: None })
    }
}

impl ProtectLayer {
    /// The request with its token among its extensions.
    async fn admit<B>(&self, request: Request<B>) -> Result<Request<B>, Box<Refused>> {
        let (mut parts, body) = request.into_parts();
        let token = self.protection.token(&parts.headers, &parts.uri)?;
        let verified = self
            .check
            .verify(token)
            .await
            .map_err(|error| Box::new(Refused { refusal: self.protection.refuse(&error), error: Some(error) }))?;
        self.protection.check(&verified, self.check.now())?;
        parts.extensions.insert(verified);
        Ok(Request::from_parts(parts, body))
    }
}
