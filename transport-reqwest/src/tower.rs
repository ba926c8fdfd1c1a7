//! Tokens for whatever speaks [`tower_service::Service`]: hyper, tonic and others.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use grantflow::{Challenge, Hosts};
use http::{Request, Response};
use tower_layer::Layer;
use tower_service::Service;

use crate::TokenManager;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Puts a token on every request of a service: only to the hosts that it is meant for, over https. A request whose
/// token is [refused](Challenge::rejects_token) is sent once more with a new one; its body must be `Clone` for that,
/// or see [`once`](Self::once).
///
/// What a server asks for when it refuses is in [`Challenge::all`] of the answer's headers. Where no other token can be
/// had, the refusal is the answer, and the reason is a [`grantflow::Error`] among its extensions.
///
/// Each request must name its host in its URI, and the service must not follow redirects by itself.
#[derive(Clone, Debug)]
pub struct AuthorizeLayer<C = Twice> {
    tokens: TokenManager,
    hosts: Hosts,
    again: C,
}

/// Requests that are sent once more after a refusal.
#[derive(Clone, Copy, Debug)]
pub struct Twice;

/// Requests that are sent once whatever the answer.
#[derive(Clone, Copy, Debug)]
pub struct Once;

/// Whether a request can be sent once more: [`Twice`] or [`Once`].
pub trait Again<B>: private::Sealed {
    /// The copy to be sent then.
    fn copy(&self, request: &Request<B>) -> Option<Request<B>>;
}

mod private {
    pub trait Sealed {}
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
    /// For these hosts: see [`Hosts`].
    pub fn new(tokens: TokenManager, hosts: impl Into<Hosts>) -> Self {
        Self { tokens, hosts: hosts.into(), again: Twice }
    }

    /// The same for bodies that cannot be sent twice, such as tonic's: a refusal is the answer, and the next
    /// request gets another token.
    pub fn once(self) -> AuthorizeLayer<Once> {
        AuthorizeLayer { tokens: self.tokens, hosts: self.hosts, again: Once }
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

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        // The one that was polled ready is used, and a copy is left for the next call.
        let next = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, next);
        let (tokens, hosts) = (self.layer.tokens.clone(), self.layer.hosts.clone());
        let again = self.layer.again.copy(&request);
        Box::pin(async move {
            hosts.check(request.uri())?;
            let refused = tokens.token().await?;
            refused.apply(request.headers_mut())?;
            let mut response = inner.call(request).await.map_err(Into::into)?;
            let rejects = Challenge::rejects_token(response.status(), response.headers(), &refused);
            if !rejects || !tokens.invalidate(&refused) {
                return Ok(response);
            }
            let Some(mut again) = again else { return Ok(response) };
            match tokens.token().await {
                Ok(token) if token.access_token() != refused.access_token() => token.apply(again.headers_mut())?,
                // Without another token, the refusal is the answer.
                Ok(_) => return Ok(response),
                Err(error) => {
                    response.extensions_mut().insert(error);
                    return Ok(response);
                }
            }
            drop(response);
            std::future::poll_fn(|cx| inner.poll_ready(cx)).await.map_err(Into::into)?;
            inner.call(again).await.map_err(Into::into)
        })
    }
}
