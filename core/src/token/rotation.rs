//! Whether refresh tokens change.

use serde::{Deserialize, Serialize};

/// Whether a server replaces the refresh token when it is used. It decides whether a refresh may be
/// sent a second time when nobody knows whether the first arrived.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Rotation {
    /// Not known yet: treated as [`Rotates`](Self::Rotates).
    #[default]
    Unknown,
    /// The refresh token stays the same, as Google's does. A refresh may be sent again freely, and several side by side.
    ///
    /// It is also learned, from five refreshes in a row without another refresh token, and unlearned by the first one that
    /// comes. Should a server begin to replace refresh tokens just when several uses are under way, these are uses of one
    /// refresh token: what becomes of the grant then is up to the server's grace window.
    Never,
    /// Each refresh token is good for one use.
    Rotates,
}
