//! A token on its request, with a proof of the key that it is bound to (RFC 9449, section 7), and what resource servers
//! give as nonces for the next ones.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use grantflow::dpop::DpopNonces;
use grantflow::{Error, Token};
use http::{HeaderMap, Method, Request, StatusCode, Uri};

use crate::Transport;

/// The nonces of each origin. Clones share them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Proving(Arc<Mutex<DpopNonces>>);

impl Proving {
    /// Puts the token on a request, whose address is the one that it is sent to.
    pub(crate) fn authorize<B>(
        &self,
        transport: &Transport,
        token: &Token,
        request: &mut Request<B>,
    ) -> Result<(), Error> {
        let (method, uri) = (request.method(), request.uri());
        let Some(prove) = self.prove(token, method, uri) else { return token.apply(request.headers_mut()) };
        let proof = transport.run(prove)?;
        token.apply_with_proof(request.headers_mut(), proof)
    }

    fn prove(&self, token: &Token, method: &Method, uri: &Uri) -> Option<grantflow::dpop::Prove> {
        token.dpop_key()?;
        token.prove(method, uri, self.nonces().get(uri))
    }

    /// Keeps the nonce that an answer brings, and says whether it asks for the request once more with it.
    pub(crate) fn learn(&self, token: &Token, uri: &Uri, status: StatusCode, headers: &HeaderMap) -> bool {
        token.dpop_key().is_some() && self.nonces().learn(uri, status, headers)
    }

    fn nonces(&self) -> MutexGuard<'_, DpopNonces> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
