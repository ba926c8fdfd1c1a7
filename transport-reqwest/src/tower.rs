//! Tokens for whatever speaks [`tower_service::Service`]: hyper, tonic and others.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use grantflow::Hosts;
use http::{Request, Response, StatusCode};
use tower_layer::Layer;
use tower_service::Service;

use crate::TokenManager;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Puts a token on every request of a service: only to the hosts that it is meant for, over https. A request
/// that is refused with status 401 is sent once more with a new token; its body must be `Clone` for that.
///
/// The service must not follow redirects by itself.
#[derive(Clone, Debug)]
pub struct AuthorizeLayer {
    tokens: TokenManager,
    hosts: Hosts,
}

impl AuthorizeLayer {
    /// For these hosts: see [`Hosts`].
    pub fn new(tokens: TokenManager, hosts: impl Into<Hosts>) -> Self {
        Self { tokens, hosts: hosts.into() }
    }
}

impl<S> Layer<S> for AuthorizeLayer {
    type Service = Authorize<S>;
    fn layer(&self, inner: S) -> Authorize<S> {
        Authorize { inner, layer: self.clone() }
    }
}

/// A service whose requests carry a token.
#[derive(Clone, Debug)]
pub struct Authorize<S> {
    inner: S,
    layer: AuthorizeLayer,
}

impl<S, B, R> Service<Request<B>> for Authorize<S>
where
    S: Service<Request<B>, Response = Response<R>> + Clone + Send + 'static,
    S::Error: Into<BoxError> + Send,
    S::Future: Send,
    B: Clone + Send + 'static,
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
        let AuthorizeLayer { tokens, hosts } = self.layer.clone();
        Box::pin(async move {
            hosts.check(request.uri())?;
            let mut again = request.clone();
            let token = tokens.token().await?;
            token.apply(request.headers_mut())?;
            let response = inner.call(request).await.map_err(Into::into)?;
            if response.status() != StatusCode::UNAUTHORIZED {
                return Ok(response);
            }
            let another = tokens.invalidate(&token);
            drop(token);
            if !another || tokens.authorize(&mut again).await.is_err() {
                return Ok(response);
            }
            std::future::poll_fn(|cx| inner.poll_ready(cx)).await.map_err(Into::into)?;
            inner.call(again).await.map_err(Into::into)
        })
    }
}
