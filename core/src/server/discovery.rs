//! Getting the metadata of a server.

use super::{Endpoint, Issuer, MAX_METADATA, ServerMetadata};
use crate::exchange::{Received, Request};
use crate::machine::ask;
use crate::{Cx, Error, Exchange, Machine, Reply, Step};

/// Gets a server's metadata from the address that its issuer determines.
///
/// ```text
/// OpenID ─404─▶ OAuth ─▶ done
/// ```
#[derive(Debug)]
pub struct Discovery {
    current: Result<Exchange<ServerMetadata>, Error>,
    next: Option<Exchange<ServerMetadata>>,
}

impl Discovery {
    /// From `/.well-known/openid-configuration`, and where there is none, from
    /// `/.well-known/oauth-authorization-server`.
    pub fn new(issuer: &Issuer) -> Self {
        let mut discovery = Self::openid(issuer);
        discovery.next = Self::oauth(issuer).current.ok();
        discovery
    }

    /// Only from `/.well-known/openid-configuration` (OpenID Connect Discovery 1.0, section 4).
    pub fn openid(issuer: &Issuer) -> Self {
        Self::at(issuer, issuer.appended("openid-configuration"))
    }

    /// Only from `/.well-known/oauth-authorization-server` (RFC 8414, section 3).
    pub fn oauth(issuer: &Issuer) -> Self {
        Self::at(issuer, issuer.inserted("oauth-authorization-server"))
    }

    fn at(issuer: &Issuer, endpoint: Result<Endpoint, Error>) -> Self {
        let exchange = |endpoint| {
            let issuer = issuer.clone();
            Request::get("reading the server's metadata", &endpoint)
                .max_body(MAX_METADATA)
                .exchange(move |received: Received<'_>| ServerMetadata::from_json(received.response.body(), &issuer))
        };
        Self { current: endpoint.map(exchange), next: None }
    }
}

impl Machine for Discovery {
    type Output = ServerMetadata;

    fn resume(&mut self, cx: &mut Cx, mut reply: Reply) -> Step<ServerMetadata> {
        loop {
            let exchange = match &mut self.current {
                Ok(exchange) => exchange,
                Err(error) => return Step::Done(Err(error.clone())),
            };
            let result = ask!(exchange, cx, reply);
            match (result, self.next.take()) {
                (Err(error), Some(next)) if matches!(error.status(), Some(404 | 405 | 410)) => {
                    self.current = Ok(next);
                }
                (result, _) => return Step::Done(result),
            }
        }
    }
}
