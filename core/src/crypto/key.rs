//! The bytes of a private key, as a library takes them, and the errors of one that does not.

#[cfg(any(feature = "ring", feature = "aws-lc-rs", feature = "rsa"))]
use std::fmt;

#[cfg(any(feature = "ring", feature = "aws-lc-rs", feature = "rsa"))]
use crate::{Error, ErrorKind};

/// The bytes of a private key and the form they are in.
pub(super) struct Der {
    pub(super) bytes: zeroize::Zeroizing<Vec<u8>>,
    pub(super) form: Form,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    Pkcs8,
    Pkcs1,
}

/// The error of a key that a library does not take. Its own words are no secret, and mostly of no help.
#[cfg(any(feature = "ring", feature = "aws-lc-rs", feature = "rsa"))]
pub(super) fn refused(why: impl fmt::Display) -> Error {
    Error::config(format!("the private key is not an RSA key of at least 2048 bits that can be used: {why}"))
}

#[cfg(any(feature = "ring", feature = "aws-lc-rs", feature = "rsa"))]
pub(super) fn failed() -> Error {
    Error::new(ErrorKind::Config, "signing with the private key failed")
}
