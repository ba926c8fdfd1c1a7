//! A token on its request, with a proof of the key that it is bound to (RFC 9449, section 7), and what resource servers
//! give as nonces for the next ones.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use grantflow::dpop::{DpopNonces, Prove};
use grantflow::{Error, Token};
use http::{HeaderMap, Method, StatusCode, Uri};

use crate::Transport;

/// The nonces of each origin. Clones share them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Proving(Arc<Mutex<DpopNonces>>);

impl Proving {
    /// The headers that carry the token on a request of this method to this address.
    pub(crate) async fn authorize(
        &self,
        transport: &Transport,
        token: &Token,
        (method, uri): (&Method, &Uri),
        headers: &mut HeaderMap,
    ) -> Result<(), Error> {
        let Some(prove) = self.prove(token, method, uri) else { return token.apply(headers) };
        let proof = transport.run(prove).await?;
        token.apply_with_proof(headers, proof)
    }

    fn prove(&self, token: &Token, method: &Method, uri: &Uri) -> Option<Prove> {
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
