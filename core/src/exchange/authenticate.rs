//! A client says who it is, at each endpoint that it calls (RFC 6749, section 2.3).

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::AUTHORIZATION;
use zeroize::Zeroizing;

use super::Request;
use super::text::{joined, userinfo};
use crate::client::Assertion;
use crate::server::Issuer;
use crate::{Client, Error};

/// RFC 7523, section 2.2.
const CLIENT_ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

impl Request {
    /// Adds the client's authentication for this server (RFC 6749, section 2.3). A client that is
    /// [registered](Client::registered_at) at another server is an error.
    pub fn authenticate(mut self, client: &Client, server: &Issuer) -> Self {
        use crate::client::Method::{
            Apple, Basic, None, Post, PrivateKeyJwt, PrivateKeyJwtOfAny, SecretJwt, SelfSignedTlsClientAuth,
            TlsClientAuth,
        };
        let id = client.id();
        if let Err(error) = client.check_issuer(server) {
            return self.fail(error);
        }
        if let Err(error) = client.check() {
            return self.fail(error);
        }
        if let Some(identity) = client.presents() {
            self.0.identity = Some(identity.clone());
        }
        match client.method() {
            // With a certificate, the name says whose it is (RFC 8705, section 2).
            None | TlsClientAuth(_) | SelfSignedTlsClientAuth(_) => self.param("client_id", id),
            Post(secret) => self.param("client_id", id).secret("client_secret", secret),
            Basic { secret, raw } => {
                let credentials = match *raw {
                    true => joined(&[id, ":", secret.expose()]),
                    false => joined(&[&userinfo(id), ":", &userinfo(secret.expose())]),
                };
                let encoded = Zeroizing::new(STANDARD.encode(credentials.as_bytes()));
                let value = joined(&["Basic ", &encoded]);
                self.keep_secret(secret.expose());
                self.keep_secret(value.get(6..).unwrap_or_default());
                self.add_header(AUTHORIZATION, &value, true)
            }
            PrivateKeyJwt(key) => self.assert(client, key.assertion(client, server)),
            PrivateKeyJwtOfAny(keys) => {
                let assertion = keys.first().and_then(|key| key.assertion(client, server));
                self.assert(client, assertion)
            }
            Apple(key) => match key.secret(client, server) {
                Ok(secret) => self.param("client_id", id).part(Arc::new(secret)),
                Err(error) => self.fail(error),
            },
            SecretJwt(key) => {
                self.keep_secret(key.secret().expose());
                self.assert(client, key.assertion(client, server))
            }
        }
    }

    /// RFC 7523, section 2.2.
    fn assert(self, client: &Client, assertion: Result<Assertion, Error>) -> Self {
        match assertion {
            Ok(assertion) => (self.param("client_id", client.id()))
                .param("client_assertion_type", CLIENT_ASSERTION_TYPE)
                .part(Arc::new(assertion)),
            Err(error) => self.fail(error),
        }
    }
}
