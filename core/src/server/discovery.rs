//! Getting the metadata of a server.

use super::{Issuer, MAX_METADATA, ServerMetadata};
use crate::exchange::{Received, Request};
use crate::machine::ask;
use crate::{Cx, Deviations, Error, ErrorKind, Exchange, Machine, Reply, Step};

/// Gets a server's metadata from the addresses that its issuer determines.
///
/// ```text
/// OpenID ─no metadata of this issuer─▶ OAuth ─▶ done
/// ```
#[derive(Debug)]
pub struct Discovery {
    issuer: Issuer,
    tolerated: Deviations,
    current: Where,
    next: Option<Where>,
    exchange: Option<Exchange<ServerMetadata>>,
    /// What came of the first address.
    first: Option<Error>,
}

/// An address that metadata may be at.
#[derive(Clone, Copy, Debug)]
enum Where {
    OpenId,
    OAuth,
}

impl Discovery {
    /// From `/.well-known/openid-configuration`, and where that is no metadata of this issuer, from
    /// `/.well-known/oauth-authorization-server`. The error tells of both.
    pub fn new(issuer: &Issuer) -> Self {
        Self { next: Some(Where::OAuth), ..Self::openid(issuer) }
    }

    /// Only from `/.well-known/openid-configuration` (OpenID Connect Discovery 1.0, section 4).
    pub fn openid(issuer: &Issuer) -> Self {
        Self::at(issuer, Where::OpenId)
    }

    /// Only from `/.well-known/oauth-authorization-server` (RFC 8414, section 3).
    pub fn oauth(issuer: &Issuer) -> Self {
        Self::at(issuer, Where::OAuth)
    }

    /// Says which deviations from the standard to tolerate from this server, in its metadata and in its other
    /// answers; [`Deviations::TOLERATED`] unless told.
    pub fn tolerate(mut self, deviations: Deviations) -> Self {
        self.tolerated = deviations;
        self
    }

    fn at(issuer: &Issuer, current: Where) -> Self {
        let (issuer, tolerated) = (issuer.clone(), Deviations::TOLERATED);
        Self { issuer, tolerated, current, next: None, exchange: None, first: None }
    }

    fn exchange(&self) -> Result<Exchange<ServerMetadata>, Error> {
        let (issuer, tolerated) = (self.issuer.clone(), self.tolerated);
        let endpoint = match self.current {
            Where::OpenId => issuer.appended("openid-configuration"),
            Where::OAuth => issuer.inserted("oauth-authorization-server"),
        }?;
        let request = Request::get("reading the server's metadata", &endpoint).max_body(MAX_METADATA);
        Ok(request.exchange(move |received: Received<'_>| {
            ServerMetadata::from_json_tolerating(received.response.body(), &issuer, tolerated)
        }))
    }
}

/// Whether there was an answer that is no metadata, by which the other address may still have some. A server
/// that cannot be reached, or is busy, is so at both.
fn is_not_here(error: &Error) -> bool {
    error.status().is_some_and(|status| !matches!(status, 429 | 503))
}

impl Machine for Discovery {
    type Output = ServerMetadata;

    fn resume(&mut self, cx: &mut Cx, mut reply: Reply) -> Step<ServerMetadata> {
        loop {
            let exchange = match &mut self.exchange {
                Some(exchange) => exchange,
                None => match self.exchange() {
                    Ok(exchange) => self.exchange.insert(exchange),
                    Err(error) => return Step::Done(Err(error)),
                },
            };
            let error = match ask!(exchange, cx, reply) {
                Ok(metadata) => return Step::Done(Ok(metadata)),
                Err(error) => error,
            };
            match (self.next.take(), self.first.take()) {
                (Some(next), _) if is_not_here(&error) => {
                    self.first = Some(error);
                    self.current = next;
                    self.exchange = None;
                }
                (_, Some(first)) => return Step::Done(Err(both(first, error))),
                (_, None) => return Step::Done(Err(error)),
            }
        }
    }
}

/// The error of two addresses: the one that tells more, and the other one with it.
fn both(first: Error, second: Error) -> Error {
    let weight = |error: &Error| match error.kind() {
        _ if error.is_transient() => 3,
        ErrorKind::Issuer => 2,
        ErrorKind::InvalidResponse if error.status() == Some(200) => 1,
        _ => 0,
    };
    if weight(&first) > weight(&second) { first.beside(&second) } else { second.beside(&first) }
}
