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
    /// The refresh token stays the same, as Google's does. A refresh may be sent again freely.
    Never,
    /// Each refresh token is good for one use.
    Rotates,
}
