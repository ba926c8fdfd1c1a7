//! Tokens on requests of services that implement [`tower_service::Service`]: hyper, tonic and others.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use grantflow::{Challenge, Hosts, Token};
use http::{Request, Response};
use tower_layer::Layer;
use tower_service::Service;

use crate::TokenManager;
use crate::proving::Proving;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A layer that puts a token on every request of a service: only to these hosts, over https. A request whose token is
/// [refused](Challenge::rejects_token) is sent once more with a new token; its body must be `Clone` for that, or see
/// [`once`](Self::once).
///
/// [`Challenge::all`] of the answer's headers says why a server refuses. If no other token can be obtained, the caller
/// gets the refusal, with the reason as a [`grantflow::Error`] among its extensions.
///
/// Each request must name its host in its URI, and the service must not follow redirects by itself.
///
/// ```
/// use grantflow_reqwest::{AuthorizeLayer, TokenManager};
///
/// fn layer(tokens: TokenManager) -> AuthorizeLayer {
///     AuthorizeLayer::new(tokens, ["api.example", "*.cloud.example"])
/// }
/// # let _ = layer;
/// ```
///
/// With a token that is bound to a key (RFC 9449) each request has a proof of its own. If a server wants a nonce in the
/// proof, the request is sent once more, unless it is sent [`once`](Self::once); the server's nonces are kept, for its
/// origin alone.
#[derive(Clone, Debug)]
pub struct AuthorizeLayer<C = Twice> {
    tokens: TokenManager,
    hosts: Hosts,
    proving: Proving,
    again: C,
}

/// Requests that are sent once more after a refusal.
#[derive(Clone, Copy, Debug)]
pub struct Twice;

/// Requests that are sent once, whatever the answer.
#[derive(Clone, Copy, Debug)]
pub struct Once;

/// Whether a request can be sent once more: [`Twice`] or [`Once`].
pub trait Again<B>: private::Sealed {
    /// The copy to send the second time.
    fn copy(&self, request: &Request<B>) -> Option<Request<B>>;
}

mod private {
    pub trait Sealed: Copy + Send + Sync + 'static {}
    impl Sealed for super::Twice {}
    impl Sealed for super::Once {}
}

impl<B: Clone> Again<B> for Twice {
    fn copy(&self, request: &Request<B>) -> Option<Request<B>> {
        Some(request.clone())
    }
}

impl<B> Again<B> for Once {
    fn copy(&self, _: &Request<B>) -> Option<Request<B>> {
        None
    }
}

impl AuthorizeLayer {
    /// A layer for these hosts: see [`Hosts`].
    pub fn new(tokens: TokenManager, hosts: impl Into<Hosts>) -> Self {
        Self { tokens, hosts: hosts.into(), proving: Proving::default(), again: Twice }
    }

    /// A layer for bodies that cannot be sent twice, such as tonic's: a refusal is the answer, and the next request
    /// gets another token, or the nonce that the server demands.
    pub fn once(self) -> AuthorizeLayer<Once> {
        AuthorizeLayer { tokens: self.tokens, hosts: self.hosts, proving: self.proving, again: Once }
    }
}

impl<S, C: Clone> Layer<S> for AuthorizeLayer<C> {
    type Service = Authorize<S, C>;
    fn layer(&self, inner: S) -> Authorize<S, C> {
        Authorize { inner, layer: self.clone() }
    }
}

/// A service whose requests carry a token.
#[derive(Clone, Debug)]
pub struct Authorize<S, C = Twice> {
    inner: S,
    layer: AuthorizeLayer<C>,
}

impl<S, C, B, R> Service<Request<B>> for Authorize<S, C>
where
    S: Service<Request<B>, Response = Response<R>> + Clone + Send + 'static,
    S::Error: Into<BoxError> + Send,
    S::Future: Send,
    C: Again<B>,
    B: Send + 'static,
    R: Send + 'static,
{
    type Response = Response<R>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Response<R>, BoxError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        // The one that was polled ready is used, and a copy is left for the next call.
        let next = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, next);
        let layer = self.layer.clone();
        let again = layer.again.copy(&request);
        Box::pin(async move {
            layer.hosts.check(request.uri())?;
            let tokens = &layer.tokens;
            let refused = tokens.token().await?;
            let mut response = layer.proven(&mut inner, request, &refused).await?;
            let rejects = Challenge::rejects_token(response.status(), response.headers(), &refused);
            if !rejects || !tokens.invalidate(&refused) {
                return Ok(response);
            }
            let Some(again) = again else { return Ok(response) };
            let token = match tokens.token().await {
                Ok(token) if token.access_token() != refused.access_token() => token,
                // Without another token, the refusal is the answer.
                Ok(_) => return Ok(response),
                Err(error) => {
                    response.extensions_mut().insert(error);
                    return Ok(response);
                }
            };
            drop(response);
            ready(&mut inner).await?;
            layer.proven(&mut inner, again, &token).await
        })
    }
}

impl<C> AuthorizeLayer<C> {
    /// Sends a request, and once more if the server wants to see its nonce in the proof (RFC 9449, section 9).
    async fn proven<S, B, R>(&self, inner: &mut S, request: Request<B>, token: &Token) -> Result<Response<R>, BoxError>
    where
        S: Service<Request<B>, Response = Response<R>, Error: Into<BoxError>>,
        C: Again<B>,
    {
        let again = token.dpop_key().and_then(|_| self.again.copy(&request));
        match (self.send(inner, request, token).await?, again) {
            ((refusal, true), Some(again)) => {
                drop(refusal);
                ready(inner).await?;
                Ok(self.send(inner, again, token).await?.0)
            }
            ((response, _), _) => Ok(response),
        }
    }

    /// The answer, and whether it asks for the request once more.
    async fn send<S, B, R>(
        &self,
        inner: &mut S,
        mut request: Request<B>,
        token: &Token,
    ) -> Result<(Response<R>, bool), BoxError>
    where
        S: Service<Request<B>, Response = Response<R>, Error: Into<BoxError>>,
    {
        let (method, uri) = (request.method().clone(), request.uri().clone());
        let transport = self.tokens.transport();
        self.proving.authorize(transport, token, (&method, &uri), request.headers_mut()).await?;
        let response = inner.call(request).await.map_err(Into::into)?;
        let asks = self.proving.learn(token, &uri, response.status(), response.headers());
        Ok((response, asks))
    }
}

async fn ready<S, B>(inner: &mut S) -> Result<(), BoxError>
where
    S: Service<B, Error: Into<BoxError>>,
{
    std::future::poll_fn(|cx| inner.poll_ready(cx)).await.map_err(Into::into)
}
