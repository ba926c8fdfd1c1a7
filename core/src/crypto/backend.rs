//! The libraries that are there, in their fixed order: for each algorithm, the first one that has it.

use super::algorithm::Algorithm;
#[cfg(feature = "aws-lc-rs")]
use super::aws_lc_rs;
use super::keys::{PrivateKey, PublicKey};
#[cfg(feature = "ring")]
use super::ring;
#[cfg(feature = "rust-crypto")]
use super::rust_crypto;
use crate::{Cx, Error};

/// A private key in the hands of a library. Without any library there is none.
pub(super) enum Key {
    #[cfg(feature = "aws-lc-rs")]
    AwsLcRs(aws_lc_rs::Key),
    #[cfg(feature = "ring")]
    Ring(ring::Key),
    #[cfg(feature = "rust-crypto")]
    RustCrypto(rust_crypto::Key),
}

/// A public key in the hands of a library.
pub(super) enum Verifier {
    #[cfg(feature = "aws-lc-rs")]
    AwsLcRs(aws_lc_rs::Verifier),
    #[cfg(feature = "ring")]
    Ring(ring::Verifier),
    #[cfg(feature = "rust-crypto")]
    RustCrypto(rust_crypto::Verifier),
}

impl Algorithm {
    /// Whether a library that this crate was built with has the algorithm.
    pub fn is_available(self) -> bool {
        #[cfg(feature = "aws-lc-rs")]
        if aws_lc_rs::has(self) {
            return true;
        }
        #[cfg(feature = "ring")]
        if ring::has(self) {
            return true;
        }
        #[cfg(feature = "rust-crypto")]
        if rust_crypto::has(self) {
            return true;
        }
        false
    }

    /// [`is_available`](Self::is_available), or an error that says what is missing.
    pub(crate) fn demand(self) -> Result<(), Error> {
        if self.is_available() { Ok(()) } else { Err(lacking(self)) }
    }
}

/// The error of an algorithm that no library has which this was built with.
fn lacking(algorithm: Algorithm) -> Error {
    if cfg!(any(feature = "aws-lc-rs", feature = "ring", feature = "rust-crypto")) {
        let name = algorithm.name();
        return Error::config(format!(
            "{name} is not known to the library that this was built with: turn on the feature aws-lc-rs"
        ));
    }
    Error::config("this was built without signatures: turn on the feature ring, aws-lc-rs or rust-crypto")
}

impl Key {
    #[allow(unused_variables, reason = "without any library")]
    pub(super) fn new(algorithm: Algorithm, key: &PrivateKey) -> Result<Self, Error> {
        #[cfg(any(feature = "aws-lc-rs", feature = "ring", feature = "rust-crypto"))]
        let refused = |why: String| {
            let kind = key.kind();
            Error::config(format!("the private key, {kind}, cannot be used for {}: {why}", algorithm.name()))
        };
        #[cfg(feature = "aws-lc-rs")]
        if aws_lc_rs::has(algorithm) {
            return aws_lc_rs::Key::new(algorithm, key).map(Self::AwsLcRs).map_err(refused);
        }
        #[cfg(feature = "ring")]
        if ring::has(algorithm) {
            return ring::Key::new(algorithm, key).map(Self::Ring).map_err(refused);
        }
        #[cfg(feature = "rust-crypto")]
        if rust_crypto::has(algorithm) {
            return rust_crypto::Key::new(algorithm, key).map(Self::RustCrypto).map_err(refused);
        }
        Err(lacking(algorithm))
    }

    #[allow(unused_variables, reason = "without any library")]
    pub(super) fn sign(&self, message: &[u8], cx: &mut Cx) -> Option<Vec<u8>> {
        match *self {
            #[cfg(feature = "aws-lc-rs")]
            Self::AwsLcRs(ref key) => key.sign(message, cx),
            #[cfg(feature = "ring")]
            Self::Ring(ref key) => key.sign(message, cx),
            #[cfg(feature = "rust-crypto")]
            Self::RustCrypto(ref key) => key.sign(message, cx),
        }
    }

    /// The public key, where it is not known from the private one's parts.
    pub(super) fn public(&self) -> Option<PublicKey> {
        match *self {
            #[cfg(feature = "aws-lc-rs")]
            Self::AwsLcRs(ref key) => key.public(),
            #[cfg(feature = "ring")]
            Self::Ring(ref key) => key.public(),
            #[cfg(feature = "rust-crypto")]
            Self::RustCrypto(ref key) => key.public(),
        }
    }
}

impl Verifier {
    /// `None` if it is no key, such as a point beside its curve, where the library sees that beforehand.
    #[allow(unused_variables, reason = "without any library")]
    pub(super) fn new(algorithm: Algorithm, key: &PublicKey) -> Result<Option<Self>, Error> {
        #[cfg(feature = "aws-lc-rs")]
        if aws_lc_rs::has(algorithm) {
            return Ok(aws_lc_rs::Verifier::new(key).map(Self::AwsLcRs));
        }
        #[cfg(feature = "ring")]
        if ring::has(algorithm) {
            return Ok(ring::Verifier::new(key).map(Self::Ring));
        }
        #[cfg(feature = "rust-crypto")]
        if rust_crypto::has(algorithm) {
            return Ok(rust_crypto::Verifier::new(key).map(Self::RustCrypto));
        }
        Err(lacking(algorithm))
    }

    #[allow(unused_variables, reason = "without any library")]
    pub(super) fn verify(&self, algorithm: Algorithm, message: &[u8], signature: &[u8]) -> bool {
        match *self {
            #[cfg(feature = "aws-lc-rs")]
            Self::AwsLcRs(ref key) => key.verify(algorithm, message, signature),
            #[cfg(feature = "ring")]
            Self::Ring(ref key) => key.verify(algorithm, message, signature),
            #[cfg(feature = "rust-crypto")]
            Self::RustCrypto(ref key) => key.verify(algorithm, message, signature),
        }
    }
}

/// A new key. Only for curves.
#[allow(unused_variables, reason = "without any library")]
pub(super) fn generate(algorithm: Algorithm, cx: &mut Cx) -> Result<PrivateKey, Error> {
    #[cfg(any(feature = "aws-lc-rs", feature = "ring", feature = "rust-crypto"))]
    let failed = || Error::config(format!("no new key can be made for {}", algorithm.name()));
    #[cfg(feature = "aws-lc-rs")]
    if aws_lc_rs::has(algorithm) {
        return aws_lc_rs::generate(algorithm, cx).and_then(|key| PrivateKey::pkcs8(&key)).ok_or_else(failed);
    }
    #[cfg(feature = "ring")]
    if ring::has(algorithm) {
        return ring::generate(algorithm, cx).and_then(|key| PrivateKey::pkcs8(&key)).ok_or_else(failed);
    }
    #[cfg(feature = "rust-crypto")]
    if rust_crypto::has(algorithm) {
        return rust_crypto::generate(algorithm, cx).ok_or_else(failed);
    }
    Err(lacking(algorithm))
}
