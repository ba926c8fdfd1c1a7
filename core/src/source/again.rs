//! What comes after a failure to mint: [`Again`].

use std::time::Duration;

/// When to try again after a failure: see [`TokenSource::again`](super::TokenSource::again).
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Again {
    /// As the error says. What passes by itself is tried again after a pause that grows; what must be mended waits
    /// for a caller; the refusal of a refresh token ends the grant.
    #[default]
    Usual,
    /// Not before this time has passed.
    After(Duration),
    /// Not until the credential is another one: what it consists of was refused.
    Never,
}
