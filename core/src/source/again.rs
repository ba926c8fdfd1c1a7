//! When to try again after a failed mint: [`Again`].

use std::time::Duration;

/// When to try again after a failure: see [`TokenSource::again`](super::TokenSource::again).
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Again {
    /// As the error says: a transient failure is tried again after a pause that grows, one that must be mended waits
    /// for a caller, and the refusal of a refresh token ends the grant.
    #[default]
    Usual,
    /// Not before this time has passed.
    After(Duration),
    /// Not until the credential is replaced: the server refused the credential itself.
    Never,
}
