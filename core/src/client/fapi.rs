//! The FAPI 2.0 Security Profile (Final): what it demands of a client and of its server. It is checked where the client is
//! configured, and once more wherever it is used, since later setters, and newer metadata, could take it back.

use std::sync::Arc;

use super::{CERTIFICATE_BOUND, Client, Method, SignedBy};
use crate::Error;
use crate::crypto::Algorithm;
use crate::server::ServerMetadata;

/// The algorithms of all that is signed (section 5.4.1).
pub(crate) const FAPI_ALGORITHMS: &[Algorithm] = &[Algorithm::PS256, Algorithm::ES256, Algorithm::EdDSA];
const ID_TOKENS: &str = "id_token_signing_alg_values_supported";
const ANSWERS: &str = "authorization_signing_alg_values_supported";

impl Client {
    /// Holds this client, at this server, to the FAPI 2.0 Security Profile in all that it does:
    ///
    /// - it authenticates by `private_key_jwt`, without a legacy audience, or by a certificate;
    /// - its tokens are bound to a [key](Self::dpop) or a [certificate](Self::identity);
    /// - each authorization request is [pushed](crate::AuthorizationRequest::push), with PKCE by S256;
    /// - each authorization answer must say which server it comes from (`iss`, RFC 9207);
    /// - what either side signs is signed by PS256, ES256 or EdDSA: assertions, proofs, request objects, ID tokens;
    /// - the server is reached over https alone, and the client is [registered at](Self::registered_at) no other.
    ///
    /// Assertions live for two minutes, and signed requests for five. Call this last: a later setter that takes back
    /// what the profile demands is an error wherever the client is used.
    ///
    /// ```
    /// # use grantflow::machine::Identity;
    /// # use grantflow::{Client, ClientAuthentication, Issuer, ServerMetadata};
    /// # let server = ServerMetadata::new(Issuer::new("https://bank.example")?)
    /// #     .token_endpoint("https://bank.example/token")?
    /// #     .member("tls_client_certificate_bound_access_tokens", true.into());
    /// let certificate = ClientAuthentication::tls_client_auth(Identity::named("bank"));
    /// let client = Client::new("app").authentication(certificate).fapi2_security_profile(&server)?;
    ///
    /// let secret = ClientAuthentication::client_secret_basic("s3cret");
    /// assert!(Client::new("app").authentication(secret).fapi2_security_profile(&server).is_err());
    /// # let _ = client;
    /// # Ok::<(), grantflow::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Config`](crate::ErrorKind::Config), naming what the client has not set, or what the server's
    /// metadata does not say. If the server has no authorization endpoint, the demands on it are not checked.
    pub fn fapi2_security_profile(mut self, server: &ServerMetadata) -> Result<Self, Error> {
        self.check_issuer(server.issuer())?;
        let inner = Arc::make_mut(&mut self.0);
        inner.fapi = true;
        inner.issuer = Some(server.issuer().clone());
        inner.id_tokens.signed.get_or_insert(SignedBy::Keys(FAPI_ALGORITHMS));
        if let Method::PrivateKeyJwtOfAny(keys) = &mut inner.method {
            *keys = keys.only(FAPI_ALGORITHMS);
        }
        self.check_profile(server)?;
        Ok(self)
    }

    /// Holds this client to the FAPI 2.0 Security Profile, and to FAPI 2.0 Message Signing (sections 5.3 and 5.4) for
    /// authorization: each request must be [signed](crate::AuthorizationRequest::sign), and must ask for a [signed
    /// answer](crate::AuthorizationRequest::signed_response). Any other request is an error, and nothing of it is sent.
    ///
    /// # Errors
    ///
    /// Those of [`fapi2_security_profile`](Self::fapi2_security_profile); and an error if the server does not say that
    /// it signs its answers, publishes no keys, or names algorithms none of which the profile permits.
    pub fn fapi2_message_signing(mut self, server: &ServerMetadata) -> Result<Self, Error> {
        Arc::make_mut(&mut self.0).message_signing = true;
        self.fapi2_security_profile(server)
    }

    /// What message signing demands of the server's metadata besides.
    fn check_messages(&self, server: &ServerMetadata) -> Result<(), Error> {
        if !server.algorithms("response_modes_supported").is_some_and(|modes| modes.contains(&"jwt")) {
            return Err(lacks("its server does not say that it signs its answers (response_modes_supported)"));
        }
        server.jwks()?;
        match self.authorization_signed_response() {
            Some(algorithm) => check_listed(server, ANSWERS, algorithm.name())?,
            None => check_any_listed(server, ANSWERS)?,
        }
        check_any_listed(server, "request_object_signing_alg_values_supported")
    }

    /// Whether its authorization requests, and their answers, are signed.
    pub(crate) fn signs_messages(&self) -> bool {
        self.0.message_signing
    }

    /// Whether it is held to the profile.
    pub(crate) fn is_fapi(&self) -> bool {
        self.0.fapi
    }

