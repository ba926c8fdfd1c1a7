//! Verifying: public keys.

use std::fmt;
use std::sync::Arc;

use super::algorithm::Algorithm;
use super::backend::Verifier;
use super::keys::PublicKey;
use crate::{Error, ErrorKind};

/// A public key for one algorithm. Cheap to clone.
#[derive(Clone)]
pub struct VerifyingKey {
    algorithm: Algorithm,
    key: Arc<(PublicKey, Verifier)>,
}

impl VerifyingKey {
    /// A key from PEM: a `PUBLIC KEY` (X.509's `SubjectPublicKeyInfo`), an `RSA PUBLIC KEY` (PKCS#1), or a
    /// `CERTIFICATE`, whose dates, issuer and signature are not checked: it is trusted because the caller has it.
    ///
    /// ```
    /// use grantflow::Error;
    /// use grantflow::crypto::{Algorithm, VerifyingKey};
    ///
    /// fn check(certificate: &str, message: &[u8], signature: &[u8]) -> Result<(), Error> {
    ///     VerifyingKey::from_pem(Algorithm::ES256, certificate)?.verify(message, signature)
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Config`] if the text holds no public key, one of another kind than the algorithm needs, or an RSA
    /// key of less than 2048 or more than 8192 bits; also if no library that this crate was built with has the
    /// algorithm.
    pub fn from_pem(algorithm: Algorithm, pem: &str) -> Result<Self, Error> {
        Self::of(algorithm, PublicKey::from_pem(pem)?)
    }

    pub(crate) fn of(algorithm: Algorithm, public: PublicKey) -> Result<Self, Error> {
        if !public.fits(algorithm) {
            return Err(Error::config(format!("the key is not one for {}", algorithm.name())));
        }
        let verifier = Verifier::new(algorithm, &public)?;
        let verifier = verifier.ok_or_else(|| Error::config("the key is not a point on its curve, or is damaged"))?;
        Ok(Self { algorithm, key: Arc::new((public, verifier)) })
    }

    /// The one algorithm that this key verifies by.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// Checks a signature by another algorithm that the key is for.
    pub(crate) fn verifies(&self, algorithm: Algorithm, message: &[u8], signature: &[u8]) -> bool {
        self.key.1.verify(algorithm, message, signature)
    }

    /// The same key for another algorithm, if it is one for that.
    pub(crate) fn by(&self, algorithm: Algorithm) -> Option<Self> {
        self.key.0.fits(algorithm).then(|| Self { algorithm, key: self.key.clone() })
    }

    /// Checks a signature, in the form of JWS (RFC 7518, section 3).
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Signature`] if it is not this key's signature of the message.
    pub fn verify(&self, message: &[u8], signature: &[u8]) -> Result<(), Error> {
        if self.verifies(self.algorithm, message, signature) {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Signature, "the signature is wrong"))
    }

    pub(crate) fn public(&self) -> &PublicKey {
        &self.key.0
    }
}

impl PartialEq for VerifyingKey {
    fn eq(&self, other: &Self) -> bool {
        self.algorithm == other.algorithm && self.key.0 == other.key.0
    }
}

impl Eq for VerifyingKey {}

impl fmt::Debug for VerifyingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("VerifyingKey").field(&self.algorithm).finish()
    }
}
