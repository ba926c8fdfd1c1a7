//! How a token goes into a request: in a header, with a proof beside it if the token is bound to a key, and with the headers
//! that its source wants there besides.

use std::sync::Arc;

use http::{HeaderMap, HeaderValue, Method, Uri, header};

use super::{Token, TokenType};
use crate::dpop::{Prove, prove_here};
use crate::{Cx, Error, ErrorKind};

impl Token {
    /// Puts the token into the headers of a request. If the token is bound to a key, a proof for this request goes
    /// beside it (RFC 9449, section 7.1): each request needs a proof of its own, also when it is sent once more or
    /// follows a redirect. `uri` is the whole address as it is sent; `nonce` is the newest one that its server gave:
    /// see [`DpopNonces`](crate::dpop::DpopNonces).
    ///
    /// ```
    /// # use grantflow::{Cx, Token};
    /// # use http::{HeaderMap, Method};
    /// # fn authorized(token: &Token, cx: &mut Cx) -> Result<HeaderMap, Box<dyn std::error::Error>> {
    /// let mut headers = HeaderMap::new();
    /// token.authorize(&Method::GET, &"https://api.example/orders".parse()?, &mut headers, None, cx)?;
    /// # Ok(headers) }
    /// ```
    ///
    /// # Errors
    ///
    /// Those of [`apply`](Self::apply); and an error if the key is remote: see [`prove`](Self::prove).
    pub fn authorize(
        &self,
        method: &Method,
        uri: &Uri,
        headers: &mut HeaderMap,
        nonce: Option<&str>,
        cx: &mut Cx,
    ) -> Result<(), Error> {
        match self.bound() {
            Some((_, proofs)) => {
                let proof = prove_here(proofs, method, uri, nonce, cx)?;
                self.apply_with_proof(headers, proof)
            }
            None => self.apply(headers),
        }
    }

    /// The machine that makes the proof for one request, by a key that may be remote.
    /// [`apply_with_proof`](Self::apply_with_proof) puts the proof into the headers. `None` if the token is bound to no
    /// key.
    pub fn prove(&self, method: &Method, uri: &Uri, nonce: Option<&str>) -> Option<Prove> {
        Some(Prove::new(self.bound()?.1, method, uri, nonce))
    }

    /// Puts a token that is bound to a key into the headers of a request, with the proof that was [made](Self::prove)
    /// for this request.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::TokenType`] if the token is bound to no key.
    pub fn apply_with_proof(&self, headers: &mut HeaderMap, proof: HeaderValue) -> Result<(), Error> {
        let Some((header, _)) = self.bound() else {
            return Err(Error::new(ErrorKind::TokenType, "this access token is bound to no DPoP key of ours"));
        };
        headers.insert(header::AUTHORIZATION, header.clone());
        headers.insert(crate::dpop::DPOP, proof);
        self.apply_besides(headers);
        Ok(())
    }

    /// Puts the token into the headers of a request, and beside it what its source wants with each request, such as
    /// `x-goog-user-project`.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::TokenType`] if the token takes more than a header.
    pub fn apply(&self, headers: &mut HeaderMap) -> Result<(), Error> {
        let name = match self.token_type() {
            TokenType::Bearer => header::AUTHORIZATION,
            TokenType::Header(name) => name.clone(),
            TokenType::DPoP => {
                let why = "this access token is bound to a key: each request needs a proof (Token::authorize)";
                return Err(Error::new(ErrorKind::TokenType, why));
            }
            _ => return Err(Error::new(ErrorKind::TokenType, "this access token needs more than a header")),
        };
        headers.insert(name, self.header.clone());
        self.apply_besides(headers);
        Ok(())
    }

    fn apply_besides(&self, headers: &mut HeaderMap) {
        if let Some(besides) = self.rest.as_ref().and_then(|rest| rest.request_headers.as_deref()) {
            // Once only, however often this is done to the same request.
            besides.iter().for_each(|(name, value)| drop(headers.insert(name, value.clone())));
        }
    }

    /// Says what requests with it carry besides, beside what was said before.
    pub(crate) fn add_request_headers(&mut self, headers: Arc<HeaderMap>) {
        let known = &mut self.rest().request_headers;
        match known {
            Some(known) => {
                Arc::make_mut(known).extend(headers.iter().map(|(name, value)| (name.clone(), value.clone())))
            }
            None => *known = Some(headers),
        }
    }

    /// The value of the header `Authorization`, marked as sensitive (RFC 6750, section 2.1). It shares the token's
    /// memory. For a token that is no bearer token it is an error of kind [`ErrorKind::TokenType`].
    pub fn authorization(&self) -> Result<&HeaderValue, Error> {
        match self.token_type() {
            TokenType::Bearer => Ok(&self.header),
            _ => Err(Error::new(ErrorKind::TokenType, "this access token is not a bearer token")),
        }
    }
}