    /// Whether client and server are what the profile demands, if one is demanded.
    pub(crate) fn check_profile(&self, server: &ServerMetadata) -> Result<(), Error> {
        if !self.0.fapi {
            return Ok(());
        }
        self.check_own_profile()?;
        let server = &*self.endpoints_of(server)?;
        let own = self.at(server)?;
        check_server(server)?;
        check_listed(server, "token_endpoint_auth_methods_supported", own.method().name())?;
        if let Some(algorithm) = own.method().algorithm() {
            check_listed(server, "token_endpoint_auth_signing_alg_values_supported", algorithm.name())?;
        }
        if let Some(SignedBy::Key(algorithm)) = self.id_tokens().signed {
            check_listed(server, ID_TOKENS, algorithm.name())?;
        }
        if self.0.message_signing {
            self.check_messages(server)?;
        }
        match self.dpop_key() {
            Some(_) if server.algorithms("dpop_signing_alg_values_supported").is_none() => {
                Err(lacks("its server does not say that it takes DPoP proofs (dpop_signing_alg_values_supported)"))
            }
            Some(_) => self.check_dpop(server),
            None if !server.says(CERTIFICATE_BOUND) => Err(lacks(
                "its server does not say that it binds tokens to certificates (tls_client_certificate_bound_access_tokens)",
            )),
            None => Ok(()),
        }
    }

    /// What it demands of the client itself.
    pub(crate) fn check_own_profile(&self) -> Result<(), Error> {
        if !self.0.fapi {
            return Ok(());
        }
        match self.method() {
            Method::TlsClientAuth(_) | Method::SelfSignedTlsClientAuth(_) => {}
            Method::PrivateKeyJwt(key) if key.has_legacy_audience() => {
                return Err(lacks("an assertion must be for the issuer, and this client has a legacy audience"));
            }
            Method::PrivateKeyJwt(_) | Method::PrivateKeyJwtOfAny(_) => {}
            _ => return Err(lacks("a client authenticates by private_key_jwt or by a certificate")),
        }
        if let Some(algorithm) = self.method().algorithm() {
            check_algorithm("assertions", algorithm)?;
        }
        match self.dpop_key() {
            Some(key) => check_algorithm("DPoP proofs", key.algorithm())?,
            None if self.presents().is_some() => {}
            None => {
                return Err(lacks("tokens are bound to a key or a certificate: set Client::dpop or Client::identity"));
            }
        }
        if let Some(algorithm) = self.authorization_signed_response() {
            check_algorithm("authorization answers", algorithm)?;
        }
        match self.id_tokens().signed {
            Some(SignedBy::Key(algorithm)) => check_algorithm("ID tokens", algorithm),
            Some(SignedBy::Secret(_)) => Err(lacks("ID tokens are signed by a key, and not by the client's secret")),
            Some(SignedBy::Keys(_)) | None => Ok(()),
        }
    }
}

/// What it demands of the server's metadata.
fn check_server(server: &ServerMetadata) -> Result<(), Error> {
    if !server.issuer().as_str().starts_with("https://") {
        return Err(lacks("its server is reached over https alone"));
    }
    if let Some((name, _)) = server.endpoints().find(|(_, endpoint)| !endpoint.as_str().starts_with("https://")) {
        return Err(lacks(&format!("its server is reached over https alone, and its {name} is not")));
    }
    if server.authorization().is_err() {
        return Ok(());
    }
    server.pushed_authorization_request()?;
    if !server.promises_iss() {
        let why = "its server must name itself in each answer (authorization_response_iss_parameter_supported)";
        return Err(lacks(why));
    }
    if !server.knows_s256() {
        return Err(lacks("its server does not say that it knows S256 (code_challenge_methods_supported)"));
    }
    check_any_listed(server, ID_TOKENS)
}

/// Whether a list of algorithms of the metadata has one that the profile permits, if there is a list.
fn check_any_listed(server: &ServerMetadata, list: &str) -> Result<(), Error> {
    match server.algorithms(list) {
        Some(listed) if !FAPI_ALGORITHMS.iter().any(|permitted| listed.contains(&permitted.name())) => {
            Err(lacks(&format!("its server knows none of PS256, ES256 and EdDSA ({list})")))
        }
        _ => Ok(()),
    }
}

/// Whether a list of the metadata has this, if there is one.
fn check_listed(server: &ServerMetadata, list: &str, name: &str) -> Result<(), Error> {
    match server.algorithms(list) {
        Some(listed) if !listed.contains(&name) => Err(lacks(&format!("its server does not take {name} ({list})"))),
        _ => Ok(()),
    }
}

/// Whether this may be signed by this algorithm.
pub(crate) fn check_algorithm(what: &str, algorithm: Algorithm) -> Result<(), Error> {
    if FAPI_ALGORITHMS.contains(&algorithm) {
        return Ok(());
    }
    Err(lacks(&format!("{what} are signed by PS256, ES256 or EdDSA, and not by {algorithm}")))
}

pub(crate) fn lacks(why: &str) -> Error {
    Error::config(format!("the FAPI 2.0 Security Profile is demanded of this client: {why}"))
}
